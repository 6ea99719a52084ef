//! Partition rules: which rows belong to a region.
//!
//! Invariants:
//! - A rule is two-valued. NULL and NaN are ordinary values of the total order of [`crate::value`] (NULL
//!   lowest, NaN highest, −0 = +0), so a row satisfies a rule or it does not; there is no unknown.
//! - Columns are named by id, so that renaming a column changes no rule.

use serde::{Deserialize, Serialize};

use crate::id::ColumnId;
use crate::value::Value;

/// How a column is compared with a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// A boolean expression over the columns of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// All of them hold; the empty conjunction is *true*.
    And(Vec<Expr>),
    /// One of them holds; the empty disjunction is *false*.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// The column compares so with the literal.
    Compare {
        /// The column.
        column: ColumnId,
        /// The comparison.
        op: CompareOp,
        /// The literal, of the column's type.
        value: Value,
    },
    /// The column equals one of the literals; of none, *false*.
    In {
        /// The column.
        column: ColumnId,
        /// The literals, of the column's type.
        values: Vec<Value>,
    },
}

impl Expr {
    /// The rule that every row satisfies.
    #[must_use]
    pub const fn always() -> Self {
        Self::And(Vec::new())
    }

    /// The rule that no row satisfies.
    #[must_use]
    pub const fn never() -> Self {
        Self::Or(Vec::new())
    }
}

/// The hash of a canonical rule: equal rules as written have equal versions. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleVersion(pub crate::id::Nonce);

impl Expr {
    /// The hash of its canonical form.
    #[must_use]
    pub fn version(&self) -> RuleVersion {
        let bytes = serde_json::to_vec(self).expect("expressions serialize");
        RuleVersion(crate::id::Nonce(twox_hash::XxHash3_128::oneshot(&bytes)))
    }
}
