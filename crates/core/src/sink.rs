//! The law of sinks: writers that prepare, committers that commit once.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::ChangeBatch;
use crate::config::Configuration;
use crate::error::{Error, Result};
use crate::ids::{CheckpointId, JobId, OperatorId};
use crate::memory::MemoryBudget;
use crate::metrics::OperatorMetrics;
use crate::time::SharedClock;

/// A sink, as configured. Shared by all writers.
pub trait Sink: Send + Sync {
    /// Which row kinds the sink takes; the planner adapts or refuses the stream.
    fn changelog_mode(&self) -> ChangelogMode;
    /// The writer of one subtask; `restored` is what its predecessors' [`SinkWriter::snapshot`] returned.
    fn writer(&self, context: SinkContext, restored: Vec<Bytes>) -> Result<Box<dyn SinkWriter>>;
    /// The committer of one subtask, for sinks in two phases.
    fn committer(&self, context: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let _ = context;
        Ok(None)
    }
}

/// What a stream of changes holds, or what a sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangelogMode {
    /// `+I` only.
    Append,
    /// `+I`, `+U`, `-D` by key.
    Upsert,
    /// `+I`, `-U`, `+U`, `-D`.
    Retract,
}

/// What writers and committers are given.
#[derive(Clone)]
pub struct SinkContext {
    /// The job.
    pub job: JobId,
    /// The sink operator.
    pub operator: OperatorId,
    /// Index of the subtask.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Which start of the job within this run, from 0. With `run` it makes names of uncommitted things unique.
    pub attempt: u32,
    /// The generation: greater with every process that runs the job, also when the one before was killed at once.
    pub run: u64,
    /// Processing time.
    pub clock: SharedClock,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// Counters of the sink.
    pub metrics: Arc<OperatorMetrics>,
}

/// Whether a writer can take more.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStatus {
    /// The rows are taken.
    Accepted,
    /// Nothing was taken: offer the same batch again at this processing time (milliseconds). Backpressure without a blocked thread.
    Busy {
        /// When to offer again.
        until_ms: i64,
    },
}

/// Writes rows on the task's thread. Nothing it writes is visible to readers until committed.
pub trait SinkWriter: Send {
    /// Takes a batch.
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus>;
    /// Called before `prepare_commit`, again and again until it says `Accepted`: where a writer waits for what it has under
    /// way without blocking the thread. A checkpoint waits for as long, so a writer whose [`Self::snapshot`] carries what is
    /// not yet written outside says `Accepted` at once, except at `end_of_data`, when nothing may be left.
    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        let _ = end_of_data;
        Ok(WriteStatus::Accepted)
    }
    /// Makes everything written so far durable but invisible, and says how to make it visible. Called before every
    /// barrier, and with `end_of_data` before the last one. Never waits for a server: at-least-once sinks return nothing here,
    /// having put what they have not written yet into [`Self::snapshot`] or written it in [`Self::flush`].
    fn prepare_commit(&mut self, checkpoint: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>>;
    /// Writer state for the checkpoint, after `prepare_commit`.
    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }
    /// The watermark of the rows before.
    fn on_watermark(&mut self, at_ms: i64) {
        let _ = at_ms;
    }
    /// Processing time passed (rolling policies, buffer flushes); returns when to call again.
    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        let _ = now_ms;
        Ok(None)
    }
}

/// What a writer prepared: part of the checkpoint, committed after it is published, committed again after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable {
    /// Unique for ever: the key of deduplication.
    pub id: String,
    /// The checkpoint that published it.
    pub checkpoint: CheckpointId,
    /// The committer's own versioned encoding.
    pub payload: Vec<u8>,
}

/// Why a commit did not succeed.
#[derive(Debug)]
pub enum CommitError {
    /// It is under way off the task's thread: call again with the other committables (and newer ones) at this processing
    /// time. No attempt is counted.
    Pending {
        /// How many of the committables, from the first, are committed: they do not come again.
        committed: usize,
        /// When to ask again, in milliseconds.
        until_ms: i64,
    },
    /// It did not happen; trying again is safe and may help.
    Determinate(Error),
    /// It may have happened: only a committer that deduplicates may try again.
    Indeterminate(Error),
    /// It can never happen: the job fails, naming what is lost.
    Fatal(Error),
}

/// Makes committables visible, at least once each, with the effect of exactly once.
pub trait Committer: Send {
    /// Commits in order. Committing one that was committed before is a success.
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError>;
    /// Once per start, before the first write, after restored committables were committed: removes what dead attempts of
    /// this job left uncommitted.
    fn clean_up(&mut self) -> Result<()> {
        Ok(())
    }
}
