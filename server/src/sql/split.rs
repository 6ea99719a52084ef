//! Cuts a text into statements at the semicolons that are neither quoted nor in a comment.

use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::from_tokenizer;
use crate::error::ServerError;

/// The rules by which text becomes tokens: double quotes and backticks quote names.
pub(crate) static DIALECT: GenericDialect = GenericDialect {};

/// The tokens of one statement, white space and comments included.
#[derive(Debug, Clone)]
pub struct Source {
    /// The tokens, with places in the whole text.
    pub tokens: Vec<TokenWithSpan>,
    text: Arc<Text>,
}

#[derive(Debug)]
struct Text {
    sql: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// The text between two places; `to` is exclusive.
    #[must_use]
    pub fn slice(&self, from: Location, to: Location) -> &str {
        self.text.sql.get(self.text.offset(from)..self.text.offset(to)).unwrap_or("")
    }
}

impl Text {
    fn new(sql: &str) -> Self {
        let starts = sql.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { sql: sql.to_owned(), line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// The byte at which a place begins; lines and columns (in characters) count from 1.
    fn offset(&self, place: Location) -> usize {
        let line = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.line_starts.get(line).copied() else { return self.sql.len() };
        let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let rest = self.sql.get(start..).unwrap_or("");
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }
}

/// The statements of a text, without the empty ones.
///
/// # Errors
/// A quote or comment that does not end.
pub fn split(sql: &str) -> Result<Vec<Source>, ServerError> {
    let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| from_tokenizer(&error))?;
    let text = Arc::new(Text::new(sql));
    let mut sources = Vec::new();
    for part in tokens.split(|token| token.token == Token::SemiColon) {
        if part.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)) {
            sources.push(Source { tokens: part.to_vec(), text: Arc::clone(&text) });
        }
    }
    Ok(sources)
}
