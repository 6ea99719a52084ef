//! The metadata of a cluster: a transactional key-value store, and on it the catalog of databases, tables,
//! routes and sequences, the procedures that change it, and what processes coordinate by.
//!
//! Invariants:
//! - The object store is the truth about data and rules. What is kept here is the index that finds it, and
//!   can be rebuilt from it.
//! - Every change is one transaction of [`kv`], with one semantics on every backend.
//! - Every value says which readers may read it ([`values`]); every key has one text form ([`keys`]).
//! - The crate knows nothing of regions' contents, WALs, files or SQL.

pub mod catalog;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod keys;
pub mod kv;
pub mod kv_tools;
pub mod layout;
pub mod limits;
pub mod mirror;
pub mod lock;
pub mod election;
pub mod node;
pub mod procedure;
pub mod repartition;
mod signal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod values;
