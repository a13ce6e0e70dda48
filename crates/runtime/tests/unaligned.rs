//! Checkpoints whose barriers overtake: whole jobs with slow consumers, restored at the same and at another parallelism. Every number
//! is counted once, and the operators check that numbers of a key never change their order.

#[allow(dead_code, reason = "each of the engine's tests uses a part of it")]
mod kit;

use std::sync::Arc;

use flott_core::time::{ManualClock, SystemClock};
use flott_runtime::{TaskOptions, TaskProgress, spawn_task};
use kit::{Job, JobSpec, Mode, build};

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

/// Runs tasks one at a time in an order that the seed decides, the sinks' seldom; stops when all have ended or `stop` says so.
fn simulate(job: &mut Job, clock: &ManualClock, seed: u64, slow: usize, stop: impl Fn(&Job) -> bool) {
    let mut random = Seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let n = job.tasks.len();
    for _ in 0..4_000_000u64 {
        if job.coordinator.is_over() || stop(job) {
            return;
        }
        let i = random.below(n as u64) as usize;
        if i >= n - slow && random.below(8) != 0 {
            continue;
        }
        let progress = job.tasks[i].run(1 + random.below(5) as usize);
        if !matches!(progress, TaskProgress::Working) && random.below(4) == 0 {
            clock.advance(1);
        }
    }
    panic!("seed {seed}: the job does not end: {:?}", job.coordinator.log());
}

fn spec(shape: (u32, u32, u32), rows: i64, unaligned_after_ms: Option<u32>) -> (JobSpec, Arc<ManualClock>) {
    let clock = ManualClock::at(1_000);
    let mut spec = JobSpec::new(shape.0, shape.2, rows, clock.clone());
    spec.middles = shape.1;
    spec.unaligned_after_ms = unaligned_after_ms;
    spec.options = TaskOptions { watermark_interval_ms: 0, ..TaskOptions::default() };
    (spec, clock)
}

/// Runs a job of `shapes[0]` for some checkpoints, kills it, goes on with the next shape, and so on; the last runs to its end.
/// Returns the rows that were in flight in the checkpoints that were restored.
fn kill_and_restore(shapes: &[(u32, u32, u32)], seed: u64, unaligned_after_ms: Option<u32>) -> u64 {
    let (mut spec, clock) = spec(shapes[0], 2_000, unaligned_after_ms);
    let mut restore = None;
    let mut in_flight = 0;
    for (attempt, shape) in shapes.iter().enumerate() {
        (spec.sources, spec.middles, spec.sums, spec.attempt) = (shape.0, shape.1, shape.2, attempt as u32);
        let mut job = build(&spec, Mode::Checkpoints, restore.as_ref());
        let last = attempt + 1 == shapes.len();
        let wanted = 1 + ((seed as usize + attempt) % 3);
        let slow = spec.sums as usize;
        simulate(&mut job, &clock, seed + attempt as u64, slow, |j| !last && j.coordinator.published().len() >= wanted);
        if last || job.coordinator.is_over() {
            let tasks = job.tasks.len();
            assert_eq!(job.coordinator.log(), vec!["finished"; tasks], "seed {seed}, {shapes:?}");
            break;
        }
        let published = job.coordinator.published();
        let (_, chosen) = published.last().expect("waited for it");
        in_flight += chosen.rows_in_flight();
        restore = Some(chosen.clone());
    }
    assert_eq!(spec.result(), spec.expected(), "seed {seed}, {shapes:?}");
    in_flight
}

#[test]
fn a_job_goes_on_with_what_was_in_flight() {
    let rows: u64 = (0..8).map(|seed| kill_and_restore(&[(2, 0, 2); 3], seed, Some(0))).sum();
    assert!(rows > 100, "{rows} rows were in flight in all");
}

#[test]
fn several_exchanges_and_blocked_operators_go_on_too() {
    let rows: u64 = (0..8).map(|seed| kill_and_restore(&[(2, 3, 2); 3], seed, Some(0))).sum();
    assert!(rows > 100, "{rows} rows were in flight in all");
}

#[test]
fn rescaling_deals_rows_in_flight_out_to_the_owners_of_their_keys() {
    let mut rows = 0;
    for seed in 0..4 {
        rows += kill_and_restore(&[(1, 1, 1), (3, 3, 3), (2, 2, 2)], seed, Some(0));
        rows += kill_and_restore(&[(2, 2, 3), (2, 3, 3), (1, 3, 2)], seed, Some(0));
        rows += kill_and_restore(&[(2, 0, 3), (3, 0, 1)], seed, Some(0));
    }
    assert!(rows > 100, "{rows} rows were in flight in all");
}

