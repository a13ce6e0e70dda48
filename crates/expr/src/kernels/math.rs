//! Numeric functions of one or two numbers: rounding in decimal digits as `BigDecimal` does, the rest in DOUBLE as `java.lang.Math`.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{ArrayRef, ArrowPrimitiveType};
use flott_core::Result;
use flott_core::types::{DataType, TypeKind};
use flott_plan::expr::Expr;

use super::Compiled;
use super::cast::{decimal_to_double, parse};
use super::decimal::{divide_half_up, fits, power, rescale};
use super::lift::{binary, primitive, rows_opt};

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    if let Some(f) = double_function(function, args.len()) {
        return Ok(Some(f));
    }
    let Some(first) = args.first().map(|a| &a.data_type.kind).filter(|k| k.is_numeric() || is_interval(k)) else {
        return Ok(None);
    };
    Ok(match (function, args.len()) {
        ("ABS", 1) => absolute(first),
        ("SIGN", 1) => sign(first),
        ("FLOOR", 1) => whole(first, &out.kind, Rounding::Floor),
        ("CEIL", 1) => whole(first, &out.kind, Rounding::Ceil),
        ("ROUND", 2) => round(first, &out.kind, Rounding::HalfUp),
        ("TRUNCATE", 2) => round(first, &out.kind, Rounding::Down),
        _ => None,
    })
}

fn is_interval(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth)
}

fn double_function(function: &str, arity: usize) -> Option<Compiled> {
    let one: fn(f64) -> f64 = match (function, arity) {
        ("SQRT", 1) => f64::sqrt,
        ("EXP", 1) => f64::exp,
        ("LN" | "LOG", 1) => f64::ln,
        ("LOG10", 1) => f64::log10,
        // As Java has no log2: its last digit is that of the quotient.
        ("LOG2", 1) => |x| x.ln() / std::f64::consts::LN_2,
        ("SIN", 1) => f64::sin,
        ("COS", 1) => f64::cos,
        ("TAN", 1) => f64::tan,
        ("COT", 1) => |x| 1.0 / x.tan(),
        ("SINH", 1) => sinh,
        ("COSH", 1) => cosh,
        ("TANH", 1) => tanh,
        ("ASIN", 1) => f64::asin,
        ("ACOS", 1) => f64::acos,
        ("ATAN", 1) => f64::atan,
        ("DEGREES", 1) => f64::to_degrees,
        ("RADIANS", 1) => f64::to_radians,
        ("POWER", 2) => return Some(double_of_two(f64::powf)),
        ("ATAN2", 2) => return Some(double_of_two(f64::atan2)),
        ("LOG", 2) => return Some(double_of_two(|base, x| x.ln() / base.ln())),
        ("PI", 0) => return Some(constant(std::f64::consts::PI)),
        ("E", 0) => return Some(constant(std::f64::consts::E)),
        _ => return None,
    };
    Some(mapped::<Float64Type>(one))
}

/// As `java.lang.StrictMath`, to the last digit: the steps of fdlibm.
fn sinh(x: f64) -> f64 {
    let (magnitude, half) = (x.abs(), 0.5f64.copysign(x));
    match magnitude {
        _ if !x.is_finite() || magnitude < 2f64.powi(-28) => x,
        m if m < 1.0 => {
            let t = m.exp_m1();
            half * (2.0 * t - t * t / (t + 1.0))
        }
        m if m < 22.0 => {
            let t = m.exp_m1();
            half * (t + t / (t + 1.0))
        }
        m => half.signum() * large_half_exp(m),
    }
}

fn cosh(x: f64) -> f64 {
    match x.abs() {
        m if m < 0.5 * std::f64::consts::LN_2 => {
            let t = m.exp_m1();
            let w = 1.0 + t;
            if m < 2f64.powi(-55) { w } else { 1.0 + t * t / (w + w) }
        }
        m if m < 22.0 => {
            let t = strict_exp(m);
            0.5 * t + 0.5 / t
        }
        m => large_half_exp(m),
    }
}

