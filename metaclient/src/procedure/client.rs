//! Verbs on procedures, for everybody: they need no epoch.
//!
//! Invariants:
//! - A verb is one transaction that compares the record as it was read, and repeats when somebody else was
//!   first. What it answers is therefore true of the stored record: an accepted cancel can no longer be
//!   overtaken by the point of no return.

use std::sync::Arc;

use tessera_manifest::env::Env;

use super::error::ProcedureError;
use super::id::ProcedureId;
use super::life::{Event, Refused};
use super::record::{Phase, Progress, Record};
use super::steps::Procedure;
use super::writer::{Row, check_size, row_key};
use crate::keys;
use crate::kv::{Compare, KeyRange, KvBackend, KvError, Op, RangeRequest, Revision, Txn};
use crate::limits::ATTEMPTS_MAX;
use crate::values;

/// What a submit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// The procedure is stored and will run.
    New,
    /// The same procedure was submitted before.
    Known,
}

/// A handle to the procedures of a cluster; cheap to clone. It runs nothing.
#[derive(Debug, Clone)]
pub struct Procedures {
    pub(super) kv: Arc<dyn KvBackend>,
    pub(super) env: Env,
}

impl Procedures {
    /// The procedures in `kv`.
    #[must_use]
    pub fn new(kv: Arc<dyn KvBackend>, env: Env) -> Self {
        Self { kv, env }
    }

    /// Stores a procedure, to be run by the runner. When this answers, it is durable. Submitting the same
    /// procedure under the same id again does nothing, for as long as its history is kept.
    ///
    /// # Errors
    /// [`ProcedureError::IdInUse`] when the id stands for something else; [`ProcedureError::TooLarge`].
    pub async fn submit(&self, id: &ProcedureId, procedure: &dyn Procedure) -> Result<Submitted, ProcedureError> {
        self.store(self.plan_record(id, procedure)).await
    }

    /// Stores a procedure that ends a blocked one, if that is still blocked when the runner sees it, and takes over its
    /// locks in the same transaction: whoever waits for them waits on. What the blocked one leaves is for the new one to
    /// end. If the other is not blocked any more, the new one queues for its locks like any. Else as
    /// [`submit`](Self::submit).
    ///
    /// # Errors
    /// [`ProcedureError::LocksNotHeld`] when the other does not hold all that the new one needs;
    /// [`ProcedureError::NotFound`] when there is no such procedure; else as [`submit`](Self::submit).
    pub async fn submit_in_place_of(
        &self,
        blocked: &ProcedureId,
        id: &ProcedureId,
        procedure: &dyn Procedure,
    ) -> Result<Submitted, ProcedureError> {
        let record = Record { in_place_of: Some(blocked.clone()), ..self.plan_record(id, procedure) };
        if !self.row(blocked).await?.0.record.locks.covers(&record.locks) {
            return Err(ProcedureError::LocksNotHeld { id: id.clone(), by: blocked.clone() });
        }
        self.store(record).await
    }

    async fn store(&self, record: Record) -> Result<Submitted, ProcedureError> {
        let id = &record.id;
        let (key, value) = (row_key(id), values::encode(&record));
        check_size(id, &value, &*self.kv)?;
        for _ in 0..ATTEMPTS_MAX {
            let put = Op::put(key.clone(), value.clone());
            let txn = Txn::new().when(Compare::Absent { key: key.clone() }).then([put]).otherwise([Op::get(key.clone())]);
            let answer = match self.kv.txn(txn).await {
                // Perhaps stored: the next attempt finds it.
                Err(KvError::CommitUnknown { .. }) => continue,
                other => other?,
            };
            if answer.succeeded {
                return Ok(Submitted::New);
            }
            let Some(entry) = answer.entry(0) else { continue };
            let known: Record = values::decode_entry(entry)?;
            let same = (&known.kind, &known.input, &known.locks, &known.in_place_of)
                == (&record.kind, &record.input, &record.locks, &record.in_place_of);
            return if same { Ok(Submitted::Known) } else { Err(ProcedureError::IdInUse { id: id.clone(), kind: known.kind }) };
        }
        Err(ProcedureError::Contended { what: key.to_string() })
    }

