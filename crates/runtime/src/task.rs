//! A task: one subtask of one vertex as a state machine. Driven by [`crate::spawn_task`] or by a simulator; it never
//! blocks, never spawns and reads time only from its clock. Barriers that overtake are in [`overtake`].

mod overtake;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_schema::FieldRef;
use flott_core::config::Configuration;
use flott_core::element::{Barrier, Element, Signal};
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, JobId, OperatorId, SubtaskId};
use flott_core::memory::MemoryBudget;
use flott_core::metrics::{OperatorMetrics, TaskMetrics};
use flott_core::operator::{Notification, Operator, OperatorContext, Outbox, TARGET_BATCH_ROWS};
use flott_core::snapshot::{OperatorCut, OperatorStateStore};
use flott_core::source::{SourceTransformFactory, SplitReader, WatermarkOptions};
use flott_core::state::StateBackend;
use flott_core::task::{Sent, TaskCommand};
use flott_core::time::{EventTime, SharedClock};
use flott_plan::stream_graph::Partitioner;

use crate::alignment::AlignmentGroup;
use crate::chain::{Chain, ChainEvent};
use crate::channel::{ChannelReceiver, ChannelSender};
use crate::gate::{GateOptions, InputGate};
use crate::head::{BarrierItem, Head, HeadPoll, Item};
use crate::in_flight::{InFlightCut, Queued};
use crate::mailbox::{MailboxReceiver, mailbox};
use crate::output::Outputs;
use crate::panics::guard;
use crate::source_head::{SourceHead, SourceHeadOptions};
use crate::waker::TaskWaker;

pub use crate::mailbox::{MailboxError, TaskHandle};
use overtake::Passing;

/// Everything a task is made of.
pub struct TaskSpec {
    /// Which subtask.
    pub subtask: SubtaskId,
    /// Number of subtasks of the vertex.
    pub parallelism: u32,
    /// Number of key groups of the job.
    pub max_parallelism: u32,
    /// Which start of the job this is.
    pub attempt: u32,
    /// The job.
    pub job: JobId,
    /// Name of the vertex, for threads and messages.
    pub task_name: Arc<str>,
    /// Where elements come from.
    pub head: TaskHead,
    /// The operators, head first. Empty only behind a source.
    pub chain: Vec<ChainedOperator>,
    /// The edges that leave the chain.
    pub outputs: Vec<OutputSpec>,
    /// The effective configuration, handed to operators.
    pub config: Arc<Configuration>,
    /// Time.
    pub clock: SharedClock,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// Counters of the task.
    pub metrics: Arc<TaskMetrics>,
    /// Sizes and intervals.
    pub options: TaskOptions,
    /// The waker that the ends of this task's channels were built with.
    pub waker: TaskWaker,
    /// What an unaligned checkpoint held in flight for this task.
    pub recovered: Recovered,
}

/// What an unaligned checkpoint held in flight in front of the operators of a task.
#[derive(Debug, Default)]
pub struct Recovered {
    /// By operator; what lay in channels, where nothing was rescaled, is in the channels.
    pub queued: Vec<(OperatorId, Queued)>,
    /// The job was rescaled: it is put in operator by operator, when [`TaskCommand::Drain`] says so, and until
    /// [`TaskCommand::Resume`] no timer fires.
    pub staged: bool,
}

/// Sizes and intervals of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Elements an operator's outbox holds.
    pub outbox_capacity: usize,
    /// Commands a mailbox holds.
    pub mailbox_capacity: usize,
    /// `execution.buffer-timeout`: how long small batches may wait to be joined. 0: never join.
    pub buffer_timeout_ms: i64,
    /// `pipeline.auto-watermark-interval`: how often a source emits its watermark. 0: with every batch that moves it.
    pub watermark_interval_ms: i64,
    /// Rows up to which small batches are joined after an exchange.
    pub target_batch_rows: usize,
}

