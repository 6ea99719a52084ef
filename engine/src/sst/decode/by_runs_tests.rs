//! Columns by runs, beside what the Parquet crate decodes of the same bytes.

use arrow::array::{Array, ArrayRef, BinaryArray, StringArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use proptest::prelude::*;

use super::tests::{column, load};
use super::*;

/// The same column as it is, as texts, or as bytes.
fn form(numbers: &ArrayRef, form: usize) -> ArrayRef {
    let texts = || {
        let shown = ArrayFormatter::try_new(numbers, &FormatOptions::default()).unwrap();
        (0..numbers.len()).map(|row| numbers.is_valid(row).then(|| format!("é{}", shown.value(row)))).collect::<Vec<_>>()
    };
    match form {
        0 => Arc::clone(numbers),
        1 => Arc::new(texts().into_iter().collect::<StringArray>()),
        _ => Arc::new(texts().iter().map(|text| text.as_ref().map(String::as_bytes)).collect::<BinaryArray>()),
    }
}

fn whole(metadata: &ArrowReaderMetadata, bytes: &Bytes, index: usize) -> Result<Option<ColumnRuns>, ParquetError> {
    let group = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index };
    let ranges = group.ranges(0, None);
    let part = |range: &Range<u64>| bytes.slice(range.start as usize..range.end as usize);
    group.runs(0, &Arc::new(Fetched::new(&ranges, ranges.iter().map(part).collect())))
}

/// The rows of a column, and that neighbours of its runs differ.
fn rows_of(column: &ColumnRuns) -> ArrayRef {
    let (mut rows, mut start) = (Vec::new(), 0);
    for (at, run) in column.list.iter().enumerate() {
        assert!(start < run.end && (at == 0 || column.list[at - 1].value != run.value), "{run:?} after {start}");
        rows.extend(std::iter::repeat_n(run.value, (run.end - start) as usize));
        start = run.end;
    }
    take(&column.values, &rows.into_iter().collect::<UInt32Array>(), None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn runs_are_the_rows_that_the_parquet_crate_decodes(numbers in column(), to in 0..3_usize) {
        // Texts have no differences.
        let array = form(&numbers.array(), if numbers.encoding == Encoding::DELTA_BINARY_PACKED { 0 } else { to });
        let file = numbers.written(&array);
        let metadata = load(&file);
        let mut first = 0;
        for index in 0..metadata.metadata().num_row_groups() {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
            let batches = reader.with_row_groups(vec![index]).build().unwrap().map(|batch| Arc::clone(batch.unwrap().column(0)));
            let theirs = concat(&batches.collect::<Vec<ArrayRef>>().iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(&theirs, &array.slice(first, theirs.len()), "the crate gives what was written");
            first += theirs.len();
            let group = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index };
            if !group.has_dictionary(0) {
                let is_small = numbers.encoding == Encoding::RLE_DICTIONARY && numbers.dictionary_bytes == 1 << 20;
                prop_assert!(!is_small, "{:?}", metadata.metadata().row_group(index).column(0));
                continue;
            }
            match whole(&metadata, &file, index).unwrap() {
                Some(found) => prop_assert_eq!(&rows_of(&found), &theirs),
                None => prop_assert!(numbers.dictionary_bytes < 1 << 20, "only a dictionary that became too large is given up"),
            }
        }
        prop_assert_eq!(first, numbers.rows);
    }

    #[test]
    fn damaged_runs_are_an_answer_or_an_error(
        numbers in column(),
        to in 0..3_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut numbers = numbers;
        (numbers.zstd, numbers.encoding) = (false, Encoding::RLE_DICTIONARY);
        let file = numbers.written(&form(&numbers.array(), to));
        let metadata = load(&file);
        let mut bytes = file.to_vec();
        let groups = metadata.metadata().row_groups();
        let end = groups.iter().map(|group| group.column(0).byte_range()).map(|(start, bytes)| start + bytes).max().unwrap();
        for (at, byte) in damage {
            bytes[at.index(end as usize)] = byte;
        }
        let bytes = Bytes::from(bytes);
        for (index, group) in groups.iter().enumerate() {
            if let Ok(Some(found)) = whole(&metadata, &bytes, index) {
                prop_assert_eq!(rows_of(&found).len() as i64, group.num_rows());
            }
        }
    }
}
