//! CREATE TABLE in steps.
//!
//! Invariants:
//! - The id is taken in the transaction that stores that it was: a crash loses none, and no two tables get the same.
//! - A region of that id with this table's metadata and no row is ours, from an earlier attempt; any other is somebody
//!   else's, and neither used nor dropped.
//! - The table begins to exist in the transaction that ends the procedure. Until then everything can be undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tessera_engine::error::Error as EngineError;
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;
use tessera_metaclient::catalog::{Planned, Route, TableInfo};
use tessera_metaclient::procedure::{Commit, Locks, Procedure, Retry, State, Status, StepContext, StepError};

use super::{Tools, coded, encode};
use crate::catalog::from_catalog;
use crate::ddl::create::Definition;
use crate::ddl::drop::is_gone;
use crate::error::{Code, ServerError};
use crate::query::error::from_engine;
use crate::query::limits;

pub(super) const KIND: &str = "create_table";

/// A region that cannot be created is tried again for about a second; then everything is undone and the statement fails.
const RETRY: Retry = Retry { attempts_max: 6, first: Duration::from_millis(20), longest: Duration::from_secs(5) };

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Takes an id.
    Allocate,
    /// Creates the regions of this table.
    Regions(TableId),
    /// Puts this table into the catalog.
    Publish(TableId),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    step: Step,
    database: String,
    name: String,
    schema: Schema,
    partition_columns: Vec<ColumnId>,
    /// The rule of each region, in order of their numbers.
    rules: Vec<Expr>,
    options: BTreeMap<String, String>,
    created_unix_ms: u64,
    node: NodeId,
}

/// A CREATE TABLE.
#[derive(Debug)]
pub struct CreateTable {
    data: Data,
    tools: Tools,
}

impl CreateTable {
    /// The creation of table `database.name`.
    #[must_use]
    pub fn new(database: &str, name: &str, definition: Definition, node: NodeId, tools: Tools) -> Self {
        let Definition { schema, partition_columns, rules, options } = definition;
        let (database, name, created_unix_ms) = (database.to_owned(), name.to_owned(), tools.catalogs.env.unix_ms());
        let data = Data { step: Step::Allocate, database, name, schema, partition_columns, rules, options, created_unix_ms, node };
        Self { data, tools }
    }

    pub(super) fn load(data: Data, tools: Tools) -> Self {
        Self { data, tools }
    }

    /// The table with its routes, under this id.
    fn lay_out(&self, id: TableId) -> (TableInfo, Vec<Route>) {
        let Data { step: _, database, name, schema, partition_columns, rules, options, created_unix_ms, node } = &self.data;
        let numbers = u32::try_from(rules.len()).unwrap_or(u32::MAX);
        let routes = rules.iter().zip(0..numbers).map(|(rule, number)| {
            let region = RegionId::new(id, RegionNumber(number));
            Route { region, node: *node, generation: Generation::FIRST, rule: rule.clone() }
        });
        let info = TableInfo {
            id,
            database: database.clone(),
            name: name.clone(),
            schema: schema.clone(),
            partition_columns: partition_columns.clone(),
            options: options.clone(),
            created_unix_ms: *created_unix_ms,
            next_region_number: RegionNumber(numbers),
            next_generation: Generation::new(Generation::FIRST.as_u32() + 1).unwrap_or(Generation::MAX),
        };
        (info, routes.collect())
    }

    fn metas(&self, id: TableId) -> Vec<RegionMeta> {
        let (info, routes) = self.lay_out(id);
        let schema = Arc::new(info.schema);
        let meta = |route: Route| RegionMeta {
            region: route.region,
            database: info.database.clone(),
            table: info.name.clone(),
            schema: Arc::clone(&schema),
            partition_columns: info.partition_columns.clone(),
            rule: Arc::new(route.rule),
            generation: route.generation,
            options: info.options.clone(),
        };
        routes.into_iter().map(meta).collect()
    }

    /// Takes an id, if the table can be created at all.
    async fn allocate(&mut self) -> Result<Status, StepError> {
        let Data { database, name, .. } = &self.data;
        let Tools { catalogs, in_use, .. } = &self.tools;
        // Said before an id is taken; the last step checks it again.
        if let Some(table) = catalogs.find(database, name).await.map_err(|error| coded(&error))? {
            let message = format!("table '{name}' already exists in database '{database}', with id {}", table.info.id);
            return Err(coded(&ServerError::new(Code::TableAlreadyExists, message)));
        }
        let (id, planned) = catalogs.catalog.plan_table_id(*in_use).await.map_err(|error| coded(&from_catalog(&error)))?;
        self.data.step = Step::Regions(id);
        Ok(Status::Next(with(Commit::progress("creating the regions", 1, 3), planned)))
    }

