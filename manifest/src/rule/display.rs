//! Rules as SQL text.
//!
//! Invariants:
//! - What is shown of a rule that passes [`Expr::check`] is read back by [`super::parse()`] as a rule of the same
//!   canonical form.
//! - Parentheses and quotes stand only where they are needed.

use std::fmt;

use super::{CompareOp, Expr, literal, parse};
use crate::id::ColumnId;
use crate::schema::Schema;
use crate::value::{DataType, Value};

/// A rule to be shown with the names of a schema; made by [`Expr::display`].
#[derive(Debug, Clone, Copy)]
pub struct RuleDisplay<'e> {
    expr: &'e Expr,
    schema: &'e Schema,
}

impl Expr {
    /// The rule as SQL text with this schema's column names. A column that the schema does not have is shown
    /// as `column#id`, which no parser reads.
    #[must_use]
    pub fn display<'e>(&'e self, schema: &'e Schema) -> RuleDisplay<'e> {
        RuleDisplay { expr: self, schema }
    }
}

impl fmt::Display for RuleDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(self.expr, Binding::Or, f)
    }
}

/// How tightly the place of an expression binds: what is looser than its place needs parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
}

impl RuleDisplay<'_> {
    fn write(&self, expr: &Expr, place: Binding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match expr {
            Expr::And(parts) => self.join(parts, Binding::And, place, f),
            Expr::Or(parts) => self.join(parts, Binding::Or, place, f),
            Expr::Not(inner) => match &**inner {
                Expr::In { column, values } if !values.is_empty() => self.list(*column, "NOT IN", values, f),
                other => {
                    f.write_str("NOT ")?;
                    self.write(other, Binding::Not, f)
                }
            },
            Expr::Compare { column, op: CompareOp::Eq, value: Value::Null } => write!(f, "{} IS NULL", self.name(*column)),
            Expr::Compare { column, op: CompareOp::NotEq, value: Value::Null } => write!(f, "{} IS NOT NULL", self.name(*column)),
            Expr::Compare { column, op, value } => {
                write!(f, "{} {op} {}", self.name(*column), literal::sql(value, self.data_type(*column)))
            }
            Expr::In { values, .. } if values.is_empty() => f.write_str("FALSE"),
            Expr::In { column, values } => self.list(*column, "IN", values, f),
        }
    }

    fn join(&self, parts: &[Expr], own: Binding, place: Binding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if own == Binding::And { " AND " } else { " OR " };
        match parts {
            [] => f.write_str(if own == Binding::And { "TRUE" } else { "FALSE" }),
            [only] => self.write(only, place, f),
            _ => {
                let parentheses = own < place;
                if parentheses {
                    f.write_str("(")?;
                }
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { word })?;
                    self.write(part, own, f)?;
                }
                f.write_str(if parentheses { ")" } else { "" })
            }
        }
    }

    fn list(&self, column: ColumnId, word: &str, values: &[Value], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {word} (", self.name(column))?;
        for (i, value) in values.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, literal::sql(value, self.data_type(column)))?;
        }
        f.write_str(")")
    }

    fn name(&self, column: ColumnId) -> String {
        self.schema.column(column).map_or_else(|| format!("column#{column}"), |c| identifier(&c.name))
    }

    fn data_type(&self, column: ColumnId) -> Option<DataType> {
        self.schema.column(column).map(|c| c.data_type)
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        })
    }
}

/// The column's name, in double quotes unless every SQL reader takes it bare.
pub(super) fn identifier(name: &str) -> String {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let plain = starts && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain && !parse::is_reserved(name) && name != "date" && name != "timestamp" {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
