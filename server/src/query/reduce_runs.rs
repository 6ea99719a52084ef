//! GROUP BY tags and stretches of time: rows of a scan stand by series and time, so that neighbours are mostly of one
//! group. They become one row of partial state before anything is hashed.
//!
//! Invariants:
//! - What comes out of the runs is what partial aggregation gives, but that a group may come more than once. States of
//!   one group are added up by an aggregation whose partial states have the same types: the final one stays as it is.
//! - No row is kept beyond its batch, and the aggregation above gives out what it has when memory is short, as ever.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode, Partitioning, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;
use tessera_engine::runs::{Key, Merge, Reduce, Runs};
use tessera_manifest::schema::SemanticType;

use super::bucket::bucket_of;
use super::scan::TesseraScanExec;

/// Puts a [`ReduceRunsExec`] below aggregations that gain by it.
#[derive(Debug)]
pub struct ReduceRuns;

impl PhysicalOptimizerRule for ReduceRuns {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_down(|node| {
            let reduced = match node.downcast_ref::<AggregateExec>() {
                Some(aggregate) if *aggregate.mode() == AggregateMode::Single => in_one_task(aggregate)?,
                Some(aggregate) if *aggregate.mode() == AggregateMode::Partial => in_tasks(aggregate)?,
                _ => None,
            };
            Ok(match reduced {
                Some(reduced) => Transformed::yes(reduced),
                None => Transformed::no(node),
            })
        });
        replaced.data()
    }

    fn name(&self) -> &'static str {
        "tessera_reduce_runs"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// An aggregation of one task over reduced runs, if it has buckets of time for keys: few rows gain nothing by it, but a bucket has
/// the same bounds whether there are few or many, also at the least times, below which DataFusion would count on.
fn in_one_task(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (groups, functions, input) = (aggregate.group_expr(), aggregate.aggr_expr(), aggregate.input());
    if !groups.is_single() || !groups.expr().iter().any(|(expr, _)| bucket_of(expr, &input.schema()).is_some()) {
        return Ok(None);
    }
    // As a partial aggregation would give it.
    let mut fields = groups.group_schema(&input.schema())?.fields().to_vec();
    for function in functions {
        fields.extend(function.state_fields()?);
    }
    let Some(reduced) = runs_below(aggregate, &Arc::new(Schema::new(fields)))? else { return Ok(None) };
    let filters = vec![None; functions.len()];
    let whole =
        AggregateExec::try_new(AggregateMode::Final, groups.as_final(), functions.to_vec(), filters, reduced, aggregate.input_schema())?;
    Ok((whole.schema() == aggregate.schema()).then(|| Arc::new(whole) as Arc<dyn ExecutionPlan>))
}

/// A partial aggregation over reduced runs, if all that it computes can be computed so.
fn in_tasks(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if aggregate.limit_options().is_some() {
        return Ok(None);
    }
    let schema = aggregate.schema();
    let Some(reduced) = runs_below(aggregate, &schema)? else { return Ok(None) };
    let states = schema.fields().iter().enumerate().skip(aggregate.group_expr().expr().len());
    let merged = reduced.values.iter().flat_map(|value| value.reduce.merged_by()).zip(states).map(|(merge, (position, field))| {
        let function = match merge {
            Merge::Add => sum_udaf(),
            Merge::Least => min_udaf(),
            Merge::Greatest => max_udaf(),
        };
        let state = Arc::new(PhysicalColumn::new(field.name(), position));
        AggregateExprBuilder::new(function, vec![state]).schema(Arc::clone(&schema)).alias(field.name()).build().map(Arc::new)
    });
    let merged = merged.collect::<Result<Vec<_>>>()?;
    let (groups, filters) = (aggregate.group_expr().as_final(), vec![None; merged.len()]);
    let above = AggregateExec::try_new(AggregateMode::Partial, groups, merged, filters, reduced, Arc::clone(&schema))?;
    let types = |schema: &SchemaRef| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    Ok((types(&above.schema()) == types(&schema)).then(|| Arc::new(above) as Arc<dyn ExecutionPlan>))
}

/// The reduced runs of what is aggregated, with columns such as `schema` has them for a partial aggregation, if all that is
/// computed can be computed so.
fn runs_below(aggregate: &AggregateExec, schema: &SchemaRef) -> Result<Option<Arc<ReduceRunsExec>>> {
    let groups = aggregate.group_expr();
    let plain = groups.is_single()
        && *aggregate.input_order_mode() == InputOrderMode::Linear
        && aggregate.filter_expr().iter().all(Option::is_none);
    let Some(scan) = scan_below(aggregate.input()).filter(|scan| plain && scan.has_runs()) else { return Ok(None) };
    let keys = groups.expr().iter().map(|(expr, _)| key_of(expr, scan)).collect::<Option<Vec<Key>>>();
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else { return Ok(None) };
    let input = aggregate.input();
    let values = aggregate.aggr_expr().iter().map(|function| value_of(function, &input.schema())).collect::<Option<Vec<Value>>>();
    let Some(values) = values else { return Ok(None) };
    let types = values.iter().flat_map(|value| value.state.iter());
    if !types.eq(schema.fields().iter().skip(keys.len()).map(|field| field.data_type())) {
        return Ok(None);
    }
    let input = with_tag_runs(input, &values).unwrap_or_else(|| Arc::clone(input));
    Ok(Some(Arc::new(ReduceRunsExec::new(input, keys, values, Arc::clone(schema)))))
}