impl Default for TaskOptions {
    fn default() -> Self {
        TaskOptions {
            outbox_capacity: 4,
            mailbox_capacity: 1024,
            buffer_timeout_ms: 100,
            watermark_interval_ms: 200,
            target_batch_rows: TARGET_BATCH_ROWS,
        }
    }
}

/// Where the elements of a task come from.
pub enum TaskHead {
    /// A source.
    Source(SourceHeadSpec),
    /// Channels, by input port of the first operator. UNION inputs all belong to port 0.
    Inputs(Vec<Vec<ChannelReceiver>>),
}

/// A source at the head of a chain. Splits, restored ones too, come as [`TaskCommand::AssignSplits`].
pub struct SourceHeadSpec {
    /// Address of its state.
    pub operator: OperatorId,
    /// Name, for errors.
    pub name: Arc<str>,
    /// The reader.
    pub reader: Box<dyn SplitReader>,
    /// Computed columns, event times, watermarks; per split.
    pub transform: Option<Arc<dyn SourceTransformFactory>>,
    /// Idleness and alignment.
    pub watermarks: WatermarkOptions,
    /// The group it is aligned with, when `watermarks.alignment` names one.
    pub alignment: Option<Arc<AlignmentGroup>>,
    /// Counters.
    pub metrics: Arc<OperatorMetrics>,
}

/// One operator of a chain. Sinks come as [`crate::sink::SinkOperator`].
pub struct ChainedOperator {
    /// Address of its state.
    pub id: OperatorId,
    /// Name, for errors.
    pub name: Arc<str>,
    /// The operator, not yet open.
    pub operator: Box<dyn Operator>,
    /// Keyed state, restored or empty.
    pub state: Box<dyn StateBackend>,
    /// Operator state, restored or empty.
    pub operator_state: OperatorStateStore,
    /// Counters.
    pub metrics: Arc<OperatorMetrics>,
}

/// An edge that leaves the chain.
pub struct OutputSpec {
    /// How rows are spread.
    pub partitioner: Partitioner,
    /// Fields of the key columns, in the partitioner's order; empty unless it is `Hash`.
    pub key_fields: Vec<FieldRef>,
    /// One channel per subtask of the consumer; for `Forward` exactly the one to the subtask of the same index.
    pub channels: Vec<ChannelSender>,
}

/// What a task says.
pub enum TaskEvent {
    /// All operators are open.
    Running,
    /// The synchronous part of a checkpoint is done; keyed state is still to be written, off this thread.
    Cut(TaskCut),
    /// This task will not take part in a checkpoint.
    Declined {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why, one sentence.
        reason: String,
    },
    /// Nothing of what was put in by [`TaskCommand::Drain`] is on its way here any more; what was sent on by then.
    Drained(OperatorId, Sent),
    /// All data has passed through the chain. The task still takes barriers.
    EndOfData,
    /// It ended as told by [`TaskCommand::FinishJob`].
    Finished,
    /// It failed; nothing follows.
    Failed(Error),
    /// It was cancelled; nothing follows.
    Canceled,
}

/// The synchronous cut of a task.
pub struct TaskCut {
    /// The barrier.
    pub barrier: Barrier,
    /// State of every operator, head first, the source included.
    pub cuts: Vec<OperatorCut>,
    /// Trigger to first barrier at this task.
    pub start_delay_ms: u64,
    /// First to last barrier.
    pub alignment_ms: u64,
    /// Time spent cutting.
    pub sync_ms: u64,
    /// Bytes of rows read between the first and the last barrier.
    pub processed_bytes: u64,
    /// Whether the barrier overtook rows at this task.
    pub unaligned: bool,
    /// What it overtook.
    pub in_flight: InFlightCut,
}

impl TaskCut {
    /// A cut that has just begun.
    pub(crate) fn of(item: BarrierItem) -> Self {
        TaskCut {
            barrier: item.barrier,
            cuts: item.cut.into_iter().collect(),
            start_delay_ms: item.start_delay_ms,
            alignment_ms: item.alignment_ms,
            sync_ms: item.sync_ns / 1_000_000,
            processed_bytes: item.processed_bytes,
            unaligned: false,
            in_flight: InFlightCut::default(),
        }
    }
}

