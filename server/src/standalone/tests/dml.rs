//! INSERT, DELETE and COPY.

use super::{CPU, Session};
use crate::error::Code;

#[tokio::test]
async fn rows_go_to_their_regions_and_the_last_of_a_key_wins() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let rows = session
        .run("INSERT INTO cpu VALUES ('a', 1, 1.0, 1), ('h', 1, 2.0, 2), ('x', 1, 3.0, 3), (NULL, 1, 4.0, 4), ('a', 1, 5.0, 5)")
        .await;
    assert_eq!(rows, 5);
    assert_eq!(session.rows("SELECT host, n FROM cpu ORDER BY n").await, ["h|2", "x|3", "|4", "a|5"]);
    let regions = session.rows("SELECT region_id, memtable_rows > 0 FROM information_schema.regions ORDER BY region_number").await;
    assert_eq!(regions, ["1024/0|true", "1024/1|true", "1024/2|true"]);
}

#[tokio::test]
async fn omitted_columns_take_their_defaults() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (ts, host) VALUES ('2013-01-01T06:00:00Z', 'a')").await;
    assert_eq!(session.rows("SELECT host, ts, v, n FROM cpu").await, ["a|2013-01-01T06:00:00|1.5|7"]);
    session.run("CREATE TABLE log (ts TIMESTAMP TIME INDEX DEFAULT now(), a INT)").await;
    session.run("INSERT INTO log (a) VALUES (1)").await;
    assert_eq!(session.rows("SELECT ts > '2020-01-01', a FROM log").await, ["true|1"]);
}

#[tokio::test]
async fn a_row_that_no_rule_covers_refuses_the_whole_statement() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let (code, message) = session.refused("INSERT INTO cpu (host, ts) VALUES ('a', 1), ('zzz', 2)").await;
    assert_eq!(code, Code::InvalidArguments);
    assert!(message.contains("host = 'zzz'") && message.contains("public.cpu") && message.contains("nothing"), "{message}");
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["0"]);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let cases = [
        ("INSERT INTO cpu VALUES ('a', 1, 1.0, NULL)", Code::InvalidArguments, "column 'n'"),
        ("INSERT INTO cpu (host) VALUES ('a')", Code::InvalidArguments, "column 'ts'"),
        ("INSERT INTO cpu VALUES ('a', 1, 'abc', 1)", Code::InvalidArguments, "column 'v' of type float64: Cannot cast string 'abc'"),
        (
            "INSERT INTO cpu VALUES ('a', 1, 1.0, 3000000000)",
            Code::InvalidArguments,
            "column 'n' of type int32: Can't cast value 3000000000",
        ),
        ("INSERT INTO cpu (n, ts, v) VALUES (1, 1, 1), (1, 'x', 1)", Code::InvalidArguments, "column 'ts' of type"),
        (
            "INSERT INTO cpu (ts, n) SELECT 1, s FROM (SELECT 'y' || value AS s FROM generate_series(0, 9))",
            Code::InvalidArguments,
            "column 'n'",
        ),
        ("INSERT INTO cpu (host, wat) VALUES ('a', 1)", Code::ColumnNotFound, "'wat'"),
        ("INSERT INTO cpu VALUES ('a', 1)", Code::PlanQuery, "got 2 values in row 0 but expected 4"),
        ("INSERT INTO nope VALUES (1)", Code::TableNotFound, "'nope'"),
        ("DELETE FROM information_schema.tables", Code::Unsupported, "cannot be written"),
        ("DELETE FROM cpu WHERE wat = 1", Code::ColumnNotFound, "'wat'"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = session.refused(sql).await;
        assert!(found == code && message.contains(part), "{sql}: {found:?} {message}");
    }
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["0"]);
}

#[tokio::test]
async fn a_table_is_filled_from_a_query() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let insert = "INSERT INTO cpu (host, ts, v) SELECT chr(CAST(97 + value % 26 AS BIGINT)), value, value AS v FROM generate_series(0, 99)";
    assert_eq!(session.run(insert).await, 100);
    assert_eq!(session.rows("SELECT count(*), sum(v), count(DISTINCT host) FROM cpu").await, ["100|4950.0|26"]);
}

