//! A column chunk under way: its pages, and what readers are told of them.
//!
//! Invariant: pages of version 1, the dictionary first, and the metadata and page index that the Parquet crate's own writer gives.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, LevelHistogram, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::hybrid::Hybrid;

/// Bytes of a dictionary from which on pages are plain.
pub(super) const DICTIONARY_BYTES_MAX: usize = 1 << 20;

/// Encodes one column chunk.
pub(super) trait ChunkWriter: Send {
    /// Adds rows.
    fn write(&mut self, array: &arrow::array::ArrayRef) -> Result<()>;

    /// Bytes of the chunk, about.
    fn bytes(&self) -> usize;

    /// The chunk and what there is to say of it.
    fn close(self: Box<Self>) -> Result<(Bytes, ColumnCloseResult)>;
}

/// In which orders the bounds of pages have come.
#[derive(Debug)]
pub(super) struct PageOrder<B> {
    /// Of the last page that has any.
    last: Option<(B, B)>,
    ascending: bool,
    descending: bool,
}

impl<B: PartialOrd> PageOrder<B> {
    pub(super) fn new() -> Self {
        Self { last: None, ascending: true, descending: true }
    }

    pub(super) fn note(&mut self, least: B, greatest: B) {
        if let Some((low, high)) = &self.last {
            self.ascending &= *low <= least && *high <= greatest;
            self.descending &= *low >= least && *high >= greatest;
        }
        self.last = Some((least, greatest));
    }

    fn name(&self) -> BoundaryOrder {
        match (self.ascending, self.descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (_, true) => BoundaryOrder::DESCENDING,
            _ => BoundaryOrder::UNORDERED,
        }
    }
}

/// The least and the greatest value of a page, as they are stored.
#[derive(Debug)]
pub(super) enum Bounds {
    /// All are NULL.
    None,
    /// There are values, none of which is less or greater than another: of such a column there is no index.
    Unknown,
    Known(Vec<u8>, Vec<u8>),
}

/// What is told of a chunk when it ends.
pub(super) struct Summary<B> {
    /// The dictionary as a plain page, and how many values it has.
    pub(super) dictionary: (Vec<u8>, usize),
    pub(super) statistics: Statistics,
    pub(super) order: PageOrder<B>,
    /// Bytes of its texts.
    pub(super) text_bytes: Option<i64>,
    pub(super) bloom_filter: Option<Sbbf>,
}

/// The data pages of a chunk.
pub(super) struct Pages {
    descr: ColumnDescPtr,
    compression: Compression,
    /// `None` if pages are not compressed.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    written: TrackedWrite<Vec<u8>>,
    index: ColumnIndexBuilder,
    offsets: OffsetIndexBuilder,
    rows: usize,
    nulls: usize,
    /// Bytes without compression, headers included.
    uncompressed: usize,
    coded: i32,
    plain: i32,
}

