//! Checkpoints: the state of a region at one version, so that replay need not begin at the first record.
//!
//! ```text
//!   {epoch}-{seq}.checkpoint     root: image of the state, and the list of segments by first key
//!   seg/{epoch}-{ulid}.parquet   segment: a row per reference, in order of (file key, kind)
//! ```
//!
//! Invariants:
//! - Segments are immutable and shared: a checkpoint writes anew only those in whose range of keys something changed
//!   since the checkpoint before it, and names the others again.
//! - A root is written after its segments. It carries the checksum of each, and its own.
//! - A checkpoint stands for a record that is on the store, never for a seal; it says nothing that replay of the
//!   records would not say.

mod build;
mod dirty;
mod plan;
mod root;
mod segment;
mod source;

pub use build::{Built, Job};
pub use dirty::{Dirty, Touched, touched};
pub use plan::{Piece, plan};
pub use root::{Root, RootError, SegmentEntry};
pub use segment::{SegmentDecoder, SegmentError, encode_segment};
pub use source::{Loaded, Source, read_root, read_segments, read_state};
