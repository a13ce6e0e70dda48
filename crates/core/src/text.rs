//! Flink's text forms of numbers, dates and times, written and read without allocation; never knows time zones or locales.

mod digits;

use std::fmt::Write;

use digits::Digits;

/// A DOUBLE as Java's `Double.toString` writes it (before Java 19): `1.0`, `1.0E10`, `NaN`, `-Infinity`.
pub fn java_double(value: f64, out: &mut String) {
    java_float_text(value, digits::of_double, out);
}

/// A FLOAT as Java's `Float.toString` writes it.
pub fn java_float(value: f32, out: &mut String) {
    java_float_text(f64::from(value), |v| digits::of_float(v as f32), out);
}

/// [`java_double`] into a new string.
pub fn java_double_to_string(value: f64) -> String {
    let mut out = String::new();
    java_double(value, &mut out);
    out
}

fn java_float_text(value: f64, digits: impl Fn(f64) -> Digits, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_infinite() {
        return out.push_str("Infinity");
    }
    if value == 0.0 {
        return out.push_str("0.0");
    }
    let digits = digits(value.abs());
    let text = std::str::from_utf8(&digits.bytes[..digits.len]).expect("digits are ASCII");
    let ((first, rest), exponent) = (text.split_at(1), digits.exponent);
    if (0..7).contains(&exponent) {
        let whole = exponent as usize;
        out.push_str(first);
        if rest.len() > whole {
            out.push_str(&rest[..whole]);
            out.push('.');
            out.push_str(&rest[whole..]);
        } else {
            out.push_str(rest);
            out.extend(std::iter::repeat_n('0', whole - rest.len()));
            out.push_str(".0");
        }
    } else if (-3..0).contains(&exponent) {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.push_str(text);
    } else {
        out.push_str(first);
        out.push('.');
        out.push_str(if rest.is_empty() { "0" } else { rest });
        write!(out, "E{exponent}").expect("strings accept text");
    }
}

/// A DECIMAL with all digits of its scale: `123.400`.
pub fn format_decimal(unscaled: i128, scale: u8, out: &mut String) {
    if unscaled < 0 {
        out.push('-');
    }
    let scale = u32::from(scale);
    let (Some(power), digits) = (10u128.checked_pow(scale), unscaled.unsigned_abs()) else {
        return out.push_str("NULL");
    };
    write_number(digits / power, out);
    if scale > 0 {
        out.push('.');
        let mut fraction = digits % power;
        let mut place = power / 10;
        while place > 0 {
            out.push(char::from(b'0' + (fraction / place) as u8));
            fraction %= place;
            place /= 10;
        }
    }
}

fn write_number(n: u128, out: &mut String) {
    match u64::try_from(n) {
        Ok(n) => write!(out, "{n}"),
        Err(_) => write!(out, "{n}"),
    }
    .expect("strings accept text");
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days in a month.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `n` with at least `width` digits.
pub fn push_padded(n: u64, width: usize, out: &mut String) {
    if width == 2 && n < 100 {
        out.push(char::from(b'0' + (n / 10) as u8));
        out.push(char::from(b'0' + (n % 10) as u8));
        return;
    }
    write!(out, "{n:0width$}").expect("strings accept text");
}

/// A DATE: `yyyy-MM-dd`.
pub fn format_date(days: i64, out: &mut String) {
    let (year, month, day) = civil_from_days(days);
    if year < 0 {
        out.push('-');
    }
    push_padded(year.unsigned_abs(), 4, out);
    out.push('-');
    push_padded(u64::from(month), 2, out);
    out.push('-');
    push_padded(u64::from(day), 2, out);
}

/// A TIME: `HH:mm:ss`, with `precision` fractional digits.
pub fn format_time(nanos_of_day: i64, precision: u8, out: &mut String) {
    let seconds = nanos_of_day.div_euclid(1_000_000_000).rem_euclid(86_400) as u64;
    push_padded(seconds / 3600, 2, out);
    out.push(':');
    push_padded(seconds / 60 % 60, 2, out);
    out.push(':');
    push_padded(seconds % 60, 2, out);
    if precision > 0 {
        let digits = u32::from(precision.min(9));
        let fraction = nanos_of_day.rem_euclid(1_000_000_000) as u64 / 10u64.pow(9 - digits);
        out.push('.');
        push_padded(fraction, digits as usize, out);
    }
}

/// Units of a second in the Arrow type that carries TIMESTAMP(`precision`).
pub fn units_per_second(precision: u8) -> i64 {
    match precision {
        0..=3 => 1_000,
        4..=6 => 1_000_000,
        _ => 1_000_000_000,
    }
}

/// A TIMESTAMP(`precision`), in the unit of its Arrow type: `yyyy-MM-dd HH:mm:ss.SSS`.
pub fn format_timestamp(value: i64, precision: u8, out: &mut String) {
    let per_second = units_per_second(precision);
    let seconds = value.div_euclid(per_second);
    let fraction = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    format_date(seconds.div_euclid(86_400), out);
    out.push(' ');
    format_time(seconds.rem_euclid(86_400) * 1_000_000_000 + fraction, precision, out);
}

/// Reads `y-M-d` as days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = body.split('-');
    let year = digits(parts.next()?, 1, 6)?;
    let month = parts.next().map_or(Some(1), |m| digits(m, 1, 2))? as u32;
    let day = parts.next().map_or(Some(1), |d| digits(d, 1, 2))? as u32;
    let year = if negative { -year } else { year };
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month) && parts.next().is_none();
    valid.then(|| days_from_civil(year, month, day))
}

