//! A repartition that is decided and cannot go on: what others are told, how it goes on, and how it is given up.

use std::sync::atomic::{AtomicBool, Ordering};
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_manifest::log::{Context, load};
use tessera_manifest::paths::Root;
use tessera_metaclient::procedure::{Phase, ProcedureId, Record};

use super::super::failing::{FailingStore, Put};
use super::*;
use crate::ddl::marker;
use crate::failpoint::{Death, Fuse, FusedKv, FusedStore, Side};

const TABLE: TableId = TableId(1024);
const SOURCE: RegionId = RegionId::new(TABLE, RegionNumber(0));

/// Whether this is of the manifest of the table's first region, without which no retry of a remap gets on.
fn is_of_source(name: &str) -> bool {
    name.starts_with("0000001024/0000000000/manifest/")
}

/// A world with a table whose split is decided and blocked.
async fn blocked() -> (World, Arc<FailingStore>, Session, ProcedureId) {
    let store = Arc::new(FailingStore::default());
    let world = World { store: Arc::clone(&store) as Arc<dyn ObjectStore>, ..World::new() };
    let session = world.open().await;
    session.run(&create("")).await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('g', 1, 2, 2), ('z', 1, 3, 3)").await;
    session.rows("ADMIN flush_table('t')").await;
    session.run("INSERT INTO t VALUES ('b', 1, 4, 4)").await;
    // From the decision on, so that the remap is what meets it.
    let decided = Arc::new(AtomicBool::new(false));
    let damages = Arc::clone(&decided);
    store.garble(move |name| damages.load(Ordering::SeqCst) && is_of_source(name));
    store.on_put(move |name, _| {
        decided.fetch_or(name.contains("/txn/"), Ordering::SeqCst);
        Put::Taken
    });
    let (_, message) = session.refused(SPLIT).await;
    assert!(message.contains("is blocked: remove the cause, then ADMIN retry_procedure('"), "{message}");
    let id = record_of(&session, "repartition").await.id;
    (world, store, session, id)
}

