//! The law of keyed state: tables of a backend, addressed by id, read and written in batches.
//!
//! Memory and RocksDB implement the same traits; operators never know which. A backend snapshots state, an
//! operator never does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::CheckpointId;
use crate::key_group::KeyGroup;
use crate::snapshot::KeyedSnapshot;

/// A registered table of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableId(pub usize);

/// Address of a row of a [`RowTable`]; valid until the row or its namespace is removed. Not part of snapshots.
pub type Slot = u32;

/// No such row.
pub const NO_SLOT: Slot = Slot::MAX;

/// How a table's values look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Rows of `width` bytes under (namespace, key): aggregates. New rows are zero.
    Rows {
        /// Bytes per row.
        width: u32,
    },
    /// One byte string under (namespace, key): value, list, reducing, aggregating state.
    Values,
    /// An ordered map of byte strings under (namespace, key): map state, timers, sides of joins whose rows change.
    Map,
    /// Byte strings that are only added, under (namespace, key): sides of joins whose rows never change, rows of a window.
    Lists,
}

/// Time to live of entries, in processing time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ttl {
    /// Milliseconds after which an entry is gone.
    pub ttl_ms: i64,
    /// Reading renews the entry, not only writing.
    pub update_on_read: bool,
}

/// What an operator asks for when it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDescriptor {
    /// Name, unique within the operator.
    pub name: String,
    /// Shape of the values.
    pub kind: TableKind,
    /// What the bytes mean, in words that change when the meaning does, such as `count,sum:BIGINT`. A restored table with
    /// another schema is refused with both texts in the error.
    pub schema: String,
    /// Expiry, if any.
    pub ttl: Option<Ttl>,
}

/// Keys of a batch: canonical bytes, hashes and key groups, one per row.
#[derive(Clone, Debug, Default)]
pub struct KeyBatch {
    /// All key bytes, back to back.
    pub bytes: Vec<u8>,
    /// `len + 1` offsets into `bytes`.
    pub offsets: Vec<u32>,
    /// [`crate::key_group::key_hash`] of each key.
    pub hashes: Vec<u64>,
    /// Key group of each key.
    pub groups: Vec<KeyGroup>,
}

impl KeyBatch {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
    /// Bytes of key `i`.
    #[inline]
    pub fn key(&self, i: usize) -> &[u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
    /// Forgets all keys, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.clear();
        self.offsets.push(0);
        self.hashes.clear();
        self.groups.clear();
    }
    /// Appends a key; hash and key group are computed.
    pub fn push(&mut self, key: &[u8], max_parallelism: u32) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.bytes.extend_from_slice(key);
        self.finish_key(max_parallelism);
    }
    /// Ends the key whose bytes were appended to `bytes` since the last one.
    #[inline]
    pub fn finish_key(&mut self, max_parallelism: u32) {
        let start = *self.offsets.last().expect("clear() or push() sets the first offset") as usize;
        let hash = crate::key_group::key_hash(&self.bytes[start..]);
        self.offsets.push(u32::try_from(self.bytes.len()).expect("a batch of keys stays below 4 GiB"));
        self.hashes.push(hash);
        self.groups.push(crate::key_group::key_group_of(hash, max_parallelism));
    }
}

