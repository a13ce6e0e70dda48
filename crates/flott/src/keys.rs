//! Keys of a keyed stream: from the key columns behind a row's own to Rust values and canonical bytes, and back. Holds one batch.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_core::error::Result;
use flott_core::keys::RowCodec;
use flott_core::state::KeyBatch;

use crate::record::Record;

/// Reads the keys of batches.
pub(crate) struct KeyColumns<K> {
    /// Columns of the row itself.
    width: usize,
    codec: RowCodec,
    /// The keys of the last batch read.
    pub(crate) batch: KeyBatch,
    key: PhantomData<fn() -> K>,
}

impl<K: Record> KeyColumns<K> {
    /// The key lies behind `width` columns.
    pub(crate) fn new(width: usize) -> Result<Self> {
        let fields = K::columns().iter().map(|c| Arc::new(c.data_type.to_field(&c.name))).collect();
        Ok(KeyColumns { width, codec: RowCodec::new(fields)?, batch: KeyBatch::default(), key: PhantomData })
    }
    /// Reads the bytes of the keys of a batch into `self.batch`.
    pub(crate) fn read_bytes(&mut self, rows: &RecordBatch, max_parallelism: u32) -> Result<()> {
        self.codec.encode_keys(&rows.columns()[self.width..], max_parallelism, &mut self.batch)
    }
    /// The keys of a batch as values.
    pub(crate) fn values(&self, rows: &RecordBatch) -> Result<Vec<K>> {
        K::from_arrays(&rows.columns()[self.width..])
    }
    /// Keys from their bytes.
    pub(crate) fn decode<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<K>> {
        K::from_arrays(&self.codec.decode(keys)?)
    }
}

/// Appends key `i` of `from` without hashing it again.
pub(crate) fn push_key(to: &mut KeyBatch, from: &KeyBatch, i: usize) {
    if to.offsets.is_empty() {
        to.offsets.push(0);
    }
    to.bytes.extend_from_slice(from.key(i));
    to.offsets.push(u32::try_from(to.bytes.len()).expect("a part of a batch of keys is below 4 GiB, as the batch is"));
    to.hashes.push(from.hashes[i]);
    to.groups.push(from.groups[i]);
}
