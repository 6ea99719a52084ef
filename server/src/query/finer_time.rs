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

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType as ArrowType, TimeUnit as ArrowUnit};
use chrono::DateTime;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, binary_expr, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};

use super::{value, zoned};

/// Rewrites comparisons of a cast timestamp with a constant that its own unit cannot express, and casts that shift a
/// timestamp by a zone. Must run before the rule that unwraps casts.
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
        if matches!(plan, LogicalPlan::Values(_)) || !has_expr(&plan, |expr| casts_to_time(expr) || zoned::is_cast(expr))? {
            return Ok(Transformed::no(plan));
        }
        let context = SimplifyContext::builder()
            .with_schema(schema_below(&plan)?)
            .with_config_options(config.options())
            .with_query_execution_start_time(config.query_execution_start_time())
            .build();
        each_expr(plan, |expr| {
            zoned::write_out(expr, &context).transform_data(|expr| match zoned::shift(&expr, &context) {
                Some(shift) => Ok(Transformed::yes(shift)),
                None => rewrite(expr, &Constants::Cast(&context)),
            })
        })
    }
}

/// Rewrites comparisons of a timestamp with a text that has more digits than its unit; else the coercion to the
/// timestamp's type would cut them off. Must run before type coercion.
#[derive(Debug)]
pub struct FinerText;

impl AnalyzerRule for FinerText {
    fn name(&self) -> &'static str {
        "finer_text"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let analyzed = plan.transform_up_with_subqueries(|plan| {
            if matches!(plan, LogicalPlan::Values(_)) || !has_expr(&plan, compares_text)? {
                return Ok(Transformed::no(plan));
            }
            let schema = schema_below(&plan)?;
            each_expr(plan, |expr| {
                let near = read_far(expr, &schema);
                near.transform_data(|expr| rewrite(expr, &Constants::Texts(&schema)))
            })
        });
        Ok(analyzed?.data)
    }
}

