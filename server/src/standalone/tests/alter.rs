//! ALTER, TRUNCATE, options and TTL through SQL.

use std::sync::Arc;

use tessera_engine::request::Alteration;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_manifest::schema::{ColumnChange, Place};

use super::{CPU, Session};
use crate::ddl::ttl;
use crate::error::Code;

const ALL: &str = "SELECT * FROM cpu ORDER BY host, ts";

async fn create_text(session: &Session, table: &str) -> String {
    use arrow::array::AsArray;
    let batches = session.batches(&format!("SHOW CREATE TABLE {table}")).await.unwrap();
    batches[0].column(1).as_string::<i32>().value(0).to_owned()
}

#[tokio::test]
async fn columns_come_go_and_widen_while_old_rows_stay() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 1), ('k', 1, 0.5, 2), ('x', 1, 0.5, 3)").await;
    session.rows("ADMIN flush_table('cpu')").await;
    session.run("INSERT INTO cpu VALUES ('a', 2, 0.5, 4)").await;
    session
        .run("ALTER TABLE cpu ADD COLUMN dc STRING DEFAULT 'eu' AFTER host, ADD COLUMN IF NOT EXISTS v INT, MODIFY COLUMN n BIGINT, DROP COLUMN v")
        .await;
    session.run("INSERT INTO cpu VALUES ('z', 'us', 1, 5000000000), ('z', NULL, 2, 6)").await;
    let expected = [
        "a|eu|1970-01-01T00:00:00.001|1",
        "a|eu|1970-01-01T00:00:00.002|4",
        "k|eu|1970-01-01T00:00:00.001|2",
        "x|eu|1970-01-01T00:00:00.001|3",
        "z|us|1970-01-01T00:00:00.001|5000000000",
        "z||1970-01-01T00:00:00.002|6",
    ];
    assert_eq!(session.rows(ALL).await, expected);
    assert_eq!(session.rows("SELECT count(*) FROM cpu WHERE dc = 'eu'").await, ["4"]);
    assert_eq!(session.rows("SELECT host FROM cpu WHERE n > 3 AND n < 7 ORDER BY host").await, ["a", "z"]);
    session.run("ALTER TABLE cpu ADD COLUMN v DOUBLE").await;
    assert_eq!(session.rows("SELECT count(v) FROM cpu").await, ["0"]);
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SELECT host, dc, ts, n FROM cpu ORDER BY host, ts").await, expected);
    let text = create_text(&session, "cpu").await;
    session.run(&text.replace("\"cpu\"", "other")).await;
    assert_eq!(create_text(&session, "other").await, text.replace("\"cpu\"", "\"other\""));
}

#[tokio::test]
async fn a_column_that_comes_first_is_first_for_what_names_no_columns() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 1)").await;
    session.rows("ADMIN flush_table('cpu')").await;
    session.run("ALTER TABLE cpu ADD COLUMN weight INT DEFAULT 7 FIRST, ADD COLUMN kind STRING FIRST").await;
    session.run("INSERT INTO cpu VALUES ('new', 8, 'b', 2, 1.5, 2)").await;
    let expected = ["|7|a|1970-01-01T00:00:00.001|0.5|1", "new|8|b|1970-01-01T00:00:00.002|1.5|2"];
    assert_eq!(session.rows("SELECT * FROM cpu ORDER BY host").await, expected);
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SELECT * FROM cpu ORDER BY host").await, expected);
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'cpu' ORDER BY ordinal_position";
    assert_eq!(session.rows(columns).await, ["kind", "weight", "host", "ts", "v", "n"]);
}

