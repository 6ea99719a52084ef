//! Opening the pieces of a scan.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::compute::filter_record_batch;
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_manifest::env;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use super::pieces::{Piece, Slice, Source};
use crate::memtable::{Rows, Snapshot};
use crate::merge::{BatchStream, Dedup, Layout, Options, Output, RowOrder, Run, Seen, Selection, merge_selected};
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
        let seen = self.last_rows.then(Seen::default);
        let opened = stream::iter(pieces).then(move |piece| {
            let (reader, seen) = (Arc::clone(&reader), seen.clone());
            async move { reader.read_piece(&piece, seen).await }
        });
        opened.try_flatten().boxed()
    }

    pub(super) async fn read_piece(&self, piece: &Piece, seen: Option<Seen>) -> Result<BatchStream, sst::Error> {
        let mut runs = Vec::with_capacity(piece.sources.len());
        for source in &piece.sources {
            runs.push(match source {
                Source::File { file, residual } => self.open_file(piece, file, residual.as_ref(), seen.as_ref()).await?,
                Source::Memtable(snapshot) => self.open_memtable(piece, Arc::clone(snapshot)).await?,
            });
        }
        let order = if self.order == Order::Key || seen.is_some() { RowOrder::Key } else { RowOrder::Any };
        let options = Options { dedup: self.dedup, output: Output::User };
        merge_selected(&self.layout, runs, options, Selection { order, last_rows: seen })
    }

    async fn open_file(
        &self,
        piece: &Piece,
        file: &tessera_manifest::file::FileRef,
        residual: Option<&Arc<Expr>>,
        seen: Option<&Seen>,
    ) -> Result<Run, sst::Error> {
        // Where no rows are merged, every condition of the filter may leave rows out.
        let unmerged = self.dedup == Dedup::Keep && !piece.has_deletes();
        let alone = piece.sources.len() == 1 && !piece.has_deletes();
        let conditions = if (alone || unmerged) && seen.is_none() { Conditions::All } else { Conditions::OfKeys };
        let mut filter = Arc::clone(&self.filter);
        let mut exact: Vec<Expr> = residual.map(|residual| Expr::clone(residual)).into_iter().chain(self.of_tags.clone()).collect();
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
        let (from, to) = file.meta.time_range;
        scan.read.time = (from < self.time.0 || self.time.1 < to).then_some(self.time);
        // Of a run without deletes only the last row of a series can be the last of all, if none is cut off.
        scan.read.last_rows = seen.is_some() && !piece.has_deletes() && file.meta.time_range.1 <= self.time.1;
        scan.read.seen = seen.cloned();
        scan.read.memory = Some(Arc::clone(&self.memory));
        scan.read.rows_tested = residual.map(|_| Arc::clone(&self.rows_tested));
        Ok(scan.into_run())
    }

    async fn open_memtable(&self, piece: &Piece, snapshot: Arc<Snapshot>) -> Result<Run, sst::Error> {
        let (layout, time) = (Arc::clone(&self.layout), self.time);
        let rows = if self.dedup == Dedup::LastRow { Rows::Newest } else { Rows::All };
        // What is sorted are places of rows, with time and sequence.
        let reserved = self.memory.reserve(snapshot.rows() * 40)?;
        let sorted = env::spawn_blocking(move || snapshot.sorted_rows(&layout, Some(time), rows)).await;
        let stopped = |_| sst::Error::BatchShape { detail: "sorting a memtable was stopped".to_owned() };
        let sorted = sorted.map_err(stopped)??;
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
