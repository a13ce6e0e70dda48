//! Rows of one side of a join as entries of a row table: key bytes followed by the bytes of the other columns, in the key group of the
//! key, under a namespace that goes away as a whole. Equal rows share an entry and are counted. Never expires anything itself.

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow_schema::SchemaRef;
use flott_core::error::{Error, Result};
use flott_core::key_group::{hash_in_group, key_hash};
use flott_core::keys::RowCodec;
use flott_core::state::{KeyBatch, RowTable, Slot, StateBackend, TableDescriptor, TableId, TableKind};
use flott_core::types::{Column, arrow_schema};

use crate::group_aggregate::{encode_keys, key_codec};

/// Bytes beside an entry: length of the key, copies, copies with a match, time.
const WIDTH: u32 = 24;

/// What is known of an entry beside its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// Bytes of the entry that are the key; the row is new when it is absent.
    pub(crate) key_len: u32,
    /// Copies of the row.
    pub(crate) copies: u32,
    /// Copies that have found a match.
    pub(crate) matched: u32,
    /// The row's time.
    pub(crate) time_ms: i64,
}

impl Info {
    /// From the bytes of a row of the table.
    pub(crate) fn read(row: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let time = row.last_chunk::<8>().copied().unwrap_or_default();
        Info { key_len: word(0), copies: word(4), matched: word(8), time_ms: i64::from_le_bytes(time) }
    }
    /// Into the bytes of a row of the table.
    pub(crate) fn write(self, row: &mut [u8]) {
        row[..4].copy_from_slice(&self.key_len.to_le_bytes());
        row[4..8].copy_from_slice(&self.copies.to_le_bytes());
        row[8..12].copy_from_slice(&self.matched.to_le_bytes());
        row[16..24].copy_from_slice(&self.time_ms.to_le_bytes());
    }
}

/// A side.
pub(crate) struct Store {
    name: &'static str,
    keys: Vec<usize>,
    key_codec: RowCodec,
    /// The columns that are not keys.
    rest: Vec<usize>,
    entry_codec: RowCodec,
    /// Where each column lies in an entry.
    places: Vec<usize>,
    columns: SchemaRef,
    schema: String,
    table: Option<TableId>,
}

/// The keys of a batch.
pub(crate) struct Keys {
    /// One per row.
    pub(crate) keys: KeyBatch,
    /// Rows with a NULL in a key column match nothing.
    pub(crate) has_null: Vec<bool>,
}

/// Rows to be stored.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The batch.
    pub(crate) rows: &'a RecordBatch,
    /// Its keys.
    pub(crate) keys: &'a KeyBatch,
    /// Which of its rows.
    pub(crate) of: &'a [usize],
    /// The namespace of each of these.
    pub(crate) namespaces: &'a [i64],
    /// Number of key groups.
    pub(crate) max_parallelism: u32,
}

