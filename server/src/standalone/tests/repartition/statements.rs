//! What statements about partitions do and answer.

use tessera_metaclient::procedure::{Phase, ProcedureId};

use super::*;

const ROWS: &str = "INSERT INTO t VALUES ('a', 1, 1, 1), ('e', 1, 2, 2), ('g', 1, 3, 3), ('k', 2, 4, 4), ('m', 1, 5, 5), ('z', 1, 6, NULL), (NULL, 1, 7, 7)";

/// A table with rows in files, and in memory.
async fn filled(options: &str) -> (World, Session) {
    let (world, session) = Session::fresh().await;
    session.run(&create(options)).await;
    session.run(ROWS).await;
    session.rows("ADMIN flush_table('t')").await;
    session.run("INSERT INTO t VALUES ('b', 1, 10, 10), ('h', 5, 11, 11), ('y', 2, 12, 12)").await;
    (world, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_the_statement_keeps_every_row() {
    for options in ["", "WITH (merge_mode = 'last_non_null')", "WITH (append_mode = 'true')"] {
        let (_world, session) = filled(options).await;
        let before = session.all().await;
        let forms = [
            (SPLIT, vec!["host < 'f'", "host >= 'm'", "host < 'm' AND host >= 'f'"]),
            (MERGE, vec!["host < 'm'", "host >= 'm'"]),
            (THREE, vec!["host < 't' AND host >= 'd'", "host >= 't'", "host < 'd'"]),
            ("ALTER TABLE t PARTITION ON COLUMNS () ()", vec![]),
            (
                "ALTER TABLE t PARTITION ON COLUMNS (host, ts) (host < 'm' AND ts < 2, host < 'm' AND ts >= 2, host >= 'm')",
                vec!["host < 'm' AND ts < '1970-01-01 00:00:00.002'", "host < 'm' AND ts >= '1970-01-01 00:00:00.002'", "host >= 'm'"],
            ),
            (
                "ALTER TABLE t REPARTITION (host < 'm' AND ts < 2, host < 'm' AND ts >= 2, host >= 'm') ON COLUMNS (ts) INTO (ts < 2, ts >= 2)",
                vec!["ts < '1970-01-01 00:00:00.002'", "ts >= '1970-01-01 00:00:00.002'"],
            ),
            ("ALTER TABLE t MERGE PARTITION (ts < 2, ts >= 2)", vec![]),
        ];
        for (sql, mut rules) in forms {
            session.repartition(sql).await;
            assert_eq!(session.all().await, before, "{sql} {options}");
            session.expect_settled().await;
            let mut found = session.rules().await;
            assert_eq!(found.len(), rules.len().max(1), "{sql}");
            // Which region keeps its number, and so the order, follows from where most bytes are.
            found.sort();
            if !rules.is_empty() {
                rules.sort_unstable();
                assert_eq!(found, rules, "{sql}");
            }
        }
        session.run("INSERT INTO t VALUES ('q', 9, 9, 9)").await;
        assert_eq!(session.all().await.len(), before.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_repartitioned_outlives_a_restart() {
    let world = World::new();
    let session = world.open_durable().await;
    session.run(&create("")).await;
    session.run(ROWS).await;
    session.repartition(SPLIT).await;
    session.run("INSERT INTO t VALUES ('c', 1, 20, 20), ('l', 1, 21, 21), ('a', 1, 22, 22)").await;
    let before = session.all().await;
    // As after a crash: nothing is flushed.
    session.server.catalogs.engine.wal().close().await.unwrap();
    drop(session);
    let session = world.open_durable().await;
    assert_eq!(session.all().await, before);
    session.expect_settled().await;
    session.repartition(MERGE).await;
    assert_eq!(session.all().await, before);
    session.server.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_a_reason_and_changes_nothing() {
    let (_world, session) = filled("").await;
    let before = (session.rules().await, session.all().await);
    let cases = [
        (
            "ALTER TABLE t SPLIT PARTITION (host < 'x') INTO (host < 'a', host >= 'a' AND host < 'x')",
            Code::InvalidArguments,
            "no region of table",
        ),
        (
            "ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'a', host > 'a' AND host < 'm')",
            Code::InvalidArguments,
            "none under the new rules",
        ),
        ("ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'f', host < 'm')", Code::InvalidArguments, "satisfies both"),
        ("ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'f', v >= 1)", Code::InvalidArguments, "no partition column"),
        ("ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'f', host >=)", Code::InvalidArguments, "bad partition rule"),
        ("ALTER TABLE t MERGE PARTITION (host < 'm', host < 'm')", Code::InvalidArguments, "named before"),
        ("ALTER TABLE t PARTITION ON COLUMNS (v) (v < 1, v >= 1)", Code::InvalidArguments, "is a field"),
        ("ALTER TABLE t PARTITION ON COLUMNS (x) (x < 1, x >= 1)", Code::ColumnNotFound, "'x'"),
        ("ALTER TABLE t PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')", Code::InvalidArguments, "nothing to do"),
        ("ALTER TABLE nope MERGE PARTITION (host < 'm', host >= 'm')", Code::TableNotFound, "nope"),
        ("ADMIN rollback_repartition('nope')", Code::ProcedureNotFound, "nope"),
        ("ADMIN cancel_procedure('nope')", Code::ProcedureNotFound, "nope"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = session.refused(sql).await;
        assert_eq!(found, code, "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
    }
    assert_eq!((session.rules().await, session.all().await), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_does_not_wait_answers_the_procedure() {
    let (_world, session) = filled("").await;
    let id = session.rows(&format!("{SPLIT} WITH (wait = false)")).await.remove(0);
    let id: ProcedureId = id.parse().unwrap();
    let record = session.server.procedures().client().wait(&id).await.unwrap();
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    let state = session.rows(&format!("ADMIN procedure_state('{id}')")).await.remove(0);
    assert!(state.contains("\"kind\":\"repartition\"") && state.contains("\"status\":\"done\""), "{state}");
    assert_eq!(session.rules().await.len(), 3);
    let (code, message) = session.refused(&format!("ADMIN cancel_procedure('{id}')")).await;
    assert_eq!(code, Code::IllegalState, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repartition_that_is_given_no_time_changes_nothing() {
    let (_world, session) = filled("").await;
    let before = (session.rules().await, session.all().await);
    let (_, message) = session.refused(&format!("{SPLIT} WITH (timeout = '1ns')")).await;
    assert!(message.contains("time"), "{message}");
    assert_eq!((session.rules().await, session.all().await), before);
    session.expect_settled().await;
    session.run("INSERT INTO t VALUES ('a', 77, 1, 1), ('z', 77, 1, 1)").await;
    session.repartition(SPLIT).await;
    assert_eq!(session.all().await.len(), before.1.len() + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repartition_is_rolled_back_by_its_inverse() {
    let (_world, session) = filled("").await;
    let (rules, rows) = (session.rules().await, session.all().await);
    let id = session.rows(THREE).await.remove(0).split('|').next().unwrap().to_owned();
    assert_ne!(session.rules().await, rules);
    session.rows(&format!("ADMIN rollback_repartition('{id}')")).await;
    let mut back = session.rules().await;
    back.sort();
    let mut rules = rules;
    rules.sort();
    assert_eq!((back, session.all().await), (rules, rows));
    session.expect_settled().await;
    let (code, message) = session.refused(&format!("ADMIN rollback_repartition('{id}')")).await;
    assert_eq!(code, Code::IllegalState, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explained_repartition_shows_its_regions_and_changes_nothing() {
    let (_world, session) = filled("").await;
    let before = session.rules().await;
    let lines = session.rows(&format!("EXPLAIN {SPLIT}")).await;
    let field = |line: &String, at: usize| line.split('|').nth(at).unwrap().to_owned();
    let shown: Vec<String> = lines.iter().map(|line| format!("{} {}", field(line, 1), field(line, 2))).collect();
    assert_eq!(shown.len(), 3, "{lines:?}");
    assert!(shown.contains(&"1024/2 is created".to_owned()) && shown.contains(&"1024/0 changes".to_owned()), "{shown:?}");
    assert!(shown.contains(&"1024/1 stays".to_owned()), "{shown:?}");
    assert!(lines.iter().any(|line| line.contains("scans filter out")), "{lines:?}");
    assert_eq!(session.rules().await, before);
    let retires = session.rows("EXPLAIN ALTER TABLE t MERGE PARTITION (host < 'm', host >= 'm')").await;
    assert!(retires.iter().any(|line| line.contains("retires")), "{retires:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_one_statement_are_answered_one_by_one() {
    let (_world, session) = filled("").await;
    let sql = "ALTER TABLE t REPARTITION (host < 'm', host >= 'm') \
        INTO (host < 'c', host >= 'c' AND host < 'm', host >= 'm' AND host < 'p', host >= 'p')";
    let groups = session.repartition(sql).await;
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(groups[0].starts_with("1024/0>") && groups[1].starts_with("1024/1>"), "{groups:?}");
    assert_eq!(session.rules().await.len(), 4);
    session.expect_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shown_with_their_regions() {
    let (_world, session) = filled("").await;
    let shown = session.rows("SHOW PARTITIONS t").await;
    assert_eq!(shown, ["p0|1024/0|host < 'm'|0|1|LEADER|||||0|0", "p1|1024/1|host >= 'm'|0|1|LEADER|||||0|0"]);
    session.repartition(SPLIT).await;
    assert_eq!(session.rows("SHOW PARTITIONS FROM public.t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_changes_of_the_table_wait_for_their_turn() {
    let (_world, session) = filled("").await;
    session.rows(&format!("{SPLIT} WITH (wait = false)")).await;
    session.run("ALTER TABLE t ADD COLUMN x BIGINT DEFAULT 7").await;
    session.rows(&format!("{MERGE} WITH (wait = false)")).await;
    session.run("TRUNCATE TABLE t").await;
    assert_eq!(session.rows("SELECT count(*) FROM t").await, ["0"]);
    session.run("DROP TABLE t").await;
    assert!(session.rows("SHOW TABLES").await.is_empty());
    session.run(&create("")).await;
    assert!(session.all().await.is_empty());
}
