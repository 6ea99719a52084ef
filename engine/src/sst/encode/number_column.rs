//! The column chunk of numbers of few values, encoded page by page.
//!
//! The Parquet crate looks at each value three times: for its bounds, for its place in the dictionary, and for the run that it may
//! belong to. Here each is a loop of its own over the values of a page, and numbers are packed eight at a time.
//!
//! Invariants:
//! - What readers find is what the Parquet crate's own writer gives them: pages of version 1, dictionary first, the same
//!   statistics and page index.
//! - A dictionary that grew beyond [`DICTIONARY_BYTES_MAX`] takes no more values; pages from there on are plain.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType as ArrowType};
use bytes::Bytes;
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Bounds, ChunkWriter, DICTIONARY_BYTES_MAX, PageOrder, Pages, Summary};
use super::hybrid::{Hybrid, width_of};

/// A number as Parquet stores it.
trait Number: ArrowNativeType + PartialOrd {
    const HIGHEST: Self;
    const LOWEST: Self;
    /// The lower and the higher of the zeros, which are equal.
    const ZEROS: (Self, Self);

    /// Its bits, for those that differ in them.
    fn bits(self) -> u64;

    fn append_to(self, bytes: &mut Vec<u8>);

    fn statistics(bounds: Option<(Self, Self)>, nulls: usize, descr: &ColumnDescPtr) -> Statistics;
}

macro_rules! number {
    ($type:ty, $highest:expr, $lowest:expr, $zeros:expr, |$value:ident| $bits:expr) => {
        impl Number for $type {
            const HIGHEST: Self = $highest;
            const LOWEST: Self = $lowest;
            const ZEROS: (Self, Self) = $zeros;

            #[inline(always)]
            fn bits(self) -> u64 {
                let $value = self;
                $bits
            }

            fn append_to(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn statistics(bounds: Option<(Self, Self)>, nulls: usize, descr: &ColumnDescPtr) -> Statistics {
                let (least, greatest) = bounds.unzip();
                let statistics = ValueStatistics::new(least, greatest, None, Some(nulls as u64), false);
                Statistics::from(statistics.with_backwards_compatible_min_max(descr.sort_order().is_signed()))
            }
        }
    };
}

number!(i32, Self::MAX, Self::MIN, (0, 0), |value| u64::from(value as u32));
number!(i64, Self::MAX, Self::MIN, (0, 0), |value| value as u64);
number!(f32, Self::INFINITY, Self::NEG_INFINITY, (-0.0, 0.0), |value| u64::from(value.to_bits()));
number!(f64, Self::INFINITY, Self::NEG_INFINITY, (-0.0, 0.0), |value| value.to_bits());

/// The least and the greatest of numbers; `None` if none can be compared. Of zeros, both of which there may be, the lower is the
/// least, and the higher the greatest.
fn bounds_of<T: Number>(values: &[T]) -> Option<(T, T)> {
    let widen = |(least, greatest), value: &T| {
        // What is not a number is neither.
        (if *value < least { *value } else { least }, if *value > greatest { *value } else { greatest })
    };
    let (least, greatest) = values.iter().fold((T::HIGHEST, T::LOWEST), widen);
    let (low, high) = T::ZEROS;
    (least <= greatest).then_some((if least == low { low } else { least }, if greatest == high { high } else { greatest }))
}

/// The distinct values of a chunk, numbered as they first appear.
#[derive(Debug)]
struct Dictionary<T> {
    values: Vec<T>,
    /// Numbers, each plus one, at the places that their values hash to, or behind; zero where there is none.
    slots: Vec<u32>,
    /// Of each dictionary another, so that nobody can choose values that hash to one place.
    seed: u64,
}

/// Slots of a new dictionary, a power of two.
const SLOTS_MIN: usize = 512;

impl<T: Number> Dictionary<T> {
    fn new() -> Self {
        Self { values: Vec::new(), slots: vec![0; SLOTS_MIN], seed: RandomState::new().hash_one(SLOTS_MIN) }
    }

    fn bytes(&self) -> usize {
        self.values.len() * size_of::<T>()
    }

    /// Where a value hashes to. Values are often as far from each other as from the next, as times are, which one multiplication
    /// spreads badly for some distances; these are the last steps of MurmurHash3.
    #[inline(always)]
    fn slot(&self, bits: u64, slots: usize) -> usize {
        let mixed = (bits ^ self.seed).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        (mixed >> (u64::BITS - slots.trailing_zeros())) as usize
    }

    /// Appends the numbers of values.
    fn number(&mut self, values: &[T], numbers: &mut Vec<u32>) {
        let Some(first) = values.first().map(|value| value.bits()) else { return };
        if values.iter().all(|value| value.bits() == first) {
            let number = self.number_of(values[0]);
            numbers.resize(numbers.len() + values.len(), number);
            return;
        }
        numbers.extend(values.iter().map(|value| self.number_of(*value)));
    }

    #[inline(always)]
    fn number_of(&mut self, value: T) -> u32 {
        let (bits, mask) = (value.bits(), self.slots.len() - 1);
        let mut at = self.slot(bits, self.slots.len());
        loop {
            match self.slots[at & mask] {
                0 => return self.insert(value, at & mask),
                taken if self.values[taken as usize - 1].bits() == bits => return taken - 1,
                _ => at += 1,
            }
        }
    }

    #[cold]
    fn insert(&mut self, value: T, at: usize) -> u32 {
        let number = self.values.len() as u32;
        self.values.push(value);
        self.slots[at] = number + 1;
        if self.values.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 4];
        let mask = slots.len() - 1;
        for (value, number) in self.values.iter().zip(1..) {
            let mut at = self.slot(value.bits(), slots.len());
            while slots[at & mask] != 0 {
                at += 1;
            }
            slots[at & mask] = number;
        }
        self.slots = slots;
    }

    fn into_page(self) -> (Vec<u8>, usize) {
        let mut page = Vec::with_capacity(self.bytes());
        self.values.iter().for_each(|value| value.append_to(&mut page));
        (page, self.values.len())
    }
}

