//! The catalog: databases, tables, routes, ids, on a [`KvBackend`].
//!
//! Invariants:
//! - Every verb that changes something is one transaction: after a crash it happened whole or not at all.
//! - A table is in the store under its name, under its id, and with each of its regions in both route sets;
//!   all of these are written and deleted together, so that a name never leads to a table that is not there.
//! - Table ids are given by one sequence that only goes up, and a table is only created under an id that the
//!   sequence has given. An id is therefore never used twice, not even after a drop.
//! - Whoever changes the routes of a table writes its [`TableInfo`] in the same transaction (repartition
//!   takes a generation from it), so that an unchanged table means unchanged rules.
//! - What creates a database or a table, or takes a table id, compares in its own transaction that recovery mode is
//!   off: once recovery mode is on, nothing is created any more, and no race lets one slip through.
//! - A read-then-transact loop compares what it read, and gives up after a bounded number of attempts.
//!
//! ```text
//!   allocate_table_id --> create_table --> rename_table / update_table / alter_table --> drop_table --> tombstone
//! ```

mod alter;
mod cluster;
mod database;
mod error;
mod model;
mod pages;
mod publish;
mod route;
mod sequence;
mod switches;
mod table;

use std::sync::Arc;

pub use self::cluster::{Bootstrap, Identity};
pub use self::error::CatalogError;
pub use self::model::{
    DEFAULT_DATABASE, Database, DroppedTable, FIRST_TABLE_ID, Planned, Route, TableError, TableInfo, TableRef, Tombstone,
};
pub use self::pages::TablePages;
pub use self::publish::{TableView, WriteSet};
pub use self::sequence::WithTableId;
pub use self::switches::SwitchedOn;
use crate::keys::MetaKey;
use crate::kv::{Entry, KvBackend};
use crate::values::{self, Stored};

/// A handle to the catalog; cheap to clone. It caches nothing: every answer is as new as the store's.
#[derive(Debug, Clone)]
pub struct Catalog {
    kv: Arc<dyn KvBackend>,
}

impl Catalog {
    /// The catalog on a store that was set up.
    pub(crate) fn on(kv: Arc<dyn KvBackend>) -> Self {
        Self { kv }
    }

    /// The store that it is on.
    #[must_use]
    pub fn kv(&self) -> &Arc<dyn KvBackend> {
        &self.kv
    }

    /// The entry under `key`, with its value read.
    async fn read<T: Stored>(&self, key: &MetaKey) -> Result<Option<(Entry, T)>, CatalogError> {
        let Some(entry) = self.kv.get(&key.to_key()).await?.entry else { return Ok(None) };
        let value = values::decode_entry(&entry)?;
        Ok(Some((entry, value)))
    }
}

#[cfg(test)]
mod tests;
