//! The tables of the model test: schemas, values with all their corners, and conditions on them.

use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::naive::default;
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

/// The types of columns that come later.
pub(super) const ADDED: [DataType; 8] = [
    DataType::Int32,
    DataType::String,
    DataType::Float64,
    DataType::UInt16,
    DataType::Date,
    DataType::Decimal { precision: 18, scale: 2 },
    DataType::Float32,
    DataType::Binary,
];

/// The types that a column of [`ADDED`] may get.
pub(super) const WIDER: [DataType; 5] = [
    DataType::Int64,
    DataType::Float64,
    DataType::UInt64,
    DataType::Timestamp(TimeUnit::Second),
    DataType::Decimal { precision: 38, scale: 10 },
];

/// Values of a type; few, so that rows meet.
fn domain(data_type: DataType) -> Vec<Value> {
    let ints = |low, high| [0, 1, 2, 0, 1, 2, -1, low, high].map(Value::Int).to_vec();
    let floats = |least, most| [0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, least, most].map(Value::Float).to_vec();
    match data_type {
        DataType::Boolean => [false, true].map(Value::Boolean).to_vec(),
        DataType::Int32 => ints(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => ints(i64::MIN, i64::MAX),
        DataType::UInt16 | DataType::UInt64 => [0, 1, 2, 0, 1, 2, u16::MAX.into()].map(Value::UInt).to_vec(),
        DataType::Float32 => floats(f32::MIN_POSITIVE.into(), f32::MAX.into()),
        DataType::Float64 => floats(f64::MIN_POSITIVE, f64::MAX),
        DataType::String => {
            let texts = ["a", "b", "c", "", "b\u{0}", "é", "漢字", "🦀", "a'b\"c\\d", "\u{10ffff}"];
            texts.map(|text| Value::String(text.into())).to_vec()
        }
        DataType::Binary => [&[][..], b"a", &[0], &[0, 255], &[255; 70]].map(|bytes| Value::Binary(bytes.to_vec())).to_vec(),
        DataType::Date => [0, 1, 0, 1, -1, i32::MIN, i32::MAX].map(Value::Date).to_vec(),
        DataType::Timestamp(_) => (-4..12).chain([3_600_000, i64::MIN, i64::MAX]).map(Value::Timestamp).collect(),
        DataType::Decimal { precision, .. } => {
            let most = 10_i128.pow(precision.into()) - 1;
            [0, 1, 100, 0, 1, -1, most, -most].map(Value::Decimal).to_vec()
        }
        other => unreachable!("no column of the model is {other}"),
    }
}

/// A value of the column.
pub(super) fn value(column: &Column) -> BoxedStrategy<Value> {
    let some = prop::sample::select(domain(column.data_type));
    match (column.semantic, column.data_type) {
        (SemanticType::TimeIndex, _) => time().prop_map(Value::Timestamp).boxed(),
        (_, DataType::String) => prop_oneof![12 => some, 1 => "[a-z]{0,80}".prop_map(Value::String), 2 => Just(Value::Null)].boxed(),
        _ => prop_oneof![6 => some, 1 => Just(Value::Null)].boxed(),
    }
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![20 => -4..12_i64, 4 => (0..4_i64).prop_map(|hour| hour * 3_600_000), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

/// A value as one of a wider type.
pub(super) fn widened(value: &Value, from: DataType, to: DataType) -> Value {
    if from == to {
        return value.clone();
    }
    match (value, to) {
        (Value::Null, _) => Value::Null,
        (Value::Int(v), DataType::Float64) => Value::Float(*v as f64),
        (Value::UInt(v), DataType::Float64) => Value::Float(*v as f64),
        (Value::UInt(v), DataType::Int64) => Value::Int(v.cast_signed()),
        (Value::Date(v), DataType::Timestamp(TimeUnit::Second)) => Value::Timestamp(i64::from(*v) * 86_400),
        (Value::Decimal(v), DataType::Decimal { scale: 10, .. }) => Value::Decimal(v * 10_i128.pow(8)),
        (Value::Int(_), DataType::Int64) | (Value::UInt(_), DataType::UInt64) | (Value::Float(_), DataType::Float64) => value.clone(),
        _ => unreachable!("no column of the model goes from {from} to {to}"),
    }
}

/// Values for any schema that the first may become: one for each of its first columns, and one for each type of
/// [`ADDED`].
#[derive(Clone)]
pub(super) struct Row {
    first: Vec<Value>,
    added: Vec<Value>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} + {:?}", self.first, self.added)
    }
}

impl Row {
    /// In display order of `schema`.
    pub(super) fn under(&self, schema: &Schema) -> Vec<Value> {
        schema.columns().iter().map(|column| self.of(column)).collect()
    }

    fn of(&self, column: &Column) -> Value {
        let to = column.data_type;
        let value = self.first.get(column.id.0 as usize).cloned().unwrap_or_else(|| {
            let same = ADDED.iter().position(|from| *from == to);
            let at = same.or_else(|| ADDED.iter().position(|from| from.widens_to(to))).unwrap();
            widened(&self.added[at], ADDED[at], to)
        });
        if value.is_null() && !column.nullable { default(column) } else { value }
    }
}

/// A whole row.
pub(super) fn row(schema: &Schema) -> BoxedStrategy<Row> {
    let first = schema.columns().iter().map(value).collect::<Vec<_>>();
    let added = ADDED.map(|data_type| value(&column(100, "added", data_type, SemanticType::Field))).to_vec();
    (first, added).prop_map(|(first, added)| Row { first, added }).boxed()
}

/// Conditions on the columns that there are, whichever these are.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    tests: Vec<Test>,
    /// One of them is enough.
    any: bool,
}

