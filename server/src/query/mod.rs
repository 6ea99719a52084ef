//! Planning and executing: DataFusion on top of regions.
//!
//! Invariants:
//! - What a region is asked to skip is a superset test: every row that SQL accepts satisfies it ([`filter`]);
//!   DataFusion filters again, so a wide test costs time, never rows.
//! - Nothing of a statement is written before all of it was checked, up to the bound of [`mod@write`]; beyond it
//!   an error says how many rows were applied.
//! - A statement reads one set of regions of each table: it is planned anew when they change before its first row ([`read`]).
//! - An error of a region keeps its class on its way through DataFusion ([`error`]).

mod bucket;
pub mod copy;
pub mod dml;
pub mod error;
mod explain;
pub mod few_rows;
pub mod filter;
pub mod finer_time;
pub mod fit;
pub mod limits;
pub mod partitions;
pub mod past;
pub(crate) mod plain;
pub mod read;
pub mod reduce_runs;
pub mod refusal;
pub mod rows;
pub mod rules;
pub mod scan;
pub mod session;
pub mod value;
pub mod write;
mod zoned;

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod rows_tests;
