//! Tests of typed states, with and without prefetching. Never tests the backend.

use flott_core::error::{Error, ErrorKind, Result};
use flott_core::key_group::KeyGroupRange;
use flott_core::state::{KeyBatch, StateBackend, Ttl};
use flott_core::time::ManualClock;
use proptest::prelude::*;

use super::*;
use crate::MemoryStateBackend;

const GROUPS: u32 = 8;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: GROUPS };

fn backend() -> MemoryStateBackend {
    MemoryStateBackend::new(ALL, GROUPS, ManualClock::at(0))
}

fn batch(keys: &[&str]) -> KeyBatch {
    let mut batch = KeyBatch::default();
    keys.iter().for_each(|k| batch.push(k.as_bytes(), GROUPS));
    batch
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Account {
    owner: String,
    cents: i64,
}

struct Average;

impl AggregateFunction for Average {
    type In = i64;
    type Acc = (i64, i64);
    type Out = f64;
    fn create(&self) -> (i64, i64) {
        (0, 0)
    }
    fn add(&self, value: i64, acc: &mut (i64, i64)) -> Result<()> {
        *acc = (acc.0 + value, acc.1 + 1);
        Ok(())
    }
    fn result(&self, acc: &(i64, i64)) -> f64 {
        acc.0 as f64 / acc.1 as f64
    }
}

/// The same accesses must read the same whether the batch's keys were prefetched or not, also after the flush.
#[test]
fn states_read_the_same_with_and_without_prefetch() {
    let mut seen: Vec<String> = Vec::new();
    for prefetch in [false, true] {
        let b = &mut backend();
        let mut value = ValueState::<Account>::register(b, &StateDescriptor::new("value")).unwrap();
        let mut list = ListState::<String>::register(b, &StateDescriptor::new("list")).unwrap();
        let mut max = ReducingState::register(b, &StateDescriptor::new("max"), |a: i64, b| Ok(a.max(b))).unwrap();
        let mut average = AggregatingState::register(b, &StateDescriptor::new("average"), Average).unwrap();
        let mut text = String::new();
        for round in 0..3i64 {
            let keys = batch(&["a", "b", "a", "c", "a"][..3 + round as usize % 3]);
            if prefetch {
                value.prefetch(b, 0, &keys).unwrap();
                list.prefetch(b, 0, &keys).unwrap();
                max.prefetch(b, 0, &keys).unwrap();
                average.prefetch(b, 0, &keys).unwrap();
            }
            for i in 0..keys.len() {
                let at = StateKey::of(&keys, i);
                value
                    .update(b, at, |v| {
                        v.get_or_insert(Account { owner: "o".into(), cents: 0 }).cents += 1;
                    })
                    .unwrap();
                list.add(b, at, format!("{round}.{i}")).unwrap();
                max.add(b, at, 10 - round).unwrap();
                average.add(b, at, round + i as i64).unwrap();
                if i == 2 && round == 1 {
                    value.clear(b, at).unwrap();
                    list.set(b, at, vec![]).unwrap();
                }
                let now = (
                    value.get(b, at).unwrap(),
                    list.get(b, at).unwrap(),
                    max.get(b, at).unwrap(),
                    average.get(b, at).unwrap(),
                );
                text += &format!("{now:?}\n");
                // A key outside the batch goes straight through.
                value.set(b, StateKey::new(b"elsewhere", GROUPS), Account { owner: "e".into(), cents: round }).unwrap();
            }
            value.flush(b).unwrap();
            list.flush(b).unwrap();
            max.flush(b).unwrap();
            average.flush(b).unwrap();
            for key in [&b"a"[..], b"b", b"c", b"elsewhere"] {
                let at = StateKey::new(key, GROUPS);
                text += &format!(
                    "{:?} {:?} {:?}\n",
                    value.get(b, at).unwrap(),
                    list.get(b, at).unwrap(),
                    max.get(b, at).unwrap()
                );
            }
        }
        seen.push(text);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].contains("cents: 2") && seen[0].contains("\"2.4\"") && seen[0].contains("None"));
}

#[test]
fn a_prefetch_of_another_namespace_is_apart() {
    let b = &mut backend();
    let mut value = ValueState::<u32>::register(b, &StateDescriptor::new("value")).unwrap();
    let keys = batch(&["a"]);
    let at = StateKey::of(&keys, 0);
    value.set(b, at.in_namespace(5), 7).unwrap();
    value.prefetch(b, 0, &keys).unwrap();
    value.set(b, at, 1).unwrap();
    assert_eq!((value.get(b, at).unwrap(), value.get(b, at.in_namespace(5)).unwrap()), (Some(1), Some(7)));
    value.prefetch(b, 5, &keys).unwrap();
    assert_eq!((value.get(b, at).unwrap(), value.get(b, at.in_namespace(5)).unwrap()), (Some(1), Some(7)));
}

