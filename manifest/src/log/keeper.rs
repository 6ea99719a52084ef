//! Looks after a region's history beside its commits: builds checkpoints when they are due, proposes floors, starts
//! retention.
//!
//! Invariants:
//! - At most one checkpoint is built for a region at a time, and at most one retention runs. A job that fails is counted and tried again after as many records as made it
//!   due; it never fails a commit.
//! - A checkpoint shares segments only with one that this writer wrote, or that the log names.
//! - A checkpoint is proposed for a record only after its root is on the store; a floor only at a checkpoint that is
//!   old enough and below every version that is held.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::Context;
use super::hold::{Hold, Holds};
use super::replay::Tail;
use super::retention::{self, Retained};
use crate::action::{Action, CheckpointRef, Checkpointed, Floor, Pin, Unpin};
use crate::body::Body;
use crate::checkpoint::{Built, Job, Loaded, SegmentEntry};
use crate::env;
use crate::error::Error;
use crate::id::Slot;
use crate::slot::Record;
use crate::state::RegionState;

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    context: Context,
    holds: Holds,
    tail: Tail,
    /// The segments of the newest checkpoint, since which the tail counts.
    before: Arc<[SegmentEntry]>,
    newest: Option<CheckpointRef>,
    /// A checkpoint that is on the store and not in a record yet.
    unlogged: Option<CheckpointRef>,
    building: Option<JoinHandle<Result<Built, Error>>>,
    retaining: Option<JoinHandle<Result<Retained, Error>>>,
    /// Slots that retention found to hold a seal.
    ends: BTreeSet<Slot>,
    /// Records to replay at the last failure: the next attempt waits for as many again.
    failed_at: usize,
}

impl Keeper {
    /// The keeper of a region whose records since the loaded checkpoint are `tail`. `logged` is that checkpoint, if
    /// the log names it as one that is needed; without it the next checkpoint is written as a whole. For the segments
    /// of one that is not in the log, or that retention has passed, may be deleted at any time by an earlier writer,
    /// who was paused after it listed what there was.
    pub(super) fn new(context: &Context, logged: Option<&Loaded>, tail: Tail) -> Self {
        Self {
            context: context.clone(),
            holds: Holds::default(),
            tail,
            before: logged.map_or_else(|| Arc::from([]), |loaded| Arc::clone(&loaded.segments)),
            newest: logged.map(|loaded| loaded.reference),
            unlogged: None,
            building: None,
            retaining: None,
            ends: BTreeSet::new(),
            failed_at: 0,
        }
    }

    pub(super) fn lag(&self) -> (usize, u64) {
        self.tail.lag()
    }

    pub(super) fn hold(&self, version: Option<Slot>) -> Hold {
        self.holds.hold(version)
    }

    pub(super) fn holds(&self) -> Holds {
        self.holds.clone()
    }

    pub(super) fn keep_holds(&mut self, holds: &Holds) {
        self.holds = holds.clone();
    }

