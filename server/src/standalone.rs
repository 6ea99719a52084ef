//! Everything in one process: catalog, engine and SQL.
//!
//! Crash order at start: the catalog is read, the procedures are claimed, interrupted drops are finished, then all regions
//! are opened. A region that does not open is reported and its table answers with the cause; the others work. What catalog
//! and store disagree on is logged with what to do; while the next table id is not above every folder of the store, no table
//! is created. Last, procedures that are not over go on.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStore;
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts as EngineParts};
use tessera_engine::staging::ReadSet;
use tessera_engine::wal::{LogStore, ReachableLogs};
use tessera_manifest::env::{Env, Stopwatch};
use tessera_manifest::id::{NodeId, Nonce};
use tessera_manifest::log::Context;
use tessera_manifest::paths::Root;
use tessera_metaclient::catalog::{Bootstrap, Catalog, Identity};
use tessera_metaclient::kv::KvBackend;
use tessera_metaclient::procedure::{Fence, Runner, RunnerOptions};
use tessera_metaclient::repartition::{RegionPort, Tools as RepartitionTools};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Catalogs, Closed, DEFAULT_DATABASE, from_catalog, information_schema};
use crate::ddl::turns::Turns;
use crate::ddl::{Ddl, Procedures, Tools, admin, alter, create, drop, procedure, recover, truncate, ttl};
use crate::error::{Code, ServerError, chain};
use crate::query::error::{from_engine, unwrap};
use crate::query::session::Sessions;
use crate::query::{copy, dml, limits};
use crate::repartition::{self, CatalogReadSet, Regions};
use crate::router::{Decoded, Waiting};
use crate::service::{Output, SqlService};
use crate::sql::{Statement, TableName, parse};

/// What a process is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Databases, tables and routes.
    pub kv: Arc<dyn KvBackend>,
    /// SSTs, manifests and drop markers.
    pub store: Arc<dyn ObjectStore>,
    /// Acknowledged rows that are not in SSTs yet.
    pub wal: Arc<dyn LogStore>,
    /// Logs of other nodes from which regions are taken over.
    pub reachable: Option<Arc<dyn ReachableLogs>>,
    /// Time and ids.
    pub env: Env,
    /// Settings of the engine.
    pub engine: Config,
    /// The name of this process in routes.
    pub node: NodeId,
    /// The cluster that the store belongs to; the metadata must be of the same.
    pub cluster: Nonce,
}

/// Metadata of one cluster over the store of another would lose the tables of both.
fn check_cluster(identity: &Identity, store: Nonce) -> Result<(), ServerError> {
    if identity.cluster == store {
        return Ok(());
    }
    let text = format!(
        "the metadata belongs to cluster {}, the object store to cluster {store}: bring the two folders of one data home together again",
        identity.cluster
    );
    Err(ServerError::new(Code::StorageUnavailable, text))
}

/// A running server without its ways in; a cheap handle.
#[derive(Clone)]
pub struct Standalone {
    catalogs: Catalogs,
    sessions: Arc<Sessions>,
    store: Arc<dyn ObjectStore>,
    ddl: Ddl,
    runner: Arc<Mutex<Option<Runner>>>,
    node: NodeId,
    alterations: Arc<Turns>,
    /// Looks for expired rows.
    expirer: Arc<ttl::Expirer>,
}

impl Standalone {
    /// Reads the catalog, finishes interrupted drops and opens every region.
    ///
    /// # Errors
    /// When the catalog or the store does not answer. A region that does not open is no error here.
    pub async fn open(parts: Parts) -> Result<Self, ServerError> {
        Self::open_through(parts, Arc::new(Sessions::new()?), |port| port).await
    }

