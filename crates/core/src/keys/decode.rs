//! Canonical bytes back to columns, column at a time. Bytes come from storage: every length is checked, nothing panics.

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::types::*;
use arrow_array::{
    Array, ArrayRef, BinaryArray, ListArray, MapArray, NullArray, PrimitiveArray, StringArray, StructArray,
    new_null_array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};

use super::encode::Canonical;
use crate::error::{Error, Result};

pub(super) fn corrupt(what: impl Into<String>) -> Error {
    Error::corrupt("key.corrupt", "encoded rows are damaged or of another codec").detail(what)
}

/// Cuts `n` bytes off the front of `rest`.
#[inline]
fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    match rest.split_at_checked(n) {
        Some((head, tail)) => {
            *rest = tail;
            Ok(head)
        }
        None => Err(corrupt(format!("{n} bytes expected, {} left", rest.len()))),
    }
}

/// Cuts the NULL byte: whether a value follows.
#[inline]
fn cut_valid(rest: &mut &[u8]) -> Result<bool> {
    match cut(rest, 1)? {
        [0] => Ok(false),
        [1] => Ok(true),
        other => Err(corrupt(format!("the NULL byte is {other:?}, not 0 or 1"))),
    }
}

#[inline]
fn cut_u32(rest: &mut &[u8]) -> Result<usize> {
    let bytes = cut(rest, 4)?;
    Ok(u32::from_be_bytes(bytes.try_into().expect("4 bytes were cut")) as usize)
}

/// Cuts a column off the front of every row.
pub(super) fn column(data_type: &DataType, rows: &mut [&[u8]]) -> Result<ArrayRef> {
    let t = data_type;
    match t {
        DataType::Null => {
            for row in rows.iter_mut() {
                if cut_valid(row)? {
                    return Err(corrupt("a value where only NULL can be"));
                }
            }
            Ok(Arc::new(NullArray::new(rows.len())))
        }
        DataType::Boolean => booleans(rows),
        DataType::Int8 => fixed::<Int8Type>(t, rows),
        DataType::Int16 => fixed::<Int16Type>(t, rows),
        DataType::Int32 => fixed::<Int32Type>(t, rows),
        DataType::Int64 => fixed::<Int64Type>(t, rows),
        DataType::Float32 => fixed::<Float32Type>(t, rows),
        DataType::Float64 => fixed::<Float64Type>(t, rows),
        DataType::Decimal128(..) => fixed::<Decimal128Type>(t, rows),
        DataType::Date32 => fixed::<Date32Type>(t, rows),
        DataType::Time32(TimeUnit::Second) => fixed::<Time32SecondType>(t, rows),
        DataType::Time32(_) => fixed::<Time32MillisecondType>(t, rows),
        DataType::Timestamp(TimeUnit::Second, _) => fixed::<TimestampSecondType>(t, rows),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fixed::<TimestampMillisecondType>(t, rows),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fixed::<TimestampMicrosecondType>(t, rows),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fixed::<TimestampNanosecondType>(t, rows),
        DataType::Utf8 => {
            let (offsets, data, nulls) = byte_strings(rows)?;
            let array = StringArray::try_new(offsets, data, nulls);
            Ok(Arc::new(array.map_err(|e| corrupt(format!("a string is not UTF-8: {e}")))?))
        }
        DataType::Binary => {
            let (offsets, data, nulls) = byte_strings(rows)?;
            Ok(Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(|e| corrupt(e.to_string()))?))
        }
        DataType::Struct(fields) => {
            let valid: Vec<bool> = rows.iter_mut().map(cut_valid).collect::<Result<_>>()?;
            let all = valid.iter().all(|v| *v);
            let mut inner: Vec<&[u8]> = rows.iter().zip(&valid).filter(|(_, v)| **v).map(|(r, _)| *r).collect();
            let mut columns = Vec::with_capacity(fields.len());
            for field in fields {
                let dense = column(field.data_type(), &mut inner)?;
                columns.push(if all { dense } else { spread(&dense, &valid)? });
            }
            let present = rows.iter_mut().zip(&valid).filter(|(_, v)| **v).map(|(r, _)| r);
            present.zip(inner).for_each(|(row, rest)| *row = rest);
            let nulls = (!all).then(|| NullBuffer::from(valid.clone()));
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(valid.len(), nulls)));
            }
            let array = StructArray::try_new(fields.clone(), columns, nulls);
            Ok(Arc::new(array.map_err(|e| corrupt(e.to_string()))?))
        }
        DataType::List(item) => lists(item, rows),
        DataType::Map(entries, _) => maps(entries, rows),
        other => Err(Error::bug(format!("no canonical bytes for {other}"))),
    }
}

/// Puts the values of `dense` where `valid` says, NULL elsewhere.
fn spread(dense: &ArrayRef, valid: &[bool]) -> Result<ArrayRef> {
    if dense.is_empty() {
        return Ok(new_null_array(dense.data_type(), valid.len()));
    }
    let mut next = 0u32;
    let at = valid.iter().map(|v| {
        v.then(|| {
            next += 1;
            next - 1
        })
    });
    let at: arrow_array::UInt32Array = at.collect();
    Ok(arrow_select::take::take(dense, &at, None)?)
}

fn booleans(rows: &mut [&[u8]]) -> Result<ArrayRef> {
    let mut values = BooleanBuilder::with_capacity(rows.len());
    for row in rows {
        if !cut_valid(row)? {
            values.append_null();
            continue;
        }
        match cut(row, 1)? {
            [b @ (0 | 1)] => values.append_value(*b == 1),
            other => return Err(corrupt(format!("BOOLEAN is {other:?}, not 0 or 1"))),
        }
    }
    Ok(Arc::new(values.finish()))
}

