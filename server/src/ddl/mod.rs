//! Creating, altering and dropping databases and tables.
//!
//! ```text
//! CREATE TABLE   check ─► allocate id ─► regions ─► one catalog transaction: the table is there
//! ALTER TABLE    check ─► regions ─► one catalog transaction: statements see it
//! ALTER TABLE    check ─► regions ─► one catalog transaction: statements see it
//! DROP TABLE     drop marker: the table is gone ─► one catalog transaction ─► regions
//! ```
//!
//! Invariants:
//! - All are procedures ([`procedure`]): a crash, or a store that does not answer, leaves nothing half done for long.
//! - The drop marker decides, also for who has only the store ([`recover`]).
//! - Regions that are ahead of the catalog, as before there were procedures, are settled at the start ([`alter::settle`]).
//! - A name belongs to one table: of two that create it at once, one gets an error and its regions are dropped.

pub mod admin;
pub mod alter;
pub mod create;
pub mod drop;
pub mod marker;
pub mod options;
pub mod procedure;
pub mod recover;
pub mod truncate;
pub mod ttl;
pub mod turns;

pub use procedure::{Procedures, Tools};

/// What DDL works with; a cheap handle.
#[derive(Clone)]
pub struct Ddl {
    /// What the steps of procedures work on.
    pub tools: Tools,
    /// The procedures of the cluster.
    pub procedures: Procedures,
}

#[cfg(test)]
mod tests;
