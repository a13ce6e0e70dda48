//! Laws of the three kinds of table. Never looks at snapshots.

use flott_core::state::{ByteRows, FoundValues, MapRange, NO_SLOT, RowTable, StateBackend, TableKind, Ttl};

use super::{Bed, at, batch, descriptor, register, resolve};

fn ids(n: u64) -> impl Iterator<Item = [u8; 8]> {
    (0..n).map(u64::to_be_bytes)
}

fn number(row: &[u8]) -> u64 {
    u64::from_le_bytes(row.try_into().expect("rows have 8 bytes"))
}

pub(super) fn rows_are_found_created_and_removed(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "rows", TableKind::Rows { width: 8 });
    let keys = batch(ids(10_000));
    assert!(resolve(b.as_mut(), id, &[0], &keys, false).iter().all(|s| *s == NO_SLOT), "nothing is there at first");
    assert!(b.rows(id).is_empty(), "looking creates nothing");
    let slots = resolve(b.as_mut(), id, &[0], &keys, true);
    assert!(slots.iter().all(|s| b.rows(id).row(*s) == [0; 8]), "new rows are zero");
    b.rows(id).update(&slots, &mut |i, row| row.copy_from_slice(&(i as u64).to_le_bytes()));
    assert_eq!(resolve(b.as_mut(), id, &[0], &keys, true), slots, "slots stay valid");
    assert_eq!(resolve(b.as_mut(), id, &[0], &keys, false), slots, "looking finds what creating made");
    for (i, slot) in slots.iter().enumerate() {
        let rows = b.rows(id);
        assert_eq!((number(rows.row(*slot)), rows.key(*slot)), (i as u64, keys.key(i)));
    }
    b.rows(id).row_mut(slots[3])[0] = 9;
    assert_eq!(b.rows(id).row(slots[3])[0], 9, "row_mut writes");
    slots.iter().step_by(2).for_each(|s| b.rows(id).remove(*s));
    assert_eq!(b.rows(id).len(), 5_000);
    let left = resolve(b.as_mut(), id, &[0], &keys, false);
    for (i, slot) in left.iter().enumerate() {
        assert_eq!(*slot, if i % 2 == 0 { NO_SLOT } else { slots[i] }, "only removed rows are gone");
    }
    let mut seen = 0;
    b.rows(id).update(&left, &mut |i, _| {
        assert_eq!(i % 2, 1, "rows without slot are passed over");
        seen += 1;
    });
    assert_eq!(seen, 5_000);
    let again = resolve(b.as_mut(), id, &[0], &keys, true);
    assert!(again.iter().step_by(2).all(|s| b.rows(id).row(*s) == [0; 8]), "rows made again are zero");
    assert_eq!(b.rows(id).len(), 10_000);
    let twice = batch([b"same", b"same"]);
    let slots = resolve(b.as_mut(), id, &[0], &twice, true);
    assert_eq!(slots[0], slots[1], "a key twice in a batch has one row");
}

pub(super) fn namespaces_are_apart_and_dropped_whole(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "rows", TableKind::Rows { width: 8 });
    let keys = batch(ids(600));
    let spread: Vec<i64> = (0..600).map(|i| (i % 200) - 100).collect();
    let slots = resolve(b.as_mut(), id, &spread, &keys, true);
    b.rows(id).update(&slots, &mut |i, row| row.copy_from_slice(&(i as u64).to_le_bytes()));
    assert_eq!(b.rows(id).namespaces(), (-100..100).collect::<Vec<i64>>());
    let mut distinct = slots.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 600, "slots of different namespaces never collide");
    assert_eq!(resolve(b.as_mut(), id, &[-100], &keys, false).iter().filter(|s| **s != NO_SLOT).count(), 3);
    (-100..0).for_each(|n| b.rows(id).drop_namespace(n));
    b.rows(id).drop_namespace(12345);
    assert_eq!((b.rows(id).namespaces(), b.rows(id).len()), ((0..100).collect(), 300));
    let left = resolve(b.as_mut(), id, &spread, &keys, false);
    for (i, slot) in left.iter().enumerate() {
        assert_eq!(*slot == NO_SLOT, spread[i] < 0, "exactly the dropped namespaces are gone");
        if *slot != NO_SLOT {
            assert_eq!(number(b.rows(id).row(*slot)), i as u64);
        }
    }
    let again = resolve(b.as_mut(), id, &[-100], &keys, true);
    assert!(again.iter().all(|s| b.rows(id).row(*s) == [0; 8]), "a namespace made again begins empty");
}