/// Fixed-width rows under (namespace, key). Namespaces order windows: slice or window ends; 0 where there is none.
///
/// A slot stays valid until removed; slots of different namespaces never collide.
pub trait RowTable {
    /// The slot of `(namespaces[i], key i)` for every key of the batch; `namespaces` has one entry, or one per key.
    /// Missing rows are created zero-filled when `create`, else [`NO_SLOT`]. `slots` is overwritten.
    fn resolve(&mut self, namespaces: &[i64], keys: &KeyBatch, create: bool, slots: &mut Vec<Slot>) -> Result<()>;
    /// The row.
    fn row(&self, slot: Slot) -> &[u8];
    /// The row, to be changed.
    fn row_mut(&mut self, slot: Slot) -> &mut [u8];
    /// Calls `f(i, row)` for every slot in order: one virtual call per batch. [`NO_SLOT`] entries are passed over.
    fn update(&mut self, slots: &[Slot], f: &mut dyn FnMut(usize, &mut [u8]));
    /// The key of a row.
    fn key(&self, slot: Slot) -> &[u8];
    /// Removes a row; its slot may be given to another key later.
    fn remove(&mut self, slot: Slot);
    /// Live namespaces, ascending.
    fn namespaces(&self) -> Vec<i64>;
    /// Appends up to `limit` live slots of a namespace from `cursor` on (0 at first) and returns the cursor to go on
    /// with, or `None` at the end. Rows may be updated between calls, not created or removed in that namespace.
    fn scan(&self, namespace: i64, cursor: u64, limit: usize, slots: &mut Vec<Slot>) -> Option<u64>;
    /// Removes a whole namespace: cheap.
    fn drop_namespace(&mut self, namespace: i64);
    /// Number of live rows.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One byte string under (namespace, key).
pub trait ValueTable {
    /// The value, or `None` when absent or expired.
    fn get(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<Option<Arc<[u8]>>>;
    /// Sets the value.
    fn put(&mut self, namespace: i64, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes the value.
    fn remove(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<()>;
    /// Reads the values of the keys `rows` of a batch at once, one for each of `rows`: what a RocksDB MultiGet needs. `values` is
    /// overwritten.
    fn get_batch(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &mut FoundValues) -> Result<()>;
    /// Sets `values` `i` under key `rows[i]` of a batch, for each `i`.
    fn put_batch(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &ByteRows) -> Result<()>;
    /// Calls `f(namespace, group, key, value)` for every live entry, in order of key group, namespace, key.
    fn for_each(&mut self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8]) -> Result<()>) -> Result<()>;
}

/// An ordered map of byte strings under (namespace, key).
pub trait MapTable {
    /// The value of `entry` in the map of `key`.
    fn get(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8]) -> Result<Option<Arc<[u8]>>>;
    /// Sets the value of `entry`.
    fn put(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8], value: &[u8]) -> Result<()>;
    /// Removes `entry`.
    fn remove(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8]) -> Result<()>;
    /// Appends up to `limit` entries with names after `after` (from the first when `None`) that begin with `prefix`, in
    /// byte order. Returns whether there are more.
    fn scan(&mut self, at: MapRange<'_>, limit: usize, entries: &mut Vec<(Vec<u8>, Arc<[u8]>)>) -> Result<bool>;
    /// Removes the whole map of a key.
    fn clear(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<()>;
    /// Calls `f(namespace, group, key, entry, value)` for every live entry: to rebuild derived indexes after a restore.
    fn for_each(&mut self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8], &[u8]) -> Result<()>) -> Result<()>;
}

/// Byte strings, back to back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteRows {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<u32>,
}

impl ByteRows {
    /// Number of byte strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// Byte string `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start as usize..self.ends[i] as usize]
    }
    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
    /// Appends one.
    #[inline]
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(u32::try_from(self.bytes.len()).expect("rows read at a time stay below 4 GiB"));
    }
    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Values that were looked up, one place for each key: short ones copied back to back, long ones shared.
#[derive(Clone, Debug, Default)]
pub struct FoundValues {
    bytes: Vec<u8>,
    places: Vec<Found>,
}

#[derive(Clone, Debug)]
enum Found {
    Absent,
    /// From where to where in the bytes.
    Copied(usize, usize),
    Shared(Arc<[u8]>),
}

