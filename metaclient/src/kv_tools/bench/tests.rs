//! Rows add up, and what does the wrong thing is not timed.

use std::sync::Arc;
use std::time::Duration;

use super::rows::measure;
use super::*;
use crate::kv::{KeyRange, KvBackend, MemoryBackend, RedbBackend, range_all};

fn small() -> Options {
    Options { clients: vec![1, 4], calls: 60, list_keys: 30, watchers: 3, ..Options::default() }
}

fn assert_sound(rows: &[Row]) {
    for row in rows {
        assert!(row.calls > 0 && row.qps > 0.0, "{row:?}");
        assert!(row.p50_us > 0.0 && row.p50_us <= row.p90_us && row.p90_us <= row.p99_us, "{row:?}");
    }
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let times = (1..=200).rev().map(Duration::from_micros).collect();
    let row = Row::new("x", "y", 2, Duration::from_millis(100), times);
    assert_eq!((row.calls, row.qps.round() as u64), (200, 2000));
    assert_eq!([row.p50_us, row.p90_us, row.p99_us].map(|us| us.round() as u64), [100, 180, 198]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_measured_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let redb = RedbBackend::open(folder.path().join("meta.redb")).await.unwrap();
    for kv in [Arc::new(MemoryBackend::new()) as Arc<dyn KvBackend>, Arc::new(redb)] {
        let rows = bench(Arc::clone(&kv), &small()).await.unwrap();
        let what: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(what, ["put", "get", "txn", "list", "semaphore", "put", "get", "txn", "list", "semaphore", "watch"]);
        assert_sound(&rows);
        assert!(range_all(&*kv, KeyRange::all()).await.unwrap().is_empty());
    }
    let rows = raw_redb(&folder.path().join("raw.redb"), &small()).await.unwrap();
    assert_eq!(rows.len(), 6);
    assert_sound(&rows);
}

#[tokio::test]
async fn what_answers_wrongly_is_not_timed() {
    let wrong = measure("x", "get", 1, 10, |_, _| async { Err(Error::Wrong { what: "get" }) }).await;
    assert!(matches!(wrong, Err(Error::Wrong { what: "get" })));
}
