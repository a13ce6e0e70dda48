//! Parts of times (EXTRACT, YEAR …), FLOOR and CEIL to a unit, and the functions that read the context's clock; instants are seen in the session's zone.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use flott_core::text::{civil_from_days, days_from_civil};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::units::{DAY_MS, from_seconds_like, seconds_like};
use super::{Compiled, constant_text, units, zone};

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    if let Some(clock) = clock(function, args, out) {
        return Ok(Some(clock));
    }
    let (unit, at) = match (function, args) {
        ("EXTRACT", [unit, _]) => (constant_text(unit).unwrap_or_default(), 1),
        ("YEAR" | "QUARTER" | "MONTH" | "WEEK" | "HOUR" | "MINUTE" | "SECOND", [_]) => (function, 0),
        ("DAYOFYEAR", [_]) => ("DOY", 0),
        ("DAYOFMONTH", [_]) => ("DAY", 0),
        ("DAYOFWEEK", [_]) => ("DOW", 0),
        ("FLOOR" | "CEIL", [x, unit]) => return to_unit(function == "CEIL", x, unit, out).map(Some),
        _ => return super::time_format::kernel(function, args, out),
    };
    let Some(part) = Part::parse(unit) else {
        return Err(Error::user("sql.function", format!("{function} does not take the unit {unit}")));
    };
    let kind = args[at].data_type.kind.clone();
    if matches!(kind, TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth) {
        return of_interval(part, unit, &kind).map(Some);
    }
    Ok(Some(Compiled::total(move |args, _, ctx| {
        let (values, per_second) = seconds_like(args[at].array(), &kind, Some(ctx))?;
        Ok(Arc::new(values.unary::<_, Int64Type>(|v| part.of(v, per_second))))
    })))
}

/// A part of an interval, with its sign.
fn of_interval(part: Part, unit: &str, kind: &TypeKind) -> Result<Compiled> {
    let (divisor, modulus) = match (part, kind) {
        (Part::Year, TypeKind::IntervalYearMonth) => (12, i64::MAX),
        (Part::Month, TypeKind::IntervalYearMonth) => (1, 12),
        (Part::Day, TypeKind::IntervalDayTime) => (DAY_MS, i64::MAX),
        (Part::Hour, TypeKind::IntervalDayTime) => (3_600_000, 24),
        (Part::Minute, TypeKind::IntervalDayTime) => (60_000, 60),
        (Part::Second, TypeKind::IntervalDayTime) => (1000, 60),
        (Part::Millisecond, TypeKind::IntervalDayTime) => (1, 1000),
        (Part::Epoch, TypeKind::IntervalDayTime) => (1000, i64::MAX),
        _ => {
            return Err(Error::user("sql.function", format!("EXTRACT from {kind} does not take the unit {unit}")));
        }
    };
    let of = move |v: i64| v / divisor % modulus;
    let months = *kind == TypeKind::IntervalYearMonth;
    Ok(Compiled::total(move |args, _, _| {
        Ok(Arc::new(match months {
            true => super::lift::primitive::<Int32Type>(&args[1])?.unary::<_, Int64Type>(|v| of(v.into())),
            false => super::lift::primitive::<Int64Type>(&args[1])?.unary::<_, Int64Type>(of),
        }))
    }))
}

/// A part of a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

impl Part {
    fn parse(unit: &str) -> Option<Self> {
        Some(match unit {
            "MILLENNIUM" => Part::Millennium,
            "CENTURY" => Part::Century,
            "DECADE" => Part::Decade,
            "YEAR" => Part::Year,
            "ISOYEAR" => Part::IsoYear,
            "QUARTER" => Part::Quarter,
            "MONTH" => Part::Month,
            "WEEK" => Part::Week,
            "DAY" => Part::Day,
            "DOW" => Part::DayOfWeek,
            "ISODOW" => Part::IsoDayOfWeek,
            "DOY" => Part::DayOfYear,
            "HOUR" => Part::Hour,
            "MINUTE" => Part::Minute,
            "SECOND" => Part::Second,
            "MILLISECOND" => Part::Millisecond,
            "MICROSECOND" => Part::Microsecond,
            "NANOSECOND" => Part::Nanosecond,
            "EPOCH" => Part::Epoch,
            _ => return None,
        })
    }

