//! What a running job shows: shared figures that the job master and the tasks write and the front end reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flott_core::error::Error;
use flott_core::metrics::{OperatorMetrics, TaskMetrics};

/// Where a job stands.
#[derive(Clone, Debug)]
pub enum JobStatus {
    /// Tasks are being made.
    Created,
    /// Tasks run.
    Running,
    /// Waiting to restart after a failure.
    Restarting,
    /// Done: all data read, everything committed.
    Finished,
    /// Stopped by the user.
    Canceled,
    /// Given up.
    Failed(Error),
}

impl JobStatus {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self, JobStatus::Finished | JobStatus::Canceled | JobStatus::Failed(_))
    }
}

/// Figures of a job at one moment.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Rows read by sources in this run.
    pub rows_in: u64,
    /// Rows taken by sinks in this run.
    pub rows_out: u64,
    /// Lowest watermark of the sinks' tasks, else of all tasks; `i64::MIN` before the first.
    pub watermark_ms: i64,
    /// Rows dropped as late.
    pub late_rows: u64,
    /// Bad records skipped.
    pub bad_rows: u64,
    /// Last completed checkpoint.
    pub checkpoint: Option<CheckpointProgress>,
    /// Completed checkpoints of this run.
    pub checkpoints_completed: u64,
    /// Failed checkpoints of this run.
    pub checkpoints_failed: u64,
    /// Restarts after failures in this run.
    pub restarts: u64,
    /// Busy share of the busiest task since the start, with its name: where the bottleneck is.
    pub busiest: Option<(String, f64)>,
}

/// The last completed checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointProgress {
    /// Its number.
    pub id: u64,
    /// When it completed, milliseconds since the epoch.
    pub completed_ms: i64,
    /// Trigger to publication.
    pub duration_ms: i64,
    /// Bytes of state.
    pub state_bytes: u64,
}

/// Metrics of one task.
pub struct TaskEntry {
    /// `name (1/2)`.
    pub name: String,
    /// Its times and counters.
    pub task: Arc<TaskMetrics>,
    /// Its operators' counters, head first.
    pub operators: Vec<Arc<OperatorMetrics>>,
    /// Whether the head is a source.
    pub is_source: bool,
    /// Whether the last operator is a sink.
    pub is_sink: bool,
}

#[derive(Default)]
struct Inner {
    status: Option<JobStatus>,
    tasks: Vec<TaskEntry>,
    checkpoint: Option<CheckpointProgress>,
    failures: Vec<Error>,
    past: BTreeMap<&'static str, u64>,
}

/// Shared between the job master, which writes, and clients, which read.
#[derive(Default)]
pub struct JobBoard {
    inner: Mutex<Inner>,
    changed: Condvar,
    completed: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
}

impl JobBoard {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Sets the status and wakes who waits.
    pub fn set_status(&self, status: JobStatus) {
        self.lock().status = Some(status);
        self.changed.notify_all();
    }
    /// The status.
    pub fn status(&self) -> JobStatus {
        self.lock().status.clone().unwrap_or(JobStatus::Created)
    }
    /// Waits for a terminal status, `timeout` at most.
    pub fn wait(&self, timeout: Duration) -> JobStatus {
        let done = |i: &mut Inner| !i.status.as_ref().is_some_and(JobStatus::is_terminal);
        let guard = self.changed.wait_timeout_while(self.lock(), timeout, done);
        let (inner, _) = guard.unwrap_or_else(PoisonError::into_inner);
        inner.status.clone().unwrap_or(JobStatus::Created)
    }
    /// A new attempt has these tasks; the counters of the last one are added to the past.
    pub fn set_tasks(&self, tasks: Vec<TaskEntry>) {
        let mut inner = self.lock();
        let (rows_in, rows_out, late, bad) = sums(&inner.tasks);
        for (key, n) in [("in", rows_in), ("out", rows_out), ("late", late), ("bad", bad)] {
            *inner.past.entry(key).or_default() += n;
        }
        inner.tasks = tasks;
    }
    /// A checkpoint completed.
    pub fn checkpoint_completed(&self, checkpoint: CheckpointProgress) {
        self.completed.fetch_add(1, Ordering::Relaxed);
        self.lock().checkpoint = Some(checkpoint);
    }
    /// A checkpoint failed.
    pub fn checkpoint_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
    /// The job failed and may restart; the first causes are kept, 16 as Flink's exception history.
    pub fn failure(&self, error: Error) {
        let mut inner = self.lock();
        if inner.failures.len() < 16 {
            inner.failures.push(error);
        }
    }
    /// The job restarts.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
    /// Failures so far, oldest first.
    pub fn failures(&self) -> Vec<Error> {
        self.lock().failures.clone()
    }
    /// The figures now.
    pub fn progress(&self) -> Progress {
        let inner = self.lock();
        let (rows_in, rows_out, late, bad) = sums(&inner.tasks);
        let past = |key: &str| inner.past.get(key).copied().unwrap_or(0);
        let marks = |sinks: bool| {
            inner.tasks.iter().filter(|t| !sinks || t.is_sink).map(|t| t.task.watermark()).min().unwrap_or(i64::MIN)
        };
        let busiest = inner.tasks.iter().map(|t| (t.name.clone(), busy_share(&t.task)));
        Progress {
            rows_in: rows_in + past("in"),
            rows_out: rows_out + past("out"),
            watermark_ms: marks(true),
            late_rows: late + past("late"),
            bad_rows: bad + past("bad"),
            checkpoint: inner.checkpoint,
            checkpoints_completed: self.completed.load(Ordering::Relaxed),
            checkpoints_failed: self.failed.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            busiest: busiest.max_by(|a, b| a.1.total_cmp(&b.1)),
        }
    }
}

fn busy_share(task: &TaskMetrics) -> f64 {
    let (busy, idle, back) = (task.busy_ns.get(), task.idle_ns.get(), task.backpressured_ns.get());
    let all = busy + idle + back;
    if all == 0 { 0.0 } else { busy as f64 / all as f64 }
}

/// Rows in, rows out, late rows, bad rows.
fn sums(tasks: &[TaskEntry]) -> (u64, u64, u64, u64) {
    let mut sums = (0, 0, 0, 0);
    for t in tasks {
        if t.is_source {
            sums.0 += t.task.records_in.get();
        }
        if t.is_sink {
            sums.1 += t.operators.last().map_or(0, |o| o.records_in.get());
        }
        for o in &t.operators {
            sums.2 += o.late_dropped.get();
            sums.3 += o.bad_skipped.get();
        }
    }
    sums
}
