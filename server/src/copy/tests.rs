//! Tests of COPY's files: exact values, and errors that name the place.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use futures::StreamExt;
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, ColumnDefault, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::*;
use crate::config::limits;

fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

fn columns() -> Vec<Column> {
    vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(2, "n", DataType::Int64, SemanticType::Field),
        column(3, "v", DataType::Float64, SemanticType::Field),
    ]
}

fn schema() -> Schema {
    Schema::new(columns(), vec![ColumnId(0)]).unwrap()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn read_with(bytes: impl AsRef<[u8]>, schema: &Schema, pairs: &[(&str, &str)]) -> Result<Vec<Batch>, ServerError> {
    let folder = Folder::new();
    let path = folder.file("f.csv", bytes);
    let options = ReadOptions::from_pairs(pairs.iter().copied())?;
    Reader::open(&path, schema, &options, 5_000)?.collect()
}

fn read(text: &str) -> Result<Vec<Batch>, ServerError> {
    read_with(text, &schema(), &[("null_values", "NA")])
}

fn error(text: &str) -> String {
    read(text).unwrap_err().message
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rows_arrive_exactly_and_know_their_lines() {
    let batches = read("ts,V,host,n\r\n1000,0.1,a,9007199254740993\r\n\r\n1970-01-01T00:00:02Z,NA,\"x\r\ny\",\r\n3000,1,,-1").unwrap();
    let [batch] = &batches[..] else { panic!("one batch") };
    assert_eq!(batch.rows.schema(), schema().to_arrow());
    let hosts: Vec<_> = batch.rows.column(0).as_string::<i32>().iter().collect();
    assert_eq!(hosts, [Some("a"), Some("x\r\ny"), Some("")]);
    assert_eq!(batch.rows.column(1).as_primitive::<TimestampMillisecondType>().values(), &[1000, 2000, 3000]);
    let numbers: Vec<_> = batch.rows.column(2).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [Some(9_007_199_254_740_993), None, Some(-1)]);
    let values: Vec<_> = batch.rows.column(3).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(values, [Some(0.1), None, Some(1.0)]);
    assert_eq!(batch.origin, Origin::Lines(vec![2, 4, 6]));
    assert_eq!(batch.place(2), "line 6");
}

#[test]
fn a_bad_number_names_file_line_and_column() {
    let text = error("host,ts,n,v\na,1,1,1\nb,2,2,2\nc,3,x1,3\n");
    assert!(text.contains("f.csv' line 4, column 'n': 'x1' is not an integer"), "{text}");
    let text = error("host,ts,n,v\na,1,9223372036854775808,1\n");
    assert!(text.contains("line 2, column 'n': '9223372036854775808' is out of range for int64"), "{text}");
    let text = error("host,ts,n,v\na,2013-01-01T00:00:00.0001Z,1,1\n");
    assert!(text.contains("line 2, column 'ts'") && text.contains("more digits"), "{text}");
}

#[test]
fn a_wrong_number_of_fields_names_the_line() {
    let text = error("host,ts,n,v\na,1,1,1\n\"b\nb\",2,2,2\nc,3,3\n");
    assert!(text.contains("line 5: 3 fields instead of 4; column 'v' is the first without one"), "{text}");
    let text = error("host,ts,n,v\na,1,1,1,extra\n");
    assert!(text.contains("line 2: 5 fields instead of 4; the first one too many is 'extra'"), "{text}");
}

#[test]
fn null_in_a_column_that_may_not_be_null_is_refused() {
    let text = error("host,ts,n,v\na,NA,1,1\n");
    assert!(text.contains("line 2, column 'ts': NULL ('NA')"), "{text}");
    let text = error("host,ts,n,v\na,,1,1\n");
    assert!(text.contains("line 2, column 'ts': NULL (an empty field)"), "{text}");
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let text = read_with(b"host,ts,n,v\na\xff,1,1,1\n", &schema(), &[]).unwrap_err().message;
    assert!(text.contains("line 2, column 'host'") && text.contains("UTF-8"), "{text}");
}

#[test]
fn an_empty_text_is_null_only_when_listed() {
    let host_is_null = |pairs: &[(&str, &str)]| read_with("host,ts\n,1\n", &schema(), pairs).unwrap()[0].rows.column(0).is_null(0);
    assert!(!host_is_null(&[]));
    assert!(!host_is_null(&[("null_values", "NA")]));
    assert!(host_is_null(&[("null_values", "")]));
    assert!(host_is_null(&[("null_values", "NA,")]));
}

#[test]
fn unknown_and_missing_columns_are_named() {
    let text = error("host,ts,n,v,temp,hum\n");
    assert!(text.starts_with("columns 'temp', 'hum' of ") && text.contains("ignore_unknown"), "{text}");
    let rows = read_with("junk,host,ts\n1,a,1\n", &schema(), &[("ignore_unknown", "true")]).unwrap();
    assert_eq!(rows[0].rows.column(3).null_count(), 1);
    assert!(error("host,n,v\n").contains("has no column 'ts', which is NOT NULL and has no default"));
    assert!(error("host,ts,n,N\n").contains("'N'"));
    assert!(error("host,ts,n,n\n").contains("two columns for column 'n'"));
    assert!(error("").contains("is empty"));
}

#[test]
fn missing_columns_get_their_defaults() {
    let mut columns = columns();
    columns[1].default = Some(ColumnDefault::CurrentTimestamp);
    columns[2].default = Some(ColumnDefault::Value(Value::Int(7)));
    let schema = Schema::new(columns, vec![ColumnId(0)]).unwrap();
    let rows = &read_with("host\na\nb\n", &schema, &[]).unwrap()[0].rows;
    assert_eq!(rows.column(1).as_primitive::<TimestampMillisecondType>().values(), &[5_000, 5_000]);
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[7, 7]);
    assert_eq!(rows.column(3).null_count(), 2);
}