/// `exp` of a number between 0.3 and 700 as fdlibm computes it, which is not always the nearest.
fn strict_exp(x: f64) -> f64 {
    const LN2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const P: [f64; 5] = [
        1.666_666_666_666_660_2e-1,
        -2.777_777_777_701_559_3e-3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    let k = if x < 1.5 * std::f64::consts::LN_2 { 1 } else { (std::f64::consts::LOG2_E * x + 0.5) as i32 };
    let (high, low) = (x - f64::from(k) * LN2[0], f64::from(k) * LN2[1]);
    let x = high - low;
    let t = x * x;
    let c = x - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    let y = 1.0 - ((low - (x * c) / (2.0 - c)) - high);
    y * 2f64.powi(k)
}

fn tanh(x: f64) -> f64 {
    let z = match x.abs() {
        m if m.is_nan() => return x,
        m if m < 2f64.powi(-55) => return x * (1.0 + x),
        m if m >= 22.0 => 1.0,
        m if m >= 1.0 => 1.0 - 2.0 / ((2.0 * m).exp_m1() + 2.0),
        m => {
            let t = (-2.0 * m).exp_m1();
            -t / (t + 2.0)
        }
    };
    z.copysign(x)
}

/// `exp(m) / 2`, also where `exp(m)` overflows.
fn large_half_exp(m: f64) -> f64 {
    if m < 709.78 {
        return 0.5 * strict_exp(m);
    }
    if m > 1500.0 {
        return f64::INFINITY;
    }
    let w = strict_exp(0.5 * m);
    0.5 * w * w
}

fn double_of_two(f: fn(f64, f64) -> f64) -> Compiled {
    Compiled::total(move |a, n, _| Ok(Arc::new(binary::<Float64Type, Float64Type, Float64Type>(&a[0], &a[1], n, f)?)))
}

fn constant(value: f64) -> Compiled {
    Compiled::total(move |_, n, _| Ok(Arc::new(arrow_array::Float64Array::from_value(value, n))))
}

fn mapped<T: ArrowPrimitiveType>(f: impl Fn(T::Native) -> T::Native + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |a, _, _| {
        let array = primitive::<T>(&a[0])?;
        let out: ArrayRef = Arc::new(array.unary::<_, T>(&f).with_data_type(array.data_type().clone()));
        Ok(out)
    })
}

use arrow_array::Array;

fn absolute(kind: &TypeKind) -> Option<Compiled> {
    Some(match kind {
        TypeKind::TinyInt => mapped::<Int8Type>(i8::wrapping_abs),
        TypeKind::SmallInt => mapped::<Int16Type>(i16::wrapping_abs),
        TypeKind::Int | TypeKind::IntervalYearMonth => mapped::<Int32Type>(i32::wrapping_abs),
        TypeKind::BigInt | TypeKind::IntervalDayTime => mapped::<Int64Type>(i64::wrapping_abs),
        TypeKind::Float => mapped::<Float32Type>(f32::abs),
        TypeKind::Double => mapped::<Float64Type>(f64::abs),
        TypeKind::Decimal(..) => mapped::<Decimal128Type>(i128::wrapping_abs),
        _ => return None,
    })
}

