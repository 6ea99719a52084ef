//! Tests of routes on the embedded store.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionNumber};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit};
use tessera_metaclient::catalog::Bootstrap;
use tessera_metaclient::kv::MemoryBackend;

use super::*;

const LONG: Duration = Duration::from_secs(600);

fn route(table: TableId, number: u32, generation: u32) -> Route {
    let (region, generation) = (RegionId::new(table, RegionNumber(number)), Generation::new(generation).unwrap());
    Route { region, node: NodeId(0), generation, rule: Expr::always() }
}

async fn catalog() -> (Catalog, TableId) {
    let bootstrap = Bootstrap { cluster: Nonce(1), incarnation: Nonce(2), unix_ms: 3 };
    let (catalog, _) = Catalog::bootstrap(Arc::new(MemoryBackend::new()), bootstrap).await.unwrap();
    let id = catalog.allocate_table_id(None).await.unwrap();
    let (data_type, semantic) = (DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex);
    let ts = Column { id: ColumnId(0), name: "ts".into(), data_type, semantic, nullable: false, default: None, comment: None };
    let info = TableInfo {
        id,
        database: "public".into(),
        name: "t".into(),
        schema: Schema::new(vec![ts], vec![]).unwrap(),
        partition_columns: Vec::new(),
        options: BTreeMap::new(),
        created_unix_ms: 0,
        next_region_number: RegionNumber(9),
        next_generation: Generation::new(9).unwrap(),
    };
    catalog.create_table(&info, &[route(id, 0, 1), route(id, 1, 1)]).await.unwrap();
    (catalog, id)
}

async fn put(catalog: &Catalog, set: RouteSet, route: &Route) {
    let key = MetaKey::Route { set, region: route.region }.to_key();
    catalog.kv().txn(Txn::new().then([Op::put(key, values::encode(route))])).await.unwrap();
}

#[tokio::test]
async fn any_write_to_a_route_makes_another_stamp() {
    let (catalog, table) = catalog().await;
    let before = RouteTable::load(&catalog, table).await.unwrap();
    assert!(before.is_settled());
    assert_eq!(RouteTable::load(&catalog, table).await.unwrap().read.stamp, before.read.stamp);
    // The same route, written again, as when its region moved away and back.
    put(&catalog, RouteSet::Read, &route(table, 1, 1)).await;
    let after = RouteTable::load(&catalog, table).await.unwrap();
    assert!(after.is_settled());
    assert_ne!(after.read.stamp, before.read.stamp);
    assert_eq!(after.write.stamp, before.write.stamp);
}

#[tokio::test]
async fn a_table_is_not_settled_between_its_two_publications() {
    let (catalog, table) = catalog().await;
    put(&catalog, RouteSet::Write, &route(table, 1, 2)).await;
    assert!(!RouteTable::load(&catalog, table).await.unwrap().is_settled());
    put(&catalog, RouteSet::Read, &route(table, 1, 2)).await;
    assert!(RouteTable::load(&catalog, table).await.unwrap().is_settled());
}

#[tokio::test(start_paused = true)]
async fn a_wait_sees_changes_from_before_it_began() {
    let (catalog, table) = catalog().await;
    let before = RouteTable::load(&catalog, table).await.unwrap();
    put(&catalog, RouteSet::Write, &route(table, 0, 2)).await;
    let after = before.changed(&catalog, table, LONG).await.unwrap();
    assert_ne!(after.write.stamp, before.write.stamp);
    assert_eq!(after.write.routes[0].generation, Generation::new(2).unwrap());
    // Nothing more happens: the wait ends with its time, with what is there.
    assert_eq!(after.changed(&catalog, table, LONG).await.unwrap().write.stamp, after.write.stamp);
}

