//! What stays and what goes: retention, shared files, aborted checkpoints, orphans, damage.

use flott_core::ErrorKind;
use flott_core::snapshot::{ChunkLocation, SubtaskState};

use super::*;

fn path(chunk: &ChunkRef) -> String {
    match &chunk.location {
        ChunkLocation::File { path, .. } => path.clone(),
        ChunkLocation::Inline(_) => panic!("inline"),
    }
}

#[test]
fn shared_files_live_as_long_as_a_retained_checkpoint_refers_to_them() {
    on_both(|s| {
        let job = open(&s, 2);
        job.begin_generation().unwrap();
        let base = put(&job, 1, ChunkScope::Shared, "base");
        let own = put(&job, 1, ChunkScope::Exclusive, "of one");
        job.publish(&metadata(1, vec![base.clone(), own.clone()])).unwrap();
        let delta = put(&job, 2, ChunkScope::Shared, "delta");
        job.publish(&metadata(2, vec![base.clone(), delta.clone()])).unwrap();
        assert_eq!(job.retire().unwrap(), []);
        job.publish(&metadata(3, vec![delta.clone()])).unwrap();
        assert_eq!(job.retire().unwrap(), [CheckpointId(1)]);
        let files = tree(&s);
        assert!(files.contains(&path(&base)) && !files.contains(&path(&own)), "{files:?}");
        job.publish(&metadata(4, vec![delta.clone()])).unwrap();
        assert_eq!(job.retire().unwrap(), [CheckpointId(2)]);
        assert_eq!(tree(&s), ["chk-3/_metadata".to_owned(), "chk-4/_metadata".to_owned(), path(&delta)]);
        assert_eq!(log_len(&s), 3);
        assert_eq!(job.chunk_reader().get(&delta).unwrap(), "delta");
    });
}

#[test]
fn a_checkpoint_that_the_user_named_outlives_newer_ones_and_others_do_not() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let base = put(&job, 1, ChunkScope::Shared, "base");
        job.publish(&metadata(1, vec![base.clone()])).unwrap();
        let again = open(&s, 1);
        again.begin_generation().unwrap();
        let point = again.choose_restore_point().unwrap().expect("checkpoint 1");
        again.keep(point.metadata.checkpoint);
        publish(&again, 2).unwrap();
        assert_eq!(again.retire().unwrap(), []);
        publish(&again, 3).unwrap();
        assert_eq!(again.retire().unwrap(), [CheckpointId(2)]);
        let files = tree(&s);
        assert!(files.contains(&"chk-1/_metadata".to_owned()) && files.contains(&path(&base)), "{files:?}");
        // The next start names nothing: now it is one of many.
        let third = open(&s, 1);
        third.begin_generation().unwrap();
        third.choose_restore_point().unwrap().expect("checkpoint 3");
        publish(&third, 4).unwrap();
        assert_eq!(third.retire().unwrap(), [CheckpointId(1), CheckpointId(3)]);
        assert!(!tree(&s).contains(&path(&base)));
    });
}

#[test]
fn a_dropped_shared_file_waits_for_checkpoints_in_flight_that_may_need_it() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let base = put(&job, 1, ChunkScope::Shared, "base");
        job.publish(&metadata(1, vec![base.clone()])).unwrap();
        // 2 and 3 are both built on 1; 2 compacts the file away.
        job.chunk_writer(CheckpointId(3)).unwrap();
        let compacted = put(&job, 2, ChunkScope::Shared, "compacted");
        job.publish(&metadata(2, vec![compacted])).unwrap();
        assert_eq!(job.retire().unwrap(), [CheckpointId(1)]);
        assert!(tree(&s).contains(&path(&base)));
        job.publish(&metadata(3, vec![base.clone()])).unwrap();
        job.retire().unwrap();
        assert!(tree(&s).contains(&path(&base)), "3 refers to it");
        publish(&job, 4).unwrap();
        job.retire().unwrap();
        assert!(!tree(&s).contains(&path(&base)));
    });
}

#[test]
fn an_aborted_checkpoint_leaves_nothing_and_its_writers_fail() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let kept = put(&job, 1, ChunkScope::Shared, "kept");
        job.publish(&metadata(1, vec![kept.clone()])).unwrap();
        let writer = job.chunk_writer(CheckpointId(2)).unwrap();
        writer.put(ChunkScope::Shared, "gone".into()).unwrap();
        writer.put(ChunkScope::Exclusive, "gone too".into()).unwrap();
        job.abort(CheckpointId(2));
        assert_eq!(tree(&s), ["chk-1/_metadata".to_owned(), path(&kept)]);
        assert_eq!(writer.put(ChunkScope::Shared, "late".into()).unwrap_err().code(), "checkpoint.aborted");
        assert_eq!(job.chunk_writer(CheckpointId(2)).err().unwrap().code(), "checkpoint.aborted");
        assert_eq!(tree(&s).len(), 2);
        job.abort(CheckpointId(1));
        assert_eq!((tree(&s).len(), chosen(&job)), (2, Some(1)), "a published one cannot be aborted");
    });
}

#[test]
fn discarding_a_late_state_spares_what_others_refer_to() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let kept = put(&job, 1, ChunkScope::Shared, "kept");
        job.publish(&metadata(1, vec![kept.clone()])).unwrap();
        let late = put(&job, 2, ChunkScope::Exclusive, "late");
        let state = metadata(2, vec![kept.clone(), late]).operators[0].subtasks[0].1.clone();
        job.discard(CheckpointId(2), &SubtaskState { operators: vec![state], ..SubtaskState::default() });
        assert_eq!(tree(&s), ["chk-1/_metadata".to_owned(), path(&kept)]);
    });
}

