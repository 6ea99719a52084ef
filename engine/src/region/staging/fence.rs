//! Prepare, fence and drain.
//!
//! ```text
//!   close the gate ─▶ wait for the permits ─▶ freeze the memtable, note the position ─▶ commit Stage ─▶ open the gate
//! ```
//!
//! Invariants:
//! - Between the first and the last of these no row is written, under no generation. If the outcome of the Stage is not
//!   known, the gate stays in doubt until the manifest was opened again and says whether the region is staged.

use tessera_manifest::action::{Action, Edit, Fence, Flushed, Stage};
use tessera_manifest::env::Stopwatch;
use tessera_manifest::id::TxnId;
use tessera_manifest::state::RegionState;

use super::{GateState, asks_for};
use crate::error::Error;
use crate::region::Region;
use crate::staging::{Drained, Prepared, StageRequest, Staged};

impl Region {
    /// Ends the compaction under way, lets none begin until the repartition is resolved, and flushes: so that little is
    /// left to do behind the fence. Rows go on being written.
    ///
    /// # Errors
    /// [`Error::StagedOtherwise`] when the group is decided and the region not staged: the call came late, nobody would
    /// end the preparation, and it is ended. Those of [`flush`](Self::flush).
    pub async fn prepare(&self, txn: TxnId) -> Result<Prepared, Error> {
        self.hold_compactions(txn).await;
        let decided = self.decision(txn).await;
        if self.pin().state.staging().is_none() && !matches!(decided, Ok(None)) {
            self.let_compactions_go(txn);
            decided?;
            return Err(self.otherwise(txn, "its group is decided"));
        }
        self.flush().await?;
        let version = self.pin();
        let totals = version.state.totals();
        Ok(Prepared {
            files: version.state.files().len() as u64,
            bytes: totals.bytes,
            rows: totals.rows,
            memtable_bytes: self.memtable_bytes(),
        })
    }

    async fn hold_compactions(&self, txn: TxnId) {
        *self.repartition.hold() = Some(txn);
        drop(self.pause_compaction().await);
    }

    pub(super) fn let_compactions_go(&self, txn: TxnId) {
        self.repartition.hold().take_if(|hold| *hold == txn);
    }

    /// Fences the region: what is written from now on is of the staged generation, under the target's rule.
    ///
    /// Idempotent: a region that is staged so answers as it did. Cancel safe: the region is then staged or not, and no
    /// row is written until that is known.
    ///
    /// # Errors
    /// [`Error::Stale`] for a region that is not in the base generation (any more), [`Error::Staged`] by another
    /// repartition, [`Error::StagedOtherwise`]; the manifest's, after which it may be staged.
    pub async fn stage(&self, request: &StageRequest) -> Result<Staged, Error> {
        self.hold_compactions(request.txn).await;
        let staged = self.stage_held(request).await;
        let here = self.pin().state.staging().is_some_and(|staging| staging.stage.txn == request.txn);
        if matches!(staged, Err(Error::Stale { .. } | Error::Staged { .. } | Error::Retired { .. } | Error::StagedOtherwise { .. }))
            && !here
        {
            self.let_compactions_go(request.txn);
        }
        staged
    }

    async fn stage_held(&self, request: &StageRequest) -> Result<Staged, Error> {
        let mut manifest = self.writable_manifest().await?;
        if let Some(staged) = self.staged_before(manifest.state(), request)? {
            return Ok(staged);
        }
        let watch = Stopwatch::start();
        let stage = self.draw_fence(manifest.state(), request).await?;
        match self.commit(&mut manifest, vec![Action::Stage(stage)]).await {
            Ok(state) => {
                self.adopt(state).await?;
                metrics::histogram!("tessera_repartition_fence_seconds").record(watch.elapsed());
                tracing::info!(region = %self.id, txn = %request.txn, generation = %request.generation, "fenced for a repartition");
            }
            Err(error @ Error::Fenced { .. }) => return Err(error),
            // Opens the gate again, or leaves it in doubt until the manifest can be read.
            Err(error) => {
                self.settle(&mut manifest).await?;
                return self.staged_before(manifest.state(), request)?.ok_or(error);
            }
        }
        let staged = self.staged_before(manifest.state(), request)?;
        staged.ok_or(Error::NotStaged { region: self.id, txn: request.txn })
    }

