//! Reading a pinned version.
//!
//! Invariants:
//! - A scan reads one version: manifest state and memtables at one moment. While it lives it pins that version, whose
//!   hold keeps the files from retention.
//! - Files and memtables are grouped so that no two groups overlap in time. Within a group rows of one key may
//!   meet and are merged; a group of one file without deletes is read as it is. In append mode without deletes no
//!   rows meet, and every file is a group.
//! - A file's rows are visible iff they satisfy its scope and the region's rule. What is run is the residual
//!   that the file's write-time rule and statistics do not already imply; usually nothing. It is run before the
//!   merge, which is sound because partition columns are part of the key, or no rows are merged.
//! - Streams of one scan have no row in common and together have every row.
//!
//! ```text
//!   request ─▶ version ─▶ pruned sources ─▶ pieces (time group × slice of keys) ─▶ streams
//! ```

mod estimate;
mod first;
mod past;
mod pieces;
mod reader;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::RegionId;
use tessera_manifest::rule::domain::Box as ValueBox;
use tessera_manifest::rule::{CompareOp, Expr, residual};
use tessera_manifest::schema::Schema;
use tessera_manifest::value::Value;

use super::Region;
use super::version::{Version, VersionCell};
use crate::error::Error;
use crate::merge::{BATCH_ROWS, Dedup, Layout, group_by_time};
use crate::request::{Order, RuleCost, ScanRequest, Tags};
use crate::sst::{self, Access, excludes, time_bounds};
pub use estimate::RowsAtOnce;
pub use past::Past;
use pieces::{Piece, Source, dealt_back};
use reader::Reader;

/// A planned scan; rows are read as its streams are polled. Dropping a stream ends its work at once and frees what it
/// holds; the pinned version is held until scan and streams are dropped.
pub struct RegionScan {
    /// The schema of the batches: the projected columns.
    pub schema: SchemaRef,
    /// The order of the rows of each stream. With [`Order::Key`], rows of a stream come before those of the next; with an order
    /// by time each stream has some of every time.
    pub order: Order,
    /// Files that the scan reads.
    pub files: Vec<Arc<FileRef>>,
    /// Files that it could skip by time, rule or statistics.
    pub files_skipped: usize,
    plan: Arc<Plan>,
}

struct Plan {
    reader: Arc<Reader>,
    /// The pieces of each stream.
    streams: Vec<Vec<Arc<Piece>>>,
    limit: Option<usize>,
    rule: RuleFiles,
    failures: Failures,
}

/// What becomes of failures while rows are read.
struct Failures {
    region: RegionId,
    current: Arc<VersionCell>,
    /// A past version is read, which retention may overtake.
    past: bool,
    /// Keeps what is read.
    _version: Arc<Version>,
}

/// What the rule did to files.
#[derive(Debug, Clone, Copy, Default)]
struct RuleFiles {
    elided: usize,
    tested: usize,
    pruned: usize,
}

impl fmt::Debug for RegionScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionScan").field("order", &self.order).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl RegionScan {
    /// How many streams there are; at least one.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.plan.streams.len()
    }

    /// One of the streams, from its beginning; none has a row of another. A number beyond them gives no rows.
    #[must_use]
    pub fn stream(&self, number: usize) -> BoxStream<'static, Result<RecordBatch, Error>> {
        self.plan.streams.get(number).map_or_else(|| stream::empty().boxed(), |pieces| self.read(pieces.clone()))
    }

    fn read(&self, pieces: Vec<Arc<Piece>>) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let plan = Arc::clone(&self.plan);
        let rows = plan.reader.read(pieces, plan.limit);
        let rows = rows.map_err(move |source| plan.failures.explain(source)).boxed();
        limited(rows, self.plan.limit)
    }

    /// All rows in the scan's order, by one stream after the other.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let limit = self.plan.limit;
        if self.plan.reader.by_time {
            return self.read(dealt_back(&self.plan.streams));
        }
        let streams = stream::iter(0..self.streams()).flat_map(move |number| self.stream(number));
        limited(streams.boxed(), limit)
    }

    /// What checks of the partition rule cost so far.
    #[must_use]
    pub fn rule_cost(&self) -> RuleCost {
        let RuleFiles { elided, tested, pruned } = self.plan.rule;
        let rows_tested = self.plan.reader.rows_tested.load(Ordering::Relaxed);
        RuleCost { files_elided: elided, files_tested: tested, files_pruned: pruned, rows_tested }
    }

    /// Bytes that its streams hold at present, and the most that they held, with all other scans that count against the same
    /// memory.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        (self.plan.reader.memory.used(), self.plan.reader.memory.peak())
    }
}

/// What is known exactly of a region's visible rows without reading any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// Their number.
    pub rows: Option<u64>,
    /// The least and the greatest time, inclusive; `None` if unknown, or if there are no rows.
    pub time: Option<(i64, i64)>,
}

