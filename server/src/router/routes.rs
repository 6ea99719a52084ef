//! The routes of a table as the catalog has them, and waiting for them to change.
//!
//! Invariants:
//! - A [`Routes`] is one revision of a set: its stamp holds the revision of each route, so that two equal stamps are the
//!   same routes, nodes and epochs included, and any write to a route makes another stamp.
//! - A table is found with its routes as of one revision: its columns are those that its rules are about.
//! - What was decoded of a table is taken again only where the entries have the revisions that it was decoded at.
//! - A wait ends when the set has another stamp, or after its time; it never misses a change between read and watch.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
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
    pub read: Arc<Routes>,
    /// Where rows are written.
    pub write: Arc<Routes>,
    /// The revision of the catalog.
    pub revision: Revision,
}

impl Routes {
    /// The routes of a set's entries; `before`, if it was decoded of the same.
    fn of(entries: &[Entry], before: Option<&Arc<Self>>) -> Result<Arc<Self>, CatalogError> {
        if let Some(before) = before.filter(|before| before.stamp.is_of(entries)) {
            return Ok(Arc::clone(before));
        }
        let mut routes: Vec<(Route, Revision)> = Vec::with_capacity(entries.len());
        for entry in entries {
            routes.push((values::decode_entry(entry)?, entry.mod_revision));
        }
        routes.sort_by_key(|(route, _)| route.region);
        let stamp = Stamp(routes.iter().map(|(route, revision)| (route.region, *revision)).collect());
        Ok(Arc::new(Self { routes: routes.into_iter().map(|(route, _)| route).collect(), stamp }))
    }
}

impl Stamp {
    /// Whether it is that of these entries, which are in the order of their keys.
    fn is_of(&self, entries: &[Entry]) -> bool {
        let region = |entry: &Entry| match MetaKey::from_key(&entry.key) {
            Ok(MetaKey::Route { region, .. }) => Some(region),
            _ => None,
        };
        let same = |(known, entry): (&(RegionId, Revision), &Entry)| known.1 == entry.mod_revision && region(entry) == Some(known.0);
        self.0.len() == entries.len() && self.0.iter().zip(entries).all(same)
    }
}

/// What was last decoded of each table, for as long as it is what the store has.
#[derive(Debug, Clone)]
pub struct Decoded(Cache<TableId, Arc<Last>>);

#[derive(Debug)]
struct Last {
    info: Arc<TableInfo>,
    /// The revision at which that was written.
    at: Revision,
    read: Arc<Routes>,
    write: Arc<Routes>,
}

impl Last {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.info, &other.info) && Arc::ptr_eq(&self.read, &other.read) && Arc::ptr_eq(&self.write, &other.write)
    }
}

/// Columns, and routes with each part of their rules, of all tables that are remembered.
const DECODED_PARTS_MAX: u64 = 500_000;

impl Default for Decoded {
    fn default() -> Self {
        let of_routes = |set: &Routes| set.routes.iter().map(|route| 1 + route.rule.nodes()).sum::<usize>();
        let parts = move |last: &Last| 1 + last.info.schema.columns().len() + of_routes(&last.read) + of_routes(&last.write);
        let weigher = move |_: &TableId, last: &Arc<Last>| u32::try_from(parts(last)).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(DECODED_PARTS_MAX).weigher(weigher).build())
    }
}

impl RouteTable {
    /// The table of this name with both its sets, all of one revision; `None` if there is none. Two requests: one for the
    /// id, one for the rest.
    ///
    /// # Errors
    /// [`CatalogError::Contended`] when the name goes from table to table; when the store fails or holds what cannot be read.
    pub async fn find(catalog: &Catalog, decoded: &Decoded, name: &TableRef) -> Result<Option<(Arc<TableInfo>, Self)>, CatalogError> {
        let kv = catalog.kv();
        let by_name = MetaKey::TableName { database: name.database.clone(), name: name.name.clone() }.to_key();
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = kv.get(&by_name).await?.entry else { return Ok(None) };
            let TableName(id) = values::decode_entry(&entry)?;
            let (info, sets) = Self::load_with_table(catalog, decoded, id).await?;
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
        Self::read(catalog, None, table).await.map(|(_, sets)| sets)
    }

    /// The same with the table, as of the same revision, if it is there: it has all columns that the rules are about.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn load_with_table(
        catalog: &Catalog,
        decoded: &Decoded,
        table: TableId,
    ) -> Result<(Option<Arc<TableInfo>>, Self), CatalogError> {
        let last = decoded.0.get(&table);
        let (now, sets) = Self::read(catalog, last.as_ref(), table).await?;
        let info = now.as_ref().map(|now| Arc::clone(&now.info));
        match now {
            Some(now) if last.is_none_or(|last| !last.is(&now)) => decoded.0.insert(table, Arc::new(now)),
            Some(_) => {}
            None => decoded.0.invalidate(&table),
        }
        Ok((info, sets))
    }

    /// The same, with what may be taken of what was decoded last.
    async fn read(catalog: &Catalog, last: Option<&Arc<Last>>, table: TableId) -> Result<(Option<Last>, Self), CatalogError> {
        let range = |set| Op::Range { request: RangeRequest::new(keys::routes(set, table)) };
        let txn = Txn::new().then([range(RouteSet::Read), range(RouteSet::Write), Op::get(MetaKey::Table { id: table }.to_key())]);
        let answer = catalog.kv().txn(txn).await?;
        let read = Routes::of(answer.entries(0), last.map(|last| &last.read))?;
        let write = Routes::of(answer.entries(1), last.map(|last| &last.write))?;
        let sets = Self { read, write, revision: answer.revision };
        let Some(entry) = answer.entry(2) else { return Ok((None, sets)) };
        let info = match last.filter(|last| last.at == entry.mod_revision) {
            Some(last) => Arc::clone(&last.info),
            None => Arc::new(values::decode_entry(entry)?),
        };
        let (read, write) = (Arc::clone(&sets.read), Arc::clone(&sets.write));
        Ok((Some(Last { info, at: entry.mod_revision, read, write }), sets))
    }

    /// Routes that are read and written alike, as of no revision: for tests of what works on them.
    #[cfg(test)]
    pub(crate) fn settled(routes: Vec<Route>) -> Self {
        let stamp = Stamp(routes.iter().map(|route| (route.region, Revision(0))).collect());
        let set = Arc::new(Routes { routes, stamp });
        Self { read: Arc::clone(&set), write: set, revision: Revision(0) }
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
