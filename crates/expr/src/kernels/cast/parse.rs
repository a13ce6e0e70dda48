//! Reads numbers and booleans from trimmed text as Flink does; gives nothing for text it does not understand.

use flott_core::text::{days_from_civil, days_in_month};

use crate::kernels::decimal::{divide_half_up, fits, power};

/// `true`, `t`, `yes`, `y`, `1` and their opposites, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is(&["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// An integer; a well-formed fraction is cut off.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) => {
            if !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
                return None;
            }
            match whole {
                "" | "-" | "+" if !fraction.is_empty() => return Some(0),
                _ => whole,
            }
        }
        None => text,
    };
    whole.parse().ok()
}

/// A DOUBLE as Java's `Double.parseDouble` reads it.
pub(crate) fn double(text: &str) -> Option<f64> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = match body {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ => {
            let number = body.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(body);
            if !number.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
                return None;
            }
            number.parse().ok()?
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A DECIMAL(`precision`, `scale`), rounded half up: `None` when the text is no number, `Some(None)` when it does not fit.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Option<Option<i128>> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, body) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !all_digits || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut value = 0i128;
    let mut dropped = 0i32;
    let mut digits = 0u32;
    // 38 digits fit in 128 bits; what follows only matters for rounding, of which one more digit is enough.
    for b in whole.bytes().chain(fraction.bytes()) {
        if digits >= 38 {
            dropped += 1;
        } else {
            value = value * 10 + i128::from(b - b'0');
            digits += u32::from(value != 0);
        }
    }
    let from_scale = i64::from(fraction.len() as u32) - i64::from(exponent) - i64::from(dropped);
    let shift = i64::from(scale) - from_scale;
    let moved = match shift {
        _ if value == 0 => Some(0),
        0..=38 => value.checked_mul(power(shift as u8)),
        -38..=-1 => Some(divide_half_up(value, power(shift.unsigned_abs() as u8))),
        s if s < 0 => Some(0),
        _ => None,
    };
    Some(moved.filter(|v| fits(*v, precision)).map(|v| if negative { -v } else { v }))
}

/// `H[:m[:s[.fraction]]]` as nanoseconds of the day; a fraction needs its seconds.
pub(crate) fn time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let mut part = |limit: i64| parts.next().map_or(Some(None), |p| number(p, 2).filter(|n| *n < limit).map(Some));
    let (hour, minute, second) = (part(24)??, part(60)?, part(60)?);
    if parts.next().is_some() || fraction.is_some() && second.is_none() {
        return None;
    }
    let seconds = hour * 3600 + minute.unwrap_or(0) * 60 + second.unwrap_or(0);
    Some(seconds * 1_000_000_000 + nanos(fraction.unwrap_or_default())?)
}

/// `yyyy-M-d[ H:m:s[.fraction]]` as seconds since 1970 and nanoseconds, as Flink's CAST reads it: a 31st of a shorter month is its last
/// day, and 24:00:00 the next day.
pub(crate) fn timestamp(text: &str) -> Option<(i64, u32)> {
    let (date, time) = text.split_once(' ').map_or((text, None), |(date, time)| (date, Some(time)));
    let mut parts = date.split('-');
    let year = parts.next().filter(|y| y.len() == 4).and_then(|y| number(y, 4))?;
    let month = number(parts.next()?, 2).filter(|m| (1..=12).contains(m))? as u32;
    let day = number(parts.next()?, 2).filter(|d| (1..=31).contains(d))? as u32;
    if parts.next().is_some() {
        return None;
    }
    let midnight = days_from_civil(year, month, day.min(days_in_month(year, month))) * 86_400;
    let Some(time) = time else { return Some((midnight, 0)) };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(|p| number(p, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let nanos = nanos(fraction)?;
    let midnight_after = (hour, minute, second, nanos) == (24, 0, 0, 0);
    let valid = parts.next().is_none() && (hour < 24 || midnight_after) && minute < 60 && second < 60;
    valid.then_some((midnight + hour * 3600 + minute * 60 + second, nanos as u32))
}

/// Up to nine digits behind a point.
fn nanos(fraction: &str) -> Option<i64> {
    match fraction.len() {
        0 => Some(0),
        n @ 1..=9 => Some(number(fraction, 9)? * 10i64.pow(9 - n as u32)),
        _ => None,
    }
}

fn number(digits: &str, most: usize) -> Option<i64> {
    let ok = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| digits.bytes().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}