fn sign(kind: &TypeKind) -> Option<Compiled> {
    fn signum(x: f64) -> f64 {
        if x == 0.0 || x.is_nan() { x } else { x.signum() }
    }
    Some(match kind {
        TypeKind::TinyInt => mapped::<Int8Type>(i8::signum),
        TypeKind::SmallInt => mapped::<Int16Type>(i16::signum),
        TypeKind::Int => mapped::<Int32Type>(i32::signum),
        TypeKind::BigInt => mapped::<Int64Type>(i64::signum),
        TypeKind::Float => mapped::<Float32Type>(|x| signum(x.into()) as f32),
        TypeKind::Double => mapped::<Float64Type>(signum),
        TypeKind::Decimal(p, s) => {
            let (p, one) = (*p, power(*s));
            decimal_opt(kind, move |v, _| Some(v.signum() * one).filter(|v| fits(*v, p)))
        }
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Floor,
    Ceil,
    HalfUp,
    Down,
}

impl Rounding {
    /// `n / d` as a whole number; `d` > 0.
    fn divide(self, n: i128, d: i128) -> i128 {
        match self {
            Rounding::Floor => n.div_euclid(d),
            Rounding::Ceil => -(-n).div_euclid(d),
            Rounding::HalfUp => divide_half_up(n, d),
            Rounding::Down => n / d,
        }
    }
}

/// A DECIMAL function of a DECIMAL and, when there is one, an INT.
fn decimal_opt(out: &TypeKind, f: impl Fn(i128, i32) -> Option<i128> + Send + Sync + 'static) -> Compiled {
    let arrow = out.to_arrow();
    Compiled::total(move |a, n, _| {
        let source = primitive::<Decimal128Type>(&a[0])?;
        let digits = a.get(1).map(primitive::<Int32Type>).transpose()?;
        let (m, d) = (a[0].row_mask(), a.get(1).map_or(0, |v| v.row_mask()));
        let refs: Vec<_> = a.iter().collect();
        let values = rows_opt::<Decimal128Type>(&refs, n, |i| {
            f(source.value(i & m), digits.map_or(0, |digits| digits.value(i & d)))
        })?;
        Ok(Arc::new(values.with_data_type(arrow.clone())))
    })
}

fn whole(kind: &TypeKind, out: &TypeKind, rounding: Rounding) -> Option<Compiled> {
    Some(match kind {
        TypeKind::Float => mapped::<Float32Type>(if rounding == Rounding::Floor { f32::floor } else { f32::ceil }),
        TypeKind::Double => mapped::<Float64Type>(if rounding == Rounding::Floor { f64::floor } else { f64::ceil }),
        TypeKind::Decimal(_, s) => {
            let unit = power(*s);
            decimal_opt(out, move |v, _| Some(rounding.divide(v, unit)))
        }
        _ => Compiled::total(|a, _, _| Ok(Arc::clone(a[0].array()))),
    })
}

fn round(kind: &TypeKind, out: &TypeKind, rounding: Rounding) -> Option<Compiled> {
    fn with_digits<T: ArrowPrimitiveType>(f: impl Fn(T::Native, i32) -> T::Native + Send + Sync + 'static) -> Compiled {
        Compiled::total(move |a, n, _| Ok(Arc::new(binary::<T, Int32Type, T>(&a[0], &a[1], n, &f)?)))
    }
    let integer = move |v: i64, digits: i32| -> i64 {
        match digits {
            0.. => v,
            -18..=-1 => {
                let unit = power(digits.unsigned_abs() as u8);
                (rounding.divide(v.into(), unit) * unit) as i64
            }
            _ => 0,
        }
    };
    Some(match (kind, out) {
        (TypeKind::TinyInt, _) => with_digits::<Int8Type>(move |v, d| integer(v.into(), d) as i8),
        (TypeKind::SmallInt, _) => with_digits::<Int16Type>(move |v, d| integer(v.into(), d) as i16),
        (TypeKind::Int, _) => with_digits::<Int32Type>(move |v, d| integer(v.into(), d) as i32),
        (TypeKind::BigInt, _) => with_digits::<Int64Type>(integer),
        (TypeKind::Float, _) => with_digits::<Float32Type>(move |v, d| {
            let mut text = String::new();
            write!(text, "{v:e}").expect("strings accept text");
            round_text(&text, v.into(), d, rounding) as f32
        }),
        (TypeKind::Double, _) => with_digits::<Float64Type>(move |v, d| {
            if v.trunc() == v && d >= 0 {
                return v;
            }
            let mut text = String::new();
            write!(text, "{v:e}").expect("strings accept text");
            round_text(&text, v, d, rounding)
        }),
        (TypeKind::Decimal(_, s), TypeKind::Decimal(p, t)) => {
            let (s, p, t) = (*s, *p, *t);
            decimal_opt(out, move |v, digits| {
                let kept = digits.clamp(-38, i32::from(s));
                let dropped = i32::from(s) - kept;
                if dropped > 38 {
                    return Some(0);
                }
                let rounded = rounding.divide(v, power(dropped as u8));
                match kept {
                    0.. => rescale(rounded, kept as u8, t, p),
                    _ => rescale(rounded.checked_mul(power(kept.unsigned_abs() as u8))?, 0, t, p),
                }
            })
        }
        _ => return None,
    })
}

/// `text`, the shortest form of `value`, rounded to `digits` decimal places.
fn round_text(text: &str, value: f64, digits: i32, rounding: Rounding) -> f64 {
    if !value.is_finite() || digits > 18 {
        return value;
    }
    let Some(Some(exact)) = parse::decimal(text, 38, 20) else {
        return if digits >= 0 { value } else { value.trunc() };
    };
    let dropped = (20 - digits).min(38) as u8;
    let rounded = rounding.divide(exact, power(dropped));
    match digits {
        0.. => decimal_to_double(rounded, digits as u8),
        _ => rounded.saturating_mul(power(digits.unsigned_abs().min(38) as u8)) as f64,
    }
}
