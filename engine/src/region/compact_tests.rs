//! Compaction in regions: what readers see, what a crash or a fault at any store operation leaves, and zombies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::ObjectStore;
use tempfile::TempDir;
use tessera_manifest::id::{ColumnId, FileKey, Generation};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::value::Value;

use super::tests::{REGION, crash, everything, meta, put, read, request, row, start};
use super::*;
use crate::compaction::Strategy;
use crate::config::Config;
use crate::engine::Engine;
use crate::options::{CompactionOptions, TableOptions};
use crate::request::OpType;
use crate::testing::{Fault, PlanStore};

struct Bench {
    dir: TempDir,
    store: PlanStore,
    options: BTreeMap<String, String>,
    config: Config,
}

const LAST_ROW: &[(&str, &str)] = &[];
const LAST_NON_NULL: &[(&str, &str)] = &[("merge_mode", "last_non_null")];
const APPEND: &[(&str, &str)] = &[("append_mode", "true")];

impl Bench {
    fn new(options: &[(&str, &str)]) -> Self {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { dir: TempDir::new().unwrap(), store: PlanStore::new(), options, config: Config::default() }
    }

    /// Every file that it writes is uploaded in several parts.
    fn in_parts(options: &[(&str, &str)]) -> Self {
        Self { config: Config { row_group_rows: 1, part_bytes: 1, ..Config::default() }, ..Self::new(options) }
    }

    async fn start(&self) -> Engine {
        let engine = start(self.dir.path(), Arc::new(self.store.clone()) as Arc<dyn ObjectStore>, self.config.clone()).await;
        // Nothing runs but what a test asks for.
        engine.stop_background().await;
        engine
    }

    async fn create(&self, engine: &Engine) -> Arc<Region> {
        let meta = RegionMeta { options: self.options.clone(), ..meta(Expr::always()) };
        let region = engine.create_region(meta).await.unwrap();
        window_of_ten_ms(&region);
        region
    }

    async fn open(&self, engine: &Engine) -> Arc<Region> {
        let region = engine.open_region(REGION).await.unwrap();
        window_of_ten_ms(&region);
        region
    }
}

/// The table's options, with windows so short that few rows fill many.
fn window_of_ten_ms(region: &Region) {
    region.version.update(|version| {
        let compaction = CompactionOptions { time_window: Some(Duration::from_millis(10)), ..CompactionOptions::default() };
        version.options = Arc::new(TableOptions { compaction, ..TableOptions::clone(&version.options) });
    });
}

async fn listed_files_exist(bench: &Bench, region: &Region) {
    let objects: BTreeSet<_> = bench.store.objects("/sst/").await.into_iter().collect();
    for key in region.pin().state.files().keys() {
        assert!(objects.contains(&region.shared.context.root.sst(key)), "{key} is listed and gone");
    }
}

fn time_ranges(region: &Region) -> Vec<(i64, i64)> {
    let mut ranges: Vec<_> = region.pin().state.files().values().map(|listed| listed.file.meta.time_range).collect();
    ranges.sort_unstable();
    ranges
}

/// A round for files up to a sequence, after one for all: what that merged across the sequence is not older than what it
/// left out.
#[tokio::test]
async fn a_bounded_round_after_one_that_was_not_brings_no_deleted_row_back() {
    let bench = Bench::new(LAST_ROW);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    put(&region, &[row("s", 5, 1.0), row("s", 200, 1.0)]).await;
    region.flush().await.unwrap();
    let upto = region.pin().state.flushed_sequence();
    put(&region, &[row("a", 5, 1.0)]).await;
    region.flush().await.unwrap();
    region.write(request(&region, OpType::Delete, &[row("a", 5, 0.0), row("a", 200, 0.0)])).await.unwrap();
    region.flush().await.unwrap();
    let before = read(&region, everything()).await;
    assert_eq!(before, [row("s", 5, 1.0), row("s", 200, 1.0)]);
    for bound in [Sequence::from_u64(u64::MAX), upto] {
        region.next_round(Strategy::Regular, bound).await.unwrap();
        assert_eq!(read(&region, everything()).await, before, "up to {bound:?}");
    }
}

