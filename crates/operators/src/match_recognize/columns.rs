//! Single values out of columns, in the canonical forms of aggregates: what conditions over several rows compute with. Copies no
//! column that has its form already.

use std::borrow::Cow;
use std::cmp::Ordering;

use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use flott_core::error::Result;

use crate::aggregate::Values;

/// One value. BOOLEAN is 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// NULL
    Null,
    /// Whole numbers, dates, times, timestamps, BOOLEAN.
    Int(i64),
    /// FLOAT, DOUBLE.
    Float(f64),
    /// DECIMAL, unscaled.
    Decimal(i128),
    /// Strings and bytes.
    Bytes(Cow<'a, [u8]>),
}

impl Scalar<'_> {
    /// TRUE, FALSE or NULL.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Scalar::Int(i) => Some(*i != 0),
            _ => None,
        }
    }
    /// The value of a BOOLEAN.
    pub(super) fn boolean(value: Option<bool>) -> Scalar<'static> {
        value.map_or(Scalar::Null, |b| Scalar::Int(i64::from(b)))
    }
    /// The order of two values of one form; `None` when one is NULL or NaN.
    pub(super) fn compare(&self, other: &Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Int(a), Scalar::Int(b)) => Some(a.cmp(b)),
            (Scalar::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
            (Scalar::Decimal(a), Scalar::Decimal(b)) => Some(a.cmp(b)),
            (Scalar::Bytes(a), Scalar::Bytes(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
    /// The value, independent of the column it came from.
    pub(super) fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::Null => Scalar::Null,
            Scalar::Int(i) => Scalar::Int(i),
            Scalar::Float(f) => Scalar::Float(f),
            Scalar::Decimal(d) => Scalar::Decimal(d),
            Scalar::Bytes(b) => Scalar::Bytes(Cow::Owned(b.into_owned())),
        }
    }
}

/// A column, value by value.
pub(super) struct Column {
    values: Values,
    nulls: Option<NullBuffer>,
}

impl Column {
    /// The column; its type must have a canonical form.
    pub(super) fn of(array: &ArrayRef) -> Result<Self> {
        Ok(Column { values: Values::of(array)?, nulls: array.logical_nulls().filter(|n| n.null_count() > 0) })
    }
    /// Value of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Scalar<'_> {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return Scalar::Null;
        }
        match &self.values {
            Values::Int(v) => Scalar::Int(v[row]),
            Values::Float(v) => Scalar::Float(v[row]),
            Values::Decimal(v) => Scalar::Decimal(v[row]),
            Values::Bytes { .. } => Scalar::Bytes(Cow::Borrowed(self.values.bytes(row))),
        }
    }
}
