//! One side of a regular join whose state expires: key → encoded row → how often it is there, and how many rows it matches.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::state::{MapRange, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::Column;

use super::side::{Candidate, Changes, Counts, Id, Key};
use super::store::{Keys, keys_of};
use crate::group_aggregate::key_codec;

/// A side.
pub(crate) struct ExpiringSide {
    name: &'static str,
    keys: Vec<usize>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    schema: String,
    ttl: Ttl,
    table: Option<TableId>,
}

impl ExpiringSide {
    /// A side with these columns, joined by `keys`.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize], ttl: Ttl) -> Result<Self> {
        let all: Vec<usize> = (0..columns.len()).collect();
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        Ok(ExpiringSide {
            name,
            keys: keys.to_vec(),
            key_codec: key_codec(columns, keys)?,
            row_codec: key_codec(columns, &all)?,
            schema: format!("row({}):rows,matches", types.join(",")),
            ttl,
            table: None,
        })
    }
    /// Registers the table.
    pub(crate) fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let (name, schema, ttl) = (self.name.to_owned(), self.schema.clone(), Some(self.ttl));
        self.table = Some(state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl })?);
        Ok(())
    }
    /// The keys of a batch of this side.
    pub(crate) fn keys(&self, rows: &RecordBatch, max_parallelism: u32) -> Result<Keys> {
        keys_of(&self.key_codec, &self.keys, rows, max_parallelism)
    }
    /// Appends up to `limit` rows under a key, from after `after`; returns whether there are more.
    pub(crate) fn matches(
        &self,
        key: Key<'_>,
        after: Option<&[u8]>,
        limit: usize,
        found: &mut Vec<Candidate>,
        state: &mut dyn StateBackend,
    ) -> Result<bool> {
        let mut entries: Vec<(Vec<u8>, Arc<[u8]>)> = Vec::new();
        let range = MapRange { namespace: 0, group: key.group, key: key.bytes, prefix: &[], after };
        let more = state.map(self.id()?).scan(range, limit, &mut entries)?;
        for (entry, value) in entries {
            found.push(Candidate { id: Id::Entry(entry), counts: decode_counts(&value)? });
        }
        Ok(more)
    }
    /// The counts of a row.
    pub(crate) fn get(&self, key: Key<'_>, row: &[u8], state: &mut dyn StateBackend) -> Result<Option<Counts>> {
        let value = state.map(self.id()?).get(0, key.group, key.bytes, row)?;
        value.map(|v| decode_counts(&v)).transpose()
    }
    /// Sets the counts of a row.
    pub(crate) fn put(&self, key: Key<'_>, row: &[u8], c: Counts, state: &mut dyn StateBackend) -> Result<()> {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&c.rows.to_le_bytes());
        value[8..].copy_from_slice(&c.matches.to_le_bytes());
        state.map(self.id()?).put(0, key.group, key.bytes, row, &value)
    }
    /// Adds the rows of a batch with their matches, and takes out those that are retracted. A row that is not there (its TTL
    /// passed) stays away.
    pub(crate) fn apply(&self, changes: &Changes<'_>, state: &mut dyn StateBackend) -> Result<()> {
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.row_codec.encode_rows(changes.batch.rows.columns(), &mut offsets, &mut bytes)?;
        for row in (0..changes.batch.num_rows()).filter(|r| !changes.null_key[*r]) {
            let entry = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            let keys = changes.keys;
            let key = Key { group: keys.groups[row], hash: keys.hashes[row], bytes: keys.key(row) };
            let matches = changes.matches.get(row).copied().unwrap_or(0);
            match (self.get(key, entry, state)?, changes.batch.kind(row).is_add()) {
                (None, true) => self.put(key, entry, Counts { rows: 1, matches }, state)?,
                (Some(c), true) => self.put(key, entry, Counts { rows: c.rows + 1, matches }, state)?,
                (Some(c), false) if c.rows > 1 => self.put(key, entry, Counts { rows: c.rows - 1, ..c }, state)?,
                (Some(_), false) => state.map(self.id()?).remove(0, key.group, key.bytes, entry)?,
                (None, false) => {}
            }
        }
        Ok(())
    }
    /// The columns of encoded rows.
    pub(crate) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.row_codec.decode(rows)
    }
    fn id(&self) -> Result<TableId> {
        self.table.ok_or_else(|| Error::bug("a join was used before it was opened"))
    }
}

fn decode_counts(value: &[u8]) -> Result<Counts> {
    let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map(i64::from_le_bytes);
    match (word(0), word(8)) {
        (Some(rows), Some(matches)) => Ok(Counts { rows, matches }),
        _ => Err(Error::corrupt("state.row", "the counts of a row of a join in state are damaged")),
    }
}