pub(super) fn rows_of_any_key_length_survive_reuse(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "rows", TableKind::Rows { width: 3 });
    for round in 0..20usize {
        let keys = batch((0..500usize).map(|i| format!("{i}-{}", "x".repeat((i * 7 + round * 13) % 60))));
        let slots = resolve(b.as_mut(), id, &[5], &keys, true);
        b.rows(id).update(&slots, &mut |i, row| row.copy_from_slice(&[round as u8, i as u8, 1]));
        for (i, slot) in slots.iter().enumerate() {
            let rows = b.rows(id);
            assert_eq!((rows.row(*slot), rows.key(*slot)), (&[round as u8, i as u8, 1][..], keys.key(i)));
        }
        slots.iter().skip(round % 3).for_each(|s| b.rows(id).remove(*s));
        slots.iter().skip(round % 3).for_each(|s| b.rows(id).remove(*s));
    }
    let empty = resolve(b.as_mut(), id, &[5], &batch([b""]), true);
    assert_eq!(b.rows(id).key(empty[0]), b"", "the empty key is a key");
}

pub(super) fn row_scans_see_every_live_row_once(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "rows", TableKind::Rows { width: 8 });
    let slots = resolve(b.as_mut(), id, &[1], &batch(ids(9_000)), true);
    slots.iter().step_by(3).for_each(|s| b.rows(id).remove(*s));
    for limit in [1usize, 1000, 4096, 100_000] {
        let (mut found, mut cursor) = (Vec::new(), Some(0));
        while let Some(c) = cursor {
            let before = found.len();
            cursor = b.rows(id).scan(1, c, limit, &mut found);
            assert!(found.len() - before <= limit, "a scan keeps to its limit");
        }
        found.sort_unstable();
        let mut live: Vec<u32> = slots.iter().enumerate().filter(|(i, _)| i % 3 != 0).map(|(_, s)| *s).collect();
        live.sort_unstable();
        assert_eq!(found, live);
    }
    let mut none = Vec::new();
    assert_eq!(b.rows(id).scan(2, 0, 10, &mut none), None, "an unknown namespace has no rows");
    assert!(none.is_empty());
}

pub(super) fn values_are_kept_per_namespace_and_key(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "values", TableKind::Values);
    let long = vec![b'l'; 200];
    for (namespace, key, value) in [(0, &b"a"[..], &b"1"[..]), (-1, b"a", b""), (7, &long, &long), (0, b"", b"e")] {
        b.values(id).put(namespace, at(key).group, key, value).expect("put");
        let found = b.values(id).get(namespace, at(key).group, key).expect("get");
        assert_eq!(found.as_deref(), Some(value));
    }
    let (keys, mut values, mut put) =
        (batch([&b"a"[..], b"b", b"", b"c"]), FoundValues::default(), ByteRows::default());
    b.values(id).get_batch(0, &keys, &[0, 1, 2, 0], &mut values).expect("get_batch");
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(&b"1"[..]), None, Some(b"e"), Some(b"1")]);
    put.push(&long);
    put.push(b"");
    b.values(id).put_batch(0, &keys, &[3, 1], &put).expect("put_batch");
    b.values(id).get_batch(0, &keys, &[1, 3], &mut values).expect("get_batch");
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(&b""[..]), Some(&long)]);
    put.clear();
    put.push(&vec![b'm'; 70_000]);
    b.values(id).put_batch(0, &keys, &[3], &put).expect("put_batch");
    b.values(id).get_batch(0, &keys, &[3], &mut values).expect("get_batch");
    assert_eq!(values.get(0), Some(put.get(0)), "a longer value takes the place of a shorter one");
    b.values(id).remove(0, at(b"a").group, b"a").expect("remove");
    b.values(id).remove(0, at(b"a").group, b"a").expect("removing what is not there is fine");
    assert_eq!(b.values(id).get(0, at(b"a").group, b"a").expect("get"), None);
    assert_eq!(
        b.values(id).get(-1, at(b"a").group, b"a").expect("get").as_deref(),
        Some(&b""[..]),
        "empty is not absent"
    );
}

pub(super) fn maps_are_ordered_and_scanned_by_prefix(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let id = register(b.as_mut(), "map", TableKind::Map);
    let group = at(b"k").group;
    for entry in [&b"b2"[..], b"a", b"b1", b"", b"b", b"c", b"b\xff"] {
        b.map(id).put(0, group, b"k", entry, entry).expect("put");
    }
    b.map(id).put(0, at(b"ka").group, b"ka", b"b0", b"other key").expect("put");
    b.map(id).put(1, group, b"k", b"b0", b"other namespace").expect("put");
    let scan = |b: &mut dyn StateBackend, prefix: &[u8], after: Option<&[u8]>, limit| {
        let mut entries = Vec::new();
        let range = MapRange { namespace: 0, group, key: b"k", prefix, after };
        let more = b.map(id).scan(range, limit, &mut entries).expect("scan");
        assert!(entries.iter().all(|(k, v)| **k == **v), "entries keep their values");
        (entries.into_iter().map(|e| e.0).collect::<Vec<_>>(), more)
    };
    let all: Vec<Vec<u8>> = [&b""[..], b"a", b"b", b"b1", b"b2", b"b\xff", b"c"].iter().map(|e| e.to_vec()).collect();
    assert_eq!(scan(b.as_mut(), b"", None, 100), (all.clone(), false));
    assert_eq!(scan(b.as_mut(), b"", None, 7), (all.clone(), false), "more means more, not `as many as asked`");
    assert_eq!(scan(b.as_mut(), b"", None, 2), (all[..2].to_vec(), true));
    assert_eq!(scan(b.as_mut(), b"", Some(b"a"), 2), (all[2..4].to_vec(), true));
    assert_eq!(scan(b.as_mut(), b"b", None, 100), (all[2..6].to_vec(), false));
    assert_eq!(scan(b.as_mut(), b"b", Some(b"b1"), 100), (all[4..6].to_vec(), false));
    assert_eq!(scan(b.as_mut(), b"b", Some(b"a"), 1), (all[2..3].to_vec(), true), "`after` before the prefix");
    assert_eq!(scan(b.as_mut(), b"b", Some(b"d"), 1), (vec![], false), "`after` behind the prefix");
    b.map(id).remove(0, group, b"k", b"b1").expect("remove");
    assert_eq!(b.map(id).get(0, group, b"k", b"b1").expect("get"), None);
    b.map(id).clear(0, group, b"k").expect("clear");
    assert_eq!(scan(b.as_mut(), b"", None, 100), (vec![], false));
    let other = b.map(id).get(0, at(b"ka").group, b"ka", b"b0").expect("get");
    assert_eq!(other.as_deref(), Some(&b"other key"[..]), "clearing a key leaves others");
    let other = b.map(id).get(1, group, b"k", b"b0").expect("get");
    assert_eq!(other.as_deref(), Some(&b"other namespace"[..]), "clearing a key leaves other namespaces");
}

