//! The JSON shape that GreptimeDB's clients know.
//!
//! ```text
//! {"output":[{"records":{"schema":{"column_schemas":[{"name":"host","data_type":"String"}]},
//!                        "rows":[["a"]],"total_rows":1}},
//!            {"affectedrows":3}],
//!  "execution_time_ms":2}
//! {"code":4001,"error":"table 't' does not exist","execution_time_ms":0}
//! ```
//!
//! Cells, as GreptimeDB writes them:
//! - integers of 64 bits exactly, as numbers; timestamps, times and durations as integers in the unit of
//!   the column's type; dates as days since 1970-01-01;
//! - NaN and infinities as `null`, since JSON has none of them (CSV and Arrow keep them);
//! - decimals as text, so that no reader rounds them; binary as an array of byte values;
//! - lists as arrays; what has no form of its own (intervals, structs, maps) as text.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::ArrayFormatter;
use serde::Serialize;

use super::formatter;
use super::types::type_name;

/// Builds the answer to one request.
///
/// Order of calls: for each output [`Self::begin_rows`], [`Self::rows`] for each batch, [`Self::end_rows`]; or
/// [`Self::affected`]; at last [`Self::finish`].
#[derive(Debug, Default)]
pub struct Document {
    bytes: Vec<u8>,
    outputs: usize,
    rows: u64,
}

impl Document {
    /// An answer without outputs.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: b"{\"output\":[".to_vec(), outputs: 0, rows: 0 }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no output yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs == 0
    }

    /// Starts an output of rows.
    pub fn begin_rows(&mut self, schema: &Schema) {
        self.begin_output();
        self.rows = 0;
        self.bytes.extend_from_slice(b"{\"records\":{\"schema\":{\"column_schemas\":[");
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(b"{\"name\":");
            scalar(&mut self.bytes, field.name());
            self.bytes.extend_from_slice(b",\"data_type\":");
            scalar(&mut self.bytes, &type_name(field.data_type()));
            self.bytes.push(b'}');
        }
        self.bytes.extend_from_slice(b"]},\"rows\":[");
    }

    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// When a column's type has no text form.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let arrays: Vec<ArrayRef> = batch.columns().iter().map(flatten).collect::<Result<_, _>>()?;
        let columns: Vec<Cells<'_>> = arrays.iter().map(|array| Cells::new(array.as_ref())).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            self.bytes.extend_from_slice(if self.rows == 0 { b"[" } else { b",[" });
            self.rows += 1;
            for (index, cells) in columns.iter().enumerate() {
                if index > 0 {
                    self.bytes.push(b',');
                }
                cells.write(&mut self.bytes, row)?;
            }
            self.bytes.push(b']');
        }
        Ok(())
    }

    /// Ends an output of rows.
    pub fn end_rows(&mut self) {
        self.bytes.extend_from_slice(b"],\"total_rows\":");
        scalar(&mut self.bytes, &self.rows);
        self.bytes.extend_from_slice(b"}}");
    }

    /// Adds the output of a statement that wrote or removed `rows`.
    pub fn affected(&mut self, rows: u64) {
        self.begin_output();
        self.bytes.extend_from_slice(b"{\"affectedrows\":");
        scalar(&mut self.bytes, &rows);
        self.bytes.push(b'}');
    }

    /// The whole answer.
    #[must_use]
    pub fn finish(mut self, execution_time_ms: u64) -> Vec<u8> {
        self.bytes.extend_from_slice(b"],\"execution_time_ms\":");
        scalar(&mut self.bytes, &execution_time_ms);
        self.bytes.push(b'}');
        self.bytes
    }

    fn begin_output(&mut self) {
        if self.outputs > 0 {
            self.bytes.push(b',');
        }
        self.outputs += 1;
    }
}

/// The answer to a request that failed.
#[must_use]
pub fn error_document(code: u32, message: &str, execution_time_ms: u64) -> Vec<u8> {
    let mut bytes = b"{\"code\":".to_vec();
    scalar(&mut bytes, &code);
    bytes.extend_from_slice(b",\"error\":");
    scalar(&mut bytes, message);
    bytes.extend_from_slice(b",\"execution_time_ms\":");
    scalar(&mut bytes, &execution_time_ms);
    bytes.push(b'}');
    bytes
}

fn scalar<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(bytes, value).expect("numbers, texts and flags are JSON, and a buffer in memory takes every byte");
}

