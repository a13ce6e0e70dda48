//! The values of a batch's keys, decoded once and written back once. Bounded by the keys of one prefetch.

use hashbrown::HashTable;

use flott_core::error::Result;
use flott_core::key_group::{KeyGroup, key_hash};
use flott_core::state::{FoundValues, KeyBatch, StateBackend, TableId};

use super::StateKey;

struct Cached<T> {
    hash: u64,
    namespace: i64,
    group: KeyGroup,
    key: Box<[u8]>,
    value: Option<T>,
    changed: bool,
}

/// How a cached value looks in the table.
pub(super) trait ValueCodec<T> {
    /// Bytes of a value; `None` to remove it.
    fn encode(&self, value: &T) -> Result<Option<Vec<u8>>>;
    /// The value of bytes.
    fn decode(&self, bytes: &[u8]) -> Result<T>;
}

/// One value per key, read through and written through, or cached between `prefetch` and `flush`.
pub(super) struct CachedValues<T, C> {
    table: TableId,
    codec: C,
    index: HashTable<usize>,
    cached: Vec<Cached<T>>,
}

impl<T, C: ValueCodec<T>> CachedValues<T, C> {
    pub(super) fn new(table: TableId, codec: C) -> Self {
        CachedValues { table, codec, index: HashTable::new(), cached: Vec::new() }
    }

    pub(super) fn prefetch(&mut self, backend: &mut dyn StateBackend, namespace: i64, keys: &KeyBatch) -> Result<()> {
        self.flush(backend)?;
        let mut distinct = KeyBatch::default();
        distinct.clear();
        for i in 0..keys.len() {
            let (hash, key) = (keys.hashes[i], keys.key(i));
            if self.find(hash, namespace, key).is_some() {
                continue;
            }
            distinct.bytes.extend_from_slice(key);
            distinct.offsets.push(distinct.bytes.len() as u32);
            distinct.hashes.push(hash);
            distinct.groups.push(keys.groups[i]);
            let group = keys.groups[i];
            self.cached.push(Cached { hash, namespace, group, key: key.into(), value: None, changed: false });
            self.index.insert_unique(hash, self.cached.len() - 1, |i| self.cached[*i].hash);
        }
        let (rows, mut values): (Vec<u32>, _) = ((0..distinct.len() as u32).collect(), FoundValues::default());
        backend.values(self.table).get_batch(namespace, &distinct, &rows, &mut values)?;
        for (cached, value) in self.cached.iter_mut().zip(values.iter()) {
            cached.value = value.map(|v| self.codec.decode(v)).transpose()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, backend: &mut dyn StateBackend) -> Result<()> {
        self.index.clear();
        let table = backend.values(self.table);
        for c in self.cached.drain(..).filter(|c| c.changed) {
            store(
                table,
                &self.codec,
                StateKey { namespace: c.namespace, group: c.group, key: &c.key },
                c.value.as_ref(),
            )?;
        }
        Ok(())
    }

    fn find(&self, hash: u64, namespace: i64, key: &[u8]) -> Option<usize> {
        let same = |i: &usize| self.cached[*i].namespace == namespace && *self.cached[*i].key == *key;
        self.index.find(hash, same).copied()
    }

    fn cached(&self, at: StateKey<'_>) -> Option<usize> {
        if self.cached.is_empty() { None } else { self.find(key_hash(at.key), at.namespace, at.key) }
    }

    /// Calls `f` with the value.
    pub(super) fn read<R>(
        &mut self,
        backend: &mut dyn StateBackend,
        at: StateKey<'_>,
        f: impl FnOnce(Option<&T>) -> R,
    ) -> Result<R> {
        if let Some(i) = self.cached(at) {
            return Ok(f(self.cached[i].value.as_ref()));
        }
        let bytes = backend.values(self.table).get(at.namespace, at.group, at.key)?;
        let value = bytes.map(|b| self.codec.decode(&b)).transpose()?;
        Ok(f(value.as_ref()))
    }

    /// Lets `f` change the value; `None` removes it.
    pub(super) fn change(
        &mut self,
        backend: &mut dyn StateBackend,
        at: StateKey<'_>,
        f: impl FnOnce(&mut Option<T>) -> Result<()>,
    ) -> Result<()> {
        if let Some(i) = self.cached(at) {
            self.cached[i].changed = true;
            return f(&mut self.cached[i].value);
        }
        let table = backend.values(self.table);
        let bytes = table.get(at.namespace, at.group, at.key)?;
        let mut value = bytes.map(|b| self.codec.decode(&b)).transpose()?;
        f(&mut value)?;
        store(table, &self.codec, at, value.as_ref())
    }

    /// Sets or removes the value without reading it.
    pub(super) fn set(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, value: Option<T>) -> Result<()> {
        if let Some(i) = self.cached(at) {
            self.cached[i].changed = true;
            self.cached[i].value = value;
            return Ok(());
        }
        store(backend.values(self.table), &self.codec, at, value.as_ref())
    }
}

fn store<T>(
    table: &mut dyn flott_core::state::ValueTable,
    codec: &impl ValueCodec<T>,
    at: StateKey<'_>,
    value: Option<&T>,
) -> Result<()> {
    match value.map(|v| codec.encode(v)).transpose()?.flatten() {
        Some(bytes) => table.put(at.namespace, at.group, at.key, &bytes),
        None => table.remove(at.namespace, at.group, at.key),
    }
}
