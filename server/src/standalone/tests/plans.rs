//! That statements of one table, which fewer rules optimize, are planned as all rules plan them.

use std::sync::Arc;

use super::Session;
use crate::error::Code;
use crate::query::plain::is_plain;
use crate::query::session::{Planned, Sessions};
use crate::sql::{Statement, parse};

const TABLE: &str = "CREATE TABLE cpu (host STRING, region STRING, ts TIMESTAMP(3) TIME INDEX, usage_user DOUBLE, usage_system DOUBLE, \
                     n BIGINT, PRIMARY KEY (host, region))";

const CONDITIONS: [&str; 16] = [
    "",
    "WHERE host = 'a' AND ts >= to_timestamp_millis(10) AND ts < to_timestamp_millis(20)",
    "WHERE host IN ('a', 'b', 'c', 'a') AND ts BETWEEN '1970-01-01T00:00:00.0105Z' AND '1970-01-01T00:01:00Z'",
    "WHERE ts >= '1970-01-01T00:00:00.000500Z' AND ts >= '1970-01-01T00:00:00.000400Z'",
    "WHERE usage_user > 90 AND usage_user > 90.0 AND (usage_system IS NULL OR usage_system < 1)",
    "WHERE date_trunc('hour', ts) = '1970-01-01T01:00:00Z'",
    "WHERE ts > now() - INTERVAL '1 hour'",
    "WHERE NOT (host = 'a' OR host = 'b') AND n + 1 > 2 * 3",
    "WHERE CAST(n AS INT) = 3 AND CAST(usage_user AS BIGINT) = 2",
    "WHERE true AND host LIKE 'a%'",
    "WHERE 1 = 2",
    "WHERE usage_user > 1 AND NULL",
    "WHERE (host = 'a' AND n > 1) OR (host = 'a' AND n < -1)",
    "WHERE arrow_cast(ts, 'Timestamp(Nanosecond, None)') > '1970-01-01T00:00:00.000000001'",
    "WHERE CASE WHEN n > 1 THEN host ELSE region END = 'a'",
    "WHERE host = region AND n BETWEEN 3 AND 1",
];

/// What is selected, and how it is grouped.
const SELECTED: [(&str, &str); 12] = [
    ("*", ""),
    ("host, ts, usage_user + usage_system AS total, usage_user + usage_system AS again", ""),
    ("date_trunc('minute', ts) AS minute, max(usage_user) AS high, max(usage_system)", "GROUP BY minute"),
    ("date_bin(INTERVAL '1 hour', ts) AS hour, host, avg(usage_user)", "GROUP BY hour, host"),
    ("host, last_value(usage_user ORDER BY ts) AS last, max(ts)", "GROUP BY host HAVING host > 'a' AND max(usage_user) > 1"),
    ("count(*), sum(n), sum(n + 1), min(ts)", ""),
    ("count(DISTINCT host)", ""),
    ("host, count(DISTINCT region), sum(n)", "GROUP BY host"),
    ("'x' AS x, host, sum(usage_user * 2), sum(usage_user * 2) / count(*)", "GROUP BY 'x', host"),
    ("upper(host) AS name, CASE WHEN n > 1 THEN 'many' END AS number", ""),
    ("region", "GROUP BY region, host HAVING count(*) > 1"),
    ("to_char(ts, '%Y') AS year, n % 10 AS digit", ""),
];

const ENDS: [&str; 3] = ["", "ORDER BY 1", "ORDER BY 1 DESC"];

const LIMITS: [&str; 3] = ["LIMIT 5", "ORDER BY 1 LIMIT 5 OFFSET 2", "OFFSET 1"];

/// Conditions that are moved through what computes what they test, and what else a single pass is not enough for.
const MOVED: [&str; 12] = [
    "SELECT count(*) FROM (SELECT now() AS t, ts FROM cpu) WHERE ts > t - INTERVAL '1 hour'",
    "SELECT * FROM (SELECT CAST(n AS INT) AS n, usage_user FROM cpu) WHERE n = 5",
    "SELECT * FROM (SELECT arrow_cast(ts, 'Timestamp(Nanosecond, None)') AS ns, host FROM cpu) WHERE ns > '1970-01-01T00:00:00.000000001'",
    "SELECT host, date_part('year', ts) AS y, max(usage_user) FROM cpu GROUP BY host, y HAVING date_part('year', ts) = 2024",
    "SELECT count(*) FROM (SELECT 'a' AS kind, ts FROM cpu) WHERE kind = 'b'",
    "SELECT count(*) FROM (SELECT 'a' AS kind, ts FROM cpu) WHERE kind = 'a'",
    "SELECT max(high) FROM (SELECT host, max(usage_user) AS high FROM cpu GROUP BY host) WHERE host > 'a'",
    "SELECT host FROM (SELECT host, ts FROM cpu ORDER BY ts DESC) WHERE ts < to_timestamp_millis(5)",
    "SELECT host, sum(n) FILTER (WHERE n > 1) FROM cpu GROUP BY ROLLUP (host)",
    "SELECT host, region, count(*) FROM cpu GROUP BY GROUPING SETS ((host), (host, region)) HAVING host = 'a'",
    "SELECT date_trunc('hour', ts AT TIME ZONE 'Europe/Berlin') AS hour, count(*) FROM cpu WHERE ts AT TIME ZONE 'UTC' > '2020-01-01' GROUP BY 1",
    "SELECT host FROM cpu WHERE n IN (1, 1 + 1) AND (n > 2 OR true) ORDER BY n + n, host",
];

