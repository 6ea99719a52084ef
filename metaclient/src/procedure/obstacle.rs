//! Who is in the way of a procedure that waits for its locks, and will be for as long as nobody acts.
//!
//! Invariants:
//! - [`find_obstacle`] is pure. It names a blocked procedure that holds a lock in a conflicting mode, directly or through
//!   earlier ones that wait for it too; procedures that go on by themselves are no obstacle.
//! - A wait that meets an obstacle withdraws the procedure only while it is queued, in a transaction that compares its
//!   record: it has done nothing then, and never will.

use super::client::Procedures;
use super::error::ProcedureError;
use super::id::ProcedureId;
use super::life::{Event, Refused};
use super::locks::Locks;
use super::record::{Phase, Record};
use super::writer::{Row, row_key};
use crate::keys;
use crate::kv::{Change, Compare, Entry, KvError, Op, Revision, Txn, range_all};
use crate::limits::ATTEMPTS_MAX;
use crate::values;

/// Locks that somebody wants.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The locks.
    pub locks: &'a Locks,
    /// The place in the queue; behind all when absent.
    pub place: Option<(Revision, &'a ProcedureId)>,
    /// The blocked procedure that is to be ended, and so is not in the way.
    pub in_place_of: Option<&'a ProcedureId>,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for is reached.
    Reached(Record),
    /// A blocked procedure is in the way. The one that was waited for is withdrawn: it has done nothing, and is over.
    Obstructed {
        /// The blocked one.
        by: Record,
    },
}

/// The blocked procedure that keeps a wish from being granted, if there is one.
#[must_use]
pub fn find_obstacle<'a>(rows: &'a [Row], wish: Wish<'_>) -> Option<&'a Record> {
    let mut kept: Vec<(&Locks, &Record)> = blocked(rows).map(|record| (&record.locks, record)).collect();
    if kept.is_empty() {
        return None;
    }
    let place = |row: &'a Row| (row.record.ticket(row.created), &row.record.id);
    let earlier = |row: &&Row| wish.place.is_none_or(|wished| (row.record.ticket(row.created), &row.record.id) < wished);
    let mut waiting: Vec<&Row> = rows.iter().filter(|row| row.record.phase == Phase::Queued).filter(earlier).collect();
    waiting.sort_by_key(|row| place(row));
    for row in waiting {
        let Record { locks, in_place_of, .. } = &row.record;
        if let Some(by) = in_the_way(&kept, locks, in_place_of.as_ref()) {
            kept.push((locks, by));
        }
    }
    in_the_way(&kept, wish.locks, wish.in_place_of)
}

fn blocked(rows: &[Row]) -> impl Iterator<Item = &Record> {
    rows.iter().map(|row| &row.record).filter(|record| record.phase.is_blocked())
}

fn in_the_way<'a>(kept: &[(&Locks, &'a Record)], locks: &Locks, except: Option<&ProcedureId>) -> Option<&'a Record> {
    kept.iter().find(|(held, by)| except != Some(&by.id) && held.conflict(locks).is_some()).map(|(_, by)| *by)
}

impl Procedures {
    /// The blocked procedure that a procedure with these locks would wait for, if it were submitted now.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn obstacle(&self, locks: &Locks) -> Result<Option<Record>, ProcedureError> {
        let rows = self.rows().await?;
        Ok(find_obstacle(&rows, Wish { locks, place: None, in_place_of: None }).cloned())
    }

    /// Procedures that are not over and hold, or wait for, one of these locks in a conflicting mode.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn rivals(&self, locks: &Locks) -> Result<Vec<Record>, ProcedureError> {
        let rivals = self.rows().await?.into_iter().map(|row| row.record);
        Ok(rivals.filter(|record| !record.phase.is_over() && record.locks.conflict(locks).is_some()).collect())
    }

    async fn rows(&self) -> Result<Vec<Row>, ProcedureError> {
        let entries = range_all(&*self.kv, keys::procedures()).await?;
        Ok(entries.iter().map(Row::of).collect::<Result<_, _>>()?)
    }

    /// Waits as [`wait_until`](Self::wait_until), but not for a blocked procedure: when one is in the way of the locks,
    /// withdraws the procedure and says so. Not cancel safe in one respect: the procedure may or may not be withdrawn.
    ///
    /// # Errors
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_unless_obstructed(
        &self,
        id: &ProcedureId,
        reached: impl Fn(&Record) -> bool + Send,
    ) -> Result<Waited, ProcedureError> {
        loop {
            let (row, revision) = self.row(id).await?;
            if reached(&row.record) {
                return Ok(Waited::Reached(row.record));
            }
            if row.record.phase != Phase::Queued {
                return Ok(Waited::Reached(self.wait_until(id, reached).await?));
            }
            let rows = self.rows().await?;
            let Record { locks, in_place_of, .. } = &row.record;
            let place = Some((row.record.ticket(row.created), id));
            match find_obstacle(&rows, Wish { locks, place, in_place_of: in_place_of.as_ref() }) {
                Some(by) if self.withdraw(id).await? => return Ok(Waited::Obstructed { by: by.clone() }),
                Some(_) => {}
                None => self.changed(id, revision.next()).await?,
            }
        }
    }

    /// Cancels a procedure if it is still queued; whether it was.
    async fn withdraw(&self, id: &ProcedureId) -> Result<bool, ProcedureError> {
        for _ in 0..ATTEMPTS_MAX {
            let (row, _) = self.row(id).await?;
            if row.record.phase != Phase::Queued {
                return Ok(false);
            }
            let refused = |reason: Refused| ProcedureError::Refused { id: id.clone(), verb: "withdrawn", reason };
            if self.replace(&row, row.record.after(Event::Cancel).map_err(refused)?).await?.is_some() {
                return Ok(true);
            }
        }
        Err(ProcedureError::Contended { what: row_key(id).to_string() })
    }

    /// Stores what a verb made of a record, unless it is another one by now; the record as it is stored.
    pub(super) async fn replace(&self, row: &Row, record: Record) -> Result<Option<Record>, ProcedureError> {
        let key = row_key(&record.id);
        let record = Record { writes: record.writes.saturating_add(1), written_unix_ms: self.env.unix_ms(), ..record };
        let unchanged = Compare::ModRevision { key: key.clone(), revision: row.written };
        let txn = Txn::new().when(unchanged).then([Op::put(key, values::encode(&record))]);
        Ok(self.kv.txn(txn).await?.succeeded.then_some(record))
    }

    /// Waits for a change since `from` of the procedure's own record, or of one that is blocked.
    async fn changed(&self, id: &ProcedureId, from: Revision) -> Result<(), ProcedureError> {
        let own = row_key(id);
        let matters = |change: &Change| match change {
            Change::Put(entry) => entry.key == own || may_block(entry),
            Change::Delete { key } => *key == own,
        };
        let mut watch = match self.kv.watch(keys::procedures(), from).await {
            Ok(watch) => watch,
            Err(KvError::Compacted { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        loop {
            match watch.next().await {
                Ok(batch) if batch.changes.iter().any(matters) => return Ok(()),
                Ok(_) => {}
                Err(KvError::Compacted { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn may_block(entry: &Entry) -> bool {
    Row::of(entry).map_or(true, |row| row.record.phase.is_blocked())
}
