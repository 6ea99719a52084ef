//! Every limit of this crate, with what happens when it is hit.

/// Columns of a table. More: [`SchemaError::TooManyColumns`](crate::schema::SchemaError::TooManyColumns).
pub const COLUMNS_MAX: usize = 4096;

/// Bytes of a column, table or database name. More: an error that names it.
pub const NAME_BYTES_MAX: usize = 256;

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
