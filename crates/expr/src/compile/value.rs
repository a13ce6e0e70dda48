//! A column or a constant of an evaluation, and the way between literals and Arrow; never copies a constant per row before it must.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Literal;

/// What a node evaluates to.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// One value per row.
    Array(ArrayRef),
    /// One value for all rows: an array of length 1.
    Scalar(ArrayRef),
}

impl Value {
    /// The array; of length 1 for a constant.
    pub fn array(&self) -> &ArrayRef {
        match self {
            Value::Array(a) | Value::Scalar(a) => a,
        }
    }
    /// Whether it is one value for all rows.
    pub fn is_scalar(&self) -> bool {
        matches!(self, Value::Scalar(_))
    }
    /// Index mask for [`Value::array`]: row `i` is at `i & mask`.
    pub fn row_mask(&self) -> usize {
        if self.is_scalar() { 0 } else { usize::MAX }
    }
    /// One value per row.
    pub fn into_array(self, rows: usize) -> Result<ArrayRef> {
        match self {
            Value::Array(a) => Ok(a),
            Value::Scalar(a) => repeat(&a, rows),
        }
    }
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array().as_ref(), self.is_scalar())
    }
}

fn repeat(one: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    if rows == 1 {
        return Ok(Arc::clone(one));
    }
    if one.is_null(0) {
        return Ok(new_null_array(one.data_type(), rows));
    }
    macro_rules! fill {
        ($t:ty) => {
            Arc::new(
                PrimitiveArray::<$t>::from_value(one.as_primitive::<$t>().value(0), rows)
                    .with_data_type(one.data_type().clone()),
            )
        };
    }
    Ok(downcast_primitive! {
        one.data_type() => (fill),
        Arrow::Utf8 => {
            let text = one.as_string::<i32>().value(0);
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
        }
        _ => arrow_select::take::take(one, &UInt32Array::from_value(0, rows), None)?
    })
}

/// An array of length 1 with the literal, carried as `data_type`.
pub(crate) fn literal_to_array(literal: &Literal, data_type: &DataType) -> Result<ArrayRef> {
    let arrow = data_type.kind.to_arrow();
    let unfit = || Error::bug(format!("literal {literal} does not fit type {}", data_type.kind));
    Ok(match (literal, &arrow) {
        (Literal::Null, _) => new_null_array(&arrow, 1),
        (Literal::Boolean(b), Arrow::Boolean) => Arc::new(BooleanArray::from(vec![*b])),
        (Literal::Int(i), Arrow::Float32) => Arc::new(Float32Array::from(vec![*i as f32])),
        (Literal::Int(i), Arrow::Float64) => Arc::new(Float64Array::from(vec![*i as f64])),
        (Literal::Int(i), Arrow::Decimal128(_, s)) => {
            let power = 10i128.checked_pow(u32::try_from(*s).unwrap_or(0)).ok_or_else(unfit)?;
            Arc::new(Decimal128Array::from(vec![i128::from(*i) * power]).with_data_type(arrow.clone()))
        }
        (Literal::Int(i), _) => int_array(*i, &arrow).ok_or_else(unfit)?,
        (Literal::Double(d), Arrow::Float32) => Arc::new(Float32Array::from(vec![*d as f32])),
        (Literal::Double(d), Arrow::Float64) => Arc::new(Float64Array::from(vec![*d])),
        (Literal::Decimal(d), Arrow::Decimal128(..)) => {
            Arc::new(Decimal128Array::from(vec![*d]).with_data_type(arrow.clone()))
        }
        (Literal::String(s), Arrow::Utf8) => Arc::new(StringArray::from(vec![s.as_str()])),
        (Literal::Bytes(b), Arrow::Binary) => Arc::new(BinaryArray::from(vec![b.as_slice()])),
        _ => return Err(unfit()),
    })
}

fn int_array(i: i64, arrow: &Arrow) -> Option<ArrayRef> {
    Some(match arrow {
        Arrow::Int8 => Arc::new(Int8Array::from(vec![i8::try_from(i).ok()?])),
        Arrow::Int16 => Arc::new(Int16Array::from(vec![i16::try_from(i).ok()?])),
        Arrow::Int32 => Arc::new(Int32Array::from(vec![i32::try_from(i).ok()?])),
        Arrow::Int64 => Arc::new(Int64Array::from(vec![i])),
        Arrow::Date32 => Arc::new(Date32Array::from(vec![i32::try_from(i).ok()?])),
        Arrow::Time32(TimeUnit::Millisecond) => Arc::new(Time32MillisecondArray::from(vec![i32::try_from(i).ok()?])),
        Arrow::Timestamp(unit, zone) => {
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => return None,
                TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(vec![i]).with_timezone_opt(zone)),
                TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::from(vec![i]).with_timezone_opt(zone)),
                TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::from(vec![i]).with_timezone_opt(zone)),
            }
        }
        _ => return None,
    })
}

/// Row `row` of `array` as a literal; `None` for types without literals.
pub(crate) fn array_to_literal(array: &ArrayRef, row: usize) -> Option<Literal> {
    if array.is_null(row) {
        return Some(Literal::Null);
    }
    Some(match array.data_type() {
        Arrow::Null => Literal::Null,
        Arrow::Boolean => Literal::Boolean(array.as_boolean().value(row)),
        Arrow::Int8 => Literal::Int(array.as_primitive::<Int8Type>().value(row).into()),
        Arrow::Int16 => Literal::Int(array.as_primitive::<Int16Type>().value(row).into()),
        Arrow::Int32 => Literal::Int(array.as_primitive::<Int32Type>().value(row).into()),
        Arrow::Int64 => Literal::Int(array.as_primitive::<Int64Type>().value(row)),
        Arrow::Float32 => Literal::Double(array.as_primitive::<Float32Type>().value(row).into()),
        Arrow::Float64 => Literal::Double(array.as_primitive::<Float64Type>().value(row)),
        Arrow::Decimal128(..) => Literal::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
        Arrow::Utf8 => Literal::String(array.as_string::<i32>().value(row).to_owned()),
        Arrow::Binary => Literal::Bytes(array.as_binary::<i32>().value(row).to_owned()),
        Arrow::Date32 => Literal::Int(array.as_primitive::<Date32Type>().value(row).into()),
        Arrow::Time32(TimeUnit::Millisecond) => {
            Literal::Int(array.as_primitive::<Time32MillisecondType>().value(row).into())
        }
        Arrow::Timestamp(TimeUnit::Millisecond, _) => {
            Literal::Int(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        Arrow::Timestamp(TimeUnit::Microsecond, _) => {
            Literal::Int(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => {
            Literal::Int(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        _ => return None,
    })
}
