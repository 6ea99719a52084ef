//! Verbs on tables.

use tessera_manifest::id::TableId;

use super::Catalog;
use super::error::CatalogError;
use super::model::{DroppedTable, Planned, Route, TableInfo, TableRef, Tombstone, check_name};
use super::route::decode_routes;
use crate::keys::{self, MetaKey, RouteSet, Switch};
use crate::kv::{Compare, Entry, Key, KvError, Op, RangeRequest, Txn, range_all};
use crate::limits::{ATTEMPTS_MAX, REGIONS_MAX};
use crate::values::{self, TableName};

/// Operations of a create beside those of its regions: the name, the table, and the record of a procedure that creates it.
const CREATE_OPS: usize = 3;

pub(super) fn name_key(table: &TableRef) -> Key {
    MetaKey::TableName { database: table.database.clone(), name: table.name.clone() }.to_key()
}

fn database_key(database: &str) -> Key {
    MetaKey::Database { database: database.to_owned() }.to_key()
}

pub(super) fn id_key(id: TableId) -> Key {
    MetaKey::Table { id }.to_key()
}

fn tombstone_key(id: TableId) -> Key {
    MetaKey::Tombstone { id }.to_key()
}

/// A table as it was read, with the entries that lead to it.
struct Found {
    name_entry: Entry,
    entry: Entry,
    info: TableInfo,
}

impl Catalog {
    /// Creates a table with its routes, in one transaction. Both route sets get `routes`.
    ///
    /// # Errors
    /// [`CatalogError::TableExists`], [`CatalogError::DatabaseNotFound`], [`CatalogError::TableIdTaken`],
    /// [`CatalogError::TableIdNotAllocated`], [`CatalogError::TooManyRegions`], [`CatalogError::RecoveryMode`];
    /// [`CatalogError::Table`] when table and routes do not fit each other. Nothing was written then.
    pub async fn create_table(&self, info: &TableInfo, routes: &[Route]) -> Result<(), CatalogError> {
        self.check_create(info, routes).await?;
        let txn = plan_create(info, routes).into_txn().otherwise(obstacles(info).map(Op::get));
        let answer = self.kv.txn(txn).await?;
        if answer.succeeded { Ok(()) } else { Err(obstacle(info, [answer.entry(0), answer.entry(1), answer.entry(2)])) }
    }

    /// What creates a table with its routes, to be done in a transaction of the caller.
    ///
    /// # Errors
    /// As [`create_table`](Self::create_table).
    pub async fn plan_create_table(&self, info: &TableInfo, routes: &[Route]) -> Result<Planned, CatalogError> {
        self.check_create(info, routes).await?;
        let found = self.kv.multi_get(&obstacles(info)).await?.entries;
        let entry = |at: usize| found.get(at).and_then(Option::as_ref);
        if entry(0).is_none() || entry(1).is_some() || entry(2).is_some() {
            return Err(obstacle(info, [entry(0), entry(1), entry(2)]));
        }
        let taken = self.kv.multi_get(&[id_key(info.id), tombstone_key(info.id)]).await?.entries;
        if taken.iter().any(Option::is_some) {
            return Err(CatalogError::TableIdTaken { id: info.id });
        }
        Ok(plan_create(info, routes))
    }

    /// What can be said of a new table without a transaction.
    async fn check_create(&self, info: &TableInfo, routes: &[Route]) -> Result<(), CatalogError> {
        info.check()?;
        info.check_routes(routes)?;
        let regions_max = (self.kv.limits().txn_ops_max.saturating_sub(CREATE_OPS) / 2).min(REGIONS_MAX);
        if routes.len() > regions_max {
            return Err(CatalogError::TooManyRegions { table: info.table_ref(), regions: routes.len(), regions_max });
        }
        // The sequence only goes up, so what is true of it now stays true until the transaction.
        let next = self.next_table_id().await?;
        if info.id >= next {
            return Err(CatalogError::TableIdNotAllocated { id: info.id, next });
        }
        Ok(())
    }

    /// The table of that name. Two reads.
    ///
    /// # Errors
    /// [`CatalogError::TableNotFound`]; [`CatalogError::Contended`] when it is renamed over and over.
    pub async fn table_by_name(&self, table: &TableRef) -> Result<TableInfo, CatalogError> {
        Ok(self.find(table).await?.info)
    }

    async fn find(&self, table: &TableRef) -> Result<Found, CatalogError> {
        let by_name = MetaKey::TableName { database: table.database.clone(), name: table.name.clone() };
        for _ in 0..ATTEMPTS_MAX {
            let Some((name_entry, TableName(id))) = self.read(&by_name).await? else {
                return Err(CatalogError::TableNotFound { table: table.clone() });
            };
            // Between the two reads the table may have been dropped or renamed; then the name is read again.
            let found = self.read::<TableInfo>(&MetaKey::Table { id }).await?;
            if let Some((entry, info)) = found.filter(|(_, info)| info.table_ref() == *table) {
                return Ok(Found { name_entry, entry, info });
            }
        }
        Err(CatalogError::Contended { what: table.to_string() })
    }

