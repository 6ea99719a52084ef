//! Numbers as Parquet stores them: four or eight bytes, whatever they mean.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, Int8Array, Int16Array, UInt8Array, UInt16Array, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{ArrowNativeType, DataType as ArrowType};
use parquet::errors::ParquetError;

/// The bits of a number.
pub(super) trait Word: ArrowNativeType + Send {
    /// Bytes of one.
    const BYTES: usize;

    /// From `BYTES` bytes, least significant first.
    fn from_bytes(bytes: &[u8]) -> Self;

    /// The low bits.
    fn low(bits: u64) -> Self;

    /// As a column of this type, which has so many bits or fewer.
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, to: &ArrowType) -> Result<ArrayRef, ParquetError> {
        let data = ArrayData::builder(to.clone()).len(values.len()).add_buffer(Buffer::from_vec(values)).nulls(nulls);
        Ok(make_array(data.build().map_err(|error| ParquetError::ArrowError(error.to_string()))?))
    }
}

impl Word for u64 {
    const BYTES: usize = 8;

    #[inline(always)]
    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0, |bytes| Self::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn low(bits: u64) -> Self {
        bits
    }
}

impl Word for u32 {
    const BYTES: usize = 4;

    #[inline(always)]
    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0, |bytes| Self::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn low(bits: u64) -> Self {
        bits as Self
    }

    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, to: &ArrowType) -> Result<ArrayRef, ParquetError> {
        Ok(match to {
            ArrowType::Int8 => Arc::new(Int8Array::new(values.iter().map(|value| *value as i8).collect(), nulls)),
            ArrowType::Int16 => Arc::new(Int16Array::new(values.iter().map(|value| *value as i16).collect(), nulls)),
            ArrowType::UInt8 => Arc::new(UInt8Array::new(values.iter().map(|value| *value as u8).collect(), nulls)),
            ArrowType::UInt16 => Arc::new(UInt16Array::new(values.iter().map(|value| *value as u16).collect(), nulls)),
            _ => {
                let data = ArrayData::builder(to.clone()).len(values.len()).add_buffer(Buffer::from_vec(values)).nulls(nulls);
                make_array(data.build().map_err(|error| ParquetError::ArrowError(error.to_string()))?)
            }
        })
    }
}
