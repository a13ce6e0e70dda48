//! The contract of `StateBackend`, as a test that every implementation must pass. Never used by a running job.
//!
//! [`check`] panics with the law that was broken.

mod life;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::key_group::KeyGroupRange;
use flott_core::snapshot::{ChunkReader, KeyedStateHandle};
use flott_core::state::{
    ByteRows, KeyBatch, ListTable, NO_SLOT, Slot, StateBackend, TableDescriptor, TableId, TableKind, Ttl,
};
use flott_core::time::{ManualClock, SharedClock};

use crate::testing::MemoryChunks;
use crate::typed::StateKey;

/// Makes a backend for key groups of a max parallelism, holding what lies in the handles.
pub type MakeBackend<'a> = dyn Fn(KeyGroupRange, u32, SharedClock, &[KeyedStateHandle], &dyn ChunkReader) -> Result<Box<dyn StateBackend>>
    + 'a;

/// Max parallelism of all checks.
const MAX_PARALLELISM: u32 = 16;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: MAX_PARALLELISM };

/// Checks every law of `StateBackend` and its tables.
pub fn check(make: &MakeBackend<'_>) {
    let bed = Bed { make, clock: ManualClock::at(1_000_000), chunks: MemoryChunks::new() };
    tables::rows_are_found_created_and_removed(&bed);
    tables::namespaces_are_apart_and_dropped_whole(&bed);
    tables::rows_of_any_key_length_survive_reuse(&bed);
    tables::row_scans_see_every_live_row_once(&bed);
    tables::values_are_kept_per_namespace_and_key(&bed);
    tables::maps_are_ordered_and_scanned_by_prefix(&bed);
    tables::rows_expire(&bed);
    tables::values_and_maps_expire(&bed);
    life::an_untouched_backend_has_nothing_to_snapshot(&bed);
    life::a_cut_is_isolated_from_later_writes(&bed);
    life::checkpoints_restore_whatever_was_confirmed_or_aborted(&bed);
    life::overlapping_checkpoints_survive_each_others_retirement(&bed);
    life::state_is_rescaled_from_1_to_3_to_2(&bed);
    life::another_schema_is_refused_with_both_texts(&bed);
    life::unregistered_tables_are_carried_over(&bed);
}

/// What the checks share.
struct Bed<'a> {
    make: &'a MakeBackend<'a>,
    clock: Arc<ManualClock>,
    chunks: MemoryChunks,
}

impl Bed<'_> {
    fn fresh(&self) -> Box<dyn StateBackend> {
        self.restored(ALL, &[])
    }
    fn restored(&self, groups: KeyGroupRange, handles: &[KeyedStateHandle]) -> Box<dyn StateBackend> {
        (self.make)(groups, MAX_PARALLELISM, self.clock.clone(), handles, &self.chunks)
            .expect("a backend is made from what was written")
    }
    fn store(&self, backend: &mut dyn StateBackend, checkpoint: u64) -> KeyedStateHandle {
        let cut = backend.snapshot(CheckpointId(checkpoint)).expect("the cut succeeds").expect("there is state");
        cut.write(&self.chunks).expect("the cut is written")
    }
}

fn descriptor(name: &str, kind: TableKind, ttl: Option<Ttl>) -> TableDescriptor {
    TableDescriptor { name: name.to_owned(), kind, schema: "test".to_owned(), ttl }
}

fn register(backend: &mut dyn StateBackend, name: &str, kind: TableKind) -> TableId {
    backend.register(&descriptor(name, kind, None)).expect("the table is registered")
}

fn batch<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> KeyBatch {
    let mut batch = KeyBatch::default();
    keys.into_iter().for_each(|k| batch.push(k.as_ref(), MAX_PARALLELISM));
    batch
}

fn at(key: &[u8]) -> StateKey<'_> {
    StateKey::new(key, MAX_PARALLELISM)
}

fn resolve(
    backend: &mut dyn StateBackend,
    id: TableId,
    namespaces: &[i64],
    keys: &KeyBatch,
    create: bool,
) -> Vec<Slot> {
    let mut slots = vec![7; 3];
    backend.rows(id).resolve(namespaces, keys, create, &mut slots).expect("keys resolve");
    assert_eq!(slots.len(), keys.len(), "resolve gives one slot per key");
    slots
}

