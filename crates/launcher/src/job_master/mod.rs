//! The job master of an embedded job: one thread that hears everything and carries out what the pure parts decide.
//!
//! The coordinator decides about checkpoints, the restart strategy about failures. Nothing here touches a record, and nothing
//! here waits for storage: that is the work threads' part.

mod actions;
mod diagnose;
mod enumerators;
mod failover;
mod upload;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use flott_checkpoint::metadata::{CheckpointMetadata, JobDescription};
use flott_checkpoint::{CheckpointCoordinator, Event as CheckpointEvent, JobStorage, RestartStrategy};
use flott_core::config::Configuration;
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, OperatorId, SubtaskId, VertexId};
use flott_core::memory::{MemoryBudget, MemoryUse, Reservation};
use flott_core::snapshot::{ChunkReader, SubtaskCheckpointStats, SubtaskState};
use flott_core::time::SharedClock;
use flott_plan::job_graph::JobGraph;
use flott_runtime::{TaskCommand, TaskEvent, TaskHandle, TaskListener};

pub use enumerators::{Assignment, Enumerator};

use crate::options::JobOptions;
use crate::progress::{JobBoard, JobStatus};
use crate::work::WorkThreads;

/// Events that may wait for the job master: tasks wait when it is full, which it never is for long.
pub const EVENTS_MAX: usize = 4096;

/// What the job master hears.
pub enum JobEvent {
    /// A task says something.
    Task {
        /// Which.
        subtask: SubtaskId,
        /// Of which attempt.
        attempt: u32,
        /// What.
        event: TaskEvent,
    },
    /// The cut of a task is stored, or is not.
    Uploaded {
        /// Which task.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// State and statistics.
        result: Result<(SubtaskState, SubtaskCheckpointStats)>,
    },
    /// A publication ended.
    Published {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What was published.
        result: Result<(flott_checkpoint::coordinator::Published, Arc<CheckpointMetadata>)>,
    },
    /// The user wants it to stop, and to end like this.
    Stop(JobStatus),
}

/// A checkpoint and where its chunks are read.
#[derive(Clone)]
pub struct Restore {
    /// What it says.
    pub metadata: Arc<CheckpointMetadata>,
    /// Reads its chunks.
    pub reader: Arc<dyn ChunkReader>,
    /// Whether it is the job's own: later checkpoints may refer to its chunks.
    pub own: bool,
}

/// Everything the job master is given.
pub struct JobMasterParts {
    /// The graph.
    pub graph: JobGraph,
    /// Names and parallelism of operators, for metadata.
    pub description: JobDescription,
    /// Options.
    pub options: JobOptions,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// Where checkpoints go.
    pub storage: Arc<JobStorage>,
    /// This process's generation.
    pub generation: u64,
    /// The checkpoint to start from.
    pub restore: Option<Restore>,
    /// The coordinator, with its next id set.
    pub coordinator: CheckpointCoordinator,
    /// What follows a failure.
    pub restart: RestartStrategy,
    /// Time.
    pub clock: SharedClock,
    /// What clients see.
    pub board: Arc<JobBoard>,
}

/// Where the job stands.
enum State {
    /// Tasks run; so many have said so.
    Running { up: usize },
    /// Tasks are told to stop; `then` when all have.
    Stopping { then: Then },
    /// A restart is due.
    Waiting { until_ms: i64 },
    /// Nothing follows.
    Done,
}

enum Then {
    Recover(Error),
    End(JobStatus),
}

/// One job.
pub struct JobMaster {
    parts: JobMasterParts,
    state: State,
    attempt: u32,
    tasks: Vec<TaskHandle>,
    threads: Vec<JoinHandle<()>>,
    sources: Vec<SubtaskId>,
    enumerators: Vec<(VertexId, Enumerator)>,
    /// Tasks of this attempt that have not ended.
    alive: usize,
    finished: usize,
    /// Subtasks that reached the end of their data before all were running.
    ended_early: Vec<SubtaskId>,
    /// How rows in flight of a rescaled checkpoint are put in, and how many tasks have not answered the present step.
    drains: VecDeque<(OperatorId, VertexId)>,
    draining: usize,
    /// Splits that sources get once all that is done.
    held_back: Vec<(VertexId, Vec<Assignment>)>,
    wake_checkpoint_ms: Option<i64>,
    next_discovery_ms: Option<i64>,
    events: Receiver<JobEvent>,
    sender: SyncSender<JobEvent>,
    work: WorkThreads,
    looks: diagnose::Looks,
    /// The state of all tasks, drawn from the budget.
    state_memory: Reservation,
    /// Events for the coordinator that came up while its actions were carried out.
    queued: VecDeque<CheckpointEvent>,
    stepping: bool,
}

struct Listener(SyncSender<JobEvent>);

impl TaskListener for Listener {
    fn on_event(&self, subtask: SubtaskId, attempt: u32, event: TaskEvent) {
        // The job master outlives its tasks; if it is gone, so is the process.
        let _ = self.0.send(JobEvent::Task { subtask, attempt, event });
    }
}

