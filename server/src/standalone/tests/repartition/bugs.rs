//! Bugs that GreptimeDB has, or had, in its repartition; each test has the number of its issue there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_engine::request::{OpType, WriteRequest};

use super::*;
use crate::ddl::truncate::truncate;
use crate::query::refusal::Refusal;
use crate::query::rows::nowhere;
use crate::query::session::Sessions;
use crate::query::write::Writer;

/// Splits and merges this often.
const ROUNDS: usize = 6;

async fn to_and_fro(session: &Session, rounds: usize) {
    for round in 0..rounds {
        for sql in if round % 2 == 0 { [SPLIT, MERGE] } else { [THREE, TWO] } {
            session.repartition(sql).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_7561_after_a_split_and_a_merge_every_row_is_there_once() {
    for options in ["", "WITH (append_mode = 'true')"] {
        let (_world, session) = Session::fresh().await;
        session.run(&create(options)).await;
        let row = |n: usize| format!("('{}', {n}, {n}, {n})", char::from(b'a' + (n % 26) as u8));
        for batch in 0..5 {
            let rows: Vec<String> = (batch * 50..batch * 50 + 50).map(row).collect();
            session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
            session.rows("ADMIN flush_table('t')").await;
        }
        let before = session.all().await;
        for sql in [SPLIT, MERGE, THREE, TWO] {
            session.repartition(sql).await;
            assert_eq!(session.all().await, before, "{sql}");
            assert_eq!(session.rows("SELECT count(*), count(DISTINCT v) FROM t").await, ["250|250"], "{sql}");
            session.rows("ADMIN compact_table('t', 'strict_window')").await;
            assert_eq!(session.all().await, before, "{sql}, compacted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_7678_rows_that_are_inserted_all_the_time_have_no_gap() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("")).await;
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let insert = async {
        let mut next = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let hosts = ["a", "f", "g", "m", "z"];
            let rows: Vec<String> = hosts.iter().map(|host| format!("('{host}', {next}, {next}, 0)")).collect();
            assert_eq!(session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await, 5);
            next += 1;
            acknowledged.store(next, Ordering::Relaxed);
        }
    };
    let change = async {
        to_and_fro(&session, ROUNDS).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(insert, change);
    let next = acknowledged.load(Ordering::Relaxed);
    let expected: Vec<String> = ["a", "f", "g", "m", "z"].iter().map(|host| format!("{host}|{next}|0|{}", next - 1)).collect();
    let found =
        session.rows("SELECT host, count(*), CAST(min(ts) AS BIGINT), CAST(max(ts) AS BIGINT) FROM t GROUP BY host ORDER BY host").await;
    assert_eq!(found, expected);
    session.expect_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_8946_an_old_row_of_a_busy_region_does_not_beat_a_newer_write() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("")).await;
    // The region of 'a' gives out many sequences, so that its rows have large ones.
    for n in 0..40 {
        session.run(&format!("INSERT INTO t VALUES ('k', 1, {n}, 0), ('a', {n}, {n}, 0), ('b', {n}, {n}, 0)")).await;
    }
    session.rows("ADMIN flush_table('t')").await;
    // 'k' goes to a region whose counter is low, is written there once, and comes back.
    session.repartition(SPLIT).await;
    session.run("INSERT INTO t VALUES ('k', 1, 1000, 1)").await;
    session.rows("ADMIN flush_table('t')").await;
    let newest = "SELECT v, w FROM t WHERE host = 'k'";
    assert_eq!(session.rows(newest).await, ["1000|1"]);
    session.repartition(MERGE).await;
    assert_eq!(session.rows(newest).await, ["1000|1"]);
    session.rows("ADMIN compact_table('t', 'strict_window')").await;
    assert_eq!(session.rows(newest).await, ["1000|1"]);
    session.run("INSERT INTO t VALUES ('k', 1, 1001, 2)").await;
    assert_eq!(session.rows(newest).await, ["1001|2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_7815_queries_never_fail_and_see_all_rows_all_the_time() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("")).await;
    let rows: Vec<String> = (0..520).map(|n| format!("('{}', {n}, 1, {n})", char::from(b'a' + (n % 26) as u8))).collect();
    session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    session.rows("ADMIN flush_table('t')").await;
    let (stop, queries) = (AtomicBool::new(false), AtomicU64::new(0));
    let query = async |sql: &str, expected: &[&str]| {
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(session.rows(sql).await, expected, "{sql}");
            queries.fetch_add(1, Ordering::Relaxed);
        }
    };
    let change = async {
        to_and_fro(&session, ROUNDS).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        query("SELECT count(*) FROM t", &["520"]),
        query("SELECT sum(v), count(DISTINCT w) FROM t", &["520|520"]),
        query("SELECT count(*) FROM t WHERE host >= 'e' AND host < 'h'", &["60"]),
        query("SELECT count(*) FROM t a JOIN t b ON a.host = b.host AND a.ts = b.ts", &["520"]),
        query("SELECT host, max(ts) IS NOT NULL FROM t GROUP BY host ORDER BY host LIMIT 1", &["a|true"]),
        change
    );
    assert!(queries.load(Ordering::Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_deleted_between_split_and_merge_stays_deleted() {
    for options in ["", "WITH (merge_mode = 'last_non_null')"] {
        for compact in [false, true] {
            let (_world, session) = Session::fresh().await;
            session.run(&create(options)).await;
            session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('g', 1, 2, 2), ('z', 1, 3, 3)").await;
            session.rows("ADMIN flush_table('t')").await;
            session.repartition(SPLIT).await;
            assert_eq!(session.run("DELETE FROM t WHERE host = 'g'").await, 1);
            session.rows("ADMIN flush_table('t')").await;
            if compact {
                session.rows("ADMIN compact_table('t', 'strict_window')").await;
            }
            assert_eq!(session.all().await, ["a|1|1|1", "z|1|3|3"]);
            session.repartition(MERGE).await;
            assert_eq!(session.all().await, ["a|1|1|1", "z|1|3|3"], "{options} {compact}");
            session.rows("ADMIN compact_table('t', 'strict_window')").await;
            assert_eq!(session.all().await, ["a|1|1|1", "z|1|3|3"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_truncated_between_split_and_merge_stay_gone() {
    for options in ["", "WITH (append_mode = 'true')"] {
        let (_world, session) = Session::fresh().await;
        session.run(&create(options)).await;
        session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('g', 1, 2, 2), ('g', 9, 2, 2), ('z', 1, 3, 3)").await;
        session.rows("ADMIN flush_table('t')").await;
        session.repartition(SPLIT).await;
        session.run("TRUNCATE TABLE t FILE RANGE (1, 1)").await;
        assert_eq!(session.all().await, ["g|9|2|2"]);
        session.repartition(MERGE).await;
        assert_eq!(session.all().await, ["g|9|2|2"], "{options}");
        session.repartition(SPLIT).await;
        session.run("TRUNCATE TABLE t").await;
        session.repartition(MERGE).await;
        assert!(session.all().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_writer_of_an_equal_earlier_rule_is_refused() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("")).await;
    let early = session.server.catalogs.table("public", "t").await.unwrap();
    session.repartition(SPLIT).await;
    session.repartition(MERGE).await;
    let late = session.server.catalogs.table("public", "t").await.unwrap();
    // The rules are those of before; generations are not.
    let schema = early.info.schema.to_arrow();
    let rows = session
        .batches("SELECT 'a', arrow_cast(1, 'Timestamp(Millisecond, None)'), CAST(1 AS BIGINT) AS v, CAST(1 AS BIGINT) AS w")
        .await
        .unwrap();
    let batch = RecordBatch::try_new(schema, rows[0].columns().to_vec()).unwrap();
    let mut refused = 0;
    for route in early.write_routes() {
        let equal = late.write_routes().iter().any(|now| now.rule.version() == route.rule.version());
        assert!(equal, "the rules are as they were");
        if !route.rule.columns().is_empty() && route.rule.display(&early.info.schema).to_string().contains('<') {
            let request =
                WriteRequest { generation: route.generation, rule_version: route.rule.version(), batch: batch.clone(), op: OpType::Put };
            let error = session.server.catalogs.engine.region(route.region).unwrap().write(request).await.unwrap_err();
            assert_eq!(error.class(), tessera_manifest::error::ErrorClass::Refresh, "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    assert!(session.all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_reads_what_it_writes_sees_all_that_was_acknowledged() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("WITH (append_mode = 'true')")).await;
    session.run("CREATE TABLE other (host STRING, ts TIMESTAMP(3) TIME INDEX, PRIMARY KEY (host))").await;
    let stop = AtomicBool::new(false);
    let double = async {
        let mut rows = 1_u64;
        session.run("INSERT INTO t VALUES ('a', 1, 1, 1)").await;
        while !stop.load(Ordering::Relaxed) && rows < 4096 {
            assert_eq!(session.run("INSERT INTO t SELECT host, ts, v, w FROM t").await, rows);
            rows *= 2;
        }
        rows
    };
    let change = async {
        to_and_fro(&session, 2).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (rows, ()) = tokio::join!(double, change);
    assert_eq!(session.rows("SELECT count(*) FROM t").await, [rows.to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncation_that_a_split_overtook_is_refused_to_be_done_again() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, PRIMARY KEY (host))").await;
    session.run("INSERT INTO t VALUES ('a', 1), ('z', 1)").await;
    let (catalogs, sessions) = (session.server.catalogs(), Sessions::new().unwrap());
    let before = catalogs.settled(catalogs.table("public", "t").await.unwrap()).await.unwrap();
    session.repartition("ALTER TABLE t PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')").await;
    let refused = truncate(&before, &[], catalogs, &sessions).await.unwrap_err();
    assert_eq!(refused.refusal, Some(Refusal::Stale), "{:?}", refused.error);
    assert_eq!(session.rows("SELECT count(*) FROM t").await, ["1"], "the region that was split off was not truncated");
    session.run("TRUNCATE TABLE t").await;
    assert_eq!(session.rows("SELECT count(*) FROM t").await, ["0"]);
}

/// What a statement does that began before a column was added and the table cut by it.
async fn cut_by_a_later_column(options: &str, added: &str, rules: &str, expected: &[&str]) {
    let (_world, session) = Session::fresh().await;
    session.run(&format!("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v INT, PRIMARY KEY (host)) {options}")).await;
    let catalogs = session.server.catalogs();
    let rows = "SELECT host, arrow_cast(1, 'Timestamp(Millisecond, None)'), arrow_cast(7, 'Int32') FROM (VALUES ('a'), ('z')) AS r (host)";
    let planned = catalogs.table("public", "t").await.unwrap();
    let mut writer = Writer::put(Arc::clone(&planned), catalogs.clone());
    for batch in session.batches(rows).await.unwrap() {
        writer.push(&batch, &nowhere).await.unwrap();
    }
    session.run(&format!("ALTER TABLE t ADD COLUMN {added}, MODIFY COLUMN v BIGINT")).await;
    session.repartition(&format!("ALTER TABLE t PARTITION ON COLUMNS (dc) ({rules})")).await;
    assert_eq!(writer.finish().await.unwrap(), 2);
    let table = catalogs.table("public", "t").await.unwrap();
    assert!(table.sets.is_settled() && table.routes().len() == 2);
    let all = "SELECT host, dc, v FROM t ORDER BY host, dc";
    assert_eq!(session.rows(all).await, expected);
    // The next rows of a statement are those of its beginning as well.
    let mut writer = Writer::put(planned, catalogs.clone());
    for round in 0..2 {
        for batch in session.batches(rows).await.unwrap() {
            writer.push(&batch, &nowhere).await.unwrap();
        }
        if round == 0 {
            writer.flush().await.unwrap();
        }
    }
    assert_eq!(writer.finish().await.unwrap(), 4);
    let factor = if options.contains("append_mode") { 3 } else { 1 };
    let many: Vec<&str> = expected.iter().flat_map(|row| std::iter::repeat_n(*row, factor)).collect();
    assert_eq!(session.rows(all).await, many);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_way_are_cut_by_a_column_that_was_added_meanwhile() {
    let rules = "dc < 'm', dc >= 'm'";
    cut_by_a_later_column("", "dc STRING DEFAULT 'x' PRIMARY KEY", rules, &["a|x|7", "z|x|7"]).await;
    cut_by_a_later_column("", "dc STRING PRIMARY KEY FIRST", rules, &["a||7", "z||7"]).await;
    let append = "WITH (append_mode = 'true')";
    cut_by_a_later_column(append, "dc STRING DEFAULT 'b' FIRST", rules, &["a|b|7", "z|b|7"]).await;
    cut_by_a_later_column(append, "dc TIMESTAMP(3) DEFAULT now()", "dc < 5, dc >= 5", &["a||7", "z||7"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_under_way_are_cut_by_a_tag_that_was_added_meanwhile() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v INT, PRIMARY KEY (host))").await;
    session.run("INSERT INTO t VALUES ('a', 1, 1), ('b', 1, 2)").await;
    let catalogs = session.server.catalogs();
    let mut writer = Writer::delete(catalogs.table("public", "t").await.unwrap(), catalogs.clone());
    for batch in session.batches("SELECT host, ts FROM t WHERE host = 'a'").await.unwrap() {
        writer.push(&batch, &nowhere).await.unwrap();
    }
    session.run("ALTER TABLE t ADD COLUMN dc STRING DEFAULT 'x' PRIMARY KEY").await;
    session.repartition("ALTER TABLE t PARTITION ON COLUMNS (dc) (dc < 'm', dc >= 'm')").await;
    assert_eq!(writer.finish().await.unwrap(), 1);
    assert_eq!(session.rows("SELECT host, dc FROM t").await, ["b|x"]);
}
