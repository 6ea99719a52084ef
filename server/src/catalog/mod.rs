//! Tables as statements see them: the metadata client's catalog joined with the engine's regions.
//!
//! Invariants:
//! - A statement loads each table once and works on that copy; a change under its feet is refused by the
//!   region, by generation and rule version.
//! - This is the only module that calls the metadata client, apart from `admin`, `ddl` and `doctor`.

pub mod closed;
pub mod information_schema;
pub mod partitions;
pub mod provider;

mod describe;

use std::sync::Arc;
use std::time::Duration;

use tessera_engine::engine::Engine;
use tessera_manifest::env::{Env, Moment};
use tessera_manifest::id::RegionId;
use tessera_metaclient::catalog::{Catalog, CatalogError, Route, TableInfo, TableRef};
use tessera_metaclient::procedure::{Locks, Procedures};

use crate::ddl::procedure::{from_procedure, obstructed};
use crate::error::{Code, ServerError, chain};
use crate::query::limits;
use crate::router::{Decoded, Next, Patience, RouteTable, Waiting};
pub use closed::Closed;
pub(crate) use describe::rows;
pub use describe::{create_text, describe, names_output, show_create};
pub use provider::TesseraTable;

/// The database of a session that names none.
pub use tessera_metaclient::catalog::DEFAULT_DATABASE;

/// A table with its routes, as of one moment.
#[derive(Debug, Clone)]
pub struct Table {
    /// What the catalog says of it.
    pub info: Arc<TableInfo>,
    /// Where its rows are read and written.
    pub sets: RouteTable,
}

impl Table {
    /// `database.table`, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}.{}", self.info.database, self.info.name)
    }

    /// The regions that rows are read from, in the order of their numbers.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.sets.read.routes
    }

    /// The regions that rows are written to, in the order of their numbers; others than those that are read while a
    /// repartition is under way.
    #[must_use]
    pub fn write_routes(&self) -> &[Route] {
        &self.sets.write.routes
    }

    /// All regions that either set has, each once.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionId> {
        self.sets.regions()
    }
}

/// The catalog and the engine of a process; a cheap handle.
#[derive(Clone)]
pub struct Catalogs {
    /// Databases, tables and routes.
    pub catalog: Catalog,
    /// The regions.
    pub engine: Engine,
    /// Time and ids.
    pub env: Env,
    /// Tables that no statement may touch.
    pub closed: Closed,
    /// Bytes of one write to a region.
    pub batch_bytes_max: usize,
    /// The memory of rows that wait for a repartition.
    pub waiting: Waiting,
    /// What was read of tables before, so that a statement decodes only what is new.
    pub decoded: Decoded,
}

impl Catalogs {
    /// The table with this name.
    ///
    /// # Errors
    /// An unknown database or table, or a table that is closed.
    pub async fn table(&self, database: &str, name: &str) -> Result<Arc<Table>, ServerError> {
        let table = self.listed(database, name).await?;
        self.closed.check(&table)?;
        Ok(table)
    }

    /// The table with this name, even if it is closed.
    ///
    /// # Errors
    /// An unknown database or table.
    pub async fn listed(&self, database: &str, name: &str) -> Result<Arc<Table>, ServerError> {
        match self.find(database, name).await? {
            Some(table) => Ok(table),
            None => {
                self.require_database(database).await?;
                Err(ServerError::new(Code::TableNotFound, format!("there is no table '{name}' in database '{database}'")))
            }
        }
    }

