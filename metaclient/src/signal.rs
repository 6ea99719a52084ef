//! A value that tasks wait for.
//!
//! Invariants:
//! - Those who wait are woken in the order in which they began to: a seeded run is the same each time, which
//!   tokio's own watch channel, whose order is random, does not give.
//! - A change between looking and waiting is not slept through.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Signal<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Signal<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    pub(crate) fn get(&self) -> T {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value to what `change` makes of it, if anything, and answers what it was.
    pub(crate) fn update(&self, change: impl FnOnce(T) -> Option<T>) -> T {
        let before = {
            let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            let before = *value;
            let Some(now) = change(before) else { return before };
            *value = now;
            before
        };
        self.changed.notify_waiters();
        before
    }

    /// Waits until `reached` says so, and answers the value. Cancel safe.
    pub(crate) async fn wait_until(&self, reached: impl Fn(&T) -> bool) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on a change wakes us, also one that comes before we wait.
            changed.as_mut().enable();
            let value = self.get();
            if reached(&value) {
                return value;
            }
            changed.await;
        }
    }
}
