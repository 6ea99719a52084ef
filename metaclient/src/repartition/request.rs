//! What a statement asks for, and what the rules of the table become.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{self, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::DataType;

use super::error::PlanError;
use crate::catalog::{Route, TableInfo};

/// The table option that keeps every row, so that any column may be a partition column.
const APPEND_MODE: &str = "append_mode";

/// A change of a table's partition rules. Rules of regions are named by their meaning, not by their text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// `SPLIT PARTITION (rule) INTO (into)`.
    Split {
        /// The rule of the region.
        rule: Expr,
        /// The rules in its place.
        into: Vec<Expr>,
    },
    /// `MERGE PARTITION (rules)`.
    Merge {
        /// The rules of the regions.
        rules: Vec<Expr>,
    },
    /// `REPARTITION (from) ON COLUMNS (columns) INTO (into)`.
    Repartition {
        /// The rules of the regions.
        from: Vec<Expr>,
        /// The rules in their place.
        into: Vec<Expr>,
        /// The partition columns after it; `None` for those that the table has.
        columns: Option<Vec<ColumnId>>,
    },
    /// `PARTITION ON COLUMNS (columns) (rules)`: all regions; without columns and rules, one region for all rows.
    PartitionOn {
        /// The partition columns.
        columns: Vec<ColumnId>,
        /// The rules.
        rules: Vec<Expr>,
    },
}

/// What a request makes of a table: which of its regions stay as they are, and which rules come in place of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The new rules first, in the order of the statement, then those of the regions that were not named.
    pub rules: Vec<Expr>,
    /// How many rules are new.
    pub given: usize,
    /// The partition columns.
    pub columns: Vec<ColumnId>,
}

impl Request {
    /// The columns that its rules name.
    fn columns(&self) -> BTreeSet<ColumnId> {
        let all = match self {
            Self::Split { rule, into } => [std::slice::from_ref(rule), into.as_slice()],
            Self::Merge { rules } | Self::PartitionOn { columns: _, rules } => [rules.as_slice(), &[]],
            Self::Repartition { from, into, columns: _ } => [from.as_slice(), into.as_slice()],
        };
        all.into_iter().flatten().flat_map(Expr::columns).collect()
    }

    /// The types of the columns that its rules name, which say what the values in them are: a decimal of a column with two
    /// digits is another one in a column with three.
    pub(super) fn types(&self, schema: &Schema) -> BTreeMap<ColumnId, DataType> {
        let of = |id: ColumnId| Some((id, schema.column(id)?.data_type));
        self.columns().into_iter().filter_map(of).collect()
    }

    /// The rules and partition columns that the request leads to. Whether the rules partition is not checked here.
    pub(super) fn wanted(&self, info: &TableInfo, routes: &[Route]) -> Result<Wanted, PlanError> {
        let named = Named { info, routes };
        let own = || info.partition_columns.clone();
        let (rules, given, columns) = match self {
            Self::Split { rule, into } => {
                named.partitioned()?;
                at_least(into, "SPLIT PARTITION", "rules")?;
                let rest = named.without(std::slice::from_ref(rule))?;
                (joined(into, rest), into.len(), own())
            }
            Self::Merge { rules } => {
                named.partitioned()?;
                at_least(rules, "MERGE PARTITION", "regions")?;
                let rest = named.without(rules)?;
                let merged = Expr::Or(rules.clone()).simplify();
                (joined(&[merged], rest), 1, own())
            }
            Self::Repartition { from, into, columns } => {
                let rest = named.without(from)?;
                (joined(into, rest), into.len(), columns.clone().unwrap_or_else(own))
            }
            Self::PartitionOn { columns, rules } => {
                let whole = rules.is_empty().then(Expr::always);
                let rules: Vec<Expr> = rules.iter().cloned().chain(whole).collect();
                let given = rules.len();
                (rules, given, columns.clone())
            }
        };
        let wanted = Wanted { rules, given, columns };
        check_columns(&wanted, info)?;
        Ok(wanted)
    }
}