#[test]
fn a_file_without_header_has_the_table_s_columns() {
    let rows = &read_with("a;1;2;3\n", &schema(), &[("header", "false"), ("delimiter", ";")]).unwrap()[0];
    assert_eq!(rows.origin, Origin::Lines(vec![1]));
    assert_eq!(rows.rows.column(2).as_primitive::<Int64Type>().values(), &[2]);
}

#[test]
fn large_files_come_in_batches() {
    let mut text = String::from("host,ts,n,v\n");
    for row in 0..limits::COPY_BATCH_ROWS + 1 {
        text.push_str(&format!("h,{row},{row},0.5\n"));
    }
    let batches = read(&text).unwrap();
    assert_eq!(batches.iter().map(|b| b.rows.num_rows()).collect::<Vec<_>>(), [limits::COPY_BATCH_ROWS, 1]);
    assert_eq!(batches[1].place(0), format!("line {}", limits::COPY_BATCH_ROWS + 2));
}

#[test]
fn a_truncated_or_damaged_gzip_file_is_named() {
    let folder = Folder::new();
    let whole = gzip("host,ts,n,v\n".bytes().chain("a,1,1,1\n".repeat(5_000).bytes()).collect::<Vec<_>>().as_slice());
    let count = |path: &Path| -> Result<usize, ServerError> {
        Reader::open(path, &schema(), &ReadOptions::default(), 0)?.map(|batch| batch.map(|b| b.rows.num_rows())).sum()
    };
    assert_eq!(count(&folder.file("whole.csv.gz", &whole)).unwrap(), 5_000);
    let text = count(&folder.file("cut.csv.gz", &whole[..whole.len() - 12])).unwrap_err().message;
    assert!(text.contains("cut.csv.gz' line ") && text.contains("cut off"), "{text}");
    let mut damaged = whole.clone();
    let crc = damaged.len() - 6;
    damaged[crc] ^= 1;
    assert!(count(&folder.file("damaged.csv.gz", &damaged)).is_err());
    assert!(count(&folder.file("plain.csv.gz", "host,ts\n")).is_err());
}

#[test]
fn a_quote_that_is_never_closed_is_refused() {
    let mut text = String::from("host,ts,n,v\n\"a,1,1,1\n");
    text.push_str(&"b,1,1,1\n".repeat(3_000_000));
    assert!(error(&text).contains("quote is probably not closed"));
}

