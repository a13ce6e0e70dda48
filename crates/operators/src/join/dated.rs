//! A side of a join whose rows lie in namespaces and go away with them: a window, a bucket of time, or one namespace that stays (regular
//! joins). Entries that are counted and marked, or lists where rows are only read. Never expires anything itself.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::error::{Error, Result};
use flott_core::key_group::key_hash;
use flott_core::keys::RowCodec;
use flott_core::state::{
    ByteRows, ListTable, NO_SLOT, RowTable, Slot, StateBackend, TableDescriptor, TableId, TableKind,
};
use flott_core::types::Column;

use super::chains::Chains;
use super::store::{Info, Keys, Rows, Store, all, key_of};
use crate::group_aggregate::key_codec;

/// The side.
pub(crate) struct Dated {
    store: Store,
    /// By namespace: counted rows by key. Derived from state.
    index: BTreeMap<i64, Chains>,
    lists: Option<Lists>,
}

/// Rows that are only read. A value is what follows the key in an entry.
struct Lists {
    descriptor: TableDescriptor,
    rest_codec: RowCodec,
    table: Option<TableId>,
}

/// The rows in state.
pub(crate) enum View<'s> {
    /// Entries with what is known of them.
    Counted(&'s mut dyn RowTable),
    /// Lists.
    Appended(&'s mut dyn ListTable),
}

impl View<'_> {
    /// All rows of a namespace.
    pub(crate) fn all(&self, namespace: i64) -> Vec<Slot> {
        match self {
            View::Counted(table) => all(&**table, namespace),
            View::Appended(lists) => {
                let mut slots = Vec::new();
                lists.scan(namespace, &mut slots);
                slots
            }
        }
    }
    /// Live namespaces, ascending.
    pub(crate) fn namespaces(&self) -> Vec<i64> {
        match self {
            View::Counted(table) => table.namespaces(),
            View::Appended(lists) => lists.namespaces(),
        }
    }
    /// The key of a row.
    pub(crate) fn key(&self, slot: Slot) -> &[u8] {
        match self {
            View::Counted(table) => key_of(&**table, slot),
            View::Appended(lists) => {
                let (entry, key_len) = lists.entry(slot);
                &entry[..key_len]
            }
        }
    }
    /// The bytes of a row: of its key, and of the other columns.
    pub(crate) fn entry(&self, slot: Slot) -> &[u8] {
        match self {
            View::Counted(table) => table.key(slot),
            View::Appended(lists) => lists.entry(slot).0,
        }
    }
    /// How often a row is there.
    pub(crate) fn copies(&self, slot: Slot) -> u32 {
        match self {
            View::Counted(table) => Info::read(table.row(slot)).copies,
            View::Appended(_) => 1,
        }
    }
    /// The time of a row, where it is kept beside it.
    pub(crate) fn time_ms(&self, slot: Slot) -> Option<i64> {
        match self {
            View::Counted(table) => Some(Info::read(table.row(slot)).time_ms),
            View::Appended(_) => None,
        }
    }
    /// The table of a side that marks rows.
    pub(crate) fn counted(&mut self) -> Option<&mut dyn RowTable> {
        match self {
            View::Counted(table) => Some(&mut **table),
            View::Appended(_) => None,
        }
    }
}

