//! The thread of a job master: hears everything, feeds it to the pure [`JobMaster`] and carries out what that decides.
//!
//! Nothing here touches a record, and nothing here waits for storage while tasks run: that is the work threads' part. Splits are looked
//! for on this thread.

mod actions;
mod diagnose;
mod sources;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::metadata::{CheckpointMetadata, JobDescription};
use flott_checkpoint::{CheckpointCoordinator, JobStorage};
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, OperatorId, SubtaskId, VertexId};
use flott_core::memory::{MemoryBudget, MemoryUse, Reservation};
use flott_core::snapshot::ChunkReader;
use flott_core::task::{TaskCommand, TaskReport};
use flott_core::time::SharedClock;
use flott_plan::job_graph::{JobGraph, JobVertex};
use flott_plan::stream_graph::NodeKind;

use crate::job_master::{Event, JobMaster, VertexTasks};
use crate::options::JobOptions;
use crate::progress::{JobBoard, JobStatus, TaskEntry};
use crate::work::WorkThreads;

/// Events that may wait for the job master: tasks wait when it is full, which it never is for long. Twice the tasks of a job at least, because
/// nobody hears them while an attempt is being started.
pub const EVENTS_MAX: usize = 4096;

/// What the job master's thread hears.
pub enum JobEvent {
    /// A task says something.
    Task {
        /// Which.
        subtask: SubtaskId,
        /// Of which attempt.
        attempt: u32,
        /// What.
        report: TaskReport,
    },
    /// Something that no task said makes an attempt fail.
    Failed {
        /// Which.
        attempt: u32,
        /// What happened.
        error: Error,
    },
    /// A publication ended.
    Published {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What was published.
        result: Result<(Published, Arc<CheckpointMetadata>)>,
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

/// Those who run the tasks of one job, as its job master sees them. What tasks say comes as [`JobEvent::Task`], in order for each task.
pub trait TaskGateway: Send {
    /// Starts every task of an attempt. After an error none of them runs.
    fn deploy(&mut self, attempt: u32, restore: Option<&Restore>) -> Result<Started>;
    /// Tells a task of the attempt something; one that has ended hears nothing. An error when it cannot be told.
    fn tell(&mut self, subtask: SubtaskId, command: TaskCommand) -> Result<()>;
    /// Stops every task of the attempt; each still reports its end.
    fn cancel(&mut self);
    /// Every task of the attempt has reported its end: lets go of what they held.
    fn release(&mut self);
}

/// Tasks that were started.
#[derive(Default)]
pub struct Started {
    /// Their counters.
    pub entries: Vec<TaskEntry>,
    /// As in [`crate::job_master::Deployed`].
    pub drains: VecDeque<(OperatorId, VertexId)>,
}

/// Everything that the thread of a job master is given.
pub struct JobParts {
    /// The graph.
    pub graph: Arc<JobGraph>,
    /// Names and parallelism of operators, for metadata.
    pub description: JobDescription,
    /// Options.
    pub options: JobOptions,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// Where checkpoints go.
    pub storage: Arc<JobStorage>,
    /// This process's generation.
    pub generation: u64,
    /// The checkpoint to start from.
    pub restore: Option<Restore>,
    /// The coordinator, with its next id set.
    pub coordinator: CheckpointCoordinator,
    /// Time.
    pub clock: SharedClock,
    /// What clients see.
    pub board: Arc<JobBoard>,
    /// Those who run the tasks.
    pub gateway: Box<dyn TaskGateway>,
}

/// The driver of one job.
pub struct JobDriver {
    /// The first field to go: threads that others wait for may be waiting for room in it.
    events: Receiver<JobEvent>,
    master: JobMaster,
    graph: Arc<JobGraph>,
    description: JobDescription,
    options: JobOptions,
    memory: MemoryBudget,
    storage: Arc<JobStorage>,
    generation: u64,
    restore: Option<Restore>,
    clock: SharedClock,
    board: Arc<JobBoard>,
    gateway: Box<dyn TaskGateway>,
    /// The enumerators of the attempt whose sources are looked at again.
    enumerators: Vec<sources::Enumerator>,
    sender: SyncSender<JobEvent>,
    work: WorkThreads,
    looks: diagnose::Looks,
    /// The state of all tasks, drawn from the budget.
    state_memory: Reservation,
    /// Answers to actions: heard before anything else.
    answers: VecDeque<Event>,
}

impl JobDriver {
    /// The driver of a job that has not begun; `events` is where `sender` sends.
    pub fn new(parts: JobParts, sender: SyncSender<JobEvent>, events: Receiver<JobEvent>) -> Result<Self> {
        let work = WorkThreads::start("checkpoint-log", 2)
            .map_err(|e| Error::retry("job.threads", format!("cannot start a thread: {e}")))?;
        let seed = parts.clock.now_nanos();
        let tasks = |v: &JobVertex| VertexTasks {
            vertex: v.id,
            parallelism: v.parallelism,
            is_source: matches!(v.chain.first().map(|n| &n.node.kind), Some(NodeKind::Source(_))),
        };
        let vertices: Vec<VertexTasks> = parts.graph.vertices.iter().map(tasks).collect();
        Ok(JobDriver {
            state_memory: parts.memory.reserve(MemoryUse::State, 0),
            master: JobMaster::new(&vertices, parts.options.clone(), parts.coordinator, seed),
            graph: parts.graph,
            description: parts.description,
            options: parts.options,
            memory: parts.memory,
            storage: parts.storage,
            generation: parts.generation,
            restore: parts.restore,
            clock: parts.clock,
            board: parts.board,
            gateway: parts.gateway,
            enumerators: Vec::new(),
            events,
            sender,
            work,
            looks: diagnose::Looks::default(),
            answers: VecDeque::new(),
        })
    }

    /// Runs the job to its end. The outcome is on the board.
    pub fn run(mut self) {
        self.step(Event::Start);
        while !self.master.is_done() {
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => self.step(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_after(self.now());
        }
    }

    fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    /// How long to wait for an event before time itself is one.
    fn patience(&self) -> Duration {
        let ms = self.master.wake_at_ms().map_or(1000, |at| at.saturating_sub(self.now()).clamp(1, 1000));
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    fn on_event(&mut self, event: JobEvent) {
        match event {
            JobEvent::Task { subtask, attempt, report } => self.step(Event::Task { subtask, attempt, report }),
            JobEvent::Failed { attempt, error } => self.step(Event::Failed { attempt, error }),
            JobEvent::Published { checkpoint, result } => self.on_published(checkpoint, result),
            JobEvent::Stop(status) => self.step(Event::Stop(status)),
        }
    }

    /// One step of the job master, and those that follow from what it orders.
    fn step(&mut self, event: Event) {
        self.answers.push_back(event);
        while let Some(event) = self.answers.pop_front() {
            let now = self.now();
            self.look(now);
            for action in self.master.step(now, event) {
                self.act(action);
            }
            self.tell_diagnoses();
        }
    }
}
