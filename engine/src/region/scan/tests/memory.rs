//! What scans count of the memory that they hold.

use arrow::compute::concat_batches;

use super::*;
use crate::request::Memory;

#[test]
fn a_dropped_stream_frees_what_it_holds_and_a_limit_is_kept() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config { row_group_rows: 8_192, ..Config::default() }).await;
        for v in [1.0, 2.0, 3.0] {
            world.write(OpType::Put, &points(2_000, 0, 40, v)).await;
            world.region.flush().await.unwrap();
        }
        let scan = world.region.scan(ScanRequest::default()).await.unwrap();
        let mut stream = scan.stream(0);
        stream.next().await.unwrap().unwrap();
        assert!(scan.memory().0 > 0, "a running scan is counted");
        drop(stream);
        assert_eq!(scan.memory().0, 0, "nothing is left of a dropped stream");
        let peak = scan.memory().1;

        let request = ScanRequest { memory: Some(Memory::new(peak / 2)), ..ScanRequest::default() };
        let refused = world.region.scan(request).await.unwrap().into_stream().try_collect::<Vec<_>>().await.unwrap_err();
        let text = crate::error_chain(&refused);
        assert!(text.contains("scan_bytes_max") && text.contains(&(peak / 2).to_string()), "{text}");
        let sorted = ScanRequest { order: Order::Time, memory: Some(Memory::new(1 << 20)), ..ScanRequest::default() };
        let refused = world.region.scan(sorted.clone()).await.unwrap().into_stream().try_collect::<Vec<_>>().await;
        assert!(refused.is_err(), "sorting 80,000 rows does not fit into 1 MiB");
        let first = ScanRequest { limit: Some(10), ..sorted };
        let batches = world.batches(ScanRequest { memory: Some(Memory::new(peak * 4)), ..first }).await;
        assert_eq!(batches[0].num_rows(), 10);
    });
}

#[test]
fn scans_that_share_a_memory_hold_no_more_than_it_together() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(2_000, 0, 40, 1.0)).await;
        world.region.flush().await.unwrap();
        let begun = async |memory: &Arc<Memory>| {
            let request = ScanRequest { memory: Some(Arc::clone(memory)), ..ScanRequest::default() };
            let mut stream = world.region.scan(request).await.unwrap().stream(0);
            stream.next().await.unwrap().map(|_| stream)
        };
        let memory = Memory::new(1 << 30);
        let alone = begun(&memory).await.unwrap();
        let (paused, most) = (memory.used(), memory.peak());
        assert!(paused > 1, "a scan that goes on has its encoded rows");
        drop(alone);
        let memory = Memory::new(most + paused / 2);
        let first = begun(&memory).await.unwrap();
        let refused = begun(&memory).await.map(|_| ()).unwrap_err();
        assert!(crate::error_chain(&refused).contains("engine.scan_bytes_max"), "{refused}");
        drop(first);
        assert_eq!(memory.used(), 0);
        drop(begun(&memory).await.unwrap());
    });
}

#[test]
fn rows_that_are_sorted_by_time_count_twice_beside_their_places() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(500, 0, 40, 1.0)).await;
        world.region.flush().await.unwrap();
        let memory = Memory::new(1 << 30);
        let request = ScanRequest { order: Order::Time, memory: Some(Arc::clone(&memory)), ..ScanRequest::default() };
        let batches = world.batches(request).await;
        // Who holds a batch holds no other with it.
        let sorted: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let (some, all) = (&batches[0], concat_batches(&batches[0].schema(), &batches).unwrap());
        assert!(batches.len() > 1 && some.get_array_memory_size() * batches.len() < 2 * all.get_array_memory_size());
        assert!(memory.peak() > 2 * sorted + 20_000 * 12, "{} bytes for {sorted}", memory.peak());
        drop(batches);
        assert_eq!(memory.used(), 0);
    });
}

#[test]
fn series_whose_last_row_was_found_count_until_the_scan_ends() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(3_000, 0, 4, 1.0)).await;
        world.region.flush().await.unwrap();
        let scan = world.region.scan(ScanRequest { last_rows: true, ..ScanRequest::default() }).await.unwrap();
        let mut stream = scan.stream(0);
        let mut rows = 0;
        while let Some(batch) = stream.try_next().await.unwrap() {
            rows += batch.num_rows();
        }
        assert_eq!(rows, 3_000);
        assert!(scan.memory().0 >= 3_000 * 64, "{} bytes for 3,000 series", scan.memory().0);
        drop(stream);
        assert_eq!(scan.memory().0, 0);
    });
}
