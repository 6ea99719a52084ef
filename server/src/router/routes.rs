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
use tessera_metaclient::kv::{Entry, Key, KvBackend, KvError, Op, RangeRequest, Revision, Txn};
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
pub struct Decoded {
    tables: Cache<TableId, Arc<Last>>,
    /// The ids that tables of these names had when they were last looked for: where to look first, never what is there.
    ids: Cache<TableRef, TableId>,
}

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

/// Names of tables whose ids are remembered.
const NAMES_MAX: u64 = 100_000;

impl Default for Decoded {
    fn default() -> Self {
        let of_routes = |set: &Routes| set.routes.iter().map(|route| 1 + route.rule.nodes()).sum::<usize>();
        let parts = move |last: &Last| 1 + last.info.schema.columns().len() + of_routes(&last.read) + of_routes(&last.write);
        let weigher = move |_: &TableId, last: &Arc<Last>| u32::try_from(parts(last)).unwrap_or(u32::MAX);
        let tables = Cache::builder().max_capacity(DECODED_PARTS_MAX).weigher(weigher).build();
        Self { tables, ids: Cache::new(NAMES_MAX) }
    }
}

impl Decoded {
    /// Keeps what was found of a table, of which `last` is remembered, for the next time.
    fn remember(&self, table: TableId, last: Option<Arc<Last>>, found: Found) -> (Option<Arc<TableInfo>>, RouteTable) {
        let Found { now, sets, named: _ } = found;
        let info = now.as_ref().map(|now| Arc::clone(&now.info));
        match now {
            Some(now) if last.is_none_or(|last| !last.is(&now)) => self.tables.insert(table, Arc::new(now)),
            Some(_) => {}
            None => self.tables.invalidate(&table),
        }
        (info, sets)
    }
}

/// What the store has of a table, as of one revision.
struct Found {
    /// `None` if there is no such table.
    now: Option<Last>,
    sets: RouteTable,
    /// The table that the name stands for, if that was asked.
    named: Option<TableId>,
}

/// The id that is under a name.
fn id_of(entry: Option<&Entry>) -> Result<Option<TableId>, CatalogError> {
    let decoded = entry.map(values::decode_entry::<TableName>).transpose()?;
    Ok(decoded.map(|TableName(id)| id))
}

impl RouteTable {
    /// The table of this name with both its sets, all of one revision; `None` if there is none. One request where the name still
    /// stands for the table that it last stood for, else one more for the id.
    ///
    /// # Errors
    /// [`CatalogError::Contended`] when the name goes from table to table; when the store fails or holds what cannot be read.
    pub async fn find(catalog: &Catalog, decoded: &Decoded, name: &TableRef) -> Result<Option<(Arc<TableInfo>, Self)>, CatalogError> {
        let by_name = MetaKey::TableName { database: name.database.clone(), name: name.name.clone() }.to_key();
        let mut named = match decoded.ids.get(name) {
            Some(last) => Some(last),
            None => id_of(catalog.kv().get(&by_name).await?.entry.as_ref())?,
        };
        for _ in 0..ATTEMPTS_MAX {
            let Some(id) = named else {
                decoded.ids.invalidate(name);
                return Ok(None);
            };
            let last = decoded.tables.get(&id);
            let found = Self::read(catalog, last.as_ref(), id, Some(by_name.clone())).await?;
            // The name may stand for another table by now, or for none; then that one is looked for.
            named = found.named;
            let (info, sets) = decoded.remember(id, last, found);
            if let Some(info) = info.filter(|info| named == Some(id) && info.table_ref() == *name) {
                decoded.ids.insert(name.clone(), id);
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
        Self::read(catalog, None, table, None).await.map(|found| found.sets)
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
        let last = decoded.tables.get(&table);
        let found = Self::read(catalog, last.as_ref(), table, None).await?;
        Ok(decoded.remember(table, last, found))
    }

    /// The same, with what may be taken of what was decoded last, and with what a name stands for.
    async fn read(catalog: &Catalog, last: Option<&Arc<Last>>, table: TableId, name: Option<Key>) -> Result<Found, CatalogError> {
        let range = |set| Op::Range { request: RangeRequest::new(keys::routes(set, table)) };
        let ops = [range(RouteSet::Read), range(RouteSet::Write), Op::get(MetaKey::Table { id: table }.to_key())];
        let txn = Txn::new().then(ops.into_iter().chain(name.map(Op::get)));
        let answer = catalog.kv().txn(txn).await?;
        let read = Routes::of(answer.entries(0), last.map(|last| &last.read))?;
        let write = Routes::of(answer.entries(1), last.map(|last| &last.write))?;
        let (sets, named) = (Self { read, write, revision: answer.revision }, id_of(answer.entry(3))?);
        let Some(entry) = answer.entry(2) else { return Ok(Found { now: None, sets, named }) };
        let info = match last.filter(|last| last.at == entry.mod_revision) {
            Some(last) => Arc::clone(&last.info),
            None => Arc::new(values::decode_entry(entry)?),
        };
        let (read, write) = (Arc::clone(&sets.read), Arc::clone(&sets.write));
        Ok(Found { now: Some(Last { info, at: entry.mod_revision, read, write }), sets, named })
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
