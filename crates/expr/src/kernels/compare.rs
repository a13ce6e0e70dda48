//! Comparisons: NULL when a side is NULL, strings and bytes by their bytes, floats as in Java (NaN equals nothing, -0.0 equals 0.0).

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray};
use arrow_buffer::BooleanBuffer;
use arrow_ord::cmp;
use arrow_schema::DataType as Arrow;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::Compiled;
use super::array::Keys;
use super::decimal::power;
use super::lift::{primitive, rows_bool};
use crate::compile::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

use Comparison::*;

impl Comparison {
    fn parse(function: &str) -> Option<Self> {
        Some(match function {
            "=" => Eq,
            "<>" => Ne,
            "<" => Lt,
            "<=" => Le,
            ">" => Gt,
            ">=" => Ge,
            _ => return None,
        })
    }
    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Eq => ordering.is_eq(),
            Ne => ordering.is_ne(),
            Lt => ordering.is_lt(),
            Le => ordering.is_le(),
            Gt => ordering.is_gt(),
            Ge => ordering.is_ge(),
        }
    }
}

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    if let Some(comparison) = Comparison::parse(function) {
        return Ok(Some(Compiled::total(move |a, n, _| Ok(Arc::new(compare(comparison, &a[0], &a[1], n)?)))));
    }
    let distinct = match function {
        "IS DISTINCT FROM" => true,
        "IS NOT DISTINCT FROM" => false,
        _ => return Ok(None),
    };
    if args.iter().any(|a| a.data_type.kind == TypeKind::Null) {
        return Err(Error::bug("IS DISTINCT FROM of an untyped NULL"));
    }
    Ok(Some(Compiled::total(move |a, n, _| {
        let equal = compare(Eq, &a[0], &a[1], n)?;
        let null = |v: &Value, i: usize| v.array().is_null(i & v.row_mask());
        let bits = BooleanBuffer::collect_bool(n, |i| {
            let same = if equal.is_valid(i) { equal.value(i) } else { null(&a[0], i) && null(&a[1], i) };
            same != distinct
        });
        let out: ArrayRef = Arc::new(BooleanArray::new(bits, None));
        Ok(out)
    })))
}

/// Compares row by row.
pub(super) fn compare(comparison: Comparison, a: &Value, b: &Value, rows: usize) -> Result<BooleanArray> {
    let (x, y) = (a.array().data_type(), b.array().data_type());
    match (x, y) {
        (Arrow::Float32, Arrow::Float32) => float::<Float32Type>(comparison, a, b, rows),
        (Arrow::Float64, Arrow::Float64) => float::<Float64Type>(comparison, a, b, rows),
        (Arrow::Decimal128(_, s), Arrow::Decimal128(_, t)) if x != y => decimal(comparison, a, b, *s, *t, rows),
        (Arrow::Struct(_) | Arrow::List(_) | Arrow::Map(..), _) => {
            // Only = and <> come here: equal values have equal bytes, also those of maps.
            let (x, y, m, n) = (Keys::of(a.array())?, Keys::of(b.array())?, a.row_mask(), b.row_mask());
            Ok(rows_bool(&[a, b], rows, |i| comparison.accepts(x.at(i & m).cmp(y.at(i & n)))))
        }
        _ => {
            let kernel = match comparison {
                Eq => cmp::eq,
                Ne => cmp::neq,
                Lt => cmp::lt,
                Le => cmp::lt_eq,
                Gt => cmp::gt,
                Ge => cmp::gt_eq,
            };
            Ok(kernel(a, b)?)
        }
    }
}

fn float<T: ArrowPrimitiveType>(comparison: Comparison, a: &Value, b: &Value, rows: usize) -> Result<BooleanArray>
where
    T::Native: PartialOrd,
{
    let (x, y) = (primitive::<T>(a)?.values(), primitive::<T>(b)?.values());
    let (m, n) = (a.row_mask(), b.row_mask());
    let nulls = super::lift::valid(&[a, b], rows);
    let bits = match comparison {
        Eq => BooleanBuffer::collect_bool(rows, |i| x[i & m] == y[i & n]),
        Ne => BooleanBuffer::collect_bool(rows, |i| x[i & m] != y[i & n]),
        Lt => BooleanBuffer::collect_bool(rows, |i| x[i & m] < y[i & n]),
        Le => BooleanBuffer::collect_bool(rows, |i| x[i & m] <= y[i & n]),
        Gt => BooleanBuffer::collect_bool(rows, |i| x[i & m] > y[i & n]),
        Ge => BooleanBuffer::collect_bool(rows, |i| x[i & m] >= y[i & n]),
    };
    Ok(BooleanArray::new(bits, nulls))
}

fn decimal(comparison: Comparison, a: &Value, b: &Value, s: i8, t: i8, rows: usize) -> Result<BooleanArray> {
    let (x, y) = (primitive::<Decimal128Type>(a)?, primitive::<Decimal128Type>(b)?);
    let (m, n) = (a.row_mask(), b.row_mask());
    let (s, t) = (s.unsigned_abs(), t.unsigned_abs());
    let (up_x, up_y) = (power(t.saturating_sub(s)), power(s.saturating_sub(t)));
    Ok(rows_bool(&[a, b], rows, |i| {
        let (x, y) = (x.value(i & m), y.value(i & n));
        // What overflows 128 bits is larger in magnitude than anything on the other side.
        let ordering = match (x.checked_mul(up_x), y.checked_mul(up_y)) {
            (Some(x), Some(y)) => x.cmp(&y),
            (None, _) => x.cmp(&0),
            (_, None) => 0.cmp(&y),
        };
        comparison.accepts(ordering)
    }))
}
