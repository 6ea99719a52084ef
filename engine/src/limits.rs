//! Every limit of this crate, with what happens when it is hit.

/// Limits of the write-ahead log.
pub mod wal {
    /// Smallest size of a segment file. Less: the log refuses to open.
    pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;
    /// Largest size of a segment file; offsets in it are kept in 32 bits. More: the log refuses to open.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
    /// Size of a segment file when nothing else is asked for.
    pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
    /// Bytes of entries that wait to be written. More: `submit` waits.
    pub const QUEUE_BYTES_MAX: u32 = 64 << 20;
    /// Entries that wait to be written. More: `submit` waits.
    pub const QUEUE_ENTRIES_MAX: u32 = 16 << 10;
    /// Payload bytes of one frame, unless a single entry is larger. More: the rest goes into the next frame.
    pub const FRAME_BYTES_MAX: usize = 16 << 20;
    /// Capacity that the write buffer keeps between frames. More: it is given back.
    pub const BUFFER_BYTES_KEPT: usize = 32 << 20;
    /// Released segment files that are kept for reuse. More: they are deleted.
    pub const SPARE_SEGMENTS_MAX: usize = 4;
    /// Bytes of one batch of entries read by a replay, unless a single entry is larger. More: the next batch.
    pub const REPLAY_BATCH_BYTES: usize = 4 << 20;
    /// Entries of one batch read by a replay. More: the next batch.
    pub const REPLAY_BATCH_ENTRIES: usize = 4096;
    /// Bytes read at once while segments are scanned.
    pub const SCAN_WINDOW_BYTES: usize = 1 << 20;
    /// Unreadable stretches that the identity file remembers one by one. More: the oldest become one.
    pub const LOST_STRETCHES_MAX: usize = 64;
    /// Bytes of the identity file. More: it counts as damaged.
    pub const META_BYTES_MAX: u64 = 1 << 20;
}

/// How long a write waits for memtables to be flushed. Longer: [`Error::Overloaded`](crate::error::Error::Overloaded).
/// Tests of this crate wait less.
pub const STALL_MAX: std::time::Duration = std::time::Duration::from_secs(if cfg!(test) { 4 } else { 30 });

/// Times that a compaction starts over because another commit came between, before it gives up its turn.
pub const COMPACTION_OVERTAKEN_MAX: usize = 16;

/// Pause after a flush that failed, doubling from the least to the most.
pub const FLUSH_BACKOFF_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// See [`FLUSH_BACKOFF_MIN`].
pub const FLUSH_BACKOFF_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Longest pause between two attempts to open a region that failed to open for a reason that may pass.
pub const REOPEN_BACKOFF_MAX: std::time::Duration = std::time::Duration::from_secs(60);