    /// The table of that id.
    ///
    /// # Errors
    /// [`CatalogError::TableIdNotFound`].
    pub async fn table_by_id(&self, id: TableId) -> Result<TableInfo, CatalogError> {
        let found = self.read(&MetaKey::Table { id }).await?;
        found.map(|(_, info)| info).ok_or(CatalogError::TableIdNotFound { id })
    }

    /// The tables of a database, by name. A table that is created, renamed or dropped meanwhile may or may
    /// not be among them; each is as it is at one moment.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseNotFound`].
    pub async fn tables(&self, database: &str) -> Result<Vec<TableInfo>, CatalogError> {
        let names = range_all(&*self.kv, keys::table_names(database)).await?;
        if names.is_empty() {
            self.database(database).await?;
        }
        let mut tables = Vec::with_capacity(names.len());
        for chunk in names.chunks(self.kv.limits().txn_ops_max.max(1)) {
            let ids: Vec<TableName> = chunk.iter().map(values::decode_entry).collect::<Result<_, _>>()?;
            let asked: Vec<Key> = ids.into_iter().map(|TableName(id)| id_key(id)).collect();
            for entry in self.kv.multi_get(&asked).await?.entries.iter().flatten() {
                let info: TableInfo = values::decode_entry(entry)?;
                if info.database == database {
                    tables.push(info);
                }
            }
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        tables.dedup_by_key(|info| info.id);
        Ok(tables)
    }

    /// All tables of all databases, by id.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn all_tables(&self) -> Result<Vec<TableInfo>, CatalogError> {
        let entries = range_all(&*self.kv, keys::tables()).await?;
        Ok(entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
    }

    /// The tables that were dropped, by id.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn tombstones(&self) -> Result<Vec<Tombstone>, CatalogError> {
        let entries = range_all(&*self.kv, keys::tombstones()).await?;
        Ok(entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
    }

    /// Gives a table another name, in the same or another database, in one transaction. Answers the table as
    /// it is now.
    ///
    /// # Errors
    /// [`CatalogError::TableNotFound`], [`CatalogError::TableExists`], [`CatalogError::DatabaseNotFound`],
    /// [`CatalogError::Contended`].
    pub async fn rename_table(&self, from: &TableRef, to: &TableRef) -> Result<TableInfo, CatalogError> {
        check_name(&to.database)?;
        check_name(&to.name)?;
        for _ in 0..ATTEMPTS_MAX {
            let Found { name_entry, entry, info } = self.find(from).await?;
            if from == to {
                return Ok(info);
            }
            let renamed = TableInfo { database: to.database.clone(), name: to.name.clone(), ..info };
            let txn = Txn::new()
                .when(Compare::unchanged(&name_entry))
                .when(Compare::unchanged(&entry))
                .when(Compare::Exists { key: database_key(&to.database) })
                .when(Compare::Absent { key: name_key(to) })
                .then([
                    Op::delete(name_key(from)),
                    Op::put(name_key(to), values::encode(&TableName(renamed.id))),
                    Op::put(id_key(renamed.id), values::encode(&renamed)),
                ])
                .otherwise([Op::get(database_key(&to.database)), Op::get(name_key(to))]);
            let answer = self.kv.txn(txn).await?;
            if answer.succeeded {
                return Ok(renamed);
            }
            if answer.entry(0).is_none() {
                return Err(CatalogError::DatabaseNotFound { database: to.database.clone() });
            }
            if let Some(taken) = answer.entry(1) {
                let TableName(id) = values::decode_entry(taken)?;
                return Err(CatalogError::TableExists { table: to.clone(), id });
            }
        }
        Err(CatalogError::Contended { what: from.to_string() })
    }

    /// Replaces a table that is still as `expected` with `new`: schema, options, counters.
    ///
    /// # Errors
    /// [`CatalogError::TableChanged`] when it is not as expected; [`CatalogError::FixedPart`] when id, name
    /// or creation time differ, or a counter goes back; [`CatalogError::TableIdNotFound`].
    pub async fn update_table(&self, expected: &TableInfo, new: &TableInfo) -> Result<(), CatalogError> {
        new.check()?;
        let fixed = |part| Err(CatalogError::FixedPart { table: expected.table_ref(), part });
        if new.id != expected.id {
            return fixed("id");
        }
        if new.table_ref() != expected.table_ref() {
            return fixed("name");
        }
        if new.created_unix_ms != expected.created_unix_ms {
            return fixed("creation time");
        }
        if new.next_region_number < expected.next_region_number || new.next_generation < expected.next_generation {
            return fixed("next region number or generation");
        }
        let found = self.read::<TableInfo>(&MetaKey::Table { id: expected.id }).await?;
        let (entry, info) = found.ok_or(CatalogError::TableIdNotFound { id: expected.id })?;
        let txn = Txn::new().when(Compare::unchanged(&entry)).then([Op::put(id_key(new.id), values::encode(new))]);
        if info == *expected && self.kv.txn(txn).await?.succeeded {
            return Ok(());
        }
        Err(CatalogError::TableChanged { table: expected.table_ref() })
    }

    /// Drops a table with its routes and leaves a tombstone, in one transaction; answers what was dropped.
    ///
    /// # Errors
    /// [`CatalogError::TableNotFound`]; [`CatalogError::Contended`].
    pub async fn drop_table(&self, table: &TableRef, dropped_unix_ms: u64) -> Result<DroppedTable, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find(table).await?;
            let id = found.info.id;
            let tombstone = Tombstone { table: found.info, dropped_unix_ms };
            // The routes are read in the transaction that deletes them, so that none is missed.
            let read = |set| Op::Range { request: RangeRequest::new(keys::routes(set, id)) };
            let delete = |set| Op::DeleteRange { range: keys::routes(set, id) };
            let txn = Txn::new().when(Compare::unchanged(&found.name_entry)).when(Compare::unchanged(&found.entry)).then([
                read(RouteSet::Read),
                read(RouteSet::Write),
                delete(RouteSet::Read),
                delete(RouteSet::Write),
                Op::delete(name_key(table)),
                Op::delete(id_key(id)),
                Op::put(tombstone_key(id), values::encode(&tombstone)),
            ]);
            let answer = self.kv.txn(txn).await?;
            if answer.succeeded {
                let (read_routes, write_routes) = (decode_routes(answer.entries(0))?, decode_routes(answer.entries(1))?);
                return Ok(DroppedTable { table: tombstone.table, read_routes, write_routes });
            }
        }
        Err(CatalogError::Contended { what: table.to_string() })
    }

    /// What drops a table with its routes and leaves a tombstone, to be done in a transaction of the caller; `None`
    /// when there is no table of that id.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn plan_drop_table(&self, id: TableId, dropped_unix_ms: u64) -> Result<Option<Planned>, CatalogError> {
        let Some((entry, info)) = self.read::<TableInfo>(&MetaKey::Table { id }).await? else { return Ok(None) };
        let name = name_key(&info.table_ref());
        let name_entry = self.kv.get(&name).await?.entry;
        let mut compares = vec![Compare::unchanged(&entry)];
        compares.push(name_entry.as_ref().map_or_else(|| Compare::Absent { key: name.clone() }, Compare::unchanged));
        let mut ops = vec![
            Op::DeleteRange { range: keys::routes(RouteSet::Read, id) },
            Op::DeleteRange { range: keys::routes(RouteSet::Write, id) },
            Op::delete(id_key(id)),
            Op::put(tombstone_key(id), values::encode(&Tombstone { table: info, dropped_unix_ms })),
        ];
        if let Some(entry) = name_entry {
            let TableName(named) = values::decode_entry(&entry)?;
            ops.extend((named == id).then(|| Op::delete(name)));
        }
        Ok(Some(Planned { compares, ops }))
    }

    /// What [`remove_tombstone`](Self::remove_tombstone) does, to be done in a transaction of the caller.
    #[must_use]
    pub fn plan_remove_tombstone(id: TableId) -> Planned {
        Planned { compares: Vec::new(), ops: vec![Op::delete(tombstone_key(id))] }
    }

    /// Forgets a dropped table, once nothing of it is left on the object store. Its id is still not reused.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_tombstone(&self, id: TableId) -> Result<(), KvError> {
        self.kv.txn(Txn::new().then([Op::delete(tombstone_key(id))])).await.map(|_| ())
    }
}

