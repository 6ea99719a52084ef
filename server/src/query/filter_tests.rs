//! The superset property: DataFusion's own evaluation is the judge.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType as ArrowType, TimeUnit as ArrowUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr as DfExpr, Operator, binary_expr, cast, col, lit};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use tessera_engine::sst::time_bounds;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::filter::{is_exact, superset};
use super::value::value_at;

fn schema() -> Schema {
    let column = |id: u32, name: &str, data_type, semantic| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        semantic,
        nullable: semantic != SemanticType::TimeIndex,
        default: None,
        comment: None,
    };
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(2, "v", DataType::Float64, SemanticType::Field),
        column(3, "n", DataType::Int32, SemanticType::Field),
        column(4, "ok", DataType::Boolean, SemanticType::Field),
    ];
    Schema::new(columns, vec![ColumnId(0)]).unwrap()
}

const FLOATS: [f64; 7] = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1.5, f64::INFINITY, 7.0];

/// Floats with both zeros and both signs of NaN.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![6 => prop::sample::select(&FLOATS[..]), 1 => Just(f64::NAN), 1 => Just(-f64::NAN)]
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(&["", "a", "h", "hz", "z"][..]).prop_map(str::to_owned)
}

fn comparison() -> impl Strategy<Value = Operator> {
    prop::sample::select(&[Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq][..])
}

fn leaf() -> impl Strategy<Value = DfExpr> {
    let strings = (comparison(), prop::option::of(text()), any::<bool>()).prop_map(|(op, value, swap)| {
        let literal = DfExpr::Literal(ScalarValue::Utf8(value), None);
        if swap { binary_expr(literal, op, col("host")) } else { binary_expr(col("host"), op, literal) }
    });
    let floats = (comparison(), prop::option::weighted(0.9, float()))
        .prop_map(|(op, value)| binary_expr(col("v"), op, DfExpr::Literal(ScalarValue::Float64(value), None)));
    let integers = (comparison(), -2_i32..3).prop_map(|(op, value)| binary_expr(col("n"), op, lit(value)));
    let times = (comparison(), -3_i64..4)
        .prop_map(|(op, value)| binary_expr(col("ts"), op, DfExpr::Literal(ScalarValue::TimestampMillisecond(Some(value), None), None)));
    let fine_times = (comparison(), -3_000_001_i64..3_000_002).prop_map(|(op, value)| {
        let fine = arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None);
        binary_expr(cast(col("ts"), fine), op, DfExpr::Literal(ScalarValue::TimestampNanosecond(Some(value), None), None))
    });
    let lists = (prop::collection::vec(prop::option::weighted(0.8, float()), 0..3), any::<bool>()).prop_map(|(values, negated)| {
        let list = values.into_iter().map(|value| DfExpr::Literal(ScalarValue::Float64(value), None)).collect();
        DfExpr::InList(InList::new(Box::new(col("v")), list, negated))
    });
    let between = (float(), float(), any::<bool>()).prop_map(|(low, high, negated)| {
        if negated { col("v").not_between(lit(low), lit(high)) } else { col("v").between(lit(low), lit(high)) }
    });
    let nulls = prop::sample::select(&["host", "v", "n", "ok"][..])
        .prop_flat_map(|name| prop_oneof![Just(col(name).is_null()), Just(col(name).is_not_null())]);
    let unknown = Just(binary_expr(binary_expr(col("n"), Operator::Plus, lit(1)), Operator::Gt, lit(0)));
    prop_oneof![strings, floats, integers, times, fine_times, lists, between, nulls, unknown, Just(col("ok")), Just(lit(true))]
}

fn filter() -> impl Strategy<Value = DfExpr> {
    leaf().prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.clone().prop_map(|a| DfExpr::Not(Box::new(a))),
            inner.clone().prop_map(DfExpr::is_true),
            inner.prop_map(DfExpr::is_not_true),
        ]
    })
}

type Row = (Option<String>, i64, Option<f64>, Option<i32>, Option<bool>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row =
        (prop::option::of(text()), -3_i64..4, prop::option::of(float()), prop::option::of(-2_i32..3), prop::option::of(any::<bool>()));
    prop::collection::vec(row, 1..12)
}

fn batch(rows: &[Row]) -> RecordBatch {
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema().to_arrow(), arrays).unwrap()
}

fn holds(expr: &Expr, row: &[Value]) -> bool {
    let value = |column: &ColumnId| &row[column.0 as usize];
    match expr {
        Expr::And(parts) => parts.iter().all(|part| holds(part, row)),
        Expr::Or(parts) => parts.iter().any(|part| holds(part, row)),
        Expr::Not(inner) => !holds(inner, row),
        Expr::In { column, values } => values.contains(value(column)),
        Expr::Compare { column, op, value: literal } => {
            let order = value(column).cmp(literal);
            match op {
                CompareOp::Eq => order.is_eq(),
                CompareOp::NotEq => order.is_ne(),
                CompareOp::Lt => order.is_lt(),
                CompareOp::LtEq => order.is_le(),
                CompareOp::Gt => order.is_gt(),
                CompareOp::GtEq => order.is_ge(),
            }
        }
    }
}