    fn plan_record(&self, id: &ProcedureId, procedure: &dyn Procedure) -> Record {
        let (input, now) = (procedure.state(), self.env.unix_ms());
        Record {
            id: id.clone(),
            kind: procedure.kind().to_owned(),
            state: input.clone(),
            input,
            locks: procedure.locks(),
            phase: Phase::Queued,
            past_no_return: procedure.past_no_return(),
            cancel_requested: false,
            steps: 0,
            attempts: 0,
            error: None,
            progress: Progress::default(),
            output: None,
            epoch: 0,
            writes: 1,
            queued_after: Revision(0),
            in_place_of: None,
            submitted_unix_ms: now,
            written_unix_ms: now,
        }
    }

    /// A procedure as it is now.
    ///
    /// # Errors
    /// [`ProcedureError::NotFound`].
    pub async fn procedure(&self, id: &ProcedureId) -> Result<Record, ProcedureError> {
        Ok(self.row(id).await?.0.record)
    }

    /// The row, and the store's revision at the read.
    pub(super) async fn row(&self, id: &ProcedureId) -> Result<(Row, Revision), ProcedureError> {
        let answer = self.kv.get(&row_key(id)).await?;
        let entry = answer.entry.ok_or_else(|| ProcedureError::NotFound { id: id.clone() })?;
        Ok((Row::of(&entry)?, answer.revision))
    }

    /// Up to `limit` procedures by id, those after `after`; an empty answer is the end. Those that are over are
    /// among them for as long as their history is kept.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn list(&self, after: Option<&ProcedureId>, limit: usize) -> Result<Vec<Record>, ProcedureError> {
        let mut range = keys::procedures();
        if let Some(after) = after {
            range.start = row_key(after).successor();
        }
        let page = self.kv.range(&RangeRequest::new(range).with_limit(limit)).await?;
        Ok(page.entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
    }

    /// Asks that a procedure be undone. When this answers well it has not passed the point of no return and
    /// never will: it ends as cancelled, or blocked on its way back. One that already rolls back goes on so.
    ///
    /// # Errors
    /// [`ProcedureError::Refused`] when it is past the point of no return, or over; [`ProcedureError::NotFound`].
    pub async fn cancel(&self, id: &ProcedureId) -> Result<Record, ProcedureError> {
        self.change(id, "cancelled", |_| Event::Cancel).await
    }

    /// Lets a blocked procedure go on, a waiting one try again at once, and a failed one begin again from what
    /// was submitted, behind those that wait already.
    ///
    /// # Errors
    /// [`ProcedureError::Refused`] when it has not failed; [`ProcedureError::NotFound`].
    pub async fn retry(&self, id: &ProcedureId) -> Result<Record, ProcedureError> {
        self.change(id, "retried", |row| Event::Retry { now: row.written }).await
    }

    async fn change(&self, id: &ProcedureId, verb: &'static str, event: fn(&Row) -> Event) -> Result<Record, ProcedureError> {
        let refused = |reason: Refused| ProcedureError::Refused { id: id.clone(), verb, reason };
        for _ in 0..ATTEMPTS_MAX {
            let (row, _) = self.row(id).await?;
            let record = row.record.after(event(&row)).map_err(refused)?;
            if record == row.record {
                return Ok(record);
            }
            if let Some(stored) = self.replace(&row, record).await? {
                return Ok(stored);
            }
        }
        Err(ProcedureError::Contended { what: row_key(id).to_string() })
    }

    /// Waits until nothing more happens by itself: the procedure is over, or blocked and in need of somebody.
    /// Cancel safe. It waits for ever where no runner is.
    ///
    /// # Errors
    /// [`ProcedureError::NotFound`] also when the procedure ended and its history was dropped meanwhile.
    pub async fn wait(&self, id: &ProcedureId) -> Result<Record, ProcedureError> {
        self.wait_until(id, |record| record.phase.is_settled()).await
    }

    /// Waits until the record is as `reached` says. Cancel safe.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_until(&self, id: &ProcedureId, reached: impl Fn(&Record) -> bool + Send) -> Result<Record, ProcedureError> {
        let key = row_key(id);
        loop {
            let (row, revision) = self.row(id).await?;
            if reached(&row.record) {
                return Ok(row.record);
            }
            let range = KeyRange::between(key.clone(), key.successor());
            let next = match self.kv.watch(range, revision.next()).await {
                Ok(mut watch) => watch.next().await,
                Err(error) => Err(error),
            };
            match next {
                // Whatever it was: the record is read again, so that nothing is decided on an old one.
                Ok(_) | Err(KvError::Compacted { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
