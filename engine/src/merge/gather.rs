//! Copying pieces of several batches into one.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::Buffer;
use arrow::compute::interleave;
use arrow::datatypes::{ArrowNativeType, SchemaRef};
use arrow::error::ArrowError;

use super::block::{Assembly, Block};
use super::series::{SeriesTable, repeat_tags};
use crate::sst::{Error, Reserved};

/// In a piece in the place of a batch: its rows are merged of several.
const MERGED: u32 = u32::MAX;

/// The rows of `pieces` (batch, first row, rows), one after the other.
pub(crate) fn gather(schema: &SchemaRef, batches: &[&RecordBatch], pieces: &[(u32, u32, u32)]) -> Result<RecordBatch, Error> {
    let rows: usize = pieces.iter().map(|(_, _, rows)| *rows as usize).sum();
    let columns = (0..schema.fields().len()).map(|column| {
        let data: Vec<ArrayData> = batches.iter().map(|batch| batch.column(column).to_data()).collect();
        gather_column(&data, pieces, rows)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(Error::arrow("gather rows"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::arrow("gather rows"))
}

pub(super) fn gather_column(data: &[ArrayData], pieces: &[(u32, u32, u32)], rows: usize) -> Result<ArrayRef, ArrowError> {
    let width = data.first().and_then(|data| data.data_type().primitive_width());
    if let Some(width) = width
        && data.iter().all(|data| data.null_count() == 0)
    {
        let copied = match width {
            4 => copy_pieces(&data.iter().map(|data| data.buffer::<u32>(0)).collect::<Vec<_>>(), pieces, rows),
            8 => copy_pieces(&data.iter().map(|data| data.buffer::<u64>(0)).collect::<Vec<_>>(), pieces, rows),
            _ => {
                let values: Vec<&[u8]> = data.iter().map(|data| &data.buffers()[0].as_slice()[data.offset() * width..]).collect();
                let pieces: Vec<_> =
                    pieces.iter().map(|(batch, from, rows)| (*batch, *from * width as u32, *rows * width as u32)).collect();
                copy_pieces(&values, &pieces, rows * width)
            }
        };
        let built = ArrayData::builder(data[0].data_type().clone()).len(rows).add_buffer(copied).build()?;
        return Ok(make_array(built));
    }
    let nulls = data.iter().any(|data| data.null_count() > 0);
    let mut copied = MutableArrayData::new(data.iter().collect(), nulls, rows);
    for &(batch, from, rows) in pieces {
        copied.try_extend(batch as usize, from as usize, (from + rows) as usize)?;
    }
    Ok(make_array(copied.freeze()))
}

/// Values that are copied at a time: a call of memmove takes longer than to copy these.
const FEW_VALUES: usize = 16;

/// The values of `pieces` (source, first, number), which are so many together, one after the other.
fn copy_pieces<T: ArrowNativeType>(sources: &[&[T]], pieces: &[(u32, u32, u32)], rows: usize) -> Buffer {
    let (mut copied, mut at) = (vec![T::default(); rows + FEW_VALUES], 0);
    for &(source, from, rows) in pieces {
        let (source, rows) = (&sources[source as usize][from as usize..], rows as usize);
        match (source.first_chunk::<FEW_VALUES>(), copied[at..].first_chunk_mut::<FEW_VALUES>()) {
            (Some(few), Some(to)) if rows <= FEW_VALUES => *to = *few,
            _ => copied[at..at + rows].copy_from_slice(&source[..rows]),
        }
        at += rows;
    }
    copied.truncate(rows);
    Buffer::from_vec(copied)
}

/// The rows of `pieces` (first row, rows), which ascend; moved together in place where nobody else has a column.
pub(super) fn compact(batch: RecordBatch, pieces: &[(u32, u32)]) -> Result<RecordBatch, Error> {
    let rows: usize = pieces.iter().map(|(_, rows)| *rows as usize).sum();
    let (schema, columns, all) = batch.into_parts();
    // What is kept in place keeps the memory of all.
    let in_place = rows * 2 >= all;
    let columns = columns.into_iter().map(|column| {
        let column = match column.data_type().primitive_width() {
            Some(8) if in_place && column.null_count() == 0 => match compact_column::<u64>(column, pieces)? {
                Ok(compacted) => return Ok(compacted),
                Err(shared) => shared,
            },
            _ => column,
        };
        let pieces: Vec<(u32, u32, u32)> = pieces.iter().map(|(from, rows)| (0, *from, *rows)).collect();
        gather_column(&[column.to_data()], &pieces, rows)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(Error::arrow("move rows together"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(Error::arrow("move rows together"))
}

/// The same of a column of fixed width without NULLs; the column itself if somebody else has its memory too.
fn compact_column<T: ArrowNativeType>(column: ArrayRef, pieces: &[(u32, u32)]) -> Result<Result<ArrayRef, ArrayRef>, ArrowError> {
    change_values(column, |values: &mut Vec<T>| {
        let mut at = 0;
        for &(from, rows) in pieces {
            let (from, rows) = (from as usize, rows as usize);
            if rows > FEW_VALUES {
                values.copy_within(from..from + rows, at);
            } else {
                // A part of what both cover, so that the bounds are checked once.
                let part = &mut values[at..from + rows];
                (0..rows).for_each(|row| part[row] = part[row + from - at]);
            }
            at += rows;
        }
        values.truncate(at);
    })
}

/// A column of fixed width without NULLs with its values changed where they lie; the column itself if somebody else has its memory
/// too.
pub(super) fn change_values<T: ArrowNativeType>(
    column: ArrayRef,
    change: impl FnOnce(&mut Vec<T>),
) -> Result<Result<ArrayRef, ArrayRef>, ArrowError> {
    let data = column.to_data();
    drop(column);
    let (data_type, rows, offset) = (data.data_type().clone(), data.len(), data.offset());
    let build = |buffer, rows| ArrayData::builder(data_type).len(rows).add_buffer(buffer).build().map(make_array);
    let Some(buffer) = data.buffers().first().cloned().filter(|_| offset == 0) else { return Ok(Err(make_array(data))) };
    drop(data);
    match buffer.into_vec::<T>() {
        Ok(mut values) => {
            values.truncate(rows);
            change(&mut values);
            let rows = values.len();
            build(Buffer::from_vec(values), rows).map(Ok)
        }
        Err(shared) => build(shared, rows).map(Err),
    }
}

/// A row of the chunk's blocks.
pub(super) type Place = (u32, u32);

/// Pieces of input blocks that make the next output batch, in order.
#[derive(Default)]
pub(super) struct Chunk {
    blocks: Vec<RecordBatch>,
    /// Of the blocks.
    bytes: usize,
    /// Counts the blocks.
    memory: Vec<Option<Arc<Reserved>>>,
    /// (block, first row, rows)
    pieces: Vec<(u32, u32, u32)>,
    /// Rows to be merged of several: each column takes its first value that is not NULL.
    merged: Vec<Vec<Place>>,
    /// (table, series, rows); empty if no tags are wanted.
    series: Vec<(Arc<SeriesTable>, u32, u32)>,
    rows: usize,
}

impl Chunk {
    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks that it keeps.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of the blocks that it keeps.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps the rows of a block until the chunk is taken; the number is its place in [`Place`]s.
    pub(super) fn hold(&mut self, block: &Block) -> u32 {
        self.bytes += block.bytes();
        self.blocks.push(block.payload.clone());
        self.memory.push(block.memory.clone());
        (self.blocks.len() - 1) as u32
    }

    /// Rows that are pushed from here on are of this series.
    pub(super) fn begin_series(&mut self, table: &Arc<SeriesTable>, series: u32) {
        match self.series.last_mut() {
            Some((last, number, 0)) => (*last, *number) = (Arc::clone(table), series),
            _ => self.series.push((Arc::clone(table), series, 0)),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, block: u32, from: usize, rows: usize) {
        let (from, rows) = (from as u32, rows as u32);
        self.count(rows);
        match self.pieces.last_mut() {
            Some((last, start, count)) if *last == block && *start + *count == from => *count += rows,
            _ => self.pieces.push((block, from, rows)),
        }
    }

    /// The place of a row of which each column is the first value that is not NULL of these rows.
    pub(super) fn merged(&mut self, places: Vec<Place>) -> Place {
        self.merged.push(places);
        (MERGED, (self.merged.len() - 1) as u32)
    }

    /// Lets go of a block of which no row is pushed any more, if none was.
    pub(super) fn release(&mut self, block: u32) {
        let used =
            self.pieces.iter().any(|(other, _, _)| *other == block) || self.merged.iter().flatten().any(|(other, _)| *other == block);
        if !used {
            let schema = self.blocks[block as usize].schema();
            self.blocks[block as usize] = RecordBatch::new_empty(schema);
            self.memory[block as usize] = None;
        }
    }

    fn count(&mut self, rows: u32) {
        self.rows += rows as usize;
        if let Some((_, _, count)) = self.series.last_mut() {
            *count += rows;
        }
    }

    /// The rows as a batch of the output; the chunk is empty after it.
    pub(super) fn take(&mut self, assembly: &Assembly) -> Result<Option<RecordBatch>, Error> {
        let Self { blocks, memory: _memory, mut pieces, merged, mut series, rows, bytes: _ } = std::mem::take(self);
        if rows == 0 {
            return Ok(None);
        }
        let merged = merge_rows(assembly, &blocks, &merged)?;
        for (block, _, _) in &mut pieces {
            if *block == MERGED {
                *block = blocks.len() as u32;
            }
        }
        let payload = match pieces[..] {
            [(block, from, rows)] if (block as usize) < blocks.len() => blocks[block as usize].slice(from as usize, rows as usize),
            _ => {
                let batches: Vec<&RecordBatch> = blocks.iter().chain(&merged).collect();
                gather(assembly.payload_schema(), &batches, &pieces)?
            }
        };
        series.retain(|(_, _, rows)| *rows > 0);
        assembly.batch(&payload, |tag| repeat_tags(&series, tag, assembly.tags())).map(Some)
    }
}

/// Rows of which each column is the first that is not NULL of several rows; `None` if there are none.
fn merge_rows(assembly: &Assembly, blocks: &[RecordBatch], merged: &[Vec<Place>]) -> Result<Option<RecordBatch>, Error> {
    if merged.is_empty() {
        return Ok(None);
    }
    let columns = (0..assembly.payload_schema().fields().len()).map(|column| {
        let arrays: Vec<&dyn Array> = blocks.iter().map(|block| block.column(column).as_ref()).collect();
        let valued = |place: &&Place| !arrays[place.0 as usize].is_null(place.1 as usize);
        let pick = |places: &Vec<Place>| places.iter().find(valued).or(places.first()).map_or((0, 0), |p| (p.0 as usize, p.1 as usize));
        let places: Vec<(usize, usize)> = merged.iter().map(pick).collect();
        interleave(&arrays, &places)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("merge rows"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(merged.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(assembly.payload_schema()), columns, &options);
    Ok(Some(batch.map_err(Error::arrow("merge rows"))?))
}
