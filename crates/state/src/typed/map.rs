//! Map state: an ordered map per key, read lazily and written through. Never loads a whole map at once.

use std::marker::PhantomData;

use flott_core::error::Result;
use flott_core::state::{MapRange, StateBackend, TableId, TableKind};

use super::{MapKey, StateDescriptor, StateKey, StateType, decode, encode, undecodable};

/// Entries read per call when going through a map.
const SCAN_ENTRIES: usize = 256;

/// An ordered map per key.
pub struct MapState<K: MapKey, V: StateType> {
    table: TableId,
    name: String,
    entry: Vec<u8>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: MapKey, V: StateType> MapState<K, V> {
    /// Registers the state.
    pub fn register(backend: &mut dyn StateBackend, descriptor: &StateDescriptor) -> Result<Self> {
        let types = [std::any::type_name::<K>(), std::any::type_name::<V>()];
        let table = descriptor.register(backend, "map", &types, TableKind::Map)?;
        Ok(MapState { table, name: descriptor.name.clone(), entry: Vec::new(), types: PhantomData })
    }

    fn entry(&mut self, key: &K) -> &[u8] {
        self.entry.clear();
        key.encode(&mut self.entry);
        &self.entry
    }

    /// The value of an entry.
    pub fn get(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, key: &K) -> Result<Option<V>> {
        let table = self.table;
        let bytes = backend.map(table).get(at.namespace, at.group, at.key, self.entry(key))?;
        bytes.map(|b| decode(&self.name, &b)).transpose()
    }
    /// Whether there is an entry.
    pub fn contains(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, key: &K) -> Result<bool> {
        let table = self.table;
        Ok(backend.map(table).get(at.namespace, at.group, at.key, self.entry(key))?.is_some())
    }
    /// Sets an entry.
    pub fn put(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, key: &K, value: &V) -> Result<()> {
        let (table, value) = (self.table, encode(&self.name, value)?);
        backend.map(table).put(at.namespace, at.group, at.key, self.entry(key), &value)
    }
    /// Removes an entry.
    pub fn remove(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, key: &K) -> Result<()> {
        let table = self.table;
        backend.map(table).remove(at.namespace, at.group, at.key, self.entry(key))
    }
    /// Removes all entries of a key.
    pub fn clear(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<()> {
        backend.map(self.table).clear(at.namespace, at.group, at.key)
    }
    /// Whether the map of a key has no entry.
    pub fn is_empty(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<bool> {
        let mut first = Vec::new();
        let range = MapRange { namespace: at.namespace, group: at.group, key: at.key, prefix: &[], after: None };
        backend.map(self.table).scan(range, 1, &mut first)?;
        Ok(first.is_empty())
    }
    /// Calls `f` for every entry in the order of the map's keys until it returns `false`.
    pub fn for_each(
        &mut self,
        backend: &mut dyn StateBackend,
        at: StateKey<'_>,
        mut f: impl FnMut(K, V) -> Result<bool>,
    ) -> Result<()> {
        let mut entries = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (namespace, group, key) = (at.namespace, at.group, at.key);
            let range = MapRange { namespace, group, key, prefix: &[], after: after.as_deref() };
            entries.clear();
            let more = backend.map(self.table).scan(range, SCAN_ENTRIES, &mut entries)?;
            for (entry, value) in &entries {
                let key = K::decode(entry).ok_or_else(|| undecodable(&self.name, "a map key is malformed"))?;
                if !f(key, decode(&self.name, value)?)? {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
            after = entries.pop().map(|(entry, _)| entry);
        }
    }
    /// All entries of a key, in order. For maps known to be small.
    pub fn entries(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        self.for_each(backend, at, |k, v| {
            all.push((k, v));
            Ok(true)
        })?;
        Ok(all)
    }
}