#[tokio::test]
async fn compaction_makes_one_run_per_window_and_drops_idle_deletes() {
    let bench = Bench::new(LAST_ROW);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    for turn in 0..6 {
        put(&region, &[row("a", turn, f64::from(turn as i32)), row("b", 3, 1.0), row("a", 100 + turn, 1.0), row("a", 9 + turn % 3, 2.0)])
            .await;
        region.flush().await.unwrap();
    }
    region.write(request(&region, OpType::Delete, &[row("b", 3, 0.0), row("a", 104, 0.0)])).await.unwrap();
    region.flush().await.unwrap();
    let before = read(&region, everything()).await;
    let report = region.compact(Strategy::StrictWindow).await.unwrap();
    assert_eq!(read(&region, everything()).await, before);
    assert_eq!(time_ranges(&region), [(0, 9), (10, 11), (100, 105)]);
    assert!(region.pin().state.files().values().all(|listed| listed.file.meta.deletes == 0 && listed.file.meta.level > 0));
    assert!(report.rounds > 0 && report.deletes_dropped >= 2, "{report:?}");
    assert_eq!(region.compact(Strategy::StrictWindow).await.unwrap().rounds, 0);
    assert!(region.in_flight().is_empty());
    listed_files_exist(&bench, &region).await;
}

#[tokio::test]
async fn a_delete_stays_while_a_file_outside_may_hold_its_key() {
    let bench = Bench::new(LAST_NON_NULL);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    let all = |rows: &[i64]| rows.iter().map(|ts| row("a", *ts, 1.0)).collect::<Vec<_>>();
    put(&region, &all(&[1, 2, 3])).await;
    region.flush().await.unwrap();
    for ts in 1..8 {
        region.write(request(&region, OpType::Delete, &all(&[ts]))).await.unwrap();
        region.flush().await.unwrap();
        region.compact_once(Strategy::Regular).await.unwrap();
        assert_eq!(read(&region, everything()).await, all(&[1, 2, 3].into_iter().filter(|kept| *kept > ts).collect::<Vec<_>>()));
    }
    region.compact(Strategy::StrictWindow).await.unwrap();
    assert!(region.pin().state.files().is_empty());
}

#[tokio::test]
async fn rows_outside_scope_and_rule_are_not_carried_on() {
    let bench = Bench::new(LAST_ROW);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    put(&region, &[row("a", 1, 1.0), row("x", 1, 2.0)]).await;
    region.flush().await.unwrap();
    // As after a repartition: the region is for less than its file holds.
    region.version.update(|version| {
        let below = Expr::Compare { column: ColumnId(0), op: CompareOp::Lt, value: Value::String("m".into()) };
        version.meta = Arc::new(RegionMeta { rule: Arc::new(below.canonical()), ..RegionMeta::clone(&version.meta) });
    });
    assert!(region.wants_compaction());
    region.compact(Strategy::Regular).await.unwrap();
    let rows: Vec<u64> = region.pin().state.files().values().map(|listed| listed.file.meta.rows).collect();
    assert_eq!(rows, [1]);
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0)]);
    assert!(!region.wants_compaction());
}

