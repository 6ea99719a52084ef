//! The life of a procedure as a pure state machine: what comes next, and what each event makes of a record.
//!
//! Invariants:
//! - [`Record::after`] is the only way a stored record changes. It has no I/O, clock or randomness.
//! - Past the point of no return there is no way to [`Phase::RollingBack`], and the point is never taken back.
//! - A cancel that was accepted ends in a rollback: it is accepted only before the point of no return, and a
//!   record with an accepted cancel takes no result of a forward step.
//! - Locks are given up only by a transition to a phase that is over.
//! - Only a procedure that failed for good and is blocked can be ended by another one in its place; what is left of it is
//!   that one's to end.

use std::time::Duration;

use super::id::ProcedureId;
use super::record::{Blocked, Direction, Phase, Progress, Record, State};
use crate::kv::Revision;
use crate::limits::PROCEDURE_ERROR_BYTES_MAX;

/// What is to be done for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Grant its locks, when they are free.
    Grant,
    /// Do its next step in this direction.
    Step(Direction),
    /// Turn it back: somebody cancelled it.
    TurnBack,
    /// Nothing, until somebody acts.
    Wait,
    /// Nothing ever.
    Over,
}

/// What happened to a procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It got its locks.
    Granted,
    /// A step is done, and there is another.
    Stepped {
        /// The state to go on from.
        state: State,
        /// Whether there is no return from that state.
        past_no_return: bool,
        /// How far it is.
        progress: Option<Progress>,
    },
    /// The last step, forward or back, is done.
    Finished {
        /// What the procedure answers.
        output: Option<String>,
    },
    /// A step is under way and tells how far it is.
    Progressed {
        /// How far.
        progress: Progress,
    },
    /// A step failed.
    StepFailed {
        /// Why.
        error: String,
        /// Whether another attempt may succeed.
        retryable: bool,
        /// After how many attempts a forward step gives up, where it can go back.
        attempts_max: u32,
    },
    /// The runner saw that somebody had cancelled it.
    TurnedBack,
    /// No code of this program can read it.
    Unreadable {
        /// Why.
        error: String,
    },
    /// A runner can read it.
    Readable,
    /// Somebody wants it undone.
    Cancel,
    /// Somebody wants the next attempt at once, or the procedure again.
    Retry {
        /// The record's revision, behind which it queues again.
        now: Revision,
    },
    /// Another procedure takes its place, and its locks.
    Superseded {
        /// That one.
        by: ProcedureId,
    },
}

/// Why an event does not fit the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The procedure is over.
    #[error("it is over")]
    Over,
    /// There is no way back.
    #[error("it has passed the point of no return and can only go forward")]
    PastNoReturn,
    /// There is nothing to try again.
    #[error("it has not failed")]
    NotFailed,
    /// It goes on by itself, or could be read by another program.
    #[error("it is not blocked by a failure")]
    NotBlocked,
    /// The event cannot happen in that phase.
    #[error("that cannot happen in its phase")]
    Impossible,
}

impl Record {
    /// What is to be done.
    #[must_use]
    pub fn next(&self) -> Next {
        match self.phase {
            Phase::Queued => Next::Grant,
            Phase::Running if self.cancel_requested && !self.past_no_return => Next::TurnBack,
            Phase::Running => Next::Step(Direction::Forward),
            Phase::RollingBack => Next::Step(Direction::Back),
            Phase::Blocked { .. } => Next::Wait,
            Phase::Done | Phase::Failed | Phase::Cancelled => Next::Over,
        }
    }

    /// The record after `event`. Who writes it, when and how often is not touched.
    ///
    /// # Errors
    /// Why the event does not fit.
    pub fn after(&self, event: Event) -> Result<Self, Refused> {
        let mut record = self.clone();
        match event {
            Event::Granted if record.phase == Phase::Queued => record.phase = Phase::Running,
            Event::Granted => return Err(Refused::Impossible),
            Event::Stepped { state, past_no_return, progress } => record.step(state, past_no_return, progress)?,
            Event::Finished { output } => record.finish(output)?,
            Event::Progressed { progress } => match record.next() {
                Next::Step(_) => record.progress = progress,
                _ => return Err(Refused::Impossible),
            },
            Event::StepFailed { error, retryable, attempts_max } => record.fail(error, retryable, attempts_max)?,
            Event::TurnedBack => match record.next() {
                Next::TurnBack => record.turn_back(),
                _ => return Err(Refused::Impossible),
            },
            Event::Unreadable { error } => match record.next() {
                Next::Step(direction) => record.block(direction, Blocked::Unreadable, error),
                _ => return Err(Refused::Impossible),
            },
            Event::Readable => match record.phase {
                Phase::Blocked { direction, on: Blocked::Unreadable } => record.resume(direction),
                _ => return Err(Refused::Impossible),
            },
            Event::Cancel => record.cancel()?,
            Event::Retry { now } => record.retry(now)?,
            Event::Superseded { by } => record.supersede(&by)?,
        }
        Ok(record)
    }

