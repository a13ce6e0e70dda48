//! Property tests of the hot table against a model. Never snapshots.

use std::collections::BTreeMap;

use flott_core::key_group::KeyGroupRange;
use flott_core::state::{KeyBatch, NO_SLOT, RowTable};
use flott_core::time::ManualClock;
use proptest::prelude::*;

use super::RowStore;

const GROUPS: u32 = 8;

#[derive(Clone, Debug)]
enum Step {
    /// Creates the keys and adds 1 to their rows.
    Touch(Vec<(u8, Vec<u8>)>),
    Find(Vec<(u8, Vec<u8>)>),
    Remove(u8, Vec<u8>),
    Drop(u8),
    /// Freezes everything and keeps the frozen blocks alive, or lets go of them.
    Freeze,
    Thaw,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u64..40).prop_map(|k| k.to_be_bytes().to_vec()),
        1 => proptest::collection::vec(0u8..3, 0..20),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let places = || proptest::collection::vec((0u8..4, key()), 0..30);
    prop_oneof![
        4 => places().prop_map(Step::Touch),
        2 => places().prop_map(Step::Find),
        4 => (0u8..4, key()).prop_map(|(n, k)| Step::Remove(n, k)),
        1 => (0u8..4).prop_map(Step::Drop),
        1 => Just(Step::Freeze),
        1 => Just(Step::Thaw),
    ]
}

fn resolve(table: &mut RowStore, places: &[(u8, Vec<u8>)], create: bool) -> Vec<u32> {
    let namespaces: Vec<i64> = places.iter().map(|p| i64::from(p.0)).collect();
    let (mut keys, mut slots) = (KeyBatch::default(), Vec::new());
    places.iter().for_each(|p| keys.push(&p.1, GROUPS));
    table.resolve(&namespaces, &keys, create, &mut slots).unwrap();
    slots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_table_behaves_like_a_map(steps in proptest::collection::vec(step(), 1..60)) {
        let all = KeyGroupRange { start: 0, end: GROUPS };
        let mut table = RowStore::new(4, None, all, GROUPS, ManualClock::at(0));
        let mut model: BTreeMap<(u8, Vec<u8>), u32> = BTreeMap::new();
        let mut frozen = Vec::new();
        for step in steps {
            match step {
                Step::Touch(places) => {
                    let slots = resolve(&mut table, &places, true);
                    table.update(&slots, &mut |_, row| {
                        let n = u32::from_le_bytes(row.try_into().unwrap()) + 1;
                        row.copy_from_slice(&n.to_le_bytes());
                    });
                    places.into_iter().for_each(|p| *model.entry(p).or_default() += 1);
                }
                Step::Find(places) => {
                    for (place, slot) in places.iter().zip(resolve(&mut table, &places, false)) {
                        match model.get(place) {
                            Some(n) => {
                                prop_assert_eq!(table.row(slot), n.to_le_bytes());
                                prop_assert_eq!(table.key(slot), &place.1[..]);
                            }
                            None => prop_assert_eq!(slot, NO_SLOT),
                        }
                    }
                }
                Step::Remove(namespace, key) => {
                    let place = [(namespace, key)];
                    let slot = resolve(&mut table, &place, false)[0];
                    if slot != NO_SLOT {
                        table.remove(slot);
                    }
                    model.remove(&place[0]);
                }
                Step::Drop(namespace) => {
                    table.drop_namespace(i64::from(namespace));
                    model.retain(|p, _| p.0 != namespace);
                }
                Step::Freeze => {
                    for unit in 0..table.unit_count() {
                        if table.unit_version(unit).is_some() {
                            frozen.push(table.freeze(unit));
                        }
                    }
                }
                Step::Thaw => frozen.clear(),
            }
            prop_assert_eq!(table.len(), model.len());
            let mut namespaces: Vec<i64> = model.keys().map(|p| i64::from(p.0)).collect();
            namespaces.dedup();
            prop_assert_eq!(table.namespaces(), namespaces);
        }
    }
}
