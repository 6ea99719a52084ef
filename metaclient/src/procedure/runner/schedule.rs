//! Decides which procedures are driven.
//!
//! Invariants:
//! - What it knows of a record is as of some revision; it never goes back to an older one.
//! - Nothing is granted on the word of memory alone: the write compares the record, and a procedure that is
//!   believed to hold locks may at worst have given them up already.
//! - Locks change hands in one transaction, which ends the blocked procedure and compares both records; and only when no
//!   task of ours drives the blocked one, which might still be in a step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::super::error::{ProcedureError, chain};
use super::super::fence::{Fenced, RunnerClaim};
use super::super::id::ProcedureId;
use super::super::life::{Event, Next};
use super::super::locks::{Claim, Standing, plan_grants};
use super::super::record::{Blocked, Phase, Record};
use super::super::steps::Commit;
use super::super::writer::{Row, RowWriter, Written, row_key};
use super::drive::drive;
use super::{Halt, Shared};
use crate::keys::{self, MetaKey, Switch};
use crate::kv::{Change, Compare, Entry, Key, KeyRange, Op, Revision, Txn};
use crate::limits::PROCEDURE_PRUNE_MAX;
use crate::mirror::{Followed, Follower};
use crate::values;

/// How long to wait before what failed at the store is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The task of one procedure; dropping it stops the task where it stands.
struct Driven {
    task: JoinHandle<()>,
    wake: Arc<Notify>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The end of a task: which, and the record as it left it.
type Ended = (ProcedureId, Option<Row>);

pub(super) struct Scheduler {
    shared: Arc<Shared>,
    rows: BTreeMap<ProcedureId, Row>,
    /// Records that cannot be read.
    unreadable: BTreeSet<Key>,
    driven: BTreeMap<ProcedureId, Driven>,
    /// Procedures whose grant was tried and not answered, with the revision of the record that it was to replace.
    doubtful: BTreeMap<ProcedureId, Revision>,
    /// The same of procedures that were to take another one's place.
    taking_over: BTreeMap<ProcedureId, Revision>,
    ended: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
}

impl Scheduler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            rows: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            driven: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            taking_over: BTreeMap::new(),
            ended: mpsc::channel(16),
        }
    }

    /// Runs until the runner is fenced, or closed and all steps are at rest.
    pub(super) async fn run(mut self) {
        let kv = &self.shared.kv;
        let mut records = Follower::new(Arc::clone(kv), keys::procedures_and_runner());
        let switch = Switch::ProceduresPaused.key();
        let mut switches = Follower::new(Arc::clone(kv), KeyRange::between(switch.clone(), switch.successor()));
        let shared = Arc::clone(&self.shared);
        let mut again = false;
        loop {
            let halt = shared.halt();
            if halt == Halt::Fenced || (halt == Halt::Closing && self.driven.is_empty()) {
                break;
            }
            tokio::select! {
                biased;
                () = shared.halted(), if halt == Halt::No => {}
                Some(ended) = self.ended.1.recv() => self.end(ended),
                followed = switches.next() => self.switch(followed),
                followed = records.next() => self.follow(followed).await,
                () = env::sleep(AGAIN), if again => {}
            }
            again = match self.schedule().await {
                Ok(()) => false,
                Err(ProcedureError::Fenced { .. }) => {
                    shared.halt_for(Halt::Fenced);
                    false
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot schedule procedures: trying again");
                    true
                }
            };
        }
        if shared.halt() == Halt::Fenced {
            tracing::warn!(epoch = shared.fence.epoch(), "another runner has taken over the procedures: this one stops");
        }
    }

    fn end(&mut self, (id, row): Ended) {
        self.driven.remove(&id);
        if let Some(row) = row {
            self.learn(row);
        }
    }

    fn learn(&mut self, row: Row) {
        let known = self.rows.get(&row.record.id);
        if known.is_none_or(|known| known.written < row.written) {
            self.rows.insert(row.record.id.clone(), row);
        }
    }

    fn switch(&self, followed: Followed) {
        let paused = match followed {
            Followed::Snapshot { entries, .. } => is_paused(entries.first()),
            Followed::Changes(batch) => match batch.changes.last() {
                Some(Change::Put(entry)) => is_paused(Some(entry)),
                Some(Change::Delete { .. }) => is_paused(None),
                None => return,
            },
        };
        if self.shared.paused.update(|_| Some(paused)) != paused {
            tracing::info!(paused, "the switch of procedures was read");
        }
    }

    async fn follow(&mut self, followed: Followed) {
        match followed {
            Followed::Snapshot { entries, .. } => {
                let present: BTreeSet<&Key> = entries.iter().map(|entry| &entry.key).collect();
                self.rows.retain(|id, _| present.contains(&row_key(id)));
                self.unreadable.clear();
                for entry in entries {
                    self.put(entry).await;
                }
            }
            Followed::Changes(batch) => {
                for change in batch.changes {
                    match change {
                        Change::Put(entry) => self.put(entry).await,
                        Change::Delete { key } => self.delete(&key, batch.revision),
                    }
                }
            }
        }
    }

    async fn put(&mut self, entry: Entry) {
        if entry.key == MetaKey::ProcedureRunner.to_key() {
            // What the entry says needs no further request, which could fail and leave us in the dark.
            let claim = values::decode_entry::<RunnerClaim>(&entry);
            let newer = claim.is_ok_and(|claim| claim.epoch > self.shared.fence.epoch());
            if newer || matches!(self.shared.fence.is_current(&*self.shared.kv).await, Ok(false)) {
                self.shared.halt_for(Halt::Fenced);
            }
            return;
        }
        match Row::of(&entry) {
            // Another runner writes already: what it grants is not ours to drive.
            Ok(row) if row.record.epoch > self.shared.fence.epoch() => self.shared.halt_for(Halt::Fenced),
            Ok(row) => {
                self.unreadable.remove(&entry.key);
                if let Some(driven) = self.driven.get(&row.record.id) {
                    driven.wake.notify_one();
                }
                self.learn(row);
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "a procedure cannot be read: no locks are granted while it is there");
                self.unreadable.insert(entry.key);
            }
        }
    }

    fn delete(&mut self, key: &Key, revision: Revision) {
        self.unreadable.remove(key);
        if let Ok(MetaKey::Procedure { id }) = MetaKey::from_key(key)
            && self.rows.get(&id).is_some_and(|row| row.written < revision)
        {
            self.rows.remove(&id);
        }
    }

    async fn schedule(&mut self) -> Result<(), ProcedureError> {
        if self.shared.halt() != Halt::No {
            return Ok(());
        }
        let waiting = |row: &&Row| steps(row) && !self.driven.contains_key(&row.record.id);
        let waiting: Vec<Row> = self.rows.values().filter(waiting).cloned().collect();
        for row in waiting {
            self.drive(row).await;
        }
        if !self.shared.paused.get() {
            self.wake_readable().await?;
            self.hand_over().await?;
            self.grant().await?;
        }
        self.prune().await
    }

    async fn drive(&mut self, row: Row) {
        let (id, shared, wake) = (row.record.id.clone(), Arc::clone(&self.shared), Arc::new(Notify::new()));
        let writer = self.writer(&id);
        writer.learn(row).await;
        let (ended, named, woken) = (self.ended.0.clone(), id.clone(), Arc::clone(&wake));
        let task = env::spawn(async move {
            let row = drive(shared, Arc::new(writer), woken).await;
            // Fails only when the scheduler is gone.
            let _ = ended.send((named, row)).await;
        });
        self.driven.insert(id, Driven { task, wake });
    }

    fn writer(&self, id: &ProcedureId) -> RowWriter {
        let shared = &self.shared;
        RowWriter::new(id.clone(), Arc::clone(&shared.kv), shared.env.clone(), Arc::clone(&shared.fence))
    }

    /// Writes `event` to a record that nobody drives.
    async fn write(&mut self, row: &Row, event: Event) -> Result<Option<Row>, ProcedureError> {
        self.write_with(row, event, Commit::default()).await
    }

    async fn write_with(&mut self, row: &Row, event: Event, commit: Commit) -> Result<Option<Row>, ProcedureError> {
        let writer = self.writer(&row.record.id);
        writer.learn(row.clone()).await;
        match writer.write(row, event, commit).await? {
            Written::Stored => {}
            Written::Fenced => return Err(ProcedureError::Fenced { epoch: self.shared.fence.epoch() }),
            Written::RowMoved | Written::ConditionsFailed => {
                // Somebody changed it; what it is now decides.
                writer.forget().await;
                match writer.row().await? {
                    Some(row) => self.learn(row),
                    None => drop(self.rows.remove(&row.record.id)),
                }
                return Ok(None);
            }
        }
        let now = writer.known().await;
        if let Some(row) = &now {
            self.learn(row.clone());
        }
        Ok(now)
    }

    /// Lets procedures go on that an earlier program could not read.
    async fn wake_readable(&mut self) -> Result<(), ProcedureError> {
        let blocked = |row: &&Row| matches!(row.record.phase, Phase::Blocked { on: Blocked::Unreadable, .. });
        let readable = |row: &&Row| self.shared.registry.load(&row.record).is_ok();
        let rows: Vec<Row> = self.rows.values().filter(blocked).filter(readable).cloned().collect();
        self.write_all(rows, &Event::Readable).await
    }

    /// Lets procedures take the place of blocked ones, with their locks.
    async fn hand_over(&mut self) -> Result<(), ProcedureError> {
        let rows = &self.rows;
        // What was not answered may still arrive, until one of the two records is another than it was to replace.
        let waits =
            |row: &Row| row.record.in_place_of.as_ref().and_then(|id| rows.get(id)).is_some_and(|row| row.record.phase.is_blocked());
        self.taking_over.retain(|id, replaced| rows.get(id).is_some_and(|row| row.written == *replaced && waits(row)));
        let blocked = |row: &Row| {
            let other = rows.get(row.record.in_place_of.as_ref().filter(|_| row.record.phase == Phase::Queued)?)?;
            let free = !self.driven.contains_key(&other.record.id) && other.record.locks.covers(&row.record.locks);
            let ended = other.record.after(Event::Superseded { by: row.record.id.clone() }).ok().filter(|_| free)?;
            Some((row.clone(), other.clone(), ended))
        };
        let pairs: Vec<(Row, Row, Record)> = rows.values().filter_map(blocked).collect();
        for (row, other, ended) in pairs {
            tracing::warn!(id = %row.record.id, in_place_of = %other.record.id, "a procedure takes the place of a blocked one");
            self.taking_over.insert(row.record.id.clone(), row.written);
            let record = Record {
                epoch: self.shared.fence.epoch(),
                writes: ended.writes.saturating_add(1),
                written_unix_ms: self.shared.env.unix_ms(),
                ..ended
            };
            let key = row_key(&record.id);
            let unmoved = Compare::ModRevision { key: key.clone(), revision: other.written };
            let commit = Commit::default().when(unmoved).then([Op::put(key, values::encode(&record))]);
            let written = self.write_with(&row, Event::Granted, commit).await?;
            self.taking_over.remove(&row.record.id);
            // Else somebody changed one of the two, and both are looked at again when that is seen.
            if let Some(taken) = written {
                self.learn(Row { record, created: other.created, written: taken.written });
                self.drive(taken).await;
            }
        }
        Ok(())
    }

    async fn grant(&mut self) -> Result<(), ProcedureError> {
        if !self.unreadable.is_empty() {
            return Ok(());
        }
        // A grant without an answer may still arrive, until the record is another than it was to replace.
        let rows = &self.rows;
        self.doubtful.retain(|id, replaced| rows.get(id).is_some_and(|row| row.written == *replaced));
        // While a task drives a procedure it may be in a step, whatever the record says: after an unknown outcome it
        // repeats the step, and the write of the first attempt can still arrive.
        let unsure = |id: &ProcedureId| self.doubtful.contains_key(id) || self.taking_over.contains_key(id);
        let holds = |id: &ProcedureId| self.driven.contains_key(id) || unsure(id);
        let claims = self.rows.iter().map(|(id, row)| {
            let (ticket, locks) = (row.record.ticket(row.created), &row.record.locks);
            Claim { ticket, id, standing: if holds(id) { Standing::Holds } else { row.record.standing() }, locks }
        });
        let granted: BTreeSet<ProcedureId> = plan_grants(claims).into_iter().chain(self.doubtful.keys()).cloned().collect();
        let rows: Vec<Row> = granted.iter().filter_map(|id| self.rows.get(id)).cloned().collect();
        self.doubtful = rows.iter().map(|row| (row.record.id.clone(), row.written)).collect();
        self.write_all(rows, &Event::Granted).await
    }

    /// Writes `event` to each record and drives it. One that fails does not hold up the others; the last failure
    /// is answered.
    async fn write_all(&mut self, rows: Vec<Row>, event: &Event) -> Result<(), ProcedureError> {
        let mut result = Ok(());
        for row in rows {
            match self.write(&row, event.clone()).await {
                Ok(Some(row)) => self.drive(row).await,
                Ok(None) => {}
                Err(error @ ProcedureError::Fenced { .. }) => return Err(error),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Drops the oldest of those that are over, in one transaction.
    async fn prune(&mut self) -> Result<(), ProcedureError> {
        let mut over: Vec<&Row> =
            self.rows.values().filter(|row| row.record.phase.is_over() && !self.driven.contains_key(&row.record.id)).collect();
        let excess = over.len().saturating_sub(self.shared.options.history_max);
        if excess == 0 {
            return Ok(());
        }
        over.sort_by_key(|row| row.written);
        // Two of the compares are those of the fence.
        let most = self.shared.kv.limits().txn_ops_max.saturating_sub(2).clamp(1, PROCEDURE_PRUNE_MAX);
        let oldest: Vec<(ProcedureId, Revision)> =
            over.into_iter().take(excess.min(most)).map(|row| (row.record.id.clone(), row.written)).collect();
        let mut txn = Txn::new();
        for (id, written) in &oldest {
            txn = txn.when(Compare::ModRevision { key: row_key(id), revision: *written }).then([Op::delete(row_key(id))]);
        }
        match self.shared.fence.run(&*self.shared.kv, txn).await? {
            Fenced::Lost => return Err(ProcedureError::Fenced { epoch: self.shared.fence.epoch() }),
            // When one of them was changed meanwhile, that is on its way here.
            Fenced::Answer(answer) if !answer.succeeded => return Ok(()),
            Fenced::Answer(_) => {}
        }
        for (id, _) in oldest {
            self.rows.remove(&id);
        }
        Ok(())
    }
}

fn steps(row: &Row) -> bool {
    matches!(row.record.next(), Next::Step(_) | Next::TurnBack)
}

/// Whether the switch, as it is stored, pauses procedures.
fn is_paused(entry: Option<&Entry>) -> bool {
    entry.is_some()
}
