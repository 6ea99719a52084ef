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

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::basic::ZstdLevel;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Bounds, ChunkWriter, DICTIONARY_BYTES_MAX, PageOrder, Pages, Summary};
use super::hybrid::{Hybrid, width_of};
use super::interner::Interner;
use crate::merge::series::plain;

/// The number of a row without a value.
const NULL: u32 = u32::MAX;
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

/// Writes one column chunk.
pub(super) struct TextColumn {
    settings: Settings,
    interner: Interner,
    /// The finished dictionary and how many values it has, once pages are plain.
    dictionary: Option<(Vec<u8>, usize)>,
    /// The values of the last dictionary array, and their numbers as far as they were seen.
    known: Option<(ArrayRef, Vec<Option<u32>>)>,
    page: OpenPage,
    pages: Pages,
    /// Bytes of all texts.
    text_bytes: i64,
    /// The least and the greatest text.
    bounds: Option<(Vec<u8>, Vec<u8>)>,
    order: PageOrder<Vec<u8>>,
    bloom: Option<Sbbf>,
}

impl TextColumn {
    pub(super) fn new(descr: ColumnDescPtr, settings: Settings) -> Result<Self> {
        let bloom = settings.bloom.map(|(fpp, values)| Sbbf::new_with_ndv_fpp(values, fpp)).transpose()?;
        Ok(Self {
            pages: Pages::new(descr, Some(settings.zstd))?,
            settings,
            interner: Interner::default(),
            dictionary: None,
            known: None,
            page: OpenPage::default(),
            text_bytes: 0,
            bounds: None,
            order: PageOrder::new(),
            bloom,
        })
    }
}

impl ChunkWriter for TextColumn {
    /// Of text, plain or a dictionary with numbers of 32 bits.
    fn write(&mut self, array: &ArrayRef) -> Result<()> {
        match array.as_dictionary_opt::<Int32Type>() {
            Some(coded) if coded.keys().null_count() == 0 => self.write_coded(coded.keys().values(), coded.values()),
            _ => {
                let plain = plain(array)?;
                let text = plain.as_string_opt::<i32>().ok_or_else(|| ParquetError::General("a tag of text is none".to_owned()))?;
                self.write_plain(text)
            }
        }
    }

    fn bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(self.interner.bytes(), |(page, _)| page.len() + self.page.plain_bytes);
        self.pages.bytes() + dictionary
    }

    fn close(mut self: Box<Self>) -> Result<(Bytes, ColumnCloseResult)> {
        if self.page.rows > 0 {
            self.end_page()?;
        }
        let Self { settings, interner, dictionary, pages, text_bytes, bounds, order, bloom, .. } = *self;
        let values = interner.len();
        let dictionary = dictionary.unwrap_or_else(|| (interner.into_page(), values));
        let bloom_filter = bloom.map(|mut bloom| {
            bloom.fold_to_target_fpp(settings.bloom.map_or(0.05, |(fpp, _)| fpp));
            bloom
        });
        let statistics = statistics(bounds.as_ref(), pages.nulls());
        pages.close(Summary { dictionary, statistics, order, text_bytes: Some(text_bytes), bloom_filter })
    }
}

impl TextColumn {
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
            self.text_bytes += (taken * (each - size_of::<u32>())) as i64;
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
        let mut buffer = self.pages.levels(page.runs.iter().map(|(code, rows)| (*code != NULL, *rows)), nulls)?;
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
        self.add_page(&buffer, &page, nulls)?;
        if plain {
            (self.interner, self.known) = (Interner::default(), None);
        } else if self.interner.bytes() > DICTIONARY_BYTES_MAX {
            let full = std::mem::take(&mut self.interner);
            let values = full.len();
            (self.dictionary, self.known) = (Some((full.into_page(), values)), None);
        }
        Ok(())
    }

    fn add_page(&mut self, buffer: &[u8], page: &OpenPage, nulls: usize) -> Result<()> {
        let values = || page.runs.iter().filter(|(code, _)| *code != NULL).map(|(code, _)| self.interner.value(*code));
        let bounds = match values().min().zip(values().max()) {
            None => Bounds::None,
            Some((least, greatest)) => {
                let both = self.bounds.get_or_insert_with(|| (least.to_vec(), greatest.to_vec()));
                if least < both.0.as_slice() {
                    both.0 = least.to_vec();
                }
                if greatest > both.1.as_slice() {
                    both.1 = greatest.to_vec();
                }
                let (least, greatest) = (cut_down(least).0, cut_up(greatest).0);
                self.order.note(least.clone(), greatest.clone());
                Bounds::Known(least, greatest)
            }
        };
        let text = page.runs.iter().filter(|(code, _)| *code != NULL).map(|(code, rows)| self.interner.value(*code).len() * rows);
        let text_bytes = Some(text.sum::<usize>() as i64);
        self.pages.add(buffer, (page.rows, nulls), self.dictionary.is_some(), bounds, text_bytes)
    }
}

fn statistics(bounds: Option<&(Vec<u8>, Vec<u8>)>, nulls: usize) -> Statistics {
    let (least, greatest) = bounds.map_or((None, None), |(least, greatest)| (Some(cut_down(least)), Some(cut_up(greatest))));
    let exact = |bound: &Option<(Vec<u8>, bool)>| bound.as_ref().is_none_or(|(_, exact)| *exact);
    let (least_exact, greatest_exact) = (exact(&least), exact(&greatest));
    let value = |bound: Option<(Vec<u8>, bool)>| bound.map(|(bytes, _)| ByteArray::from(bytes));
    let statistics = ValueStatistics::new(value(least), value(greatest), None, Some(nulls as u64), false)
        .with_min_is_exact(least_exact)
        .with_max_is_exact(greatest_exact);
    Statistics::from(statistics)
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
