//! What the job master hears and what it orders: plain values, never behaviour.

use std::collections::VecDeque;

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::{Action as CheckpointAction, PendingMetadata};
use flott_core::snapshot::SubtaskState;
use flott_core::source::Split;
use flott_core::task::{TaskCommand, TaskReport};
use flott_core::{CheckpointId, Error, OperatorId, Result, SubtaskId, VertexId};

use super::SourceStart;
use crate::progress::JobStatus;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job begins.
    Start,
    /// [`Action::Deploy`] was carried out.
    Deployed {
        /// Which attempt.
        attempt: u32,
        /// Its tasks have been started; after an error none of them runs.
        result: Result<Deployed>,
    },
    /// A task says something.
    Task {
        /// Which.
        subtask: SubtaskId,
        /// Of which attempt.
        attempt: u32,
        /// What.
        report: TaskReport,
    },
    /// Something that no task said makes the attempt fail: a connection that broke, too much state.
    Failed {
        /// Which attempt; another one does not care.
        attempt: u32,
        /// What happened.
        error: Error,
    },
    /// [`Action::Discover`] was carried out.
    Discovered {
        /// Which attempt.
        attempt: u32,
        /// What the enumerators of the sources found; splits that are known already among them.
        result: Result<Vec<(OperatorId, Vec<Split>)>>,
    },
    /// [`Action::Publish`] was carried out.
    Published {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where it lies, or why it does not exist.
        result: Result<Published>,
    },
    /// The user wants the job to stop, and to end like this.
    Stop(JobStatus),
    /// Time passed: at the latest at [`super::JobMaster::wake_at_ms`].
    Tick,
}

/// Tasks that have been started.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The sources, or why they cannot be read although the tasks run.
    pub sources: Result<Vec<SourceStart>>,
    /// How rows in flight of a rescaled checkpoint are put in: operators, and the vertices to wait for, in order. Empty: there are none,
    /// or they are where they were.
    pub drains: VecDeque<(OperatorId, VertexId)>,
}

/// What the driver must do, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Start all tasks from the newest checkpoint, make enumerators, and answer with [`Event::Deployed`].
    Deploy {
        /// Number of the attempt, from 0.
        attempt: u32,
    },
    /// Tell tasks of the attempt something.
    Tell {
        /// Whom.
        to: Vec<SubtaskId>,
        /// What.
        command: TaskCommand,
    },
    /// Stop all tasks of the attempt; each still reports its end.
    Cancel,
    /// All tasks of the attempt have reported their end: what they held goes.
    Release,
    /// Ask the enumerators for splits and answer with [`Event::Discovered`].
    Discover,
    /// Publish a checkpoint and answer with [`Event::Published`]. At most one is outstanding.
    Publish(Box<PendingMetadata>),
    /// Tell the storage that a checkpoint is given up.
    Abort(CheckpointId),
    /// Delete the files of a state that no checkpoint refers to.
    Discard {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The state.
        state: Box<SubtaskState>,
    },
    /// Worth a line in the log: a late message, a request that is not carried out.
    Log(CheckpointAction),
    /// Clients see this from now on.
    Status(JobStatus),
    /// The attempt failed because of this.
    Failed(Error),
    /// The next attempt is due after a pause.
    Restarting {
        /// The pause.
        delay_ms: i64,
    },
    /// There will be no further attempt, and why.
    GivingUp(String),
    /// Nothing follows: the job has ended like this.
    End {
        /// How.
        status: JobStatus,
        /// Whether what the job has published goes.
        discard: bool,
    },
}
