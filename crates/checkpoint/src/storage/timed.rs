//! A storage that times every call; never changes what a call does.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flott_core::Result;
use flott_core::time::SharedClock;
use serde::Serialize;

use super::CheckpointStorage;

/// Recent durations per operation, for percentiles.
const RECENT_MAX: usize = 512;
/// Slow calls remembered.
const SLOW_MAX: usize = 32;

/// What the calls of one kind took. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationStats {
    /// `put`, `get`, `list` or `delete`.
    pub operation: &'static str,
    /// Calls.
    pub count: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Bytes written or read.
    pub bytes: u64,
    /// Sum.
    pub total_ms: f64,
    /// Slowest ever.
    pub max_ms: f64,
    /// Median of the recent ones.
    pub p50_ms: f64,
    /// 99th percentile of the recent ones.
    pub p99_ms: f64,
}

/// What the calls to a storage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageStats {
    /// The storage.
    pub endpoint: String,
    /// Per operation; those never called are left out.
    pub operations: Vec<OperationStats>,
    /// Sentences on the last slow calls, oldest first.
    pub slow: Vec<String>,
}

/// A call that was slow, or is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageCall {
    /// `put`, `get`, `list` or `delete`.
    pub operation: &'static str,
    /// What for.
    pub path: String,
    /// Bytes written or read; 0 where that is not known yet.
    pub bytes: u64,
    /// When it began: processing time.
    pub began_ms: i64,
    /// What it took, so far if it is under way.
    pub took_ms: u64,
    /// 99th percentile of the calls of its kind before it; `None`: it was the first.
    pub p99_ms: Option<u64>,
    /// It has not ended.
    pub under_way: bool,
}

