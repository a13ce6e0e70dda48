//! The channel between two subtasks: a bounded deque with credit in batches and bytes. Nobody ever blocks on it.
//!
//! An unaligned barrier goes to the front; what it overtakes is copied for the checkpoint under the same lock.
//! A sender that finds it full keeps the element and is woken when there is room; a receiver that finds it empty is woken when
//! something comes. One mutex per channel: elements are whole batches, so it is taken a few thousand times a second at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flott_core::element::{Barrier, Element, Signal};
use flott_core::ids::OperatorId;
use flott_core::memory::{MemoryBudget, MemoryUse, Reservation};
use flott_core::snapshot::ChannelAddress;

use crate::waker::TaskWaker;

/// How much a channel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Batches; at least 1.
    pub batches_max: usize,
    /// Bytes of batches. An empty channel takes one batch of any size.
    pub bytes_max: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        ChannelOptions { batches_max: 8, bytes_max: 4 << 20 }
    }
}

/// Elements that a queue has memory for from the start.
const QUEUE_CAPACITY: usize = 16;
/// Signals beyond the batches that a channel takes before it is full.
const SIGNALS_MAX: usize = 64;

struct Queue {
    elements: VecDeque<(Element, usize)>,
    /// The first so many elements overtook the rest.
    priority: usize,
    batches: usize,
    bytes: usize,
    /// The bytes, drawn from the budget of the process.
    reserved: Option<Reservation>,
    sender_waits: bool,
    /// Takes nothing but barriers that overtake.
    held: bool,
    taken: Taken,
    /// The sender is woken when either is taken.
    wake_when: Taken,
    sender_gone: bool,
    receiver_gone: bool,
}

/// How much of a channel its receiver has taken, since the channel began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Batches.
    pub batches: u64,
    /// Signals.
    pub signals: u64,
}

impl Taken {
    /// What is never reached.
    pub const NEVER: Taken = Taken { batches: u64::MAX, signals: u64::MAX };
    /// Both together.
    pub(crate) fn elements(self) -> u64 {
        self.batches.saturating_add(self.signals)
    }
}

impl Queue {
    /// Counts an element that the receiver took; whether the sender waits for that.
    fn count(&mut self, element: &Element) -> bool {
        match element {
            Element::Batch(_) => self.taken.batches += 1,
            Element::Signal(_) => self.taken.signals += 1,
        }
        self.is_due()
    }
    /// What was put into it so far.
    fn put(&self) -> Taken {
        let (batches, all) = (self.batches as u64, self.elements.len() as u64);
        Taken { batches: self.taken.batches + batches, signals: self.taken.signals + all - batches }
    }
    /// Whether the sender is to be woken for what was taken; it is so once.
    fn is_due(&mut self) -> bool {
        let due = self.taken.batches >= self.wake_when.batches || self.taken.signals >= self.wake_when.signals;
        if due {
            self.wake_when = Taken::NEVER;
        }
        due
    }
    fn weigh(&mut self) {
        if let Some(reserved) = &mut self.reserved {
            reserved.resize(self.bytes);
        }
    }
}

struct Shared {
    address: ChannelAddress,
    options: ChannelOptions,
    queue: Mutex<Queue>,
    sender: TaskWaker,
    receiver: TaskWaker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Lets go of the queue, then wakes the sender if it waits for what happened.
    fn release(&self, q: MutexGuard<'_, Queue>, wake_sender: bool) {
        drop(q);
        if wake_sender {
            self.sender.wake();
        }
    }
}

/// A channel from the task woken by `sender` to the task woken by `receiver`, outside of any job graph.
pub fn channel(options: ChannelOptions, sender: TaskWaker, receiver: TaskWaker) -> (ChannelSender, ChannelReceiver) {
    let nobody = OperatorId(0);
    let address = ChannelAddress { operator: nobody, subtask: 0, edge: 0, port: 0, producer: nobody, from: 0 };
    channel_at(address, options, sender, receiver)
}

/// The channel at `address` of a job, from the task woken by `sender` to the task woken by `receiver`.
pub fn channel_at(
    address: ChannelAddress,
    options: ChannelOptions,
    sender: TaskWaker,
    receiver: TaskWaker,
) -> (ChannelSender, ChannelReceiver) {
    assert!(options.batches_max > 0 && options.bytes_max > 0, "a channel without room can never make progress");
    let queue = Queue {
        elements: VecDeque::with_capacity(options.batches_max.min(QUEUE_CAPACITY)),
        priority: 0,
        batches: 0,
        bytes: 0,
        reserved: None,
        sender_waits: false,
        held: false,
        taken: Taken::default(),
        wake_when: Taken::NEVER,
        sender_gone: false,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { address, options, queue: Mutex::new(queue), sender, receiver });
    (ChannelSender(Arc::clone(&shared)), ChannelReceiver(shared))
}