impl FoundValues {
    /// Number of keys that were looked up.
    pub fn len(&self) -> usize {
        self.places.len()
    }
    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
    /// The value of key `i`, if there is one.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        match &self.places[i] {
            Found::Absent => None,
            Found::Copied(start, end) => Some(&self.bytes[*start..*end]),
            Found::Shared(value) => Some(value),
        }
    }
    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|i| self.get(i))
    }
    /// The next key has no value.
    pub fn push_absent(&mut self) {
        self.places.push(Found::Absent);
    }
    /// The value of the next key, copied.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.places.push(Found::Copied(start, self.bytes.len()));
    }
    /// The value of the next key, shared.
    pub fn push_shared(&mut self, value: Arc<[u8]>) {
        self.places.push(Found::Shared(value));
    }
    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }
}

/// Byte strings under (namespace, key) that are added, read, and dropped with their namespace; never changed or removed one by one.
/// A list has no order to rely on. Without TTL: a descriptor that asks for one is refused.
pub trait ListTable {
    /// Adds `values` `i` to the list of key `i`, for each `i` of `rows`; all in one namespace.
    fn append(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &ByteRows) -> Result<()>;
    /// Where to begin reading the list of each key; [`NO_SLOT`] where there is none. `heads` is overwritten.
    fn find(&self, namespace: i64, keys: &KeyBatch, heads: &mut Vec<Slot>);
    /// Appends up to `limit` values of the list that begins at `head`, from `from` on (`head` itself at first), and returns where to
    /// go on, or [`NO_SLOT`] at the end. Nothing may be added or dropped between calls.
    fn read(&self, head: Slot, from: Slot, limit: usize, slots: &mut Vec<Slot>) -> Slot;
    /// The first value of one list, or [`NO_SLOT`].
    fn head(&self, namespace: i64, hash: u64, key: &[u8]) -> Slot;
    /// The key of a value and the value, back to back, and how many of these bytes are the key.
    fn entry(&self, slot: Slot) -> (&[u8], usize);
    /// Appends all values of a namespace.
    fn scan(&self, namespace: i64, slots: &mut Vec<Slot>);
    /// Live namespaces, ascending.
    fn namespaces(&self) -> Vec<i64>;
    /// Removes a whole namespace: cheap.
    fn drop_namespace(&mut self, namespace: i64);
    /// Calls `f(namespace, group, key, value)` for every value.
    fn for_each(&self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8]) -> Result<()>) -> Result<()>;
    /// Number of values.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part of the map of a key.
#[derive(Clone, Copy, Debug)]
pub struct MapRange<'a> {
    /// Namespace.
    pub namespace: i64,
    /// Key group of the key.
    pub group: KeyGroup,
    /// Key.
    pub key: &'a [u8],
    /// Entries must begin with this.
    pub prefix: &'a [u8],
    /// Entries must come after this.
    pub after: Option<&'a [u8]>,
}

/// Keyed state of one operator of one subtask.
///
/// Owned by the task's thread. `snapshot` is the synchronous cut: its cost is proportional to segments, not to rows; the
/// result is written off the thread while the operator goes on.
pub trait StateBackend: Send {
    /// Registers a table, once per name, before the first row; attaches what was restored under that name. A restored table
    /// whose schema or kind differs is refused (kind `User`, code `state.schema`).
    fn register(&mut self, descriptor: &TableDescriptor) -> Result<TableId>;
    /// A [`TableKind::Rows`] table.
    fn rows(&mut self, id: TableId) -> &mut dyn RowTable;
    /// A [`TableKind::Values`] table.
    fn values(&mut self, id: TableId) -> &mut dyn ValueTable;
    /// A [`TableKind::Map`] table.
    fn map(&mut self, id: TableId) -> &mut dyn MapTable;
    /// A [`TableKind::Lists`] table.
    fn lists(&mut self, id: TableId) -> &mut dyn ListTable;
    /// Cuts the state as of now. `None` when nothing was ever registered or restored.
    fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<Option<Box<dyn KeyedSnapshot>>>;
    /// Hears that a checkpoint was published (`true`) or given up: what later ones may build on.
    fn notify(&mut self, checkpoint: CheckpointId, completed: bool);
}
