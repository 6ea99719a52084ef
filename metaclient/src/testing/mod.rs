//! For tests of this and of other crates: a store that fails on request, and numbers that repeat.

mod fault;
mod random;

use std::sync::{Mutex, PoisonError};

use tessera_manifest::env::{Env, Source};

pub use self::fault::{Fault, FaultKv};
pub use self::random::Random;

/// A source of time and ids that counts, so that tests repeat.
#[derive(Debug, Default)]
struct Counting(Mutex<u128>);

impl Source for Counting {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random_u128(&self) -> u128 {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    }
}

/// Ids that count up from `start`, which two processes of one test do not share; a clock that stands still.
#[must_use]
pub fn counting_env(start: u64) -> Env {
    Env::from_source(std::sync::Arc::new(Counting(Mutex::new(u128::from(start) << 32))))
}

/// The seeds of a simulation: that of `TESSERA_SIM_SEED`, else as many as `TESSERA_SIM_SEEDS` says, else `default`.
///
/// # Panics
/// When a variable of the environment is not a number.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of the environment"));
    match number("TESSERA_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TESSERA_SIM_SEEDS").unwrap_or(default),
    }
}
