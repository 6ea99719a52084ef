//! `AS OF` in SQL.

use tessera_manifest::env::Env;

use super::{CPU, Session};
use crate::error::Code;

/// A moment after all that was written and before all that comes.
async fn moment() -> u64 {
    let env = Env::system();
    let now = env.unix_ms();
    while env.unix_ms() <= now + 1 {
        tokio::task::yield_now().await;
    }
    now + 1
}

/// Two moments with a flush before each: the first with hosts a and x, the second without a and with a new column.
async fn two_moments() -> (super::World, Session, String, String) {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('a', 1, 1), ('x', 2, 2)").await;
    session.rows("ADMIN flush_table('cpu')").await;
    let first = moment().await;
    session.run("DELETE FROM cpu WHERE host = 'a'; INSERT INTO cpu (host, ts, v) VALUES ('x', 2, 20), ('b', 3, 3)").await;
    session.run("ALTER TABLE cpu ADD COLUMN w BIGINT DEFAULT 9").await;
    session.rows("ADMIN flush_table('cpu')").await;
    let second = moment().await;
    session.run("INSERT INTO cpu (host, ts, v) VALUES ('c', 4, 4)").await;
    session.rows("ADMIN flush_table('cpu')").await;
    let literal = |ms: u64| {
        let moment = chrono::DateTime::from_timestamp_millis(i64::try_from(ms).unwrap()).unwrap();
        format!("'{}'", moment.format("%Y-%m-%d %H:%M:%S%.3f"))
    };
    (world, session, literal(first), literal(second))
}

#[tokio::test]
async fn tables_are_read_as_of_a_moment() {
    let (_world, session, first, second) = two_moments().await;
    assert_eq!(session.rows(&format!("SELECT host, v FROM cpu TIMESTAMP AS OF {first} ORDER BY host")).await, ["a|1.0", "x|2.0"]);
    assert_eq!(session.rows(&format!("SELECT * FROM cpu FOR SYSTEM_TIME AS OF {first} WHERE cpu.host = 'x'")).await.len(), 1);
    assert_eq!(
        session.rows(&format!("SELECT host, v, w FROM public.cpu TIMESTAMP AS OF {second} t ORDER BY t.host")).await,
        ["b|3.0|9", "x|20.0|9"]
    );
    assert_eq!(session.rows("SELECT count(*) FROM cpu").await, ["3"]);
    let (code, message) = session.refused(&format!("SELECT w FROM cpu TIMESTAMP AS OF {first}")).await;
    assert!(code == Code::ColumnNotFound, "columns are those of the time: {message}");
    let counts = format!("SELECT count(*), max(ts) FROM cpu TIMESTAMP AS OF {first}");
    assert_eq!(session.rows(&counts).await, ["2|1970-01-01T00:00:00.002"], "statistics are not those of now");
}

#[tokio::test]
async fn versions_are_joined_and_written() {
    let (_world, session, first, second) = two_moments().await;
    let gone = format!(
        "SELECT then.host FROM cpu TIMESTAMP AS OF {first} AS then LEFT JOIN cpu TIMESTAMP AS OF {second} AS later \
         ON then.host = later.host WHERE later.host IS NULL"
    );
    assert_eq!(session.rows(&gone).await, ["a"]);
    let undo = format!("INSERT INTO cpu (host, ts, v) SELECT host, ts, v FROM cpu TIMESTAMP AS OF {first} WHERE host = 'a'");
    assert_eq!(session.run(&undo).await, 1);
    assert_eq!(session.rows("SELECT host FROM cpu ORDER BY host").await, ["a", "b", "c", "x"]);
    let newest = "SELECT count(*) FROM cpu TIMESTAMP AS OF now() + INTERVAL '1 hour'";
    assert_eq!(session.rows(newest).await, ["3"], "the newest version: rows in memtables are of none yet");
}

