//! Values against a model, damaged units, and what was stored as ordered entries.

use std::collections::BTreeMap;

use flott_core::error::ErrorKind;
use flott_core::key_group::key_hash;
use flott_core::time::ManualClock;
use proptest::prelude::*;

use super::codec::ValueUnit;
use super::*;
use crate::ordered::OrderedStore;

const GROUPS: u32 = 4;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: GROUPS };

type Model = BTreeMap<(KeyGroup, i64, Vec<u8>), Vec<u8>>;

fn store(ttl: Option<Ttl>) -> ValueStore {
    ValueStore::new(ttl, ALL, GROUPS, ManualClock::at(1_000))
}

fn key(i: u16) -> Vec<u8> {
    vec![b'k'; usize::from(i % 3)].into_iter().chain(i.to_be_bytes()).collect()
}

fn own_group(key: &[u8]) -> KeyGroup {
    key_group_of(key_hash(key), GROUPS)
}

fn contents(store: &mut ValueStore) -> Vec<((KeyGroup, i64, Vec<u8>), Vec<u8>)> {
    let mut found = Vec::new();
    let each = &mut |namespace, group, key: &[u8], value: &[u8]| {
        found.push(((group, namespace, key.to_vec()), value.to_vec()));
        Ok(())
    };
    store.for_each(each).expect("listed");
    found
}

fn units(store: &mut ValueStore, now_ms: Option<i64>) -> Vec<Vec<u8>> {
    let live: Vec<usize> = (0..store.unit_count()).filter(|u| store.unit_version(*u).is_some()).collect();
    let unit = |u| {
        let (namespace, keys, values) = store.freeze(u);
        let mut out = Vec::new();
        ValueUnit { namespace, keys: &keys, values: &values, now_ms, max_parallelism: GROUPS }.encode(&mut out);
        out
    };
    live.into_iter().map(unit).collect()
}

fn restored(units: &[Vec<u8>], keep: KeyGroupRange) -> ValueStore {
    let mut into = store(None);
    units.iter().for_each(|u| codec::restore(u, keep, GROUPS, &mut into).expect("restored"));
    into
}

