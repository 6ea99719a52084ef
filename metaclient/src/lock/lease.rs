//! A lease that is kept alive, and that its holder never believes in for too long.
//!
//! Invariants:
//! - The holder's own deadline counts from *before* the request that the store answered, and is shortened for
//!   clocks that run apart. The store's term begins when it handles the request, so that it ends later.
//! - That the lease is lost is known at that deadline at the latest, whether or not the store answers then, and
//!   also by a process that was stopped meanwhile: it asks its clock, not the task.
//! - A lease that was given up is revoked in the background, or expires.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Moment};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kv::{KvBackend, KvError, LeaseId};

/// A part of the term by which clocks may run apart.
const DRIFT_PARTS: u32 = 16;
/// How often a lease is renewed in a term.
const RENEWALS: u32 = 3;

/// What is known of the lease.
#[derive(Debug, Clone, Copy)]
struct Term {
    /// Nothing may be believed from here on.
    deadline: Moment,
    lost: bool,
}

/// The holder's deadline, when the store answered `ttl` to a request sent at `sent`.
fn deadline(sent: Moment, ttl: Duration) -> Moment {
    sent.after(ttl - ttl / DRIFT_PARTS)
}

/// A lease with the task that renews it. Dropping it gives the lease up.
#[derive(Debug)]
pub(crate) struct HeldLease {
    id: LeaseId,
    term: watch::Receiver<Term>,
    release: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl HeldLease {
    /// Takes a lease of at least `ttl`, and keeps it alive.
    pub(crate) async fn take(kv: Arc<dyn KvBackend>, ttl: Duration) -> Result<Self, KvError> {
        let sent = Moment::now();
        let lease = kv.grant(ttl).await?;
        let (term_sender, term) = watch::channel(Term { deadline: deadline(sent, lease.ttl), lost: false });
        let (release, released) = watch::channel(false);
        let keeper = Keeper { kv, id: lease.id, ttl: lease.ttl, term: term_sender, released };
        let task = env::spawn(keeper.run(sent));
        Ok(Self { id: lease.id, term, release, task: Some(task) })
    }

    pub(crate) fn id(&self) -> LeaseId {
        self.id
    }

    /// Whether the lease certainly lasts at this moment.
    pub(crate) fn is_held(&self) -> bool {
        let term = *self.term.borrow();
        !term.lost && Moment::now() < term.deadline
    }

    /// Waits until the lease may have ended. Cancel safe.
    pub(crate) async fn lost(&self) {
        let mut term = self.term.clone();
        loop {
            let Term { deadline, lost } = *term.borrow_and_update();
            if lost || Moment::now() >= deadline {
                return;
            }
            tokio::select! {
                biased;
                changed = term.changed() => if changed.is_err() {
                    return;
                },
                () = env::sleep_until(deadline) => {}
            }
        }
    }

    /// Ends the lease, and with it what was attached to it; waits until the store has done so, if it answers.
    pub(crate) async fn release(mut self) {
        self.release.send_replace(true);
        if let Some(task) = self.task.take() {
            // The task only ever ends by itself.
            let _ = task.await;
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // The task revokes the lease and ends.
        self.release.send_replace(true);
    }
}

struct Keeper {
    kv: Arc<dyn KvBackend>,
    id: LeaseId,
    ttl: Duration,
    term: watch::Sender<Term>,
    released: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self, sent: Moment) {
        let mut next = sent.after(self.ttl / RENEWALS);
        loop {
            let deadline = self.term.borrow().deadline;
            tokio::select! {
                biased;
                _ = self.released.wait_for(|released| *released) => break,
                () = env::sleep_until(deadline) => break,
                () = env::sleep_until(next) => {}
            }
            let sent = Moment::now();
            let renewed = tokio::select! {
                biased;
                _ = self.released.wait_for(|released| *released) => break,
                () = env::sleep_until(deadline) => break,
                renewed = self.kv.keep_alive(self.id) => renewed,
            };
            match renewed {
                // A process that was stopped may see the answer before its timer.
                Ok(ttl) if Moment::now() < deadline => {
                    self.term.send_modify(|term| term.deadline = self::deadline(sent, ttl));
                    next = sent.after(ttl / RENEWALS);
                }
                // The holder has been told, or could have been, that it is lost: it stays so.
                Ok(_) | Err(KvError::LeaseNotFound { .. }) => break,
                Err(error) => {
                    tracing::warn!(%error, lease = %self.id, "cannot keep a lease alive: trying again until it ends");
                    next = Moment::now().after(self.ttl / (RENEWALS * 4));
                }
            }
        }
        self.term.send_modify(|term| term.lost = true);
        // What is lost is given up as well, so that others need not wait for its end.
        if let Err(error) = self.kv.revoke(self.id).await
            && !matches!(error, KvError::LeaseNotFound { .. })
        {
            tracing::warn!(%error, lease = %self.id, "cannot revoke a lease: it will expire");
        }
    }
}
