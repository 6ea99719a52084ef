//! Tests of the rules against brute force: a small set of points that has at least one in every cell that the
//! literals of the generated rules can make.

mod algebra;
mod batch;
mod coverage;
mod text;

use proptest::prelude::*;

use super::*;
use crate::schema::{Column, SemanticType};
use crate::value::TimeUnit;

const I: ColumnId = ColumnId(0);
const F: ColumnId = ColumnId(1);
const S: ColumnId = ColumnId(2);
const B: ColumnId = ColumnId(3);

fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

/// Four columns that the generated rules are about, and a column of each other type.
fn schema() -> Schema {
    let types = [
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::String),
        ("Is", DataType::Boolean),
        ("ts", DataType::Timestamp(TimeUnit::Millisecond)),
        ("tiny", DataType::Int8),
        ("u", DataType::UInt64),
        ("f32", DataType::Float32),
        ("bin", DataType::Binary),
        ("date", DataType::Date),
        ("dec", DataType::Decimal { precision: 10, scale: 2 }),
        ("two words", DataType::UInt16),
        ("ns", DataType::Timestamp(TimeUnit::Nanosecond)),
    ];
    let semantic = |i| if i == 4 { SemanticType::TimeIndex } else { SemanticType::Field };
    let columns = types.into_iter().enumerate().map(|(i, (name, t))| column(i as u32, name, t, semantic(i))).collect();
    Schema::new(columns, vec![]).unwrap()
}

fn text(s: &str) -> Value {
    Value::String(s.into())
}

fn literals(id: ColumnId) -> Vec<Value> {
    match id {
        I => [i64::MIN, 0, 1, 3, i64::MAX].map(Value::Int).into_iter().chain([Value::Null]).collect(),
        F => {
            let floats = [f64::NEG_INFINITY, -0.0, 0.0, 1.0, 1.0_f64.next_up(), f64::INFINITY, f64::NAN];
            floats.map(Value::Float).into_iter().chain([Value::Null]).collect()
        }
        S => ["", "a", "a\0", "b"].map(text).into_iter().chain([Value::Null]).collect(),
        _ => vec![Value::Null, Value::Boolean(false), Value::Boolean(true)],
    }
}

/// At least one value of every cell that the literals can make.
fn points(id: ColumnId) -> Vec<Value> {
    let mut points = literals(id);
    match id {
        I => points.extend([-1, 2, 4].map(Value::Int)),
        F => points.extend([-1.0, 0.5, 2.0].map(Value::Float)),
        S => points.extend(["A", "aa", "c"].map(text)),
        _ => {}
    }
    points.sort();
    points.dedup();
    points
}

type Row = [Value; 4];

fn rows_of(columns: &[ColumnId]) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![[Value::Null, Value::Null, Value::Null, Value::Null]];
    for column in columns {
        let extend = |row: Row| {
            points(*column).into_iter().map(move |value| {
                let mut row = row.clone();
                row[column.0 as usize] = value;
                row
            })
        };
        rows = rows.into_iter().flat_map(extend).collect();
    }
    rows
}

/// A row of every box that rules over these columns can tell apart.
fn all_rows(exprs: &[&Expr]) -> Vec<Row> {
    let columns: BTreeSet<ColumnId> = exprs.iter().flat_map(|e| e.columns()).collect();
    rows_of(&columns.into_iter().collect::<Vec<_>>())
}

fn holds(expr: &Expr, row: &Row) -> bool {
    expr.matches(|id| &row[id.0 as usize])
}

fn any_column() -> impl Strategy<Value = ColumnId> {
    prop_oneof![4 => Just(I), 3 => Just(F), 2 => Just(S), 1 => Just(B)]
}

fn any_op() -> impl Strategy<Value = CompareOp> {
    use CompareOp::*;
    prop::sample::select(vec![Eq, NotEq, Lt, LtEq, Gt, GtEq])
}

fn any_leaf() -> impl Strategy<Value = Expr> {
    let compare = any_column().prop_flat_map(|column| {
        let value = prop::sample::select(literals(column));
        (any_op(), value).prop_map(move |(op, value)| Expr::Compare { column, op, value })
    });
    let list = any_column().prop_flat_map(|column| {
        let values = prop::collection::vec(prop::sample::select(literals(column)), 0..4);
        values.prop_map(move |values| Expr::In { column, values })
    });
    prop_oneof![3 => compare, 1 => list]
}

fn any_expr() -> impl Strategy<Value = Expr> {
    any_leaf().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expr::Or),
            inner.prop_map(Expr::negated),
        ]
    })
}

fn rule(text: &str) -> Expr {
    parse(text, &schema()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn shown(expr: &Expr) -> String {
    expr.display(&schema()).to_string()
}
