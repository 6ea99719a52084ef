//! From the bytes of one CSV field to one exact value. Pure.
//!
//! Spaces and tabs around a value are ignored, except in strings.

use tessera_manifest::value::TimeUnit;

/// Why a field has no value of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is not of that form; what was expected.
    Form(&'static str),
    /// It is of that form, but the column cannot hold it.
    Range,
    /// It has more digits after the point than the column keeps.
    Inexact,
    /// It is not UTF-8.
    Utf8,
}

const INTEGER: Bad = Bad::Form("an integer");
const FLOAT: Bad = Bad::Form("a number");
const DATE: Bad = Bad::Form("a date like 2013-01-31");
const TIME: Bad = Bad::Form("a time like 2013-01-31T06:00:00Z or 2013-01-31 06:00:00.123, or an integer in the column's unit");
const DECIMAL: Bad = Bad::Form("a decimal like -12.50");
const HEX: Bad = Bad::Form("hexadecimal digits");
const BOOLEAN: Bad = Bad::Form("true or false");

/// An integer of any width.
pub(super) fn integer<T: TryFrom<i128>>(field: &[u8]) -> Result<T, Bad> {
    let (negative, digits) = sign(trim(field));
    let magnitude = unsigned(digits, INTEGER)?;
    let value = i128::try_from(magnitude).map_err(|_| Bad::Range)?;
    T::try_from(if negative { -value } else { value }).map_err(|_| Bad::Range)
}

/// A float of 64 bits: the one nearest to the text. `NaN`, `inf` and `-inf` are values.
pub(super) fn float64(field: &[u8]) -> Result<f64, Bad> {
    let text = std::str::from_utf8(trim(field)).map_err(|_| FLOAT)?;
    let value: f64 = text.parse().map_err(|_| FLOAT)?;
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) { Err(Bad::Range) } else { Ok(value) }
}

/// A float of 32 bits: the one nearest to the text.
pub(super) fn float32(field: &[u8]) -> Result<f32, Bad> {
    let text = std::str::from_utf8(trim(field)).map_err(|_| FLOAT)?;
    let value: f32 = text.parse().map_err(|_| FLOAT)?;
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) { Err(Bad::Range) } else { Ok(value) }
}

/// `true`, `t`, `yes`, `1` or `false`, `f`, `no`, `0`, in any case.
pub(super) fn boolean(field: &[u8]) -> Result<bool, Bad> {
    let field = trim(field);
    let is = |names: &[&str]| names.iter().any(|name| field.eq_ignore_ascii_case(name.as_bytes()));
    if is(&["true", "t", "yes", "1"]) {
        Ok(true)
    } else if is(&["false", "f", "no", "0"]) {
        Ok(false)
    } else {
        Err(BOOLEAN)
    }
}

/// Text, as it stands.
pub(super) fn string(field: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(field).map_err(|_| Bad::Utf8)
}

/// Hexadecimal digits, two per byte, after an optional `0x` or `\x`.
pub(super) fn binary(field: &[u8]) -> Result<Vec<u8>, Bad> {
    let field = trim(field);
    let digits = field.strip_prefix(b"0x").or_else(|| field.strip_prefix(b"\\x")).unwrap_or(field);
    if !digits.len().is_multiple_of(2) {
        return Err(HEX);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|v| v as u8).ok_or(HEX);
    digits.chunks_exact(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Days since 1970-01-01, from `YYYY-MM-DD`.
pub(super) fn date(field: &[u8]) -> Result<i32, Bad> {
    let (days, rest) = civil(trim(field), DATE)?;
    if rest.is_empty() { i32::try_from(days).map_err(|_| Bad::Range) } else { Err(DATE) }
}

/// Units since 1970-01-01T00:00:00Z: from an integer, or from `YYYY-MM-DD`, optionally followed by `T` or a space and
/// `HH:MM[:SS[.fraction]]`, and then by `Z` or an offset like `+02:00`; without one it is UTC.
pub(super) fn timestamp(field: &[u8], unit: TimeUnit) -> Result<i64, Bad> {
    let field = trim(field);
    let (_, digits) = sign(field);
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        return integer(field);
    }
    let (days, rest) = civil(field, TIME)?;
    let (seconds, fraction, offset) = match rest.split_first() {
        None => (0, &b""[..], 0),
        Some((b'T' | b't' | b' ', rest)) => clock(rest)?,
        Some(_) => return Err(TIME),
    };
    let seconds = days * 86_400 + seconds - offset;
    let units = scale_fraction(fraction, unit)?;
    seconds.checked_mul(unit.per_second()).and_then(|v| v.checked_add(units)).ok_or(Bad::Range)
}

/// The unscaled value of a decimal.
pub(super) fn decimal(field: &[u8], precision: u8, scale: u8) -> Result<i128, Bad> {
    let (negative, digits) = sign(trim(field));
    let point = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or(b""));
    if whole.is_empty() && fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return Err(DECIMAL);
    }
    let kept = fraction.len().min(usize::from(scale));
    if fraction[kept..].iter().any(|b| *b != b'0') {
        return Err(Bad::Inexact);
    }
    let mut value = if whole.is_empty() { 0 } else { unsigned(whole, DECIMAL)? };
    for digit in fraction[..kept].iter().copied().chain(std::iter::repeat_n(b'0', usize::from(scale) - kept)) {
        value = value.checked_mul(10).and_then(|v| v.checked_add(u128::from(digit - b'0'))).ok_or(Bad::Range)?;
    }
    if value >= 10_u128.pow(u32::from(precision.min(38))) {
        return Err(Bad::Range);
    }
    let value = i128::try_from(value).map_err(|_| Bad::Range)?;
    Ok(if negative { -value } else { value })
}

