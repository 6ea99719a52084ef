//! The one interpreter that decides transactions, for every backend that has no server of its own to do so.
//!
//! Invariants:
//! - Pure: it reads through a [`View`] and answers with the changes to make; it has no I/O, clock or state.
//! - [`check_txn`] depends on the transaction and the limits only, so that what is refused is refused
//!   whatever the store holds.
//! - A plan has each key at most once, in byte order.

use std::collections::{BTreeMap, BTreeSet};

use super::Limits;
use super::error::KvError;
use super::key::{Entry, Key, KeyRange, Revision};
use super::lease::LeaseId;
use super::txn::{Compare, Op, OpAnswer, RangeRequest, Txn, TxnAnswer};

/// A consistent state to read from.
pub trait View {
    /// Why a read can fail.
    type Error;

    /// What `key` holds.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &Key) -> Result<Option<Entry>, Self::Error>;

    /// The first `limit` entries of `range`, in byte order. The range may be empty.
    ///
    /// # Errors
    /// When it cannot be read.
    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, Self::Error>;
}

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It holds this now.
    Put(Entry),
    /// It was deleted.
    Delete {
        /// The key.
        key: Key,
    },
}

impl Change {
    /// The key that changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key } => key,
        }
    }
}

/// What a transaction does and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to answer once the changes are durable.
    pub answer: TxnAnswer,
    /// What to change, each key once, in byte order; empty when the store stays as it is.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Refuses a plan that attaches a key to a lease which is not `alive`.
    pub(super) fn check_leases(&self, alive: impl Fn(LeaseId) -> bool) -> Result<(), KvError> {
        let attached = self.changes.iter().filter_map(|change| match change {
            Change::Put(entry) => entry.lease,
            Change::Delete { .. } => None,
        });
        match attached.into_iter().find(|id| !alive(*id)) {
            Some(id) => Err(KvError::LeaseNotFound { id }),
            None => Ok(()),
        }
    }
}

/// Checks what can be checked without the store: limits, empty keys, keys written twice.
///
/// # Errors
/// The first rule that is broken.
pub fn check_txn(txn: &Txn, limits: &Limits) -> Result<(), KvError> {
    let counts = [("compares", txn.compares.len()), ("operations", txn.then_ops.len()), ("operations", txn.else_ops.len())];
    for (what, ops) in counts {
        if ops > limits.txn_ops_max {
            return Err(KvError::TooManyOps { what, ops, ops_max: limits.txn_ops_max });
        }
    }
    txn.compares.iter().try_for_each(|compare| check_compare(compare, limits))?;
    txn.then_ops.iter().chain(&txn.else_ops).try_for_each(|op| check_op(op, limits))?;
    let bytes = txn_bytes(txn);
    if bytes > limits.txn_bytes_max {
        return Err(KvError::TxnTooLarge { bytes, bytes_max: limits.txn_bytes_max });
    }
    check_branch(&txn.then_ops)?;
    check_branch(&txn.else_ops)
}

/// The bytes of all keys and values that a transaction names.
pub(super) fn txn_bytes(txn: &Txn) -> usize {
    let of_range = |range: &KeyRange| range.start.as_bytes().len() + range.end.as_ref().map_or(0, |end| end.as_bytes().len());
    let of_compare = |compare: &Compare| match compare {
        Compare::Value { key, value } => key.as_bytes().len() + value.len(),
        Compare::Version { key, .. } | Compare::ModRevision { key, .. } | Compare::Absent { key } | Compare::Exists { key } => {
            key.as_bytes().len()
        }
        Compare::PrefixEmpty { prefix } => prefix.as_bytes().len(),
    };
    let of_op = |op: &Op| match op {
        Op::Get { key } | Op::Delete { key } => key.as_bytes().len(),
        Op::Put { key, value, lease: _ } => key.as_bytes().len() + value.len(),
        Op::Range { request } => of_range(&request.range),
        Op::DeleteRange { range } => of_range(range),
    };
    let compares = txn.compares.iter().map(of_compare);
    compares.chain(txn.then_ops.iter().chain(&txn.else_ops).map(of_op)).fold(0, usize::saturating_add)
}

/// Checks one key against the limits.
pub(super) fn check_key(key: &Key, limits: &Limits) -> Result<(), KvError> {
    let bytes = key.as_bytes().len();
    if bytes == 0 {
        return Err(KvError::EmptyKey);
    }
    if bytes > limits.key_bytes_max {
        return Err(KvError::KeyTooLarge { key: key.clone(), bytes, bytes_max: limits.key_bytes_max });
    }
    Ok(())
}

/// Checks the keys of a multi-get, which counts as a transaction of that many operations.
pub(super) fn check_keys(keys: &[Key], limits: &Limits) -> Result<(), KvError> {
    if keys.len() > limits.txn_ops_max {
        return Err(KvError::TooManyOps { what: "keys", ops: keys.len(), ops_max: limits.txn_ops_max });
    }
    keys.iter().try_for_each(|key| check_key(key, limits))
}

fn check_value(key: &Key, value: &[u8], limits: &Limits) -> Result<(), KvError> {
    check_key(key, limits)?;
    let (bytes, bytes_max) = (value.len(), limits.value_bytes_max);
    if bytes > bytes_max { Err(KvError::ValueTooLarge { key: key.clone(), bytes, bytes_max }) } else { Ok(()) }
}

fn check_compare(compare: &Compare, limits: &Limits) -> Result<(), KvError> {
    match compare {
        Compare::Value { key, value } => check_value(key, value, limits),
        Compare::Version { key, .. } | Compare::ModRevision { key, .. } | Compare::Absent { key } | Compare::Exists { key } => {
            check_key(key, limits)
        }
        Compare::PrefixEmpty { prefix: _ } => Ok(()),
    }
}

