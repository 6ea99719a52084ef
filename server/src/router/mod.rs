//! Which region takes a row, and what becomes of it when the regions change under its feet.
//!
//! ```text
//!  rows ─► cut by the write set ─► a lane for each region ─► written ─► done
//!            ▲                          │ refused: the route is old, or the region takes nothing now
//!            └── routes read again ◄── wait, rows held back (bounded)
//! ```
//!
//! Invariants:
//! - What is written is stamped with the generation and the rule version of the route by which it was cut; a region that
//!   has another pair refuses it before anything is appended. So only rows that were surely not written are sent again.
//! - Rows of one key are sent in their order: they have one lane under each set of rules, a lane sends one batch at a
//!   time, and what a lane has left is cut again in its order.
//! - What is held back is bounded, in time ([`patience`]) and in bytes ([`waiting`]); beyond it the statement fails with
//!   an error that says that trying again is safe.
//! - No clock decides what is written: time only says when to give up.
//!
//! [`lanes`] and [`patience`] are pure; [`routes`] reads the catalog and waits for it to change.

pub mod lanes;
pub mod patience;
pub mod routes;
pub mod waiting;

pub use lanes::{Lanes, Refused};
pub use patience::{Next, Patience};
pub use routes::{Decoded, RouteTable, Routes};
pub use waiting::Waiting;