#[tokio::test]
async fn a_table_of_one_region_is_read_at_a_version() {
    let (_world, session) = Session::fresh().await;
    session.run("CREATE TABLE one (host STRING, ts TIMESTAMP(3) TIME INDEX, PRIMARY KEY (host))").await;
    session.run("INSERT INTO one VALUES ('a', 1)").await;
    session.rows("ADMIN flush_table('one')").await;
    let region = session.server.catalogs().engine.regions().into_iter().next().unwrap();
    let version = region.info().manifest_version;
    session.run("INSERT INTO one VALUES ('b', 1)").await;
    session.rows("ADMIN flush_table('one')").await;
    assert_eq!(session.rows(&format!("SELECT host FROM one VERSION AS OF '{version}'")).await, ["a"]);
    assert_eq!(session.rows("SELECT count(*) FROM one").await, ["2"]);
}

#[tokio::test]
async fn what_is_no_version_is_refused() {
    let (_world, session, ..) = two_moments().await;
    let cases = [
        ("SELECT * FROM cpu VERSION AS OF '1-1'", Code::Unsupported, "TIMESTAMP AS OF"),
        ("SELECT * FROM cpu TIMESTAMP AS OF '1980-01-01'", Code::InvalidArguments, "the oldest version that can be read"),
        ("SELECT * FROM cpu TIMESTAMP AS OF '1960-01-01'", Code::InvalidArguments, "before 1970"),
        ("SELECT * FROM cpu TIMESTAMP AS OF NULL", Code::InvalidArguments, "no moment"),
        ("SELECT * FROM cpu TIMESTAMP AS OF 'yesterday'", Code::InvalidArguments, "yesterday"),
        ("SELECT * FROM nope TIMESTAMP AS OF now()", Code::TableNotFound, "no table 'nope' in"),
        ("SELECT * FROM cpu TIMESTAMP AS OF", Code::InvalidSyntax, "bad SQL"),
        ("DELETE FROM cpu TIMESTAMP AS OF now()", Code::InvalidSyntax, "AS OF stands behind the name of a table that is read"),
        ("SELECT host TIMESTAMP AS OF now() FROM cpu", Code::InvalidSyntax, "AS OF stands behind"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = session.refused(sql).await;
        assert!(found == code && message.contains(part), "{sql}: {found:?} {message}");
    }
}

#[tokio::test]
async fn no_statement_changes_a_past_table() {
    let (world, session, first, _) = two_moments().await;
    let before = session.rows("SELECT * FROM cpu ORDER BY host").await;
    let cases = [
        "INSERT INTO cpu TIMESTAMP AS OF {} (host, ts) VALUES ('q', 9)",
        "INSERT INTO cpu TIMESTAMP AS OF {} SELECT host, ts, v, n FROM cpu",
        "INSERT INTO cpu TIMESTAMP AS OF {} SELECT host, ts, v, n FROM cpu TIMESTAMP AS OF {}",
        "INSERT INTO cpu VERSION AS OF '1-1' (host, ts) VALUES ('q', 9)",
        "EXPLAIN INSERT INTO cpu TIMESTAMP AS OF {} (host, ts) VALUES ('q', 9)",
        "EXPLAIN DELETE FROM cpu TIMESTAMP AS OF {} WHERE host = 'x'",
        "DELETE FROM cpu TIMESTAMP AS OF {} WHERE host = 'x'",
        "COPY cpu TIMESTAMP AS OF {} FROM 'nowhere.csv'",
        "TRUNCATE TABLE cpu TIMESTAMP AS OF {}",
        "ALTER TABLE cpu TIMESTAMP AS OF {} ADD COLUMN z INT",
        "DROP TABLE cpu TIMESTAMP AS OF {}",
        "DROP TABLE IF EXISTS cpu TIMESTAMP AS OF {}",
        "CREATE TABLE \"cpu TIMESTAMP AS OF 1\" (ts TIMESTAMP TIME INDEX)",
    ];
    for sql in cases {
        let sql = sql.replace("{}", &first);
        let (code, message) = session.refused(&sql).await;
        assert!(code == Code::InvalidSyntax && message.contains("AS OF stands behind"), "{sql}: {code:?} {message}");
    }
    let (code, _) = session.refused(&format!("UPDATE cpu TIMESTAMP AS OF {first} SET v = 1")).await;
    assert_eq!(code, Code::Unsupported);
    assert_eq!(session.rows("SELECT * FROM cpu ORDER BY host").await, before);
    let path = world.folder.path().join("past.csv");
    assert_eq!(session.run(&format!("COPY cpu TIMESTAMP AS OF {first} TO '{}'", path.display())).await, 2);
}
