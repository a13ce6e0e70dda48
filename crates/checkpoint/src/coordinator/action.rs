//! What the coordinator hears and what it orders: plain values, never behaviour.

use flott_core::element::Barrier;
use flott_core::snapshot::{SubtaskCheckpointStats, SubtaskState};
use flott_core::{CheckpointId, Error, OperatorId, Result, SubtaskId};

use super::FailureReason;
use crate::metadata::{CheckpointMetadata, CoordinatorState, JobDescription, OperatorMetadata};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// All subtasks of an attempt run.
    Started {
        /// Every subtask of the job, sources included.
        subtasks: Vec<SubtaskId>,
    },
    /// Time passed: at the latest when the last [`Action::WakeAt`] is due.
    Tick,
    /// Somebody asks for a checkpoint now.
    ManualTrigger {
        /// As a savepoint.
        savepoint: bool,
    },
    /// Enumerator states, captured on [`Action::CaptureCoordinatorState`].
    CoordinatorState {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// State per source operator.
        states: Vec<(OperatorId, Vec<u8>)>,
    },
    /// The enumerator states could not be captured.
    CaptureFailed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What happened.
        message: String,
    },
    /// A subtask has stored its state.
    Ack {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its state.
        state: SubtaskState,
        /// Its statistics.
        stats: SubtaskCheckpointStats,
    },
    /// A subtask cannot take part.
    Declined {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why, by name.
        reason: FailureReason,
        /// Why, in words.
        message: String,
    },
    /// [`Action::Publish`] was carried out.
    Published {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where it lies, or why it does not exist.
        result: Result<Published>,
    },
    /// A subtask has handled `EndOfData`. When all have, the final checkpoint is triggered.
    SubtaskReachedEnd {
        /// The subtask.
        subtask: SubtaskId,
    },
    /// The job fails over: everything pending is given up until the next [`Event::Started`].
    Suspended,
    /// The job ends or is cancelled.
    Stop,
}

/// A checkpoint that now exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Directory of the checkpoint.
    pub path: String,
    /// Size of its metadata.
    pub metadata_bytes: u64,
}

/// What the driver must do, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Capture the enumerators' state and answer with [`Event::CoordinatorState`].
    CaptureCoordinatorState {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Hand the barrier to every source subtask.
    TriggerSources(Barrier),
    /// Publish and answer with [`Event::Published`]. At most one is outstanding.
    Publish(Box<PendingMetadata>),
    /// Tell all subtasks (and enumerators) that the checkpoint is complete.
    NotifyCompleted(CheckpointId),
    /// Tell all subtasks and the storage that the checkpoint is given up.
    NotifyAborted(CheckpointId),
    /// Delete the files of a state that no checkpoint refers to.
    DiscardState {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Who had stored it.
        subtask: SubtaskId,
        /// The state.
        state: Box<SubtaskState>,
    },
    /// Fail the job; the restart strategy decides what follows. The coordinator is suspended.
    FailJob(Error),
    /// Send [`Event::Tick`] at this time (milliseconds); replaces the earlier one.
    WakeAt(i64),
    /// The last checkpoint is complete (after `NotifyCompleted`): tasks may finish.
    FinalCheckpointCompleted(CheckpointId),
    /// A message came for a checkpoint that is no longer pending.
    LateMessage {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Who sent it.
        subtask: SubtaskId,
        /// Whether the checkpoint was given up lately (else it was completed or never known).
        expired: bool,
    },
    /// A manual request will not be carried out.
    TriggerRejected {
        /// As a savepoint.
        savepoint: bool,
        /// Why.
        reason: FailureReason,
    },
}

/// Everything that the tasks said about a checkpoint: acknowledged by all, not published yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMetadata {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// When it was triggered.
    pub triggered_ms: i64,
    /// When the last subtask acknowledged.
    pub completed_ms: i64,
    /// A savepoint.
    pub savepoint: bool,
    /// The final one.
    pub last: bool,
    /// State of every subtask.
    pub subtasks: Vec<(SubtaskId, SubtaskState)>,
    /// State of the enumerators.
    pub coordinator_states: Vec<(OperatorId, Vec<u8>)>,
}

impl PendingMetadata {
    /// The metadata to publish: states sorted by operator and subtask index. A state of an operator that `job` does not
    /// have is a bug.
    pub fn into_metadata(self, job: &JobDescription, generation: u64) -> Result<CheckpointMetadata> {
        let mut operators: Vec<OperatorMetadata> = job
            .operators
            .iter()
            .map(|o| OperatorMetadata {
                id: o.id,
                name: o.name.clone(),
                parallelism: o.parallelism,
                max_parallelism: o.max_parallelism,
                subtasks: Vec::new(),
            })
            .collect();
        let mut subtasks = self.subtasks;
        subtasks.sort_by_key(|(id, _)| id.index);
        let mut in_flight = Vec::new();
        for (subtask, state) in subtasks {
            in_flight.extend(state.in_flight);
            for operator_state in state.operators {
                let found = operators.iter_mut().find(|o| o.id == operator_state.operator);
                let Some(operator) = found else {
                    return Err(Error::bug(format!(
                        "subtask {subtask} acknowledged state of operator {}, which the job does not have",
                        operator_state.operator
                    )));
                };
                operator.subtasks.push((subtask.index, operator_state));
            }
        }
        Ok(CheckpointMetadata {
            job: job.job,
            job_name: job.name.clone(),
            checkpoint: self.checkpoint,
            generation,
            triggered_ms: self.triggered_ms,
            completed_ms: self.completed_ms,
            savepoint: self.savepoint,
            last: self.last,
            max_parallelism: job.max_parallelism,
            operators,
            coordinator_states: self
                .coordinator_states
                .into_iter()
                .map(|(operator, state)| CoordinatorState { operator, state })
                .collect(),
            in_flight,
        })
    }
}
