//! Reading a pinned version.
//!
//! Invariants:
//! - Files and memtables are grouped so that no two groups overlap in time. Within a group rows of one key may
//!   meet and are merged; a group of one file without deletes is read as it is.
//! - A file's rows are visible iff they satisfy its scope and the region's rule. What is run is the residual
//!   that the file's write-time rule and statistics do not already imply; usually nothing. It is run before the
//!   merge, which is sound because partition columns are part of the key.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tessera_manifest::env;
use tessera_manifest::file::FileRef;
use tessera_manifest::id::RegionId;
use tessera_manifest::rule::domain::Box as ValueBox;
use tessera_manifest::rule::{Expr, residual};
use tessera_manifest::schema::Schema;

use super::Region;
use super::version::Version;
use crate::error::Error;
use crate::memtable::{Rows, Snapshot};
use crate::merge::{BatchStream, Dedup, Layout, Options, Output, Run, group_by_time, merge};
use crate::request::{RegionScan, ScanRequest};
use crate::sst::{self, Access, ReadOptions, excludes, time_bounds};

/// One input of a scan.
enum Source {
    File { file: Arc<FileRef>, residual: Option<Arc<Expr>> },
    Memtable(Snapshot),
}

impl Source {
    fn time_range(&self) -> (i64, i64) {
        match self {
            Self::File { file, .. } => file.meta.time_range,
            Self::Memtable(snapshot) => snapshot.time_range().unwrap_or((i64::MAX, i64::MIN)),
        }
    }
}

/// A file that may hold wanted rows, with the predicate that its rows must be tested with.
type Kept = (Arc<FileRef>, Option<Arc<Expr>>);

/// What the tasks of one scan share.
struct Reader {
    region: RegionId,
    access: Access,
    schema: Arc<Schema>,
    merging: Arc<Layout>,
    plain: Arc<Layout>,
    filter: Arc<Expr>,
    time: (i64, i64),
    dedup: Dedup,
}

impl Region {
    /// Reads a snapshot of the region as of now, in (primary key, time) order within each stretch of time that
    /// files share.
    ///
    /// # Errors
    /// [`Error::Fenced`] once another node has taken over; the stream gives what goes wrong later.
    pub async fn scan(&self, request: ScanRequest) -> Result<RegionScan, Error> {
        let fenced = *self.gate.read().await == super::GateState::Fenced;
        if fenced {
            return Err(Error::Fenced { region: self.id });
        }
        let version = self.pin();
        let schema = Arc::clone(&version.meta.schema);
        let wanted = request.projection.as_deref();
        let rows = |source| Error::rows(self.id, source);
        let merging = Arc::new(Layout::merging(Arc::clone(&schema), wanted).map_err(rows)?);
        let plain = Arc::new(Layout::plain(Arc::clone(&schema), wanted).map_err(rows)?);
        let time = time_bounds(&request.filter, schema.time_index().id);
        let (files, files_skipped) = prune(&version, &request.filter, time);
        let listed: Vec<Arc<FileRef>> = files.iter().map(|(file, _)| Arc::clone(file)).collect();
        let memtables = version.memtables().map(|memtable| memtable.snapshot()).filter(|snapshot| overlaps(snapshot, time));
        let sources = files.into_iter().map(|(file, residual)| Source::File { file, residual });
        let sources: Vec<Source> = sources.chain(memtables.map(Source::Memtable)).collect();
        let output = Arc::clone(plain.output());
        let filter = Arc::new(request.filter);
        let reader = Reader {
            region: self.id,
            access: self.shared.access.clone(),
            schema,
            merging,
            plain,
            filter,
            time,
            dedup: version.options.merge_mode.into(),
        };
        let stream = limited(reader.read(sources), request.limit);
        metrics::counter!("tessera_scans_total").increment(1);
        Ok(RegionScan { schema: output, stream, files: listed, files_skipped })
    }
}

fn overlaps(snapshot: &Snapshot, time: (i64, i64)) -> bool {
    snapshot.time_range().is_some_and(|(from, to)| from <= time.1 && time.0 <= to)
}

/// The files that may hold wanted rows, each with the predicate that its rows must be tested with; and how many
/// were left out.
fn prune(version: &Version, filter: &Expr, time: (i64, i64)) -> (Vec<Kept>, usize) {
    let mut kept = Vec::new();
    for file in version.state.files().in_time(time) {
        if excludes(filter, &file.meta.stats) {
            continue;
        }
        let visible = file_residual(version, &file);
        if visible == Expr::never() {
            continue;
        }
        let tested = (visible != Expr::always()).then(|| Arc::new(visible));
        kept.push((file, tested));
    }
    let skipped = version.state.files().len() - kept.len();
    (kept, skipped)
}

