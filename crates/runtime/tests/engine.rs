//! Whole jobs on the engine: threads and simulator, checkpoints, restore, backpressure, cancelling, panics.

#[allow(dead_code, reason = "each of the engine's tests uses a part of it")]
mod kit;

use std::sync::Arc;

use flott_core::operator::Notification;
use flott_core::task::TaskCommand;
use flott_core::time::{ManualClock, SystemClock};
use flott_runtime::{TaskProgress, spawn_task};
use kit::{Job, JobSpec, Mode, SINK, SUM, build};

/// Runs a job on threads until every task has ended.
fn run_threads(job: Job) -> Vec<String> {
    let threads: Vec<_> = job.tasks.into_iter().map(|t| spawn_task(t).expect("a thread")).collect();
    job.coordinator.wait("the job ends", |c| c.is_over());
    threads.into_iter().for_each(|t| t.join().expect("a task's thread does not panic"));
    job.coordinator.log()
}

/// A small generator of numbers: xorshift.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Runs tasks one at a time in an order that the seed decides; stops when all have ended or `stop` says so. Panics with the seed
/// when nothing can go on.
fn simulate(job: &mut Job, clock: &ManualClock, seed: u64, stop: impl Fn(&Job) -> bool) {
    let mut random = Seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let n = job.tasks.len() as u64;
    for _ in 0..2_000_000u64 {
        if job.coordinator.is_over() || stop(job) {
            return;
        }
        let i = random.below(n) as usize;
        let budget = 1 + random.below(5) as usize;
        let progress = job.tasks[i].run(budget);
        if !matches!(progress, TaskProgress::Working) && random.below(4) == 0 {
            clock.advance(1);
        }
    }
    panic!("seed {seed}: the job does not end: {:?}", job.coordinator.log());
}

fn simulated(sources: u32, sums: u32, rows: i64) -> (JobSpec, Arc<ManualClock>) {
    let clock = ManualClock::at(1_000);
    (JobSpec::new(sources, sums, rows, clock.clone()), clock)
}

#[test]
fn two_tasks_on_threads_end_with_every_row_committed_once() {
    let spec = JobSpec::new(1, 1, 500, SystemClock::shared());
    let log = run_threads(build(&spec, Mode::Run, None));
    assert_eq!(log, ["finished"; 2]);
    assert_eq!(spec.result(), spec.expected());
}

#[test]
fn four_tasks_on_threads_with_checkpoints_all_the_time() {
    let spec = JobSpec::new(2, 2, 5_000, SystemClock::shared());
    let job = build(&spec, Mode::Checkpoints, None);
    let coordinator = Arc::clone(&job.coordinator);
    let metrics = job.metrics.clone();
    assert_eq!(run_threads(job), ["finished"; 4]);
    assert_eq!(spec.result(), spec.expected());
    assert!(coordinator.published().len() > 1, "checkpoints passed before the final one");
    let rows: Vec<u64> = metrics.iter().map(|m| m.records_out.get()).collect();
    assert_eq!(rows[0] + rows[1], 5_000, "what the sources gave");
    assert_eq!(rows[2] + rows[3], 10, "what the sinks were given");
    assert!(metrics.iter().all(|m| m.busy_ns.get() > 0 && m.watermark() == i64::MAX));
}

#[test]
fn every_order_of_the_simulator_gives_what_the_threads_give() {
    let threaded = JobSpec::new(2, 3, 700, SystemClock::shared());
    run_threads(build(&threaded, Mode::Checkpoints, None));
    for seed in 0..40 {
        let (spec, clock) = simulated(2, 3, 700);
        let mut job = build(&spec, Mode::Checkpoints, None);
        simulate(&mut job, &clock, seed, |_| false);
        assert_eq!(job.coordinator.log(), ["finished"; 5], "seed {seed}");
        assert_eq!(spec.result(), threaded.result(), "seed {seed}");
    }
}

#[test]
fn a_job_restored_from_any_checkpoint_commits_every_row_once() {
    for seed in 0..30u64 {
        let (mut spec, clock) = simulated(2, 2, 900);
        let mut job = build(&spec, Mode::Checkpoints, None);
        // The process dies somewhere: after a number of checkpoints that the seed decides, at any point of the next one.
        let wanted = 1 + seed as usize % 4;
        simulate(&mut job, &clock, seed, |j| j.coordinator.published().len() >= wanted);
        let published = job.coordinator.published();
        drop(job);
        let (checkpoint, restore) = published.last().expect("waited for it");
        // Other parallelism, same rows.
        (spec.sources, spec.sums, spec.attempt) = (1, 3, 1);
        let mut job = build(&spec, Mode::Checkpoints, Some(restore));
        simulate(&mut job, &clock, seed + 1, |_| false);
        assert_eq!(job.coordinator.log(), ["finished"; 4], "seed {seed}, from checkpoint {checkpoint}");
        assert_eq!(spec.result(), spec.expected(), "seed {seed}, from checkpoint {checkpoint}");
        assert!(restore.states(SUM).iter().any(|s| s.keyed.is_some()), "seed {seed}: sums were in the checkpoint");
    }
}