/// The three tables most checks use, and a model of what is in them.
struct Trio {
    rows: TableId,
    values: TableId,
    map: TableId,
    lists: TableId,
}

/// Everything in these tables: (namespace, key) → row; (namespace, key) → value; (namespace, key, entry) → value;
/// (namespace, key) → values, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    rows: BTreeMap<(i64, Vec<u8>), u64>,
    values: BTreeMap<(i64, Vec<u8>), Vec<u8>>,
    map: BTreeMap<(i64, Vec<u8>, Vec<u8>), Vec<u8>>,
    lists: BTreeMap<(i64, Vec<u8>), Vec<Vec<u8>>>,
}

impl Contents {
    /// What lies in some key groups.
    fn within(&self, groups: KeyGroupRange) -> Self {
        let mine = |key: &[u8]| groups.contains(at(key).group);
        let mut part = self.clone();
        part.rows.retain(|k, _| mine(&k.1));
        part.values.retain(|k, _| mine(&k.1));
        part.map.retain(|k, _| mine(&k.1));
        part.lists.retain(|k, _| mine(&k.1));
        part
    }
}

impl Trio {
    fn register(backend: &mut dyn StateBackend) -> Self {
        Trio {
            rows: register(backend, "rows", TableKind::Rows { width: 8 }),
            values: register(backend, "values", TableKind::Values),
            map: register(backend, "map", TableKind::Map),
            lists: register(backend, "lists", TableKind::Lists),
        }
    }

    /// A few random changes to keys of `groups`, to the backend and to the model.
    fn shake(&self, backend: &mut dyn StateBackend, model: &mut Contents, random: &mut Random, groups: KeyGroupRange) {
        for _ in 0..random.below(40) {
            let namespace = random.below(4) as i64 * 10 - 10;
            let key = format!("k{}", random.below(60)).into_bytes();
            let place = at(&key).in_namespace(namespace);
            if !groups.contains(place.group) {
                continue;
            }
            let (bytes, entry) = (random.next().to_le_bytes(), vec![random.below(5) as u8; random.below(3) as usize]);
            match random.below(10) {
                0..=2 => {
                    let slots = resolve(backend, self.rows, &[namespace], &batch([&key]), true);
                    let sum = model.rows.entry((namespace, key)).or_default();
                    *sum = sum.wrapping_add(u64::from_le_bytes(bytes));
                    let expected = *sum;
                    backend.rows(self.rows).update(&slots, &mut |_, row| {
                        let old = u64::from_le_bytes(row.try_into().expect("rows have 8 bytes"));
                        row.copy_from_slice(&old.wrapping_add(u64::from_le_bytes(bytes)).to_le_bytes());
                        assert_eq!(row, expected.to_le_bytes(), "a row keeps what was written to it");
                    });
                }
                3 => {
                    let slots = resolve(backend, self.rows, &[namespace], &batch([&key]), false);
                    if slots[0] != NO_SLOT {
                        backend.rows(self.rows).remove(slots[0]);
                    }
                    model.rows.remove(&(namespace, key));
                }
                4 => {
                    backend.values(self.values).put(namespace, place.group, &key, &bytes).expect("put");
                    model.values.insert((namespace, key), bytes.to_vec());
                }
                5 => {
                    backend.map(self.map).put(namespace, place.group, &key, &entry, &bytes).expect("put");
                    model.map.insert((namespace, key, entry), bytes.to_vec());
                }
                6 => {
                    backend.values(self.values).remove(namespace, place.group, &key).expect("remove");
                    backend.map(self.map).remove(namespace, place.group, &key, &entry).expect("remove");
                    model.values.remove(&(namespace, key.clone()));
                    model.map.remove(&(namespace, key, entry));
                }
                7 if random.below(6) == 0 => {
                    backend.rows(self.rows).drop_namespace(namespace);
                    model.rows.retain(|k, _| k.0 != namespace);
                }
                8 if random.below(20) == 0 => {
                    backend.lists(self.lists).drop_namespace(namespace);
                    model.lists.retain(|k, _| k.0 != namespace);
                }
                8 | 9 => {
                    let mut values = ByteRows::default();
                    values.push(b"of another row");
                    values.push(&entry);
                    let keys = batch([b"another", key.as_slice()]);
                    backend.lists(self.lists).append(namespace, &keys, &[1], &values).expect("append");
                    let list = model.lists.entry((namespace, key)).or_default();
                    list.push(entry);
                    list.sort();
                }
                _ => {
                    backend.map(self.map).clear(namespace, place.group, &key).expect("clear");
                    model.map.retain(|k, _| (k.0, k.1.as_slice()) != (namespace, &key));
                }
            }
        }
    }

