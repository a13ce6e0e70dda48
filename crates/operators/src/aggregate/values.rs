//! Argument columns in four canonical forms, so that every aggregate has four loops at most. Copies a column only
//! when its Arrow type is narrower than the form.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::error::{Error, Result};

/// The canonical form of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole numbers, dates, times, booleans: i64.
    Int,
    /// FLOAT and DOUBLE: f64.
    Float,
    /// DECIMAL: i128, unscaled.
    Decimal,
    /// Strings and bytes.
    Bytes,
}

/// The values of a column in canonical form; what stands at NULL rows means nothing.
pub(crate) enum Values {
    /// See [`Form::Int`].
    Int(ScalarBuffer<i64>),
    /// See [`Form::Float`].
    Float(ScalarBuffer<f64>),
    /// See [`Form::Decimal`].
    Decimal(ScalarBuffer<i128>),
    /// See [`Form::Bytes`].
    Bytes {
        /// Where each value begins and ends.
        offsets: OffsetBuffer<i32>,
        /// All values.
        data: Buffer,
    },
}

/// The form of an Arrow type; `None` when its values have no order that aggregates know.
pub(crate) fn form_of(arrow: &Arrow) -> Option<Form> {
    Some(match arrow {
        Arrow::Boolean | Arrow::Int8 | Arrow::Int16 | Arrow::Int32 | Arrow::Int64 => Form::Int,
        Arrow::Date32 | Arrow::Time32(TimeUnit::Millisecond) => Form::Int,
        Arrow::Timestamp(unit, _) if *unit != TimeUnit::Second => Form::Int,
        Arrow::Float32 | Arrow::Float64 => Form::Float,
        Arrow::Decimal128(..) => Form::Decimal,
        Arrow::Utf8 | Arrow::Binary => Form::Bytes,
        _ => return None,
    })
}

fn widened<T: ArrowPrimitiveType>(array: &ArrayRef) -> Values
where
    T::Native: Into<i64>,
{
    Values::Int(array.as_primitive::<T>().values().iter().map(|v| (*v).into()).collect())
}

fn shared<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> Values {
    Values::Int(array.as_primitive::<T>().values().clone())
}

impl Values {
    /// The canonical form of a column.
    pub(crate) fn of(array: &ArrayRef) -> Result<Values> {
        Ok(match array.data_type() {
            Arrow::Boolean => Values::Int(array.as_boolean().values().iter().map(i64::from).collect()),
            Arrow::Int8 => widened::<Int8Type>(array),
            Arrow::Int16 => widened::<Int16Type>(array),
            Arrow::Int32 => widened::<Int32Type>(array),
            Arrow::Date32 => widened::<Date32Type>(array),
            Arrow::Time32(TimeUnit::Millisecond) => widened::<Time32MillisecondType>(array),
            Arrow::Int64 => shared::<Int64Type>(array),
            Arrow::Timestamp(TimeUnit::Millisecond, _) => shared::<TimestampMillisecondType>(array),
            Arrow::Timestamp(TimeUnit::Microsecond, _) => shared::<TimestampMicrosecondType>(array),
            Arrow::Timestamp(TimeUnit::Nanosecond, _) => shared::<TimestampNanosecondType>(array),
            Arrow::Float32 => {
                Values::Float(array.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect())
            }
            Arrow::Float64 => Values::Float(array.as_primitive::<Float64Type>().values().clone()),
            Arrow::Decimal128(..) => Values::Decimal(array.as_primitive::<Decimal128Type>().values().clone()),
            Arrow::Utf8 => {
                let a = array.as_string::<i32>();
                Values::Bytes { offsets: a.offsets().clone(), data: a.values().clone() }
            }
            Arrow::Binary => {
                let a = array.as_binary::<i32>();
                Values::Bytes { offsets: a.offsets().clone(), data: a.values().clone() }
            }
            other => return Err(Error::bug(format!("aggregate over an argument of type {other}"))),
        })
    }
    /// Value `i` of a [`Form::Bytes`] column; empty for other forms.
    #[inline]
    pub(crate) fn bytes(&self, i: usize) -> &[u8] {
        match self {
            Values::Bytes { offsets, data } => &data[offsets[i] as usize..offsets[i + 1] as usize],
            _ => &[],
        }
    }
}
