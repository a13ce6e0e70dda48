//! `+ - * / %` and unary minus: integers wrap, division of integers by zero is an error, floats follow IEEE; DECIMAL is in `decimal`.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use flott_core::Result;
use flott_core::types::{DataType, TypeKind};
use flott_plan::expr::Expr;

use super::lift::{binary, is_valid, primitive, valid};
use super::{Compiled, data_error, decimal, units};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let Some(operator) = Operator::parse(function) else { return Ok(None) };
    if let [a, b] = args
        && units::is_temporal(&a.data_type.kind, &b.data_type.kind)
    {
        return units::arithmetic(operator, &a.data_type.kind, &b.data_type.kind, &out.kind).map(Some);
    }
    Ok(match (args, &out.kind) {
        ([_], kind) if operator == Operator::Minus => negate(kind),
        ([a, b], TypeKind::Decimal(p, s)) => match (&a.data_type.kind, &b.data_type.kind) {
            (TypeKind::Decimal(p1, s1), TypeKind::Decimal(p2, s2)) => {
                Some(decimal::kernel(operator, (*p1, *s1), (*p2, *s2), (*p, *s)))
            }
            _ => None,
        },
        ([_, _], TypeKind::TinyInt) => Some(integer::<Int8Type>(operator)),
        ([_, _], TypeKind::SmallInt) => Some(integer::<Int16Type>(operator)),
        ([_, _], TypeKind::Int) => Some(integer::<Int32Type>(operator)),
        ([_, _], TypeKind::BigInt | TypeKind::IntervalDayTime) => Some(integer::<Int64Type>(operator)),
        ([_, _], TypeKind::Float) => Some(float::<Float32Type>(operator)),
        ([_, _], TypeKind::Double) => Some(float::<Float64Type>(operator)),
        _ => None,
    })
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    Divide,
    Modulo,
}

impl Operator {
    fn parse(function: &str) -> Option<Self> {
        Some(match function {
            "+" => Operator::Plus,
            "-" => Operator::Minus,
            "*" => Operator::Times,
            "/" => Operator::Divide,
            "%" => Operator::Modulo,
            _ => return None,
        })
    }
}

/// Division by zero fails the job, as in Flink.
pub(super) fn division_by_zero() -> flott_core::Error {
    data_error("division by zero").hint("guard the divisor: x / NULLIF(y, 0)")
}

/// Integer arithmetic of Java.
trait Wrapping: Copy + Default + PartialEq {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
}

macro_rules! wrapping {
    ($($t:ty),*) => {$(
        impl Wrapping for $t {
            #[inline]
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline]
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline]
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline]
            fn div(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            #[inline]
            fn rem(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_rem(other) } }
        }
    )*};
}
wrapping!(i8, i16, i32, i64);

fn integer<T: ArrowPrimitiveType>(operator: Operator) -> Compiled
where
    T::Native: Wrapping,
{
    match operator {
        Operator::Plus => Compiled::total(|a, n, _| Ok(Arc::new(binary::<T, T, T>(&a[0], &a[1], n, Wrapping::add)?))),
        Operator::Minus => Compiled::total(|a, n, _| Ok(Arc::new(binary::<T, T, T>(&a[0], &a[1], n, Wrapping::sub)?))),
        Operator::Times => Compiled::total(|a, n, _| Ok(Arc::new(binary::<T, T, T>(&a[0], &a[1], n, Wrapping::mul)?))),
        Operator::Divide => Compiled::partial(|a, n, _| {
            refuse_zero::<T>(a, n)?;
            Ok(Arc::new(binary::<T, T, T>(&a[0], &a[1], n, Wrapping::div)?))
        }),
        Operator::Modulo => Compiled::partial(|a, n, _| {
            refuse_zero::<T>(a, n)?;
            Ok(Arc::new(binary::<T, T, T>(&a[0], &a[1], n, Wrapping::rem)?))
        }),
    }
}

/// An error if some row divides a value by zero.
pub(super) fn refuse_zero<T: ArrowPrimitiveType>(args: &[Value], rows: usize) -> Result<()>
where
    T::Native: Default + PartialEq,
{
    let zero = T::Native::default();
    let divisor = primitive::<T>(&args[1])?;
    if args[1].is_scalar() {
        let fails = divisor.is_valid(0)
            && divisor.value(0) == zero
            && args[0].array().logical_null_count() < args[0].array().len();
        return if fails { Err(division_by_zero()) } else { Ok(()) };
    }
    if !divisor.values().contains(&zero) {
        return Ok(());
    }
    let nulls = valid(&[&args[0], &args[1]], rows);
    match (0..rows).any(|i| divisor.value(i) == zero && is_valid(&nulls, i)) {
        true => Err(division_by_zero()),
        false => Ok(()),
    }
}

fn float<T: ArrowPrimitiveType>(operator: Operator) -> Compiled
where
    T::Native: std::ops::Add<Output = T::Native>
        + std::ops::Sub<Output = T::Native>
        + std::ops::Mul<Output = T::Native>
        + std::ops::Div<Output = T::Native>
        + std::ops::Rem<Output = T::Native>,
{
    Compiled::total(move |a, n, _| {
        let (x, y) = (&a[0], &a[1]);
        Ok(Arc::new(match operator {
            Operator::Plus => binary::<T, T, T>(x, y, n, |x, y| x + y)?,
            Operator::Minus => binary::<T, T, T>(x, y, n, |x, y| x - y)?,
            Operator::Times => binary::<T, T, T>(x, y, n, |x, y| x * y)?,
            Operator::Divide => binary::<T, T, T>(x, y, n, |x, y| x / y)?,
            Operator::Modulo => binary::<T, T, T>(x, y, n, |x, y| x % y)?,
        }))
    })
}

fn negate(kind: &TypeKind) -> Option<Compiled> {
    fn unary<T: ArrowPrimitiveType>(f: fn(T::Native) -> T::Native) -> Compiled {
        Compiled::total(move |a, _, _| {
            let array = primitive::<T>(&a[0])?;
            let out: ArrayRef = Arc::new(array.unary::<_, T>(f).with_data_type(array.data_type().clone()));
            Ok(out)
        })
    }
    Some(match kind {
        TypeKind::TinyInt => unary::<Int8Type>(i8::wrapping_neg),
        TypeKind::SmallInt => unary::<Int16Type>(i16::wrapping_neg),
        TypeKind::Int | TypeKind::IntervalYearMonth => unary::<Int32Type>(i32::wrapping_neg),
        TypeKind::BigInt | TypeKind::IntervalDayTime => unary::<Int64Type>(i64::wrapping_neg),
        TypeKind::Float => unary::<Float32Type>(|x| -x),
        TypeKind::Double => unary::<Float64Type>(|x| -x),
        TypeKind::Decimal(..) => unary::<Decimal128Type>(i128::wrapping_neg),
        _ => return None,
    })
}
