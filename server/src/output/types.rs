//! The names that GreptimeDB's clients know for column types.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// GreptimeDB's name of an Arrow type; Arrow's own name for a type that GreptimeDB does not have.
#[must_use]
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "Null".to_owned(),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64 => data_type.to_string(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "String".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "Binary".to_owned(),
        DataType::Date32 | DataType::Date64 => "Date".to_owned(),
        DataType::Timestamp(unit, _) => format!("Timestamp{}", unit_name(*unit)),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("Time{}", unit_name(*unit)),
        DataType::Duration(unit) => format!("Duration{}", unit_name(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "IntervalYearMonth".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "IntervalDayTime".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "IntervalMonthDayNano".to_owned(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) => {
            format!("Decimal128({precision}, {scale})")
        }
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) | DataType::FixedSizeList(field, _) => {
            format!("List<{}>", type_name(field.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("Struct<{}>", fields.join(", "))
        }
        DataType::Dictionary(_, values) => type_name(values),
        other => other.to_string(),
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "Second",
        TimeUnit::Millisecond => "Millisecond",
        TimeUnit::Microsecond => "Microsecond",
        TimeUnit::Nanosecond => "Nanosecond",
    }
}