fn joined(given: &[Expr], rest: Vec<Expr>) -> Vec<Expr> {
    given.iter().cloned().chain(rest).collect()
}

fn at_least(rules: &[Expr], statement: &'static str, what: &'static str) -> Result<(), PlanError> {
    if rules.len() < 2 { Err(PlanError::TooFew { statement, what, given: rules.len() }) } else { Ok(()) }
}

struct Named<'a> {
    info: &'a TableInfo,
    routes: &'a [Route],
}

impl Named<'_> {
    fn partitioned(&self) -> Result<(), PlanError> {
        let none = self.info.partition_columns.is_empty();
        if none { Err(PlanError::NotPartitioned { table: self.info.table_ref() }) } else { Ok(()) }
    }

    /// The rules of the regions that `named` does not name.
    fn without(&self, named: &[Expr]) -> Result<Vec<Expr>, PlanError> {
        let schema = &self.info.schema;
        let mut taken = vec![false; self.routes.len()];
        for rule in named {
            rule.check(schema).map_err(|source| PlanError::Rule { rule: rule.display(schema).to_string(), source })?;
            let at = self.find(rule)?;
            if std::mem::replace(&mut taken[at], true) {
                return Err(PlanError::NamedTwice { rule: rule.display(schema).to_string() });
            }
        }
        Ok(self.routes.iter().zip(taken).filter(|(_, taken)| !taken).map(|(route, _)| route.rule.clone()).collect())
    }

    /// The region with this rule: by text, else by meaning.
    fn find(&self, rule: &Expr) -> Result<usize, PlanError> {
        let version = rule.version();
        if let Some(at) = self.routes.iter().position(|route| route.rule.version() == version) {
            return Ok(at);
        }
        for (at, route) in self.routes.iter().enumerate() {
            if rule::equal(&route.rule, rule)? {
                return Ok(at);
            }
        }
        let schema = &self.info.schema;
        let rules = self.routes.iter().map(|route| route.rule.display(schema).to_string()).collect();
        Err(PlanError::NoSuchRule { table: self.info.table_ref(), rule: rule.display(schema).to_string(), rules })
    }
}

/// That the columns whose types are given have them. One that is gone is not this check's.
pub(super) fn check_types(types: &BTreeMap<ColumnId, DataType>, schema: &Schema) -> Result<(), PlanError> {
    let changed = types.iter().find_map(|(id, from)| Some((schema.column(*id).filter(|column| column.data_type != *from)?, *from)));
    match changed {
        Some((column, from)) => Err(PlanError::TypeChanged { column: column.name.clone(), from, to: column.data_type }),
        None => Ok(()),
    }
}

/// Whether the columns can be partition columns, and the rules name no others.
fn check_columns(wanted: &Wanted, info: &TableInfo) -> Result<(), PlanError> {
    let schema: &Schema = &info.schema;
    let append = info.options.get(APPEND_MODE).is_some_and(|value| value == "true");
    for (at, id) in wanted.columns.iter().enumerate() {
        let column = schema.column(*id).ok_or(PlanError::UnknownColumn { column: *id })?;
        if wanted.columns[..at].contains(id) {
            return Err(PlanError::ColumnTwice { column: column.name.clone() });
        }
        if column.semantic == SemanticType::Field && !append {
            return Err(PlanError::FieldColumn { column: column.name.clone() });
        }
    }
    for (at, rule) in wanted.rules.iter().enumerate() {
        let Some(outside) = rule.columns().into_iter().find(|id| !wanted.columns.contains(id)) else { continue };
        let rule = rule.display(schema).to_string();
        let column = schema.column(outside).map_or_else(|| outside.to_string(), |column| column.name.clone());
        return Err(if at < wanted.given { PlanError::OtherColumn { rule, column } } else { PlanError::ColumnInUse { rule, column } });
    }
    Ok(())
}