    /// Closes the gate, waits for the writes under way, and says where the base generation ends in each log.
    async fn draw_fence(&self, state: &RegionState, request: &StageRequest) -> Result<Stage, Error> {
        let mut closed = self.gate.write().await;
        self.check_gate(*closed)?;
        self.rotate(&closed);
        *closed = GateState::Doubt;
        drop(closed);
        // Entries without rows may follow; they are none of the base generation's.
        let frozen = self.pin().frozen.last().map(|frozen| frozen.position);
        let own = self.shared.parts.wal.id();
        let fence = state.wals().iter().map(|wal| {
            let last = frozen.filter(|_| wal.id == own).unwrap_or(wal.flushed);
            Fence { wal: wal.id, position: last.max(wal.flushed) }
        });
        Ok(Stage {
            txn: request.txn,
            base: request.base,
            generation: request.generation,
            target: request.target.clone(),
            fence: fence.collect(),
            schema_version: request.schema_version,
        })
    }

    /// How the region is staged already, if it is; an error if it cannot be staged so.
    fn staged_before(&self, state: &RegionState, request: &StageRequest) -> Result<Option<Staged>, Error> {
        let meta = state.meta().ok_or(Error::RegionNotFound { region: self.id })?;
        if state.is_retired() {
            return Err(Error::Retired { region: self.id });
        }
        if let Some(staging) = state.staging() {
            let (txn, version) = (staging.stage.txn, staging.since);
            return match txn == request.txn {
                false => Err(Error::Staged { region: self.id, txn }),
                true if asks_for(request, &staging.stage) => Ok(Some(Staged { region: self.id, version })),
                true => Err(self.otherwise(txn, "it is staged for other generations or another target")),
            };
        }
        if meta.generation != request.base {
            return Err(Error::Stale { region: self.id, generation: meta.generation, rule_version: meta.rule_version() });
        }
        if request.generation <= request.base || request.abort <= request.base || request.abort == request.generation {
            return Err(self.otherwise(request.txn, "the generations of commit and abort are two, and above the base"));
        }
        if request.schema_version != meta.schema.version() {
            let detail =
                format!("it was planned under schema version {}, the region has {}", request.schema_version, meta.schema.version());
            return Err(self.otherwise(request.txn, detail));
        }
        Ok(None)
    }

    /// Brings everything before the fence into SSTs. From then on the visible files are frozen.
    ///
    /// Idempotent. Cancel safe.
    ///
    /// # Errors
    /// [`Error::NotStaged`]; the failure of the store or of the manifest: drain again.
    pub async fn drain(&self, txn: TxnId) -> Result<Drained, Error> {
        let _turn = self.flushing.lock().await;
        loop {
            self.flush_visible().await?;
            let mut manifest = self.writable_manifest().await?;
            if !self.pin().frozen.is_empty() {
                continue;
            }
            let staging = self.staging_of(manifest.state(), txn)?;
            if manifest.state().is_drained() != Some(true) {
                let edit = Edit { flushed: lagging(manifest.state(), &staging.stage), ..Edit::new(staging.stage.base) };
                let state = self.commit(&mut manifest, vec![Action::Edit(edit)]).await?;
                self.version.update(|version| version.state = state.clone());
                self.release_behind(&state);
            }
            let (state, found) = (manifest.state(), Error::NotStaged { region: self.id, txn });
            let version = state.version().ok_or(found)?;
            return Ok(Drained { region: self.id, version, visible: state.set_hash() });
        }
    }
}

/// The logs whose entries before the fence were all dealt with, but for ones without rows.
fn lagging(state: &RegionState, stage: &Stage) -> Vec<Flushed> {
    let behind = |fence: &&Fence| state.wals().iter().any(|wal| wal.id == fence.wal && wal.flushed < fence.position);
    let fences = stage.fence.iter().filter(behind);
    fences.map(|fence| Flushed { wal: fence.wal, position: fence.position, done: false }).collect()
}
