//! Results from state rows: one column per aggregate, built column at a time. Pure.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, NullBuffer, i256};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::error::{Error, Result};
use flott_plan::spec::AggregateFunction;

use super::layout::{AccKind, Layout, OutputSpec, read_i64, read_i128};
use super::update::DECIMAL_OVERFLOW;
use super::values::Form;

/// A value kept beside its row.
pub(crate) type Beside = Option<Arc<[u8]>>;

/// The output columns for `images`, `layout.width` bytes a row; `beside[v][row]` are the values kept beside them.
pub(crate) fn finish(layout: &Layout, images: &[u8], beside: &[Vec<Beside>]) -> Result<Vec<ArrayRef>> {
    layout.outputs.iter().map(|o| column(layout, o, images, beside)).collect()
}

fn column(layout: &Layout, out: &OutputSpec, images: &[u8], beside: &[Vec<Beside>]) -> Result<ArrayRef> {
    let acc = &layout.accumulators[out.acc];
    let rows = || images.chunks_exact(layout.width).map(|image| &image[acc.offset..]);
    if acc.kind == AccKind::Count {
        return integers(&out.arrow, rows().map(|r| read_i64(r, 0)).collect(), None);
    }
    let present = BooleanBuffer::from_iter(rows().map(|r| read_i64(r, 0) > 0));
    let nulls = Some(NullBuffer::new(present)).filter(|n| n.null_count() > 0);
    if acc.kind == AccKind::Moments {
        return moments(out, rows().collect());
    }
    if let (AccKind::Collected { kind, .. }, Some(codec), Some(v)) = (acc.kind, &acc.codec, acc.beside) {
        return super::collect::column(out.function, kind, codec, &out.arrow, &beside[v]);
    }
    if let (Some(user), Some(v)) = (&acc.user, acc.beside) {
        return super::user::column(user, &out.arrow, &beside[v]);
    }
    let average = out.function == AggregateFunction::Avg;
    let form = match acc.kind {
        AccKind::Sum { form, .. } | AccKind::Extreme { form, .. } => form,
        AccKind::Count | AccKind::Moments | AccKind::Collected { .. } | AccKind::User => Form::Int,
    };
    match form {
        Form::Int => {
            let divide = |r: &[u8]| match (read_i64(r, 8), read_i64(r, 0)) {
                (sum, count) if average => sum.checked_div(count).unwrap_or(0),
                (value, count) => value * i64::from(count > 0),
            };
            integers(&out.arrow, rows().map(divide).collect(), nulls)
        }
        Form::Float => {
            let divide = |r: &[u8]| match (f64::from_bits(read_i64(r, 8) as u64), read_i64(r, 0)) {
                (_, count) if count <= 0 => 0.0,
                (sum, count) if average => sum / count as f64,
                (value, _) => value,
            };
            floats(&out.arrow, rows().map(divide).collect(), nulls)
        }
        Form::Decimal => decimals(out, rows(), matches!(acc.kind, AccKind::Sum { .. })),
        Form::Bytes => {
            let values = &beside[acc.beside.expect("values of this form lie beside the row")];
            strings(&out.arrow, values)
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    arrow: &Arrow,
    values: impl Iterator<Item = T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.collect(), nulls).with_data_type(arrow.clone()))
}

/// Truncation to the result's type is Java's wrap-around.
fn integers(arrow: &Arrow, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let it = values.iter().copied();
    Ok(match arrow {
        Arrow::Boolean => Arc::new(BooleanArray::new(values.iter().map(|v| *v != 0).collect(), nulls)),
        Arrow::Int8 => primitive::<Int8Type>(arrow, it.map(|v| v as i8), nulls),
        Arrow::Int16 => primitive::<Int16Type>(arrow, it.map(|v| v as i16), nulls),
        Arrow::Int32 => primitive::<Int32Type>(arrow, it.map(|v| v as i32), nulls),
        Arrow::Date32 => primitive::<Date32Type>(arrow, it.map(|v| v as i32), nulls),
        Arrow::Time32(_) => primitive::<Time32MillisecondType>(arrow, it.map(|v| v as i32), nulls),
        Arrow::Int64 => Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls)),
        Arrow::Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>(arrow, it, nulls),
        Arrow::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(arrow, it, nulls),
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>(arrow, it, nulls),
        Arrow::Float32 | Arrow::Float64 => return floats(arrow, it.map(|v| v as f64).collect(), nulls),
        other => return Err(Error::bug(format!("an aggregate over whole numbers has type {other}"))),
    })
}