/// The n-th column compared with the m-th value of its type.
#[derive(Debug, Clone)]
struct Test {
    column: usize,
    op: Compare,
    value: usize,
}

#[derive(Debug, Clone)]
enum Compare {
    Is(CompareOp),
    IsNot(CompareOp),
    /// It is the value or this one.
    In(usize),
}

impl Filter {
    pub(super) fn none() -> Self {
        Self { tests: Vec::new(), any: false }
    }

    pub(super) fn under(&self, schema: &Schema) -> Expr {
        let mut parts: Vec<Expr> = self.tests.iter().map(|test| test.under(schema)).collect();
        match (parts.len(), self.any) {
            (0, _) => Expr::always(),
            (1, _) => parts.remove(0),
            (_, true) => Expr::Or(parts),
            (_, false) => Expr::And(parts),
        }
    }
}

impl Test {
    fn under(&self, schema: &Schema) -> Expr {
        let column = &schema.columns()[self.column % schema.columns().len()];
        // Behind those that rows may have: one that lies between them, and NULL.
        let (mut values, absent) = (domain(column.data_type), absent(column.data_type));
        values.extend(absent);
        if column.nullable {
            values.push(Value::Null);
        }
        let value = |nth: usize| values[nth % values.len()].clone();
        let compare = |op| Expr::Compare { column: column.id, op, value: value(self.value) };
        match self.op {
            Compare::Is(op) => compare(op),
            Compare::IsNot(op) => compare(op).negated(),
            Compare::In(other) => Expr::In { column: column.id, values: vec![value(self.value), value(other)] },
        }
    }
}

/// A value that no row has.
fn absent(data_type: DataType) -> Option<Value> {
    match data_type {
        DataType::Int32 | DataType::Int64 => Some(Value::Int(7)),
        DataType::UInt16 | DataType::UInt64 => Some(Value::UInt(7)),
        DataType::Float32 | DataType::Float64 => Some(Value::Float(0.5)),
        DataType::String => Some(Value::String("b\u{1}".into())),
        DataType::Binary => Some(Value::Binary(vec![1])),
        DataType::Date => Some(Value::Date(7)),
        DataType::Timestamp(_) => Some(Value::Timestamp(77)),
        DataType::Decimal { .. } => Some(Value::Decimal(7)),
        _ => None,
    }
}

/// A predicate on any columns.
pub(super) fn filter() -> impl Strategy<Value = Filter> {
    use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let is = || prop::sample::select(vec![Eq, Eq, Eq, NotEq, Lt, LtEq, Gt, GtEq]);
    let op = prop_oneof![6 => is().prop_map(Compare::Is), 1 => is().prop_map(Compare::IsNot), 1 => (0..30_usize).prop_map(Compare::In)];
    let test = (0..30_usize, op, 0..30_usize).prop_map(|(column, op, value)| Test { column, op, value });
    (prop::collection::vec(test, 0..4), any::<bool>()).prop_map(|(tests, any)| Filter { tests, any })
}