/// The last procedure of a kind.
async fn record_of(session: &Session, kind: &str) -> Record {
    let records = session.server.procedures().client().list(None, 1000).await.unwrap();
    records.into_iter().rfind(|record| record.kind == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_repartition_says_so_to_whoever_would_wait_and_goes_on_when_the_cause_is_gone() {
    let (_world, store, session, id) = blocked().await;
    let before = session.all().await;
    assert_eq!(before.len(), 4, "what was written before is read");
    assert_eq!(session.run("INSERT INTO t VALUES ('c', 1, 5, 5), ('h', 1, 6, 6)").await, 2);
    let waiting = [
        "ALTER TABLE t ADD COLUMN x BIGINT",
        "ALTER TABLE t SPLIT PARTITION (host >= 'm') INTO (host >= 'm' AND host < 'p', host >= 'p')",
        "ALTER TABLE t SPLIT PARTITION (host >= 'm') INTO (host >= 'm' AND host < 'p', host >= 'p') WITH (wait = false)",
        "TRUNCATE TABLE t",
        "DELETE FROM t WHERE host = 'a'",
        "INSERT INTO t SELECT * FROM t",
    ];
    for sql in waiting {
        let (code, message) = session.refused(sql).await;
        assert_eq!(code, Code::IllegalState, "{sql}: {message}");
        let parts = [format!("procedure {id}, is blocked"), format!("ADMIN retry_procedure('{id}')"), "DROP TABLE gives it up".to_owned()];
        assert!(parts.iter().all(|part| message.contains(part)), "{sql}: {message}");
    }
    let state = session.rows(&format!("ADMIN procedure_state('{id}')")).await.remove(0);
    assert!(state.contains("\"status\":\"blocked\""), "{state}");
    store.heal();
    session.rows(&format!("ADMIN retry_procedure('{id}')")).await;
    assert_eq!(session.server.procedures().client().wait(&id).await.unwrap().phase, Phase::Done);
    assert_eq!(session.all().await.len(), 6, "what was written meanwhile is there");
    session.expect_settled().await;
    let (code, message) = session.refused(&format!("ADMIN retry_procedure('{id}')")).await;
    assert_eq!(code, Code::IllegalState, "{message}");
    session.run("ALTER TABLE t ADD COLUMN x BIGINT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_whose_repartition_is_blocked_can_be_dropped() {
    let (world, store, session, id) = blocked().await;
    session.run("INSERT INTO t VALUES ('c', 1, 5, 5)").await;
    session.run("DROP TABLE t").await;
    assert!(session.rows("SHOW TABLES").await.is_empty());
    let ended = session.server.procedures().client().procedure(&id).await.unwrap();
    let drop = record_of(&session, "drop_table").await;
    assert_eq!((ended.phase, drop.phase), (Phase::Cancelled, Phase::Done));
    assert!(ended.error.unwrap().starts_with(&format!("procedure {} took its place; it was blocked: ", drop.id)));
    assert_eq!(session.refused(&format!("ADMIN retry_procedure('{id}')")).await.0, Code::IllegalState);
    // The name is free, and nothing of the old table gets in the way of the new one.
    session.run(&create("")).await;
    session.run("INSERT INTO t VALUES ('a', 1, 9, 9)").await;
    session.repartition("ALTER TABLE t SPLIT PARTITION (host >= 'm') INTO (host >= 'm' AND host < 'p', host >= 'p')").await;
    assert_eq!(session.all().await.len(), 1);
    store.heal();
    // What the marker's verdict needs is there: the region that could not follow its commit has all its files.
    let marked = marker::find(&world.store, TABLE).await.unwrap().unwrap();
    assert_eq!(marked.regions.len(), 3, "{marked:?}");
    let context = Context::new(Arc::clone(&world.store), Root::default(), Env::system());
    let left = load(&context, SOURCE).await.unwrap();
    assert!(left.staging().is_some() && !left.is_dropped() && !left.files().is_empty());
    session.server.close().await.unwrap();
    for damages in [true, false] {
        store.heal();
        if damages {
            store.garble(is_of_source);
        }
        let session = world.open().await;
        assert_eq!(session.rows("SHOW TABLES").await, ["t"]);
        assert_eq!(session.all().await.len(), 1);
        session.server.close().await.unwrap();
    }
}

async fn alive<T>(fuse: &Fuse, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = fuse.burnt() => None,
        done = work => Some(done),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_in_the_place_of_a_blocked_repartition_that_dies_anywhere_is_done_or_was_never_begun() {
    let mut deaths = 0;
    for side in [Side::Before, Side::After] {
        for at in 0.. {
            let (world, damaging, session, id) = blocked().await;
            drop(session);
            // A blocked procedure is not tried again because the cause is gone.
            damaging.heal();
            let fuse = Fuse::new(side, Death::Silence);
            let kv = Arc::new(FusedKv::new(Arc::clone(&world.kv), Arc::clone(&fuse)));
            let store = Arc::new(FusedStore::new(Arc::clone(&world.store), Arc::clone(&fuse)));
            let (env, engine, node, cluster) = (Env::system(), Config::default(), NodeId(0), Nonce(1));
            let wal = Arc::new(NoopWal::new(node, &env));
            let parts = Parts { kv, store, wal, reachable: None, env, engine, node, cluster };
            let session = Session { server: Standalone::open(parts).await.unwrap() };
            fuse.light(at);
            let answered = alive(&fuse, session.execute("DROP TABLE t")).await.map(|outputs| outputs.map(|_| ()).unwrap()).is_some();
            drop(session);
            let when = format!("died {side:?} write {at}");
            let session = world.open().await;
            let client = session.server.procedures().client();
            for record in client.list(None, 1000).await.unwrap() {
                client.wait(&record.id).await.unwrap();
            }
            let ended = client.procedure(&id).await.unwrap();
            let tables = session.rows("SHOW TABLES").await;
            match ended.phase {
                Phase::Cancelled => assert!(tables.is_empty(), "{when}: {tables:?}"),
                Phase::Blocked { .. } => assert!(!answered && session.all().await.len() == 4, "{when}"),
                other => panic!("{when}: {other}"),
            }
            session.server.close().await.unwrap();
            if answered {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 8, "{deaths} deaths");
}