fn count(rows: &mut dyn RowTable) -> usize {
    let mut slots = Vec::new();
    assert_eq!(rows.scan(0, 0, 1_000_000, &mut slots), None);
    slots.len()
}

pub(super) fn rows_expire(bed: &Bed<'_>) {
    for update_on_read in [false, true] {
        let mut b = bed.fresh();
        let ttl = Some(Ttl { ttl_ms: 100, update_on_read });
        let id = b.register(&descriptor("rows", TableKind::Rows { width: 8 }, ttl)).expect("register");
        let keys = batch(ids(100));
        let slots = resolve(b.as_mut(), id, &[0], &keys, true);
        b.rows(id).update(&slots, &mut |_, row| row[0] = 1);
        bed.clock.advance(60);
        assert!(resolve(b.as_mut(), id, &[0], &keys, false).iter().all(|s| *s != NO_SLOT), "not expired yet");
        b.rows(id).update(&slots[..10], &mut |_, row| row[0] += 1);
        bed.clock.advance(60);
        let expected = if update_on_read { 100 } else { 10 };
        assert_eq!(count(b.rows(id)), expected, "scans skip expired rows");
        let found = resolve(b.as_mut(), id, &[0], &keys, false);
        assert_eq!(found.iter().filter(|s| **s != NO_SLOT).count(), expected, "expired rows are absent");
        bed.clock.advance(101);
        let again = resolve(b.as_mut(), id, &[0], &keys, true);
        assert!(again.iter().all(|s| b.rows(id).row(*s) == [0; 8]), "expired rows begin at zero");
        assert_eq!(b.rows(id).len(), 100);
        bed.clock.advance(100_000);
        for i in 0..100u64 {
            resolve(b.as_mut(), id, &[0], &batch([(1_000 + i).to_be_bytes()]), true);
        }
        assert_eq!(b.rows(id).len(), 100, "expired rows are swept in the end");
    }
}

pub(super) fn values_and_maps_expire(bed: &Bed<'_>) {
    for update_on_read in [false, true] {
        let mut b = bed.fresh();
        let ttl = Some(Ttl { ttl_ms: 100, update_on_read });
        let values = b.register(&descriptor("values", TableKind::Values, ttl)).expect("register");
        let map = b.register(&descriptor("map", TableKind::Map, ttl)).expect("register");
        let group = at(b"k").group;
        b.values(values).put(0, group, b"k", b"v").expect("put");
        b.map(map).put(0, group, b"k", b"e", b"v").expect("put");
        bed.clock.advance(60);
        assert!(b.values(values).get(0, group, b"k").expect("get").is_some(), "not expired yet");
        let range = MapRange { namespace: 0, group, key: b"k", prefix: b"", after: None };
        let mut entries = Vec::new();
        b.map(map).scan(range, 10, &mut entries).expect("scan");
        assert_eq!(entries.len(), 1, "not expired yet");
        bed.clock.advance(60);
        let expected = usize::from(update_on_read);
        let mut listed = 0;
        b.values(values)
            .for_each(&mut |_, _, _, _| {
                listed += 1;
                Ok(())
            })
            .expect("for_each");
        assert_eq!(listed, expected, "expired values are not listed");
        entries.clear();
        b.map(map).scan(range, 10, &mut entries).expect("scan");
        assert_eq!(entries.len(), expected, "expired entries are not scanned");
        let found = b.values(values).get(0, group, b"k").expect("get");
        assert_eq!(found.is_some(), update_on_read, "expired values are absent");
        let found = b.map(map).get(0, group, b"k", b"e").expect("get");
        assert_eq!(found.is_some(), update_on_read, "expired entries are absent");
    }
}
