//! Comparisons of timestamps with constants of a finer unit.
//!
//! A TIMESTAMP(3) is compared with a constant of nanoseconds by casting the column. DataFusion then moves the cast to
//! the constant and cuts its digits off: `ts >= 00:00:00.0005` would become `ts >= 00:00:00.000`, which is true for
//! rows that SQL refuses. The rules here are applied before that and leave nothing to cut:
//!
//! | comparison, f = constant rounded down | becomes |
//! |---|---|
//! | `<`, `<=` | `<= f` |
//! | `>`, `>=` | `> f` |
//! | `=` | false, NULL for NULL |
//! | `!=` | true, NULL for NULL |
//!
//! Invariant: every rewritten comparison has the truth value, NULL included, that it had before.

use std::sync::Arc;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType as ArrowType, TimeUnit as ArrowUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, binary_expr, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};

use super::value;

/// Rewrites comparisons of a cast timestamp with a constant that its own unit cannot express. Must run before the rule
/// that unwraps casts.
#[derive(Debug)]
pub struct FinerTime;

impl OptimizerRule for FinerTime {
    fn name(&self) -> &'static str {
        "finer_time"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if matches!(plan, LogicalPlan::Values(_)) {
            return Ok(Transformed::no(plan));
        }
        let context = SimplifyContext::builder()
            .with_schema(schema_below(&plan)?)
            .with_config_options(config.options())
            .with_query_execution_start_time(config.query_execution_start_time())
            .build();
        each_expr(plan, |expr| rewrite(expr, &context))
    }
}

/// Reads texts that are compared with a timestamp as nanoseconds where they have more digits than its unit; else the
/// coercion to the column's type would cut them off. Must run before type coercion.
#[derive(Debug)]
pub struct FinerText;

impl AnalyzerRule for FinerText {
    fn name(&self) -> &'static str {
        "finer_text"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let analyzed = plan.transform_up_with_subqueries(|plan| {
            if matches!(plan, LogicalPlan::Values(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = schema_below(&plan)?;
            each_expr(plan, |expr| Ok(read_texts(expr, &schema)))
        });
        Ok(analyzed?.data)
    }
}

fn each_expr(plan: LogicalPlan, mut change: impl FnMut(Expr) -> Result<Transformed<Expr>>) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(&mut change)?;
        Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
    })
}

/// The columns that the expressions of a plan node may name.
fn schema_below(plan: &LogicalPlan) -> Result<DFSchemaRef> {
    if !plan.inputs().is_empty() {
        return Ok(Arc::new(merge_schema(&plan.inputs())));
    }
    if let LogicalPlan::TableScan(scan) = plan {
        // Not the projected one: filters in the scan may name columns that it leaves out.
        return Ok(Arc::new(DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?));
    }
    Ok(Arc::new(DFSchema::empty()))
}

fn read_texts(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let read = |of: &Expr, text: &mut Expr| -> bool {
        let Some(nanos) = finer_text(of, text, schema) else { return false };
        *text = lit(nanos);
        true
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if comparison(op) => {
            let changed = read(&left, &mut right) || read(&right, &mut left);
            Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
        }
        Expr::Between(mut between) => {
            let low = read(&between.expr, &mut between.low);
            let high = read(&between.expr, &mut between.high);
            Transformed::new_transformed(Expr::Between(between), low || high)
        }
        Expr::InList(mut list) => {
            let mut changed = false;
            for item in &mut list.list {
                changed |= read(&list.expr, item);
            }
            Transformed::new_transformed(Expr::InList(list), changed)
        }
        other => Transformed::no(other),
    }
}

/// The instant of a text that is compared with `of`, if `of` is a timestamp whose unit cannot express it.
fn finer_text(of: &Expr, text: &Expr, schema: &DFSchema) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)), _) = text
    else {
        return None;
    };
    let ArrowType::Timestamp(unit, zone) = of.get_type(schema).ok()? else { return None };
    let nanos = is_utc(zone.as_deref()).then(|| string_to_timestamp_nanos(text).ok())??;
    let step = 1_000_000_000 / per_second(unit);
    (nanos % step != 0).then(|| ScalarValue::TimestampNanosecond(Some(nanos), zone))
}

