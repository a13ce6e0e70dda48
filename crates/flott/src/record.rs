//! Rust values as columns: what a type must do to travel between tasks. One transposition at an exchange, none inside a chain.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    PrimitiveBuilder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMillisecondArray,
};
use flott_core::error::{Error, Result};
use flott_core::types::{Column, DataType, TypeKind};
use serde::{Deserialize, Serialize};

/// A row type. Derived for structs; primitives and pairs are rows, too.
///
/// `from_arrays(to_arrays(rows))` gives the same rows; every array has `rows.len()` entries, in the order of `columns`.
pub trait Record: Clone + Send + Sync + 'static {
    /// The columns, in order.
    fn columns() -> Vec<Column>;
    /// Rows to columns.
    fn to_arrays(rows: &[Self]) -> Vec<ArrayRef>;
    /// Columns to rows; an error names the column that holds what the type cannot.
    fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>>;
}

/// The type of one column.
pub trait FieldType: Sized + 'static {
    /// Its SQL type.
    fn data_type() -> DataType;
    /// Values to a column.
    fn to_array(values: &mut dyn Iterator<Item = &Self>) -> ArrayRef;
    /// A column to values; `name` is for the error.
    fn from_array(array: &ArrayRef, name: &str) -> Result<Vec<Self>>;
}

/// A point in event time, TIMESTAMP(3): milliseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

fn mismatch(array: &ArrayRef, name: &str, expected: &TypeKind) -> Error {
    Error::user("datastream.type", format!("column `{name}` does not fit the field of that name"))
        .detail(format!("found {}, expected {expected}", array.data_type()))
        .hint("give the field the column's type")
}

fn null(name: &str) -> Error {
    Error::user("datastream.null", format!("column `{name}` is NULL, and the field of that name is not an Option"))
        .hint("make the field an Option")
}

macro_rules! field {
    ($type:ty, $kind:expr, $array:ty, $builder:ty, $append:ident, $value:expr) => {
        impl FieldType for $type {
            fn data_type() -> DataType {
                $kind.not_null()
            }
            fn to_array(values: &mut dyn Iterator<Item = &Self>) -> ArrayRef {
                let mut builder = <$builder>::new();
                values.for_each(|v| $append(&mut builder, v));
                Arc::new(builder.finish())
            }
            fn from_array(array: &ArrayRef, name: &str) -> Result<Vec<Self>> {
                let typed = array.as_any().downcast_ref::<$array>().ok_or_else(|| mismatch(array, name, &$kind))?;
                if typed.null_count() > 0 {
                    return Err(null(name));
                }
                Ok((0..typed.len()).map(|i| $value(typed, i)).collect())
            }
        }
        impl FieldType for Option<$type> {
            fn data_type() -> DataType {
                $kind.nullable()
            }
            fn to_array(values: &mut dyn Iterator<Item = &Self>) -> ArrayRef {
                let mut builder = <$builder>::new();
                values.for_each(|v| match v {
                    Some(v) => $append(&mut builder, v),
                    None => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            fn from_array(array: &ArrayRef, name: &str) -> Result<Vec<Self>> {
                let typed = array.as_any().downcast_ref::<$array>().ok_or_else(|| mismatch(array, name, &$kind))?;
                Ok((0..typed.len()).map(|i| (!typed.is_null(i)).then(|| $value(typed, i))).collect())
            }
        }
        impl Record for $type {
            fn columns() -> Vec<Column> {
                vec![Column::new("value", <$type as FieldType>::data_type())]
            }
            fn to_arrays(rows: &[Self]) -> Vec<ArrayRef> {
                vec![<$type as FieldType>::to_array(&mut rows.iter())]
            }
            fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>> {
                <$type as FieldType>::from_array(&arrays[0], "value")
            }
        }
    };
}

fn append_primitive<P: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<P>, value: &P::Native) {
    builder.append_value(*value);
}
fn append_bool(builder: &mut BooleanBuilder, value: &bool) {
    builder.append_value(*value);
}
#[allow(clippy::ptr_arg, reason = "called by a macro with the field's own type")]
fn append_string(builder: &mut StringBuilder, value: &String) {
    builder.append_value(value);
}
fn append_timestamp(builder: &mut PrimitiveBuilder<TimestampMillisecondType>, value: &Timestamp) {
    builder.append_value(value.0);
}

field!(bool, TypeKind::Boolean, BooleanArray, BooleanBuilder, append_bool, BooleanArray::value);
field!(i8, TypeKind::TinyInt, Int8Array, Int8Builder, append_primitive, Int8Array::value);
field!(i16, TypeKind::SmallInt, Int16Array, Int16Builder, append_primitive, Int16Array::value);
field!(i32, TypeKind::Int, Int32Array, Int32Builder, append_primitive, Int32Array::value);
field!(i64, TypeKind::BigInt, Int64Array, Int64Builder, append_primitive, Int64Array::value);
field!(f32, TypeKind::Float, Float32Array, Float32Builder, append_primitive, Float32Array::value);
field!(f64, TypeKind::Double, Float64Array, Float64Builder, append_primitive, Float64Array::value);
field!(String, TypeKind::STRING, StringArray, StringBuilder, append_string, |a: &StringArray, i| a.value(i).to_owned());
field!(
    Timestamp,
    TypeKind::Timestamp(3),
    TimestampMillisecondArray,
    TimestampMillisecondBuilder,
    append_timestamp,
    |a: &TimestampMillisecondArray, i| Timestamp(a.value(i))
);

impl<A: FieldType + Clone + Send + Sync + 'static, B: FieldType + Clone + Send + Sync + 'static> Record for (A, B) {
    fn columns() -> Vec<Column> {
        vec![Column::new("f0", A::data_type()), Column::new("f1", B::data_type())]
    }
    fn to_arrays(rows: &[Self]) -> Vec<ArrayRef> {
        vec![A::to_array(&mut rows.iter().map(|r| &r.0)), B::to_array(&mut rows.iter().map(|r| &r.1))]
    }
    fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>> {
        Ok(A::from_array(&arrays[0], "f0")?.into_iter().zip(B::from_array(&arrays[1], "f1")?).collect())
    }
}

/// For the derive: the next value of a column.
#[doc(hidden)]
pub fn next_field<T>(values: &mut impl Iterator<Item = T>) -> Result<T> {
    values.next().ok_or_else(|| Error::bug("columns of one batch differ in length"))
}

/// For the derive: rows of a column.
#[doc(hidden)]
pub fn array_len(array: &ArrayRef) -> usize {
    array.len()
}
