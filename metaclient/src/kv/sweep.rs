//! The background task of an embedded store that ends leases whose deadline has passed.
//!
//! Invariants:
//! - It runs from the first grant (or from the opening of a store that has leases) until the store is
//!   dropped, and sleeps until the first deadline: a store without leases costs nothing.
//! - It holds the store only while it deletes, so that dropping the last handle closes the store.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::{self, Moment};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::error::KvError;

/// How long to wait after a failure to delete.
const RETRY: Duration = Duration::from_secs(1);

/// A store with leases.
#[async_trait]
pub(super) trait Expire: Send + Sync + 'static {
    /// The first deadline of a lease, if there are leases.
    fn next_deadline(&self) -> Option<Moment>;

    /// Ends each lease whose deadline has passed, in one transaction each.
    async fn expire(self: Arc<Self>) -> Result<(), KvError>;
}

/// The owner of the task.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    wake: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    /// Tells the task of a new deadline; starts it when it does not run yet.
    pub(super) fn look_at<S: Expire>(&self, store: &Arc<S>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(env::spawn(run(Arc::downgrade(store), Arc::clone(&self.wake))));
        }
        self.wake.notify_one();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

async fn run<S: Expire>(store: Weak<S>, wake: Arc<Notify>) {
    loop {
        let Some(deadline) = store.upgrade().map(|store| store.next_deadline()) else { return };
        let Some(deadline) = deadline else {
            wake.notified().await;
            continue;
        };
        tokio::select! {
            () = wake.notified() => continue,
            () = env::sleep_until(deadline) => {}
        }
        let Some(store) = store.upgrade() else { return };
        if let Err(error) = store.expire().await {
            tracing::warn!(%error, "an expired lease could not be ended; it is tried again");
            env::sleep(RETRY).await;
        }
    }
}
