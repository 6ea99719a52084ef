//! Repartition by SQL: what statements answer, and that no row is lost, doubled, or under the wrong rule meanwhile.

mod alterations;
mod blocked;
mod bugs;
mod deaths;
mod deletes;
mod held;
mod matrix;
mod statements;
mod types;

use std::sync::Arc;

use tessera_engine::wal::{LocalWal, Options, SyncMode, WalError};

use super::*;

/// A table of two regions; the boundary is host 'm'.
pub(super) fn create(options: &str) -> String {
    format!(
        "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, w BIGINT, PRIMARY KEY (host)) \
         PARTITION ON COLUMNS (host) (host < 'm', host >= 'm') {options}"
    )
}

pub(super) const SPLIT: &str = "ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'f', host >= 'f' AND host < 'm')";
pub(super) const MERGE: &str = "ALTER TABLE t MERGE PARTITION (host < 'f', host >= 'f' AND host < 'm')";
pub(super) const THREE: &str =
    "ALTER TABLE t REPARTITION (host < 'm', host >= 'm') INTO (host < 'd', host >= 'd' AND host < 't', host >= 't')";
pub(super) const TWO: &str =
    "ALTER TABLE t REPARTITION (host < 'd', host >= 'd' AND host < 't', host >= 't') INTO (host < 'm', host >= 'm')";

impl World {
    /// A process whose log is on disk, so that what it acknowledged outlives it.
    pub(super) async fn open_durable(&self) -> Session {
        let options = Options { node: NodeId(0), segment_bytes: 1 << 20, sync: SyncMode::Always };
        let mut tries = 0;
        let wal = loop {
            match LocalWal::open(&self.folder.path().join("wal"), options.clone(), Env::system()).await {
                Ok(wal) => break wal,
                // A process before that was dropped ends its tasks, and lets the folder go, when they run next.
                Err(WalError::Locked { .. }) if tries < 3_000 => tries += 1,
                Err(error) => panic!("{error}"),
            }
            tessera_manifest::env::sleep(std::time::Duration::from_millis(10)).await;
        };
        self.open_with(Arc::new(wal)).await
    }
}

impl Session {
    /// Runs a repartition; the regions that its groups read from and gave to, as `sources>targets`.
    pub(super) async fn repartition(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql).await;
        let part = |row: &String, at: usize| row.split('|').nth(at).unwrap_or_default().to_owned();
        rows.iter().map(|row| format!("{}>{}", part(row, 1), part(row, 2))).collect()
    }

    /// All rows, by key.
    pub(super) async fn all(&self) -> Vec<String> {
        self.rows("SELECT host, CAST(ts AS BIGINT), v, w FROM t ORDER BY 1, 2, 3, 4").await
    }

    /// The rules that are read by, in order of regions.
    pub(super) async fn rules(&self) -> Vec<String> {
        self.rows("SELECT rule FROM information_schema.regions WHERE table_name = 't' ORDER BY region_number").await
    }

    /// Asserts that every region holds rows of its rule only, that queries by rule and the rule's complement add up, and
    /// that nothing is staged.
    pub(super) async fn expect_settled(&self) {
        let states = self.rows("SELECT DISTINCT leader_state FROM information_schema.partitions WHERE table_name = 't'").await;
        assert_eq!(states, ["LEADER"]);
        let (all, counted) = (self.all().await.len(), self.rows("SELECT count(*) FROM t").await);
        assert_eq!(counted, [all.to_string()]);
        let table = self.server.catalogs.table("public", "t").await.unwrap();
        assert!(table.sets.is_settled());
        for route in table.routes() {
            let region = self.server.catalogs.engine.region(route.region).unwrap();
            assert_eq!((region.meta().generation, region.meta().rule_version()), (route.generation, route.rule.version()));
            assert!(route.generation < table.info.next_generation);
        }
    }
}
