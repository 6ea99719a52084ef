//! Counts operations, and ends the process at one of them.

use std::cmp::Ordering;
use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Where a process dies, by the number of its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Nowhere.
    Never,
    /// The operation is not done.
    Before(usize),
    /// The operation is done, and nobody hears of it.
    After(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Fuse {
    crash: Crash,
    /// The names of the operations that were begun.
    begun: Arc<Mutex<Vec<&'static str>>>,
    blown: Arc<Notify>,
}

impl Fuse {
    pub(super) fn new(crash: Crash) -> Self {
        Self { crash, begun: Arc::default(), blown: Arc::default() }
    }

    pub(super) fn operations(&self) -> Vec<&'static str> {
        self.begun.lock().unwrap().clone()
    }

    /// Waits for the crash.
    pub(super) async fn blown(&self) {
        self.blown.notified().await;
    }

    /// Does one operation, or dies at it.
    pub(super) async fn step<T>(&self, verb: &'static str, operation: impl Future<Output = T>) -> T {
        let number = {
            let mut begun = self.begun.lock().unwrap();
            begun.push(verb);
            begun.len() - 1
        };
        let (at, done) = match self.crash {
            Crash::Never => return operation.await,
            Crash::Before(at) => (at, false),
            Crash::After(at) => (at, true),
        };
        match (number.cmp(&at), done) {
            (Ordering::Less, _) => return operation.await,
            (Ordering::Equal, true) => drop(operation.await),
            _ => {}
        }
        self.blown.notify_one();
        std::future::pending().await
    }
}