#[tokio::test]
async fn fewer_rules_plan_one_table_as_all_do() {
    let (_world, session) = Session::fresh().await;
    session.run(TABLE).await;
    session.run("INSERT INTO cpu (host, region, ts, usage_user, n) VALUES ('a', 'eu', 1, 1, 1), ('b', 'us', 2, 1, 2)").await;
    let mut statements: Vec<String> = MOVED.map(str::to_owned).into();
    for (row, condition) in CONDITIONS.into_iter().enumerate() {
        for (column, (selected, group)) in SELECTED.into_iter().enumerate() {
            let select = format!("SELECT {selected} FROM cpu {condition} {group}");
            statements.push(format!("{select} {}", ENDS[(row + column) % ENDS.len()]));
            if column % 2 == row % 2 {
                statements.push(format!("{select} {}", LIMITS[(row + column / 2) % LIMITS.len()]));
            }
        }
    }
    let (catalogs, sessions) = (session.server.catalogs(), Sessions::new().unwrap());
    let mut differ = Vec::new();
    for sql in statements {
        let Statement::Query(query) = parse(&sql).unwrap().remove(0) else { panic!("{sql} is a query") };
        let Planned { mut state, plan, .. } = sessions.plan(*query, "public", catalogs).await.unwrap();
        assert!(is_plain(&plan).unwrap(), "{sql}: {plan}");
        let ours = sessions.optimize(&state, &plan).unwrap();
        // Names that rules make up are counted.
        state.execution_props_mut().alias_generator = Arc::default();
        let full = state.optimize(&plan).unwrap();
        if ours.display_indent_schema().to_string() != full.display_indent_schema().to_string() {
            differ.push(format!("{sql}\n{ours}\nby all rules:\n{full}\n"));
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

#[tokio::test]
async fn a_plan_is_shown_as_it_is_run() {
    let (_world, session) = Session::fresh().await;
    session.run(TABLE).await;
    session.run("INSERT INTO cpu (host, region, ts, usage_user, n) VALUES ('a', 'eu', 1, 1, 1)").await;
    let sql = "SELECT host, max(usage_user) FROM cpu WHERE ts > to_timestamp_millis(0) GROUP BY host ORDER BY host";
    for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE"] {
        let plan = session.rows(&format!("{explain} {sql}")).await.join("\n");
        assert!(plan.contains("TesseraScan"), "{explain}: {plan}");
        assert_eq!(plan.contains("TableScan: cpu"), explain != "EXPLAIN ANALYZE", "{explain}: {plan}");
    }
    for (explain, shown) in [
        ("EXPLAIN FORMAT TREE", "\u{250c}"),
        ("EXPLAIN (FORMAT 'tree')", "\u{250c}"),
        ("EXPLAIN FORMAT JSON", "\"Node Type\""),
        ("EXPLAIN (FORMAT json, VERBOSE off)", "\"Node Type\""),
        ("EXPLAIN (ANALYZE)", "metrics=["),
        ("EXPLAIN (ANALYZE false, FORMAT graphviz)", "digraph"),
    ] {
        let plan = session.rows(&format!("{explain} {sql}")).await.join("\n");
        assert!(plan.contains(shown), "{explain}: {plan}");
    }
    let (code, message) = session.refused(&format!("EXPLAIN (COSTS) {sql}")).await;
    assert_eq!((code, message.as_str()), (Code::InvalidArguments, "EXPLAIN has no option 'costs'; there are ANALYZE, VERBOSE and FORMAT"));
    let refused = session.refused("EXPLAIN SELECT host + INTERVAL '1 hour' FROM cpu").await;
    let run = session.refused("SELECT host + INTERVAL '1 hour' FROM cpu").await;
    assert_eq!(refused.0, run.0, "{refused:?}");
}
