//! The weather: 26,115 rows in three regions.

use std::fs;

use tempfile::TempDir;

use super::expect;
use crate::support::{Server, copy_weather, create_weather};

/// What NOAA's file says of itself; times are milliseconds since 1970 (2013-01-01T06:00:00Z and 2013-12-30T23:00:00Z).
const ANSWERS: &[(&str, &[&str])] = &[
    ("SELECT origin, count(*) FROM weather GROUP BY origin ORDER BY origin", &["EWR|8703", "JFK|8706", "LGA|8706"]),
    ("SELECT count(*) FROM weather WHERE wind_gust IS NULL", &["20778"]),
    ("SELECT count(temp), max(temp), min(temp) FROM weather WHERE origin = 'EWR'", &["8702|100.04|10.94"]),
    ("SELECT min(time_hour), max(time_hour) FROM weather", &["1357020000000|1388444400000"]),
    (
        "SELECT count(*) FROM weather WHERE time_hour >= '2013-07-04T00:00:00Z' AND time_hour < '2013-07-05T00:00:00Z' AND origin = 'JFK'",
        &["24"],
    ),
];

/// The double nearest to the mean of EWR's temperatures. What a sum of 8,702 doubles gives depends on its order, so that the
/// last bits may differ; the sum of the decimals may not.
const MEAN: f64 = 55.546_552_516_662_835;

fn expect_answers(server: &Server) {
    expect(server, ANSWERS);
    let row = server.rows("SELECT avg(temp) FROM weather WHERE origin = 'EWR'").remove(0);
    assert!((row[0].as_f64().unwrap() / MEAN - 1.0).abs() < 8.0 * f64::EPSILON, "{row:?}");
    assert_eq!(server.line("SELECT CAST(sum(CAST(temp AS DECIMAL(20, 2))) AS STRING) FROM weather WHERE origin = 'EWR'"), "483366.10");
}

fn loaded() -> (TempDir, Server) {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(create_weather());
    assert_eq!(server.run(&copy_weather()), 26_115);
    (home, server)
}

#[test]
fn weather_gives_the_known_answers_also_after_loading_twice_and_restarts() {
    let (home, server) = loaded();
    expect_answers(&server);
    assert_eq!(server.run(&copy_weather()), 26_115);
    expect_answers(&server);
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    expect_answers(&server);
    assert_eq!(server.run(&copy_weather()), 26_115);
    server.kill();
    let server = Server::start(home.path());
    expect_answers(&server);
}

#[test]
fn weather_is_in_three_regions_of_which_queries_scan_those_that_can_match() {
    let (home, server) = loaded();
    let regions = "SELECT region_id, rule, state, memtable_rows + file_rows FROM information_schema.regions ORDER BY region_number";
    let expected = ["1024/0|origin < 'F'|open|8703", "1024/1|origin >= 'F' AND origin < 'L'|open|8706", "1024/2|origin >= 'L'|open|8706"];
    assert_eq!(server.lines(regions), expected);
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    assert_eq!(server.lines(regions), expected);
    assert_eq!(server.lines("SELECT files > 0, file_bytes > 0, memtable_bytes FROM information_schema.regions"), ["true|true|0"; 3]);
    let partitions = "SELECT partition_name, partition_expression, partition_description, region_id FROM information_schema.partitions";
    assert_eq!(server.lines(partitions)[1], "p1|origin|origin >= 'F' AND origin < 'L'|1024/1");
    let tables = "SELECT table_id, table_schema, table_name, region_count FROM information_schema.tables";
    assert_eq!(server.lines(tables), ["1024|public|weather|3"]);
    let plan = server.lines("EXPLAIN SELECT avg(temp) FROM weather WHERE origin = 'JFK'").join("\n");
    assert!(plan.contains("regions=[1024/1], pruned=2"), "{plan}");
    let plan = server.lines("EXPLAIN SELECT avg(temp) FROM weather").join("\n");
    assert!(plan.contains("regions=[1024/0, 1024/1, 1024/2], pruned=0"), "{plan}");
}

