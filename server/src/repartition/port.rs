//! The regions of this process, as repartitions ask for them.
//!
//! Invariants:
//! - Every operation is the engine's, which says how it is idempotent; here regions are opened, and errors carried over.
//! - A region that is not open is opened first: after a restart nobody else may have.
//! - A region that another process has taken over stays its, until the coordinator asks for it to be taken back.
//! - The node is not looked at: there is one.

use std::sync::Arc;

use async_trait::async_trait;
use tessera_engine::engine::Engine;
use tessera_engine::error::Error;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{Generation, NodeId, RegionId, TableId, TxnId};
use tessera_manifest::log::Context;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::txn;
use tessera_metaclient::repartition::{
    Applied, Decided, Drained, PortError, Prepared, RegionPort, RemapPreview, RemapRequest, Resolved, StageRequest, Staged,
};

use crate::error::chain;
use crate::query::error::from_engine;

/// The regions of this process, and the decisions on its object store.
#[derive(Debug, Clone)]
pub struct Regions {
    engine: Engine,
    context: Context,
}

impl Regions {
    /// The regions of `engine`, whose manifests are where `context` says.
    #[must_use]
    pub fn new(engine: Engine, context: Context) -> Self {
        Self { engine, context }
    }

    async fn open(&self, region: RegionId) -> Result<(), PortError> {
        self.engine.open_region(region).await.map(|_| ()).map_err(|error| failed(&error))
    }
}

/// An error of the engine.
///
/// A region that another process has taken over is no failure of the repartition: one of the two goes on with it, and who
/// that is the metadata says. The one that was overtaken must not block what the other could finish.
fn failed(error: &Error) -> PortError {
    let class = error.class();
    let overtaken = class == ErrorClass::Fenced;
    let passing = [ErrorClass::Retry, ErrorClass::Refresh, ErrorClass::Unavailable];
    let not_found = matches!(error, Error::RegionNotFound { .. });
    let error = from_engine(error);
    let message = if class == ErrorClass::Corrupt { format!("{}: {MEND}", error.message) } else { error.message };
    PortError { retryable: overtaken || passing.contains(&class), not_found, overtaken, message, code: Some(error.code as u32) }
}

/// An error of the store of decisions.
fn undecided(error: &tessera_manifest::error::Error) -> PortError {
    let class = error.class();
    let retryable = matches!(class, ErrorClass::Retry | ErrorClass::Refresh | ErrorClass::Unavailable);
    let message = if class == ErrorClass::Corrupt { format!("{}: {MEND}", chain(error)) } else { chain(error) };
    PortError { retryable, not_found: false, overtaken: false, message, code: None }
}

/// What to do about an object that is damaged or missing.
const MEND: &str = "bring that object back from a backup of the store, or from an earlier version of it";

#[async_trait]
impl RegionPort for Regions {
    async fn create_staged(&self, _: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        self.engine.create_staged(meta.clone(), stage.clone()).await.map_err(|error| failed(&error))
    }

    async fn prepare(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        self.open(region).await?;
        self.engine.prepare(region, txn).await.map_err(|error| failed(&error))
    }

    async fn dry_run(&self, _: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        self.engine.dry_run(targets, sources).await.map_err(|error| failed(&error))
    }

    async fn stage(&self, _: NodeId, request: &StageRequest) -> Result<Staged, PortError> {
        self.engine.stage(request.clone()).await.map_err(|error| failed(&error))
    }

    async fn drain(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        self.open(region).await?;
        self.engine.drain(region, txn).await.map_err(|error| failed(&error))
    }

    async fn remap(&self, _: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        self.engine.remap(request.clone()).await.map_err(|error| failed(&error))
    }

    async fn apply_remap(&self, _: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        self.open(region).await?;
        match self.engine.apply_remap(region, remap.clone()).await {
            Ok(remapped) => Ok(Applied::Remapped { version: remapped.version, references: remapped.references }),
            Err(Error::StaleRemap { epoch, .. }) => Ok(Applied::StaleEpoch { epoch }),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn resolve(&self, _: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        self.open(region).await?;
        self.engine.resolve(region, decided.txn, base, decided).await.map_err(|error| failed(&error))
    }

    async fn create_retired(&self, _: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        match self.engine.create_retired(meta.clone()).await {
            // It was created and staged before the abort was decided.
            Err(Error::Staged { region, .. }) => {
                let resolved = self.engine.resolve(region, decided.txn, meta.generation, decided).await;
                resolved.map_err(|error| failed(&error))?;
                self.engine.create_retired(meta.clone()).await.map_err(|error| failed(&error))
            }
            other => other.map_err(|error| failed(&error)),
        }
    }

    async fn restart(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.engine.restart(region).await.map(|_| ()).map_err(|error| failed(&error))
    }

    async fn take_back(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.engine.take_back(region).await.map(|_| ()).map_err(|error| failed(&error))
    }

    async fn release(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        self.engine.release(region, txn);
        Ok(())
    }

    async fn localize(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.open(region).await?;
        self.engine.localize(region).map_err(|error| failed(&error))
    }

    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError> {
        txn::decide(&self.context, proposal.clone()).await.map_err(|error| undecided(&error))
    }

    async fn decided(&self, table: TableId, txn: TxnId) -> Result<Option<Decided>, PortError> {
        txn::read(&self.context, table, txn).await.map_err(|error| undecided(&error))
    }
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::RegionNumber;

    use super::*;

    #[test]
    fn a_process_that_was_overtaken_does_not_block_what_its_successor_can_finish() {
        let region = RegionId::new(TableId(1024), RegionNumber(0));
        let fenced = failed(&Error::Fenced { region });
        assert!(fenced.retryable && fenced.overtaken);
        let lost = Arc::new(Error::Fenced { region });
        assert!(failed(&Error::OpenFailed { region, source: lost }).overtaken, "one that lost the race when it opened the region");
        let refused = failed(&Error::AppendOnly { region });
        assert!(!refused.retryable && !refused.overtaken);
    }
}
