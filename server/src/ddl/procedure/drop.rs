//! DROP TABLE in steps.
//!
//! Invariants:
//! - There is no way back: once the procedure runs, a marker may be on the store, and whoever starts on that store later
//!   acts on it. A store that does not answer is asked until it does.
//! - No statement touches the table from before the marker is written.
//! - The name of the marker is drawn before the procedure is submitted, so that there is one.
//! - In the place of a blocked repartition it drops the regions that were to be created, too, and before the regions go it
//!   decides what was not decided: as abort, unless somebody was faster. A region that cannot follow a commit stays
//!   staged, with all its files and its tombstone: what the marker's verdict needs is there, purge or undrop.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tessera_manifest::id::{Generation, NodeId, RegionId, TxnId};
use tessera_metaclient::catalog::Catalog;
use tessera_metaclient::procedure::{Blocked, Commit, Locks, Phase, Procedure, Record, Retry, State, Status, StepContext, StepError};
use tessera_metaclient::repartition::{self, Decided, Group, Verdict};

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
    /// What the blocked repartition in whose place it is left open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<Open>,
}

/// A group of a repartition that was not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    txn: TxnId,
    commit: Generation,
    abort: Generation,
    /// Its regions, each with its node and the generation that it was in.
    regions: Vec<(RegionId, NodeId, Generation)>,
}

impl Open {
    fn of(group: &Group) -> Self {
        let sources = group.plan.sources.iter().map(|source| (source.region, source.node, source.generation));
        let created = group.plan.created().map(|target| (target.region, target.node, Generation::FIRST));
        Self { txn: group.txn, commit: group.commit, abort: group.abort, regions: sources.chain(created).collect() }
    }
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
        let data = Data { step: Step::Mark, marker: env.ulid().to_string(), drop, open: Vec::new() };
        Self { data, tools }
    }

    /// The drop in the place of a blocked procedure; `None` where that is none which a drop may end.
    #[must_use]
    pub fn over(self, blocked: &Record) -> Option<Self> {
        let open = match (blocked.phase, blocked.kind.as_str()) {
            (Phase::Blocked { on: Blocked::Failed, .. }, super::alter::KIND) => Vec::new(),
            (Phase::Blocked { on: Blocked::Failed, .. }, repartition::KIND) => {
                let data = repartition::Data::from_state(&blocked.state).ok()?;
                data.groups.iter().filter(|group| !group.is_over()).map(Open::of).collect()
            }
            _ => return None,
        };
        Some(Self { data: Data { open, ..self.data }, ..self })
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
        let open: Vec<RegionId> = self.data.open.iter().flat_map(|group| &group.regions).map(|(region, ..)| *region).collect();
        let regions = &mut self.data.drop.regions;
        regions.extend(open);
        regions.sort_unstable();
        regions.dedup();
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

    async fn clear(&self, listed: bool) -> Result<Status, StepError> {
        let Drop { table, regions, .. } = &self.data.drop;
        self.tools.catalogs.closed.close(*table, Why::Dropped);
        for group in &self.data.open {
            self.end(group).await?;
        }
        let output = (if listed { "dropped" } else { GONE }).to_owned();
        // What cannot be dropped now has its tombstone, by which every start tries again.
        let all = drop_regions(*table, regions, &self.tools.catalogs).await;
        let commit = if all { with(Commit::default(), Catalog::plan_remove_tombstone(*table)) } else { Commit::default() };
        Ok(Status::Done { output: Some(output), commit })
    }

    /// Has the regions of a group follow its decision, as far as they can.
    async fn end(&self, group: &Open) -> Result<(), StepError> {
        let (port, table) = (&self.tools.repartition.port, self.data.drop.table);
        let proposal = Decided { txn: group.txn, table, commit: group.commit, abort: group.abort, verdict: Verdict::Abort };
        let decided = match port.decide(&proposal).await {
            Ok(decided) => decided,
            Err(error) if error.retryable => return Err(StepError::retryable(error)),
            Err(error) => {
                tracing::warn!(%table, txn = %group.txn, %error, "what a repartition of a dropped table decided cannot be read");
                return Ok(());
            }
        };
        for (region, node, base) in &group.regions {
            if let Err(error) = port.resolve(*node, *region, *base, &decided).await {
                tracing::warn!(%table, %region, %error, "a region of a dropped table does not follow its repartition");
            }
        }
        Ok(())
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
            Step::Clear { listed } => self.clear(listed).await,
        }
    }

    async fn rollback(&mut self, _: &StepContext) -> Result<Status, StepError> {
        Err(StepError::fatal("a drop cannot be undone"))
    }

    fn retry(&self) -> Retry {
        RETRY
    }
}
