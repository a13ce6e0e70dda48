//! Tests of the memory backend beyond the contract: damage, cost of cuts, reuse of chunks. Never touches a disk.

use std::sync::Arc;

use bytes::Bytes;
use flott_core::error::ErrorKind;
use flott_core::ids::CheckpointId;
use flott_core::key_group::KeyGroupRange;
use flott_core::snapshot::{ChunkRef, ChunkScope, KeyedStateHandle};
use flott_core::state::{KeyBatch, StateBackend, TableDescriptor, TableKind, Ttl};
use flott_core::time::ManualClock;

use super::{MemoryBackendFactory, MemoryStateBackend};
use crate::testing::MemoryChunks;

const GROUPS: u32 = 16;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: GROUPS };

fn table(name: &str, kind: TableKind, ttl: Option<Ttl>) -> TableDescriptor {
    TableDescriptor { name: name.to_owned(), kind, schema: "s".to_owned(), ttl }
}

fn backend() -> MemoryStateBackend {
    MemoryStateBackend::new(ALL, GROUPS, ManualClock::at(0))
}

fn keys(range: std::ops::Range<u64>) -> KeyBatch {
    let mut keys = KeyBatch::default();
    range.for_each(|k| keys.push(&k.to_be_bytes(), GROUPS));
    keys
}

fn store(b: &mut MemoryStateBackend, checkpoint: u64, chunks: &MemoryChunks) -> KeyedStateHandle {
    b.snapshot(CheckpointId(checkpoint)).unwrap().unwrap().write(chunks).unwrap()
}

#[test]
fn the_contract_holds_incrementally_and_not() {
    for incremental in [true, false] {
        crate::contract::check(&|groups, max_parallelism, clock, handles, reader| {
            MemoryBackendFactory { clock, incremental }.create(groups, max_parallelism, handles, reader)
        });
    }
}

/// A backend with one table of each kind, with and without TTL, with a few entries.
fn small() -> MemoryStateBackend {
    let mut b = backend();
    for (prefix, ttl) in [("a", None), ("b", Some(Ttl { ttl_ms: 1_000, update_on_read: false }))] {
        let rows = b.register(&table(&format!("{prefix}rows"), TableKind::Rows { width: 3 }, ttl)).unwrap();
        let values = b.register(&table(&format!("{prefix}values"), TableKind::Values, ttl)).unwrap();
        let map = b.register(&table(&format!("{prefix}map"), TableKind::Map, ttl)).unwrap();
        let mut slots = Vec::new();
        b.rows(rows).resolve(&[4], &keys(0..5), true, &mut slots).unwrap();
        let mut odd = KeyBatch::default();
        [&b"x"[..], b"yy", b""].iter().for_each(|k| odd.push(k, GROUPS));
        b.rows(rows).resolve(&[9], &odd, true, &mut slots).unwrap();
        b.rows(rows).update(&slots, &mut |i, row| row[0] = i as u8 + 1);
        for i in 0..3 {
            b.values(values).put(0, odd.groups[i], odd.key(i), b"value").unwrap();
            b.map(map).put(0, odd.groups[i], odd.key(i), b"entry", b"value").unwrap();
        }
    }
    b
}

fn try_restore(handle: &KeyedStateHandle, chunks: &MemoryChunks) -> flott_core::Result<MemoryStateBackend> {
    let mut b = backend();
    b.restore(std::slice::from_ref(handle), chunks)?;
    Ok(b)
}

#[test]
fn every_flipped_byte_is_caught() {
    let chunks = MemoryChunks::new();
    let handle = store(&mut small(), 1, &chunks);
    assert!(try_restore(&handle, &chunks).is_ok());
    let good = chunks.raw(&handle.chunks[0]).unwrap();
    for i in 0..good.len() {
        for flip in [1, 0x80] {
            let mut bad = good.to_vec();
            bad[i] ^= flip;
            chunks.overwrite(&handle.chunks[0], Bytes::from(bad));
            let error = try_restore(&handle, &chunks).err().expect("a damaged chunk is refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {i}: {error}");
        }
    }
    chunks.overwrite(&handle.chunks[0], good);
    for i in 0..handle.descriptor.len() {
        let mut bad = handle.clone();
        let mut descriptor = handle.descriptor.to_vec();
        descriptor[i] ^= 1;
        bad.descriptor = descriptor.into();
        assert_eq!(try_restore(&bad, &chunks).err().unwrap().kind(), ErrorKind::Corrupt, "descriptor byte {i}");
    }
}

