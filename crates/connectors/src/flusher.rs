//! Writes rows to a server on a thread of its own, behind a bounded queue; never on the task's thread.
//!
//! Rows leave the queue only once they are written, so that [`Flusher::snapshot`] has everything that is not: a checkpoint
//! never waits for the server, and rows are written again after a restore (at least once; the same as once for upserts).

mod worker;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flott_core::batch_codec::{decode_batch, encode_batch};
use flott_core::memory::{MemoryUse, Reservation};
use flott_core::metrics::OperatorMetrics;
use flott_core::sink::SinkContext;
use flott_core::time::SharedClock;
use flott_core::{ChangeBatch, Error, Result};

pub use worker::{Cancel, Stop, Worker};

/// Writes rows to a server, on the flusher's thread only, where it may block.
pub trait BatchWriter: Send {
    /// Connects, and checks that the target is there and fits. Called first, again after [`FlushError::Unreachable`], and
    /// does nothing while there is a connection.
    fn connect(&mut self, stop: &Stop) -> Result<(), FlushError>;
    /// Writes the rows, in order. After an error it is called again with the same rows, of which some may be written. What
    /// others would see must not happen any more once `stop` says so.
    fn write(&mut self, rows: &[ChangeBatch], stop: &Stop) -> Result<(), FlushError>;
}

/// Why rows could not be written.
#[derive(Debug)]
pub enum FlushError {
    /// The server is there and said no for now; tried again [`FlushOptions::max_retries`] times.
    Busy(Error),
    /// The server is not there; tried again for [`FlushOptions::unreachable_ms`].
    Unreachable(Error),
    /// Trying again changes nothing: the job fails.
    Fatal(Error),
}

impl FlushError {
    /// The error.
    pub fn into_error(self) -> Error {
        match self {
            FlushError::Busy(e) | FlushError::Unreachable(e) | FlushError::Fatal(e) => e,
        }
    }
}

/// When rows are written, and for how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushOptions {
    /// A flush begins when so many rows wait, and carries at most so many; at least 1.
    pub max_rows: usize,
    /// A flush begins when a row has waited so long; `None`: only when there are rows enough, or when asked for.
    pub interval_ms: Option<i64>,
    /// How often rows are tried again after [`FlushError::Busy`].
    pub max_retries: u32,
    /// Pause before the first retry; doubles with each, up to 10 s (2 s while the server is not there).
    pub backoff_ms: u64,
    /// How long an unreachable server is tried again.
    pub unreachable_ms: i64,
    /// Rows that may wait; at least `max_rows`. A batch that comes when none wait is always taken.
    pub queue_rows_max: usize,
}

/// Longest pauses before a retry: of a server that says no, and of one that is not there and may be back any moment.
const BACKOFF_MS_MAX: (u64, u64) = (10_000, 2_000);

