//! Casts among DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ; instants and local times meet in the session's zone.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use flott_core::text::units_per_second;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use super::Convert;
use crate::kernels::units::{DAY_MS, to_ms};
use crate::kernels::zone::{to_instant, to_local};

const DAY_S: i64 = 86_400;

/// Between two of these types.
pub(super) fn convert(from: &TypeKind, to: &TypeKind) -> Result<Convert> {
    use TypeKind::*;
    let (source, target) = (from.clone(), to.clone());
    let from_zone = matches!(from, TimestampLtz(_));
    let to_zone = matches!(to, TimestampLtz(_));
    Ok(match (from, to) {
        (Date, Timestamp(p) | TimestampLtz(p)) => {
            let per_second = units_per_second(*p);
            Box::new(move |a, ctx| {
                let days = a.as_primitive::<Date32Type>();
                let out = days.unary::<_, Int64Type>(|d| {
                    let local = (i64::from(d) * DAY_S).wrapping_mul(per_second);
                    if to_zone { to_instant(ctx.zone, local, per_second) } else { local }
                });
                from_longs(&(Arc::new(out) as ArrayRef), &target)
            })
        }
        (Timestamp(p) | TimestampLtz(p), Date) => {
            let per_second = units_per_second(*p);
            Box::new(move |a, ctx| {
                let out = longs(a, &source)?.as_primitive::<Int64Type>().unary::<_, Date32Type>(|v| {
                    // Flink divides a local time towards 1970, an instant it rounds down.
                    let day = match from_zone {
                        true => to_local(ctx.zone, v, per_second).div_euclid(DAY_S * per_second),
                        false => to_ms(v, per_second) / DAY_MS,
                    };
                    day as i32
                });
                Ok(Arc::new(out))
            })
        }
        (Timestamp(p) | TimestampLtz(p), Time(q)) => {
            let (per_second, step) = (units_per_second(*p), 10i64.pow(3 - u32::from((*q).min(3))));
            Box::new(move |a, ctx| {
                let out = longs(a, &source)?.as_primitive::<Int64Type>().unary::<_, Time32MillisecondType>(|v| {
                    let ms = match from_zone {
                        true => to_ms(to_local(ctx.zone, v, per_second).rem_euclid(DAY_S * per_second), per_second),
                        false => to_ms(v, per_second) % DAY_MS,
                    };
                    (ms / step * step).rem_euclid(DAY_MS) as i32
                });
                Ok(Arc::new(out))
            })
        }
        (Time(_), Time(q)) => {
            let step = 10i32.pow(3 - u32::from((*q).min(3)));
            Box::new(move |a, _| {
                let times = a.as_primitive::<Time32MillisecondType>();
                Ok(Arc::new(times.unary::<_, Time32MillisecondType>(|v| v / step * step)))
            })
        }
        (Timestamp(p) | TimestampLtz(p), Timestamp(q) | TimestampLtz(q)) => timestamps(from, to, (*p, *q)),
        _ => return Err(Error::bug(format!("no kernel casts {from} to {to}"))),
    })
}

/// From a precision to another, across the zone where only one side is an instant.
fn timestamps(from: &TypeKind, to: &TypeKind, (p, q): (u8, u8)) -> Convert {
    let (source, target) = (from.clone(), to.clone());
    let from_zone = matches!(from, TypeKind::TimestampLtz(_));
    let to_zone = matches!(to, TypeKind::TimestampLtz(_));
    let (a_second, b_second) = (units_per_second(p), units_per_second(q));
    let step = 10i64.pow(u32::from(b_second.ilog10() as u8 - q.min(b_second.ilog10() as u8)));
    // Up to milliseconds Flink cuts digits off towards 1970, smaller parts it rounds down.
    let narrows = q < p;
    Box::new(move |a, ctx| {
        let out = longs(a, &source)?.as_primitive::<Int64Type>().unary::<_, Int64Type>(|v| {
            let v = match (from_zone, to_zone) {
                (true, false) => to_local(ctx.zone, v, a_second),
                (false, true) => to_instant(ctx.zone, v, a_second),
                _ => v,
            };
            let moved = if b_second >= a_second {
                v.wrapping_mul(b_second / a_second)
            } else {
                v.div_euclid(a_second / b_second)
            };
            match b_second {
                1000 if narrows => moved / step * step,
                _ => moved.div_euclid(step).wrapping_mul(step),
            }
        });
        from_longs(&(Arc::new(out) as ArrayRef), &target)
    })
}

/// A timestamp column as plain BIGINTs, without a copy.
pub(crate) fn longs(array: &ArrayRef, kind: &TypeKind) -> Result<ArrayRef> {
    Ok(match kind {
        TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3) => {
            Arc::new(array.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>())
        }
        TypeKind::Timestamp(4..=6) | TypeKind::TimestampLtz(4..=6) => {
            Arc::new(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>())
        }
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            Arc::new(array.as_primitive::<TimestampNanosecondType>().reinterpret_cast::<Int64Type>())
        }
        other => return Err(Error::bug(format!("{other} is no timestamp"))),
    })
}

/// Plain BIGINTs as a timestamp column, without a copy.
pub(crate) fn from_longs(array: &ArrayRef, kind: &TypeKind) -> Result<ArrayRef> {
    let (longs, arrow) = (array.as_primitive::<Int64Type>(), kind.to_arrow());
    Ok(match kind {
        TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3) => {
            Arc::new(longs.reinterpret_cast::<TimestampMillisecondType>().with_data_type(arrow))
        }
        TypeKind::Timestamp(4..=6) | TypeKind::TimestampLtz(4..=6) => {
            Arc::new(longs.reinterpret_cast::<TimestampMicrosecondType>().with_data_type(arrow))
        }
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            Arc::new(longs.reinterpret_cast::<TimestampNanosecondType>().with_data_type(arrow))
        }
        other => return Err(Error::bug(format!("{other} is no timestamp"))),
    })
}
