//! Commits of which nobody knows whether they happened.

use std::sync::atomic::AtomicUsize;

use tessera_manifest::action::{Action, Change, StageTarget};
use tessera_manifest::env;
use tessera_manifest::id::{Epoch, TxnId};
use tessera_manifest::log::{Manifest, Outcome};
use tessera_manifest::schema::{Column, ColumnChange, Place};
use ulid::Ulid;

use super::alter::altered;
use super::*;
use crate::staging::StageRequest;
use crate::testing::{Fault, PlanStore};

async fn start_on(store: &Arc<Outage>) -> (TempDir, Engine, Arc<Region>) {
    let dir = TempDir::new().unwrap();
    let engine = start(dir.path(), Arc::clone(store) as Arc<dyn ObjectStore>, Config::default()).await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    (dir, engine, region)
}

#[tokio::test]
async fn an_alteration_in_doubt_is_known_before_the_next_one() {
    let store = Arc::new(Outage::default());
    let (_dir, engine, region) = start_on(&store).await;
    put(&region, &[row("a", 1, 1.0)]).await;
    let added =
        |name: &str| ColumnChange::Add { column: Column { ..column(0, name, DataType::Int64, SemanticType::Field) }, place: Place::Last };
    let to = altered(&region.meta(), &[added("n")]);
    store.mute.store(true, Ordering::SeqCst);
    assert!(matches!(region.alter(&to).await, Err(Error::Manifest { .. })));
    // Meanwhile rows come in under the schema that was.
    put(&region, &[row("b", 1, 2.0)]).await;
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0), row("b", 1, 2.0)]);
    store.mute.store(false, Ordering::SeqCst);
    assert_eq!(region.settled_meta().await.unwrap().schema, to.schema);
    region.alter(&to).await.unwrap();
    let wide = |host: &str, v: f64| vec![Value::String(host.into()), Value::Timestamp(1), Value::Float(v), Value::Null];
    assert_eq!(read(&region, everything()).await, [wide("a", 1.0), wide("b", 2.0)]);
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [wide("a", 1.0), wide("b", 2.0)]);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_a_truncation_in_doubt_go_once_it_is_known() {
    let store = Arc::new(Outage::default());
    let (_dir, engine, region) = start_on(&store).await;
    put(&region, &[row("file", 1, 1.0)]).await;
    region.flush().await.unwrap();
    put(&region, &[row("log", 1, 1.0)]).await;
    store.mute.store(true, Ordering::SeqCst);
    assert!(matches!(region.truncate().await, Err(Error::Manifest { .. })));
    put(&region, &[row("later", 1, 2.0)]).await;
    store.mute.store(false, Ordering::SeqCst);
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("later", 1, 2.0)]);
    engine.close().await.unwrap();
    assert_eq!(region.shared.budget.held(), 0);
}

/// The gate is read after the state is taken over, and may have to be waited for: until then nobody sees a row twice.
#[tokio::test]
async fn rows_of_a_flush_in_doubt_are_seen_once_at_every_moment() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let engine = start(dir.path(), Arc::new(store.clone()), Config::default()).await;
    engine.stop_background().await;
    let options = BTreeMap::from([("append_mode".to_owned(), "true".to_owned())]);
    let region = engine.create_region(RegionMeta { options, ..meta(Expr::always()) }).await.unwrap();
    let rows = [row("a", 1, 1.0), row("b", 2, 2.0), row("c", 3, 3.0)];
    put(&region, &rows).await;
    store.plan(|op| match op.path.contains("/manifest/") {
        true if op.verb == "put" => Fault::Lost,
        true => Fault::Refused,
        false => Fault::None,
    });
    assert!(matches!(region.flush().await, Err(Error::Manifest { .. })));
    store.heal();
    // The manifest is about to be opened again. Then somebody who wants the gate for himself waits for a reader.
    let before = region.pin().state.version();
    let held = store.hold_puts("/manifest/");
    let flush = env::spawn({
        let region = Arc::clone(&region);
        async move { region.flush().await }
    });
    store.waiting.acquire().await.unwrap().forget();
    let reader = region.gate.read().await;
    let writer = env::spawn({
        let region = Arc::clone(&region);
        async move { drop(region.gate.write().await) }
    });
    tokio::task::yield_now().await;
    held.add_permits(100);
    while region.pin().state.version() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(region.known().rows, Some(rows.len() as u64));
    // Whoever asked for the flush goes away.
    flush.abort();
    assert!(flush.await.unwrap_err().is_cancelled());
    drop(reader);
    writer.await.unwrap();
    assert_eq!(read(&region, everything()).await, rows);
    put(&region, &[row("d", 4, 4.0)]).await;
    region.flush().await.unwrap();
    assert_eq!(region.known().rows, Some(rows.len() as u64 + 1));
    drop(engine);
}

fn rival(region: &Region) -> impl Future<Output = Manifest> {
    let (context, opener) = (region.shared.context.clone(), region.shared.opener());
    async move { Manifest::open(&context, REGION, opener).await.unwrap() }
}

