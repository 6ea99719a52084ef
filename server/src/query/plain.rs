//! Optimizing statements that read one table: by DataFusion's rules for such, and once.
//!
//! DataFusion applies all of its rules until two passes give the same plan, which is at least two. Half of them look for joins,
//! unions and subqueries, and of plans without these the second pass changes few ([`has_late_filter`], [`is_settled`]).
//! Where few rows are read, planning is most of a statement's time.
//!
//! Invariant: each rule here is one of DataFusion's list, in its order, so that a plan may be a worse one, never a wrong one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::alias::AliasGenerator;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Analyze, Explain, Expr, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

/// Rules that change joins, unions, subqueries, or `DISTINCT`, and nothing else.
const OF_OTHERS: [&str; 12] = [
    "rewrite_set_comparison",
    "optimize_unions",
    "unions_to_filter",
    "replace_distinct_aggregate",
    "eliminate_join",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "eliminate_cross_join",
    "filter_null_join_keys",
    "eliminate_outer_join",
];

/// What plans of one table are optimized by.
pub(super) struct Plain {
    optimizer: Optimizer,
    once: Arc<ConfigOptions>,
}

impl Plain {
    /// Those of a list of rules that concern plans of one table.
    pub(super) fn new(rules: &[Arc<dyn OptimizerRule + Send + Sync>], options: &ConfigOptions) -> Self {
        let rules = rules.iter().filter(|rule| !OF_OTHERS.contains(&rule.name())).cloned().collect();
        let mut once = options.clone();
        once.optimizer.max_passes = 1;
        Self { optimizer: Optimizer::with_rules(rules), once: Arc::new(once) }
    }

    /// The plan that is run for a statement; what `EXPLAIN` shows of one is it, too, but that a verbose one goes by all rules.
    ///
    /// # Errors
    /// Those of DataFusion's rules.
    pub(super) fn optimize(&self, state: &SessionState, plan: &LogicalPlan) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Explain(explain) if !explain.verbose && is_plain(&explain.plan)? => {
                // Of a plan that a rule refuses, DataFusion shows how far it came.
                let Ok(inner) = self.by_few(state, &explain.plan) else { return state.optimize(plan) };
                Ok(LogicalPlan::Explain(Explain { plan: Arc::new(inner), logical_optimization_succeeded: true, ..explain.clone() }))
            }
            LogicalPlan::Analyze(analyze) if is_plain(&analyze.input)? => {
                let input = Arc::new(self.by_few(state, &analyze.input)?);
                Ok(LogicalPlan::Analyze(Analyze { input, ..analyze.clone() }))
            }
            plan if is_plain(plan)? => self.by_few(state, plan),
            plan => state.optimize(plan),
        }
    }

    fn by_few(&self, state: &SessionState, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
        let moves_filters = has_late_filter(&analyzed)?;
        let first = self.optimizer.optimize(analyzed, &Once { state, options: &self.once }, |_, _| {})?;
        if moves_filters || !is_settled(&first) { self.optimizer.optimize(first, state, |_, _| {}) } else { Ok(first) }
    }
}

/// A session that asks for one pass.
struct Once<'a> {
    state: &'a SessionState,
    options: &'a Arc<ConfigOptions>,
}

impl OptimizerConfig for Once<'_> {
    fn query_execution_start_time(&self) -> Option<DateTime<Utc>> {
        OptimizerConfig::query_execution_start_time(self.state)
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        self.state.alias_generator()
    }

    fn options(&self) -> Arc<ConfigOptions> {
        Arc::clone(self.options)
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(self.state)
    }
}

/// Whether a plan is a chain of the commonest operators above one table, without subqueries.
pub(crate) fn is_plain(plan: &LogicalPlan) -> Result<bool> {
    let mut plain = true;
    plan.apply(|node| {
        plain = match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::TableScan(_) => !has_subquery(node)?,
            _ => false,
        };
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(plain)
}

fn has_subquery(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        let is_subquery =
            |part: &Expr| matches!(part, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_));
        found = expr.exists(|part| Ok(is_subquery(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether a filter is to be moved through operators that compute what it tests: it is simplified before it is moved, and what it
/// becomes only by another pass.
fn has_late_filter(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(false) };
        filter.input.exists(|below| Ok(matches!(below, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_))))
    })
}

/// Whether a first pass left nothing to do, as it may above what was found to have no rows, and where a limit stands above a filter
/// that the scan took in later.
fn is_settled(plan: &LogicalPlan) -> bool {
    let here = match plan {
        LogicalPlan::Limit(_) | LogicalPlan::EmptyRelation(_) => false,
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        _ => true,
    };
    here && plan.inputs().into_iter().all(is_settled)
}
