//! Where memtables end.

use super::*;

const HOSTS: usize = 40;
/// Rows of a write: two and a half instants.
const BATCH_ROWS: usize = 100;
const BATCHES: usize = 200;

fn config() -> Config {
    Config { region_memtable_bytes: 128 << 10, memtable_bytes_max: 4 << 20, ..Config::default() }
}

/// The rows of one write: all hosts at one time, then all at the next.
fn in_time_order(batch: usize) -> Vec<Vec<Value>> {
    let at = |row: usize| row_of(row % HOSTS, (row / HOSTS) as i64);
    (batch * BATCH_ROWS..(batch + 1) * BATCH_ROWS).map(at).collect()
}

fn row_of(host: usize, time: i64) -> Vec<Value> {
    row(&format!("host_{host}"), time, 1.0)
}

async fn loaded(batches: impl Iterator<Item = usize>) -> (Node, Engine, Arc<Region>) {
    let node = Node::new(config());
    let engine = node.start().await;
    let options = BTreeMap::from([("compaction.twcs.trigger_file_num".to_owned(), "1000000".to_owned())]);
    let region = engine.create_region(RegionMeta { options, ..meta(Expr::always()) }).await.unwrap();
    for batch in batches {
        put(&region, &in_time_order(batch)).await;
    }
    region.flush().await.unwrap();
    (node, engine, region)
}

fn ranges(region: &Region) -> Vec<(i64, i64)> {
    let mut ranges: Vec<_> = region.pin().state.files().values().map(|listed| listed.file.meta.time_range).collect();
    ranges.sort_unstable();
    ranges
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_rows_in_order_of_time_share_no_instant() {
    let (_node, engine, region) = loaded(0..BATCHES).await;
    let ranges = ranges(&region);
    assert!(ranges.len() > 3, "{} files were flushed", ranges.len());
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
    // The number of rows is known only where each file is a group of its own, which nothing is merged with.
    assert_eq!(region.known().rows, Some((BATCHES * BATCH_ROWS) as u64));
    assert_eq!(read(&region, everything()).await.len(), BATCHES * BATCH_ROWS);
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_rows_in_falling_order_of_time_share_no_instant() {
    // Pairs of writes, which begin and end with an instant, come from the latest to the first.
    let pairs = (0..BATCHES / 2).rev().flat_map(|pair| [2 * pair, 2 * pair + 1]);
    let (_node, engine, region) = loaded(pairs).await;
    let ranges = ranges(&region);
    assert!(ranges.len() > 3, "{} files were flushed", ranges.len());
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
    assert_eq!(region.known().rows, Some((BATCHES * BATCH_ROWS) as u64));
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memtable_that_is_cut_early_survives_a_crash_with_what_follows() {
    let node = Node::new(config());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    for batch in 0..BATCHES / 4 {
        put(&region, &in_time_order(batch)).await;
    }
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await.len(), BATCHES / 4 * BATCH_ROWS);
    engine.close().await.unwrap();
}