/// Finding out about an own commit is no reason to take a region from whoever has taken it over.
#[tokio::test]
async fn a_region_in_doubt_is_left_to_whoever_has_taken_it_over() {
    let store = Arc::new(Outage::default());
    let (_dir, engine, region) = start_on(&store).await;
    put(&region, &[row("a", 1, 1.0)]).await;
    store.down.store(true, Ordering::SeqCst);
    assert!(matches!(region.flush().await, Err(Error::Rows { .. } | Error::Manifest { .. })));
    store.down.store(false, Ordering::SeqCst);
    store.mute.store(true, Ordering::SeqCst);
    assert!(region.flush().await.is_err());
    store.mute.store(false, Ordering::SeqCst);
    let mut rival = rival(&region).await;
    for _ in 0..2 {
        assert!(matches!(region.flush().await, Err(Error::Fenced { .. })));
        assert!(matches!(engine.restart(REGION).await, Err(Error::Fenced { .. })));
    }
    let change = Action::Change(Change { meta: region.meta() });
    assert!(matches!(rival.commit(vec![change]).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_region_that_is_taken_back_has_all_rows_and_ends_the_other_writer() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    region.flush().await.unwrap();
    let mut rival = rival(&region).await;
    let same = engine.take_back(REGION).await.unwrap();
    assert!(Arc::ptr_eq(&same, &region), "it has met nobody");
    assert!(matches!(engine.restart(REGION).await, Err(Error::Fenced { .. })));
    let back = engine.take_back(REGION).await.unwrap();
    assert!(Arc::ptr_eq(&back, &engine.region(REGION).unwrap()) && !Arc::ptr_eq(&back, &region));
    put(&back, &[row("c", 1, 3.0)]).await;
    back.flush().await.unwrap();
    assert_eq!(read(&back, everything()).await, [row("a", 1, 1.0), row("c", 1, 3.0)]);
    let change = Action::Change(Change { meta: back.meta() });
    assert!(matches!(rival.commit(vec![change]).await, Ok(Outcome::Conflict { .. })));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_region_with_rows_that_are_in_no_file_is_not_taken_back_and_a_restart_has_them() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    drop(rival(&region).await);
    assert!(matches!(region.flush().await, Err(Error::Fenced { .. })));
    assert!(matches!(engine.take_back(REGION).await, Err(Error::Fenced { .. })));
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0)]);
    engine.close().await.unwrap();
}

/// The `Open` of a reopening whose answer was lost is on the store: it is one's own.
#[tokio::test]
async fn a_region_knows_an_own_opening_again_of_which_it_heard_nothing() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let engine = start(dir.path(), Arc::new(store.clone()), Config::default()).await;
    engine.stop_background().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    store.plan(|op| match op.path.contains("/manifest/") {
        true if op.verb == "put" => Fault::Lost,
        true => Fault::Refused,
        false => Fault::None,
    });
    assert!(matches!(region.flush().await, Err(Error::Manifest { .. })));
    let seen = AtomicUsize::new(0);
    store.plan(move |op| {
        if !op.path.contains("/manifest/") {
            return Fault::None;
        }
        // The seal passes; of the `Open`, and of whatever comes after it, nothing is heard.
        let puts = seen.fetch_add(usize::from(op.verb == "put"), Ordering::SeqCst) + usize::from(op.verb == "put");
        match (op.verb, puts) {
            (_, 0 | 1) => Fault::None,
            ("put", 2) => Fault::Lost,
            ("list", _) => Fault::None,
            _ => Fault::Refused,
        }
    });
    assert!(matches!(region.flush().await, Err(Error::Manifest { .. })));
    store.heal();
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0)]);
    assert_eq!(region.pin().state.version().unwrap().epoch, Epoch(3), "the own one of which it heard nothing, and the next");
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_drop_that_comes_behind_a_fence_is_refused_and_writes_go_on() {
    let store = Arc::new(Outage::default());
    let (_dir, engine, region) = start_on(&store).await;
    let (generation, abort) = (Generation::new(2).unwrap(), Generation::new(3).unwrap());
    let target = StageTarget { rule: Arc::new(Expr::always()), partition_columns: vec![ColumnId(0)] };
    let request = StageRequest {
        region: REGION,
        txn: TxnId(Ulid(1)),
        base: Generation::FIRST,
        generation,
        abort,
        target: Some(target),
        schema_version: region.meta().schema.version(),
    };
    // A write under way keeps the fence and the drop waiting, in this order; both have looked and found nothing staged.
    let under_way = region.gate.read().await;
    let (mut stage, mut drop_all) = (Box::pin(region.stage(&request)), Box::pin(region.drop_all()));
    assert!(futures::poll!(&mut stage).is_pending() && futures::poll!(&mut drop_all).is_pending());
    drop(under_way);
    let (staged, dropped) = futures::join!(stage, drop_all);
    staged.unwrap();
    assert!(matches!(dropped, Err(Error::Staged { .. })), "{dropped:?}");
    let write = request_of(&region, generation);
    region.write(write).await.unwrap();
    assert_eq!(region.staging().await.unwrap().unwrap().staged_rows, 1);
    engine.close().await.unwrap();
}

/// A row under the rule of everything, written in a generation.
fn request_of(region: &Region, generation: Generation) -> WriteRequest {
    WriteRequest { generation, rule_version: Expr::always().version(), ..request(region, OpType::Put, &[row("a", 1, 1.0)]) }
}
