//! Partition rules, with errors as statements report them.

use arrow::array::{BooleanArray, RecordBatch};
use tessera_manifest::rule::{self, Expr};
use tessera_manifest::schema::Schema;

use crate::error::{Code, ServerError};

/// The rule that a text states.
///
/// # Errors
/// Text that is no rule over the columns of the schema.
pub fn parse(text: &str, schema: &Schema) -> Result<Expr, ServerError> {
    rule::parse(text, schema)
        .map_err(|error| ServerError::new(Code::InvalidArguments, format!("bad partition rule ({text}): {}", crate::error::chain(&error))))
}

/// Whether every rule has rows and no two share one. Rows that no rule covers are refused when they are written.
///
/// # Errors
/// Two rules that share a row, with the row, or a rule that no row satisfies.
pub fn validate(rules: &[Expr], schema: &Schema) -> Result<(), ServerError> {
    let invalid = |message: String| ServerError::new(Code::InvalidArguments, format!("bad partition rules: {message}"));
    let coverage = rule::validate(rules, schema).map_err(|error| invalid(crate::error::chain(&error)))?;
    match coverage.empty.first().and_then(|index| rules.get(*index)) {
        Some(empty) => Err(invalid(format!("no row satisfies ({})", text(empty, schema)))),
        None => Ok(()),
    }
}

/// Whether it is certain that no row satisfies both.
#[must_use]
pub fn disjoint(left: &Expr, right: &Expr) -> bool {
    rule::disjoint(left, right).unwrap_or(false)
}

/// A rule as text that [`parse`] reads back.
#[must_use]
pub fn text(rule: &Expr, schema: &Schema) -> String {
    rule.display(schema).to_string()
}

/// Which rows of a batch satisfy a rule; never NULL.
///
/// # Errors
/// A rule over columns that the batch does not have.
pub fn mask(rule: &Expr, batch: &RecordBatch, schema: &Schema) -> Result<BooleanArray, ServerError> {
    rule.filter(batch, schema).map_err(|error| ServerError::new(Code::Internal, crate::error::chain(&error)))
}
