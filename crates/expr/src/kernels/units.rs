//! Arithmetic of points in time and intervals, TIMESTAMPDIFF and TIMESTAMPADD; months follow the calendar and clamp to its last day.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{ArrayRef, Int64Array};
use flott_core::text::{civil_from_days, days_from_civil, days_in_month, units_per_second};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::arith::{Operator, refuse_zero};
use super::cast::time_longs;
use super::lift::{binary, primitive};
use super::{Compiled, constant_text};
use crate::compile::{EvalContext, Value};

pub(super) const DAY_MS: i64 = 86_400_000;

/// Whether one side makes this temporal arithmetic.
pub(super) fn is_temporal(a: &TypeKind, b: &TypeKind) -> bool {
    let temporal = |k: &TypeKind| is_point(k) || is_interval(k);
    temporal(a) || temporal(b)
}

fn is_point(kind: &TypeKind) -> bool {
    kind.is_timestamp() || matches!(kind, TypeKind::Date | TypeKind::Time(_))
}

fn is_interval(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth)
}

/// A temporal column as BIGINTs of `per_second`: DATE as seconds, TIME as milliseconds, instants as local time when `zone` is given.
pub(super) fn seconds_like(array: &ArrayRef, kind: &TypeKind, ctx: Option<&EvalContext>) -> Result<(Int64Array, i64)> {
    Ok(match kind {
        TypeKind::Date => (array.as_primitive::<Date32Type>().unary(|d| i64::from(d) * 86_400), 1),
        TypeKind::Time(_) => (array.as_primitive::<Time32MillisecondType>().unary(i64::from), 1000),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let per_second = units_per_second(*p);
            let values = time_longs(array, kind)?.as_primitive::<Int64Type>().clone();
            match (kind, ctx) {
                (TypeKind::TimestampLtz(_), Some(ctx)) if ctx.zone != chrono_tz::Tz::UTC => {
                    (values.unary(|v| super::zone::to_local(ctx.zone, v, per_second)), per_second)
                }
                _ => (values, per_second),
            }
        }
        other => return Err(Error::bug(format!("{other} is no time"))),
    })
}

/// The way back from [`seconds_like`], zone excepted.
pub(super) fn from_seconds_like(values: Int64Array, kind: &TypeKind) -> Result<ArrayRef> {
    Ok(match kind {
        TypeKind::Date => Arc::new(values.unary::<_, Date32Type>(|v| v.div_euclid(86_400) as i32)),
        TypeKind::Time(_) => Arc::new(values.unary::<_, Time32MillisecondType>(|v| v.rem_euclid(DAY_MS) as i32)),
        _ => super::cast::time_from_longs(&(Arc::new(values) as ArrayRef), kind)?,
    })
}

fn reshape(value: &Value, array: ArrayRef) -> Value {
    if value.is_scalar() { Value::Scalar(array) } else { Value::Array(array) }
}

/// `a op b` where one is a point in time or an interval.
pub(super) fn arithmetic(operator: Operator, a: &TypeKind, b: &TypeKind, out: &TypeKind) -> Result<Compiled> {
    let sign = if operator == Operator::Minus { -1 } else { 1 };
    let (kind, result) = (a.clone(), out.clone());
    if is_point(a) && is_point(b) {
        return Ok(Compiled::total(move |args, n, _| {
            let (x, per_second) = seconds_like(args[0].array(), &kind, None)?;
            let (y, _) = seconds_like(args[1].array(), &kind, None)?;
            let (x, y) = (reshape(&args[0], Arc::new(x)), reshape(&args[1], Arc::new(y)));
            let difference =
                binary::<Int64Type, Int64Type, Int64Type>(&x, &y, n, |x, y| to_ms(x.wrapping_sub(y), per_second))?;
            Ok(Arc::new(difference))
        }));
    }
    if is_point(a) && *b == TypeKind::IntervalDayTime {
        return Ok(Compiled::total(move |args, n, _| {
            let (x, per_second) = seconds_like(args[0].array(), &kind, None)?;
            let x = reshape(&args[0], Arc::new(x));
            let moved = binary::<Int64Type, Int64Type, Int64Type>(&x, &args[1], n, |x, ms| {
                x.wrapping_add(sign * from_ms(ms, per_second))
            })?;
            from_seconds_like(moved, &result)
        }));
    }
    if is_point(a) && *b == TypeKind::IntervalYearMonth {
        return Ok(Compiled::total(move |args, n, _| {
            let (x, per_second) = seconds_like(args[0].array(), &kind, None)?;
            let x = reshape(&args[0], Arc::new(x));
            let moved = binary::<Int64Type, Int32Type, Int64Type>(&x, &args[1], n, |x, months| {
                add_months(x, per_second, sign * i64::from(months))
            })?;
            from_seconds_like(moved, &result)
        }));
    }
    intervals(operator, a, b)
}

