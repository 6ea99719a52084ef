//! Tables that the catalog may still list and that no statement may touch any more.
//!
//! Invariants:
//! - A table is listed here before the first of its regions is closed or dropped, so that whoever finds a region
//!   emptied finds the reason here.
//! - Table ids are not reused: an entry is never about another table. An entry costs a few bytes and stays until
//!   the process ends.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tessera_manifest::id::TableId;

use super::Table;
use crate::error::{Code, ServerError};

/// Why a table is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is dropped.
    Dropped,
    /// Its drop is decided, or may be, and is not finished; what happened.
    Undecided(String),
    /// Its drop marker cannot be read, so that nobody knows whether it is dropped; the error, which names the marker.
    Marker(String),
}

/// The closed tables of a process; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    tables: Arc<RwLock<BTreeMap<TableId, Why>>>,
}

impl Closed {
    /// Closes a table; a later reason replaces an earlier one.
    pub fn close(&self, table: TableId, why: Why) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(table, why);
    }

    /// Whether a table is closed.
    #[must_use]
    pub fn contains(&self, table: TableId) -> bool {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).contains_key(&table)
    }

    /// That statements may touch a table.
    ///
    /// # Errors
    /// Why they may not.
    pub fn check(&self, table: &Table) -> Result<(), ServerError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let Some(why) = tables.get(&table.info.id) else { return Ok(()) };
        let shown = table.shown();
        Err(match why {
            Why::Dropped => ServerError::new(Code::TableNotFound, format!("table {shown} was dropped")),
            Why::Undecided(error) => ServerError::new(Code::RegionNotReady, format!("table {shown} is closed: {error}")),
            Why::Marker(error) => {
                let text = format!(
                    "table {shown} is closed because it is not known whether it is dropped: {error}; \
                     restore the object and restart, or DROP TABLE again"
                );
                ServerError::new(Code::StorageUnavailable, text)
            }
        })
    }
}
