//! One sorted stream into many files, by time.
//!
//! Invariants:
//! - Each row goes to the file of its slot: its window, and how many cuts are not after it.
//! - Rows of a slot stay in their order, so that each file is sorted as the stream is.
//! - At most so many files are open at a time. When a row of one more slot comes, the last slot by time gives way:
//!   its file is thrown away and written in the next pass over the stream.

use std::collections::BTreeMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tessera_manifest::file::FileMeta;
use tessera_manifest::id::FileKey;
use tokio::sync::mpsc;

use super::window::Windows;
use crate::merge::{BATCH_ROWS, BatchStream, Layout, value};
use crate::sst::{Access, Error, NewFile};

/// Batches on their way to one file.
const CHANNEL_ITEMS: usize = 1;

/// Where rows are cut into files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The windows that are not mixed; `None`: all is one.
    pub windows: Option<Windows>,
    /// Times before which there is a cut besides, ascending.
    pub cuts: Vec<i64>,
}

/// The place of a file among the outputs, in order of time.
pub(crate) type Slot = (i64, usize);

impl Split {
    /// Everything into one file.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { windows: None, cuts: Vec::new() }
    }

    pub(super) fn slot(&self, time: i64) -> Slot {
        (self.windows.map_or(0, |windows| windows.of(time)), self.cuts.partition_point(|cut| *cut <= time))
    }

    /// The first time of a slot, or an earlier one.
    pub(super) fn start(&self, slot: Slot) -> i64 {
        let window = self.windows.map_or(i64::MIN, |windows| slot.0.saturating_mul(windows.width()));
        let cut = slot.1.checked_sub(1).and_then(|at| self.cuts.get(at)).copied().unwrap_or(i64::MIN);
        window.max(cut)
    }

    /// The slot of all rows with times in an inclusive range, if there is one.
    pub(super) fn only_slot(&self, range: (i64, i64)) -> Option<Slot> {
        let (first, last) = (self.slot(range.0), self.slot(range.1));
        (first == last).then_some(first)
    }
}

/// What one pass is to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Where rows are cut.
    pub(crate) split: &'a Split,
    /// The first slot of this pass; `None`: the first of all.
    pub(crate) from: Option<Slot>,
    /// Files that are open at the same time.
    pub(crate) files_max: usize,
}

/// What one pass wrote.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The files, in order of time.
    pub(crate) files: Vec<(FileKey, FileMeta)>,
    /// The first slot that is still to be written, if any.
    pub(crate) next: Option<Slot>,
}

/// Writes the rows of `rows` from slot `from` on, each slot into a file of its own; `name` gives each its name.
///
/// Files are complete when this returns. When it fails or is dropped, some may be: `name` knows which were begun.
pub(crate) async fn write_split(
    access: &Access,
    layout: &Layout,
    plan: Plan<'_>,
    mut rows: BatchStream,
    name: impl FnMut() -> NewFile,
) -> Result<Pass, Error> {
    let Plan { split, from, files_max } = plan;
    let router = Router { split, layout, from, below: None };
    let mut writer =
        Writer { access, files_max, router, name, open: BTreeMap::new(), writes: FuturesUnordered::new(), files: BTreeMap::new() };
    while let Some(batch) = writer.drive(rows.next()).await? {
        for (slot, part) in writer.router.route(&batch?)? {
            writer.take(slot, part).await?;
        }
    }
    writer.finish().await
}

type Written = (Slot, FileKey, Result<Option<FileMeta>, Error>);

struct Writer<'a, N> {
    access: &'a Access,
    files_max: usize,
    router: Router<'a>,
    name: N,
    open: BTreeMap<Slot, Lane>,
    writes: FuturesUnordered<BoxFuture<'a, Written>>,
    files: BTreeMap<Slot, (FileKey, FileMeta)>,
}

