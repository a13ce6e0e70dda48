//! Checkpoints: when to take one, how it is written and published, how it is found again; never runs a task.
//!
//! * [`coordinator`] decides purely: `step(now, event) -> Vec<Action>`.
//! * [`restart`] decides what follows a failure.
//! * [`metadata`] is the `_metadata` file and what a new job may take from it.
//! * [`storage`] keeps files and the publish log with its fence.
//! * [`stats`] is the history that the REST API and the progress line show.

pub mod coordinator;
pub mod metadata;
pub mod restart;
pub mod stats;
pub mod storage;

pub use coordinator::{Action, CheckpointCoordinator, CheckpointOptions, Event, FailureReason, PendingMetadata};
pub use metadata::{CheckpointMetadata, JobDescription, OperatorInfo, RestoredOperator};
pub use restart::{RestartDecision, RestartOptions, RestartStrategy};
pub use stats::CheckpointStatsHistory;
pub use storage::{CheckpointDirectory, JobStorage, RestorePoint, StorageOptions};
