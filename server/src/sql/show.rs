//! `SHOW CREATE TABLE`: a table as the statement that makes an equal one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::DateTime;
use tessera_engine::options::SkippingIndex;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::parser::quoted;
use super::types;

/// What is shown of a table.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its columns.
    pub schema: &'a Schema,
    /// Its partition columns, in the user's order.
    pub partition_columns: &'a [ColumnId],
    /// The texts of its rules, in the order of the regions.
    pub rules: &'a [String],
    /// Its options.
    pub options: &'a BTreeMap<String, String>,
}

/// The text of a `CREATE TABLE` that makes an equal table.
#[must_use]
pub fn create_table(table: Shown<'_>) -> String {
    let mut parts: Vec<String> = table.schema.columns().iter().map(|column| column_text(column, table.options)).collect();
    parts.push(format!("TIME INDEX ({})", quoted(&table.schema.time_index().name)));
    let keys: Vec<String> = table.schema.tags().map(|column| quoted(&column.name)).collect();
    if !keys.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", keys.join(", ")));
    }
    let mut text = format!("CREATE TABLE IF NOT EXISTS {} (\n  {}\n)\n", quoted(table.name), parts.join(",\n  "));
    if !table.partition_columns.is_empty() {
        let columns = table.partition_columns.iter().filter_map(|id| table.schema.column(*id));
        let columns: Vec<String> = columns.map(|column| quoted(&column.name)).collect();
        text.push_str(&format!("PARTITION ON COLUMNS ({}) (\n  {}\n)\n", columns.join(", "), table.rules.join(",\n  ")));
    }
    text.push_str("ENGINE=mito");
    let options = table.options.iter().filter(|(key, _)| !key.starts_with(SkippingIndex::OPTION_PREFIX));
    let options: Vec<String> = options.map(|(key, value)| format!("{} = {}", string_text(key), string_text(value))).collect();
    if !options.is_empty() {
        text.push_str(&format!("\nWITH(\n  {}\n)", options.join(",\n  ")));
    }
    text
}

fn column_text(column: &Column, options: &BTreeMap<String, String>) -> String {
    let mut text = format!("{} {}", quoted(&column.name), types::name(column.data_type));
    text.push_str(if column.nullable { " NULL" } else { " NOT NULL" });
    if let Some(default) = &column.default {
        text.push_str(" DEFAULT ");
        text.push_str(&default_text(default, column.data_type));
    }
    if let Some(comment) = &column.comment {
        text.push_str(" COMMENT ");
        text.push_str(&string_text(comment));
    }
    if let Some(rate) = options.get(&SkippingIndex::option_name(column.id)) {
        text.push_str(&format!(" SKIPPING INDEX WITH(false_positive_rate = {}, type = 'BLOOM')", string_text(rate)));
    }
    text
}

/// A default as SQL that reads back as the same default.
#[must_use]
pub fn default_text(default: &ColumnDefault, data_type: DataType) -> String {
    match default {
        ColumnDefault::CurrentTimestamp => "current_timestamp()".to_owned(),
        ColumnDefault::Value(value) => value_text(value, data_type),
    }
}

/// How `DESC TABLE` names what a column is for.
#[must_use]
pub fn semantic_text(semantic: SemanticType) -> &'static str {
    match semantic {
        SemanticType::Tag => "TAG",
        SemanticType::Field => "FIELD",
        SemanticType::TimeIndex => "TIMESTAMP",
    }
}

/// A value as an SQL literal of a column of this type.
#[must_use]
pub fn value_text(value: &Value, data_type: DataType) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::Float(value) if value.is_finite() => format!("{value:?}"),
        Value::Float(value) => string_text(&value.to_string()),
        Value::String(value) => string_text(value),
        Value::Binary(bytes) => {
            let mut hex = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                let _infallible = write!(hex, "{byte:02X}");
            }
            format!("X'{hex}'")
        }
        Value::Date(days) => date_text(*days),
        Value::Timestamp(value) => timestamp_text(*value, data_type),
        Value::Decimal(unscaled) => string_text(&decimal_text(*unscaled, data_type)),
    }
}

fn date_text(days: i32) -> String {
    match DateTime::from_timestamp(i64::from(days) * 86_400, 0) {
        Some(time) => string_text(&time.format("%Y-%m-%d").to_string()),
        None => days.to_string(),
    }
}

fn timestamp_text(value: i64, data_type: DataType) -> String {
    let DataType::Timestamp(unit) = data_type else { return value.to_string() };
    let per_second = unit.per_second();
    let (seconds, rest) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let nanos = u32::try_from(rest * (1_000_000_000 / per_second)).unwrap_or(0);
    let digits = match unit {
        TimeUnit::Second => "",
        TimeUnit::Millisecond => "%.3f",
        TimeUnit::Microsecond => "%.6f",
        TimeUnit::Nanosecond => "%.9f",
    };
    // Years beyond four digits have no text form that every parser reads; their number is exact.
    let plain = (-62_135_596_800..253_402_300_800).contains(&seconds);
    match DateTime::from_timestamp(seconds, nanos) {
        Some(time) if plain => string_text(&time.format(&format!("%Y-%m-%d %H:%M:%S{digits}")).to_string()),
        _ => value.to_string(),
    }
}

fn decimal_text(unscaled: i128, data_type: DataType) -> String {
    let DataType::Decimal { scale, .. } = data_type else { return unscaled.to_string() };
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A text as a string literal.
#[must_use]
pub fn string_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
