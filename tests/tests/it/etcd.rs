//! The real binary with its metadata in a real etcd: what it repartitions, and what is left when it is killed.
//!
//! Without an etcd each test says so and passes.

use tempfile::TempDir;
use tessera_metaclient::conformance::etcd::{Cluster, is_installed};
use tokio::runtime::Runtime;

use crate::support::{Server, settle, skipped};

const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')";
const SPLIT: &str = "ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'f', host >= 'f' AND host < 'm')";
const MERGE: &str = "ALTER TABLE t MERGE PARTITION (host < 'f', host >= 'f' AND host < 'm')";
const ALL: &str = "SELECT host, CAST(ts AS BIGINT), v FROM t ORDER BY 1, 2";
const RULES: &str = "SELECT rule FROM information_schema.regions WHERE table_name = 't' ORDER BY rule";
/// Writes at which a process dies in the middle of a repartition.
const DEATHS: [&str; 5] = ["2", "9+", "17", "24+", "33"];

/// A server of etcd, and what a server of ours needs to use it.
struct Etcd {
    settings: [String; 2],
    /// Ends the server of etcd with it.
    _cluster: Cluster,
    _runtime: Runtime,
}

impl Etcd {
    fn start() -> Option<Self> {
        if !is_installed() {
            skipped("metadata in etcd", "there is no etcd here (Debian: etcd-server)");
            return None;
        }
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(Cluster::single());
        let settings = ["metadata.backend=etcd".to_owned(), format!("metadata.endpoints={}", cluster.endpoint(0))];
        Some(Self { settings, _cluster: cluster, _runtime: runtime })
    }

    fn serve(&self, home: &TempDir, env: &[(&str, &str)]) -> Server {
        Server::start_with_env(home.path(), &self.settings.each_ref().map(String::as_str), env)
    }
}

#[test]
fn a_table_is_repartitioned_with_metadata_in_etcd_and_survives_kills() {
    let Some(etcd) = Etcd::start() else { return };
    let home = TempDir::new().unwrap();
    let server = etcd.serve(&home, &[]);
    server.run(CREATE);
    server.run("INSERT INTO t VALUES ('a', 1, 1), ('g', 2, 2), ('z', 3, 3)");
    server.lines(SPLIT);
    server.run("INSERT INTO t VALUES ('g', 2, 20), ('b', 4, 4)");
    let rows = ["a|1|1", "b|4|4", "g|2|20", "z|3|3"];
    assert_eq!(server.lines(ALL), rows);
    server.kill();
    let server = etcd.serve(&home, &[]);
    assert_eq!((server.lines(ALL), server.lines(RULES).len()), (rows.map(str::to_owned).to_vec(), 3));
    server.lines(MERGE);
    assert_eq!(server.run("DELETE FROM t WHERE host = 'a'"), 1);
    server.kill();
    let server = etcd.serve(&home, &[]);
    assert_eq!((server.lines(ALL), server.lines(RULES).len()), (rows[1..].iter().map(|&row| row.to_owned()).collect(), 2));
    assert_eq!(server.terminate().code, Some(0));
    assert!(!home.path().join("meta/metadata.redb").exists(), "nothing is kept beside etcd");
    // Metadata is of one store: that of another data home is refused.
    let other = TempDir::new().unwrap();
    let settings = etcd.settings.each_ref().map(String::as_str);
    let Err(ended) = Server::try_start_with_env(other.path(), &settings, &[]) else { panic!("two stores with one metadata") };
    assert!(ended.log.contains("the metadata belongs to cluster"), "{}", ended.log);
}

#[test]
fn repartitions_that_die_with_metadata_in_etcd_are_finished() {
    let Some(etcd) = Etcd::start() else { return };
    let home = TempDir::new().unwrap();
    let server = etcd.serve(&home, &[]);
    server.run(CREATE);
    server.run("INSERT INTO t VALUES ('a', 1, 1), ('g', 2, 2), ('z', 3, 3)");
    server.kill();
    let mut rows = vec!["a|1|1".to_owned(), "g|2|2".to_owned(), "z|3|3".to_owned()];
    let mut deaths = 0;
    for (turn, at) in (4..).zip(DEATHS) {
        let server = etcd.serve(&home, &[("TESSERA_FAIL_AT", at)]);
        let sql = if server.lines(RULES).len() == 2 { SPLIT } else { MERGE };
        if server.send(sql, "json").is_err() {
            deaths += 1;
            assert_eq!(server.join().code, None);
        } else {
            server.kill();
        }
        let server = etcd.serve(&home, &[]);
        assert_eq!(server.lines(ALL), rows, "died at {at} of {sql}");
        let procedures = settle(&server);
        assert!(procedures.iter().all(|one| one["status"] == "done"), "{procedures:?}");
        assert_eq!(server.lines(ALL), rows, "died at {at} of {sql}");
        server.run(&format!("INSERT INTO t VALUES ('h{turn}', {turn}, {turn})"));
        rows.push(format!("h{turn}|{turn}|{turn}"));
        rows.sort();
        server.kill();
    }
    assert!(deaths >= 3, "{deaths} deaths");
    let server = etcd.serve(&home, &[]);
    assert_eq!(server.lines(ALL), rows);
}
