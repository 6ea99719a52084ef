//! Creating, altering and dropping databases and tables.
//!
//! ```text
//! CREATE TABLE   check ─► allocate id ─► regions ─► one catalog transaction: the table is there
//! ALTER TABLE    check ─► regions ─► one catalog transaction: statements see it
//! DROP TABLE     drop marker: the table is gone ─► one catalog transaction ─► regions
//! ```
//!
//! Invariants:
//! - A crash before the transaction of a CREATE leaves regions that nothing names; they are reported at start.
//! - The drop marker decides. A crash after it is finished at the next start ([`recover`]).
//! - A crash between the regions and the transaction of an ALTER is finished at the next start ([`alter::settle`]).
//! - A name belongs to one table: of two that create it at once, one gets an error and its regions are dropped.

pub mod admin;
pub mod alter;
pub mod create;
pub mod drop;
pub mod marker;
pub mod options;
pub mod recover;
pub mod truncate;
pub mod ttl;

#[cfg(test)]
mod tests;