impl Pages {
    /// Pages that are compressed if there is a level.
    pub(super) fn new(descr: ColumnDescPtr, zstd: Option<ZstdLevel>) -> Result<Self> {
        let compressor = zstd.map(|level| zstd::bulk::Compressor::new(level.compression_level())).transpose()?;
        Ok(Self {
            compression: zstd.map_or(Compression::UNCOMPRESSED, Compression::ZSTD),
            zstd: compressor,
            written: TrackedWrite::new(Vec::new()),
            index: ColumnIndexBuilder::new(descr.physical_type()),
            offsets: OffsetIndexBuilder::new(),
            descr,
            rows: 0,
            nulls: 0,
            uncompressed: 0,
            coded: 0,
            plain: 0,
        })
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> usize {
        self.written.bytes_written()
    }

    pub(super) fn nulls(&self) -> usize {
        self.nulls
    }

    /// What a page begins with: of runs of rows (whether they have a value, how many), which rows have one.
    pub(super) fn levels(&self, runs: impl Iterator<Item = (bool, usize)>, nulls: usize) -> Result<Vec<u8>> {
        if self.descr.max_def_level() == 0 {
            return match nulls {
                0 => Ok(Vec::new()),
                _ => Err(ParquetError::General(format!("NULL in the required column {}", self.descr.name()))),
            };
        }
        let mut levels = Hybrid::new(1, vec![0; size_of::<u32>()]);
        runs.for_each(|(valid, rows)| levels.push(u32::from(valid), rows));
        let mut buffer = levels.finish();
        let bytes = (buffer.len() - size_of::<u32>()) as u32;
        buffer[..size_of::<u32>()].copy_from_slice(&bytes.to_le_bytes());
        Ok(buffer)
    }

    /// Adds a page: levels and values, which are plain or numbers of the dictionary, and enters it into the page index.
    pub(super) fn add(
        &mut self,
        buffer: &[u8],
        (rows, nulls): (usize, usize),
        plain: bool,
        bounds: Bounds,
        text_bytes: Option<i64>,
    ) -> Result<()> {
        let (offset, size, uncompressed) = write_page(&mut self.written, &mut self.zstd, buffer, |buf| Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding: if plain { Encoding::PLAIN } else { Encoding::RLE_DICTIONARY },
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.rows += rows;
        self.nulls += nulls;
        self.uncompressed += uncompressed;
        *(if plain { &mut self.plain } else { &mut self.coded }) += 1;
        if self.index.valid() {
            match bounds {
                Bounds::None => self.index.append(true, Vec::new(), Vec::new(), nulls as i64),
                Bounds::Known(least, greatest) => self.index.append(false, least, greatest, nulls as i64),
                Bounds::Unknown => self.index.to_invalid(),
            }
        }
        self.index.append_histograms(&None, &self.histogram(nulls, rows));
        self.offsets.append_offset_and_size(offset, size);
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_unencoded_byte_array_data_bytes(text_bytes);
        Ok(())
    }

    fn histogram(&self, nulls: usize, rows: usize) -> Option<LevelHistogram> {
        let mut histogram = LevelHistogram::try_new(self.descr.max_def_level())?;
        histogram.increment_by(0, nulls as i64);
        histogram.increment_by(self.descr.max_def_level(), (rows - nulls) as i64);
        Some(histogram)
    }

    /// The chunk and what there is to say of it.
    pub(super) fn close<B: PartialOrd>(mut self, summary: Summary<B>) -> Result<(Bytes, ColumnCloseResult)> {
        let Summary { dictionary: (dictionary, values), statistics, order, text_bytes, bloom_filter } = summary;
        let mut chunk = TrackedWrite::new(Vec::new());
        let (_, dictionary_bytes, uncompressed) = write_page(&mut chunk, &mut self.zstd, &dictionary, |buf| Page::DictionaryPage {
            buf,
            num_values: values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
        self.uncompressed += uncompressed;
        let mut chunk = chunk.into_inner()?;
        let metadata = self.metadata(statistics, text_bytes, chunk.len() + self.written.bytes_written())?;
        chunk.extend_from_slice(&self.written.into_inner()?);
        self.index.set_boundary_order(order.name());
        let result = ColumnCloseResult {
            bytes_written: chunk.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter,
            column_index: if self.index.valid() { Some(self.index.build()?) } else { None },
            offset_index: Some(self.offsets.build()),
        };
        // Offsets were counted from the first data page.
        Ok((chunk.into(), result.update_dictionary_location(dictionary_bytes as usize)?))
    }

    fn metadata(&self, statistics: Statistics, text_bytes: Option<i64>, bytes: usize) -> Result<ColumnChunkMetaData> {
        let page = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut stats = vec![page(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1)];
        stats.push(page(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, self.coded));
        if self.plain > 0 {
            stats.push(page(PageType::DATA_PAGE, Encoding::PLAIN, self.plain));
        }
        ColumnChunkMetaData::builder(Arc::clone(&self.descr))
            .set_compression(self.compression)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(bytes as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.rows as i64)
            .set_data_page_offset(0)
            .set_statistics(statistics)
            .set_unencoded_byte_array_data_bytes(text_bytes)
            .set_definition_level_histogram(self.histogram(self.nulls, self.rows))
            .build()
    }
}

/// Writes a page, compressed or not; its offset, and its bytes with and without compression, header included.
fn write_page(
    to: &mut TrackedWrite<Vec<u8>>,
    zstd: &mut Option<zstd::bulk::Compressor<'static>>,
    bytes: &[u8],
    page: impl FnOnce(Bytes) -> Page,
) -> Result<(i64, i32, usize)> {
    let stored = match zstd {
        Some(zstd) => zstd.compress(bytes)?,
        None => bytes.to_vec(),
    };
    let spec = SerializedPageWriter::new(to).write_page(CompressedPage::new(page(stored.into()), bytes.len()))?;
    let size = i32::try_from(spec.compressed_size).map_err(|_| ParquetError::General("a page exceeds 2 GiB".to_owned()))?;
    Ok((spec.offset as i64, size, spec.uncompressed_size))
}
