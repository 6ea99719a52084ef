//! Leases: their ids, and when those of an embedded store end.
//!
//! Invariants:
//! - An id is never given twice, so that nobody keeps alive, by mistake, what another one holds.
//! - A lease whose deadline has passed cannot be renewed any more, whether or not its keys are deleted yet.
//! - Deadlines live in memory. A store that is opened again restarts each lease with its full time to live:
//!   a lease may last longer than its holder asked for, never shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tessera_manifest::env::Moment;

use super::error::KvError;
use crate::limits::{LEASE_TTL_MAX, LEASE_TTL_MIN};

/// A lease of one store. Never 0. Shown in hex digits, as etcd does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A lease as it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lasts after the grant, and after each time it is kept alive; at least what was asked for.
    pub ttl: Duration,
}

/// The time to live that an embedded store grants: whole milliseconds, rounded up.
pub(super) fn granted_ttl(asked: Duration) -> Result<Duration, KvError> {
    if asked > LEASE_TTL_MAX {
        return Err(KvError::TtlTooLong { ttl: asked, ttl_max: LEASE_TTL_MAX });
    }
    let ms = u64::try_from(asked.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Ok(Duration::from_millis(ms).max(LEASE_TTL_MIN))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    ttl: Duration,
    deadline: Moment,
}

/// When the leases of a store end.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    terms: BTreeMap<LeaseId, Term>,
    by_deadline: BTreeSet<(Moment, LeaseId)>,
}

impl Deadlines {
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn start(&mut self, lease: Lease, now: Moment) {
        self.insert(lease.id, Term { ttl: lease.ttl, deadline: now.after(lease.ttl) });
    }

    /// Puts back what [`remove`](Self::remove) took.
    pub(super) fn insert(&mut self, id: LeaseId, term: Term) {
        self.terms.insert(id, term);
        self.by_deadline.insert((term.deadline, id));
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Term> {
        let term = self.terms.remove(&id)?;
        self.by_deadline.remove(&(term.deadline, id));
        Some(term)
    }

    pub(super) fn is_alive(&self, id: LeaseId, now: Moment) -> bool {
        self.terms.get(&id).is_some_and(|term| term.deadline > now)
    }

    /// Starts the term anew, and answers how long it is.
    pub(super) fn renew(&mut self, id: LeaseId, now: Moment) -> Result<Duration, KvError> {
        if !self.is_alive(id, now) {
            return Err(KvError::LeaseNotFound { id });
        }
        let term = self.remove(id).ok_or(KvError::LeaseNotFound { id })?;
        self.insert(id, Term { deadline: now.after(term.ttl), ..term });
        Ok(term.ttl)
    }

    /// The deadline that comes first.
    pub(super) fn next(&self) -> Option<Moment> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// A lease whose deadline has passed.
    pub(super) fn due(&self, now: Moment) -> Option<LeaseId> {
        self.by_deadline.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }
}
