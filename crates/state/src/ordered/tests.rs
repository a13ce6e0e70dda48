//! Property tests of ordered tables against a model. Never snapshots.

use std::collections::BTreeMap;

use flott_core::key_group::{KeyGroupRange, key_group_of, key_hash};
use flott_core::state::{MapRange, MapTable};
use flott_core::time::ManualClock;
use proptest::prelude::*;

use super::OrderedStore;

const GROUPS: u32 = 2;

type Place = (i64, Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
enum Step {
    Put(Place, u8),
    Remove(Place),
    Clear(i64, Vec<u8>),
    Freeze,
    /// Scans from `after`, with a prefix and a limit.
    Scan(Place, Option<Vec<u8>>, usize),
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let letter = prop_oneof![Just(0u8), Just(1), Just(0xff)];
    prop_oneof![9 => proptest::collection::vec(letter, 0..=max), 1 => Just(vec![1; 40])]
}

fn place() -> impl Strategy<Value = Place> {
    (-1i64..=1, bytes(2), bytes(3))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(p, v)| Step::Put(p, v)),
        2 => place().prop_map(Step::Remove),
        1 => (-1i64..=1, bytes(2)).prop_map(|(n, k)| Step::Clear(n, k)),
        1 => Just(Step::Freeze),
        4 => (place(), proptest::option::of(bytes(3)), 0usize..6).prop_map(|(p, a, l)| Step::Scan(p, a, l)),
    ]
}

fn group(key: &[u8]) -> u16 {
    key_group_of(key_hash(key), GROUPS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_map_table_behaves_like_an_ordered_map(steps in proptest::collection::vec(step(), 1..80)) {
        let mut table = OrderedStore::new(None, KeyGroupRange { start: 0, end: GROUPS }, ManualClock::at(0));
        let mut model: BTreeMap<Place, u8> = BTreeMap::new();
        let mut frozen = Vec::new();
        for step in steps {
            match step {
                Step::Put(place, value) => {
                    table.put(place.0, group(&place.1), &place.1, &place.2, &[value]).unwrap();
                    model.insert(place, value);
                }
                Step::Remove(place) => {
                    MapTable::remove(&mut table, place.0, group(&place.1), &place.1, &place.2).unwrap();
                    model.remove(&place);
                }
                Step::Clear(namespace, key) => {
                    table.clear(namespace, group(&key), &key).unwrap();
                    model.retain(|p, _| (p.0, &p.1) != (namespace, &key));
                }
                Step::Freeze => frozen.push((table.freeze(0).1, table.freeze(1).1, model.len())),
                Step::Scan((namespace, key, prefix), after, limit) => {
                    let mut found = Vec::new();
                    let at = MapRange { namespace, group: group(&key), key: &key, prefix: &prefix, after: after.as_deref() };
                    let more = table.scan(at, limit, &mut found).unwrap();
                    let found: Vec<(Vec<u8>, Vec<u8>)> = found.into_iter().map(|(k, v)| (k, v.to_vec())).collect();
                    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = model
                        .iter()
                        .filter(|(p, _)| (p.0, &p.1) == (namespace, &key) && p.2.starts_with(&prefix))
                        .filter(|(p, _)| after.as_ref().is_none_or(|a| p.2 > *a))
                        .map(|(p, v)| (p.2.clone(), vec![*v]))
                        .collect();
                    prop_assert_eq!(more, expected.len() > limit);
                    expected.truncate(limit);
                    prop_assert_eq!(found, expected);
                }
            }
        }
        for (a, b, entries) in &frozen {
            prop_assert_eq!(a.len() + b.len(), *entries, "a frozen map stays as it was");
        }
        let heap = |p: &Place| super::cost(&{ let mut at = Vec::new(); super::map_key(p.0, &p.1, &p.2, &mut at); at }, &[0]);
        prop_assert_eq!(table.memory_bytes(), model.keys().map(heap).sum::<usize>(), "what is counted is what is there");
        let mut left = model.len();
        MapTable::for_each(&mut table, &mut |n, _, k, e, v| {
            assert_eq!(model.get(&(n, k.to_vec(), e.to_vec())), Some(&v[0]));
            left -= 1;
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(left, 0);
    }
}