/// Why an element was not taken; it comes back.
#[derive(Debug)]
pub enum TrySendError {
    /// No credit: the sender is woken when there is.
    Full(Element),
    /// The receiver is gone.
    Closed(Element),
}

/// The sending end.
pub struct ChannelSender(Arc<Shared>);

/// The receiving end.
pub struct ChannelReceiver(Arc<Shared>);

fn barrier(element: &Element) -> Option<&Barrier> {
    match element {
        Element::Signal(Signal::Barrier(b)) => Some(b),
        _ => None,
    }
}

/// Copies of the rows and of what is said about time: what a checkpoint keeps of elements that a barrier overtakes.
pub(crate) fn overtaken<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Vec<Element> {
    let kept = |e: &&Element| match e {
        Element::Batch(_) => true,
        Element::Signal(s) => matches!(s, Signal::Watermark(_) | Signal::Idle | Signal::Active),
    };
    elements.into_iter().filter(kept).cloned().collect()
}

fn cost(element: &Element) -> usize {
    match element {
        Element::Batch(b) => b.memory_bytes(),
        Element::Signal(_) => 0,
    }
}

impl ChannelSender {
    /// Appends an element if there is credit.
    pub fn try_send(&self, element: Element) -> Result<(), TrySendError> {
        if self.try_send_quietly(element)? == 1 {
            self.0.receiver.wake();
        }
        Ok(())
    }
    /// The same without waking the receiver, unless for a barrier that is to overtake soon; returns how many elements the channel
    /// holds. When it is one, nobody has told the receiver: it is the caller's to do, with [`ChannelSender::wake_receiver`].
    pub(crate) fn try_send_quietly(&self, element: Element) -> Result<usize, TrySendError> {
        let bytes = cost(&element);
        let mut q = self.0.lock();
        if q.receiver_gone {
            return Err(TrySendError::Closed(element));
        }
        let options = &self.0.options;
        let full = match &element {
            Element::Batch(_) => {
                q.batches >= options.batches_max || (q.batches > 0 && q.bytes + bytes > options.bytes_max)
            }
            Element::Signal(_) => q.elements.len() >= options.batches_max + SIGNALS_MAX,
        };
        if full || q.held {
            q.sender_waits = true;
            return Err(TrySendError::Full(element));
        }
        let alarm_ms = barrier(&element).and_then(Barrier::overtakes_at_ms);
        q.batches += usize::from(matches!(element, Element::Batch(_)));
        q.bytes += bytes;
        q.elements.push_back((element, bytes));
        q.weigh();
        let held = q.elements.len();
        drop(q);
        if let Some(ms) = alarm_ms {
            self.0.receiver.alarm_at(ms);
        }
        Ok(held)
    }
    /// Wakes the receiver, if it has not taken everything by itself meanwhile.
    pub(crate) fn wake_receiver(&self) {
        if !self.0.lock().elements.is_empty() {
            self.0.receiver.wake();
        }
    }
    /// Where the channel is in its job.
    pub fn address(&self) -> ChannelAddress {
        self.0.address
    }
    /// What the receiver has taken.
    pub fn taken(&self) -> Taken {
        self.0.lock().taken
    }
    /// What was put into it so far: taken since, or still queued.
    pub fn put(&self) -> Taken {
        self.0.lock().put()
    }
    /// Wakes the sender, once, when so many batches or so many signals have been taken; at once if they have. A call that asked for
    /// less still counts.
    pub fn wake_when_taken(&self, at: Taken) {
        let mut q = self.0.lock();
        q.wake_when.batches = q.wake_when.batches.min(at.batches);
        q.wake_when.signals = q.wake_when.signals.min(at.signals);
        let due = q.is_due();
        self.0.release(q, due);
    }
    /// Puts a barrier in front of everything but earlier priority elements, whatever the credit, and returns copies of what it
    /// overtook. One per checkpoint in flight.
    pub fn overtake(&self, barrier: Barrier) -> Vec<Element> {
        let mut q = self.0.lock();
        if q.receiver_gone {
            return Vec::new();
        }
        let at = q.priority;
        let before = overtaken(q.elements.iter().map(|(e, _)| e));
        q.elements.insert(at, (Element::Signal(Signal::Barrier(barrier.overtaking())), 0));
        q.priority += 1;
        drop(q);
        self.0.receiver.alarm_at(i64::MIN);
        before
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        self.0.lock().sender_gone = true;
        self.0.receiver.wake();
    }
}

