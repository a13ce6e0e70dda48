//! Lists against a model, and damaged units.

use std::collections::BTreeMap;

use flott_core::error::ErrorKind;
use flott_core::key_group::KeyGroupRange;

use super::*;

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: 16 };

fn key(i: u64) -> Vec<u8> {
    vec![b'k'; (i % 3) as usize].into_iter().chain(i.to_be_bytes()).collect()
}

fn keys(range: impl Iterator<Item = u64>) -> KeyBatch {
    let mut batch = KeyBatch::default();
    range.for_each(|i| batch.push(&key(i), 16));
    batch
}

fn values(range: impl Iterator<Item = u64>) -> ByteRows {
    let mut values = ByteRows::default();
    range.for_each(|i| values.push(&vec![i as u8; (i % 40) as usize]));
    values
}

/// The list of a key, read so many values at a time.
fn list(store: &ListStore, namespace: i64, i: u64, limit: usize) -> Vec<Vec<u8>> {
    let mut heads = Vec::new();
    store.find(namespace, &keys(std::iter::once(i)), &mut heads);
    let (mut found, mut from) = (Vec::new(), heads[0]);
    while from != NO_SLOT {
        from = store.read(heads[0], from, limit, &mut found);
    }
    let value = |slot: &Slot| {
        let (entry, key_len) = store.entry(*slot);
        entry[key_len..].to_vec()
    };
    let mut list: Vec<Vec<u8>> = found.iter().map(value).collect();
    list.sort();
    list
}

/// Thousands of values over two namespaces; every third batch is frozen in between, as a cut does.
fn filled(model: &mut BTreeMap<(i64, u64), Vec<Vec<u8>>>) -> ListStore {
    let mut store = ListStore::new(ALL, 16);
    for round in 0..60u64 {
        let namespace = (round % 2) as i64;
        let batch = || (0..400).map(|i| (round * 31 + i * 7) % 997);
        let (keys, values) = (keys(batch()), values(batch().map(|i| i + round)));
        let rows: Vec<u32> = (0..400).filter(|r| r % 5 != 0).collect();
        store.append(namespace, &keys, &rows, &values).expect("appended");
        for &row in &rows {
            let i = (round * 31 + u64::from(row) * 7) % 997;
            model.entry((namespace, i)).or_default().push(values.get(row as usize).to_vec());
        }
        if round % 3 == 0 {
            (0..store.unit_count()).filter(|u| store.unit_version(*u).is_some()).for_each(|_| {});
            let live: Vec<usize> = (0..store.unit_count()).filter(|u| store.unit_version(*u).is_some()).collect();
            live.into_iter().for_each(|u| drop(store.freeze(u)));
        }
    }
    model.values_mut().for_each(|l| l.sort());
    store
}

#[test]
fn lists_hold_what_was_added_whatever_was_frozen() {
    let mut model = BTreeMap::new();
    let mut store = filled(&mut model);
    assert_eq!(store.len(), model.values().map(Vec::len).sum::<usize>());
    for limit in [1, 3, 1000] {
        for namespace in [0, 1, 2] {
            for i in 0..1000 {
                let expected = model.get(&(namespace, i)).cloned().unwrap_or_default();
                assert_eq!(list(&store, namespace, i, limit), expected, "key {i} of {namespace}");
            }
        }
    }
    store.drop_namespace(0);
    store.drop_namespace(7);
    assert_eq!(store.namespaces(), [1]);
    assert!(list(&store, 0, 1, 10).is_empty());
    let before = store.unit_count();
    store.append(5, &keys(0..100), &(0..100).collect::<Vec<_>>(), &values(0..100)).expect("appended");
    assert_eq!(store.unit_count(), before, "segments are used again");
    for i in 0..1000 {
        assert_eq!(list(&store, 1, i, 10), model.get(&(1, i)).cloned().unwrap_or_default(), "others are left alone");
    }
}

#[test]
fn a_frozen_block_never_changes_and_versions_tell() {
    let mut store = ListStore::new(ALL, 16);
    store.append(0, &keys(0..10), &[0, 1, 2], &values(0..10)).expect("appended");
    let version = store.unit_version(0);
    let (_, block) = store.freeze(0);
    assert_eq!(store.unit_version(0), version, "a cut is no change");
    store.append(0, &keys(0..10), &[3], &values(0..10)).expect("appended");
    assert_ne!(store.unit_version(0), version);
    assert_eq!((block.len(), store.len()), (3, 4));
    let many: Vec<u32> = (0..2000).collect();
    store.append(0, &keys(0..2000), &many, &values(0..2000)).expect("appended");
    let (version, _) = (store.unit_version(0), store.freeze(0));
    store.append(0, &keys(0..10), &[3], &values(0..10)).expect("appended");
    assert_eq!(store.unit_version(0), version, "a segment that is a quarter full is not copied for one more value");
    assert_eq!(store.unit_count(), 2);
}

#[test]
fn units_come_back_by_key_group_and_damage_is_named() {
    let mut model = BTreeMap::new();
    let mut store = filled(&mut model);
    let mut parts = [KeyGroupRange { start: 0, end: 5 }, KeyGroupRange { start: 5, end: 16 }]
        .map(|range| (range, ListStore::new(range, 16)));
    let mut unit = Vec::new();
    for u in 0..store.unit_count() {
        unit.clear();
        let (namespace, block) = store.freeze(u);
        let (first, last) = codec::encode(namespace, &block, 16, &mut unit);
        assert!(first < last && last < 16);
        for (range, part) in &mut parts {
            codec::restore(&unit, *range, 16, part).expect("restored");
        }
    }
    assert_eq!(parts[0].1.len() + parts[1].1.len(), store.len());
    for ((namespace, i), expected) in &model {
        let part = &parts[usize::from(key_group_of(keys(std::iter::once(*i)).hashes[0], 16) >= 5)];
        assert_eq!(list(&part.1, *namespace, *i, 100), *expected);
    }
    for len in 0..unit.len() {
        let mut into = ListStore::new(ALL, 16);
        let error = codec::restore(&unit[..len], ALL, 16, &mut into).expect_err("a part of a unit is no unit");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "state.corrupt"), "{len} bytes: {error}");
    }
    for at in 0..unit.len().min(300) {
        let mut damaged = unit.clone();
        damaged[at] ^= 0x41;
        let _ = codec::restore(&damaged, ALL, 16, &mut ListStore::new(ALL, 16));
    }
}

#[test]
fn a_key_of_another_subtask_is_refused() {
    let mut store = ListStore::new(KeyGroupRange { start: 0, end: 1 }, 16);
    let all: Vec<u32> = (0..100).collect();
    let error = store.append(0, &keys(0..100), &all, &values(0..100)).expect_err("most keys are foreign");
    assert_eq!(error.kind(), ErrorKind::Bug);
}
