//! The first buckets of time.

use super::*;
use crate::buckets::Buckets;
use crate::request::FirstBuckets;

const WIDTHS: [i64; 4] = [1, 2, 1_000, i64::MAX];

/// That all rows of the first buckets come out, and of others none that are not there; of all rows, and of some series up to
/// some time.
pub(super) async fn check_first_buckets(world: &World, request: &ScanRequest, all: &[Vec<Value>], seek: &[Value], count: usize) -> Checked {
    let of_key = |row: &&Vec<Value>| row[1] == seek[1] && row[4] >= seek[4] && row[2] <= seek[2];
    let some: Vec<Vec<Value>> = all.iter().filter(of_key).cloned().collect();
    for (filter, all) in [(Expr::always(), all), (Expr::And(on_keys(seek)), some.as_slice())] {
        let request = ScanRequest { filter, ..request.clone() };
        for (newest_first, width) in [false, true].into_iter().flat_map(|newest| WIDTHS.map(|width| (newest, width))) {
            let wanted = FirstBuckets { of: Buckets::new(width).unwrap(), count, newest_first };
            check(world, &request, all, wanted).await?;
        }
    }
    Ok(())
}

async fn check(world: &World, request: &ScanRequest, all: &[Vec<Value>], wanted: FirstBuckets) -> Checked {
    let bucket = |row: &Vec<Value>| match row[2] {
        Value::Timestamp(time) => time.div_euclid(wanted.of.width()),
        _ => unreachable!("times are times"),
    };
    let mut buckets: Vec<i64> = all.iter().map(bucket).collect();
    buckets.sort_unstable();
    buckets.dedup();
    if wanted.newest_first {
        buckets.reverse();
    }
    buckets.truncate(wanted.count);
    let first = |rows: &[Vec<Value>]| sorted(rows.iter().filter(|row| buckets.contains(&bucket(row))).cloned().collect());
    let rows = world.rows(ScanRequest { first_buckets: Some(wanted), ..request.clone() }).await;
    prop_assert_eq!(first(&rows), first(all), "{:?}", wanted);
    prop_assert!(rows.iter().all(|row| all.contains(row)), "{:?}", wanted);
    Ok(())
}

#[test]
fn rows_beyond_the_first_buckets_are_not_read() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(900, 0, 50, 1.0)).await;
        world.region.flush().await.unwrap();
        world.write(OpType::Put, &points(900, 50, 100, 1.0)).await;
        world.region.flush().await.unwrap();
        let newest = FirstBuckets { of: Buckets::new(10).unwrap(), count: 2, newest_first: true };
        let request =
            |first_buckets| ScanRequest { projection: Some(vec![2]), first_buckets: Some(first_buckets), ..ScanRequest::default() };
        let scan = world.region.scan(request(newest)).await.unwrap();
        assert_eq!((scan.files.len(), scan.files_skipped), (1, 1));
        assert_eq!(world.rows(request(newest)).await.len(), 900 * 20);
        let oldest = FirstBuckets { of: Buckets::new(10).unwrap(), count: 4, newest_first: false };
        assert_eq!(world.rows(request(oldest)).await.len(), 900 * 40);
        let most = FirstBuckets { count: 6, ..oldest };
        assert_eq!(world.rows(request(most)).await.len(), 900 * 100, "little is to be gained");
        let in_none = FirstBuckets { of: newest.of.within((0, 98)), ..newest };
        assert_eq!(world.rows(request(in_none)).await.len(), 900 * 100, "some row may lie in no bucket");
        world.write(OpType::Put, &points(1, i64::MIN, i64::MIN + 1, 1.0)).await;
        assert_eq!(world.rows(request(newest)).await.len(), 900 * 100 + 1, "the start of the first bucket of all is no time");
    });
}

#[test]
fn of_long_series_the_pages_of_the_first_buckets_are_looked_at() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(2, 0, 100_000, 1.0)).await;
        world.write(OpType::Delete, &points(2, 99_000, 99_100, 1.0)).await;
        world.region.flush().await.unwrap();
        // A fifth of all rows is more than it is worth.
        for (width, rows) in [(100, 2 * 200), (10_000, 2 * 100_000 - 2 * 100)] {
            let wanted = FirstBuckets { of: Buckets::new(width).unwrap(), count: 2, newest_first: true };
            let request = ScanRequest { projection: Some(vec![2]), first_buckets: Some(wanted), ..ScanRequest::default() };
            assert_eq!(world.rows(request).await.len(), rows, "{wanted:?}");
        }
    });
}
