//! The tables of the model test: schemas, and values with all their corners.

use std::sync::Arc;

use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use crate::merge::fixtures::{MS, column};

/// Two tags, the time index and a field of each kind.
pub(super) fn schema() -> Arc<Schema> {
    use SemanticType::{Field, Tag, TimeIndex};
    let columns = vec![
        column(0, "host", DataType::String, Tag),
        column(1, "ts", MS, TimeIndex),
        column(2, "f", DataType::Float64, Field),
        column(3, "rack", DataType::Int32, Tag),
        column(4, "i", DataType::Int64, Field),
        column(5, "s", DataType::String, Field),
        column(6, "b", DataType::Boolean, Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(3), ColumnId(0)]).unwrap())
}

/// A value of the column; small domains, so that keys meet.
pub(super) fn value(column: &Column) -> BoxedStrategy<Value> {
    let values = match (column.semantic, column.data_type) {
        (SemanticType::TimeIndex, _) => return time().prop_map(Value::Timestamp).boxed(),
        (_, DataType::String) => strings(),
        (_, DataType::Int32) => {
            prop_oneof![4 => 0..3_i64, 1 => Just(i64::from(i32::MIN)), 1 => Just(i64::from(i32::MAX))].prop_map(Value::Int).boxed()
        }
        (_, DataType::Int64) => prop_oneof![4 => -2..3_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)].prop_map(Value::Int).boxed(),
        (_, DataType::Float64) => floats(),
        (_, DataType::Boolean) => any::<bool>().prop_map(Value::Boolean).boxed(),
        (_, other) => unreachable!("no column of the model is {other}"),
    };
    prop_oneof![6 => values, 1 => Just(Value::Null)].boxed()
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![20 => -4..12_i64, 4 => (0..4_i64).prop_map(|hour| hour * 3_600_000), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

fn strings() -> BoxedStrategy<Value> {
    let texts = prop::sample::select(vec!["", "a", "b", "c", "b\u{0}", "é", "漢字", "🦀", "a'b\"c\\d", "\u{10ffff}"]);
    prop_oneof![12 => texts.prop_map(str::to_owned), 1 => "[a-z]{0,80}"].prop_map(Value::String).boxed()
}

fn floats() -> BoxedStrategy<Value> {
    let corners = vec![0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX];
    prop::sample::select(corners).prop_map(Value::Float).boxed()
}

/// The types of columns that come later.
pub(super) const ADDED: [DataType; 3] = [DataType::Int32, DataType::String, DataType::Float64];

/// Values for any schema that the first may become: one for each of its first columns, and one for each type of
/// [`ADDED`].
#[derive(Debug, Clone)]
pub(super) struct Row {
    first: Vec<Value>,
    added: Vec<Value>,
}

impl Row {
    /// In display order of `schema`.
    pub(super) fn under(&self, schema: &Schema) -> Vec<Value> {
        let value = |column: &Column| match self.first.get(column.id.0 as usize) {
            Some(value) => value.clone(),
            None => ADDED
                .iter()
                .position(|t| *t == column.data_type || (*t, column.data_type) == (DataType::Int32, DataType::Int64))
                .map_or(Value::Null, |at| self.added[at].clone()),
        };
        schema.columns().iter().map(value).collect()
    }
}

/// A whole row.
pub(super) fn row(schema: &Schema) -> BoxedStrategy<Row> {
    let first = schema.columns().iter().map(value).collect::<Vec<_>>();
    let added = ADDED.map(|data_type| value(&column(100, "added", data_type, SemanticType::Field))).to_vec();
    (first, added).prop_map(|(first, added)| Row { first, added }).boxed()
}

/// A predicate on any columns of the schema.
pub(super) fn filter(schema: &Schema) -> BoxedStrategy<Expr> {
    let columns: Vec<Column> = schema.columns().to_vec();
    let compare = prop::sample::select(columns).prop_flat_map(|column| {
        let ops =
            prop::sample::select(vec![CompareOp::Eq, CompareOp::NotEq, CompareOp::Lt, CompareOp::LtEq, CompareOp::Gt, CompareOp::GtEq]);
        let id = column.id;
        (ops, value(&column)).prop_map(move |(op, value)| Expr::Compare { column: id, op, value })
    });
    let two = (compare.clone(), compare.clone(), any::<bool>()).prop_map(|(a, b, and)| if and { a.and(b) } else { a.or(b) });
    prop_oneof![2 => Just(Expr::always()), 3 => compare, 2 => two].boxed()
}
