//! Literals: from text to a value of a column's type, and back.
//!
//! Invariants:
//! - A literal becomes the value that it denotes or is refused; it is never rounded to fit, but for a decimal
//!   fraction against a float column, which becomes the nearest float.
//! - [`sql`] of a value that a type accepts is read back as that value.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, NaiveDate};

use super::token::shorten;
use crate::value::{DataType, Value, canonical_float};

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND;

/// A literal as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    /// With its sign.
    Number(String),
    Text(String),
    /// `DATE '...'` or `TIMESTAMP '...'`.
    Moment(String),
    Bytes(Vec<u8>),
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean(v) => f.write_str(if *v { "TRUE" } else { "FALSE" }),
            Self::Number(v) => f.write_str(&shorten(v)),
            Self::Text(v) | Self::Moment(v) => write!(f, "'{}'", shorten(v)),
            Self::Bytes(v) => f.write_str(&shorten(&hex(v))),
        }
    }
}

const OUT_OF_RANGE: &str = "it is out of the type's range";
const WRONG_KIND: &str = "it is of another kind";

/// The value that `literal` denotes in a column of this type, or why there is none.
pub(super) fn coerce(literal: &Literal, data_type: DataType) -> Result<Value, &'static str> {
    let value = match literal {
        Literal::Null => Value::Null,
        Literal::Boolean(v) => Value::Boolean(*v),
        Literal::Number(text) => number(text, data_type)?,
        Literal::Text(text) => match data_type {
            DataType::String => Value::String(text.clone()),
            DataType::Date | DataType::Timestamp(_) => moment(text, data_type)?,
            DataType::Float32 | DataType::Float64 => special_float(text)?,
            _ => return Err(WRONG_KIND),
        },
        Literal::Moment(text) => moment(text, data_type)?,
        Literal::Bytes(bytes) => Value::Binary(bytes.clone()),
    };
    if data_type.accepts(&value) {
        return Ok(value);
    }
    let ranged = matches!(value, Value::Int(_) | Value::UInt(_) | Value::Decimal(_));
    Err(if ranged { OUT_OF_RANGE } else { WRONG_KIND })
}

fn number(text: &str, data_type: DataType) -> Result<Value, &'static str> {
    use DataType as T;
    match data_type {
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => integer(text)?.try_into().map(Value::Int).map_err(|_| OUT_OF_RANGE),
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => integer(text)?.try_into().map(Value::UInt).map_err(|_| OUT_OF_RANGE),
        T::Date => integer(text)?.try_into().map(Value::Date).map_err(|_| OUT_OF_RANGE),
        T::Timestamp(_) => integer(text)?.try_into().map(Value::Timestamp).map_err(|_| OUT_OF_RANGE),
        T::Float32 | T::Float64 => float(text, data_type),
        T::Decimal { scale, .. } => decimal(text, scale).map(Value::Decimal),
        T::Boolean | T::String | T::Binary => Err(WRONG_KIND),
    }
}

fn is_whole(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

fn integer(text: &str) -> Result<i128, &'static str> {
    if is_whole(text) { text.parse().map_err(|_| OUT_OF_RANGE) } else { Err("it has a fraction or an exponent") }
}

fn float(text: &str, data_type: DataType) -> Result<Value, &'static str> {
    let value = match data_type {
        DataType::Float32 => text.parse::<f32>().map(f64::from).map_err(|_| WRONG_KIND)?,
        _ => text.parse::<f64>().map_err(|_| WRONG_KIND)?,
    };
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let vanished = value == 0.0 && mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if !value.is_finite() || vanished {
        return Err(OUT_OF_RANGE);
    }
    // The cast is exact for the integers that pass, and saturates for no float within an i128's range.
    if is_whole(text) && text.parse::<i128>().ok() != Some(value as i128) {
        return Err("no float is exactly that integer");
    }
    Ok(Value::Float(canonical_float(value)))
}

fn special_float(text: &str) -> Result<Value, &'static str> {
    let value = match text.to_ascii_lowercase().as_str() {
        "nan" => f64::NAN,
        "inf" | "+inf" | "infinity" | "+infinity" => f64::INFINITY,
        "-inf" | "-infinity" => f64::NEG_INFINITY,
        _ => return Err("the only texts are 'NaN', 'Infinity' and '-Infinity'"),
    };
    Ok(Value::Float(value))
}

/// The unscaled decimal with `scale` digits after the point that equals the number.
fn decimal(text: &str, scale: u8) -> Result<i128, &'static str> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| OUT_OF_RANGE)?;
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let dropped = (all.len() - significant.len()) as i64;
    let shift = exponent.saturating_sub(fraction.len() as i64).saturating_add(dropped).saturating_add(i64::from(scale));
    if shift < 0 {
        return Err("it has more digits after the point than the type");
    }
    let power = u32::try_from(shift).ok().and_then(|shift| 10_i128.checked_pow(shift)).ok_or(OUT_OF_RANGE)?;
    let unscaled = significant.parse::<i128>().ok().and_then(|v| v.checked_mul(power)).ok_or(OUT_OF_RANGE)?;
    Ok(if negative { -unscaled } else { unscaled })
}