#[tokio::test]
async fn what_an_alteration_cannot_do_is_said_and_changes_nothing() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let before = create_text(&session, "cpu").await;
    let cases = [
        ("ADD COLUMN host INT", Code::InvalidArguments, "'host' is defined twice"),
        ("ADD COLUMN a INT AFTER b", Code::ColumnNotFound, "'b'"),
        ("ADD COLUMN a INT NOT NULL", Code::InvalidArguments, "constant DEFAULT"),
        ("ADD COLUMN a TIMESTAMP NOT NULL DEFAULT now()", Code::InvalidArguments, "constant DEFAULT"),
        ("ADD COLUMN a TIMESTAMP TIME INDEX", Code::InvalidArguments, "time index"),
        ("ADD COLUMN a INT DEFAULT 'x'", Code::InvalidArguments, "DEFAULT of column 'a'"),
        ("DROP COLUMN host", Code::InvalidArguments, "key or of the partition rules"),
        ("DROP COLUMN nope", Code::ColumnNotFound, "'nope'"),
        ("MODIFY COLUMN n SMALLINT", Code::InvalidArguments, "does not hold every value"),
        ("MODIFY COLUMN ts TIMESTAMP(9)", Code::InvalidArguments, "cannot be modified"),
        ("MODIFY COLUMN nope SET SKIPPING INDEX", Code::ColumnNotFound, "'nope'"),
        ("SET 'append_mode' = 'true'", Code::InvalidArguments, "for life"),
        ("SET 'merge_mode' = 'last_non_null'", Code::InvalidArguments, "for life"),
        ("SET 'colour' = 'red'", Code::InvalidArguments, "'colour'"),
        ("UNSET 'colour'", Code::InvalidArguments, "'colour'"),
        ("ADD COLUMN fine INT, DROP COLUMN nope", Code::ColumnNotFound, "'nope'"),
    ];
    for (clause, code, part) in cases {
        let (found, message) = session.refused(&format!("ALTER TABLE cpu {clause}")).await;
        assert_eq!(found, code, "{clause}: {message}");
        assert!(message.contains(part), "{clause}: {message}");
    }
    assert_eq!(create_text(&session, "cpu").await, before);
    assert_eq!(session.refused("ALTER TABLE nope ADD COLUMN a INT").await.0, Code::TableNotFound);
}

#[tokio::test]
async fn options_and_indexes_are_shown_as_they_were_set() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (a STRING SKIPPING INDEX, ts TIMESTAMP TIME INDEX, b STRING, PRIMARY KEY (a)) WITH (ttl = '7d')").await;
    session
        .run("ALTER TABLE t MODIFY COLUMN b SET SKIPPING INDEX WITH (granularity = 1024, false_positive_rate = '0.05', type = 'BLOOM')")
        .await;
    session.run("ALTER TABLE t SET 'ttl' = '1h 30m', 'compaction.twcs.time_window' = '2h'").await;
    let text = create_text(&session, "t").await;
    for part in [
        "\"a\" STRING NULL SKIPPING INDEX WITH(false_positive_rate = '0.01', type = 'BLOOM')",
        "\"b\" STRING NULL SKIPPING INDEX WITH(false_positive_rate = '0.05', type = 'BLOOM')",
        "'compaction.twcs.time_window' = '2h',\n  'ttl' = '1h 30m'",
    ] {
        assert!(text.contains(part), "{text}");
    }
    session.run("ALTER TABLE t MODIFY COLUMN a UNSET SKIPPING INDEX, UNSET ttl, 'compaction.twcs.time_window'").await;
    session.run("ALTER TABLE t DROP COLUMN b").await;
    let text = create_text(&session, "t").await;
    assert!(!text.contains("SKIPPING") && !text.contains("WITH"), "{text}");
    let region = session.server.catalogs.engine.region(RegionId::new(TableId(1024), RegionNumber(0))).unwrap();
    assert!(region.meta().options.is_empty(), "{:?}", region.meta().options);
}

#[tokio::test]
async fn a_renamed_table_is_found_under_its_new_name_only() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run(&CPU.replace("TABLE cpu", "TABLE other")).await;
    session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 1)").await;
    assert_eq!(session.refused("ALTER TABLE cpu RENAME other").await.0, Code::TableAlreadyExists);
    session.run("ALTER TABLE cpu RENAME load").await;
    assert_eq!(session.refused("SELECT * FROM cpu").await.0, Code::TableNotFound);
    assert_eq!(session.rows("SELECT n FROM load").await, ["1"]);
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SHOW TABLES").await, ["load", "other"]);
    assert_eq!(session.rows("SELECT n FROM load").await, ["1"]);
}

