//! Every fixed limit of the ways in and out, with what happens when it is hit.

/// Rows of a batch that COPY FROM hands on. More rows: another batch.
pub const COPY_BATCH_ROWS: usize = 8192;

/// Rows of a batch of a Parquet file that says how many bytes they have: as many as a write to a region takes.
pub const COPY_WHOLE_ROWS: usize = crate::query::limits::WRITE_ROWS_MAX;

/// Bytes of these: a write to a region takes a little more.
pub const COPY_WHOLE_BYTES: u64 = crate::query::limits::WRITE_BYTES_MAX as u64 / 8 * 7;

/// Rows of a batch of a Parquet file, however large: one row group of few such rows is no reason to read all others so.
pub const COPY_ROWS_MIN: usize = 64;

/// Bytes of CSV text in a batch that COPY FROM hands on. More: another batch.
pub const COPY_BATCH_BYTES: usize = 32 << 20;

/// Bytes of one CSV record, quotes included. Longer: an error, because a quote is probably not closed.
pub const CSV_RECORD_BYTES_MAX: u64 = 16 << 20;

/// Bytes of the buffer between a CSV file and its parser.
pub const CSV_BUFFER_BYTES: usize = 256 << 10;

/// Rows of a text table. More: the table ends there and says so; CSV and Arrow have no such limit.
pub const TABLE_ROWS_MAX: usize = 10_000;

/// Characters of a cell in a text table. Longer: cut, with an ellipsis.
pub const TABLE_CELL_CHARS_MAX: usize = 1_000;

/// Bytes of SQL that a message quotes. Longer: cut.
pub const SQL_QUOTE_BYTES_MAX: usize = 200;

/// Lines of the shell's history. More: the oldest go.
pub const HISTORY_LINES_MAX: usize = 10_000;

/// Bytes of an answer that the shell holds as text to show an error. Longer: cut.
pub const ERROR_BODY_BYTES_MAX: u64 = 1 << 20;

/// Bytes of the body of a request to `/admin`. More: refused with 413.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;

/// Bytes of an answer of `/admin` that a command reads. More: an error.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Procedures of one answer of `/admin/procedures`. More: in the next one, after the last id of this.
pub const PROCEDURES_PAGE: usize = 1000;
