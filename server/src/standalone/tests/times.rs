//! Timestamps compared with constants of a finer unit.

use super::Session;

async fn filled() -> (super::World, Session) {
    let (world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (ts TIMESTAMP(3) TIME INDEX, s TIMESTAMP(0), n INT)").await;
    // One row before 1970, where rounding down and cutting off differ, and one without a value in s.
    session.run("INSERT INTO t VALUES (0, 0, 0), (1, 1, 1), (-1, -1, -1), (5000, NULL, 9)").await;
    (world, session)
}

async fn found(session: &Session, filter: &str) -> String {
    session.rows(&format!("SELECT n FROM t WHERE {filter} ORDER BY n")).await.join(",")
}

#[tokio::test]
async fn digits_that_a_column_does_not_have_still_count() {
    let (_world, session) = filled().await;
    let cases = [
        ("ts >= C'1970-01-01 00:00:00.0005'", "1,9"),
        ("ts > C'1970-01-01 00:00:00.0005'", "1,9"),
        ("ts < C'1970-01-01 00:00:00.0005'", "-1,0"),
        ("ts <= C'1970-01-01 00:00:00.0005'", "-1,0"),
        ("C'1970-01-01 00:00:00.0005' <= ts", "1,9"),
        ("ts >= C'1969-12-31 23:59:59.9995'", "0,1,9"),
        ("ts < C'1969-12-31 23:59:59.9995'", "-1"),
        ("ts = C'1970-01-01 00:00:00.0005'", ""),
        ("ts != C'1970-01-01 00:00:00.0005'", "-1,0,1,9"),
        ("ts = C'1970-01-01 00:00:00.001000'", "1"),
        ("ts BETWEEN C'1970-01-01 00:00:00.0005' AND C'1970-01-01 00:00:00.0015'", "1"),
        ("ts NOT BETWEEN C'1970-01-01 00:00:00.0005' AND C'1970-01-01 00:00:00.0015'", "-1,0,9"),
        ("ts IN (C'1970-01-01 00:00:00.0005', C'1970-01-01 00:00:00.001')", "1"),
        ("ts NOT IN (C'1970-01-01 00:00:00.0005', C'1970-01-01 00:00:00.001')", "-1,0,9"),
        ("ts IN (C'1970-01-01 00:00:00.0005')", ""),
        ("s > C'1970-01-01 00:00:00.5'", "1"),
        ("s <= C'1969-12-31 23:59:59.5'", "-1"),
        ("NOT (s = C'1970-01-01 00:00:00.5')", "-1,0,1"),
        ("s != C'1970-01-01 00:00:00.5'", "-1,0,1"),
        ("s NOT IN (C'1970-01-01 00:00:00.5')", "-1,0,1"),
        ("(s = C'1970-01-01 00:00:00.5') IS NULL", "9"),
        ("s IS DISTINCT FROM C'1970-01-01 00:00:00.5'", "-1,0,1,9"),
    ];
    for (filter, expected) in cases {
        // A typed constant, and a text that takes the type of what it is compared with.
        for constant in ["TIMESTAMP '", "'"] {
            let filter = filter.replace("C'", constant);
            assert_eq!(found(&session, &filter).await, expected, "{filter}");
        }
    }
    let derived = "SELECT n FROM (SELECT n, ts, TIMESTAMP '1970-01-01 00:00:00.0005' AS c FROM t) WHERE ts <= c ORDER BY n";
    assert_eq!(session.rows(derived).await, ["-1", "0"]);
    let shown = "SELECT ts >= TIMESTAMP '1970-01-01 00:00:00.0005' AS later FROM t ORDER BY n";
    assert_eq!(session.rows(shown).await, ["false", "false", "true", "true"]);
}

#[tokio::test]
async fn a_delete_removes_only_rows_that_match() {
    let (_world, session) = filled().await;
    assert_eq!(session.run("DELETE FROM t WHERE ts >= TIMESTAMP '1970-01-01 00:00:00.0005'").await, 2);
    assert_eq!(found(&session, "true").await, "-1,0");
    assert_eq!(session.run("DELETE FROM t WHERE s = now()").await, 0);
    assert_eq!(session.run("DELETE FROM t WHERE s > now() - INTERVAL '1 hour'").await, 0);
    assert_eq!(session.run("DELETE FROM t WHERE ts < '1969-12-31 23:59:59.9995'").await, 1);
    assert_eq!(found(&session, "true").await, "0");
}

#[tokio::test]
async fn a_zone_shifts_what_is_compared() {
    let (_world, session) = filled().await;
    let hour_ns = 3_600_000_000_000_i64;
    let shifted = session.rows("SELECT CAST(ts AT TIME ZONE '+01:00' AS BIGINT) FROM t ORDER BY n").await;
    assert_eq!(shifted, [-1_000_000, 0, 1_000_000, 5_000_000_000].map(|ns| (ns - hour_ns).to_string()));
    let cases = [
        // Texts without a zone are of the zone that they are compared with.
        ("ts AT TIME ZONE '+01:00' >= '1970-01-01T00:00:00'", "0,1,9"),
        ("ts AT TIME ZONE '+01:00' >= '1970-01-01T00:00:00Z'", ""),
        ("ts AT TIME ZONE '+01:00' >= '1969-12-31T23:00:00Z'", "0,1,9"),
        ("'1970-01-01T00:00:00' > ts AT TIME ZONE '+01:00'", "-1"),
        ("ts AT TIME ZONE '+01:00' = '1970-01-01T00:00:00.001'", "1"),
        ("ts AT TIME ZONE '+01:00' != '1969-12-31T23:00:00Z'", "-1,1,9"),
        ("ts AT TIME ZONE '+01:00' BETWEEN '1970-01-01T00:00:00' AND '1970-01-01T00:00:01'", "0,1"),
        ("ts AT TIME ZONE '+01:00' IN ('1970-01-01T00:00:00', '1970-01-01T00:00:05')", "0,9"),
        ("ts AT TIME ZONE '-05:30' < '1970-01-01T05:30:00Z'", "-1"),
        ("ts AT TIME ZONE 'Europe/Berlin' <= '1969-12-31T23:00:00Z'", "-1,0"),
        ("(ts AT TIME ZONE '+01:00') AT TIME ZONE '+02:00' >= '1970-01-01T01:00:00.001+02:00'", "1,9"),
        ("s AT TIME ZONE '+01:00' >= '1970-01-01T00:00:00.5'", "1"),
        ("CAST(ts AT TIME ZONE '+01:00' AS BIGINT) >= 0", ""),
        ("ts >= arrow_cast('1970-01-01T00:00:00Z', 'Timestamp(Nanosecond, Some(\"+01:00\"))')", ""),
        ("arrow_cast(ts, 'Timestamp(Millisecond, Some(\"+01:00\"))') >= '1970-01-01T00:00:00Z'", ""),
        ("arrow_cast(ts, 'Timestamp(Nanosecond, None)') >= TIMESTAMP '1970-01-01 00:00:00.0005'", "1,9"),
        ("TRY_CAST(ts AS TIMESTAMP WITH TIME ZONE) >= '1970-01-01T00:00:00Z'", "0,1,9"),
        ("ts AT TIME ZONE 'UTC' >= '1970-01-01T00:00:00Z'", "0,1,9"),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&session, filter).await, expected, "{filter}");
    }
    let outside = "SELECT n FROM (SELECT n, ts AT TIME ZONE '+01:00' AS z FROM t) WHERE z >= '1970-01-01T00:00:00' ORDER BY n";
    assert_eq!(session.rows(outside).await, ["0", "1", "9"]);
    let grouped =
        "SELECT count(*), date_trunc('hour', ts AT TIME ZONE '+01:00') AS h FROM t GROUP BY h HAVING h >= '1970-01-01' ORDER BY h";
    assert_eq!(session.rows(grouped).await, ["3|1970-01-01T00:00:00+01:00"]);
    assert_eq!(session.run("DELETE FROM t WHERE ts AT TIME ZONE '+01:00' >= '1970-01-01T00:00:00Z'").await, 0);
    assert_eq!(session.run("DELETE FROM t WHERE ts AT TIME ZONE '+01:00' >= '1970-01-01T00:00:00.001'").await, 2);
    assert_eq!(found(&session, "true").await, "-1,0");
}