#[tokio::test]
async fn a_compaction_that_was_overtaken_leaves_nothing_and_starts_over() {
    let bench = Bench::new(APPEND);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    for _ in 0..3 {
        put(&region, &[row("a", 1, 1.0)]).await;
        region.flush().await.unwrap();
    }
    let gate = bench.store.hold_puts("/sst/");
    let compaction = {
        let region = Arc::clone(&region);
        tessera_manifest::env::spawn(async move { region.compact(Strategy::StrictWindow).await })
    };
    bench.store.waiting.acquire().await.unwrap().forget();
    assert_eq!(region.in_flight().len(), 1);
    // Meanwhile one of the inputs goes, as by a truncation or a time to live.
    {
        let mut manifest = region.committer().await.unwrap();
        let gone: FileKey = region.pin().state.files().keys().next().unwrap();
        let edit = tessera_manifest::action::Edit { remove: vec![gone], ..tessera_manifest::action::Edit::new(Generation::FIRST) };
        let state = region.commit(&mut manifest, vec![tessera_manifest::action::Action::Edit(edit)]).await.unwrap();
        region.version.update(|version| version.state = state);
    }
    gate.add_permits(10);
    let report = compaction.await.unwrap().unwrap();
    assert_eq!((report.rounds, report.files_in), (1, 2));
    assert_eq!(read(&region, everything()).await.len(), 2);
    assert!(region.in_flight().is_empty());
    assert_eq!(bench.store.objects("/sst/").await.len(), 4, "three flushed, one compacted, none left over");
}

#[tokio::test]
async fn writes_and_flushes_go_on_during_a_compaction_and_closing_stops_it() {
    let bench = Bench::new(LAST_ROW);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    for ts in 0..3 {
        put(&region, &[row("a", ts, 1.0)]).await;
        region.flush().await.unwrap();
    }
    let gate = bench.store.hold_puts("/sst/");
    let compaction = {
        let region = Arc::clone(&region);
        tessera_manifest::env::spawn(async move { region.compact(Strategy::StrictWindow).await })
    };
    bench.store.waiting.acquire().await.unwrap().forget();
    put(&region, &[row("a", 5, 1.0)]).await;
    let flush = {
        let region = Arc::clone(&region);
        tessera_manifest::env::spawn(async move { region.flush().await })
    };
    bench.store.waiting.acquire().await.unwrap().forget();
    drop(bench.store.hold_puts("nothing"));
    region.cancel_compaction();
    assert!(matches!(compaction.await.unwrap(), Err(Error::Stopped { .. })));
    gate.add_permits(10);
    flush.await.unwrap().unwrap();
    engine.close().await.unwrap();
    drop((region, engine));
    let engine = bench.start().await;
    let region = bench.open(&engine).await;
    assert_eq!(read(&region, everything()).await.len(), 4);
    assert_eq!(region.pin().state.files().len(), 4);
}

#[tokio::test]
async fn a_zombie_whose_region_was_taken_over_commits_nothing_and_deletes_only_its_own() {
    let bench = Bench::new(APPEND);
    let engine = bench.start().await;
    let region = bench.create(&engine).await;
    for _ in 0..3 {
        put(&region, &[row("a", 1, 1.0)]).await;
        region.flush().await.unwrap();
    }
    put(&region, &[row("a", 2, 1.0)]).await;
    let gate = bench.store.hold_puts("/sst/");
    let compaction = {
        let region = Arc::clone(&region);
        tessera_manifest::env::spawn(async move { region.compact(Strategy::StrictWindow).await })
    };
    bench.store.waiting.acquire().await.unwrap().forget();
    let context = region.shared.context.clone();
    drop(Manifest::open(&context, REGION, region.shared.opener()).await.unwrap());
    gate.add_permits(10);
    assert!(matches!(compaction.await.unwrap(), Err(Error::Fenced { .. })));
    assert!(matches!(region.flush().await, Err(Error::Fenced { .. })));
    assert_eq!(bench.store.objects("/sst/").await.len(), 3);
    drop(region);
    crash(engine).await;
    let engine = bench.start().await;
    let region = bench.open(&engine).await;
    assert_eq!(read(&region, everything()).await.len(), 4);
    listed_files_exist(&bench, &region).await;
}

/// Writes, flushes and compacts; answers with what was acknowledged, in order. Faults end neither it nor the region.
async fn scenario(region: &Arc<Region>) -> Vec<Vec<Value>> {
    let mut acknowledged = Vec::new();
    for turn in 0..5_i64 {
        let rows = [row("a", turn, turn as f64), row("b", 8 + turn, 1.0)];
        put(region, &rows).await;
        acknowledged.extend(rows);
        let _ = region.flush().await;
        if turn % 2 == 1 {
            let _ = region.compact(Strategy::StrictWindow).await;
        }
    }
    acknowledged.sort();
    acknowledged
}

