//! A DataFusion filter as a test of ours that every accepted row satisfies.
//!
//! Invariants:
//! - *Superset*: a row for which SQL says TRUE satisfies the result. SQL has three truth values and we have
//!   two, and DataFusion orders floats by IEEE's total order (−NaN lowest, −0 < +0) where we have one NaN on
//!   top and one zero; where the two differ, the test is widened or dropped.
//! - NOT is pushed to the leaves first, because the negation of a superset is not a superset.
//! - What cannot be converted is no test at all.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{Expr as DfExpr, Operator};
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::finer_time::is_utc;
use super::value;

/// A test that every row accepted by all of `filters` satisfies.
#[must_use]
pub fn superset(filters: &[DfExpr], schema: &Schema) -> Expr {
    let mut parts: Vec<Expr> = filters.iter().filter_map(|filter| convert(filter, true, schema)).collect();
    match parts.len() {
        1 => parts.remove(0),
        _ => Expr::And(parts),
    }
}

/// Whether the region holds its rows exactly to a filter: conditions on tags alone, or bounds of the time, for which
/// SQL's TRUE is just our true. NULL is never TRUE there and is the lowest value here, so only tests that NULL fails are
/// exact; floats are ordered in two ways.
#[must_use]
pub fn is_exact(filter: &DfExpr, schema: &Schema) -> bool {
    is_time_bound(filter, schema) || is_tag_test(filter, schema)
}

fn is_time_bound(filter: &DfExpr, schema: &Schema) -> bool {
    let is_time = |expr: &DfExpr| plain_column(expr, schema).is_some_and(|column| column.semantic == SemanticType::TimeIndex);
    let bound = |expr: &DfExpr| literal(expr, schema.time_index().data_type).is_some();
    match filter {
        DfExpr::BinaryExpr(binary) if binary.op == Operator::And => {
            is_time_bound(&binary.left, schema) && is_time_bound(&binary.right, schema)
        }
        DfExpr::BinaryExpr(binary) => {
            let known = matches!(binary.op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
            let sides = (is_time(&binary.left) && bound(&binary.right)) || (bound(&binary.left) && is_time(&binary.right));
            known && sides
        }
        DfExpr::Between(between) => !between.negated && is_time(&between.expr) && bound(&between.low) && bound(&between.high),
        _ => false,
    }
}

fn is_tag_test(filter: &DfExpr, schema: &Schema) -> bool {
    let tag = |expr: &DfExpr| {
        let exact = |column: &&Column| !matches!(column.data_type, DataType::Float32 | DataType::Float64);
        plain_column(expr, schema).filter(|column| column.semantic == SemanticType::Tag).filter(exact)
    };
    let test = |column: &DfExpr, value: &DfExpr| tag(column).is_some_and(|column| literal(value, column.data_type).is_some());
    match filter {
        DfExpr::BinaryExpr(binary) => match binary.op {
            Operator::And | Operator::Or => is_tag_test(&binary.left, schema) && is_tag_test(&binary.right, schema),
            Operator::Eq => test(&binary.left, &binary.right) || test(&binary.right, &binary.left),
            Operator::Gt | Operator::GtEq => test(&binary.left, &binary.right),
            Operator::Lt | Operator::LtEq => test(&binary.right, &binary.left),
            _ => false,
        },
        DfExpr::InList(list) => !list.negated && list.list.iter().all(|item| test(&list.expr, item)),
        DfExpr::Between(between) => !between.negated && test(&between.expr, &between.low) && test(&between.expr, &between.high),
        _ => false,
    }
}

fn plain_column<'a>(expr: &DfExpr, schema: &'a Schema) -> Option<&'a Column> {
    match expr {
        DfExpr::Column(column) => schema.column_by_name(&column.name),
        _ => None,
    }
}

/// The value of a literal that is not NULL.
fn literal(expr: &DfExpr, data_type: DataType) -> Option<Value> {
    let DfExpr::Literal(scalar, _) = expr else { return None };
    value::from_scalar(scalar, data_type).filter(|value| !value.is_null())
}

