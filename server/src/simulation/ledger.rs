//! What clients know of the rows, and what a scan may therefore see.
//!
//! A key has the operations that were sent for it, in order. An operation may take effect at any time from when it was
//! sent; when it is acknowledged it has. It is *firm* once it is acknowledged and no repartition may hide it: what is
//! written while a table's write set differs from its read set is staged, and seen when the two are the same again.
//!
//! What a scan may then see of a key is said in [`possible`](super::possible).

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::possible::{Mode, is_possible};

/// A row's key: the host, and a number that no other row has.
pub(super) type Key = (Option<&'static str>, i64);

/// The values of a row's fields, v and w.
pub(super) type Fields = [Option<i64>; 2];

/// A number of the trace: a moment of the run.
type At = u64;

/// Something that was asked for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    /// What is written; `None`: the row is to go.
    pub(super) leaves: Option<Fields>,
    pub(super) sent: At,
    pub(super) acknowledged: Option<At>,
    pub(super) firm: Option<At>,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Ledger {
    mode: Mode,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Values that were given away.
    values: i64,
    keys: BTreeMap<Key, Vec<Operation>>,
    /// Operations on all keys, those that come while one is under way included.
    removals: Vec<Operation>,
}

impl Known {
    fn operations(&mut self) -> impl Iterator<Item = &mut Operation> {
        self.keys.values_mut().flatten().chain(&mut self.removals)
    }
}

impl Ledger {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, known: Mutex::default() }
    }

    /// A value that no field has had, so that what is seen tells who wrote it.
    pub(super) fn value(&self) -> i64 {
        let mut known = self.known.lock().unwrap();
        known.values += 1;
        1_000_000 + known.values
    }

    /// A statement is sent that writes these rows, or deletes them.
    pub(super) fn send(&self, at: At, rows: &[(Key, Option<Fields>)]) {
        let keys = &mut self.known.lock().unwrap().keys;
        for (key, leaves) in rows {
            let operation = Operation { leaves: *leaves, sent: at, acknowledged: None, firm: None };
            keys.entry(*key).or_default().push(operation);
        }
    }

    /// A statement is sent that removes every row that there is.
    pub(super) fn send_removal(&self, at: At) {
        let operation = Operation { leaves: None, sent: at, acknowledged: None, firm: None };
        self.known.lock().unwrap().removals.push(operation);
    }

    /// What was sent then is done.
    pub(super) fn acknowledge(&self, at: At, sent: At) {
        for operation in self.known.lock().unwrap().operations().filter(|operation| operation.sent == sent) {
            operation.acknowledged = Some(at);
        }
    }

    /// Nothing is staged at this moment.
    pub(super) fn settle(&self, at: At) {
        let mut known = self.known.lock().unwrap();
        for operation in known.operations().filter(|operation| operation.acknowledged.is_some() && operation.firm.is_none()) {
            operation.firm = Some(at);
        }
    }

    /// The keys all of whose operations are done, of those that are wanted.
    pub(super) fn quiet(&self, is_wanted: impl Fn(Key) -> bool) -> Vec<Key> {
        let keys = &self.known.lock().unwrap().keys;
        let done = |operations: &[Operation]| operations.iter().all(|operation| operation.acknowledged.is_some());
        keys.iter().filter(|(key, operations)| is_wanted(**key) && done(operations)).map(|(key, _)| *key).collect()
    }

    /// What is wrong with what a scan saw, if anything.
    pub(super) fn judge(&self, begun: At, ended: At, found: &[(Key, Fields)]) -> Option<String> {
        let Known { keys, removals, .. } = &*self.known.lock().unwrap();
        let mut seen: BTreeMap<Key, Fields> = BTreeMap::new();
        for (key, fields) in found {
            if let Some(before) = seen.insert(*key, *fields) {
                return Some(format!("{key:?} is there twice: {before:?} and {fields:?}"));
            }
            if !keys.contains_key(key) {
                return Some(format!("nobody sent {key:?} = {fields:?}"));
            }
        }
        for (key, operations) in keys {
            let fields = seen.get(key).copied();
            let all: Vec<Operation> = operations.iter().chain(removals).copied().collect();
            if !is_possible(self.mode, &all, fields, begun, ended) {
                let rows = seen.len();
                return Some(format!("{key:?} is seen as {fields:?} by a scan from {begun} to {ended} of {rows} rows: {all:?}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (Some("a"), 1);

    fn row(value: i64) -> Fields {
        [Some(value), None]
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::new(Mode::LastRow);
        ledger.send(1, &[(KEY, Some(row(10)))]);
        ledger.acknowledge(2, 1);
        ledger
    }

    #[test]
    fn an_acknowledged_row_may_be_hidden_until_nothing_is_staged() {
        let ledger = ledger();
        assert_eq!(ledger.judge(5, 6, &[]), None);
        assert_eq!(ledger.judge(5, 6, &[(KEY, row(10))]), None);
        ledger.settle(5);
        assert!(ledger.judge(6, 7, &[]).unwrap().contains("is seen as None"));
        assert_eq!(ledger.judge(4, 7, &[]), None, "the scan began before");
    }

    #[test]
    fn rows_that_are_doubled_or_that_nobody_sent_are_found() {
        let ledger = ledger();
        assert!(ledger.judge(5, 6, &[(KEY, row(10)), (KEY, row(10))]).unwrap().contains("twice"));
        assert!(ledger.judge(5, 6, &[((None, 2), row(1))]).unwrap().contains("nobody"));
        assert!(ledger.judge(5, 6, &[(KEY, row(11))]).unwrap().contains("is seen as Some([Some(11), None])"));
    }

    #[test]
    fn what_was_deleted_or_replaced_does_not_come_back() {
        let ledger = ledger();
        ledger.settle(3);
        ledger.send(4, &[(KEY, None)]);
        assert_eq!(ledger.judge(5, 6, &[(KEY, row(10))]), None, "the delete is under way");
        assert_eq!(ledger.judge(5, 6, &[]), None);
        ledger.acknowledge(7, 4);
        ledger.settle(8);
        assert!(ledger.judge(9, 10, &[(KEY, row(10))]).is_some());
        assert_eq!(ledger.judge(9, 10, &[]), None);
    }

    #[test]
    fn a_row_that_is_written_while_all_are_removed_may_go_or_stay() {
        let ledger = Ledger::new(Mode::LastRow);
        ledger.send_removal(1);
        ledger.send(2, &[(KEY, Some(row(10)))]);
        ledger.acknowledge(3, 2);
        ledger.acknowledge(4, 1);
        ledger.settle(5);
        assert_eq!(ledger.judge(6, 7, &[]), None);
        assert_eq!(ledger.judge(6, 7, &[(KEY, row(10))]), None);
        ledger.send_removal(8);
        ledger.acknowledge(9, 8);
        ledger.settle(9);
        assert!(ledger.judge(9, 10, &[(KEY, row(10))]).is_some());
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not_for_ever() {
        let ledger = ledger();
        ledger.settle(3);
        ledger.send(4, &[(KEY, Some(row(11)))]);
        ledger.settle(5);
        for value in [10, 11] {
            assert_eq!(ledger.judge(6, 7, &[(KEY, row(value))]), None);
        }
        assert!(ledger.judge(6, 7, &[]).is_some());
        assert!(ledger.quiet(|_| true).is_empty());
    }
}
