//! The schema of a table, as every one of its regions records it.
//!
//! Invariants (checked by [`Schema::new`], on construction and on decoding alike):
//! - exactly one time index, a timestamp, not nullable;
//! - column ids and names are unique, and every id is below `next_column_id`, which never goes back, so that
//!   a dropped column's id is never given to another;
//! - `primary_key` lists exactly the tag columns, in key order, each once.

mod evolve;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::id::ColumnId;
use crate::limits;
use crate::value::{DataType, Value};

pub use evolve::{ColumnChange, EvolveError, Place};

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SemanticType {
    /// Part of the primary key: names a series.
    Tag,
    /// A measured value.
    Field,
    /// When it was measured; together with the tags it is a row's key.
    TimeIndex,
}

/// What a row gets in a column that a write leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    /// This value.
    Value(Value),
    /// The time at which the statement is planned.
    CurrentTimestamp,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its identity, whatever it is called.
    pub id: ColumnId,
    /// What users call it.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
    /// What it is for.
    pub semantic: SemanticType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What fills it when a write leaves it out; NULL (or an error, if not nullable) without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ColumnDefault>,
    /// The user's remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Why a schema cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There must be one time index.
    #[error("a table needs exactly one time index column, found {found}")]
    TimeIndexCount {
        /// How many there are.
        found: usize,
    },
    /// The time index is of another type.
    #[error("time index column '{column}' must be a timestamp, not {data_type}")]
    TimeIndexType {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The time index must not be nullable.
    #[error("time index column '{column}' must be NOT NULL")]
    TimeIndexNullable {
        /// The column.
        column: String,
    },
    /// Two columns share a name.
    #[error("column '{column}' is defined twice")]
    DuplicateName {
        /// The name.
        column: String,
    },
    /// Two columns share an id, or an id is not below the next one.
    #[error("column id {id} of '{column}' is used twice or not below the next column id")]
    BadId {
        /// The column.
        column: String,
        /// Its id.
        id: ColumnId,
    },
    /// The primary key does not list exactly the tags.
    #[error("the primary key must list every tag column once and nothing else; '{column}' breaks that")]
    PrimaryKey {
        /// The offending column's name or id.
        column: String,
    },
    /// A default does not fit its column.
    #[error("the default of column '{column}' does not fit its type {data_type}")]
    DefaultType {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A name that is empty, too long or kept for internal columns.
    #[error("'{column}' cannot be a column name: a name has 1 to {max} bytes and does not start with '__'", max = limits::NAME_BYTES_MAX)]
    BadName {
        /// The name.
        column: String,
    },
    /// More columns than a table may have.
    #[error("a table has at most {max} columns, not {found}", max = limits::COLUMNS_MAX)]
    TooManyColumns {
        /// How many there are.
        found: usize,
    },
}

/// The columns of a table and what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSchema", into = "RawSchema")]
pub struct Schema {
    version: u32,
    columns: Vec<Column>,
    primary_key: Vec<ColumnId>,
    next_column_id: ColumnId,
}

/// The serialized form, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchema {
    version: u32,
    columns: Vec<Column>,
    primary_key: Vec<ColumnId>,
    next_column_id: ColumnId,
}

impl TryFrom<RawSchema> for Schema {
    type Error = SchemaError;
    fn try_from(raw: RawSchema) -> Result<Self, SchemaError> {
        let RawSchema { version, columns, primary_key, next_column_id } = raw;
        Self::with_version(version, columns, primary_key, next_column_id)
    }
}

impl From<Schema> for RawSchema {
    fn from(schema: Schema) -> Self {
        let Schema { version, columns, primary_key, next_column_id } = schema;
        Self { version, columns, primary_key, next_column_id }
    }
}

impl Schema {
    /// A first schema (version 1) of `columns` in display order, with `primary_key` in key order.
    ///
    /// # Errors
    /// What breaks an invariant of the module.
    pub fn new(columns: Vec<Column>, primary_key: Vec<ColumnId>) -> Result<Self, SchemaError> {
        let next = columns.iter().map(|c| c.id.0.saturating_add(1)).max().unwrap_or(0);
        Self::with_version(1, columns, primary_key, ColumnId(next))
    }

    fn with_version(version: u32, columns: Vec<Column>, primary_key: Vec<ColumnId>, next_column_id: ColumnId) -> Result<Self, SchemaError> {
        if columns.len() > limits::COLUMNS_MAX {
            return Err(SchemaError::TooManyColumns { found: columns.len() });
        }
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for column in &columns {
            check_column(column)?;
            if !names.insert(column.name.as_str()) {
                return Err(SchemaError::DuplicateName { column: column.name.clone() });
            }
            if column.id >= next_column_id || !ids.insert(column.id) {
                return Err(SchemaError::BadId { column: column.name.clone(), id: column.id });
            }
        }
        let found = columns.iter().filter(|c| c.semantic == SemanticType::TimeIndex).count();
        if found != 1 {
            return Err(SchemaError::TimeIndexCount { found });
        }
        check_primary_key(&columns, &primary_key)?;
        Ok(Self { version, columns, primary_key, next_column_id })
    }

