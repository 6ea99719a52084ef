//! Lost metadata, damaged markers, metadata and logs that fail midway.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tessera_engine::wal::{EntryStream, LogStore, NoopWal, Pending, WalError};
use tessera_manifest::env::Env;
use tessera_manifest::id::{NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::wal::{WalId, WalPosition};
use tessera_metaclient::keys::Switch;
use tessera_metaclient::kv::MemoryBackend;

use super::failing::FailingStore;
use super::{CPU, Session, World};
use crate::ddl::marker;
use crate::error::Code;
use crate::service::{AdminService, Turn};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

#[tokio::test]
async fn lost_metadata_costs_no_region_of_the_old_tables() {
    let (mut world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    session.server.close().await.unwrap();
    world.kv = Arc::new(MemoryBackend::new());
    let session = world.open().await;
    for _ in 0..2 {
        let (code, message) = session.refused(CPU).await;
        assert_eq!(code, Code::IllegalState);
        assert!(message.contains("1024") && message.contains("doctor") && message.contains("{\"next_table_id\":1025}"), "{message}");
    }
    let refused = session.server.set_next_table_id(TableId(1025)).await.unwrap_err();
    assert!(refused.message.contains("POST /admin/recovery/enable"), "{refused}");
    session.server.turn(Switch::Recovery, Turn::On).await.unwrap();
    let refused = session.server.set_next_table_id(TableId(1024)).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArguments);
    session.server.set_next_table_id(TableId(1025)).await.unwrap();
    assert_eq!(session.refused(CPU).await.0, Code::IllegalState);
    session.server.turn(Switch::Recovery, Turn::Off).await.unwrap();
    session.run(CPU).await;
    assert_eq!(session.rows("SELECT table_id FROM information_schema.tables").await, ["1025"]);
    // The old region is as it was.
    let old = session.server.catalogs.engine.open_region(REGION).await.unwrap();
    assert_eq!(old.info().file_rows, 1);
}

#[tokio::test]
async fn a_create_that_fails_drops_only_what_it_made() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let meta = session.server.catalogs.engine.region(REGION).unwrap().meta();
    let taken = RegionId::new(TableId(1025), RegionNumber(1));
    let meta = tessera_manifest::meta::RegionMeta { region: taken, ..(*meta).clone() };
    session.server.catalogs.engine.create_region(meta).await.unwrap();
    let (_, message) = session.refused(&CPU.replace("TABLE cpu", "TABLE other")).await;
    assert!(message.contains("1025/1"), "{message}");
    assert!(session.server.catalogs.engine.region(taken).is_ok());
    let made = RegionId::new(TableId(1025), RegionNumber(0));
    assert!(session.server.catalogs.engine.region(made).is_err());
}

#[tokio::test]
async fn a_damaged_marker_closes_its_table_and_no_other() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run(&CPU.replace("TABLE cpu", "TABLE other")).await;
    session.server.close().await.unwrap();
    let path = Path::from("0000001024/drop/01ARZ3NDEKTSV4RRFFQ69G5FAV.json");
    world.store.put(&path, "{}".into()).await.unwrap();
    let session = world.open().await;
    for sql in ["SELECT * FROM cpu", "INSERT INTO cpu (host, ts) VALUES ('a', 1)", "DELETE FROM cpu", "DESC TABLE cpu"] {
        let (code, message) = session.refused(sql).await;
        assert_eq!(code, Code::StorageUnavailable, "{message}");
        assert!(message.contains(path.as_ref()), "{message}");
    }
    assert!(session.server.catalogs.engine.region(REGION).is_err());
    assert_eq!(session.run("INSERT INTO other (host, ts) VALUES ('a', 1)").await, 1);
    let states = "SELECT DISTINCT state FROM information_schema.regions WHERE table_name = 'cpu'";
    assert_eq!(session.rows(states).await, ["failed"]);
    session.run("DROP TABLE cpu").await;
    assert_eq!(session.rows("SHOW TABLES").await, ["other"]);
}

