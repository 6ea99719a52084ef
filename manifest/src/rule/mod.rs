//! Partition rules: which rows belong to a region.
//!
//! Invariants:
//! - A rule is two-valued. NULL and NaN are ordinary values of the total order of [`crate::value`] (NULL
//!   lowest, NaN highest, −0 = +0), so a row satisfies a rule or it does not; there is no unknown. Mind that
//!   `x < 5` therefore holds for NULL.
//! - Columns are named by id, so that renaming a column changes no rule.
//! - Answers are exact, or they are [`TooComplex`]: nothing here guesses, and nothing runs without a bound.
//! - Nothing here does I/O or reads a clock.

mod canonical;
mod cells;
mod display;
pub mod domain;
mod filter;
mod literal;
mod meeting;
mod parse;
mod reduce;
mod simplify;
mod solve;
mod space;
mod step;
#[cfg(test)]
mod tests;
mod token;
mod validate;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, Nonce, ParseIdError};
use crate::limits;
use crate::schema::Schema;
use crate::value::{DataType, Value};

pub use display::RuleDisplay;
pub use domain::{Domain, Interval, Tri};
pub use filter::{EvalError, value_at};
pub use meeting::{MeetError, meeting};
pub use parse::{ParseError, ParseErrorKind, parse};
pub use simplify::residual;
pub use solve::{TooComplex, disjoint, equal, implies};
pub use validate::{Coverage, ValidateError, Witness, validate, witness};

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

impl CompareOp {
    /// The comparison that holds exactly where this one does not.
    #[must_use]
    pub const fn negated(self) -> Self {
        match self {
            Self::Eq => Self::NotEq,
            Self::NotEq => Self::Eq,
            Self::Lt => Self::GtEq,
            Self::LtEq => Self::Gt,
            Self::Gt => Self::LtEq,
            Self::GtEq => Self::Lt,
        }
    }

    /// The comparison with its sides exchanged: `5 < x` is `x > 5`.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Eq => Self::Eq,
            Self::NotEq => Self::NotEq,
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
        }
    }

    /// Whether `ordering`, of the column's value to the literal, satisfies the comparison.
    #[must_use]
    pub const fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::NotEq => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::LtEq => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::GtEq => ordering.is_ge(),
        }
    }
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

/// Why an expression cannot be a rule of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Nested too deeply.
    #[error("a rule nests {found} levels deep, more than {max}; write it flatter", max = limits::RULE_DEPTH_MAX)]
    TooDeep {
        /// How deep.
        found: usize,
    },
    /// Too many parts.
    #[error("a rule has {found} operators and literals, more than {max}; use ranges in place of long lists", max = limits::RULE_NODES_MAX)]
    TooLarge {
        /// How many operators and literals.
        found: usize,
    },
    /// The table has no such column.
    #[error("a rule names column id {column}, which the table does not have")]
    UnknownColumn {
        /// The id.
        column: ColumnId,
    },
    /// A literal that the column cannot hold.
    #[error("a rule compares column '{column}' of type {data_type} with {value:?}, which is not of that type")]
    LiteralType {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
        /// The literal.
        value: Value,
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

    /// Both `self` and `other` hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(vec![self, other])
    }

    /// `self` or `other` holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(vec![self, other])
    }

    /// `self` does not hold.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether a row satisfies the rule; `row` gives the row's value in a column.
    #[must_use]
    pub fn matches<'v>(&self, row: impl Fn(ColumnId) -> &'v Value) -> bool {
        self.holds(&row)
    }

    fn holds<'v>(&self, row: &impl Fn(ColumnId) -> &'v Value) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Not(part) => !part.holds(row),
            Self::Compare { column, op, value } => op.holds(row(*column).cmp(value)),
            Self::In { column, values } => values.contains(row(*column)),
        }
    }

    /// The columns that it names, in order of their ids.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<ColumnId> {
        let mut columns = BTreeSet::new();
        self.visit(&mut |part, _| match part {
            Self::Compare { column, .. } | Self::In { column, .. } => {
                columns.insert(*column);
            }
            Self::And(_) | Self::Or(_) | Self::Not(_) => {}
        });
        columns
    }

    /// How deep it nests; a comparison alone is 1 deep. Takes no stack, however deep it is.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut deepest = 0;
        self.visit(&mut |_, depth| deepest = deepest.max(depth));
        deepest
    }

    /// How many operators and literals it has. Takes no stack, however deep it is.
    #[must_use]
    pub fn nodes(&self) -> usize {
        let mut nodes = 0;
        self.visit(&mut |part, _| {
            nodes += match part {
                Self::In { values, .. } => values.len() + 1,
                _ => 1,
            };
        });
        nodes
    }

    /// Calls `see` with every part and its depth, parents first.
    fn visit<'e>(&'e self, see: &mut impl FnMut(&'e Self, usize)) {
        let mut todo = vec![(self, 1)];
        while let Some((part, depth)) = todo.pop() {
            see(part, depth);
            match part {
                Self::And(parts) | Self::Or(parts) => todo.extend(parts.iter().map(|p| (p, depth + 1))),
                Self::Not(inner) => todo.push((inner, depth + 1)),
                Self::Compare { .. } | Self::In { .. } => {}
            }
        }
    }

    /// Whether it may be a rule of a table with this schema: within the limits, with known columns and with
    /// literals of their types. Call it on every expression that comes from outside before anything else;
    /// the other functions recurse as deep as the expression is.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, schema: &Schema) -> Result<(), CheckError> {
        let depth = self.depth();
        if depth > limits::RULE_DEPTH_MAX {
            return Err(CheckError::TooDeep { found: depth });
        }
        let nodes = self.nodes();
        if nodes > limits::RULE_NODES_MAX {
            return Err(CheckError::TooLarge { found: nodes });
        }
        let mut result = Ok(());
        self.visit(&mut |part, _| {
            if result.is_ok() {
                result = check_literals(part, schema);
            }
        });
        result
    }
}

fn check_literals(part: &Expr, schema: &Schema) -> Result<(), CheckError> {
    let (id, values) = match part {
        Expr::Compare { column, value, .. } => (*column, std::slice::from_ref(value)),
        Expr::In { column, values } => (*column, values.as_slice()),
        Expr::And(_) | Expr::Or(_) | Expr::Not(_) => return Ok(()),
    };
    let column = schema.column(id).ok_or(CheckError::UnknownColumn { column: id })?;
    let wrong = values.iter().find(|v| !column.data_type.accepts(v));
    wrong.map_or(Ok(()), |value| {
        let value = value.clone();
        Err(CheckError::LiteralType { column: column.name.clone(), data_type: column.data_type, value })
    })
}

/// The hash of a canonical rule: equal rules as written have equal versions. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleVersion(pub Nonce);

impl fmt::Display for RuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RuleVersion {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self).map_err(|error: ParseIdError| ParseIdError { kind: "rule version", ..error })
    }
}