    /// Grows by one with each change.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The columns in display order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The tag columns in key order.
    #[must_use]
    pub fn primary_key(&self) -> &[ColumnId] {
        &self.primary_key
    }

    /// The tag columns in key order, as columns.
    pub fn tags(&self) -> impl Iterator<Item = &Column> {
        self.primary_key.iter().filter_map(|id| self.column(*id))
    }

    /// The id that the next added column gets.
    #[must_use]
    pub fn next_column_id(&self) -> ColumnId {
        self.next_column_id
    }

    /// The column with this id.
    #[must_use]
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// The column with this name, exactly as written.
    #[must_use]
    pub fn column_by_name(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The position of this column in display order.
    #[must_use]
    pub fn position(&self, id: ColumnId) -> Option<usize> {
        self.columns.iter().position(|c| c.id == id)
    }

    /// The time index column.
    #[must_use]
    pub fn time_index(&self) -> &Column {
        let time_index = self.columns.iter().find(|c| c.semantic == SemanticType::TimeIndex);
        time_index.expect("a schema is only built with exactly one time index")
    }

    /// The Arrow schema of a batch with all columns in display order.
    #[must_use]
    pub fn to_arrow(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(Column::to_arrow).collect();
        Arc::new(ArrowSchema::new(fields))
    }
}

impl Column {
    /// The Arrow field of this column.
    #[must_use]
    pub fn to_arrow(&self) -> Field {
        Field::new(&self.name, self.data_type.to_arrow(), self.nullable)
    }
}

fn check_column(column: &Column) -> Result<(), SchemaError> {
    let name = column.name.clone();
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.starts_with("__") {
        return Err(SchemaError::BadName { column: name });
    }
    if column.semantic == SemanticType::TimeIndex {
        if !matches!(column.data_type, DataType::Timestamp(_)) {
            return Err(SchemaError::TimeIndexType { column: name, data_type: column.data_type });
        }
        if column.nullable {
            return Err(SchemaError::TimeIndexNullable { column: name });
        }
    }
    let fits = match &column.default {
        None => true,
        Some(ColumnDefault::Value(value)) => column.data_type.accepts(value) && (column.nullable || !value.is_null()),
        Some(ColumnDefault::CurrentTimestamp) => matches!(column.data_type, DataType::Timestamp(_)),
    };
    if fits { Ok(()) } else { Err(SchemaError::DefaultType { column: name, data_type: column.data_type }) }
}

fn check_primary_key(columns: &[Column], primary_key: &[ColumnId]) -> Result<(), SchemaError> {
    let mut seen = BTreeSet::new();
    for id in primary_key {
        let column = columns.iter().find(|c| c.id == *id);
        let is_tag = column.is_some_and(|c| c.semantic == SemanticType::Tag);
        if !is_tag || !seen.insert(*id) {
            let column = column.map_or_else(|| format!("column id {id}"), |c| c.name.clone());
            return Err(SchemaError::PrimaryKey { column });
        }
    }
    let missing = columns.iter().find(|c| c.semantic == SemanticType::Tag && !seen.contains(&c.id));
    missing.map_or(Ok(()), |c| Err(SchemaError::PrimaryKey { column: c.name.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::TimeUnit;

    fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
        let nullable = semantic != SemanticType::TimeIndex;
        Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
    }

    fn cpu() -> Vec<Column> {
        vec![
            column(0, "host", DataType::String, SemanticType::Tag),
            column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
            column(2, "usage", DataType::Float64, SemanticType::Field),
        ]
    }

    #[test]
    fn a_sound_schema_survives_json() {
        let schema = Schema::new(cpu(), vec![ColumnId(0)]).unwrap();
        let text = serde_json::to_string(&schema).unwrap();
        assert_eq!(serde_json::from_str::<Schema>(&text).unwrap(), schema);
        assert_eq!(schema.time_index().name, "ts");
        assert_eq!(schema.next_column_id(), ColumnId(3));
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let mut twice = cpu();
        twice[2].name = "host".into();
        assert_eq!(Schema::new(twice, vec![ColumnId(0)]), Err(SchemaError::DuplicateName { column: "host".into() }));
        let mut no_time = cpu();
        no_time.remove(1);
        assert_eq!(Schema::new(no_time, vec![ColumnId(0)]), Err(SchemaError::TimeIndexCount { found: 0 }));
        assert_eq!(Schema::new(cpu(), vec![]), Err(SchemaError::PrimaryKey { column: "host".into() }));
        assert_eq!(Schema::new(cpu(), vec![ColumnId(0), ColumnId(2)]), Err(SchemaError::PrimaryKey { column: "usage".into() }));
        let mut bad_default = cpu();
        bad_default[2].default = Some(ColumnDefault::Value(Value::Int(1)));
        assert!(matches!(Schema::new(bad_default, vec![ColumnId(0)]), Err(SchemaError::DefaultType { .. })));
        let mut internal = cpu();
        internal[2].name = "__sequence".into();
        assert!(matches!(Schema::new(internal, vec![ColumnId(0)]), Err(SchemaError::BadName { .. })));
    }
}
