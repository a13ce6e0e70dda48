//! CAST and TRY_CAST between all pairs the binder lets through, with Flink's rules; each pair is chosen once, when compiled.

mod number;
pub(crate) mod parse;
mod print;
mod time;

pub(crate) use number::decimal_to_double;
pub(crate) use print::printed;
pub use print::result_writer;
pub(crate) use time::{from_longs as time_from_longs, longs as time_longs};

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_schema::Fields;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use super::lift::{rows_bytes, text, try_rows, try_rows_bool};
use super::{Compiled, data_error};
use crate::compile::{EvalContext, Value};

/// Converts a column; the arguments are NULL-safe.
pub(super) type Convert = Box<dyn Fn(&ArrayRef, &EvalContext) -> Result<ArrayRef> + Send + Sync>;

/// The kernel of CAST from one type to another; `safe`: NULL instead of an error.
pub(crate) fn kernel(from: &TypeKind, to: &TypeKind, safe: bool) -> Result<Compiled> {
    let fallible = !safe
        && !to.is_string()
        && (from.is_string() || matches!(from, TypeKind::Row(_) | TypeKind::Array(_) | TypeKind::Map(..)));
    let convert = converter(from, to, safe)?;
    Ok(Compiled { kernel: Box::new(move |args, _, ctx| convert(args[0].array(), ctx)), fallible })
}

/// Casts a column; what cannot be cast is an error.
pub(super) fn convert(from: &TypeKind, to: &TypeKind, array: ArrayRef, ctx: &EvalContext) -> Result<ArrayRef> {
    if from == to {
        return Ok(array);
    }
    converter(from, to, false)?(&array, ctx)
}

pub(super) use print::text_writer;

fn converter(from: &TypeKind, to: &TypeKind, safe: bool) -> Result<Convert> {
    use TypeKind::*;
    let arrow = to.to_arrow();
    Ok(match (from, to) {
        (Null, _) => Box::new(move |a, _| Ok(new_null_array(&arrow, a.len()))),
        (a, Char(_) | VarChar(_)) => print::to_text(a, to),
        (Char(_) | VarChar(_) | Binary(_) | VarBinary(_), Binary(_) | VarBinary(_)) => binary(from, to),
        (a, b)
            if a.to_arrow() == b.to_arrow()
                && !matches!(b, Timestamp(_) | TimestampLtz(_) | Row(_) | Array(_) | Map(..)) =>
        {
            Box::new(|a, _| Ok(Arc::clone(a)))
        }
        (Char(_) | VarChar(_), _) => from_text(to.clone(), safe)?,
        (Boolean, b) if b.is_numeric() => number::from_boolean(b)?,
        (a, Boolean) if a.is_numeric() => number::to_boolean(a)?,
        (a, b) if a.is_numeric() && b.is_numeric() => number::convert(a, b)?,
        (a, IntervalDayTime) if a.is_integer() => number::convert(a, &BigInt)?,
        (a, IntervalYearMonth) if a.is_integer() => number::convert(a, &Int)?,
        (IntervalDayTime, b) if b.is_integer() => number::convert(&BigInt, b)?,
        (IntervalYearMonth, b) if b.is_integer() => number::convert(&Int, b)?,
        (Date | Time(_) | Timestamp(_) | TimestampLtz(_), Date | Time(_) | Timestamp(_) | TimestampLtz(_)) => {
            time::convert(from, to)?
        }
        (Row(a), Row(b)) => row(a, b, safe)?,
        (Map(k, v), Map(l, w)) => map((&k.kind, &v.kind), (&l.kind, &w.kind), to, safe)?,
        (TypeKind::Array(a), TypeKind::Array(b)) => list(&a.kind, &b.kind, to, safe)?,
        _ => return Err(Error::bug(format!("no kernel casts {from} to {to}"))),
    })
}

