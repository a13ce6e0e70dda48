//! Hand-made graphs and figures, and the sentence for each: what every user who waited for a checkpoint wanted to read.

use std::collections::BTreeMap;

use flott_core::metrics::ExternalCall;
use flott_core::snapshot::SubtaskCheckpointStats;
use flott_core::{CheckpointId, SubtaskId, VertexId};

use super::super::*;
use super::at;
use crate::storage::StorageCall;

const SERVER: &str = "mysql 127.0.0.1:3306, table shop.totals";

/// Source (1) → Window (2) → sink "mysql" (3); so many windows.
struct Job {
    history: CheckpointStatsHistory,
    figures: Figures,
}

impl Job {
    fn new(windows: u32) -> Self {
        let names = [(1, "Source"), (2, "Window"), (3, "Sink")].map(|(id, n)| (VertexId(id), n.to_owned()));
        let mut history = CheckpointStatsHistory::new(10, BTreeMap::from(names.clone()));
        let vertex = |(i, (id, name)): (usize, &(VertexId, String))| TopologyVertex {
            id: *id,
            name: name.clone(),
            sink: (i == 2).then(|| "mysql".to_owned()),
            outputs: names.get(i + 1).map(|n| TopologyEdge { to: n.0, pointwise: false }).into_iter().collect(),
        };
        history.set_topology(Topology { vertices: names.iter().enumerate().map(vertex).collect() });
        history.set_thresholds(Thresholds { slow_ms: 1_000, ..Thresholds::default() });
        let mut job = Job { history, figures: Figures::default() };
        job.history.observe(job.figures.clone());
        let mut all = vec![at(1, 0), at(3, 0)];
        all.extend((0..windows).map(|i| at(2, i)));
        job.history.triggered(CheckpointId(7), 0, false, false, &all);
        job.history.captured(CheckpointId(7), 0);
        job
    }

    /// Milliseconds at work and waiting downstream; the rest of `ms` is idle.
    fn task(&mut self, subtask: SubtaskId, busy: u64, waits: u64, rows_in: u64) -> &mut TaskFigures {
        let task = self.figures.tasks.entry(subtask).or_default();
        (task.busy_ns, task.backpressured_ns, task.rows_in) = (busy * 1_000_000, waits * 1_000_000, rows_in);
        task
    }

    /// The figures `ms` after the trigger.
    fn observe(&mut self, ms: u64) {
        for task in self.figures.tasks.values_mut() {
            task.idle_ns = (ms * 1_000_000).saturating_sub(task.busy_ns + task.backpressured_ns);
        }
        self.figures.at_ms = i64::try_from(ms).unwrap();
        self.history.observe(self.figures.clone());
    }

    fn ack(&mut self, subtask: SubtaskId, now_ms: i64, stats: SubtaskCheckpointStats) {
        let (start_delay_ms, alignment_ms, sync_ms) = (stats.start_delay_ms, stats.alignment_ms, stats.sync_ms);
        let passed = start_delay_ms + alignment_ms + sync_ms;
        let cut = CutRecord { at_ms: i64::try_from(passed).unwrap(), start_delay_ms, alignment_ms, sync_ms };
        self.history.cut(CheckpointId(7), subtask, cut);
        self.history.acknowledged(CheckpointId(7), now_ms, subtask, stats);
    }

    /// All acknowledge at once but for what the tests say.
    fn ack_rest(&mut self, now_ms: i64) {
        let missing = self.history.get(CheckpointId(7)).map(CheckpointRecord::missing).unwrap_or_default();
        for s in missing {
            self.ack(s, now_ms, SubtaskCheckpointStats::default());
        }
    }

    fn completed(&mut self, now_ms: i64) -> (String, Vec<(Phase, i64)>) {
        self.history.completed(CheckpointId(7), now_ms, "file:///c/chk-7".to_owned(), 41);
        self.told()
    }

