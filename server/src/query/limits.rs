//! Every limit of planning and executing, with what happens when it is hit.

use std::time::Duration;

/// Bytes of rows that a statement may hold back until all of them are checked. Beyond it writing starts, and an
/// error says how many rows were applied.
pub const CHECKED_BYTES_MAX: usize = 256 << 20;

/// Bytes of rows that are written at once after that.
pub const STREAMED_BYTES: usize = 32 << 20;

/// Rows of one write to a region; more become several writes.
pub const WRITE_ROWS_MAX: usize = 65_536;

/// Bytes of one write to a region, unless a single row is larger; more become several writes.
pub const WRITE_BYTES_MAX: usize = 8 << 20;

/// What part of a log entry the rows of one write may fill: their encoding may be larger than they are in memory.
pub const ENTRY_SHARE: u64 = 4;

/// How long rows wait for a region that takes none because the table is repartitioned. Longer: an error that says that
/// trying again is safe.
pub const REPARTITION_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a statement waits for a region that is not open, or that another node took over. Longer: the error of the
/// region.
pub const REGION_WAIT_MAX: Duration = Duration::from_secs(3);

/// Bytes of rows that wait for regions, of all statements together. More: the next statement is refused at once.
pub const WAITING_BYTES_MAX: usize = 512 << 20;

/// Memory of all running queries together; sorts, joins and aggregations spill to disk or fail beyond it.
pub const QUERY_BYTES_MAX: usize = 2 << 30;

/// Bytes of batches between the thread that reads a file and the writer, as much as is written at once and a larger batch;
/// the thread waits when it has read so many.
pub const COPY_AHEAD_BYTES: u32 = 64 << 20;

/// Batches between them.
pub const COPY_AHEAD_BATCHES: usize = 64;

/// Rows after which a COPY logs its progress.
pub const COPY_PROGRESS_ROWS: u64 = 1_000_000;

/// Regions and tables that are created, dropped or looked up at the same time.
pub const PARALLELISM: usize = 16;

/// Rules of a table, so that its routes fit in one metadata transaction. More: an error that says so.
pub const PARTITIONS_MAX: usize = (tessera_metaclient::limits::TXN_OPS_MAX - 3) / 2;

/// Bytes of a result that is not the last of its request, which is held in memory. More: an error that says so.
pub const SETTLED_BYTES_MAX: usize = 256 << 20;

/// Rows, about, up to which a statement that reads no more is planned for one partition; few in tests, so that they meet both.
pub const FEW_ROWS: u64 = if cfg!(test) { 4 } else { 32 * 1024 };

/// Regions of a table up to which it is looked up how many rows a statement reads.
pub const FEW_REGIONS: usize = 64;

/// Bytes of each partition of a scan in order that are read ahead of the merge above it: some batches of usual rows.
pub const SORTED_AHEAD_BYTES: usize = 4 << 20;
