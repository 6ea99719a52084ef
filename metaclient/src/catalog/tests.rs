//! The catalog on both embedded backends.

mod ids;

use std::collections::{BTreeMap, BTreeSet};

use tessera_manifest::env;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionId, RegionNumber, TableId};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit};

use super::*;
use crate::keys::RouteSet;
use crate::kv::{Compare, KeyRange, Limits, MemoryBackend, Op, RedbBackend, Txn, range_all};

const BOOTSTRAP: Bootstrap = Bootstrap { cluster: Nonce(1), incarnation: Nonce(2), unix_ms: 3 };

fn schema() -> Schema {
    let column = |id, name: &str, data_type, semantic| {
        let nullable = semantic != SemanticType::TimeIndex;
        Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
    };
    let time = DataType::Timestamp(TimeUnit::Millisecond);
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", time, SemanticType::TimeIndex),
        column(2, "v", DataType::Float64, SemanticType::Field),
    ];
    Schema::new(columns, vec![ColumnId(0)]).unwrap()
}

fn table(id: TableId, database: &str, name: &str, regions: u32) -> (TableInfo, Vec<Route>) {
    let info = TableInfo {
        id,
        database: database.into(),
        name: name.into(),
        schema: schema(),
        partition_columns: vec![ColumnId(0)],
        options: BTreeMap::from([("ttl".to_owned(), "7d".to_owned())]),
        created_unix_ms: 5,
        next_region_number: RegionNumber(regions),
        next_generation: Generation::new(2).unwrap(),
    };
    let route = |number| Route {
        region: RegionId::new(id, RegionNumber(number)),
        node: NodeId(0),
        generation: Generation::FIRST,
        rule: Expr::always(),
    };
    (info, (0..regions).map(route).collect())
}

async fn memory() -> Catalog {
    Catalog::bootstrap(Arc::new(MemoryBackend::new()), BOOTSTRAP).await.unwrap().0
}

async fn create(catalog: &Catalog, database: &str, name: &str, regions: u32) -> Result<TableInfo, CatalogError> {
    let (info, routes) = table(catalog.allocate_table_id(None).await?, database, name, regions);
    catalog.create_table(&info, &routes).await?;
    Ok(info)
}

fn public(name: &str) -> TableRef {
    TableRef::new(DEFAULT_DATABASE, name)
}

/// Every name leads to a table of that name, every table has its name, and every route its table.
async fn assert_consistent(catalog: &Catalog) {
    let mut named = BTreeSet::new();
    for database in catalog.databases().await.unwrap() {
        for info in catalog.tables(&database.name).await.unwrap() {
            assert_eq!(catalog.table_by_name(&info.table_ref()).await.unwrap(), info);
            named.insert(info.id);
        }
    }
    let by_id: BTreeSet<TableId> = catalog.all_tables().await.unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(named, by_id);
    for entry in range_all(&**catalog.kv(), KeyRange::prefix("route/")).await.unwrap() {
        let MetaKey::Route { region, .. } = MetaKey::from_key(&entry.key).unwrap() else { panic!("{}", entry.key) };
        assert!(by_id.contains(&region.table()), "route {region} has no table");
    }
}

#[tokio::test]
async fn bootstrap_sets_up_once_and_keeps_the_first_identity() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
    assert!(matches!(Catalog::open(Arc::clone(&kv)).await, Err(CatalogError::NotBootstrapped)));
    let first = Catalog::bootstrap(Arc::clone(&kv), BOOTSTRAP).await.unwrap().1;
    assert_eq!((first.cluster, first.incarnation), (Nonce(1), Nonce(2)));
    let other = Bootstrap { cluster: Nonce(7), incarnation: Nonce(8), unix_ms: 9 };
    let (catalog, again) = Catalog::bootstrap(kv, other).await.unwrap();
    assert_eq!(again, first);
    let public = Database { name: "public".into(), created_unix_ms: 3, options: BTreeMap::new() };
    assert_eq!(catalog.databases().await.unwrap(), [public]);
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1024));
}