/// What SQL says of each row.
fn judge(filter: &DfExpr, batch: &RecordBatch) -> BooleanArray {
    let context = SessionContext::new();
    let schema = DFSchema::try_from(batch.schema()).unwrap();
    let physical = context.create_physical_expr(filter.clone(), &schema).unwrap();
    let result = physical.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap();
    result.as_any().downcast_ref::<BooleanArray>().unwrap().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_row_that_sql_accepts_satisfies_the_pushed_filter(filter in filter(), rows in rows()) {
        let schema = schema();
        let pushed = superset(std::slice::from_ref(&filter), &schema);
        let batch = batch(&rows);
        let accepted = judge(&filter, &batch);
        for row in 0..batch.num_rows() {
            let values: Vec<Value> =
                schema.columns().iter().enumerate().map(|(at, c)| value_at(batch.column(at), row, c.data_type)).collect();
            let sql = accepted.is_valid(row) && accepted.value(row);
            prop_assert!(!sql || holds(&pushed, &values), "{filter} accepts {values:?}, {pushed:?} does not");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn sql_accepts_every_row_that_an_exact_filter_lets_through(filter in key_filter(), rows in rows()) {
        let schema = schema();
        let batch = batch(&rows);
        let accepted = judge(&filter, &batch);
        if !is_exact(&filter, &schema) {
            return Ok(());
        }
        let pushed = superset(std::slice::from_ref(&filter), &schema);
        let tags_only = |part: &Expr| part.columns().iter().all(|column| *column == ColumnId(0));
        let parts = match &pushed {
            Expr::And(parts) => parts.clone(),
            one => vec![one.clone()],
        };
        let bounds = time_bounds(&pushed, ColumnId(1));
        for (row, of) in rows.iter().enumerate() {
            let values: Vec<Value> =
                schema.columns().iter().enumerate().map(|(at, c)| value_at(batch.column(at), row, c.data_type)).collect();
            let within = (bounds.0..=bounds.1).contains(&of.1);
            let through = within && parts.iter().filter(|part| tags_only(part)).all(|part| holds(part, &values));
            prop_assert_eq!(through, accepted.is_valid(row) && accepted.value(row), "{} on {:?}", filter, values);
        }
    }
}

/// Filters over tag and time, many of which are exact.
fn key_filter() -> impl Strategy<Value = DfExpr> {
    let text_literal = || prop::option::weighted(0.9, text()).prop_map(|value| DfExpr::Literal(ScalarValue::Utf8(value), None));
    let time_literal = || (-3_i64..4).prop_map(|value| DfExpr::Literal(ScalarValue::TimestampMillisecond(Some(value), None), None));
    let tag = (comparison(), text_literal(), any::<bool>())
        .prop_map(|(op, value, swap)| if swap { binary_expr(value, op, col("host")) } else { binary_expr(col("host"), op, value) });
    let time = (comparison(), time_literal(), any::<bool>())
        .prop_map(|(op, value, swap)| if swap { binary_expr(value, op, col("ts")) } else { binary_expr(col("ts"), op, value) });
    let list = (prop::collection::vec(text_literal(), 0..3), any::<bool>())
        .prop_map(|(list, negated)| DfExpr::InList(InList::new(Box::new(col("host")), list, negated)));
    let between = (time_literal(), time_literal()).prop_map(|(low, high)| col("ts").between(low, high));
    let tags = (text_literal(), text_literal()).prop_map(|(low, high)| col("host").between(low, high));
    prop_oneof![tag, time, list, between, tags].prop_recursive(2, 6, 2, |inner| {
        prop_oneof![(inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)), (inner.clone(), inner).prop_map(|(a, b)| a.or(b)),]
    })
}

#[test]
fn a_simple_filter_is_pushed_exactly() {
    let schema = schema();
    let compare = |column, op, value| Expr::Compare { column: ColumnId(column), op, value };
    let filter = col("host").eq(lit("a"));
    assert_eq!(superset(&[filter], &schema), compare(0, CompareOp::Eq, Value::String("a".into())));
    let filter = lit(3_i32).gt_eq(col("n"));
    assert_eq!(superset(&[filter], &schema), compare(3, CompareOp::LtEq, Value::Int(3)));
    let filter = col("host").in_list(vec![lit("a"), lit("b")], false);
    let values = vec![Value::String("a".into()), Value::String("b".into())];
    assert_eq!(superset(&[filter], &schema), Expr::In { column: ColumnId(0), values });
}

#[test]
fn not_is_pushed_to_the_leaves_before_anything_is_dropped() {
    let schema = schema();
    let unknown = binary_expr(binary_expr(col("n"), Operator::Plus, lit(1)), Operator::Gt, lit(0));
    // NOT (n > 1 AND unknown) may hold whatever n is.
    let filter = DfExpr::Not(Box::new(col("n").gt(lit(1)).and(unknown.clone())));
    assert_eq!(superset(&[filter], &schema), Expr::always());
    // NOT (n > 1 OR unknown) holds only where n <= 1.
    let filter = DfExpr::Not(Box::new(col("n").gt(lit(1)).or(unknown)));
    assert_eq!(superset(&[filter], &schema), Expr::Compare { column: ColumnId(3), op: CompareOp::LtEq, value: Value::Int(1) });
}

#[test]
fn a_time_that_a_cast_makes_another_instant_is_not_pushed() {
    let after = |zone: &str| {
        let to = ArrowType::Timestamp(ArrowUnit::Nanosecond, Some(zone.into()));
        let filter = cast(col("ts"), to).gt_eq(lit(ScalarValue::TimestampNanosecond(Some(5_000_000), Some(zone.into()))));
        superset(&[filter], &schema())
    };
    assert_eq!(after("+00:00"), Expr::Compare { column: ColumnId(1), op: CompareOp::GtEq, value: Value::Timestamp(5) });
    assert_eq!(after("+01:00"), Expr::always());
}