fn comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn rewrite(expr: Expr, context: &SimplifyContext) -> Result<Transformed<Expr>> {
    let rewritten = match &expr {
        Expr::BinaryExpr(binary) if comparison(binary.op) => compare(&binary.left, binary.op, &binary.right, context)?,
        Expr::Between(between) => rewrite_between(between, context)?,
        Expr::InList(list) => rewrite_list(list, context)?,
        _ => None,
    };
    Ok(rewritten.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn rewrite_between(between: &Between, context: &SimplifyContext) -> Result<Option<Expr>> {
    let (low_op, high_op) = if between.negated { (Operator::Lt, Operator::Gt) } else { (Operator::GtEq, Operator::LtEq) };
    let low = compare(&between.expr, low_op, &between.low, context)?;
    let high = compare(&between.expr, high_op, &between.high, context)?;
    if low.is_none() && high.is_none() {
        return Ok(None);
    }
    let plain = |op, bound: &Expr| binary_expr(between.expr.as_ref().clone(), op, bound.clone());
    let low = low.unwrap_or_else(|| plain(low_op, &between.low));
    let high = high.unwrap_or_else(|| plain(high_op, &between.high));
    Ok(Some(if between.negated { low.or(high) } else { low.and(high) }))
}

fn rewrite_list(list: &InList, context: &SimplifyContext) -> Result<Option<Expr>> {
    let op = if list.negated { Operator::NotEq } else { Operator::Eq };
    let (mut parts, mut kept) = (Vec::new(), Vec::with_capacity(list.list.len()));
    for item in &list.list {
        match compare(&list.expr, op, item, context)? {
            Some(part) => parts.push(part),
            None => kept.push(item.clone()),
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    if Coarse::of(&list.expr, context).is_some() && !kept.is_empty() {
        // All parts say the same: false, or NULL for NULL, and so do the items that are left.
        parts.clear();
    }
    if !kept.is_empty() {
        parts.push(Expr::InList(InList { expr: list.expr.clone(), list: kept, negated: list.negated }));
    }
    Ok(parts.into_iter().reduce(|left, right| if list.negated { left.and(right) } else { left.or(right) }))
}

/// What a comparison becomes; `None` if it can stay as it is.
fn compare(left: &Expr, op: Operator, right: &Expr, context: &SimplifyContext) -> Result<Option<Expr>> {
    if let Some(coarse) = Coarse::of(left, context) {
        return Ok(coarse.floor(right, context)?.map(|floor| coarse.compare(op, floor)));
    }
    if let (Some(coarse), Some(op)) = (Coarse::of(right, context), op.swap().or(symmetric(op))) {
        return Ok(coarse.floor(left, context)?.map(|floor| coarse.compare(op, floor)));
    }
    Ok(None)
}

fn symmetric(op: Operator) -> Option<Operator> {
    matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom).then_some(op)
}

/// A timestamp that was cast to a finer unit.
struct Coarse<'a> {
    inner: &'a Expr,
    unit: ArrowUnit,
    zone: Option<Arc<str>>,
}

impl<'a> Coarse<'a> {
    fn of(expr: &'a Expr, context: &SimplifyContext) -> Option<Self> {
        let (inner, to) = match expr {
            Expr::Cast(cast) => (cast.expr.as_ref(), cast.field.data_type()),
            Expr::TryCast(cast) => (cast.expr.as_ref(), cast.field.data_type()),
            _ => return None,
        };
        let ArrowType::Timestamp(finer, to_zone) = to else { return None };
        let ArrowType::Timestamp(unit, zone) = context.get_data_type(inner).ok()? else { return None };
        let same_instant = zone == *to_zone || (is_utc(zone.as_deref()) && is_utc(to_zone.as_deref()));
        (same_instant && per_second(*finer) > per_second(unit)).then_some(Self { inner, unit, zone })
    }

    /// `expr` rounded down to the unit, if it is a constant that the unit cannot express.
    fn floor(&self, expr: &Expr, context: &SimplifyContext) -> Result<Option<i64>> {
        if expr.any_column_refs() || expr.is_volatile() {
            return Ok(None);
        }
        let simplified = ExprSimplifier::new(context.clone()).simplify(expr.clone())?;
        let Expr::Literal(scalar, _) = simplified else { return Ok(None) };
        let Some((value, unit)) = value::timestamp(&scalar) else { return Ok(None) };
        let step = unit.per_second() / per_second(self.unit);
        Ok((step > 1 && value % step != 0).then(|| value.div_euclid(step)))
    }

    fn compare(&self, op: Operator, floor: i64) -> Expr {
        let floor = match self.unit {
            ArrowUnit::Second => ScalarValue::TimestampSecond(Some(floor), self.zone.clone()),
            ArrowUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(floor), self.zone.clone()),
            ArrowUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(floor), self.zone.clone()),
            ArrowUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(floor), self.zone.clone()),
        };
        let inner = self.inner.clone();
        let null = lit(ScalarValue::Boolean(None));
        match op {
            Operator::Lt | Operator::LtEq => inner.lt_eq(lit(floor)),
            Operator::Gt | Operator::GtEq => inner.gt(lit(floor)),
            Operator::Eq => inner.is_null().and(null),
            Operator::NotEq => inner.is_not_null().or(null),
            other => lit(other == Operator::IsDistinctFrom),
        }
    }
}

fn per_second(unit: ArrowUnit) -> i64 {
    match unit {
        ArrowUnit::Second => 1,
        ArrowUnit::Millisecond => 1_000,
        ArrowUnit::Microsecond => 1_000_000,
        ArrowUnit::Nanosecond => 1_000_000_000,
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("+00:00" | "+00" | "UTC" | "Z"))
}
