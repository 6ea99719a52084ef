//! One attempt to fill a slot, as a pure state machine over the store's answers.
//!
//! ```text
//!   Put ──created──▶ Ours
//!    │ ▲
//!    │ └────missing (same bytes, same slot)────┐
//!    └─anything else──▶ Read ──same bytes──▶ Ours
//!                         ├──other bytes──▶ Theirs
//!                         ├──missing──▶ Put (until tries run out ──▶ Unknown)
//!                         └──unreadable──▶ Read again (until tries run out ──▶ Unknown)
//! ```
//!
//! A store retries on its own and can answer "exists" for our own bytes, for another writer's, or for nothing
//! at all; so no answer but a clean success is believed without reading the slot back.

use bytes::Bytes;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the slot with our bytes.
    Put,
    /// Read the slot.
    Read,
    /// The slot holds our bytes.
    Ours,
    /// The slot holds these, of another writer.
    Theirs(Bytes),
    /// It is not known what the slot holds or will hold.
    Unknown,
}

/// What the store said to a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutAnswer {
    /// Created, by this very request.
    Created,
    /// Anything else: exists, conflict, timeout, lost connection.
    Unclear,
}

/// What the store said to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadAnswer {
    /// The slot's bytes.
    Found(Bytes),
    /// There is no such object.
    Missing,
    /// Anything else.
    Failed,
}

/// One attempt to fill a slot with `bytes`.
#[derive(Debug)]
pub(super) struct Attempt {
    bytes: Bytes,
    tries_left: u32,
}

impl Attempt {
    /// An attempt that makes at most `tries` requests beyond the first; it starts with a [`Step::Put`].
    pub(super) fn new(bytes: Bytes, tries: u32) -> Self {
        Self { bytes, tries_left: tries }
    }

    /// The bytes to put, the same each time.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What to do after a create was answered.
    pub(super) fn on_put(&mut self, answer: PutAnswer) -> Step {
        match answer {
            PutAnswer::Created => Step::Ours,
            PutAnswer::Unclear => self.spend(Step::Read),
        }
    }

    /// What to do after a read was answered.
    pub(super) fn on_read(&mut self, answer: ReadAnswer) -> Step {
        match answer {
            ReadAnswer::Found(found) if found == self.bytes => Step::Ours,
            ReadAnswer::Found(found) => Step::Theirs(found),
            ReadAnswer::Missing => self.spend(Step::Put),
            ReadAnswer::Failed => self.spend(Step::Read),
        }
    }

    fn spend(&mut self, step: Step) -> Step {
        if self.tries_left == 0 {
            return Step::Unknown;
        }
        self.tries_left -= 1;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Bytes = Bytes::from_static(b"ours");
    const OTHER: Bytes = Bytes::from_static(b"other");

    #[test]
    fn only_a_clean_success_is_believed() {
        assert_eq!(Attempt::new(OURS, 3).on_put(PutAnswer::Created), Step::Ours);
        assert_eq!(Attempt::new(OURS, 3).on_put(PutAnswer::Unclear), Step::Read);
    }

    #[test]
    fn our_own_bytes_behind_an_unclear_answer_are_a_commit() {
        assert_eq!(Attempt::new(OURS, 3).on_read(ReadAnswer::Found(OURS)), Step::Ours);
    }

    #[test]
    fn other_bytes_are_a_conflict() {
        assert_eq!(Attempt::new(OURS, 3).on_read(ReadAnswer::Found(OTHER)), Step::Theirs(OTHER));
    }

    #[test]
    fn nothing_behind_an_unclear_answer_puts_the_same_bytes_again() {
        let mut attempt = Attempt::new(OURS, 3);
        assert_eq!(attempt.on_put(PutAnswer::Unclear), Step::Read);
        assert_eq!(attempt.on_read(ReadAnswer::Missing), Step::Put);
        assert_eq!(attempt.bytes(), &OURS);
    }

    #[test]
    fn a_store_that_never_answers_ends_in_unknown() {
        let mut attempt = Attempt::new(OURS, 2);
        assert_eq!(attempt.on_put(PutAnswer::Unclear), Step::Read);
        assert_eq!(attempt.on_read(ReadAnswer::Failed), Step::Read);
        assert_eq!(attempt.on_read(ReadAnswer::Failed), Step::Unknown);
    }
}
