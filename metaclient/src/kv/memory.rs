//! A store that lives as long as the process: for tests and simulations.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::error::KvError;
use super::history::History;
use super::interpret::{Change, View, check_key, check_keys, check_txn, plan_txn, read_page};
use super::key::{Entry, Key, KeyRange, Revision};
use super::txn::{RangeRequest, Txn, TxnAnswer};
use super::{GetAnswer, KvBackend, Limits, MultiGetAnswer, RangeAnswer, Watch};

#[derive(Debug)]
struct State {
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
}

impl View for State {
    type Error = Infallible;

    fn get(&self, key: &Key) -> Result<Option<Entry>, Infallible> {
        Ok(self.entries.get(key).cloned())
    }

    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, Infallible> {
        let from_start = self.entries.range(&range.start..);
        Ok(from_start.take_while(|(key, _)| range.contains(key)).take(limit).map(|(_, entry)| entry.clone()).collect())
    }
}

/// A [`KvBackend`] in memory. Nothing of it is durable.
#[derive(Debug)]
pub struct MemoryBackend {
    state: Mutex<State>,
    history: History,
    limits: Limits,
}

impl MemoryBackend {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::EMBEDDED)
    }

    /// An empty store with other limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        let revision = Revision(1);
        let state = Mutex::new(State { revision, entries: BTreeMap::new() });
        Self { state, history: History::new(revision, &limits), limits }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the value out of a result that has no error.
fn sure<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

#[async_trait]
impl KvBackend for MemoryBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        check_key(key, &self.limits)?;
        let state = self.state();
        Ok(GetAnswer { entry: sure(state.get(key)), revision: state.revision })
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        check_keys(keys, &self.limits)?;
        let state = self.state();
        Ok(MultiGetAnswer { entries: keys.iter().map(|key| sure(state.get(key))).collect(), revision: state.revision })
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let state = self.state();
        let (entries, more) = sure(read_page(&*state, request, &self.limits));
        Ok(RangeAnswer { entries, more, revision: state.revision })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        check_txn(&txn, &self.limits)?;
        let mut state = self.state();
        let plan = sure(plan_txn(&*state, state.revision, &txn, &self.limits));
        for change in &plan.changes {
            match change {
                Change::Put(entry) => state.entries.insert(entry.key.clone(), entry.clone()),
                Change::Delete { key } => state.entries.remove(key),
            };
        }
        state.revision = plan.answer.revision;
        if !plan.changes.is_empty() {
            self.history.publish(plan.answer.revision, plan.changes);
        }
        Ok(plan.answer)
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.history.watch(range, from)
    }
}