/// Text or bytes as bytes: VARBINARY(n) cuts, BINARY(n) cuts and fills with zeros.
fn binary(from: &TypeKind, to: &TypeKind) -> Convert {
    let length = |k: &TypeKind| match k {
        TypeKind::Binary(n) | TypeKind::VarBinary(n) => *n,
        // A character takes a byte at least, and there is no upper bound.
        _ => u32::MAX,
    };
    let (max, fixed) = (length(to) as usize, matches!(to, TypeKind::Binary(_)));
    let fits = length(to) == flott_core::types::MAX_LENGTH || !fixed && length(from) <= length(to) || from == to;
    Box::new(move |a, _| {
        let whole: ArrayRef = match a.as_string_opt::<i32>() {
            Some(text) => Arc::new(text.clone().into_parts_binary()),
            None => Arc::clone(a),
        };
        if fits {
            return Ok(whole);
        }
        let (value, source) = (Value::Array(Arc::clone(&whole)), whole.as_binary::<i32>());
        let out = rows_bytes(&[&value], source.len(), |i, out| {
            let bytes = source.value(i);
            out.extend_from_slice(&bytes[..bytes.len().min(max)]);
            if fixed {
                out.resize(max, 0);
            }
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

/// Bytes of text without a copy.
trait IntoBinary {
    fn into_parts_binary(self) -> BinaryArray;
}

impl IntoBinary for StringArray {
    fn into_parts_binary(self) -> BinaryArray {
        let (offsets, values, nulls) = self.into_parts();
        BinaryArray::new(offsets, values, nulls)
    }
}

fn failed(found: &str, to: &TypeKind) -> Error {
    let shown: String = found.chars().take(100).collect();
    let expected = match to {
        TypeKind::Boolean => "TRUE or FALSE",
        TypeKind::Date => "yyyy-MM-dd",
        TypeKind::Time(_) => "HH:mm:ss",
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => "yyyy-MM-dd HH:mm:ss.SSS",
        _ => "a number in its range",
    };
    data_error(format!("cannot cast '{shown}' to {to}"))
        .detail(format!("expected {expected}"))
        .hint("TRY_CAST gives NULL where CAST fails")
}

/// Reads each text by `read`; `None` from it is a failure.
fn parsed<T: ArrowPrimitiveType>(
    to: TypeKind,
    safe: bool,
    read: impl Fn(&str, &EvalContext) -> Option<T::Native> + Send + Sync + 'static,
) -> Convert {
    let arrow = to.to_arrow();
    Box::new(move |a, ctx| {
        let value = Value::Array(Arc::clone(a));
        let source = text(&value)?;
        let out = try_rows::<T>(&[&value], a.len(), |i| match read(source.value(i), ctx) {
            Some(v) => Ok(Some(v)),
            None if safe => Ok(None),
            None => Err(failed(source.value(i), &to)),
        })?;
        Ok(Arc::new(out.with_data_type(arrow.clone())))
    })
}

/// Days that a text can name: of the years 1 to 9999.
const DATES: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

fn from_text(to: TypeKind, safe: bool) -> Result<Convert> {
    let kind = to.clone();
    Ok(match kind {
        TypeKind::Boolean => Box::new(move |a, _| {
            let value = Value::Array(Arc::clone(a));
            let source = text(&value)?;
            let out = try_rows_bool(&[&value], a.len(), |i| match parse::boolean(source.value(i)) {
                Some(v) => Ok(Some(v)),
                None if safe => Ok(None),
                None => Err(failed(source.value(i), &to)),
            })?;
            Ok(Arc::new(out))
        }),
        TypeKind::TinyInt => parsed::<Int8Type>(to, safe, |s, _| parse::integer(s.trim())?.try_into().ok()),
        TypeKind::SmallInt => parsed::<Int16Type>(to, safe, |s, _| parse::integer(s.trim())?.try_into().ok()),
        TypeKind::Int => parsed::<Int32Type>(to, safe, |s, _| parse::integer(s.trim())?.try_into().ok()),
        TypeKind::BigInt => parsed::<Int64Type>(to, safe, |s, _| parse::integer(s.trim())),
        TypeKind::Float => parsed::<Float32Type>(to, safe, |s, _| parse::double(s.trim()).map(|d| d as f32)),
        TypeKind::Double => parsed::<Float64Type>(to, safe, |s, _| parse::double(s.trim())),
        // Unlike a number, a text with too many digits for the type is an error.
        TypeKind::Decimal(p, s) => {
            let arrow = to.to_arrow();
            Box::new(move |a, _| {
                let value = Value::Array(Arc::clone(a));
                let source = text(&value)?;
                let out = try_rows::<Decimal128Type>(&[&value], a.len(), |i| {
                    match parse::decimal(source.value(i).trim(), p, s).flatten() {
                        Some(number) => Ok(Some(number)),
                        None if safe => Ok(None),
                        None => Err(failed(source.value(i), &to)),
                    }
                })?;
                Ok(Arc::new(out.with_data_type(arrow.clone())))
            })
        }
        TypeKind::Date => parsed::<Date32Type>(to, safe, |s, _| {
            let day = s.trim().split(' ').next().unwrap_or(s);
            flott_core::text::parse_date(day).filter(|d| DATES.contains(d))?.try_into().ok()
        }),
        TypeKind::Time(p) => parsed::<Time32MillisecondType>(to, safe, move |s, _| {
            let nanos = parse::time(s.trim())?;
            let step = 10i64.pow(9 - u32::from(p.min(3)));
            i32::try_from(nanos / step * step / 1_000_000).ok()
        }),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let zoned = matches!(to, TypeKind::TimestampLtz(_));
            let read = move |s: &str, ctx: &EvalContext| {
                let (seconds, nanos) = parse::timestamp(s)?;
                let (per_second, step) = (flott_core::text::units_per_second(p), 10i64.pow(9 - u32::from(p.min(9))));
                let units = i64::from(nanos) / step * step / (1_000_000_000 / per_second);
                let local = seconds.checked_mul(per_second)?.checked_add(units)?;
                Some(if zoned { super::zone::to_instant(ctx.zone, local, per_second) } else { local })
            };
            match p {
                0..=3 => parsed::<TimestampMillisecondType>(to, safe, read),
                4..=6 => parsed::<TimestampMicrosecondType>(to, safe, read),
                _ => parsed::<TimestampNanosecondType>(to, safe, read),
            }
        }
        other => return Err(Error::bug(format!("no kernel reads {other} from text"))),
    })
}

type NamedType = (String, flott_core::types::DataType);

fn row(from: &[NamedType], to: &[NamedType], safe: bool) -> Result<Convert> {
    let parts = from.iter().zip(to).map(|(a, b)| match a.1.kind == b.1.kind {
        true => Ok(Box::new(|a: &ArrayRef, _: &EvalContext| Ok(Arc::clone(a))) as Convert),
        false => converter(&a.1.kind, &b.1.kind, safe),
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let fields: Fields = to.iter().map(|(n, t)| t.to_field(n)).collect();
    Ok(Box::new(move |a, ctx| {
        let source = a.as_struct();
        let columns = parts.iter().zip(source.columns()).map(|(f, c)| f(c, ctx)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new(fields.clone(), columns, source.nulls().cloned())?))
    }))
}

fn list(from: &TypeKind, to: &TypeKind, whole: &TypeKind, safe: bool) -> Result<Convert> {
    let convert: Convert = if from == to { Box::new(|a, _| Ok(Arc::clone(a))) } else { converter(from, to, safe)? };
    let arrow_schema::DataType::List(field) = whole.to_arrow() else { return Err(Error::bug("an ARRAY is a list")) };
    Ok(Box::new(move |a, ctx| {
        let source = a.as_list::<i32>();
        let values = convert(source.values(), ctx)?;
        let nulls = source.nulls().cloned();
        Ok(Arc::new(ListArray::try_new(Arc::clone(&field), source.offsets().clone(), values, nulls)?))
    }))
}

fn map(from: (&TypeKind, &TypeKind), to: (&TypeKind, &TypeKind), whole: &TypeKind, safe: bool) -> Result<Convert> {
    let part = |from: &TypeKind, to: &TypeKind| -> Result<Convert> {
        if from == to { Ok(Box::new(|a, _| Ok(Arc::clone(a)))) } else { converter(from, to, safe) }
    };
    let (keys, values) = (part(from.0, to.0)?, part(from.1, to.1)?);
    let arrow_schema::DataType::Map(entries, _) = whole.to_arrow() else { return Err(Error::bug("a MAP is a map")) };
    let arrow_schema::DataType::Struct(fields) = entries.data_type().clone() else {
        return Err(Error::bug("a map has entries"));
    };
    Ok(Box::new(move |a, ctx| {
        let source = a.as_map();
        let columns = vec![keys(source.keys(), ctx)?, values(source.values(), ctx)?];
        let rows = StructArray::try_new(fields.clone(), columns, None)?;
        let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
        Ok(Arc::new(MapArray::try_new(Arc::clone(&entries), offsets, rows, nulls, false)?))
    }))
}
