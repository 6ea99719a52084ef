//! Every limit of this crate, with what happens when it is hit.

use std::time::Duration;

/// Compares of a transaction, and operations of each of its branches.
/// More: [`KvError::TooManyOps`](crate::kv::KvError::TooManyOps).
pub const TXN_OPS_MAX: usize = 4096;

/// Bytes of all keys and values that a transaction names, both branches together.
/// More: [`KvError::TxnTooLarge`](crate::kv::KvError::TxnTooLarge).
pub const TXN_BYTES_MAX: usize = 16 << 20;

/// Bytes of one value. More: [`KvError::ValueTooLarge`](crate::kv::KvError::ValueTooLarge).
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Bytes of one key. More: [`KvError::KeyTooLarge`](crate::kv::KvError::KeyTooLarge).
pub const KEY_BYTES_MAX: usize = 2048;

/// Entries of one answer to a range read. More: the answer says that there are more, and the caller asks
/// for the next page.
pub const RANGE_ENTRIES_MAX: usize = 10_000;

/// Changes that are kept for watchers. Older ones: the watcher gets
/// [`KvError::Compacted`](crate::kv::KvError::Compacted) and reads again.
pub const WATCH_CHANGES_MAX: usize = 16_384;

/// Bytes of keys and values that are kept for watchers. Older ones: as with [`WATCH_CHANGES_MAX`].
pub const WATCH_BYTES_MAX: usize = 16 << 20;

/// Leases of one embedded store. More: [`KvError::TooManyLeases`](crate::kv::KvError::TooManyLeases).
pub const LEASES_MAX: usize = 65_536;

/// Shortest time to live of a lease in an embedded store; less is taken as this.
pub const LEASE_TTL_MIN: Duration = Duration::from_millis(1);

/// Longest time to live of a lease. More: [`KvError::TtlTooLong`](crate::kv::KvError::TtlTooLong).
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Attempts of an optimistic read-then-transact loop.
/// More: [`CatalogError::Contended`](crate::catalog::CatalogError::Contended).
pub const ATTEMPTS_MAX: usize = 64;

/// Regions of a table, so that its routes fit in one range answer.
/// More: [`CatalogError::TooManyRegions`](crate::catalog::CatalogError::TooManyRegions).
pub const REGIONS_MAX: usize = 8192;

/// Bytes of the id of a procedure.
/// More: [`ParseProcedureIdError`](crate::procedure::ParseProcedureIdError).
pub const PROCEDURE_ID_BYTES_MAX: usize = 64;

/// Bytes of the error that is kept of a procedure. Longer ones are cut.
pub const PROCEDURE_ERROR_BYTES_MAX: usize = 4096;

/// Bytes by which the record of a procedure stays below the largest value, so that an error, a progress text and
/// counters always fit. More: [`ProcedureError::TooLarge`](crate::procedure::ProcedureError::TooLarge).
pub const PROCEDURE_SLACK_BYTES: usize = 2 * PROCEDURE_ERROR_BYTES_MAX;

/// Steps of procedures that a runner has under way at once. Others wait.
pub const PROCEDURE_STEPS_PARALLEL_MAX: usize = 16;

/// Procedures that are over and still listed. Older ones are dropped.
pub const PROCEDURE_HISTORY_MAX: usize = 1000;

/// Procedures whose history is dropped in one transaction. More: in the next one.
pub const PROCEDURE_PRUNE_MAX: usize = 64;

/// How often a quiet mirror proves that it has missed nothing.
pub const MIRROR_PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// How long a mirror waits for a revision before it reads its range again, on a backend that gives no marks.
pub const MIRROR_SNAPSHOT_GRACE: Duration = Duration::from_millis(100);

/// Regions of a repartition on which one step works at once. Others wait; only stages go all at once.
pub const REPARTITION_PARALLEL_MAX: usize = 16;

/// How long writes are stopped at most for sources to stage. Longer: the group is aborted.
pub const REPARTITION_STAGE_MAX: Duration = Duration::from_secs(10);

/// Least and most bytes of the texts that are kept of a group, one of why it waits or failed and one of what did not go
/// well. Longer ones are cut.
pub const REPARTITION_TEXT_BYTES: (usize, usize) = (100, 2048);

/// Bytes of the texts of all groups of a repartition, while each has its least.
pub const REPARTITION_TEXTS_BYTES: usize = 64 << 10;

/// Attempts in a row to stage a source, and to decide, while writes are stopped. More failures to stage: the group is
/// aborted. More failures to decide: the step is tried again later.
pub const REPARTITION_STAGES_MAX: usize = 3;

/// Attempts to release a source that was prepared in vain. More failures: its node's next start does it.
pub const REPARTITION_RELEASES_MAX: usize = 3;

/// Attempts at a step of a group before the fence. More failures: the group is undone.
pub const REPARTITION_ATTEMPTS_MAX: u32 = 4;

/// Remaps in a row for targets that change their epochs. More: the step is tried again later.
pub const REPARTITION_REMAPS_MAX: usize = 4;

/// How often a long step of a repartition tells how far it is, and learns that it was cancelled.
pub const REPARTITION_REPORT_INTERVAL: Duration = Duration::from_secs(2);
