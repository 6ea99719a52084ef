//! Rows of a block that are shown with the values of newer rows of other blocks.
//!
//! Where a few rows of a large file were written again, each of them would cut a block in two, and all that stays would have to be
//! moved together. To copy the values of the few costs less.
//!
//! Invariant: both rows are of one key, so neither tags nor the time are copied.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::ArrowNativeType;
use arrow::error::ArrowError;

use super::block::Block;
use super::gather::{change_values, gather_column};
use crate::sst::{Error, Reserved};

/// Blocks that one keeps in memory until it goes out. Where more would be needed, rows are left out as they are elsewhere.
const BLOCKS_MAX: usize = 4;

/// Which rows of a block have the values of which others.
#[derive(Debug, Default)]
pub(super) struct Overwrites {
    /// By row ascending.
    rows: Vec<Overwritten>,
    blocks: Vec<(RecordBatch, Option<Arc<Reserved>>)>,
}

/// Every so-many-th row from one on, and the rows of a block that have their values.
#[derive(Debug, Clone, Copy)]
struct Overwritten {
    row: u32,
    step: u32,
    block: u32,
    from: u32,
    from_step: u32,
    rows: u32,
}

impl Overwrites {
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.blocks.clear();
    }

    /// The number of a block of which a row is to come, which is kept in memory from then on; `None` if there are too many.
    pub(super) fn block(&mut self, block: &Block) -> Option<u32> {
        // A column alone may be of several blocks, as one that was not in the file.
        let same = |(known, _): &(RecordBatch, _)| known.columns().iter().zip(block.payload.columns()).all(|(a, b)| Arc::ptr_eq(a, b));
        let known = self.blocks.iter().rposition(same);
        if known.is_none() && self.blocks.len() < BLOCKS_MAX {
            self.blocks.push((block.payload.clone(), block.memory.clone()));
            return Some((self.blocks.len() - 1) as u32);
        }
        known.map(|at| at as u32)
    }

    /// Rows (the first, and the step to the next), which are behind those before, have the values of as many rows of this block.
    #[inline]
    pub(super) fn push(&mut self, own: (usize, usize), block: u32, from: (usize, usize), rows: usize) {
        let (row, step, rows) = (own.0 as u32, own.1 as u32, rows as u32);
        self.rows.push(Overwritten { row, step, block, from: from.0 as u32, from_step: from.1 as u32, rows });
    }

    /// The batch with all of it; `time` is the column that stays.
    pub(super) fn apply(&self, batch: RecordBatch, time: Option<usize>) -> Result<RecordBatch, Error> {
        if self.rows.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let (schema, columns, _) = batch.into_parts();
        let columns = columns.into_iter().enumerate().map(|(at, column)| {
            if Some(at) == time {
                return Ok(column);
            }
            self.column(column, &self.blocks.iter().map(|(block, _)| block.column(at).to_data()).collect::<Vec<_>>())
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>().map_err(Error::arrow("overwrite rows"))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(Error::arrow("overwrite rows"))
    }

    fn column(&self, column: ArrayRef, blocks: &[ArrayData]) -> Result<ArrayRef, ArrowError> {
        let column = match column.data_type().primitive_width() {
            Some(4) if self.has_values(&column, blocks) => self.values::<u32>(column, blocks)?,
            Some(8) if self.has_values(&column, blocks) => self.values::<u64>(column, blocks)?,
            _ => Err(column),
        };
        let column = match column {
            Ok(overwritten) => return Ok(overwritten),
            Err(column) => column.to_data(),
        };
        // One piece for each row that is overwritten, and one for those between.
        let mut pieces: Vec<(u32, u32, u32)> = Vec::new();
        let mut next = 0;
        for &Overwritten { row, step, block, from, from_step, rows } in &self.rows {
            for (row, from) in (0..rows).map(|number| (row + number * step, from + number * from_step)) {
                pieces.extend((next < row).then_some((0, next, row - next)));
                pieces.push((block + 1, from, 1));
                next = row + 1;
            }
        }
        let rows = column.len();
        pieces.extend(((next as usize) < rows).then_some((0, next, rows as u32 - next)));
        let all: Vec<ArrayData> = std::iter::once(column).chain(blocks.iter().cloned()).collect();
        gather_column(&all, &pieces, rows)
    }

    fn has_values(&self, column: &ArrayRef, blocks: &[ArrayData]) -> bool {
        column.null_count() == 0 && blocks.iter().all(|block| block.null_count() == 0)
    }

    /// A column of fixed width without NULLs; the column itself if somebody else has its memory too.
    fn values<T: ArrowNativeType>(&self, column: ArrayRef, blocks: &[ArrayData]) -> Result<Result<ArrayRef, ArrayRef>, ArrowError> {
        let blocks: Vec<&[T]> = blocks.iter().map(|block| block.buffer::<T>(0)).collect();
        change_values(column, |values: &mut Vec<T>| {
            for &Overwritten { row, step, block, from, from_step, rows } in &self.rows {
                let (own, others) = (&mut values[row as usize..], &blocks[block as usize][from as usize..]);
                let own = own.iter_mut().step_by(step as usize).take(rows as usize);
                if from_step == 1 {
                    own.zip(others).for_each(|(own, other)| *own = *other);
                } else {
                    own.zip(others.iter().step_by(from_step as usize)).for_each(|(own, other)| *own = *other);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::interleave;
    use arrow::datatypes::{Field, Schema as ArrowSchema};
    use proptest::prelude::*;
    use tessera_manifest::value::{DataType, Value};

    use super::*;
    use crate::memtable::Memtable;
    use crate::merge::fixtures::{array, batch, block_on, collect, every_type_schema, memory, new_file, reference, rows_of, sequence};
    use crate::merge::{Dedup, Layout, Options, Output, RowOrder, Selection, merge_selected};
    use crate::request::OpType;
    use crate::sst::{ReadOptions, flush};
    use tessera_manifest::rule::Expr;

    /// A value of a type, or NULL where `nulls` says so.
    fn value(data_type: DataType, seed: i64, nulls: bool) -> Value {
        match data_type {
            _ if nulls && seed % 3 == 0 => Value::Null,
            DataType::Boolean => Value::Boolean(seed % 2 == 0),
            DataType::Float32 | DataType::Float64 => Value::Float(seed as f64 / 2.0),
            DataType::String => Value::String(format!("s{seed}").as_str().into()),
            DataType::Binary => Value::Binary(seed.to_le_bytes()[..(seed % 5) as usize].into()),
            DataType::Timestamp(_) => Value::Timestamp(seed),
            DataType::Decimal { .. } => Value::Decimal(seed.into()),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Value::UInt(seed as u64),
            DataType::Date => Value::Date(seed as i32),
            _ => Value::Int(seed),
        }
    }

    fn block(columns: Vec<ArrayRef>) -> Block {
        let fields: Vec<_> = columns.iter().map(|column| Field::new("c", column.data_type().clone(), true)).collect();
        let rows = columns[0].len();
        let payload = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).unwrap();
        let stretches = crate::merge::series::Stretches::untagged(rows);
        Block { payload, times: Vec::new().into(), sequences: None, op_types: None, stretches, memory: None }
    }

    #[test]
    fn rows_of_every_type_take_the_values_of_others() {
        for nulls in [false, true] {
            for shared in [false, true] {
                let types: Vec<DataType> = every_type_schema().columns()[2..].iter().map(|column| column.data_type).collect();
                let columns =
                    |from: i64| types.iter().map(move |of| array(*of, (from..from + 20).map(|seed| value(*of, seed, nulls)))).collect();
                let (own, first, second) = (block(columns(0)), block(columns(30)), block(columns(60)));
                let second = Block { payload: second.payload.slice(2, 18), ..second };
                let mut overwrites = Overwrites::default();
                let mut expected: Vec<(usize, usize)> = (0..20).map(|row| (0, row)).collect();
                let one = |row: usize, source, from: usize| ((row, 1), source, (from, 1), 1);
                let several = ((7, 2), &second, (1, 3), 2);
                let together = ((12, 1), &second, (2, 1), 3);
                let steps = [one(0, &first, 3), one(5, &first, 4), one(6, &second, 0), several, one(11, &first, 19), together];
                for (own, source, from, rows) in steps.into_iter().chain([((16, 3), &second, (9, 1), 2)]) {
                    let number = overwrites.block(source).unwrap();
                    overwrites.push(own, number, from, rows);
                    for number in 0..rows {
                        let at = if std::ptr::eq(source, &first) { 1 } else { 2 };
                        expected[own.0 + number * own.1] = (at, from.0 + number * from.1);
                    }
                }
                assert_eq!(overwrites.blocks.len(), 2);
                let payloads = [&own, &first, &second].map(|block| block.payload.clone());
                let expected: Vec<ArrayRef> = (0..types.len())
                    .map(|at| interleave(&payloads.each_ref().map(|payload| payload.column(at).as_ref()), &expected).unwrap())
                    .collect();
                let kept = shared.then(|| own.payload.clone());
                drop(payloads);
                let time = types.iter().position(|of| matches!(of, DataType::Timestamp(_)));
                let before = own.payload.column(time.unwrap()).clone();
                let after = overwrites.apply(own.payload, time).unwrap();
                for (at, expected) in expected.iter().enumerate() {
                    let expected = if Some(at) == time { &before } else { expected };
                    assert_eq!(after.column(at), expected, "{} nulls {nulls} shared {shared}", types[at]);
                }
                if let Some(kept) = kept {
                    assert_eq!(kept.columns(), block(columns(0)).payload.columns(), "shared memory is not changed");
                }
            }
        }
    }

    #[test]
    fn few_blocks_are_kept() {
        let blocks: Vec<Block> = (0..BLOCKS_MAX as i64 + 2).map(|seed| block(vec![array(DataType::Int64, [Value::Int(seed)])])).collect();
        let mut overwrites = Overwrites::default();
        let numbers: Vec<Option<u32>> = blocks.iter().chain(&blocks).map(|block| overwrites.block(block)).collect();
        let once: Vec<Option<u32>> = (0..BLOCKS_MAX as u32).map(Some).chain([None, None]).collect();
        assert_eq!(numbers, [once.clone(), once].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// A file, then one that has each so-many-th of its points again and some of its own, and then a third.
        #[test]
        fn rows_in_any_order_are_those_in_order(
            points in 20_i64..300,
            hosts in 1_i64..4,
            every in prop::array::uniform2(1_i64..14),
            first in prop::array::uniform2(0_i64..20),
            reversed: bool,
            together: bool,
            flushed in prop::array::uniform3(any::<bool>()),
            nulls: bool,
        ) {
            let schema = every_type_schema();
            let row = |host: i64, point: i64, seed: i64| {
                let fields = schema.columns()[2..].iter().map(|column| value(column.data_type, seed * 1_000 % 120 + point, nulls));
                let key = [Value::String(format!("h{host}").as_str().into()), Value::Timestamp(point * 10)];
                key.into_iter().chain(fields).collect::<Vec<Value>>()
            };
            let all = (0..hosts).flat_map(|host| (0..points).map(move |point| (host, point)));
            let mut parts: Vec<Vec<Vec<Value>>> = vec![all.clone().map(|(host, point)| row(host, point, 1)).collect()];
            for (number, (every, first)) in every.into_iter().zip(first).enumerate() {
                let again = all.clone().filter(|(_, point)| *point >= first && (point - first) % every == 0);
                let mut rows: Vec<_> = again.map(|(host, point)| row(host, point, 2 + number as i64)).collect();
                rows.push(row(0, points + 5 + number as i64, 9));
                parts.push(rows);
            }
            if reversed {
                parts.reverse();
            }
            block_on(async {
                let access = memory(64).1;
                let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
                let mut sources = Vec::new();
                for (at, (rows, flushed)) in parts.iter().zip(flushed).enumerate() {
                    let memtable = Memtable::new(Arc::clone(&schema));
                    if together {
                        // Sequences are compared row by row, and now the one file wins, now the other.
                        for row in rows {
                            let Value::Timestamp(time) = row[1] else { unreachable!() };
                            let of_row = sequence(time as u64 * 3 + (time as u64 / 10 + at as u64) % 3);
                            memtable.insert(batch(&schema, OpType::Put, std::slice::from_ref(row)), OpType::Put, of_row).unwrap();
                        }
                    } else {
                        memtable.insert(batch(&schema, OpType::Put, rows), OpType::Put, sequence(at as u64 * 10_000)).unwrap();
                    }
                    let file = new_file(&schema);
                    let meta = if flushed { flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap() } else { None };
                    sources.push((memtable, meta.map(|meta| reference(&file, meta))));
                }
                let mut found = Vec::new();
                for order in [RowOrder::Key, RowOrder::Any] {
                    let mut runs = Vec::new();
                    for (memtable, file) in &sources {
                        let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(Expr::always()) };
                        runs.push(match file {
                            Some(file) => access.scan(file, &options).await.unwrap().into_run(),
                            None => memtable.snapshot().sorted(&layout, None).unwrap().into_run(),
                        });
                    }
                    let options = Options { dedup: Dedup::LastRow, output: Output::User };
                    let merged = merge_selected(&layout, runs, options, Selection { order, last_rows: None }).unwrap();
                    let mut rows = rows_of(&collect(merged).await.unwrap());
                    rows.sort_by(|a, b| a[..2].cmp(&b[..2]));
                    found.push(rows);
                }
                prop_assert_eq!(&found[0], &found[1]);
                prop_assert!(found[0].len() as i64 > points * hosts);
                Ok(())
            })?;
        }
    }
}
