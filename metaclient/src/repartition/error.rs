//! Why there is no plan for a repartition.

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CheckError, TooComplex};
use tessera_manifest::value::DataType;

use crate::catalog::TableRef;

/// Rules of a table that an error lists at most.
const RULES_SHOWN_MAX: usize = 8;

/// What the error of a repartition begins with that was refused when its turn came; the [`PlanError`] follows.
pub const REFUSED: &str = "the statement cannot be planned: ";

/// A plan that was refused by the rules that the table has when its turn comes.
#[derive(Debug, thiserror::Error)]
#[error("{}", REFUSED.trim_end_matches(": "))]
pub(super) struct Refused {
    /// Why.
    pub source: PlanError,
}

/// Why a statement cannot be planned. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A statement names a rule that no region has.
    #[error("no region of table '{table}' has the rule {rule}; it has {}", listed(.rules))]
    NoSuchRule {
        /// The table.
        table: TableRef,
        /// The rule.
        rule: String,
        /// Those of the table.
        rules: Vec<String>,
    },
    /// A statement names a region twice.
    #[error("the rule {rule} names a region that was named before: name it once")]
    NamedTwice {
        /// The rule.
        rule: String,
    },
    /// A statement gives too few rules.
    #[error("{statement} needs at least two {what}, {given} given")]
    TooFew {
        /// The statement.
        statement: &'static str,
        /// Of what.
        what: &'static str,
        /// How many there are.
        given: usize,
    },
    /// The table has no partition columns.
    #[error("table '{table}' is not partitioned: use ALTER TABLE ... PARTITION ON COLUMNS (...) (...)")]
    NotPartitioned {
        /// The table.
        table: TableRef,
    },
    /// There is no such column.
    #[error("the table has no column with id {column}")]
    UnknownColumn {
        /// Its id.
        column: ColumnId,
    },
    /// A column got another type while the statement waited, so that values in its rules are not what they were.
    #[error(
        "column '{column}' was {from} when the statement was submitted and is {to} now, so that the values in its rules mean \
         something else: run the statement again"
    )]
    TypeChanged {
        /// Its name.
        column: String,
        /// Its type then.
        from: DataType,
        /// Its type now.
        to: DataType,
    },
    /// A partition column is listed twice.
    #[error("partition column '{column}' is listed twice")]
    ColumnTwice {
        /// Its name.
        column: String,
    },
    /// A row's versions could lie in two regions.
    #[error("column '{column}' is a field: partition on tags or the time index, or set append_mode")]
    FieldColumn {
        /// Its name.
        column: String,
    },
    /// A new rule names a column that is no partition column.
    #[error("the new rule {rule} names column '{column}', which is no partition column: add it to ON COLUMNS")]
    OtherColumn {
        /// The rule.
        rule: String,
        /// The column.
        column: String,
    },
    /// The rule of a region that stays names a column that would be no partition column.
    #[error("the rule {rule} of a region that stays names column '{column}': keep it in ON COLUMNS, or repartition that region too")]
    ColumnInUse {
        /// The rule.
        rule: String,
        /// The column.
        column: String,
    },
    /// A rule is none of this table.
    #[error("the rule {rule} does not fit the table")]
    Rule {
        /// The rule.
        rule: String,
        /// Why not.
        source: CheckError,
    },
    /// Two rules hold for one row.
    #[error("a row with {witness} satisfies both {first} and {second}")]
    Overlap {
        /// One rule.
        first: String,
        /// The other.
        second: String,
        /// The row.
        witness: String,
    },
    /// A row would lose its region.
    #[error("a row with {witness} has a region now, and none under the new rules: add a rule that covers it")]
    Uncovered {
        /// The row.
        witness: String,
    },
    /// A rule holds for no row.
    #[error("no row satisfies the new rule {rule}: leave it out")]
    Empty {
        /// The rule.
        rule: String,
    },
    /// The rules are as they were.
    #[error("the rules of table '{table}' already say this: nothing to do")]
    NothingToDo {
        /// The table.
        table: TableRef,
    },
    /// It would take too much work to tell.
    #[error(transparent)]
    TooComplex {
        /// What is too complex.
        #[from]
        source: TooComplex,
    },
    /// A counter is at its end.
    #[error("table '{table}' has used up its {what}")]
    UsedUp {
        /// The table.
        table: TableRef,
        /// Which numbers.
        what: &'static str,
    },
    /// Routes of a group do not fit in one transaction.
    #[error(
        "{regions} regions change together, and to publish that takes {ops} operations in one transaction of the metadata \
         store, which takes {ops_max}: do it in steps, or raise etcd's --max-txn-ops on all its servers and here"
    )]
    GroupTooLarge {
        /// How many regions.
        regions: usize,
        /// Operations, those besides routes included.
        ops: usize,
        /// The limit.
        ops_max: usize,
    },
    /// Routes of a group are too large for one transaction.
    #[error(
        "{regions} regions change together, and to publish that takes {bytes} bytes in one transaction of the metadata \
         store, which takes {bytes_max}: do it in steps, use shorter rules, or raise etcd's --max-request-bytes"
    )]
    GroupTooWide {
        /// How many regions.
        regions: usize,
        /// Bytes, those besides routes included.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The record of the repartition would outgrow what the metadata store takes.
    #[error(
        "{groups} groups of regions would change, and what is kept of them takes up to {bytes} bytes in one record of the \
         metadata store, which takes {bytes_max}: do it in several statements"
    )]
    TooMuchToKeep {
        /// How many groups.
        groups: usize,
        /// Bytes of the record, at most.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The table would have more regions than a table may have.
    #[error("table '{table}' would have {regions} regions, more than the {regions_max} that a table may have")]
    TooManyRegions {
        /// The table.
        table: TableRef,
        /// How many.
        regions: usize,
        /// The limit.
        regions_max: usize,
    },
}

impl PlanError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

fn listed(rules: &[String]) -> String {
    let shown: Vec<&str> = rules.iter().take(RULES_SHOWN_MAX).map(String::as_str).collect();
    let more = rules.len().saturating_sub(shown.len());
    let text = format!("({})", shown.join("), ("));
    if more > 0 { format!("{text} and {more} more") } else { text }
}
