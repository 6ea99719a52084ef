//! From one version of a schema to the next.
//!
//! Invariants:
//! - Every value of a type survives its widening exactly, in the same order; what is not exact is refused.
//! - A column keeps its id, its purpose and its default for life: rows that were written before a column was added
//!   have its default, so a default that changed would change them.
//! - The key of a row is fixed: key columns are neither dropped nor modified, and a new tag comes last in the key,
//!   where one value for all older rows leaves their order as it is.

use super::{Column, ColumnDefault, Schema, SchemaError, SemanticType};
use crate::id::ColumnId;
use crate::value::{DataType, TimeUnit, Value};

/// Where an added column is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// After all others.
    Last,
    /// Before all others.
    First,
    /// After the column of this name.
    After(String),
}

/// One change of a table's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnChange {
    /// A new column; its id is given by the schema, whatever the column says.
    Add {
        /// The column.
        column: Column,
        /// Where it is shown.
        place: Place,
    },
    /// A column goes; its id is never given again.
    Drop {
        /// Its name.
        name: String,
    },
    /// A column gets a wider type.
    Modify {
        /// Its name.
        name: String,
        /// The type that it gets.
        data_type: DataType,
    },
}

/// Why a schema cannot become another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvolveError {
    /// There is no such column.
    #[error("there is no column '{column}'")]
    NoColumn {
        /// The name.
        column: String,
    },
    /// A column that rows are found by.
    #[error("column '{column}' is part of the key or of the partition rules and cannot be {verb}")]
    KeyColumn {
        /// The column.
        column: String,
        /// What was asked: dropped, modified.
        verb: &'static str,
    },
    /// A type that does not hold every value of the present one.
    #[error("column '{column}' cannot go from {from} to {to}: {to} does not hold every value of {from} exactly")]
    NotWidening {
        /// The column.
        column: String,
        /// Its type.
        from: DataType,
        /// The type asked for.
        to: DataType,
    },
    /// A column that may not be NULL needs a value for the rows that there are.
    #[error("column '{column}' is NOT NULL and needs a constant DEFAULT for the rows that there are")]
    NeedsDefault {
        /// The column.
        column: String,
    },
    /// A second time index.
    #[error("column '{column}' cannot be a time index: a table has one for life")]
    TimeIndex {
        /// The column.
        column: String,
    },
    /// The later schema is not made from the earlier one.
    #[error("schema version {to} does not follow from version {from}: {detail}")]
    NotASuccessor {
        /// The earlier version.
        from: u32,
        /// The later version.
        to: u32,
        /// What cannot be.
        detail: String,
    },
    /// The result is no schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl DataType {
    /// Whether every value of this type is a value of `to`, exactly and in the same order. A type widens to itself.
    ///
    /// Timestamps do not widen to a finer unit: the finer one ends earlier (nanoseconds in the year 2262).
    #[must_use]
    pub fn widens_to(self, to: Self) -> bool {
        use DataType as T;
        match (self, to) {
            (from, to) if from == to => true,
            (T::Int8, T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
            | (T::Int16, T::Int32 | T::Int64 | T::Float32 | T::Float64)
            | (T::Int32, T::Int64 | T::Float64)
            | (T::UInt8, T::UInt16 | T::UInt32 | T::UInt64 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
            | (T::UInt16, T::UInt32 | T::UInt64 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
            | (T::UInt32, T::UInt64 | T::Int64 | T::Float64)
            | (T::Float32, T::Float64)
            | (T::Date, T::Timestamp(TimeUnit::Second | TimeUnit::Millisecond)) => true,
            (T::Decimal { precision, scale }, T::Decimal { precision: wider, scale: finer }) => {
                finer >= scale && wider.saturating_sub(finer) >= precision - scale
            }
            _ => false,
        }
    }
}

/// A value of a type as a value of a wider one.
fn widen_value(value: &Value, from: DataType, to: DataType) -> Value {
    let exact = |v: i64| match to {
        DataType::Float32 | DataType::Float64 => Value::Float(v as f64),
        DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Value::UInt(v.unsigned_abs()),
        _ => Value::Int(v),
    };
    match (value, from, to) {
        (Value::Int(v), ..) => exact(*v),
        // Of the unsigned types only those below 64 bits widen to another kind.
        (Value::UInt(v), ..) if to != DataType::UInt64 => exact(i64::try_from(*v).unwrap_or(i64::MAX)),
        (Value::Date(days), _, DataType::Timestamp(unit)) => Value::Timestamp(i64::from(*days) * 86_400 * unit.per_second()),
        (Value::Decimal(v), DataType::Decimal { scale, .. }, DataType::Decimal { scale: finer, .. }) => {
            Value::Decimal(v * 10_i128.pow(u32::from(finer - scale)))
        }
        (other, ..) => other.clone(),
    }
}

impl Schema {
    /// The next version, after these changes in order. Without changes it differs in its version alone: that of a
    /// table whose name or options change.
    ///
    /// # Errors
    /// The first change that cannot be.
    pub fn evolve(&self, changes: &[ColumnChange], partition_columns: &[ColumnId]) -> Result<Self, EvolveError> {
        let mut next = self.clone();
        for change in changes {
            match change {
                ColumnChange::Add { column, place } => next.add(column, place)?,
                ColumnChange::Drop { name } => {
                    let at = next.changeable(name, partition_columns, "dropped")?;
                    next.columns.remove(at);
                }
                ColumnChange::Modify { name, data_type } => next.modify(name, *data_type, partition_columns)?,
            }
        }
        Ok(Self::with_version(self.version.saturating_add(1), next.columns, next.primary_key, next.next_column_id)?)
    }

    fn named(&self, name: &str) -> Result<usize, EvolveError> {
        let at = self.columns.iter().position(|column| column.name == name);
        at.ok_or_else(|| EvolveError::NoColumn { column: name.to_owned() })
    }

    /// The position of a field that no partition rule uses.
    fn changeable(&self, name: &str, partition_columns: &[ColumnId], verb: &'static str) -> Result<usize, EvolveError> {
        let at = self.named(name)?;
        let column = &self.columns[at];
        if column.semantic != SemanticType::Field || partition_columns.contains(&column.id) {
            return Err(EvolveError::KeyColumn { column: name.to_owned(), verb });
        }
        Ok(at)
    }

    fn add(&mut self, column: &Column, place: &Place) -> Result<(), EvolveError> {
        let mut column = column.clone();
        column.id = self.next_column_id;
        if let Some(taken) = self.column_by_name(&column.name) {
            return Err(SchemaError::DuplicateName { column: taken.name.clone() }.into());
        }
        check_added(&column)?;
        let used_up = || SchemaError::BadId { column: column.name.clone(), id: column.id };
        let next = column.id.0.checked_add(1).ok_or_else(used_up)?;
        let at = match place {
            Place::Last => self.columns.len(),
            Place::First => 0,
            Place::After(name) => self.named(name)? + 1,
        };
        if column.semantic == SemanticType::Tag {
            self.primary_key.push(column.id);
        }
        self.columns.insert(at, column);
        self.next_column_id = ColumnId(next);
        Ok(())
    }

    fn modify(&mut self, name: &str, to: DataType, partition_columns: &[ColumnId]) -> Result<(), EvolveError> {
        let at = self.changeable(name, partition_columns, "modified")?;
        let column = &mut self.columns[at];
        let from = column.data_type;
        if !from.widens_to(to) {
            return Err(EvolveError::NotWidening { column: name.to_owned(), from, to });
        }
        if let Some(ColumnDefault::Value(value)) = &mut column.default {
            *value = widen_value(value, from, to);
        }
        column.data_type = to;
        Ok(())
    }

    /// That `next` is a later version of this schema, so that whatever was written under this one can be read under
    /// it. Several steps may lie between them.
    ///
    /// # Errors
    /// What breaks an invariant of the module.
    pub fn check_successor(&self, next: &Self) -> Result<(), EvolveError> {
        let no = |detail: String| Err(EvolveError::NotASuccessor { from: self.version, to: next.version, detail });
        if next.version <= self.version || next.next_column_id < self.next_column_id {
            return no("the version or the next column id does not grow".to_owned());
        }
        if !next.primary_key.starts_with(&self.primary_key) {
            return no("the primary key is another".to_owned());
        }
        for column in &self.columns {
            if column.semantic != SemanticType::Field && next.column(column.id).is_none() {
                return no(format!("key column '{}' is gone", column.name));
            }
        }
        for column in &next.columns {
            match self.column(column.id) {
                Some(old) if !follows(old, column) => return no(format!("column '{}' changed in a way that it may not", column.name)),
                Some(_) => {}
                None if column.id < self.next_column_id => return no(format!("column '{}' has the id of a dropped one", column.name)),
                None => check_added(column)?,
            }
        }
        Ok(())
    }
}

/// Whether a column may be this one later on.
fn follows(old: &Column, new: &Column) -> bool {
    let same_type = old.data_type == new.data_type;
    let widened = old.semantic == SemanticType::Field && old.data_type.widens_to(new.data_type);
    let default = match (&old.default, &new.default) {
        (Some(ColumnDefault::Value(old_value)), Some(ColumnDefault::Value(value))) => {
            widen_value(old_value, old.data_type, new.data_type) == *value
        }
        (old, new) => old == new,
    };
    (same_type || widened) && default && old.semantic == new.semantic && old.nullable == new.nullable
}

/// That rows which were written before the column was added have a value in it.
fn check_added(column: &Column) -> Result<(), EvolveError> {
    let name = column.name.clone();
    if column.semantic == SemanticType::TimeIndex {
        return Err(EvolveError::TimeIndex { column: name });
    }
    let constant = matches!(&column.default, Some(ColumnDefault::Value(value)) if !value.is_null());
    if column.nullable || constant { Ok(()) } else { Err(EvolveError::NeedsDefault { column: name }) }
}

#[cfg(test)]
mod tests;
