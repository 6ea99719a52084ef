//! A process that dies at each of its writes, to metadata and object store, while it repartitions: whatever it left, the
//! next one finishes it, and no row is lost, doubled or in the wrong region.

use tessera_metaclient::procedure::Phase;

use super::*;
use crate::failpoint::{Death, Fuse, FusedKv, FusedStore, Side};

/// What is there in the end.
#[derive(Debug, PartialEq)]
struct Remains {
    rules: Vec<String>,
    rows: Vec<String>,
    open: usize,
}

async fn open(world: &World, fuse: &Arc<Fuse>) -> Option<Session> {
    let kv = Arc::new(FusedKv::new(Arc::clone(&world.kv), Arc::clone(fuse)));
    let store = Arc::new(FusedStore::new(Arc::clone(&world.store), Arc::clone(fuse)));
    let (env, engine, node, cluster) = (Env::system(), Config::default(), NodeId(0), Nonce(1));
    let wal = Arc::new(NoopWal::new(node, &env));
    let parts = Parts { kv, store, wal, env, engine, node, cluster };
    let server = alive(fuse, Standalone::open(parts)).await?.unwrap();
    Some(Session { server })
}

async fn alive<T>(fuse: &Fuse, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = fuse.burnt() => None,
        done = work => Some(done),
    }
}

/// Waits until no procedure has anything to do.
async fn settle(session: &Session) {
    let client = session.server.procedures().client();
    for record in client.list(None, 1000).await.unwrap() {
        let end = client.wait(&record.id).await.unwrap();
        assert_eq!(end.phase, Phase::Done, "{end:?}");
    }
}

async fn prepared(before: &[&str]) -> World {
    let world = World::new();
    let session = world.open().await;
    session.run(&create("")).await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('e', 2, 2, 2), ('g', 3, 3, 3), ('p', 4, 4, 4), ('z', 5, 5, 5)").await;
    session.rows("ADMIN flush_table('t')").await;
    session.run("INSERT INTO t VALUES ('g', 3, 30, 30), ('z', 6, 6, 6)").await;
    for sql in before {
        session.repartition(sql).await;
    }
    session.server.close().await.unwrap();
    world
}

/// What a restart finds, once it has finished what was begun.
async fn restart(world: &World) -> Remains {
    let session = world.open().await;
    // Before anything is settled, the rows are there.
    let rows = session.all().await;
    settle(&session).await;
    session.expect_settled().await;
    assert_eq!(session.all().await, rows);
    let mut rules = session.rules().await;
    rules.sort();
    let open = session.server.catalogs.engine.regions().iter().filter(|region| region.meta().region.table().0 == 1024).count();
    session.server.close().await.unwrap();
    Remains { rules, rows, open }
}

/// What `work` gives, unless it hangs: then what the procedures say.
async fn in_time<T>(work: impl Future<Output = T>, world: &World, when: &str) -> T {
    let patience = tessera_manifest::env::sleep(std::time::Duration::from_secs(40));
    tokio::select! {
        done = work => done,
        () = patience => {
            let records = tessera_metaclient::procedure::Procedures::new(Arc::clone(&world.kv), Env::system()).list(None, 100).await.unwrap();
            panic!("died {when}, and the next process hangs: {records:#?}");
        }
    }
}

async fn die_everywhere(before: &[&str], sql: &str) {
    let world = prepared(before).await;
    let untouched = restart(&world).await;
    let session = world.open().await;
    session.repartition(sql).await;
    session.server.close().await.unwrap();
    let done = restart(&world).await;
    assert_eq!(done.rows, untouched.rows);
    assert_ne!(done.rules, untouched.rules);
    let mut deaths = 0;
    for side in [Side::Before, Side::After] {
        for at in 0.. {
            let world = prepared(before).await;
            let fuse = Fuse::new(side, Death::Silence);
            let session = open(&world, &fuse).await.unwrap();
            fuse.light(at);
            let statement = async { session.execute(sql).await };
            let answered = alive(&fuse, in_time(statement, &world, &format!("{side:?} write {at} of {sql}, in it")))
                .await
                .map(|outputs| outputs.map(|_| ()).unwrap())
                .is_some();
            drop(session);
            let found = in_time(restart(&world), &world, &format!("{side:?} write {at} of {sql}")).await;
            let when = format!("died {side:?} write {at}: {found:#?}\nneither done: {done:#?}\nnor untouched: {untouched:#?}");
            assert!(found.rules == done.rules || !answered && found.rules == untouched.rules, "{when}");
            assert_eq!(found.rows, done.rows, "{when}");
            if answered {
                break;
            }
            deaths += 1;
        }
    }
    eprintln!("{sql}: {deaths} deaths");
    assert!(deaths > 20, "{deaths} deaths");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[], SPLIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[SPLIT], MERGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_all_regions_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[], THREE).await;
}
