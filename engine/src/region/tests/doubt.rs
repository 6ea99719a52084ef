//! Commits of which nobody knows whether they happened.

use tessera_manifest::action::StageTarget;
use tessera_manifest::id::TxnId;
use tessera_manifest::schema::{Column, ColumnChange, Place};
use ulid::Ulid;

use super::alter::altered;
use super::*;
use crate::staging::StageRequest;

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
