//! Queries that need few rows of a table: the first by time, those of the first buckets of time, or the last of each series.
//!
//! Invariant: the operator above stays, so it is only asked of less; a scan whose filters are not exact is left alone.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use tessera_engine::buckets::Buckets;
use tessera_engine::request::FirstBuckets;
use tessera_manifest::schema::SemanticType;

use super::bucket::bucket_of;
use super::scan::TesseraScanExec;

/// Tells scans that few rows are needed.
#[derive(Debug)]
pub struct FewRows;

impl PhysicalOptimizerRule for FewRows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_down(|node| {
            let changed = if let Some(sort) = node.downcast_ref::<SortExec>().filter(|sort| !sort.preserve_partitioning()) {
                sort.fetch().map(|rows| in_sort(&node, sort.expr(), rows)).transpose()?.flatten()
            } else if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
                let below = merge.fetch().map(|rows| in_sort(merge.input(), merge.expr(), rows)).transpose()?.flatten();
                below.map(|below| with_child(Arc::clone(&node), below)).transpose()?
            } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
                last_of_series(aggregate)?.map(|input| with_child(Arc::clone(&node), input)).transpose()?
            } else {
                None
            };
            Ok(changed.map_or_else(|| Transformed::no(node), Transformed::yes))
        });
        replaced.data()
    }

    fn name(&self) -> &'static str {
        "tessera_few_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Changes what is below a sort, of all whose rows, in the order of `by`, only so many are wanted: a sort of its own, or one of
/// each partition before they are merged in this order. One of each partition alone says nothing of all rows.
fn in_sort(plan: &Arc<dyn ExecutionPlan>, by: &LexOrdering, rows: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let first = by.first();
    let Some(mut column) = column_of(&first.expr) else { return Ok(None) };
    let (mut above, mut below) = (Vec::new(), plan);
    while let Some(projection) = below.downcast_ref::<ProjectionExec>() {
        let Some(place) = place_below(below, column) else { return Ok(None) };
        column = place;
        above.push(below);
        below = projection.input();
    }
    let Some(sort) = below.downcast_ref::<SortExec>() else { return Ok(None) };
    let same = column_of(&sort.expr().first().expr) == Some(column) && sort.expr().first().options == first.options;
    if !same || sort.expr().len() != by.len() || sort.fetch().is_some_and(|each| each < rows) {
        return Ok(None);
    }
    let input = match first_by_time(sort, rows)? {
        None => first_of_buckets(sort, rows)?,
        input => input,
    };
    let sorted = input.map(|input| with_child(Arc::clone(below), input)).transpose()?;
    let wrapped = |inner, outer: &Arc<dyn ExecutionPlan>| with_child(Arc::clone(outer), inner);
    sorted.map(|sorted| above.into_iter().rev().try_fold(sorted, wrapped)).transpose()
}

/// `ORDER BY time LIMIT n`.
fn first_by_time(sort: &SortExec, rows: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let [by] = &sort.expr()[..] else { return Ok(None) };
    let Some(column) = column_of(&by.expr) else { return Ok(None) };
    in_scan(sort.input(), &[column], &|scan, columns| {
        let is_time = scan.column(columns[0])?.semantic == SemanticType::TimeIndex;
        if is_time { scan.first_by_time(by.options.descending, rows) } else { None }
    })
}

/// `GROUP BY` buckets of time, and more, `ORDER BY` these buckets `LIMIT n`: so many buckets have as many groups.
fn first_of_buckets(sort: &SortExec, count: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(by) = sort.expr().iter().next() else { return Ok(None) };
    let Some(column) = column_of(&by.expr) else { return Ok(None) };
    in_aggregate(sort.input(), column, &|expr, input| {
        let (time, of) = match column_of(expr) {
            Some(time) => (time, Buckets::new(1)?),
            None => bucket_of(expr, &input.schema())?,
        };
        let wanted = FirstBuckets { of, count, newest_first: by.options.descending };
        in_scan(input, &[time], &|scan, columns| {
            let is_time = scan.column(columns[0])?.semantic == SemanticType::TimeIndex;
            if is_time { scan.first_buckets(wanted) } else { None }
        })
        .transpose()
    })
}

