//! The slot log: a row of immutable objects `(epoch, seq)` on an object store, with one writer per epoch.
//!
//! ```text
//!   epoch 1:  Open  rec  rec  rec  Seal
//!   epoch 2:                       Open  rec  rec ...        a commit creates the writer's next slot
//! ```
//!
//! Invariants:
//! - A commit is one exclusive create of the writer's next slot. No LIST and no pointer object takes part.
//! - A writer never skips a slot, and after any conflict it never writes again.
//! - A new writer ends the old epoch by creating a *seal* in its next free slot. The old writer must use that
//!   very slot for its next commit, so it meets the seal and is fenced, without clocks or leases.
//! - The first seal in slot order ends an epoch. Beyond it there may be more seals, and gaps.
//! - Seals and Opens are never deleted while the log lives, so that a writer that was paused for any time
//!   still meets them.
//! - On anything but a clean success a writer reads the slot back and compares all bytes. Only what is known
//!   to be on the store is acknowledged.
//!
//! Crash order: a record is either wholly in its slot or not there. A crash between the create and its answer
//! leaves a record that nobody acknowledged; the next opener replays it like any other.
//!
//! Source: DESIGN section 3; the same protocol carries the manifest and the write-ahead log on an object store.

mod attempt;
mod follower;
mod guard;
mod history;
mod once;
mod record;
mod store;
mod takeover;
mod writer;

pub use follower::Follower;
pub use history::{Base, CheckpointSource, Loaded, NoCheckpoints, load, load_until};
pub(crate) use once::{Once, create_once};
pub use record::{DataSlot, DecodeError, Header, Kind, Record};
pub(crate) use record::{NO_CRC, unwrap, wrap};
pub use store::{Freed, Layout, Listing, SlotStore};
pub use takeover::{OpenDraft, Opened, take_over};
pub use writer::{Outcome, Writer};

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