/// The keys that say why a table cannot be created: its database, its name, the switch of recovery mode.
fn obstacles(info: &TableInfo) -> [Key; 3] {
    [database_key(&info.database), name_key(&info.table_ref()), Switch::Recovery.key()]
}

/// Why a table cannot be created, from what is under those keys.
fn obstacle(info: &TableInfo, [database, name, recovery]: [Option<&Entry>; 3]) -> CatalogError {
    match (database, name.map(values::decode_entry)) {
        _ if recovery.is_some() => CatalogError::RecoveryMode { what: "table" },
        (None, _) => CatalogError::DatabaseNotFound { database: info.database.clone() },
        (_, Some(Ok(TableName(id)))) => CatalogError::TableExists { table: info.table_ref(), id },
        (_, Some(Err(source))) => source.into(),
        (_, None) => CatalogError::TableIdTaken { id: info.id },
    }
}

fn plan_create(info: &TableInfo, routes: &[Route]) -> Planned {
    let name = name_key(&info.table_ref());
    let compares = vec![
        Switch::Recovery.is_off(),
        Compare::Exists { key: database_key(&info.database) },
        Compare::Absent { key: name.clone() },
        Compare::Absent { key: id_key(info.id) },
        Compare::Absent { key: tombstone_key(info.id) },
    ];
    let mut ops = vec![Op::put(name, values::encode(&TableName(info.id))), Op::put(id_key(info.id), values::encode(info))];
    for set in [RouteSet::Read, RouteSet::Write] {
        let put = |route: &Route| Op::put(MetaKey::Route { set, region: route.region }.to_key(), values::encode(route));
        ops.extend(routes.iter().map(put));
    }
    Planned { compares, ops }
}
