//! DDL statements whose process dies at each of their writes, to metadata and object store, before or after it; and again
//! at each write of the next start. What is there in the end is what an undisturbed run leaves, or nothing was begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;
use tessera_engine::wal::NoopWal;
use tessera_manifest::id::{NodeId, RegionId};
use tessera_manifest::log::{Context, load};
use tessera_manifest::paths::Root;
use tessera_metaclient::procedure::Phase;

use super::*;
use crate::doctor;
use crate::failpoint::{Death, Fuse, FusedKv, FusedStore, Side};
use crate::service::AdminService;

/// What there is, as far as an undisturbed run decides it.
#[derive(Debug, PartialEq)]
struct Remains {
    /// Each table as it would be created again.
    tables: Vec<String>,
    next_table_id: u32,
    tombstones: usize,
    /// Each region on the store: its table, the version of its schema, and whether it is dropped.
    regions: BTreeMap<RegionId, (String, u32, bool)>,
    /// Drop markers.
    markers: usize,
    /// Regions of tables that are not open.
    closed: Vec<RegionId>,
    problems: Vec<String>,
}

/// A process on a world, which dies when its fuse burns out.
async fn open(world: &World, fuse: &Arc<Fuse>) -> Option<Session> {
    let kv = Arc::new(FusedKv::new(Arc::clone(&world.kv), Arc::clone(fuse)));
    let store = Arc::new(FusedStore::new(Arc::clone(&world.store), Arc::clone(fuse)));
    let (env, engine, node, cluster) = (Env::system(), Config::default(), NodeId(0), Nonce(1));
    let wal = Arc::new(NoopWal::new(node, &env));
    let parts = Parts { kv, store, wal, reachable: None, env, engine, node, cluster };
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

/// Waits until no procedure has anything to do; how many there are.
async fn settle(session: &Session) -> usize {
    let client = session.server.procedures().client();
    let records = client.list(None, 1000).await.unwrap();
    for record in &records {
        let end = client.wait(&record.id).await.unwrap();
        assert_eq!(end.phase, Phase::Done, "{end:?}");
    }
    records.len()
}

async fn remains(world: &World, session: &Session) -> Remains {
    let catalog = &session.server.catalogs.catalog;
    let context = Context::new(Arc::clone(&world.store), Root::default(), Env::system());
    let names: Vec<String> = world.store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    let mut regions = BTreeMap::new();
    for name in &names {
        let [table, region, "manifest", _] = name.split('/').collect::<Vec<_>>()[..] else { continue };
        let id = RegionId::new(
            tessera_manifest::id::TableId(table.parse().unwrap()),
            tessera_manifest::id::RegionNumber(region.parse().unwrap()),
        );
        let state = load(&context, id).await.unwrap();
        let meta = state.meta().unwrap();
        regions.insert(id, (meta.table.clone(), meta.schema.version(), state.is_dropped()));
    }
    let mut tables = Vec::new();
    for name in session.rows("SHOW TABLES").await {
        tables.push(session.rows(&format!("SHOW CREATE TABLE {name}")).await.join("\n"));
    }
    let report = doctor::check(&doctor::survey(catalog, &world.store).await.unwrap());
    Remains {
        tables,
        next_table_id: session.server.next_table_id().await.unwrap().0,
        tombstones: catalog.tombstones().await.unwrap().len(),
        regions,
        markers: names.iter().filter(|name| name.contains("/drop/")).count(),
        closed: closed_regions(session).await,
        problems: report.findings.iter().map(|found| found.message.clone()).collect(),
    }
}

async fn closed_regions(session: &Session) -> Vec<RegionId> {
    let regions = session.server.catalogs.regions().await.unwrap();
    regions.into_iter().filter(|region| session.server.catalogs.engine.region(*region).is_err()).collect()
}

/// What is there after a restart, and how many procedures were begun by statements.
async fn restart(world: &World) -> (Remains, usize) {
    let session = world.open().await;
    let procedures = settle(&session).await;
    let remains = remains(world, &session).await;
    session.server.close().await.unwrap();
    (remains, procedures)
}

/// A world in which these statements were run.
async fn prepared(before: &[&str]) -> World {
    let world = World::new();
    let session = world.open().await;
    for sql in before {
        session.run(sql).await;
    }
    session.server.close().await.unwrap();
    world
}

/// Runs `sql` in a process that dies at the write with this number; whether it did.
async fn run_and_die(world: &World, sql: &str, side: Side, at: u64) -> bool {
    let fuse = Fuse::new(side, Death::Silence);
    let session = open(world, &fuse).await.unwrap();
    fuse.light(at);
    alive(&fuse, session.execute(sql)).await.map(|outputs| outputs.map(|_| ()).unwrap()).is_none()
}

/// Starts a process that dies at the write with this number of its start and of what it has to finish; whether it did.
async fn start_and_die(world: &World, side: Side, at: u64) -> bool {
    let fuse = Fuse::new(side, Death::Silence);
    fuse.light(at);
    let Some(session) = open(world, &fuse).await else { return true };
    if alive(&fuse, settle(&session)).await.is_none() {
        return true;
    }
    alive(&fuse, session.server.close()).await.is_none()
}

/// Dies at every write of `sql`, and with `again`, at every write of the start after that.
async fn die_everywhere(before: &[&str], sql: &str, again: bool) {
    let world = prepared(before).await;
    let untouched = restart(&world).await;
    world.open().await.run(sql).await;
    let done = restart(&world).await;
    assert_ne!(done, untouched);
    assert_eq!((&done.0.problems, &done.0.closed), (&Vec::new(), &Vec::new()));
    let mut deaths = 0;
    for side in [Side::Before, Side::After] {
        for at in 0.. {
            let world = prepared(before).await;
            if !run_and_die(&world, sql, side, at).await {
                // Whatever else is written then, the statement was answered.
                assert_eq!(restart(&world).await, done);
                break;
            }
            deaths += 1;
            check(&world, &untouched, &done, &format!("{side:?} write {at}")).await;
            for at_start in (0..).take_while(|_| again) {
                let world = prepared(before).await;
                // The last write is seen by the waiting statement, which may answer just before the process is dead.
                let answered = !run_and_die(&world, sql, side, at).await;
                if !start_and_die(&world, side, at_start).await {
                    break;
                }
                assert!(!answered || restart(&world).await == done);
                deaths += 1;
                check(&world, &untouched, &done, &format!("{side:?} write {at}, then {at_start} of the start")).await;
            }
        }
    }
    assert!(deaths > 10, "{deaths} deaths");
}

async fn check(world: &World, untouched: &(Remains, usize), done: &(Remains, usize), when: &str) {
    let found = restart(world).await;
    assert!(found == *done || found == *untouched, "died {when}: {found:#?}\nneither done: {done:#?}\nnor untouched: {untouched:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_table_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[], CPU, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_table_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[CPU], "DROP TABLE cpu", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alter_table_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[CPU], "ALTER TABLE cpu ADD COLUMN extra DOUBLE", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_that_dies_anywhere_is_done_or_was_never_begun() {
    die_everywhere(&[CPU], "ALTER TABLE cpu RENAME cpu2", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_table_that_fails_and_dies_while_it_is_undone_leaves_nothing_in_the_catalog() {
    // A region of the new table is somebody else's, so that the statement fails when it has created the others.
    let mut deaths = 0;
    for side in [Side::Before, Side::After] {
        for at in 0.. {
            let world = prepared(&[CPU]).await;
            let fuse = Fuse::new(side, Death::Silence);
            let session = open(&world, &fuse).await.unwrap();
            take_region(&session).await;
            fuse.light(at);
            let other = CPU.replace("TABLE cpu", "TABLE other");
            if let Some(refused) = alive(&fuse, session.execute(&other)).await {
                assert!(refused.err().unwrap().message.contains("1025/1"));
                break;
            }
            deaths += 1;
            drop(session);
            expect_undone(&world).await;
        }
    }
    assert!(deaths > 10, "{deaths} deaths");
}

/// Makes region 1025/1, which is of no table.
async fn take_region(session: &Session) {
    let engine = &session.server.catalogs.engine;
    let meta = engine.regions()[0].meta();
    let region = "1025/1".parse().unwrap();
    engine.create_region(tessera_manifest::meta::RegionMeta { region, ..(*meta).clone() }).await.unwrap();
}

async fn expect_undone(world: &World) {
    let session = world.open().await;
    let client = session.server.procedures().client();
    for record in client.list(None, 1000).await.unwrap() {
        let end = client.wait(&record.id).await.unwrap();
        let expected = if end.output.as_deref() == Some("1024") { Phase::Done } else { Phase::Failed };
        assert_eq!(end.phase, expected, "{end:?}");
    }
    assert_eq!(session.rows("SHOW TABLES").await, ["cpu"]);
    let remains = remains(world, &session).await;
    for (region, (_, _, dropped)) in remains.regions {
        let ours = region.table().0 == 1024 || region.to_string() == "1025/1";
        assert_eq!(dropped, !ours, "{region}");
    }
}
