//! Stores that fail on request, and what the tests of this crate share: sample regions, histories, numbers.

mod archive;
mod crash;
mod fault;
pub(crate) mod history;
pub(crate) mod random;
pub(crate) mod sample;

use std::sync::Mutex;

pub(crate) use archive::Archive;
pub(crate) use crash::{Crash, CrashStore};
pub(crate) use fault::{Fault, FaultStore};

/// A source of time and ids that counts, so that tests repeat.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<u128>);

impl crate::env::Source for Counting {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random_u128(&self) -> u128 {
        let mut next = self.0.lock().unwrap();
        *next += 1;
        *next
    }
}