/// The page that rows are added to.
#[derive(Debug)]
struct OpenPage<T> {
    values: Vec<T>,
    /// Whether rows have a value, and how many rows.
    valid: Vec<(bool, usize)>,
    rows: usize,
}

/// Writes one column chunk.
struct NumberColumn<T> {
    descr: ColumnDescPtr,
    page_rows_max: usize,
    /// The type of what is written.
    data_type: ArrowType,
    /// The one as which it is stored.
    stored: ArrowType,
    pages: Pages,
    dictionary: Dictionary<T>,
    /// The finished dictionary, once pages are plain.
    finished: Option<(Vec<u8>, usize)>,
    page: OpenPage<T>,
    numbers: Vec<u32>,
    bounds: Option<(T, T)>,
    order: PageOrder<T>,
}

/// A writer of a column of numbers with a dictionary; `None` if that is left to the Parquet crate.
pub(super) fn writer(
    descr: &ColumnDescPtr,
    data_type: &ArrowType,
    compression: Compression,
    page_rows_max: usize,
) -> Result<Option<Box<dyn ChunkWriter>>> {
    use ArrowType::{Date32, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16};
    let zstd = match compression {
        Compression::UNCOMPRESSED => None,
        Compression::ZSTD(level) => Some(level),
        _ => return Ok(None),
    };
    // Unsigned numbers of fewer bits than they are stored in compare as signed ones do.
    Ok(match (descr.physical_type(), data_type) {
        (Type::INT32, Int8 | Int16 | UInt8 | UInt16 | Int32 | Date32) => {
            let stored = if *data_type == Date32 { Date32 } else { Int32 };
            Some(Box::new(NumberColumn::<i32>::new(descr, (data_type, stored), zstd, page_rows_max)?))
        }
        (Type::INT64, Int64 | Timestamp(_, _)) => {
            Some(Box::new(NumberColumn::<i64>::new(descr, (data_type, data_type.clone()), zstd, page_rows_max)?))
        }
        (Type::FLOAT, Float32) => Some(Box::new(NumberColumn::<f32>::new(descr, (data_type, Float32), zstd, page_rows_max)?)),
        (Type::DOUBLE, Float64) => Some(Box::new(NumberColumn::<f64>::new(descr, (data_type, Float64), zstd, page_rows_max)?)),
        _ => None,
    })
}

impl<T: Number> NumberColumn<T> {
    fn new(
        descr: &ColumnDescPtr,
        (data_type, stored): (&ArrowType, ArrowType),
        zstd: Option<ZstdLevel>,
        page_rows_max: usize,
    ) -> Result<Self> {
        Ok(Self {
            descr: ColumnDescPtr::clone(descr),
            page_rows_max,
            data_type: data_type.clone(),
            stored,
            pages: Pages::new(ColumnDescPtr::clone(descr), zstd)?,
            dictionary: Dictionary::new(),
            finished: None,
            page: OpenPage { values: Vec::new(), valid: Vec::new(), rows: 0 },
            numbers: Vec::new(),
            bounds: None,
            order: PageOrder::new(),
        })
    }

