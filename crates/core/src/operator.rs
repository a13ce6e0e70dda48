//! The law of operators: what the runtime calls, in which order, and what an operator may do there.
//!
//! An operator never blocks, never reads a clock, never spawns: it turns one call into rows in its outbox. The one that has to
//! ask a server (a lookup join) hands its questions to threads that the connector's contract allows to block, and is
//! called again through its [`OperatorWaker`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::ChangeBatch;
use crate::config::Configuration;
use crate::element::{Element, Signal};
use crate::error::Result;
use crate::ids::{CheckpointId, JobId, OperatorId};
use crate::key_group::KeyGroupRange;
use crate::memory::MemoryBudget;
use crate::metrics::OperatorMetrics;
use crate::snapshot::OperatorStateStore;
use crate::state::StateBackend;
use crate::time::{EventTime, SharedClock};

/// Rows per batch that operators aim for when they build output.
pub const TARGET_BATCH_ROWS: usize = 4096;

/// Whether a call is finished.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The call is finished; the next one may come.
    Done,
    /// The outbox is full and there is more to say: the runtime calls [`Operator::resume`] when there is room,
    /// and nothing else until that returns [`Progress::Done`]. State is consistent at every such pause.
    Blocked,
}

/// What happens to an operator besides rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorEvent {
    /// The combined watermark of all inputs rose to this. It is forwarded after the call is done, unless
    /// [`OperatorProperties::forwards_watermarks`] is false.
    Watermark(EventTime),
    /// All inputs went idle ([`crate::element::Signal::Idle`]): whoever reads from here is not to wait for a watermark.
    Idle,
    /// An input came back from idleness.
    Active,
    /// Processing time reached what [`Outbox::wake_at`] asked for, or an [`OperatorWaker`] was used. Carries the time now, in
    /// milliseconds.
    ProcessingTime(i64),
    /// This input has ended; others may go on.
    EndOfInput(usize),
    /// All inputs have ended: emit what is left, and remember in state that it was emitted.
    EndOfData,
    /// A barrier is about to pass: emit pre-aggregates, store operator state. The snapshot follows at once.
    BeforeBarrier(CheckpointId),
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Published: its effects may become visible. May arrive late, twice, or not at all for an older one.
    Completed(CheckpointId),
    /// Given up.
    Aborted(CheckpointId),
}

/// What the runtime must know of an operator; returned by [`Operator::open`].
#[derive(Clone, Copy, Debug)]
pub struct OperatorProperties {
    /// Watermarks of the inputs are passed on by the runtime.
    pub forwards_watermarks: bool,
    /// Idleness of the inputs is passed on by the runtime; the operator hears of it otherwise ([`OperatorEvent::Idle`]).
    pub forwards_idleness: bool,
}

impl Default for OperatorProperties {
    fn default() -> Self {
        OperatorProperties { forwards_watermarks: true, forwards_idleness: true }
    }
}

/// One operator of a chain, owned by one task thread.
///
/// Call order: `open` once; then any of `process`, `on_event`, `notify` in the order of the input; `resume` only
/// after [`Progress::Blocked`]. Barriers never arrive while blocked. After an error nothing is called again.
/// State lives in [`OperatorContext::state`] and [`OperatorContext::operator_state`] and is snapshot by the runtime.
pub trait Operator: Send {
    /// Registers state tables and reads restored operator state.
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties>;
    /// Takes rows from input `port` (0, or 0 and 1 for joins).
    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress>;
    /// Takes an event.
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        let _ = (event, ctx);
        Ok(Progress::Done)
    }
    /// Goes on where the last call stopped.
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }
    /// Hears what became of a checkpoint.
    fn notify(&mut self, notification: Notification, ctx: &mut OperatorContext) -> Result<()> {
        let _ = (notification, ctx);
        Ok(())
    }
    /// Whether it takes another batch now. The chain asks before handing it one; signals, barriers, events and notifications
    /// come whatever it says. A sink that keeps a batch its server has no room for says no, so that barriers still reach it.
    /// It asks to be woken ([`Outbox::wake_at`]) when the answer may have changed.
    fn accepts_input(&self) -> bool {
        true
    }
    /// Whether everything that completed checkpoints promised has happened. A task does not finish before: a sink whose
    /// commit is being retried says no.
    fn is_settled(&self) -> bool {
        true
    }
}