fn trim(field: &[u8]) -> &[u8] {
    match field {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => field.trim_ascii(),
        _ => field,
    }
}

fn sign(field: &[u8]) -> (bool, &[u8]) {
    match field {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    }
}

fn unsigned(digits: &[u8], form: Bad) -> Result<u128, Bad> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(form);
    }
    if digits.len() <= 19 {
        return Ok(digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0')).into());
    }
    let grow = |value: u128, digit: &u8| value.checked_mul(10)?.checked_add(u128::from(digit - b'0'));
    digits.iter().try_fold(0, grow).ok_or(Bad::Range)
}

/// Days since 1970-01-01 of a leading `YYYY-MM-DD`, and what follows it.
fn civil(field: &[u8], form: Bad) -> Result<(i64, &[u8]), Bad> {
    let (head, rest) = field.split_at_checked(10).ok_or(form)?;
    if head[4] != b'-' || head[7] != b'-' {
        return Err(form);
    }
    let (year, month, day) = (number(&head[..4], form)?, number(&head[5..7], form)?, number(&head[8..], form)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return Err(form);
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok((era * 146_097 + day_of_era - 719_468, rest))
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Seconds of `HH:MM[:SS[.fraction]]`, the digits of the fraction, and the seconds of the offset that follows.
fn clock(text: &[u8]) -> Result<(i64, &[u8], i64), Bad> {
    let part =
        |at: usize, limit: i64| number(text.get(at..at + 2).ok_or(TIME)?, TIME).and_then(|v| if v < limit { Ok(v) } else { Err(TIME) });
    let mut seconds = part(0, 24)? * 3600;
    if text.get(2) != Some(&b':') {
        return Err(TIME);
    }
    seconds += part(3, 60)? * 60;
    let mut rest = &text[5..];
    let mut fraction = &b""[..];
    if rest.first() == Some(&b':') {
        seconds += part(6, 60)?;
        rest = &text[8..];
        if let [b'.', digits @ ..] = rest {
            let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
            if end == 0 {
                return Err(TIME);
            }
            (fraction, rest) = digits.split_at(end);
        }
    }
    Ok((seconds, fraction, offset(rest)?))
}

fn offset(text: &[u8]) -> Result<i64, Bad> {
    let (negative, hours, minutes) = match text {
        b"" | b"Z" | b"z" => return Ok(0),
        [sign @ (b'+' | b'-'), hours @ ..] if hours.len() == 2 => (*sign == b'-', hours, &b"00"[..]),
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 4 => (*sign == b'-', &rest[..2], &rest[2..]),
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 && rest[2] == b':' => (*sign == b'-', &rest[..2], &rest[3..]),
        _ => return Err(TIME),
    };
    let (hours, minutes) = (number(hours, TIME)?, number(minutes, TIME)?);
    if hours > 18 || minutes > 59 {
        return Err(TIME);
    }
    let seconds = hours * 3600 + minutes * 60;
    Ok(if negative { -seconds } else { seconds })
}

fn scale_fraction(digits: &[u8], unit: TimeUnit) -> Result<i64, Bad> {
    let mut units = 0;
    let mut step = unit.per_second();
    for digit in digits {
        if step == 1 {
            if *digit == b'0' {
                continue;
            }
            return Err(Bad::Inexact);
        }
        step /= 10;
        units += i64::from(digit - b'0') * step;
    }
    Ok(units)
}

/// A number of at most four digits.
fn number(digits: &[u8], form: Bad) -> Result<i64, Bad> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(form);
    }
    Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_to_the_ends_of_their_range() {
        assert_eq!(integer::<i64>(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer::<u64>(b" +18446744073709551615\t"), Ok(u64::MAX));
        assert_eq!(integer::<i64>(b"9007199254740993"), Ok(9_007_199_254_740_993));
        for (text, bad) in [("18446744073709551616", Bad::Range), ("-1", Bad::Range), ("1.0", INTEGER), ("", INTEGER), ("-", INTEGER)] {
            assert_eq!(integer::<u64>(text.as_bytes()), Err(bad), "{text}");
        }
        assert_eq!(integer::<i8>(b"128"), Err(Bad::Range));
        assert_eq!(integer::<i64>(&[b'9'; 60]), Err(Bad::Range));
    }

    #[test]
    fn floats_are_the_nearest_or_refused() {
        assert_eq!(float64(b"10.357019999999999"), Ok(10.357_019_999_999_999));
        assert!(float64(b"NaN").unwrap().is_nan());
        assert_eq!(float64(b"-inf"), Ok(f64::NEG_INFINITY));
        assert_eq!(float64(b"1e400"), Err(Bad::Range));
        assert_eq!(float32(b"1e39"), Err(Bad::Range));
        assert_eq!(float64(b"1,5"), Err(FLOAT));
        assert_eq!(float64(b"\xff"), Err(FLOAT));
    }

    #[test]
    fn times_of_every_form_are_understood() {
        let ms = |text: &str| timestamp(text.as_bytes(), TimeUnit::Millisecond);
        let expected = Ok(1_357_020_000_000);
        for text in ["2013-01-01T06:00:00Z", "2013-01-01 06:00:00", "2013-01-01 06:00", "2013-01-01T08:00:00.000+02:00", "1357020000000"] {
            assert_eq!(ms(text), expected, "{text}");
        }
        assert_eq!(ms("2013-01-01T06:00:00.1230-00:30"), Ok(1_357_020_000_123 + 1_800_000));
        assert_eq!(ms("1969-12-31T23:59:59.999Z"), Ok(-1));
        assert_eq!(ms("2012-02-29"), Ok(1_330_473_600_000));
        assert_eq!(timestamp(b"1970-01-01T00:00:00.000000001Z", TimeUnit::Nanosecond), Ok(1));
        assert_eq!(timestamp(b"9999-01-01", TimeUnit::Nanosecond), Err(Bad::Range));
        assert_eq!(ms("2013-01-01T06:00:00.0001Z"), Err(Bad::Inexact));
        for text in
            ["2013-02-29", "2013-13-01", "2013-01-01T24:00:00Z", "2013-01-01T06", "2013-01-01X06:00", "2013-01-01T06:00:00.Z", "x", "", "-"]
        {
            assert_eq!(ms(text), Err(TIME), "{text}");
        }
    }

    #[test]
    fn days_agree_with_the_calendar() {
        for (text, days) in
            [("1970-01-01", 0), ("1969-12-31", -1), ("2000-03-01", 11_017), ("0000-01-01", -719_528), ("9999-12-31", 2_932_896)]
        {
            assert_eq!(date(text.as_bytes()), Ok(days), "{text}");
        }
        assert_eq!(date(b"2013-01-01T00:00"), Err(DATE));
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(b"-12.5", 10, 2), Ok(-1250));
        assert_eq!(decimal(b".5", 3, 1), Ok(5));
        assert_eq!(decimal(b"7.", 3, 1), Ok(70));
        assert_eq!(decimal(b"99999999999999999999999999999999999999", 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal(b"1.250", 4, 2), Ok(125));
        assert_eq!(decimal(b"1.255", 4, 2), Err(Bad::Inexact));
        assert_eq!(decimal(b"100.00", 4, 2), Err(Bad::Range));
        assert_eq!(decimal(b"1e3", 10, 2), Err(DECIMAL));
        assert_eq!(decimal(b".", 10, 2), Err(DECIMAL));
    }

    #[test]
    fn booleans_and_bytes_are_understood() {
        assert_eq!(boolean(b"TRUE"), Ok(true));
        assert_eq!(boolean(b" 0"), Ok(false));
        assert_eq!(boolean(b"2"), Err(BOOLEAN));
        assert_eq!(binary(b"0x01fF"), Ok(vec![1, 255]));
        assert_eq!(binary(b"123"), Err(HEX));
        assert_eq!(binary(b"zz"), Err(HEX));
    }

    proptest::proptest! {
        #[test]
        fn times_agree_with_chrono(ms in -62_135_596_800_000_i64..253_402_300_800_000, minutes in -1080_i32..=1080) {
            let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let time = chrono::DateTime::from_timestamp_millis(ms).unwrap().with_timezone(&zone);
            let text = time.to_rfc3339();
            // Beyond the years of four digits there is no such text.
            if text.len() == text.trim_start_matches(['+', '-']).len() {
                proptest::prop_assert_eq!(timestamp(text.as_bytes(), TimeUnit::Millisecond), Ok(ms), "{}", text);
            }
        }

        #[test]
        fn numbers_agree_with_the_standard_library(text in "[-+]?[0-9]{1,40}") {
            proptest::prop_assert_eq!(integer::<i64>(text.as_bytes()).ok(), text.parse().ok());
            proptest::prop_assert_eq!(float64(text.as_bytes()).ok(), text.parse().ok());
        }
    }
}
