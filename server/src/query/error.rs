//! DataFusion's errors as ours.
//!
//! An error of the engine rides inside a DataFusion error as a [`ServerError`], so that it comes out with the
//! code that it had.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::{Code, ServerError};

/// How many column names a message lists.
const COLUMNS_SHOWN: usize = 20;

/// An error of ours inside one of DataFusion's.
#[must_use]
pub fn wrap(error: ServerError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of the engine.
#[must_use]
pub fn from_engine(error: &tessera_engine::error::Error) -> ServerError {
    if matches!(error, tessera_engine::error::Error::Overloaded { .. }) {
        return ServerError::new(Code::ResourcesExhausted, crate::error::chain(error));
    }
    ServerError::from_class(error.class(), error)
}

/// What a person is told about an error of DataFusion.
#[must_use]
pub fn unwrap(error: DataFusionError) -> ServerError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<ServerError>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(nested) => unwrap(*nested),
                Err(other) => ServerError::new(Code::ExecuteQuery, crate::error::chain(other.as_ref())),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => unwrap(*inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => unwrap(errors.swap_remove(0)),
        DataFusionError::Shared(inner) => shared(&inner),
        DataFusionError::ArrowError(inner, _) => from_arrow(*inner),
        other => plain(&other),
    }
}

/// What a person is told about an error of Arrow.
#[must_use]
pub fn from_arrow(error: ArrowError) -> ServerError {
    match error {
        ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(nested) => unwrap(*nested),
            Err(other) => match other.downcast::<ServerError>() {
                Ok(ours) => *ours,
                Err(other) => ServerError::new(Code::ExecuteQuery, crate::error::chain(other.as_ref())),
            },
        },
        ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::InvalidArgumentError(text) => {
            ServerError::new(Code::InvalidArguments, tidy(&text))
        }
        ArrowError::DivideByZero => ServerError::new(Code::InvalidArguments, "division by zero"),
        ArrowError::ArithmeticOverflow(text) => ServerError::new(Code::InvalidArguments, format!("arithmetic overflow: {text}")),
        ArrowError::NotYetImplemented(text) => ServerError::new(Code::Unsupported, tidy(&text)),
        ArrowError::MemoryError(text) => ServerError::new(Code::ResourcesExhausted, tidy(&text)),
        other => ServerError::new(Code::ExecuteQuery, tidy(&other.to_string())),
    }
}

/// An error that several streams share cannot be taken apart; the one of ours in it is copied.
fn shared(error: &DataFusionError) -> ServerError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<ServerError>() {
            return ServerError::new(ours.code, ours.message.clone());
        }
        cause = inner.source();
    }
    plain(error.find_root())
}

fn plain(error: &DataFusionError) -> ServerError {
    match error {
        DataFusionError::SchemaError(inner, _) => from_schema(inner),
        DataFusionError::SQL(inner, _) => crate::sql::from_parser(inner),
        DataFusionError::NotImplemented(text) => ServerError::new(Code::Unsupported, format!("not supported: {}", tidy(text))),
        DataFusionError::Plan(text) => ServerError::new(Code::PlanQuery, tidy(text)),
        DataFusionError::Configuration(text) => ServerError::new(Code::InvalidArguments, tidy(text)),
        DataFusionError::ResourcesExhausted(text) => ServerError::new(Code::ResourcesExhausted, tidy(text)),
        DataFusionError::Execution(text) => ServerError::new(Code::ExecuteQuery, tidy(text)),
        DataFusionError::Internal(text) => ServerError::new(Code::Internal, tidy(text)),
        other => ServerError::new(Code::ExecuteQuery, tidy(&other.strip_backtrace())),
    }
}

fn from_schema(error: &SchemaError) -> ServerError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).take(COLUMNS_SHOWN).collect();
            if valid_fields.len() > COLUMNS_SHOWN {
                names.push("...");
            }
            let known = if names.is_empty() { String::new() } else { format!("; columns are {}", names.join(", ")) };
            ServerError::new(Code::ColumnNotFound, format!("there is no column '{}'{known}", field.flat_name()))
        }
        SchemaError::AmbiguousReference { field } => {
            ServerError::new(Code::PlanQuery, format!("column '{}' is in more than one table: write table.column", field.flat_name()))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            ServerError::new(Code::PlanQuery, format!("column '{name}' is named twice"))
        }
    }
}

/// A message without back traces, line breaks, prefixes and advice that points into DataFusion.
fn tidy(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    let text = text.split("\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    let text = text.split("This feature is not implemented: ").last().unwrap_or(text);
    let mut text = text.trim();
    for prefix in ["Error during planning: ", "Execution error: ", "Arrow error: ", "Cast error: ", "Parser error: "] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
