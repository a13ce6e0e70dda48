//! One side of a join in state: key → encoded row → how often it is there, and (outer side) how many rows it matches.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::keys::RowCodec;
use flott_core::state::{KeyBatch, MapRange, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::Column;

use crate::group_aggregate::{encode_keys, key_codec};

/// How often a row is there, and how many rows of the other side it matches (kept for the outer side only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Copies of the row.
    pub rows: i64,
    /// Rows of the other side.
    pub matches: i64,
}

/// A side.
pub(crate) struct Side {
    name: &'static str,
    keys: Vec<usize>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    schema: String,
    table: Option<TableId>,
}

impl Side {
    /// A side with these columns, joined by `keys`.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize]) -> Result<Self> {
        let all: Vec<usize> = (0..columns.len()).collect();
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        Ok(Side {
            name,
            keys: keys.to_vec(),
            key_codec: key_codec(columns, keys)?,
            row_codec: key_codec(columns, &all)?,
            schema: format!("row({}):rows,matches", types.join(",")),
            table: None,
        })
    }
    /// Registers the table.
    pub(crate) fn open(&mut self, ttl: Option<Ttl>, state: &mut dyn StateBackend) -> Result<()> {
        let (name, schema) = (self.name.to_owned(), self.schema.clone());
        self.table = Some(state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl })?);
        Ok(())
    }
    /// Keys of a batch of this side, and which of them hold a NULL.
    pub(crate) fn encode(&self, rows: &RecordBatch, max_parallelism: u32, keys: &mut KeyBatch) -> Result<Vec<bool>> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|&k| rows.column(k).clone()).collect();
        encode_keys(&self.key_codec, &columns, rows.num_rows(), max_parallelism, keys)?;
        let mut null = vec![false; rows.num_rows()];
        for column in columns.iter().filter(|c| c.null_count() > 0) {
            null.iter_mut().enumerate().for_each(|(i, n)| *n |= column.is_null(i));
        }
        Ok(null)
    }
    /// Appends up to `limit` rows under a key, from after `after`; returns whether there are more.
    pub(crate) fn matches(
        &self,
        group: KeyGroup,
        key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        found: &mut Vec<(Vec<u8>, Counts)>,
        state: &mut dyn StateBackend,
    ) -> Result<bool> {
        let mut entries: Vec<(Vec<u8>, Arc<[u8]>)> = Vec::new();
        let range = MapRange { namespace: 0, group, key, prefix: &[], after };
        let more = state.map(self.id()?).scan(range, limit, &mut entries)?;
        for (entry, value) in entries {
            found.push((entry, decode_counts(&value)?));
        }
        Ok(more)
    }
    /// The counts of a row.
    pub(crate) fn get(
        &self,
        group: KeyGroup,
        key: &[u8],
        row: &[u8],
        state: &mut dyn StateBackend,
    ) -> Result<Option<Counts>> {
        let value = state.map(self.id()?).get(0, group, key, row)?;
        value.map(|v| decode_counts(&v)).transpose()
    }
    /// Sets the counts of a row.
    pub(crate) fn put(
        &self,
        group: KeyGroup,
        key: &[u8],
        row: &[u8],
        c: Counts,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&c.rows.to_le_bytes());
        value[8..].copy_from_slice(&c.matches.to_le_bytes());
        state.map(self.id()?).put(0, group, key, row, &value)
    }
    /// Adds a copy of a row with its matches, or takes one out. A row that is not there (its TTL passed) stays away.
    #[allow(clippy::too_many_arguments, reason = "a row and where it lives")]
    pub(crate) fn change(
        &self,
        group: KeyGroup,
        key: &[u8],
        rows: &RecordBatch,
        row: usize,
        add: bool,
        matches: i64,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let mut entry = Vec::with_capacity(64);
        self.row_codec.encode_row(rows.columns(), row, &mut entry)?;
        let counts = self.get(group, key, &entry, state)?;
        match (counts, add) {
            (None, true) => self.put(group, key, &entry, Counts { rows: 1, matches }, state),
            (Some(c), true) => self.put(group, key, &entry, Counts { rows: c.rows + 1, matches }, state),
            (Some(c), false) if c.rows > 1 => self.put(group, key, &entry, Counts { rows: c.rows - 1, ..c }, state),
            (Some(_), false) => state.map(self.id()?).remove(0, group, key, &entry),
            (None, false) => Ok(()),
        }
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
