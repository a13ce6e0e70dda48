//! Columns to canonical bytes: one encoder per column and batch, then column at a time; never per-value dispatch
//! except inside ROW and ARRAY.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, BooleanArray, PrimitiveArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

use super::too_large;
use crate::error::{Error, Result};

/// A value of fixed width and its frozen bytes.
pub(super) trait Canonical: Copy + Default {
    type Bytes: AsRef<[u8]>;
    const WIDTH: usize = size_of::<Self>();
    fn canonical(self) -> Self::Bytes;
    /// The value of exactly `WIDTH` bytes.
    fn parse(bytes: &[u8]) -> Self;
}

macro_rules! canonical_int {
    ($($t:ty),*) => {$(
        impl Canonical for $t {
            type Bytes = [u8; size_of::<$t>()];
            #[inline]
            fn canonical(self) -> Self::Bytes {
                (self ^ <$t>::MIN).to_be_bytes()
            }
            #[inline]
            fn parse(bytes: &[u8]) -> Self {
                <$t>::from_be_bytes(bytes.try_into().expect("the caller cut WIDTH bytes")) ^ <$t>::MIN
            }
        }
    )*};
}
canonical_int!(i8, i16, i32, i64, i128);

macro_rules! canonical_float {
    ($($t:ty),*) => {$(
        impl Canonical for $t {
            type Bytes = [u8; size_of::<$t>()];
            #[inline]
            fn canonical(self) -> Self::Bytes {
                // Equal values must be one key: −0.0 = 0.0, and Flink groups all NaN together.
                let folded = if self == 0.0 { 0.0 } else if self.is_nan() { <$t>::NAN.abs() } else { self };
                folded.to_bits().to_be_bytes()
            }
            #[inline]
            fn parse(bytes: &[u8]) -> Self {
                <$t>::from_be_bytes(bytes.try_into().expect("the caller cut WIDTH bytes"))
            }
        }
    )*};
}
canonical_float!(f32, f64);

type Nulls<'a> = Option<&'a NullBuffer>;

/// A column, downcast once per batch.
pub(super) enum Encoder<'a> {
    Null,
    Boolean(&'a BooleanArray),
    I8(&'a [i8], Nulls<'a>),
    I16(&'a [i16], Nulls<'a>),
    I32(&'a [i32], Nulls<'a>),
    I64(&'a [i64], Nulls<'a>),
    I128(&'a [i128], Nulls<'a>),
    F32(&'a [f32], Nulls<'a>),
    F64(&'a [f64], Nulls<'a>),
    Bytes {
        offsets: &'a [i32],
        data: &'a [u8],
        nulls: Nulls<'a>,
    },
    Row(Vec<Encoder<'a>>, Nulls<'a>),
    List {
        offsets: &'a [i32],
        items: Box<Encoder<'a>>,
        nulls: Nulls<'a>,
    },
    /// Keys and values.
    Map {
        offsets: &'a [i32],
        entry: Box<[Encoder<'a>; 2]>,
        nulls: Nulls<'a>,
    },
}

fn values<T: ArrowPrimitiveType>(array: &dyn Array) -> (&[T::Native], Nulls<'_>) {
    let array: &PrimitiveArray<T> = array.as_primitive();
    (array.values(), some_nulls(array))
}

/// The null buffer, if it marks anything.
fn some_nulls(array: &dyn Array) -> Nulls<'_> {
    array.nulls().filter(|n| n.null_count() > 0)
}

macro_rules! primitive {
    ($variant:ident, $t:ty, $array:expr) => {{
        let (v, n) = values::<$t>($array);
        Encoder::$variant(v, n)
    }};
}

