//! Typed columns that grow field by field.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int8Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, UInt8Builder, UInt16Builder, UInt32Array, UInt32Builder, UInt64Builder, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType};
use arrow::error::ArrowError;
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::field::{self, Bad};

/// The rows of one column so far.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    String(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimeUnit, Int64Builder),
    Decimal { precision: u8, scale: u8, builder: Decimal128Builder },
}

impl ColumnBuilder {
    /// A column without rows, with room for `rows`.
    pub(super) fn new(data_type: DataType, rows: usize) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int8 => Self::Int8(Int8Builder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::UInt8 => Self::UInt8(UInt8Builder::with_capacity(rows)),
            DataType::UInt16 => Self::UInt16(UInt16Builder::with_capacity(rows)),
            DataType::UInt32 => Self::UInt32(UInt32Builder::with_capacity(rows)),
            DataType::UInt64 => Self::UInt64(UInt64Builder::with_capacity(rows)),
            DataType::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::String => Self::String(StringBuilder::with_capacity(rows, rows * 8)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, rows * 8)),
            DataType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(unit) => Self::Timestamp(unit, Int64Builder::with_capacity(rows)),
            DataType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::with_capacity(rows).with_data_type(data_type.to_arrow());
                Self::Decimal { precision, scale, builder }
            }
        }
    }

    /// Adds what a field says.
    #[inline]
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), Bad> {
        match self {
            Self::Boolean(builder) => builder.append_value(field::boolean(text)?),
            Self::Int8(builder) => builder.append_value(field::integer(text)?),
            Self::Int16(builder) => builder.append_value(field::integer(text)?),
            Self::Int32(builder) => builder.append_value(field::integer(text)?),
            Self::Int64(builder) => builder.append_value(field::integer(text)?),
            Self::UInt8(builder) => builder.append_value(field::integer(text)?),
            Self::UInt16(builder) => builder.append_value(field::integer(text)?),
            Self::UInt32(builder) => builder.append_value(field::integer(text)?),
            Self::UInt64(builder) => builder.append_value(field::integer(text)?),
            Self::Float32(builder) => builder.append_value(field::float32(text)?),
            Self::Float64(builder) => builder.append_value(field::float64(text)?),
            Self::String(builder) => builder.append_value(field::string(text)?),
            Self::Binary(builder) => builder.append_value(field::binary(text)?),
            Self::Date(builder) => builder.append_value(field::date(text)?),
            Self::Timestamp(unit, builder) => builder.append_value(field::timestamp(text, *unit)?),
            Self::Decimal { precision, scale, builder } => builder.append_value(field::decimal(text, *precision, *scale)?),
        }
        Ok(())
    }

    /// Adds a NULL.
    #[inline]
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) | Self::Timestamp(_, builder) => builder.append_null(),
            Self::UInt8(builder) => builder.append_null(),
            Self::UInt16(builder) => builder.append_null(),
            Self::UInt32(builder) => builder.append_null(),
            Self::UInt64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::String(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
        }
    }

    /// Adds a value; one of another type or out of range, which a schema does not hold, becomes NULL.
    fn push_value(&mut self, value: &Value) {
        match (self, value) {
            (Self::Boolean(builder), Value::Boolean(v)) => builder.append_value(*v),
            (Self::Int8(builder), Value::Int(v)) => builder.append_option(i8::try_from(*v).ok()),
            (Self::Int16(builder), Value::Int(v)) => builder.append_option(i16::try_from(*v).ok()),
            (Self::Int32(builder), Value::Int(v)) => builder.append_option(i32::try_from(*v).ok()),
            (Self::Int64(builder), Value::Int(v)) | (Self::Timestamp(_, builder), Value::Timestamp(v)) => builder.append_value(*v),
            (Self::UInt8(builder), Value::UInt(v)) => builder.append_option(u8::try_from(*v).ok()),
            (Self::UInt16(builder), Value::UInt(v)) => builder.append_option(u16::try_from(*v).ok()),
            (Self::UInt32(builder), Value::UInt(v)) => builder.append_option(u32::try_from(*v).ok()),
            (Self::UInt64(builder), Value::UInt(v)) => builder.append_value(*v),
            (Self::Float32(builder), Value::Float(v)) => builder.append_value(*v as f32),
            (Self::Float64(builder), Value::Float(v)) => builder.append_value(*v),
            (Self::String(builder), Value::String(v)) => builder.append_value(v),
            (Self::Binary(builder), Value::Binary(v)) => builder.append_value(v),
            (Self::Date(builder), Value::Date(v)) => builder.append_value(*v),
            (Self::Decimal { builder, .. }, Value::Decimal(v)) => builder.append_value(*v),
            (builder, _) => builder.push_null(),
        }
    }

    /// The rows so far; the builder is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::UInt8(builder) => Arc::new(builder.finish()),
            Self::UInt16(builder) => Arc::new(builder.finish()),
            Self::UInt32(builder) => Arc::new(builder.finish()),
            Self::UInt64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(TimeUnit::Second, builder) => Arc::new(builder.finish().reinterpret_cast::<TimestampSecondType>()),
            Self::Timestamp(TimeUnit::Millisecond, builder) => Arc::new(builder.finish().reinterpret_cast::<TimestampMillisecondType>()),
            Self::Timestamp(TimeUnit::Microsecond, builder) => Arc::new(builder.finish().reinterpret_cast::<TimestampMicrosecondType>()),
            Self::Timestamp(TimeUnit::Nanosecond, builder) => Arc::new(builder.finish().reinterpret_cast::<TimestampNanosecondType>()),
            Self::Decimal { builder, .. } => Arc::new(builder.finish()),
        }
    }
}

/// `rows` times the same value.
pub(super) fn constant(data_type: DataType, value: &Value, rows: usize) -> Result<ArrayRef, ArrowError> {
    if value.is_null() {
        return Ok(new_null_array(&data_type.to_arrow(), rows));
    }
    let mut builder = ColumnBuilder::new(data_type, 1);
    builder.push_value(value);
    take(builder.finish().as_ref(), &UInt32Array::from(vec![0; rows]), None)
}