    /// Takes the results of jobs that are done, and waits for none.
    pub(super) async fn poll(&mut self) {
        if self.building.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join_building().await;
        }
        if self.retaining.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join_retaining().await;
        }
    }

    /// Waits for the jobs that run.
    pub(super) async fn settle(&mut self) {
        self.join_building().await;
        self.join_retaining().await;
    }

    async fn join_building(&mut self) {
        let Some(job) = self.building.take() else { return };
        match job.await {
            Ok(Ok(built)) => self.built(built),
            Ok(Err(error)) => self.failed("checkpoint", &error),
            Err(error) => self.failed("checkpoint", &error),
        }
    }

    async fn join_retaining(&mut self) {
        let Some(job) = self.retaining.take() else { return };
        match job.await {
            Ok(Ok(retained)) => self.retained(&retained),
            Ok(Err(error)) => self.failed("retention", &error),
            Err(error) => self.failed("retention", &error),
        }
    }

    fn failed(&mut self, what: &'static str, error: &dyn std::error::Error) {
        self.failed_at = self.tail.lag().0;
        metrics::counter!("tessera_manifest_jobs_failed_total", "job" => what).increment(1);
        let cause = error.source().map(ToString::to_string);
        tracing::warn!(job = what, %error, cause, "a background job of a manifest failed and will be tried again");
    }

    fn built(&mut self, built: Built) {
        metrics::counter!("tessera_manifest_checkpoints_total").increment(1);
        metrics::counter!("tessera_manifest_checkpoint_bytes_total").increment(built.bytes_written);
        metrics::counter!("tessera_manifest_checkpoint_segments_total").increment(built.segments_written as u64);
        self.failed_at = 0;
        self.tail.checkpointed(built.reference.version);
        self.before = built.segments;
        self.newest = Some(built.reference);
        self.unlogged = Some(built.reference);
    }

    fn retained(&mut self, retained: &Retained) {
        self.ends.extend(&retained.ends);
        if let Some(behind) = retained.behind {
            self.tail.data.retain(|data| data.slot() >= behind);
        }
    }

    /// What to note in the next record, besides what was asked for.
    pub(super) fn extras(&mut self, state: &RegionState, now_ms: u64) -> Vec<Action> {
        let newer = |checkpoint: &CheckpointRef| state.checkpoints().last().is_none_or(|last| last.version < checkpoint.version);
        self.unlogged = self.unlogged.filter(newer);
        let over = |pin: &&Arc<Pin>| pin.expires_unix_ms.is_some_and(|end| end <= now_ms);
        let unpins = state.pins().values().filter(over).map(|pin| Action::Unpin(Unpin { name: pin.name.clone() }));
        let mut extras: Vec<Action> = unpins.collect();
        if let Some(checkpoint) = self.unlogged {
            extras.push(Action::Checkpointed(Checkpointed { checkpoint }));
            extras.extend(self.floor(state, now_ms).map(|version| Action::Floor(Floor { version })));
        }
        self.measure(state, now_ms);
        extras
    }

    fn measure(&self, state: &RegionState, now_ms: u64) {
        let (records, bytes) = self.tail.lag();
        metrics::histogram!("tessera_manifest_checkpoint_lag_records").record(records as f64);
        metrics::histogram!("tessera_manifest_checkpoint_lag_bytes").record(bytes as f64);
        if let Some(oldest) = state.pins().values().map(|pin| pin.checkpoint.time_ms).min() {
            metrics::histogram!("tessera_manifest_oldest_pin_age_hours").record(now_ms.saturating_sub(oldest) as f64 / 3.6e6);
        }
    }

    /// The floor to propose: the newest checkpoint that is old enough, but for the newest of all.
    fn floor(&self, state: &RegionState, now_ms: u64) -> Option<Slot> {
        let history_ms = u64::try_from(self.context.settings.history.as_millis()).unwrap_or(u64::MAX);
        let held = self.holds.oldest();
        let old = |checkpoint: &&CheckpointRef| {
            let age_ms = now_ms.saturating_sub(checkpoint.time_ms);
            age_ms >= history_ms && held.is_none_or(|held| checkpoint.version <= held)
        };
        let version = state.checkpoints().iter().rev().find(old)?.version;
        (version > state.floor()).then_some(version)
    }

    /// Takes in a record of this writer.
    pub(super) fn committed(&mut self, record: &Record, body: &Body) {
        metrics::counter!("tessera_manifest_commit_bytes_total").increment(record.body.len() as u64);
        self.tail.take(record, body);
    }

    /// Starts what is due after a record.
    pub(super) fn after_commit(&mut self, state: &RegionState, history_moved: bool) {
        if !self.context.settings.background {
            return;
        }
        let (records, bytes) = self.tail.lag();
        let settings = self.context.settings;
        let due = records >= settings.checkpoint_records || bytes >= settings.checkpoint_bytes;
        if due && records >= self.failed_at.saturating_mul(2) && self.building.is_none() {
            self.building = self.job(state).map(|job| env::spawn(job.run()));
        }
        if history_moved && self.retaining.is_none() {
            let job = self.retention(state);
            self.retaining = Some(env::spawn(job.run()));
        }
    }

    fn job(&self, state: &RegionState) -> Option<Job> {
        let last = self.tail.last?;
        if state.is_sealed() || state.version() != Some(last.slot) {
            return None;
        }
        Some(Job {
            context: self.context.clone(),
            state: state.clone(),
            commit_id: last.commit_id,
            time_ms: last.time_ms,
            epoch: last.slot.epoch,
            before: Arc::clone(&self.before),
            dirty: self.tail.dirty.clone(),
        })
    }

    pub(super) async fn checkpoint(&mut self, state: &RegionState) -> Result<CheckpointRef, Error> {
        if let Some(newest) = self.newest.filter(|newest| Some(newest.version) == state.version()) {
            return Ok(newest);
        }
        let job = self.job(state).ok_or_else(|| Error::Checkpoint {
            path: self.context.root.manifest(state.region()).folder.to_string(),
            reason: "the epoch is sealed".into(),
        })?;
        let built = job.run().await?;
        let reference = built.reference;
        self.built(built);
        Ok(reference)
    }

    fn retention(&self, state: &RegionState) -> retention::Job {
        let kept = self.before.iter().map(|entry| entry.segment.file).collect();
        let data = self.tail.data.iter().copied().collect();
        retention::Job { context: self.context.clone(), state: state.clone(), kept, data, ends: self.ends.clone() }
    }

    pub(super) async fn retain(&mut self, state: &RegionState) -> Result<Retained, Error> {
        let retained = self.retention(state).run().await?;
        self.retained(&retained);
        Ok(retained)
    }
}
