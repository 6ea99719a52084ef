//! What all regions of an engine share.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;
use tessera_manifest::log::{Context, Opener};
use tessera_manifest::metered::Metered;
use tessera_manifest::paths::Root;

use crate::amplification::Amplification;
use crate::budget::Budget;
use crate::config::Config;
use crate::scheduler::Scheduler;
use crate::sst::{Access, Memory};
use crate::staging::ReadSet;
use crate::wal::{LogStore, ReachableLogs};

/// What an engine is made of.
#[derive(Clone)]
pub struct Parts {
    /// Where SSTs and manifests are.
    pub store: Arc<dyn ObjectStore>,
    /// Where acknowledged rows are kept until they are in SSTs.
    pub wal: Arc<dyn LogStore>,
    /// The node that the engine runs on.
    pub node: NodeId,
    /// Time and ids.
    pub env: Env,
    /// Settings.
    pub config: Config,
    /// What readers see of a table that is being repartitioned; without it, a commit takes effect only where it is asked for.
    pub read_set: Option<Arc<dyn ReadSet>>,
    /// Logs of other nodes that this one can read: a region whose rows are in one of them is taken over. Without it, such a region
    /// is refused.
    pub reachable: Option<Arc<dyn ReachableLogs>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("store", &self.store).field("wal", &self.wal).finish_non_exhaustive()
    }
}

/// What all regions of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) context: Context,
    pub(crate) access: Access,
    pub(crate) budget: Arc<Budget>,
    pub(crate) scheduler: Scheduler,
    pub(crate) amplification: Arc<Amplification>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let metered = |component| Arc::new(Metered::new(Arc::clone(&parts.store), component));
        let settings = parts.config.history;
        let context = Context { settings, ..Context::new(metered("manifest"), Root::default(), parts.env.clone()) };
        let access = Access::new(metered("sst"), &parts.config);
        let budget = Arc::new(Budget::new(parts.config.memtable_bytes_max));
        let scheduler = Scheduler::new(parts.config.flush_parallelism, parts.config.compaction_parallelism);
        Self { parts, context, access, budget, scheduler, amplification: Arc::default() }
    }

    /// The same as the node that wrote `wal`, which this process has opened in its place. Nothing runs in its background.
    pub(crate) fn in_place_of(&self, wal: Arc<dyn LogStore>) -> Self {
        let node = wal.id().node;
        Self {
            parts: Parts { wal, node, ..self.parts.clone() },
            context: self.context.clone(),
            access: self.access.clone(),
            budget: Arc::clone(&self.budget),
            scheduler: Scheduler::new(0, 0),
            amplification: Arc::clone(&self.amplification),
        }
    }

    /// What the scans of a statement may hold together.
    pub(crate) fn scan_memory(&self) -> Arc<Memory> {
        Memory::new(self.parts.config.scan_bytes_max)
    }

    /// Who this engine is to a manifest.
    pub(crate) fn opener(&self) -> Opener {
        Opener { node: self.parts.node, wal: Some((self.parts.wal.id(), self.parts.wal.epoch())) }
    }
}