    /// Of a local time in `per_second` parts of a second. As in Flink, whole milliseconds are divided towards 1970.
    fn of(self, value: i64, per_second: i64) -> i64 {
        let ms = units::to_ms(value, per_second);
        let days = ms / DAY_MS;
        let date = || civil_from_days(days);
        let within_ms = || value.rem_euclid((per_second / 1000).max(1));
        match self {
            Part::Epoch => ms / 1000,
            Part::Second => ms % 60_000 / 1000,
            Part::Minute => ms % 3_600_000 / 60_000,
            Part::Hour => ms % DAY_MS / 3_600_000,
            Part::Millisecond => ms % 1000,
            Part::Microsecond => ms % 1000 * 1000 + within_ms() * 1000 / (per_second / 1000).max(1),
            Part::Nanosecond => ms % 1000 * 1_000_000 + within_ms() * 1_000_000 / (per_second / 1000).max(1),
            Part::Day => date().2.into(),
            Part::Month => date().1.into(),
            Part::Year => date().0,
            Part::Quarter => (i64::from(date().1) + 2) / 3,
            Part::Decade => date().0 / 10,
            Part::Century => (date().0 + if date().0 > 0 { 99 } else { -99 }) / 100,
            Part::Millennium => (date().0 + if date().0 > 0 { 999 } else { -999 }) / 1000,
            Part::DayOfYear => days - days_from_civil(date().0, 1, 1) + 1,
            Part::DayOfWeek => (days + 4).rem_euclid(7) + 1,
            Part::IsoDayOfWeek => iso_day(days),
            Part::Week => iso_week(days).1,
            Part::IsoYear => iso_week(days).0,
        }
    }
}

