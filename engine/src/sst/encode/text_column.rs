//! The column chunk of a tag of text, encoded by runs.
//!
//! Sorted rows repeat their tags, so that a value is looked up, compared and encoded once per run. Rows cost only
//! what finding the runs costs: comparing the numbers of a dictionary, or the neighbours of a plain column.
//!
//! Invariants:
//! - What readers find is what the Parquet crate's own writer gives them: pages of version 1, dictionary first, the
//!   same statistics, page index and bloom filter.
//! - A dictionary that grew beyond [`DICTIONARY_BYTES_MAX`] takes no more values; pages from there on are plain, so
//!   that reading a few rows never decodes a large dictionary.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType, Type as PhysicalType, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, LevelHistogram, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::hybrid::{Hybrid, width_of};
use super::interner::Interner;
use crate::merge::series::plain;

/// The number of a row without a value.
const NULL: u32 = u32::MAX;
/// Bytes of a dictionary from which on pages are plain.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a plain page, about.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a least or greatest value in statistics and page index; longer ones are cut.
const BOUND_BYTES_MAX: usize = 64;

/// How a column is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Rows of a page at most.
    pub(super) page_rows_max: usize,
    pub(super) zstd: ZstdLevel,
    /// The false-positive rate of the bloom filter, if there is to be one, and the most values that it is made for.
    pub(super) bloom: Option<(f64, u64)>,
}

/// The page that rows are added to.
#[derive(Debug, Default)]
struct OpenPage {
    /// (number of the value or [`NULL`], rows), neighbours different.
    runs: Vec<(u32, usize)>,
    rows: usize,
    /// What it has if it is plain.
    plain_bytes: usize,
}

/// Totals of the chunk.
#[derive(Debug)]
struct Totals {
    rows: usize,
    nulls: usize,
    text_bytes: i64,
    uncompressed: usize,
    coded_pages: i32,
    plain_pages: i32,
    bounds: Option<Bounds>,
    order: PageOrder,
}

/// The least and the greatest value.
type Bounds = (Vec<u8>, Vec<u8>);

/// In which orders the bounds of pages have come.
#[derive(Debug)]
struct PageOrder {
    /// Of the last page that has any.
    last: Option<Bounds>,
    ascending: bool,
    descending: bool,
}

impl PageOrder {
    fn note(&mut self, least: &[u8], greatest: &[u8]) {
        if let Some((low, high)) = &self.last {
            let orders = [least.cmp(low), greatest.cmp(high)];
            self.ascending &= !orders.contains(&Ordering::Less);
            self.descending &= !orders.contains(&Ordering::Greater);
        }
        self.last = Some((least.to_vec(), greatest.to_vec()));
    }

    fn name(&self) -> BoundaryOrder {
        match (self.ascending, self.descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (_, true) => BoundaryOrder::DESCENDING,
            _ => BoundaryOrder::UNORDERED,
        }
    }
}

/// Writes one column chunk.
pub(super) struct TextColumn {
    descr: ColumnDescPtr,
    settings: Settings,
    zstd: zstd::bulk::Compressor<'static>,
    interner: Interner,
    /// The finished dictionary and how many values it has, once pages are plain.
    dictionary: Option<(Vec<u8>, usize)>,
    /// The values of the last dictionary array, and their numbers as far as they were seen.
    known: Option<(ArrayRef, Vec<Option<u32>>)>,
    page: OpenPage,
    pages: TrackedWrite<Vec<u8>>,
    totals: Totals,
    index: ColumnIndexBuilder,
    offsets: OffsetIndexBuilder,
    bloom: Option<Sbbf>,
}

