//! What clients know of the rows, and what a scan may therefore see.
//!
//! A key has the operations that were sent for it, in order. An operation may take effect at any time from when it was
//! sent; when it is acknowledged it has. It is *firm* once it is acknowledged and no repartition may hide it: what is
//! written while a table's write set differs from its read set is staged, and seen when the two are the same again.
//!
//! A scan sees the effect of an operation that was sent before the scan ended, and after which no other came that was firm
//! before the scan began.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// A row's key: the host, and a number that no other row has.
pub(super) type Key = (Option<&'static str>, i64);

/// A number of the trace: a moment of the run.
type At = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operation {
    /// The row's value afterwards; `None` where it is gone.
    value: Option<i64>,
    sent: At,
    acknowledged: Option<At>,
    firm: Option<At>,
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
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
    /// A statement is sent that leaves these values at these keys.
    pub(super) fn send(&self, at: At, rows: &[(Key, Option<i64>)]) {
        let keys = &mut self.known.lock().unwrap().keys;
        for (key, value) in rows {
            let operation = Operation { value: *value, sent: at, acknowledged: None, firm: None };
            keys.entry(*key).or_default().push(operation);
        }
    }

    /// A statement is sent that removes every row that there is.
    pub(super) fn send_removal(&self, at: At) {
        let operation = Operation { value: None, sent: at, acknowledged: None, firm: None };
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

    /// The keys whose last operation is done, with the value that it left, if they are of this writer.
    pub(super) fn quiet(&self, is_mine: impl Fn(Key) -> bool) -> Vec<(Key, Option<i64>)> {
        let keys = &self.known.lock().unwrap().keys;
        let quiet =
            keys.iter().filter(|(key, operations)| is_mine(**key) && operations.iter().all(|operation| operation.acknowledged.is_some()));
        quiet.filter_map(|(key, operations)| Some((*key, operations.last()?.value))).collect()
    }

    /// What is wrong with what a scan saw, if anything.
    pub(super) fn judge(&self, begun: At, ended: At, found: &[(Key, i64)]) -> Option<String> {
        let Known { keys, removals } = &*self.known.lock().unwrap();
        let mut seen: BTreeMap<Key, i64> = BTreeMap::new();
        for (key, value) in found {
            if let Some(before) = seen.insert(*key, *value) {
                return Some(format!("{key:?} is there twice: {before} and {value}"));
            }
            if !keys.contains_key(key) {
                return Some(format!("nobody sent {key:?} = {value}"));
            }
        }
        for (key, operations) in keys {
            let value = seen.get(key).copied();
            let all: Vec<Operation> = operations.iter().chain(removals).copied().collect();
            if !is_possible(&all, value, begun, ended) {
                let rows = seen.len();
                return Some(format!("{key:?} is seen as {value:?} by a scan from {begun} to {ended} of {rows} rows: {all:?}"));
            }
        }
        None
    }
}

/// Whether some order of the operations leaves this value.
fn is_possible(operations: &[Operation], value: Option<i64>, begun: At, ended: At) -> bool {
    // Before everything, the row is not there.
    let nothing = Operation { value: None, sent: 0, acknowledged: Some(0), firm: Some(0) };
    let candidates = std::iter::once(&nothing).chain(operations).filter(|operation| operation.sent < ended);
    candidates.filter(|candidate| candidate.value == value).any(|candidate| {
        let passed =
            |later: &&Operation| candidate.acknowledged.is_some_and(|at| at < later.sent) && later.firm.is_some_and(|firm| firm <= begun);
        !operations.iter().any(|operation| passed(&operation))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (Some("a"), 1);

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        ledger.send(1, &[(KEY, Some(10))]);
        ledger.acknowledge(2, 1);
        ledger
    }

    #[test]
    fn an_acknowledged_row_may_be_hidden_until_nothing_is_staged() {
        let ledger = ledger();
        assert_eq!(ledger.judge(5, 6, &[]), None);
        assert_eq!(ledger.judge(5, 6, &[(KEY, 10)]), None);
        ledger.settle(5);
        assert!(ledger.judge(6, 7, &[]).unwrap().contains("is seen as None"));
        assert_eq!(ledger.judge(4, 7, &[]), None, "the scan began before");
    }

    #[test]
    fn rows_that_are_doubled_or_that_nobody_sent_are_found() {
        let ledger = ledger();
        assert!(ledger.judge(5, 6, &[(KEY, 10), (KEY, 10)]).unwrap().contains("twice"));
        assert!(ledger.judge(5, 6, &[((None, 2), 1)]).unwrap().contains("nobody"));
        assert!(ledger.judge(5, 6, &[(KEY, 11)]).unwrap().contains("is seen as Some(11)"));
    }

    #[test]
    fn what_was_deleted_or_replaced_does_not_come_back() {
        let ledger = ledger();
        ledger.settle(3);
        ledger.send(4, &[(KEY, None)]);
        assert_eq!(ledger.judge(5, 6, &[(KEY, 10)]), None, "the delete is under way");
        assert_eq!(ledger.judge(5, 6, &[]), None);
        ledger.acknowledge(7, 4);
        ledger.settle(8);
        assert!(ledger.judge(9, 10, &[(KEY, 10)]).is_some());
        assert_eq!(ledger.judge(9, 10, &[]), None);
    }

    #[test]
    fn a_row_that_is_written_while_all_are_removed_may_go_or_stay() {
        let ledger = Ledger::default();
        ledger.send_removal(1);
        ledger.send(2, &[(KEY, Some(10))]);
        ledger.acknowledge(3, 2);
        ledger.acknowledge(4, 1);
        ledger.settle(5);
        assert_eq!(ledger.judge(6, 7, &[]), None);
        assert_eq!(ledger.judge(6, 7, &[(KEY, 10)]), None);
        ledger.send_removal(8);
        ledger.acknowledge(9, 8);
        ledger.settle(9);
        assert!(ledger.judge(9, 10, &[(KEY, 10)]).is_some());
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not_for_ever() {
        let ledger = ledger();
        ledger.settle(3);
        ledger.send(4, &[(KEY, Some(11))]);
        ledger.settle(5);
        for value in [10, 11] {
            assert_eq!(ledger.judge(6, 7, &[(KEY, value)]), None);
        }
        assert!(ledger.judge(6, 7, &[]).is_some());
        assert!(ledger.quiet(|_| true).is_empty());
    }
}
