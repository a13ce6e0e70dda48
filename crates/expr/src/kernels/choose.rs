//! Puts CASE results together from the values of its branches; evaluates nothing.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::DataType as Arrow;
use flott_core::{Error, Result};

use crate::compile::Value;

/// Row by row the value of the branch whose bit is set in `taken`, else the last of `values`, which has one entry more. Bits of `taken` are disjoint.
pub(crate) fn choose(values: &[Value], taken: &[BooleanBuffer], rows: usize, data_type: &Arrow) -> Result<Value> {
    for (value, bits) in values.iter().zip(taken) {
        if bits.count_set_bits() == rows {
            return Ok(value.clone());
        }
    }
    if taken.iter().all(|bits| bits.count_set_bits() == 0) {
        return Ok(values[taken.len()].clone());
    }
    let mut choice = vec![taken.len() as u32; rows];
    for (k, bits) in taken.iter().enumerate() {
        for i in bits.set_indices() {
            choice[i] = k as u32;
        }
    }
    for value in values {
        if value.array().data_type() != data_type {
            return Err(Error::bug(format!("a branch of type {} in a CASE of {data_type}", value.array().data_type())));
        }
    }
    macro_rules! primitive {
        ($t:ty) => {
            choose_primitive::<$t>(values, &choice, data_type)
        };
    }
    let array: ArrayRef = downcast_primitive! {
        data_type => (primitive),
        Arrow::Utf8 => choose_text(values, &choice),
        Arrow::Boolean => choose_boolean(values, &choice),
        _ => choose_any(values, &choice)?
    };
    Ok(Value::Array(array))
}

fn choose_nulls(values: &[Value], choice: &[u32]) -> Option<NullBuffer> {
    if values.iter().all(|v| v.array().null_count() == 0) {
        return None;
    }
    let sources: Vec<_> = values.iter().map(|v| (v.array().nulls(), v.row_mask())).collect();
    let bits = BooleanBuffer::collect_bool(choice.len(), |i| {
        let (nulls, mask) = sources[choice[i] as usize];
        nulls.is_none_or(|n| n.is_valid(i & mask))
    });
    Some(NullBuffer::new(bits))
}

fn choose_primitive<T: ArrowPrimitiveType>(values: &[Value], choice: &[u32], data_type: &Arrow) -> ArrayRef {
    let sources: Vec<(&[T::Native], usize)> =
        values.iter().map(|v| (&v.array().as_primitive::<T>().values()[..], v.row_mask())).collect();
    let picked: Vec<T::Native> = choice
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let (source, mask) = sources[*c as usize];
            source[i & mask]
        })
        .collect();
    Arc::new(PrimitiveArray::<T>::new(picked.into(), choose_nulls(values, choice)).with_data_type(data_type.clone()))
}

fn choose_boolean(values: &[Value], choice: &[u32]) -> ArrayRef {
    let sources: Vec<_> = values.iter().map(|v| (v.array().as_boolean().values(), v.row_mask())).collect();
    let bits = BooleanBuffer::collect_bool(choice.len(), |i| {
        let (source, mask) = sources[choice[i] as usize];
        source.value(i & mask)
    });
    Arc::new(BooleanArray::new(bits, choose_nulls(values, choice)))
}

fn choose_text(values: &[Value], choice: &[u32]) -> ArrayRef {
    let sources: Vec<_> = values.iter().map(|v| (v.array().as_string::<i32>(), v.row_mask())).collect();
    let mut out = StringBuilder::with_capacity(choice.len(), choice.len() * 16);
    for (i, c) in choice.iter().enumerate() {
        let (source, mask) = sources[*c as usize];
        let at = i & mask;
        if source.is_null(at) { out.append_null() } else { out.append_value(source.value(at)) }
    }
    Arc::new(out.finish())
}

fn choose_any(values: &[Value], choice: &[u32]) -> Result<ArrayRef> {
    let arrays: Vec<&dyn Array> = values.iter().map(|v| v.array().as_ref()).collect();
    let masks: Vec<usize> = values.iter().map(Value::row_mask).collect();
    let at: Vec<(usize, usize)> =
        choice.iter().enumerate().map(|(i, c)| (*c as usize, i & masks[*c as usize])).collect();
    Ok(arrow_select::interleave::interleave(&arrays, &at)?)
}

/// `part` back at the rows of `mask`; other rows are NULL.
pub(crate) fn scatter(part: &ArrayRef, mask: &BooleanArray) -> Result<ArrayRef> {
    let mut next = 0u32;
    let indices: UInt32Array = mask
        .values()
        .iter()
        .map(|set| {
            set.then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    Ok(arrow_select::take::take(part, &indices, None)?)
}
