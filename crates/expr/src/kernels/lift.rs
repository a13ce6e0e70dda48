//! Lifts functions of one value to arrays and constants with NULL in, NULL out; knows no function itself.

use arrow_array::builder::{BooleanBuilder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrowPrimitiveType, BooleanArray, ListArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, NullBuffer};
use flott_core::{Error, Result};

use crate::compile::Value;

/// Bytes of text that a column of a batch can hold.
const COLUMN_BYTES_MAX: usize = i32::MAX as usize;
/// Bytes of text that one call may make.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 20;

/// The typed array of a value; of length 1 for a constant.
pub(super) fn primitive<T: ArrowPrimitiveType>(value: &Value) -> Result<&PrimitiveArray<T>> {
    value
        .array()
        .as_primitive_opt::<T>()
        .ok_or_else(|| Error::bug(format!("a kernel for {} got {}", T::DATA_TYPE, value.array().data_type())))
}

/// The text array of a value; of length 1 for a constant.
pub(super) fn text(value: &Value) -> Result<&StringArray> {
    value
        .array()
        .as_string_opt::<i32>()
        .ok_or_else(|| Error::bug(format!("a kernel for text got {}", value.array().data_type())))
}

/// `f` of two columns, of which one or both may be constant.
pub(super) fn binary<A, B, O>(
    a: &Value,
    b: &Value,
    rows: usize,
    f: impl Fn(A::Native, B::Native) -> O::Native,
) -> Result<PrimitiveArray<O>>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (x, y) = (primitive::<A>(a)?, primitive::<B>(b)?);
    Ok(match (a.is_scalar() && rows != 1, b.is_scalar() && rows != 1) {
        (false, true) if y.is_null(0) => PrimitiveArray::new_null(rows),
        (true, false) if x.is_null(0) => PrimitiveArray::new_null(rows),
        (false, true) => {
            let y = y.value(0);
            x.unary(|x| f(x, y))
        }
        (true, false) => {
            let x = x.value(0);
            y.unary(|y| f(x, y))
        }
        _ => arrow_arith::arity::binary(x, y, f)?,
    })
}

/// Rows where all values are there; `None`: all of them.
pub(super) fn valid(args: &[&Value], rows: usize) -> Option<NullBuffer> {
    let mut all: Option<NullBuffer> = None;
    for arg in args {
        let nulls = match arg {
            Value::Scalar(a) if a.is_null(0) => Some(NullBuffer::new_null(rows)),
            Value::Scalar(_) => None,
            Value::Array(a) => a.logical_nulls(),
        };
        all = NullBuffer::union(all.as_ref(), nulls.as_ref());
    }
    all.filter(|n| n.null_count() > 0)
}

/// Whether row `i` is valid.
#[inline]
pub(super) fn is_valid(nulls: &Option<NullBuffer>, i: usize) -> bool {
    nulls.as_ref().is_none_or(|n| n.is_valid(i))
}

/// `f(row)` for each valid row; NULL where it gives none; stops at the first error.
pub(super) fn try_rows<O: ArrowPrimitiveType>(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize) -> Result<Option<O::Native>>,
) -> Result<PrimitiveArray<O>> {
    let nulls = valid(args, rows);
    let mut values = vec![O::Native::default(); rows];
    let mut absent: Option<BooleanBufferBuilder> = None;
    for (i, slot) in values.iter_mut().enumerate() {
        if !is_valid(&nulls, i) {
            continue;
        }
        match f(i)? {
            Some(v) => *slot = v,
            None => {
                let bits = absent.get_or_insert_with(|| {
                    let mut bits = BooleanBufferBuilder::new(rows);
                    bits.append_n(rows, true);
                    bits
                });
                bits.set_bit(i, false);
            }
        }
    }
    let own = absent.map(|mut bits| NullBuffer::new(bits.finish()));
    Ok(PrimitiveArray::new(values.into(), NullBuffer::union(nulls.as_ref(), own.as_ref())))
}

/// [`try_rows`] of a function that cannot fail.
pub(super) fn rows_opt<O: ArrowPrimitiveType>(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize) -> Option<O::Native>,
) -> Result<PrimitiveArray<O>> {
    try_rows(args, rows, |i| Ok(f(i)))
}