#[test]
fn barriers_switch_wherever_they_are_when_their_time_has_come() {
    let mut rows = 0;
    for seed in 0..3 {
        for after_ms in [1, 3, 10, 40] {
            rows += kill_and_restore(&[(2, 2, 2), (2, 2, 2), (3, 1, 2)], seed, Some(after_ms));
        }
    }
    assert!(rows > 100, "{rows} rows were in flight in all");
}

#[test]
fn checkpoints_that_are_given_up_leave_nothing_behind() {
    for seed in 0..5 {
        for after_ms in [None, Some(0), Some(2), Some(20)] {
            let (mut spec, clock) = spec((2, 2, 2), 1_200, after_ms);
            spec.abort_every = 2;
            let mut job = build(&spec, Mode::Checkpoints, None);
            simulate(&mut job, &clock, seed, 2, |j| j.coordinator.published().len() >= 3);
            let published = job.coordinator.published();
            drop(job);
            let (_, restore) = published.last().expect("waited for them");
            spec.attempt = 1;
            let mut job = build(&spec, Mode::Checkpoints, Some(restore));
            simulate(&mut job, &clock, seed, 2, |_| false);
            assert_eq!(job.coordinator.log(), ["finished"; 6], "seed {seed}, after {after_ms:?}");
            assert_eq!(spec.result(), spec.expected(), "seed {seed}, after {after_ms:?}");
        }
    }
}

/// Milliseconds that the checkpoints of a job took whose sinks take a batch per second, and the job at that moment.
fn behind_a_slow_sink(unaligned_after_ms: Option<u32>) -> (Vec<i64>, Job, JobSpec) {
    let (mut spec, clock) = spec((2, 2, 2), 2_000, unaligned_after_ms);
    (spec.sink_pause_ms, spec.all_rows) = (1_000, true);
    let mut job = build(&spec, Mode::Checkpoints, None);
    simulate(&mut job, &clock, 1, 0, |j| j.coordinator.published().len() >= 4);
    (job.coordinator.took_ms(), job, spec)
}

#[test]
fn a_sink_that_takes_a_batch_per_second_holds_aligned_barriers_up_and_no_others() {
    let (aligned, ..) = behind_a_slow_sink(None);
    assert!(aligned[1..].iter().all(|&ms| ms > 5_000), "{aligned:?}");
    let (at_once, ..) = behind_a_slow_sink(Some(0));
    assert!(at_once.iter().all(|&ms| ms < 1_000), "{at_once:?}");
    for shape in [(2, 2, 2), (1, 3, 1)] {
        let (in_time, job, mut spec) = behind_a_slow_sink(Some(700));
        assert!(in_time[1..].iter().all(|ms| (700..1_000).contains(ms)), "{in_time:?}");
        // The process dies. What the checkpoint holds is all there is, and every row arrives once.
        let published = job.coordinator.published();
        drop(job);
        let (_, restore) = published.last().expect("four were published");
        assert!(restore.rows_in_flight() > 100, "{} rows", restore.rows_in_flight());
        (spec.sources, spec.middles, spec.sums, spec.sink_pause_ms) = (shape.0, shape.1, shape.2, 0);
        spec.attempt = 1;
        let clock = ManualClock::at(1_000_000);
        spec.clock = clock.clone();
        let mut job = build(&spec, Mode::Checkpoints, Some(restore));
        simulate(&mut job, &clock, 2, 0, |_| false);
        assert_eq!(spec.result(), spec.expected(), "{shape:?}");
    }
}

#[test]
fn threads_give_the_same() {
    let mut spec = JobSpec::new(2, 2, 20_000, SystemClock::shared());
    (spec.middles, spec.unaligned_after_ms) = (2, Some(0));
    let job = build(&spec, Mode::Checkpoints, None);
    let coordinator = Arc::clone(&job.coordinator);
    let threads: Vec<_> = job.tasks.into_iter().map(|t| spawn_task(t).expect("a thread")).collect();
    coordinator.wait("the job ends", |c| c.is_over());
    threads.into_iter().for_each(|t| t.join().expect("a task's thread does not panic"));
    assert_eq!(coordinator.log(), vec!["finished"; 6]);
    assert_eq!(spec.result(), spec.expected());
    assert!(coordinator.published().len() > 1);
}
