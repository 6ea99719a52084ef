//! Versions of the past: `AS OF`.

use std::fmt;
use std::sync::Arc;

use tessera_manifest::id::Slot;
use tessera_manifest::log::{load_at, load_before, record_bodies};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::schema::Schema;
use tessera_manifest::state::RegionState;

use super::super::Region;
use super::super::version::Version;
use super::RegionScan;
use crate::error::Error;
use crate::memtable::Memtable;
use crate::options::TableOptions;
use crate::request::{AsOf, ScanRequest};

/// What a region was at a version of the past, kept from retention while this lives.
#[derive(Clone)]
pub struct Past {
    /// The version.
    pub slot: Slot,
    /// The region's metadata at it.
    pub meta: Arc<RegionMeta>,
    version: Arc<Version>,
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("region", &self.meta.region).field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Region {
    /// The version that `as_of` means, and what the region was at it.
    ///
    /// # Errors
    /// [`Error::Manifest`] with `NoVersion` for one that cannot be read any more.
    pub async fn version_as_of(&self, as_of: AsOf) -> Result<Past, Error> {
        let slot = match as_of {
            AsOf::Version(slot) => slot,
            AsOf::UnixMs(time_ms) => self.version_at(time_ms).await?,
        };
        let version = self.past_version(slot).await?;
        Ok(Past { slot, meta: Arc::clone(&version.meta), version })
    }

    /// Plans a read of a version of this region that was loaded before; as [`scan_under`](Self::scan_under) does, but for
    /// the request's own version, which does not count.
    ///
    /// # Errors
    /// Those of [`scan_under`](Self::scan_under).
    pub async fn scan_past(&self, past: &Past, schema: Option<Arc<Schema>>, request: ScanRequest) -> Result<RegionScan, Error> {
        self.check_owned().await?;
        self.scan_version(Arc::clone(&past.version), true, schema, request).await
    }

    /// What the region's files were at a version. Rows that were not flushed then are not in it.
    async fn past_version(&self, slot: Slot) -> Result<Arc<Version>, Error> {
        // Held before it is read, so that the floor cannot pass it in between.
        let hold = self.version.hold(Some(slot));
        let (context, newest) = (&self.shared.context, self.pin());
        let state = match newest.state.version() {
            Some(reached) if slot <= reached => load_before(context, self.id, &newest.state, slot).await,
            // Somebody else may have written it.
            _ => load_at(context, self.id, slot).await,
        };
        self.version_of(state.map_err(|source| Error::manifest(self.id, source))?, hold)
    }

    fn version_of(&self, state: RegionState, hold: tessera_manifest::log::Hold) -> Result<Arc<Version>, Error> {
        let meta = state.meta().cloned().ok_or(Error::RegionNotFound { region: self.id })?;
        let options = TableOptions::parse(&meta.options).map_err(|source| Error::Options { region: self.id, source })?;
        let active = Arc::new(Memtable::new(Arc::clone(&meta.schema)));
        let rule_version = meta.rule_version();
        let (options, hold) = (Arc::new(options), Some(Arc::new(hold)));
        Ok(Arc::new(Version { state, meta, rule_version, options, active, frozen: Vec::new(), staged: None, hold }))
    }

    /// The last version that was written until then, by the clocks of its writers.
    async fn version_at(&self, time_ms: u64) -> Result<Slot, Error> {
        let manifest = |source| Error::manifest(self.id, source);
        let context = &self.shared.context;
        let floor = self.pin().state.floor();
        let records = record_bodies(context, self.id, Some(floor)).await.map_err(manifest)?;
        let until = records.iter().filter(|(_, body)| body.time_ms <= time_ms).map(|(record, _)| record.slot).max();
        until.ok_or_else(|| {
            let why = format!("the oldest version that can be read is {floor}, which is younger than {time_ms} ms since 1970");
            Error::manifest(self.id, tessera_manifest::error::Error::NoVersion { region: self.id, version: floor, why })
        })
    }
}
