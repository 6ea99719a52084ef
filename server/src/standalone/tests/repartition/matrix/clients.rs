//! Clients of a table that is being repartitioned.
//!
//! Invariant: a statement fails only as one that may be tried again, unless its process was taken over by another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tessera_manifest::env::sleep;

use super::ledger::{Key, Ledger};
use super::*;
use crate::error::Code;

/// How long a client waits between its statements.
const INSERTS: Duration = Duration::from_millis(15);
const DELETES: Duration = Duration::from_millis(40);
const SCANS: Duration = Duration::from_millis(50);
/// When memtables are flushed, once, whatever else is under way.
const FLUSH: Duration = Duration::from_millis(25);

/// The clients of one process.
pub(super) struct Clients<'a> {
    pub(super) session: &'a Session,
    pub(super) ledger: &'a Ledger,
    /// Whether another process may take this one's regions over.
    pub(super) may_be_overtaken: bool,
    pub(super) stop: AtomicBool,
}

impl<'a> Clients<'a> {
    pub(super) fn new(session: &'a Session, ledger: &'a Ledger) -> Self {
        Self { session, ledger, may_be_overtaken: false, stop: AtomicBool::new(false) }
    }

    /// Writes, reads and flushes until `statement` is answered; its answer.
    pub(super) async fn run<T>(&self, statement: impl Future<Output = T>) -> T {
        let statement = async {
            let answer = statement.await;
            self.stop.store(true, Ordering::Relaxed);
            answer
        };
        let (answer, (), (), (), ()) = futures::join!(statement, self.inserts(), self.deletes(), self.scans(), self.flush());
        answer
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Runs a statement until it is done; the rows that it affected, or none if this process is not the one to ask any more.
    async fn write(&self, sql: &str) -> Option<u64> {
        loop {
            match self.session.execute(sql).await {
                Ok(mut outputs) => match outputs.pop().unwrap() {
                    Output::Affected(rows) => return Some(rows),
                    Output::Rows { .. } => panic!("{sql} answered rows"),
                },
                Err(error) if error.code == Code::RegionBusy && self.goes_on() => sleep(INSERTS).await,
                Err(_) if self.may_be_overtaken || !self.goes_on() => return None,
                Err(error) => panic!("{sql}: {error}"),
            }
        }
    }

    pub(super) async fn insert(&self, rows: u64) -> bool {
        let keys = self.ledger.draw(rows);
        let values: Vec<String> = keys.iter().map(|(host, ts)| format!("('{host}', {ts}, {ts}, 1)")).collect();
        let Some(affected) = self.write(&format!("INSERT INTO t VALUES {}", values.join(", "))).await else { return false };
        assert_eq!(affected, rows);
        self.ledger.acknowledge(keys);
        true
    }

    async fn inserts(&self) {
        while self.goes_on() && self.insert(2).await {
            sleep(INSERTS).await;
        }
    }

    /// Deletes a row; false when this process is not the one to ask any more.
    pub(super) async fn delete(&self) -> bool {
        let (host, ts) = self.ledger.draw_delete().expect("rows are acknowledged faster than they are deleted");
        let sql = format!("DELETE FROM t WHERE host = '{host}' AND CAST(ts AS BIGINT) = {ts}");
        let Some(rows) = self.write(&sql).await else { return false };
        assert!(rows == 1 || self.ledger.is_volatile(), "{host} {ts} was acknowledged and not seen by a delete");
        self.ledger.acknowledge_delete((host, ts));
        true
    }

    async fn deletes(&self) {
        sleep(DELETES).await;
        while self.goes_on() && self.delete().await {
            sleep(DELETES).await;
        }
    }

    async fn scans(&self) {
        while self.goes_on() {
            sleep(SCANS).await;
            let due = self.ledger.due();
            match self.session.keys().await {
                Ok(found) => self.ledger.expect(&due, &found, "a scan"),
                Err(_) if self.may_be_overtaken => return,
                Err(error) => panic!("a scan failed: {error}"),
            }
        }
    }

    async fn flush(&self) {
        sleep(FLUSH).await;
        // It is refused for a region that is not there any more, and that is all right.
        let _ = self.session.execute("ADMIN flush_table('t')").await;
    }
}

impl Session {
    /// The keys of all rows, in no order.
    pub(super) async fn keys(&self) -> Result<Vec<Key>, ServerError> {
        let batches = self.batches("SELECT host, CAST(ts AS BIGINT) FROM t").await?;
        let text = pretty_format_batches(&batches).unwrap().to_string();
        let rows = text.lines().filter(|line| line.starts_with('|')).skip(1);
        let key = |line: &str| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap().to_owned(), cells.next().unwrap().parse().unwrap())
        };
        Ok(rows.map(key).collect())
    }
}
