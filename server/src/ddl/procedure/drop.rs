//! DROP TABLE in steps.
//!
//! Invariants:
//! - There is no way back: once the procedure runs, a marker may be on the store, and whoever starts on that store later
//!   acts on it. A store that does not answer is asked until it does.
//! - No statement touches the table from before the marker is written.
//! - The name of the marker is drawn before the procedure is submitted, so that there is one.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tessera_metaclient::catalog::Catalog;
use tessera_metaclient::procedure::{Commit, Locks, Procedure, Retry, State, Status, StepContext, StepError};

use super::create::with;
use super::{Tools, coded, encode};
use crate::catalog::closed::Why;
use crate::catalog::{Table, from_catalog};
use crate::ddl::drop::drop_regions;
use crate::ddl::marker::{self, Drop};
use crate::router::RouteTable;

pub(super) const KIND: &str = "drop_table";
/// The output of a drop that found no table.
pub const GONE: &str = "gone";

const RETRY: Retry = Retry { attempts_max: u32::MAX, first: Duration::from_millis(20), longest: Duration::from_secs(10) };

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Writes the marker.
    Mark,
    /// Takes the table out of the catalog.
    Leave,
    /// Drops the regions; whether the catalog had the table.
    Clear { listed: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    step: Step,
    /// The name of the marker.
    marker: String,
    drop: Drop,
}

/// A DROP TABLE.
#[derive(Debug)]
pub struct DropTable {
    data: Data,
    tools: Tools,
}

impl DropTable {
    /// The drop of a table.
    #[must_use]
    pub fn new(table: &Table, tools: Tools) -> Self {
        let env = &tools.catalogs.env;
        let drop = Drop {
            table: table.info.id,
            database: table.info.database.clone(),
            name: table.info.name.clone(),
            unix_ms: env.unix_ms(),
            regions: table.regions(),
        };
        let data = Data { step: Step::Mark, marker: env.ulid().to_string(), drop };
        Self { data, tools }
    }

    pub(super) fn load(data: Data, tools: Tools) -> Self {
        Self { data, tools }
    }

    async fn mark(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let Data { drop, .. } = &self.data;
        let why = format!("its drop is decided and under way, as procedure {}", context.id());
        self.tools.catalogs.closed.close(drop.table, Why::Undecided(why));
        context.check_fence().await?;
        // A repartition may have ended since the statement was planned.
        let sets = RouteTable::load(&self.tools.catalogs.catalog, drop.table).await.map_err(|error| coded(&from_catalog(&error)))?;
        let listed = sets.regions();
        if !listed.is_empty() {
            self.data.drop.regions = listed;
        }
        let Data { marker, drop, .. } = &self.data;
        marker::write(&self.tools.store, marker, drop).await.map_err(|error| coded(&error))?;
        self.data.step = Step::Leave;
        Ok(Status::Next(Commit::progress("taking the table out of the catalog", 1, 3)))
    }

    async fn leave(&mut self) -> Result<Status, StepError> {
        let Drop { table, unix_ms, .. } = self.data.drop;
        let planned = self.tools.catalogs.catalog.plan_drop_table(table, unix_ms).await;
        let planned = planned.map_err(|error| coded(&from_catalog(&error)))?;
        self.data.step = Step::Clear { listed: planned.is_some() };
        Ok(Status::Next(with(Commit::progress("dropping the regions", 2, 3), planned.unwrap_or_default())))
    }

    async fn clear(&self, listed: bool) -> Status {
        let Drop { table, regions, .. } = &self.data.drop;
        self.tools.catalogs.closed.close(*table, Why::Dropped);
        let output = (if listed { "dropped" } else { GONE }).to_owned();
        // What cannot be dropped now has its tombstone, by which every start tries again.
        let all = drop_regions(*table, regions, &self.tools.catalogs).await;
        let commit = if all { with(Commit::default(), Catalog::plan_remove_tombstone(*table)) } else { Commit::default() };
        Status::Done { output: Some(output), commit }
    }
}

#[async_trait]
impl Procedure for DropTable {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn state(&self) -> State {
        encode(&self.data)
    }

    fn locks(&self) -> Locks {
        let Drop { table, database, .. } = &self.data.drop;
        Locks::none().exclusive(format!("table/{table}")).shared(format!("database/{database}"))
    }

    fn past_no_return(&self) -> bool {
        true
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        match self.data.step {
            Step::Mark => self.mark(context).await,
            Step::Leave => self.leave().await,
            Step::Clear { listed } => Ok(self.clear(listed).await),
        }
    }

    async fn rollback(&mut self, _: &StepContext) -> Result<Status, StepError> {
        Err(StepError::fatal("a drop cannot be undone"))
    }

    fn retry(&self) -> Retry {
        RETRY
    }
}
