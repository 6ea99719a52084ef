//! Results as text: the JSON, CSV and table writers that HTTP answers, COPY TO and the shell share.
//!
//! Knows nothing of HTTP. Every writer is synchronous and appends to a buffer of the caller.

pub mod csv;
pub mod json;
pub mod table;
#[cfg(test)]
mod tests;
pub mod types;

use std::fmt;
use std::str::FromStr;

use arrow::array::Array;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Format {
    /// The JSON shape that GreptimeDB's clients know.
    Json,
    /// Comma-separated values, with a header line.
    Csv,
    /// A table for people.
    Table,
    /// A line per value, for people with wide rows.
    Vertical,
    /// The Arrow IPC stream format.
    Arrow,
}

impl Format {
    /// The media type of an answer in this form.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Table | Self::Vertical => "text/plain; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Table => "table",
            Self::Vertical => "vertical",
            Self::Arrow => "arrow",
        })
    }
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a format: use json, csv, table, vertical or arrow")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "json" | "greptimedb_v1" => Self::Json,
            "csv" => Self::Csv,
            "table" => Self::Table,
            "vertical" => Self::Vertical,
            "arrow" => Self::Arrow,
            _ => return Err(UnknownFormat(text.to_owned())),
        })
    }
}

/// How times look in text: RFC 3339 in UTC, with as many digits of a second as needed (0, 3, 6 or 9).
const TIMESTAMP_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

fn text_options(null: &str) -> FormatOptions<'_> {
    FormatOptions::new().with_null(null).with_timestamp_format(Some(TIMESTAMP_FORMAT))
}

/// The cells of one column as text.
fn formatter<'a>(array: &'a dyn Array, null: &'a str) -> Result<ArrayFormatter<'a>, ArrowError> {
    ArrayFormatter::try_new(array, &text_options(null))
}
