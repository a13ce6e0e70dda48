//! Laws of cuts, checkpoints and restores. Never looks at the bytes of a chunk.

use std::collections::BTreeMap;

use flott_core::error::ErrorKind;
use flott_core::ids::CheckpointId;
use flott_core::key_group::KeyGroupRange;
use flott_core::snapshot::KeyedStateHandle;
use flott_core::state::{StateBackend, TableKind};

use super::{ALL, Bed, Contents, MAX_PARALLELISM, Random, Trio, at, batch, descriptor, register, resolve};

pub(super) fn an_untouched_backend_has_nothing_to_snapshot(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    assert!(b.snapshot(CheckpointId(1)).expect("cut").is_none(), "nothing was ever registered");
    register(b.as_mut(), "rows", TableKind::Rows { width: 8 });
    assert!(b.snapshot(CheckpointId(2)).expect("cut").is_some(), "an empty table is a table");
}

pub(super) fn a_cut_is_isolated_from_later_writes(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let trio = Trio::register(b.as_mut());
    let (mut model, mut random) = (Contents::default(), Random(1));
    (0..30).for_each(|_| trio.shake(b.as_mut(), &mut model, &mut random, ALL));
    let at_the_cut = model.clone();
    let cut = b.snapshot(CheckpointId(1)).expect("cut").expect("there is state");
    (0..30).for_each(|_| trio.shake(b.as_mut(), &mut model, &mut random, ALL));
    let second = b.snapshot(CheckpointId(2)).expect("cut").expect("there is state");
    let at_the_second = model.clone();
    // The cuts are written on other threads while the owner goes on.
    let chunks = &bed.chunks;
    std::thread::scope(|s| {
        let first = s.spawn(|| cut.write(chunks).expect("write"));
        let second = s.spawn(|| second.write(chunks).expect("write"));
        (0..30).for_each(|_| trio.shake(b.as_mut(), &mut model, &mut random, ALL));
        for (handle, expected) in [(first, at_the_cut), (second, at_the_second)] {
            let handle = handle.join().expect("the writer does not panic");
            let mut restored = bed.restored(ALL, &[handle]);
            let trio = Trio::register(restored.as_mut());
            assert_eq!(trio.contents(restored.as_mut()), expected, "a cut holds the state as of the cut");
        }
    });
    assert_eq!(trio.contents(b.as_mut()), model, "the owner goes on undisturbed");
}

/// A job's life: checkpoints are confirmed or aborted at random, only the last confirmed one is retained, and now and then
/// the job is restored from it.
pub(super) fn checkpoints_restore_whatever_was_confirmed_or_aborted(bed: &Bed<'_>) {
    for seed in 1..=6u64 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut b = bed.fresh();
        let mut trio = Trio::register(b.as_mut());
        let mut model = Contents::default();
        let mut last: Option<(KeyedStateHandle, Contents)> = None;
        for checkpoint in 1..=40 {
            trio.shake(b.as_mut(), &mut model, &mut random, ALL);
            let handle = bed.store(b.as_mut(), checkpoint);
            assert!(handle.written_bytes <= handle.chunks.iter().map(|c| c.len).sum(), "all written chunks are listed");
            match random.below(4) {
                0 => b.notify(CheckpointId(checkpoint), false),
                // Published, but the news never arrives.
                1 => last = Some((handle, model.clone())),
                _ => {
                    last = Some((handle, model.clone()));
                    b.notify(CheckpointId(checkpoint), true);
                }
            }
            if let Some((handle, _)) = &last {
                bed.chunks.retain(&handle.chunks);
            }
            if random.below(6) == 0 {
                let handles: Vec<KeyedStateHandle> = last.iter().map(|(h, _)| h.clone()).collect();
                b = bed.restored(ALL, &handles);
                trio = Trio::register(b.as_mut());
                model = last.as_ref().map(|(_, m)| m.clone()).unwrap_or_default();
                assert_eq!(trio.contents(b.as_mut()), model, "seed {seed}, checkpoint {checkpoint}");
            }
        }
    }
}