/// Aggregates by tags which the last row of each series decides: `last_value(x ORDER BY time)`, `max(time)` and what
/// `DISTINCT ON` becomes.
fn last_of_series(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let raw = matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned);
    let groups = aggregate.group_expr();
    if !raw || !groups.is_single() || aggregate.aggr_expr().is_empty() || aggregate.filter_expr().iter().any(Option::is_some) {
        return Ok(None);
    }
    let Some(tags) = groups.expr().iter().map(|(expr, _)| column_of(expr)).collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let Some(times) = aggregate.aggr_expr().iter().map(|function| newest_by(function, &tags)).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let columns: Vec<usize> = tags.iter().chain(&times).copied().collect();
    in_scan(aggregate.input(), &columns, &|scan, columns| {
        let semantic = |column: &usize| scan.column(*column).map(|column| column.semantic);
        let (of_tags, of_times) = columns.split_at(tags.len());
        // Of floats our keys have one NaN and one zero.
        let exact = |column: &usize| !scan.schema().field(*column).data_type().is_floating();
        let fits = of_tags.iter().all(|column| semantic(column) == Some(SemanticType::Tag) && exact(column))
            && of_times.iter().all(|column| semantic(column) == Some(SemanticType::TimeIndex));
        if fits { scan.last_rows() } else { None }
    })
}

/// The column by whose greatest value a function chooses the row that decides it.
fn newest_by(function: &AggregateFunctionExpr, tags: &[usize]) -> Option<usize> {
    if function.is_distinct() || function.ignore_nulls() {
        return None;
    }
    let descending = match function.fun().name() {
        "last_value" => false,
        "first_value" => true,
        "max" => return column_of(function.expressions().first()?),
        _ => return None,
    };
    // Rows of a group do not differ in its tags.
    let in_group = |sort: &&PhysicalSortExpr| column_of(&sort.expr).is_none_or(|column| !tags.contains(&column));
    let order: Vec<&PhysicalSortExpr> = function.order_bys().iter().filter(in_group).collect();
    match order[..] {
        [by] if by.options.descending == descending => column_of(&by.expr),
        _ => None,
    }
}

fn with_child(node: Arc<dyn ExecutionPlan>, child: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    node.replace_children(vec![child], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index)
}

type Change<'a> = &'a dyn Fn(&TesseraScanExec, &[usize]) -> Option<TesseraScanExec>;

type ChangeInput<'a> = &'a dyn Fn(&Arc<dyn PhysicalExpr>, &Arc<dyn ExecutionPlan>) -> Option<Result<Arc<dyn ExecutionPlan>>>;

/// Changes what the groups of an aggregation are made of, below operators that keep all groups, by what a column of theirs is.
fn in_aggregate(plan: &Arc<dyn ExecutionPlan>, column: usize, change: ChangeInput<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let below = if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        // A limit of its own without an order takes any groups.
        let whole = aggregate.group_expr().is_single() && aggregate.limit_options().is_none_or(|limit| limit.descending().is_some());
        let Some((expr, _)) = aggregate.group_expr().expr().get(column).filter(|_| whole) else { return Ok(None) };
        if aggregate.mode().input_mode() == AggregateInputMode::Raw {
            return change(expr, aggregate.input()).map(|input| with_child(Arc::clone(plan), input?)).transpose();
        }
        column_of(expr)
    } else {
        place_below(plan, column)
    };
    let (Some(below), [input]) = (below, &plan.children()[..]) else { return Ok(None) };
    match in_aggregate(input, below, change)? {
        Some(input) => with_child(Arc::clone(plan), input).map(Some),
        None => Ok(None),
    }
}

/// Where a column is in the input of an operator that keeps all rows.
fn place_below(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Option<usize> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return column_of(&projection.expr().get(column)?.expr);
    }
    let whole = plan.is::<CoalescePartitionsExec>() || plan.is::<RepartitionExec>();
    (whole && plan.fetch().is_none()).then_some(column)
}

/// Changes the scan below operators that keep all rows; the columns are followed down to it.
fn in_scan(plan: &Arc<dyn ExecutionPlan>, columns: &[usize], change: Change<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<TesseraScanExec>() {
        return Ok(change(scan, columns).map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>));
    }
    let below = columns.iter().map(|column| place_below(plan, *column)).collect::<Option<Vec<usize>>>();
    let (Some(below), [input]) = (below, &plan.children()[..]) else { return Ok(None) };
    match in_scan(input, &below, change)? {
        Some(input) => with_child(Arc::clone(plan), input).map(Some),
        None => Ok(None),
    }
}