#[tokio::test]
async fn digits_of_a_text_count_in_any_year() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (ts TIMESTAMP(3) TIME INDEX, u TIMESTAMP(6), x TIMESTAMP(9), n INT)").await;
    session.run("INSERT INTO t VALUES ('2500-01-01 00:00:00', '1500-01-01 00:00:00', '2000-01-01 00:00:00', 1)").await;
    let cases = [
        ("ts >= '2500-01-01 00:00:00'", "1"),
        ("ts >= '2500-01-01 00:00:00.0005'", ""),
        ("ts < '2500-01-01 00:00:00.0005'", "1"),
        ("ts = '2500-01-01 00:00:00.0005'", ""),
        ("ts = '2500-01-01 00:00:00.0000'", "1"),
        ("'2500-01-01 00:00:00.0005' <= ts", ""),
        ("ts >= '2500-01-01 01:00:00.0005+01:00'", ""),
        ("ts BETWEEN '2499-01-01' AND '2500-01-01 00:00:00.0005'", "1"),
        ("ts BETWEEN '2500-01-01 00:00:00.0005' AND '2500-01-02'", ""),
        ("ts NOT BETWEEN '2500-01-01 00:00:00.0005' AND '2500-01-02'", "1"),
        ("ts IN ('2500-01-01 00:00:00.0005')", ""),
        ("ts IN ('2000-01-01 00:00:00', '2500-01-01 00:00:00')", "1"),
        ("ts NOT IN ('2500-01-01 00:00:00', '2000-01-01 00:00:00')", ""),
        ("ts IN ('2500-01-01 00:00:00', '2500-01-01 00:00:00.0005')", "1"),
        ("ts NOT IN ('2500-01-01 00:00:00.0005')", "1"),
        ("'2500-01-01 00:00:00.0005' IN (ts)", ""),
        ("u = '1500-01-01 00:00:00.0000005'", ""),
        ("u <= '1499-12-31 23:59:59.9999995'", ""),
        ("u > '1499-12-31 23:59:59.9999995'", "1"),
        // Digits that no type has.
        ("x >= '2000-01-01 00:00:00.0000000005'", ""),
        ("x <= '2000-01-01 00:00:00.0000000005'", "1"),
        ("x = '2000-01-01 00:00:00.0000000000'", "1"),
        ("arrow_cast(ts, 'Timestamp(Millisecond, Some(\"+01:00\"))') >= '2500-01-01T00:00:00.0005'", ""),
        ("arrow_cast(ts, 'Timestamp(Millisecond, Some(\"+01:00\"))') >= '2500-01-01T00:00:00.0000'", "1"),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&session, filter).await, expected, "{filter}");
    }
    assert_eq!(session.run("DELETE FROM t WHERE ts = '2500-01-01 00:00:00.0005'").await, 0);
    assert_eq!(session.run("DELETE FROM t WHERE x = '2000-01-01 00:00:00.0000000005'").await, 0);
    assert_eq!(session.run("DELETE FROM t WHERE ts >= '2499-12-31 23:59:59.9995'").await, 1);
}

#[tokio::test]
async fn the_stretch_of_the_least_times_is_one_of_its_own() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE t (h STRING, ts TIMESTAMP(9) TIME INDEX, PRIMARY KEY (h))").await;
    session.run("INSERT INTO t VALUES ('a', '1677-09-21 00:12:43.2'), ('a', '1677-09-22 00:05:00')").await;
    let counts = "SELECT count(*) FROM t GROUP BY h, date_trunc('day', ts)";
    assert_eq!(session.rows(counts).await, ["1", "1"]);
}