/// Whether an expression of a plan node, or a part of one, is such.
fn has_expr(plan: &LogicalPlan, wanted: impl Fn(&Expr) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found = expr.exists(|part| Ok(wanted(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn casts_to_time(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => matches!(cast.field.data_type(), ArrowType::Timestamp(..)),
        Expr::TryCast(cast) => matches!(cast.field.data_type(), ArrowType::Timestamp(..)),
        _ => false,
    }
}

/// Whether something is compared with a text that may be a time, by how it begins.
fn compares_text(expr: &Expr) -> bool {
    let begins = |text: &str| text.starts_with(|first: char| first.is_ascii_digit() || first.is_whitespace() || matches!(first, '+' | '-'));
    let may_be_time = |expr: &Expr| text(expr).is_some_and(begins);
    match expr {
        Expr::BinaryExpr(binary) => comparison(binary.op) && (may_be_time(&binary.left) || may_be_time(&binary.right)),
        Expr::Between(between) => [&between.expr, &between.low, &between.high].into_iter().any(|part| may_be_time(part)),
        Expr::InList(list) => may_be_time(&list.expr) || list.list.iter().any(may_be_time),
        _ => false,
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

/// Texts that are compared with a timestamp and that nanoseconds do not reach, as constants of its unit: the coercion of
/// texts goes by nanoseconds.
fn read_far(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let read = match &mut expr {
        Expr::BinaryExpr(binary) if comparison(binary.op) => {
            read_all(&binary.left, [binary.right.as_mut()], schema) || read_all(&binary.right, [binary.left.as_mut()], schema)
        }
        Expr::Between(between) => read_all(&between.expr, [between.low.as_mut(), between.high.as_mut()], schema),
        Expr::InList(list) => read_all(&list.expr, &mut list.list, schema),
        _ => false,
    };
    Transformed::new_transformed(expr, read)
}

fn read_all<'e>(of: &Expr, constants: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let Some(coarse) = Coarse::plain(of, schema) else { return false };
    let texts = constants.into_iter().filter_map(|constant| Some((coarse.time(text(constant)?)?, constant)));
    let texts: Vec<_> = texts.collect();
    if texts.iter().all(|(time, _)| time.timestamp_nanos_opt().is_some()) {
        return false;
    }
    for (time, constant) in texts {
        if let Some(exact) = text(constant).filter(|text| !coarse.is_finer(&time, text)).and_then(|_| coarse.floor_of(&time)) {
            *constant = lit(coarse.literal(exact));
        }
    }
    true
}

fn comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn rewrite(expr: Expr, constants: &Constants<'_>) -> Result<Transformed<Expr>> {
    let rewritten = match &expr {
        Expr::BinaryExpr(binary) if comparison(binary.op) => constants.compare(&binary.left, binary.op, &binary.right)?,
        Expr::Between(between) => rewrite_between(between, constants)?,
        Expr::InList(list) => rewrite_list(list, constants)?,
        _ => None,
    };
    Ok(rewritten.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn rewrite_between(between: &Between, constants: &Constants<'_>) -> Result<Option<Expr>> {
    let (low_op, high_op) = if between.negated { (Operator::Lt, Operator::Gt) } else { (Operator::GtEq, Operator::LtEq) };
    let low = constants.compare(&between.expr, low_op, &between.low)?;
    let high = constants.compare(&between.expr, high_op, &between.high)?;
    if low.is_none() && high.is_none() {
        return Ok(None);
    }
    let plain = |op, bound: &Expr| binary_expr(between.expr.as_ref().clone(), op, bound.clone());
    let low = low.unwrap_or_else(|| plain(low_op, &between.low));
    let high = high.unwrap_or_else(|| plain(high_op, &between.high));
    Ok(Some(if between.negated { low.or(high) } else { low.and(high) }))
}

fn rewrite_list(list: &InList, constants: &Constants<'_>) -> Result<Option<Expr>> {
    let op = if list.negated { Operator::NotEq } else { Operator::Eq };
    let (mut parts, mut kept) = (Vec::new(), Vec::with_capacity(list.list.len()));
    let mut of_list = true;
    for item in &list.list {
        match constants.compare(&list.expr, op, item)? {
            Some(part) => {
                of_list &= constants.floor(&list.expr, item)?.is_some();
                parts.push(part);
            }
            None => kept.push(item.clone()),
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    if of_list && !kept.is_empty() {
        // All parts say the same: false, or NULL for NULL, and so do the items that are left.
        parts.clear();
    }
    if !kept.is_empty() {
        parts.push(Expr::InList(InList { expr: list.expr.clone(), list: kept, negated: list.negated }));
    }
    Ok(parts.into_iter().reduce(|left, right| if list.negated { left.and(right) } else { left.or(right) }))
}

fn symmetric(op: Operator) -> Option<Operator> {
    matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom).then_some(op)
}

/// The constants that a rule looks for.
enum Constants<'a> {
    /// Texts, which would take the type of what they are compared with.
    Texts(&'a DFSchema),
    /// Timestamps, to whose unit what they are compared with was cast.
    Cast(&'a SimplifyContext),
}

impl Constants<'_> {
    /// What a comparison becomes; `None` if it can stay as it is.
    fn compare(&self, left: &Expr, op: Operator, right: &Expr) -> Result<Option<Expr>> {
        if let Some((coarse, floor)) = self.floor(left, right)? {
            return Ok(Some(coarse.compare(op, floor)));
        }
        let Some(op) = op.swap().or(symmetric(op)) else { return Ok(None) };
        Ok(self.floor(right, left)?.map(|(coarse, floor)| coarse.compare(op, floor)))
    }

    /// The timestamp that `of` is, and the constant rounded down to its unit, if that is not the constant.
    fn floor<'e>(&self, of: &'e Expr, constant: &Expr) -> Result<Option<(Coarse<'e>, i64)>> {
        match self {
            Self::Texts(schema) => {
                let Some(text) = text(constant) else { return Ok(None) };
                let coarse = Coarse::plain(of, schema);
                Ok(coarse.and_then(|coarse| coarse.floor_of_text(text).map(|floor| (coarse, floor))))
            }
            Self::Cast(context) => {
                let Some(coarse) = Coarse::under_cast(of, context) else { return Ok(None) };
                Ok(coarse.floor(constant, context)?.map(|floor| (coarse, floor)))
            }
        }
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text), _) => text.as_deref(),
        _ => None,
    }
}

/// A timestamp that is compared with a constant of a finer unit.
struct Coarse<'a> {
    inner: &'a Expr,
    unit: ArrowUnit,
    zone: Option<Arc<str>>,
}

impl<'a> Coarse<'a> {
    /// A timestamp as it stands there.
    fn plain(inner: &'a Expr, schema: &DFSchema) -> Option<Self> {
        let ArrowType::Timestamp(unit, zone) = inner.get_type(schema).ok()? else { return None };
        Some(Self { inner, unit, zone })
    }

    /// A timestamp that was cast to a finer unit.
    fn under_cast(expr: &'a Expr, context: &SimplifyContext) -> Option<Self> {
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

    /// A text rounded down to the unit, if it has digits below it.
    fn floor_of_text(&self, text: &str) -> Option<i64> {
        let time = self.time(text)?;
        if self.is_finer(&time, text) { self.floor_of(&time) } else { None }
    }

    /// The instant of a text, which is of the timestamp's zone if it names none.
    fn time(&self, text: &str) -> Option<DateTime<Tz>> {
        let zone: Tz = self.zone.as_deref().unwrap_or("+00:00").parse().ok()?;
        string_to_datetime(&zone, text).ok()
    }

    /// Whether the text of this instant has digits below the unit.
    fn is_finer(&self, time: &DateTime<Tz>, text: &str) -> bool {
        let step = 1_000_000_000 / per_second(self.unit);
        i64::from(time.timestamp_subsec_nanos()) % step != 0 || has_digits_below_nanos(text)
    }

    fn floor_of(&self, time: &DateTime<Tz>) -> Option<i64> {
        match self.unit {
            ArrowUnit::Second => Some(time.timestamp()),
            ArrowUnit::Millisecond => Some(time.timestamp_millis()),
            ArrowUnit::Microsecond => Some(time.timestamp_micros()),
            ArrowUnit::Nanosecond => time.timestamp_nanos_opt(),
        }
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

    fn literal(&self, value: i64) -> ScalarValue {
        let (value, zone) = (Some(value), self.zone.clone());
        match self.unit {
            ArrowUnit::Second => ScalarValue::TimestampSecond(value, zone),
            ArrowUnit::Millisecond => ScalarValue::TimestampMillisecond(value, zone),
            ArrowUnit::Microsecond => ScalarValue::TimestampMicrosecond(value, zone),
            ArrowUnit::Nanosecond => ScalarValue::TimestampNanosecond(value, zone),
        }
    }

    fn compare(&self, op: Operator, floor: i64) -> Expr {
        let floor = self.literal(floor);
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

/// Whether a text that is a time has digits, other than zeros, that are read over.
fn has_digits_below_nanos(text: &str) -> bool {
    let digits = text.split_once('.').map_or("", |(_, fraction)| fraction).bytes().take_while(u8::is_ascii_digit);
    digits.skip(9).any(|digit| digit != b'0')
}

/// Whether times of this zone, or of none, are those of UTC.
pub(super) fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("+00:00" | "+00" | "UTC" | "Z"))
}
