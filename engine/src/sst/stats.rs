//! What a manifest records of a file's rows, gathered while they are written.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use tessera_manifest::file::{ColumnStats, FileMeta};
use tessera_manifest::id::{ColumnId, Sequence};
use tessera_manifest::value::DataType;

use super::{Error, NewFile};
use crate::merge::layout::{DELETE, Layout};
use crate::merge::op_types;
use crate::merge::value::{self, Extremes};

/// Running totals over the batches of a file.
#[derive(Debug)]
pub(super) struct Totals {
    rows: u64,
    deletes: u64,
    time: (i64, i64),
    sequences: (u64, u64),
    columns: Vec<(ColumnId, DataType, usize, Extremes)>,
}

impl Totals {
    pub(super) fn new(layout: &Layout, columns: &[ColumnId]) -> Self {
        let place = |id: &ColumnId| {
            let (position, column) = layout.columns().enumerate().find(|(_, c)| c.id == *id)?;
            Some((*id, column.data_type, position, Extremes::default()))
        };
        let columns = columns.iter().filter_map(place).collect();
        Self { rows: 0, deletes: 0, time: (i64::MAX, i64::MIN), sequences: (u64::MAX, u64::MIN), columns }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn add(&mut self, layout: &Layout, batch: &RecordBatch) -> Result<(), Error> {
        let shape = |detail: &str| Error::BatchShape { detail: detail.to_owned() };
        let keys = layout.keys().ok_or_else(|| shape("no key columns"))?;
        self.rows += batch.num_rows() as u64;
        self.deletes += op_types(batch, keys.op_type)?.iter().filter(|op| **op == DELETE).count() as u64;
        let times = value::times(batch.column(keys.time)).ok_or_else(|| shape("time index is not a timestamp"))?;
        self.time = times.iter().fold(self.time, |(low, high), t| (low.min(*t), high.max(*t)));
        let sequences = batch.column(keys.sequence).as_primitive_opt::<UInt64Type>().ok_or_else(|| shape("__sequence is not uint64"))?;
        self.sequences = sequences.values().iter().fold(self.sequences, |(low, high), s| (low.min(*s), high.max(*s)));
        for (_, data_type, position, extremes) in &mut self.columns {
            extremes.join(value::extremes(batch.column(*position), *data_type)?);
        }
        Ok(())
    }

    pub(super) fn into_meta(self, file: &NewFile, bytes: u64, crc32: u32) -> FileMeta {
        let Self { rows, deletes, time, sequences, columns } = self;
        let stats = columns.into_iter().map(|(column, _, _, Extremes { range, has_null, has_nan })| ColumnStats {
            column,
            range,
            has_null,
            has_nan,
        });
        FileMeta {
            time_range: time,
            rows,
            deletes,
            bytes,
            sequences: (Sequence::from_u64(sequences.0), Sequence::from_u64(sequences.1)),
            level: file.level,
            generation: file.generation,
            schema_version: file.schema.version(),
            rule: file.rule.clone(),
            stats: stats.collect(),
            crc32,
        }
    }
}

/// Whether a sample of a column has so few distinct values that a dictionary pays.
pub(super) fn has_few_values(column: &dyn Array, data_type: DataType) -> bool {
    const SAMPLE_ROWS: usize = 1024;
    let step = column.len().div_ceil(SAMPLE_ROWS).max(1);
    let mut seen = std::collections::BTreeSet::new();
    let mut sampled = 0;
    for row in (0..column.len()).step_by(step) {
        sampled += 1;
        seen.insert(value::value_at(column, row, data_type).ok());
    }
    sampled > 0 && seen.len() * 4 <= sampled
}
