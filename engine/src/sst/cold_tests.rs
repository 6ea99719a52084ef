//! How many requests, and for how many bytes, reads cost when nothing is in memory, and when all is.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::{Access, ReadOptions, flush};
use crate::config::Config;
use crate::memtable::Memtable;
use crate::merge::fixtures::{MS, batch, block_on, collect, column, new_file, reference, rows_of, sequence};
use crate::merge::{Dedup, Layout, Options, Output, merge};
use crate::request::OpType;

/// A store that counts what is read from it.
#[derive(Debug, Default)]
pub(super) struct Counting {
    inner: InMemory,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    fn count(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Requests and bytes since the last call.
    pub(super) fn take(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = self.inner.get_opts(location, options).await?;
        self.count(answer.range.end - answer.range.start);
        Ok(answer)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count(ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "dc", DataType::String, SemanticType::Tag),
        column(2, "ts", MS, SemanticType::TimeIndex),
        column(3, "a", DataType::Float64, SemanticType::Field),
        column(4, "b", DataType::Float64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0), ColumnId(1)]).unwrap())
}

/// 40 hosts with 2,000 points each, and fields that do not compress.
async fn world() -> (Arc<Counting>, FileRef) {
    world_of(40, 2_000).await
}

async fn world_of(hosts: u64, points: u64) -> (Arc<Counting>, FileRef) {
    let store = Arc::new(Counting::default());
    let access = access(&store);
    let memtable = Memtable::new(schema());
    let noise = |n: u64| f64::from_bits(0x3FF0_0000_0000_0000 | (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 12));
    for host in 0..hosts {
        let text = |text: String| Value::String(text);
        let row = |ts: u64| {
            vec![
                text(format!("h{host:03}")),
                text(format!("dc{}", host % 3)),
                Value::Timestamp(ts as i64),
                Value::Float(noise(host * points + ts)),
                Value::Null,
            ]
        };
        let rows: Vec<_> = (0..points).map(row).collect();
        memtable.insert(batch(&schema(), OpType::Put, &rows), OpType::Put, sequence(host * points)).unwrap();
    }
    let file = new_file(&schema());
    let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
    store.take();
    (store, reference(&file, meta))
}

pub(super) fn access(store: &Arc<Counting>) -> Access {
    let config = Config { verify_sst: false, row_group_rows: 70_000, ..Config::default() };
    Access::new(Arc::clone(store) as Arc<dyn ObjectStore>, &config)
}

fn one_host() -> Expr {
    let compare = |column, op, value| Expr::Compare { column: ColumnId(column), op, value };
    Expr::And(vec![compare(0, CompareOp::Eq, Value::String("h017".into())), compare(2, CompareOp::Lt, Value::Timestamp(300))])
}

#[test]
fn one_host_costs_two_small_requests_cold_and_none_warm() {
    block_on(async {
        let (store, file) = world().await;
        let access = access(&store);
        let layout = Arc::new(Layout::merging(schema(), Some(&[0, 2, 3])).unwrap());
        let options = ReadOptions { layout, filter: Arc::new(one_host()) };
        let read = || async { rows_of(&collect(access.scan(&file, &options).await.unwrap().into_stream()).await.unwrap()) };
        let rows = read().await;
        assert!(rows.len() < 70_000 && rows.iter().filter(|row| row[0] == Value::String("h017".into())).count() >= 300);
        let (requests, bytes) = store.take();
        assert!(requests <= 2, "{requests} requests");
        assert!(bytes < file.meta.bytes / 2, "{bytes} of {} bytes", file.meta.bytes);
        assert_eq!(read().await, rows);
        assert_eq!(store.take(), (0, 0), "everything needed is in memory");
    });
}

#[test]
fn known_series_leave_nothing_but_the_wanted_rows() {
    block_on(async {
        let (store, file) = world().await;
        let access = access(&store);
        let layout = || Arc::new(Layout::merging(schema(), None).unwrap());
        let all = ReadOptions { layout: layout(), filter: Arc::new(Expr::always()) };
        let rows = rows_of(&collect(access.scan(&file, &all).await.unwrap().into_stream()).await.unwrap());
        assert_eq!(rows.len(), 80_000);
        store.take();
        let some = ReadOptions { layout: layout(), filter: Arc::new(one_host()) };
        let rows = rows_of(&collect(access.scan(&file, &some).await.unwrap().into_stream()).await.unwrap());
        assert!(rows.iter().all(|row| row[0] == Value::String("h017".into())) && rows.len() <= 2_000, "{} rows", rows.len());
    });
}

#[test]
fn small_reads_of_a_row_group_learn_its_series_once_they_add_up() {
    block_on(async {
        let (store, file) = world_of(20_000, 4).await;
        let access = access(&store);
        // No tag comes out, and rows of one file meet no others.
        let layout = Arc::new(Layout::merging(schema(), Some(&[3])).unwrap());
        let host = Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String("h017".into()) };
        let (mut known, mut selected, mut first) = (Vec::new(), 0, None);
        for _ in 0..8 {
            let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(one_host()) };
            let scan = access.scan(&file, &options).await.unwrap().only(Some(Arc::new(host.clone())));
            let read = scan.read.clone();
            let group = &read.groups[0];
            assert_eq!(read.groups.len(), 1);
            let all = read.footer.rows_of(group.index);
            assert!(group.selected() * 4 < all && group.selected() * 16 > all, "{} of {all} rows", group.selected());
            selected += group.selected();
            let user = Options { dedup: Dedup::LastRow, output: Output::User };
            let rows = rows_of(&collect(merge(Arc::clone(&layout), vec![scan.into_run()], user).unwrap()).await.unwrap());
            assert_eq!(rows.len(), 4);
            assert!(read.tag_bytes(group.index) > all as u64, "series of few rows take more than a byte for each");
            assert_eq!(&rows, first.get_or_insert_with(|| rows.clone()), "series change no rows");
            assert_eq!(read.known_series(group.index).is_some(), selected * 2 >= all, "after {selected} of {all} rows");
            known.push(read.known_series(group.index).is_some());
        }
        assert!(!known[0] && known[7], "{known:?}");
    });
}