/// Monday is 1.
pub(super) fn iso_day(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// ISO 8601's year and week.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    // The Thursday of a week says which year the week belongs to.
    let thursday = days - iso_day(days) + 4;
    let year = civil_from_days(thursday).0;
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// FLOOR or CEIL of a local time. Clock units round whole milliseconds down or up. Larger ones forget the time of the day, of which days
/// before 1970 are one too late, and CEIL stays within the first day of a period: both as in Flink.
fn round_to(part: Part, ceil: bool, value: i64, per_second: i64) -> i64 {
    let ms = units::to_ms(value, per_second);
    let clock = |unit: i64| {
        let floor = ms.div_euclid(unit).wrapping_mul(unit);
        if ceil && floor != ms { floor + unit } else { floor }
    };
    let rounded = match part {
        Part::Nanosecond | Part::Microsecond | Part::Epoch => return value,
        Part::Millisecond => ms,
        Part::Second => clock(1000),
        Part::Minute => clock(60_000),
        Part::Hour => clock(3_600_000),
        Part::Day | Part::DayOfWeek | Part::IsoDayOfWeek | Part::DayOfYear => clock(DAY_MS),
        _ => round_days(part, ceil, ms / DAY_MS).wrapping_mul(DAY_MS),
    };
    units::from_ms(rounded, per_second)
}

/// FLOOR or CEIL of a date.
fn round_days(part: Part, ceil: bool, days: i64) -> i64 {
    let (year, month, day) = mixed_calendar(days);
    let up = i64::from(ceil);
    let inside = i64::from(ceil && (month > 1 || day > 1));
    match part {
        // Weeks start on Sunday here.
        Part::Week => {
            let sunday = (days + 4).rem_euclid(7);
            days_from_civil(year, month, 1) + i64::from(day) - 1 - sunday + if ceil && sunday > 0 { 7 } else { 0 }
        }
        Part::Month => {
            let months = year * 12 + i64::from(month) - 1 + i64::from(ceil && day > 1);
            days_from_civil(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1)
        }
        Part::Quarter => {
            let quarters = year * 4 + i64::from(month - 1) / 3 + inside;
            days_from_civil(quarters.div_euclid(4), quarters.rem_euclid(4) as u32 * 3 + 1, 1)
        }
        Part::Year | Part::IsoYear => days_from_civil(year + inside, 1, 1),
        Part::Decade => days_from_civil((year / 10 + up) * 10, 1, 1),
        Part::Century => days_from_civil(((year + 99) / 100 - 1 + up) * 100 + 1, 1, 1),
        Part::Millennium => days_from_civil(((year + 999) / 1000 - 1 + up) * 1000 + 1, 1, 1),
        _ => days + up,
    }
}

/// Year, month and day: until 1582-10-15 of the Julian calendar, as in Flink's rounding.
fn mixed_calendar(days: i64) -> (i64, u32, u32) {
    const GREGORIAN: i64 = -141_427;
    if days >= GREGORIAN {
        return civil_from_days(days);
    }
    // Days since 1 March 4801 BC, of years that begin in March.
    let count = days + 2_440_588 + 32_082;
    let year = (4 * count + 3).div_euclid(1461);
    let of_year = count - (1461 * year).div_euclid(4);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    (year - 4800 + month / 10, (month + 3 - 12 * (month / 10)) as u32, day as u32)
}

/// FLOOR or CEIL of a DATE in seconds; Flink's CEIL to a day is the next one.
fn round_date(part: Part, ceil: bool, seconds: i64) -> i64 {
    let days = seconds.div_euclid(86_400);
    match part {
        Part::Hour | Part::Minute | Part::Second | Part::Millisecond | Part::Microsecond | Part::Nanosecond => seconds,
        _ => round_days(part, ceil, days).wrapping_mul(86_400),
    }
}

fn to_unit(ceil: bool, x: &Expr, unit: &Expr, out: &DataType) -> Result<Compiled> {
    let text = constant_text(unit).unwrap_or_default();
    let Some(part) = Part::parse(text) else {
        return Err(Error::user("sql.function", format!("FLOOR and CEIL do not take the unit {text}")));
    };
    let (kind, result) = (x.data_type.kind.clone(), out.kind.clone());
    Ok(Compiled::total(move |args, _, ctx| {
        let (values, per_second) = seconds_like(args[0].array(), &kind, None)?;
        let moved = values.unary::<_, Int64Type>(|v| match kind {
            TypeKind::Date => round_date(part, ceil, v),
            // The offset is that of the instant, also where the result has another one.
            TypeKind::TimestampLtz(_) => {
                let offset = zone::to_local(ctx.zone, v, per_second).wrapping_sub(v);
                round_to(part, ceil, v.wrapping_add(offset), per_second).wrapping_sub(offset)
            }
            _ => round_to(part, ceil, v, per_second),
        });
        from_seconds_like(moved, &result)
    }))
}

fn clock(function: &str, args: &[Expr], result: &DataType) -> Option<Compiled> {
    if let ("CURRENT_WATERMARK", [_]) = (function, args) {
        let zone = matches!(result.kind, TypeKind::TimestampLtz(_)).then(|| Arc::<str>::from("UTC"));
        return Some(Compiled::total(move |_, n, ctx| {
            let watermark = ctx.watermark.map(|w| w.0);
            let values: TimestampMillisecondArray = std::iter::repeat_n(watermark, n).collect();
            Ok(Arc::new(values.with_timezone_opt(zone.clone())))
        }));
    }
    if !args.is_empty() {
        return None;
    }
    Some(match function {
        "PROCTIME" | "CURRENT_TIMESTAMP" => Compiled::total(|_, n, ctx| {
            Ok(Arc::new(TimestampMillisecondArray::from_value(ctx.now_ms, n).with_timezone("UTC")))
        }),
        "LOCALTIMESTAMP" => Compiled::total(|_, n, ctx| {
            Ok(Arc::new(TimestampMillisecondArray::from_value(zone::to_local(ctx.zone, ctx.now_ms, 1000), n)))
        }),
        "CURRENT_DATE" => Compiled::total(|_, n, ctx| {
            let days = zone::to_local(ctx.zone, ctx.now_ms, 1000).div_euclid(DAY_MS);
            Ok(Arc::new(Date32Array::from_value(days as i32, n)))
        }),
        "LOCALTIME" => Compiled::total(|_, n, ctx| {
            let ms = zone::to_local(ctx.zone, ctx.now_ms, 1000).rem_euclid(DAY_MS) / 1000 * 1000;
            Ok(Arc::new(Time32MillisecondArray::from_value(ms as i32, n)))
        }),
        "UNIX_TIMESTAMP" => {
            Compiled::total(|_, n, ctx| Ok(Arc::new(Int64Array::from_value(ctx.now_ms.div_euclid(1000), n))))
        }
        _ => return None,
    })
}
