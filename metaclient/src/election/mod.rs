//! Election of a leader, and following who it is.
//!
//! Invariants:
//! - A candidate stands in a queue with one permit; the leader is in front. Its token grows from leader to leader.
//! - A leader learns that it may have lost before another can win; a transaction that must not come from an old
//!   leader compares [`Leadership::compare`].
//! - Followers see leaders in the order of their tokens. They may be behind, so that what they do on the word of
//!   a leader is fenced by its token, not by their belief.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::Env;

use crate::keys::{self, MetaKey};
use crate::kv::{Change, Compare, Entry, Key, KeyRange, KvBackend, Revision};
use crate::lock::{Holder, LockError, Place, Queue};
use crate::mirror::{Followed, Follower};
use crate::values;

/// An election by name.
#[derive(Debug, Clone)]
pub struct Election {
    kv: Arc<dyn KvBackend>,
    queue: Queue,
    name: String,
}

/// A leader as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// What it said of itself.
    pub candidate: String,
    /// Its fencing token.
    pub token: Revision,
}

impl Election {
    /// The election `name`. A leader that dies is replaced after `ttl` at most.
    #[must_use]
    pub fn new(kv: Arc<dyn KvBackend>, env: Env, name: &str, ttl: Duration) -> Self {
        let queue = Queue::new(Arc::clone(&kv), env, keys::candidates(name), ttl);
        Self { kv, queue, name: name.to_owned() }
    }

    /// Waits until this candidate leads. Cancel safe: who stops waiting withdraws.
    ///
    /// # Errors
    /// As the store; [`LockError::Lost`] when it did not answer for too long.
    pub async fn campaign(&self, candidate: &str) -> Result<Leadership, LockError> {
        let key = |nonce| MetaKey::Candidate { election: self.name.clone(), nonce }.to_key();
        let place = self.queue.enter(key, candidate, 1).await?;
        self.queue.wait(&place).await?;
        Ok(Leadership { place })
    }

    /// Who leads now, by one read.
    ///
    /// # Errors
    /// As the store.
    pub async fn leader(&self) -> Result<Option<Leader>, LockError> {
        let first = self.queue.holders().await?.into_iter().next();
        Ok(first.map(|(token, holder)| Leader { candidate: holder.name, token }))
    }

    /// Follows who leads.
    #[must_use]
    pub fn observe(&self) -> Leaders {
        let range: KeyRange = keys::candidates(&self.name);
        Leaders { follower: Follower::new(Arc::clone(&self.kv), range), candidates: BTreeMap::new(), told: None }
    }
}

/// That this process leads. Dropping it steps down in the background.
#[derive(Debug)]
pub struct Leadership {
    place: Place,
}

impl Leadership {
    /// The fencing token: greater than that of every leader before.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.place.token()
    }

    /// The condition that this process still leads.
    #[must_use]
    pub fn compare(&self) -> Compare {
        self.place.compare()
    }

    /// Whether this process certainly leads at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.place.is_held()
    }

    /// Waits until the leadership may have been lost, by the leader's own clock. Cancel safe.
    pub async fn lost(&self) {
        self.place.lost().await;
    }

    /// Steps down, and waits until the store knows, if it answers.
    pub async fn resign(self) {
        self.place.leave().await;
    }
}

/// The leaders, one after the other.
#[derive(Debug)]
pub struct Leaders {
    follower: Follower,
    candidates: BTreeMap<(Revision, Key), String>,
    told: Option<Option<Leader>>,
}

impl Leaders {
    /// Waits for another leader than the last one given, or for none; the first answer is how it is now. Leaders
    /// that have come and gone meanwhile may be skipped. Cancel safe; tries again while the store fails.
    pub async fn next(&mut self) -> Option<Leader> {
        loop {
            match self.follower.next().await {
                Followed::Snapshot { entries, .. } => {
                    self.candidates.clear();
                    entries.iter().for_each(|entry| self.put(entry));
                }
                Followed::Changes(batch) => {
                    for change in batch.changes {
                        match change {
                            Change::Put(entry) => self.put(&entry),
                            Change::Delete { key } => self.candidates.retain(|(_, other), _| *other != key),
                        }
                    }
                }
            }
            let first = self.candidates.first_key_value();
            let leader = first.map(|((token, _), candidate)| Leader { candidate: candidate.clone(), token: *token });
            if self.told.as_ref() != Some(&leader) {
                self.told = Some(leader.clone());
                return leader;
            }
        }
    }

    fn put(&mut self, entry: &Entry) {
        let name = match values::decode_entry::<Holder>(entry) {
            Ok(holder) => holder.name,
            Err(error) => {
                // It leads or waits all the same.
                tracing::error!(%error, "a candidate cannot be read");
                String::new()
            }
        };
        self.candidates.insert((entry.create_revision, entry.key.clone()), name);
    }
}

#[cfg(test)]
mod tests;
