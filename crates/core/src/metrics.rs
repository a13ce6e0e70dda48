//! Counters that tasks write and everybody else reads: plain atomics, no locks, no allocation on the hot path.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// Sets the value.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one operator of one subtask.
#[derive(Debug, Default)]
pub struct OperatorMetrics {
    /// Rows taken.
    pub records_in: Counter,
    /// Rows given.
    pub records_out: Counter,
    /// Rows dropped because they came after their window.
    pub late_dropped: Counter,
    /// Bad records skipped by an option that says so.
    pub bad_skipped: Counter,
    /// Bytes read or written by a connector.
    pub bytes: Counter,
    /// Bytes of keyed state held, as the backend counts them: a gauge.
    pub state_bytes: Counter,
    /// The server a connector talks to, if it talks to one.
    pub external: ExternalMetrics,
}

/// A server outside the process and how long calls to it take: what explains a slow sink. Written by the connector, a call
/// at a time.
#[derive(Debug, Default)]
pub struct ExternalMetrics {
    endpoint: OnceLock<String>,
    calling: Mutex<Option<ExternalCall>>,
    /// Calls that ended.
    pub calls: Counter,
    /// Time spent in them, in nanoseconds.
    pub call_ns: Counter,
    /// Rows they carried.
    pub rows: Counter,
    /// Calls that failed and were tried again.
    pub retries: Counter,
}

/// A call that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalCall {
    /// What it does, such as `flush of 500 rows` or `commit of 3 transactions`.
    pub what: String,
    /// When it began: processing time in milliseconds.
    pub since_ms: i64,
}

impl ExternalMetrics {
    /// Names the server, such as `mysql 127.0.0.1:3306, table shop.totals`; never with a password. The first name stays.
    pub fn set_endpoint(&self, endpoint: impl Into<String>) {
        let _ = self.endpoint.set(endpoint.into());
    }
    /// The server's name.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.get().map(String::as_str)
    }
    /// A call begins.
    pub fn begin(&self, what: impl Into<String>, now_ms: i64) {
        *self.lock() = Some(ExternalCall { what: what.into(), since_ms: now_ms });
    }
    /// It ended, having carried `rows` in `ns` nanoseconds.
    pub fn end(&self, rows: u64, ns: u64) {
        *self.lock() = None;
        self.calls.add(1);
        self.call_ns.add(ns);
        self.rows.add(rows);
    }
    /// The call under way.
    pub fn calling(&self) -> Option<ExternalCall> {
        self.lock().clone()
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ExternalCall>> {
        self.calling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of one subtask. Times in nanoseconds; busy + idle + backpressured is the task's life.
#[derive(Debug)]
pub struct TaskMetrics {
    /// Time at work.
    pub busy_ns: Counter,
    /// Time waiting for input.
    pub idle_ns: Counter,
    /// Time waiting for room downstream.
    pub backpressured_ns: Counter,
    /// Rows taken from channels or the source.
    pub records_in: Counter,
    /// Rows given to channels or the sink.
    pub records_out: Counter,
    /// Combined input watermark in milliseconds; `i64::MIN` before the first.
    watermark: AtomicI64,
}

impl Default for TaskMetrics {
    fn default() -> Self {
        TaskMetrics {
            busy_ns: Counter::default(),
            idle_ns: Counter::default(),
            backpressured_ns: Counter::default(),
            records_in: Counter::default(),
            records_out: Counter::default(),
            watermark: AtomicI64::new(i64::MIN),
        }
    }
}

impl TaskMetrics {
    /// Sets the current watermark.
    pub fn set_watermark(&self, ms: i64) {
        self.watermark.store(ms, Ordering::Relaxed);
    }
    /// The current watermark.
    pub fn watermark(&self) -> i64 {
        self.watermark.load(Ordering::Relaxed)
    }
}