#[test]
fn weather_is_split_and_merged_without_a_change_of_answers() {
    let (home, server) = loaded();
    let changes = [
        "ALTER TABLE weather SPLIT PARTITION (origin < 'F') INTO (origin < 'C', origin >= 'C' AND origin < 'F')",
        "ALTER TABLE weather MERGE PARTITION (origin >= 'F' AND origin < 'L', origin >= 'L')",
        "ALTER TABLE weather PARTITION ON COLUMNS (time_hour) (time_hour < '2013-07-01', time_hour >= '2013-07-01')",
        "ALTER TABLE weather PARTITION ON COLUMNS () ()",
    ];
    for sql in changes {
        server.lines(&format!("EXPLAIN {sql}"));
        server.lines(sql);
        expect_answers(&server);
    }
    server.kill();
    let server = Server::start(home.path());
    expect_answers(&server);
    assert_eq!(server.lines("SELECT partition_name, leader_state FROM information_schema.partitions").len(), 1);
}

#[test]
fn show_create_table_makes_an_equal_table() {
    let (_home, server) = loaded();
    let shown = server.rows("SHOW CREATE TABLE weather")[0][1].as_str().unwrap().to_owned();
    let described = server.lines("DESC TABLE weather");
    server.run("DROP TABLE weather");
    server.run(&shown);
    assert_eq!(server.rows("SHOW CREATE TABLE weather")[0][1].as_str().unwrap(), shown);
    assert_eq!(server.lines("DESC TABLE weather"), described);
    assert_eq!(server.run(&copy_weather()), 26_115);
    expect_answers(&server);
}

#[test]
fn deleted_rows_and_dropped_tables_stay_away_over_restarts() {
    let (home, server) = loaded();
    assert_eq!(server.run("DELETE FROM weather WHERE origin = 'JFK' AND month = 2"), 671);
    let left = "SELECT count(*), count(DISTINCT month) FROM weather WHERE origin = 'JFK'";
    assert_eq!(server.line(left), "8035|11");
    server.kill();
    let server = Server::start(home.path());
    assert_eq!(server.line(left), "8035|11");
    server.terminate();
    let server = Server::start(home.path());
    assert_eq!(server.line(left), "8035|11");
    server.run("DROP TABLE weather");
    server.refused("SELECT count(*) FROM weather").expect(404, 4001, &["weather"]);
    server.kill();
    let server = Server::start(home.path());
    server.refused("SELECT count(*) FROM weather").expect(404, 4001, &["weather"]);
    assert_eq!(server.lines("SHOW TABLES"), [""; 0]);
    server.run(create_weather());
    assert_eq!(server.line("SELECT count(*) FROM weather"), "0");
    assert_eq!(server.line("SELECT table_id FROM information_schema.tables"), "1025");
}

#[test]
fn weather_goes_out_as_a_file_and_comes_back() {
    let (home, server) = loaded();
    for ending in ["parquet", "csv"] {
        let file = home.path().join(format!("out.{ending}"));
        assert_eq!(server.run(&format!("COPY weather TO '{}'", file.display())), 26_115);
        server.run("DELETE FROM weather");
        assert_eq!(server.line("SELECT count(*) FROM weather"), "0");
        assert_eq!(server.run(&format!("COPY weather FROM '{}'", file.display())), 26_115);
        expect_answers(&server);
        assert!(fs::metadata(&file).unwrap().len() > 100_000);
    }
}

#[test]
fn an_insert_from_a_query_copies_a_table_into_other_regions() {
    let (_home, server) = loaded();
    let create = create_weather().replace("TABLE weather", "TABLE copied").replace("'F'", "'G'");
    server.run(&create);
    assert_eq!(server.run("INSERT INTO copied SELECT * FROM weather"), 26_115);
    let all = "SELECT * FROM weather EXCEPT SELECT * FROM copied";
    assert_eq!(server.lines(all), [""; 0]);
    assert_eq!(server.line("SELECT count(*) FROM copied"), "26115");
}
