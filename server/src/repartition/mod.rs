//! Repartition: statements on one side, the regions of this process on the other; what is between is
//! [`tessera_metaclient::repartition`].
//!
//! ```text
//!  ALTER TABLE ... SPLIT ─► request ─► procedure ─► port ─► engine
//!  EXPLAIN ALTER TABLE   ─► request ─► draft ───────┘          │ meets a staged region whose coordinator is gone
//!  ADMIN rollback_...    ─► inverse of a record                └► read set of the catalog
//! ```
//!
//! Invariants:
//! - A statement submits one procedure, which is durable then, and waits for it or not; nothing rests on the statement.
//! - Rules in statements name regions by their meaning.

pub mod answer;
pub mod explain;
pub mod port;
pub mod read_set;
pub mod request;
pub mod statement;

pub use port::Regions;
pub use read_set::CatalogReadSet;
pub use statement::{cancel, retry, rollback, run};
