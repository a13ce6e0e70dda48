//! Writes values as text the way Flink's CAST to STRING does; one writer per column, no allocation per row.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use chrono_tz::Tz;
use flott_core::text;
use flott_core::types::{MAX_LENGTH, TypeKind};

use super::Convert;
use super::time::longs;
use crate::compile::Value;
use crate::kernels::lift::rows_text;
use crate::kernels::zone::to_local;

/// How values look.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Where instants are seen.
    zone: Tz,
    /// Binary data as `x'00ff'`, not as the text it may be.
    hex: bool,
}

/// Writes the values of a column as a result shows them: as CAST to STRING, but binary data in hexadecimal and NULL as `NULL`.
pub fn result_writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, zone: Tz) -> Box<dyn Fn(usize, &mut String) + 'a> {
    let nulls = array.logical_nulls();
    let print = writer(array, kind, Look { zone, hex: true });
    Box::new(move |i, out| match nulls.as_ref().is_some_and(|n| n.is_null(i)) {
        true => out.push_str("NULL"),
        false => print(i, out),
    })
}

/// Row `i`, which is not NULL, as CAST to STRING writes it.
pub(crate) fn printed(array: &ArrayRef, kind: &TypeKind, zone: Tz, i: usize, out: &mut String) {
    writer(array, kind, Look { zone, hex: false })(i, out);
}

/// CAST of `from` to the string type `to`: VARCHAR(n) cuts, CHAR(n) cuts and pads.
pub(super) fn to_text(from: &TypeKind, to: &TypeKind) -> Convert {
    let (from, to) = (from.clone(), to.clone());
    let widens = |n: u32| match from {
        TypeKind::Char(m) | TypeKind::VarChar(m) => m <= n,
        _ => false,
    };
    if matches!(to, TypeKind::VarChar(n) if widens(n)) {
        return Box::new(|a, _| Ok(Arc::clone(a)));
    }
    Box::new(move |a, ctx| {
        let print = writer(a, &from, Look { zone: ctx.zone, hex: false });
        let value = Value::Array(Arc::clone(a));
        let out = rows_text(&[&value], a.len(), |i, out| {
            print(i, out);
            fit(&to, out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

fn fit(to: &TypeKind, out: &mut String) {
    let (TypeKind::Char(n) | TypeKind::VarChar(n)) = to else { return };
    if *n == MAX_LENGTH {
        return;
    }
    let limit = *n as usize;
    if out.len() > limit
        && let Some((at, _)) = out.char_indices().nth(limit)
    {
        out.truncate(at);
    }
    if matches!(to, TypeKind::Char(_)) {
        let length = out.chars().count();
        out.extend(std::iter::repeat_n(' ', limit - length));
    }
}

type Writer<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

fn number<'a, T: ArrowPrimitiveType>(array: &'a ArrayRef) -> Writer<'a>
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>();
    Box::new(move |i, out| write!(out, "{}", array.value(i)).expect("strings accept text"))
}

/// Writes values as CAST to STRING does, one per row that is not NULL.
pub(in crate::kernels) fn text_writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, zone: Tz) -> Writer<'a> {
    writer(array, kind, Look { zone, hex: false })
}

/// Writes row `i`, which is not NULL.
pub(super) fn writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, look: Look) -> Writer<'a> {
    match kind {
        TypeKind::Boolean => {
            let array = array.as_boolean();
            Box::new(move |i, out| out.push_str(if array.value(i) { "TRUE" } else { "FALSE" }))
        }
        TypeKind::TinyInt => number::<Int8Type>(array),
        TypeKind::SmallInt => number::<Int16Type>(array),
        TypeKind::Int => number::<Int32Type>(array),
        TypeKind::BigInt => number::<Int64Type>(array),
        TypeKind::Float => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |i, out| text::java_float(array.value(i), out))
        }
        TypeKind::Double => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |i, out| text::java_double(array.value(i), out))
        }
        TypeKind::Decimal(_, s) => {
            let array = array.as_primitive::<Decimal128Type>();
            Box::new(move |i, out| text::format_decimal(array.value(i), *s, out))
        }
        TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => {
            let array = array.as_string::<i32>();
            Box::new(move |i, out| out.push_str(array.value(i)))
        }
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
            let array = array.as_binary::<i32>();
            if look.hex {
                return Box::new(move |i, out| {
                    out.push_str("x'");
                    array.value(i).iter().for_each(|b| write!(out, "{b:02x}").expect("strings accept text"));
                    out.push('\'');
                });
            }
            Box::new(move |i, out| out.push_str(&String::from_utf8_lossy(array.value(i))))
        }
        TypeKind::Bitmap => {
            let array = array.as_binary::<i32>();
            Box::new(move |i, out| crate::kernels::bitmap::write_text(array.value(i), out))
        }
        TypeKind::Date => {
            let array = array.as_primitive::<Date32Type>();
            Box::new(move |i, out| text::format_date(array.value(i).into(), out))
        }
        TypeKind::Time(p) => {
            let array = array.as_primitive::<Time32MillisecondType>();
            Box::new(move |i, out| text::format_time(i64::from(array.value(i)) * 1_000_000, *p, out))
        }
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => timestamp(array, kind, *p, look.zone),
        TypeKind::IntervalDayTime => {
            let array = array.as_primitive::<Int64Type>();
            Box::new(move |i, out| day_time(array.value(i), out))
        }
        TypeKind::IntervalYearMonth => {
            let array = array.as_primitive::<Int32Type>();
            Box::new(move |i, out| {
                let months = array.value(i);
                let (sign, n) = (if months < 0 { '-' } else { '+' }, months.unsigned_abs());
                write!(out, "{sign}{}-{:02}", n / 12, n % 12).expect("strings accept text");
            })
        }
        TypeKind::Null => Box::new(|_, out| out.push_str("NULL")),
        TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_) => nested(array, kind, look),
    }
}

