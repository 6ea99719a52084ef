//! The truth about a region: ids, schema, partition rules, the slot log and the manifest on top of it.
//!
//! The crate knows nothing of WALs, memtables, Parquet rows or SQL. What must be right (values and their
//! order, rules, records, region state, commit outcomes) is pure: no I/O, no clock, no randomness.

pub mod action;
pub mod body;
pub mod checkpoint;
pub mod env;
pub mod error;
pub mod file;
pub mod format;
pub mod id;
pub mod limits;
pub mod log;
pub mod meta;
pub mod metered;
pub mod paths;
pub mod probe;
pub mod repartition;
pub mod rule;
pub mod schema;
pub mod set_hash;
pub mod slot;
pub mod state;
pub mod store;
pub mod txn;
pub mod value;
pub mod verify;
pub mod wal;

mod by_address;

#[cfg(test)]
mod testing;