    fn end_page(&mut self) -> Result<()> {
        let OpenPage { values, valid, rows } = &mut self.page;
        let nulls = *rows - values.len();
        let mut buffer = self.pages.levels(valid.iter().copied(), nulls)?;
        let is_plain = self.finished.is_some();
        if is_plain {
            values.iter().for_each(|value| value.append_to(&mut buffer));
        } else {
            self.numbers.clear();
            self.dictionary.number(values, &mut self.numbers);
            let width = width_of((self.dictionary.values.len() as u32).saturating_sub(1));
            buffer.push(width);
            let mut numbers = Hybrid::new(width, buffer);
            numbers.extend(&self.numbers);
            buffer = numbers.finish();
        }
        let bounds = match bounds_of(values) {
            None if values.is_empty() => Bounds::None,
            None => Bounds::Unknown,
            Some((least, greatest)) => {
                let both = self.bounds.get_or_insert((least, greatest));
                *both = (if least < both.0 { least } else { both.0 }, if greatest > both.1 { greatest } else { both.1 });
                self.order.note(least, greatest);
                let bytes = |value: T| {
                    let mut bytes = Vec::new();
                    value.append_to(&mut bytes);
                    bytes
                };
                Bounds::Known(bytes(least), bytes(greatest))
            }
        };
        self.pages.add(&buffer, (*rows, nulls), is_plain, bounds, None)?;
        values.clear();
        valid.clear();
        *rows = 0;
        if !is_plain && self.dictionary.bytes() > DICTIONARY_BYTES_MAX {
            self.finished = Some(std::mem::replace(&mut self.dictionary, Dictionary::new()).into_page());
        }
        Ok(())
    }

    /// Adds rows to the open page, which has room for them.
    fn add(&mut self, values: &[T], array: &dyn Array, rows: Range<usize>) {
        let OpenPage { values: present, valid, rows: added } = &mut self.page;
        *added += rows.len();
        let mut note = |is_valid: bool, rows: usize| match valid.last_mut() {
            Some((last, count)) if *last == is_valid => *count += rows,
            _ if rows == 0 => {}
            _ => valid.push((is_valid, rows)),
        };
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else {
            note(true, rows.len());
            present.extend_from_slice(&values[rows]);
            return;
        };
        let mut at = 0;
        for (start, end) in nulls.slice(rows.start, rows.len()).valid_slices() {
            note(false, start - at);
            note(true, end - start);
            present.extend_from_slice(&values[rows.start + start..rows.start + end]);
            at = end;
        }
        note(false, rows.len() - at);
    }
}

impl<T: Number> ChunkWriter for NumberColumn<T> {
    fn write(&mut self, array: &ArrayRef) -> Result<()> {
        if *array.data_type() != self.data_type {
            return Err(ParquetError::General(format!("a column of {} is written as one of {}", array.data_type(), self.data_type)));
        }
        let array = cast(array, &self.stored)?;
        let data = array.to_data();
        let values = &data.buffer::<T>(0)[..array.len()];
        let mut at = 0;
        while at < values.len() {
            let taken = (self.page_rows_max - self.page.rows).min(values.len() - at);
            self.add(values, &array, at..at + taken);
            at += taken;
            if self.page.rows == self.page_rows_max {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let plain = size_of_val(&self.page.values[..]);
        let open = match &self.finished {
            Some((dictionary, _)) => dictionary.len() + plain,
            // What the first page adds to the dictionary is not known yet.
            None if self.dictionary.values.is_empty() => plain,
            None => self.dictionary.bytes() + self.page.values.len() * usize::from(width_of(self.dictionary.values.len() as u32)) / 8,
        };
        self.pages.bytes() + open
    }

    fn close(mut self: Box<Self>) -> Result<(Bytes, ColumnCloseResult)> {
        if self.page.rows > 0 {
            self.end_page()?;
        }
        let Self { descr, pages, dictionary, finished, bounds, order, .. } = *self;
        let statistics = T::statistics(bounds, pages.nulls(), &descr);
        let dictionary = finished.unwrap_or_else(|| dictionary.into_page());
        pages.close(Summary { dictionary, statistics, order, text_bytes: None, bloom_filter: None })
    }
}