#[tokio::test]
async fn databases_are_created_once_and_dropped_only_when_empty() {
    let catalog = memory().await;
    catalog.create_database("a/b", 1).await.unwrap();
    assert!(matches!(catalog.create_database("a/b", 2).await, Err(CatalogError::DatabaseExists { .. })));
    assert!(matches!(catalog.create_database("", 2).await, Err(CatalogError::Table { source: TableError::BadName { .. } })));
    create(&catalog, "a/b", "t", 1).await.unwrap();
    assert!(matches!(catalog.drop_database("a/b").await, Err(CatalogError::DatabaseNotEmpty { .. })));
    catalog.drop_table(&TableRef::new("a/b", "t"), 6).await.unwrap();
    assert_eq!(catalog.drop_database("a/b").await.unwrap().created_unix_ms, 1);
    assert!(matches!(catalog.drop_database("a/b").await, Err(CatalogError::DatabaseNotFound { .. })));
    assert!(matches!(catalog.drop_database("public").await, Err(CatalogError::DefaultDatabase)));
    assert!(matches!(catalog.tables("a/b").await, Err(CatalogError::DatabaseNotFound { .. })));
    assert!(catalog.tables("public").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_created_table_is_found_by_name_and_id_with_its_routes() {
    let catalog = memory().await;
    let info = create(&catalog, "public", "cpu", 3).await.unwrap();
    assert_eq!(info.id, TableId(1024));
    assert_eq!(catalog.table_by_name(&public("cpu")).await.unwrap(), info);
    assert_eq!(catalog.table_by_id(info.id).await.unwrap(), info);
    let expected = table(info.id, "public", "cpu", 3).1;
    assert_eq!(catalog.routes(info.id).await.unwrap(), expected);
    assert_eq!(catalog.route_set(RouteSet::Write, info.id).await.unwrap(), expected);
    assert!(matches!(catalog.table_by_name(&public("CPU")).await, Err(CatalogError::TableNotFound { .. })));
    assert!(matches!(catalog.table_by_id(TableId(7)).await, Err(CatalogError::TableIdNotFound { .. })));
    assert!(catalog.routes(TableId(7)).await.unwrap().is_empty());
    for entry in range_all(&**catalog.kv(), KeyRange::all()).await.unwrap() {
        assert_eq!(MetaKey::from_key(&entry.key).unwrap().to_key(), entry.key);
    }
}

#[tokio::test]
async fn a_create_that_cannot_be_is_refused_with_its_reason_and_writes_nothing() {
    let catalog = memory().await;
    let taken = create(&catalog, "public", "t", 1).await.unwrap();
    let before = range_all(&**catalog.kv(), KeyRange::all()).await.unwrap();
    let attempt = |id, database, name| {
        let (catalog, (info, routes)) = (catalog.clone(), table(id, database, name, 1));
        async move { catalog.create_table(&info, &routes).await.unwrap_err() }
    };
    let ahead = TableId(1025);
    assert!(matches!(attempt(ahead, "public", "u").await, CatalogError::TableIdNotAllocated { next, .. } if next == ahead));
    assert!(matches!(attempt(taken.id, "public", "u").await, CatalogError::TableIdTaken { .. }));
    assert!(matches!(attempt(TableId(1000), "public", "t").await, CatalogError::TableExists { id, .. } if id == taken.id));
    assert!(matches!(attempt(TableId(1000), "none", "t").await, CatalogError::DatabaseNotFound { .. }));
    let (info, mut routes) = table(TableId(1000), "public", "u", 2);
    routes[1].region = routes[0].region;
    assert!(matches!(catalog.create_table(&info, &routes).await, Err(CatalogError::Table { source: TableError::Route { .. } })));
    assert!(matches!(catalog.create_table(&info, &[]).await, Err(CatalogError::Table { source: TableError::NoRegion })));
    assert_eq!(range_all(&**catalog.kv(), KeyRange::all()).await.unwrap(), before);
}

#[tokio::test]
async fn a_table_that_exceeds_the_transaction_is_a_typed_error() {
    let kv = MemoryBackend::with_limits(Limits { txn_ops_max: 16, ..Limits::EMBEDDED });
    let catalog = Catalog::bootstrap(Arc::new(kv), BOOTSTRAP).await.unwrap().0;
    let refused = create(&catalog, "public", "large", 8).await.unwrap_err();
    assert!(matches!(refused, CatalogError::TooManyRegions { regions: 8, regions_max: 6, .. }), "{refused}");
    assert_eq!(refused.class(), ErrorClass::Invalid);
    create(&catalog, "public", "fits", 6).await.unwrap();
    for number in 0..20 {
        create(&catalog, "public", &format!("t{number:02}"), 1).await.unwrap();
    }
    assert_eq!(catalog.tables("public").await.unwrap().len(), 21, "a list reads in pieces");
}

#[tokio::test]
async fn a_rename_moves_the_name_and_keeps_the_rest() {
    let catalog = memory().await;
    let info = create(&catalog, "public", "old", 2).await.unwrap();
    create(&catalog, "public", "other", 1).await.unwrap();
    catalog.create_database("archive", 1).await.unwrap();
    let to = TableRef::new("archive", "new");
    let renamed = catalog.rename_table(&public("old"), &to).await.unwrap();
    assert_eq!(renamed, TableInfo { database: "archive".into(), name: "new".into(), ..info.clone() });
    assert_eq!(catalog.table_by_name(&to).await.unwrap(), renamed);
    assert_eq!(catalog.routes(info.id).await.unwrap().len(), 2);
    let gone = catalog.rename_table(&public("old"), &to).await.unwrap_err();
    assert!(matches!(gone, CatalogError::TableNotFound { .. }));
    let taken = catalog.rename_table(&to, &public("other")).await.unwrap_err();
    assert!(matches!(taken, CatalogError::TableExists { .. }));
    let nowhere = catalog.rename_table(&to, &TableRef::new("none", "x")).await.unwrap_err();
    assert!(matches!(nowhere, CatalogError::DatabaseNotFound { .. }));
    assert_consistent(&catalog).await;
}

#[tokio::test]
async fn an_alteration_replaces_name_and_content_at_once() {
    let catalog = memory().await;
    let info = create(&catalog, "public", "old", 2).await.unwrap();
    create(&catalog, "public", "other", 1).await.unwrap();
    let schema = info.schema.evolve(&[], &[]).unwrap();
    let new = TableInfo { name: "new".into(), schema: schema.clone(), ..info.clone() };
    catalog.alter_table(&info, &new).await.unwrap();
    catalog.alter_table(&info, &new).await.unwrap();
    assert_eq!(catalog.table_by_name(&public("new")).await.unwrap(), new);
    assert!(matches!(catalog.table_by_name(&public("old")).await, Err(CatalogError::TableNotFound { .. })));
    let same_name = TableInfo { options: BTreeMap::new(), ..new.clone() };
    catalog.alter_table(&new, &same_name).await.unwrap();
    catalog.alter_table(&new, &same_name).await.unwrap();
    let late = TableInfo { name: "late".into(), ..info.clone() };
    assert!(matches!(catalog.alter_table(&info, &late).await, Err(CatalogError::TableChanged { .. })));
    let taken = TableInfo { name: "other".into(), ..same_name.clone() };
    assert!(matches!(catalog.alter_table(&same_name, &taken).await, Err(CatalogError::TableExists { .. })));
    let elsewhere = TableInfo { database: "archive".into(), name: "x".into(), ..same_name.clone() };
    assert!(matches!(catalog.alter_table(&same_name, &elsewhere).await, Err(CatalogError::FixedPart { part: "database", .. })));
    assert_consistent(&catalog).await;
}

#[tokio::test]
async fn a_database_gets_other_options_and_keeps_the_rest() {
    let catalog = memory().await;
    let ttl = |text: &str| BTreeMap::from([("ttl".to_owned(), text.to_owned())]);
    let made = catalog.create_database_with("m", 1, ttl("7d")).await.unwrap();
    assert_eq!(made.options, ttl("7d"));
    let altered = catalog.alter_database::<CatalogError>("m", |_| Ok(ttl("1d"))).await.unwrap();
    assert_eq!(altered, Database { options: ttl("1d"), ..made });
    assert_eq!(catalog.database("m").await.unwrap(), altered);
    let missing = catalog.alter_database::<CatalogError>("none", |_| Ok(ttl("1d"))).await;
    assert!(matches!(missing, Err(CatalogError::DatabaseNotFound { .. })));
}

#[tokio::test]
async fn a_drop_answers_what_was_there_and_leaves_a_tombstone() {
    let catalog = memory().await;
    let info = create(&catalog, "public", "t", 3).await.unwrap();
    let neighbour = create(&catalog, "public", "u", 2).await.unwrap();
    let routes = catalog.routes(info.id).await.unwrap();
    let dropped = catalog.drop_table(&public("t"), 9).await.unwrap();
    assert_eq!(dropped, DroppedTable { table: info.clone(), read_routes: routes.clone(), write_routes: routes });
    assert_eq!(catalog.tombstones().await.unwrap(), [Tombstone { table: info.clone(), dropped_unix_ms: 9 }]);
    assert!(matches!(catalog.drop_table(&public("t"), 9).await, Err(CatalogError::TableNotFound { .. })));
    assert_eq!(catalog.routes(neighbour.id).await.unwrap().len(), 2);
    let (again, routes) = table(info.id, "public", "t", 1);
    assert!(matches!(catalog.create_table(&again, &routes).await, Err(CatalogError::TableIdTaken { .. })));
    assert_ne!(create(&catalog, "public", "t", 1).await.unwrap().id, info.id);
    catalog.remove_tombstone(info.id).await.unwrap();
    assert!(catalog.tombstones().await.unwrap().is_empty());
    assert_consistent(&catalog).await;
}

#[tokio::test]
async fn an_update_needs_the_table_as_expected() {
    let catalog = memory().await;
    let info = create(&catalog, "public", "t", 1).await.unwrap();
    let new = TableInfo { options: BTreeMap::new(), next_region_number: RegionNumber(5), ..info.clone() };
    catalog.update_table(&info, &new).await.unwrap();
    assert_eq!(catalog.table_by_id(info.id).await.unwrap(), new);
    let stale = catalog.update_table(&info, &new).await.unwrap_err();
    assert!(matches!(stale, CatalogError::TableChanged { .. }));
    assert_eq!(stale.class(), ErrorClass::Refresh);
    assert!(matches!(catalog.update_table(&new, &info).await, Err(CatalogError::FixedPart { .. })), "counters never go back");
}

#[tokio::test]
async fn an_allocation_and_what_goes_with_it_happen_together_or_not() {
    let catalog = memory().await;
    let reserve = |id: TableId| WithTableId {
        compares: vec![Compare::Absent { key: "test/reserved".into() }],
        ops: vec![Op::put("test/reserved", id.to_string())],
    };
    assert_eq!(catalog.allocate_table_id_with(None, reserve).await.unwrap(), TableId(1024));
    let reserved = catalog.kv().get(&"test/reserved".into()).await.unwrap().entry.unwrap();
    assert_eq!(reserved.value, "1024");
    let refused = catalog.allocate_table_id_with(None, reserve).await;
    assert!(matches!(refused, Err(CatalogError::ConditionsFailed { id: TableId(1025) })));
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1025));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_creates_of_one_name_exactly_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let redb = RedbBackend::open(folder.path().join("meta.redb")).await.unwrap();
    let backends: [Arc<dyn KvBackend>; 2] = [Arc::new(MemoryBackend::new()), Arc::new(redb)];
    for kv in backends {
        let catalog = Catalog::bootstrap(kv, BOOTSTRAP).await.unwrap().0;
        let running: Vec<_> = (0..12)
            .map(|_| {
                let catalog = catalog.clone();
                env::spawn(async move { create(&catalog, "public", "t", 2).await })
            })
            .collect();
        let mut winners = Vec::new();
        let mut losers = Vec::new();
        for task in running {
            match task.await.unwrap() {
                Ok(info) => winners.push(info),
                Err(CatalogError::TableExists { id, .. }) => losers.push(id),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((winners.len(), losers.len()), (1, 11));
        assert!(losers.iter().all(|id| *id == winners[0].id));
        assert_eq!(catalog.tables("public").await.unwrap(), winners);
        assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1024 + 12), "every attempt took one id");
        assert_consistent(&catalog).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_is_not_dropped_under_a_table_that_is_being_created() {
    for _ in 0..200 {
        let catalog = memory().await;
        catalog.create_database("d", 1).await.unwrap();
        let creator = catalog.clone();
        let creating = env::spawn(async move { create(&creator, "d", "t", 1).await });
        let dropped = catalog.drop_database("d").await;
        let created = creating.await.unwrap();
        assert_ne!(created.is_ok(), dropped.is_ok());
        assert_consistent(&catalog).await;
    }
}

#[tokio::test]
async fn a_catalog_survives_the_restart_of_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let kv = Arc::new(RedbBackend::open(&path).await.unwrap());
    let catalog = Catalog::bootstrap(kv, BOOTSTRAP).await.unwrap().0;
    let info = create(&catalog, "public", "t", 2).await.unwrap();
    drop(catalog);
    let kv = Arc::new(RedbBackend::open(&path).await.unwrap());
    let (catalog, identity) = Catalog::open(kv).await.unwrap();
    assert_eq!(identity.cluster, BOOTSTRAP.cluster);
    assert_eq!(catalog.table_by_name(&public("t")).await.unwrap(), info);
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1025));
    assert_consistent(&catalog).await;
}

#[tokio::test]
async fn a_damaged_value_is_named_and_the_others_still_answer() {
    let catalog = memory().await;
    let damaged = create(&catalog, "public", "bad", 1).await.unwrap();
    create(&catalog, "public", "good", 1).await.unwrap();
    let key = MetaKey::Table { id: damaged.id }.to_key();
    let mut bytes = catalog.kv().get(&key).await.unwrap().entry.unwrap().value.to_vec();
    bytes[20] ^= 1;
    catalog.kv().txn(Txn::new().then([Op::put(key, bytes)])).await.unwrap();
    let refused = catalog.table_by_name(&public("bad")).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Corrupt);
    let CatalogError::Value { source } = refused else { panic!("{refused}") };
    assert!(source.to_string().contains("table/id/0000001024"), "{source}");
    assert_eq!(catalog.table_by_name(&public("good")).await.unwrap().name, "good");
}