#[test]
fn files_written_read_back_the_same() {
    let batch = read("host,ts,n,v\na,1,9007199254740993,0.1\n\"x,\"\"y\",2,,NaN\n").unwrap().remove(0).rows;
    for name in ["t.csv", "t.csv.gz", "t.parquet"] {
        let folder = Folder::new();
        let path = folder.0.path().join(name);
        let mut writer = Writer::create(&path, batch.schema(), &WriteOptions::default(), &Env::system()).unwrap();
        writer.write(&batch).unwrap();
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap(), 2);
        let back: Vec<Batch> = Reader::open(&path, &schema(), &ReadOptions::default(), 0).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(format!("{:?}", back[0].rows), format!("{batch:?}"), "{name}");
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "a temporary file stayed");
    }
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let folder = Folder::new();
    let path = folder.file("t.csv", "old");
    let schema = schema().to_arrow();
    let create = |pairs: &[(&str, &str)]| {
        let options = WriteOptions::from_pairs(pairs.iter().copied()).unwrap();
        Writer::create(&path, schema.clone(), &options, &Env::system())
    };
    let text = create(&[]).err().unwrap().message;
    assert!(text.contains("overwrite = true"), "{text}");
    drop(create(&[("overwrite", "true")]).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    create(&[("overwrite", "true")]).unwrap().finish().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "host,ts,n,v\n");
}

#[tokio::test]
async fn a_stream_that_fails_leaves_no_file() {
    let folder = Folder::new();
    let path = folder.0.path().join("t.parquet");
    let batch = read("host,ts,n,v\na,1,1,1\n").unwrap().remove(0).rows;
    let schema = batch.schema();
    let failing = futures::stream::iter([Ok(batch.clone()), Err(ServerError::new(Code::Internal, "boom"))]).boxed();
    let options = WriteOptions::default();
    let result = write_stream(&path, schema.clone(), failing, &options, &Env::system()).await;
    assert_eq!(result.unwrap_err().message, "boom");
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 0);
    let good = futures::stream::iter([Ok(batch.clone()), Ok(batch)]).boxed();
    assert_eq!(write_stream(&path, schema, good, &options, &Env::system()).await.unwrap(), 2);
}

#[test]
fn parquet_columns_of_another_type_are_converted_exactly_or_refused() {
    let folder = Folder::new();
    let path = folder.0.path().join("t.parquet");
    let load = |n: ArrayRef, ts: ArrayRef| -> Result<RecordBatch, ServerError> {
        let host: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b"]));
        let batch = RecordBatch::try_from_iter([("N", n), ("host", host), ("ts", ts)]).unwrap();
        let options = WriteOptions { overwrite: true, ..WriteOptions::default() };
        let mut writer = Writer::create(&path, batch.schema(), &options, &Env::system()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let batches: Vec<Batch> = Reader::open(&path, &schema(), &ReadOptions::default(), 0)?.collect::<Result<_, _>>()?;
        Ok(batches[0].rows.clone())
    };
    let ints = || Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef;
    let micros = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef;
    let rows = load(ints(), micros(vec![1_000, 2_000])).unwrap();
    assert_eq!(rows.column(0).as_string::<i32>().value(1), "b");
    assert_eq!(rows.column(1).as_primitive::<TimestampMillisecondType>().values(), &[1, 2]);
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[1, 2]);
    let text = load(ints(), micros(vec![1_000, 2_001])).unwrap_err().message;
    assert!(text.contains("row 2, column 'ts'") && text.contains("exactly"), "{text}");
    let text = load(Arc::new(Float64Array::from(vec![1.0, 1.5])), micros(vec![0, 1_000])).unwrap_err().message;
    assert!(text.contains("row 2, column 'n'"), "{text}");
    let text = load(Arc::new(StringArray::from(vec!["1", "2"])), micros(vec![0, 1_000])).unwrap_err().message;
    assert!(text.contains("column 'n': Utf8 cannot become int64"), "{text}");
    let nulls = Arc::new(TimestampMillisecondArray::from(vec![Some(1), None])) as ArrayRef;
    assert!(load(ints(), nulls).unwrap_err().message.contains("row 2, column 'ts': NULL"));
}

