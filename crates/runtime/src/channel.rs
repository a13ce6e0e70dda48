//! The channel between two subtasks: a bounded deque with credit in batches and bytes. Nobody ever blocks on it.
//!
//! A sender that finds it full keeps the element and is woken when there is room; a receiver that finds it empty is woken when
//! something comes. One mutex per channel: elements are whole batches, so it is taken a few thousand times a second at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flott_core::element::Element;

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

/// Signals beyond the batches that a channel takes before it is full.
const SIGNALS_MAX: usize = 64;

struct Queue {
    elements: VecDeque<(Element, usize)>,
    /// The first so many elements overtook the rest.
    priority: usize,
    batches: usize,
    bytes: usize,
    sender_waits: bool,
    sender_gone: bool,
    receiver_gone: bool,
}

struct Shared {
    options: ChannelOptions,
    queue: Mutex<Queue>,
    sender: TaskWaker,
    receiver: TaskWaker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel from the task woken by `sender` to the task woken by `receiver`.
pub fn channel(options: ChannelOptions, sender: TaskWaker, receiver: TaskWaker) -> (ChannelSender, ChannelReceiver) {
    assert!(options.batches_max > 0 && options.bytes_max > 0, "a channel without room can never make progress");
    let queue = Queue {
        elements: VecDeque::with_capacity(options.batches_max),
        priority: 0,
        batches: 0,
        bytes: 0,
        sender_waits: false,
        sender_gone: false,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { options, queue: Mutex::new(queue), sender, receiver });
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

fn cost(element: &Element) -> usize {
    match element {
        Element::Batch(b) => b.memory_bytes(),
        Element::Signal(_) => 0,
    }
}

impl ChannelSender {
    /// Appends an element if there is credit.
    pub fn try_send(&self, element: Element) -> Result<(), TrySendError> {
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
        if full {
            q.sender_waits = true;
            return Err(TrySendError::Full(element));
        }
        let was_empty = q.elements.is_empty();
        q.batches += usize::from(matches!(element, Element::Batch(_)));
        q.bytes += bytes;
        q.elements.push_back((element, bytes));
        drop(q);
        if was_empty {
            self.0.receiver.wake();
        }
        Ok(())
    }
    /// Puts an element in front of everything but earlier priority elements, whatever the credit: an unaligned barrier. The
    /// caller bounds how many there are (one per checkpoint in flight).
    pub fn send_priority(&self, element: Element) {
        let bytes = cost(&element);
        let mut q = self.0.lock();
        let at = q.priority;
        q.batches += usize::from(matches!(element, Element::Batch(_)));
        q.bytes += bytes;
        q.elements.insert(at, (element, bytes));
        q.priority += 1;
        drop(q);
        self.0.receiver.wake();
    }
    /// Shows every queued element in order, without taking any: what an unaligned checkpoint stores.
    pub fn for_each_queued(&self, f: impl FnMut(&Element)) {
        self.0.lock().elements.iter().map(|(e, _)| e).for_each(f);
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
        // Half empty before the sender is woken: one wake-up per several batches instead of one each.
        let wake = q.sender_waits && q.batches * 2 <= self.0.options.batches_max;
        if wake {
            q.sender_waits = false;
        }
        drop(q);
        if wake {
            self.0.sender.wake();
        }
        Some(element)
    }
    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.0.lock().elements.is_empty()
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
    /// Shows every queued element in order, without taking any.
    pub fn for_each_queued(&self, f: impl FnMut(&Element)) {
        self.0.lock().elements.iter().map(|(e, _)| e).for_each(f);
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
        let wake = std::mem::take(&mut q.sender_waits);
        drop(q);
        if wake {
            self.0.sender.wake();
        }
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        let mut q = self.0.lock();
        q.receiver_gone = true;
        q.elements.clear();
        q.batches = 0;
        q.bytes = 0;
        drop(q);
        self.0.sender.wake();
    }
}

#[cfg(test)]
mod tests;