impl Failures {
    fn explain(&self, source: sst::Error) -> Error {
        if let sst::Error::Missing { path, .. } = &source {
            let gone = |file: &Arc<FileRef>| path.filename().is_some_and(|name| name.contains(&file.key.file.to_string()));
            let listed = self.current.load().state.files().iter().any(|(_, listed)| gone(&listed.file));
            if self.past || !listed {
                return Error::SnapshotExpired { region: self.region, source: Box::new(source) };
            }
        }
        Error::rows(self.region, source)
    }
}

impl Region {
    /// What metadata alone says of the visible rows: only where none are deleted, tested for a rule, or, for their
    /// number, merged.
    #[must_use]
    pub fn known(&self) -> Known {
        let version = self.pin();
        let Pruned { sources, .. } = prune(&self.shared.access, &version, &Expr::always(), (i64::MIN, i64::MAX));
        if sources.iter().any(|source| source.has_deletes() || source.unmerged_rows().is_none()) {
            return Known::default();
        }
        let ranges: Vec<(i64, i64)> = sources.iter().map(Source::time_range).collect();
        let append = Dedup::from(version.options.merge_mode) == Dedup::Keep;
        let in_files = sources.iter().all(|source| source.file().is_some());
        let apart = in_files && group_by_time(&ranges).len() == ranges.len();
        let rows = (append || apart).then(|| sources.iter().filter_map(Source::unmerged_rows).sum());
        let time = ranges.into_iter().reduce(|all, range| (all.0.min(range.0), all.1.max(range.1)));
        Known { rows, time }
    }

    /// Plans a read of a snapshot of the region as of now, or as of the version that the request names.
    ///
    /// # Errors
    /// [`Error::Fenced`] once another node has taken over; [`Error::Manifest`] with `NoVersion` for a version that
    /// cannot be read any more; the streams give what goes wrong later.
    pub async fn scan(&self, request: ScanRequest) -> Result<RegionScan, Error> {
        self.scan_under(None, request).await
    }

    /// The same under `schema`, an earlier or a later version of the region's own: positions in the request are those
    /// of its columns, and rows have them. Values that an earlier, narrower type does not hold are an error of the
    /// stream.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan), and [`Error::ColumnDropped`] when a column of an earlier schema is wanted that
    /// was dropped since: its values go with each flush. [`Error::KeyChanged`] when the primary key got columns since:
    /// rows that they tell apart would be one.
    pub async fn scan_under(&self, schema: Option<Arc<Schema>>, request: ScanRequest) -> Result<RegionScan, Error> {
        self.check_owned().await?;
        match request.as_of {
            None => {
                let version = self.current_version().await?;
                self.scan_version(version, false, schema, request).await
            }
            Some(as_of) => self.scan_past(&self.version_as_of(as_of).await?, schema, request).await,
        }
    }

    async fn check_owned(&self) -> Result<(), Error> {
        if self.is_fenced().await { Err(Error::Fenced { region: self.id }) } else { Ok(()) }
    }

    async fn scan_version(
        &self,
        version: Arc<Version>,
        past: bool,
        schema: Option<Arc<Schema>>,
        request: ScanRequest,
    ) -> Result<RegionScan, Error> {
        let rows = |source| Error::rows(self.id, source);
        let schema = schema.unwrap_or_else(|| Arc::clone(&version.meta.schema));
        self.check_columns(&version.meta.schema, &schema, request.projection.as_deref())?;
        let layout = Layout::merging(Arc::clone(&schema), request.projection.as_deref()).map_err(rows)?;
        let in_runs = matches!(request.order, Order::Any | Order::Key) && !request.last_rows;
        let layout = Arc::new(layout.with_tags(if in_runs { request.tags } else { Tags::Values }));
        let time = time_bounds(&request.filter, schema.time_index().id);
        let filter = if request.last_rows { of_series(&request.filter, &schema, time) } else { request.filter };
        let Pruned { mut sources, rule } = prune(&self.shared.access, &version, &filter, time);
        for (outcome, files) in [("elided", rule.elided), ("tested", rule.tested), ("pruned", rule.pruned)] {
            metrics::counter!("tessera_rule_files_total", "outcome" => outcome).increment(files as u64);
        }
        let mut reader = Reader {
            access: self.shared.access.clone(),
            layout,
            of_tags: tag_parts(&filter, &schema),
            filter: Arc::new(filter),
            schema,
            time,
            dedup: version.options.merge_mode.into(),
            order: request.order,
            last_rows: request.last_rows,
            by_time: matches!(request.order, Order::Time | Order::NewestFirst) && !request.last_rows,
            batch_rows_max: BATCH_ROWS,
            memory: request.memory.unwrap_or_else(|| self.shared.scan_memory()),
            rows_tested: Arc::new(AtomicU64::new(0)),
        };
        let failures = Failures { region: self.id, current: Arc::clone(&self.version), past, _version: Arc::clone(&version) };
        if let Some(wanted) = request.first_buckets.filter(|_| !request.last_rows) {
            let time = reader.time_of_first(&sources, wanted).await.map_err(|source| failures.explain(source))?;
            reader = reader.within(time);
            sources.retain(|source| source.overlaps(time));
        }
        let files: Vec<Arc<FileRef>> = sources.iter().filter_map(|source| source.file().cloned()).collect();
        let skipped = version.state.files().len() - files.len();
        // The first rows by time are looked for in one stream, which ends with them.
        let wanted = if reader.by_time && request.limit.is_some() { 1 } else { request.streams.max(1) };
        let streams = reader.plan(sources, wanted).await.map_err(|source| failures.explain(source))?;
        metrics::counter!("tessera_scans_total").increment(1);
        let schema = Arc::clone(reader.layout.output());
        let order = if request.last_rows { Order::Any } else { request.order };
        let plan = Arc::new(Plan { reader: Arc::new(reader), streams, limit: request.limit, rule, failures });
        Ok(RegionScan { schema, order, files, files_skipped: skipped, plan })
    }