/// A test that holds for every row for which `expr` is TRUE (`wanted`) or FALSE (not `wanted`); `None` if every
/// row may be one.
fn convert(expr: &DfExpr, wanted: bool, schema: &Schema) -> Option<Expr> {
    match expr {
        DfExpr::Alias(alias) => convert(&alias.expr, wanted, schema),
        DfExpr::Not(inner) => convert(inner, !wanted, schema),
        DfExpr::Literal(ScalarValue::Boolean(Some(value)), _) => Some(if *value == wanted { Expr::always() } else { Expr::never() }),
        DfExpr::Literal(scalar, _) if scalar.is_null() => Some(Expr::never()),
        DfExpr::Column(_) => {
            let column = column(expr, schema).filter(|column| column.data_type == DataType::Boolean)?;
            Some(compare(column, CompareOp::Eq, Value::Boolean(wanted)))
        }
        DfExpr::IsNull(inner) => Some(null_test(column(inner, schema)?, wanted)),
        DfExpr::IsNotNull(inner) => Some(null_test(column(inner, schema)?, !wanted)),
        DfExpr::IsTrue(inner) if wanted => convert(inner, true, schema),
        DfExpr::IsFalse(inner) if wanted => convert(inner, false, schema),
        DfExpr::Between(between) => convert_between(between, wanted, schema),
        DfExpr::InList(list) => convert_in(list, wanted, schema),
        DfExpr::BinaryExpr(binary) => match binary.op {
            Operator::And | Operator::Or => {
                let (left, right) = (convert(&binary.left, wanted, schema), convert(&binary.right, wanted, schema));
                if (binary.op == Operator::And) == wanted { all(left, right) } else { any(left?, right?) }
            }
            op => {
                let op = if wanted { compare_op(op)? } else { negate(compare_op(op)?) };
                convert_compare(&binary.left, op, &binary.right, schema)
                    .or_else(|| convert_compare(&binary.right, mirror(op), &binary.left, schema))
            }
        },
        _ => None,
    }
}

fn all(left: Option<Expr>, right: Option<Expr>) -> Option<Expr> {
    match (left, right) {
        (Some(left), Some(right)) => Some(Expr::And(vec![left, right])),
        (one, None) | (None, one) => one,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of `all`, so that the two read alike")]
fn any(left: Expr, right: Expr) -> Option<Expr> {
    Some(Expr::Or(vec![left, right]))
}

fn convert_between(between: &Between, wanted: bool, schema: &Schema) -> Option<Expr> {
    let inside = wanted != between.negated;
    let test = |op, bound| convert_compare(&between.expr, op, bound, schema);
    if inside {
        all(test(CompareOp::GtEq, &between.low), test(CompareOp::LtEq, &between.high))
    } else {
        any(test(CompareOp::Lt, &between.low)?, test(CompareOp::Gt, &between.high)?)
    }
}

fn convert_in(list: &InList, wanted: bool, schema: &Schema) -> Option<Expr> {
    if wanted != list.negated {
        let mut parts = Vec::with_capacity(list.list.len());
        for item in &list.list {
            parts.push(convert_compare(&list.expr, CompareOp::Eq, item, schema)?);
        }
        return Some(merge_equal(parts));
    }
    // An item that has no test only leaves the result wider: each excludes rows on its own.
    let parts = list.list.iter().filter_map(|item| convert_compare(&list.expr, CompareOp::NotEq, item, schema));
    Some(Expr::And(parts.collect()))
}

/// `a = 1 OR a = 2` as `a IN (1, 2)`.
fn merge_equal(parts: Vec<Expr>) -> Expr {
    let mut found = None;
    let mut literals = Vec::with_capacity(parts.len());
    for part in &parts {
        match part {
            Expr::Compare { column, op: CompareOp::Eq, value } if found.is_none_or(|other| other == *column) => {
                found = Some(*column);
                literals.push(value.clone());
            }
            _ => return Expr::Or(parts),
        }
    }
    match found {
        Some(column) => Expr::In { column, values: literals },
        None => Expr::never(),
    }
}

/// The column that an expression is, if it is nothing more.
fn column<'a>(expr: &DfExpr, schema: &'a Schema) -> Option<&'a Column> {
    match expr {
        DfExpr::Column(column) => schema.column_by_name(&column.name),
        DfExpr::Alias(alias) => column(&alias.expr, schema),
        _ => None,
    }
}

