//! The model: every version of every key, and what a table of each merge mode shows of them.

use std::collections::BTreeMap;

use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::table::widened;
use crate::options::MergeMode;

/// The values of a row by column, with the types that these had when it was written.
type Row = BTreeMap<ColumnId, (DataType, Value)>;

/// What one write did to a key; the order of the list is the order of writes.
#[derive(Debug, Clone)]
enum Change {
    Put(Row),
    Delete,
}

/// A table as its writes made it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    mode: MergeMode,
    /// By (primary key, time).
    keys: BTreeMap<Vec<Value>, Vec<Change>>,
}

impl Model {
    pub(super) fn new(mode: MergeMode) -> Self {
        Self { mode, keys: BTreeMap::new() }
    }

    pub(super) fn mode(&self) -> MergeMode {
        self.mode
    }

    /// A row of `written`, the table's schema or an earlier one.
    pub(super) fn put(&mut self, schema: &Schema, written: &Schema, row: &[Value]) {
        let row = typed(written, row);
        self.keys.entry(key(schema, &row)).or_default().push(Change::Put(row));
    }

    pub(super) fn delete(&mut self, schema: &Schema, written: &Schema, row: &[Value]) {
        self.keys.entry(key(schema, &typed(written, row))).or_default().push(Change::Delete);
    }

    pub(super) fn truncate(&mut self) {
        self.keys.clear();
    }

    /// Both ends inclusive.
    pub(super) fn truncate_range(&mut self, from: i64, to: i64) {
        self.keys.retain(|key, _| !matches!(key.last(), Some(Value::Timestamp(time)) if from <= *time && *time <= to));
    }

    /// The primary key has another column, in which all rows that there are have this value.
    pub(super) fn extend_keys(&mut self, value: &Value) {
        let extended = |(mut key, changes): (Vec<Value>, Vec<Change>)| {
            key.insert(key.len() - 1, value.clone());
            (key, changes)
        };
        self.keys = std::mem::take(&mut self.keys).into_iter().map(extended).collect();
    }

    /// Visible rows in display order of `schema`, by key.
    pub(super) fn rows(&self, schema: &Schema) -> Vec<Vec<Value>> {
        self.keys.values().flat_map(|changes| self.visible(schema, changes)).collect()
    }

    fn visible(&self, schema: &Schema, changes: &[Change]) -> Vec<Vec<Value>> {
        let deleted = changes.iter().rposition(|change| matches!(change, Change::Delete));
        let alive: Vec<Vec<Value>> = changes[deleted.map_or(0, |at| at + 1)..]
            .iter()
            .filter_map(|change| match change {
                Change::Put(row) => Some(schema.columns().iter().map(|column| shown(column, row)).collect()),
                Change::Delete => None,
            })
            .collect();
        match self.mode {
            MergeMode::Append => alive,
            MergeMode::LastRow => alive.last().cloned().into_iter().collect(),
            MergeMode::LastNonNull => alive.into_iter().reduce(|older, newer| overlay(schema, older, newer)).into_iter().collect(),
        }
    }
}

fn typed(schema: &Schema, row: &[Value]) -> Row {
    schema.columns().iter().map(|column| (column.id, column.data_type)).zip(row).map(|((id, t), value)| (id, (t, value.clone()))).collect()
}

fn key(schema: &Schema, row: &Row) -> Vec<Value> {
    let columns = schema.primary_key().iter().copied().chain([schema.time_index().id]);
    columns.map(|id| shown(schema.column(id).unwrap(), row)).collect()
}

/// What a row shows in a column, which may be younger than it.
fn shown(column: &Column, row: &Row) -> Value {
    match row.get(&column.id) {
        Some((data_type, value)) => widened(value, *data_type, column.data_type),
        None => default(column),
    }
}

/// What rows have in a column that is younger than they are.
pub(super) fn default(column: &Column) -> Value {
    match &column.default {
        Some(ColumnDefault::Value(value)) => value.clone(),
        _ => Value::Null,
    }
}

fn overlay(schema: &Schema, older: Vec<Value>, newer: Vec<Value>) -> Vec<Value> {
    let keep = |(column, (old, new)): (&Column, (Value, Value))| {
        if column.semantic == SemanticType::Field && new.is_null() { old } else { new }
    };
    schema.columns().iter().zip(older.into_iter().zip(newer)).map(keep).collect()
}
