//! The names of column types.

use tessera_manifest::value::{DataType, TimeUnit};

use super::syntax;
use crate::error::{Code, ServerError};

/// A type as it is written: a name, numbers in parentheses, and whether `UNSIGNED` follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeText {
    /// The name in upper case.
    pub name: String,
    /// What stands in parentheses.
    pub arguments: Vec<u64>,
    /// Whether `UNSIGNED` follows.
    pub unsigned: bool,
}

impl TypeText {
    fn shown(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(u64::to_string).collect();
        let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        format!("{}{arguments}{}", self.name, if self.unsigned { " UNSIGNED" } else { "" })
    }
}

/// The column type that a text names.
///
/// # Errors
/// An unknown name, or arguments that the type does not take.
pub fn resolve(text: &TypeText) -> Result<DataType, ServerError> {
    if text.unsigned {
        return unsigned(text);
    }
    let no_arguments = |data_type| if text.arguments.is_empty() { Ok(data_type) } else { Err(bad_arguments(text)) };
    match text.name.as_str() {
        "BOOLEAN" | "BOOL" => no_arguments(DataType::Boolean),
        "TINYINT" | "INT8" => no_arguments(DataType::Int8),
        "SMALLINT" | "INT16" => no_arguments(DataType::Int16),
        "INT" | "INTEGER" | "INT32" => no_arguments(DataType::Int32),
        "BIGINT" | "INT64" => no_arguments(DataType::Int64),
        "UINT8" => no_arguments(DataType::UInt8),
        "UINT16" => no_arguments(DataType::UInt16),
        "UINT32" => no_arguments(DataType::UInt32),
        "UINT64" => no_arguments(DataType::UInt64),
        "FLOAT" | "REAL" | "FLOAT32" | "FLOAT4" => no_arguments(DataType::Float32),
        "DOUBLE" | "FLOAT64" | "FLOAT8" => no_arguments(DataType::Float64),
        // A length is a promise of the writer that costs nothing to keep: strings have no fixed width here.
        "VARCHAR" | "CHAR" | "CHARACTER" if text.arguments.len() <= 1 => Ok(DataType::String),
        "STRING" | "TEXT" => no_arguments(DataType::String),
        "VARBINARY" | "BINARY" if text.arguments.len() <= 1 => Ok(DataType::Binary),
        "BYTEA" | "BLOB" => no_arguments(DataType::Binary),
        "DATE" => no_arguments(DataType::Date),
        "TIMESTAMP" => timestamp(text, TimeUnit::Millisecond),
        "DATETIME" => timestamp(text, TimeUnit::Microsecond),
        "TIMESTAMP_S" | "TIMESTAMP_SEC" | "TIMESTAMP_SECOND" => no_arguments(DataType::Timestamp(TimeUnit::Second)),
        "TIMESTAMP_MS" | "TIMESTAMP_MILLISECOND" => no_arguments(DataType::Timestamp(TimeUnit::Millisecond)),
        "TIMESTAMP_US" | "TIMESTAMP_MICROSECOND" => no_arguments(DataType::Timestamp(TimeUnit::Microsecond)),
        "TIMESTAMP_NS" | "TIMESTAMP_NANOSECOND" => no_arguments(DataType::Timestamp(TimeUnit::Nanosecond)),
        "DECIMAL" | "NUMERIC" => decimal(text),
        _ => Err(unknown(text)),
    }
}

/// The name of a type that [`resolve`] reads back.
#[must_use]
pub fn name(data_type: DataType) -> String {
    let plain = match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::String => "STRING",
        DataType::Binary => "VARBINARY",
        DataType::Date => "DATE",
        DataType::Timestamp(TimeUnit::Second) => "TIMESTAMP(0)",
        DataType::Timestamp(TimeUnit::Millisecond) => "TIMESTAMP(3)",
        DataType::Timestamp(TimeUnit::Microsecond) => "TIMESTAMP(6)",
        DataType::Timestamp(TimeUnit::Nanosecond) => "TIMESTAMP(9)",
        DataType::Decimal { precision, scale } => return format!("DECIMAL({precision}, {scale})"),
    };
    plain.to_owned()
}

fn unsigned(text: &TypeText) -> Result<DataType, ServerError> {
    match (text.name.as_str(), text.arguments.is_empty()) {
        ("TINYINT", true) => Ok(DataType::UInt8),
        ("SMALLINT", true) => Ok(DataType::UInt16),
        ("INT" | "INTEGER", true) => Ok(DataType::UInt32),
        ("BIGINT", true) => Ok(DataType::UInt64),
        _ => Err(unknown(text)),
    }
}

fn timestamp(text: &TypeText, default: TimeUnit) -> Result<DataType, ServerError> {
    let unit = match text.arguments.as_slice() {
        [] => default,
        [0] => TimeUnit::Second,
        [3] => TimeUnit::Millisecond,
        [6] => TimeUnit::Microsecond,
        [9] => TimeUnit::Nanosecond,
        _ => return Err(syntax(format!("{} is not a type: the precision of a timestamp is 0, 3, 6 or 9", text.shown()))),
    };
    Ok(DataType::Timestamp(unit))
}

fn decimal(text: &TypeText) -> Result<DataType, ServerError> {
    let (precision, scale) = match text.arguments.as_slice() {
        [] => (38, 10),
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err(bad_arguments(text)),
    };
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => Ok(DataType::Decimal { precision, scale }),
        _ => Err(syntax(format!("{} is not a type: a decimal has a precision of 1 to 38 and a scale of at most that", text.shown()))),
    }
}

fn bad_arguments(text: &TypeText) -> ServerError {
    syntax(format!("{} is not a type: {} takes other arguments", text.shown(), text.name))
}

fn unknown(text: &TypeText) -> ServerError {
    ServerError::new(
        Code::InvalidSyntax,
        format!(
            "{} is not a type; types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT (each also UNSIGNED), FLOAT, DOUBLE, STRING, \
             VARBINARY, DATE, TIMESTAMP(0|3|6|9), DECIMAL(p, s)",
            text.shown()
        ),
    )
}