#[test]
fn parquet_batches_have_as_many_rows_as_are_written_at_once() {
    let folder = Folder::new();
    let path = folder.0.path().join("t.parquet");
    let batches = |rows: usize, text: usize, columns: usize| {
        let host: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:text$}"))));
        let ts: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(0..rows as i64));
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let v: ArrayRef = Arc::new(Float64Array::from(vec![0.5; rows]));
        let batch = RecordBatch::try_from_iter([("host", host), ("ts", ts), ("n", n), ("v", v)].into_iter().take(columns)).unwrap();
        let mut writer =
            Writer::create(&path, batch.schema(), &WriteOptions { overwrite: true, ..WriteOptions::default() }, &Env::system()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let read: Vec<Batch> = Reader::open(&path, &schema(), &ReadOptions::default(), 0).unwrap().collect::<Result<_, _>>().unwrap();
        let hosts: Vec<&dyn Array> = read.iter().map(|batch| batch.rows.column(0).as_ref()).collect();
        assert_eq!(&arrow::compute::concat(&hosts).unwrap(), batch.column(0));
        read
    };
    let short = batches(100_000, 6, 4);
    assert_eq!(short.iter().map(|batch| batch.rows.num_rows()).collect::<Vec<_>>(), [65_536, 100_000 - 65_536]);
    assert_eq!(short[1].place(0), "row 65537");
    let long = batches(3_000, 10_000, 4);
    assert!(long.iter().all(|batch| batch.rows.get_array_memory_size() < 8 << 20), "each is at most one write to a region");
    assert_eq!(long.len(), 5);
    // Of columns that the file lacks it does not say how large they are.
    assert_eq!(batches(20_000, 6, 2)[0].rows.num_rows(), limits::COPY_BATCH_ROWS);
}

#[test]
fn options_that_do_not_fit_are_named() {
    let text = ReadOptions::from_pairs([("headr", "true")]).unwrap_err().message;
    assert!(text.contains("'headr'") && text.contains("ignore_unknown"), "{text}");
    assert!(ReadOptions::from_pairs([("delimiter", ";;")]).unwrap_err().message.contains("delimiter"));
    assert!(WriteOptions::from_pairs([("overwrite", "yes please")]).unwrap_err().message.contains("overwrite"));
    assert!(FileFormat::of_path(Path::new("a.txt")).unwrap_err().message.contains("a.txt"));
    assert_eq!(FileFormat::of_path(Path::new("/x/A.CSV.GZ")).unwrap(), FileFormat::Csv { gzip: true });
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let batches = read("\u{feff}host,ts,n,v\na,1,1,1\n\nb,2,2,2\n").unwrap();
    assert_eq!(batches[0].origin, Origin::Lines(vec![2, 4]));
}

/// A table with a column of every type.
fn wide_schema() -> Schema {
    let types = "boolean int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 string binary date decimal(10,2)";
    let mut columns: Vec<Column> =
        types.split(' ').zip(0..).map(|(name, id)| column(id, name, name.parse().unwrap(), SemanticType::Field)).collect();
    columns.push(column(99, "ts", DataType::Timestamp(TimeUnit::Second), SemanticType::TimeIndex));
    Schema::new(columns, Vec::new()).unwrap()
}

#[test]
fn every_type_is_read() {
    let line = "true,-8,-16,-32,-64,8,16,32,64,0.5,0.25,x,00ff,1970-01-02,1.50,1970-01-01T00:00:07Z\n";
    let rows =
        &read_with(format!("{line},,,,,,,,,,,,,,,8\n"), &wide_schema(), &[("header", "false"), ("null_values", "")]).unwrap()[0].rows;
    let mut writer = crate::output::csv::Writer::new(Vec::new(), b',');
    writer.rows(rows).unwrap();
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    assert_eq!(text, format!("{line},,,,,,,,,,,,,,,1970-01-01T00:00:08Z\n"));
    assert!((0..15).all(|index| rows.column(index).null_count() == 1));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(cells in proptest::collection::vec("[-+0-9.eTZ:/ \"\\n\r\\PC]{0,12}", 0..64), cut in 0_usize..400) {
        let mut bytes = cells.join(",").into_bytes();
        bytes.truncate(cut);
        let schema = wide_schema();
        for header in ["true", "false"] {
            // Whatever comes out, it comes out as a value.
            let _ = read_with(&bytes, &schema, &[("header", header), ("ignore_unknown", "true")]);
        }
    }
}
