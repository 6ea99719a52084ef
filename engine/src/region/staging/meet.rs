//! Whoever meets a staged region reads the decision, so that no repartition needs its coordinator to be alive.
//!
//! Invariants:
//! - An abort takes effect at once; a commit only when the read set is known to be the new one, or was made so by this
//!   process on behalf of a coordinator that is gone.
//! - A reader is never shown the old state once the read set is known to be the new one. If that cannot be found out, it
//!   gets an error.

use std::sync::Arc;

use tessera_manifest::id::{Generation, TxnId};
use tessera_manifest::state::Staging;
use tessera_manifest::txn::{self, Decided, Verdict};

use crate::error::Error;
use crate::region::Region;
use crate::region::version::Version;
use crate::staging::ReadSet;

impl Region {
    /// Whether a repartition is under way, so that a scan may have to end what its coordinator left: it is not to be dropped then.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        self.pin().state.staging().is_some()
    }

    /// The version that a reader of now sees.
    pub(in crate::region) async fn current_version(&self) -> Result<Arc<Version>, Error> {
        let version = self.pin();
        if version.state.staging().is_some() {
            self.meet_as_reader().await?;
        }
        let version = self.pin();
        if version.state.is_retired() { Err(Error::Retired { region: self.id }) } else { Ok(version) }
    }

    /// Makes the region what its readers are to see.
    async fn meet_as_reader(&self) -> Result<(), Error> {
        let Some(read_set) = &self.shared.parts.read_set else { return Ok(()) };
        let _asking = self.repartition.asking.lock().await;
        let version = self.pin();
        let Some(Staging { stage, .. }) = version.state.staging() else { return Ok(()) };
        let published = self.published(&**read_set, stage.txn).await?;
        if published == Some(stage.base) {
            return Ok(());
        }
        let Some(decided) = self.decision(stage.txn).await? else { return Ok(()) };
        let mut to_resolve = !decided.commits() || self.is_published(&**read_set, &decided).await?;
        // One that retires is in no read set afterwards; who publishes knows whether it is done.
        if !to_resolve && published.is_none() && stage.target.is_none() {
            to_resolve = self.publish(&**read_set, stage.txn).await?;
        }
        if to_resolve {
            self.resolve(stage.txn, stage.base, &decided).await?;
        }
        Ok(())
    }

    /// Finds out whether a write that was refused was refused for the last time.
    pub(in crate::region) async fn meet_as_writer(&self) {
        let _asking = self.repartition.asking.lock().await;
        self.meet_and_finish().await;
    }

    /// Resolves a region that is found staged when it is opened, if that can be done now.
    pub(crate) async fn meet_as_opener(&self) {
        let _asking = self.repartition.asking.lock().await;
        self.meet_and_finish().await;
    }

    /// Resolves the region if its group is decided, and publishes what a coordinator left unpublished. What fails is left
    /// for the next one.
    async fn meet_and_finish(&self) {
        if let Err(error) = self.try_finish().await {
            tracing::warn!(region = %self.id, %error, "a repartition could not be resolved on demand");
        }
    }

    async fn try_finish(&self) -> Result<(), Error> {
        let version = self.pin();
        let Some(Staging { stage, .. }) = version.state.staging() else { return Ok(()) };
        let Some(decided) = self.decision(stage.txn).await? else { return Ok(()) };
        if decided.commits() {
            let Some(read_set) = &self.shared.parts.read_set else { return Ok(()) };
            if !self.is_published(&**read_set, &decided).await? && !self.publish(&**read_set, stage.txn).await? {
                return Ok(());
            }
        }
        self.resolve(stage.txn, stage.base, &decided).await.map(|_| ())
    }

    pub(super) async fn decision(&self, txn: TxnId) -> Result<Option<Decided>, Error> {
        let decided = txn::read(&self.shared.context, self.id.table(), txn).await;
        decided.map_err(|source| self.manifest_error(source))
    }

    async fn published(&self, read_set: &dyn ReadSet, txn: TxnId) -> Result<Option<Generation>, Error> {
        read_set.published(self.id).await.map_err(|detail| self.unread(txn, detail))
    }

    /// Publishes what a coordinator left to publish; false if that cannot be done now.
    async fn publish(&self, read_set: &dyn ReadSet, txn: TxnId) -> Result<bool, Error> {
        read_set.publish(self.id.table(), txn).await.map_err(|detail| self.unread(txn, detail))
    }

    /// Whether a commit's read set is known to be published. A group is published as a whole, so any region of it can tell;
    /// one that retires is in no read set afterwards and asks for the others.
    async fn is_published(&self, read_set: &dyn ReadSet, decided: &Decided) -> Result<bool, Error> {
        let Verdict::Commit { stages } = &decided.verdict else { return Ok(false) };
        for region in std::iter::once(self.id).chain(stages.iter().map(|(region, _)| *region)) {
            let published = read_set.published(region).await.map_err(|detail| self.unread(decided.txn, detail))?;
            if published.is_some_and(|published| published >= decided.commit) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn unread(&self, txn: TxnId, detail: String) -> Error {
        Error::ReadSet { region: self.id, txn, detail }
    }
}