/// The scan whose rows these are, all or some of them.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&TesseraScanExec> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return if filter.projection().is_none() { scan_below(filter.input()) } else { None };
    }
    plan.downcast_ref::<TesseraScanExec>()
}

/// The same rows of a scan with tags in runs, if no filter stands between and no value is made of a tag.
fn with_tag_runs(plan: &Arc<dyn ExecutionPlan>, values: &[Value]) -> Option<Arc<dyn ExecutionPlan>> {
    let scan = plan.downcast_ref::<TesseraScanExec>()?;
    let tag = |column: &PhysicalColumn| scan.column(column.index()).is_some_and(|column| column.semantic == SemanticType::Tag);
    let of_tags = values.iter().any(|value| collect_columns(&value.of).iter().any(tag));
    scan.with_tag_runs().filter(|_| !of_tags).map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>)
}

/// What a tag or a stretch of time is as a key.
fn key_of(expr: &Arc<dyn PhysicalExpr>, scan: &TesseraScanExec) -> Option<Key> {
    if let Some(column) = expr.downcast_ref::<PhysicalColumn>() {
        let schema = scan.schema();
        let exact = !schema.field(column.index()).data_type().is_floating();
        let is_tag = scan.column(column.index()).is_some_and(|column| column.semantic == SemanticType::Tag);
        return (exact && is_tag).then(|| Key::Column(column.index()));
    }
    let (column, buckets) = bucket_of(expr, &scan.schema())?;
    let is_time = scan.column(column).is_some_and(|column| column.semantic == SemanticType::TimeIndex);
    is_time.then_some(Key::Bucket { column, buckets })
}

/// One aggregate: of what, how, and what is kept.
#[derive(Debug, Clone)]
struct Value {
    of: Arc<dyn PhysicalExpr>,
    reduce: Reduce,
    state: Vec<DataType>,
}

fn value_of(function: &AggregateFunctionExpr, input: &SchemaRef) -> Option<Value> {
    let reduce = match function.fun().name() {
        "count" => Reduce::Count,
        "sum" => Reduce::Sum,
        "avg" => Reduce::Average,
        "min" => Reduce::Min,
        "max" => Reduce::Max,
        _ => return None,
    };
    let mut arguments = function.expressions();
    let of = arguments.pop().filter(|_| arguments.is_empty())?;
    if function.is_distinct() || !function.order_bys().is_empty() {
        return None;
    }
    let state = reduce.state(&of.data_type(input).ok()?)?;
    Some(Value { of, reduce, state })
}

/// Turns each run of rows of one group into one row of partial state.
#[derive(Debug)]
pub struct ReduceRunsExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Arc<[Key]>,
    values: Arc<[Value]>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReduceRunsExec {
    fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<Key>, values: Vec<Value>, schema: SchemaRef) -> Self {
        let partitioning = Partitioning::UnknownPartitioning(input.output_partitioning().partition_count());
        let order = EquivalenceProperties::new(schema);
        let properties = PlanProperties::new(order, partitioning, input.pipeline_behavior(), input.boundedness());
        let (keys, values) = (keys.into(), values.into());
        Self { input, keys, values, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

fn reduce(batch: &RecordBatch, keys: &[Key], values: &[Value], schema: &SchemaRef) -> Result<RecordBatch> {
    let runs = Runs::find(keys, batch.columns(), batch.num_rows())?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for key in keys {
        columns.push(runs.values(key, batch.columns())?);
    }
    for value in values {
        let of = value.of.evaluate(batch)?.into_array(batch.num_rows())?;
        columns.extend(value.reduce.apply(&of, &runs)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

impl DisplayAs for ReduceRunsExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let keys = schema.fields().iter().take(self.keys.len()).map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        match format {
            DisplayFormatType::TreeRender => writeln!(f, "by={keys}"),
            _ => write!(f, "ReduceRunsExec: by=[{keys}]"),
        }
    }
}

impl ExecutionPlan for ReduceRunsExec {
    fn name(&self) -> &'static str {
        "ReduceRunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, see: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for value in self.values.iter() {
            if see(&value.of)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, self.keys.to_vec(), self.values.to_vec(), self.schema())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (schema, keys, values) = (self.schema(), Arc::clone(&self.keys), Arc::clone(&self.values));
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.input.execute(partition, context)?;
        let of = Arc::clone(&schema);
        let reduced = rows.map(move |batch| {
            let batch = batch?;
            let timer = baseline.elapsed_compute().timer();
            let reduced = reduce(&batch, &keys, &values, &of)?;
            timer.done();
            Ok(reduced.record_output(&baseline))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, reduced)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
