//! Creating, showing and dropping.

use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::{CPU, Session};
use crate::ddl::marker;
use crate::error::Code;

#[tokio::test]
async fn databases_come_and_go() {
    let (_world, session) = Session::fresh().await;
    assert_eq!(session.run("CREATE DATABASE metrics").await, 1);
    assert_eq!(session.run("CREATE DATABASE IF NOT EXISTS metrics").await, 0);
    assert_eq!(session.refused("CREATE DATABASE metrics").await.0, Code::DatabaseAlreadyExists);
    assert_eq!(session.rows("SHOW DATABASES").await, ["information_schema", "metrics", "public"]);
    session.run("CREATE TABLE metrics.t (ts TIMESTAMP TIME INDEX)").await;
    assert_eq!(session.rows("SHOW TABLES FROM metrics").await, ["t"]);
    let (code, message) = session.refused("DROP DATABASE metrics").await;
    assert_eq!(code, Code::InvalidArguments);
    assert!(message.contains("drop them first"), "{message}");
    session.run("DROP TABLE metrics.t; DROP DATABASE metrics").await;
    assert_eq!(session.refused("SHOW TABLES FROM metrics").await.0, Code::DatabaseNotFound);
    assert_eq!(session.run("DROP DATABASE IF EXISTS metrics").await, 0);
    assert_eq!(session.refused("DROP DATABASE public").await.0, Code::InvalidArguments);
}