/// Hears what tasks say, on the task's thread: it must return at once.
pub trait TaskListener: Send + Sync {
    /// `event` of one start of one subtask.
    fn on_event(&self, subtask: SubtaskId, attempt: u32, event: TaskEvent);
}

/// What a call of [`Task::run`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskProgress {
    /// The budget is used up and there is more to do.
    Working,
    /// Nothing to do before a wake-up, or this processing time.
    Idle {
        /// When to run again, if no wake-up comes first.
        wake_at_ms: Option<i64>,
    },
    /// Nothing can be done before there is room downstream, or this processing time.
    Backpressured {
        /// When to run again, if no wake-up comes first.
        wake_at_ms: Option<i64>,
    },
    /// It has ended; its last event said how.
    Finished,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Running,
    Over,
}

/// A task, to be driven by calls of [`Task::run`].
pub struct Task {
    subtask: SubtaskId,
    attempt: u32,
    task_name: Arc<str>,
    clock: SharedClock,
    metrics: Arc<TaskMetrics>,
    waker: TaskWaker,
    listener: Arc<dyn TaskListener>,
    mailbox: MailboxReceiver,
    head: Head,
    chain: Chain,
    outputs: Outputs,
    phase: Phase,
    finish_requested: bool,
    /// The end of all data has left the chain, and nobody was told.
    end_unsaid: bool,
    /// The barrier that is in this task and may overtake.
    passing: Option<Passing>,
    /// What a rescaled checkpoint held, until it is put in.
    stages: Vec<(OperatorId, Queued)>,
    /// An operator's share has been put in: who asked is told when all is through.
    draining: Option<(OperatorId, Sent)>,
    /// Rows of the last operator that were counted as given to a sink.
    sunk: u64,
}

impl Task {
    /// Puts a task together; nothing of the user's runs before the first [`Task::run`].
    pub fn new(spec: TaskSpec, listener: Arc<dyn TaskListener>) -> Result<(Task, TaskHandle)> {
        if spec.chain.is_empty() && !matches!(spec.head, TaskHead::Source(_)) {
            return Err(Error::bug(format!("task `{}` has inputs and no operator", spec.task_name)));
        }
        let options = spec.options;
        let (handle, mailbox) = mailbox(spec.subtask, options.mailbox_capacity, spec.waker.clone());
        let head = match spec.head {
            TaskHead::Source(source) => Head::Source(Box::new(SourceHead::new(
                source,
                SourceHeadOptions {
                    watermark_interval_ms: options.watermark_interval_ms,
                    clock: Arc::clone(&spec.clock),
                    metrics: Arc::clone(&spec.metrics),
                },
            ))),
            TaskHead::Inputs(ports) => Head::Gate(Box::new(InputGate::new(
                ports,
                GateOptions {
                    buffer_timeout_ms: options.buffer_timeout_ms,
                    target_batch_rows: options.target_batch_rows,
                },
            ))),
        };
        let outputs = Outputs::new(spec.outputs, spec.max_parallelism, spec.subtask.index, Arc::clone(&spec.metrics))?;
        let (job, subtask, attempt) = (spec.job, spec.subtask, spec.attempt);
        let context = |op: ChainedOperator| {
            let waker = spec.waker.clone();
            let context = OperatorContext {
                job,
                operator: op.id,
                name: op.name,
                subtask: subtask.index,
                parallelism: spec.parallelism,
                max_parallelism: spec.max_parallelism,
                attempt,
                config: Arc::clone(&spec.config),
                clock: Arc::clone(&spec.clock),
                watermark: EventTime::MIN,
                state: op.state,
                operator_state: op.operator_state,
                out: Outbox::new(options.outbox_capacity).with_waker(move || waker.wake()),
                memory: spec.memory.clone(),
                metrics: op.metrics,
            };
            (op.operator, context)
        };
        let chain = Chain::new(spec.chain.into_iter().map(context).collect());
        let mut task = Task {
            subtask,
            attempt,
            task_name: spec.task_name,
            clock: spec.clock,
            metrics: spec.metrics,
            waker: spec.waker,
            listener,
            mailbox,
            head,
            chain,
            outputs,
            phase: Phase::Created,
            finish_requested: false,
            end_unsaid: false,
            passing: None,
            stages: Vec::new(),
            draining: None,
            sunk: 0,
        };
        task.recover(spec.recovered)?;
        Ok((task, handle))
    }

