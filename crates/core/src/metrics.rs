//! Counters that tasks write and everybody else reads: plain atomics, no locks, no allocation on the hot path.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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