#[tokio::test]
async fn a_table_is_found_by_its_name_with_its_routes() {
    let (catalog, table) = catalog().await;
    let (info, sets) = RouteTable::find(&catalog, &Decoded::default(), &TableRef::new("public", "t")).await.unwrap().unwrap();
    assert_eq!((info.id, sets), (table, RouteTable::load(&catalog, table).await.unwrap()));
    assert!(RouteTable::find(&catalog, &Decoded::default(), &TableRef::new("public", "u")).await.unwrap().is_none());
    assert!(RouteTable::find(&catalog, &Decoded::default(), &TableRef::new("other", "t")).await.unwrap().is_none());
    catalog.drop_table(&TableRef::new("public", "t"), 1).await.unwrap();
    assert!(RouteTable::find(&catalog, &Decoded::default(), &TableRef::new("public", "t")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_that_goes_to_another_table_is_followed() {
    let (catalog, first) = catalog().await;
    let decoded = Decoded::default();
    let name = |name: &str| TableRef::new("public", name);
    let find = async |table: &str| {
        let found = RouteTable::find(&catalog, &decoded, &name(table)).await.unwrap();
        let fresh = RouteTable::find(&catalog, &Decoded::default(), &name(table)).await.unwrap();
        assert_eq!(found, fresh, "{table}");
        found.map(|(info, _)| info.id)
    };
    assert_eq!(find("t").await, Some(first));
    // Renamed, and its name taken by another table.
    catalog.rename_table(&name("t"), &name("u")).await.unwrap();
    assert_eq!((find("t").await, find("u").await), (None, Some(first)));
    let (info, _) = RouteTable::find(&catalog, &decoded, &name("u")).await.unwrap().unwrap();
    let second = catalog.allocate_table_id(None).await.unwrap();
    let taker = TableInfo { id: second, name: "t".into(), ..TableInfo::clone(&info) };
    catalog.create_table(&taker, &[route(second, 0, 1)]).await.unwrap();
    assert_eq!((find("t").await, find("u").await), (Some(second), Some(first)));
    // The two change names, so that each is remembered under the other's.
    catalog.rename_table(&name("t"), &name("v")).await.unwrap();
    catalog.rename_table(&name("u"), &name("t")).await.unwrap();
    catalog.rename_table(&name("v"), &name("u")).await.unwrap();
    assert_eq!((find("t").await, find("u").await), (Some(first), Some(second)));
    // Dropped, and made anew under the same name.
    catalog.drop_table(&name("t"), 1).await.unwrap();
    let third = catalog.allocate_table_id(None).await.unwrap();
    catalog.create_table(&TableInfo { id: third, ..TableInfo::clone(&taker) }, &[route(third, 0, 1)]).await.unwrap();
    assert_eq!((find("t").await, find("u").await), (Some(third), Some(second)));
    catalog.drop_table(&name("u"), 2).await.unwrap();
    assert_eq!((find("t").await, find("u").await), (Some(third), None));
}

#[tokio::test]
async fn what_was_decoded_is_taken_again_until_it_is_written() {
    let (catalog, table) = catalog().await;
    let decoded = Decoded::default();
    let load = async || {
        let (info, sets) = RouteTable::load_with_table(&catalog, &decoded, table).await.unwrap();
        let (fresh, expected) = RouteTable::load_with_table(&catalog, &Decoded::default(), table).await.unwrap();
        assert_eq!((&info, &sets), (&fresh, &expected));
        (info.unwrap(), sets)
    };
    let first = load().await;
    let again = load().await;
    assert!(Arc::ptr_eq(&first.0, &again.0) && Arc::ptr_eq(&first.1.read, &again.1.read));
    // One set is written, with what it had: its stamp is another, and the rest is as it was.
    put(&catalog, RouteSet::Write, &route(table, 1, 1)).await;
    let written = load().await;
    assert!(Arc::ptr_eq(&first.0, &written.0) && Arc::ptr_eq(&first.1.read, &written.1.read));
    assert!(!Arc::ptr_eq(&first.1.write, &written.1.write) && first.1.write.stamp != written.1.write.stamp);
    // A route more, a route less, and the table itself.
    put(&catalog, RouteSet::Read, &route(table, 2, 1)).await;
    assert_eq!(load().await.1.read.routes.len(), 3);
    let key = MetaKey::Route { set: RouteSet::Read, region: RegionId::new(table, RegionNumber(2)) }.to_key();
    catalog.kv().txn(Txn::new().then([Op::delete(key)])).await.unwrap();
    let fewer = load().await;
    assert_eq!(fewer.1.read, first.1.read);
    let mut info = TableInfo::clone(&fewer.0);
    info.options.insert("ttl".into(), "1d".into());
    let key = MetaKey::Table { id: table }.to_key();
    catalog.kv().txn(Txn::new().then([Op::put(key, values::encode(&info))])).await.unwrap();
    assert_eq!(load().await.0.options.len(), 1);
}
