//! Random events never break an invariant of the coordinator. Protocol scripts are in `tests/scripts/`.

use std::collections::BTreeMap;

use flott_core::snapshot::{SubtaskCheckpointStats, SubtaskState};
use flott_core::{CheckpointId, Error, SubtaskId, VertexId};

use super::*;

/// A small generator: the same seed, the same events.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn subtask(i: u64) -> SubtaskId {
    SubtaskId { vertex: VertexId(u128::from(i / 2)), index: (i % 2) as u32 }
}

fn options(r: &mut Random) -> CheckpointOptions {
    CheckpointOptions {
        interval_ms: (r.below(4) > 0).then(|| 1 + r.below(100) as i64),
        min_pause_ms: r.of(&[0, 0, 30]),
        timeout_ms: 1 + r.below(1_000) as i64,
        max_concurrent: r.of(&[0, 1, 1, 2, 5]),
        tolerable_failures: r.of(&[0, 1, 3, u32::MAX]),
        at_least_once: r.below(2) == 0,
        unaligned_after_ms: r.of(&[None, Some(0), Some(1_000)]),
        checkpoints_after_tasks_finish: r.below(4) > 0,
        slow_ms: None,
        history_size: r.of(&[0, 1, 10]),
    }
}

fn event(r: &mut Random, c: &CheckpointCoordinator, subtasks: u64) -> Event {
    // Mostly a checkpoint that exists, sometimes one that does not.
    let known: Vec<CheckpointId> = c.pending().collect();
    let id = match known.len() as u64 {
        0 => CheckpointId(r.below(10)),
        n => {
            if r.below(10) == 0 {
                CheckpointId(r.below(30))
            } else {
                known[r.below(n) as usize]
            }
        }
    };
    let from = subtask(r.below(subtasks + 1));
    match r.below(100) {
        0..=2 => Event::Started { subtasks: (0..subtasks).map(subtask).collect() },
        3..=24 => Event::Tick,
        25..=27 => Event::ManualTrigger { savepoint: r.below(2) == 0 },
        28..=42 => Event::CoordinatorState { checkpoint: id, states: Vec::new() },
        43 => Event::CaptureFailed { checkpoint: id, message: String::new() },
        44..=75 => Event::Ack {
            subtask: from,
            checkpoint: id,
            state: SubtaskState::default(),
            stats: SubtaskCheckpointStats::default(),
        },
        76..=78 => {
            Event::Declined { subtask: from, checkpoint: id, reason: r.of(FailureReason::ALL), message: String::new() }
        }
        79..=92 => Event::Published {
            checkpoint: c.publishing().unwrap_or(id),
            result: match r.below(6) {
                0 => Err(Error::retry("storage.io", "gone")),
                1 if r.below(5) == 0 => Err(Error::fenced("newer")),
                _ => Ok(Published { path: String::new(), metadata_bytes: 1 }),
            },
        },
        93..=97 => Event::SubtaskReachedEnd { subtask: from },
        98 => Event::Suspended,
        _ if r.below(20) == 0 => Event::Stop,
        _ => Event::Tick,
    }
}

#[test]
fn random_events_never_break_an_invariant() {
    let (mut completed, mut finals, mut failed_jobs) = (0, 0, 0);
    for seed in 0..2_000 {
        let mut r = Random(seed);
        let subtasks = 1 + r.below(4);
        let mut c = CheckpointCoordinator::new(options(&mut r), CheckpointId(1), BTreeMap::new());
        let (mut now, mut notified) = (0, Vec::new());
        for n in 0..150 {
            now += r.below(40) as i64;
            let event = event(&mut r, &c, subtasks);
            let told = format!("{event:?}");
            for action in c.step(now, event) {
                match action {
                    Action::NotifyCompleted(id) => notified.push(id),
                    Action::FinalCheckpointCompleted(id) => {
                        assert_eq!(notified.last(), Some(&id), "seed {seed}: final before completed");
                        finals += 1;
                    }
                    Action::FailJob(_) => failed_jobs += 1,
                    Action::Publish(p) => assert_eq!(p.subtasks.len() as u64, subtasks, "seed {seed} event {n}"),
                    Action::NotifyAborted(id) => assert!(!notified.contains(&id), "seed {seed}: {id} completed"),
                    Action::WakeAt(at) => assert!(at > now, "seed {seed} event {n}: a wake in the past after {told}"),
                    _ => {}
                }
            }
            if let Err(broken) = c.check_invariants() {
                panic!("seed {seed} event {n} at {now}: {broken} after {told}");
            }
            let counts = c.stats().counts();
            assert_eq!(counts.total, c.next_id().0 - 1, "seed {seed} event {n}: every id is in the statistics");
        }
        let mut once = notified.clone();
        once.dedup();
        assert_eq!(once, notified, "seed {seed}: notified twice");
        completed += notified.len();
    }
    assert!(completed > 500 && finals > 20 && failed_jobs > 100, "{completed} {finals} {failed_jobs}");
}

/// Whatever fails, as long as the driver goes on, the job that has read all its data gets its final checkpoint or fails.
#[test]
fn a_final_checkpoint_is_never_lost() {
    for seed in 0..500 {
        let mut r = Random(seed);
        let options = CheckpointOptions { tolerable_failures: 3, timeout_ms: 50, ..options(&mut r) };
        let mut c = CheckpointCoordinator::new(options, CheckpointId(1), BTreeMap::new());
        c.step(0, Event::Started { subtasks: vec![subtask(0)] });
        let mut todo = c.step(1, Event::SubtaskReachedEnd { subtask: subtask(0) });
        let (mut now, mut done) = (1, false);
        for _ in 0..2_000 {
            let event = match todo.pop() {
                Some(Action::FinalCheckpointCompleted(_) | Action::FailJob(_)) => {
                    done = true;
                    break;
                }
                Some(Action::CaptureCoordinatorState { checkpoint }) if r.below(3) > 0 => {
                    Event::CoordinatorState { checkpoint, states: Vec::new() }
                }
                Some(Action::TriggerSources(b)) if r.below(3) > 0 => Event::Ack {
                    subtask: subtask(0),
                    checkpoint: b.checkpoint,
                    state: SubtaskState::default(),
                    stats: SubtaskCheckpointStats::default(),
                },
                Some(Action::Publish(p)) => Event::Published {
                    checkpoint: p.checkpoint,
                    result: match r.below(3) {
                        0 => Ok(Published { path: String::new(), metadata_bytes: 0 }),
                        _ => Err(Error::retry("storage.io", "gone")),
                    },
                },
                Some(_) => continue,
                None => {
                    now += 10;
                    Event::Tick
                }
            };
            todo.extend(c.step(now, event));
        }
        assert!(done, "seed {seed}: {c:?}");
    }
}

/// Recorded from Flink 2.3 by calling its class.
#[test]
fn the_reasons_that_count_are_flinks() {
    let counting: Vec<&str> = FailureReason::ALL.iter().filter(|r| r.counts()).map(|r| r.name()).collect();
    let expected =
        "IO_EXCEPTION CHECKPOINT_ASYNC_EXCEPTION CHECKPOINT_EXPIRED CHECKPOINT_DECLINED FINALIZE_CHECKPOINT_FAILURE";
    assert_eq!(counting.join(" "), expected);
    assert_eq!(FailureReason::ALL.len(), 24);
}
