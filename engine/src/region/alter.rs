//! Names, columns and options become others while rows come in.
//!
//! ```text
//!   check ─▶ commit Change ─▶ close the gate for a moment, freeze the memtable, take the new schema, open the gate
//! ```
//!
//! Invariants:
//! - Rows are matched to columns by id, and every version of a schema can be read under any later one. So neither
//!   SSTs nor log entries nor frozen memtables are written anew, and it does not matter whether an entry of the
//!   earlier schema stands before the Change or after it: replay gives both their place under the later one.
//! - The version of the schema names the whole alteration: applying the one that is there does nothing.
//! - A memtable has one schema for its life. The new schema is taken only where no write is between check and insert.
//! - A statement reads and writes under the schema that it was planned under, earlier or later than the region's.
//!
//! Crash order: the Change is the moment of the alteration. A crash before it leaves the old schema, one after it the
//! new one. If its outcome is unknown, rows are taken under the old schema until the manifest is opened again.

use std::sync::Arc;

use tessera_manifest::action::{Action, Change};
use tessera_manifest::log::Manifest;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::schema::Schema;
use tessera_manifest::state::RegionState;
use tokio::sync::{MutexGuard, RwLockWriteGuard};

use super::version::{Frozen, Version};
use super::{GateState, Region};
use crate::error::{AlterError, Error};
use crate::memtable::{Memtable, columns_of};
use crate::options::TableOptions;
use crate::request::{Alteration, WriteRequest};
use crate::sst::conform_batch;

impl Region {
    /// Makes the table's names, columns and options these. What was written before is read under the new schema.
    ///
    /// Idempotent: an alteration that the region has already had changes nothing.
    ///
    /// Not cancel safe: after a drop it is not known whether the region is altered; do it again.
    ///
    /// # Errors
    /// [`Error::Alter`] when the schema does not follow from the present one, an option cannot be, or the rows that
    /// there are would mean something else; [`Error::Manifest`] when it is not known whether the region is altered;
    /// [`Error::Fenced`], [`Error::Closed`].
    pub async fn alter(&self, to: &Alteration) -> Result<(), Error> {
        let mut manifest = self.unstaged_manifest().await?;
        let current = self.meta();
        let refuse = |source: AlterError| Error::Alter { region: self.id, source };
        let meta = RegionMeta {
            database: to.database.clone(),
            table: to.table.clone(),
            schema: Arc::clone(&to.schema),
            options: to.options.clone(),
            ..RegionMeta::clone(&current)
        };
        let version = to.schema.version();
        if version == current.schema.version() {
            return if meta == *current { Ok(()) } else { Err(refuse(AlterError::VersionTaken { version })) };
        }
        check(&current, &meta).map_err(refuse)?;
        let state = self.commit(&mut manifest, vec![Action::Change(Change { meta: Arc::new(meta) })]).await?;
        self.adopt(state).await
    }

    /// The metadata, for certain: if an earlier commit was left in doubt, the manifest is opened again to find out.
    /// Whoever plans the next alteration asks this, or two could take one version.
    ///
    /// # Errors
    /// The manifest's; [`Error::Fenced`], [`Error::Closed`].
    pub async fn settled_meta(&self) -> Result<Arc<RegionMeta>, Error> {
        drop(self.writable_manifest().await?);
        Ok(self.meta())
    }

    /// The right to commit, in a region that is open: after an unknown outcome the manifest is opened again first.
    pub(super) async fn writable_manifest(&self) -> Result<MutexGuard<'_, Manifest>, Error> {
        let mut manifest = self.manifest.lock().await;
        let gate = *self.gate.read().await;
        self.check_gate(gate)?;
        self.settle(&mut manifest).await?;
        if manifest.state().is_dropped() {
            self.forget_rows(&manifest).await?;
            return Err(Error::RegionNotFound { region: self.id });
        }
        Ok(manifest)
    }

    /// Takes over a state whose metadata may be others than the version's, or that a repartition has moved. Memtables whose
    /// flush is in it go at the same moment, so that no reader sees a row in both.
    pub(super) async fn adopt(&self, state: RegionState) -> Result<(), Error> {
        let meta = state.meta().cloned().ok_or(Error::RegionNotFound { region: self.id })?;
        let version = self.pin();
        let wal = self.shared.parts.wal.id();
        let same_staging = version.staged.as_ref().map(|staged| staged.txn) == state.staging().map(|staging| staging.stage.txn);
        if meta == version.meta && same_staging {
            self.version.update(|version| {
                version.state = state;
                version.drop_landed(wal);
            });
            self.end_doubt().await;
            return Ok(());
        }
        let options = TableOptions::parse(&meta.options).map_err(|source| Error::Options { region: self.id, source })?;
        let mut closed = self.gate.write().await;
        self.rotate(&closed);
        self.version.update(|version| {
            version.advance(state, meta, Arc::new(options));
            version.drop_landed(wal);
        });
        if *closed == GateState::Doubt {
            *closed = GateState::Open;
        }
        Ok(())
    }

    /// Under a closed gate: puts an empty memtable in the place of the one that takes rows, unless that is empty.
    pub(super) fn rotate(&self, _closed: &RwLockWriteGuard<'_, GateState>) {
        let version = self.pin();
        let full = version.writing();
        if full.rows() == 0 {
            return;
        }
        self.settle_share(full.bytes());
        let frozen = Arc::new(Frozen::new(Arc::clone(full), self.inserted_position(), Arc::clone(&self.budget)));
        self.version.update(|version| {
            let empty = Arc::new(Memtable::new(Arc::clone(&version.meta.schema)));
            version.rotate(frozen, empty);
        });
    }

    /// The rows of a request that was made under `schema` as rows of the region's schema: columns that were added
    /// since get their default or NULL, those that were dropped are left out.
    pub(super) fn adapt(&self, version: &Version, schema: &Schema, request: WriteRequest) -> Result<WriteRequest, Error> {
        let present = &version.meta.schema;
        let region = self.id;
        if schema.version() == present.version() {
            return Ok(request);
        }
        if schema.version() > present.version() {
            return Err(Error::SchemaBehind { region, version: present.version(), requested: schema.version() });
        }
        let WriteRequest { generation, rule_version, batch, op } = request;
        let expected = columns_of(schema, op).count();
        if expected != batch.num_columns() {
            let detail = format!("it has {} columns, expected {expected}", batch.num_columns());
            return Err(Error::BatchShape { region, detail });
        }
        let batch = conform_batch(&batch, schema, present, op).map_err(|source| Error::rows(region, source))?;
        Ok(WriteRequest { generation, rule_version, batch, op })
    }
}

/// Whether a region with this metadata may get those.
fn check(current: &RegionMeta, next: &RegionMeta) -> Result<(), AlterError> {
    current.schema.check_successor(&next.schema)?;
    let from = TableOptions::parse(&current.options)?.merge_mode;
    if TableOptions::parse(&next.options)?.merge_mode != from {
        return Err(AlterError::MergeMode { from });
    }
    Ok(())
}
