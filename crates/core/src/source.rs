//! The law of sources: a split enumerator beside the JobManager, split readers in the tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::ChangeBatch;
use crate::config::Configuration;
use crate::error::Result;
use crate::ids::CheckpointId;
use crate::memory::MemoryBudget;
use crate::metrics::OperatorMetrics;
use crate::time::SharedClock;

/// Whether a source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boundedness {
    /// It ends by itself.
    Bounded,
    /// It goes on until cancelled.
    Unbounded,
}

/// A part of a source and the position in it. `state` is the connector's own versioned encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Name, unique within the source and stable over restarts: a file, a partition, a range.
    pub id: String,
    /// Position; empty at the beginning.
    pub state: Vec<u8>,
}

/// A source, as configured. Shared by enumerator and readers.
pub trait Source: Send + Sync {
    /// Whether it ends.
    fn boundedness(&self) -> Boundedness;
    /// The enumerator: one per job attempt.
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>>;
    /// The reader of one subtask.
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>>;
}

/// What a reader is given.
#[derive(Clone)]
pub struct ReaderContext {
    /// Index of the subtask.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Processing time.
    pub clock: SharedClock,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// Counters of the source.
    pub metrics: Arc<OperatorMetrics>,
}

/// Finds splits. Not on a task thread; may block on I/O.
///
/// The runtime remembers which ids were ever handed out (it is part of the checkpoint), so an enumerator may
/// name the same split again.
pub trait SplitEnumerator: Send {
    /// The ids ever handed out, before the first `discover` of a restored job: for sources that would cut what they know
    /// already into other parts now.
    fn restore(&mut self, known: &BTreeSet<String>) {
        let _ = known;
    }
    /// All splits that exist now, for `parallelism` readers.
    fn discover(&mut self, parallelism: u32) -> Result<Vec<Split>>;
    /// How often to look again; `None`: never.
    fn discovery_interval_ms(&self) -> Option<u64> {
        None
    }
}

/// What a reader has for the runtime.
#[derive(Clone, Debug)]
pub enum ReaderEvent {
    /// Rows of a split. The position that [`SplitReader::snapshot`] reports is after these rows.
    Rows {
        /// Split id.
        split: Arc<str>,
        /// The rows, in the source's schema.
        batch: ChangeBatch,
    },
    /// The split has ended: its rows were all handed out.
    SplitFinished {
        /// Split id.
        split: Arc<str>,
    },
    /// Nothing now; poll again at this processing time (milliseconds), or sooner when splits are assigned.
    Wait {
        /// When to poll again.
        until_ms: i64,
    },
    /// All assigned splits have ended.
    Drained,
}

/// Reads the splits assigned to one subtask, on the task's thread.
///
/// Call order: `assign` any number of times (restored positions included), `poll` in a loop, `snapshot` between polls.
/// `poll` must return within a few milliseconds; it returns [`ReaderEvent::Wait`] rather than sleep.
pub trait SplitReader: Send {
    /// Adds splits to read.
    fn assign(&mut self, splits: Vec<Split>) -> Result<()>;
    /// The next event.
    fn poll(&mut self) -> Result<ReaderEvent>;
    /// The unfinished splits with their positions after everything `poll` has returned.
    fn snapshot(&mut self) -> Result<Vec<Split>>;
    /// The same for a checkpoint that [`Self::notify_complete`] may name later: what the runtime calls.
    fn snapshot_for(&mut self, checkpoint: CheckpointId) -> Result<Vec<Split>> {
        let _ = checkpoint;
        self.snapshot()
    }
    /// Stops (`true`) or resumes reading a split whose event time ran ahead (watermark alignment). A reader that cannot
    /// pause a single split ignores it.
    fn pause(&mut self, split: &str, paused: bool) {
        let _ = (split, paused);
    }
    /// A checkpoint is complete: offsets may be committed to the outside.
    fn notify_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let _ = checkpoint;
        Ok(())
    }
}

/// What happens to the rows of a split before anything else sees them: computed columns, event times, watermarks.
///
/// One instance per split, so that watermarks are per split.
pub trait SourceTransform: Send {
    /// The rows to emit and, if they move it, the split's watermark in milliseconds.
    fn apply(&mut self, batch: ChangeBatch) -> Result<(ChangeBatch, Option<i64>)>;
}

/// Makes the [`SourceTransform`] of each split, and says how watermarks of splits combine.
pub trait SourceTransformFactory: Send + Sync {
    /// A fresh transform.
    fn create(&self) -> Result<Box<dyn SourceTransform>>;
    /// Whether it emits watermarks at all.
    fn has_watermarks(&self) -> bool;
}

/// How watermarks of the splits and subtasks of a source behave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatermarkOptions {
    /// A split without rows for this long (processing time) no longer holds the watermark back.
    pub idle_timeout_ms: Option<i64>,
    /// Splits of one alignment group may run at most `max_drift_ms` ahead of the slowest.
    pub alignment: Option<WatermarkAlignment>,
}

/// Watermark alignment of a group of sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// Name of the group within the job.
    pub group: String,
    /// How far ahead of the group's lowest watermark a split may read.
    pub max_drift_ms: i64,
}
