//! SELECT, EXPLAIN and information_schema.

use super::{CPU, Session};
use crate::error::Code;
use crate::query::partitions::reads_few_rows;
use crate::query::session::Sessions;
use crate::sql::{Statement, parse};

async fn filled() -> (super::World, Session) {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session
        .run("INSERT INTO cpu (host, ts, v) VALUES ('a', 1000, 1), ('b', 2000, 2), ('h', 1000, 3), ('x', 3000, NULL), (NULL, 1, 5)")
        .await;
    (world, session)
}

#[tokio::test]
async fn queries_see_all_regions() {
    let (_world, session) = filled().await;
    assert_eq!(session.rows("SELECT count(*), count(v), sum(v) FROM cpu").await, ["5|4|11.0"]);
    assert_eq!(session.rows("SELECT host FROM cpu WHERE v > 1 AND host IS NOT NULL ORDER BY host").await, ["b", "h"]);
    assert_eq!(session.rows("SELECT a.host FROM cpu a JOIN cpu b ON a.ts = b.ts AND a.host < b.host").await, ["a"]);
    assert_eq!(session.rows("WITH c AS (SELECT max(v) AS m FROM cpu) SELECT m FROM c").await, ["5.0"]);
    assert_eq!(session.rows("SELECT host FROM public.cpu WHERE ts >= '1970-01-01T00:00:03Z'").await, ["x"]);
    assert_eq!(session.rows("SELECT count(*) FROM tessera.public.cpu WHERE ts < now()").await, ["5"]);
    assert_eq!(session.rows("SELECT host FROM cpu LIMIT 2").await.len(), 2);
    assert_eq!(session.rows("VALUES (1), (2)").await, ["1", "2"]);
}

#[tokio::test]
async fn regions_that_cannot_match_are_not_scanned() {
    let (_world, session) = filled().await;
    let explain = |filter: &str| format!("EXPLAIN SELECT v FROM cpu WHERE {filter}");
    let plan = session.rows(&explain("host = 'x'")).await.join("\n");
    assert!(plan.contains("TesseraScanExec: table=public.cpu, regions=[1024/2], pruned=2, filters=[host = 'x']"), "{plan}");
    assert!(plan.contains("projection=[v]") && !plan.contains("FilterExec"), "the region filters: {plan}");
    for (filter, regions) in [
        ("host IS NULL", "[1024/0]"),
        ("host IN ('a', 'i')", "[1024/0, 1024/1]"),
        ("host = 'a' OR v > 1", "[1024/0, 1024/1, 1024/2]"),
        ("NOT (host < 'h' OR host >= 'q')", "[1024/1]"),
        ("host BETWEEN 'r' AND 's'", "[1024/2]"),
        ("host = 'zzz'", "[]"),
    ] {
        let plan = session.rows(&explain(filter)).await.join("\n");
        assert!(plan.contains(&format!("regions={regions}")), "{filter}: {plan}");
    }
    assert_eq!(session.rows("SELECT count(*) FROM cpu WHERE host = 'zzz'").await, ["0"]);
    let analyzed = session.rows("EXPLAIN ANALYZE SELECT * FROM cpu WHERE host = 'x'").await.join("\n");
    assert!(analyzed.contains("output_rows=1") && analyzed.contains("files_skipped=0"), "{analyzed}");
}