#[test]
fn a_job_killed_between_publish_and_commit_commits_after_the_restore() {
    let (mut spec, clock) = simulated(1, 2, 300);
    let mut job = build(&spec, Mode::Run, None);
    simulate(&mut job, &clock, 3, |j| !j.coordinator.published().is_empty());
    // The final checkpoint is published and no sink task has run since.
    let published = job.coordinator.published();
    drop(job);
    let pending =
        published[0].1.states(SINK).iter().flat_map(|s| &s.operator_state).map(|e| e.items.len()).sum::<usize>();
    assert!(pending > 0, "the checkpoint holds what is to be committed");
    spec.attempt = 1;
    let mut job = build(&spec, Mode::Run, Some(&published[0].1));
    simulate(&mut job, &clock, 4, |_| false);
    assert_eq!(spec.result(), spec.expected());
    assert_eq!(spec.committed.lock().expect("no test panics while it holds this").clean_ups, 4);
}

#[test]
fn a_commit_that_fails_for_a_while_is_tried_again_before_the_job_ends() {
    let (spec, clock) = simulated(1, 1, 100);
    spec.committed.lock().expect("no test panics while it holds this").failures = 3;
    let mut job = build(&spec, Mode::Run, None);
    simulate(&mut job, &clock, 5, |_| false);
    assert_eq!(job.coordinator.log(), ["finished"; 2]);
    assert_eq!(spec.result(), spec.expected());
    let (spec, clock) = simulated(1, 1, 100);
    spec.committed.lock().expect("no test panics while it holds this").failures = 100;
    let mut job = build(&spec, Mode::Run, None);
    simulate(&mut job, &clock, 5, |_| false);
    let log = job.coordinator.log().join("\n");
    assert!(log.contains("operator \"sink\": a commit failed 5 times: not now"), "{log}");
}

#[test]
fn a_panic_fails_the_job_with_the_operators_name_and_the_process_lives() {
    let mut spec = JobSpec::new(2, 2, 1_000, SystemClock::shared());
    spec.panic_at = Some(321);
    let log = run_threads(build(&spec, Mode::Checkpoints, None)).join("\n");
    assert!(log.contains("operator \"poison\": panicked: cannot digest 321"), "{log}");
    assert_eq!(log.matches("canceled").count(), 3, "{log}");
    assert!(spec.result().is_empty(), "nothing was committed: {:?}", spec.result());
}

#[test]
fn a_slow_consumer_holds_the_source_back() {
    let (spec, _clock) = simulated(1, 1, 100_000);
    let mut job = build(&spec, Mode::Run, None);
    job.tasks[1].run(1);
    let mut last = TaskProgress::Working;
    for _ in 0..1_000 {
        last = job.tasks[0].run(100);
    }
    assert!(matches!(last, TaskProgress::Backpressured { .. }), "{last:?}");
    let read = job.metrics[0].records_in.get();
    assert!(read < 200, "the source read {read} rows although nobody takes them");
    job.tasks[1].run(1_000);
    assert!(matches!(job.tasks[0].run(1), TaskProgress::Working), "room downstream sets it free");
}

#[test]
fn a_cancelled_job_stops_at_once_also_when_idle_or_backpressured() {
    for mode in [Mode::Silent, Mode::Checkpoints] {
        let spec = JobSpec::new(2, 2, 50_000_000, SystemClock::shared());
        let job = build(&spec, mode, None);
        let (handles, coordinator) = (job.handles.clone(), Arc::clone(&job.coordinator));
        let canceller = std::thread::spawn(move || {
            if mode == Mode::Checkpoints {
                coordinator.wait("a checkpoint is complete", |c| !c.published().is_empty());
            }
            handles.iter().for_each(flott_runtime::TaskHandle::cancel);
        });
        assert_eq!(run_threads(job), ["canceled"; 4]);
        canceller.join().expect("the canceller does not panic");
    }
}

#[test]
fn a_mailbox_is_bounded_and_says_so_but_cancelling_always_works() {
    let (spec, _clock) = simulated(1, 1, 10);
    let mut job = build(&spec, Mode::Silent, None);
    let command = || TaskCommand::Notify(Notification::Aborted(flott_core::CheckpointId(1)));
    let sent = (0..10_000).take_while(|_| job.handles[0].send(command()).is_ok()).count();
    assert_eq!(sent, spec.options.mailbox_capacity);
    job.handles[0].cancel();
    assert_eq!(job.tasks[0].run(10), TaskProgress::Finished);
    assert_eq!(job.tasks[0].run(10), TaskProgress::Finished);
    drop(job.tasks);
    assert_eq!(job.handles[0].send(command()), Err(flott_runtime::MailboxError::Closed));
}

#[test]
fn time_is_busy_idle_or_backpressured_and_nothing_else() {
    let clock = SystemClock::shared();
    let spec = JobSpec::new(1, 1, 20_000, Arc::clone(&clock));
    let job = build(&spec, Mode::Checkpoints, None);
    let metrics = job.metrics.clone();
    let start = clock.now_nanos();
    run_threads(job);
    let life = clock.now_nanos() - start;
    for m in metrics {
        let sum = m.busy_ns.get() + m.idle_ns.get() + m.backpressured_ns.get();
        assert!(sum <= life && sum * 2 > life, "{sum} ns of {life} ns are accounted for");
    }
}
