//! Locks and semaphores of the cluster: first come, first served, with fencing tokens.
//!
//! Invariants:
//! - Each who wants a permit puts one key `lock/{name}/{nonce}` under a lease of its own. The key's create
//!   revision is its place in the queue, and its fencing token: tokens grow from holder to holder.
//! - The first n keys hold the n permits. Who comes later is behind, so that places only move forward, and a
//!   holder holds until its key is gone.
//! - A holder learns that it may have lost its permit before the store can give it to another. Where even that
//!   is too late (a process that was stopped between asking and writing), the transaction says no: it compares
//!   the key ([`Permit::compare`]).
//!
//! ```text
//!   grant lease -> put key -> wait until fewer than n are before it -> hold -> revoke | lose
//! ```

mod error;
mod lease;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::Env;

pub use self::error::LockError;
pub(crate) use self::lease::HeldLease;
pub(crate) use self::queue::{Place, Queue};
use crate::keys::MetaKey;
use crate::kv::{Compare, Key, KvBackend, Revision};

/// Who stands in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who that is, for people and for those who follow an election: a node, an address.
    pub name: String,
    /// How many permits there are, as this holder believes.
    pub permits: u32,
    /// Since when it stands there, in milliseconds since 1970; for people only.
    pub since_unix_ms: u64,
}

/// A semaphore of the cluster; with one permit it is a lock.
#[derive(Debug, Clone)]
pub struct Semaphore {
    queue: Queue,
    name: String,
    permits: u32,
}

impl Semaphore {
    /// The semaphore `name` with that many permits, at least one; everybody must name the same number. A holder
    /// that dies keeps its permit for `ttl` at most.
    #[must_use]
    pub fn new(kv: Arc<dyn KvBackend>, env: Env, name: &str, permits: u32, ttl: Duration) -> Self {
        Self { queue: Queue::new(kv, env, crate::keys::locks(name), ttl), name: name.to_owned(), permits: permits.max(1) }
    }

    /// The lock `name`.
    #[must_use]
    pub fn lock(kv: Arc<dyn KvBackend>, env: Env, name: &str, ttl: Duration) -> Self {
        Self::new(kv, env, name, 1, ttl)
    }

    /// Waits for a permit. Cancel safe: who stops waiting leaves the queue.
    ///
    /// # Errors
    /// [`LockError::PermitsDiffer`]; [`LockError::Lost`] when the store did not answer for so long that the
    /// place in the queue was lost; else as the store.
    pub async fn acquire(&self, holder: &str) -> Result<Permit, LockError> {
        let place = self.enter(holder).await?;
        self.queue.wait(&place).await?;
        Ok(Permit { place })
    }

    /// A permit, if one is free and nobody waits for it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self, holder: &str) -> Result<Option<Permit>, LockError> {
        let place = self.enter(holder).await?;
        if self.queue.is_in_front(&place).await? {
            return Ok(Some(Permit { place }));
        }
        place.leave().await;
        Ok(None)
    }

    async fn enter(&self, holder: &str) -> Result<Place, LockError> {
        let key = |nonce| MetaKey::Lock { name: self.name.clone(), nonce }.to_key();
        self.queue.enter(key, holder, self.permits).await
    }

    /// Those who hold permits and those who wait, in the order of the queue, with their tokens.
    ///
    /// # Errors
    /// As the store.
    pub async fn holders(&self) -> Result<Vec<(Revision, Holder)>, LockError> {
        self.queue.holders().await
    }
}

/// A permit that is held. Dropping it gives it up in the background.
#[derive(Debug)]
pub struct Permit {
    place: Place,
}

impl Permit {
    /// The fencing token: greater than that of everybody who held before.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.place.token()
    }

    /// The key that stands for it.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.place.key()
    }

    /// The condition that the permit is still held. A transaction with it changes nothing after the loss.
    #[must_use]
    pub fn compare(&self) -> Compare {
        self.place.compare()
    }

    /// Whether it is certainly held at this moment. What is done after asking may come too late; what must not
    /// has to [compare](Self::compare).
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.place.is_held()
    }

    /// Waits until the permit may have been lost: by the holder's own clock, before another can have it. Cancel
    /// safe.
    pub async fn lost(&self) {
        self.place.lost().await;
    }

    /// Gives it up, and waits until the store has done so, if it answers.
    pub async fn release(self) {
        self.place.leave().await;
    }
}

#[cfg(test)]
mod tests;
