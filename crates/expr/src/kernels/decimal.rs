//! DECIMAL arithmetic in Flink's precision and scale: rounds half up, gives NULL on overflow; never goes through floats.

use std::sync::Arc;

use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, Decimal128Array};
use arrow_buffer::i256;
use arrow_schema::DataType as Arrow;
use flott_core::Result;

use super::Compiled;
use super::arith::{Operator, refuse_zero};
use super::lift::{binary, primitive, rows_opt};
use crate::compile::Value;

/// 10^n; `n` ≤ 38.
pub(super) const fn power(n: u8) -> i128 {
    10i128.pow(n as u32)
}

/// Whether `value` has at most `precision` digits.
#[inline]
pub(super) fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < power(precision).unsigned_abs()
}

/// `n / d` rounded half up (away from zero); `d` > 0.
#[inline]
pub(super) fn divide_half_up(n: i128, d: i128) -> i128 {
    let (q, r) = (n / d, n % d);
    if r.unsigned_abs() >= d.unsigned_abs() - r.unsigned_abs() { q + n.signum() } else { q }
}

/// `value` moved from one scale to another, rounded half up; `None` when it has more than `precision` digits.
#[inline]
pub(super) fn rescale(value: i128, from: u8, to: u8, precision: u8) -> Option<i128> {
    let moved = if to >= from { value.checked_mul(power(to - from))? } else { divide_half_up(value, power(from - to)) };
    fits(moved, precision).then_some(moved)
}

type Shape = (u8, u8);

/// The kernel of `operator` for DECIMAL(p, s) operands `a` and `b` and result `out`.
pub(super) fn kernel(operator: Operator, a: Shape, b: Shape, out: Shape) -> Compiled {
    let finish = move |array: Decimal128Array| -> ArrayRef {
        Arc::new(array.with_data_type(Arrow::Decimal128(out.0, out.1 as i8)))
    };
    match operator {
        Operator::Times if a.0 + b.0 <= 38 && a.1 + b.1 == out.1 => Compiled::total(move |args, n, _| {
            let product = binary::<Decimal128Type, Decimal128Type, Decimal128Type>(&args[0], &args[1], n, |x, y| {
                x.wrapping_mul(y)
            });
            Ok(finish(product?))
        }),
        Operator::Plus | Operator::Minus if a.0.max(b.0) < 38 && a.1 == b.1 && a.1 == out.1 => {
            let sign = if operator == Operator::Plus { 1 } else { -1 };
            Compiled::total(move |args, n, _| {
                let sum = binary::<Decimal128Type, Decimal128Type, Decimal128Type>(&args[0], &args[1], n, |x, y| {
                    x.wrapping_add(sign * y)
                });
                Ok(finish(sum?))
            })
        }
        Operator::Divide | Operator::Modulo => Compiled::partial(move |args, n, _| {
            refuse_zero::<Decimal128Type>(args, n)?;
            Ok(finish(each(args, n, |x, y| match operator {
                Operator::Divide => divide(x, y, a, b, out),
                _ => modulo(x, y, a, b, out),
            })?))
        }),
        _ => Compiled::total(move |args, n, _| {
            Ok(finish(each(args, n, |x, y| match operator {
                Operator::Times => narrow(wide(x).checked_mul(wide(y))?, a.1 + b.1, out),
                Operator::Plus => sum(x, y, a, b, out),
                _ => sum(x, -y, a, b, out),
            })?))
        }),
    }
}

fn each(args: &[Value], rows: usize, f: impl Fn(i128, i128) -> Option<i128>) -> Result<Decimal128Array> {
    let (x, y) = (primitive::<Decimal128Type>(&args[0])?, primitive::<Decimal128Type>(&args[1])?);
    let (m, n) = (args[0].row_mask(), args[1].row_mask());
    rows_opt::<Decimal128Type>(&[&args[0], &args[1]], rows, |i| f(x.value(i & m), y.value(i & n)))
}

fn wide(value: i128) -> i256 {
    i256::from_i128(value)
}

fn wide_power(n: u8) -> Option<i256> {
    wide(10).checked_pow(u32::from(n))
}

/// A wide value of scale `from` as the result's scale and precision.
fn narrow(value: i256, from: u8, out: Shape) -> Option<i128> {
    let moved = if out.1 >= from {
        value.checked_mul(wide_power(out.1 - from)?)?
    } else {
        wide_divide(value, wide_power(from - out.1)?)?
    };
    moved.to_i128().filter(|v| fits(*v, out.0))
}

/// Rounds half up; the sign of `d` may be any.
fn wide_divide(n: i256, d: i256) -> Option<i256> {
    let q = n.checked_div(d)?;
    let r = n.checked_rem(d)?.wrapping_abs();
    if r >= d.wrapping_abs().wrapping_sub(r) {
        let negative = n.is_negative() != d.is_negative();
        return q.checked_add(wide(if negative { -1 } else { 1 }));
    }
    Some(q)
}

fn sum(x: i128, y: i128, a: Shape, b: Shape, out: Shape) -> Option<i128> {
    let scale = a.1.max(b.1);
    let x = wide(x).checked_mul(wide_power(scale - a.1)?)?;
    let y = wide(y).checked_mul(wide_power(scale - b.1)?)?;
    narrow(x.checked_add(y)?, scale, out)
}

fn divide(x: i128, y: i128, a: Shape, b: Shape, out: Shape) -> Option<i128> {
    let shift = i16::from(out.1) + i16::from(b.1) - i16::from(a.1);
    if shift >= 0 && i16::from(a.0) + shift <= 38 {
        let n = x * power(shift as u8);
        let q = divide_half_up(n, y.checked_abs()?);
        return Some(if y < 0 { -q } else { q }).filter(|v| fits(*v, out.0));
    }
    let quotient = if shift >= 0 {
        wide_divide(wide(x).checked_mul(wide_power(shift as u8)?)?, wide(y))?
    } else {
        wide_divide(wide(x), wide(y).checked_mul(wide_power(shift.unsigned_abs() as u8)?)?)?
    };
    quotient.to_i128().filter(|v| fits(*v, out.0))
}

fn modulo(x: i128, y: i128, a: Shape, b: Shape, out: Shape) -> Option<i128> {
    let scale = a.1.max(b.1);
    let x = wide(x).checked_mul(wide_power(scale - a.1)?)?;
    let y = wide(y).checked_mul(wide_power(scale - b.1)?)?;
    narrow(x.checked_rem(y)?, scale, out)
}
