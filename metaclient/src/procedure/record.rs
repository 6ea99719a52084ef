//! What is kept of a procedure.

use std::fmt;

use bytes::Bytes;

use super::id::ProcedureId;
use super::locks::{Locks, Standing};
use crate::kv::Revision;

/// The state of a procedure, in a form of its kind's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The version of the form, counted by the kind.
    pub version: u32,
    /// The state in that form.
    pub bytes: Bytes,
}

/// How far a procedure has come, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What it does now.
    pub text: String,
    /// Thousandths of the whole that are done, at most 1000.
    pub permille: u16,
}

impl Progress {
    /// `done` of `total` parts.
    #[must_use]
    pub fn of(text: impl Into<String>, done: u64, total: u64) -> Self {
        let permille = done.min(total).saturating_mul(1000).checked_div(total).unwrap_or(0);
        Self { text: text.into(), permille: u16::try_from(permille).unwrap_or(1000) }
    }
}

/// Which way a procedure goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards its end.
    Forward,
    /// Undoing what it did.
    Back,
}

/// What a blocked procedure waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocked {
    /// A step failed for good, where neither going on nor going back is possible. Somebody has to act, and then
    /// to say `retry`.
    Failed,
    /// The program cannot read the procedure's kind or state. The first runner that can goes on.
    Unreadable,
}

/// Where a procedure stands; the picture is in the module of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waits for its locks.
    Queued,
    /// Does its steps, and holds its locks.
    Running,
    /// Undoes its steps, and holds its locks.
    RollingBack,
    /// Cannot go on by itself, and holds its locks.
    Blocked {
        /// Which way it went.
        direction: Direction,
        /// What it waits for.
        on: Blocked,
    },
    /// Is over: it did all it should.
    Done,
    /// Is over: it failed, and nothing of it is left.
    Failed,
    /// Is over: it was cancelled, and nothing of it is left.
    Cancelled,
}

impl Phase {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Whether it cannot go on by itself.
    #[must_use]
    pub fn is_blocked(self) -> bool {
        matches!(self, Self::Blocked { .. })
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_settled(self) -> bool {
        self.is_over() || matches!(self, Self::Blocked { on: Blocked::Failed, .. })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::RollingBack => "rolling back",
            Self::Blocked { .. } => "blocked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A procedure as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: ProcedureId,
    /// Its kind, by which a loader finds its code.
    pub kind: String,
    /// The state that it was submitted with.
    pub input: State,
    /// The state that the next step, or the step that is under way, starts from.
    pub state: State,
    /// The locks that it needs.
    pub locks: Locks,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it can only go forward.
    pub past_no_return: bool,
    /// Whether it is to be undone because somebody asked for that.
    pub cancel_requested: bool,
    /// Steps whose result is stored, those back included.
    pub steps: u64,
    /// Failed attempts of the step that is under way.
    pub attempts: u32,
    /// Why the last attempt failed, or why the procedure did.
    pub error: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// What it answered, when it is done.
    pub output: Option<String>,
    /// The runner that wrote the record last, or 0.
    pub epoch: u64,
    /// How often the record was written.
    pub writes: u64,
    /// Its place in the queue is not before this revision: set when it is queued again.
    pub queued_after: Revision,
    /// The blocked procedure that it is to end, and whose locks it takes over.
    pub in_place_of: Option<ProcedureId>,
    /// When it was submitted, in milliseconds since 1970; for people only.
    pub submitted_unix_ms: u64,
    /// When the record was written, in milliseconds since 1970; for people only.
    pub written_unix_ms: u64,
}

impl Record {
    /// What it has to do with its locks.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.phase {
            Phase::Queued => Standing::Waits,
            Phase::Running | Phase::RollingBack | Phase::Blocked { .. } => Standing::Holds,
            Phase::Done | Phase::Failed | Phase::Cancelled => Standing::Over,
        }
    }

    /// Its place in the queue, given when its key was created.
    #[must_use]
    pub fn ticket(&self, created: Revision) -> Revision {
        created.max(self.queued_after)
    }
}
