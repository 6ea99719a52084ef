//! Opening the pieces of a scan.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::compute::filter_record_batch;
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_manifest::env;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use super::between;
use super::pieces::{Piece, Slice, Source};
use crate::memtable::{Rows, Snapshot};
use crate::merge::{BATCH_ROWS, BatchStream, Dedup, Layout, Options, Output, RowOrder, Run, Seen, Selection, merge_selected};
use crate::request::Order;
use crate::sst::{self, Access, Conditions, Memory, ReadOptions};

/// What the streams of one scan share.
pub(super) struct Reader {
    pub(super) access: Access,
    pub(super) schema: Arc<Schema>,
    pub(super) layout: Arc<Layout>,
    pub(super) filter: Arc<Expr>,
    /// The parts of the filter that name tags alone; every row that comes out satisfies them.
    pub(super) of_tags: Vec<Expr>,
    /// Outside of it no row comes out, inclusive.
    pub(super) time: (i64, i64),
    pub(super) dedup: Dedup,
    pub(super) order: Order,
    pub(super) last_rows: bool,
    /// The first rows by time are looked for.
    pub(super) by_time: bool,
    /// Rows to decode at a time, at most.
    pub(super) batch_rows_max: usize,
    pub(super) memory: Arc<Memory>,
    pub(super) rows_tested: Arc<AtomicU64>,
}

impl Reader {
    /// The pieces one after the other; each is opened when the one before it is done.
    pub(super) fn read(self: &Arc<Self>, pieces: Vec<Arc<Piece>>, limit: Option<usize>) -> BatchStream {
        let reader = Arc::clone(self);
        if matches!(self.order, Order::Time | Order::NewestFirst) && !self.last_rows {
            return reader.read_by_time(pieces, limit);
        }
        let seen = self.last_rows.then(|| Seen::new(&self.memory));
        let opened = stream::iter(pieces).then(move |piece| {
            let (reader, seen) = (Arc::clone(&reader), seen.clone());
            async move { reader.read_piece(&piece, seen).await }
        });
        opened.try_flatten().boxed()
    }

    pub(super) async fn read_piece(&self, piece: &Piece, seen: Option<Seen>) -> Result<BatchStream, sst::Error> {
        let newest = match &seen {
            Some(seen) => self.last_times(piece, seen).await?,
            None => None,
        };
        let mut runs = Vec::with_capacity(piece.sources.len());
        for source in &piece.sources {
            runs.push(match source {
                Source::File { file, residual } => {
                    let mut scan = self.open_file(piece, file, residual.as_ref(), seen.as_ref()).await?;
                    scan.read.newest.clone_from(&newest);
                    scan.into_run()
                }
                Source::Memtable(snapshot) => self.open_memtable(piece, Arc::clone(snapshot)).await?,
            });
        }
        let order = if self.order == Order::Key || seen.is_some() { RowOrder::Key } else { RowOrder::Any };
        let options = Options { dedup: self.dedup, output: Output::User };
        merge_selected(&self.layout, runs, options, Selection { order, last_rows: seen })
    }

    /// Of a piece of several files, the time of the last row that each series has in any of them, so that whole rows are
    /// only read of the file that has it; `None` where that saves nothing.
    async fn last_times(&self, piece: &Piece, seen: &Seen) -> Result<Option<Seen>, sst::Error> {
        let files = piece.sources.iter().filter(|source| source.file().is_some()).count();
        if files < 2 || piece.has_deletes() || self.layout.wanted().len() < COLUMNS_MIN {
            return Ok(None);
        }
        let layout = Arc::new(Layout::merging(Arc::clone(&self.schema), Some(&[]))?);
        let reader = Self { rows_tested: Arc::default(), ..self.under(layout) };
        let mut runs = Vec::with_capacity(files);
        for source in &piece.sources {
            if let Source::File { file, residual } = source {
                runs.push(reader.open_file(piece, file, residual.as_ref(), Some(seen)).await?.into_run());
            }
        }
        let found = Seen::new(&self.memory);
        let options = Options { dedup: Dedup::LastRow, output: Output::User };
        let select = Selection { order: RowOrder::Key, last_rows: Some(found.clone()) };
        let mut rows = merge_selected(&reader.layout, runs, options, select)?;
        while rows.try_next().await?.is_some() {}
        Ok(Some(found))
    }

