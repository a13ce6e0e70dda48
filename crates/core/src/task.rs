//! What is said between those who run tasks and the job master: plain data, the same within one process and between two.

use crate::element::Barrier;
use crate::error::Error;
use crate::ids::{CheckpointId, OperatorId};
use crate::operator::Notification;
use crate::snapshot::{ChannelAddress, SubtaskCheckpointStats, SubtaskState};
use crate::source::Split;

/// Elements that were ever put into channels.
pub type Sent = Vec<(ChannelAddress, u64)>;

/// What a task is told. Delivered in order through its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskCommand {
    /// Sources: snapshot the reader and inject this barrier.
    Trigger(Barrier),
    /// What became of a checkpoint.
    Notify(Notification),
    /// Sources: read these splits.
    AssignSplits {
        /// The splits, with positions.
        splits: Vec<Split>,
        /// No other will come: the source ends when its splits have.
        no_more: bool,
    },
    /// Put in what a rescaled checkpoint held in front of an operator, if it is of this task, and say when nothing is on
    /// its way here any more.
    Drain {
        /// The operator.
        operator: OperatorId,
        /// What has been sent here, as [`TaskReport::Drained`] told: on a connection it is in nobody's queue.
        sent: Sent,
    },
    /// Everything that the checkpoint held has been processed: the job goes on.
    Resume,
    /// Stop now; nothing is flushed.
    Cancel,
    /// The final checkpoint is complete: the task ends once its sinks have committed.
    FinishJob,
}

/// What the job master hears of a task, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum TaskReport {
    /// All operators are open.
    Running,
    /// The synchronous part of a checkpoint is done; its state is being stored.
    Cut {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Trigger to first barrier at this task.
        start_delay_ms: u64,
        /// First to last barrier.
        alignment_ms: u64,
        /// Time spent cutting.
        sync_ms: u64,
    },
    /// The state of a checkpoint is stored. May come after the end of the task's attempt.
    Acknowledged {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its state.
        state: SubtaskState,
        /// Its statistics.
        stats: SubtaskCheckpointStats,
    },
    /// This task takes no part in a checkpoint.
    Declined {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its state was cut and could not be stored.
        storing: bool,
        /// Why, one sentence.
        reason: String,
    },
    /// Nothing of what was put in by [`TaskCommand::Drain`] is on its way here any more.
    Drained {
        /// The operator that it was put in for.
        operator: OperatorId,
        /// What this task has sent.
        sent: Sent,
    },
    /// All data has passed through the task. It still takes barriers.
    EndOfData,
    /// It ended as told by [`TaskCommand::FinishJob`].
    Finished,
    /// It failed; nothing but news of stored state follows.
    Failed(Error),
    /// It was cancelled; nothing but news of stored state follows.
    Canceled,
}