/// An array of plain values: views, dictionaries and timestamps with zones become their simple forms.
fn flatten(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let target = match array.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, _) | DataType::Time64(_) | DataType::Duration(_) => DataType::Int64,
        DataType::Date32 | DataType::Time32(_) => DataType::Int32,
        DataType::Dictionary(_, values) => return flatten(&cast(array, values)?),
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::ListView(field) => DataType::List(field.clone()),
        _ => return Ok(array.clone()),
    };
    let simple = cast(array, &target)?;
    if target == DataType::Date32 { flatten(&simple) } else { Ok(simple) }
}

/// The cells of a flattened column.
enum Cells<'a> {
    Null,
    Boolean(&'a arrow::array::BooleanArray),
    Int(Box<dyn Fn(usize) -> i64 + 'a>, &'a dyn Array),
    UInt(Box<dyn Fn(usize) -> u64 + 'a>, &'a dyn Array),
    Float(Box<dyn Fn(usize) -> f64 + 'a>, &'a dyn Array),
    Float32(&'a arrow::array::Float32Array),
    String(&'a arrow::array::StringArray),
    Binary(&'a arrow::array::BinaryArray),
    List(&'a arrow::array::ListArray),
    Text(ArrayFormatter<'a>, &'a dyn Array),
}

impl<'a> Cells<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        fn ints<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array) -> Cells<'_> {
            let values = array.as_primitive::<T>();
            Cells::Int(Box::new(|row| values.value(row).into()), array)
        }
        fn uints<T: ArrowPrimitiveType<Native: Into<u64>>>(array: &dyn Array) -> Cells<'_> {
            let values = array.as_primitive::<T>();
            Cells::UInt(Box::new(|row| values.value(row).into()), array)
        }
        fn floats<T: ArrowPrimitiveType<Native: Into<f64>>>(array: &dyn Array) -> Cells<'_> {
            let values = array.as_primitive::<T>();
            Cells::Float(Box::new(|row| values.value(row).into()), array)
        }
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int8 => ints::<Int8Type>(array),
            DataType::Int16 => ints::<Int16Type>(array),
            DataType::Int32 => ints::<Int32Type>(array),
            DataType::Int64 => ints::<Int64Type>(array),
            DataType::UInt8 => uints::<UInt8Type>(array),
            DataType::UInt16 => uints::<UInt16Type>(array),
            DataType::UInt32 => uints::<UInt32Type>(array),
            DataType::UInt64 => uints::<UInt64Type>(array),
            DataType::Float16 => floats::<Float16Type>(array),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => floats::<Float64Type>(array),
            DataType::Utf8 => Self::String(array.as_string()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::List(_) => Self::List(array.as_list()),
            _ => Self::Text(formatter(array, "")?, array),
        })
    }

    fn write(&self, bytes: &mut Vec<u8>, row: usize) -> Result<(), ArrowError> {
        match self {
            Self::Null => scalar(bytes, &()),
            Self::Boolean(array) => scalar(bytes, &array.is_valid(row).then(|| array.value(row))),
            Self::Int(value, array) => scalar(bytes, &array.is_valid(row).then(|| value(row))),
            Self::UInt(value, array) => scalar(bytes, &array.is_valid(row).then(|| value(row))),
            Self::Float(value, array) => scalar(bytes, &array.is_valid(row).then(|| value(row)).filter(|v| v.is_finite())),
            Self::Float32(array) => scalar(bytes, &array.is_valid(row).then(|| array.value(row)).filter(|v| v.is_finite())),
            Self::String(array) => scalar(bytes, &array.is_valid(row).then(|| array.value(row))),
            Self::Binary(array) => scalar(bytes, &array.is_valid(row).then(|| array.value(row))),
            Self::List(array) => return write_list(bytes, array, row),
            Self::Text(text, array) => {
                let text = if array.is_valid(row) { Some(text.value(row).try_to_string()?) } else { None };
                scalar(bytes, &text);
            }
        }
        Ok(())
    }
}

fn write_list(bytes: &mut Vec<u8>, array: &arrow::array::ListArray, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        scalar(bytes, &());
        return Ok(());
    }
    let values = flatten(&array.value(row))?;
    let cells = Cells::new(values.as_ref())?;
    bytes.push(b'[');
    for index in 0..values.len() {
        if index > 0 {
            bytes.push(b',');
        }
        cells.write(bytes, index)?;
    }
    bytes.push(b']');
    Ok(())
}
