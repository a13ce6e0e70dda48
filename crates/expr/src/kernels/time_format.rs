//! Times to and from text by Java's `DateTimeFormatter` patterns; a constant pattern is analysed once, usual ones are written without interpretation.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use flott_core::text::{parse_date, parse_timestamp_units, units_per_second};
use flott_core::time_pattern::TimePattern;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::lift::{primitive, rows_opt, rows_text, text};
use super::units::seconds_like;
use super::{Compiled, constant_text, data_error, zone};
use crate::compile::{EvalContext, Value};

/// The pattern when none is given.
const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";
/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let pattern_at = match (function, args.len()) {
        ("DATE_FORMAT", 2) | ("FROM_UNIXTIME" | "TO_TIMESTAMP" | "TO_DATE" | "UNIX_TIMESTAMP", 1 | 2) => 1,
        ("CONVERT_TZ", 3) => return convert_tz().map(Some),
        ("TO_TIMESTAMP_LTZ", 1..=3) if args[0].data_type.kind.is_string() => 1,
        ("TO_TIMESTAMP_LTZ", 2) => return instant_of_number(args, out).map(Some),
        _ => return Ok(None),
    };
    let patterns = Patterns {
        constant: match args.get(pattern_at) {
            None => Some(pattern(if function == "TO_DATE" { "yyyy-MM-dd" } else { DEFAULT })?),
            Some(e) => constant_text(e).map(pattern).transpose()?,
        },
        standard: args.len() == pattern_at,
        at: pattern_at,
    };
    let fallible = patterns.constant.is_none();
    let kind = args[0].data_type.kind.clone();
    let kernel: super::Kernel = match function {
        "DATE_FORMAT" => Box::new(move |args, n, ctx| date_format(&patterns, &kind, args, n, ctx)),
        "FROM_UNIXTIME" => Box::new(move |args, n, ctx| {
            let (source, m) = (primitive::<Int64Type>(&args[0])?, args[0].row_mask());
            let refs: Vec<&Value> = args.iter().collect();
            let out = rows_text(&refs, n, |i, out| {
                let local = zone::to_local(ctx.zone, source.value(i & m), 1);
                patterns.with(args, i, |p| p.write(local, 1, out))?;
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        "TO_DATE" => Box::new(move |args, n, _| {
            read::<Date32Type>(&patterns, args, n, |ms, _| i32::try_from(ms.div_euclid(86_400_000)).ok())
        }),
        "TO_TIMESTAMP" => {
            Box::new(move |args, n, _| read::<TimestampMillisecondType>(&patterns, args, n, |ms, _| Some(ms)))
        }
        "TO_TIMESTAMP_LTZ" => Box::new(move |args, n, _| {
            let zones = args.get(2).map(text).transpose()?;
            if zones.is_some_and(|z| !args[2].is_scalar() || z.is_null(0)) {
                return Err(data_error("the zone of TO_TIMESTAMP_LTZ must be a constant"));
            }
            let zone = zones.map_or(chrono_tz::Tz::UTC, |z| zone::parse_zone(z.value(0)).unwrap_or_default());
            let out =
                read::<TimestampMillisecondType>(&patterns, args, n, |ms, _| Some(zone::to_instant(zone, ms, 1000)))?;
            let value = Value::Array(out);
            let typed = primitive::<TimestampMillisecondType>(&value)?.clone();
            Ok(Arc::new(typed.with_timezone("UTC")))
        }),
        // Flink gives the smallest BIGINT for text it cannot read.
        _ => Box::new(move |args, n, ctx| {
            let out = read_or::<Int64Type>(&patterns, args, n, Some(i64::MIN), |ms, offset| {
                let instant_ms = match offset {
                    Some(seconds) => ms - i64::from(seconds) * 1000,
                    None => zone::to_instant(ctx.zone, ms, 1000),
                };
                Some(instant_ms.div_euclid(1000))
            })?;
            Ok(out)
        }),
    };
    Ok(Some(Compiled { kernel, fallible }))
}

/// A number of seconds divided by a power of ten, as the type of the result says.
fn instant_of_number(args: &[Expr], out: &DataType) -> Result<Compiled> {
    let given = match &args[1].kind {
        ExprKind::Literal(Literal::Int(p)) => *p as u32,
        _ => 3,
    };
    let TypeKind::TimestampLtz(precision) = out.kind else {
        return Err(Error::bug("TO_TIMESTAMP_LTZ gives an instant"));
    };
    let (unit, result) = (units_per_second(precision), out.kind.clone());
    // At most nine digits are given, and the type has as many.
    let factor = unit / 10i64.pow(given.min(9));
    let double = args[0].data_type.kind == TypeKind::Double;
    Ok(Compiled::total(move |args, n, _| {
        let m = args[0].row_mask();
        let scaled = |v: i64| if factor > 0 { v.checked_mul(factor) } else { None };
        let longs = match double {
            true => {
                let source = primitive::<Float64Type>(&args[0])?;
                rows_opt::<Int64Type>(&[&args[0]], n, |i| scaled(source.value(i & m) as i64))?
            }
            false => {
                let source = primitive::<Int64Type>(&args[0])?;
                rows_opt::<Int64Type>(&[&args[0]], n, |i| scaled(source.value(i & m)))?
            }
        };
        super::cast::time_from_longs(&(Arc::new(longs) as ArrayRef), &result)
    }))
}

/// CONVERT_TZ: the standard form in one zone to that in another; Java takes an unknown zone for GMT.
fn convert_tz() -> Result<Compiled> {
    let form = pattern(DEFAULT)?;
    Ok(Compiled::total(move |args, n, _| {
        let parts = args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect::<Result<Vec<_>>>()?;
        let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
        let refs: Vec<&Value> = args.iter().collect();
        let zone_of = |name: &str| zone::parse_zone(name).unwrap_or_default();
        let out = rows_text(&refs, n, |i, out| {
            let Some((ms, _)) = form.read(at(0, i)) else { return Ok(false) };
            let instant_ms = zone::to_instant(zone_of(at(1, i)), ms, 1000);
            form.write(zone::to_local(zone_of(at(2, i)), instant_ms, 1000), 1000, out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    }))
}

fn pattern(text: &str) -> Result<TimePattern> {
    TimePattern::parse(text).map_err(|reason| {
        Error::user("sql.data", reason)
            .detail("expected G, y, M, d, D, H, h, k, K, m, s, S, a, E, w, Y, Q or X")
            .hint("quote literal text: 'T'")
    })
}

/// The pattern of each row.
struct Patterns {
    constant: Option<TimePattern>,
    /// No pattern was given: the standard text form, fraction and all, is read.
    standard: bool,
    at: usize,
}

impl Patterns {
    fn with<R>(&self, args: &[Value], i: usize, f: impl FnOnce(&TimePattern) -> R) -> Result<R> {
        match &self.constant {
            Some(pattern) => Ok(f(pattern)),
            None => {
                let patterns = text(&args[self.at])?;
                Ok(f(&pattern(patterns.value(i & args[self.at].row_mask()))?))
            }
        }
    }
}

fn date_format(
    patterns: &Patterns,
    kind: &TypeKind,
    args: &[Value],
    rows: usize,
    ctx: &EvalContext,
) -> Result<ArrayRef> {
    let (values, per_second) = seconds_like(args[0].array(), kind, Some(ctx))?;
    let m = args[0].row_mask();
    let refs: Vec<&Value> = args.iter().collect();
    let Some(pattern) = &patterns.constant else {
        let out = rows_text(&refs, rows, |i, out| {
            patterns.with(args, i, |p| p.write(values.value(i & m), per_second, out))?;
            Ok(true)
        })?;
        return Ok(Arc::new(out));
    };
    // Neighbouring rows mostly share what the pattern shows of them.
    let grain = pattern.grain_s() * per_second;
    let mut last = (i64::MIN, String::new());
    let out = rows_text(&refs, rows, |i, out| {
        let value = values.value(i & m);
        let bucket = if grain > 0 { value.div_euclid(grain) } else { i64::MIN };
        if bucket == i64::MIN || bucket != last.0 {
            last.0 = bucket;
            last.1.clear();
            pattern.write(value, per_second, &mut last.1);
        }
        out.push_str(&last.1);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn read<T: arrow_array::ArrowPrimitiveType>(
    patterns: &Patterns,
    args: &[Value],
    rows: usize,
    f: impl Fn(i64, Option<i32>) -> Option<T::Native>,
) -> Result<ArrayRef> {
    read_or::<T>(patterns, args, rows, None, f)
}

fn read_or<T: arrow_array::ArrowPrimitiveType>(
    patterns: &Patterns,
    args: &[Value],
    rows: usize,
    otherwise: Option<T::Native>,
    f: impl Fn(i64, Option<i32>) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let refs: Vec<&Value> = args.iter().collect();
    let mut failure = None;
    let out = rows_opt::<T>(&refs, rows, |i| {
        let s = source.value(i & m);
        let ms = if patterns.standard {
            let ms = parse_timestamp_units(s.trim(), 3).or_else(|| parse_date(s.trim()).map(|d| d * 86_400_000));
            ms.map(|ms| (ms, None))
        } else {
            patterns.with(args, i, |p| p.read(s)).unwrap_or_else(|e| {
                failure.get_or_insert(e);
                None
            })
        };
        ms.and_then(|(ms, offset)| f(ms, offset)).or(otherwise)
    })?;
    failure.map_or(Ok(Arc::new(out) as ArrayRef), Err)
}