/// Reads `HH[:mm[:ss[.fraction]]]` as nanoseconds of the day.
pub fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, digits(fraction, 1, 9)? * 10i64.pow(9 - fraction.len() as u32)),
        None => (text, 0),
    };
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 1, 2)?;
    let minute = parts.next().map_or(Some(0), |m| digits(m, 1, 2))?;
    let second = parts.next().map_or(Some(0), |s| digits(s, 1, 2))?;
    let valid = hour < 24 && minute < 60 && second < 60 && parts.next().is_none();
    valid.then_some((hour * 3600 + minute * 60 + second) * 1_000_000_000 + fraction)
}

/// Reads `y-M-d[( |T)HH:mm[:ss[.fraction]]]` as seconds since 1970-01-01 00:00:00 and nanoseconds; no zone is understood.
pub fn parse_timestamp(text: &str) -> Option<(i64, u32)> {
    let (date, time) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], parse_time(&text[at + 1..])?),
        None => (text, 0),
    };
    // Unlike a DATE, it names its day.
    if date.bytes().filter(|b| *b == b'-').count() < 2 {
        return None;
    }
    Some((parse_date(date)? * 86_400 + time / 1_000_000_000, (time % 1_000_000_000) as u32))
}

/// [`parse_timestamp`] in the unit of the Arrow type of TIMESTAMP(`precision`); digits beyond the precision are cut off.
pub fn parse_timestamp_units(text: &str, precision: u8) -> Option<i64> {
    let (seconds, nanos) = parse_timestamp(text)?;
    let per_second = units_per_second(precision);
    let step = 10i64.pow(u32::from(9 - precision.min(9)));
    let nanos = i64::from(nanos) / step * step;
    seconds.checked_mul(per_second)?.checked_add(nanos / (1_000_000_000 / per_second))
}

fn digits(text: &str, min: usize, max: usize) -> Option<i64> {
    let ok = (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.bytes().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        f(&mut out);
        out
    }

    #[test]
    fn doubles_look_as_in_java() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1234567.0, "1234567.0"),
            (12345678.0, "1.2345678E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.00099, "9.9E-4"),
            (0.908, "0.908"),
            (-123.456, "-123.456"),
            (1.7976931348623157e308, "1.7976931348623157E308"),
            (5e-324, "4.9E-324"),
            (2e23, "1.9999999999999998E23"),
            (1e23, "9.999999999999999E22"),
            (2e-3, "0.002"),
            (1.1e-5, "1.1E-5"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (9.4e15, "9.4E15"),
            (12345678901234567890.0, "1.2345678901234567E19"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(java_double_to_string(value), expected);
        }
        assert_eq!(text(|o| java_float(1.1, o)), "1.1");
        assert_eq!(text(|o| java_float(1e7, o)), "1.0E7");
        for (value, expected) in [
            (123_456_789.0, "1.23456792E8"),
            (2_147_483_648.0, "2.14748365E9"),
            (33_554_430.0, "3.355443E7"),
            (f32::MIN_POSITIVE, "1.17549435E-38"),
            (1e-45, "1.4E-45"),
            (f32::MAX, "3.4028235E38"),
            (8.41e21, "8.41E21"),
            (0.3, "0.3"),
            (-9.223372e18, "-9.223372E18"),
        ] {
            assert_eq!(text(|o| java_float(value, o)), expected);
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(text(|o| format_decimal(123_400, 3, o)), "123.400");
        assert_eq!(text(|o| format_decimal(-5, 2, o)), "-0.05");
        assert_eq!(text(|o| format_decimal(7, 0, o)), "7");
        assert_eq!(text(|o| format_decimal(i128::MAX, 38, o)), "1.70141183460469231731687303715884105727");
    }

    #[test]
    fn dates_and_times_round_trip() {
        for days in [-719_528, -1, 0, 1, 59, 11_016, 20_468, 2_932_896] {
            assert_eq!(parse_date(&text(|o| format_date(days, o))), Some(days));
        }
        assert_eq!(text(|o| format_timestamp(1_768_520_760_953, 3, o)), "2026-01-15 23:46:00.953");
        assert_eq!(text(|o| format_timestamp(-1, 3, o)), "1969-12-31 23:59:59.999");
        assert_eq!(text(|o| format_timestamp(1_000, 0, o)), "1970-01-01 00:00:01");
        assert_eq!(text(|o| format_timestamp(1_500_000, 6, o)), "1970-01-01 00:00:01.500000");
        assert_eq!(parse_timestamp_units("2026-01-15 23:46:00.953", 3), Some(1_768_520_760_953));
        assert_eq!(parse_timestamp_units("2026-01-15T23:46", 3), Some(1_768_520_760_000));
        assert_eq!(parse_timestamp_units("1970-01-01 00:00:00.9999", 3), Some(999));
        for bad in ["", "x", "2026-13-01", "2026-02-29", "2026-01-01 24:00:00", "2026-01-01 00:00:00Z", "2026-01-01 "] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }
}
