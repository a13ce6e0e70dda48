//! Generations and publishing: who may, who is fenced, what a crash leaves.

use flott_core::ErrorKind;
use flott_core::snapshot::ChunkLocation;

use super::*;

#[test]
fn the_first_start_finds_nothing_and_the_second_the_last_checkpoint() {
    on_both(|s| {
        let job = open(&s, 1);
        let first = job.begin_generation().unwrap();
        assert_eq!((first.number, first.next_checkpoint, first.has_checkpoints), (1, CheckpointId(1), false));
        assert_eq!((chosen(&job), job.has_published().unwrap()), (None, false));
        let chunk = put(&job, 1, ChunkScope::Exclusive, "some bytes");
        let published = job.publish(&metadata(1, vec![chunk.clone()])).unwrap();
        assert_eq!(published.path, format!("{}/{JOB}/chk-1", s.endpoint()));
        let again = open(&s, 1);
        let second = again.begin_generation().unwrap();
        assert!(job.has_published().unwrap() && !again.has_published().unwrap());
        assert_eq!((second.number, second.next_checkpoint, second.has_checkpoints), (2, CheckpointId(2), true));
        let point = again.choose_restore_point().unwrap().unwrap();
        assert_eq!((point.metadata.generation, point.notices.len()), (1, 0));
        assert_eq!(point.chunk_reader().get(&chunk).unwrap(), "some bytes");
    });
}

#[test]
fn an_older_generation_is_fenced() {
    on_both(|s| {
        let (old, new) = (open(&s, 1), open(&s, 1));
        old.begin_generation().unwrap();
        publish(&old, 1).unwrap();
        new.begin_generation().unwrap();
        let e = publish(&old, 2).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Fenced, "{e}");
        assert!(e.to_string().contains("generation 1") && e.to_string().contains("newest is 2"), "{e}");
        publish(&new, 3).unwrap();
        assert_eq!(publish(&old, 4).unwrap_err().kind(), ErrorKind::Fenced, "for ever");
        assert_eq!(chosen(&new), Some(3));
        assert_eq!(old.discard_all(false).unwrap_err().kind(), ErrorKind::Fenced);
    });
}

#[test]
fn an_older_generation_is_fenced_even_where_the_log_was_truncated() {
    on_both(|s| {
        let (old, new) = (open(&s, 1), open(&s, 1));
        old.begin_generation().unwrap();
        publish(&old, 1).unwrap();
        new.begin_generation().unwrap();
        open(&s, 1).begin_generation().unwrap();
        let newest = open(&s, 1);
        newest.begin_generation().unwrap();
        publish(&newest, 2).unwrap();
        assert_eq!(newest.retire().unwrap(), [CheckpointId(1)]);
        assert_eq!(log_len(&s), 2, "the newest fence and the checkpoint");
        // The number that `old` wants is free again.
        assert_eq!(publish(&old, 7).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!((log_len(&s), chosen(&newest)), (2, Some(2)));
    });
}

#[test]
fn without_the_fence_an_older_generation_publishes() {
    on_both(|s| {
        let unfenced = StorageOptions { fence_disabled: true, ..options(1) };
        let old = CheckpointDirectory::on(Box::new(s.clone()), unfenced).unwrap().job(JOB);
        old.begin_generation().unwrap();
        open(&s, 1).begin_generation().unwrap();
        publish(&old, 1).unwrap();
    });
}

#[test]
fn racing_starts_get_different_generations_and_one_survives() {
    on_both(|s| {
        let jobs: Vec<JobStorage> = (0..6).map(|_| open(&s, 1)).collect();
        let mut generations: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs.iter().map(|j| scope.spawn(|| j.begin_generation().unwrap().number)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let newest = generations.iter().position(|g| *g == 6).unwrap();
        let published: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                jobs.iter().enumerate().map(|(i, j)| scope.spawn(move || publish(j, 10 + i as u64).is_ok())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        generations.sort_unstable();
        assert_eq!(generations, [1, 2, 3, 4, 5, 6]);
        assert_eq!(published.iter().filter(|p| **p).count(), 1);
        assert!(published[newest]);
    });
}

#[test]
fn what_was_not_published_does_not_exist() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        publish(&job, 1).unwrap();
        // Killed between metadata and log.
        let chunk = put(&job, 2, ChunkScope::Shared, "written");
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = job.publish_at(&metadata(2, vec![chunk]), &mut |at| {
                if at == "metadata-written" {
                    panic!("killed");
                }
            });
        }));
        assert!(killed.is_err());
        let next = open(&s, 1);
        let generation = next.begin_generation().unwrap();
        assert_eq!((chosen(&next), generation.next_checkpoint), (Some(1), CheckpointId(3)), "no id twice");
        next.clean_up_orphans().unwrap();
        assert!(tree(&s).iter().all(|p| p.starts_with("chk-1/")), "{:?}", tree(&s));
        // Also when the start that saw the orphan published nothing.
        assert_eq!(open(&s, 1).begin_generation().unwrap().next_checkpoint, CheckpointId(3));
    });
}

#[test]
fn a_metadata_file_of_an_older_start_is_not_overwritten() {
    on_both(|s| {
        let (old, new) = (open(&s, 1), open(&s, 1));
        old.begin_generation().unwrap();
        new.begin_generation().unwrap();
        assert_eq!(publish(&old, 5).unwrap_err().kind(), ErrorKind::Fenced);
        let e = publish(&new, 5).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Retry, "checkpoint.metadata-exists"));
        new.abort(CheckpointId(5));
        publish(&new, 6).unwrap();
        assert_eq!(publish(&old, 6).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(chosen(&new), Some(6));
    });
}

#[test]
fn small_chunks_are_inlined_and_all_are_verified() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let small = put(&job, 1, ChunkScope::Shared, "abc");
        assert!(matches!(small.location, ChunkLocation::Inline(_)));
        let large = put(&job, 1, ChunkScope::Shared, "abcd");
        let reader = job.chunk_reader();
        assert_eq!((reader.get(&small).unwrap(), reader.get(&large).unwrap()), ("abc".into(), "abcd".into()));
        let code = |c: &ChunkRef| reader.get(c).unwrap_err().code();
        assert_eq!(code(&ChunkRef { crc32: 1, ..large.clone() }), "checkpoint.chunk");
        assert_eq!(code(&ChunkRef { len: 5, ..large.clone() }), "checkpoint.chunk");
        assert_eq!(code(&ChunkRef { len: 2, ..small.clone() }), "checkpoint.chunk");
        let at = |path: &str| ChunkLocation::File { path: path.to_owned(), offset: 0 };
        assert_eq!(code(&ChunkRef { location: at("shared/none"), ..large.clone() }), "checkpoint.missing");
        assert_eq!(code(&ChunkRef { location: at("../x"), ..large }), "checkpoint.chunk-path");
    });
}

#[test]
fn metadata_that_refers_to_unknown_files_is_not_published() {
    on_both(|s| {
        let job = open(&s, 1);
        job.begin_generation().unwrap();
        let mut chunk = put(&job, 1, ChunkScope::Shared, "mine");
        chunk.location = ChunkLocation::File { path: "shared/of-another-job".to_owned(), offset: 0 };
        assert_eq!(job.publish(&metadata(1, vec![chunk])).unwrap_err().kind(), ErrorKind::Bug);
        assert_eq!(chosen(&job), None);
    });
}