fn intervals(operator: Operator, a: &TypeKind, b: &TypeKind) -> Result<Compiled> {
    use Operator::*;
    let months = *a == TypeKind::IntervalYearMonth;
    Ok(match operator {
        Plus | Minus if a == b && is_interval(a) => Compiled::total(move |args, n, _| {
            let sign = if operator == Minus { -1 } else { 1 };
            let (x, y) = (&args[0], &args[1]);
            Ok(match months {
                true => Arc::new(binary::<Int32Type, Int32Type, Int32Type>(x, y, n, |x, y| {
                    x.wrapping_add(y.wrapping_mul(sign as i32))
                })?),
                false => Arc::new(binary::<Int64Type, Int64Type, Int64Type>(x, y, n, |x, y| {
                    x.wrapping_add(y.wrapping_mul(sign))
                })?),
            })
        }),
        Times | Divide if is_interval(a) => Compiled {
            fallible: operator == Divide,
            kernel: Box::new(move |args, n, _| {
                let (x, y) = (&args[0], &args[1]);
                if operator == Divide {
                    refuse_zero::<Int64Type>(args, n)?;
                }
                let scale = move |x: i64, y: i64| match (operator, y) {
                    (Times, _) => x.wrapping_mul(y),
                    (_, 0) => 0,
                    _ => x.wrapping_div(y),
                };
                Ok(match months {
                    true => Arc::new(binary::<Int32Type, Int64Type, Int32Type>(x, y, n, |x, y| {
                        scale(i64::from(x), y) as i32
                    })?),
                    false => Arc::new(binary::<Int64Type, Int64Type, Int64Type>(x, y, n, scale)?),
                })
            }),
        },
        _ => return Err(Error::bug(format!("no kernel for {operator:?} of {a} and {b}"))),
    })
}

/// Whole milliseconds, rounded down.
pub(super) fn to_ms(value: i64, per_second: i64) -> i64 {
    if per_second >= 1000 { value.div_euclid(per_second / 1000) } else { value.wrapping_mul(1000 / per_second) }
}

pub(super) fn from_ms(ms: i64, per_second: i64) -> i64 {
    if per_second >= 1000 { ms.wrapping_mul(per_second / 1000) } else { ms / (1000 / per_second) }
}

/// `months` later, on the same day or the month's last.
pub(super) fn add_months(value: i64, per_second: i64, months: i64) -> i64 {
    let day_units = 86_400 * per_second;
    let (days, rest) = (value.div_euclid(day_units), value.rem_euclid(day_units));
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(days_in_month(year, month))).wrapping_mul(day_units).wrapping_add(rest)
}

/// Months from `a` to `b` as Flink counts them: those between the days, and one less only where the days meet at an earlier time.
fn months_between(a: i64, b: i64, per_second: i64) -> i64 {
    let day_units = 86_400 * per_second;
    let (from, to) = (a.div_euclid(day_units), b.div_euclid(day_units));
    let months = if to < from { -months_of_days(to, from) } else { months_of_days(from, to) };
    let earlier = to_ms(b.rem_euclid(day_units), per_second) < to_ms(a.rem_euclid(day_units), per_second);
    if earlier && add_months(from * 86_400, 1, months) == to * 86_400 { months - 1 } else { months }
}

/// Whole months from one day to a later one.
fn months_of_days(from: i64, to: i64) -> i64 {
    let month_of = |days: i64| {
        let (y, m, _) = civil_from_days(days);
        y * 12 + i64::from(m)
    };
    let months = month_of(to) - month_of(from);
    if add_months(from * 86_400, 1, months) > to * 86_400 { months - 1 } else { months }
}

/// How long a unit is: milliseconds, or months.
#[derive(Clone, Copy)]
enum Length {
    Ms(i64),
    Months(i64),
}

fn length(unit: &str) -> Option<Length> {
    Some(match unit {
        "MILLISECOND" => Length::Ms(1),
        "SECOND" => Length::Ms(1000),
        "MINUTE" => Length::Ms(60_000),
        "HOUR" => Length::Ms(3_600_000),
        "DAY" => Length::Ms(DAY_MS),
        "WEEK" => Length::Ms(7 * DAY_MS),
        "MONTH" => Length::Months(1),
        "QUARTER" => Length::Months(3),
        "YEAR" => Length::Months(12),
        "DECADE" => Length::Months(120),
        "CENTURY" => Length::Months(1200),
        "MILLENNIUM" => Length::Months(12_000),
        _ => return None,
    })
}

/// TIMESTAMPDIFF and TIMESTAMPADD.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    if !matches!(function, "TIMESTAMPDIFF" | "TIMESTAMPADD") {
        return Ok(None);
    }
    let unit = constant_text(&args[0]).unwrap_or_default();
    let Some(length) = length(unit) else {
        return Err(Error::user("sql.function", format!("{function} does not take the unit {unit}"))
            .detail("expected one of YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND"));
    };
    let kind = args[2].data_type.kind.clone();
    let result = out.kind.clone();
    Ok(Some(match function {
        "TIMESTAMPDIFF" => Compiled::total(move |args, n, _| {
            let (a, per_second) = seconds_like(args[1].array(), &kind, None)?;
            let (b, _) = seconds_like(args[2].array(), &kind, None)?;
            let (a, b) = (reshape(&args[1], Arc::new(a)), reshape(&args[2], Arc::new(b)));
            let difference = binary::<Int64Type, Int64Type, Int32Type>(&a, &b, n, |a, b| match length {
                Length::Ms(ms) => (to_ms(b, per_second).wrapping_sub(to_ms(a, per_second)) / ms) as i32,
                Length::Months(m) => (months_between(a, b, per_second) / m) as i32,
            })?;
            Ok(Arc::new(difference))
        }),
        _ => Compiled::total(move |args, n, _| {
            let (t, per_second) = seconds_like(args[2].array(), &kind, None)?;
            let t = reshape(&args[2], Arc::new(t));
            primitive::<Int64Type>(&args[1])?;
            let moved = binary::<Int64Type, Int64Type, Int64Type>(&args[1], &t, n, |count, t| match length {
                Length::Ms(ms) => t.wrapping_add(from_ms(count.wrapping_mul(ms), per_second)),
                Length::Months(m) => add_months(t, per_second, count.wrapping_mul(m).clamp(-1_200_000, 1_200_000)),
            })?;
            from_seconds_like(moved, &result)
        }),
    }))
}