fn fixed<T: ArrowPrimitiveType>(data_type: &DataType, rows: &mut [&[u8]]) -> Result<ArrayRef>
where
    T::Native: Canonical,
{
    let mut values: Vec<T::Native> = Vec::with_capacity(rows.len());
    let mut nulls: Vec<usize> = Vec::new();
    for (i, row) in rows.iter_mut().enumerate() {
        if cut_valid(row)? {
            values.push(T::Native::parse(cut(row, <T::Native as Canonical>::WIDTH)?));
        } else {
            nulls.push(i);
            values.push(<T::Native as Default>::default());
        }
    }
    let nulls = null_buffer(rows.len(), &nulls);
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn null_buffer(len: usize, nulls: &[usize]) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; len];
    nulls.iter().for_each(|&i| valid[i] = false);
    Some(NullBuffer::from(valid))
}

type ByteStrings = (OffsetBuffer<i32>, Buffer, Option<NullBuffer>);

fn byte_strings(rows: &mut [&[u8]]) -> Result<ByteStrings> {
    let mut data: Vec<u8> = Vec::new();
    let mut offsets: Vec<i32> = Vec::with_capacity(rows.len() + 1);
    let mut nulls: Vec<usize> = Vec::new();
    offsets.push(0);
    for (i, row) in rows.iter_mut().enumerate() {
        if cut_valid(row)? {
            let len = cut_u32(row)?;
            data.extend_from_slice(cut(row, len)?);
        } else {
            nulls.push(i);
        }
        let end = i32::try_from(data.len()).map_err(|_| corrupt("the strings of one batch exceed 2 GiB"))?;
        offsets.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok((offsets, Buffer::from_vec(data), null_buffer(rows.len(), &nulls)))
}

fn lists(item: &arrow_schema::FieldRef, rows: &mut [&[u8]]) -> Result<ArrayRef> {
    let mut elements: Vec<&[u8]> = Vec::new();
    let mut offsets: Vec<i32> = Vec::with_capacity(rows.len() + 1);
    let mut nulls: Vec<usize> = Vec::new();
    offsets.push(0);
    for (i, row) in rows.iter_mut().enumerate() {
        if cut_valid(row)? {
            let count = cut_u32(row)?;
            for _ in 0..count {
                let before = *row;
                skip(item.data_type(), row)?;
                elements.push(&before[..before.len() - row.len()]);
            }
        } else {
            nulls.push(i);
        }
        offsets.push(i32::try_from(elements.len()).map_err(|_| corrupt("more than 2³¹ elements in one batch"))?);
    }
    let values = column(item.data_type(), &mut elements)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let array = ListArray::try_new(item.clone(), offsets, values, null_buffer(rows.len(), &nulls));
    Ok(Arc::new(array.map_err(|e| corrupt(e.to_string()))?))
}

fn maps(entries: &arrow_schema::FieldRef, rows: &mut [&[u8]]) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else { return Err(Error::bug("a map has entries")) };
    let mut parts: [Vec<&[u8]>; 2] = [Vec::new(), Vec::new()];
    let mut offsets: Vec<i32> = Vec::with_capacity(rows.len() + 1);
    let mut nulls: Vec<usize> = Vec::new();
    offsets.push(0);
    for (i, row) in rows.iter_mut().enumerate() {
        if cut_valid(row)? {
            for _ in 0..cut_u32(row)? {
                for (part, field) in parts.iter_mut().zip(fields) {
                    let before = *row;
                    skip(field.data_type(), row)?;
                    part.push(&before[..before.len() - row.len()]);
                }
            }
        } else {
            nulls.push(i);
        }
        offsets.push(i32::try_from(parts[0].len()).map_err(|_| corrupt("more than 2³¹ entries in one batch"))?);
    }
    let columns = parts.iter_mut().zip(fields).map(|(part, f)| column(f.data_type(), part)).collect::<Result<_>>()?;
    let values = StructArray::try_new(fields.clone(), columns, None).map_err(|e| corrupt(e.to_string()))?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let array = MapArray::try_new(entries.clone(), offsets, values, null_buffer(rows.len(), &nulls), false);
    Ok(Arc::new(array.map_err(|e| corrupt(e.to_string()))?))
}

/// Cuts one value off without decoding it.
fn skip(data_type: &DataType, rest: &mut &[u8]) -> Result<()> {
    if !cut_valid(rest)? {
        return Ok(());
    }
    let width = match data_type {
        DataType::Null => return Err(corrupt("a value where only NULL can be")),
        DataType::Boolean => 1,
        DataType::Decimal128(..) => 16,
        DataType::Utf8 | DataType::Binary => cut_u32(rest)?,
        DataType::Struct(fields) => return fields.iter().try_for_each(|f| skip(f.data_type(), rest)),
        DataType::List(item) => {
            let count = cut_u32(rest)?;
            return (0..count).try_for_each(|_| skip(item.data_type(), rest));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(Error::bug("a map has entries")) };
            let count = cut_u32(rest)?;
            return (0..count).try_for_each(|_| fields.iter().try_for_each(|f| skip(f.data_type(), rest)));
        }
        fixed => fixed.primitive_width().ok_or_else(|| Error::bug(format!("no canonical bytes for {fixed}")))?,
    };
    cut(rest, width).map(|_| ())
}