    fn expired(&mut self, now_ms: i64) -> String {
        self.history.failed(CheckpointId(7), now_ms, ("CHECKPOINT_EXPIRED", "Checkpoint expired."), "");
        self.told().0
    }

    fn told(&mut self) -> (String, Vec<(Phase, i64)>) {
        let told: Vec<String> = self.history.take_diagnoses().into_iter().map(|d| d.sentence).collect();
        let record = self.history.get(CheckpointId(7)).unwrap();
        let path = record.critical_path.segments.iter().map(|s| (s.phase, s.ms)).collect();
        assert_eq!(record.critical_path.total_ms(), record.duration_ms(), "every millisecond is accounted for");
        (told.join("\n"), path)
    }
}

fn delay(start_delay_ms: u64) -> SubtaskCheckpointStats {
    SubtaskCheckpointStats { start_delay_ms, ..SubtaskCheckpointStats::default() }
}

fn calls(calls: u64, call_ms: u64, rows: u64) -> ExternalFigures {
    ExternalFigures { endpoint: SERVER.to_owned(), calls, call_ns: call_ms * 1_000_000, rows, ..Default::default() }
}

#[test]
fn a_slow_sink_is_named_through_a_backpressured_window() {
    let mut job = Job::new(2);
    job.ack(at(1, 0), 1_000, delay(1_000));
    job.task(at(1, 0), 0, 120_000, 0);
    for i in 0..2 {
        job.task(at(2, i), 2_000, 118_000, 50_000);
    }
    job.task(at(3, 0), 1_000, 119_000, 100_800).external.push(calls(133, 119_700, 66_500));
    job.observe(120_000);
    assert_eq!(
        job.expired(120_000),
        format!(
            "checkpoint 7 expired after 120 s: 120.0 s waiting behind sink \"mysql\" (busy 100 %, 840 rows/s in, 0.9 s per \
             flush of 500 rows to {SERVER}): raise its parallelism or its batch size; 3 of 4 subtasks had not acknowledged: \
             Window#0, Window#1, Sink#0"
        )
    );
}

#[test]
fn a_stalled_server_is_told_from_a_slow_one() {
    let mut job = Job::new(1);
    job.ack(at(1, 0), 10, delay(5));
    job.ack(at(2, 0), 20, delay(10));
    let call = ExternalCall { what: "flush of 500 rows".to_owned(), since_ms: 2_000 };
    job.task(at(3, 0), 0, 60_000, 500).external.push(ExternalFigures { calling: Some(call), ..calls(3, 40, 1_500) });
    job.observe(60_000);
    assert_eq!(
        job.expired(60_000),
        format!(
            "checkpoint 7 expired after 60 s: 60.0 s waiting behind sink \"mysql\", which has been waiting 58.0 s for {SERVER} \
             (flush of 500 rows): look for a lock or a stall there; 1 of 3 subtasks had not acknowledged: Sink#0"
        )
    );
}

#[test]
fn one_subtask_with_most_of_the_rows_is_a_skewed_key() {
    let mut job = Job::new(4);
    job.ack(at(1, 0), 100, delay(50));
    for i in [0, 1, 3] {
        job.task(at(2, i), 1_500, 0, 10_000);
        job.ack(at(2, i), 200, delay(60));
    }
    job.task(at(2, 2), 30_000, 0, 170_000);
    job.task(at(1, 0), 0, 29_000, 0);
    job.ack(at(2, 2), 29_950, delay(29_900));
    job.observe(30_000);
    job.ack(at(3, 0), 30_000, SubtaskCheckpointStats { alignment_ms: 29_800, ..delay(120) });
    let (told, path) = job.completed(30_010);
    assert_eq!(
        told,
        "checkpoint 7 took 30 s: 29.9 s waiting behind operator \"Window\" subtask 3 of 4 (busy 100 %, 85 % of the rows; the others \
         are busy 5 %): few keys hold most rows: add to the key, or aggregate before the exchange"
    );
    // The alignment of the sink is the window's lateness, and is not counted twice.
    assert_eq!(
        path,
        [
            (Phase::Source, 50),
            (Phase::BehindData, 29_850),
            (Phase::Alignment, 20),
            (Phase::Acknowledge, 80),
            (Phase::Publish, 10)
        ]
    );
}

