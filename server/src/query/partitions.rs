//! How many partitions a statement is planned for.
//!
//! A plan of several partitions hands rows from task to task, by key where they are grouped, and merges what comes out.
//! Where few rows are read that costs more than the rows do, to plan as well as to run: such a statement gets one partition.
//!
//! Invariant: nothing is read to find that out. Of files that were not read yet all rows of the wanted times count, so that
//! several are fetched at a time.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_plan::ExecutionPlan;

use super::limits;
use super::session::Sessions;
use crate::catalog::TesseraTable;

/// Optimizes a plan and makes it one that can be run.
///
/// # Errors
/// Those of the planner.
pub(super) async fn create_physical_plan(
    sessions: &Sessions,
    state: &mut SessionState,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = sessions.optimize(state, plan)?;
    if reads_few_rows(&plan)? {
        state.config_mut().options_mut().execution.target_partitions = 1;
    }
    state.query_planner().create_physical_plan(&plan, state).await
}

/// Whether all scans of a plan together give few rows, and none of its operators makes many out of them, or works long on each.
pub(crate) fn reads_few_rows(plan: &LogicalPlan) -> Result<bool> {
    let mut left = Some(limits::FEW_ROWS);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => left = left.and_then(|left| left.checked_sub(estimate_rows(scan, left + 1)?)),
            LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) => {}
            LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Extension(_) => left = None,
            _ => {}
        }
        Ok(if left.is_some() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(left.is_some())
}

/// About how many rows a scan gives, at most `enough`; `None` if that is not known.
fn estimate_rows(scan: &TableScan, enough: u64) -> Option<u64> {
    // With conditions, many rows may have to be read until so few satisfied them.
    let wanted = scan.fetch.filter(|_| scan.filters.is_empty()).and_then(|rows| u64::try_from(rows).ok());
    if let Some(wanted) = wanted.filter(|wanted| *wanted < enough) {
        return Some(wanted);
    }
    let provider: Arc<dyn TableProvider> = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<TesseraTable>()?.estimate_rows(&scan.filters, enough)
}