    /// That the region still tells its rows apart as an earlier schema does, and has the columns that are wanted under it.
    fn check_columns(&self, present: &Schema, planned: &Schema, wanted: Option<&[usize]>) -> Result<(), Error> {
        if planned.version() >= present.version() {
            return Ok(());
        }
        if planned.primary_key() != present.primary_key() {
            return Err(Error::KeyChanged { region: self.id });
        }
        let mut columns = planned.columns().iter().enumerate().filter(|(at, _)| wanted.is_none_or(|wanted| wanted.contains(at)));
        match columns.find(|(_, column)| present.column(column.id).is_none()) {
            Some((_, column)) => Err(Error::ColumnDropped { region: self.id, column: column.name.clone() }),
            None => Ok(()),
        }
    }
}

/// What a filter says of series as a whole, and the bounds that it sets to the time.
fn of_series(filter: &Expr, schema: &Schema, time: (i64, i64)) -> Expr {
    Expr::And(tag_parts(filter, schema).into_iter().chain(between(schema, time)).collect())
}

/// Bounds of the time, inclusive, as conditions.
fn between(schema: &Schema, (from, to): (i64, i64)) -> [Expr; 2] {
    let bound = |op, t| Expr::Compare { column: schema.time_index().id, op, value: Value::Timestamp(t) };
    [bound(CompareOp::GtEq, from), bound(CompareOp::LtEq, to)]
}

/// The parts of a conjunction that name tags alone.
fn tag_parts(filter: &Expr, schema: &Schema) -> Vec<Expr> {
    let parts = match filter {
        Expr::And(parts) => parts.clone(),
        other => vec![other.clone()],
    };
    let tags = |part: &Expr| *part != Expr::always() && part.columns().iter().all(|column| schema.primary_key().contains(column));
    parts.into_iter().filter(tags).collect()
}

struct Pruned {
    sources: Vec<Source>,
    rule: RuleFiles,
}

/// What may hold wanted rows: files, each with the predicate that its rows must be tested with, and memtables.
fn prune(access: &Access, version: &Version, filter: &Expr, time: (i64, i64)) -> Pruned {
    let (mut sources, mut rule) = (Vec::new(), RuleFiles::default());
    for file in version.state.files().in_time(time) {
        if excludes(filter, &file.meta.stats) {
            continue;
        }
        let residual = match is_own(version, &file) {
            true => None,
            false => Some(access.residual(&file, &version.meta.rule, || file_residual(version, &file))),
        };
        let residual = residual.filter(|visible| **visible != Expr::always());
        if residual.as_deref() == Some(&Expr::never()) {
            rule.pruned += 1;
            continue;
        }
        *(if residual.is_some() { &mut rule.tested } else { &mut rule.elided }) += 1;
        sources.push(Source::File { file, residual });
    }
    let memtables = version.memtables().map(|memtable| Source::Memtable(Arc::new(memtable.snapshot())));
    sources.extend(memtables.filter(|memtable| memtable.overlaps(time)));
    Pruned { sources, rule }
}

/// The part of scope ∧ region rule that the file's write-time rule and statistics do not imply.
pub(super) fn file_residual(version: &Version, file: &FileRef) -> Expr {
    if is_own(version, file) {
        return Expr::always();
    }
    let visible = Expr::clone(&file.scope).and(Expr::clone(&version.meta.rule));
    residual(&visible, &file.meta.rule, &ValueBox::from_stats(&file.meta.stats))
}

/// Whether all rows of a file were written under the region's rule.
fn is_own(version: &Version, file: &FileRef) -> bool {
    file.scope.is_all() && file.meta.rule == version.meta.rule
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