#[tokio::test]
async fn errors_of_queries_are_understood() {
    let (_world, session) = filled().await;
    let cases = [
        ("SELECT * FROM nope", Code::TableNotFound, "there is no table 'nope' in database 'public'"),
        ("SELECT * FROM nodb.t", Code::DatabaseNotFound, "there is no database 'nodb'"),
        ("SELECT wat FROM cpu", Code::ColumnNotFound, "there is no column 'wat'; columns are host, ts, v, n"),
        ("SELECT nofunction(v) FROM cpu", Code::PlanQuery, "nofunction"),
        ("SELECT (v FROM cpu", Code::InvalidSyntax, "bad SQL"),
        ("SELECT * FROM information_schema.nope", Code::TableNotFound, "tables are columns, partitions"),
        ("SELECT CAST('x' AS INT)", Code::InvalidArguments, "x"),
        ("SELECT 1 / 0", Code::InvalidArguments, "division by zero"),
        ("SELECT host FROM cpu a JOIN cpu b ON a.ts = b.ts", Code::PlanQuery, "more than one"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = session.refused(sql).await;
        assert!(found == code && message.contains(part), "{sql}: {found:?} {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[tokio::test]
async fn information_schema_shows_what_there_is() {
    let (_world, session) = filled().await;
    let tables = "SELECT TABLE_ID, table_name, region_count FROM INFORMATION_SCHEMA.TABLES";
    assert_eq!(session.rows(tables).await, ["1024|cpu|3"]);
    let columns = "SELECT column_name, data_type, semantic_type, is_nullable, column_default FROM information_schema.columns \
                   WHERE table_name = 'cpu' ORDER BY ordinal_position";
    let expected = ["host|STRING|TAG|Yes|", "ts|TIMESTAMP(3)|TIMESTAMP|No|", "v|DOUBLE|FIELD|Yes|1.5", "n|INT|FIELD|No|7"];
    assert_eq!(session.rows(columns).await, expected);
    let partitions = "SELECT partition_name, partition_expression, region_id, generation FROM information_schema.partitions";
    assert_eq!(session.rows(partitions).await, ["p0|host|1024/0|1", "p1|host|1024/1|1", "p2|host|1024/2|1"]);
    let regions = "SELECT region_id, rule, state, memtable_rows, error FROM information_schema.regions ORDER BY region_number";
    assert_eq!(session.rows(regions).await[0], "1024/0|host < 'h'|open|3|");
    assert_eq!(session.rows("SELECT schema_name FROM information_schema.schemata").await, ["public", "information_schema"]);
    assert_eq!(session.rows("SHOW TABLES FROM information_schema").await.len(), 5);
}

#[tokio::test]
async fn each_statement_sees_what_those_before_it_did() {
    let (_world, session) = filled().await;
    let sql = "DELETE FROM cpu WHERE host = 'a'; INSERT INTO cpu (host, ts) VALUES ('c', 9); SELECT count(*) FROM cpu WHERE host < 'd'";
    assert_eq!(session.rows(sql).await, ["2"]);
    let mut outputs = session.execute("SELECT count(*) FROM cpu; DELETE FROM cpu; SELECT count(*) FROM cpu").await.unwrap();
    let crate::service::Output::Rows { stream, .. } = outputs.swap_remove(0) else { panic!() };
    use arrow::array::AsArray;
    use futures::TryStreamExt;
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 5);
}

#[tokio::test]
async fn the_last_row_of_each_series_is_all_that_is_read_of_it() {
    let (_world, session) = filled().await;
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('a', 5000, 8), ('b', 500, 9), ('b', 4000, NULL)").await;
    let last = "SELECT host, last_value(v ORDER BY ts), max(ts) FROM cpu GROUP BY host ORDER BY host NULLS FIRST";
    let plan = session.rows(&format!("EXPLAIN {last}")).await.join("\n");
    assert!(plan.contains("rows=last of each series"), "{plan}");
    let expected = [
        "|5.0|1970-01-01T00:00:00.001",
        "a|8.0|1970-01-01T00:00:05",
        "b||1970-01-01T00:00:04",
        "h|3.0|1970-01-01T00:00:01",
        "x||1970-01-01T00:00:03",
    ];
    assert_eq!(session.rows(last).await, expected);
    let distinct = "SELECT DISTINCT ON (host) host, v FROM cpu WHERE ts < '1970-01-01T00:00:05Z' ORDER BY host, ts DESC";
    let plan = session.rows(&format!("EXPLAIN {distinct}")).await.join("\n");
    assert!(plan.contains("rows=last of each series"), "{plan}");
    assert_eq!(session.rows(distinct).await, ["a|1.0", "b|", "h|3.0", "x|", "|5.0"]);
    // A condition on a field chooses rows, not series.
    let chosen = "SELECT host, last_value(v ORDER BY ts) FROM cpu WHERE v > 0 GROUP BY host ORDER BY host";
    let plan = session.rows(&format!("EXPLAIN {chosen}")).await.join("\n");
    assert!(!plan.contains("rows=last"), "{plan}");
    assert_eq!(session.rows(chosen).await, ["a|8.0", "b|2.0", "h|3.0", "|5.0"]);
}

#[tokio::test]
async fn rows_come_in_the_order_that_is_asked_for() {
    let (_world, session) = filled().await;
    let newest = "SELECT host, ts FROM cpu WHERE host > 'a' ORDER BY ts DESC LIMIT 2";
    let plan = session.rows(&format!("EXPLAIN {newest}")).await.join("\n");
    assert!(plan.contains("order=newest first") && plan.contains("limit=2"), "{plan}");
    assert_eq!(session.rows(newest).await, ["x|1970-01-01T00:00:03", "b|1970-01-01T00:00:02"]);
    let by_key = "SELECT host, ts FROM cpu ORDER BY host NULLS FIRST, ts";
    let plan = session.rows(&format!("EXPLAIN {by_key}")).await.join("\n");
    assert!(plan.contains("order=key") && !plan.contains("SortExec"), "{plan}");
    let hosts: Vec<String> = session.rows(by_key).await.iter().map(|row| row.split('|').next().unwrap().to_owned()).collect();
    assert_eq!(hosts, ["", "a", "b", "h", "x"]);
    // A tag of which one value is asked for does not matter, wherever it stands.
    session.run("INSERT INTO cpu (host, ts, v, n) VALUES ('a', 9000, 1, 1), ('a', 5, 1, 1), ('b', 7, 1, 1), ('a', 700, 1, 1)").await;
    for order in ["ts", "ts, host", "host DESC, ts"] {
        let one = format!("SELECT CAST(ts AS BIGINT) AS t FROM cpu WHERE host = 'a' ORDER BY {order}");
        let plan = session.rows(&format!("EXPLAIN {one}")).await.join("\n");
        assert!(plan.contains("order=key") && !plan.contains("SortExec"), "{plan}");
        let times: Vec<i64> = session.rows(&one).await.iter().map(|row| row.parse().unwrap()).collect();
        assert!(times.len() >= 4 && times.is_sorted(), "{times:?}");
    }
    let some = "SELECT v FROM cpu ORDER BY v DESC NULLS LAST, ts LIMIT 1";
    assert_eq!(session.rows(some).await, ["5.0"]);
}

#[tokio::test]
async fn rows_come_by_time_without_a_sort_above_the_scan() {
    let (_world, session) = filled().await;
    for file in 0..3 {
        let row = |n: i64| format!("('{}', {}, {n}, {n})", ["a", "k", "x"][(n % 3) as usize], file * 1000 + n * 37 % 1000);
        let rows: Vec<String> = (0..200).map(row).collect();
        session.run(&format!("INSERT INTO cpu (host, ts, v, n) VALUES {}", rows.join(", "))).await;
        if file < 2 {
            session.rows("ADMIN flush_table('cpu')").await;
        }
    }
    let all = session.rows("SELECT host, CAST(ts AS BIGINT) AS t, v FROM cpu WHERE host >= 'a'").await;
    let time = |row: &String| row.split('|').nth(1).unwrap().parse::<i64>().unwrap();
    for (order, shown) in [("ts", "order=time"), ("ts DESC", "order=newest first"), ("ts DESC NULLS LAST", "order=newest first")] {
        let sql = format!("SELECT host, CAST(ts AS BIGINT) AS t, v FROM cpu WHERE host >= 'a' ORDER BY {order}");
        let plan = session.rows(&format!("EXPLAIN {sql}")).await.join("\n");
        assert!(plan.contains(shown) && !plan.contains("SortExec"), "{plan}");
        assert!(plan.contains("BufferExec: capacity=4194304"), "little is read ahead of the merge: {plan}");
        let mut rows = session.rows(&sql).await;
        let times: Vec<i64> = rows.iter().map(time).collect();
        assert!(if order == "ts" { times.is_sorted() } else { times.iter().rev().is_sorted() }, "{times:?}");
        let mut expected = all.clone();
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected);
        let limited = session.rows(&format!("{sql} LIMIT 7 OFFSET 3")).await;
        assert_eq!(limited.iter().map(time).collect::<Vec<_>>(), times[3..10]);
    }
    // By one value of all tags a series is in order as it is; more than the time, a field, or a filter that is left to be tested is not.
    let sorted = [
        "host = 'a' ORDER BY ts DESC, host",
        "host IN ('a', 'k') ORDER BY host DESC, ts",
        "v > 5 ORDER BY ts",
        "host = 'a' ORDER BY v, ts",
    ];
    for (rest, is_sorted) in sorted.into_iter().zip([false, true, true, true]) {
        let plan = session.rows(&format!("EXPLAIN SELECT ts, host, v FROM cpu WHERE {rest}")).await.join("\n");
        assert_eq!(plan.contains("SortExec"), is_sorted, "{rest}: {plan}");
    }
    // Of values of any length nobody knows what a sort takes.
    session.run("CREATE TABLE logs (ts TIMESTAMP TIME INDEX, host STRING PRIMARY KEY, line STRING)").await;
    for (columns, is_sorted) in [("host, ts", false), ("ts, line", true)] {
        let plan = session.rows(&format!("EXPLAIN SELECT {columns} FROM logs ORDER BY ts")).await.join("\n");
        assert_eq!(plan.contains("SortExec"), is_sorted, "{plan}");
    }
}

#[tokio::test]
async fn the_times_and_the_number_of_rows_of_files_come_from_metadata() {
    let (_world, session) = filled().await;
    let (times, count) = ("SELECT min(ts), max(ts) FROM cpu", "SELECT count(*) FROM cpu");
    // Rows in memory may replace each other, so they are counted by reading.
    assert_eq!(session.rows(count).await, ["5"]);
    session.rows("ADMIN flush_table('cpu')").await;
    for (sql, answer) in [(times, "1970-01-01T00:00:00.001|1970-01-01T00:00:03"), (count, "5")] {
        let plan = session.rows(&format!("EXPLAIN {sql}")).await.join("\n");
        assert!(!plan.contains("TesseraScanExec"), "{plan}");
        assert_eq!(session.rows(sql).await, [answer]);
    }
    assert_eq!(session.rows("SELECT max(ts) FROM cpu WHERE host < 'h'").await, ["1970-01-01T00:00:02"]);
    session.run("DELETE FROM cpu WHERE host = 'x'").await;
    assert_eq!(session.rows(times).await, ["1970-01-01T00:00:00.001|1970-01-01T00:00:02"]);
    assert_eq!(session.rows(count).await, ["4"]);
}

#[tokio::test]
async fn neighbours_of_one_group_are_reduced_before_they_are_hashed() {
    let (_world, session) = filled().await;
    let point = |n: i64| {
        let (host, ts) = (["a", "b", "i"][(n % 3) as usize], n * 977);
        let v = if n % 5 == 0 { "NULL".to_owned() } else { format!("{}.25", n % 13 - 6) };
        format!("('{host}', {ts}, {v}, {n})")
    };
    let points = (10..700).map(point).collect::<Vec<_>>().join(", ");
    session.run(&format!("INSERT INTO cpu (host, ts, v, n) VALUES {points}")).await;
    let all = "count(*), count(v), sum(v), avg(v), min(v), max(v), sum(n), max(ts)";
    for (keys, apart) in [
        ("date_trunc('minute', ts)", "date_trunc('minute', ts + INTERVAL '0 seconds')"),
        ("date_bin(INTERVAL '7 seconds', ts)", "date_bin(INTERVAL '7 seconds', ts + INTERVAL '0 seconds')"),
        ("host, date_trunc('Second', ts)", "nullif(host, ''), date_trunc('second', ts + INTERVAL '0 seconds')"),
        ("host", "nullif(host, '')"),
    ] {
        for filter in ["TRUE", "v > 0", "host = 'a' AND ts > '1970-01-01T00:00:09Z'"] {
            let select = |keys: &str| format!("SELECT {keys}, {all} FROM cpu WHERE {filter} GROUP BY {keys}");
            let plan = session.rows(&format!("EXPLAIN {}", select(keys))).await.join("\n");
            assert!(plan.contains("ReduceRunsExec: by=["), "{plan}");
            let plan = session.rows(&format!("EXPLAIN {}", select(apart))).await.join("\n");
            assert!(!plan.contains("ReduceRunsExec"), "{plan}");
            let (mut found, mut expected) = (session.rows(&select(keys)).await, session.rows(&select(apart)).await);
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{keys} where {filter}");
        }
    }
}

#[tokio::test]
async fn runs_of_few_rows_are_added_up_by_the_final_aggregation() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE, n BIGINT, PRIMARY KEY (host))").await;
    session.run("INSERT INTO t VALUES ('a', 0, 1.5, 1), ('a', 9000, NULL, 2), (NULL, 500, NULL, NULL), ('b', 61000, -2, 3)").await;
    let all = "count(v), avg(v), min(v), sum(n), max(ts), count(*), avg(n), max(v)";
    for (keys, apart) in [
        ("date_trunc('minute', ts)", "date_trunc('minute', ts + INTERVAL '0 seconds')"),
        ("host, date_bin(INTERVAL '7 seconds', ts)", "nullif(host, ''), date_bin(INTERVAL '7 seconds', ts + INTERVAL '0 seconds')"),
    ] {
        for filter in ["TRUE", "v > 0", "v IS NULL", "n > 1", "host = 'a'", "host = 'x'"] {
            let select = |keys: &str| format!("SELECT {keys}, {all} FROM t WHERE {filter} GROUP BY {keys}");
            let plan = session.rows(&format!("EXPLAIN {}", select(keys))).await.join("\n");
            assert!(plan.contains("ReduceRunsExec") && plan.contains("mode=Final,") && !plan.contains("mode=Partial"), "{plan}");
            let plan = session.rows(&format!("EXPLAIN {}", select(apart))).await.join("\n");
            assert!(plan.contains("mode=Single,"), "{plan}");
            let (mut found, mut expected) = (session.rows(&select(keys)).await, session.rows(&select(apart)).await);
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{keys} where {filter}");
        }
    }
    let least = "SELECT date_trunc('minute', ts) AS b, min(v) AS m FROM t GROUP BY b ORDER BY m LIMIT 1";
    let plan = session.rows(&format!("EXPLAIN {least}")).await.join("\n");
    assert!(plan.contains("ReduceRunsExec"), "{plan}");
    assert_eq!(session.rows(&least.replace("AS b, ", "AS b, count(*), ")).await, ["1970-01-01T00:01:00|1|-2.0"]);
}