fn moment(text: &str, data_type: DataType) -> Result<Value, &'static str> {
    let nanos = civil_nanos(text).ok_or("it is not a time like '2024-01-31' or '2024-01-31 23:59:59.5'")?;
    match data_type {
        DataType::Date if nanos % NANOS_PER_DAY != 0 => Err("it has a time of day"),
        DataType::Date => i32::try_from(nanos / NANOS_PER_DAY).map(Value::Date).map_err(|_| OUT_OF_RANGE),
        DataType::Timestamp(unit) => {
            let step = NANOS_PER_SECOND / i128::from(unit.per_second());
            if nanos % step != 0 {
                return Err("it is finer than the type's unit");
            }
            i64::try_from(nanos / step).map(Value::Timestamp).map_err(|_| OUT_OF_RANGE)
        }
        _ => Err(WRONG_KIND),
    }
}

/// Nanoseconds since 1970 of `YYYY-MM-DD[( |T)HH:MM[:SS[.fraction]][Z|±HH:MM]]`.
fn civil_nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let (date, time) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let days = i128::from(date.num_days_from_ce()) - i128::from(NaiveDate::default().num_days_from_ce());
    Some(days * NANOS_PER_DAY + time.map_or(Some(0), time_nanos)?)
}

/// Nanoseconds since midnight, the zone offset taken off.
fn time_nanos(text: &str) -> Option<i128> {
    let (clock, offset) = match text.find(['Z', '+', '-']) {
        Some(at) if &text[at..] == "Z" => (&text[..at], 0),
        Some(at) => {
            let (hours, minutes) = text[at + 1..].split_once(':')?;
            let minutes = i128::from(digits(hours, 2)?) * 60 + i128::from(digits(minutes, 2)?);
            (&text[..at], if text[at..].starts_with('-') { -minutes } else { minutes })
        }
        None => (text, 0),
    };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(None), |text| digits(text, 2).map(Some))?;
    let malformed = parts.next().is_some() || (second.is_none() && fraction.is_some());
    if malformed || hour > 23 || minute > 59 || second.is_some_and(|s| s > 59) {
        return None;
    }
    let nanos = match fraction {
        Some(text) if (1..=9).contains(&text.len()) => digits(text, text.len())? * 10_u32.pow(9 - text.len() as u32),
        Some(_) => return None,
        None => 0,
    };
    let seconds = i128::from(hour) * 3600 + i128::from(minute) * 60 + i128::from(second.unwrap_or(0)) - offset * 60;
    Some(seconds * NANOS_PER_SECOND + i128::from(nanos))
}

fn digits(text: &str, width: usize) -> Option<u32> {
    let plain = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// The value as SQL text, for a column of this type; without a type, as a number where the type would matter.
pub(super) fn sql(value: &Value, data_type: Option<DataType>) -> String {
    match (value, data_type) {
        (Value::Null, _) => "NULL".into(),
        (Value::Boolean(v), _) => if *v { "TRUE" } else { "FALSE" }.into(),
        (Value::Int(v), _) => v.to_string(),
        (Value::UInt(v), _) => v.to_string(),
        (Value::Float(v), _) if v.is_nan() => "'NaN'".into(),
        (Value::Float(v), _) if v.is_infinite() => if *v > 0.0 { "'Infinity'" } else { "'-Infinity'" }.into(),
        // Debug, unlike Display, writes an exponent where there would be rows of zeros.
        (Value::Float(v), Some(DataType::Float32)) => format!("{:?}", canonical_float(*v) as f32),
        (Value::Float(v), _) => format!("{:?}", canonical_float(*v)),
        (Value::String(v), _) => format!("'{}'", v.replace('\'', "''")),
        (Value::Binary(v), _) => format!("X'{}'", hex(v)),
        (Value::Date(v), _) => timestamp(i64::from(*v) * 86_400, 0).map_or_else(|| v.to_string(), |text| format!("'{}'", &text[..10])),
        (Value::Timestamp(v), Some(DataType::Timestamp(unit))) => {
            let nanos = v.rem_euclid(unit.per_second()) * (1_000_000_000 / unit.per_second());
            timestamp(v.div_euclid(unit.per_second()), nanos as u32).map_or_else(|| v.to_string(), |text| format!("'{text}'"))
        }
        (Value::Timestamp(v), _) => v.to_string(),
        (Value::Decimal(v), Some(DataType::Decimal { scale, .. })) => point(*v, scale),
        (Value::Decimal(v), _) => v.to_string(),
    }
}

/// Civil time, for the years that have four digits.
fn timestamp(seconds: i64, nanos: u32) -> Option<String> {
    let time = DateTime::from_timestamp(seconds, nanos)?;
    if !(0..=9999).contains(&time.year()) {
        return None;
    }
    let mut text = format!("{:04}-{}", time.year(), time.format("%m-%d %H:%M:%S"));
    if nanos != 0 {
        let fraction = format!("{nanos:09}");
        text = format!("{text}.{}", fraction.trim_end_matches('0'));
    }
    Some(text)
}

fn point(unscaled: i128, scale: u8) -> String {
    let width = usize::from(scale) + 1;
    let digits = format!("{:0width$}", unscaled.unsigned_abs());
    let sign = if unscaled < 0 { "-" } else { "" };
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