impl Dated {
    /// A side with these columns, joined by `keys`. `marks`: whether it matters which rows have found a match, or when they came.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize], marks: bool) -> Result<Self> {
        let store = Store::new(name, columns, keys)?;
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        let schema = format!("keys{keys:?},row({})", types.join(","));
        let descriptor = TableDescriptor { name: name.to_owned(), kind: TableKind::Lists, schema, ttl: None };
        let lists = Lists { descriptor, rest_codec: key_codec(columns, store.rest())?, table: None };
        let lists = (!marks).then_some(lists);
        Ok(Dated { store, index: BTreeMap::new(), lists })
    }
    /// Registers the table and finds its rows.
    pub(crate) fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        if let Some(lists) = &mut self.lists {
            lists.table = Some(state.register(&lists.descriptor)?);
            return Ok(());
        }
        self.store.open(state)
    }
    /// Finds counted rows by key from now on.
    pub(crate) fn find_by_key(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let View::Counted(table) = self.view(state)? else { return Ok(()) };
        for namespace in table.namespaces() {
            let chains = self.index.entry(namespace).or_default();
            for slot in all(table, namespace) {
                let key = key_of(table, slot);
                chains.add_hashed(key_hash(key), slot, |other| key_of(table, other) == key);
            }
        }
        Ok(())
    }
    /// The rows in state.
    pub(crate) fn view<'s>(&self, state: &'s mut dyn StateBackend) -> Result<View<'s>> {
        let Some(lists) = &self.lists else { return Ok(View::Counted(self.store.table(state)?)) };
        let id = lists.table.ok_or_else(|| Error::bug("a join was used before it was opened"))?;
        Ok(View::Appended(state.lists(id)))
    }
    /// The lists of a side that only appends.
    pub(crate) fn lists<'s>(&self, state: &'s mut dyn StateBackend) -> Result<&'s mut dyn ListTable> {
        match self.view(state)? {
            View::Appended(lists) => Ok(lists),
            View::Counted(_) => Err(Error::bug("lists were asked for of a side that counts its rows")),
        }
    }
    /// Whether rows are counted, and carry their time.
    pub(crate) fn marks(&self) -> bool {
        self.lists.is_none()
    }
    /// Keys of a batch of this side.
    pub(crate) fn keys(&self, rows: &RecordBatch, max_parallelism: u32) -> Result<Keys> {
        self.store.keys(rows, max_parallelism)
    }
    /// Stores rows; `set` completes what is known of each that is counted.
    pub(crate) fn insert(
        &self,
        rows: &Rows<'_>,
        state: &mut dyn StateBackend,
        set: &mut dyn FnMut(usize, &mut Info),
    ) -> Result<Vec<Slot>> {
        let Some(lists) = &self.lists else { return self.store.insert(rows, state, set) };
        if rows.of.is_empty() {
            return Ok(Vec::new());
        }
        let columns: Vec<ArrayRef> = self.store.rest().iter().map(|&c| rows.rows.column(c).clone()).collect();
        let (mut values, mut offsets) = (ByteRows::default(), Vec::new());
        lists.rest_codec.encode_rows(&columns, &mut offsets, &mut values.bytes)?;
        values.ends.extend_from_slice(offsets.get(1..).unwrap_or_default());
        // A side that is nothing but its key.
        values.ends.resize(rows.keys.len(), values.bytes.len() as u32);
        let table = self.lists(state)?;
        let mut of = rows.of.iter().map(|row| *row as u32);
        let mut run = Vec::new();
        for same in rows.namespaces.chunk_by(|a, b| a == b) {
            run.clear();
            run.extend(of.by_ref().take(same.len()));
            table.append(same[0], rows.keys, &run, &values)?;
        }
        Ok(Vec::new())
    }
    /// Adds a counted row to those found by key.
    pub(crate) fn add(&mut self, namespace: i64, (key, hash): (&[u8], u64), slot: Slot, table: &dyn RowTable) {
        let chains = self.index.entry(namespace).or_default();
        chains.add_hashed(hash, slot, |other| key_of(table, other) == key);
    }
    /// Calls `f` for every row under a key in a namespace; counted rows after [`Dated::find_by_key`] only.
    pub(crate) fn each(&self, view: &View<'_>, namespace: i64, (key, hash): (&[u8], u64), f: impl FnMut(Slot)) {
        match view {
            View::Counted(table) => {
                if let Some(chains) = self.index.get(&namespace) {
                    chains.each_hashed(hash, |slot| key_of(&**table, slot) == key, f);
                }
            }
            View::Appended(lists) => {
                let head = lists.head(namespace, hash, key);
                if head != NO_SLOT {
                    let mut slots = Vec::new();
                    lists.read(head, head, usize::MAX, &mut slots);
                    slots.into_iter().for_each(f);
                }
            }
        }
    }
    /// Forgets the rows of a namespace.
    pub(crate) fn drop_namespace(&mut self, namespace: i64, state: &mut dyn StateBackend) -> Result<()> {
        self.index.remove(&namespace);
        match self.view(state)? {
            View::Counted(table) => table.drop_namespace(namespace),
            View::Appended(lists) => lists.drop_namespace(namespace),
        }
        Ok(())
    }
    /// The columns of stored rows. `scratch` is overwritten; given again, its memory is used again.
    pub(crate) fn decode(
        &self,
        view: &View<'_>,
        slots: impl Iterator<Item = Slot>,
        scratch: &mut ByteRows,
    ) -> Result<Vec<ArrayRef>> {
        // Decoding goes over the rows once per column: not all over the state each time.
        scratch.clear();
        slots.for_each(|s| scratch.push(view.entry(s)));
        self.store.decode_entries(scratch.iter())
    }
    /// Stored rows as a batch.
    pub(crate) fn batch(&self, view: &View<'_>, slots: &[Slot], scratch: &mut ByteRows) -> Result<RecordBatch> {
        self.store.batch_of(self.decode(view, slots.iter().copied(), scratch)?, slots.len())
    }
    /// The columns without rows.
    pub(crate) fn nothing(&self) -> Vec<ArrayRef> {
        self.store.nothing()
    }
}
