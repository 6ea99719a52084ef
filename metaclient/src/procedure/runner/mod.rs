//! The runner: carries procedures from step to step.
//!
//! Invariants:
//! - It first claims the next epoch, then reads the records. A runner before it can write nothing after the
//!   claim, so that what is read is the truth, locks included.
//! - One task drives a procedure, and only it does its steps. The scheduler alone grants locks.
//! - Whatever is in memory can be lost: every decision is stored before it is acted upon.
//! - Records that cannot be read may hold any lock: while there is one, no lock is granted.
//!
//! ```text
//!   start: claim epoch -> follow `procedure/` and the switch -> grant, drive, prune -> close | fenced
//! ```

mod drive;
mod schedule;

use std::sync::Arc;

use tessera_manifest::env::{self, Env};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::schedule::Scheduler;
use super::error::ProcedureError;
use super::fence::Fence;
use super::steps::Registry;
use crate::kv::KvBackend;
use crate::limits::{PROCEDURE_HISTORY_MAX, PROCEDURE_STEPS_PARALLEL_MAX};
use crate::signal::Signal;

/// How a runner works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerOptions {
    /// Steps that are under way at once.
    pub steps_parallel_max: usize,
    /// Procedures that are over and still listed; the oldest go first. For as long as one is listed, its id is
    /// known and a repeated submit does nothing.
    pub history_max: usize,
}

impl RunnerOptions {
    /// Those of a server.
    pub const DEFAULT: Self = Self { steps_parallel_max: PROCEDURE_STEPS_PARALLEL_MAX, history_max: PROCEDURE_HISTORY_MAX };
}

/// What a runner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerState {
    /// It runs procedures.
    Running,
    /// It starts no step: the switch says so.
    Paused,
    /// Another runner has taken over; this one does nothing any more.
    Fenced,
    /// It was closed.
    Closed,
}

/// Why a runner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Halt {
    No,
    Closing,
    Fenced,
}

/// What the tasks of a runner share.
#[derive(Debug)]
struct Shared {
    kv: Arc<dyn KvBackend>,
    env: Env,
    fence: Arc<Fence>,
    registry: Registry,
    options: RunnerOptions,
    halt: Signal<Halt>,
    paused: Signal<bool>,
    slots: Semaphore,
}

impl Shared {
    fn halt(&self) -> Halt {
        self.halt.get()
    }

    fn halt_for(&self, reason: Halt) {
        self.halt.update(|halt| (reason > halt).then_some(reason));
    }

    /// Waits until the runner ends.
    async fn halted(&self) {
        self.halt.wait_until(|halt| *halt != Halt::No).await;
    }

    /// Waits while paused; whether to go on.
    async fn may_go_on(&self) -> bool {
        tokio::select! {
            biased;
            () = self.halted() => false,
            _ = self.paused.wait_until(|paused| !paused) => true,
        }
    }
}

/// Says that the runner has ended, however its scheduler did.
struct EndMark(Arc<Shared>);

impl Drop for EndMark {
    fn drop(&mut self) {
        self.0.halt_for(Halt::Closing);
    }
}

/// A running runner. Dropping it stops everything where it stands, as a crash would; [`close`](Self::close) lets
/// the steps that are under way finish.
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Runner {
    /// Takes over the procedures in `kv` from whoever ran them, and runs them.
    ///
    /// # Errors
    /// When the store fails; [`ProcedureError::Contended`] when many claim at once.
    pub async fn start(kv: Arc<dyn KvBackend>, env: Env, registry: Registry, options: RunnerOptions) -> Result<Self, ProcedureError> {
        let fence = Fence::claim(&*kv, &env).await?;
        Ok(Self::start_as(fence, kv, env, registry, options))
    }

    /// Runs the procedures in `kv` under a claim of them. One that is not current any more ends the runner at its first
    /// write.
    ///
    /// A process that has to get ready for what the steps need claims before it does that: from then on no runner before
    /// it changes anything.
    #[must_use]
    pub fn start_as(fence: Fence, kv: Arc<dyn KvBackend>, env: Env, registry: Registry, options: RunnerOptions) -> Self {
        let fence = Arc::new(fence);
        tracing::info!(epoch = fence.epoch(), "took over the procedures");
        let slots = Semaphore::new(options.steps_parallel_max.max(1));
        // Paused until the switch has been read.
        let (halt, paused) = (Signal::new(Halt::No), Signal::new(true));
        let shared = Arc::new(Shared { kv, env, fence, registry, options, halt, paused, slots });
        let (scheduler, mark) = (Scheduler::new(Arc::clone(&shared)), EndMark(Arc::clone(&shared)));
        let task = env::spawn(async move {
            let _mark = mark;
            scheduler.run().await;
        });
        Self { shared, task }
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.fence.epoch()
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> RunnerState {
        match self.shared.halt() {
            Halt::Fenced => RunnerState::Fenced,
            Halt::Closing => RunnerState::Closed,
            Halt::No if self.shared.paused.get() => RunnerState::Paused,
            Halt::No => RunnerState::Running,
        }
    }

    /// Waits until another runner has taken over, or this one was closed.
    pub async fn ended(&self) {
        self.shared.halted().await;
    }

    /// Starts no further step, lets those under way finish and store their results, and ends.
    pub async fn close(mut self) {
        self.shared.halt_for(Halt::Closing);
        // Awaited in place: when this is cancelled, dropping the runner still stops everything.
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the runner of procedures ended badly");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}
