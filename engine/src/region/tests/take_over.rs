//! Regions whose rows are in the log of a node that is gone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use tessera_manifest::id::{RegionNumber, TableId};

use super::*;
use crate::testing::{Crash, Disk, Fault, PlanStore, every_crash};
use crate::wal::{LocalLogs, LocalWal, LogStore, NoopWal, ReachableLogs};

fn id(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

/// A node with a log of its own that can read those in the folders.
async fn node<S: ObjectStore>(number: u64, wal: &FsPath, reachable: Vec<PathBuf>, store: &Arc<S>) -> Engine {
    let options = Options { segment_bytes: 1 << 20, ..Options::new(NodeId(number)) };
    let wal = Arc::new(LocalWal::open(wal, options, Env::system()).await.unwrap());
    with_log(number, wal, reachable, store)
}

fn with_log<S: ObjectStore>(number: u64, wal: Arc<dyn LogStore>, reachable: Vec<PathBuf>, store: &Arc<S>) -> Engine {
    let reachable = Some(Arc::new(LocalLogs::new(reachable, Env::system())) as Arc<dyn ReachableLogs>);
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Engine::start(Parts { store, wal, node: NodeId(number), env: Env::system(), config: Config::default(), read_set: None, reachable })
}

/// Regions with a row in a file, one that replaces it in the log, and one that is deleted there.
async fn fill(engine: &Engine, regions: u32) {
    for number in 0..regions {
        let region = engine.create_region(RegionMeta { region: id(number), ..meta(Expr::always()) }).await.unwrap();
        put(&region, &[row("a", 1, 1.0), row("b", 1, 1.0)]).await;
        region.flush().await.unwrap();
        put(&region, &[row("a", 1, f64::from(number)), row("c", 2, 2.0)]).await;
        region.write(request(&region, OpType::Delete, &[row("b", 1, 0.0)])).await.unwrap();
    }
}

fn filled(number: u32) -> Vec<Vec<Value>> {
    vec![row("a", 1, f64::from(number)), row("c", 2, 2.0)]
}

#[tokio::test]
async fn regions_of_a_dead_node_open_where_its_log_can_be_read() {
    let (dirs, store) = ([0, 1].map(|_| TempDir::new().unwrap()), Arc::new(InMemory::new()));
    let [first, second] = [0, 1].map(|n: usize| dirs[n].path());
    let engine = node(1, first, Vec::new(), &store).await;
    fill(&engine, 20).await;
    crash(engine).await;
    let nowhere = first.join("not there");
    let engine = node(2, second, vec![nowhere.clone(), second.to_owned(), first.to_owned()], &store).await;
    for (number, opened) in engine.open_regions((0..20).map(id).collect()).await {
        let region = opened.unwrap_or_else(|error| panic!("{number}: {}", crate::error_chain(&error)));
        let number = number.number().0;
        assert_eq!(read(&region, everything()).await, filled(number), "{number}");
        let state = region.state();
        assert_eq!(state.wals().iter().map(|wal| wal.id).collect::<Vec<_>>(), [engine.wal().id()], "of the old log nothing is needed");
        put(&region, &[row("d", 3, 3.0)]).await;
    }
    // Nobody has the old log open.
    drop(LocalWal::open(first, Options::new(NodeId(1)), Env::system()).await.unwrap());
    // The first node is not let in again: rows are in the log of the second, which it cannot read.
    crash(engine).await;
    let engine = node(1, first, Vec::new(), &store).await;
    let refused = crate::error_chain(&engine.open_region(id(3)).await.unwrap_err());
    assert!(refused.contains("of node 2"), "{refused}");
    crash(engine).await;
    let engine = node(1, first, vec![second.to_owned()], &store).await;
    let region = engine.open_region(id(3)).await.unwrap();
    assert_eq!(read(&region, everything()).await, [filled(3), vec![row("d", 3, 3.0)]].concat());
}

#[tokio::test]
async fn a_living_node_keeps_its_regions_until_it_ends() {
    let (dirs, store) = ([0, 1].map(|_| TempDir::new().unwrap()), Arc::new(InMemory::new()));
    let [first, second] = [0, 1].map(|n: usize| dirs[n].path());
    let living = node(1, first, Vec::new(), &store).await;
    fill(&living, 2).await;
    let engine = node(2, second, vec![first.to_owned()], &store).await;
    let opened = engine.open_regions(vec![id(0), id(1)]).await;
    for (region, result) in opened {
        let error = result.unwrap_err();
        let text = crate::error_chain(&error);
        assert!(text.contains("in use by another process") && text.contains("of node 1"), "{text}");
        assert_eq!(error.class(), tessera_manifest::error::ErrorClass::Unavailable);
        let region = living.region(region).unwrap();
        put(&region, &[row("d", 4, 4.0)]).await;
    }
    crash(living).await;
    // Tried again in the background.
    while engine.regions().len() < 2 {
        tessera_manifest::env::sleep(std::time::Duration::from_millis(20)).await;
    }
    for region in engine.regions() {
        assert_eq!(read(&region, everything()).await, [filled(region.id().number().0), vec![row("d", 4, 4.0)]].concat());
    }
}

#[tokio::test]
async fn a_node_without_a_log_takes_over_what_one_with_a_log_left() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()));
    let engine = node(1, dir.path(), Vec::new(), &store).await;
    fill(&engine, 1).await;
    crash(engine).await;
    let noop = Arc::new(NoopWal::new(NodeId(1), &Env::system()));
    let engine = with_log(1, noop, vec![dir.path().to_owned()], &store);
    let region = engine.open_region(id(0)).await.unwrap();
    assert_eq!(read(&region, everything()).await, filled(0));
}

