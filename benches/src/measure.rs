//! Repeating and taking the median.

use std::time::Duration;

use crate::Result;

/// The times of several runs of the same work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Half of the runs took no longer; in seconds.
    pub median: f64,
    /// The fastest, in seconds.
    pub least: f64,
    /// The slowest, in seconds.
    pub most: f64,
}

impl Times {
    /// Of these runs.
    ///
    /// # Errors
    /// When there are none.
    pub fn of(mut runs: Vec<Duration>) -> Result<Self> {
        runs.sort_unstable();
        let (Some(least), Some(most)) = (runs.first(), runs.last()) else { return Err("nothing was timed".into()) };
        let median = runs[(runs.len() - 1) / 2].midpoint(runs[runs.len() / 2]);
        Ok(Self { median: median.as_secs_f64(), least: least.as_secs_f64(), most: most.as_secs_f64() })
    }
}

trait Midpoint {
    fn midpoint(self, other: Self) -> Self;
}

impl Midpoint for Duration {
    fn midpoint(self, other: Self) -> Self {
        (self + other) / 2
    }
}

/// Runs each once for checking, then `runs` times in turn, so that both meet the same disturbances. They time
/// themselves, so that they can prepare and clean up.
///
/// # Errors
/// The first that either gives.
pub fn repeat_both(
    runs: u32,
    mut work: impl FnMut() -> Result<Duration>,
    mut limit: impl FnMut() -> Result<Duration>,
) -> Result<(Times, Times)> {
    work()?;
    limit()?;
    let (mut times, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        times.push(work()?);
        limits.push(limit()?);
    }
    Ok((Times::of(times)?, Times::of(limits)?))
}