/// Two checkpoints run at once and are decided in order; the store keeps what the last published one and the undecided ones
/// list, and deletes a published one's chunks as soon as the next is published.
pub(super) fn overlapping_checkpoints_survive_each_others_retirement(bed: &Bed<'_>) {
    for seed in 1..=6u64 {
        let mut random = Random(seed * 0x51_7cc1);
        let mut b = bed.fresh();
        let trio = Trio::register(b.as_mut());
        let mut model = Contents::default();
        let mut undecided: BTreeMap<u64, (KeyedStateHandle, Contents)> = BTreeMap::new();
        let mut retained: Option<KeyedStateHandle> = None;
        for checkpoint in 1..=40 {
            if random.below(3) > 0 {
                trio.shake(b.as_mut(), &mut model, &mut random, ALL);
            }
            let handle = bed.store(b.as_mut(), checkpoint);
            undecided.insert(checkpoint, (handle, model.clone()));
            if undecided.len() < 3 && random.below(2) == 0 {
                continue;
            }
            let Some((decided, (handle, expected))) = undecided.pop_first() else { continue };
            let published = random.below(4) > 0;
            if published {
                let mut restored = bed.restored(ALL, std::slice::from_ref(&handle));
                let trio = Trio::register(restored.as_mut());
                assert_eq!(trio.contents(restored.as_mut()), expected, "seed {seed}, checkpoint {decided}");
                // Only chunks written by undecided checkpoints live beside those of the one now retained.
                let listed = undecided.values().flat_map(|(h, _)| &h.chunks);
                let newer = listed.filter(|c| retained.as_ref().is_none_or(|r| !r.chunks.contains(c)));
                bed.chunks.retain(handle.chunks.iter().chain(newer));
                retained = Some(handle);
            }
            b.notify(CheckpointId(decided), published);
        }
    }
}

pub(super) fn state_is_rescaled_from_1_to_3_to_2(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let trio = Trio::register(b.as_mut());
    let (mut model, mut random) = (Contents::default(), Random(3));
    (0..30).for_each(|_| trio.shake(b.as_mut(), &mut model, &mut random, ALL));
    let mut handles = vec![bed.store(b.as_mut(), 1)];
    for (checkpoint, parallelism) in [(2, 3), (3, 2)] {
        let mut next = Vec::new();
        let mut whole = Contents::default();
        for index in 0..parallelism {
            let groups = KeyGroupRange::of_subtask(MAX_PARALLELISM, parallelism, index);
            let mut part = bed.restored(groups, &handles);
            let trio = Trio::register(part.as_mut());
            let mut expected = model.within(groups);
            assert_eq!(trio.contents(part.as_mut()), expected, "subtask {index} of {parallelism} holds its key groups");
            trio.shake(part.as_mut(), &mut expected, &mut random, groups);
            let handle = bed.store(part.as_mut(), checkpoint);
            assert_eq!(handle.key_groups, groups);
            next.push(handle);
            whole.rows.extend(expected.rows);
            whole.values.extend(expected.values);
            whole.map.extend(expected.map);
            whole.lists.extend(expected.lists);
        }
        (handles, model) = (next, whole);
    }
    let mut b = bed.restored(ALL, &handles);
    let trio = Trio::register(b.as_mut());
    assert_eq!(trio.contents(b.as_mut()), model, "rescaling loses nothing");
}

pub(super) fn another_schema_is_refused_with_both_texts(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    register(b.as_mut(), "t", TableKind::Rows { width: 8 });
    let twice = b.register(&descriptor("t", TableKind::Rows { width: 8 }, None));
    assert!(twice.is_err(), "a name is registered once");
    let handle = bed.store(b.as_mut(), 1);
    let mut asked = descriptor("t", TableKind::Rows { width: 8 }, None);
    asked.schema = "something else".to_owned();
    let kinds = [TableKind::Rows { width: 16 }, TableKind::Values, TableKind::Map];
    let wrong = kinds.map(|kind| descriptor("t", kind, None)).into_iter().chain([asked]);
    for asked in wrong {
        let mut b = bed.restored(ALL, std::slice::from_ref(&handle));
        let error = b.register(&asked).expect_err("the schema does not fit");
        assert_eq!((error.kind(), error.code()), (ErrorKind::User, "state.schema"));
        let detail = error.detail_text().expect("it says what was found");
        assert!(detail.contains("`test`") && detail.contains(&asked.schema), "both texts are given: {detail}");
        assert!(error.hint_text().is_some(), "it says what to do");
    }
}

pub(super) fn unregistered_tables_are_carried_over(bed: &Bed<'_>) {
    let mut b = bed.fresh();
    let rows = register(b.as_mut(), "kept rows", TableKind::Rows { width: 1 });
    let values = register(b.as_mut(), "kept values", TableKind::Values);
    let slots = resolve(b.as_mut(), rows, &[3], &batch([b"key"]), true);
    b.rows(rows).row_mut(slots[0])[0] = 42;
    b.values(values).put(0, at(b"key").group, b"key", b"value").expect("put");
    let mut handle = bed.store(b.as_mut(), 1);
    for checkpoint in 2..5 {
        let mut other = bed.restored(ALL, &[handle]);
        handle = bed.store(other.as_mut(), checkpoint);
    }
    let mut b: Box<dyn StateBackend> = bed.restored(ALL, &[handle]);
    let rows = register(b.as_mut(), "kept rows", TableKind::Rows { width: 1 });
    let values = register(b.as_mut(), "kept values", TableKind::Values);
    let slots = resolve(b.as_mut(), rows, &[3], &batch([b"key"]), false);
    assert_eq!(b.rows(rows).row(slots[0]), [42]);
    let value = b.values(values).get(0, at(b"key").group, b"key").expect("get");
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
}
