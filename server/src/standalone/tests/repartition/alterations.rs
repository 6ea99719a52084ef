//! Columns that tell which rows are whose, files that wait to be localized, and statements that wait for their turn.

use tessera_metaclient::procedure::Phase;

use super::*;

/// What the regions of the table have to rewrite: files of others, and files that are filtered.
async fn unlocalized(session: &Session) -> Vec<String> {
    let sql = "SELECT region_id, foreign_files, residual_files FROM information_schema.partitions WHERE table_name = 't' ORDER BY 1";
    session.rows(sql).await
}

async fn filled(options: &str) -> (World, Session) {
    let (world, session) = Session::fresh().await;
    session.run(&create(options)).await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('e', 1, 7, 2), ('g', 1, 3, 3), ('z', 1, 9, 4)").await;
    session.rows("ADMIN flush_table('t')").await;
    (world, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_left_as_they_are_where_nobody_asks_for_localizing() {
    let (_world, session) = filled("").await;
    assert_eq!(unlocalized(&session).await, ["1024/0|0|0", "1024/1|0|0"]);
    session.repartition(&format!("{SPLIT} WITH (localize = false)")).await;
    let left = unlocalized(&session).await;
    assert_eq!(left.len(), 3);
    let counts: Vec<&str> = left.iter().map(|line| line.split_once('|').unwrap().1).collect();
    assert!(counts.contains(&"1|1") && counts.contains(&"0|1") && counts.contains(&"0|0"), "one file is in two regions: {left:?}");
    session.rows("ADMIN compact_table('t')").await;
    assert!(unlocalized(&session).await.iter().all(|line| line.ends_with("|0|0")), "{:?}", unlocalized(&session).await);
    assert_eq!(session.all().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_by_which_files_are_shared_is_not_taken_away() {
    let (_world, session) = filled("WITH (append_mode = 'true')").await;
    session.repartition("ALTER TABLE t PARTITION ON COLUMNS (v) (v < 5, v >= 5) WITH (localize = false)").await;
    let drop = "ALTER TABLE t DROP COLUMN v";
    let (code, message) = session.refused(drop).await;
    assert_eq!(code, Code::InvalidArguments, "{message}");
    // One of the two regions rewrites what is its own, so that the files stand for the other one's rows only.
    let upper = session.rows("SELECT region_id FROM information_schema.regions WHERE table_name = 't' AND rule = 'v >= 5'").await;
    session.rows(&format!("ADMIN compact_region('{}')", upper[0])).await;
    session.repartition("ALTER TABLE t PARTITION ON COLUMNS () () WITH (localize = false)").await;
    let before = (session.all().await, session.rows("DESC TABLE t").await);
    for sql in [drop, "ALTER TABLE t DROP COLUMN w, DROP COLUMN v"] {
        let (code, message) = session.refused(sql).await;
        assert_eq!(code, Code::InvalidArguments, "{message}");
        assert!(message.contains("column 'v' tells which") && message.contains("ADMIN compact_table('public.t')"), "{message}");
    }
    assert_eq!((session.all().await, session.rows("DESC TABLE t").await), before, "nothing was altered");
    let records = session.server.procedures().client().list(None, 1000).await.unwrap();
    assert!(records.iter().all(|record| record.phase == Phase::Done), "{records:?}");
    session.rows("ADMIN compact_table('public.t')").await;
    session.run(drop).await;
    assert_eq!(session.rows("SELECT count(*), sum(w) FROM t").await, ["4|10"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repartition_that_waited_is_checked_against_the_rules_that_it_finds() {
    let (_world, session) = filled("").await;
    session.rows(&format!("{SPLIT} WITH (wait = false)")).await;
    // Its rules come to be by the statement before it.
    session.repartition(MERGE).await;
    assert_eq!(session.rules().await.len(), 2);
    let client = session.server.procedures().client();
    session.rows(&format!("{SPLIT} WITH (wait = false)")).await;
    let (first, second) = tokio::join!(session.execute(MERGE), session.execute(MERGE));
    let refused: Vec<ServerError> = [first, second].into_iter().filter_map(Result::err).collect();
    let [refused] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(refused.code, Code::InvalidArguments, "{refused}");
    assert!(refused.message.contains("no region of table 'public.t' has the rule host < 'f'; it has"), "{refused}");
    for record in client.list(None, 1000).await.unwrap() {
        client.wait(&record.id).await.unwrap();
    }
    session.expect_settled().await;
    assert_eq!(session.all().await.len(), 4);
}

/// Files keep statistics of the columns that the table was partitioned by, as values of the types that these had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_which_statistics_are_kept_gets_no_other_type_until_they_are_gone() {
    let (_world, session) = Session::fresh().await;
    session
        .run(
            "CREATE TABLE n (host STRING, ts TIMESTAMP(3) TIME INDEX, x INT, PRIMARY KEY (host)) \
         PARTITION ON COLUMNS (host) (host < 'm', host >= 'm') WITH (append_mode = 'true')",
        )
        .await;
    session.repartition("ALTER TABLE n PARTITION ON COLUMNS (host, x) (host < 'f', host >= 'f')").await;
    session.run("INSERT INTO n VALUES ('a', 1, 7), ('z', 1, 7)").await;
    session.rows("ADMIN flush_table('n')").await;
    session.repartition("ALTER TABLE n PARTITION ON COLUMNS (host) (host < 'f', host >= 'f')").await;
    let widen = "ALTER TABLE n MODIFY COLUMN x DOUBLE";
    let (code, message) = session.refused(widen).await;
    assert_eq!(code, Code::InvalidArguments, "{message}");
    assert!(message.contains("column 'x'") && message.contains("ADMIN compact_table('public.n')"), "{message}");
    // The rules stayed as they were, so that no region heard of the other columns. Now each does.
    session.repartition("ALTER TABLE n REPARTITION (host < 'f', host >= 'f') INTO (host < 'g', host >= 'g')").await;
    session.rows("ADMIN compact_table('n')").await;
    session.run(widen).await;
    assert_eq!(session.rows("SELECT count(*) FROM n WHERE x >= 5").await, ["2"]);
    session.repartition("ALTER TABLE n PARTITION ON COLUMNS (x) (x < 5.0, x >= 5.0)").await;
    assert_eq!(session.rows("SELECT count(*) FROM n WHERE x >= 5").await, ["2"]);
    assert_eq!(session.rows("SELECT count(*) FROM n").await, ["2"]);
}
