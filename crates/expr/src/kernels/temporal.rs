//! Parts of times (EXTRACT, YEAR …), FLOOR and CEIL to a unit, and the functions that read the context's clock; instants are seen in the session's zone.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use flott_core::text::{civil_from_days, days_from_civil};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::units::{DAY_MS, from_seconds_like, seconds_like};
use super::{Compiled, constant_text, zone};

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
        let instant_s = |v: i64| match kind {
            TypeKind::TimestampLtz(_) => zone::to_instant(ctx.zone, v, per_second).div_euclid(per_second),
            _ => v.div_euclid(per_second),
        };
        Ok(Arc::new(values.unary::<_, Int64Type>(|v| match part {
            Part::Epoch => instant_s(v),
            _ => part.of(v, per_second),
        })))
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

    /// Of a local time in `per_second` parts of a second.
    fn of(self, value: i64, per_second: i64) -> i64 {
        let seconds = value.div_euclid(per_second);
        let fraction = || value.rem_euclid(per_second);
        let days = seconds.div_euclid(86_400);
        let date = || civil_from_days(days);
        match self {
            Part::Epoch => seconds,
            Part::Second => seconds.rem_euclid(60),
            Part::Minute => seconds.div_euclid(60).rem_euclid(60),
            Part::Hour => seconds.div_euclid(3600).rem_euclid(24),
            Part::Millisecond => fraction() * 1_000 / per_second,
            Part::Microsecond => fraction() * 1_000_000 / per_second,
            Part::Nanosecond => fraction() * (1_000_000_000 / per_second),
            Part::Day => date().2.into(),
            Part::Month => date().1.into(),
            Part::Year => date().0,
            Part::Quarter => (i64::from(date().1) + 2) / 3,
            Part::Decade => date().0.div_euclid(10),
            Part::Century => (date().0 + 99).div_euclid(100),
            Part::Millennium => (date().0 + 999).div_euclid(1000),
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

/// The largest multiple of `unit` that is not after a local time.
fn floor_to(part: Part, value: i64, per_second: i64) -> i64 {
    let day_units = 86_400 * per_second;
    let step = |size: i64| value.div_euclid(size).wrapping_mul(size);
    let days = value.div_euclid(day_units);
    let (year, month, _) = civil_from_days(days);
    let start = |year: i64, month: u32| days_from_civil(year, month, 1).wrapping_mul(day_units);
    match part {
        Part::Nanosecond | Part::Epoch => value,
        Part::Microsecond => step((per_second / 1_000_000).max(1)),
        Part::Millisecond => step((per_second / 1_000).max(1)),
        Part::Second => step(per_second),
        Part::Minute => step(60 * per_second),
        Part::Hour => step(3600 * per_second),
        Part::Day | Part::DayOfWeek | Part::IsoDayOfWeek | Part::DayOfYear => step(day_units),
        // Flink's weeks start on Sunday here.
        Part::Week => (days - (days + 4).rem_euclid(7)) * day_units,
        Part::Month => start(year, month),
        Part::Quarter => start(year, (month - 1) / 3 * 3 + 1),
        Part::Year | Part::IsoYear => start(year, 1),
        Part::Decade => start(year.div_euclid(10) * 10, 1),
        Part::Century => start((year - 1).div_euclid(100) * 100 + 1, 1),
        Part::Millennium => start((year - 1).div_euclid(1000) * 1000 + 1, 1),
    }
}

fn ceil_to(part: Part, value: i64, per_second: i64) -> i64 {
    let floor = floor_to(part, value, per_second);
    if floor == value {
        return value;
    }
    let months = |n| super::units::add_months(floor, per_second, n);
    match part {
        Part::Month => months(1),
        Part::Quarter => months(3),
        Part::Year | Part::IsoYear => months(12),
        Part::Decade => months(120),
        Part::Century => months(1200),
        Part::Millennium => months(12_000),
        Part::Week => floor + 7 * 86_400 * per_second,
        Part::Day | Part::DayOfWeek | Part::IsoDayOfWeek | Part::DayOfYear => floor + 86_400 * per_second,
        Part::Hour => floor + 3600 * per_second,
        Part::Minute => floor + 60 * per_second,
        Part::Second => floor + per_second,
        Part::Millisecond => floor + (per_second / 1_000).max(1),
        _ => floor + (per_second / 1_000_000).max(1),
    }
}

fn to_unit(ceil: bool, x: &Expr, unit: &Expr, out: &DataType) -> Result<Compiled> {
    let text = constant_text(unit).unwrap_or_default();
    let Some(part) = Part::parse(text) else {
        return Err(Error::user("sql.function", format!("FLOOR and CEIL do not take the unit {text}")));
    };
    let (kind, result) = (x.data_type.kind.clone(), out.kind.clone());
    Ok(Compiled::total(move |args, _, ctx| {
        let (values, per_second) = seconds_like(args[0].array(), &kind, Some(ctx))?;
        let zoned = matches!(kind, TypeKind::TimestampLtz(_));
        let moved = values.unary::<_, Int64Type>(|v| {
            let local = if ceil { ceil_to(part, v, per_second) } else { floor_to(part, v, per_second) };
            if zoned { zone::to_instant(ctx.zone, local, per_second) } else { local }
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
