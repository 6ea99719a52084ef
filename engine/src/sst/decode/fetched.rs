//! The bytes of a row group that a read needs, fetched at once.

use std::io::Cursor;
use std::ops::Range;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::damaged;

/// Parts of an object.
#[derive(Debug)]
pub(in crate::sst) struct Fetched {
    /// By the position of their first byte, ascending.
    parts: Vec<(u64, Bytes)>,
}

impl Fetched {
    /// What was read of these ranges.
    pub(in crate::sst) fn new(ranges: &[Range<u64>], read: Vec<Bytes>) -> Self {
        let mut parts: Vec<(u64, Bytes)> = ranges.iter().map(|range| range.start).zip(read).collect();
        parts.sort_unstable_by_key(|(start, _)| *start);
        Self { parts }
    }

    /// The bytes of a range, if they are here.
    pub(in crate::sst) fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let part = self.parts.partition_point(|(start, _)| *start <= range.start).checked_sub(1)?;
        let (start, bytes) = &self.parts[part];
        let (from, end) = (usize::try_from(range.start - start).ok()?, usize::try_from(range.end.checked_sub(*start)?).ok()?);
        (from <= end && end <= bytes.len()).then(|| bytes.slice(from..end))
    }
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.parts.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

impl ChunkReader for Fetched {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let part = self.parts.partition_point(|(at, _)| *at <= start).checked_sub(1);
        let end = part.map_or(start, |part| self.parts[part].0 + self.parts[part].1.len() as u64);
        self.get(&(start..end)).map(Cursor::new).ok_or_else(|| damaged("a page is not where the index says"))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let range = start..start.saturating_add(length as u64);
        self.get(&range).ok_or_else(|| damaged("a page is not where the index says"))
    }
}