#[tokio::test]
async fn a_drop_that_is_done_leaves_nothing_for_the_next_start() {
    let (world, session) = Session::fresh().await;
    session.run(CPU).await;
    session.run("DROP TABLE cpu").await;
    assert!(session.server.catalogs.catalog.tombstones().await.unwrap().is_empty());
    assert!(marker::find(&world.store, TableId(1024)).await.unwrap().is_some());
    session.server.close().await.unwrap();
    let before = objects(&world).await;
    let session = world.open().await;
    assert!(session.server.catalogs.engine.regions().is_empty());
    session.server.close().await.unwrap();
    assert_eq!(objects(&world).await, before);
}

async fn objects(world: &World) -> Vec<String> {
    use futures::TryStreamExt;
    use object_store::ObjectStore;
    let mut names: Vec<String> = world.store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn no_write_is_acknowledged_once_a_drop_is_decided() {
    let store = Arc::new(FailingStore::default());
    let world = World { store: Arc::clone(&store) as Arc<dyn ObjectStore>, ..World::new() };
    let session = world.open().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    store.refuse(|name, _| name.contains("/drop/"));
    let (code, message) = session.refused("DROP TABLE cpu").await;
    assert_eq!(code, Code::StorageUnavailable);
    assert!(message.contains("/drop/") && message.contains("goes on with it: see ADMIN procedure_state('"), "{message}");
    for sql in ["INSERT INTO cpu (host, ts) VALUES ('a', 2)", "DELETE FROM cpu", "SELECT * FROM cpu"] {
        let (code, message) = session.refused(sql).await;
        assert_eq!(code, Code::RegionNotReady, "{message}");
        assert!(message.contains("is decided"), "{message}");
    }
    // A restart comes, and after it the store back to its senses: nobody has to repeat anything.
    session.server.close().await.unwrap();
    let session = world.open().await;
    store.heal();
    let client = session.server.procedures().client();
    for record in client.list(None, 10).await.unwrap() {
        client.retry(&record.id).await.ok();
        client.wait(&record.id).await.unwrap();
    }
    assert_eq!(session.rows("SHOW TABLES").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_decided_drop_goes_on_by_itself_and_frees_the_name() {
    let store = Arc::new(FailingStore::default());
    let world = World { store: Arc::clone(&store) as Arc<dyn ObjectStore>, ..World::new() };
    let session = world.open().await;
    session.run(CPU).await;
    store.refuse(|name, _| name.contains("/drop/"));
    session.refused("DROP TABLE cpu").await;
    store.heal();
    // Waits for the first drop, and finds nothing left.
    session.run("DROP TABLE IF EXISTS cpu").await;
    assert_eq!(session.refused("SELECT * FROM cpu").await.0, Code::TableNotFound);
    session.run(CPU).await;
    assert_eq!(session.run("INSERT INTO cpu (host, ts) VALUES ('a', 2)").await, 1);
    assert!(session.server.catalogs.catalog.tombstones().await.unwrap().is_empty());
}

#[tokio::test]
async fn paused_procedures_refuse_and_resume() {
    let (_world, session) = Session::fresh().await;
    session.server.turn(Switch::ProceduresPaused, Turn::On).await.unwrap();
    let (code, message) = session.refused(CPU).await;
    assert_eq!(code, Code::IllegalState);
    assert!(message.contains("/admin/procedure-manager/resume"), "{message}");
    session.server.turn(Switch::ProceduresPaused, Turn::Off).await.unwrap();
    session.run(CPU).await;
    let records = session.server.procedures().client().list(None, 10).await.unwrap();
    assert_eq!(records.len(), 1, "what was refused left nothing to run");
    let shown = session.rows(&format!("ADMIN procedure_state('{}')", records[0].id)).await;
    assert!(shown[0].contains(r#""kind":"create_table","status":"done""#) && shown[0].contains(r#""output":"1024""#), "{shown:?}");
    assert_eq!(session.refused("ADMIN procedure_state('none')").await.0, Code::ProcedureNotFound);
    assert_eq!(session.refused("ADMIN procedure_state('no id')").await.0, Code::InvalidArguments);
}

#[tokio::test]
async fn writes_find_a_region_again_that_was_away_for_a_moment() {
    let (_world, session) = Session::fresh().await;
    session.run(CPU).await;
    let engine = session.server.catalogs.engine.clone();
    engine.close_region(REGION).await.unwrap();
    let reopen = async {
        tokio::task::yield_now().await;
        engine.open_region(REGION).await.unwrap();
    };
    let (rows, ()) = tokio::join!(session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1), ('x', 1)"), reopen);
    assert_eq!(rows, 2);
    assert_eq!(session.rows("SELECT host FROM cpu ORDER BY host").await, ["a", "x"]);
    engine.close_region(REGION).await.unwrap();
    let (code, message) = session.refused("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    assert_eq!(code, Code::RegionBusy);
    assert!(message.contains("1024/0") && message.contains("nothing of the statement was applied"), "{message}");
}

#[tokio::test]
async fn an_unknown_outcome_is_called_unknown() {
    let world = World::new();
    let session = world.open_with(Arc::new(FaultyWal::new(true, 1 << 20))).await;
    session.run(CPU).await;
    let (code, message) = session.refused("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    assert_eq!(code, Code::StorageUnavailable);
    assert!(message.contains("it is not known whether the rows of this batch were written"), "{message}");
    assert!(!message.contains("nothing of the statement"), "{message}");
}

#[tokio::test]
async fn a_statement_may_be_larger_than_an_entry_of_the_log() {
    let world = World::new();
    let session = world.open_with(Arc::new(FaultyWal::new(false, 64 << 10))).await;
    session.run(CPU).await;
    let insert = "INSERT INTO cpu (host, ts, v) SELECT 'a', value, value AS v FROM generate_series(1, 30000)";
    assert_eq!(session.run(insert).await, 30_000);
    assert_eq!(session.rows("SELECT count(*), max(v) FROM cpu").await, ["30000|30000.0"]);
    let huge = format!("INSERT INTO cpu (host, ts) VALUES ('{}', 1)", "a".repeat(100_000));
    let (code, message) = session.refused(&huge).await;
    assert_eq!(code, Code::InvalidArguments);
    assert!(message.contains("nothing of the statement was applied"), "{message}");
}

/// A log with small entries, or whose disk failed.
#[derive(Debug)]
struct FaultyWal {
    inner: NoopWal,
    poisoned: bool,
    entry_bytes_max: u64,
}

impl FaultyWal {
    fn new(poisoned: bool, entry_bytes_max: u64) -> Self {
        Self { inner: NoopWal::new(NodeId(0), &Env::system()), poisoned, entry_bytes_max }
    }
}

#[async_trait]
impl LogStore for FaultyWal {
    fn entry_bytes_max(&self) -> u64 {
        self.entry_bytes_max
    }
    fn id(&self) -> WalId {
        self.inner.id()
    }
    fn epoch(&self) -> tessera_manifest::id::Epoch {
        self.inner.epoch()
    }
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let (bytes, max) = (payload.iter().map(|part| part.len() as u64).sum::<u64>(), self.entry_bytes_max);
        if bytes > max {
            return Err(WalError::TooLarge { bytes, max });
        }
        if !self.poisoned {
            return self.inner.submit(region, payload).await;
        }
        let source = Arc::new(std::io::Error::other("the disk is gone"));
        Err(WalError::Poisoned { file: "1.wal".into(), source })
    }
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        self.inner.replay(region, after)
    }
    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        self.inner.regions()
    }
    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.inner.release(region, up_to);
    }
    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        self.inner.oldest_needed()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
    async fn close(&self) -> Result<(), WalError> {
        self.inner.close().await
    }
}
