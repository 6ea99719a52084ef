//! How long refused work is tried again. Pure: time comes in as an argument.
//!
//! Invariants:
//! - Time runs from the last progress: routes that moved, or work that was done. Whoever makes progress is not given up,
//!   within `ROUNDS_MAX` rounds.
//! - A pause is cut short when the routes move, so that pauses cost nothing when the cause is a repartition.

use std::time::Duration;

/// The first pause; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Rounds of one piece of work, whatever progress it makes. More: it is given up.
const ROUNDS_MAX: u32 = 10_000;

/// What to do with work that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again when the routes move, and after this time at the latest.
    Wait(Duration),
    /// It took too long: so long there was no progress.
    GiveUp(Duration),
}

/// How often and for how long a piece of work was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    pause: Duration,
    rounds: u32,
    progress_at: Option<Duration>,
}

impl Default for Patience {
    /// Not tried yet.
    fn default() -> Self {
        Self { pause: PAUSE_MIN, rounds: 0, progress_at: None }
    }
}

impl Patience {
    /// Times that the work was refused.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Something was done, or the routes moved.
    pub fn progress(&mut self) {
        self.progress_at = None;
        self.pause = PAUSE_MIN;
    }

    /// The work was refused at `now`, measured from any fixed moment, in a way that is worth waiting for as long as
    /// `longest` without progress.
    pub fn refused(&mut self, now: Duration, longest: Duration) -> Next {
        self.rounds += 1;
        let since = *self.progress_at.get_or_insert(now);
        let waited = now.saturating_sub(since);
        if waited >= longest || self.rounds > ROUNDS_MAX {
            return Next::GiveUp(waited);
        }
        let pause = self.pause.min(longest.saturating_sub(waited));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Next::Wait(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    /// Tries until it gives up or made `progress` at a round; the time that passed.
    fn until_given_up(patience: &mut Patience, mut now: Duration) -> Duration {
        loop {
            match patience.refused(now, LONGEST) {
                Next::Wait(pause) => now += pause,
                Next::GiveUp(_) => return now,
            }
        }
    }

    #[test]
    fn work_without_progress_is_given_up_in_time() {
        let start = Duration::from_secs(7);
        assert_eq!(until_given_up(&mut Patience::default(), start), start + LONGEST);
    }

    #[test]
    fn progress_starts_the_time_anew_and_shortens_the_pause() {
        let mut patience = Patience::default();
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            let Next::Wait(pause) = patience.refused(now, LONGEST) else { panic!("{now:?}") };
            now += pause;
        }
        patience.progress();
        assert_eq!(patience.refused(now, LONGEST), Next::Wait(PAUSE_MIN));
        assert_eq!(until_given_up(&mut patience, now), now + LONGEST);
    }

    #[test]
    fn endless_progress_ends_all_the_same() {
        let mut patience = Patience::default();
        let mut rounds = 0;
        while let Next::Wait(_) = patience.refused(Duration::ZERO, LONGEST) {
            patience.progress();
            rounds += 1;
        }
        assert_eq!(rounds, ROUNDS_MAX);
    }
}
