//! Casts among numbers and booleans: Java's narrowing for primitives, rounding half up and NULL on overflow for DECIMAL.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use super::{Convert, parse};
use crate::kernels::decimal::{fits, power, rescale};

/// Java's primitive conversions: integers wrap; floats saturate to INT or BIGINT first.
trait Primitive: Copy + Send + Sync {
    fn i8(self) -> i8;
    fn i16(self) -> i16;
    fn i32(self) -> i32;
    fn i64(self) -> i64;
    fn f32(self) -> f32;
    fn f64(self) -> f64;
    /// Exactly, for integers; floats through their shortest text, as `BigDecimal.valueOf`.
    fn decimal(self, precision: u8, scale: u8) -> Option<i128>;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Primitive for $t {
            fn i8(self) -> i8 { self as i8 }
            fn i16(self) -> i16 { self as i16 }
            fn i32(self) -> i32 { self as i32 }
            fn i64(self) -> i64 { self as i64 }
            fn f32(self) -> f32 { self as f32 }
            fn f64(self) -> f64 { self as f64 }
            fn decimal(self, precision: u8, scale: u8) -> Option<i128> {
                rescale(i128::from(self), 0, scale, precision)
            }
        }
    )*};
}
integers!(i8, i16, i32, i64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Primitive for $t {
            fn i8(self) -> i8 { self as i32 as i8 }
            fn i16(self) -> i16 { self as i32 as i16 }
            fn i32(self) -> i32 { self as i32 }
            fn i64(self) -> i64 { self as i64 }
            fn f32(self) -> f32 { self as f32 }
            fn f64(self) -> f64 { self as f64 }
            fn decimal(self, precision: u8, scale: u8) -> Option<i128> {
                let mut text = String::new();
                write!(text, "{self:e}").ok()?;
                parse::decimal(&text, precision, scale).flatten()
            }
        }
    )*};
}
floats!(f32, f64);

/// Between two numeric types.
pub(super) fn convert(from: &TypeKind, to: &TypeKind) -> Result<Convert> {
    Ok(match from {
        TypeKind::TinyInt => primitive::<Int8Type>(to)?,
        TypeKind::SmallInt => primitive::<Int16Type>(to)?,
        TypeKind::Int => primitive::<Int32Type>(to)?,
        TypeKind::BigInt => primitive::<Int64Type>(to)?,
        TypeKind::Float => primitive::<Float32Type>(to)?,
        TypeKind::Double => primitive::<Float64Type>(to)?,
        TypeKind::Decimal(_, s) => decimal(*s, to)?,
        other => return Err(Error::bug(format!("{other} is no number"))),
    })
}

fn mapped<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    f: impl Fn(A::Native) -> B::Native + Send + Sync + 'static,
) -> Convert {
    Box::new(move |a, _| Ok(Arc::new(a.as_primitive::<A>().unary::<_, B>(&f))))
}

fn primitive<A: ArrowPrimitiveType>(to: &TypeKind) -> Result<Convert>
where
    A::Native: Primitive,
{
    Ok(match to {
        TypeKind::TinyInt => mapped::<A, Int8Type>(Primitive::i8),
        TypeKind::SmallInt => mapped::<A, Int16Type>(Primitive::i16),
        TypeKind::Int => mapped::<A, Int32Type>(Primitive::i32),
        TypeKind::BigInt => mapped::<A, Int64Type>(Primitive::i64),
        TypeKind::Float => mapped::<A, Float32Type>(Primitive::f32),
        TypeKind::Double => mapped::<A, Float64Type>(Primitive::f64),
        TypeKind::Decimal(p, s) => {
            let (p, s, arrow) = (*p, *s, to.to_arrow());
            Box::new(move |a, _| {
                let source = a.as_primitive::<A>();
                let out: Decimal128Array = source.unary_opt(|v| v.decimal(p, s));
                Ok(Arc::new(out.with_data_type(arrow.clone())))
            })
        }
        other => return Err(Error::bug(format!("{other} is no number"))),
    })
}

fn decimal(scale: u8, to: &TypeKind) -> Result<Convert> {
    let unit = power(scale);
    let double = move |v: i128| decimal_to_double(v, scale);
    Ok(match to {
        TypeKind::TinyInt => mapped::<Decimal128Type, Int8Type>(move |v| (v / unit) as i8),
        TypeKind::SmallInt => mapped::<Decimal128Type, Int16Type>(move |v| (v / unit) as i16),
        TypeKind::Int => mapped::<Decimal128Type, Int32Type>(move |v| (v / unit) as i32),
        TypeKind::BigInt => mapped::<Decimal128Type, Int64Type>(move |v| (v / unit) as i64),
        TypeKind::Float => mapped::<Decimal128Type, Float32Type>(move |v| double(v) as f32),
        TypeKind::Double => mapped::<Decimal128Type, Float64Type>(double),
        TypeKind::Decimal(p, s) => {
            let (p, s, arrow) = (*p, *s, to.to_arrow());
            Box::new(move |a, _| {
                let source = a.as_primitive::<Decimal128Type>();
                let out: Decimal128Array = match s == scale {
                    true => source.unary_opt(|v| fits(v, p).then_some(v)),
                    false => source.unary_opt(|v| rescale(v, scale, s, p)),
                };
                Ok(Arc::new(out.with_data_type(arrow.clone())))
            })
        }
        other => return Err(Error::bug(format!("{other} is no number"))),
    })
}

/// The nearest DOUBLE; exact division while both parts are exact.
pub(crate) fn decimal_to_double(value: i128, scale: u8) -> f64 {
    if value.unsigned_abs() < 1 << 53 && scale <= 22 {
        return value as f64 / 10f64.powi(i32::from(scale));
    }
    let mut text = String::new();
    flott_core::text::format_decimal(value, scale, &mut text);
    text.parse().unwrap_or(f64::NAN)
}

/// BOOLEAN as 1 and 0.
pub(super) fn from_boolean(to: &TypeKind) -> Result<Convert> {
    let next = (*to != TypeKind::Int).then(|| convert(&TypeKind::Int, to)).transpose()?;
    Ok(Box::new(move |a, ctx| {
        let ints: Int32Array = a.as_boolean().iter().map(|b| b.map(i32::from)).collect();
        let ints: ArrayRef = Arc::new(ints);
        next.as_ref().map_or(Ok(Arc::clone(&ints)), |f| f(&ints, ctx))
    }))
}

/// TRUE for every number but 0.
pub(super) fn to_boolean(from: &TypeKind) -> Result<Convert> {
    if matches!(from, TypeKind::Decimal(..)) {
        return Ok(Box::new(|a, _| {
            Ok(Arc::new(BooleanArray::from_unary(a.as_primitive::<Decimal128Type>(), |v| v != 0)))
        }));
    }
    let first = convert(from, &TypeKind::Double)?;
    Ok(Box::new(move |a, ctx| {
        let doubles = first(a, ctx)?;
        Ok(Arc::new(BooleanArray::from_unary(doubles.as_primitive::<Float64Type>(), |v| v != 0.0)))
    }))
}
