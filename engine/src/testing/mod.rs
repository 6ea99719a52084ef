//! Nodes whose process dies at one operation of its store or of its log, and the disks that survive it.
//!
//! ```text
//!   let disk = Disk::new();
//!   let ops = disk.run(Crash::Never, scenario)         // counts operations
//!   for crash in every_crash(ops) { disk.run(crash, scenario); look at disk.run(Crash::Never, ...) }
//! ```
//!
//! An operation is a request to the store, each part of an upload and its end among them, an append to the log, or the opening of
//! another node's log. `disk.on(node)` is the same disk as another node sees it: the objects and the logs of all are there, and that
//! node's is its own.
//!
//! Invariants:
//! - An operation that is done before the crash survives it; one after it does not happen, and nobody hears of it.
//! - Everything of the dead process is dropped, with its runtime, before the next one starts.

mod fuse;
mod log;
mod plan;
mod store;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;

use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::staging::ReadSet;

pub(crate) use fuse::Crash;
use fuse::Fuse;
use log::{DiskLogs, Logs, MemoryLog};
pub(crate) use plan::{Fault, PlanStore};
use store::CrashStore;

/// What outlives a process: objects and logs.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    objects: Arc<InMemory>,
    logs: Arc<DiskLogs>,
    /// Who runs processes on it.
    node: NodeId,
    /// What the processes on it know of published read sets.
    pub(crate) read_set: Option<Arc<dyn ReadSet>>,
    /// The settings of the processes on it.
    pub(crate) config: Config,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let (objects, logs) = (Arc::new(InMemory::new()), Arc::default());
        Self { objects, logs, node: NodeId(1), read_set: None, config: Config::default() }
    }

    /// Another disk with what is on this one.
    pub(crate) fn copy(&self) -> Self {
        Self { objects: Arc::new(self.objects.fork()), logs: Arc::new(self.logs.copy()), ..self.clone() }
    }

    /// The same for another node.
    pub(crate) fn on(&self, node: u64) -> Self {
        Self { node: NodeId(node), ..self.clone() }
    }

    /// Entries that the log of this node keeps.
    pub(crate) fn log_entries(&self) -> usize {
        self.logs.entries(self.node)
    }

    /// The objects, without a process.
    pub(crate) async fn objects(&self) -> BTreeSet<Path> {
        self.objects.list(None).map(|object| object.unwrap().location).collect().await
    }

    /// Runs a process on the disk until `scenario` ends or the crash comes. Answers with what the scenario gave, if it
    /// ended, and the operations that were begun.
    pub(crate) fn run<T, F: Future<Output = T>>(&self, crash: Crash, scenario: impl FnOnce(Engine) -> F) -> (Option<T>, usize) {
        let (ended, operations) = self.trace(crash, scenario);
        (ended, operations.len())
    }

    /// The same, with the name of each operation.
    pub(crate) fn trace<T, F: Future<Output = T>>(
        &self,
        crash: Crash,
        scenario: impl FnOnce(Engine) -> F,
    ) -> (Option<T>, Vec<&'static str>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fuse = Fuse::new(crash);
        let store = Arc::new(CrashStore::new(Arc::clone(&self.objects), fuse.clone()));
        let logs = Arc::new(Logs { disk: Arc::clone(&self.logs), fuse: fuse.clone() });
        let wal = Arc::new(MemoryLog::open(Arc::clone(&self.logs), self.node, fuse.clone()));
        let (config, read_set) = (self.config.clone(), self.read_set.clone());
        let parts = Parts { store, wal, node: self.node, env: Env::system(), config, read_set, reachable: Some(logs) };
        let ended = runtime.block_on(async {
            let engine = Engine::start(parts);
            tokio::select! {
                ended = scenario(engine) => Some(ended),
                () = fuse.blown() => None,
            }
        });
        runtime.shutdown_background();
        (ended, fuse.operations())
    }
}

/// Before and after each of so many operations.
pub(crate) fn every_crash(operations: usize) -> impl Iterator<Item = Crash> {
    (0..operations).flat_map(|at| [Crash::Before(at), Crash::After(at)])
}

/// The same, or some of it, evenly spread: `cases` crashes, or as many as `TESSERA_CRASH_CASES` says (a number, or `all`).
pub(crate) fn some_crashes(operations: usize, cases: usize) -> impl Iterator<Item = Crash> {
    let all: Vec<_> = every_crash(operations).collect();
    let cases = match std::env::var("TESSERA_CRASH_CASES") {
        Err(_) => cases,
        Ok(text) if text == "all" => all.len(),
        Ok(text) => text.parse().expect("TESSERA_CRASH_CASES is a number or `all`"),
    };
    // Steps of the golden section, coprime to the whole, so that every crash comes once.
    let common = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (all.len() * 618 / 1000..).find(|step| common(*step, all.len()) == 1).unwrap();
    (0..cases.min(all.len())).map(move |case| all[case * step % all.len()])
}