/// With checksums that fit, damaged bytes may be taken for other values, but never panic or run away with memory.
#[test]
fn damage_behind_a_fitting_checksum_never_panics() {
    let chunks = MemoryChunks::new();
    let handle = store(&mut small(), 1, &chunks);
    let good = chunks.raw(&handle.chunks[0]).unwrap();
    let attempt = |bytes: Vec<u8>| {
        let mut bad = handle.clone();
        bad.chunks =
            vec![ChunkRef { len: bytes.len() as u64, crc32: crc32fast::hash(&bytes), ..handle.chunks[0].clone() }];
        chunks.overwrite(&handle.chunks[0], bytes.into());
        try_restore(&bad, &chunks).err()
    };
    let mut refused = 0;
    for i in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.to_vec();
            bad[i] = value;
            if let Some(error) = attempt(bad) {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {i} = {value}: {error}");
                refused += 1;
            }
        }
        let error = attempt(good[..i].to_vec()).expect("a truncated chunk is refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {i}: {error}");
    }
    assert!(refused > good.len(), "structure is checked, not only sums: {refused} of {} refused", good.len() * 4);
    assert_eq!(attempt(b"PK\x03\x04 something else altogether".to_vec()).unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn foreign_handles_are_refused_with_a_reason() {
    let chunks = MemoryChunks::new();
    let handle = store(&mut small(), 1, &chunks);
    let mut other_format = handle.clone();
    other_format.format.1 += 1;
    assert_eq!(try_restore(&other_format, &chunks).err().unwrap().code(), "state.format");
    let mut b = MemoryStateBackend::new(ALL, GROUPS * 2, ManualClock::at(0));
    assert_eq!(b.restore(std::slice::from_ref(&handle), &chunks).unwrap_err().code(), "state.max_parallelism");
    let twice = [handle.clone(), handle.clone()];
    assert_eq!(backend().restore(&twice, &chunks).unwrap_err().kind(), ErrorKind::Corrupt, "the same keys twice");
    let mut no_chunks = handle;
    no_chunks.chunks.clear();
    assert_eq!(try_restore(&no_chunks, &chunks).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_cut_costs_references_per_segment_and_only_for_what_changed() {
    let chunks = MemoryChunks::new();
    let mut b = backend();
    let rows = b.register(&table("rows", TableKind::Rows { width: 8 }, None)).unwrap();
    let values = b.register(&table("values", TableKind::Values, None)).unwrap();
    let mut slots = Vec::new();
    b.rows(rows).resolve(&[0], &keys(0..100_000), true, &mut slots).unwrap();
    let some = keys(0..100_000);
    for i in 0..some.len() {
        b.values(values).put(0, some.groups[i], some.key(i), b"v").unwrap();
    }
    let segments = 100_000usize.div_ceil(4096);
    let first = store(&mut b, 1, &chunks);
    assert_eq!(b.last_cut_shares(), 2 * segments + 2 * segments);
    assert_eq!((first.written_bytes, first.chunks.len()), (first.chunks[0].len, 1));
    b.notify(CheckpointId(1), true);

    b.rows(rows).row_mut(slots[5])[0] = 1;
    b.values(values).put(0, some.groups[0], some.key(0), b"w").unwrap();
    let second = store(&mut b, 2, &chunks);
    assert_eq!(b.last_cut_shares(), 2 + 2, "one segment of each changed");
    assert!(second.written_bytes * 8 < first.written_bytes);
    assert!(second.chunks.contains(&first.chunks[0]) && second.chunks.len() == 2);
    assert!(second.chunks.iter().all(|c| c.scope == ChunkScope::Shared));
    assert_eq!(second.state_bytes, first.state_bytes);

    // The second was not confirmed: nothing may build on it.
    b.notify(CheckpointId(2), false);
    let third = store(&mut b, 3, &chunks);
    assert_eq!(b.last_cut_shares(), 2 + 2);
    assert!(!third.chunks.contains(&second.chunks[0]));
    b.notify(CheckpointId(3), true);
    let fourth = store(&mut b, 4, &chunks);
    assert_eq!((b.last_cut_shares(), fourth.written_bytes), (0, 0), "nothing changed");
    let mut listed = third.chunks;
    listed.sort_by_key(|c| c.crc32);
    let mut kept = fourth.chunks;
    kept.sort_by_key(|c| c.crc32);
    assert_eq!(kept, listed);
}

#[test]
fn full_checkpoints_own_all_their_chunks() {
    let chunks = MemoryChunks::new();
    let mut b = backend().with_incremental(false);
    let rows = b.register(&table("rows", TableKind::Rows { width: 8 }, None)).unwrap();
    let mut slots = Vec::new();
    b.rows(rows).resolve(&[0], &keys(0..10_000), true, &mut slots).unwrap();
    for checkpoint in 1..4 {
        let handle = store(&mut b, checkpoint, &chunks);
        b.notify(CheckpointId(checkpoint), true);
        assert!(handle.chunks.iter().all(|c| c.scope == ChunkScope::Exclusive));
        assert!(handle.written_bytes > handle.state_bytes, "all of it, and a header");
    }
}

#[test]
fn stored_bytes_stay_within_twice_the_state_and_chunks_stay_few() {
    let chunks = MemoryChunks::new();
    let mut b = backend();
    let rows = b.register(&table("rows", TableKind::Rows { width: 8 }, None)).unwrap();
    let mut slots = Vec::new();
    b.rows(rows).resolve(&[0], &keys(0..409_600), true, &mut slots).unwrap();
    for checkpoint in 1..=300u64 {
        let slot = slots[(checkpoint as usize * 7 % 100) * 4096];
        b.rows(rows).row_mut(slot)[0] ^= 1;
        let handle = store(&mut b, checkpoint, &chunks);
        b.notify(CheckpointId(checkpoint), true);
        chunks.retain(&handle.chunks);
        let stored: u64 = handle.chunks.iter().map(|c| c.len).sum();
        assert!(stored < 2 * handle.state_bytes + (1 << 20), "checkpoint {checkpoint}: {stored} stored");
        assert!(handle.chunks.len() <= 70, "checkpoint {checkpoint}: {} chunks", handle.chunks.len());
    }
}

#[test]
fn expired_entries_are_not_stored() {
    let chunks = MemoryChunks::new();
    let clock = ManualClock::at(0);
    let mut b = MemoryStateBackend::new(ALL, GROUPS, Arc::clone(&clock) as _);
    let ttl = Some(Ttl { ttl_ms: 100, update_on_read: false });
    let rows = b.register(&table("rows", TableKind::Rows { width: 8 }, ttl)).unwrap();
    let values = b.register(&table("values", TableKind::Values, ttl)).unwrap();
    let some = keys(0..1_000);
    let mut slots = Vec::new();
    b.rows(rows).resolve(&[0], &some, true, &mut slots).unwrap();
    for i in 0..some.len() {
        b.values(values).put(0, some.groups[i], some.key(i), b"value").unwrap();
    }
    let full = store(&mut b, 1, &chunks).state_bytes;
    clock.advance(100);
    b.rows(rows).resolve(&[0], &keys(0..1), true, &mut slots).unwrap();
    let handle = store(&mut b, 2, &chunks);
    assert!(handle.state_bytes * 20 < full, "{} of {full}", handle.state_bytes);
    let mut restored = MemoryStateBackend::new(ALL, GROUPS, clock);
    restored.restore(&[handle], &chunks).unwrap();
    let rows = restored.register(&table("rows", TableKind::Rows { width: 8 }, ttl)).unwrap();
    assert_eq!(restored.rows(rows).len(), 1);
}

#[test]
fn unregistered_tables_can_be_dropped() {
    let chunks = MemoryChunks::new();
    let handle = store(&mut small(), 1, &chunks);
    let mut b = try_restore(&handle, &chunks).unwrap();
    b.register(&table("arows", TableKind::Rows { width: 3 }, None)).unwrap();
    assert_eq!(b.unregistered_tables(), ["avalues", "amap", "brows", "bvalues", "bmap"]);
    assert!(!b.drop_unregistered("arows") && !b.drop_unregistered("nothing"));
    for name in b.unregistered_tables() {
        assert!(b.drop_unregistered(&name));
    }
    let less = store(&mut b, 2, &chunks);
    assert!(less.state_bytes * 3 < handle.state_bytes);
    assert_eq!(try_restore(&less, &chunks).unwrap().unregistered_tables(), ["arows"]);
}

#[test]
fn the_size_of_the_state_is_told_as_it_grows_and_shrinks() {
    let metrics = Arc::new(flott_core::metrics::OperatorMetrics::default());
    let mut b = backend().with_metrics(Arc::clone(&metrics));
    let rows = b.register(&table("rows", TableKind::Rows { width: 16 }, None)).unwrap();
    let values = b.register(&table("values", TableKind::Values, None)).unwrap();
    let mut slots = Vec::new();
    for i in 0..10 {
        b.rows(rows).resolve(&[i], &keys(0..1_000), true, &mut slots).unwrap();
    }
    b.snapshot(CheckpointId(1)).unwrap();
    let held = metrics.state_bytes.get();
    // 10,000 rows of 16 bytes under keys of 8, a hash of 8, a place of 8 in the index at most twice over, doubled by growth at worst.
    assert!((10_000 * 32..10_000 * 96).contains(&held), "{held}");
    let one = vec![7u8; 1_000];
    for i in 0..500u64 {
        let key = i.to_be_bytes();
        let group = flott_core::key_group::key_group_of(flott_core::key_group::key_hash(&key), GROUPS);
        b.values(values).put(0, group, &key, &one).unwrap();
    }
    // Told every so many accesses, without a checkpoint.
    assert!(metrics.state_bytes.get() > held + 400_000, "{}", metrics.state_bytes.get());
    for i in 0..10 {
        b.rows(rows).drop_namespace(i);
    }
    b.snapshot(CheckpointId(2)).unwrap();
    assert!(metrics.state_bytes.get() < 600_000, "{}", metrics.state_bytes.get());
    assert_eq!(metrics.state_bytes.get(), b.memory_bytes() as u64);
}