impl StorageCall {
    /// When it ended; `now_ms` while it is under way.
    pub fn end_ms(&self, now_ms: i64) -> i64 {
        let took_ms = i64::try_from(self.took_ms).unwrap_or(i64::MAX);
        if self.under_way { now_ms } else { self.began_ms.saturating_add(took_ms) }
    }
    /// `put chk-7/ab (8 KiB) took 37.8 s, p99 is 0.02 s`.
    pub fn sentence(&self) -> String {
        let seconds = |ms: u64| {
            let s = ms as f64 / 1e3;
            if s >= 1.0 { format!("{s:.1} s") } else { format!("{s:.2} s") }
        };
        let size = if self.bytes == 0 { String::new() } else { format!(" ({})", human_bytes(self.bytes)) };
        let others = match self.p99_ms {
            None => "the first call".to_owned(),
            Some(p99_ms) => format!("p99 is {}", seconds(p99_ms)),
        };
        let took = if self.under_way { "has taken" } else { "took" };
        format!("{} {}{size} {took} {}, {others}", self.operation, self.path, seconds(self.took_ms))
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Put,
    Get,
    List,
    Delete,
}

const NAMES: [&str; 4] = ["put", "get", "list", "delete"];

#[derive(Default)]
struct Calls {
    count: u64,
    errors: u64,
    bytes: u64,
    total_ns: u64,
    max_ns: u64,
    recent_ns: VecDeque<u64>,
}

impl Calls {
    fn percentile_ns(&self, percent: usize) -> u64 {
        let mut sorted: Vec<u64> = self.recent_ns.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Book {
    calls: [Calls; 4],
    slow: VecDeque<StorageCall>,
    /// One per thread that is in a call.
    under_way: Vec<(u64, u64, StorageCall)>,
    begun: u64,
}

/// Times the calls of another storage.
pub struct TimedStorage {
    inner: Box<dyn CheckpointStorage>,
    clock: SharedClock,
    slow_ns: u64,
    book: Mutex<Book>,
}

impl TimedStorage {
    /// Times `inner`; calls slower than `slow_call_ms` are told.
    pub fn new(inner: Box<dyn CheckpointStorage>, clock: SharedClock, slow_call_ms: u64) -> Self {
        TimedStorage { inner, clock, slow_ns: slow_call_ms.saturating_mul(1_000_000), book: Mutex::default() }
    }

    /// What the calls took so far.
    pub fn stats(&self) -> StorageStats {
        let book = self.book();
        let ms = |ns: u64| ns as f64 / 1e6;
        let called = book.calls.iter().zip(NAMES).filter(|(c, _)| c.count > 0);
        let operations = called.map(|(c, operation)| OperationStats {
            operation,
            count: c.count,
            errors: c.errors,
            bytes: c.bytes,
            total_ms: ms(c.total_ns),
            max_ms: ms(c.max_ns),
            p50_ms: ms(c.percentile_ns(50)),
            p99_ms: ms(c.percentile_ns(99)),
        });
        StorageStats {
            endpoint: self.inner.endpoint().to_owned(),
            operations: operations.collect(),
            slow: book.slow.iter().map(StorageCall::sentence).collect(),
        }
    }

    /// The last slow calls, and those under way that have become slow.
    pub fn slow_calls(&self) -> Vec<StorageCall> {
        let book = self.book();
        let now_ns = self.clock.now_nanos();
        let under_way = book.under_way.iter().map(|(_, start_ns, call)| StorageCall {
            took_ms: now_ns.saturating_sub(*start_ns) / 1_000_000,
            ..call.clone()
        });
        let slow_ms = self.slow_ns / 1_000_000;
        book.slow.iter().cloned().chain(under_way.filter(|c| c.took_ms >= slow_ms)).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Numbers only: a panic elsewhere leaves them usable.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time<T>(
        &self,
        (operation, path, len): (Operation, &str, u64),
        bytes: impl FnOnce(&T) -> u64,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let (id, start) = self.begin(operation, path, len);
        let result = call();
        let took_ns = self.clock.now_nanos().saturating_sub(start);
        let bytes = result.as_ref().map_or(0, bytes);
        let slow = {
            let mut book = self.book();
            let at = book.under_way.iter().position(|(i, _, _)| *i == id);
            let begun = at.map(|i| book.under_way.swap_remove(i).2);
            // The percentile of the others: the slow call must not hide itself.
            let slow = begun.filter(|_| took_ns >= self.slow_ns).map(|call| StorageCall {
                took_ms: took_ns / 1_000_000,
                bytes: bytes.max(call.bytes),
                under_way: false,
                ..call
            });
            let calls = &mut book.calls[operation as usize];
            calls.count += 1;
            calls.errors += u64::from(result.is_err());
            calls.bytes += bytes;
            calls.total_ns = calls.total_ns.saturating_add(took_ns);
            calls.max_ns = calls.max_ns.max(took_ns);
            if calls.recent_ns.len() == RECENT_MAX {
                calls.recent_ns.pop_front();
            }
            calls.recent_ns.push_back(took_ns);
            if let Some(call) = &slow {
                if book.slow.len() == SLOW_MAX {
                    book.slow.pop_front();
                }
                book.slow.push_back(call.clone());
            }
            slow
        };
        if let Some(call) = slow {
            tracing::warn!(endpoint = self.inner.endpoint(), "slow storage call: {}", call.sentence());
        }
        result
    }

    fn begin(&self, operation: Operation, path: &str, bytes: u64) -> (u64, u64) {
        let (start_ns, began_ms) = (self.clock.now_nanos(), self.clock.now_ms());
        let mut book = self.book();
        book.begun += 1;
        let calls = &book.calls[operation as usize];
        let call = StorageCall {
            operation: NAMES[operation as usize],
            path: path.to_owned(),
            bytes,
            began_ms,
            took_ms: 0,
            p99_ms: (calls.count > 0).then(|| calls.percentile_ns(99) / 1_000_000),
            under_way: true,
        };
        let id = book.begun;
        book.under_way.push((id, start_ns, call));
        (id, start_ns)
    }
}

fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

impl CheckpointStorage for TimedStorage {
    fn endpoint(&self) -> &str {
        self.inner.endpoint()
    }
    fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let len = bytes.len() as u64;
        self.time((Operation::Put, path, len), |_| len, || self.inner.put_new(path, bytes))
    }
    fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, |b| b.len() as u64);
        self.time((Operation::Get, path, 0), len, || self.inner.get(path, range))
    }
    fn list(&self, dir: &str) -> Result<Vec<String>> {
        self.time((Operation::List, dir, 0), |_| 0, || self.inner.list(dir))
    }
    fn delete(&self, path: &str) -> Result<()> {
        self.time((Operation::Delete, path, 0), |()| 0, || self.inner.delete(path))
    }
}
