//! Whether what a scan saw of a key can be, after the operations that were sent for it. Pure.
//!
//! An operation comes *before* another that was sent after it was acknowledged; others may have taken effect in any order,
//! and those that nobody acknowledged at any time or never. A scan sees the row that some operations left:
//!
//! - all that are firm since before the scan began, none that was sent after it ended,
//! - with each operation those before it, since what is hidden of a key is shown at once,
//! - in an order in which none stands before one that comes before it.

use super::ledger::{Fields, Operation};

/// What wins of the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// There is one row of each key, and none is replaced or deleted.
    Append,
    /// The newest as a whole.
    LastRow,
    /// For each field the newest value that is not NULL.
    LastNonNull,
}

/// Whether a scan that began and ended then may see the row as `seen`.
pub(super) fn is_possible(mode: Mode, operations: &[Operation], seen: Option<Fields>, begun: u64, ended: u64) -> bool {
    // Before everything, the row is not there.
    let nothing = Operation { leaves: None, sent: 0, acknowledged: Some(0), firm: Some(0) };
    let mut sent: Vec<Operation> = std::iter::once(nothing).chain(operations.iter().copied()).collect();
    sent.retain(|operation| operation.sent < ended);
    sent.sort_by_key(|operation| operation.sent);
    match (mode, seen) {
        (Mode::LastNonNull, Some(fields)) => is_in_order(&sent, fields) || is_merged(&sent, fields, begun),
        _ => is_last(&sent, seen, begun),
    }
}

impl Operation {
    fn is_before(&self, other: &Self) -> bool {
        self.acknowledged.is_some_and(|at| at < other.sent)
    }

    fn is_firm(&self, begun: u64) -> bool {
        self.firm.is_some_and(|firm| firm <= begun)
    }

    /// What it says of a field, if it gives it a value.
    fn gives(&self, field: usize) -> Option<i64> {
        self.leaves.and_then(|fields| fields[field])
    }
}

/// Whether an operation that leaves this can be the last.
fn is_last(sent: &[Operation], seen: Option<Fields>, begun: u64) -> bool {
    let mut candidates = sent.iter().filter(|operation| operation.leaves == seen);
    candidates.any(|candidate| !sent.iter().any(|later| candidate.is_before(later) && later.is_firm(begun)))
}

/// Whether all operations, or those that were acknowledged, leave this in the order in which they were sent: the usual case.
fn is_in_order(sent: &[Operation], seen: Fields) -> bool {
    let overlay = |row: Option<Fields>, operation: &Operation| {
        let new = operation.leaves?;
        let old = row.unwrap_or_default();
        Some(std::array::from_fn(|field| new[field].or(old[field])))
    };
    let acknowledged = sent.iter().filter(|operation| operation.acknowledged.is_some());
    sent.iter().fold(None, overlay) == Some(seen) || acknowledged.fold(None, overlay) == Some(seen)
}

/// A way in which a row came to be: the removal after which nothing removed it, and for each field what gave it its value
/// since, or one operation that gave none where no field has any.
struct Way {
    removal: usize,
    given: [Option<usize>; 2],
    empty: Option<usize>,
}

fn is_merged(sent: &[Operation], seen: Fields, begun: u64) -> bool {
    let numbers = || 0..sent.len();
    let givers = |field: usize| -> Vec<Option<usize>> {
        match seen[field] {
            None => vec![None],
            value => numbers().filter(|at| sent[*at].gives(field) == value).map(Some).collect(),
        }
    };
    let empties: Vec<Option<usize>> = match seen {
        [None, None] => numbers().filter(|at| sent[*at].leaves == Some([None, None])).map(Some).collect(),
        _ => vec![None],
    };
    let (first, second) = (givers(0), givers(1));
    let given = || first.iter().flat_map(|v| second.iter().map(|w| [*v, *w]));
    let ways = numbers().filter(|at| sent[*at].leaves.is_none()).flat_map(|removal| {
        let empties = &empties;
        given().flat_map(move |given| empties.iter().map(move |empty| Way { removal, given, empty: *empty }))
    });
    ways.into_iter().any(|way| way.is_possible(sent, begun))
}

