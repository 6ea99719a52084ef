//! A page, taken apart.

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::serialized_reader::SerializedPageReader;

use super::damaged;
use super::fetched::Fetched;
use super::hybrid::Runs;

/// What a data page of a flat column holds.
#[derive(Debug)]
pub(super) struct Parts {
    /// Which rows have a value; `None` if all have.
    pub(super) valid: Option<BooleanBuffer>,
    /// The values, NULLs left out.
    pub(super) values: Bytes,
    pub(super) encoding: Encoding,
}

impl Parts {
    /// The parts of a data page of so many rows.
    pub(super) fn new(page: Page, rows: u32, nullable: bool) -> Result<Self, ParquetError> {
        let (count, encoding) = (page.num_values(), page.encoding());
        if count != rows {
            return Err(damaged("a page has other rows than the index says"));
        }
        let (levels, values) = match page {
            Page::DataPage { buf, def_level_encoding, .. } => {
                if !nullable {
                    (None, buf)
                } else if def_level_encoding == Encoding::RLE {
                    let len = buf.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
                    let end = len.and_then(|len| len.checked_add(4)).filter(|end| *end <= buf.len());
                    let end = end.ok_or_else(|| damaged("the levels of a page are cut"))?;
                    (Some(buf.slice(4..end)), buf.slice(end..))
                } else {
                    return Err(damaged("levels are neither runs nor packed"));
                }
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let (from, len) = (rep_levels_byte_len as usize, def_levels_byte_len as usize);
                let end = from.checked_add(len).filter(|end| *end <= buf.len());
                let end = end.ok_or_else(|| damaged("the levels of a page are cut"))?;
                (nullable.then(|| buf.slice(from..end)), buf.slice(end..))
            }
            Page::DictionaryPage { .. } => return Err(damaged("a dictionary is where a page should be")),
        };
        let valid = levels.map(|levels| Runs::new(levels, 1)?.bits(count as usize)).transpose()?.flatten();
        Ok(Self { valid, values, encoding })
    }

    /// The numbers of a dictionary that the values are; `None` if they are something else, or all are NULL.
    pub(super) fn numbers(&self) -> Result<Option<Runs>, ParquetError> {
        match (self.encoding, self.values.first()) {
            (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, Some(width)) => {
                Runs::new(self.values.slice(1..), usize::from(*width)).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The plain values of the dictionary before the first page, and how many they are; `None` if there is none.
pub(super) fn dictionary(pages: &mut SerializedPageReader<Fetched>) -> Result<Option<(Bytes, usize)>, ParquetError> {
    if pages.peek_next_page()?.is_none_or(|page| !page.is_dict) {
        return Ok(None);
    }
    let Some(Page::DictionaryPage { buf, num_values, encoding, .. }) = pages.get_next_page()? else {
        return Err(damaged("there is no dictionary before the first page"));
    };
    if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
        return Err(damaged("a dictionary is not plain"));
    }
    Ok(Some((buf, num_values as usize)))
}
