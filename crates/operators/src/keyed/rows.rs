//! The rows of one batch, grouped by key, as columns and as bytes. Keeps nothing from one batch to the next.

use arrow_array::ArrayRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::key_group::KeyGroup;
use flott_core::keys::RowCodec;
use flott_core::state::KeyBatch;
use flott_core::types::Column;
use hashbrown::HashTable;

use crate::group_aggregate::{encode_keys, key_codec};

/// Codecs of an input that is taken apart by key.
pub(crate) struct KeyedRows {
    key: Vec<usize>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    /// The columns' types, for the schema of state tables.
    pub(crate) types: String,
}

/// A batch taken apart: rows by group, groups in order of first appearance.
pub(crate) struct Grouped {
    /// Key of every row.
    pub(crate) keys: KeyBatch,
    /// Row numbers, sorted by group; within a group in order.
    rows: Vec<u32>,
    /// Where each group begins in `rows`, and the end.
    starts: Vec<usize>,
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl KeyedRows {
    /// Codecs for rows of `columns` keyed by `key`.
    pub(crate) fn new(key: &[usize], columns: &[Column]) -> Result<Self> {
        let all: Vec<usize> = (0..columns.len()).collect();
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        Ok(KeyedRows {
            key: key.to_vec(),
            key_codec: key_codec(columns, key)?,
            row_codec: key_codec(columns, &all)?,
            types: format!("row({})", types.join(",")),
        })
    }
    /// Codecs for rows that are only told apart by `key`: other columns may be of any type.
    pub(crate) fn keys_only(key: &[usize], columns: &[Column]) -> Result<Self> {
        let (by_key, of_row) = (key_codec(columns, key)?, key_codec(columns, &[])?);
        Ok(KeyedRows { key: key.to_vec(), key_codec: by_key, row_codec: of_row, types: "nothing".to_owned() })
    }
    /// The codec of whole rows.
    pub(crate) fn codec(&self) -> &RowCodec {
        &self.row_codec
    }
    /// Takes a batch apart; `with_bytes`: rows will be asked for as bytes.
    pub(crate) fn group(&self, batch: &ChangeBatch, max_parallelism: u32, with_bytes: bool) -> Result<Grouped> {
        let columns: Vec<ArrayRef> = self.key.iter().map(|&k| batch.rows.column(k).clone()).collect();
        let mut keys = KeyBatch::default();
        encode_keys(&self.key_codec, &columns, batch.num_rows(), max_parallelism, &mut keys)?;
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        if with_bytes {
            self.row_codec.encode_rows(batch.rows.columns(), &mut offsets, &mut bytes)?;
        }
        let (rows, starts) = by_group(&keys);
        Ok(Grouped { keys, rows, starts, bytes, offsets })
    }
}

/// For every key its number among the distinct keys, numbered as they appear, and a row with each of these.
pub(crate) fn distinct(keys: &KeyBatch) -> (Vec<u32>, Vec<u32>) {
    let mut index: HashTable<(u64, u32)> = HashTable::with_capacity(keys.len());
    let mut numbers = Vec::with_capacity(keys.len());
    let mut first: Vec<u32> = Vec::new();
    for row in 0..keys.len() {
        let (hash, key) = (keys.hashes[row], keys.key(row));
        let same = |e: &(u64, u32)| e.0 == hash && keys.key(first[e.1 as usize] as usize) == key;
        let number = match index.find(hash, same) {
            Some(e) => e.1,
            None => {
                let number = first.len() as u32;
                index.insert_unique(hash, (hash, number), |e| e.0);
                first.push(row as u32);
                number
            }
        };
        numbers.push(number);
    }
    (numbers, first)
}

/// Rows sorted by group, and where each group begins.
pub(crate) fn by_group(keys: &KeyBatch) -> (Vec<u32>, Vec<usize>) {
    let (gids, first) = distinct(keys);
    let mut starts = vec![0; first.len() + 1];
    gids.iter().for_each(|g| starts[*g as usize + 1] += 1);
    for g in 0..first.len() {
        starts[g + 1] += starts[g];
    }
    let mut next = starts.clone();
    let mut rows = vec![0; keys.len()];
    for (row, gid) in gids.iter().enumerate() {
        rows[next[*gid as usize]] = row as u32;
        next[*gid as usize] += 1;
    }
    (rows, starts)
}

impl Grouped {
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }
    /// Rows of a group, in order; never empty.
    pub(crate) fn rows(&self, gid: usize) -> impl Iterator<Item = usize> {
        self.rows[self.starts[gid]..self.starts[gid + 1]].iter().map(|&r| r as usize)
    }
    /// The first row of each group.
    pub(crate) fn firsts(&self) -> Vec<u32> {
        self.starts[..self.len()].iter().map(|&s| self.rows[s]).collect()
    }
    /// The first row of a group.
    pub(crate) fn first(&self, gid: usize) -> usize {
        self.rows[self.starts[gid]] as usize
    }
    /// Key group and key of a group.
    pub(crate) fn key(&self, gid: usize) -> (KeyGroup, &[u8]) {
        let row = self.rows[self.starts[gid]] as usize;
        (self.keys.groups[row], self.keys.key(row))
    }
    /// The bytes of a row.
    pub(crate) fn bytes(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}