    fn contents(&self, backend: &mut dyn StateBackend) -> Contents {
        let mut found = Contents::default();
        let rows = backend.rows(self.rows);
        let namespaces = rows.namespaces();
        assert!(namespaces.is_sorted(), "namespaces come in ascending order");
        for namespace in namespaces {
            let (mut slots, mut cursor) = (Vec::new(), Some(0));
            while let Some(c) = cursor {
                cursor = rows.scan(namespace, c, 7, &mut slots);
            }
            for slot in slots {
                let row = u64::from_le_bytes(rows.row(slot).try_into().expect("rows have 8 bytes"));
                let twice = found.rows.insert((namespace, rows.key(slot).to_vec()), row);
                assert_eq!(twice, None, "a scan sees a row once");
            }
        }
        assert_eq!(rows.len(), found.rows.len(), "len is the number of rows that scans see");
        let mut order = Vec::new();
        let each = &mut |namespace: i64, group, key: &[u8], value: &[u8]| {
            order.push((group, namespace, key.to_vec()));
            found.values.insert((namespace, key.to_vec()), value.to_vec());
            Ok(())
        };
        backend.values(self.values).for_each(each).expect("values are listed");
        assert!(order.is_sorted(), "values are listed by key group, namespace, key");
        let each = &mut |namespace: i64, _, key: &[u8], entry: &[u8], value: &[u8]| {
            found.map.insert((namespace, key.to_vec(), entry.to_vec()), value.to_vec());
            Ok(())
        };
        backend.map(self.map).for_each(each).expect("entries are listed");
        self.list_contents(backend.lists(self.lists), &mut found);
        found
    }

    /// Values are listed, and read key by key, the same.
    fn list_contents(&self, lists: &dyn ListTable, found: &mut Contents) {
        let each = &mut |namespace: i64, _, key: &[u8], value: &[u8]| {
            found.lists.entry((namespace, key.to_vec())).or_default().push(value.to_vec());
            Ok(())
        };
        lists.for_each(each).expect("values are listed");
        assert_eq!(lists.len(), found.lists.values().map(Vec::len).sum::<usize>(), "len is the number of values");
        let spaces: BTreeSet<i64> = found.lists.keys().map(|k| k.0).collect();
        assert_eq!(lists.namespaces(), spaces.into_iter().collect::<Vec<_>>(), "namespaces with values, ascending");
        for ((namespace, key), list) in &mut found.lists {
            list.sort();
            let (mut heads, mut slots) = (Vec::new(), Vec::new());
            lists.find(*namespace, &batch([key]), &mut heads);
            let mut from = heads[0];
            while from != NO_SLOT {
                from = lists.read(heads[0], from, 2, &mut slots);
            }
            let hash = flott_core::key_group::key_hash(key);
            assert_eq!(lists.head(*namespace, hash, key), heads[0], "a list begins at one place");
            assert!(slots.iter().all(|s| lists.entry(*s).0.starts_with(key)), "an entry begins with its key");
            let mut all = Vec::new();
            lists.scan(*namespace, &mut all);
            assert!(slots.iter().all(|s| all.contains(s)), "a scan finds every value");
            let value = |slot: &Slot| {
                let (entry, key_len) = lists.entry(*slot);
                &entry[key_len..]
            };
            let mut read: Vec<&[u8]> = slots.iter().map(value).collect();
            read.sort_unstable();
            assert_eq!(read, *list, "reading a list gives what is listed");
        }
    }
}

/// A small deterministic generator (xorshift), so that a broken law breaks the same way every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
}
