//! Carrying out a pick: read, merge, drop what hides nothing, cut, write.
//!
//! Memory: a row group and a batch per input, a row group per output that is open.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use futures::StreamExt;
use tessera_manifest::file::{FileRef, Scope};
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::value::Value;

use super::split::{Plan, Slot, Split, write_split};
use crate::merge::{self, BatchStream, Dedup, Layout, Options, Output as Shape, layout, value};
use crate::sst::{Access, Error, NewFile, ReadOptions};

/// Files that one pass over the inputs writes.
const OUTPUTS_PER_PASS: usize = 32;

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) file: Arc<FileRef>,
    /// What its rows are tested with; `None`: all belong to the region.
    pub(crate) residual: Option<Arc<Expr>>,
}

/// A compaction to carry out.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) layout: Arc<Layout>,
    pub(crate) dedup: Dedup,
    pub(crate) inputs: Vec<Input>,
    pub(crate) split: Split,
    /// See [`Pick::older`](super::Pick::older).
    pub(crate) older: Arc<[((i64, i64), u64)]>,
}

/// Files to be committed in the place of a job's inputs.
pub(crate) type Output = Vec<Arc<FileRef>>;

/// Writes what is to replace the inputs; `name` gives each file its name. Nothing is committed.
pub(crate) async fn run(access: &Access, job: &Job, mut name: impl FnMut() -> NewFile + Send) -> Result<Output, Error> {
    let mut files = Output::new();
    let mut from = None;
    loop {
        let rows = job.rows(access, from).await?;
        let plan = Plan { split: &job.split, from, files_max: OUTPUTS_PER_PASS };
        let pass = write_split(access, &job.layout, plan, rows, &mut name).await?;
        files.extend(pass.files.into_iter().map(|(key, meta)| Arc::new(FileRef { key, scope: Scope::all(), meta })));
        if pass.next.is_none() {
            return Ok(files);
        }
        from = pass.next;
    }
}

impl Job {
    /// The merged rows that stay, from the start of a slot on; some earlier ones may be among them.
    async fn rows(&self, access: &Access, from: Option<Slot>) -> Result<BatchStream, Error> {
        let filter = Arc::new(from.map_or_else(Expr::always, |slot| self.not_before(self.split.start(slot))));
        let (mut runs, mut deletes) = (Vec::with_capacity(self.inputs.len()), false);
        for Input { file, residual } in &self.inputs {
            let options = ReadOptions { layout: Arc::clone(&self.layout), filter: Arc::clone(&filter) };
            let scan = access.scan(file, &options).await?;
            deletes |= scan.traits.deletes;
            runs.push(scan.only(residual.clone()).into_run());
        }
        // Parts that are cut out of batches would each keep the tags of all of their batch.
        let output = if deletes || !self.is_one_slot() { Shape::Storage } else { Shape::Coded };
        let options = Options { dedup: self.dedup, output };
        let merged = merge::merge(Arc::clone(&self.layout), runs, options)?;
        Ok(if deletes { self.without_idle_deletes(merged) } else { merged })
    }

    /// Whether all rows go to one file.
    fn is_one_slot(&self) -> bool {
        let times = self.inputs.iter().map(|input| input.file.meta.time_range);
        times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).is_some_and(|range| self.split.only_slot(range).is_some())
    }

    fn not_before(&self, time: i64) -> Expr {
        Expr::Compare { column: self.layout.schema().time_index().id, op: CompareOp::GtEq, value: Value::Timestamp(time) }
    }

    /// Leaves out the deletes that nothing is left to hide from.
    fn without_idle_deletes(&self, rows: BatchStream) -> BatchStream {
        let (layout, older) = (Arc::clone(&self.layout), Arc::clone(&self.older));
        rows.map(move |batch| drop_idle_deletes(&layout, &older, batch?)).boxed()
    }
}

/// Drops each delete whose key no file of `older` can hold with an older sequence.
pub(super) fn drop_idle_deletes(layout: &Layout, older: &[((i64, i64), u64)], batch: RecordBatch) -> Result<RecordBatch, Error> {
    let shape = || Error::BatchShape { detail: "rows to be compacted have no key columns".to_owned() };
    let keys = layout.keys().ok_or_else(shape)?;
    let ops = merge::op_types(&batch, keys.op_type)?;
    if !ops.contains(&layout::DELETE) {
        return Ok(batch);
    }
    let times = value::times(batch.column(keys.time)).ok_or_else(shape)?;
    let sequences = batch.column(keys.sequence).as_primitive_opt::<UInt64Type>().ok_or_else(shape)?.values();
    let hides = |row: usize| {
        let (time, sequence) = (times[row], sequences[row]);
        older.iter().any(|((from, to), least)| *from <= time && time <= *to && *least < sequence)
    };
    let stays: BooleanArray = (0..batch.num_rows()).map(|row| Some(ops[row] != layout::DELETE || hides(row))).collect();
    filter_record_batch(&batch, &stays).map_err(Error::arrow("drop deletes"))
}