struct Entry {
    batch: ChangeBatch,
    since_ms: i64,
    reservation: Reservation,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    rows: usize,
    /// Rows that are to be written without waiting for more.
    due_rows: usize,
    stopped: bool,
    failed: Option<Error>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    clock: SharedClock,
    metrics: Arc<OperatorMetrics>,
    options: FlushOptions,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end: one per sink writer. Dropping it ends its thread within a second.
pub struct Flusher {
    shared: Arc<Shared>,
    context: SinkContext,
    worker: Worker,
}

impl Flusher {
    /// Starts the thread `name`. `restored` is what [`Flusher::snapshot`] returned; those rows are written first.
    pub fn start(
        name: &str,
        mut writer: Box<dyn BatchWriter>,
        options: FlushOptions,
        context: SinkContext,
        restored: &[Bytes],
    ) -> Result<Self> {
        let options = FlushOptions { max_rows: options.max_rows.max(1), ..options };
        let mut queue = Queue::default();
        let now_ms = context.clock.now_ms();
        for bytes in restored {
            queue.push(decode_batch(bytes)?, now_ms, |bytes| context.memory.reserve(MemoryUse::Sink, bytes));
        }
        queue.due_rows = queue.rows;
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&context.metrics),
            options,
        });
        let theirs = Arc::clone(&shared);
        let worker = Worker::spawn(name, move |stop| theirs.run(writer.as_mut(), &stop))?;
        Ok(Flusher { shared, context, worker })
    }

    /// Takes the batch, or says that there is no room now. An error of the thread comes back here, again and again.
    pub fn offer(&self, batch: &ChangeBatch) -> Result<bool> {
        if batch.num_rows() == 0 {
            return self.check().map(|()| true);
        }
        let bytes = batch.memory_bytes();
        let mut queue = self.checked()?;
        if queue.rows > 0 && queue.rows + batch.num_rows() > self.shared.options.queue_rows_max {
            // Whoever fills the queue waits for rows, not for the interval.
            queue.due_rows = queue.rows;
            drop(queue);
            self.shared.changed.notify_all();
            return Ok(false);
        }
        let reserved = match self.context.memory.try_reserve(MemoryUse::Sink, bytes) {
            Some(reserved) => reserved,
            // With nothing of ours to give back, waiting would wait for others for ever.
            None if queue.rows == 0 => self.context.memory.reserve(MemoryUse::Sink, bytes),
            None => {
                queue.due_rows = queue.rows;
                drop(queue);
                self.shared.changed.notify_all();
                return Ok(false);
            }
        };
        let was_rows = queue.rows;
        queue.push(batch.clone(), self.context.clock.now_ms(), |_| reserved);
        let wake = was_rows == 0 || queue.rows >= self.shared.options.max_rows;
        drop(queue);
        if wake {
            self.shared.changed.notify_all();
        }
        Ok(true)
    }

    /// The error that ended the thread, if one did.
    pub fn check(&self) -> Result<()> {
        self.checked().map(drop)
    }

    fn checked(&self) -> Result<MutexGuard<'_, Queue>> {
        let queue = self.shared.lock();
        match &queue.failed {
            Some(error) => Err(error.clone()),
            None if self.worker.is_finished() && !queue.stopped => {
                Err(Error::bug("the thread of a sink ended without an error"))
            }
            None => Ok(queue),
        }
    }

    /// Asks for everything taken so far to be written soon; returns at once.
    pub fn flush_soon(&self) {
        let mut queue = self.shared.lock();
        queue.due_rows = queue.rows;
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Rows taken and not written.
    pub fn pending_rows(&self) -> usize {
        self.shared.lock().rows
    }

    /// The rows taken and not written, for the checkpoint: one item, or none. Rows that are being written are among them.
    pub fn snapshot(&self) -> Result<Vec<Bytes>> {
        let batches: Vec<ChangeBatch> = self.checked()?.entries.iter().map(|e| e.batch.clone()).collect();
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![encode_batch(&ChangeBatch::concat(&batches)?)?])
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.worker.stop().stop();
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Queue {
    fn push(&mut self, batch: ChangeBatch, since_ms: i64, reserve: impl FnOnce(usize) -> Reservation) {
        self.rows += batch.num_rows();
        let reservation = reserve(batch.memory_bytes());
        self.entries.push_back(Entry { batch, since_ms, reservation });
    }

    /// The oldest rows, at most `rows_max`, which stay in the queue.
    fn front(&self, rows_max: usize) -> Vec<ChangeBatch> {
        let mut left = rows_max;
        let mut out = Vec::new();
        for entry in &self.entries {
            let rows = entry.batch.num_rows().min(left);
            if rows == 0 {
                break;
            }
            out.push(if rows == entry.batch.num_rows() { entry.batch.clone() } else { entry.batch.slice(0, rows) });
            left -= rows;
        }
        out
    }

    /// Forgets the oldest `rows`: they are written.
    fn written(&mut self, rows: usize) {
        self.rows -= rows;
        self.due_rows = self.due_rows.saturating_sub(rows);
        let mut left = rows;
        while left > 0 {
            let Some(front) = self.entries.front_mut() else { break };
            let n = front.batch.num_rows();
            if n <= left {
                left -= n;
                self.entries.pop_front();
                continue;
            }
            let share = front.reservation.bytes() / n * (n - left);
            front.batch = front.batch.slice(left, n - left);
            front.reservation.shrink_to(share);
            left = 0;
        }
    }
}

impl Shared {
    fn run(&self, writer: &mut dyn BatchWriter, stop: &Stop) {
        let end = self.serve(writer, stop);
        if let Err(error) = end
            && !stop.is_stopped()
        {
            tracing::debug!(%error, "a sink gives up writing");
            self.lock().failed = Some(error);
        }
        stop.on_stop(None);
    }

    fn serve(&self, writer: &mut dyn BatchWriter, stop: &Stop) -> Result<()> {
        // At once, so that a target that is missing or does not fit is found at the start and not with the first row.
        self.attempt(stop, "connect".into(), 0, &mut |stop| writer.connect(stop))?;
        while let Some(rows) = self.next_rows(stop) {
            let count = rows.iter().map(ChangeBatch::num_rows).sum();
            self.attempt(stop, format!("flush of {count} rows"), count, &mut |stop| {
                writer.connect(stop)?;
                writer.write(&rows, stop)
            })?;
            if stop.is_stopped() {
                break;
            }
            self.lock().written(count);
        }
        Ok(())
    }

    /// Waits for rows to write; `None` when the worker is to stop.
    fn next_rows(&self, stop: &Stop) -> Option<Vec<ChangeBatch>> {
        let mut queue = self.lock();
        loop {
            if queue.stopped || stop.is_stopped() {
                return None;
            }
            let oldest_ms = queue.entries.front().map(|e| e.since_ms);
            let wait_ms = match (oldest_ms, self.options.interval_ms) {
                (None, _) => None,
                _ if queue.rows >= self.options.max_rows || queue.due_rows > 0 => Some(0),
                (Some(_), None) => None,
                (Some(since), Some(interval)) => {
                    Some(since.saturating_add(interval).saturating_sub(self.clock.now_ms()).max(0))
                }
            };
            queue = match wait_ms {
                Some(0) => return Some(queue.front(self.options.max_rows)),
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(ms) => {
                    let wait = Duration::from_millis(ms.unsigned_abs());
                    self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Calls until it works, is not worth another try, or the worker is stopped.
    fn attempt(
        &self,
        stop: &Stop,
        what: String,
        rows: usize,
        call: &mut dyn FnMut(&Stop) -> Result<(), FlushError>,
    ) -> Result<()> {
        let (mut tries, mut unreachable_since_ms, mut pause_ms) = (0u32, None::<i64>, self.options.backoff_ms.max(1));
        loop {
            let begin_ns = self.clock.now_nanos();
            self.metrics.external.begin(what.clone(), self.clock.now_ms());
            let result = call(stop);
            let took_ns = self.clock.now_nanos().saturating_sub(begin_ns);
            self.metrics.external.end(if result.is_ok() { rows as u64 } else { 0 }, took_ns);
            let now_ms = self.clock.now_ms();
            let error = match result {
                Ok(()) => return Ok(()),
                Err(_) if stop.is_stopped() => return Ok(()),
                Err(FlushError::Fatal(e)) => return Err(e),
                Err(FlushError::Busy(e)) if tries >= self.options.max_retries => {
                    return Err(e.context(format_args!("{what} failed {} times", tries + 1)));
                }
                Err(FlushError::Busy(e)) => {
                    tries += 1;
                    unreachable_since_ms = None;
                    e
                }
                Err(FlushError::Unreachable(e)) => {
                    let since_ms = *unreachable_since_ms.get_or_insert(now_ms);
                    let gone_ms = now_ms.saturating_sub(since_ms);
                    if gone_ms >= self.options.unreachable_ms {
                        return Err(e.context(format_args!("{what} failed for {:.1} s", gone_ms as f64 / 1e3)));
                    }
                    e
                }
            };
            tracing::warn!(%what, %error, pause_ms, "a call of a sink failed and will be tried again");
            self.metrics.external.retries.add(1);
            // While it waits, the call counts as under way: the server is what the rows wait for.
            self.metrics.external.begin(format!("{what} (waiting to try again)"), now_ms);
            if !stop.sleep_ms(pause_ms) {
                return Ok(());
            }
            let longest_ms = if unreachable_since_ms.is_some() { BACKOFF_MS_MAX.1 } else { BACKOFF_MS_MAX.0 };
            pause_ms = (pause_ms * 2).min(longest_ms);
        }
    }
}

#[cfg(test)]
mod tests;
