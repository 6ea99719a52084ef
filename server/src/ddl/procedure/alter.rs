//! ALTER TABLE in steps: check, regions, publish.
//!
//! Invariants:
//! - Regions first, the catalog last, as `ddl::alter` says. Both take an alteration that they have had as done.
//! - Until the first region is altered it can be undone, for nothing was done; from then on it only goes forward, since a
//!   schema does not go back.
//! - What a region would refuse is refused by the check: a column that a rule names, or a scope of a file, is neither
//!   dropped nor of another type afterwards. Under the lock of the table neither can come to be.
//! - The name that a table gets is locked, so that no CREATE takes it between check and publication.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_manifest::id::{ColumnId, RegionId};
use tessera_metaclient::catalog::TableInfo;
use tessera_metaclient::procedure::{Commit, Locks, Procedure, Retry, State, Status, StepContext, StepError};
use tessera_metaclient::values::{self, Kind, json};

use super::{Tools, coded, encode};
use crate::catalog::{Table, from_catalog};
use crate::ddl::alter::{alteration, check_columns};
use crate::error::{Code, ServerError, chain};
use crate::query::error::from_engine;
use crate::query::limits;
use crate::router::RouteTable;

pub(super) const KIND: &str = "alter_table";

const RETRY: Retry = Retry { attempts_max: 6, first: Duration::from_millis(20), longest: Duration::from_secs(10) };

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Checks that the table is as it was when the alteration was planned, and every region open.
    Check,
    /// Alters the regions.
    Regions,
    /// Alters the catalog.
    Publish,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    step: Step,
    /// The table before and after, as metadata shows tables.
    before: Value,
    after: Value,
    regions: Vec<RegionId>,
}

/// An ALTER TABLE.
#[derive(Debug)]
pub struct AlterTable {
    step: Step,
    before: TableInfo,
    after: TableInfo,
    regions: Vec<RegionId>,
    tools: Tools,
}

fn shown(info: &TableInfo) -> Value {
    let key = "alter_table".into();
    json::to_json(&key, Kind::Table, &values::encode(info)).expect("what was just encoded is a sound table")
}

fn read(value: Value) -> Result<TableInfo, String> {
    let bytes = json::from_json(Kind::Table, value).map_err(|error| chain(&error))?;
    values::decode(&"alter_table".into(), &bytes).map_err(|error| chain(&error))
}

impl AlterTable {
    /// The alteration of a table to `after`.
    #[must_use]
    pub fn new(table: &Table, after: TableInfo, tools: Tools) -> Self {
        let regions = table.routes().iter().map(|route| route.region).collect();
        Self { step: Step::Check, before: TableInfo::clone(&table.info), after, regions, tools }
    }

    pub(super) fn load(data: Data, tools: Tools) -> Result<Self, String> {
        let Data { step, before, after, regions } = data;
        Ok(Self { step, before: read(before)?, after: read(after)?, regions, tools })
    }

    async fn check(&mut self) -> Result<Status, StepError> {
        let present = self.tools.catalogs.catalog.table_by_id(self.before.id).await;
        let present = present.map_err(|error| coded(&from_catalog(&error)))?;
        self.rebase(&present);
        if present != self.before && present != self.after {
            let message = format!("table {} was altered by another statement meanwhile: try again", self.before.table_ref());
            return Err(coded(&ServerError::new(Code::IllegalState, message)));
        }
        if self.after.name != self.before.name
            && let Some(other) = self.tools.catalogs.find(&self.after.database, &self.after.name).await.map_err(|error| coded(&error))?
            && other.info.id != self.after.id
        {
            let message = format!("table '{}' already exists in database '{}'", self.after.name, self.after.database);
            return Err(coded(&ServerError::new(Code::TableAlreadyExists, message)));
        }
        let sets = RouteTable::load(&self.tools.catalogs.catalog, self.before.id).await.map_err(|error| coded(&from_catalog(&error)))?;
        self.regions = sets.regions();
        let mut named: BTreeSet<ColumnId> = present.partition_columns.iter().copied().collect();
        named.extend(sets.read.routes.iter().chain(&sets.write.routes).flat_map(|route| route.rule.columns()));
        check_columns(&self.before, &self.after, &named, &self.regions, &self.tools.catalogs).map_err(|error| coded(&error))?;
        self.step = Step::Regions;
        Ok(Status::Next(Commit::progress("altering the regions", 1, 3)))
    }

    /// Takes over what a repartition changed since the statement was planned, if that is all that changed: counters, and
    /// partition columns of which none is dropped.
    fn rebase(&mut self, present: &TableInfo) {
        let TableInfo { partition_columns, next_region_number, next_generation, .. } = present.clone();
        let moved = |info: &TableInfo| TableInfo {
            partition_columns: partition_columns.clone(),
            next_region_number,
            next_generation,
            ..info.clone()
        };
        if moved(&self.before) == *present && moved(&self.after).check().is_ok() {
            (self.before, self.after) = (moved(&self.before), moved(&self.after));
        }
    }

    async fn alter_regions(&mut self) -> Result<Status, StepError> {
        let to = alteration(&self.after);
        let engine = &self.tools.catalogs.engine;
        let alter = |region: &RegionId| {
            let (to, region) = (&to, *region);
            // Opened here if need be: after a restart nobody else may have.
            async move { engine.open_region(region).await?.alter(to).await }
        };
        let alters: Vec<_> = self.regions.iter().map(alter).collect();
        let results: Vec<Result<(), _>> = stream::iter(alters).buffer_unordered(limits::PARALLELISM).collect().await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return Err(coded(&from_engine(&error)));
        }
        self.step = Step::Publish;
        Ok(Status::Next(Commit::progress("publishing the alteration", 2, 3)))
    }

    async fn publish(&self) -> Result<Status, StepError> {
        let altered = self.tools.catalogs.catalog.alter_table(&self.before, &self.after).await;
        altered.map_err(|error| coded(&from_catalog(&error)))?;
        Ok(Status::done())
    }
}

#[async_trait]
impl Procedure for AlterTable {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn state(&self) -> State {
        let Self { step, before, after, regions, tools: _ } = self;
        encode(&Data { step: *step, before: shown(before), after: shown(after), regions: regions.clone() })
    }

    fn locks(&self) -> Locks {
        let TableInfo { id, database, name, .. } = &self.after;
        let locks = Locks::none().exclusive(format!("table/{id}")).shared(format!("database/{database}"));
        if *name == self.before.name { locks } else { locks.exclusive(format!("name/{database}/{name}")) }
    }

    fn past_no_return(&self) -> bool {
        self.step != Step::Check
    }

    async fn step(&mut self, _: &StepContext) -> Result<Status, StepError> {
        match self.step {
            Step::Check => self.check().await,
            Step::Regions => self.alter_regions().await,
            Step::Publish => self.publish().await,
        }
    }

    async fn rollback(&mut self, _: &StepContext) -> Result<Status, StepError> {
        Ok(Status::done())
    }

    fn retry(&self) -> Retry {
        RETRY
    }
}