/// What ALTER TABLE does to the regions of `cpu`, up to a crash after so many of them.
async fn half_an_alteration(session: &Session, regions: u32) {
    let engine = &session.server.catalogs.engine;
    for number in 0..regions {
        let region = engine.region(RegionId::new(TableId(1024), RegionNumber(number))).unwrap();
        let meta = region.meta();
        let mut column = meta.schema.column_by_name("v").unwrap().clone();
        column.name = "w".into();
        let changes = [ColumnChange::Drop { name: "v".into() }, ColumnChange::Add { column, place: Place::Last }];
        let schema = Arc::new(meta.schema.evolve(&changes, &meta.partition_columns).unwrap());
        let to = Alteration { database: "public".into(), table: "load".into(), schema, options: meta.options.clone() };
        region.alter(&to).await.unwrap();
    }
}

#[tokio::test]
async fn an_alteration_that_a_crash_interrupts_is_finished_at_the_next_start() {
    for altered in 1..=3 {
        let (world, session) = Session::fresh().await;
        session.run(CPU).await;
        session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 1), ('k', 1, 0.5, 2), ('x', 1, 0.5, 3)").await;
        half_an_alteration(&session, altered).await;
        // Until then statements go on as if nothing had happened.
        session.run("INSERT INTO cpu VALUES ('b', 1, 0.75, 4), ('y', 1, 0.75, 5)").await;
        assert_eq!(session.rows("SELECT host, n FROM cpu ORDER BY host").await, ["a|1", "b|4", "k|2", "x|3", "y|5"]);
        session.server.close().await.unwrap();
        let session = world.open().await;
        assert_eq!(session.rows("SHOW TABLES").await, ["load"]);
        assert_eq!(
            session.rows("SELECT host, n, w FROM load ORDER BY host").await,
            ["a|1|1.5", "b|4|1.5", "k|2|1.5", "x|3|1.5", "y|5|1.5"]
        );
        for number in 0..3 {
            let region = session.server.catalogs.engine.region(RegionId::new(TableId(1024), RegionNumber(number))).unwrap();
            assert_eq!((region.meta().schema.version(), region.meta().table.as_str()), (2, "load"));
        }
    }
}

#[tokio::test]
async fn an_alteration_that_was_begun_is_finished_by_the_next_even_if_its_name_is_taken() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    half_an_alteration(&session, 1).await;
    session.run(&CPU.replace("TABLE cpu", "TABLE load")).await;
    session.run("ALTER TABLE cpu ADD COLUMN z INT").await;
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'cpu' ORDER BY ordinal_position";
    assert_eq!(session.rows(columns).await, ["host", "ts", "n", "w", "z"]);
    assert_eq!(session.rows("SELECT count(*) FROM load").await, ["0"]);
}

#[tokio::test]
async fn truncated_rows_are_gone_and_the_table_stays() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    let insert = "INSERT INTO cpu (host, ts) VALUES ('a', '2020-01-01'), ('a', '2020-01-02'), ('k', '2020-01-03'), ('x', '2020-01-04')";
    session.run(insert).await;
    session.run("TRUNCATE TABLE cpu FILE RANGE ('2020-01-02', '2020-01-03'), ('2021-01-01', '2021-01-02')").await;
    assert_eq!(session.rows("SELECT host FROM cpu ORDER BY host").await, ["a", "x"]);
    session.run("TRUNCATE cpu").await;
    assert_eq!(session.rows(ALL).await, Vec::<String>::new());
    session.run(insert).await;
    session.run("TRUNCATE TABLE cpu; INSERT INTO cpu (host, ts) VALUES ('later', 1)").await;
    session.server.close().await.unwrap();
    let session = world.open().await;
    assert_eq!(session.rows("SELECT host FROM cpu").await, ["later"]);
    let (code, message) = session.refused("TRUNCATE TABLE cpu FILE RANGE ('x', 1)").await;
    assert_eq!(code, Code::InvalidArguments, "{message}");
    assert!(session.refused("TRUNCATE TABLE cpu FILE RANGE (2, 1)").await.1.contains("ends before it begins"));
    assert_eq!(session.refused("TRUNCATE TABLE nope").await.0, Code::TableNotFound);
}