impl Store {
    /// A side with these columns, joined by `keys`.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize]) -> Result<Self> {
        let rest: Vec<usize> = (0..columns.len()).filter(|c| !keys.contains(c)).collect();
        let order: Vec<usize> = keys.iter().chain(&rest).copied().collect();
        let place = |c: usize| order.iter().position(|o| *o == c).ok_or_else(|| Error::bug("a column is in its entry"));
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        Ok(Store {
            name,
            keys: keys.to_vec(),
            key_codec: key_codec(columns, keys)?,
            entry_codec: key_codec(columns, &order)?,
            places: (0..columns.len()).map(place).collect::<Result<_>>()?,
            rest,
            columns: arrow_schema(columns),
            schema: format!("keys{keys:?},row({}):key,copies,matched,time", types.join(",")),
            table: None,
        })
    }
    /// Registers the table.
    pub(crate) fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let (name, schema) = (self.name.to_owned(), self.schema.clone());
        let kind = TableKind::Rows { width: WIDTH };
        self.table = Some(state.register(&TableDescriptor { name, kind, schema, ttl: None })?);
        Ok(())
    }
    /// The table.
    pub(crate) fn table<'s>(&self, state: &'s mut dyn StateBackend) -> Result<&'s mut dyn RowTable> {
        let id = self.table.ok_or_else(|| Error::bug("a join was used before it was opened"))?;
        Ok(state.rows(id))
    }
    /// The columns that are not keys, as they follow the key in an entry.
    pub(crate) fn rest(&self) -> &[usize] {
        &self.rest
    }
    /// Keys of a batch of this side.
    pub(crate) fn keys(&self, rows: &RecordBatch, max_parallelism: u32) -> Result<Keys> {
        keys_of(&self.key_codec, &self.keys, rows, max_parallelism)
    }
    /// Stores rows; `set` completes what is known of each. The entry of each, in order.
    pub(crate) fn insert(
        &self,
        rows: &Rows<'_>,
        state: &mut dyn StateBackend,
        set: &mut dyn FnMut(usize, &mut Info),
    ) -> Result<Vec<Slot>> {
        let Rows { rows, keys, of, namespaces, max_parallelism } = *rows;
        let mut slots = Vec::new();
        if of.is_empty() {
            return Ok(slots);
        }
        let entries = self.entries(rows, keys, of, max_parallelism)?;
        let table = self.table(state)?;
        let one = namespaces.iter().all(|n| *n == namespaces[0]);
        table.resolve(if one { &namespaces[..1] } else { namespaces }, &entries, true, &mut slots)?;
        table.update(&slots, &mut |j, row| {
            let mut info = Info::read(row);
            info.key_len = keys.key(of[j]).len() as u32;
            info.copies = info.copies.saturating_add(1);
            set(j, &mut info);
            info.write(row);
        });
        Ok(slots)
    }
    /// The entries of rows, in the key groups of their keys.
    pub(crate) fn entries(
        &self,
        rows: &RecordBatch,
        keys: &KeyBatch,
        of: &[usize],
        max_parallelism: u32,
    ) -> Result<KeyBatch> {
        let order = self.keys.iter().chain(&self.rest);
        let columns: Vec<ArrayRef> = order.map(|&c| rows.column(c).clone()).collect();
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.entry_codec.encode_rows(&columns, &mut offsets, &mut bytes)?;
        let mut entries = KeyBatch::default();
        entries.clear();
        for &row in of {
            let entry = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            entries.bytes.extend_from_slice(entry);
            let end = u32::try_from(entries.bytes.len()).map_err(|_| Error::bug("a batch takes less than 4 GiB"))?;
            let group = keys.groups[row];
            entries.offsets.push(end);
            entries.hashes.push(hash_in_group(key_hash(entry), group, max_parallelism));
            entries.groups.push(group);
        }
        Ok(entries)
    }
    /// The columns of entries.
    pub(crate) fn decode_entries<'a>(&self, entries: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let columns = self.entry_codec.decode(entries)?;
        Ok(self.places.iter().map(|&p| columns[p].clone()).collect())
    }
    /// The columns of stored rows.
    pub(crate) fn decode(&self, table: &dyn RowTable, slots: impl Iterator<Item = Slot>) -> Result<Vec<ArrayRef>> {
        self.decode_entries(slots.map(|s| table.key(s)))
    }
    /// The columns without rows.
    pub(crate) fn nothing(&self) -> Vec<ArrayRef> {
        self.columns.fields().iter().map(|f| new_empty_array(f.data_type())).collect()
    }
    /// Stored rows as a batch.
    pub(crate) fn batch(&self, table: &dyn RowTable, slots: &[Slot]) -> Result<RecordBatch> {
        self.batch_of(self.decode(table, slots.iter().copied())?, slots.len())
    }
    /// Columns as a batch.
    pub(crate) fn batch_of(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.columns.clone(), columns, &options)?)
    }
}

/// The keys of a batch by its columns `key`.
pub(crate) fn keys_of(codec: &RowCodec, key: &[usize], rows: &RecordBatch, max_parallelism: u32) -> Result<Keys> {
    let columns: Vec<ArrayRef> = key.iter().map(|&k| rows.column(k).clone()).collect();
    let mut keys = KeyBatch::default();
    encode_keys(codec, &columns, rows.num_rows(), max_parallelism, &mut keys)?;
    let mut has_null = vec![false; rows.num_rows()];
    for column in columns.iter().filter(|c| c.null_count() > 0) {
        has_null.iter_mut().enumerate().for_each(|(i, n)| *n |= column.is_null(i));
    }
    Ok(Keys { keys, has_null })
}

/// The key bytes of an entry.
pub(crate) fn key_of(table: &dyn RowTable, slot: Slot) -> &[u8] {
    let entry = table.key(slot);
    &entry[..(Info::read(table.row(slot)).key_len as usize).min(entry.len())]
}

/// All rows of a namespace.
pub(crate) fn all(table: &dyn RowTable, namespace: i64) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        cursor = table.scan(namespace, at, usize::MAX, &mut slots);
    }
    slots
}