    /// Which subtask this is.
    pub fn subtask(&self) -> SubtaskId {
        self.subtask
    }
    /// Name of the vertex.
    pub fn name(&self) -> &Arc<str> {
        &self.task_name
    }
    /// The waker that says when to run again.
    pub fn waker(&self) -> &TaskWaker {
        &self.waker
    }
    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }
    /// The counters.
    pub fn metrics(&self) -> &Arc<TaskMetrics> {
        &self.metrics
    }

    /// Does up to `budget` things, each at most a batch long. The first call opens the operators. After
    /// [`TaskProgress::Finished`] further calls do nothing.
    pub fn run(&mut self, budget: usize) -> TaskProgress {
        if self.phase == Phase::Over {
            return TaskProgress::Finished;
        }
        // Operators and readers are guarded one by one, with their names; this guard is for what lies between them.
        let result = guard(AssertUnwindSafe(|| self.advance(budget)));
        self.outputs.tell_readers();
        self.count_sunk();
        result.unwrap_or_else(|error| {
            self.end(TaskEvent::Failed(error));
            TaskProgress::Finished
        })
    }

    fn end(&mut self, event: TaskEvent) {
        self.phase = Phase::Over;
        self.say(event);
    }

    fn say(&self, event: TaskEvent) {
        self.listener.on_event(self.subtask, self.attempt, event);
    }

    fn advance(&mut self, budget: usize) -> Result<TaskProgress> {
        if self.phase == Phase::Created && !self.mailbox.is_cancelled() {
            self.chain.open()?;
            self.phase = Phase::Running;
            self.say(TaskEvent::Running);
        }
        let clock = Arc::clone(&self.clock);
        let nanos = move || clock.now_nanos();
        for _ in 0..budget {
            if self.mailbox.is_cancelled() {
                self.end(TaskEvent::Canceled);
                return Ok(TaskProgress::Finished);
            }
            if self.mailbox.has_mail() {
                self.read_mail()?;
            }
            self.hurry()?;
            self.outputs.flush();
            self.check_passing();
            if self.outputs.is_ready()
                && let Some(element) = self.chain.pop()
            {
                self.give(element)?;
                continue;
            }
            let now_ms = self.clock.now_ms();
            self.outputs.tell_readers_by(now_ms);
            match self.chain.step(now_ms, &nanos)? {
                ChainEvent::Worked => continue,
                ChainEvent::Cut(cut) => {
                    self.on_cut(cut);
                    continue;
                }
                ChainEvent::Overtook(done) => {
                    self.on_overtook(*done)?;
                    continue;
                }
                ChainEvent::Nothing => {}
            }
            let head_wake_ms = match self.chain.accepts() {
                false => None,
                true => match self.head.poll(now_ms, self.chain.accepts_rows())? {
                    HeadPoll::Item(item) => {
                        self.note_started();
                        self.feed(item, &nanos)?;
                        continue;
                    }
                    HeadPoll::Declined(checkpoint) => {
                        self.passing.take_if(|p| p.checkpoint() == checkpoint);
                        self.decline(checkpoint, "a newer checkpoint overtook it");
                        continue;
                    }
                    HeadPoll::Hurry => continue,
                    HeadPoll::Nothing { wake_at_ms } => wake_at_ms,
                },
            };
            self.check_drained();
            return Ok(self.rest(head_wake_ms));
        }
        Ok(TaskProgress::Working)
    }

    /// Nothing can be done: says why, or ends.
    fn rest(&mut self, head_wake_ms: Option<i64>) -> TaskProgress {
        // The last checkpoint follows: not before a sink has written what it holds, so that checkpoints go on until then.
        if self.end_unsaid && !self.chain.is_busy() {
            self.end_unsaid = false;
            self.say(TaskEvent::EndOfData);
        }
        if self.finish_requested && self.outputs.is_ready() && self.chain.is_settled() {
            self.end(TaskEvent::Finished);
            return TaskProgress::Finished;
        }
        let wake_at_ms = [head_wake_ms, self.chain.next_wake_ms(), self.hurry_at_ms()].into_iter().flatten().min();
        match !self.outputs.is_ready() || self.chain.is_blocked() || self.chain.is_busy() {
            true => TaskProgress::Backpressured { wake_at_ms },
            false => TaskProgress::Idle { wake_at_ms },
        }
    }

    fn feed(&mut self, item: Item, nanos: &dyn Fn() -> u64) -> Result<()> {
        match (&item, &self.head) {
            (Item::Batch { batch, .. }, Head::Gate(_)) => self.metrics.records_in.add(batch.num_rows() as u64),
            (Item::Signal(Signal::Watermark(w)), _) => self.metrics.set_watermark(w.0),
            _ => {}
        }
        if let ChainEvent::Cut(cut) = self.chain.feed(item, nanos)? {
            self.on_cut(cut);
        }
        Ok(())
    }

    /// A sink's rows leave the job here, not through a channel.
    fn count_sunk(&mut self) {
        if self.outputs.is_empty() {
            let taken = self.chain.last_records_in();
            self.metrics.records_out.add(taken - std::mem::replace(&mut self.sunk, taken));
        }
    }

    /// Hands an element that left the chain to the outputs.
    fn give(&mut self, element: Element) -> Result<()> {
        if let Element::Batch(b) = &element {
            self.chain.count_out(b.num_rows());
        }
        let ended = matches!(element, Element::Signal(Signal::EndOfData));
        if let Element::Signal(Signal::Barrier(b)) = &element {
            self.on_given(b.checkpoint);
        }
        self.outputs.push(element)?;
        self.end_unsaid |= ended;
        Ok(())
    }

    fn decline(&self, checkpoint: CheckpointId, reason: &str) {
        self.say(TaskEvent::Declined { checkpoint, reason: reason.to_owned() });
    }

    fn read_mail(&mut self) -> Result<()> {
        for command in self.mailbox.take() {
            match command {
                TaskCommand::Trigger(barrier) => match &mut self.head {
                    Head::Source(source) => source.trigger(barrier)?,
                    Head::Gate(_) => {
                        self.decline(barrier.checkpoint, "it was triggered at a task that is not a source")
                    }
                },
                TaskCommand::Notify(notification) => {
                    match (&mut self.head, notification) {
                        (Head::Source(s), Notification::Completed(c)) => s.notify_complete(c)?,
                        (Head::Gate(g), Notification::Aborted(c)) => g.abort(c),
                        _ => {}
                    }
                    if let Notification::Aborted(c) = notification {
                        self.passing.take_if(|p| p.checkpoint() == c);
                        self.chain.abort_overtaking(c);
                    }
                    self.chain.notify(notification)?;
                }
                TaskCommand::AssignSplits { splits, no_more } => match &mut self.head {
                    Head::Source(source) => source.assign(splits, no_more)?,
                    Head::Gate(_) => {
                        return Err(Error::bug(format!(
                            "task `{}` is not a source and was given splits",
                            self.task_name
                        )));
                    }
                },
                TaskCommand::Drain { operator, sent } => self.drain(operator, sent)?,
                TaskCommand::Resume => self.chain.pause(false),
                TaskCommand::FinishJob => self.finish_requested = true,
                // Cancelling sets a flag of its own and never lies in the queue.
                TaskCommand::Cancel => {}
            }
        }
        Ok(())
    }
}
