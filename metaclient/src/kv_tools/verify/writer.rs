//! One writer: it sends transactions and reads, and keeps its ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tessera_manifest::env::Moment;
use tessera_manifest::error::ErrorClass;

use super::Options;
use super::ledger::{Ledger, Outcome, Read, Write};
use crate::kv::{Compare, Entry, Key, KeyRange, KvBackend, KvError, Op, OpAnswer, RangeRequest, Revision, Txn, TxnAnswer};
use crate::kv_tools::random::Random;

/// What all writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kv: Arc<dyn KvBackend>,
    pub(super) options: Options,
    pub(super) started: Moment,
    /// Calls that are left to all of them.
    pub(super) left: AtomicU64,
    /// The greatest revision that anybody has been told.
    pub(super) told: AtomicU64,
}

impl Shared {
    /// Takes one of the calls that are left, while there is time.
    fn take(&self) -> bool {
        let in_time = self.options.duration.is_none_or(|duration| Moment::now().since(self.started) < duration);
        in_time && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn floor(&self) -> Revision {
        Revision(self.told.load(Ordering::SeqCst))
    }

    fn tell(&self, revision: Revision) {
        self.told.fetch_max(revision.0, Ordering::SeqCst);
    }

    fn key(&self, name: &str) -> Key {
        format!("{}{name}", self.options.prefix).into()
    }

    /// Reads a range, one page.
    pub(super) async fn read(&self, range: KeyRange, limit: usize) -> Result<Read, KvError> {
        let floor = self.floor();
        let page = self.kv.range(&RangeRequest::new(range.clone()).with_limit(limit)).await?;
        self.tell(page.revision);
        let end = page.entries.last().filter(|_| page.more).map(|last| last.key.successor());
        let range = KeyRange { start: range.start, end: end.or(range.end) };
        Ok(Read { range, entries: page.entries, revision: page.revision, floor })
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    number: usize,
    sent: u64,
    random: Random,
    ledger: Ledger,
    /// What the last swap read.
    earlier: Option<(Key, Revision)>,
}

/// Whether an error ends the run: the request itself is wrong, or the store is damaged.
fn is_fatal(error: &KvError) -> bool {
    !matches!(error.class(), ErrorClass::Unavailable | ErrorClass::Retry)
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Self {
        let seed = shared.options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        Self { shared, number, sent: 0, random: Random::new(seed), ledger: Ledger::default(), earlier: None }
    }

    pub(super) async fn run(mut self) -> Result<Ledger, KvError> {
        while self.shared.take() {
            match self.random.below(20) {
                0..6 => self.put().await?,
                6..10 => self.swap().await?,
                10..12 => self.delete().await?,
                12 => self.delete_many().await?,
                13..15 => self.own().await?,
                15..17 => self.pair().await?,
                17 => self.point().await?,
                18 => self.points().await?,
                _ => self.page().await?,
            }
        }
        Ok(self.ledger)
    }

    fn shared_key(&mut self) -> Key {
        let number = self.random.below(self.shared.options.keys);
        self.shared.key(&format!("shared/{:02}/{number:04}", number % 7))
    }

    fn signature_key(&self) -> Key {
        self.shared.key(&format!("signature/{:04}", self.number))
    }

    fn write(&mut self, puts: Vec<Key>, deletes: Vec<KeyRange>, guard: Option<(Key, Revision)>) -> Write {
        self.sent += 1;
        let id = format!("{}-{}", self.number, self.sent);
        Write { id, puts, deletes, guard, outcome: Outcome::Unknown, floor: self.shared.floor() }
    }

    /// Sends a write and notes what was told.
    async fn send(&mut self, mut write: Write) -> Result<(), KvError> {
        let mut txn = Txn::new().then(write.deletes.iter().map(|range| Op::DeleteRange { range: range.clone() }));
        txn = txn.then(write.puts.iter().map(|key| Op::put(key.clone(), write.value())));
        if let Some((key, revision)) = &write.guard {
            txn = txn.when(Compare::ModRevision { key: key.clone(), revision: *revision });
        }
        write.outcome = match self.shared.kv.txn(txn).await {
            Ok(answer) => outcome(&write, &answer),
            Err(KvError::CommitUnknown { .. } | KvError::Aborted { .. }) => Outcome::Unknown,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(_) => Outcome::Failed,
        };
        if let Outcome::Ran(revision) | Outcome::Idle(revision) | Outcome::Refused(revision) = write.outcome {
            self.shared.tell(revision);
        }
        self.ledger.writes.push(write);
        Ok(())
    }

    /// Reads a range and notes what was seen; `None` when there was no answer.
    async fn look(&mut self, range: KeyRange, limit: usize) -> Result<Option<Vec<Entry>>, KvError> {
        match self.shared.read(range, limit).await {
            Ok(read) => {
                let entries = read.entries.clone();
                self.ledger.reads.push(read);
                Ok(Some(entries))
            }
            Err(error) if is_fatal(&error) => Err(error),
            Err(_) => {
                self.ledger.unread += 1;
                Ok(None)
            }
        }
    }

    async fn put(&mut self) -> Result<(), KvError> {
        let key = self.shared_key();
        let write = self.write(vec![key], Vec::new(), None);
        self.send(write).await
    }

    /// Reads a key and writes or deletes it if it is still the same. Now and then by what was read for an
    /// earlier swap, which others may have changed.
    async fn swap(&mut self) -> Result<(), KvError> {
        let key = self.shared_key();
        let Some(entries) = self.look(point(&key), 1).await? else { return Ok(()) };
        let fresh = (key, entries.first().map_or(Revision(0), |entry| entry.mod_revision));
        let stale = self.earlier.replace(fresh.clone()).filter(|_| self.random.below(2) == 0);
        let guard = stale.unwrap_or(fresh);
        let key = guard.0.clone();
        let write = if self.random.below(3) == 0 {
            self.write(vec![self.signature_key()], vec![point(&key)], Some(guard))
        } else {
            self.write(vec![key], Vec::new(), Some(guard))
        };
        self.send(write).await
    }

    async fn delete(&mut self) -> Result<(), KvError> {
        let key = self.shared_key();
        let write = self.write(vec![self.signature_key()], vec![point(&key)], None);
        self.send(write).await
    }

    async fn delete_many(&mut self) -> Result<(), KvError> {
        let range = KeyRange::prefix(self.shared.key(&format!("shared/{:02}/", self.random.below(7))));
        let write = self.write(vec![self.signature_key()], vec![range], None);
        self.send(write).await
    }

    /// Puts or deletes a key that no other writer touches; the delete bears no signature.
    async fn own(&mut self) -> Result<(), KvError> {
        let key = self.shared.key(&format!("own/{:04}", self.number));
        let write = if self.random.below(2) == 0 {
            self.write(vec![key], Vec::new(), None)
        } else {
            self.write(Vec::new(), vec![point(&key)], None)
        };
        self.send(write).await
    }

    /// Writes two keys at once.
    async fn pair(&mut self) -> Result<(), KvError> {
        let number = self.random.below(self.shared.options.keys);
        let puts = ["left", "right"].map(|side| self.shared.key(&format!("{side}/{number:04}")));
        let write = self.write(puts.to_vec(), Vec::new(), None);
        self.send(write).await
    }

    async fn point(&mut self) -> Result<(), KvError> {
        let key = self.shared_key();
        let floor = self.shared.floor();
        match self.shared.kv.get(&key).await {
            Ok(answer) => self.saw([(key, answer.entry)], answer.revision, floor),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(_) => self.ledger.unread += 1,
        }
        Ok(())
    }

    async fn points(&mut self) -> Result<(), KvError> {
        let number = self.random.below(self.shared.options.keys);
        let keys = ["left", "right"].map(|side| self.shared.key(&format!("{side}/{number:04}")));
        let floor = self.shared.floor();
        match self.shared.kv.multi_get(&keys).await {
            Ok(answer) => self.saw(keys.into_iter().zip(answer.entries), answer.revision, floor),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(_) => self.ledger.unread += 1,
        }
        Ok(())
    }

    fn saw(&mut self, found: impl IntoIterator<Item = (Key, Option<Entry>)>, revision: Revision, floor: Revision) {
        self.shared.tell(revision);
        for (key, entry) in found {
            self.ledger.reads.push(Read { range: point(&key), entries: entry.into_iter().collect(), revision, floor });
        }
    }

    async fn page(&mut self) -> Result<(), KvError> {
        let limit = 1 + self.random.below(12);
        let start = self.shared_key();
        let end = KeyRange::prefix(self.shared.options.prefix.clone()).end;
        self.look(KeyRange { start, end }, limit).await.map(|_| ())
    }
}

/// The range of one key.
fn point(key: &Key) -> KeyRange {
    KeyRange { start: key.clone(), end: Some(key.successor()) }
}

fn outcome(write: &Write, answer: &TxnAnswer) -> Outcome {
    let deleted = answer.answers.iter().any(|answer| matches!(answer, OpAnswer::Delete { deleted: 1.. }));
    match answer.revision {
        revision if !answer.succeeded => Outcome::Refused(revision),
        revision if write.puts.is_empty() && !deleted => Outcome::Idle(revision),
        revision => Outcome::Ran(revision),
    }
}