impl<N: FnMut() -> NewFile> Writer<'_, N> {
    /// Waits for `event`, while the writes go on.
    async fn drive<T>(&mut self, event: impl Future<Output = T>) -> Result<T, Error> {
        let mut event = std::pin::pin!(event.fuse());
        loop {
            if self.writes.is_empty() {
                return Ok(event.await);
            }
            futures::select_biased! {
                written = self.writes.select_next_some() => self.written(written)?,
                output = event => return Ok(output),
            }
        }
    }

    fn written(&mut self, (slot, key, written): Written) -> Result<(), Error> {
        if let Some(meta) = written? {
            self.files.insert(slot, (key, meta));
        }
        Ok(())
    }

    /// Hands rows of a slot to its file; opens the file if there is room.
    async fn take(&mut self, slot: Slot, rows: RecordBatch) -> Result<(), Error> {
        if self.router.is_out(slot) || !self.open(slot) {
            return Ok(());
        }
        let Some(lane) = self.open.get_mut(&slot) else { return Ok(()) };
        lane.hold(rows);
        if lane.rows >= BATCH_ROWS {
            let (to, rows) = (lane.to.clone(), lane.joined()?);
            // A file that takes no more rows has failed, and says so itself.
            let _ = self.drive(to.send(rows)).await?;
        }
        Ok(())
    }

    /// Whether there is a file for the slot.
    fn open(&mut self, slot: Slot) -> bool {
        if self.open.contains_key(&slot) {
            return true;
        }
        if self.open.len() >= self.files_max.max(1) {
            let last = self.open.last_entry().filter(|last| *last.key() > slot).map(|last| last.remove_entry().0);
            self.router.leave(last.unwrap_or(slot));
            if last.is_none() {
                return false;
            }
        }
        let (file, (to, batches)) = ((self.name)(), mpsc::channel(CHANNEL_ITEMS));
        let (key, access) = (file.key, self.access);
        let rows = stream::unfold(batches, |mut batches| async move { batches.recv().await.map(|batch| (Ok(batch), batches)) });
        self.writes.push(access.write(file, rows.boxed()).map(move |written| (slot, key, written)).boxed());
        self.open.insert(slot, Lane { to, held: Vec::new(), rows: 0 });
        true
    }

    async fn finish(mut self) -> Result<Pass, Error> {
        while let Some((_, mut lane)) = self.open.pop_first() {
            if lane.rows > 0 {
                let rows = lane.joined()?;
                let _ = self.drive(lane.to.send(rows)).await?;
            }
        }
        while let Some(written) = self.writes.next().await {
            self.written(written)?;
        }
        let next = self.router.below;
        if let Some(below) = next {
            for (key, _) in self.files.split_off(&below).into_values() {
                self.access.discard(key).await;
            }
        }
        Ok(Pass { files: self.files.into_values().collect(), next })
    }
}

/// A file that is being written.
struct Lane {
    to: mpsc::Sender<RecordBatch>,
    held: Vec<RecordBatch>,
    rows: usize,
}

impl Lane {
    fn hold(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.held.push(batch);
    }

    /// What is held, as one batch.
    fn joined(&mut self) -> Result<RecordBatch, Error> {
        self.rows = 0;
        let held = std::mem::take(&mut self.held);
        match held.as_slice() {
            [one] => Ok(one.clone()),
            many => concat_batches(&many[0].schema(), many).map_err(Error::arrow("join rows of a window")),
        }
    }
}

struct Router<'a> {
    split: &'a Split,
    layout: &'a Layout,
    /// Earlier slots were written by an earlier pass.
    from: Option<Slot>,
    /// This slot and later ones are left to the next pass.
    below: Option<Slot>,
}

impl Router<'_> {
    /// Whether another pass writes the slot.
    fn is_out(&self, slot: Slot) -> bool {
        self.from.is_some_and(|from| slot < from) || self.below.is_some_and(|below| slot >= below)
    }

    /// Leaves this slot and later ones to the next pass.
    fn leave(&mut self, slot: Slot) {
        self.below = Some(self.below.map_or(slot, |below| below.min(slot)));
    }

    /// The rows of a batch by slot.
    fn route(&self, batch: &RecordBatch) -> Result<Vec<(Slot, RecordBatch)>, Error> {
        let shape = || Error::BatchShape { detail: "rows to be cut by time have no time index".to_owned() };
        let keys = self.layout.keys().ok_or_else(shape)?;
        let times = value::times(batch.column(keys.time)).ok_or_else(shape)?;
        let Some(first) = times.first() else { return Ok(Vec::new()) };
        let range = times.iter().fold((*first, *first), |(low, high), t| (low.min(*t), high.max(*t)));
        if let Some(slot) = self.split.only_slot(range) {
            return Ok(vec![(slot, batch.clone())]);
        }
        let mut rows: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.iter().enumerate() {
            rows.entry(self.split.slot(*time)).or_default().push(row as u32);
        }
        let wanted = rows.into_iter().filter(|(slot, _)| !self.is_out(*slot));
        let part = |(slot, rows): (Slot, Vec<u32>)| {
            let taken = take_record_batch(batch, &UInt32Array::from(rows)).map_err(Error::arrow("cut rows by time"))?;
            Ok((slot, taken))
        };
        wanted.map(part).collect()
    }
}
