//! What a running job shows: shared figures that the job master and the tasks write and the front end reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flott_checkpoint::stats::{Diagnosis, ExternalFigures, Figures, TaskFigures};
use flott_core::error::Error;
use flott_core::ids::SubtaskId;
use flott_core::memory::{MemoryBudget, MemoryFigures};
use flott_core::metrics::{OperatorMetrics, TaskMetrics};

/// Sentences on checkpoints and memory that are kept.
const DIAGNOSES_MAX: usize = 16;

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
    /// Stopped by the user: what its sinks had not committed is taken back, and checkpoints go if the options say so.
    Canceled,
    /// Its process is ending. Checkpoints stay, and a start from the latest goes on as if nothing had happened.
    Suspended,
    /// Given up.
    Failed(Error),
}

impl JobStatus {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self, JobStatus::Finished | JobStatus::Canceled | JobStatus::Suspended | JobStatus::Failed(_))
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
    /// Messages that came for checkpoints given up before.
    pub late_messages: u64,
    /// Since when there has been no newer point to recover from: the last completed checkpoint, else the start. Milliseconds since the
    /// epoch; `None` before the start, and where no checkpoints are taken.
    pub recovery_point_ms: Option<i64>,
    /// What memory each use was given and took.
    pub memory: Vec<MemoryFigures>,
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

/// Keyed state of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSize {
    /// The operator.
    pub operator: String,
    /// Subtasks that hold it.
    pub subtasks: usize,
    /// Bytes in all of them.
    pub bytes: usize,
}

/// Metrics of one task.
pub struct TaskEntry {
    /// Which.
    pub subtask: SubtaskId,
    /// `name (1/2)`.
    pub name: String,
    /// Its times and counters.
    pub task: Arc<TaskMetrics>,
    /// Its operators' counters, head first.
    pub operators: Vec<Arc<OperatorMetrics>>,
    /// Their names.
    pub operator_names: Vec<Arc<str>>,
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
    memory: Option<MemoryBudget>,
    recovery_point_ms: Option<i64>,
    diagnoses: VecDeque<Diagnosis>,
    /// How many there ever were.
    diagnosed: usize,
}

/// Shared between the job master, which writes, and clients, which read.
#[derive(Default)]
pub struct JobBoard {
    inner: Mutex<Inner>,
    changed: Condvar,
    completed: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
    late_messages: AtomicU64,
}

impl JobBoard {
    /// The board of a job that draws on `memory`.
    pub fn new(memory: MemoryBudget) -> Self {
        let board = JobBoard::default();
        board.lock().memory = Some(memory);
        board
    }
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
    /// There is something to say about checkpoints or memory.
    pub fn diagnosis(&self, diagnosis: Diagnosis) {
        let mut inner = self.lock();
        if inner.diagnoses.len() == DIAGNOSES_MAX {
            inner.diagnoses.pop_front();
        }
        inner.diagnoses.push_back(diagnosis);
        inner.diagnosed += 1;
    }
    /// The sentences after the first `known`, as far as they are kept, and how many there ever were.
    pub fn diagnoses(&self, known: usize) -> (Vec<Diagnosis>, usize) {
        let inner = self.lock();
        let fresh = inner.diagnosed.saturating_sub(known).min(inner.diagnoses.len());
        let kept = inner.diagnoses.iter().skip(inner.diagnoses.len() - fresh).cloned();
        (kept.collect(), inner.diagnosed)
    }
    /// Messages that came too late, so far.
    pub fn set_late_messages(&self, count: u64) {
        self.late_messages.store(count, Ordering::Relaxed);
    }
    /// When the job was last where it could be recovered to.
    pub fn set_recovery_point(&self, at_ms: i64) {
        self.lock().recovery_point_ms = Some(at_ms);
    }
    /// The counters of all tasks, for sentences.
    pub fn figures(&self, now_ms: i64) -> Figures {
        let inner = self.lock();
        let tasks = inner.tasks.iter().map(|t| (t.subtask, figures_of(t))).collect();
        Figures { at_ms: now_ms, tasks, ..Figures::default() }
    }
    /// Keyed state by operator, the largest first.
    pub fn state_sizes(&self) -> Vec<StateSize> {
        let inner = self.lock();
        let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (name, metrics) in inner.tasks.iter().flat_map(|t| t.operator_names.iter().zip(&t.operators)) {
            let bytes = usize::try_from(metrics.state_bytes.get()).unwrap_or(usize::MAX);
            if bytes > 0 {
                let sum = sizes.entry(name).or_default();
                *sum = (sum.0 + 1, sum.1.saturating_add(bytes));
            }
        }
        let size = |(name, (subtasks, bytes)): (&str, _)| StateSize { operator: name.to_owned(), subtasks, bytes };
        let mut sizes: Vec<StateSize> = sizes.into_iter().map(size).collect();
        sizes.sort_by_key(|s| std::cmp::Reverse(s.bytes));
        sizes
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
            late_messages: self.late_messages.load(Ordering::Relaxed),
            recovery_point_ms: inner.recovery_point_ms,
            memory: inner.memory.iter().flat_map(MemoryBudget::figures).collect(),
            busiest: busiest.max_by(|a, b| a.1.total_cmp(&b.1)),
        }
    }
}

fn figures_of(t: &TaskEntry) -> TaskFigures {
    let external = t.operators.iter().filter_map(|o| {
        let e = &o.external;
        Some(ExternalFigures {
            endpoint: e.endpoint()?.to_owned(),
            calls: e.calls.get(),
            call_ns: e.call_ns.get(),
            rows: e.rows.get(),
            retries: e.retries.get(),
            calling: e.calling(),
        })
    });
    TaskFigures {
        busy_ns: t.task.busy_ns.get(),
        idle_ns: t.task.idle_ns.get(),
        backpressured_ns: t.task.backpressured_ns.get(),
        rows_in: t.task.records_in.get(),
        external: external.collect(),
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