impl Way {
    /// Whether what must have been seen can be put in an order in which the row comes to be in this way.
    fn is_possible(&self, sent: &[Operation], begun: u64) -> bool {
        let chosen = |at: usize| at == self.removal || self.puts().any(|put| put == at);
        let certain: Vec<bool> = (0..sent.len()).map(|at| chosen(at) || sent[at].is_firm(begun)).collect();
        let seen = |at: usize| certain[at] || (0..sent.len()).any(|later| certain[later] && sent[at].is_before(&sent[later]));
        let mut left: Vec<usize> = (0..sent.len()).filter(|at| seen(*at)).collect();
        while !left.is_empty() {
            let next = left.iter().position(|at| !left.iter().any(|other| other != at && self.precedes(sent, *other, *at)));
            let Some(next) = next else { return false };
            left.remove(next);
        }
        true
    }

    fn puts(&self) -> impl Iterator<Item = usize> {
        self.given.into_iter().flatten().chain(self.empty)
    }

    /// Whether the first of two operations has to stand before the second.
    fn precedes(&self, sent: &[Operation], first: usize, second: usize) -> bool {
        let overwritten = |field: usize| {
            let by = self.given[field];
            sent[first].gives(field).is_some() && by != Some(first) && second == by.unwrap_or(self.removal)
        };
        sent[first].is_before(&sent[second])
            || (second == self.removal && sent[first].leaves.is_none())
            || (first == self.removal && self.puts().any(|put| put == second))
            || overwritten(0)
            || overwritten(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent and acknowledged one after the other, all of them firm.
    fn operations(of: &[Option<Fields>]) -> Vec<Operation> {
        let at = |number: usize| u64::try_from(number).unwrap() * 10;
        let each = of.iter().enumerate().map(|(number, leaves)| Operation {
            leaves: *leaves,
            sent: at(number) + 1,
            acknowledged: Some(at(number) + 2),
            firm: Some(at(number) + 3),
        });
        each.collect()
    }

    fn sees(operations: &[Operation], seen: Option<Fields>) -> bool {
        is_possible(Mode::LastNonNull, operations, seen, 1_000, 1_001)
    }

    #[test]
    fn a_field_keeps_its_value_where_a_later_row_has_none() {
        let rows = operations(&[Some([Some(1), Some(2)]), Some([None, Some(3)]), Some([None, None])]);
        assert!(sees(&rows, Some([Some(1), Some(3)])));
        for wrong in [None, Some([None, Some(3)]), Some([Some(1), Some(2)]), Some([Some(1), None]), Some([None, None])] {
            assert!(!sees(&rows, wrong), "{wrong:?}");
        }
        assert!(is_possible(Mode::LastRow, &rows, Some([None, None]), 1_000, 1_001));
        assert!(!is_possible(Mode::LastRow, &rows, Some([Some(1), Some(3)]), 1_000, 1_001));
    }

    #[test]
    fn no_field_outlives_a_delete() {
        let rows = operations(&[Some([Some(1), Some(2)]), None, Some([None, Some(3)])]);
        assert!(sees(&rows, Some([None, Some(3)])));
        assert!(!sees(&rows, Some([Some(1), Some(3)])));
        assert!(!sees(&rows, None));
    }

    #[test]
    fn what_is_hidden_of_a_key_is_shown_at_once() {
        let mut rows = operations(&[Some([Some(1), Some(2)]), Some([Some(3), None]), Some([None, Some(4)])]);
        (rows[1].firm, rows[2].firm) = (None, None);
        for right in [[Some(1), Some(2)], [Some(3), Some(2)], [Some(3), Some(4)]] {
            assert!(sees(&rows, Some(right)), "{right:?}");
        }
        assert!(!sees(&rows, Some([Some(1), Some(4)])), "the second without the first");
    }

    #[test]
    fn what_nobody_acknowledged_may_come_late_or_never() {
        let mut rows = operations(&[Some([Some(1), Some(2)]), Some([Some(3), Some(4)]), Some([None, Some(5)]), None]);
        (rows[1].acknowledged, rows[1].firm) = (None, None);
        assert!(sees(&rows, None));
        assert!(sees(&rows, Some([Some(3), Some(4)])), "after the delete");
        assert!(!sees(&rows, Some([Some(3), Some(5)])), "half of it after the delete");
        rows.pop();
        for right in [[Some(1), Some(5)], [Some(3), Some(5)], [Some(3), Some(4)]] {
            assert!(sees(&rows, Some(right)), "{right:?}");
        }
        assert!(!sees(&rows, Some([Some(1), Some(4)])), "half of it");
    }

    #[test]
    fn a_row_without_values_is_a_row() {
        let rows = operations(&[None, Some([None, None])]);
        assert!(sees(&rows, Some([None, None])));
        assert!(!sees(&rows, None));
    }
}
