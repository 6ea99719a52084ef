//! Finding and removing objects that nothing refers to and nothing can refer to.
//!
//! What there is: the sweep of files that were never committed (a crashed flush), in the folder of the region that
//! wrote them. The collection of removed files, which needs the global count of references, is not there yet, so
//! nothing that a manifest ever listed is touched.
//!
//! The crate knows nothing of WALs, rows or the catalog.

pub mod sweep;
