//! The options of COPY, as they stand in `WITH (...)`.

use std::fmt;
use std::path::Path;

use crate::error::{Code, ServerError};

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated values.
    Csv {
        /// Whether gzip is around them.
        gzip: bool,
    },
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// The form that a file's extension names: `.csv`, `.csv.gz`, `.parquet`.
    ///
    /// # Errors
    /// When it names none.
    pub fn of_path(path: &Path) -> Result<Self, ServerError> {
        let name = path.to_string_lossy().to_ascii_lowercase();
        if name.ends_with(".csv") {
            Ok(Self::Csv { gzip: false })
        } else if name.ends_with(".csv.gz") {
            Ok(Self::Csv { gzip: true })
        } else if name.ends_with(".parquet") {
            Ok(Self::Parquet)
        } else {
            let text =
                format!("cannot tell the format of '{}': name it .csv, .csv.gz or .parquet, or add WITH (format = 'csv')", path.display());
            Err(invalid(text))
        }
    }

    fn parse(text: &str) -> Result<Self, ServerError> {
        match text.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv { gzip: false }),
            "csv.gz" => Ok(Self::Csv { gzip: true }),
            "parquet" => Ok(Self::Parquet),
            _ => Err(invalid(format!("'{text}' is not a COPY format: use csv, csv.gz or parquet"))),
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv { gzip: false } => "csv",
            Self::Csv { gzip: true } => "csv.gz",
            Self::Parquet => "parquet",
        })
    }
}

/// How a file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Its form; by its extension if not given. `format = 'csv' | 'csv.gz' | 'parquet'`
    pub format: Option<FileFormat>,
    /// Whether the first line of a CSV file names the columns; else they are the table's, in its order. `header = true`
    pub header: bool,
    /// What separates the fields of a CSV line. `delimiter = ','`
    pub delimiter: u8,
    /// The texts that are NULL in a CSV file, in every column, separated by commas: `null_values = 'NA,null'`.
    ///
    /// An empty field is NULL in every column that is neither string nor binary; in those it is the empty value unless
    /// the list holds an empty text, as in `null_values = ''` or `'NA,'`. A quoted empty field is the same as an empty one.
    pub null_values: Vec<String>,
    /// Whether columns of the file that the table lacks are skipped; else they are an error. `ignore_unknown = false`
    pub ignore_unknown: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { format: None, header: true, delimiter: b',', null_values: Vec::new(), ignore_unknown: false }
    }
}

impl ReadOptions {
    /// Options from the pairs of `WITH (...)`; names are not case-sensitive.
    ///
    /// # Errors
    /// When a name is unknown or a value does not fit; the message names it.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ServerError> {
        let mut options = Self::default();
        for (name, value) in pairs {
            match name.to_ascii_lowercase().as_str() {
                "format" => options.format = Some(FileFormat::parse(value)?),
                "header" => options.header = flag(name, value)?,
                "delimiter" => options.delimiter = delimiter(value)?,
                "null_values" => options.null_values = value.split(',').map(|text| text.trim().to_owned()).collect(),
                "ignore_unknown" => options.ignore_unknown = flag(name, value)?,
                _ => return Err(unknown(name, "format, header, delimiter, null_values, ignore_unknown")),
            }
        }
        Ok(options)
    }
}

/// How a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// Its form; by its extension if not given. `format = 'csv' | 'csv.gz' | 'parquet'`
    pub format: Option<FileFormat>,
    /// Whether the first line of a CSV file names the columns. `header = true`
    pub header: bool,
    /// What separates the fields of a CSV line. `delimiter = ','`
    pub delimiter: u8,
    /// Whether a file of that name is replaced; else it is an error. `overwrite = false`
    pub overwrite: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { format: None, header: true, delimiter: b',', overwrite: false }
    }
}

impl WriteOptions {
    /// Options from the pairs of `WITH (...)`; names are not case-sensitive.
    ///
    /// # Errors
    /// When a name is unknown or a value does not fit; the message names it.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ServerError> {
        let mut options = Self::default();
        for (name, value) in pairs {
            match name.to_ascii_lowercase().as_str() {
                "format" => options.format = Some(FileFormat::parse(value)?),
                "header" => options.header = flag(name, value)?,
                "delimiter" => options.delimiter = delimiter(value)?,
                "overwrite" => options.overwrite = flag(name, value)?,
                _ => return Err(unknown(name, "format, header, delimiter, overwrite")),
            }
        }
        Ok(options)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, ServerError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" => Ok(true),
        "false" | "0" | "off" => Ok(false),
        _ => Err(invalid(format!("COPY option {name} is true or false, not '{value}'"))),
    }
}

fn delimiter(value: &str) -> Result<u8, ServerError> {
    match value.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(invalid(format!("COPY option delimiter is one ASCII character other than a quote or newline, or \\t; not '{value}'"))),
    }
}

fn unknown(name: &str, known: &str) -> ServerError {
    invalid(format!("unknown COPY option '{name}': there are {known}"))
}

fn invalid(message: String) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
