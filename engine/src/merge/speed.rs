//! How fast the data path is, on data like TSBS "cpu-only": 10 tags, 10 fields. Not run by default; run it
//! optimised, with `--ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use tessera_manifest::env::Stopwatch;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::DataType;

use super::fixtures::{MS, block_on, collect, column, memory, new_file, reference, sequence};
use super::{Dedup, Layout, Options, Output, merge};
use crate::memtable::Memtable;
use crate::request::OpType;
use crate::sst::{ReadOptions, flush};

const HOSTS: usize = 4_000;
const BATCH: usize = 10_000;
const BATCHES: usize = 50;

fn schema() -> Arc<Schema> {
    let tags = (0..10).map(|i| column(i, &format!("tag{i}"), DataType::String, SemanticType::Tag));
    let fields = (11..21).map(|i| column(i, &format!("usage{i}"), DataType::Float64, SemanticType::Field));
    let columns = tags.chain([column(10, "ts", MS, SemanticType::TimeIndex)]).chain(fields).collect();
    Arc::new(Schema::new(columns, (0..10).map(ColumnId).collect()).unwrap())
}

/// Rows `from..from + BATCH` in time order; each host gets a point every 10 s.
fn cpu(schema: &Schema, from: usize) -> RecordBatch {
    let rows = from..from + BATCH;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for tag in 0..10 {
        let text = |row: usize| if tag == 0 { format!("host_{}", row % HOSTS) } else { format!("value-{}", row % HOSTS % (tag + 1)) };
        columns.push(Arc::new(StringArray::from_iter_values(rows.clone().map(text))));
    }
    columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(rows.clone().map(|row| (row / HOSTS) as i64 * 10_000))));
    for field in 0..10 {
        columns.push(Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| ((row * 7 + row / HOSTS * field) % 101) as f64))));
    }
    RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
}

fn report(what: &str, rows: usize, time: Duration) {
    println!("{what:30} {:8.3} M rows/s", rows as f64 / time.as_secs_f64() / 1e6);
}

#[test]
#[ignore = "a measurement, for people"]
fn rows_per_second() {
    let schema = schema();
    let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
    let rows = BATCH * BATCHES;
    let memtables: Vec<Memtable> = (0..2).map(|_| Memtable::new(Arc::clone(&schema))).collect();
    for (at, memtable) in memtables.iter().enumerate() {
        let batches: Vec<RecordBatch> = (0..BATCHES).map(|b| cpu(&schema, b * BATCH)).collect();
        let watch = Stopwatch::start();
        for (index, batch) in batches.into_iter().enumerate() {
            memtable.insert(batch, OpType::Put, sequence((at * rows + index * BATCH) as u64)).unwrap();
        }
        report("insert", rows, watch.elapsed());
    }
    println!("memtable                       {:8.1} bytes per row", memtables[0].bytes() as f64 / rows as f64);
    let watch = Stopwatch::start();
    let sorted = memtables[0].snapshot().sorted(&layout, None).unwrap();
    report("sort", rows, watch.elapsed());
    let batches: Vec<RecordBatch> = sorted.collect::<Result<_, _>>().unwrap();
    report("sort and gather", rows, watch.elapsed());
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
    block_on(async {
        let access = memory(128 * 1024).1;
        let mut files = Vec::new();
        for memtable in &memtables {
            let file = new_file(&schema);
            let watch = Stopwatch::start();
            let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
            report("flush", rows, watch.elapsed());
            println!("file                           {:8.1} bytes per row", meta.bytes as f64 / rows as f64);
            files.push(reference(&file, meta));
        }
        let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(Expr::always()) };
        for (what, count) in [("scan one file, verified first", 1), ("scan one file", 1), ("merge two equal files", 2)] {
            let watch = Stopwatch::start();
            let mut runs = Vec::new();
            for file in &files[..count] {
                runs.push(access.scan(file, &options).await.unwrap().into_run());
            }
            let options = Options { dedup: Dedup::LastRow, output: Output::User };
            let merged = collect(merge(Arc::clone(&layout), runs, options).unwrap()).await.unwrap();
            report(what, rows * count, watch.elapsed());
            assert_eq!(merged.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
        }
        let options = ReadOptions { layout: Arc::new(Layout::plain(schema, Some(&[10, 11])).unwrap()), filter: Arc::new(Expr::always()) };
        let watch = Stopwatch::start();
        let batches = collect(access.scan(&files[0], &options).await.unwrap().into_stream()).await.unwrap();
        report("scan time and one field", rows, watch.elapsed());
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
    });
}