fn floats(arrow: &Arrow, values: Vec<f64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(match arrow {
        Arrow::Float32 => primitive::<Float32Type>(arrow, values.iter().map(|v| *v as f32), nulls),
        Arrow::Float64 => Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)),
        other => return Err(Error::bug(format!("an aggregate over floating point has type {other}"))),
    })
}

/// Variances and standard deviations, cast to the result's type as Flink does.
fn moments(out: &OutputSpec, rows: Vec<&[u8]>) -> Result<ArrayRef> {
    let AggregateFunction::Deviation { root, sample } = out.function else {
        return Err(Error::bug("moments make deviations"));
    };
    let value = |r: &[u8]| {
        let (count, squares) = (read_i64(r, 0), f64::from_bits(read_i64(r, 16) as u64));
        let divisor = count - i64::from(sample);
        (divisor > 0).then(|| squares / divisor as f64).map(|v| if root { v.sqrt() } else { v })
    };
    let values: Vec<Option<f64>> = rows.into_iter().map(value).collect();
    let nulls = Some(NullBuffer::from_iter(values.iter().map(Option::is_some))).filter(|n| n.null_count() > 0);
    let values = values.into_iter().map(Option::unwrap_or_default);
    match out.arrow {
        Arrow::Float32 | Arrow::Float64 => floats(&out.arrow, values.collect(), nulls),
        Arrow::Decimal128(_, scale) => {
            let power = 10f64.powi(scale.into());
            let array = Decimal128Array::new(values.map(|v| (v * power).round() as i128).collect(), nulls);
            Ok(Arc::new(array.with_data_type(out.arrow.clone())))
        }
        _ => integers(&out.arrow, values.map(|v| v as i64).collect(), nulls),
    }
}

/// NULL where the result does not fit, as in Flink.
fn decimals<'a>(out: &OutputSpec, rows: impl Iterator<Item = &'a [u8]>, sum: bool) -> Result<ArrayRef> {
    let Arrow::Decimal128(precision, scale) = out.arrow else {
        return Err(Error::bug(format!("an aggregate over DECIMAL has type {}", out.arrow)));
    };
    let bound = i256::from_i128(10i128.pow(u32::from(precision)));
    let shift = u32::try_from(i32::from(scale) - i32::from(out.arg_scale)).unwrap_or(0);
    let factor = i256::from_i128(10i128.pow(shift.min(38)));
    let finish = |r: &'a [u8]| {
        let (count, value) = (read_i64(r, 0), read_i128(r, 8));
        if count <= 0 || (sum && value == DECIMAL_OVERFLOW) {
            return None;
        }
        let scaled = i256::from_i128(value).checked_mul(factor)?;
        let result = match out.function {
            AggregateFunction::Avg => divide_half_up(scaled, i256::from_i128(i128::from(count))),
            _ => scaled,
        };
        (result < bound && result > -bound).then(|| result.to_i128()).flatten()
    };
    let array: Decimal128Array = rows.map(finish).collect();
    Ok(Arc::new(array.with_data_type(out.arrow.clone())))
}

fn divide_half_up(a: i256, count: i256) -> i256 {
    let (quotient, rest) = (a / count, a % count);
    let double = rest + rest;
    if double >= count {
        quotient + i256::ONE
    } else if -double >= count {
        quotient - i256::ONE
    } else {
        quotient
    }
}

fn strings(arrow: &Arrow, values: &[Beside]) -> Result<ArrayRef> {
    if *arrow == Arrow::Binary {
        return Ok(Arc::new(values.iter().map(|v| v.as_deref()).collect::<BinaryArray>()));
    }
    let mut column = StringBuilder::with_capacity(values.len(), values.len() * 16);
    for value in values {
        let text = value.as_deref().map(std::str::from_utf8).transpose();
        column.append_option(text.map_err(|_| Error::corrupt("state.utf8", "a string in state is not UTF-8"))?);
    }
    Ok(Arc::new(column.finish()))
}
