//! The job master's data and what must always hold of it; decisions are in `step` and `attempts`.

use std::collections::{BTreeMap, VecDeque};

use flott_checkpoint::{CheckpointCoordinator, Event as CheckpointEvent, RestartStrategy};
use flott_core::snapshot::ChannelAddress;
use flott_core::{Error, OperatorId, SubtaskId, VertexId};

use super::Action;
use super::splits::{Assignment, Splits};
use crate::options::JobOptions;
use crate::progress::JobStatus;

/// Where the job stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing was started yet.
    Created,
    /// An attempt is being started, or its tasks run.
    Running,
    /// Tasks are told to stop; `then` when all have.
    Stopping { then: Then },
    /// A restart is due.
    Waiting { until_ms: i64 },
    /// A publication that is under way is waited for: it would appear after everything was removed.
    Ending { status: JobStatus },
    /// Nothing follows.
    Done,
}

/// What follows once all tasks have stopped.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Recover(Error),
    End(JobStatus),
}

/// One attempt to run the job.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    pub(super) number: u32,
    /// Whether the driver has answered.
    pub(super) deployed: bool,
    /// Tasks that said that they run.
    pub(super) up: usize,
    /// Tasks that have ended, those that have finished among them.
    pub(super) ended: usize,
    pub(super) finished: usize,
    /// Subtasks that reached the end of their data before all were running.
    pub(super) ended_early: Vec<SubtaskId>,
    /// How rows in flight of a rescaled checkpoint are put in, and how many tasks have not answered the present step.
    pub(super) drains: VecDeque<(OperatorId, VertexId)>,
    pub(super) draining: usize,
    /// What tasks have sent through their channels by the end of their last step.
    pub(super) sent: BTreeMap<ChannelAddress, u64>,
    /// Splits that sources get once all that is done.
    pub(super) held_back: Vec<Assignment>,
    pub(super) sources: Vec<Splits>,
    pub(super) next_discovery_ms: Option<i64>,
}

/// The tasks of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VertexTasks {
    /// The vertex.
    pub vertex: VertexId,
    /// Their number.
    pub parallelism: u32,
    /// Whether they read splits.
    pub is_source: bool,
}

/// One job.
#[derive(Clone, Debug)]
pub struct JobMaster {
    pub(super) options: JobOptions,
    /// All of them, upstream first.
    pub(super) subtasks: Vec<SubtaskId>,
    /// Those whose head is a source.
    pub(super) readers: Vec<SubtaskId>,
    pub(super) phase: Phase,
    pub(super) attempt: Attempt,
    pub(super) coordinator: CheckpointCoordinator,
    pub(super) restart: RestartStrategy,
    /// State of the generator that gives restarts their jitter.
    pub(super) random: u64,
    pub(super) wake_checkpoint_ms: Option<i64>,
    /// Events for the coordinator that came up while its actions were carried out.
    pub(super) queued: VecDeque<CheckpointEvent>,
    pub(super) stepping: bool,
    /// The time of the present step.
    pub(super) now_ms: i64,
    /// What the present step has come to so far.
    pub(super) actions: Vec<Action>,
}

impl JobMaster {
    /// The job master of a job that has not begun, with its vertices upstream first. `seed` is any number.
    pub fn new(vertices: &[VertexTasks], options: JobOptions, coordinator: CheckpointCoordinator, seed: u64) -> Self {
        let subtasks = |all: bool| {
            let wanted = vertices.iter().filter(move |v| all || v.is_source);
            wanted.flat_map(|v| (0..v.parallelism).map(|index| SubtaskId { vertex: v.vertex, index })).collect()
        };
        JobMaster {
            restart: RestartStrategy::new(options.restart.clone()),
            options,
            subtasks: subtasks(true),
            readers: subtasks(false),
            phase: Phase::Created,
            attempt: Attempt::default(),
            coordinator,
            random: seed,
            wake_checkpoint_ms: None,
            queued: VecDeque::new(),
            stepping: false,
            now_ms: i64::MIN,
            actions: Vec::new(),
        }
    }
    /// Whether nothing follows.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }
    /// Whether an attempt runs, or is being started.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }
    /// Number of the present attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }
    /// The checkpoint coordinator.
    pub fn coordinator(&self) -> &CheckpointCoordinator {
        &self.coordinator
    }
    /// The same, to hand its history figures.
    pub fn coordinator_mut(&mut self) -> &mut CheckpointCoordinator {
        &mut self.coordinator
    }
    /// When time itself is an event. `None`: nothing waits for it.
    pub fn wake_at_ms(&self) -> Option<i64> {
        let restart = match self.phase {
            Phase::Waiting { until_ms } => Some(until_ms),
            _ => None,
        };
        // Overdue discovery is no reason to hurry while nothing runs.
        let discovery = self.attempt.next_discovery_ms.filter(|_| self.is_running());
        [restart, self.wake_checkpoint_ms, discovery].into_iter().flatten().min()
    }
    /// Whether the driver has answered and every task it had started has ended.
    pub(super) fn is_attempt_over(&self) -> bool {
        self.attempt.deployed && self.attempt.ended >= self.subtasks.len()
    }
    /// What must hold between two steps, as a sentence if it does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.coordinator.check_invariants()?;
        let a = &self.attempt;
        let wrong = if a.ended > self.subtasks.len() {
            "more tasks have ended than there are"
        } else if a.finished > a.ended {
            "a task has finished and not ended"
        } else if self.is_running() && self.is_attempt_over() {
            "all tasks have ended, and the attempt has not"
        } else if !self.actions.is_empty() || !self.queued.is_empty() || self.stepping {
            "a step has left something over"
        } else if matches!(self.phase, Phase::Ending { .. }) && self.coordinator.publishing().is_none() {
            "it waits for a publication that is not under way"
        } else {
            return Ok(());
        };
        Err(format!("{wrong}: {a:?} in {:?}", self.phase))
    }
}
