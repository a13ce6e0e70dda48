//! A sink that hands rows to the program that started the job, and a source over batches in memory; neither does I/O.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use flott_core::sink::{ChangelogMode, Committable, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::time::SharedClock;
use flott_core::{ChangeBatch, CheckpointId, Error, Result};

use crate::wire::{Reader, Writer};

/// How long a full queue makes a writer wait before it offers again.
const BUSY_MS: i64 = 5;
/// Rows of a batch of [`CollectionSource`] at most.
const BATCH_ROWS: usize = 4096;

#[derive(Default)]
struct Queue {
    batches: VecDeque<ChangeBatch>,
    ended: u32,
    parallelism: u32,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    capacity: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows for the program that started the job, with their kinds, in the order of each subtask.
///
/// Rows are handed out at once, not at checkpoints: after a failover within one run, rows since the last checkpoint come
/// again (at least once). A full queue is backpressure, not an error.
pub struct CollectSink {
    shared: Arc<Shared>,
    mode: ChangelogMode,
}

/// The other end of a [`CollectSink`].
pub struct CollectHandle {
    shared: Arc<Shared>,
}

impl CollectSink {
    /// A sink that takes rows of `mode`, and its other end. At most `capacity` batches wait.
    pub fn new(mode: ChangelogMode, capacity: usize) -> (Self, CollectHandle) {
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { queue, filled: Condvar::new(), capacity: capacity.max(1) });
        (CollectSink { shared: shared.clone(), mode }, CollectHandle { shared })
    }
}

impl CollectHandle {
    /// The next batch; `None` when none came within `timeout`, or when all writers have ended.
    pub fn next(&self, timeout: Duration) -> Option<ChangeBatch> {
        let queue = self.shared.lock();
        let waiting = |q: &mut Queue| q.batches.is_empty() && !(q.parallelism > 0 && q.ended >= q.parallelism);
        let (mut queue, _) =
            self.shared.filled.wait_timeout_while(queue, timeout, waiting).unwrap_or_else(PoisonError::into_inner);
        queue.batches.pop_front()
    }
    /// Whether all writers have ended and every batch was taken.
    pub fn is_finished(&self) -> bool {
        let queue = self.shared.lock();
        queue.batches.is_empty() && queue.parallelism > 0 && queue.ended >= queue.parallelism
    }
}

impl Drop for CollectHandle {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.batches.clear();
    }
}

impl Sink for CollectSink {
    fn changelog_mode(&self) -> ChangelogMode {
        self.mode
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        let mut queue = self.shared.lock();
        queue.parallelism = context.parallelism;
        // A restart: nobody has ended any more.
        queue.ended = 0;
        Ok(Box::new(CollectWriter { shared: self.shared.clone(), clock: context.clock, ended: false }))
    }
}

struct CollectWriter {
    shared: Arc<Shared>,
    clock: SharedClock,
    ended: bool,
}

impl SinkWriter for CollectWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let mut queue = self.shared.lock();
        // Nobody will read any more: the job goes on, its other sinks matter.
        if queue.closed || batch.num_rows() == 0 {
            return Ok(WriteStatus::Accepted);
        }
        if queue.batches.len() >= self.shared.capacity {
            return Ok(WriteStatus::Busy { until_ms: self.clock.now_ms() + BUSY_MS });
        }
        queue.batches.push_back(batch.clone());
        self.shared.filled.notify_one();
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, _: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>> {
        if end_of_data && !std::mem::replace(&mut self.ended, true) {
            self.shared.lock().ended += 1;
            self.shared.filled.notify_all();
        }
        Ok(Vec::new())
    }
}

/// Batches in memory as a bounded source of one split, in order.
pub struct CollectionSource {
    batches: Arc<[ChangeBatch]>,
}

impl CollectionSource {
    /// A source of append-only batches.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        Self::of_changes(batches.into_iter().map(ChangeBatch::append).collect())
    }
    /// A source of changes.
    pub fn of_changes(batches: Vec<ChangeBatch>) -> Self {
        CollectionSource { batches: batches.into_iter().filter(|b| b.num_rows() > 0).collect() }
    }
}

/// Id of the one split.
const SPLIT: &str = "collection";
/// Tag and version of the position.
const TAG: (u8, u8) = (b'C', 1);

impl Source for CollectionSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(OneSplit))
    }
    fn reader(&self, _: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(CollectionReader { batches: self.batches.clone(), at: None }))
    }
}

struct OneSplit;

impl SplitEnumerator for OneSplit {
    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        Ok(vec![Split { id: SPLIT.into(), state: Vec::new() }])
    }
}

struct CollectionReader {
    batches: Arc<[ChangeBatch]>,
    /// Batch and row within it.
    at: Option<(usize, usize)>,
}

impl SplitReader for CollectionReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        for split in splits {
            let mut at = (0, 0);
            if !split.state.is_empty() {
                let mut r = Reader::new("collection position", &split.state, TAG.0, TAG.1)?;
                at = (usize::try_from(r.u64()?).unwrap_or(usize::MAX), usize::try_from(r.u64()?).unwrap_or(usize::MAX));
                r.end()?;
            }
            let rows = self.batches.get(at.0).map_or(0, ChangeBatch::num_rows);
            if at.0 > self.batches.len() || at.1 > rows {
                return Err(Error::user(
                    "collection.changed",
                    "the collection has fewer rows than the checkpoint says",
                )
                .detail(format!("the position is batch {}, row {} of {} batches", at.0, at.1, self.batches.len()))
                .hint("run the job with the collection that it was started with"));
            }
            self.at = Some(at);
        }
        Ok(())
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let Some((batch, row)) = self.at else { return Ok(ReaderEvent::Drained) };
        let Some(rows) = self.batches.get(batch) else {
            self.at = None;
            return Ok(ReaderEvent::SplitFinished { split: SPLIT.into() });
        };
        let len = (rows.num_rows() - row).min(BATCH_ROWS);
        let whole = row + len == rows.num_rows();
        self.at = Some(if whole { (batch + 1, 0) } else { (batch, row + len) });
        Ok(ReaderEvent::Rows { split: SPLIT.into(), batch: rows.slice(row, len) })
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let encode = |(batch, row): (usize, usize)| Split {
            id: SPLIT.into(),
            state: Writer::new(TAG.0, TAG.1).u64(batch as u64).u64(row as u64).done(),
        };
        Ok(self.at.map(encode).into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
