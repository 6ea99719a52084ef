//! Every limit of this crate, with what happens when it is hit.

/// Columns of a table. More: [`SchemaError::TooManyColumns`](crate::schema::SchemaError::TooManyColumns).
pub const COLUMNS_MAX: usize = 4096;

/// Bytes of a column, table or database name. More: an error that names it.
pub const NAME_BYTES_MAX: usize = 256;

/// Slots read at the same time when a log is opened; more wait.
pub const PARALLEL_READS_MAX: usize = 32;

/// Requests beyond the first for one slot, before its outcome counts as unknown.
pub const SLOT_TRIES_MAX: u32 = 8;

/// Pause before the same bytes are put again, doubling from the least to the most.
/// Tests of this crate do not wait.
pub const SLOT_BACKOFF_MIN: std::time::Duration = std::time::Duration::from_millis(if cfg!(test) { 0 } else { 20 });
/// See [`SLOT_BACKOFF_MIN`].
pub const SLOT_BACKOFF_MAX: std::time::Duration = std::time::Duration::from_millis(if cfg!(test) { 0 } else { 1000 });

/// Times that an opener starts over, before [`Error::Contended`](crate::error::Error::Contended).
pub const TAKE_OVER_ROUNDS_MAX: u32 = 16;

/// Times that a reader starts over because retention or another opener got in between, before
/// [`Error::MissingRecord`](crate::error::Error::MissingRecord).
pub const LOAD_ROUNDS_MAX: u32 = 8;

/// Records of a busy writer that an opener chases one by one, before it seals ahead of the writer.
pub const SEAL_CHASE_MAX: u32 = 8;

/// Slots by which the first seal is put ahead of a busy writer; each further one goes four times as far.
pub const SEAL_AHEAD_MIN: u32 = 32;

/// Seals that are put ahead of a busy writer, before [`Error::Contended`](crate::error::Error::Contended).
pub const SEAL_AHEAD_ROUNDS_MAX: u32 = 4;

/// Polls in a row that meet nothing, of which a follower backs the last one with a LIST.
pub const FOLLOWER_POLLS_PER_LIST: u32 = 32;

/// Bytes of the text of one rule. More: [`ParseErrorKind::TooLong`](crate::rule::ParseErrorKind::TooLong).
pub const RULE_TEXT_BYTES_MAX: usize = 4 << 20;

/// Levels of nesting of a rule, so that its JSON form stays far within the 128 levels that decoders take.
/// More: an error that says so.
pub const RULE_DEPTH_MAX: usize = 32;

/// Operators and literals of one rule. More: an error that says so.
pub const RULE_NODES_MAX: usize = 1 << 17;

/// Steps that one question about rules may take, each some tens of nanoseconds. More:
/// [`TooComplex`](crate::rule::TooComplex).
pub const RULE_WORK_MAX: u64 = 20_000_000;

/// Times that the client of a store repeats a request on its own, exclusive creates excepted (never: an answer to a
/// repeated create says nothing of the first). More: the store's error.
pub const STORE_RETRIES_MAX: usize = 8;

/// Time from the first try of a request after which it is not repeated. More: the store's error.
pub const STORE_RETRY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Objects that are handed to the client of a store at once to be deleted: whole requests of 256 (Azure) and of 1,000 (S3),
/// of which it sends 20 side by side. More are deleted after these.
pub const DELETES_AT_ONCE_MAX: usize = 32_000;

/// Races of the capability probe; what is asked for beyond is not run.
pub const PROBE_RACES_MAX: u32 = 200;

/// Writers in one race of the capability probe, all at the same time; what is asked for beyond is not run.
pub const PROBE_WRITERS_MAX: u32 = 64;

/// Objects that the capability probe writes to list them; what is asked for beyond is not written.
pub const PROBE_LISTED_MAX: u32 = 4096;

/// Requests of the capability probe under way at the same time, races excepted.
pub const PROBE_PARALLEL_MAX: usize = 32;

/// Bytes of the name of a snapshot. More: [`Violation::PinName`](crate::state::Violation::PinName).
pub const PIN_NAME_BYTES_MAX: usize = 128;

/// References in one segment of a checkpoint. More: the rest goes into the next one.
pub const SEGMENT_ROWS_MAX: usize = if cfg!(test) { 4 } else { 8192 };

/// References up to which a segment is written together with a neighbour that is written anyway.
pub const SEGMENT_ROWS_SMALL: u64 = if cfg!(test) { 2 } else { 1024 };

/// Records that an opener would replay, from which on a checkpoint is due.
pub const CHECKPOINT_RECORDS: usize = 256;

/// Bytes that an opener would replay, from which on a checkpoint is due.
pub const CHECKPOINT_BYTES: u64 = 1 << 20;

/// For how long an old version of a region can be read, unless something else is asked for.
pub const HISTORY: std::time::Duration = std::time::Duration::from_secs(3600);