#[tokio::test]
async fn what_runs_cannot_answer_is_left_as_it_is() {
    let (_world, session) = filled().await;
    for sql in [
        "SELECT host, count(DISTINCT v) FROM cpu GROUP BY host",
        "SELECT host, sum(v) FILTER (WHERE v > 1) FROM cpu GROUP BY host",
        "SELECT v, count(*) FROM cpu GROUP BY v",
        "SELECT ts, max(v) FROM cpu GROUP BY ts",
        "SELECT date_trunc('week', ts), max(v) FROM cpu GROUP BY 1",
        "SELECT host, stddev(v) FROM cpu GROUP BY host",
        "SELECT sum(v) FROM cpu",
        "SELECT host, max(ts) FROM cpu GROUP BY host",
    ] {
        let plan = session.rows(&format!("EXPLAIN {sql}")).await.join("\n");
        assert!(!plan.contains("ReduceRunsExec"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn of_buckets_that_are_ordered_only_the_first_are_read() {
    let (_world, session) = filled().await;
    // Of 'h' every second minute only, and nothing of the newest; 'x' has one row.
    let points = "SELECT CASE WHEN value % 4 = 0 THEN 'h' ELSE 'a' END AS host, \
                  to_timestamp_millis(CASE WHEN value % 4 = 0 THEN value / 2400 * 120000 + value ELSE value * 100 END) AS ts, value AS v, value AS n \
                  FROM generate_series(1, 60000)";
    session.run(&format!("INSERT INTO cpu (host, ts, v, n) {points}")).await;
    session.rows("ADMIN flush_table('cpu')").await;
    session.run("DELETE FROM cpu WHERE host = 'a' AND ts >= '1970-01-01T01:38:00Z' AND ts < '1970-01-01T01:39:00Z'").await;
    for (bucket, apart) in [
        ("date_trunc('minute', ts)", "date_trunc('minute', ts + INTERVAL '0 seconds')"),
        ("date_trunc('Second', ts)", "date_trunc('second', ts + INTERVAL '0 seconds')"),
        ("date_bin(INTERVAL '5 minutes', ts)", "date_bin(INTERVAL '5 minutes', ts + INTERVAL '0 seconds')"),
        ("ts", "ts + INTERVAL '0 seconds'"),
    ] {
        for rest in [
            "GROUP BY b ORDER BY b DESC LIMIT 5",
            "GROUP BY b ORDER BY b LIMIT 3 OFFSET 2",
            "WHERE ts < '1970-01-01T01:20:30Z' GROUP BY b ORDER BY b DESC LIMIT 4",
            "WHERE host >= 'h' GROUP BY b, host ORDER BY b DESC, host LIMIT 4",
        ] {
            let select = |bucket: &str| format!("SELECT {bucket} AS b, count(*), max(v), sum(n), min(host) FROM cpu {rest}");
            let plan = session.rows(&format!("EXPLAIN {}", select(bucket))).await.join("\n");
            assert!(plan.contains(", buckets="), "{plan}");
            let plan = session.rows(&format!("EXPLAIN {}", select(apart))).await.join("\n");
            assert!(!plan.contains(", buckets="), "{plan}");
            let (found, expected) = (session.rows(&select(bucket)).await, session.rows(&select(apart)).await);
            assert!(found.len() > 1, "{}: {found:?}", select(bucket));
            assert_eq!(found, expected, "{}", select(bucket));
        }
    }
    let newest = "SELECT date_trunc('minute', ts) AS b, max(v) FROM cpu WHERE host = 'a' GROUP BY b ORDER BY b DESC LIMIT 5";
    let analyzed = session.rows(&format!("EXPLAIN ANALYZE {newest}")).await.join("\n");
    let scan = analyzed.lines().find(|line| line.contains("TesseraScanExec")).unwrap();
    // Of 45,000 rows; there are 450 in a minute, and more than five are read because one of the newest is empty.
    assert!(scan.contains("buckets=newest 5 of 60000") && scan.contains("output_rows=3.60 K"), "{scan}");
    for sql in [
        "SELECT date_trunc('minute', ts) AS b, max(v) AS m FROM cpu GROUP BY b ORDER BY m DESC LIMIT 5",
        "SELECT date_trunc('minute', ts) AS b, max(v) FROM cpu WHERE v > 1 GROUP BY b ORDER BY b DESC LIMIT 5",
        "SELECT date_trunc('minute', ts) AS b, max(v) FROM cpu GROUP BY b HAVING max(v) > 2 ORDER BY b DESC LIMIT 5",
        "SELECT date_trunc('minute', ts) AS b, max(v) FROM cpu GROUP BY b ORDER BY b DESC",
        "SELECT date_trunc('week', ts) AS b, max(v) FROM cpu GROUP BY b ORDER BY b DESC LIMIT 5",
        "SELECT * FROM (SELECT date_trunc('minute', ts) AS b, count(*) AS c FROM cpu GROUP BY b LIMIT 3) ORDER BY b DESC LIMIT 5",
        "SELECT host, date_trunc('minute', ts) AS b FROM cpu GROUP BY host, b ORDER BY host, b DESC LIMIT 5",
        "SELECT date_trunc('minute', ts) AS b, max(v) FROM cpu GROUP BY ROLLUP(b) ORDER BY b DESC LIMIT 5",
    ] {
        let plan = session.rows(&format!("EXPLAIN {sql}")).await.join("\n");
        assert!(!plan.contains(", buckets="), "{sql}: {plan}");
    }
    // Sorts of each partition say nothing of all rows; on one core there is one partition.
    let windows = "SELECT b, host, sum(c) OVER (PARTITION BY b ORDER BY host ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) \
                   FROM (SELECT date_trunc('minute', ts) AS b, host, count(*) AS c FROM cpu GROUP BY 1, 2) LIMIT 5";
    let plan = session.rows(&format!("EXPLAIN {windows}")).await.join("\n");
    assert_eq!(plan.contains(", buckets="), !plan.contains("preserve_partitioning=[true]"), "{plan}");
}

#[tokio::test]
async fn a_statement_that_reads_few_rows_is_planned_for_one_partition() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE, PRIMARY KEY (host))").await;
    let rows = |from: i64, to: i64| (from..to).map(|n| format!("('h{}', {n}, {n})", n % 3)).collect::<Vec<_>>().join(", ");
    session.run(&format!("INSERT INTO t (host, ts, v) VALUES {}", rows(0, 90))).await;
    session.rows("ADMIN flush_table('t')").await;
    session.run(&format!("INSERT INTO t (host, ts, v) VALUES {}", rows(90, 94))).await;
    let by_host =
        |since: i64| format!("SELECT host, sum(v), count(*) FROM t WHERE ts >= to_timestamp_millis({since}) GROUP BY host ORDER BY host");
    let late = ["h0|183.0|2", "h1|91.0|1", "h2|92.0|1"].map(str::to_owned);
    let one = |plan: &str| !plan.contains("Repartition") && !plan.contains("Merge") && plan.contains("mode=Single,");
    let many = |plan: &str| plan.contains("RepartitionExec") && plan.contains("SortPreservingMergeExec");
    // Four rows in memory, and the file lies before them.
    let plan = session.rows(&format!("EXPLAIN {}", by_host(90))).await.join("\n");
    assert!(one(&plan), "{plan}");
    assert_eq!(session.rows(&by_host(90)).await, late);
    let plan = session.rows(&format!("EXPLAIN {}", by_host(89))).await.join("\n");
    assert!(many(&plan), "{plan}");
    assert_eq!(session.rows(&by_host(89)).await, ["h0|183.0|2", "h1|91.0|1", "h2|181.0|2"]);
}

#[tokio::test]
async fn plans_that_make_many_rows_of_few_keep_several_partitions() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE, PRIMARY KEY (host))").await;
    session.run("INSERT INTO t (host, ts, v) VALUES ('a', 1, 1), ('a', 2, 1), ('b', 1, 1)").await;
    let (catalogs, sessions) = (session.server.catalogs(), Sessions::new().unwrap());
    for (sql, few) in [
        ("SELECT * FROM t", true),
        ("SELECT host, sum(v) FROM t GROUP BY host ORDER BY host LIMIT 3", true),
        ("SELECT DISTINCT host FROM t WHERE v > 0", true),
        ("EXPLAIN SELECT * FROM t", true),
        ("SELECT * FROM t LIMIT 1", true),
        // Six rows are more than four, and two of them less.
        ("SELECT host FROM t UNION ALL SELECT host FROM t", false),
        ("(SELECT host FROM t LIMIT 1) UNION ALL (SELECT host FROM t LIMIT 1)", true),
        ("SELECT a.host FROM t a JOIN t b ON a.host < b.host", false),
        ("SELECT host, sum(v) OVER (ORDER BY ts) FROM t", false),
        ("SELECT host, ts, sum(v) FROM t GROUP BY CUBE (host, ts)", false),
        ("SELECT value FROM generate_series(1, 3)", false),
        ("SELECT host FROM t WHERE v > (SELECT avg(v) FROM t)", false),
    ] {
        let Statement::Query(query) = parse(sql).unwrap().remove(0) else { panic!("{sql} is a query") };
        let planned = sessions.plan(*query, "public", catalogs).await.unwrap();
        let plan = sessions.optimize(&planned.state, &planned.plan).unwrap();
        assert_eq!(reads_few_rows(&plan).unwrap(), few, "{sql}: {plan}");
    }
}
