//! The routes of a table as the catalog has them, and waiting for them to change.
//!
//! Invariants:
//! - A [`Routes`] is one revision of a set: its stamp holds the revision of each route, so that two equal stamps are the
//!   same routes, nodes and epochs included, and any write to a route makes another stamp.
//! - A table is found with its routes as of one revision: its columns are those that its rules are about.
//! - A wait ends when the set has another stamp, or after its time; it never misses a change between read and watch.

use std::time::Duration;

use tessera_manifest::env;
use tessera_manifest::id::{RegionId, TableId};
use tessera_metaclient::catalog::{Catalog, CatalogError, Route, TableInfo, TableRef};
use tessera_metaclient::keys::{self, MetaKey, RouteSet};
use tessera_metaclient::kv::{Entry, KvBackend, KvError, Op, RangeRequest, Revision, Txn};
use tessera_metaclient::limits::ATTEMPTS_MAX;
use tessera_metaclient::values::{self, TableName};

/// One route set of a table, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// By region number.
    pub routes: Vec<Route>,
    /// The revision at which each was written.
    pub stamp: Stamp,
}

/// Which routes these are: the revision of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp(Vec<(RegionId, Revision)>);

/// Both route sets of a table, as of one revision of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Where rows are read.
    pub read: Routes,
    /// Where rows are written.
    pub write: Routes,
    /// The revision of the catalog.
    pub revision: Revision,
}

impl Routes {
    fn of(entries: &[Entry]) -> Result<Self, CatalogError> {
        let mut routes: Vec<(Route, Revision)> = Vec::with_capacity(entries.len());
        for entry in entries {
            routes.push((values::decode_entry(entry)?, entry.mod_revision));
        }
        routes.sort_by_key(|(route, _)| route.region);
        let stamp = Stamp(routes.iter().map(|(route, revision)| (route.region, *revision)).collect());
        Ok(Self { routes: routes.into_iter().map(|(route, _)| route).collect(), stamp })
    }
}

impl RouteTable {
    /// The table of this name with both its sets, all of one revision; `None` if there is none. Two requests: one for the
    /// id, one for the rest.
    ///
    /// # Errors
    /// [`CatalogError::Contended`] when the name goes from table to table; when the store fails or holds what cannot be read.
    pub async fn find(catalog: &Catalog, name: &TableRef) -> Result<Option<(TableInfo, Self)>, CatalogError> {
        let kv = catalog.kv();
        let by_name = MetaKey::TableName { database: name.database.clone(), name: name.name.clone() }.to_key();
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = kv.get(&by_name).await?.entry else { return Ok(None) };
            let TableName(id) = values::decode_entry(&entry)?;
            let (info, sets) = Self::load_with_table(catalog, id).await?;
            // Between the two requests the table may have been dropped or renamed; then the name is read again.
            if let Some(info) = info.filter(|info| info.table_ref() == *name) {
                return Ok(Some((info, sets)));
            }
        }
        Err(CatalogError::Contended { what: name.to_string() })
    }

    /// Reads both sets in one transaction. A table that is not there has no routes.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn load(catalog: &Catalog, table: TableId) -> Result<Self, CatalogError> {
        Self::load_with_table(catalog, table).await.map(|(_, sets)| sets)
    }

    /// The same with the table, as of the same revision, if it is there: it has all columns that the rules are about.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn load_with_table(catalog: &Catalog, table: TableId) -> Result<(Option<TableInfo>, Self), CatalogError> {
        let range = |set| Op::Range { request: RangeRequest::new(keys::routes(set, table)) };
        let txn = Txn::new().then([range(RouteSet::Read), range(RouteSet::Write), Op::get(MetaKey::Table { id: table }.to_key())]);
        let answer = catalog.kv().txn(txn).await?;
        let (read, write) = (Routes::of(answer.entries(0))?, Routes::of(answer.entries(1))?);
        let info = answer.entry(2).map(values::decode_entry).transpose()?;
        Ok((info, Self { read, write, revision: answer.revision }))
    }

    /// Routes that are read and written alike, as of no revision: for tests of what works on them.
    #[cfg(test)]
    pub(crate) fn settled(routes: Vec<Route>) -> Self {
        let set = Routes { stamp: Stamp(routes.iter().map(|route| (route.region, Revision(0))).collect()), routes };
        Self { read: set.clone(), write: set, revision: Revision(0) }
    }

    /// All regions that either set has, each once, in order.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionId> {
        let both = self.read.routes.iter().chain(&self.write.routes);
        both.map(|route| route.region).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Whether rows are written where they are read: no repartition is between its two publications.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.read.routes == self.write.routes
    }

    /// Waits until a set of the table is written, or `longest` has passed; the sets as they are then.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn changed(&self, catalog: &Catalog, table: TableId, longest: Duration) -> Result<Self, CatalogError> {
        let watched = watch(catalog.kv().as_ref(), table, self.revision.next());
        tokio::select! {
            biased;
            seen = watched => match seen {
                // The changes were forgotten: what is there now is read below.
                Ok(()) | Err(KvError::Compacted { .. }) => {}
                Err(error) => return Err(error.into()),
            },
            () = env::sleep(longest) => {}
        }
        Self::load(catalog, table).await
    }
}

/// Waits for a change of either set since `from`.
async fn watch(kv: &dyn KvBackend, table: TableId, from: Revision) -> Result<(), KvError> {
    let mut read = kv.watch(keys::routes(RouteSet::Read, table), from).await?;
    let mut write = kv.watch(keys::routes(RouteSet::Write, table), from).await?;
    tokio::select! {
        biased;
        batch = read.next() => batch.map(|_| ()),
        batch = write.next() => batch.map(|_| ()),
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
