//! Reads numbers and booleans from trimmed text as Flink does; gives nothing for text it does not understand.

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
