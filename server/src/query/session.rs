//! Plans and runs what DataFusion knows, against a snapshot of the catalog that each statement takes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::DateTime;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, TableProvider};
use datafusion::catalog::{CatalogProviderList, SchemaProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ColumnarValue;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast as df;
use tessera_engine::request::Memory;

use super::error::unwrap;
use super::few_rows::FewRows;
use super::finer_time::{FinerText, FinerTime};
use super::plain::Plain;
use super::reduce_runs::ReduceRuns;
use super::{explain, limits, past};
use crate::catalog::{Catalogs, Table, information_schema};
use crate::error::ServerError;
use crate::sql::as_of;
use crate::sql::parser::{CATALOG, CATALOGS, check_catalog};

/// Makes the session of a statement.
pub struct Sessions {
    base: SessionState,
    /// Sessions of statements that were planned. Each knows hundreds of functions by name, which would be copied for another.
    idle: Mutex<Vec<SessionState>>,
    plain: Plain,
}

/// Sessions that are kept for statements to come.
const IDLE_MAX: usize = 64;

/// A statement's plan with the session that made it.
pub struct Planned {
    /// The session.
    pub state: SessionState,
    /// What DataFusion understood.
    pub plan: LogicalPlan,
    /// The tables that it names, as it knows them.
    pub tables: Vec<Arc<Table>>,
}

impl Sessions {
    /// Sessions over DataFusion's functions and a bounded pool of memory.
    ///
    /// # Errors
    /// When DataFusion has no place to spill to.
    pub fn new() -> Result<Self, ServerError> {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(limits::QUERY_BYTES_MAX, 1.0).build_arc().map_err(unwrap)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut config = SessionConfig::new().with_target_partitions(cores).with_information_schema(false);
        config = config.with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.execution.time_zone = Some("+00:00".to_owned());
        options.catalog.default_catalog = CATALOG.to_owned();
        // Tables hold plain strings; views would only be cast back and forth.
        options.sql_parser.map_string_types_to_utf8view = false;
        // A scan has a partition for each region already. Dealing its batches out to cores in turn would make the order of
        // additions, and so the last digits of a sum of floats, depend on timing.
        options.optimizer.enable_round_robin_repartition = false;
        // What a scan sorts itself counts against the statement's memory already; above it a few batches are to be ahead.
        options.execution.sort_pushdown_buffer_capacity = limits::SORTED_AHEAD_BYTES;
        let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let builder = builder.with_analyzer_rules(analyzer_rules()).with_optimizer_rules(optimizer_rules());
        let base = builder.with_physical_optimizer_rules(physical_rules()).build();
        let plain = Plain::new(base.optimizers(), base.config_options());
        Ok(Self { base, idle: Mutex::default(), plain })
    }

    /// A session for a statement in `database`, as if no other had had it.
    fn begin(&self, database: &str) -> SessionState {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = idle.unwrap_or_else(|| self.base.clone());
        // Else the options would be copied before they are changed.
        state.execution_props_mut().config_options = None;
        let partitions = self.base.config().target_partitions();
        let options = state.config_options();
        if options.catalog.default_schema != database || options.execution.target_partitions != partitions {
            let options = state.config_mut().options_mut();
            options.catalog.default_schema = database.to_owned();
            options.execution.target_partitions = partitions;
        }
        state.mark_start_execution();
        state
    }

    /// What operators need of a session while they run, which is not its functions, and the memory that all scans of the
    /// statement share; the session is kept for another statement, without the tables of this one.
    pub(super) fn end(&self, mut state: SessionState, memory: Arc<Memory>) -> Arc<TaskContext> {
        let (id, runtime) = (state.session_id().to_owned(), Arc::clone(state.runtime_env()));
        let config = state.config().clone().with_extension(memory);
        let context = TaskContext::new(None, id, config, HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new(), runtime);
        state.register_catalog_list(Arc::new(MemoryCatalogProviderList::new()));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(state);
        }
        Arc::new(context)
    }

    /// Plans a statement in `database`.
    ///
    /// # Errors
    /// An unknown database, table, column or function, or types that do not fit.
    pub async fn plan(&self, statement: df::Statement, database: &str, catalogs: &Catalogs) -> Result<Planned, ServerError> {
        let mut state = self.begin(database);
        let now_ms = i64::try_from(catalogs.env.unix_ms()).unwrap_or(i64::MAX);
        state.execution_props_mut().query_execution_start_time = DateTime::from_timestamp_millis(now_ms);
        let statement = explain::for_planner(statement)?;
        let (catalog, tables) = self.snapshot(&state, &statement, database, catalogs).await?;
        let list = MemoryCatalogProviderList::new();
        for name in CATALOGS {
            list.register_catalog(name.to_owned(), Arc::<MemoryCatalogProvider>::clone(&catalog));
        }
        state.register_catalog_list(Arc::new(list));
        let plan = state.statement_to_plan(statement).await.map_err(unwrap)?;
        Ok(Planned { state, plan, tables })
    }

    /// The tables that a statement names, as they are now.
    async fn snapshot(
        &self,
        state: &SessionState,
        statement: &DfStatement,
        database: &str,
        catalogs: &Catalogs,
    ) -> Result<(Arc<MemoryCatalogProvider>, Vec<Arc<Table>>), ServerError> {
        let catalog = Arc::new(MemoryCatalogProvider::new());
        let mut tables = Vec::new();
        let mut seen = BTreeSet::new();
        let is_insert = matches!(statement, DfStatement::Statement(inner) if matches!(**inner, df::Statement::Insert(_)));
        for reference in state.resolve_table_references(statement).map_err(unwrap)? {
            let resolved = reference.resolve(CATALOG, database);
            check_catalog(&resolved.catalog)?;
            let key = (resolved.schema.to_string(), resolved.table.to_string());
            if !seen.insert(key.clone()) {
                continue;
            }
            let (schema, table) = key;
            let found: Result<Found, ServerError> = match as_of::split_name(&table) {
                Some((name, kind, text)) => {
                    let present = catalogs.table(&schema, name).await?;
                    let past = past::provider(state, catalogs, Arc::clone(&present), kind, text).await?;
                    Ok((Arc::new(past), Some(present)))
                }
                None => provider(catalogs, &schema, &table, is_insert).await,
            };
            let (found, read) = match found {
                // A table function stands where a table does.
                Err(_) if self.base.table_functions().contains_key(&table) => continue,
                other => other?,
            };
            tables.extend(read);
            register(&catalog, &schema, table, found)?;
        }
        Ok((catalog, tables))
    }

    /// The plan that is run for one that DataFusion understood, optimized.
    ///
    /// # Errors
    /// Types that do not fit, and what the rules refuse.
    pub fn optimize(&self, planned: &SessionState, plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        self.plain.optimize(planned, plan)
    }

    /// The value of an expression without columns, cast to this type.
    ///
    /// # Errors
    /// An expression with columns or aggregates, or a value that the type cannot hold.
    pub fn constant(&self, expr: df::Expr, data_type: &arrow::datatypes::DataType) -> Result<ScalarValue, ServerError> {
        constant_in(&self.base, expr, data_type)
    }
}