#[tokio::test]
async fn a_ttl_of_the_table_goes_before_that_of_its_database() {
    const DAY_MS: u64 = 86_400_000;
    let (_world, session) = Session::fresh().await;
    session.run("CREATE DATABASE m WITH (ttl = '2d')").await;
    for (table, with) in [("own", "WITH (ttl = '10d')"), ("databases", ""), ("kept", "WITH (ttl = 'forever')")] {
        session.run(&format!("CREATE TABLE m.{table} (ts TIMESTAMP TIME INDEX, v INT) {with}")).await;
        for day in [0, 6] {
            session.run(&format!("INSERT INTO m.{table} VALUES ({}, {day})", day * DAY_MS)).await;
            session.rows(&format!("ADMIN flush_table('m.{table}')")).await;
        }
    }
    let left = async |session: &Session| {
        let mut left = Vec::new();
        for table in ["own", "databases", "kept"] {
            left.extend(session.rows(&format!("SELECT count(*) FROM m.{table}")).await);
        }
        left
    };
    let expire = async |day: u64| ttl::expire(&session.server.catalogs, day * DAY_MS).await.unwrap();
    assert_eq!(expire(2).await, 0);
    assert_eq!(expire(3).await, 1);
    assert_eq!(left(&session).await, ["2", "1", "2"]);
    session.run("ALTER DATABASE m UNSET ttl").await;
    session.run("ALTER TABLE m.own SET ttl = '1d'").await;
    assert_eq!(expire(100).await, 2);
    assert_eq!(left(&session).await, ["0", "1", "2"]);
    session.run("ALTER DATABASE m SET ttl = '1d'").await;
    assert_eq!(expire(100).await, 1);
    assert_eq!(session.refused("ALTER DATABASE m SET 'append_mode' = 'true'").await.0, Code::InvalidArguments);
    assert_eq!(session.refused("ALTER DATABASE nope SET ttl = '1d'").await.0, Code::DatabaseNotFound);
}

#[tokio::test]
async fn deletes_are_refused_where_every_row_stays() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (ts TIMESTAMP TIME INDEX, v INT) WITH (append_mode = 'true')").await;
    let (code, message) = session.refused("DELETE FROM t").await;
    assert_eq!(code, Code::Unsupported);
    assert!(message.contains("append_mode") && message.contains("TRUNCATE"), "{message}");
}

#[tokio::test]
async fn admin_functions_answer_a_zero_or_name_what_is_wrong() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 1)").await;
    assert_eq!(session.rows("ADMIN flush_table('public.cpu')").await, ["0"]);
    assert_eq!(session.rows("ADMIN flush_region('1024/0')").await, ["0"]);
    assert_eq!(session.rows("SELECT sum(files) FROM information_schema.regions").await, ["1"]);
    session.run("INSERT INTO cpu VALUES ('a', 1, 0.5, 2), ('a', 2, 0.5, 3)").await;
    assert_eq!(session.rows("ADMIN flush_table('cpu'); ADMIN compact_table('cpu', 'strict_window')").await, ["0"]);
    assert_eq!(session.rows("ADMIN compact_region('1024/0')").await, ["0"]);
    assert_eq!(session.rows("SELECT sum(files), sum(file_rows) FROM information_schema.regions").await, ["1|2"]);
    assert_eq!(session.rows("SELECT n FROM cpu ORDER BY ts").await, ["2", "3"]);
    for (sql, code) in [
        ("ADMIN compact_table('cpu', 'loose')", Code::InvalidArguments),
        ("ADMIN compact_table('cpu', 'strict_window', '3600')", Code::InvalidArguments),
        ("ADMIN flush_table('nope')", Code::TableNotFound),
        ("ADMIN flush_table()", Code::InvalidArguments),
        ("ADMIN flush_region('x')", Code::InvalidArguments),
        ("ADMIN make_coffee('t')", Code::Unsupported),
    ] {
        assert_eq!(session.refused(sql).await.0, code, "{sql}");
    }
}