#[test]
fn an_operator_at_its_limit_has_to_be_spread() {
    let mut job = Job::new(2);
    job.ack(at(1, 0), 10, delay(10));
    for i in 0..2 {
        job.task(at(2, i), 9_800, 0, 60_000);
        job.ack(at(2, i), 9_500, delay(9_400));
    }
    job.observe(10_000);
    job.ack(at(3, 0), 9_600, delay(9_410));
    let (told, _) = job.completed(9_600);
    assert_eq!(
        told,
        "checkpoint 7 took 9.6 s: 9.4 s waiting behind operator \"Window\" (busy 98 %, 12,000 rows/s in): raise its parallelism"
    );
}

#[test]
fn a_slow_write_names_the_call_its_size_and_what_is_usual() {
    let mut job = Job::new(2);
    job.figures.storage_endpoint = "file:///nas/chk".to_owned();
    let call = StorageCall {
        operation: "put",
        path: "chk-7/ab".to_owned(),
        bytes: 8 << 10,
        began_ms: 40,
        took_ms: 37_800,
        p99_ms: Some(20),
        under_way: false,
    };
    let older = StorageCall { began_ms: -90_000, took_ms: 80_000, path: "chk-6/cd".to_owned(), ..call.clone() };
    job.figures.storage = vec![older, call];
    job.ack(at(2, 1), 37_900, SubtaskCheckpointStats { async_ms: 37_810, state_bytes: 8 << 10, ..delay(30) });
    job.ack_rest(100);
    job.observe(37_900);
    let (told, path) = job.completed(37_950);
    assert_eq!(
        told,
        "checkpoint 7 took 38 s: 37.8 s writing the state of \"Window#1\" (8.0 KiB) to file:///nas/chk: put chk-7/ab (8 KiB) took \
         37.8 s, p99 is 0.02 s: look at that storage"
    );
    assert_eq!(
        path,
        [(Phase::BehindData, 30), (Phase::Upload, 37_810), (Phase::Acknowledge, 60), (Phase::Publish, 50)]
    );
}

#[test]
fn a_write_that_has_not_ended_is_named_too() {
    let mut job = Job::new(1);
    job.figures.storage = vec![StorageCall {
        operation: "put",
        path: "chk-7/ab".to_owned(),
        bytes: 3 << 20,
        began_ms: 50,
        took_ms: 9_950,
        p99_ms: None,
        under_way: true,
    }];
    job.ack(at(1, 0), 10, delay(5));
    job.history.cut(
        CheckpointId(7),
        at(2, 0),
        CutRecord { at_ms: 40, start_delay_ms: 20, alignment_ms: 0, sync_ms: 20 },
    );
    job.ack(at(3, 0), 60, delay(45));
    job.observe(10_000);
    assert_eq!(
        job.expired(10_000),
        "checkpoint 7 expired after 10 s: 10.0 s writing the state of \"Window#0\": put chk-7/ab (3.0 MiB) has taken 9.9 s, the first \
         call: look at that storage; 1 of 3 subtasks had not acknowledged: Window#0"
    );
}

#[test]
fn a_long_cut_is_told_with_the_size_of_the_state() {
    let mut job = Job::new(1);
    let stats = SubtaskCheckpointStats { sync_ms: 3_200, state_bytes: 1_288_490_188, ..delay(10) };
    job.ack(at(2, 0), 3_300, stats);
    job.ack(at(3, 0), 3_300, delay(3_215));
    job.ack_rest(20);
    job.observe(3_300);
    let (told, _) = job.completed(3_310);
    assert_eq!(
        told,
        "checkpoint 7 took 3.3 s: 3.2 s cutting the state of \"Window#0\" (1.2 GiB), which stops its rows: raise its parallelism so \
         that each subtask holds less"
    );
}

