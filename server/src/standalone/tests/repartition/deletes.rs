//! A DELETE reads keys and then writes a delete for each: what it takes away when a repartition comes in between.

use super::*;
use crate::query::rows::nowhere;
use crate::query::write::Writer;

/// What a DELETE that read these keys writes, by the routes of the time when it read.
struct Begun {
    writer: Writer,
    keys: Vec<RecordBatch>,
}

impl Begun {
    async fn new(session: &Session, condition: &str) -> Self {
        let catalogs = session.server.catalogs.clone();
        let table = catalogs.table("public", "t").await.unwrap();
        assert!(table.sets.is_settled(), "as `read` makes sure for a statement that reads what it writes");
        let keys = session.batches(&format!("SELECT host, ts FROM t WHERE {condition}")).await.unwrap();
        Self { writer: Writer::delete(table, catalogs), keys }
    }

    async fn end(mut self) -> u64 {
        for batch in &self.keys {
            self.writer.push(batch, &nowhere).await.unwrap();
        }
        self.writer.finish().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_takes_the_keys_that_it_read_and_no_others_whatever_regions_they_have_by_then() {
    for (before, after) in [(SPLIT, MERGE), (THREE, TWO)] {
        let (_world, session) = Session::fresh().await;
        session.run(&create("")).await;
        session.run("INSERT INTO t VALUES ('a', 1, 1, 0), ('g', 1, 1, 0), ('z', 1, 1, 0), ('b', 1, 2, 0)").await;
        session.rows("ADMIN flush_table('t')").await;
        let delete = Begun::new(&session, "v = 1").await;
        session.repartition(before).await;
        // Under the new generation: a key that was read is written again, one that was not read is new and would match.
        session.run("INSERT INTO t VALUES ('g', 1, 77, 77), ('h', 1, 1, 1)").await;
        assert_eq!(delete.end().await, 3);
        let left = ["b|1|2|0", "h|1|1|1"];
        assert_eq!(session.all().await, left, "{before}: the delete is later than every row of its keys that was written before it");
        // What is written after the answer stays.
        session.run("INSERT INTO t VALUES ('a', 1, 5, 5)").await;
        let left = ["a|1|5|5", left[0], left[1]];
        session.rows("ADMIN flush_table('t')").await;
        session.repartition(after).await;
        assert_eq!(session.all().await, left, "{after}");
        session.rows("ADMIN compact_table('t', 'strict_window')").await;
        assert_eq!(session.all().await, left, "{after}, compacted");
        session.expect_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_written_after_a_delete_stays_through_a_repartition() {
    let (_world, session) = Session::fresh().await;
    session.run(&create("WITH (merge_mode = 'last_non_null')")).await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('g', 1, 1, 1)").await;
    let delete = Begun::new(&session, "v = 1").await;
    session.rows("ADMIN flush_table('t')").await;
    session.repartition(SPLIT).await;
    delete.end().await;
    session.run("INSERT INTO t (host, ts, v) VALUES ('a', 1, 9)").await;
    for sql in [MERGE, THREE, TWO] {
        assert_eq!(session.all().await, ["a|1|9|"], "{sql}: no field of the deleted row comes back");
        session.repartition(sql).await;
    }
    assert_eq!(session.all().await, ["a|1|9|"]);
}
