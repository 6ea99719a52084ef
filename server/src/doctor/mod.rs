//! Whether catalog and object store fit together, and what to do if they do not.
//!
//! ```text
//!   catalog, store ─► survey (what there is) ─► check (pure) ─► report: findings, each with what to do
//! ```
//!
//! Invariants:
//! - Looking changes nothing. What is mended is only ever the next table id, and only upward.
//! - The server makes the same survey at its start as `tessera doctor` does.

mod check;
mod survey;
#[cfg(test)]
mod tests;

pub use check::{Finding, Found, Report, Severity, check, how_to_raise};
pub use survey::{Folder, Survey, folders, survey};
