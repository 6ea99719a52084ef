//! The dialect: text to statements.
//!
//! Invariants:
//! - Pure: text in, statements out; no catalog, no clock.
//! - Unquoted identifiers are lower-cased, here as in DataFusion, so that both name the same things.
//! - What is not understood is an error; no clause is skipped silently but for the ones listed in
//!   [`parser`], which change nothing that a query can see.
//! - [`show::create_table`] writes text that [`parse`] reads back as an equal table.

pub mod as_of;
pub mod ast;
pub mod depth;
pub mod parser;
pub mod show;
pub mod split;
pub mod types;

mod alter;
mod create;
mod partition;

#[cfg(test)]
mod tests;

pub use ast::{CreateTable, PartitionChange, Repartition, Statement, TableName};
pub use parser::parse;

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::TokenizerError;

use crate::error::{Code, ServerError};

/// An error about the text of a statement.
pub(crate) fn syntax(message: impl Into<String>) -> ServerError {
    ServerError::new(Code::InvalidSyntax, message)
}

pub(crate) fn from_parser(error: &ParserError) -> ServerError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
    };
    syntax(format!("bad SQL: {}", lower_first(&text)))
}

pub(crate) fn from_tokenizer(error: &TokenizerError) -> ServerError {
    syntax(format!("bad SQL: {}", lower_first(&error.to_string())))
}

/// Messages of the parser start with a capital letter; ours do not.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            let rest = text.get(first.len_utf8()..).unwrap_or("");
            format!("{}{rest}", first.to_lowercase())
        }
        _ => text.to_owned(),
    }
}