/// Every store operation of the scenario fails once, or it and all later ones: done or not.
async fn every_fault(bench: impl Fn() -> Bench, fault: Fault, for_good: bool, stride: usize) {
    let operations = {
        let bench = bench();
        let engine = bench.start().await;
        let region = bench.create(&engine).await;
        bench.store.plan(|_| Fault::None);
        scenario(&region).await;
        bench.store.heal()
    };
    assert!(operations > 20, "the scenario makes only {operations} requests");
    for at in (0..operations).step_by(stride) {
        let bench = bench();
        let engine = bench.start().await;
        let region = bench.create(&engine).await;
        bench.store.plan(move |op| if op.number == at || (for_good && op.number > at) { fault_of(fault, op.verb) } else { Fault::None });
        let expected = scenario(&region).await;
        bench.store.heal();
        if !for_good {
            // Back without a restart.
            region.flush().await.unwrap();
            region.compact(Strategy::StrictWindow).await.unwrap();
            assert_eq!(read(&region, everything()).await, expected, "after {fault:?} at {at}");
            assert!(region.in_flight().is_empty());
        }
        drop(region);
        crash(engine).await;
        let engine = bench.start().await;
        let region = bench.open(&engine).await;
        assert_eq!(read(&region, everything()).await, expected, "reopened after {fault:?} at {at}");
        listed_files_exist(&bench, &region).await;
        region.compact(Strategy::StrictWindow).await.unwrap();
        assert_eq!(read(&region, everything()).await, expected, "compacted after {fault:?} at {at}");
    }
}

/// A lost answer to a read is no answer.
fn fault_of(fault: Fault, verb: &str) -> Fault {
    if verb == "get" || verb == "list" { Fault::Refused } else { fault }
}

#[tokio::test]
async fn a_crash_before_any_operation_loses_and_doubles_nothing() {
    every_fault(|| Bench::new(APPEND), Fault::Refused, true, 1).await;
}

#[tokio::test]
async fn a_crash_after_any_operation_loses_and_doubles_nothing() {
    every_fault(|| Bench::new(APPEND), Fault::Lost, true, 1).await;
}

#[tokio::test]
async fn an_operation_that_fails_once_is_made_up_for() {
    every_fault(|| Bench::new(APPEND), Fault::Refused, false, 1).await;
    every_fault(|| Bench::new(LAST_NON_NULL), Fault::Refused, false, 5).await;
}

#[tokio::test]
async fn a_lost_answer_is_made_up_for() {
    every_fault(|| Bench::new(APPEND), Fault::Lost, false, 1).await;
    every_fault(|| Bench::new(LAST_ROW), Fault::Lost, false, 5).await;
}

#[tokio::test]
async fn a_part_that_is_not_taken_leaves_no_half_of_a_file() {
    let verbs = Arc::new(Mutex::new(BTreeSet::new()));
    {
        let bench = Bench::in_parts(LAST_ROW);
        let region = bench.create(&bench.start().await).await;
        let seen = Arc::clone(&verbs);
        bench.store.plan(move |op| {
            seen.lock().unwrap().insert(op.verb);
            if op.verb == "complete" { Fault::Refused } else { Fault::None }
        });
        put(&region, &[row("a", 1, 1.0)]).await;
        assert!(region.flush().await.is_err());
        assert!(bench.store.objects("/sst/").await.is_empty() && region.in_flight().is_empty());
    }
    assert!(["put_multipart", "put_part", "complete", "abort"].iter().all(|verb| verbs.lock().unwrap().contains(verb)));
    every_fault(|| Bench::in_parts(LAST_ROW), Fault::Refused, false, 3).await;
    every_fault(|| Bench::in_parts(LAST_NON_NULL), Fault::Lost, false, 3).await;
}