fn check_op(op: &Op, limits: &Limits) -> Result<(), KvError> {
    match op {
        Op::Get { key } | Op::Delete { key } => check_key(key, limits),
        Op::Put { key, value, lease: _ } => check_value(key, value, limits),
        Op::Range { .. } | Op::DeleteRange { .. } => Ok(()),
    }
}

fn check_branch(ops: &[Op]) -> Result<(), KvError> {
    let mut puts = BTreeSet::new();
    for op in ops {
        if let Op::Put { key, .. } = op
            && !puts.insert(key)
        {
            return Err(KvError::DuplicateKey { key: key.clone() });
        }
    }
    for op in ops {
        let clash = match op {
            Op::Get { .. } | Op::Range { .. } | Op::Put { .. } => None,
            Op::Delete { key } => puts.get(key),
            Op::DeleteRange { range } if range.is_empty() => None,
            Op::DeleteRange { range } => puts.range::<Key, _>(&range.start..).next().filter(|key| range.contains(key)),
        };
        if let Some(key) = clash {
            return Err(KvError::DuplicateKey { key: (*key).clone() });
        }
    }
    Ok(())
}

/// Decides a transaction that [`check_txn`] accepts on the state `view`, which is of `revision`.
///
/// # Errors
/// When the view cannot be read.
pub fn plan_txn<V: View>(view: &V, revision: Revision, txn: &Txn, limits: &Limits) -> Result<Plan, V::Error> {
    let mut succeeded = true;
    for compare in &txn.compares {
        succeeded = succeeded && holds(view, compare)?;
    }
    let ops = if succeeded { &txn.then_ops } else { &txn.else_ops };
    let mut run = Run { view, revision: revision.next(), changes: BTreeMap::new(), limits };
    let mut answers = Vec::with_capacity(ops.len());
    for op in ops {
        answers.push(run.apply(op)?);
    }
    let changes: Vec<Change> = run.changes.into_iter().map(|(key, entry)| entry.map_or(Change::Delete { key }, Change::Put)).collect();
    let revision = if changes.is_empty() { revision } else { revision.next() };
    Ok(Plan { answer: TxnAnswer { succeeded, revision, answers }, changes })
}

/// The first `limit` entries of a range and whether there are more, with the limits' bound on pages.
pub(super) fn read_page<V: View>(view: &V, request: &RangeRequest, limits: &Limits) -> Result<(Vec<Entry>, bool), V::Error> {
    let limit = request.limit.clamp(1, limits.range_entries_max);
    let mut entries = view.range(&request.range, limit.saturating_add(1))?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    Ok((entries, more))
}

fn holds<V: View>(view: &V, compare: &Compare) -> Result<bool, V::Error> {
    Ok(match compare {
        Compare::Value { key, value } => view.get(key)?.is_some_and(|entry| entry.value == *value),
        Compare::Version { key, version } => view.get(key)?.map_or(0, |entry| entry.version) == *version,
        Compare::ModRevision { key, revision } => view.get(key)?.map_or(Revision(0), |entry| entry.mod_revision) == *revision,
        Compare::Absent { key } => view.get(key)?.is_none(),
        Compare::Exists { key } => view.get(key)?.is_some(),
        Compare::PrefixEmpty { prefix } => view.range(&KeyRange::prefix(prefix.clone()), 1)?.is_empty(),
    })
}

/// A branch in progress: the view with the changes so far on top; `None` marks a deleted key.
struct Run<'a, V> {
    view: &'a V,
    revision: Revision,
    changes: BTreeMap<Key, Option<Entry>>,
    limits: &'a Limits,
}

impl<V: View> View for Run<'_, V> {
    type Error = V::Error;

    fn get(&self, key: &Key) -> Result<Option<Entry>, V::Error> {
        match self.changes.get(key) {
            Some(entry) => Ok(entry.clone()),
            None => self.view.get(key),
        }
    }

    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, V::Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let changed: Vec<_> = self.changes.range(&range.start..).take_while(|(key, _)| range.contains(key)).collect();
        // Each change can hide at most one entry of the view, so this many are enough.
        let below = self.view.range(range, limit.saturating_add(changed.len()))?;
        let mut merged: BTreeMap<Key, Entry> = below.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for (key, entry) in changed {
            match entry {
                Some(entry) => merged.insert(key.clone(), entry.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_values().take(limit).collect())
    }
}

impl<V: View> Run<'_, V> {
    fn apply(&mut self, op: &Op) -> Result<OpAnswer, V::Error> {
        match op {
            Op::Get { key } => Ok(OpAnswer::Get(self.get(key)?)),
            Op::Range { request } => {
                let (entries, more) = read_page(self, request, self.limits)?;
                Ok(OpAnswer::Range { entries, more })
            }
            Op::Put { key, value, lease } => {
                let before = self.get(key)?;
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: before.as_ref().map_or(self.revision, |entry| entry.create_revision),
                    mod_revision: self.revision,
                    version: before.map_or(0, |entry| entry.version).saturating_add(1),
                    lease: *lease,
                };
                self.changes.insert(key.clone(), Some(entry));
                Ok(OpAnswer::Put)
            }
            Op::Delete { key } => {
                let found = self.get(key)?;
                Ok(self.delete(found))
            }
            Op::DeleteRange { range } => {
                let found = self.range(range, usize::MAX)?;
                Ok(self.delete(found))
            }
        }
    }

    fn delete(&mut self, found: impl IntoIterator<Item = Entry>) -> OpAnswer {
        let mut deleted = 0_u64;
        for entry in found {
            self.changes.insert(entry.key, None);
            deleted = deleted.saturating_add(1);
        }
        OpAnswer::Delete { deleted }
    }
}
