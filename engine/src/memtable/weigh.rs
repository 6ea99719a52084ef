//! How much memory a batch really holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, MutableArrayData, RecordBatch, make_array};
use arrow::buffer::Buffer;

use crate::merge::layout::new_batch;
use crate::sst::Error;

/// Buffers may be this much larger than the rows in them need, per batch.
const SLACK_BYTES: usize = 1024;

/// The batch, copied if its buffers are much larger than its rows need, and the bytes that it holds.
pub(super) fn compact(batch: &RecordBatch) -> Result<(RecordBatch, usize), Error> {
    let held = held_bytes(batch);
    let needed = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    if held <= needed.saturating_mul(2).saturating_add(SLACK_BYTES) {
        return Ok((batch.clone(), held));
    }
    let columns = batch.columns().iter().map(copy).collect::<Result<_, _>>()?;
    let batch = new_batch(&batch.schema(), columns, batch.num_rows())?;
    let held = held_bytes(&batch);
    Ok((batch, held))
}

/// Bytes of all buffers, each counted whole and once, and of the arrays that hold them.
fn held_bytes(batch: &RecordBatch) -> usize {
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for column in batch.columns() {
        total += column.get_array_memory_size() - column.get_buffer_memory_size();
        total += data_bytes(&column.to_data(), &mut seen);
    }
    total
}

fn data_bytes(data: &ArrayData, seen: &mut BTreeSet<usize>) -> usize {
    let mut add = |buffer: &Buffer| if seen.insert(buffer.data_ptr().as_ptr().addr()) { buffer.capacity() } else { 0 };
    let mut total: usize = data.buffers().iter().map(&mut add).sum();
    total += data.nulls().map_or(0, |nulls| add(nulls.buffer()));
    total + data.child_data().iter().map(|child| data_bytes(child, seen)).sum::<usize>()
}

fn copy(array: &ArrayRef) -> Result<ArrayRef, Error> {
    let data = array.to_data();
    let mut copied = MutableArrayData::new(vec![&data], false, data.len());
    copied.try_extend(0, 0, data.len()).map_err(Error::arrow("copy a batch"))?;
    let mut copied = make_array(copied.freeze());
    // A buffer that grew while it was filled is larger than its content.
    if let Some(array) = Arc::get_mut(&mut copied) {
        array.shrink_to_fit();
    }
    Ok(copied)
}
