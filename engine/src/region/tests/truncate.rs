//! Rows that go stay gone.

use super::*;
use crate::region::Truncated;

async fn reopened(node: &Node, engine: Engine, region: Arc<Region>) -> (Engine, Arc<Region>) {
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    (engine, region)
}

#[tokio::test]
async fn truncated_rows_stay_gone_and_later_ones_stay() {
    let node = Node::new(Config::default());
    let mut engine = node.start().await;
    let mut region = engine.create_region(meta(Expr::always())).await.unwrap();
    for turn in 0..3 {
        put(&region, &[row("file", turn, 1.0)]).await;
        region.flush().await.unwrap();
        put(&region, &[row("log", turn, 1.0)]).await;
        region.truncate().await.unwrap();
        assert!(read(&region, everything()).await.is_empty());
        assert_eq!(region.shared.budget.held(), 0);
        put(&region, &[row("later", turn, 2.0)]).await;
        (engine, region) = reopened(&node, engine, region).await;
        assert_eq!(read(&region, everything()).await, [row("later", turn, 2.0)]);
        region.truncate().await.unwrap();
        region.truncate().await.unwrap();
    }
    region.flush().await.unwrap();
    assert!(read(&region, everything()).await.is_empty());
    engine.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_a_stretch_of_time_go_from_files_and_memtables() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    for file in 0..3 {
        let rows: Vec<_> = (0..10).map(|t| row("a", file * 10 + t, 1.0)).collect();
        put(&region, &rows).await;
        region.flush().await.unwrap();
    }
    put(&region, &[row("b", 5, 1.0), row("b", 25, 1.0)]).await;
    region.write(request(&region, OpType::Delete, &[row("a", 3, 0.0), row("a", 15, 0.0)])).await.unwrap();
    let done = region.truncate_ranges(&[(5, 9), (10, 19), (25, 25)]).await.unwrap();
    assert_eq!(done, Truncated { files_removed: 1, files_rewritten: 3 });
    let expected: Vec<_> = (0..5).chain(20..25).chain(26..30).filter(|t| *t != 3).map(|t| row("a", t, 1.0)).collect();
    assert_eq!(read(&region, everything()).await, expected);
    assert_eq!(region.truncate_ranges(&[(5, 19), (9, 2)]).await.unwrap(), Truncated::default());
    let (_engine, region) = reopened(&node, engine, region).await;
    assert_eq!(read(&region, everything()).await, expected);
    put(&region, &[row("a", 7, 2.0)]).await;
    assert_eq!(read(&region, ScanRequest { limit: None, ..everything() }).await.len(), expected.len() + 1);
}

#[tokio::test]
async fn expired_files_go_by_metadata_and_hide_nothing_else() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    for file in 0..3 {
        put(&region, &[row("a", file * 10, 1.0), row("a", file * 10 + 9, 1.0)]).await;
        region.flush().await.unwrap();
    }
    assert_eq!(region.expire(9).await.unwrap(), 0);
    assert_eq!(region.expire(10).await.unwrap(), 1);
    // An old version of a deleted row lies in a file that stays, so the delete stays too.
    region.write(request(&region, OpType::Delete, &[row("a", 10, 0.0)])).await.unwrap();
    region.flush().await.unwrap();
    assert_eq!(region.expire(15).await.unwrap(), 0);
    let expected = [row("a", 19, 1.0), row("a", 20, 1.0), row("a", 29, 1.0)];
    assert_eq!(read(&region, everything()).await, expected);
    let (_engine, region) = reopened(&node, engine, region).await;
    assert_eq!(read(&region, everything()).await, expected);
    assert_eq!(region.expire(20).await.unwrap(), 2);
    assert_eq!(read(&region, everything()).await, expected[1..]);
}