fn timestamp<'a>(array: &'a ArrayRef, kind: &'a TypeKind, precision: u8, zone: Tz) -> Writer<'a> {
    let zoned = matches!(kind, TypeKind::TimestampLtz(_));
    let per_second = text::units_per_second(precision);
    match longs(array, kind) {
        Ok(values) => Box::new(move |i, out| {
            let value = values.as_primitive::<Int64Type>().value(i);
            let local = if zoned { to_local(zone, value, per_second) } else { value };
            text::format_timestamp(local, precision, out);
        }),
        Err(_) => Box::new(|_, _| {}),
    }
}

fn day_time(ms: i64, out: &mut String) {
    let (sign, n) = (if ms < 0 { '-' } else { '+' }, ms.unsigned_abs());
    let (days, h, m, s, rest) = (n / 86_400_000, n / 3_600_000 % 24, n / 60_000 % 60, n / 1000 % 60, n % 1000);
    write!(out, "{sign}{days} {h:02}:{m:02}:{s:02}.{rest:03}").expect("strings accept text");
}

fn nested<'a>(array: &'a ArrayRef, kind: &'a TypeKind, look: Look) -> Writer<'a> {
    let or_null = |array: &'a ArrayRef, kind: &'a TypeKind| -> Writer<'a> {
        let print = writer(array, kind, look);
        Box::new(move |i, out| if array.is_null(i) { out.push_str("NULL") } else { print(i, out) })
    };
    match kind {
        TypeKind::Row(fields) => {
            let columns = array.as_struct().columns();
            let parts: Vec<Writer<'a>> = fields.iter().zip(columns).map(|((_, t), c)| or_null(c, &t.kind)).collect();
            Box::new(move |i, out| {
                out.push('(');
                for (k, part) in parts.iter().enumerate() {
                    out.push_str(if k > 0 { ", " } else { "" });
                    part(i, out);
                }
                out.push(')');
            })
        }
        TypeKind::Array(item) => {
            let list = array.as_list::<i32>();
            let part = or_null(list.values(), &item.kind);
            Box::new(move |i, out| {
                let (start, end) = (list.value_offsets()[i], list.value_offsets()[i + 1]);
                out.push('[');
                for at in start..end {
                    out.push_str(if at > start { ", " } else { "" });
                    part(at as usize, out);
                }
                out.push(']');
            })
        }
        TypeKind::Map(key, _) | TypeKind::Multiset(key) => {
            let map = array.as_map();
            let value = if let TypeKind::Map(_, value) = kind { &value.kind } else { &TypeKind::Int };
            let (keys, values) = (or_null(map.keys(), &key.kind), or_null(map.values(), value));
            Box::new(move |i, out| {
                let (start, end) = (map.value_offsets()[i], map.value_offsets()[i + 1]);
                out.push('{');
                for at in start..end {
                    out.push_str(if at > start { ", " } else { "" });
                    keys(at as usize, out);
                    out.push('=');
                    values(at as usize, out);
                }
                out.push('}');
            })
        }
        _ => Box::new(|_, _| {}),
    }
}