#[test]
fn maps_are_ordered_by_their_keys() {
    let b = &mut backend();
    let mut map = MapState::<(i32, String), u8>::register(b, &StateDescriptor::new("map")).unwrap();
    let at = StateKey::new(b"k", GROUPS);
    assert!(map.is_empty(b, at).unwrap());
    for i in 0..600 {
        map.put(b, at, &((i * 7) % 600 - 300, format!("{i}")), &(i as u8)).unwrap();
    }
    map.put(b, at, &(-300, String::new()), &1).unwrap();
    let entries = map.entries(b, at).unwrap();
    assert!(entries.len() == 601 && entries.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(map.get(b, at, &(-293, "1".into())).unwrap(), Some(1));
    map.remove(b, at, &(-293, "1".into())).unwrap();
    assert!(!map.contains(b, at, &(-293, "1".into())).unwrap());
    let mut first = Vec::new();
    map.for_each(b, at, |k, _| {
        first.push(k.0);
        Ok(first.len() < 3)
    })
    .unwrap();
    assert_eq!(first, [-300, -300, -299], "for_each stops when told");
    map.clear(b, at).unwrap();
    assert!(map.is_empty(b, at).unwrap());
}

#[test]
fn values_expire_and_a_failing_reduce_changes_nothing() {
    let clock = ManualClock::at(0);
    let b = &mut MemoryStateBackend::new(ALL, GROUPS, clock.clone());
    let ttl = StateDescriptor::new("value").with_ttl(Ttl { ttl_ms: 10, update_on_read: false });
    let mut value = ValueState::<u32>::register(b, &ttl).unwrap();
    let at = StateKey::new(b"k", GROUPS);
    value.set(b, at, 1).unwrap();
    clock.advance(10);
    assert_eq!(value.get(b, at).unwrap(), None);
    let refuse = |a: i64, b: i64| a.checked_add(b).ok_or_else(|| Error::user("test", "overflow"));
    let mut sum = ReducingState::register(b, &StateDescriptor::new("sum"), refuse).unwrap();
    sum.add(b, at, i64::MAX).unwrap();
    assert_eq!(sum.add(b, at, 1).unwrap_err().code(), "test");
    sum.prefetch(b, 0, &batch(&["k"])).unwrap();
    assert!(sum.add(b, at, 1).is_err());
    sum.flush(b).unwrap();
    assert_eq!(sum.get(b, at).unwrap(), Some(i64::MAX));
}

#[test]
fn bytes_of_another_type_are_corrupt_not_a_panic() {
    let b = &mut backend();
    let schema = |name: &str| StateDescriptor::new(name).with_schema("anything");
    let mut written = ValueState::<Vec<u8>>::register(b, &schema("value")).unwrap();
    let at = StateKey::new(b"k", GROUPS);
    written.set(b, at, vec![0xff; 9]).unwrap();
    let table = b
        .register(&TableDescriptor {
            name: "list".into(),
            kind: TableKind::Values,
            schema: "list<anything>".into(),
            ttl: None,
        })
        .unwrap();
    for bytes in [&[1u8][..], &[255, 255, 255, 255, 0], &[1, 0, 0, 0, 0xff], &[0, 0, 0, 0]] {
        assert_eq!(decode::<String>("s", bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        b.values(table).put(0, at.group, at.key, bytes).unwrap();
    }
    assert!(decode::<u8>("s", &[1, 2]).unwrap_err().to_string().contains("left over"));
    assert_eq!(<(i8, String)>::decode(&[0x80, b'a', 0]), None);
    assert_eq!(String::decode(&[0xc0, 0, 0]), None);
    assert_eq!(bool::decode(&[2]), None);
}

proptest! {
    #[test]
    fn encoded_map_keys_compare_as_keys_do(
        a in (any::<i64>(), proptest::collection::vec(0u8..3, 0..6), any::<String>()),
        b in (any::<i64>(), proptest::collection::vec(0u8..3, 0..6), any::<String>()),
        same_head in any::<bool>(),
    ) {
        let key = |k: &(i64, Vec<u8>, String)| (if same_head { 0 } else { k.0 }, (k.1.clone(), k.2.clone()));
        let bytes = |k: &(i64, (Vec<u8>, String))| { let mut out = Vec::new(); k.encode(&mut out); out };
        let (a, b) = (key(&a), key(&b));
        prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
        prop_assert_eq!(MapKey::decode(&bytes(&a)), Some(a));
    }
}