#[tokio::test]
async fn a_table_is_created_once() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let (code, message) = session.refused(CPU).await;
    assert_eq!(code, Code::TableAlreadyExists);
    assert!(message.contains("'cpu'") && message.contains("'public'"), "{message}");
    session.run(&CPU.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")).await;
    let other = CPU.replace("TABLE cpu", "TABLE nowhere.cpu");
    assert_eq!(session.refused(&other).await.0, Code::DatabaseNotFound);
    assert_eq!(session.rows("SHOW TABLES").await, ["cpu"]);
    assert_eq!(session.rows("SHOW TABLES LIKE 'x%'").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_describes_a_table_makes_an_equal_one() {
    let (_world, session) = Session::fresh().await;
    session.run(
        "CREATE TABLE \"Odd Name\" (\"Host \"\"x\"\"\" STRING COMMENT 'it''s', dc INT UNSIGNED NOT NULL, ts TIMESTAMP(9) TIME INDEX, \
         a DOUBLE DEFAULT -0.5, b STRING DEFAULT 'x''y', c TIMESTAMP(6) DEFAULT '2013-01-01 00:00:00.5', d DATE DEFAULT '2020-02-29', \
         e DECIMAL(10, 2) DEFAULT 12.34, f BOOLEAN DEFAULT true, g BIGINT DEFAULT -9223372036854775808, \
         h BIGINT UNSIGNED DEFAULT 18446744073709551615, i TIMESTAMP DEFAULT current_timestamp(), j VARBINARY DEFAULT X'00ff', \
         k FLOAT DEFAULT 0.1, l TINYINT DEFAULT NULL, PRIMARY KEY (dc, \"Host \"\"x\"\"\")) \
         PARTITION ON COLUMNS (dc, \"Host \"\"x\"\"\") (dc < 5, dc >= 5 AND \"Host \"\"x\"\"\" < 'a,(b', dc >= 5 AND \"Host \"\"x\"\"\" >= 'a,(b') \
         WITH (append_mode = 'false')",
    )
    .await;
    let show = "SHOW CREATE TABLE \"Odd Name\"";
    let text = create_text(&session, show).await;
    let described = session.rows("DESC TABLE \"Odd Name\"").await;
    session.run("DROP TABLE \"Odd Name\"").await;
    session.run(&text).await;
    assert_eq!(create_text(&session, show).await, text);
    assert_eq!(session.rows("DESC TABLE \"Odd Name\"").await, described);
    assert!(described.contains(&"e|DECIMAL(10, 2)||YES|'12.34'|FIELD".to_owned()), "{described:?}");
    assert!(described.contains(&"ts|TIMESTAMP(9)|PRI|NO||TIMESTAMP".to_owned()), "{described:?}");
    assert!(described.contains(&"dc|INT UNSIGNED|PRI|NO||TAG".to_owned()), "{described:?}");
}

async fn create_text(session: &Session, show: &str) -> String {
    use arrow::array::AsArray;
    let batches = session.batches(show).await.unwrap();
    let names: Vec<String> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["Table", "Create Table"]);
    batches[0].column(1).as_string::<i32>().value(0).to_owned()
}

#[tokio::test]
async fn more_partitions_than_a_transaction_takes_are_refused_before_a_region_is_made() {
    let (_world, session) = Session::fresh().await;
    let rules: Vec<String> = (0..2047).map(|n| format!("a = {n}")).collect();
    let sql = format!("CREATE TABLE t (a INT, ts TIMESTAMP TIME INDEX, PRIMARY KEY (a)) PARTITION ON COLUMNS (a) ({})", rules.join(", "));
    let (code, message) = session.refused(&sql).await;
    assert_eq!(code, Code::InvalidArguments);
    assert!(message.contains("at most 2046 partitions, not 2047"), "{message}");
    assert!(session.server.catalogs.engine.regions().is_empty());
}

#[tokio::test]
async fn the_catalog_has_two_names_everywhere() {
    let (_world, session) = Session::fresh().await;
    for catalog in ["tessera", "greptime"] {
        session.run(&CPU.replace("TABLE cpu", &format!("TABLE {catalog}.public.cpu"))).await;
        session.run(&format!("INSERT INTO {catalog}.public.cpu (host, ts) VALUES ('a', 1)")).await;
        assert_eq!(session.rows(&format!("SELECT cpu.host FROM {catalog}.public.cpu")).await, ["a"]);
        assert_eq!(session.run(&format!("DELETE FROM {catalog}.public.cpu")).await, 1);
        session.run(&format!("DROP TABLE {catalog}.public.cpu")).await;
    }
    for sql in ["SELECT * FROM other.public.cpu", "DROP TABLE other.public.cpu"] {
        let (code, message) = session.refused(sql).await;
        assert_eq!(code, Code::DatabaseNotFound);
        assert!(message.contains("'other'") && message.contains("tessera.database.table"), "{message}");
    }
}

#[tokio::test]
async fn a_bad_definition_is_refused_before_anything_is_made() {
    let (_world, session) = Session::fresh().await;
    let table = |columns: &str, rest: &str| format!("CREATE TABLE t ({columns}, ts TIMESTAMP TIME INDEX, PRIMARY KEY (a)) {rest}");
    let cases = [
        (table("a STRING, a INT", ""), Code::InvalidArguments, "'a' is defined twice"),
        (table("a STRING, v INT DEFAULT 'x'", ""), Code::InvalidArguments, "DEFAULT of column 'v'"),
        (table("a STRING, v TINYINT DEFAULT 300", ""), Code::InvalidArguments, "DEFAULT of column 'v'"),
        (table("b STRING", ""), Code::ColumnNotFound, "PRIMARY KEY names column 'a'"),
        (table("a STRING, v INT", "PARTITION ON COLUMNS (v) (v < 1, v >= 1)"), Code::InvalidArguments, "must be in the PRIMARY KEY"),
        (table("a STRING", "PARTITION ON COLUMNS (x) (x < 1)"), Code::ColumnNotFound, "PARTITION ON COLUMNS names column 'x'"),
        (table("a STRING", "PARTITION ON COLUMNS (a) (a < 'h', a >= 'g')"), Code::InvalidArguments, "'g'"),
        (table("a STRING", "PARTITION ON COLUMNS (a) (a < 'h' AND a > 'x')"), Code::InvalidArguments, "no row satisfies"),
        (table("a STRING", "PARTITION ON COLUMNS (a) (a < )"), Code::InvalidArguments, "bad partition rule"),
        (table("a STRING", "PARTITION ON COLUMNS (a) (a < 'h', ts >= 0)"), Code::InvalidArguments, "does not name"),
        (table("a STRING", "WITH (ttl = 'soon')"), Code::InvalidArguments, "'ttl' = 'soon'"),
        (table("a STRING", "WITH (storage = 'S3')"), Code::Unsupported, "'storage'"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = session.refused(&sql).await;
        assert_eq!(found, code, "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
    }
    assert_eq!(session.rows("SHOW TABLES").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_table_is_gone_and_its_name_is_free() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    session.run("DROP TABLE cpu").await;
    assert_eq!(session.refused("SELECT * FROM cpu").await.0, Code::TableNotFound);
    assert_eq!(session.refused("DROP TABLE cpu").await.0, Code::TableNotFound);
    session.run("DROP TABLE IF EXISTS cpu").await;
    let drop = marker::find(&world.store, TableId(1024)).await.unwrap().unwrap();
    assert_eq!((drop.name.as_str(), drop.regions.len()), ("cpu", 3));
    session.run(CPU).await;
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["0"]);
    assert_eq!(session.rows("SELECT table_id FROM information_schema.tables").await, ["1025"]);
}

#[tokio::test]
async fn an_interrupted_drop_is_finished_at_the_next_start() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run(&CPU.replace("TABLE cpu", "TABLE other")).await;
    let regions = (0..3).map(|number| RegionId::new(TableId(1024), RegionNumber(number))).collect();
    let drop = marker::Drop { table: TableId(1024), database: "public".into(), name: "cpu".into(), unix_ms: 1, regions };
    marker::write(&world.store, "01ARZ3NDEKTSV4RRFFQ69G5FAV", &drop).await.unwrap();
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SHOW TABLES").await, ["other"]);
    assert_eq!(session.refused("SELECT * FROM cpu").await.0, Code::TableNotFound);
    let engine = &session.server.catalogs.engine;
    assert!(engine.open_region(drop.regions[0]).await.is_err());
    assert_eq!(session.rows("SELECT count(*) FROM other").await, ["0"]);
}

#[tokio::test]
async fn tables_and_rows_are_there_after_a_restart() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('a', 1, 2.5), ('x', 2, 3.5)").await;
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SELECT host, v FROM cpu ORDER BY host").await, ["a|2.5", "x|3.5"]);
}

#[tokio::test]
async fn statements_that_are_not_supported_say_so() {
    let (_world, session) = Session::fresh().await;
    for sql in ["ADMIN repartition('t')", "USE public", "UPDATE t SET a = 1"] {
        assert_eq!(session.refused(sql).await.0, Code::Unsupported, "{sql}");
    }
}

#[tokio::test]
async fn a_region_that_does_not_open_is_named_and_the_others_work() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run(&CPU.replace("TABLE cpu", "TABLE other")).await;
    session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1), ('i', 1); INSERT INTO other (host, ts) VALUES ('i', 1)").await;
    session.server.close().await.unwrap();
    damage_manifest(&world, "0000001024/0000000001/manifest").await;
    let session = world.open().await;
    let (code, message) = session.refused("SELECT * FROM cpu").await;
    assert_eq!(code, Code::StorageUnavailable);
    assert!(message.contains("1024/1") && message.contains("0000001024/0000000001/manifest"), "{message}");
    assert_eq!(session.refused("INSERT INTO cpu (host, ts) VALUES ('i', 2)").await.0, Code::StorageUnavailable);
    assert_eq!(session.rows("SELECT host FROM cpu WHERE host < 'b'").await, ["a"]);
    assert_eq!(session.rows("SELECT host FROM other").await, ["i"]);
    let states = "SELECT region_id, state, error IS NULL FROM information_schema.regions WHERE table_name = 'cpu' ORDER BY region_number";
    assert_eq!(session.rows(states).await, ["1024/0|open|true", "1024/1|failed|false", "1024/2|open|true"]);
}

/// Flips a bit in the first record of a manifest.
async fn damage_manifest(world: &super::World, prefix: &str) {
    use futures::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt};
    let mut objects: Vec<_> = world.store.list(Some(&prefix.into())).try_collect().await.unwrap();
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    let first = &objects[0].location;
    let mut bytes = world.store.get(first).await.unwrap().bytes().await.unwrap().to_vec();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    world.store.put(first, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn folders_that_nothing_names_are_left_alone() {
    use object_store::ObjectStoreExt;
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    let orphan = object_store::path::Path::from("0000009999/0000000000/manifest/x");
    world.store.put(&orphan, "x".into()).await.unwrap();
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SHOW TABLES").await, ["cpu"]);
    assert!(world.store.head(&orphan).await.is_ok());
}
