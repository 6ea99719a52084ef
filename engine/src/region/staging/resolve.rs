//! The decision takes effect.

use tessera_manifest::action::{Action, Decision, Resolve, Retire};
use tessera_manifest::id::{Generation, TxnId};
use tessera_manifest::state::RegionState;
use tessera_manifest::txn::{Decided, Verdict};

use super::{GateState, is_new};
use crate::error::Error;
use crate::region::Region;
use crate::staging::Resolved;

impl Region {
    /// Does what was decided: the staged rows and references become visible under the new rule, or everything is as it was
    /// in the abort's generation. A region that retires, and a new one of an aborted group, have no rows afterwards.
    ///
    /// Whoever calls this for a commit knows that the read set is published. An abort also takes a region that was never
    /// staged out of its base generation, so that no late Stage can fence it.
    ///
    /// Idempotent. Not cancel safe: do it again.
    ///
    /// # Errors
    /// [`Error::StagedTooEarly`] for a commit before drain and remap; [`Error::StagedOtherwise`] for a decision that is
    /// not on this staging, and for an abort after rows were staged; [`Error::NotStaged`]; the manifest's.
    pub async fn resolve(&self, txn: TxnId, base: Generation, decided: &Decided) -> Result<Resolved, Error> {
        if decided.txn != txn {
            return Err(self.otherwise(txn, format!("the decision is that of txn {}", decided.txn)));
        }
        let mut manifest = self.writable_manifest().await?;
        let actions = match &decided.verdict {
            Verdict::Commit { .. } => self.commit_of(manifest.state(), txn, base, decided)?,
            Verdict::Abort => self.abort_of(manifest.state(), txn, base, decided).await?,
        };
        if !actions.is_empty() {
            match self.commit(&mut manifest, actions).await {
                Ok(state) => self.adopt(state).await?,
                Err(error @ Error::Fenced { .. }) => return Err(error),
                Err(error) => {
                    self.settle(&mut manifest).await?;
                    if !self.is_resolved(manifest.state(), decided) {
                        return Err(error);
                    }
                }
            }
            tracing::info!(region = %self.id, %txn, commits = decided.commits(), "a repartition is resolved");
            metrics::counter!("tessera_repartition_resolved_total", "commits" => decided.commits().to_string()).increment(1);
        }
        let state = manifest.state().clone();
        drop(manifest);
        self.release_behind(&state);
        self.let_compactions_go(txn);
        if !decided.commits() {
            // It had waited for the repartition. After a commit whoever wants files to be rewritten says so.
            self.shared.scheduler.compact_soon(self.id);
        }
        let version = state.version().ok_or(Error::NotStaged { region: self.id, txn })?;
        Ok(Resolved { version, retired: state.is_retired() })
    }

    /// Retires a region that was created for a repartition which was aborted before the region was staged.
    pub(crate) async fn retire_new(&self) -> Result<(), Error> {
        let mut manifest = self.writable_manifest().await?;
        self.check_unstaged()?;
        let meta = self.meta();
        if manifest.state().is_retired() {
            return Ok(());
        }
        if !is_new(&meta) {
            return Err(Error::Stale { region: self.id, generation: meta.generation, rule_version: meta.rule_version() });
        }
        let state = self.commit(&mut manifest, vec![Action::Retire(Retire {})]).await?;
        self.version.update(|version| version.state = state);
        Ok(())
    }

    /// Opens the manifest again, whatever state it is in, and takes over what it says.
    pub(crate) async fn restart(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock().await;
        let gate = *self.gate.read().await;
        self.check_gate(gate)?;
        self.reopen_manifest(&mut manifest).await?;
        if manifest.state().staging().is_none() {
            self.repartition.hold().take();
        }
        Ok(())
    }

    /// Ends the preparation of a region that was not staged: compactions go on.
    pub(crate) fn release_preparation(&self, txn: TxnId) {
        if self.pin().state.staging().is_none() {
            self.let_compactions_go(txn);
            self.shared.scheduler.compact_soon(self.id);
        }
    }

    /// Asks for a compaction, which takes files that a repartition left first.
    pub(crate) fn localize(&self) {
        self.shared.scheduler.compact_soon(self.id);
    }

    /// The state that scans see.
    pub(crate) fn state(&self) -> RegionState {
        self.pin().state.clone()
    }

    /// Whether the region has gone where the decision says, or further.
    fn is_resolved(&self, state: &RegionState, decided: &Decided) -> bool {
        let to = if decided.commits() { decided.commit } else { decided.abort };
        let here = state.staging().is_some_and(|staging| staging.stage.txn == decided.txn);
        !here && state.meta().is_some_and(|meta| meta.generation >= to)
    }

    fn commit_of(&self, state: &RegionState, txn: TxnId, base: Generation, decided: &Decided) -> Result<Vec<Action>, Error> {
        if self.is_resolved(state, decided) {
            return Ok(Vec::new());
        }
        let staging = self.staging_of(state, txn)?;
        // A new region may go unnamed: it had no generation of its own that a second staging could start from.
        let is_new = state.meta().is_some_and(|meta| is_new(meta));
        let named = decided.stage_of(self.id).map_or(is_new, |version| version == staging.since);
        if staging.stage.generation != decided.commit || !named {
            return Err(self.otherwise(txn, format!("the decision does not name version {}, which staged it", staging.since)));
        }
        if state.is_drained() != Some(true) {
            return Err(Error::StagedTooEarly { region: self.id, txn, detail: "drain it first" });
        }
        if staging.stage.target.is_some() && staging.remap().is_none() {
            return Err(Error::StagedTooEarly { region: self.id, txn, detail: "remap it first" });
        }
        Ok(vec![Action::Resolve(Resolve { txn, base, decision: Decision::Commit })])
    }

    async fn abort_of(&self, state: &RegionState, txn: TxnId, base: Generation, decided: &Decided) -> Result<Vec<Action>, Error> {
        let meta = state.meta().ok_or(Error::RegionNotFound { region: self.id })?;
        if state.is_retired() || self.is_resolved(state, decided) {
            return Ok(Vec::new());
        }
        match state.staging() {
            Some(staging) if staging.stage.txn != txn => return Err(Error::Staged { region: self.id, txn: staging.stage.txn }),
            Some(_) => self.refuse_staged_rows(txn).await?,
            None if meta.generation != base => {
                return Err(Error::Stale { region: self.id, generation: meta.generation, rule_version: meta.rule_version() });
            }
            None => {}
        }
        let decision = Decision::Abort { generation: decided.abort };
        let mut actions = vec![Action::Resolve(Resolve { txn, base, decision })];
        if is_new(meta) {
            actions.push(Action::Retire(Retire {}));
        }
        Ok(actions)
    }

    /// An abort takes no row with it that was acknowledged: closes the gate until the outcome is known, and looks.
    async fn refuse_staged_rows(&self, txn: TxnId) -> Result<(), Error> {
        let mut closed = self.gate.write().await;
        self.check_gate(*closed)?;
        if self.pin().staged.as_ref().is_some_and(|staged| staged.rows() > 0) {
            return Err(self.otherwise(txn, "rows were staged, so its commit was decided and published"));
        }
        *closed = GateState::Doubt;
        Ok(())
    }
}