/// The value of an expression without columns, cast to this type; times such as `now()` are those of the statement.
pub(super) fn constant_in(
    state: &SessionState,
    expr: df::Expr,
    data_type: &arrow::datatypes::DataType,
) -> Result<ScalarValue, ServerError> {
    let empty = DFSchema::empty();
    let aliased = df::ExprWithAlias { expr, alias: None };
    let logical = state.create_logical_expr_from_sql_expr(aliased, &empty).map_err(unwrap)?;
    let cast = logical.cast_to(data_type, &empty).map_err(unwrap)?;
    // Functions such as now() have their value only here.
    let began = state.execution_props().query_execution_start_time;
    let context = SimplifyContext::builder().with_config_options(Arc::clone(state.config_options()));
    let simplifier = ExprSimplifier::new(context.with_query_execution_start_time(began).build());
    let coerced = simplifier.coerce(cast, &empty).map_err(unwrap)?;
    let simple = simplifier.simplify(coerced).map_err(unwrap)?;
    let physical = state.create_physical_expr(simple, &empty).map_err(unwrap)?;
    let row = one_row()?;
    match physical.evaluate(&row).map_err(unwrap)? {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).map_err(unwrap),
    }
}

/// DataFusion's rules, with ours before type coercion.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(FinerText));
    rules
}

/// DataFusion's rules, with ours before each that unwraps casts.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in Optimizer::new().rules {
        if rule.name() == "simplify_expressions" {
            rules.push(Arc::new(FinerTime));
        }
        rules.push(rule);
    }
    // For what the other rules have brought together.
    rules.push(Arc::new(FinerTime));
    rules
}

/// DataFusion's rules, with ours: once sorts know their limits, before ones that take sorts away, and when all else is
/// settled, before the last, which only checks.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let at = rules.iter().position(|rule| rule.name() == "PushdownSort").unwrap_or(rules.len());
    rules.insert(at, Arc::new(FewRows));
    let at = rules.iter().position(|rule| rule.name() == "SanityCheckPlan").unwrap_or(rules.len());
    rules.insert(at, Arc::new(ReduceRuns));
    rules
}

fn one_row() -> Result<arrow::array::RecordBatch, ServerError> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    arrow::array::RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(super::error::from_arrow)
}

/// What a name stands for; with the table, if it is one of users.
type Found = (Arc<dyn TableProvider>, Option<Arc<Table>>);

async fn provider(catalogs: &Catalogs, schema: &str, table: &str, is_insert: bool) -> Result<Found, ServerError> {
    if schema == information_schema::NAME {
        return Ok((information_schema::table(catalogs, table).await?, None));
    }
    let table = catalogs.table(schema, table).await?;
    let provider = catalogs.provider(Arc::clone(&table));
    Ok((Arc::new(if is_insert { provider.as_target() } else { provider }), Some(table)))
}

fn register(catalog: &MemoryCatalogProvider, schema: &str, table: String, provider: Arc<dyn TableProvider>) -> Result<(), ServerError> {
    let found = catalog.schema(schema);
    let target = match found {
        Some(schema) => schema,
        None => {
            let fresh: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(schema, Arc::clone(&fresh)).map_err(unwrap)?;
            fresh
        }
    };
    target.register_table(table, provider).map_err(unwrap)?;
    Ok(())
}
