//! The model: every version of every key, and what a table of each merge mode shows of them.

use std::collections::BTreeMap;

use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::Value;

use crate::options::MergeMode;

/// The values of a row by column, as it was written.
pub(super) type Row = BTreeMap<ColumnId, Value>;

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

    /// The key of a row in display order.
    fn key(schema: &Schema, row: &[Value]) -> Vec<Value> {
        let at = |id: ColumnId| row[schema.position(id).unwrap()].clone();
        schema.primary_key().iter().map(|id| at(*id)).chain([at(schema.time_index().id)]).collect()
    }

    pub(super) fn put(&mut self, schema: &Schema, row: &[Value]) {
        let values = schema.columns().iter().map(|column| column.id).zip(row.iter().cloned()).collect();
        self.keys.entry(Self::key(schema, row)).or_default().push(Change::Put(values));
    }

    pub(super) fn delete(&mut self, schema: &Schema, row: &[Value]) {
        self.keys.entry(Self::key(schema, row)).or_default().push(Change::Delete);
    }

    pub(super) fn truncate(&mut self) {
        self.keys.clear();
    }

    /// Both ends inclusive.
    pub(super) fn truncate_range(&mut self, from: i64, to: i64) {
        self.keys.retain(|key, _| !matches!(key.last(), Some(Value::Timestamp(time)) if from <= *time && *time <= to));
    }

    /// Visible rows in display order of `schema`, sorted.
    pub(super) fn rows(&self, schema: &Schema) -> Vec<Vec<Value>> {
        let mut rows: Vec<Vec<Value>> = self.keys.values().flat_map(|changes| self.visible(schema, changes)).collect();
        rows.sort();
        rows
    }

    fn visible(&self, schema: &Schema, changes: &[Change]) -> Vec<Vec<Value>> {
        let deleted = changes.iter().rposition(|change| matches!(change, Change::Delete));
        let alive: Vec<Vec<Value>> = changes[deleted.map_or(0, |at| at + 1)..]
            .iter()
            .filter_map(|change| match change {
                Change::Put(row) => Some(shown(schema, row)),
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

/// A row as the schema of today shows it.
fn shown(schema: &Schema, row: &Row) -> Vec<Value> {
    let default = |column: &Column| match &column.default {
        Some(ColumnDefault::Value(value)) => value.clone(),
        _ => Value::Null,
    };
    schema.columns().iter().map(|column| row.get(&column.id).cloned().unwrap_or_else(|| default(column))).collect()
}

fn overlay(schema: &Schema, older: Vec<Value>, newer: Vec<Value>) -> Vec<Value> {
    let keep = |(column, (old, new)): (&Column, (Value, Value))| {
        if column.semantic == SemanticType::Field && new.is_null() { old } else { new }
    };
    schema.columns().iter().zip(older.into_iter().zip(newer)).map(keep).collect()
}
