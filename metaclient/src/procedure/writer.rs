//! The one place where a runner writes the record of a procedure.
//!
//! Invariants:
//! - Every write compares the fence and that the record is as this writer knows it. So neither a fenced runner
//!   nor one that missed a verb (cancel, retry) changes anything.
//! - What the writer knows changes only by an answered write or a read: after an unknown outcome it knows
//!   nothing until it has read.

use std::sync::Arc;

use bytes::Bytes;
use tessera_manifest::env::Env;
use tokio::sync::Mutex;

use super::error::{ProcedureError, StepError};
use super::fence::{Fence, Fenced};
use super::id::ProcedureId;
use super::life::Event;
use super::record::{Progress, Record};
use super::steps::Commit;
use crate::keys::MetaKey;
use crate::kv::{Compare, Entry, Key, KvBackend, Op, Revision, Txn};
use crate::limits::PROCEDURE_SLACK_BYTES;
use crate::values;

/// A record with the revisions of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The record.
    pub record: Record,
    /// The transaction that submitted it.
    pub created: Revision,
    /// The transaction that wrote it last.
    pub written: Revision,
}

impl Row {
    /// The row of an entry.
    pub(super) fn of(entry: &Entry) -> Result<Self, values::ValueError> {
        Ok(Self { record: values::decode_entry(entry)?, created: entry.create_revision, written: entry.mod_revision })
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is stored.
    Stored,
    /// Somebody else wrote the record meanwhile; nothing was stored.
    RowMoved,
    /// The conditions of the step do not hold; nothing was stored.
    ConditionsFailed,
    /// Another epoch is current; nothing was stored.
    Fenced,
}

/// Checks that a record with a new state leaves room for an error and a progress text.
pub(super) fn check_size(id: &ProcedureId, value: &Bytes, kv: &dyn KvBackend) -> Result<(), ProcedureError> {
    let bytes_max = kv.limits().value_bytes_max.saturating_sub(PROCEDURE_SLACK_BYTES);
    let bytes = value.len();
    if bytes > bytes_max { Err(ProcedureError::TooLarge { id: id.clone(), bytes, bytes_max }) } else { Ok(()) }
}

/// The key of a procedure's record.
pub(super) fn row_key(id: &ProcedureId) -> Key {
    MetaKey::Procedure { id: id.clone() }.to_key()
}

/// Reads and writes one record under a fence.
#[derive(Debug)]
pub(super) struct RowWriter {
    id: ProcedureId,
    kv: Arc<dyn KvBackend>,
    env: Env,
    fence: Arc<Fence>,
    row: Mutex<Option<Row>>,
}

impl RowWriter {
    pub(super) fn new(id: ProcedureId, kv: Arc<dyn KvBackend>, env: Env, fence: Arc<Fence>) -> Self {
        Self { id, kv, env, fence, row: Mutex::new(None) }
    }

    pub(super) fn id(&self) -> &ProcedureId {
        &self.id
    }

    /// The record as it was last written or read, or as it is in the store; `None` when there is none.
    pub(super) async fn row(&self) -> Result<Option<Row>, ProcedureError> {
        let mut row = self.row.lock().await;
        if row.is_none() {
            let entry = self.kv.get(&row_key(&self.id)).await?.entry;
            *row = entry.as_ref().map(Row::of).transpose()?;
        }
        Ok(row.clone())
    }

    /// Forgets what it knows, so that the record is read again.
    pub(super) async fn forget(&self) {
        *self.row.lock().await = None;
    }

    /// The record that it knows.
    pub(super) async fn known(&self) -> Option<Row> {
        self.row.lock().await.clone()
    }

    /// Makes `row` what it knows.
    pub(super) async fn learn(&self, row: Row) {
        *self.row.lock().await = Some(row);
    }

    /// Reads the record again; whether it is another than was known. When it cannot be read, nothing is known.
    pub(super) async fn refresh(&self) -> bool {
        let before = self.row.lock().await.take();
        self.row().await.map_or(true, |now| now != before)
    }

    /// Stores what `event` makes of `row`, and with it what `commit` says.
    pub(super) async fn write(&self, row: &Row, event: Event, commit: Commit) -> Result<Written, ProcedureError> {
        let mut known = self.row.lock().await;
        // Taken out first: a call that is cancelled or whose outcome is unknown leaves nothing to rely on.
        if known.take().as_ref() != Some(row) {
            return Ok(Written::RowMoved);
        }
        let refused = |reason| ProcedureError::Refused { id: self.id.clone(), verb: "written", reason };
        let grows = matches!(event, Event::Stepped { .. });
        let mut record = row.record.after(event).map_err(refused)?;
        record.epoch = self.fence.epoch();
        record.writes = record.writes.saturating_add(1);
        record.written_unix_ms = self.env.unix_ms();
        let value: Bytes = values::encode(&record);
        if grows {
            check_size(&self.id, &value, &*self.kv)?;
        }
        let key = row_key(&self.id);
        let mut txn = Txn::new().when(Compare::ModRevision { key: key.clone(), revision: row.written });
        txn.compares.extend(commit.compares);
        let txn = txn.then([Op::put(key.clone(), value)]).then(commit.ops).otherwise([Op::get(key)]);
        let answer = match self.fence.run(&*self.kv, txn).await? {
            Fenced::Lost => return Ok(Written::Fenced),
            Fenced::Answer(answer) => answer,
        };
        if answer.succeeded {
            *known = Some(Row { record, created: row.created, written: answer.revision });
            return Ok(Written::Stored);
        }
        let unmoved = answer.entry(0).is_some_and(|entry| entry.mod_revision == row.written);
        if unmoved {
            *known = Some(row.clone());
        }
        Ok(if unmoved { Written::ConditionsFailed } else { Written::RowMoved })
    }

    /// Stores how far a step is, where that is possible.
    pub(super) async fn report(&self, progress: Progress) -> Result<(), StepError> {
        let stopped = || StepError::retryable("the procedure was changed while a step was under way");
        let known = self.row.lock().await.clone();
        let Some(row) = known else { return Err(stopped()) };
        match self.write(&row, Event::Progressed { progress }, Commit::default()).await {
            Ok(Written::Stored) => Ok(()),
            Ok(Written::Fenced) => Err(StepError::Fenced),
            Ok(Written::RowMoved | Written::ConditionsFailed) => Err(stopped()),
            Err(error) => Err(StepError::retryable(error)),
        }
    }
}