    /// The same, with sessions that exist; `through` may put something between repartitions and the regions.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn open_through(
        parts: Parts,
        sessions: Arc<Sessions>,
        through: impl FnOnce(Arc<dyn RegionPort>) -> Arc<dyn RegionPort>,
    ) -> Result<Self, ServerError> {
        let Parts { kv, store, wal, reachable, env, engine, node, cluster } = parts;
        let batch_bytes_max = usize::try_from(wal.entry_bytes_max() / limits::ENTRY_SHARE).unwrap_or(usize::MAX);
        let bootstrap = Bootstrap { cluster, incarnation: env.nonce(), unix_ms: env.unix_ms() };
        let (catalog, identity) = Catalog::bootstrap(kv, bootstrap).await.map_err(|error| from_catalog(&error))?;
        check_cluster(&identity, cluster)?;
        let context = Context::new(Arc::clone(&store), Root::default(), env.clone());
        let read_set: Option<Arc<dyn ReadSet>> = Some(Arc::new(CatalogReadSet::new(catalog.clone(), context.clone())));
        let (objects, env_of_engine) = (Arc::clone(&store), env.clone());
        let parts = EngineParts { store: objects, wal, node, env: env_of_engine, config: engine, read_set, reachable };
        let engine = Engine::start(parts);
        // Before any region is opened: a process that lives on and runs procedures takes none of them back from then on.
        let claim = Fence::claim(&**catalog.kv(), &env).await.map_err(|error| procedure::from_procedure(&error))?;
        let waiting = Waiting::new(limits::WAITING_BYTES_MAX);
        let catalogs = Catalogs { catalog, engine, env, closed: Closed::default(), batch_bytes_max, waiting, decoded: Decoded::default() };
        recover::finish_drops(&catalogs, &store).await?;
        open_regions(&catalogs).await?;
        recover::finish_alterations(&catalogs).await?;
        catalogs.engine.forget_dropped().await;
        let in_use = recover::examine(&catalogs, &store).await?;
        let procedures = Procedures::new(catalogs.catalog.clone(), catalogs.env.clone());
        let regions: Arc<dyn RegionPort> = Arc::new(Regions::new(catalogs.engine.clone(), context));
        let repartition = RepartitionTools::new(through(regions));
        let ddl = Ddl { tools: Tools { catalogs: catalogs.clone(), store: Arc::clone(&store), in_use, repartition }, procedures };
        let runner = run_procedures(claim, &ddl.tools);
        let runner = Arc::new(Mutex::new(Some(runner)));
        let expirer = Arc::new(ttl::Expirer::start(catalogs.clone()));
        Ok(Self { catalogs, sessions, store, ddl, runner, node, alterations: Arc::default(), expirer })
    }

    pub(crate) fn catalogs(&self) -> &Catalogs {
        &self.catalogs
    }

    pub(crate) fn procedures(&self) -> &Procedures {
        &self.ddl.procedures
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Flushes and closes every region. Statements that still run fail.
    ///
    /// # Errors
    /// A region that could not be flushed; its rows are safe in the WAL.
    pub async fn close(&self) -> Result<(), ServerError> {
        self.expirer.stop().await;
        // First, so that no step finds its regions closed.
        if let Some(runner) = self.runner.lock().await.take() {
            runner.close().await;
        }
        self.catalogs.engine.close().await.map_err(|error| from_engine(&error))
    }

    async fn run(&self, statement: Statement, database: &str) -> Result<Output, ServerError> {
        let affected = |rows: u64| Ok(Output::Affected(rows));
        match statement {
            Statement::Query(query) => {
                let rows = self.sessions.rows(*query, database, &self.catalogs).await?;
                let schema = rows.schema();
                Ok(Output::Rows { schema, stream: Box::pin(rows.map_err(unwrap)) })
            }
            Statement::Write(write) => affected(dml::run(*write, database, &self.sessions, self.catalogs.clone()).await?),
            Statement::CopyFrom { table, path, options } => {
                let table = self.table(&table, database).await?;
                affected(copy::copy_from(table, self.catalogs.clone(), &path, &options).await?)
            }
            Statement::CopyTo { query, path, options } => {
                let rows = self.sessions.rows(*query, database, &self.catalogs).await?;
                affected(copy::copy_to(rows, &self.catalogs.env, &path, &options).await?)
            }
            Statement::CreateDatabase { .. }
            | Statement::AlterDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::CreateTable(_)
            | Statement::AlterTable { .. }
            | Statement::Truncate { .. }
            | Statement::DropTable { .. } => self.define(statement, database).await,
            Statement::Repartition(statement) => repartition::run(&statement, database, &self.ddl).await,
            Statement::ExplainRepartition(statement) => repartition::explain::explain(&statement, database, &self.ddl).await,
            Statement::Admin { function, arguments } => admin::run(&function, &arguments, database, &self.ddl).await,
            Statement::ShowDatabases { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowCreateTable(_)
            | Statement::ShowPartitions(_)
            | Statement::Describe(_) => self.show(statement, database).await,
            Statement::Use(name) => Err(ServerError::new(
                Code::Unsupported,
                format!(
                    "USE does nothing over HTTP, where each request stands alone: send db={name} with the request, or write {name}.table"
                ),
            )),
            Statement::Unsupported(what) => Err(ServerError::new(Code::Unsupported, format!("{what} is not supported yet"))),
        }
    }

    /// DDL. The answer counts like that of GreptimeDB: a new database is one row.
    async fn define(&self, statement: Statement, session: &str) -> Result<Output, ServerError> {
        let mut rows = 0;
        match statement {
            Statement::CreateDatabase { name, if_not_exists, options } => {
                rows = u64::from(create::create_database(&name, if_not_exists, &options, &self.catalogs).await?);
            }
            Statement::AlterDatabase { name, options } => alter::alter_database(&name, &options, &self.catalogs).await?,
            Statement::AlterTable { name, changes } => {
                let database = name.database.as_deref().unwrap_or(session);
                let _one_at_a_time = self.alterations.take(database, &name.table).await;
                alter::alter_table(database, &name.table, &changes, &self.ddl, &self.sessions).await?;
            }
            Statement::Truncate { name, ranges } => {
                let database = name.database.as_deref().unwrap_or(session);
                truncate::truncate_table(database, &name.table, &ranges, &self.catalogs, &self.sessions).await?;
            }
            Statement::DropDatabase { name, if_exists } => {
                drop::drop_database(&name, if_exists, &self.catalogs).await?;
            }
            Statement::CreateTable(table) => {
                let database = table.name.database.as_deref().unwrap_or(session);
                create::create_table(&table, database, self.node, &self.ddl, &self.sessions).await?;
            }
            Statement::DropTable { names, if_exists } => {
                for name in names {
                    let database = name.database.as_deref().unwrap_or(session);
                    drop::drop_table(database, &name.table, if_exists, &self.ddl).await?;
                }
            }
            _ => return Err(ServerError::new(Code::Internal, "a statement that is no DDL was run as one")),
        }
        Ok(Output::Affected(rows))
    }

    async fn show(&self, statement: Statement, session: &str) -> Result<Output, ServerError> {
        match statement {
            Statement::ShowDatabases { like } => {
                let mut names = self.catalogs.databases().await?;
                names.push(information_schema::NAME.to_owned());
                names.sort();
                names.retain(|name| matches_like(name, like.as_deref()));
                catalog::names_output("Database", names)
            }
            Statement::ShowTables { database, like } => {
                let database = database.as_deref().unwrap_or(session);
                let mut names = self.table_names(database).await?;
                names.retain(|name| matches_like(name, like.as_deref()));
                catalog::names_output("Tables", names)
            }
            Statement::ShowCreateTable(name) => catalog::show_create(&*self.table(&name, session).await?),
            Statement::ShowPartitions(name) => catalog::partitions::show(&self.table(&name, session).await?, &self.catalogs).await,
            Statement::Describe(name) => catalog::describe(&*self.table(&name, session).await?),
            _ => Err(ServerError::new(Code::Internal, "a statement that shows nothing was run as one that does")),
        }
    }

    async fn table_names(&self, database: &str) -> Result<Vec<String>, ServerError> {
        if database == information_schema::NAME {
            return Ok(information_schema::TABLES.iter().map(|name| (*name).to_owned()).collect());
        }
        self.catalogs.require_database(database).await?;
        Ok(self.catalogs.tables(database).await?.iter().map(|table| table.info.name.clone()).collect())
    }

    async fn table(&self, name: &TableName, session: &str) -> Result<Arc<catalog::Table>, ServerError> {
        self.catalogs.table(name.database.as_deref().unwrap_or(session), &name.table).await
    }
}

#[async_trait]
impl SqlService for Standalone {
    async fn execute(&self, sql: &str, database: &str, gone: &CancellationToken) -> Result<Vec<Output>, ServerError> {
        let database = if database.is_empty() { DEFAULT_DATABASE } else { database };
        self.catalogs.require_database(database).await?;
        let statements = parse(sql)?;
        let last = statements.len().saturating_sub(1);
        // A read before that may fail and so keep a write from being done: whether it is must not depend on when the client goes.
        let writes_end = statements.iter().rposition(|statement| !statement.only_reads()).map_or(0, |at| at + 1);
        let mut outputs = Vec::with_capacity(statements.len());
        for (at, statement) in statements.into_iter().enumerate() {
            let answer = async {
                let output = self.run(statement, database).await?;
                // Rows are read lazily, and the next statement may change what they are read from.
                if at == last { Ok(output) } else { settle(output).await }
            };
            outputs.push(if at < writes_end { answer.await? } else { wanted(answer, gone).await? });
        }
        Ok(outputs)
    }
}

/// An answer, which ends where it is once the client has gone.
async fn wanted(answer: impl Future<Output = Result<Output, ServerError>>, gone: &CancellationToken) -> Result<Output, ServerError> {
    gone.run_until_cancelled(answer).await.unwrap_or_else(|| {
        metrics::counter!("tessera_reads_abandoned_total").increment(1);
        Err(ServerError::new(Code::Cancelled, "the client went away before it had its answer"))
    })
}

/// Reads all rows of a result into memory.
async fn settle(output: Output) -> Result<Output, ServerError> {
    let Output::Rows { schema, mut stream } = output else { return Ok(output) };
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = stream.try_next().await? {
        bytes += batch.get_array_memory_size();
        if bytes > limits::SETTLED_BYTES_MAX {
            let message =
                format!("a result of more than {} MiB must be that of the last statement: send it alone", limits::SETTLED_BYTES_MAX >> 20);
            return Err(ServerError::new(Code::ResourcesExhausted, message));
        }
        batches.push(batch);
    }
    Ok(Output::Rows { schema, stream: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))) })
}

