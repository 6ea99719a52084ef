//! The truth about a region: ids, schema, partition rules, the slot log and the manifest on top of it.
//!
//! The crate knows nothing of WALs, memtables, Parquet rows or SQL. What must be right (values and their
//! order, rules, records, region state, commit outcomes) is pure: no I/O, no clock, no randomness.

pub mod id;
pub mod value;
pub mod schema;
pub mod rule;
pub mod wal;
pub mod file;
pub mod meta;
pub mod set_hash;
pub mod action;
pub mod state;
pub mod format;
pub mod body;
pub mod paths;
pub mod slot;
pub mod log;
pub mod error;
pub mod limits;
pub mod env;

#[cfg(test)]
mod testing;