    /// The parts of the filter that name fields, and no tags.
    fn of_fields(&self) -> Option<Arc<Expr>> {
        let parts = match &*self.filter {
            Expr::And(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        let tags = self.schema.primary_key();
        let is_field = |id: &ColumnId| self.schema.time_index().id != *id && self.schema.column(*id).is_some();
        let of_fields = |part: &&Expr| {
            let columns = part.columns();
            columns.iter().any(is_field) && !columns.iter().any(|id| tags.contains(id))
        };
        let parts: Vec<Expr> = parts.iter().filter(of_fields).cloned().collect();
        (!parts.is_empty()).then(|| Arc::new(Expr::And(parts)))
    }

    /// Another that reads rows of this layout in any order.
    pub(super) fn under(&self, layout: Arc<Layout>) -> Self {
        Self {
            access: self.access.clone(),
            schema: Arc::clone(&self.schema),
            layout,
            filter: Arc::clone(&self.filter),
            of_tags: self.of_tags.clone(),
            time: self.time,
            dedup: self.dedup,
            order: Order::Any,
            last_rows: false,
            by_time: self.by_time,
            batch_rows_max: BATCH_ROWS,
            memory: Arc::clone(&self.memory),
            rows_tested: Arc::clone(&self.rows_tested),
        }
    }

    /// The same without the rows outside of these times, inclusive, which lie within its own.
    pub(super) fn within(self, time: (i64, i64)) -> Self {
        if time == self.time {
            return self;
        }
        let bounds = between(&self.schema, time).into_iter().fold(Expr::clone(&self.filter), Expr::and);
        Self { time, filter: Arc::new(bounds), ..self }
    }

    pub(super) async fn open_file(
        &self,
        piece: &Piece,
        file: &tessera_manifest::file::FileRef,
        residual: Option<&Arc<Expr>>,
        seen: Option<&Seen>,
    ) -> Result<sst::Scan, sst::Error> {
        // Where no rows are merged, every condition of the filter may leave rows out.
        let unmerged = self.dedup == Dedup::Keep && !piece.has_deletes();
        let alone = piece.sources.len() == 1 && !piece.has_deletes();
        let conditions = if (alone || unmerged) && seen.is_none() { Conditions::All } else { Conditions::OfKeys };
        let mut filter = Arc::clone(&self.filter);
        let of_tags = |rule: &&Arc<Expr>| rule.columns().iter().all(|column| self.schema.primary_key().contains(column));
        let rule = residual.filter(of_tags).cloned();
        let of_rows = residual.filter(|_| rule.is_none()).map(|residual| Expr::clone(residual));
        let mut exact: Vec<Expr> = of_rows.into_iter().chain(self.of_tags.clone()).collect();
        // Row groups and pages of rows that are not visible need not be read.
        if let Some(residual) = residual {
            filter = Arc::new(Expr::clone(&filter).and(Expr::clone(residual)));
        }
        if let Slice::Keys(slice) = &piece.slice {
            filter = Arc::new(Expr::clone(&filter).and(slice.clone()));
            exact.push(slice.clone());
        }
        let options = ReadOptions { layout: Arc::clone(&self.layout), filter };
        let mut scan = self.access.scan_by(file, &options, conditions).await?;
        if let Slice::Share { number, of } = piece.slice {
            scan.read.groups = share(std::mem::take(&mut scan.read.groups), number, of);
        }
        scan.read.exact = (!exact.is_empty()).then(|| Arc::new(Expr::And(exact)));
        scan.read.rule = rule;
        let (from, to) = file.meta.time_range;
        scan.read.time = (from < self.time.0 || self.time.1 < to).then_some(self.time);
        // Of a run without deletes only the last row of a series can be the last of all, if none is cut off.
        scan.read.last_rows = seen.is_some() && !piece.has_deletes() && file.meta.time_range.1 <= self.time.1;
        scan.read.seen = seen.cloned();
        scan.read.memory = Some(Arc::clone(&self.memory));
        scan.read.rows_tested = residual.map(|_| Arc::clone(&self.rows_tested));
        scan.read.batch_rows_max = self.batch_rows_max;
        // What is the first by time must not depend on whether it paid to test fields.
        let tests_fields = (conditions == Conditions::All || piece.is_mostly_apart(file)) && seen.is_none() && !self.by_time;
        scan.read.fields = if tests_fields { self.of_fields() } else { None };
        scan.read.contested = if conditions == Conditions::All { Vec::new() } else { piece.contested(file) };
        Ok(scan)
    }

    async fn open_memtable(&self, piece: &Piece, snapshot: Arc<Snapshot>) -> Result<Run, sst::Error> {
        let (layout, time) = (Arc::clone(&self.layout), self.time);
        let rows = if self.dedup == Dedup::LastRow { Rows::Newest } else { Rows::All };
        let memory = Arc::clone(&self.memory);
        let sort = move || {
            // What is sorted are places of rows, with time and sequence. They are counted until the work ends, even if nobody
            // waits for it any more.
            let reserved = memory.reserve(snapshot.rows() * 40)?;
            Ok::<_, sst::Error>((snapshot.sorted_rows(&layout, Some(time), rows)?, reserved))
        };
        let stopped = |_| sst::Error::BatchShape { detail: "sorting a memtable was stopped".to_owned() };
        let (sorted, reserved) = env::run_blocking(sort).await.map_err(stopped)??;
        let traits = sorted.traits();
        let slice = match &piece.slice {
            Slice::Keys(slice) => Some(slice.clone()),
            _ => None,
        };
        let exact: Vec<Expr> = slice.into_iter().chain(self.of_tags.clone()).collect();
        let exact = (!exact.is_empty()).then_some(Expr::And(exact));
        let schema = Arc::clone(&self.schema);
        let stream = sorted.into_stream().map(move |batch| {
            let _counted = &reserved;
            let batch = batch?;
            let Some(exact) = &exact else { return Ok(batch) };
            let mask = exact.filter(&batch, &schema).map_err(|error| sst::Error::BatchShape { detail: error.to_string() })?;
            filter_record_batch(&batch, &mask).map_err(sst::Error::arrow("choose rows"))
        });
        Ok(Run::new(stream.boxed(), traits))
    }
}

/// Columns from which on it pays to look for the last rows by their times first.
const COLUMNS_MIN: usize = 3;

/// The `number`-th of so many parts of about as many rows.
fn share(groups: Vec<sst::Group>, number: usize, of: usize) -> Vec<sst::Group> {
    let total: usize = groups.iter().map(sst::Group::selected).sum();
    let (from, end) = (total * number / of, total * (number + 1) / of);
    let mut at = 0;
    groups
        .into_iter()
        .filter(|group| {
            let middle = at + group.selected() / 2;
            at += group.selected();
            (from..end).contains(&middle)
        })
        .collect()
}