/// Goes on with the procedures that are not over.
fn run_procedures(claim: Fence, tools: &Tools) -> Runner {
    let (kv, env) = (Arc::clone(tools.catalogs.catalog.kv()), tools.catalogs.env.clone());
    Runner::start_as(claim, kv, env, procedure::registry(tools), RunnerOptions::DEFAULT)
}

async fn open_regions(catalogs: &Catalogs) -> Result<(), ServerError> {
    let regions = catalogs.regions().await?;
    let watch = Stopwatch::start();
    let (mut open, mut failed) = (0_usize, 0_usize);
    for (region, result) in catalogs.engine.open_regions(regions).await {
        match result {
            Ok(_) => open += 1,
            Err(error) => {
                failed += 1;
                tracing::error!(%region, error = %chain(&error), "a region did not open; its table answers with this error, other tables work");
            }
        }
    }
    let elapsed_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(open, failed, elapsed_ms, "opened regions");
    Ok(())
}

/// Whether a name matches a LIKE pattern: `%` is any text, `_` any character.
fn matches_like(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(of) {
            Some('%') => {
                retry = Some((at, of));
                of += 1;
            }
            Some(wanted) if *wanted == '_' || Some(wanted) == name.get(at) => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((from, percent)) = retry else { return false };
                retry = Some((from + 1, percent));
                at = from + 1;
                of = percent + 1;
            }
        }
    }
    pattern.get(of..).is_none_or(|rest| rest.iter().all(|wanted| *wanted == '%'))
}

#[cfg(test)]
mod tests;
