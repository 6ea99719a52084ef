//! The death of a process at a chosen write, for tests.
//!
//! A write is a request that changes metadata, an object that is put, copied or deleted, and, of the log, each entry (from
//! its submission until it is durable) and each release of entries. All are counted in one row from the moment a fuse is lit; the one with
//! the chosen number is the last: it does, or does not, reach its store, and nothing of the process does after it.
//!
//! In a server of a build with the feature `failpoints`, which no release has, `TESSERA_FAIL_AT` kills the process there, as
//! `kill -9` would:
//!
//! | value | dies |
//! |---|---|
//! | `n` | before the n-th write after it was ready for the first statement; 0 is the first |
//! | `n+` | after it |
//! | `start:n`, `start:n+` | the same, counted from its start: while it recovers |
//!
//! Invariant: a process that is dead, or sleeps, changes nothing: what was on its way to a store is not done.

mod kv;
mod store;
mod wal;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::ObjectStore;
use tessera_engine::wal::LogStore;
use tessera_manifest::env;
use tessera_metaclient::kv::KvBackend;
use tokio::sync::watch;

pub use kv::FusedKv;
pub use store::FusedStore;
pub use wal::FusedWal;

/// On which side of the last write the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It does not reach the store.
    Before,
    /// It reaches the store, and nobody learns of it.
    After,
}

/// What dying means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process is killed.
    Kill,
    /// Nothing that the process asks of its stores is done or answered any more, unless it is [awoken](Fuse::awake).
    Silence,
}

/// Counts the writes of a process, and ends it.
#[derive(Debug)]
pub struct Fuse {
    /// Writes before the last one; `u64::MAX` before the fuse is lit.
    left: AtomicU64,
    writes: AtomicU64,
    side: Side,
    death: Death,
    /// How long a request is on its way, there and back each.
    way: Duration,
    dead: watch::Sender<bool>,
    /// The write at which it died.
    last: Mutex<Option<String>>,
}

/// A write that the process may do.
struct Turn {
    is_last: bool,
}

impl Fuse {
    /// A fuse that is not lit.
    #[must_use]
    pub fn new(side: Side, death: Death) -> Arc<Self> {
        Self::far(side, death, Duration::ZERO)
    }

    /// A fuse that is not lit, of a process whose stores are this far away: each request takes that long to its store, and
    /// each answer back.
    #[must_use]
    pub fn far(side: Side, death: Death, way: Duration) -> Arc<Self> {
        let (left, writes) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Arc::new(Self { left, writes, side, death, way, dead: watch::Sender::new(false), last: Mutex::default() })
    }

    /// Counts from now on; the write after `writes` more is the last.
    pub fn light(&self, writes: u64) {
        self.writes.store(0, Ordering::SeqCst);
        self.left.store(writes, Ordering::SeqCst);
    }

    /// Writes since the fuse was lit.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Waits until the process is dead.
    pub async fn burnt(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is in `self`, so that this cannot fail.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// The write at which the process died, if it did.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It was not dead, but slow: what was on its way to the stores comes now, the last write first.
    pub fn awake(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
        self.dead.send_replace(false);
    }

    /// Does a write, if the process lives, and lets nobody learn of it if it is the last.
    async fn write<T>(&self, what: impl Into<String>, write: impl Future<Output = T>) -> T {
        let turn = self.turn(what).await;
        let answer = write.await;
        self.answered(turn).await;
        answer
    }

    /// Waits until a write may be done; if it is the last one, and is not done, for ever.
    async fn turn(&self, what: impl Into<String>) -> Turn {
        self.travel().await;
        let is_last = self.count(what);
        if is_last && self.side == Side::Before {
            self.die();
            self.alive().await;
            return Turn { is_last: false };
        }
        Turn { is_last }
    }

    /// Says that a write is done, and waits until that may be known; if it was the last one, for ever.
    async fn answered(&self, turn: Turn) {
        if turn.is_last {
            self.die();
        }
        self.travel().await;
    }

    /// Does a write that nobody waits for.
    fn write_now(&self, what: impl Into<String>, write: impl FnOnce()) {
        if *self.dead.borrow() {
            return;
        }
        let is_last = self.count(what);
        if !(is_last && self.side == Side::Before) {
            write();
        }
        if is_last {
            self.die();
        }
    }

    /// Does what changes nothing, if the process lives.
    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        self.travel().await;
        let answer = read.await;
        self.travel().await;
        answer
    }

    /// Whether this write is the last.
    fn count(&self, what: impl Into<String>) -> bool {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            u64::MAX => None,
            left => Some(left.wrapping_sub(1)),
        });
        let is_last = left == Ok(0);
        if is_last {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
        }
        is_last
    }

    /// The way to a store or back, at whose end only those come who live.
    async fn travel(&self) {
        if !self.way.is_zero() {
            env::sleep(self.way).await;
        }
        self.alive().await;
    }

    async fn alive(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is in `self`, so that this cannot fail.
        let _ = dead.wait_for(|dead| !*dead).await;
    }

    fn die(&self) {
        if self.death == Death::Kill {
            std::process::abort();
        }
        self.dead.send_replace(true);
    }
}

/// What a process writes to.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Its metadata.
    pub kv: Arc<dyn KvBackend>,
    /// Its objects.
    pub store: Arc<dyn ObjectStore>,
    /// Its log.
    pub wal: Arc<dyn LogStore>,
}

impl Stores {
    /// These with a fuse.
    #[must_use]
    pub fn fused(self, fuse: &Arc<Fuse>) -> Self {
        let Self { kv, store, wal } = self;
        Self {
            kv: Arc::new(FusedKv::new(kv, Arc::clone(fuse))),
            store: Arc::new(FusedStore::new(store, Arc::clone(fuse))),
            wal: Arc::new(FusedWal::new(wal, Arc::clone(fuse))),
        }
    }
}

/// The environment variable that says where a server dies.
const VARIABLE: &str = "TESSERA_FAIL_AT";

/// The stores of a server with the fuse that the environment asks for, lit or to be lit when the server is ready.
#[must_use]
pub fn of_environment(stores: Stores) -> (Stores, Prepared) {
    let Some(place) = std::env::var(VARIABLE).ok().and_then(|text| Place::parse(&text)) else { return (stores, Prepared(None)) };
    let fuse = Fuse::new(place.side, Death::Kill);
    let stores = stores.fused(&fuse);
    if place.from_start {
        fuse.light(place.writes);
        return (stores, Prepared(None));
    }
    (stores, Prepared(Some((fuse, place.writes))))
}

/// Where a server dies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    from_start: bool,
    writes: u64,
    side: Side,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (from_start, text) = text.strip_prefix("start:").map_or((false, text), |rest| (true, rest));
        let (text, side) = text.strip_suffix('+').map_or((text, Side::Before), |number| (number, Side::After));
        Some(Self { from_start, writes: text.parse().ok()?, side })
    }
}

/// A fuse that is to be lit once the server is open, if one was asked for.
#[derive(Debug)]
pub struct Prepared(Option<(Arc<Fuse>, u64)>);

impl Prepared {
    /// Lights it.
    pub fn light(&self) {
        if let Some((fuse, writes)) = &self.0 {
            fuse.light(*writes);
        }
    }
}

#[cfg(test)]
mod tests;