impl<'a> Encoder<'a> {
    pub(super) fn new(array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Encoder::Null,
            DataType::Boolean => Encoder::Boolean(array.as_boolean()),
            DataType::Int8 => primitive!(I8, Int8Type, array),
            DataType::Int16 => primitive!(I16, Int16Type, array),
            DataType::Int32 => primitive!(I32, Int32Type, array),
            DataType::Int64 => primitive!(I64, Int64Type, array),
            DataType::Float32 => primitive!(F32, Float32Type, array),
            DataType::Float64 => primitive!(F64, Float64Type, array),
            DataType::Decimal128(..) => primitive!(I128, Decimal128Type, array),
            DataType::Date32 => primitive!(I32, Date32Type, array),
            DataType::Time32(TimeUnit::Second) => primitive!(I32, Time32SecondType, array),
            DataType::Time32(_) => primitive!(I32, Time32MillisecondType, array),
            DataType::Timestamp(TimeUnit::Second, _) => primitive!(I64, TimestampSecondType, array),
            DataType::Timestamp(TimeUnit::Millisecond, _) => primitive!(I64, TimestampMillisecondType, array),
            DataType::Timestamp(TimeUnit::Microsecond, _) => primitive!(I64, TimestampMicrosecondType, array),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive!(I64, TimestampNanosecondType, array),
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                Encoder::Bytes { offsets: a.value_offsets(), data: a.value_data(), nulls: some_nulls(a) }
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                Encoder::Bytes { offsets: a.value_offsets(), data: a.value_data(), nulls: some_nulls(a) }
            }
            DataType::Struct(_) => {
                let a = array.as_struct();
                let fields = a.columns().iter().map(|c| Encoder::new(c.as_ref())).collect::<Result<_>>()?;
                Encoder::Row(fields, some_nulls(a))
            }
            DataType::List(_) => {
                let a = array.as_list::<i32>();
                let items = Box::new(Encoder::new(a.values().as_ref())?);
                Encoder::List { offsets: a.value_offsets(), items, nulls: some_nulls(a) }
            }
            DataType::Map(..) => {
                let a = array.as_map();
                let entry = Box::new([Encoder::new(a.keys().as_ref())?, Encoder::new(a.values().as_ref())?]);
                Encoder::Map { offsets: a.value_offsets(), entry, nulls: some_nulls(a) }
            }
            other => return Err(Error::bug(format!("no canonical bytes for {other}"))),
        })
    }

    /// Bytes of every row, when all rows have the same.
    fn width(&self) -> Option<usize> {
        match self {
            Encoder::Null => Some(1),
            Encoder::Boolean(a) => a.nulls().is_none_or(|n| n.null_count() == 0).then_some(2),
            Encoder::I8(_, n) => n.is_none().then_some(2),
            Encoder::I16(_, n) => n.is_none().then_some(3),
            Encoder::I32(_, n) | Encoder::F32(_, n) => n.is_none().then_some(5),
            Encoder::I64(_, n) | Encoder::F64(_, n) => n.is_none().then_some(9),
            Encoder::I128(_, n) => n.is_none().then_some(17),
            Encoder::Row(fields, None) => fields.iter().map(Encoder::width).sum::<Option<usize>>().map(|w| w + 1),
            Encoder::Bytes { .. } | Encoder::Row(..) | Encoder::List { .. } | Encoder::Map { .. } => None,
        }
    }

    /// Adds the bytes of every row to `lengths`.
    fn add_lengths(&self, lengths: &mut [usize]) {
        if let Some(width) = self.width() {
            return lengths.iter_mut().for_each(|l| *l += width);
        }
        match self {
            Encoder::Bytes { offsets, nulls: None, .. } => {
                for (length, w) in lengths.iter_mut().zip(offsets.windows(2)) {
                    *length += 5 + (w[1] - w[0]) as usize;
                }
            }
            _ => lengths.iter_mut().enumerate().for_each(|(i, l)| *l += self.row_length(i)),
        }
    }

    fn row_length(&self, i: usize) -> usize {
        let fixed = |width: usize, nulls: &Nulls<'_>| if is_null(nulls, i) { 1 } else { 1 + width };
        match self {
            Encoder::Null => 1,
            Encoder::Boolean(a) => 1 + usize::from(a.is_valid(i)),
            Encoder::I8(_, n) => fixed(1, n),
            Encoder::I16(_, n) => fixed(2, n),
            Encoder::I32(_, n) | Encoder::F32(_, n) => fixed(4, n),
            Encoder::I64(_, n) | Encoder::F64(_, n) => fixed(8, n),
            Encoder::I128(_, n) => fixed(16, n),
            Encoder::Bytes { nulls, .. }
            | Encoder::Row(_, nulls)
            | Encoder::List { nulls, .. }
            | Encoder::Map { nulls, .. }
                if is_null(nulls, i) =>
            {
                1
            }
            Encoder::Bytes { offsets, .. } => 5 + (offsets[i + 1] - offsets[i]) as usize,
            Encoder::Row(fields, _) => 1 + fields.iter().map(|f| f.row_length(i)).sum::<usize>(),
            Encoder::List { offsets, items, .. } => {
                5 + (offsets[i]..offsets[i + 1]).map(|j| items.row_length(j as usize)).sum::<usize>()
            }
            Encoder::Map { offsets, entry, .. } => {
                let length = |j: usize| entry[0].row_length(j) + entry[1].row_length(j);
                5 + (offsets[i]..offsets[i + 1]).map(|j| length(j as usize)).sum::<usize>()
            }
        }
    }

    /// Writes every row at its cursor and moves the cursors on.
    fn fill(&self, cursors: &mut [usize], bytes: &mut [u8]) {
        match self {
            Encoder::I8(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::I16(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::I32(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::I64(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::I128(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::F32(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::F64(v, n) => fill_fixed(v, n, cursors, bytes),
            Encoder::Bytes { offsets, data, nulls: None } => {
                for (cursor, w) in cursors.iter_mut().zip(offsets.windows(2)) {
                    let value = &data[w[0] as usize..w[1] as usize];
                    let at = &mut bytes[*cursor..*cursor + 5 + value.len()];
                    at[0] = 1;
                    at[1..5].copy_from_slice(&(value.len() as u32).to_be_bytes());
                    at[5..].copy_from_slice(value);
                    *cursor += 5 + value.len();
                }
            }
            _ => {
                for (i, cursor) in cursors.iter_mut().enumerate() {
                    self.write_row(i, cursor, bytes);
                }
            }
        }
    }

    /// Writes row `i` at `cursor`, for columns where rows differ in shape.
    fn write_row(&self, i: usize, cursor: &mut usize, bytes: &mut [u8]) {
        let null = match self {
            Encoder::Null => true,
            Encoder::Boolean(a) => a.is_null(i),
            Encoder::I8(_, n) | Encoder::Row(_, n) => is_null(n, i),
            Encoder::I16(_, n) => is_null(n, i),
            Encoder::I32(_, n) => is_null(n, i),
            Encoder::I64(_, n) => is_null(n, i),
            Encoder::I128(_, n) => is_null(n, i),
            Encoder::F32(_, n) => is_null(n, i),
            Encoder::F64(_, n) => is_null(n, i),
            Encoder::Bytes { nulls, .. } | Encoder::List { nulls, .. } | Encoder::Map { nulls, .. } => {
                is_null(nulls, i)
            }
        };
        bytes[*cursor] = u8::from(!null);
        *cursor += 1;
        if null {
            return;
        }
        let mut put = |value: &[u8]| {
            bytes[*cursor..*cursor + value.len()].copy_from_slice(value);
            *cursor += value.len();
        };
        match self {
            Encoder::Null => {}
            Encoder::Boolean(a) => put(&[u8::from(a.value(i))]),
            Encoder::I8(v, _) => put(&v[i].canonical()),
            Encoder::I16(v, _) => put(&v[i].canonical()),
            Encoder::I32(v, _) => put(&v[i].canonical()),
            Encoder::I64(v, _) => put(&v[i].canonical()),
            Encoder::I128(v, _) => put(&v[i].canonical()),
            Encoder::F32(v, _) => put(&v[i].canonical()),
            Encoder::F64(v, _) => put(&v[i].canonical()),
            Encoder::Bytes { offsets, data, .. } => {
                let value = &data[offsets[i] as usize..offsets[i + 1] as usize];
                put(&(value.len() as u32).to_be_bytes());
                put(value);
            }
            Encoder::Row(fields, _) => fields.iter().for_each(|f| f.write_row(i, cursor, bytes)),
            Encoder::List { offsets, items, .. } => {
                put(&((offsets[i + 1] - offsets[i]) as u32).to_be_bytes());
                (offsets[i]..offsets[i + 1]).for_each(|j| items.write_row(j as usize, cursor, bytes));
            }
            Encoder::Map { offsets, entry, .. } => {
                put(&((offsets[i + 1] - offsets[i]) as u32).to_be_bytes());
                write_entries(entry, offsets[i] as usize..offsets[i + 1] as usize, cursor, bytes);
            }
        }
    }

    /// Appends row `i`.
    pub(super) fn push_row(&self, i: usize, bytes: &mut Vec<u8>) {
        let mut cursor = bytes.len();
        bytes.resize(cursor + self.row_length(i), 0);
        self.write_row(i, &mut cursor, bytes);
    }
}

/// Writes the entries of a map ordered by the bytes of their keys: equal maps must be one key.
fn write_entries(entry: &[Encoder<'_>; 2], range: std::ops::Range<usize>, cursor: &mut usize, bytes: &mut [u8]) {
    let start = *cursor;
    let mut entries = Vec::with_capacity(range.len());
    for j in range {
        let from = *cursor - start;
        entry.iter().for_each(|e| e.write_row(j, cursor, bytes));
        entries.push(from..*cursor - start);
    }
    let written = &mut bytes[start..*cursor];
    if !entries.is_sorted_by(|a, b| written[a.clone()] <= written[b.clone()]) {
        let unordered = written.to_vec();
        entries.sort_by(|a, b| unordered[a.clone()].cmp(&unordered[b.clone()]));
        let ordered: Vec<u8> = entries.into_iter().flat_map(|e| unordered[e].iter().copied()).collect();
        written.copy_from_slice(&ordered);
    }
}

#[inline]
fn is_null(nulls: &Nulls<'_>, i: usize) -> bool {
    nulls.is_some_and(|n| n.is_null(i))
}

fn fill_fixed<T: Canonical>(values: &[T], nulls: &Nulls<'_>, cursors: &mut [usize], bytes: &mut [u8]) {
    for (i, (cursor, value)) in cursors.iter_mut().zip(values).enumerate() {
        if is_null(nulls, i) {
            bytes[*cursor] = 0;
            *cursor += 1;
            continue;
        }
        let at = &mut bytes[*cursor..*cursor + 1 + T::WIDTH];
        at[0] = 1;
        at[1..].copy_from_slice(value.canonical().as_ref());
        *cursor += 1 + T::WIDTH;
    }
}

/// Appends `rows` rows of all columns to `bytes`, and their ends to `offsets`.
pub(super) fn rows(columns: &[Encoder<'_>], rows: usize, offsets: &mut Vec<u32>, bytes: &mut Vec<u8>) -> Result<()> {
    let start = bytes.len();
    if let Some(width) = columns.iter().map(Encoder::width).sum::<Option<usize>>() {
        let end = start + rows * width;
        u32::try_from(end).map_err(|_| too_large(end))?;
        offsets.extend((1..=rows).map(|i| (start + i * width) as u32));
        bytes.resize(end, 0);
        if let [Encoder::I64(values, None)] = columns {
            for (at, value) in bytes[start..].chunks_exact_mut(9).zip(values.iter()) {
                at[0] = 1;
                at[1..].copy_from_slice(&value.canonical());
            }
            return Ok(());
        }
        let mut cursors: Vec<usize> = (0..rows).map(|i| start + i * width).collect();
        columns.iter().for_each(|c| c.fill(&mut cursors, bytes));
        return Ok(());
    }
    if let [Encoder::Bytes { offsets: ends, data, nulls: None }] = columns {
        let total = start + rows * 5 + (ends[rows] - ends[0]) as usize;
        u32::try_from(total).map_err(|_| too_large(total))?;
        bytes.reserve(total - start);
        for w in ends.windows(2) {
            let value = &data[w[0] as usize..w[1] as usize];
            let [a, b, c, d] = (value.len() as u32).to_be_bytes();
            bytes.extend_from_slice(&[1, a, b, c, d]);
            bytes.extend_from_slice(value);
            offsets.push(bytes.len() as u32);
        }
        return Ok(());
    }
    let mut cursors = vec![0; rows];
    columns.iter().for_each(|c| c.add_lengths(&mut cursors));
    let mut end = start;
    for cursor in &mut cursors {
        let length = std::mem::replace(cursor, end);
        end += length;
        offsets.push(u32::try_from(end).map_err(|_| too_large(end))?);
    }
    bytes.resize(end, 0);
    columns.iter().for_each(|c| c.fill(&mut cursors, bytes));
    Ok(())
}
