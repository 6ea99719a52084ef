//! What a kind of procedure provides, and what its steps are given.
//!
//! Invariants:
//! - A step always starts from a stored state, also without any crash: the runner reads the procedure anew
//!   from the record before each step. What a step needs later must be in the state that it leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::Env;

use super::error::{StepError, sure};
use super::fence::{Fence, Fenced};
use super::id::ProcedureId;
use super::life::Retry;
use super::locks::Locks;
use super::record::{Progress, Record, State};
use super::writer::RowWriter;
use crate::kv::{Compare, KvBackend, Op, Txn, TxnAnswer};

/// A durable piece of work in steps.
///
/// The order is: the state says what the next step will do (the intent); it is stored; the step acts; the state
/// after it, which is the next intent, is stored. A crash in between runs the step again from the same state.
/// So each step must be idempotent: it may find its work done, partly or wholly, by an earlier attempt. What a
/// step draws at random (ids, names) is drawn by the step *before*, so that it is stored before it is used.
///
/// Two ways to act on the metadata: [`StepContext::txn`], for idempotent changes, and [`Commit`], which happens
/// together with the storing of the result and therefore exactly once.
///
/// A step must not wait for another procedure: it holds one of the runner's slots.
#[async_trait]
pub trait Procedure: fmt::Debug + Send + Sync {
    /// The kind's name, by which its loader is registered.
    fn kind(&self) -> &'static str;

    /// All that is needed to go on, in a form with a version. Must be the same for the same value.
    fn state(&self) -> State;

    /// The locks that it needs from its first step to its end. Asked once, at submit.
    fn locks(&self) -> Locks;

    /// Whether from this state on it can only go forward. It is asked for each state before that is stored, and
    /// so before the next step acts: return true for the state whose step does what cannot be undone. Once true
    /// for a stored state, it stays so.
    fn past_no_return(&self) -> bool;

    /// Does the next step and changes `self` to the state after it. On an error `self` is thrown away.
    ///
    /// # Errors
    /// Before the point of no return a fatal error, or too many retryable ones, turn the procedure back. After
    /// it retryable ones are tried for ever, with backoff, and a fatal one blocks the procedure.
    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError>;

    /// Undoes one step, or all, and changes `self` to the state after it. The step of the state that it starts
    /// from may have been done wholly, partly, or not at all. Never called past the point of no return.
    ///
    /// # Errors
    /// Retryable ones are tried for ever, with backoff; a fatal one blocks the procedure.
    async fn rollback(&mut self, context: &StepContext) -> Result<Status, StepError>;

    /// How steps are tried again.
    fn retry(&self) -> Retry {
        Retry::DEFAULT
    }
}

/// What a step, forward or back, says when it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Store the state, then do the next step.
    Next(Commit),
    /// Nothing happened yet: do the step again after this time. Not a failure, and nothing is stored.
    Later(Duration),
    /// That was the last step.
    Done {
        /// What the procedure answers; ignored after a rollback.
        output: Option<String>,
        /// What to change together with it.
        commit: Commit,
    },
}

impl Status {
    /// The next step, with nothing to change beside the state.
    #[must_use]
    pub fn next() -> Self {
        Self::Next(Commit::default())
    }

    /// The end, with nothing to answer or to change.
    #[must_use]
    pub fn done() -> Self {
        Self::Done { output: None, commit: Commit::default() }
    }
}

/// Changes of the metadata in the transaction that stores the result of a step: exactly once, fenced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// Conditions. When they fail nothing is stored, and the step is tried again as after a retryable failure:
    /// it then finds out what has changed.
    pub compares: Vec<Compare>,
    /// Changes. They must not touch the keys of procedures.
    pub ops: Vec<Op>,
    /// How far the procedure is now; as before when absent.
    pub progress: Option<Progress>,
}

impl Commit {
    /// One that only tells how far the procedure is.
    #[must_use]
    pub fn progress(text: impl Into<String>, done: u64, total: u64) -> Self {
        Self { progress: Some(Progress::of(text, done, total)), ..Self::default() }
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds changes.
    #[must_use]
    pub fn then(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.ops.extend(ops);
        self
    }
}

/// What a step is given.
#[derive(Debug)]
pub struct StepContext {
    pub(super) kv: Arc<dyn KvBackend>,
    pub(super) env: Env,
    pub(super) fence: Arc<Fence>,
    pub(super) row: Arc<RowWriter>,
}

impl StepContext {
    /// The procedure's name. What a step makes elsewhere can carry it, so that the next attempt knows it again.
    #[must_use]
    pub fn id(&self) -> &ProcedureId {
        self.row.id()
    }

    /// The runner's epoch; greater than that of every runner before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.fence.epoch()
    }

    /// The store, for reading. Write through [`txn`](Self::txn), or with the compares of [`fence`](Self::fence).
    #[must_use]
    pub fn kv(&self) -> &Arc<dyn KvBackend> {
        &self.kv
    }

    /// Time and random bits.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The proof of the epoch, for transactions that others run.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Runs a transaction that changes nothing unless the runner's epoch is current.
    ///
    /// # Errors
    /// [`StepError::Fenced`] when it is not; else as the store.
    pub async fn txn(&self, txn: Txn) -> Result<TxnAnswer, StepError> {
        match self.fence.run(&*self.kv, txn).await? {
            Fenced::Answer(answer) => Ok(answer),
            Fenced::Lost => Err(StepError::Fenced),
        }
    }

    /// Checks that the runner's epoch is current: before work elsewhere that cannot compare it. It may be lost
    /// right after, so that such work must also be harmless when it comes late.
    ///
    /// # Errors
    /// [`StepError::Fenced`] when it is not; else as the store.
    pub async fn check_fence(&self) -> Result<(), StepError> {
        if self.fence.is_current(&*self.kv).await? { Ok(()) } else { Err(StepError::Fenced) }
    }

    /// Tells how far a long step is, and learns whether it was cancelled.
    ///
    /// # Errors
    /// [`StepError::Fenced`] when another runner has taken over; [`StepError::Retryable`] when the step should
    /// end because somebody cancelled the procedure or the store does not answer.
    pub async fn report(&self, progress: Progress) -> Result<(), StepError> {
        self.row.report(progress).await
    }
}

/// Reads a procedure of one kind from its state.
///
/// # Errors
/// Why the state cannot be read: of a newer version, or damaged.
pub type Load = dyn Fn(&State) -> Result<Box<dyn Procedure>, String> + Send + Sync;

/// The kinds of procedures that a runner knows.
#[derive(Default)]
pub struct Registry {
    loaders: BTreeMap<String, Box<Load>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.loaders.keys()).finish()
    }
}

impl Registry {
    /// One that knows no kind.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind. The loader must refuse versions of the state that it does not know, naming both versions.
    #[must_use]
    pub fn with<F>(mut self, kind: &str, load: F) -> Self
    where
        F: Fn(&State) -> Result<Box<dyn Procedure>, String> + Send + Sync + 'static,
    {
        self.loaders.insert(kind.to_owned(), Box::new(load));
        self
    }

    /// The procedure of a record.
    ///
    /// # Errors
    /// Why this program cannot run it.
    pub fn load(&self, record: &Record) -> Result<Box<dyn Procedure>, String> {
        let Some(load) = self.loaders.get(&record.kind) else {
            return Err(format!("this program knows no procedure of kind '{}': run one that does", record.kind));
        };
        sure(|| load(&record.state))
            .flatten()
            .map_err(|reason| format!("the state of this {} procedure cannot be read: {reason}", record.kind))
    }
}
