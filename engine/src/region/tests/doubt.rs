//! Commits of which nobody knows whether they happened.

use tessera_manifest::schema::{Column, ColumnChange, Place};

use super::alter::altered;
use super::*;

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
