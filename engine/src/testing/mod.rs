//! A node whose process dies at one operation of its store or of its log, and the disk that survives it.
//!
//! ```text
//!   let disk = Disk::new();
//!   let ops = disk.run(Crash::Never, scenario)         // counts operations
//!   for crash in every_crash(ops) { disk.run(crash, scenario); look at disk.run(Crash::Never, ...) }
//! ```
//!
//! An operation is a request to the store, each part of an upload and its end among them, or an append to the log.
//!
//! Invariants:
//! - An operation that is done before the crash survives it; one after it does not happen, and nobody hears of it.
//! - Everything of the dead process is dropped, with its runtime, before the next one starts.

mod fuse;
mod log;
mod plan;
mod store;

use std::future::Future;
use std::sync::Arc;

use object_store::memory::InMemory;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;

use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::staging::ReadSet;

pub(crate) use fuse::Crash;
use fuse::Fuse;
use log::{DiskLog, MemoryLog};
pub(crate) use plan::{Fault, PlanStore};
use store::CrashStore;

/// What outlives a process: objects and the log.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    objects: Arc<InMemory>,
    log: Arc<DiskLog>,
    /// What the processes on it know of published read sets.
    pub(crate) read_set: Option<Arc<dyn ReadSet>>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { objects: Arc::new(InMemory::new()), log: Arc::default(), read_set: None }
    }

    /// Runs a process on the disk until `scenario` ends or the crash comes. Answers with what the scenario gave, if it
    /// ended, and the operations that were begun.
    pub(crate) fn run<T, F: Future<Output = T>>(&self, crash: Crash, scenario: impl FnOnce(Engine) -> F) -> (Option<T>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fuse = Fuse::new(crash);
        let store = Arc::new(CrashStore::new(Arc::clone(&self.objects), fuse.clone()));
        let wal = Arc::new(MemoryLog::open(Arc::clone(&self.log), fuse.clone()));
        let (config, read_set) = (Config::default(), self.read_set.clone());
        let parts = Parts { store, wal, node: NodeId(1), env: Env::system(), config, read_set };
        let ended = runtime.block_on(async {
            let engine = Engine::start(parts);
            tokio::select! {
                ended = scenario(engine) => Some(ended),
                () = fuse.blown() => None,
            }
        });
        runtime.shutdown_background();
        (ended, fuse.operations().len())
    }
}

/// Before and after each of so many operations.
pub(crate) fn every_crash(operations: usize) -> impl Iterator<Item = Crash> {
    (0..operations).flat_map(|at| [Crash::Before(at), Crash::After(at)])
}
