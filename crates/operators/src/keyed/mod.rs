//! Operators that remember rows per key: deduplication, changelog normalisation, upsert materialisation. Each folds a batch
//! to one change per touched key; none emits on its own.

mod deduplicate;
mod fold;
mod materialize;
mod normalize;
mod output;
mod rows;

#[cfg(test)]
mod tests;

pub(crate) use deduplicate::{Deduplicate, Options as DeduplicateOptions};
pub(crate) use fold::ToUpsert;
pub(crate) use materialize::SinkUpsertMaterialize;
pub(crate) use normalize::ChangelogNormalize;
pub(crate) use output::Output;
pub(crate) use rows::{Grouped, KeyedRows, by_group, distinct};

use flott_core::error::{Error, Result};
use flott_core::state::{ByteRows, KeyBatch, StateBackend, TableDescriptor, TableId, TableKind, Ttl, ValueTable};

/// A table of one byte string per key, registered when the operator opens.
struct Values {
    table: Option<TableId>,
    schema: String,
    ttl: Option<Ttl>,
}

impl Values {
    fn new(schema: String, ttl_ms: Option<i64>) -> Self {
        let ttl = ttl_ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        Values { table: None, schema, ttl }
    }
    fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let (name, schema) = ("rows".to_owned(), self.schema.clone());
        self.table = Some(state.register(&TableDescriptor { name, kind: TableKind::Values, schema, ttl: self.ttl })?);
        Ok(())
    }
    fn of<'a>(&self, state: &'a mut dyn StateBackend) -> Result<&'a mut dyn ValueTable> {
        Ok(state.values(self.table.ok_or_else(|| Error::bug("an operator was used before it was opened"))?))
    }
}

/// Bytes of values from which on they are written: more are not held back.
const PORTION_BYTES: usize = 1 << 20;

/// Values on their way to a table, written in portions.
#[derive(Default)]
pub(crate) struct Writes {
    rows: Vec<u32>,
    values: ByteRows,
}

impl Writes {
    /// The value of the key of a row of the batch.
    pub(crate) fn put(&mut self, table: &mut dyn ValueTable, keys: &KeyBatch, row: u32, value: &[u8]) -> Result<()> {
        if value.len() > PORTION_BYTES {
            return table.put(0, keys.groups[row as usize], keys.key(row as usize), value);
        }
        self.rows.push(row);
        self.values.push(value);
        if self.values.bytes.len() < PORTION_BYTES { Ok(()) } else { self.finish(table, keys) }
    }
    /// Writes what is left.
    pub(crate) fn finish(&mut self, table: &mut dyn ValueTable, keys: &KeyBatch) -> Result<()> {
        table.put_batch(0, keys, &self.rows, &self.values)?;
        self.rows.clear();
        self.values.clear();
        Ok(())
    }
}

/// What is left of bytes in state after a length in front and so many bytes.
pub(crate) fn split_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let damaged = || Error::corrupt("state.row", "the rows of a key in state are damaged");
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(damaged)?;
    let length = u32::from_le_bytes(length.try_into().map_err(|_| damaged())?) as usize;
    rest.split_at_checked(length).ok_or_else(damaged)
}

/// Appends the length and the bytes.
pub(crate) fn push_prefixed(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::bug("a row of more than 4 GiB"))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
