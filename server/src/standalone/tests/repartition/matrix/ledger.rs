//! What the clients of a table know, and what they must find.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

/// A row by its key.
pub(super) type Key = (String, u64);

/// Hosts on all sides of all boundaries.
const HOSTS: [&str; 6] = ["alpha", "echo", "golf", "lima", "quebec", "zulu"];

#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: Mutex<Known>,
    /// Whether what is acknowledged may be lost with its process, unless it was flushed.
    is_volatile: bool,
}

#[derive(Debug, Default)]
struct Known {
    drawn: u64,
    sent: BTreeSet<Key>,
    acknowledged: BTreeSet<Key>,
    delete_sent: BTreeSet<Key>,
    deleted: BTreeSet<Key>,
    /// What was acknowledged before the repartition that may be under way, and so must be seen all the time.
    seen: BTreeSet<Key>,
}

impl Ledger {
    /// A ledger of a table without a log.
    pub(super) fn volatile() -> Self {
        Self { is_volatile: true, ..Self::default() }
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Rows that nobody has sent before; from now on they may be there.
    pub(super) fn draw(&self, rows: u64) -> Vec<Key> {
        let mut known = self.known();
        let first = known.drawn;
        known.drawn += rows;
        let keys: Vec<Key> = (first..first + rows).map(|n| (HOSTS[n as usize % HOSTS.len()].to_owned(), n)).collect();
        known.sent.extend(keys.iter().cloned());
        keys
    }

    /// These rows were acknowledged.
    pub(super) fn acknowledge(&self, keys: Vec<Key>) {
        self.known().acknowledged.extend(keys);
    }

    /// An acknowledged row to delete; from now on it may be gone.
    pub(super) fn draw_delete(&self) -> Option<Key> {
        let mut known = self.known();
        let standing: Vec<Key> = known.acknowledged.difference(&known.delete_sent).cloned().collect();
        let key = standing.get(standing.len() / 2).cloned()?;
        known.delete_sent.insert(key.clone());
        Some(key)
    }

    /// The delete of this row was acknowledged.
    pub(super) fn acknowledge_delete(&self, key: Key) {
        self.known().deleted.insert(key);
    }

    /// What is acknowledged now is seen from now on: a repartition begins, which hides what is written during it, or is over.
    pub(super) fn see(&self) {
        if !self.is_volatile {
            self.see_flushed();
        }
    }

    /// The same, after a flush.
    pub(super) fn see_flushed(&self) {
        let mut known = self.known();
        known.seen = known.acknowledged.clone();
    }

    /// What a query that begins now must find, and what it must not.
    pub(super) fn due(&self) -> Due {
        let known = self.known();
        let absent = if self.is_volatile { BTreeSet::new() } else { known.deleted.clone() };
        Due { present: known.seen.difference(&known.delete_sent).cloned().collect(), absent }
    }

    /// What there must be when nothing is under way.
    pub(super) fn due_in_the_end(&self) -> Due {
        self.see();
        self.due()
    }

    /// Asserts that a query found what was due when it began, and nothing that nobody sent.
    pub(super) fn expect(&self, due: &Due, found: &[Key], when: &str) {
        let known = self.known();
        let rows: BTreeSet<&Key> = found.iter().collect();
        assert_eq!(rows.len(), found.len(), "{when}: a row is there twice: {found:?}");
        let missing: Vec<&Key> = due.present.iter().filter(|key| !rows.contains(key) && !known.delete_sent.contains(*key)).collect();
        assert!(missing.is_empty(), "{when}: acknowledged rows are gone: {missing:?}, there are {found:?}");
        let risen: Vec<&Key> = due.absent.iter().filter(|key| rows.contains(key)).collect();
        assert!(risen.is_empty(), "{when}: deleted rows are there: {risen:?}");
        let strange: Vec<&&Key> = rows.iter().filter(|key| !known.sent.contains(**key)).collect();
        assert!(strange.is_empty(), "{when}: nobody sent {strange:?}");
    }
}

/// What a query must find, and what it must not.
#[derive(Debug)]
pub(super) struct Due {
    present: BTreeSet<Key>,
    absent: BTreeSet<Key>,
}