/// The part of scope ∧ region rule that the file's write-time rule and statistics do not imply.
pub(super) fn file_residual(version: &Version, file: &FileRef) -> Expr {
    if file.scope.is_all() && file.meta.rule == version.meta.rule {
        return Expr::always();
    }
    let visible = Expr::clone(&file.scope).and(Expr::clone(&version.meta.rule));
    residual(&visible, &file.meta.rule, &ValueBox::from_stats(&file.meta.stats))
}

impl Reader {
    /// The groups one after the other; each is opened when the one before it is done.
    fn read(self, sources: Vec<Source>) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let ranges: Vec<(i64, i64)> = sources.iter().map(Source::time_range).collect();
        let mut sources: Vec<Option<Source>> = sources.into_iter().map(Some).collect();
        let groups: Vec<Vec<Source>> =
            group_by_time(&ranges).into_iter().map(|group| group.into_iter().filter_map(|i| sources[i].take()).collect()).collect();
        let region = self.region;
        let reader = Arc::new(self);
        let opened = stream::iter(groups).then(move |group| {
            let reader = Arc::clone(&reader);
            async move { reader.read_group(group).await }
        });
        opened.try_flatten().map_err(move |source| Error::rows(region, source)).boxed()
    }

    async fn read_group(&self, mut group: Vec<Source>) -> Result<BatchStream, sst::Error> {
        if let [Source::File { file, residual: None }] = &group[..]
            && file.meta.deletes == 0
        {
            let options = ReadOptions { layout: Arc::clone(&self.plain), filter: Arc::clone(&self.filter) };
            let scan = self.access.scan(file, &options).await?;
            let plain = Arc::clone(&self.plain);
            return Ok(scan.stream.map(move |batch| plain.finish(&batch?)).boxed());
        }
        let mut runs = Vec::with_capacity(group.len());
        for source in group.drain(..) {
            runs.push(self.open_run(source).await?);
        }
        merge(Arc::clone(&self.merging), runs, Options { dedup: self.dedup, output: Output::User })
    }

    async fn open_run(&self, source: Source) -> Result<Run, sst::Error> {
        match source {
            Source::File { file, residual } => {
                let options = ReadOptions { layout: Arc::clone(&self.merging), filter: Arc::clone(&self.filter) };
                let scan = self.access.scan(&file, &options).await?;
                Ok(match residual {
                    None => scan.into_run(),
                    Some(predicate) => Run::new(self.visible_rows(scan.stream, predicate), scan.traits),
                })
            }
            Source::Memtable(snapshot) => {
                let (layout, time) = (Arc::clone(&self.merging), self.time);
                let rows = if self.dedup == Dedup::LastRow { Rows::Newest } else { Rows::All };
                let sorted = env::spawn_blocking(move || snapshot.sorted_rows(&layout, Some(time), rows)).await;
                let stopped = |_| sst::Error::BatchShape { detail: "sorting a memtable was stopped".to_owned() };
                Ok(sorted.map_err(stopped)??.into_run())
            }
        }
    }

    fn visible_rows(&self, rows: BatchStream, predicate: Arc<Expr>) -> BatchStream {
        let schema = Arc::clone(&self.schema);
        let visible = rows.map(move |batch| {
            let batch = batch?;
            let shape = |detail: String| sst::Error::BatchShape { detail };
            let mask = predicate.filter(&batch, &schema).map_err(|e| shape(e.to_string()))?;
            metrics::counter!("tessera_rule_rows_tested_total").increment(batch.num_rows() as u64);
            filter_record_batch(&batch, &mask).map_err(|e| shape(e.to_string()))
        });
        visible.boxed()
    }
}

/// Ends the stream once `limit` rows came out.
fn limited(rows: BoxStream<'static, Result<RecordBatch, Error>>, limit: Option<usize>) -> BoxStream<'static, Result<RecordBatch, Error>> {
    let Some(mut wanted) = limit else { return rows };
    let enough = rows.map_ok(move |batch| {
        let taken = batch.slice(0, batch.num_rows().min(wanted));
        wanted -= taken.num_rows();
        (taken, wanted == 0)
    });
    let mut ended = limit == Some(0);
    let taken = enough.try_take_while(move |(_, last)| {
        let go_on = !ended;
        ended |= last;
        std::future::ready(Ok(go_on))
    });
    taken.map_ok(|(batch, _)| batch).boxed()
}