#[test]
fn savepoints_are_never_dropped() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        job.publish(&CheckpointMetadata { savepoint: true, ..metadata(1, Vec::new()) }).unwrap();
        for id in 2..5 {
            publish(&job, id).unwrap();
            job.retire().unwrap();
        }
        assert_eq!(tree(&s).iter().filter(|p| p.ends_with("_metadata")).count(), 2);
        job.discard_all(true).unwrap();
        assert_eq!(tree(&s), ["chk-1/_metadata"]);
        assert_eq!(chosen(&job), Some(1));
    });
}

#[test]
fn a_new_start_removes_what_dead_ones_left() {
    on_both(|s| {
        let dead = open(&s, 1);
        dead.begin_generation().unwrap();
        let kept = put(&dead, 1, ChunkScope::Shared, "kept");
        dead.publish(&metadata(1, vec![kept.clone()])).unwrap();
        put(&dead, 2, ChunkScope::Shared, "orphan");
        put(&dead, 2, ChunkScope::Exclusive, "orphan");
        s.put_new(&format!("{JOB}/chk-1/1-99-aa"), "straggler in a retained directory".into()).unwrap();
        s.put_new(&format!("{JOB}/shared/1-0-00.tmp-5"), "half".into()).unwrap();
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        assert_eq!(chosen(&job), Some(1));
        let own = put(&job, 9, ChunkScope::Exclusive, "in flight");
        assert_eq!(job.clean_up_orphans().unwrap(), Vec::<String>::new());
        assert_eq!(tree(&s), ["chk-1/_metadata".to_owned(), path(&own), path(&kept)]);
    });
}

#[test]
fn a_start_delayed_in_its_clean_up_spares_its_successor() {
    on_both(|s| {
        let (old, new) = (open(&s, 1), open(&s, 1));
        old.begin_generation().unwrap();
        new.begin_generation().unwrap();
        let chunk = put(&new, 1, ChunkScope::Shared, "of the successor");
        new.publish(&metadata(1, vec![chunk])).unwrap();
        let before = tree(&s);
        old.clean_up_orphans().unwrap();
        assert_eq!(tree(&s), before);
    });
}

#[test]
fn discarding_everything_keeps_the_fence() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        publish(&job, 1).unwrap();
        job.discard_all(false).unwrap();
        assert_eq!((tree(&s), log_len(&s)), (Vec::new(), 1));
        let next = open(&s, 1).begin_generation().unwrap();
        assert_eq!((next.number, next.next_checkpoint, next.has_checkpoints), (2, CheckpointId(2), false));
    });
}

fn damage(s: &Shared, path: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = s.get(path, None).unwrap().unwrap().to_vec();
    change(&mut bytes);
    s.delete(path).unwrap();
    s.put_new(path, bytes.into()).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_notice_and_the_last_one_is_refused() {
    on_both(|s| {
        let job = open(&s, 3);
        job.begin_generation().unwrap();
        for id in 1..=3 {
            publish(&job, id).unwrap();
        }
        damage(&s, &format!("{JOB}/chk-3/_metadata"), |b| b.truncate(30));
        s.delete(&format!("{JOB}/chk-2/_metadata")).unwrap();
        let next = open(&s, 3);
        next.begin_generation().unwrap();
        let point = next.choose_restore_point().unwrap().unwrap();
        assert_eq!((point.metadata.checkpoint.0, point.notices.len()), (1, 2));
        assert!(point.notices[0].contains("checkpoint 3") && point.notices[0].contains("truncated"), "{point:?}");
        let files = tree(&s).len();
        assert_eq!(next.clean_up_orphans().unwrap().len(), 1, "a notice: what damaged ones may need stays");
        assert_eq!(tree(&s).len(), files);
        damage(&s, &format!("{JOB}/chk-1/_metadata"), |b| *b.last_mut().unwrap() ^= 1);
        let e = next.choose_restore_point().unwrap_err();
        assert_eq!(
            (e.kind(), e.code()),
            (ErrorKind::Corrupt, "checkpoint.none-readable"),
            "never from nothing by accident"
        );
    });
}

#[test]
fn metadata_of_another_checkpoint_is_not_taken_for_this_one() {
    on_both(|s| {
        let job = open(&s, 2);
        job.begin_generation().unwrap();
        publish(&job, 1).unwrap();
        publish(&job, 2).unwrap();
        let other = s.get(&format!("{JOB}/chk-1/_metadata"), None).unwrap().unwrap();
        damage(&s, &format!("{JOB}/chk-2/_metadata"), |b| *b = other.to_vec());
        let point = open(&s, 2).choose_restore_point().unwrap().unwrap();
        assert_eq!(point.metadata.checkpoint.0, 1);
        assert!(point.notices[0].contains("not what was published"), "{point:?}");
    });
}

#[test]
fn a_damaged_log_is_refused() {
    on_both(|s| {
        let job = open(&s, 2);
        job.begin_generation().unwrap();
        publish(&job, 1).unwrap();
        damage(&s, &format!("{JOB}/log/{:020}", 2), |b| b.truncate(10));
        for e in [open(&s, 1).begin_generation().unwrap_err(), job.choose_restore_point().unwrap_err()] {
            assert_eq!((e.kind(), e.code()), (ErrorKind::Corrupt, "checkpoint.truncated"));
            assert!(e.message().contains("00000002"), "{e}");
        }
    });
}