#[tokio::test]
async fn a_log_that_is_damaged_or_is_none_refuses_and_says_which() {
    let (dirs, store) = ([0, 1].map(|_| TempDir::new().unwrap()), Arc::new(InMemory::new()));
    let [first, second] = [0, 1].map(|n: usize| dirs[n].path());
    let engine = node(1, first, Vec::new(), &store).await;
    fill(&engine, 1).await;
    crash(engine).await;
    let kept = std::fs::read(first.join("wal.meta")).unwrap();
    std::fs::write(first.join("wal.meta"), b"nonsense").unwrap();
    let engine = node(2, second, vec![first.to_owned()], &store).await;
    let text = crate::error_chain(&engine.open_region(id(0)).await.unwrap_err());
    assert!(text.contains("wal.meta is damaged"), "{text}");
    std::fs::write(first.join("wal.meta"), kept).unwrap();
    let region = engine.open_region(id(0)).await.unwrap();
    assert_eq!(read(&region, everything()).await, filled(0));
}

#[tokio::test]
async fn of_a_log_and_its_copy_none_is_chosen() {
    let (dirs, store) = ([0, 1, 2].map(|_| TempDir::new().unwrap()), Arc::new(InMemory::new()));
    let [first, second, copy] = [0, 1, 2].map(|n: usize| dirs[n].path());
    let engine = node(1, first, Vec::new(), &store).await;
    fill(&engine, 1).await;
    crash(engine).await;
    std::fs::copy(first.join("wal.meta"), copy.join("wal.meta")).unwrap();
    let engine = node(2, second, vec![copy.to_owned(), first.to_owned()], &store).await;
    let error = engine.open_region(id(0)).await.unwrap_err();
    let text = crate::error_chain(&error);
    assert!([first, copy].iter().all(|folder| text.contains(&folder.display().to_string())), "{text}");
    assert_eq!(error.class(), tessera_manifest::error::ErrorClass::Unavailable, "once one of them is gone it opens");
    // Nor is one chosen beside what may have been that log.
    for segment in std::fs::read_dir(first).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("wal.meta")) {
        std::fs::copy(&segment, copy.join(segment.file_name().unwrap())).unwrap();
    }
    for what in [Some("nonsense"), None] {
        std::fs::remove_file(copy.join("wal.meta")).unwrap();
        what.into_iter().for_each(|text| std::fs::write(copy.join("wal.meta"), text).unwrap());
        let text = crate::error_chain(&engine.open_region(id(0)).await.unwrap_err());
        assert!(text.contains(&copy.join("wal.meta").display().to_string()), "{text}");
        std::fs::write(copy.join("wal.meta"), "").unwrap();
    }
    // One folder by two names is one.
    std::fs::remove_dir_all(copy).unwrap();
    std::os::unix::fs::symlink(first, copy).unwrap();
    let region = engine.open_region(id(0)).await.unwrap();
    assert_eq!(read(&region, everything()).await, filled(0));
    std::fs::remove_file(copy).unwrap();
}

