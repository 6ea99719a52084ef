//! Every limit of this crate, with what happens when it is hit.

/// Columns of a table. More: [`SchemaError::TooManyColumns`](crate::schema::SchemaError::TooManyColumns).
pub const COLUMNS_MAX: usize = 4096;

/// Bytes of a column, table or database name. More: an error that names it.
pub const NAME_BYTES_MAX: usize = 256;