#[tokio::test]
async fn an_average_is_the_same_in_every_run() {
    let (world, session) = Session::fresh().await;
    let columns = "year INT, month INT, day INT, hour INT, temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir DOUBLE, wind_speed DOUBLE, \
                   wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE, visib DOUBLE, time_hour TIMESTAMP TIME INDEX";
    session
        .run(&format!(
            "CREATE TABLE weather (origin STRING, {columns}, PRIMARY KEY (origin)) \
         PARTITION ON COLUMNS (origin) (origin < 'F', origin >= 'F' AND origin < 'L', origin >= 'L')"
        ))
        .await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/weather.csv");
    session.run(&format!("COPY weather FROM '{file}' WITH (null_values = 'NA', ignore_unknown = 'true')")).await;
    let mean = "SELECT avg(temp) FROM weather WHERE origin = 'EWR'";
    let mut seen = vec![session.rows(mean).await, session.rows(mean).await];
    session.server.close().await.unwrap();
    let session = world.open().await;
    seen.extend([session.rows(mean).await, session.rows(mean).await]);
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let value: f64 = seen[0][0].parse().unwrap();
    assert!((value - 55.546_552_516_662_83).abs() < 1e-12, "{value}");
}

#[tokio::test]
async fn deleted_rows_are_gone_and_may_come_back() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('a', 1, 1), ('a', 2, 2), ('x', 1, 3), (NULL, 1, 4)").await;
    assert_eq!(session.run("DELETE FROM cpu WHERE v >= 2 AND v < 4").await, 2);
    assert_eq!(session.rows("SELECT host, v FROM cpu ORDER BY v").await, ["a|1.0", "|4.0"]);
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('x', 1, 9)").await;
    assert_eq!(session.run("DELETE FROM cpu WHERE host IS NULL").await, 1);
    assert_eq!(session.rows("SELECT host, v FROM cpu ORDER BY v").await, ["a|1.0", "x|9.0"]);
    assert_eq!(session.run("DELETE FROM cpu").await, 2);
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["0"]);
}

#[tokio::test]
async fn a_file_is_copied_in_and_out() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    let file = world.file("in.csv", "host,ts,v,n\na,2013-01-01T06:00:00Z,1.5,1\nx,2013-01-01T07:00:00Z,NA,2\n");
    let load = format!("COPY cpu FROM '{file}' WITH (null_values = 'NA')");
    assert_eq!(session.run(&load).await, 2);
    assert_eq!(session.run(&load).await, 2);
    assert_eq!(session.rows("SELECT host, v, n FROM cpu ORDER BY host").await, ["a|1.5|1", "x||2"]);
    let out = world.folder.path().join("out.csv");
    assert_eq!(session.run(&format!("COPY (SELECT host, n FROM cpu ORDER BY n) TO '{}'", out.display())).await, 2);
    assert_eq!(std::fs::read_to_string(&out).unwrap().trim(), "host,n\na,1\nx,2");
    let parquet = world.folder.path().join("out.parquet");
    assert_eq!(session.run(&format!("COPY cpu TO '{}'", parquet.display())).await, 2);
    session.run("DELETE FROM cpu").await;
    assert_eq!(session.run(&format!("COPY cpu FROM '{}'", parquet.display())).await, 2);
    assert_eq!(session.rows("SELECT host, v, n FROM cpu ORDER BY host").await, ["a|1.5|1", "x||2"]);
}

#[tokio::test]
async fn a_bad_file_applies_nothing_and_names_the_line() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    let cases =
        [("a,1,x,1\n", "line 3", "x"), ("zzz,1,1,1\n", "line 3", "host = 'zzz'"), ("a,1,1,\n", "line 3", "'n'"), ("a,1,1\n", "line 3", "")];
    for (line, place, part) in cases {
        let file = world.file("bad.csv", &format!("host,ts,v,n\na,1,1,1\n{line}"));
        let (code, message) = session.refused(&format!("COPY cpu FROM '{file}'")).await;
        assert_eq!(code, Code::InvalidArguments, "{message}");
        assert!(message.contains(place) && message.contains(part) && message.contains("bad.csv"), "{message}");
        assert!(message.contains("nothing of the statement was applied"), "{message}");
    }
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["0"]);
    assert_eq!(session.refused("COPY cpu FROM '/nowhere/x.csv'").await.0, Code::InvalidArguments);
}
