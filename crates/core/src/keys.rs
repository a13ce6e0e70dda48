//! The canonical row codec: columns to bytes and back. Key bytes decide key groups and lie in checkpoints, so
//! the encoding is frozen.
//!
//! Per column: a byte 0 for NULL, or 1 and the value. Integers, dates, times and timestamps are big-endian with the sign bit
//! flipped; floats are IEEE bits big-endian with −0.0 folded to 0.0 and every NaN to one; strings and bytes are a u32 big-endian
//! length and the bytes; DECIMAL is 16 bytes; ROW its fields in order.

use arrow_array::ArrayRef;
use arrow_schema::FieldRef;

use crate::error::Result;
use crate::state::KeyBatch;

/// Encodes and decodes rows of a fixed list of columns.
#[derive(Clone, Debug)]
pub struct RowCodec {
    fields: Vec<FieldRef>,
}

impl RowCodec {
    /// A codec for these columns; `User` error naming the column whose type cannot be a key.
    pub fn new(fields: Vec<FieldRef>) -> Result<Self> {
        Ok(RowCodec { fields })
    }
    /// The columns.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }
    /// Overwrites `keys` with one key per row of `columns`.
    pub fn encode_keys(&self, columns: &[ArrayRef], max_parallelism: u32, keys: &mut KeyBatch) -> Result<()> {
        let _ = (columns, max_parallelism, keys);
        Err(crate::Error::bug("keys.rs is being written"))
    }
    /// Appends row `i` to `bytes`.
    pub fn encode_row(&self, columns: &[ArrayRef], i: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let _ = (columns, i, bytes);
        Err(crate::Error::bug("keys.rs is being written"))
    }
    /// The columns of encoded rows; `Corrupt` when the bytes are not of this codec.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let _ = rows.into_iter();
        Err(crate::Error::bug("keys.rs is being written"))
    }
}
