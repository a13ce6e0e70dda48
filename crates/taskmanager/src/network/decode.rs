//! A payload as a batch, around the bytes as they came. Trusts nothing: every length, offset and string is checked.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, SchemaRef};
use flott_core::batch::{ChangeBatch, RowKind};

use super::batch::{ALIGN, KINDS, TIMES};

/// Reads lengths from the head and takes buffers from behind it.
struct Reader<'a> {
    numbers: &'a [u8],
    payload: &'a Buffer,
    /// Where the next buffer begins.
    at: usize,
}

/// The batch of a payload of this schema, or what is wrong with it.
pub(super) fn decode(payload: Vec<u8>, schema: &SchemaRef) -> Result<ChangeBatch, String> {
    let payload = Buffer::from_vec(payload);
    let head_len = payload.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b) as usize);
    let head = payload.get(4..head_len).ok_or_else(|| format!("a head of {head_len} bytes in {}", payload.len()))?;
    let mut r = Reader { numbers: head, payload: &payload, at: head_len.next_multiple_of(ALIGN) };
    let rows = r.number()?;
    let flags = r.number()?;
    if flags & !((KINDS | TIMES) as usize) != 0 {
        return Err(format!("flags {flags}"));
    }
    let mut kinds: Option<Arc<[RowKind]>> = None;
    let mut times: Option<Arc<[i64]>> = None;
    if flags & KINDS as usize != 0 {
        let bytes = r.buffer_of(rows)?;
        let all: Option<Vec<RowKind>> = bytes.iter().map(|k| RowKind::from_u8(*k)).collect();
        kinds = Some(all.ok_or("a row kind above 3")?.into());
    }
    if flags & TIMES as usize != 0 {
        let bytes = r.buffer_of(rows.checked_mul(8).ok_or("too many rows")?)?;
        times = Some(bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, i64::from_le_bytes)).collect());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data = r.node(field.data_type()).map_err(|e| format!("column `{}`: {e}", field.name()))?;
        columns.push(make_array(data));
    }
    if !r.numbers.is_empty() {
        return Err("more columns than were planned".into());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| e.to_string())?;
    Ok(ChangeBatch::new(rows, kinds, times))
}

impl Reader<'_> {
    fn number(&mut self) -> Result<usize, String> {
        let (n, rest) = self.numbers.split_first_chunk::<4>().ok_or("fewer columns than were planned")?;
        self.numbers = rest;
        Ok(u32::from_le_bytes(*n) as usize)
    }
    fn buffer(&mut self) -> Result<Buffer, String> {
        let len = self.number()?;
        let end = self.at.saturating_add(len);
        if end > self.payload.len() {
            return Err(format!("a buffer of {len} bytes at {} of {}", self.at, self.payload.len()));
        }
        let buffer = self.payload.slice_with_length(self.at, len);
        self.at = end.next_multiple_of(ALIGN);
        Ok(buffer)
    }
    fn buffer_of(&mut self, bytes: usize) -> Result<Buffer, String> {
        let buffer = self.buffer()?;
        if buffer.len() == bytes { Ok(buffer) } else { Err(format!("{} bytes instead of {bytes}", buffer.len())) }
    }
    fn node(&mut self, data_type: &DataType) -> Result<ArrayData, String> {
        let (len, nulls) = (self.number()?, self.number()?);
        let mut builder = ArrayData::builder(data_type.clone()).len(len);
        if nulls > 0 {
            builder = builder.null_bit_buffer(Some(self.buffer_of(len.div_ceil(8))?));
        }
        builder = match data_type {
            DataType::Null => builder,
            DataType::Boolean => builder.add_buffer(self.buffer_of(len.div_ceil(8))?),
            DataType::Utf8 | DataType::Binary => builder.add_buffer(self.offsets(len)?).add_buffer(self.buffer()?),
            DataType::List(item) | DataType::Map(item, _) => {
                builder.add_buffer(self.offsets(len)?).add_child_data(self.node(item.data_type())?)
            }
            DataType::Struct(fields) => {
                for field in fields {
                    let child = self.node(field.data_type())?;
                    if child.len() != len {
                        return Err(format!("field `{}` has {} rows instead of {len}", field.name(), child.len()));
                    }
                    builder = builder.add_child_data(child);
                }
                builder
            }
            t => {
                let fixed = match t {
                    DataType::FixedSizeBinary(n) => usize::try_from(*n).ok(),
                    t => t.primitive_width(),
                };
                let width = fixed.ok_or_else(|| format!("{t} does not travel between processes"))?;
                builder.add_buffer(self.buffer_of(len.checked_mul(width).ok_or("too many rows")?)?)
            }
        };
        // An allocator may give memory that suits bytes only; then the buffers are copied.
        builder.align_buffers(true).build().map_err(|e| e.to_string())
    }
    fn offsets(&mut self, len: usize) -> Result<Buffer, String> {
        self.buffer_of((len + 1) * 4)
    }
}