#[test]
fn the_first_small_read_learns_series_of_many_rows_by_the_way() {
    block_on(async {
        let (store, file) = world().await;
        let access = access(&store);
        for columns in [&[3][..], &[0, 2, 3]] {
            let layout = Arc::new(Layout::merging(schema(), Some(columns)).unwrap());
            let host = Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String("h017".into()) };
            let read = async || {
                let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(one_host()) };
                let scan = access.scan(&file, &options).await.unwrap().only(Some(Arc::new(host.clone())));
                let read = scan.read.clone();
                let user = Options { dedup: Dedup::LastRow, output: Output::User };
                let rows = collect(merge(Arc::clone(&layout), vec![scan.into_run()], user).unwrap()).await.unwrap();
                (rows_of(&rows).len(), read.known_series(read.groups[0].index).is_some())
            };
            access.caches.series.invalidate(&((file.key, 0), schema().version()));
            assert_eq!(read().await, (2_000, true));
            let (requests, bytes) = store.take();
            assert!(requests <= 2 && bytes < file.meta.bytes / 2, "{requests} requests, {bytes} of {} bytes", file.meta.bytes);
            assert_eq!(read().await, (2_000, true));
            assert_eq!(store.take(), (0, 0), "everything needed is in memory");
        }
    });
}

#[test]
fn a_rule_is_tested_once_per_series_and_only_where_statistics_do_not_prove_it() {
    block_on(async {
        let (store, file) = world().await;
        let access = access(&store);
        let layout = Arc::new(Layout::merging(schema(), Some(&[3])).unwrap());
        let read = async |rule: Expr| {
            let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(rule.clone()) };
            let mut scan = access.scan(&file, &options).await.unwrap().only(Some(Arc::new(rule)));
            let tested = Arc::new(AtomicU64::new(0));
            scan.read.rows_tested = Some(Arc::clone(&tested));
            let user = Options { dedup: Dedup::LastRow, output: Output::User };
            let rows = rows_of(&collect(merge(Arc::clone(&layout), vec![scan.into_run()], user).unwrap()).await.unwrap());
            (rows, tested.load(Ordering::Relaxed))
        };
        let (all, tested) = read(Expr::always()).await;
        assert_eq!((all.len(), tested), (80_000, 0));
        let compare = |column, op, value: &str| Expr::Compare { column: ColumnId(column), op, value: Value::String(value.into()) };
        // The cut is within one row group, which has rows of 35 hosts.
        let (upper, tested) = read(compare(0, CompareOp::GtEq, "h020")).await;
        assert_eq!(upper, all[40_000..]);
        assert_eq!(tested, 35);
        let (third, tested) = read(compare(1, CompareOp::Eq, "dc1")).await;
        let expected: Vec<_> =
            (0..40).filter(|host| host % 3 == 1).flat_map(|host| all[host * 2_000..(host + 1) * 2_000].to_vec()).collect();
        assert_eq!(third, expected);
        assert!((40..80).contains(&tested), "{tested} runs");
    });
}

#[test]
fn what_a_rule_selects_of_a_row_group_is_tested_once_and_never_taken_for_what_another_selects() {
    block_on(async {
        let (store, file) = world().await;
        let access = access(&store);
        let layout = Arc::new(Layout::merging(schema(), Some(&[3])).unwrap());
        let read = async |rule: &Expr| {
            let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(rule.clone()) };
            let mut scan = access.scan(&file, &options).await.unwrap();
            scan.read.rule = Some(Arc::new(rule.clone()));
            let tested = Arc::new(AtomicU64::new(0));
            scan.read.rows_tested = Some(Arc::clone(&tested));
            let user = Options { dedup: Dedup::LastRow, output: Output::User };
            let rows = rows_of(&collect(merge(Arc::clone(&layout), vec![scan.into_run()], user).unwrap()).await.unwrap());
            (rows, tested.load(Ordering::Relaxed))
        };
        let (all, _) = read(&Expr::always()).await;
        let compare = |column, op, value: &str| Expr::Compare { column: ColumnId(column), op, value: Value::String(value.into()) };
        let of_host = |hosts: &dyn Fn(usize) -> bool| -> Vec<Vec<Value>> {
            (0..40).filter(|host| hosts(*host)).flat_map(|host| all[host * 2_000..(host + 1) * 2_000].to_vec()).collect()
        };
        let (upper, lower) = (compare(0, CompareOp::GtEq, "h020"), compare(0, CompareOp::Lt, "h020"));
        let (later, third) = (compare(0, CompareOp::GtEq, "h021"), compare(1, CompareOp::Eq, "dc1"));
        let rules = [
            (upper.clone(), of_host(&|host| host >= 20)),
            (lower, of_host(&|host| host < 20)),
            (later, of_host(&|host| host >= 21)),
            (third.clone(), of_host(&|host| host % 3 == 1)),
            (Expr::And(vec![upper, third]), of_host(&|host| host >= 20 && host % 3 == 1)),
        ];
        for (rule, expected) in &rules {
            let (rows, tested) = read(rule).await;
            assert_eq!(&rows, expected, "{rule:?}");
            assert!(tested > 0, "{rule:?} was not tested");
        }
        for (rule, expected) in &rules {
            assert_eq!(read(rule).await, (expected.clone(), 0), "{rule:?} again");
        }
    });
}
