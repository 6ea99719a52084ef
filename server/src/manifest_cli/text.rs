//! Numbers, times and tables as text.

use chrono::DateTime;
use comfy_table::{Cell, CellAlignment, Table};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema};
use tessera_manifest::state::RegionState;
use tessera_manifest::value::{DataType, TimeUnit};

use crate::sql::show::{default_text, semantic_text, string_text};
use crate::sql::types;

/// RFC 3339 in UTC, with as many digits of a second as needed.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// A time in milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn utc_ms(ms: u64) -> String {
    i64::try_from(ms).map_or_else(|_| format!("{ms} ms"), |ms| time(ms, TimeUnit::Millisecond))
}

/// A value of the time index.
pub(super) fn time(value: i64, unit: TimeUnit) -> String {
    let per_second = unit.per_second();
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let at = u32::try_from(nanos).ok().and_then(|nanos| DateTime::from_timestamp(value.div_euclid(per_second), nanos));
    at.map_or_else(|| value.to_string(), |at| at.format(TIME_FORMAT).to_string())
}

/// The unit of the time index; milliseconds, if there is no schema.
pub(super) fn time_unit(schema: Option<&Schema>) -> TimeUnit {
    match schema.map(|schema| schema.time_index().data_type) {
        Some(DataType::Timestamp(unit)) => unit,
        _ => TimeUnit::Millisecond,
    }
}

/// A size for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = None;
    let mut rest = bytes as f64;
    for name in units {
        if rest < 1024.0 {
            break;
        }
        (rest, unit) = (rest / 1024.0, Some(name));
    }
    unit.map_or_else(|| format!("{bytes} B"), |unit| format!("{rest:.1} {unit}"))
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A rule as SQL text.
pub(crate) fn rule(rule: &Expr, schema: Option<&Schema>) -> String {
    schema.map_or_else(|| format!("{rule:?}"), |schema| rule.display(schema).to_string())
}

/// The life of a region in a word.
pub(crate) fn life(state: &RegionState) -> &'static str {
    match state {
        state if state.is_dropped() => "dropped",
        state if state.is_retired() => "retired",
        state if state.staging().is_some() => "staged",
        state if state.is_clean() => "sealed cleanly",
        state if state.is_sealed() => "sealed",
        _ => "open",
    }
}

/// A column as in CREATE TABLE.
pub(super) fn column(column: &Column) -> String {
    let mut text = format!("{} {} {}", column.name, types::name(column.data_type), semantic_text(column.semantic));
    if !column.nullable {
        text.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        text.push_str(&format!(" DEFAULT {}", default_text(default, column.data_type)));
    }
    if let Some(comment) = &column.comment {
        text.push_str(&format!(" COMMENT {}", string_text(comment)));
    }
    text
}

/// A table with these columns; a title that begins with `#` is of numbers, which stand on the right.
pub(crate) fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset("||--+-++|    ++++++");
    table.set_header(titles.iter().map(|title| Cell::new(title.trim_start_matches('#'))));
    let aligned = |(cell, title): (String, &&str)| {
        let alignment = if title.starts_with('#') { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(cell).set_alignment(alignment)
    };
    for row in rows {
        table.add_row(row.into_iter().zip(titles).map(aligned));
    }
    format!("{table}\n")
}