impl JobMaster {
    /// A job master that has not started anything.
    pub fn new(parts: JobMasterParts, sender: SyncSender<JobEvent>, events: Receiver<JobEvent>) -> Result<Self> {
        let work = WorkThreads::start("checkpoint-io", 2)
            .map_err(|e| Error::retry("job.threads", format!("cannot start a thread: {e}")))?;
        Ok(JobMaster {
            state_memory: parts.memory.reserve(MemoryUse::State, 0),
            looks: diagnose::Looks::default(),
            parts,
            state: State::Done,
            attempt: 0,
            tasks: Vec::new(),
            threads: Vec::new(),
            sources: Vec::new(),
            enumerators: Vec::new(),
            alive: 0,
            finished: 0,
            ended_early: Vec::new(),
            drains: VecDeque::new(),
            draining: 0,
            held_back: Vec::new(),
            wake_checkpoint_ms: None,
            next_discovery_ms: None,
            events,
            sender,
            work,
            queued: VecDeque::new(),
            stepping: false,
        })
    }

    /// Runs the job to its end. The outcome is on the board.
    pub fn run(mut self) {
        if let Err(e) = self.deploy() {
            self.fail(e);
        }
        while !matches!(self.state, State::Done) {
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.on_time();
        }
    }

    fn now(&self) -> i64 {
        self.parts.clock.now_ms()
    }

    fn listener(&self) -> Arc<dyn TaskListener> {
        Arc::new(Listener(self.sender.clone()))
    }

    /// How long to wait for an event before time itself is one.
    fn patience(&self) -> Duration {
        let restart = match self.state {
            State::Waiting { until_ms } => Some(until_ms),
            _ => None,
        };
        // Overdue discovery is no reason to hurry while nothing runs.
        let discovery = self.next_discovery_ms.filter(|_| matches!(self.state, State::Running { .. }));
        let next = [restart, self.wake_checkpoint_ms, discovery].into_iter().flatten().min();
        let ms = next.map_or(1000, |at| (at - self.now()).clamp(1, 1000));
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    fn on_time(&mut self) {
        let now = self.now();
        self.look_after(now);
        if self.wake_checkpoint_ms.is_some_and(|at| at <= now) {
            self.wake_checkpoint_ms = None;
            self.step(CheckpointEvent::Tick);
        }
        if let State::Waiting { until_ms } = self.state {
            // A publication under way may still come to be: the restore point is chosen after it.
            if until_ms <= now && self.parts.coordinator.publishing().is_none() {
                self.redeploy();
            }
        }
        if matches!(self.state, State::Running { .. })
            && self.next_discovery_ms.is_some_and(|at| at <= now)
            && let Err(e) = self.rediscover()
        {
            self.on_failure(e);
        }
    }

    fn on_event(&mut self, event: JobEvent) {
        match event {
            JobEvent::Task { subtask, attempt, event } if attempt == self.attempt => self.on_task(subtask, event),
            JobEvent::Task { .. } => {}
            JobEvent::Uploaded { subtask, checkpoint, result } => match result {
                Ok((state, stats)) => self.step(CheckpointEvent::Ack { subtask, checkpoint, state, stats }),
                Err(e) => self.step(CheckpointEvent::Declined {
                    subtask,
                    checkpoint,
                    reason: flott_checkpoint::FailureReason::Async,
                    message: e.to_string(),
                }),
            },
            JobEvent::Published { checkpoint, result } => self.on_published(checkpoint, result),
            JobEvent::Stop(status) => self.on_stop(status),
        }
    }

    fn on_task(&mut self, subtask: SubtaskId, event: TaskEvent) {
        match event {
            TaskEvent::Running => {
                if let State::Running { up } = &mut self.state {
                    *up += 1;
                    if *up == self.tasks.len() {
                        self.on_all_up();
                    }
                }
            }
            TaskEvent::Cut(cut) => self.upload(subtask, cut),
            TaskEvent::Drained(_) => self.on_drained(),
            TaskEvent::Declined { checkpoint, reason } => self.step(CheckpointEvent::Declined {
                subtask,
                checkpoint,
                reason: flott_checkpoint::FailureReason::Declined,
                message: reason,
            }),
            // A task with nothing to read ends before its neighbours are up; the coordinator hears it once all are.
            TaskEvent::EndOfData => match self.state {
                State::Running { up } if up < self.tasks.len() => self.ended_early.push(subtask),
                _ => self.step(CheckpointEvent::SubtaskReachedEnd { subtask }),
            },
            TaskEvent::Finished => {
                self.finished += 1;
                self.on_ended();
            }
            TaskEvent::Canceled => self.on_ended(),
            TaskEvent::Failed(e) => {
                self.on_failure(e);
                self.on_ended();
            }
        }
    }

    fn tell_all(&mut self, command: &TaskCommand) {
        for i in 0..self.tasks.len() {
            self.tell(i, command.clone());
        }
    }

    fn tell(&mut self, task: usize, command: TaskCommand) {
        if let Err(flott_runtime::MailboxError::Full) = self.tasks[task].send(command) {
            self.on_failure(Error::retry(
                "task.mailbox-full",
                format!("subtask {} does not read its mailbox", self.tasks[task].subtask()),
            ));
        }
    }

    fn tell_vertex(&mut self, vertex: VertexId, assignments: Vec<Assignment>) {
        for a in assignments {
            let subtask = SubtaskId { vertex, index: a.subtask };
            if let Some(i) = self.tasks.iter().position(|t| t.subtask() == subtask) {
                self.tell(i, TaskCommand::AssignSplits { splits: a.splits, no_more: a.no_more });
            }
        }
    }
}