impl TextColumn {
    pub(super) fn new(descr: ColumnDescPtr, settings: Settings) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(settings.zstd.compression_level())?;
        let bloom = settings.bloom.map(|(fpp, values)| Sbbf::new_with_ndv_fpp(values, fpp)).transpose()?;
        let totals = Totals {
            rows: 0,
            nulls: 0,
            text_bytes: 0,
            uncompressed: 0,
            coded_pages: 0,
            plain_pages: 0,
            bounds: None,
            order: PageOrder { last: None, ascending: true, descending: true },
        };
        Ok(Self {
            descr,
            settings,
            zstd,
            interner: Interner::default(),
            dictionary: None,
            known: None,
            page: OpenPage::default(),
            pages: TrackedWrite::new(Vec::new()),
            totals,
            index: ColumnIndexBuilder::new(PhysicalType::BYTE_ARRAY),
            offsets: OffsetIndexBuilder::new(),
            bloom,
        })
    }

    /// Adds the rows of a column of text, plain or a dictionary with numbers of 32 bits.
    pub(super) fn write(&mut self, array: &ArrayRef) -> Result<()> {
        match array.as_dictionary_opt::<Int32Type>() {
            Some(coded) if coded.keys().null_count() == 0 => self.write_coded(coded.keys().values(), coded.values()),
            _ => {
                let plain = plain(array)?;
                let text = plain.as_string_opt::<i32>().ok_or_else(|| ParquetError::General("a tag of text is none".to_owned()))?;
                self.write_plain(text)
            }
        }
    }

    /// Bytes of the chunk, about.
    pub(super) fn bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(self.interner.bytes(), |(page, _)| page.len() + self.page.plain_bytes);
        self.pages.bytes_written() + dictionary
    }

    fn write_coded(&mut self, keys: &[i32], values: &ArrayRef) -> Result<()> {
        let text = values.as_string_opt::<i32>().ok_or_else(|| ParquetError::General("a tag of text is none".to_owned()))?;
        if self.known.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, values)) {
            self.known = Some((Arc::clone(values), vec![None; values.len()]));
        }
        for run in keys.chunk_by(|a, b| a == b) {
            let key = run[0] as usize;
            let mut left = run.len();
            while left > 0 {
                // A page that ends may take the numbers of its values with it.
                let code = match self.known.as_ref().and_then(|(_, codes)| codes[key]) {
                    Some(code) => code,
                    None => {
                        let code = self.code_of(text.is_valid(key).then(|| text.value(key).as_bytes()));
                        if let Some((_, codes)) = &mut self.known {
                            codes[key] = Some(code);
                        }
                        code
                    }
                };
                left -= self.push(code, left)?;
            }
        }
        Ok(())
    }

    fn write_plain(&mut self, text: &StringArray) -> Result<()> {
        let value = |row: usize| text.is_valid(row).then(|| text.value(row).as_bytes());
        let mut from = 0;
        while from < text.len() {
            let now = value(from);
            let run = 1 + (from + 1..text.len()).take_while(|row| value(*row) == now).count();
            let mut left = run;
            while left > 0 {
                let code = self.code_of(now);
                left -= self.push(code, left)?;
            }
            from += run;
        }
        Ok(())
    }

    fn code_of(&mut self, value: Option<&[u8]>) -> u32 {
        let Some(value) = value else { return NULL };
        let (code, new) = self.interner.intern(value);
        if let Some(bloom) = self.bloom.as_mut().filter(|_| new) {
            bloom.insert(value);
        }
        code
    }

    /// Adds as many of `rows` rows with a value as the page takes, at least one, and says how many.
    fn push(&mut self, code: u32, rows: usize) -> Result<usize> {
        let mut taken = rows.min(self.settings.page_rows_max - self.page.rows);
        if code != NULL {
            let each = self.interner.plain(code).len();
            if self.dictionary.is_some() {
                taken = taken.min(PAGE_BYTES_MAX.saturating_sub(self.page.plain_bytes) / each + 1);
                self.page.plain_bytes += taken * each;
            }
            self.totals.text_bytes += (taken * (each - size_of::<u32>())) as i64;
        }
        match self.page.runs.last_mut() {
            Some((last, count)) if *last == code => *count += taken,
            _ => self.page.runs.push((code, taken)),
        }
        self.page.rows += taken;
        if self.page.rows >= self.settings.page_rows_max || self.page.plain_bytes >= PAGE_BYTES_MAX {
            self.end_page()?;
        }
        Ok(taken)
    }

    fn end_page(&mut self) -> Result<()> {
        let page = std::mem::take(&mut self.page);
        let nulls: usize = page.runs.iter().filter(|(code, _)| *code == NULL).map(|(_, rows)| rows).sum();
        let plain = self.dictionary.is_some();
        let mut buffer = Vec::new();
        if self.descr.max_def_level() > 0 {
            let mut levels = Hybrid::new(1, vec![0; size_of::<u32>()]);
            page.runs.iter().for_each(|(code, rows)| levels.push(u32::from(*code != NULL), *rows));
            buffer = levels.finish();
            let bytes = (buffer.len() - size_of::<u32>()) as u32;
            buffer[..size_of::<u32>()].copy_from_slice(&bytes.to_le_bytes());
        } else if nulls > 0 {
            return Err(ParquetError::General(format!("NULL in the required column {}", self.descr.name())));
        }
        let values = page.runs.iter().filter(|(code, _)| *code != NULL);
        if plain {
            for (code, rows) in values {
                std::iter::repeat_n(self.interner.plain(*code), *rows).for_each(|value| buffer.extend_from_slice(value));
            }
        } else {
            let width = width_of((self.interner.len() as u32).saturating_sub(1));
            buffer.push(width);
            let mut codes = Hybrid::new(width, buffer);
            values.for_each(|(code, rows)| codes.push(*code, *rows));
            buffer = codes.finish();
        }
        let written = write_page(&mut self.pages, &mut self.zstd, &buffer, |buf| Page::DataPage {
            buf,
            num_values: page.rows as u32,
            encoding: if plain { Encoding::PLAIN } else { Encoding::RLE_DICTIONARY },
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.note_page(&page, nulls, written);
        if plain {
            (self.interner, self.known) = (Interner::default(), None);
        } else if self.interner.bytes() > DICTIONARY_BYTES_MAX {
            let full = std::mem::take(&mut self.interner);
            let values = full.len();
            (self.dictionary, self.known) = (Some((full.into_page(), values)), None);
        }
        Ok(())
    }

    /// Counts a page in and enters it into the page index.
    fn note_page(&mut self, page: &OpenPage, nulls: usize, (offset, compressed, uncompressed): (i64, i32, usize)) {
        let totals = &mut self.totals;
        totals.rows += page.rows;
        totals.nulls += nulls;
        totals.uncompressed += uncompressed;
        *(if self.dictionary.is_some() { &mut totals.plain_pages } else { &mut totals.coded_pages }) += 1;
        let values = || page.runs.iter().filter(|(code, _)| *code != NULL).map(|(code, _)| self.interner.value(*code));
        let bounds = values().min().zip(values().max());
        let (least, greatest) = bounds.map_or((Vec::new(), Vec::new()), |(least, greatest)| (cut_down(least).0, cut_up(greatest).0));
        if let Some((least, greatest)) = bounds {
            let both = totals.bounds.get_or_insert_with(|| (least.to_vec(), greatest.to_vec()));
            if least < both.0.as_slice() {
                both.0 = least.to_vec();
            }
            if greatest > both.1.as_slice() {
                both.1 = greatest.to_vec();
            }
        }
        if bounds.is_some() {
            totals.order.note(&least, &greatest);
        }
        self.index.append(bounds.is_none(), least, greatest, nulls as i64);
        self.index.append_histograms(&None, &histogram(&self.descr, nulls, page.rows));
        self.offsets.append_offset_and_size(offset, compressed);
        self.offsets.append_row_count(page.rows as i64);
        let text = page.runs.iter().filter(|(code, _)| *code != NULL).map(|(code, rows)| self.interner.value(*code).len() * rows);
        self.offsets.append_unencoded_byte_array_data_bytes(Some(text.sum::<usize>() as i64));
    }

    /// The chunk and what there is to say of it.
    pub(super) fn close(mut self) -> Result<(Bytes, ColumnCloseResult)> {
        if self.page.rows > 0 {
            self.end_page()?;
        }
        let interner = std::mem::take(&mut self.interner);
        let values = interner.len();
        let (dictionary, values) = self.dictionary.take().unwrap_or_else(|| (interner.into_page(), values));
        let mut chunk = TrackedWrite::new(Vec::new());
        let (_, dictionary_bytes, uncompressed) = write_page(&mut chunk, &mut self.zstd, &dictionary, |buf| Page::DictionaryPage {
            buf,
            num_values: values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
        self.totals.uncompressed += uncompressed;
        let mut chunk = chunk.into_inner()?;
        chunk.extend_from_slice(&self.pages.into_inner()?);
        self.index.set_boundary_order(self.totals.order.name());
        let bloom_filter = self.bloom.map(|mut bloom| {
            bloom.fold_to_target_fpp(self.settings.bloom.map_or(0.05, |(fpp, _)| fpp));
            bloom
        });
        let result = ColumnCloseResult {
            bytes_written: chunk.len() as u64,
            rows_written: self.totals.rows as u64,
            metadata: metadata(&self.descr, &self.totals, self.settings.zstd, chunk.len())?,
            bloom_filter,
            column_index: Some(self.index.build()?),
            offset_index: Some(self.offsets.build()),
        };
        // Offsets were counted from the first data page.
        Ok((chunk.into(), result.update_dictionary_location(dictionary_bytes as usize)?))
    }
}

fn metadata(descr: &ColumnDescPtr, totals: &Totals, zstd: ZstdLevel, bytes: usize) -> Result<ColumnChunkMetaData> {
    let Totals { rows, nulls, text_bytes, uncompressed, coded_pages, plain_pages, bounds, order: _ } = totals;
    let encodings = vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
    let page = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
    let mut stats = vec![page(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1)];
    stats.push(page(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, *coded_pages));
    if *plain_pages > 0 {
        stats.push(page(PageType::DATA_PAGE, Encoding::PLAIN, *plain_pages));
    }
    let (least, greatest) = bounds.as_ref().map_or((None, None), |(least, greatest)| (Some(cut_down(least)), Some(cut_up(greatest))));
    let exact = |bound: &Option<(Vec<u8>, bool)>| bound.as_ref().is_none_or(|(_, exact)| *exact);
    let (least_exact, greatest_exact) = (exact(&least), exact(&greatest));
    let value = |bound: Option<(Vec<u8>, bool)>| bound.map(|(bytes, _)| ByteArray::from(bytes));
    let statistics = ValueStatistics::new(value(least), value(greatest), None, Some(*nulls as u64), false)
        .with_min_is_exact(least_exact)
        .with_max_is_exact(greatest_exact);
    ColumnChunkMetaData::builder(Arc::clone(descr))
        .set_compression(Compression::ZSTD(zstd))
        .set_encodings(encodings)
        .set_page_encoding_stats(stats)
        .set_total_compressed_size(bytes as i64)
        .set_total_uncompressed_size(*uncompressed as i64)
        .set_num_values(*rows as i64)
        .set_data_page_offset(0)
        .set_statistics(Statistics::from(statistics))
        .set_unencoded_byte_array_data_bytes(Some(*text_bytes))
        .set_definition_level_histogram(histogram(descr, *nulls, *rows))
        .build()
}

fn histogram(descr: &ColumnDescPtr, nulls: usize, rows: usize) -> Option<LevelHistogram> {
    let mut histogram = LevelHistogram::try_new(descr.max_def_level())?;
    histogram.increment_by(0, nulls as i64);
    histogram.increment_by(descr.max_def_level(), (rows - nulls) as i64);
    Some(histogram)
}

/// Writes a page, compressed; its offset, and its bytes with and without compression, header included.
fn write_page(
    to: &mut TrackedWrite<Vec<u8>>,
    zstd: &mut zstd::bulk::Compressor<'static>,
    bytes: &[u8],
    page: impl FnOnce(Bytes) -> Page,
) -> Result<(i64, i32, usize)> {
    let compressed = CompressedPage::new(page(zstd.compress(bytes)?.into()), bytes.len());
    let spec = SerializedPageWriter::new(to).write_page(compressed)?;
    let size = i32::try_from(spec.compressed_size).map_err(|_| ParquetError::General("a page exceeds 2 GiB".to_owned()))?;
    Ok((spec.offset as i64, size, spec.uncompressed_size))
}

/// A value that is not greater and not too long, and whether it is the same.
fn cut_down(value: &[u8]) -> (Vec<u8>, bool) {
    (value[..boundary(value)].to_vec(), value.len() <= BOUND_BYTES_MAX)
}

/// A value that is not less and not too long, and whether it is the same; a long one without a shorter one above it
/// stays as it is.
fn cut_up(value: &[u8]) -> (Vec<u8>, bool) {
    if value.len() <= BOUND_BYTES_MAX {
        return (value.to_vec(), true);
    }
    let Ok(text) = std::str::from_utf8(&value[..boundary(value)]) else { return (value.to_vec(), true) };
    let mut chars: Vec<char> = text.chars().collect();
    while let Some(last) = chars.pop() {
        // The next character, over the gap of the surrogates; the last one of all has none.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return (chars.iter().collect::<String>().into_bytes(), false);
        }
    }
    (value.to_vec(), true)
}

/// Where text can be cut so that it is not too long.
fn boundary(value: &[u8]) -> usize {
    let mut at = value.len().min(BOUND_BYTES_MAX);
    while at < value.len() && at > 0 && value[at] & 0xC0 == 0x80 {
        at -= 1;
    }
    at
}
