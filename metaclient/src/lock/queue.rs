//! The queue under locks and elections.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::Env;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::Nonce;

use super::Holder;
use super::error::LockError;
use super::lease::HeldLease;
use crate::kv::{Change, Compare, Entry, Key, KeyRange, KvBackend, KvError, Op, Revision, Txn, range_all};
use crate::limits::ATTEMPTS_MAX;
use crate::values;

/// A queue: the keys of a range, in order of their create revisions.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    kv: Arc<dyn KvBackend>,
    env: Env,
    range: KeyRange,
    ttl: Duration,
}

/// A key in the queue, with the lease that keeps it there. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Place {
    key: Key,
    token: Revision,
    permits: u32,
    lease: HeldLease,
}

impl Place {
    pub(crate) fn token(&self) -> Revision {
        self.token
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The key is put once, so that its mod revision is its create revision.
    pub(crate) fn compare(&self) -> Compare {
        Compare::ModRevision { key: self.key.clone(), revision: self.token }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    pub(crate) async fn lost(&self) {
        self.lease.lost().await;
    }

    pub(crate) async fn leave(self) {
        self.lease.release().await;
    }
}

impl Queue {
    pub(crate) fn new(kv: Arc<dyn KvBackend>, env: Env, range: KeyRange, ttl: Duration) -> Self {
        Self { kv, env, range, ttl }
    }

    fn lost(&self) -> LockError {
        LockError::Lost { queue: self.range.start.to_string() }
    }

    /// Puts a key at the end of the queue.
    pub(crate) async fn enter(&self, key: impl Fn(Nonce) -> Key + Send, holder: &str, permits: u32) -> Result<Place, LockError> {
        let key = key(self.env.nonce());
        let value = values::encode(&Holder { name: holder.to_owned(), permits, since_unix_ms: self.env.unix_ms() });
        let lease = HeldLease::take(Arc::clone(&self.kv), self.ttl).await?;
        for _ in 0..ATTEMPTS_MAX {
            let put = Op::put(key.clone(), value.clone()).with_lease(lease.id());
            let txn = Txn::new().when(Compare::Absent { key: key.clone() }).then([put]).otherwise([Op::get(key.clone())]);
            let entered = tokio::select! {
                biased;
                () = lease.lost() => return Err(self.lost()),
                answer = self.kv.txn(txn) => answer,
            };
            let token = match entered {
                Ok(answer) if answer.succeeded => answer.revision,
                // An attempt whose answer was lost; nobody else knows the nonce.
                Ok(answer) => match answer.entry(0) {
                    Some(entry) => entry.create_revision,
                    None => return Err(self.lost()),
                },
                Err(KvError::LeaseNotFound { .. }) => return Err(self.lost()),
                Err(error) if error.class() == ErrorClass::Unavailable => {
                    tessera_manifest::env::sleep(self.ttl / 64).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            return Ok(Place { key, token, permits, lease });
        }
        Err(self.lost())
    }

    /// Waits until fewer than the permits are before `place`.
    pub(crate) async fn wait(&self, place: &Place) -> Result<(), LockError> {
        loop {
            let moved = tokio::select! {
                biased;
                () = place.lost() => return Err(self.lost()),
                moved = self.wait_once(place) => moved,
            };
            match moved {
                Ok(true) => return Ok(()),
                // Read again: changes were missed.
                Ok(false) => {}
                Err(LockError::Kv { source })
                    if matches!(source.class(), ErrorClass::Unavailable | ErrorClass::Retry | ErrorClass::Refresh) =>
                {
                    tessera_manifest::env::sleep(self.ttl / 64).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// True once in front; false when the queue has to be read again.
    async fn wait_once(&self, place: &Place) -> Result<bool, LockError> {
        // Read before the queue, so that what happens after it is watched.
        let from = self.kv.get(&place.key).await?.revision.next();
        let mut before = self.before(place).await?;
        if in_front(&before, place) {
            return Ok(true);
        }
        let mut watch = self.kv.watch(self.range.clone(), from).await?;
        loop {
            for change in watch.next().await?.changes {
                match change {
                    Change::Delete { key } if key == place.key => return Err(self.lost()),
                    Change::Delete { key } => drop(before.remove(&key)),
                    // A put of another key comes behind; keys are put once.
                    Change::Put(_) => {}
                }
            }
            if in_front(&before, place) {
                return Ok(true);
            }
        }
    }

    /// Whether `place` is in front now.
    pub(crate) async fn is_in_front(&self, place: &Place) -> Result<bool, LockError> {
        let before = self.before(place).await?;
        if !place.is_held() {
            return Err(self.lost());
        }
        Ok(in_front(&before, place))
    }

    /// The keys before `place`; an error when it is no longer there.
    async fn before(&self, place: &Place) -> Result<BTreeSet<Key>, LockError> {
        let entries = range_all(&*self.kv, self.range.clone()).await?;
        if !entries.iter().any(|entry| entry.key == place.key) {
            return Err(self.lost());
        }
        let mut before = BTreeSet::new();
        // Whoever comes behind with another number gets the error, not those before.
        for entry in entries.into_iter().filter(|entry| rank(entry) < (place.token, &place.key)) {
            let holder: Holder = values::decode_entry(&entry)?;
            if holder.permits != place.permits {
                let queue = self.range.start.to_string();
                return Err(LockError::PermitsDiffer { queue, asked: place.permits, found: holder.permits, holder: holder.name });
            }
            before.insert(entry.key);
        }
        Ok(before)
    }

    pub(crate) async fn holders(&self) -> Result<Vec<(Revision, Holder)>, LockError> {
        let mut entries = range_all(&*self.kv, self.range.clone()).await?;
        entries.sort_by(|a, b| rank(a).cmp(&rank(b)));
        let holder = |entry: &Entry| Ok((entry.create_revision, values::decode_entry(entry)?));
        entries.iter().map(holder).collect()
    }
}

/// The order of a queue. Two keys of one transaction do not come from here, but have an order all the same.
pub(crate) fn rank(entry: &Entry) -> (Revision, &Key) {
    (entry.create_revision, &entry.key)
}

fn in_front(before: &BTreeSet<Key>, place: &Place) -> bool {
    before.len() < usize::try_from(place.permits).unwrap_or(usize::MAX)
}