fn convert_compare(left: &DfExpr, op: CompareOp, right: &DfExpr, schema: &Schema) -> Option<Expr> {
    let DfExpr::Literal(scalar, _) = right else { return None };
    if let DfExpr::Cast(cast) = left {
        return convert_coarse_time(column(&cast.expr, schema)?, op, scalar, cast.field.data_type());
    }
    let column = column(left, schema)?;
    if scalar.is_null() {
        // A comparison with NULL is neither TRUE nor FALSE.
        return Some(Expr::never());
    }
    let literal = value::from_scalar(scalar, column.data_type)?;
    match literal {
        Value::Float(number) => compare_float(column, op, number),
        literal => Some(compare(column, op, literal)),
    }
}

/// `CAST(ts AS TIMESTAMP(9)) op literal`, as `now()` makes it, in the coarser unit of the column. A cast to a zone that
/// is not UTC makes another instant of a time.
fn convert_coarse_time(column: &Column, op: CompareOp, scalar: &ScalarValue, to: &arrow::datatypes::DataType) -> Option<Expr> {
    let DataType::Timestamp(unit) = column.data_type else { return None };
    let (literal, finer) = value::timestamp(scalar)?;
    let arrow::datatypes::DataType::Timestamp(cast_unit, zone) = to else { return None };
    if !is_utc(zone.as_deref()) || finer.to_arrow() != *cast_unit || finer.per_second() < unit.per_second() {
        return None;
    }
    let floor = Value::Timestamp(literal.div_euclid(finer.per_second() / unit.per_second()));
    match op {
        CompareOp::Lt | CompareOp::LtEq => Some(compare(column, CompareOp::LtEq, floor)),
        CompareOp::Gt | CompareOp::GtEq => Some(compare(column, CompareOp::GtEq, floor)),
        CompareOp::Eq => Some(compare(column, CompareOp::Eq, floor)),
        CompareOp::NotEq => None,
    }
}

fn compare_float(column: &Column, op: CompareOp, number: f64) -> Option<Expr> {
    if number.is_nan() {
        // Which NaN it is matters there and not here; only equality is a test that holds either way.
        return (op == CompareOp::Eq).then(|| compare(column, op, Value::Float(number)));
    }
    let zero = number == 0.0;
    let number = Value::Float(number);
    match op {
        CompareOp::NotEq if zero => None,
        CompareOp::Eq | CompareOp::NotEq | CompareOp::GtEq => Some(compare(column, op, number)),
        CompareOp::Gt => Some(compare(column, if zero { CompareOp::GtEq } else { CompareOp::Gt }, number)),
        CompareOp::Lt | CompareOp::LtEq => {
            let op = if zero { CompareOp::LtEq } else { op };
            any(compare(column, op, number), compare(column, CompareOp::Eq, Value::Float(f64::NAN)))
        }
    }
}

fn compare(column: &Column, op: CompareOp, value: Value) -> Expr {
    Expr::Compare { column: column.id, op, value }
}

fn null_test(column: &Column, null: bool) -> Expr {
    compare(column, if null { CompareOp::Eq } else { CompareOp::NotEq }, Value::Null)
}

fn compare_op(op: Operator) -> Option<CompareOp> {
    Some(match op {
        Operator::Eq => CompareOp::Eq,
        Operator::NotEq => CompareOp::NotEq,
        Operator::Lt => CompareOp::Lt,
        Operator::LtEq => CompareOp::LtEq,
        Operator::Gt => CompareOp::Gt,
        Operator::GtEq => CompareOp::GtEq,
        _ => return None,
    })
}

fn negate(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq => CompareOp::NotEq,
        CompareOp::NotEq => CompareOp::Eq,
        CompareOp::Lt => CompareOp::GtEq,
        CompareOp::LtEq => CompareOp::Gt,
        CompareOp::Gt => CompareOp::LtEq,
        CompareOp::GtEq => CompareOp::Lt,
    }
}

/// The comparison with its sides swapped.
fn mirror(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq | CompareOp::NotEq => op,
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::LtEq => CompareOp::GtEq,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::GtEq => CompareOp::LtEq,
    }
}