#[test]
fn publishing_and_a_busy_source_and_nothing_at_all() {
    let mut job = Job::new(1);
    job.ack_rest(20);
    job.observe(20);
    let (told, path) = job.completed(5_020);
    assert_eq!(told, "checkpoint 7 took 5.0 s: 5.0 s publishing its metadata (41 bytes): look at that storage");
    assert_eq!(path, [(Phase::Acknowledge, 20), (Phase::Publish, 5_000)]);

    let mut job = Job::new(1);
    job.task(at(1, 0), 8_000, 0, 4_000);
    job.observe(8_000);
    assert_eq!(
        job.expired(8_000),
        "checkpoint 7 expired after 8.0 s: 8.0 s waiting behind operator \"Source\" (busy 100 %, 500 rows/s in): raise its parallelism; \
         3 of 3 subtasks had not acknowledged: Source#0, Window#0, Sink#0"
    );

    // A task that nobody can explain: said so, with what was seen.
    let mut job = Job::new(1);
    job.task(at(1, 0), 400, 0, 4_000);
    job.task(at(2, 0), 100, 0, 4_000);
    job.ack(at(1, 0), 10, delay(5));
    job.observe(8_000);
    assert_eq!(
        job.expired(8_000),
        "checkpoint 7 expired after 8.0 s: 8.0 s until the barrier reached \"Window#0\", although no task was busy: the busiest was \
         \"Source#0\" (5 %); 2 of 3 subtasks had not acknowledged: Window#0, Sink#0"
    );
}

#[test]
fn a_task_inside_one_long_call_is_busy_although_it_books_nothing() {
    let mut job = Job::new(1);
    job.ack(at(1, 0), 10, delay(5));
    job.figures.at_ms = 30_000;
    job.figures.tasks.insert(at(2, 0), TaskFigures { rows_in: 10, busy_ns: 1_000, ..TaskFigures::default() });
    job.history.observe(job.figures.clone());
    assert!(job.expired(30_000).contains("waiting behind operator \"Window\" (busy 100 %, 0 rows/s in)"));
}

#[test]
fn other_failures_keep_their_reason_and_need_no_guess() {
    let mut job = Job::new(1);
    job.ack(at(1, 0), 10, delay(5));
    let reason = ("CHECKPOINT_DECLINED", "Checkpoint was declined.");
    job.history.failed(CheckpointId(7), 300, reason, "Window#0: the disk is full");
    assert_eq!(
        job.told().0,
        "checkpoint 7 failed after 0.3 s (CHECKPOINT_DECLINED): Window#0: the disk is full; 2 of 3 subtasks had not acknowledged: \
         Window#0, Sink#0"
    );
    let mut job = Job::new(1);
    let reason = ("CHECKPOINT_COORDINATOR_SUSPEND", "Checkpoint Coordinator is suspending.");
    job.history.failed(CheckpointId(7), 300, reason, "");
    assert_eq!(job.told().0, "", "the failure that stops the job has its own sentence");
}

