//! A store that lives as long as the process: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::Moment;

use super::error::KvError;
use super::history::History;
use super::interpret::{Change, View, check_key, check_keys, check_txn, plan_txn, read_page};
use super::key::{Entry, Key, KeyRange, Revision};
use super::lease::{Deadlines, Lease, LeaseId, granted_ttl};
use super::sweep::{Expire, Sweeper};
use super::txn::{RangeRequest, Txn, TxnAnswer};
use super::{GetAnswer, KvBackend, Limits, MultiGetAnswer, RangeAnswer, Watch};
use crate::limits::LEASES_MAX;

#[derive(Debug)]
struct State {
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
    deadlines: Deadlines,
    last_lease: u64,
    /// Each key that has a lease, by lease.
    attached: BTreeSet<(LeaseId, Key)>,
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
    store: Arc<Store>,
    sweeper: Sweeper,
}

#[derive(Debug)]
struct Store {
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
        let state = State { revision, entries: BTreeMap::new(), deadlines: Deadlines::default(), last_lease: 0, attached: BTreeSet::new() };
        let store = Store { state: Mutex::new(state), history: History::new(revision, &limits), limits };
        Self { store: Arc::new(store), sweeper: Sweeper::default() }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn apply(&mut self, change: &Change) {
        let before = match change {
            Change::Put(entry) => self.entries.insert(entry.key.clone(), entry.clone()),
            Change::Delete { key } => self.entries.remove(key),
        };
        if let Some(Entry { key, lease: Some(lease), .. }) = before {
            self.attached.remove(&(lease, key));
        }
        if let Change::Put(Entry { key, lease: Some(lease), .. }) = change {
            self.attached.insert((*lease, key.clone()));
        }
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, state: &mut State, revision: Revision, changes: Vec<Change>) {
        for change in &changes {
            state.apply(change);
        }
        state.revision = revision;
        if !changes.is_empty() {
            self.history.publish(revision, changes);
        }
    }

    fn end_lease(&self, state: &mut State, id: LeaseId) -> Result<(), KvError> {
        state.deadlines.remove(id).ok_or(KvError::LeaseNotFound { id })?;
        let from_first = state.attached.range((id, Key::from(""))..);
        let changes: Vec<_> = from_first.take_while(|(of, _)| *of == id).map(|(_, key)| Change::Delete { key: key.clone() }).collect();
        let revision = if changes.is_empty() { state.revision } else { state.revision.next() };
        self.commit(state, revision, changes);
        Ok(())
    }
}

#[async_trait]
impl Expire for Store {
    fn next_deadline(&self) -> Option<Moment> {
        self.state().deadlines.next()
    }

    async fn expire(self: Arc<Self>) -> Result<(), KvError> {
        let mut state = self.state();
        while let Some(id) = state.deadlines.due(Moment::now()) {
            self.end_lease(&mut state, id)?;
        }
        Ok(())
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
        self.store.limits
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        check_key(key, &self.store.limits)?;
        let state = self.store.state();
        Ok(GetAnswer { entry: sure(state.get(key)), revision: state.revision })
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        check_keys(keys, &self.store.limits)?;
        let state = self.store.state();
        Ok(MultiGetAnswer { entries: keys.iter().map(|key| sure(state.get(key))).collect(), revision: state.revision })
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let state = self.store.state();
        let (entries, more) = sure(read_page(&*state, request, &self.store.limits));
        Ok(RangeAnswer { entries, more, revision: state.revision })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        check_txn(&txn, &self.store.limits)?;
        let mut state = self.store.state();
        let plan = sure(plan_txn(&*state, state.revision, &txn, &self.store.limits));
        let now = Moment::now();
        plan.check_leases(|id| state.deadlines.is_alive(id, now))?;
        self.store.commit(&mut state, plan.answer.revision, plan.changes);
        Ok(plan.answer)
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.store.history.watch(range, from)
    }

    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.store.history.compact(before);
        Ok(())
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        let ttl = granted_ttl(ttl)?;
        let mut state = self.store.state();
        if state.deadlines.len() >= LEASES_MAX {
            return Err(KvError::TooManyLeases { leases_max: LEASES_MAX });
        }
        state.last_lease += 1;
        let lease = Lease { id: LeaseId(state.last_lease), ttl };
        state.deadlines.start(lease, Moment::now());
        drop(state);
        self.sweeper.look_at(&self.store);
        Ok(lease)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.store.state().deadlines.renew(id, Moment::now())
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.store.end_lease(&mut self.store.state(), id)
    }
}