    fn step(&mut self, state: State, past_no_return: bool, progress: Option<Progress>) -> Result<(), Refused> {
        match self.next() {
            Next::Step(Direction::Forward) => self.past_no_return |= past_no_return,
            Next::Step(Direction::Back) => {}
            _ => return Err(Refused::Impossible),
        }
        self.state = state;
        self.progress = progress.unwrap_or_else(|| self.progress.clone());
        self.steps = self.steps.saturating_add(1);
        self.attempts = 0;
        // While it rolls back, the error says why.
        if self.phase == Phase::Running {
            self.error = None;
        }
        Ok(())
    }

    fn finish(&mut self, output: Option<String>) -> Result<(), Refused> {
        match self.next() {
            Next::Step(Direction::Forward) => {
                self.phase = Phase::Done;
                self.error = None;
                self.output = output;
                self.progress.permille = 1000;
            }
            Next::Step(Direction::Back) if self.cancel_requested => self.phase = Phase::Cancelled,
            Next::Step(Direction::Back) => self.phase = Phase::Failed,
            _ => return Err(Refused::Impossible),
        }
        self.steps = self.steps.saturating_add(1);
        self.attempts = 0;
        Ok(())
    }

    fn fail(&mut self, error: String, retryable: bool, attempts_max: u32) -> Result<(), Refused> {
        let Next::Step(direction) = self.next() else { return Err(Refused::Impossible) };
        self.attempts = self.attempts.saturating_add(1);
        let can_return = direction == Direction::Forward && !self.past_no_return;
        if can_return && (!retryable || self.attempts >= attempts_max) {
            self.error = Some(bounded(error));
            self.turn_back();
        } else if retryable {
            self.error = Some(bounded(error));
        } else {
            self.block(direction, Blocked::Failed, error);
        }
        Ok(())
    }

    fn turn_back(&mut self) {
        self.phase = Phase::RollingBack;
        self.attempts = 0;
    }

    fn block(&mut self, direction: Direction, on: Blocked, error: String) {
        self.phase = Phase::Blocked { direction, on };
        self.error = Some(bounded(error));
    }

    fn resume(&mut self, direction: Direction) {
        self.attempts = 0;
        self.phase = match direction {
            Direction::Forward => Phase::Running,
            Direction::Back => Phase::RollingBack,
        };
    }

    fn cancel(&mut self) -> Result<(), Refused> {
        match self.phase {
            Phase::Queued => {
                self.cancel_requested = true;
                self.phase = Phase::Cancelled;
            }
            Phase::Running if self.past_no_return => return Err(Refused::PastNoReturn),
            Phase::Running => self.cancel_requested = true,
            // It is on its way back; that somebody wants that does not change why.
            Phase::RollingBack | Phase::Blocked { direction: Direction::Back, .. } => {}
            Phase::Blocked { direction: Direction::Forward, .. } if self.past_no_return => return Err(Refused::PastNoReturn),
            Phase::Blocked { direction: Direction::Forward, .. } => {
                self.cancel_requested = true;
                self.turn_back();
            }
            Phase::Done | Phase::Failed | Phase::Cancelled => return Err(Refused::Over),
        }
        Ok(())
    }

    fn supersede(&mut self, by: &ProcedureId) -> Result<(), Refused> {
        if !matches!(self.phase, Phase::Blocked { on: Blocked::Failed, .. }) {
            return Err(Refused::NotBlocked);
        }
        // Over for good: a retry is refused, since what it would go on with is the other's now.
        self.phase = Phase::Cancelled;
        let why = self.error.take().unwrap_or_default();
        self.error = Some(bounded(format!("procedure {by} took its place; it was blocked: {why}")));
        Ok(())
    }

    fn retry(&mut self, now: Revision) -> Result<(), Refused> {
        match self.phase {
            Phase::Blocked { direction, .. } => self.resume(direction),
            Phase::Running | Phase::RollingBack if self.attempts > 0 => self.attempts = 0,
            Phase::Failed => {
                self.phase = Phase::Queued;
                self.state = self.input.clone();
                self.progress = Progress::default();
                self.error = None;
                self.queued_after = now;
            }
            Phase::Queued | Phase::Running | Phase::RollingBack => return Err(Refused::NotFailed),
            Phase::Done | Phase::Cancelled => return Err(Refused::Over),
        }
        Ok(())
    }
}

/// An error text of a bounded size.
fn bounded(mut text: String) -> String {
    if text.len() > PROCEDURE_ERROR_BYTES_MAX {
        let end = (0..=PROCEDURE_ERROR_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// When to try a failed step again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts of a forward step before the procedure goes back. Where it cannot go back, and while it goes
    /// back, a step that may succeed is tried for ever.
    pub attempts_max: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Retry {
    /// What fits a step that takes well under a second.
    pub const DEFAULT: Self = Self { attempts_max: 8, first: Duration::from_millis(100), longest: Duration::from_secs(30) };

    /// The wait after `attempts` failures: between half of the doubled wait and all of it, as `random` says.
    #[must_use]
    pub fn wait(&self, attempts: u32, random: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = whole / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(random % span)
    }
}