#[derive(Clone, Debug)]
enum Step {
    /// Namespace, first key, number of keys, length of the values.
    Put(i64, u16, u16, usize),
    Remove(i64, u16, u16),
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![8 => 0usize..200, 1 => 3_900usize..4_300, 1 => Just(20_000usize)];
    prop_oneof![
        6 => (0i64..2, 0u16..500, 1u16..60, length).prop_map(|(n, k, c, l)| Step::Put(n, k, c, l)),
        3 => (0i64..2, 0u16..500, 1u16..200).prop_map(|(n, k, c)| Step::Remove(n, k, c)),
        1 => Just(Step::Freeze),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_table_of_values_behaves_like_a_map(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut table, mut model) = (store(None), Model::new());
        let mut cuts: Vec<(Vec<Vec<u8>>, Model)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(namespace, first, count, length) => {
                    let (mut keys, mut values, mut rows) = (KeyBatch::default(), ByteRows::default(), Vec::new());
                    keys.push(b"of another row", GROUPS);
                    for i in 0..count {
                        let (key, value) = (key(first + i), vec![n as u8; length + usize::from(i % 5)]);
                        keys.push(&key, GROUPS);
                        rows.push(u32::from(i) + 1);
                        values.push(&value);
                        model.insert((own_group(&key), namespace, key), value);
                    }
                    table.put_batch(namespace, &keys, &rows, &values).expect("put");
                }
                Step::Remove(namespace, first, count) => for key in (first..first + count).map(key) {
                    table.remove(namespace, own_group(&key), &key).expect("removed");
                    model.remove(&(own_group(&key), namespace, key));
                }
                Step::Freeze => cuts.push((units(&mut table, None), model.clone())),
            }
            let (mut keys, mut found) = (KeyBatch::default(), FoundValues::default());
            (0..560).for_each(|i| keys.push(&key(i), GROUPS));
            let rows: Vec<u32> = (0..560).rev().step_by(3).collect();
            table.get_batch(1, &keys, &rows, &mut found).expect("found");
            prop_assert_eq!(found.len(), rows.len());
            for (row, value) in rows.iter().zip(found.iter()) {
                let (group, key) = (keys.groups[*row as usize], keys.key(*row as usize));
                prop_assert_eq!(value, model.get(&(group, 1, key.to_vec())).map(Vec::as_slice));
                let alone = table.get(1, group, key).expect("found");
                prop_assert_eq!(value, alone.as_deref());
            }
        }
        cuts.push((units(&mut table, None), model.clone()));
        prop_assert_eq!(contents(&mut table), model.into_iter().collect::<Vec<_>>());
        for (units, model) in cuts {
            let mut whole = Vec::new();
            for keep in [KeyGroupRange { start: 0, end: 1 }, KeyGroupRange { start: 1, end: GROUPS }] {
                whole.extend(contents(&mut restored(&units, keep)));
            }
            prop_assert_eq!(whole, model.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn memory_goes_with_the_values() {
    let mut table = store(None);
    let value = vec![7; 1_000];
    for namespace in 0..20 {
        (0..500).map(key).for_each(|k| table.put(namespace, own_group(&k), &k, &value).expect("put"));
        (0..500)
            .map(key)
            .for_each(|k| table.put(namespace, own_group(&k), &k, &value[..namespace as usize]).expect("put"));
        (0..500).map(key).for_each(|k| table.remove(namespace, own_group(&k), &k).expect("removed"));
        assert_eq!((table.memory_bytes(), table.unit_count()), (0, 1), "namespaces go with their last value");
    }
    // Values that grow and shrink in turn stay within a small multiple of what is there.
    for round in 0..50usize {
        let length = [10, 3_000, 700, 5_000, 40][round % 5];
        (0..100).map(key).for_each(|k| table.put(0, own_group(&k), &k, &vec![1; length]).expect("put"));
        assert!(table.memory_bytes() < 1_500_000, "{} in round {round}", table.memory_bytes());
    }
}

#[test]
fn a_key_may_live_in_the_group_of_another_one() {
    let mut table = store(None);
    for group in 0..GROUPS as KeyGroup {
        table.put(0, group, b"same", &group.to_le_bytes()).expect("put");
    }
    for group in 0..GROUPS as KeyGroup {
        assert_eq!(table.get(0, group, b"same").expect("get").as_deref(), Some(&group.to_le_bytes()[..]));
    }
    let units = units(&mut table, None);
    assert_eq!(contents(&mut restored(&units, ALL)), contents(&mut table));
    assert!(table.get(0, GROUPS as KeyGroup, b"same").is_err(), "a foreign key group is a defect");
}

#[test]
fn expired_values_are_swept_and_not_stored() {
    let clock = ManualClock::at(0);
    let ttl = Some(Ttl { ttl_ms: 100, update_on_read: false });
    let mut table = ValueStore::new(ttl, ALL, GROUPS, Arc::clone(&clock) as _);
    (0..2_000).map(key).for_each(|k| table.put(0, own_group(&k), &k, b"old").expect("put"));
    clock.advance(100);
    table.put(0, 1, b"new", b"new").expect("put");
    assert_eq!(contents(&mut restored(&units(&mut table, Some(100)), ALL)).len(), 1);
    (0..2_000).for_each(|_| table.put(0, 1, b"new", b"newer").expect("put"));
    let left: u32 = table.segments.iter().flatten().map(|s| s.live).sum();
    assert_eq!(left, 1, "what expired is swept by writes");
}

#[test]
fn ordered_entries_are_read_as_values() {
    let mut old = OrderedStore::new(None, ALL, ManualClock::at(0));
    let mut model = Model::new();
    for k in (0..300).map(key) {
        let (group, namespace) = (own_group(&k), i64::from(k[k.len() - 1] % 3) - 1);
        let composite: Vec<u8> = ((namespace as u64) ^ (1 << 63)).to_be_bytes().into_iter().chain(k.clone()).collect();
        assert!(old.restore_entry(group, &composite, &k, NEVER).expect("a group of its own"));
        model.insert((group, namespace, k.clone()), k);
    }
    let mut into = store(None);
    for unit in 0..old.unit_count() {
        let (group, entries) = old.freeze(unit);
        let mut bytes = Vec::new();
        crate::ordered::codec::encode(group, &entries, None, &mut bytes);
        codec::restore(&bytes, ALL, GROUPS, &mut into).expect("restored");
        let twice = codec::restore(&bytes, ALL, GROUPS, &mut into).expect_err("the same keys twice");
        assert_eq!(twice.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(contents(&mut into), model.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_damaged_unit_is_corrupt_and_never_panics() {
    let ttl = Some(Ttl { ttl_ms: 100, update_on_read: false });
    let mut table = store(ttl);
    (0..40).map(key).for_each(|k| table.put(0, own_group(&k), &k, &k).expect("put"));
    let good = units(&mut table, Some(1_000)).remove(0);
    for cut in 0..good.len() {
        let error = codec::restore(&good[..cut], ALL, GROUPS, &mut store(ttl)).expect_err("truncated");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {cut}");
    }
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0xff;
        if let Err(error) = codec::restore(&bad, ALL, GROUPS, &mut store(ttl)) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {i}");
        }
    }
}