/// `f(row)` of each valid row, as booleans.
pub(super) fn rows_bool(args: &[&Value], rows: usize, mut f: impl FnMut(usize) -> bool) -> BooleanArray {
    let nulls = valid(args, rows);
    let bits = BooleanBuffer::collect_bool(rows, |i| is_valid(&nulls, i) && f(i));
    BooleanArray::new(bits, nulls)
}

/// `f(row)` of each valid row, as booleans, with errors.
pub(super) fn try_rows_bool(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize) -> Result<Option<bool>>,
) -> Result<BooleanArray> {
    let nulls = valid(args, rows);
    let mut out = BooleanBuilder::with_capacity(rows);
    for i in 0..rows {
        out.append_option(if is_valid(&nulls, i) { f(i)? } else { None });
    }
    Ok(out.finish())
}

/// Text for each valid row, written by `f(row, buffer)`; NULL where it returns `false`. One buffer for all rows.
pub(super) fn rows_text(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize, &mut String) -> Result<bool>,
) -> Result<StringArray> {
    let nulls = valid(args, rows);
    let mut out = arrow_array::builder::StringBuilder::with_capacity(rows, rows * 16);
    let mut buffer = String::new();
    for i in 0..rows {
        buffer.clear();
        if is_valid(&nulls, i) && f(i, &mut buffer)? {
            if out.values_slice().len() + buffer.len() > COLUMN_BYTES_MAX {
                return Err(super::data_error("the text of one batch is longer than 2 GB"));
            }
            out.append_value(&buffer);
        } else {
            out.append_null();
        }
    }
    Ok(out.finish())
}

/// A part of the argument for each valid row: `f(row)` borrows from it; NULL where it gives none.
pub(super) fn rows_slice<'a>(args: &[&Value], rows: usize, mut f: impl FnMut(usize) -> Option<&'a str>) -> StringArray {
    let nulls = valid(args, rows);
    let mut out = arrow_array::builder::StringBuilder::with_capacity(rows, rows * 16);
    for i in 0..rows {
        out.append_option(if is_valid(&nulls, i) { f(i) } else { None });
    }
    out.finish()
}

/// Bytes for each valid row, written by `f(row, buffer)`; NULL where it returns `false`. One buffer for all rows.
pub(super) fn rows_bytes(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize, &mut Vec<u8>) -> Result<bool>,
) -> Result<arrow_array::BinaryArray> {
    let nulls = valid(args, rows);
    let mut out = arrow_array::builder::BinaryBuilder::with_capacity(rows, rows * 16);
    let mut buffer = Vec::new();
    for i in 0..rows {
        buffer.clear();
        if is_valid(&nulls, i) && f(i, &mut buffer)? {
            if out.values_slice().len() + buffer.len() > COLUMN_BYTES_MAX {
                return Err(super::data_error("the bytes of one batch are more than 2 GB"));
            }
            out.append_value(&buffer);
        } else {
            out.append_null();
        }
    }
    Ok(out.finish())
}

/// A list of texts for each valid row, appended by `f(row, items)`; NULL where it returns `false`, and then it must append nothing.
pub(super) fn rows_list(
    args: &[&Value],
    rows: usize,
    mut f: impl FnMut(usize, &mut StringBuilder) -> Result<bool>,
) -> Result<ListArray> {
    let nulls = valid(args, rows);
    let mut out = ListBuilder::new(StringBuilder::new());
    for i in 0..rows {
        let there = is_valid(&nulls, i) && f(i, out.values())?;
        out.append(there);
    }
    Ok(out.finish())
}

/// The bytes of a text or of binary data; of length 1 for a constant.
pub(super) fn bytes(value: &Value) -> Result<BytesOf<'_>> {
    let array = value.array();
    match (array.as_string_opt::<i32>(), array.as_binary_opt::<i32>()) {
        (Some(text), _) => Ok(BytesOf::Text(text)),
        (_, Some(binary)) => Ok(BytesOf::Binary(binary)),
        _ => Err(Error::bug(format!("a kernel for bytes got {}", array.data_type()))),
    }
}

/// A column that is read as bytes.
#[derive(Clone, Copy)]
pub(super) enum BytesOf<'a> {
    Text(&'a StringArray),
    Binary(&'a arrow_array::BinaryArray),
}

impl<'a> BytesOf<'a> {
    /// The bytes of a row.
    pub fn value(self, i: usize) -> &'a [u8] {
        match self {
            BytesOf::Text(a) => a.value(i).as_bytes(),
            BytesOf::Binary(a) => a.value(i),
        }
    }
}
