//! Text of single values for encoders: numbers, dates and times as Flink writes them; never quotes or escapes.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::text;

/// Appends an integer.
#[inline]
pub fn push_int(n: i64, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

/// A DECIMAL as Java's `BigDecimal.toString` (or, when `plain`, `toPlainString`).
pub fn push_decimal(unscaled: i128, scale: u8, plain: bool, out: &mut String) {
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = digits.len() as i64 - 1 - i64::from(scale);
    if plain || exponent >= -6 {
        return text::format_decimal(unscaled, scale, out);
    }
    push_scientific(unscaled < 0, &digits, exponent, out);
}

/// A DECIMAL without trailing zeros, in scientific notation where `BigDecimal.toString` uses it: 100000 is `1E+5`.
pub fn push_decimal_stripped(mut unscaled: i128, scale: u8, out: &mut String) {
    if unscaled == 0 {
        return out.push('0');
    }
    let mut scale = i64::from(scale);
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = digits.len() as i64 - 1 - scale;
    match u8::try_from(scale) {
        Ok(scale) if exponent >= -6 => text::format_decimal(unscaled, scale, out),
        _ => push_scientific(unscaled < 0, &digits, exponent, out),
    }
}

fn push_scientific(negative: bool, digits: &str, exponent: i64, out: &mut String) {
    if negative {
        out.push('-');
    }
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    out.push('E');
    if exponent >= 0 {
        out.push('+');
    }
    push_int(exponent, out);
}

/// `HH:mm:ss[.fraction]`, the fraction without trailing zeros.
pub fn push_time(nanos_of_day: i64, out: &mut String) {
    let fraction = nanos_of_day.rem_euclid(1_000_000_000);
    text::format_time(nanos_of_day, if fraction == 0 { 0 } else { 9 }, out);
    if fraction != 0 {
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Seconds since the epoch and nanoseconds of a value of a timestamp array.
pub fn timestamp_parts(value: i64, unit: TimeUnit) -> (i64, i64) {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    (value.div_euclid(per_second), value.rem_euclid(per_second) * (1_000_000_000 / per_second))
}

/// `yyyy-MM-dd HH:mm:ss[.fraction]`, with `T` when `iso`, the fraction without trailing zeros.
pub fn push_timestamp(value: i64, unit: TimeUnit, iso: bool, out: &mut String) {
    let (seconds, nanos) = timestamp_parts(value, unit);
    text::format_date(seconds.div_euclid(86_400), out);
    out.push(if iso { 'T' } else { ' ' });
    push_time(seconds.rem_euclid(86_400) * 1_000_000_000 + nanos, out);
}

/// The raw value at `row` of a timestamp array and its unit.
pub fn timestamp_at(array: &dyn Array, row: usize) -> Option<(i64, TimeUnit)> {
    let Arrow::Timestamp(unit, _) = array.data_type() else { return None };
    let value = match unit {
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
        TimeUnit::Second => return None,
    };
    Some((value, *unit))
}

/// How scalars look.
#[derive(Clone, Copy, Debug)]
pub struct ScalarStyle {
    /// Timestamps with `T`.
    pub iso: bool,
    /// DECIMAL always plain.
    pub plain_decimals: bool,
    /// DECIMAL without trailing zeros.
    pub stripped_decimals: bool,
}

/// Appends the text of a number, boolean, date or time at `row`, which is not NULL; `false` for other types.
pub fn push_scalar(array: &ArrayRef, row: usize, style: ScalarStyle, out: &mut String) -> bool {
    match array.data_type() {
        Arrow::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        Arrow::Int8 => push_int(array.as_primitive::<Int8Type>().value(row).into(), out),
        Arrow::Int16 => push_int(array.as_primitive::<Int16Type>().value(row).into(), out),
        Arrow::Int32 => push_int(array.as_primitive::<Int32Type>().value(row).into(), out),
        Arrow::Int64 => push_int(array.as_primitive::<Int64Type>().value(row), out),
        Arrow::Float32 => text::java_float(array.as_primitive::<Float32Type>().value(row), out),
        Arrow::Float64 => text::java_double(array.as_primitive::<Float64Type>().value(row), out),
        Arrow::Decimal128(_, scale) => {
            let (n, scale) = (array.as_primitive::<Decimal128Type>().value(row), u8::try_from(*scale).unwrap_or(0));
            if style.stripped_decimals {
                push_decimal_stripped(n, scale, out);
            } else {
                push_decimal(n, scale, style.plain_decimals, out);
            }
        }
        Arrow::Date32 => text::format_date(array.as_primitive::<Date32Type>().value(row).into(), out),
        Arrow::Time32(_) => {
            push_time(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000_000, out);
        }
        Arrow::Timestamp(_, zone) => {
            let Some((value, unit)) = timestamp_at(array, row) else { return false };
            push_timestamp(value, unit, style.iso, out);
            if zone.is_some() {
                out.push('Z');
            }
        }
        _ => return false,
    }
    true
}

/// Whether [`push_scalar`] writes a number or boolean, which JSON and csv never quote.
pub fn is_bare(t: &Arrow) -> bool {
    t.is_numeric() || matches!(t, Arrow::Boolean)
}