    /// The table with this name, if there is one.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn find(&self, database: &str, name: &str) -> Result<Option<Arc<Table>>, ServerError> {
        let found =
            RouteTable::find(&self.catalog, &self.decoded, &TableRef::new(database, name)).await.map_err(|error| from_catalog(&error))?;
        let found = found.filter(|(_, sets)| !sets.read.routes.is_empty());
        Ok(found.map(|(info, sets)| Arc::new(Table { info, sets })))
    }

    /// The tables of a database, by name, closed ones included.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn tables(&self, database: &str) -> Result<Vec<Arc<Table>>, ServerError> {
        let mut tables = Vec::new();
        for info in self.catalog.tables(database).await.map_err(|error| from_catalog(&error))? {
            tables.extend(self.with_routes(info).await?);
        }
        tables.sort_by(|a, b| a.info.name.cmp(&b.info.name));
        Ok(tables)
    }

    /// Every table of every database, by id.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn all_tables(&self) -> Result<Vec<Arc<Table>>, ServerError> {
        let mut tables = Vec::new();
        for info in self.catalog.all_tables().await.map_err(|error| from_catalog(&error))? {
            tables.extend(self.with_routes(info).await?);
        }
        Ok(tables)
    }

    /// The databases, by name; `information_schema` is not among them.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn databases(&self) -> Result<Vec<String>, ServerError> {
        let databases = self.catalog.databases().await.map_err(|error| from_catalog(&error))?;
        let mut names: Vec<String> = databases.into_iter().map(|database| database.name).collect();
        names.sort();
        Ok(names)
    }

    /// That there is a database with this name. Of the default one, which cannot be dropped, nothing is asked.
    ///
    /// # Errors
    /// When there is not; the message says which there are.
    pub async fn require_database(&self, database: &str) -> Result<(), ServerError> {
        if matches!(database, DEFAULT_DATABASE | information_schema::NAME) {
            return Ok(());
        }
        match self.catalog.database(database).await {
            Ok(_) => Ok(()),
            Err(CatalogError::DatabaseNotFound { .. }) => {
                let known = self.databases().await?.join(", ");
                let message = format!("there is no database '{database}'; databases are {known}");
                Err(ServerError::new(Code::DatabaseNotFound, message))
            }
            Err(error) => Err(from_catalog(&error)),
        }
    }

    /// What DataFusion reads a table through, with defaults as of now.
    #[must_use]
    pub fn provider(&self, table: Arc<Table>) -> TesseraTable {
        TesseraTable::new(table, self.engine.clone(), self.closed.clone(), self.env.unix_ms())
    }

    /// Every region that the catalog routes to, but for those of closed tables.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn regions(&self) -> Result<Vec<RegionId>, ServerError> {
        let tables = self.all_tables().await?;
        let open = tables.iter().filter(|table| !self.closed.contains(table.info.id));
        Ok(open.flat_map(|table| table.regions()).collect())
    }

    /// The present routes of a table, whatever it is called by now.
    ///
    /// # Errors
    /// A table that was dropped or is closed.
    pub async fn routes(&self, table: &Table) -> Result<RouteTable, ServerError> {
        let loaded = RouteTable::load_with_table(&self.catalog, &self.decoded, table.info.id).await;
        let (_, sets) = loaded.map_err(|error| from_catalog(&error))?;
        self.still_there(table, sets)
    }

    /// The table as it is now, whatever it is called: columns, options and routes as of one moment.
    ///
    /// # Errors
    /// A table that was dropped or is closed.
    pub async fn present(&self, table: &Table) -> Result<Table, ServerError> {
        let loaded = RouteTable::load_with_table(&self.catalog, &self.decoded, table.info.id).await;
        let (info, sets) = loaded.map_err(|error| from_catalog(&error))?;
        let sets = self.still_there(table, sets)?;
        let dropped = || ServerError::new(Code::TableNotFound, format!("table {} was dropped", table.shown()));
        Ok(Table { info: info.ok_or_else(dropped)?, sets })
    }

    /// The routes of a table when they are other ones than it has, or after `longest`.
    ///
    /// # Errors
    /// A table that was dropped or is closed.
    pub async fn routes_changed(&self, table: &Table, longest: Duration) -> Result<RouteTable, ServerError> {
        let sets = table.sets.changed(&self.catalog, table.info.id, longest).await.map_err(|error| from_catalog(&error))?;
        self.still_there(table, sets)
    }

    /// The table once its rows are read where they are written; waits for a repartition that is between the two.
    ///
    /// # Errors
    /// A table that was dropped or is closed, or a repartition that takes too long, or is blocked.
    pub async fn settled(&self, table: Arc<Table>) -> Result<Arc<Table>, ServerError> {
        let (began, mut patience, mut table) = (Moment::now(), Patience::default(), table);
        while !table.sets.is_settled() {
            self.check_unobstructed(&table).await?;
            let Next::Wait(pause) = patience.refused(Moment::now().since(began), limits::REPARTITION_WAIT_MAX) else {
                let text = format!("table {} is being repartitioned: try again later", table.shown());
                return Err(ServerError::new(Code::RegionBusy, text));
            };
            let sets = self.routes_changed(&table, pause).await?;
            table = Arc::new(Table { info: Arc::clone(&table.info), sets });
        }
        Ok(table)
    }

    /// That no procedure which is blocked keeps the table from being repartitioned to the end.
    ///
    /// # Errors
    /// [`obstructed`]; or when the catalog does not answer.
    pub async fn check_unobstructed(&self, table: &Table) -> Result<(), ServerError> {
        let client = Procedures::new(Arc::clone(self.catalog.kv()), self.env.clone());
        let locks = Locks::none().exclusive(format!("table/{}", table.info.id));
        let by = client.obstacle(&locks).await.map_err(|error| from_procedure(&error))?;
        by.map_or(Ok(()), |by| Err(obstructed(&by)))
    }

    fn still_there(&self, table: &Table, sets: RouteTable) -> Result<RouteTable, ServerError> {
        self.closed.check(table)?;
        if sets.read.routes.is_empty() {
            return Err(ServerError::new(Code::TableNotFound, format!("table {} was dropped", table.shown())));
        }
        Ok(sets)
    }

    /// The table with its routes; `None` if it was dropped since `info` was read, for a table has at least one route.
    async fn with_routes(&self, info: TableInfo) -> Result<Option<Arc<Table>>, ServerError> {
        let sets = RouteTable::load(&self.catalog, info.id).await.map_err(|error| from_catalog(&error))?;
        Ok((!sets.read.routes.is_empty()).then(|| Arc::new(Table { info: Arc::new(info), sets })))
    }
}

/// An error of the metadata client.
#[must_use]
pub fn from_catalog(error: &CatalogError) -> ServerError {
    let code = match error {
        CatalogError::RecoveryMode { .. } => {
            let message = format!("{} (POST /admin/recovery/disable)", chain(error));
            return ServerError::new(Code::IllegalState, message);
        }
        CatalogError::NotInRecoveryMode => {
            let message = format!("{} (POST /admin/recovery/enable)", chain(error));
            return ServerError::new(Code::IllegalState, message);
        }
        CatalogError::SequenceBehind { highest, .. } => {
            let message = format!("{}: {}", chain(error), crate::doctor::how_to_raise(*highest));
            return ServerError::new(Code::IllegalState, message);
        }
        CatalogError::TableNotFound { .. } | CatalogError::TableIdNotFound { .. } => Code::TableNotFound,
        CatalogError::DatabaseNotFound { .. } => Code::DatabaseNotFound,
        CatalogError::TableExists { .. } => Code::TableAlreadyExists,
        CatalogError::DatabaseExists { .. } => Code::DatabaseAlreadyExists,
        _ => return ServerError::from_class(error.class(), error),
    };
    ServerError::new(code, chain(error))
}