    async fn create_regions(&mut self, id: TableId) -> Result<Status, StepError> {
        let creates: Vec<_> = self.metas(id).into_iter().map(|meta| self.create_region(meta)).collect();
        let () = stream::iter(creates).buffer_unordered(limits::PARALLELISM).try_collect().await.map_err(|error| coded(&error))?;
        self.data.step = Step::Publish(id);
        Ok(Status::Next(Commit::progress("publishing the table", 2, 3)))
    }

    async fn create_region(&self, meta: RegionMeta) -> Result<(), ServerError> {
        let (engine, region) = (&self.tools.catalogs.engine, meta.region);
        if engine.region(region).is_err() {
            match engine.create_region(meta.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if exists(&error) => {}
                Err(error) => return Err(from_engine(&error)),
            }
        }
        if self.is_ours(&meta).await? {
            return Ok(());
        }
        let message = format!("the store has a region {region} already, which is not of this table: run `tessera doctor` on the data home");
        Err(ServerError::new(Code::IllegalState, message))
    }

    /// Whether the region is one that an earlier attempt made.
    async fn is_ours(&self, meta: &RegionMeta) -> Result<bool, ServerError> {
        let open = self.tools.catalogs.engine.open_region(meta.region).await.map_err(|error| from_engine(&error))?;
        let info = open.info();
        Ok(*open.meta() == *meta && info.file_rows == 0 && info.memtable_rows == 0)
    }

    async fn publish(&mut self, id: TableId) -> Result<Status, StepError> {
        let (info, routes) = self.lay_out(id);
        // After a restart nobody else has opened them, and a table that is there must answer.
        let engine = &self.tools.catalogs.engine;
        let opened = engine.open_regions(routes.iter().map(|route| route.region).collect()).await;
        if let Some(error) = opened.into_iter().find_map(|(_, result)| result.err()) {
            return Err(coded(&from_engine(&error)));
        }
        let planned = self.tools.catalogs.catalog.plan_create_table(&info, &routes).await;
        let planned = planned.map_err(|error| coded(&from_catalog(&error)))?;
        Ok(Status::Done { output: Some(id.to_string()), commit: with(Commit::default(), planned) })
    }

    /// Drops what was made of the regions.
    async fn undo(&self, id: TableId) -> Result<Status, StepError> {
        let drops: Vec<_> = self.metas(id).into_iter().map(|meta| self.undo_region(meta)).collect();
        let () = stream::iter(drops).buffer_unordered(limits::PARALLELISM).try_collect().await.map_err(|error| coded(&error))?;
        Ok(Status::done())
    }

    async fn undo_region(&self, meta: RegionMeta) -> Result<(), ServerError> {
        let region = meta.region;
        match self.tools.catalogs.engine.open_region(region).await {
            Ok(_) => {}
            Err(EngineError::RegionNotFound { .. }) => return Ok(()),
            Err(error) if is_gone(&error) => {
                // The engine has noted that it could not be opened.
                return self.tools.catalogs.engine.close_region(region).await.map_err(|error| from_engine(&error));
            }
            Err(error) => return Err(from_engine(&error)),
        }
        if !self.is_ours(&meta).await? {
            tracing::warn!(%region, "a region that a failed CREATE TABLE found is not its own: it stays as it is");
            return Ok(());
        }
        self.tools.catalogs.engine.drop_region(region).await.map_err(|error| from_engine(&error))
    }
}

/// Whether a region could not be created because there is one.
fn exists(error: &EngineError) -> bool {
    matches!(error, EngineError::Manifest { source, .. } if matches!(**source, tessera_manifest::error::Error::Exists { .. }))
}

pub(super) fn with(commit: Commit, planned: Planned) -> Commit {
    planned.compares.into_iter().fold(commit, Commit::when).then(planned.ops)
}

#[async_trait]
impl Procedure for CreateTable {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn state(&self) -> State {
        encode(&self.data)
    }

    fn locks(&self) -> Locks {
        let Data { database, name, .. } = &self.data;
        Locks::none().exclusive(format!("name/{database}/{name}")).shared(format!("database/{database}"))
    }

    fn past_no_return(&self) -> bool {
        false
    }

    async fn step(&mut self, _: &StepContext) -> Result<Status, StepError> {
        match self.data.step {
            Step::Allocate => self.allocate().await,
            Step::Regions(id) => self.create_regions(id).await,
            Step::Publish(id) => self.publish(id).await,
        }
    }

    async fn rollback(&mut self, _: &StepContext) -> Result<Status, StepError> {
        match self.data.step {
            Step::Allocate => Ok(Status::done()),
            Step::Regions(id) | Step::Publish(id) => self.undo(id).await,
        }
    }

    fn retry(&self) -> Retry {
        RETRY
    }
}
