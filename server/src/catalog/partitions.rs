//! The partitions of tables: where their rows are read and written, and which are being repartitioned.
//!
//! A partition is a region of either route set. While a repartition is under way the sets differ: what is read has its old
//! rule, what is written its new one, and regions may be in one set only.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use tessera_engine::request::Unlocalized;
use tessera_engine::staging::StagingInfo;
use tessera_manifest::id::RegionId;
use tessera_metaclient::catalog::Route;

use super::{Catalogs, Table};
use crate::error::{ServerError, chain};
use crate::query::rules;
use crate::service::Output;

/// A partition as it stands.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its table.
    pub table: Arc<Table>,
    /// Its region.
    pub region: RegionId,
    /// Where its rows are read; `None` for one that has none to be read yet.
    pub read: Option<Route>,
    /// Where its rows are written; `None` for one that takes none any more.
    pub write: Option<Route>,
    /// What a repartition has staged in it.
    pub staging: Option<StagingInfo>,
    /// What earlier ones left for compaction to rewrite; `None` where the region is not served.
    pub unlocalized: Option<Unlocalized>,
    /// Why it is not served; `None` if it is.
    pub error: Option<String>,
}

impl Partition {
    /// The partitions of a table, by region number.
    pub async fn of(table: &Arc<Table>, catalogs: &Catalogs) -> Vec<Self> {
        let mut partitions = Vec::new();
        for region in table.regions() {
            let (staging, error) = match standing(table, region, catalogs).await {
                Ok(staging) => (staging, None),
                Err(error) => (None, Some(error)),
            };
            let find = |routes: &[Route]| routes.iter().find(|route| route.region == region).cloned();
            let (read, write) = (find(table.routes()), find(table.write_routes()));
            let open = catalogs.engine.region(region).ok().filter(|_| error.is_none());
            let unlocalized = open.map(|open| open.unlocalized());
            partitions.push(Self { table: Arc::clone(table), region, read, write, staging, unlocalized, error });
        }
        partitions
    }

    /// The route that says most of it: by which it is read, else by which it is written.
    fn route(&self) -> Option<&Route> {
        self.read.as_ref().or(self.write.as_ref())
    }

    /// Its name: `p3` for region number 3.
    #[must_use]
    pub fn name(&self) -> String {
        format!("p{}", self.region.number())
    }

    /// The rule of the rows that are read from it, or are to be.
    #[must_use]
    pub fn rule(&self) -> String {
        self.route().map_or_else(String::new, |route| rules::text(&route.rule, &self.table.info.schema))
    }

    /// The rule of the rows that are written to it, if it is another.
    #[must_use]
    pub fn new_rule(&self) -> Option<String> {
        let read = self.read.as_ref().map(|route| &route.rule);
        let write = self.write.as_ref()?;
        (read != Some(&write.rule)).then(|| rules::text(&write.rule, &self.table.info.schema))
    }

    /// `LEADER` where it is served, `STAGING` while it is being repartitioned, `DOWN` where it is not served.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (&self.error, &self.staging) {
            (Some(_), _) => "DOWN",
            (None, Some(_)) => "STAGING",
            (None, None) if self.read.is_none() || self.write.is_none() => "STAGING",
            (None, None) => "LEADER",
        }
    }

    /// The node that serves it.
    #[must_use]
    pub fn node(&self) -> Option<u64> {
        self.route().map(|route| route.node.0)
    }

    /// The generation of what is read.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.read.as_ref().map(|route| u64::from(route.generation.as_u32()))
    }

    /// The generation of what is written, or staged.
    #[must_use]
    pub fn new_generation(&self) -> Option<u64> {
        let staged = self.staging.as_ref().map(|staging| u64::from(staging.generation.as_u32()));
        let written = self.write.as_ref().map(|route| u64::from(route.generation.as_u32()));
        staged.or_else(|| written.filter(|written| Some(*written) != self.generation()))
    }

    /// Files in the folders of other regions.
    fn foreign_files(&self) -> Option<u64> {
        self.unlocalized.map(|left| left.foreign_files as u64)
    }

    /// Files of which scans filter out rows that are not its own.
    fn residual_files(&self) -> Option<u64> {
        self.unlocalized.map(|left| left.residual_files as u64)
    }
}

/// What is staged in a region, or why it is not served.
async fn standing(table: &Table, region: RegionId, catalogs: &Catalogs) -> Result<Option<StagingInfo>, String> {
    catalogs.closed.check(table).map_err(|error| error.message)?;
    catalogs.engine.staging(region).await.map_err(|error| chain(&error))
}

/// The columns of `information_schema.partitions` and `SHOW PARTITIONS` that tell of the present.
pub(super) fn present(partitions: &[Partition]) -> Vec<(&'static str, ArrayRef)> {
    let staged = |show: fn(&StagingInfo) -> String| -> ArrayRef {
        Arc::new(partitions.iter().map(|each| each.staging.as_ref().map(show)).collect::<StringArray>())
    };
    let number = |get: fn(&Partition) -> Option<u64>| -> ArrayRef { Arc::new(partitions.iter().map(get).collect::<UInt64Array>()) };
    let since = partitions.iter().map(|each| i64::try_from(each.staging.as_ref()?.since_unix_ms?).ok());
    let state = partitions.iter().map(|each| Some(each.state())).collect::<StringArray>();
    vec![
        ("node", number(Partition::node)),
        ("generation", number(Partition::generation)),
        ("leader_state", Arc::new(state)),
        ("staging_txn", staged(|staging| staging.txn.to_string())),
        ("staging_since", Arc::new(since.collect::<TimestampMillisecondArray>())),
        ("new_generation", number(Partition::new_generation)),
        ("new_rule", Arc::new(partitions.iter().map(Partition::new_rule).collect::<StringArray>())),
        ("foreign_files", number(Partition::foreign_files)),
        ("residual_files", number(Partition::residual_files)),
    ]
}

/// `SHOW PARTITIONS`.
///
/// # Errors
/// None in practice.
pub async fn show(table: &Arc<Table>, catalogs: &Catalogs) -> Result<Output, ServerError> {
    let partitions = Partition::of(table, catalogs).await;
    let text =
        |show: fn(&Partition) -> String| -> ArrayRef { Arc::new(partitions.iter().map(|each| Some(show(each))).collect::<StringArray>()) };
    let mut columns =
        vec![("partition", text(Partition::name)), ("region", text(|each| each.region.to_string())), ("rule", text(Partition::rule))];
    columns.extend(present(&partitions));
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(crate::query::error::from_arrow)?;
    Ok(Output::Rows { schema: batch.schema(), stream: Box::pin(futures::stream::iter([Ok(batch)])) })
}