impl ChannelReceiver {
    /// Takes the oldest element.
    pub fn try_recv(&self) -> Option<Element> {
        let mut q = self.0.lock();
        let (element, bytes) = q.elements.pop_front()?;
        q.priority = q.priority.saturating_sub(1);
        q.batches -= usize::from(matches!(element, Element::Batch(_)));
        q.bytes -= bytes;
        q.weigh();
        // Half empty before the sender is woken: one wake-up per several batches instead of one each.
        let room = q.sender_waits && q.batches * 2 <= self.0.options.batches_max;
        if room {
            q.sender_waits = false;
        }
        let wake = q.count(&element) | room;
        self.0.release(q, wake);
        Some(element)
    }
    /// Has the sender keep what it has, but for barriers that overtake; or no longer. For a receiver that hands on to another one, which
    /// has no room: what waits in front of the channel is the sending task's to overtake.
    pub fn hold(&self, held: bool) {
        let mut q = self.0.lock();
        q.held = held;
        let wake = !held && std::mem::take(&mut q.sender_waits);
        self.0.release(q, wake);
    }
    /// What was put into it so far: taken since, or still queued.
    pub(crate) fn put(&self) -> Taken {
        self.0.lock().put()
    }
    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.0.lock().elements.is_empty()
    }
    /// Counts what is queued against the budget of the process.
    pub fn draw_on(&self, budget: &MemoryBudget) {
        let mut q = self.0.lock();
        q.reserved = Some(budget.reserve(MemoryUse::Network, q.bytes));
    }
    /// Number of queued elements and bytes.
    pub fn queued(&self) -> (usize, usize) {
        let q = self.0.lock();
        (q.elements.len(), q.bytes)
    }
    /// Whether the sender is gone; what it sent can still be taken.
    pub fn is_closed(&self) -> bool {
        self.0.lock().sender_gone
    }
    /// Where the channel is in its job.
    pub fn address(&self) -> ChannelAddress {
        self.0.address
    }
    /// Takes a barrier that overtook everything else, whether the channel is held or not.
    pub(crate) fn take_priority(&self) -> Option<Barrier> {
        let mut q = self.0.lock();
        if q.priority == 0 {
            return None;
        }
        let found = q.elements.front().and_then(|(e, _)| barrier(e)).copied()?;
        let (element, _) = q.elements.pop_front()?;
        q.priority -= 1;
        let wake = q.count(&element);
        self.0.release(q, wake);
        Some(found)
    }
    /// Takes the first queued barrier that `wanted` says yes to, with copies of what it overtakes by that.
    pub(crate) fn overtake(&self, wanted: impl Fn(&Barrier) -> bool) -> Option<(Barrier, Vec<Element>)> {
        let mut q = self.0.lock();
        let at = q.elements.iter().position(|(e, _)| barrier(e).is_some_and(&wanted))?;
        let (element, _) = q.elements.remove(at)?;
        q.priority -= usize::from(at < q.priority);
        let before = overtaken(q.elements.iter().take(at).map(|(e, _)| e));
        let wake = q.count(&element);
        self.0.release(q, wake);
        barrier(&element).map(|b| (*b, before))
    }
    /// When the first queued barrier begins to overtake.
    pub fn next_overtaking_ms(&self) -> Option<i64> {
        self.0.lock().elements.iter().filter_map(|(e, _)| barrier(e)?.overtakes_at_ms()).min()
    }
    /// Takes everything that is queued and puts back what `f` makes of it: re-partitioning of what was in flight when a
    /// job is rescaled.
    pub fn rewrite_queued(&self, f: impl FnOnce(Vec<Element>) -> Vec<Element>) {
        let mut q = self.0.lock();
        let old = q.elements.drain(..).map(|(e, _)| e).collect();
        let new = f(old);
        q.priority = 0;
        q.batches = new.iter().filter(|e| matches!(e, Element::Batch(_))).count();
        q.elements = new.into_iter().map(|e| (cost(&e), e)).map(|(b, e)| (e, b)).collect();
        q.bytes = q.elements.iter().map(|(_, b)| b).sum();
        q.weigh();
        let wake = std::mem::take(&mut q.sender_waits);
        self.0.release(q, wake);
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        let mut q = self.0.lock();
        q.receiver_gone = true;
        q.elements.clear();
        q.batches = 0;
        q.bytes = 0;
        q.weigh();
        drop(q);
        self.0.sender.wake();
    }
}

#[cfg(test)]
mod tests;