/// What an operator is given with every call.
pub struct OperatorContext {
    /// The job.
    pub job: JobId,
    /// The operator's id: the address of its state.
    pub operator: OperatorId,
    /// The operator's name, as in EXPLAIN and in errors.
    pub name: Arc<str>,
    /// Index of this subtask, from 0.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups of the job.
    pub max_parallelism: u32,
    /// Which start of the job this is, from 0; part of the names of uncommitted files and transactions.
    pub attempt: u32,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// Processing time.
    pub clock: SharedClock,
    /// The combined watermark of all inputs; [`EventTime::MIN`] before the first. Already the new one when
    /// [`OperatorEvent::Watermark`] is called.
    pub watermark: EventTime,
    /// Keyed state.
    pub state: Box<dyn StateBackend>,
    /// Operator (list) state.
    pub operator_state: OperatorStateStore,
    /// Where output goes.
    pub out: Outbox,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// Counters of this operator.
    pub metrics: Arc<OperatorMetrics>,
}

impl OperatorContext {
    /// The key groups of this subtask.
    pub fn key_groups(&self) -> KeyGroupRange {
        KeyGroupRange::of_subtask(self.max_parallelism, self.parallelism, self.subtask)
    }
}

/// The bounded output of an operator. `emit` always succeeds; an operator that has more than one batch to say
/// asks [`Outbox::has_room`] between batches and returns [`Progress::Blocked`] when there is none.
#[derive(Debug)]
pub struct Outbox {
    queue: VecDeque<Element>,
    capacity: usize,
    lifted: bool,
    wake_at_ms: Option<i64>,
    waker: OperatorWaker,
}

/// Asks, from any thread, for [`OperatorEvent::ProcessingTime`] as soon as the operator can take it; several requests before
/// that count as one. An operator that returned [`Progress::Blocked`] with room in its outbox is resumed instead, provided
/// that it asked for a time too.
#[derive(Clone, Default)]
pub struct OperatorWaker {
    woken: Arc<AtomicBool>,
    task: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl OperatorWaker {
    /// Wakes the operator.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(task) = &self.task
        {
            task();
        }
    }
    fn take(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for OperatorWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorWaker").field("woken", &self.woken).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox that is full from `capacity` elements on.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "an outbox without room can never make progress");
        let queue = VecDeque::with_capacity(capacity + 1);
        Outbox { queue, capacity, lifted: false, wake_at_ms: None, waker: OperatorWaker::default() }
    }
    /// Runtime: what wakes the operator's task.
    pub fn with_waker(mut self, task: impl Fn() + Send + Sync + 'static) -> Self {
        self.waker.task = Some(Arc::new(task));
        self
    }
    /// What other threads wake the operator with.
    pub fn waker(&self) -> OperatorWaker {
        self.waker.clone()
    }
    /// Emits rows; an empty batch is dropped.
    pub fn emit(&mut self, batch: ChangeBatch) {
        if batch.num_rows() > 0 {
            self.queue.push_back(Element::Batch(batch));
        }
    }
    /// Emits a signal. Only operators that do not forward watermarks emit watermarks.
    pub fn emit_signal(&mut self, signal: Signal) {
        self.queue.push_back(Element::Signal(signal));
    }
    /// Whether another batch fits.
    pub fn has_room(&self) -> bool {
        self.lifted || self.queue.len() < self.capacity
    }
    /// Runtime: whether there is room for anything: lets the call that is under way end while a barrier waits for it.
    pub fn lift(&mut self, lifted: bool) {
        self.lifted = lifted;
    }
    /// Runtime: the elements themselves, oldest first.
    pub fn elements(&mut self) -> &mut VecDeque<Element> {
        &mut self.queue
    }
    /// Asks for [`OperatorEvent::ProcessingTime`] at `at_ms`; the earliest request counts.
    pub fn wake_at(&mut self, at_ms: i64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |w| w.min(at_ms)));
    }
    /// Runtime: takes the pending wake-up if it is due at `now_ms`, or was asked for by an [`OperatorWaker`].
    pub fn take_due_wake(&mut self, now_ms: i64) -> bool {
        let due = self.wake_at_ms.is_some_and(|w| w <= now_ms);
        if due {
            self.wake_at_ms = None;
        }
        self.waker.take() || due
    }
    /// Runtime: when the operator wants to be woken.
    pub fn next_wake_ms(&self) -> Option<i64> {
        self.wake_at_ms
    }
    /// Runtime: the oldest element.
    pub fn pop(&mut self) -> Option<Element> {
        self.queue.pop_front()
    }
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    /// Number of waiting elements.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Builds the operator of each subtask. Shared by all subtasks of a vertex.
pub trait OperatorFactory: Send + Sync {
    /// A fresh operator; `open` follows on the task's thread.
    fn create(&self) -> Result<Box<dyn Operator>>;
}

impl<F> OperatorFactory for F
where
    F: Fn() -> Result<Box<dyn Operator>> + Send + Sync,
{
    fn create(&self) -> Result<Box<dyn Operator>> {
        self()
    }
}
