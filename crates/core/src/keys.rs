//! The canonical row codec: columns to bytes and back. Key bytes decide key groups and lie in checkpoints, so
//! the encoding is frozen.
//!
//! Per column: a byte 0 for NULL, or 1 and the value. Integers, dates, times and timestamps are big-endian with the sign bit
//! flipped; floats are IEEE bits big-endian with −0.0 folded to 0.0 and every NaN to one; strings and bytes are a u32 big-endian
//! length and the bytes; DECIMAL is 16 bytes, big-endian with the sign bit flipped; BOOLEAN a byte 0 or 1; ROW its fields in
//! order; ARRAY a u32 big-endian count and the elements; MAP a u32 big-endian count, then key and value of each entry, ordered by the
//! bytes of the key. A column of type NULL is the byte 0.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef};

use crate::error::{Error, Result};
use crate::key_group::{key_group_of, key_hash};
use crate::state::KeyBatch;
use encode::Encoder;

/// Encodes and decodes rows of a fixed list of columns.
#[derive(Clone, Debug)]
pub struct RowCodec {
    fields: Vec<FieldRef>,
}

impl RowCodec {
    /// A codec for these columns; `User` error naming the column whose type cannot be a key.
    pub fn new(fields: Vec<FieldRef>) -> Result<Self> {
        for field in &fields {
            if let Some(t) = unsupported(field.data_type()) {
                return Err(Error::user("key.type", format!("column `{}` cannot be part of a key", field.name()))
                    .detail(format!("its type holds {t}, which has no canonical bytes"))
                    .hint(
                        "use BOOLEAN, numbers, strings, bytes, dates, times, timestamps, ROW, ARRAY or MAP of these",
                    ));
            }
        }
        Ok(RowCodec { fields })
    }
    /// The columns.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }
    /// Overwrites `keys` with one key per row of `columns`. A codec without columns does not know the number of rows: see
    /// [`RowCodec::encode_empty_keys`].
    pub fn encode_keys(&self, columns: &[ArrayRef], max_parallelism: u32, keys: &mut KeyBatch) -> Result<()> {
        keys.clear();
        self.encode_rows(columns, &mut keys.offsets, &mut keys.bytes)?;
        finish(max_parallelism, keys);
        Ok(())
    }
    /// Overwrites `keys` with `rows` keys without bytes: the one group of a global aggregate.
    pub fn encode_empty_keys(rows: usize, max_parallelism: u32, keys: &mut KeyBatch) {
        keys.clear();
        keys.offsets.resize(rows + 1, 0);
        finish(max_parallelism, keys);
    }
    /// Appends every row of `columns` to `bytes` and the end of each to `offsets`; empty `offsets` first get the start.
    pub fn encode_rows(&self, columns: &[ArrayRef], offsets: &mut Vec<u32>, bytes: &mut Vec<u8>) -> Result<()> {
        if offsets.is_empty() {
            offsets.push(u32::try_from(bytes.len()).map_err(|_| too_large(bytes.len()))?);
        }
        let encoders = self.encoders(columns)?;
        let rows = columns.first().map_or(0, |c| c.len());
        encode::rows(&encoders, rows, offsets, bytes)
    }
    /// Appends row `i` to `bytes`. For many rows of one batch, [`RowCodec::encode_rows`] is much faster.
    pub fn encode_row(&self, columns: &[ArrayRef], i: usize, bytes: &mut Vec<u8>) -> Result<()> {
        for encoder in self.encoders(columns)? {
            encoder.push_row(i, bytes);
        }
        Ok(())
    }
    /// The columns of encoded rows; `Corrupt` when the bytes are not of this codec.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut rest: Vec<&[u8]> = rows.into_iter().collect();
        let columns: Vec<ArrayRef> = self
            .fields
            .iter()
            .map(|f| decode::column(f.data_type(), &mut rest).map_err(|e| e.context(format!("column `{}`", f.name()))))
            .collect::<Result<_>>()?;
        match rest.iter().position(|r| !r.is_empty()) {
            Some(i) => Err(decode::corrupt(format!("row {i} has {} bytes after its last column", rest[i].len()))),
            None => Ok(columns),
        }
    }
    /// The columns of all keys of a batch.
    pub fn decode_keys(&self, keys: &KeyBatch) -> Result<Vec<ArrayRef>> {
        self.decode((0..keys.len()).map(|i| keys.key(i)))
    }
    fn encoders<'a>(&self, columns: &'a [ArrayRef]) -> Result<Vec<Encoder<'a>>> {
        if columns.len() != self.fields.len() {
            return Err(Error::bug(format!("a codec of {} columns got {}", self.fields.len(), columns.len())));
        }
        let rows = columns.first().map_or(0, |c| c.len());
        let encoder = |(field, column): (&FieldRef, &'a ArrayRef)| {
            if column.len() != rows || !same_shape(field.data_type(), column.data_type()) {
                return Err(Error::bug(format!(
                    "key column `{}` of {} × {rows} rows got {} × {}",
                    field.name(),
                    field.data_type(),
                    column.data_type(),
                    column.len()
                )));
            }
            Encoder::new(column.as_ref())
        };
        self.fields.iter().zip(columns).map(encoder).collect()
    }
}

/// Fills hashes and groups from bytes and offsets.
fn finish(max_parallelism: u32, keys: &mut KeyBatch) {
    keys.hashes.extend(keys.offsets.windows(2).map(|w| key_hash(&keys.bytes[w[0] as usize..w[1] as usize])));
    keys.groups.extend(keys.hashes.iter().map(|&h| key_group_of(h, max_parallelism)));
}

fn too_large(bytes: usize) -> Error {
    Error::user("key.batch-size", format!("the keys of one batch take {bytes} bytes"))
        .detail("a batch of keys must stay below 4 GiB")
        .hint("keep very long strings out of GROUP BY, PARTITION BY and join keys")
}

/// The first type within `t` that has no encoding.
fn unsupported(t: &DataType) -> Option<&DataType> {
    use DataType::*;
    match t {
        Null | Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Decimal128(..) | Date32 | Time32(_)
        | Timestamp(..) | Utf8 | Binary => None,
        Struct(fields) => fields.iter().find_map(|f| unsupported(f.data_type())),
        List(item) | Map(item, _) => unsupported(item.data_type()),
        other => Some(other),
    }
}

/// Whether both types have one encoding; names, nullability and time zones do not matter.
fn same_shape(a: &DataType, b: &DataType) -> bool {
    use DataType::*;
    match (a, b) {
        (Timestamp(u, _), Timestamp(v, _)) => u == v,
        (Decimal128(_, s), Decimal128(_, t)) => s == t,
        (Struct(f), Struct(g)) => {
            f.len() == g.len() && f.iter().zip(g).all(|(f, g)| same_shape(f.data_type(), g.data_type()))
        }
        (List(f), List(g)) | (Map(f, _), Map(g, _)) => same_shape(f.data_type(), g.data_type()),
        _ => a == b,
    }
}