#[test]
fn a_commit_that_waits_is_told_then_again_at_twice_the_time_and_ends_up_in_the_path() {
    let mut job = Job::new(1);
    job.ack_rest(20);
    job.observe(20);
    let (told, _) = job.completed(400);
    assert_eq!(told, "");
    let call = ExternalCall { what: "commit of 1 epoch".to_owned(), since_ms: 410 };
    job.task(at(3, 0), 0, 0, 0).external.push(ExternalFigures { calling: Some(call), ..calls(0, 0, 0) });
    let mut told = Vec::new();
    for ms in (500..60_000).step_by(500) {
        job.observe(ms);
        job.history.watch(i64::try_from(ms).unwrap());
        told.extend(job.history.take_diagnoses());
    }
    assert_eq!(told.len(), 6, "each time it has doubled: {told:?}");
    assert_eq!(told[0].code, "checkpoint.commit-waiting");
    assert_eq!(
        told[5].sentence,
        format!(
            "checkpoint 7 completed in 0.4 s but its commit has been waiting 48 s for {SERVER} (commit of 1 epoch): look for a lock or \
             a stall there"
        )
    );
    // The next try of the same commit goes on counting.
    let again = ExternalCall { what: "commit of 1 epoch (waiting to try again)".to_owned(), since_ms: 59_600 };
    job.figures.tasks.get_mut(&at(3, 0)).unwrap().external[0] =
        ExternalFigures { calling: Some(again), retries: 1, ..calls(1, 59_000, 0) };
    job.observe(59_700);
    job.history.watch(59_700);
    job.figures.tasks.clear();
    job.observe(60_000);
    job.history.watch(60_000);
    let record = job.history.get(CheckpointId(7)).unwrap();
    assert_eq!(record.critical_path.segments.last().map(|s| (s.phase, s.ms)), Some((Phase::Commit, 59_290)));
    assert_eq!(record.diagnosis, Some(told[5].clone()));
}

#[test]
fn checkpoints_that_leave_no_pause_are_told_once_they_do_it_again_and_again() {
    let mut history = CheckpointStatsHistory::new(2, BTreeMap::new());
    history.set_thresholds(Thresholds { slow_ms: 60_000, interval_ms: Some(10_000), ..Thresholds::default() });
    let mut told = Vec::new();
    for (id, took) in
        [(1, 12_000), (2, 11_000), (3, 9_000), (4, 10_000), (5, 12_000), (6, 12_300), (7, 12_000), (8, 20_000)]
    {
        history.triggered(CheckpointId(id), 0, false, false, &[at(1, 0)]);
        history.completed(CheckpointId(id), took, String::new(), 0);
        told.extend(history.take_diagnoses().into_iter().map(|d| (id, d)));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0, told[0].1.code.as_str()), (6, "checkpoint.interval"));
    assert!(
        told[0]
            .1
            .sentence
            .starts_with("3 checkpoints in a row took longer than their interval of 10.0 s (the last one 12.3 s)")
    );
}

#[test]
fn a_diamond_follows_the_branch_that_waits() {
    // 1 feeds 2 and 3, both feed 4; 3 is slow.
    let edge = |to| TopologyEdge { to: VertexId(to), pointwise: true };
    let vertex = |id: u128, outputs: Vec<TopologyEdge>| TopologyVertex {
        id: VertexId(id),
        name: format!("v{id}"),
        sink: None,
        outputs,
    };
    let topology = Topology {
        vertices: vec![
            vertex(1, vec![edge(2), edge(3)]),
            vertex(2, vec![edge(4)]),
            vertex(3, vec![edge(4)]),
            vertex(4, vec![]),
        ],
    };
    let load = |busy: f64, backpressured: f64| TaskLoad { busy, backpressured, ..TaskLoad::default() };
    let tasks = [(1, load(0.1, 0.9)), (2, load(0.05, 0.0)), (3, load(0.95, 0.0)), (4, load(0.02, 0.0))];
    let load = Load { elapsed_ms: 10_000, tasks: tasks.map(|(v, l)| (at(v, 0), l)).into(), ..Load::default() };
    assert_eq!(bottleneck(&topology, &load, VertexId(1)), Some(VertexId(3)));
    assert_eq!(bottleneck(&topology, &load, VertexId(3)), Some(VertexId(3)));
    assert_eq!(bottleneck(&topology, &load, VertexId(2)), None, "it is late for another reason");
    assert_eq!(bottleneck(&topology, &Load::default(), VertexId(1)), None);
}