#[tokio::test]
async fn a_store_that_fails_meanwhile_keeps_nothing_but_the_region() {
    let (dirs, store) = ([0, 1].map(|_| TempDir::new().unwrap()), Arc::new(PlanStore::new()));
    let [first, second] = [0, 1].map(|n: usize| dirs[n].path());
    let engine = node(1, first, Vec::new(), &store).await;
    fill(&engine, 1).await;
    crash(engine).await;
    let engine = node(2, second, vec![first.to_owned()], &store).await;
    let other = engine.create_region(RegionMeta { region: id(9), ..meta(Expr::always()) }).await.unwrap();
    for (verb, part) in [("put", ".parquet"), ("put", ".json"), ("get", ".json"), ("list", "")] {
        let in_region = move |path: &str| path.contains("/0000000000") && path.contains(part);
        store.plan(move |op| if op.verb == verb && in_region(op.path) { Fault::Refused } else { Fault::None });
        let error = engine.open_region(id(0)).await.unwrap_err();
        assert!(crate::error_chain(&error).contains("no space left"), "{verb} {part}: {}", crate::error_chain(&error));
        store.heal();
        assert_eq!(other.shared.budget.held(), 0, "{verb} {part}");
    }
    let region = engine.open_region(id(0)).await.unwrap();
    assert_eq!(read(&region, everything()).await, filled(0));
}

/// A node dies at each operation of a take-over. The first, itself or a third one then finds every row once, and goes on.
#[test]
fn a_crash_in_a_take_over_loses_and_doubles_nothing() {
    let new = || {
        let disk = Disk::new();
        let (ended, _) = disk.run(Crash::Never, |engine| async move { fill(&engine, 2).await });
        assert!(ended.is_some());
        disk
    };
    let take_over = |disk: &Disk, crash| {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let answered = Arc::clone(&acknowledged);
        let (ended, operations) = disk.on(2).trace(crash, |engine| async move {
            for (number, opened) in engine.open_regions(vec![id(0), id(1)]).await {
                let region = opened.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
                put(&region, &[row("d", 3, 3.0)]).await;
                answered.lock().unwrap().insert(number);
            }
        });
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert_eq!(ended.is_some(), acknowledged.len() == 2);
        (acknowledged, operations)
    };
    let check = |engine: Engine, acknowledged: BTreeSet<RegionId>| async move {
        for number in 0..2 {
            let region = engine.open_region(id(number)).await.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
            let mut rows = read(&region, everything()).await;
            let is_late = rows.pop_if(|last| *last == row("d", 3, 3.0)).is_some();
            assert!(is_late || !acknowledged.contains(&id(number)), "an acknowledged row of region {number} is gone");
            assert_eq!(rows, filled(number), "{number}");
            put(&region, &[row("e", 5, 5.0)]).await;
            region.flush().await.unwrap();
            assert_eq!(read(&region, everything()).await.last(), Some(&row("e", 5, 5.0)));
        }
    };
    let disk = new();
    let (_, operations) = take_over(&disk, Crash::Never);
    assert!(operations.contains(&"open log"), "{operations:?}");
    assert_eq!(disk.log_entries(), 0, "all of the first log is in files");
    for crash in every_crash(operations.len()) {
        let disk = new();
        let (acknowledged, _) = take_over(&disk, crash);
        for node in [1, 2, 3] {
            println!("{crash:?} of {}, then node {node}", operations.len());
            let (checked, _) = disk.copy().on(node).run(Crash::Never, |engine| check(engine, acknowledged.clone()));
            assert!(checked.is_some());
        }
    }
}
