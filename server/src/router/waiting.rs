//! The memory of rows that wait for their regions.
//!
//! Invariant: statements that wait hold at most `bytes_max` bytes together; the next one is refused at once, and holds
//! none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What waiting statements hold together; a cheap handle.
#[derive(Debug, Clone)]
pub struct Waiting {
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub struct Held {
    bytes: Arc<AtomicUsize>,
    held: usize,
}

/// There is no room for more rows that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// What is held.
    pub bytes: usize,
    /// What may be.
    pub max: usize,
}

impl Waiting {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Arc::default(), bytes_max }
    }

    /// Counts `bytes` as waiting.
    ///
    /// # Errors
    /// [`Full`] when others hold too much; one that is alone may hold any number.
    pub fn hold(&self, bytes: usize) -> Result<Held, Full> {
        let added = self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
            let sum = held.checked_add(bytes)?;
            (held == 0 || sum <= self.bytes_max).then_some(sum)
        });
        match added {
            Ok(_) => {
                metrics::gauge!("tessera_router_waiting_bytes").increment(bytes as f64);
                Ok(Held { bytes: Arc::clone(&self.bytes), held: bytes })
            }
            Err(held) => Err(Full { bytes: held, max: self.bytes_max }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.held, Ordering::SeqCst);
        metrics::gauge!("tessera_router_waiting_bytes").decrement(self.held as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_given_back() {
        let waiting = Waiting::new(100);
        let first = waiting.hold(60).unwrap();
        assert_eq!(waiting.hold(50).unwrap_err(), Full { bytes: 60, max: 100 });
        let second = waiting.hold(40).unwrap();
        drop(first);
        assert!(waiting.hold(60).is_ok());
        drop(second);
        assert!(waiting.hold(1_000).is_ok(), "one statement alone may be larger than the bound");
    }
}
