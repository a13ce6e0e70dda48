//! How a barrier overtakes what is in a chain: operator by operator, head first, each at once. What waits between two of them is
//! copied for the checkpoint and stays where it is. Knows nothing of gates and outputs.

use std::collections::VecDeque;

use flott_core::element::{Barrier, Element, Signal};
use flott_core::error::Result;
use flott_core::ids::{CheckpointId, OperatorId};
use flott_core::operator::{OperatorEvent, Progress};

use super::{After, Chain, Link};
use crate::head::{BarrierItem, Item};
use crate::in_flight::{InFlightItem, Queued};
use crate::task::TaskCut;

/// A barrier on its way through the chain.
pub(super) struct Overtaking {
    barrier: Barrier,
    /// The operator it has come to.
    pub(super) at: usize,
    /// Whether that operator has been told.
    told: bool,
    queued: Vec<(OperatorId, Queued)>,
}

/// A barrier that has overtaken everything in the chain.
pub(crate) struct Overtook {
    pub(crate) cut: TaskCut,
    /// What waited in front of operators.
    pub(crate) queued: Vec<(OperatorId, Queued)>,
}

impl Chain {
    /// A barrier comes to the head and overtakes; `before` is what waits in front of the first operator.
    pub(crate) fn overtake_from_head(&mut self, item: BarrierItem, before: Queued) {
        let (barrier, sync_ns) = (item.barrier, item.sync_ns);
        self.cuts.push((TaskCut::of(item), sync_ns));
        let queued = match self.links.first() {
            Some(head) => vec![(head.ctx.operator, Queued { seen: head.ctx.watermark, ..before })],
            None => Vec::new(),
        };
        self.overtaking = Some(Overtaking { barrier: barrier.overtaking(), at: 0, told: false, queued });
    }

    /// Lets a barrier that is somewhere in front of the last operator overtake from there. Whether there is one.
    pub(crate) fn overtake_from_within(&mut self, checkpoint: CheckpointId) -> bool {
        for i in 0..self.links.len() {
            let told = match &self.links[i].pending {
                Some(After::Cut(b)) if b.checkpoint == checkpoint => Some(*b),
                _ => None,
            };
            if let Some(barrier) = told {
                let barrier = barrier.overtaking();
                self.overtaking = Some(Overtaking { barrier, at: i, told: true, queued: Vec::new() });
                return true;
            }
            if i + 1 == self.links.len() {
                break;
            }
            if let Some((barrier, before)) = take_barrier(self.links[i].ctx.out.elements(), checkpoint) {
                let next = &self.links[i + 1];
                let items = before.iter().filter_map(|e| InFlightItem::of(0, e)).collect();
                let queued = Queued { seen: next.ctx.watermark, items, ..Queued::default() };
                let queued = vec![(next.ctx.operator, queued)];
                let barrier = barrier.overtaking();
                self.overtaking = Some(Overtaking { barrier, at: i + 1, told: false, queued });
                return true;
            }
        }
        false
    }

    /// Takes everything that leaves the chain up to a barrier; `None` when that barrier is not there.
    pub(crate) fn drain_to_barrier(&mut self, checkpoint: CheckpointId) -> Option<Vec<Element>> {
        let queue = self.tail();
        let at = queue.iter().position(|e| is_barrier(e, checkpoint))?;
        let mut out: Vec<Element> = queue.drain(..=at).collect();
        out.pop();
        Some(out)
    }

    /// Takes everything that leaves the chain.
    pub(crate) fn drain_tail(&mut self) -> Vec<Element> {
        self.tail().drain(..).collect()
    }

    fn tail(&mut self) -> &mut VecDeque<Element> {
        match self.links.last_mut() {
            Some(last) => last.ctx.out.elements(),
            None => &mut self.direct,
        }
    }

    /// Given up: the barrier goes no further. An operator that has been told of it just ends that call.
    pub(crate) fn abort_overtaking(&mut self, checkpoint: CheckpointId) {
        if let Some(o) = self.overtaking.take_if(|o| o.barrier.checkpoint == checkpoint) {
            self.overtook = self.overtook.max(Some(checkpoint));
            self.cuts.retain(|(c, _)| c.barrier.checkpoint != checkpoint);
            if let Some(link) = self.links.get_mut(o.at) {
                link.ctx.out.lift(false);
                if let Some(After::Cut(_)) = link.pending {
                    link.pending = Some(After::Nothing);
                }
            }
        }
    }

    /// Takes the overtaking barrier as far as it can go; what it overtook, once it is through.
    pub(super) fn go_on_overtaking(&mut self, now_ms: i64, nanos: &dyn Fn() -> u64) -> Result<Option<Overtook>> {
        let Some(mut o) = self.overtaking.take() else { return Ok(None) };
        while o.at < self.links.len() {
            if !self.clear(&mut o, now_ms)? {
                self.overtaking = Some(o);
                return Ok(None);
            }
            self.cut_link(o.at, o.barrier, nanos)?;
            let link = &mut self.links[o.at];
            link.ctx.out.lift(false);
            let items: Vec<InFlightItem> =
                link.ctx.out.elements().iter().filter_map(|e| InFlightItem::of(0, e)).collect();
            o.at += 1;
            o.told = false;
            if let Some(next) = self.links.get(o.at).filter(|_| !items.is_empty()) {
                o.queued.push((next.ctx.operator, Queued { seen: next.ctx.watermark, items, ..Queued::default() }));
            }
        }
        let checkpoint = o.barrier.checkpoint;
        self.overtook = self.overtook.max(Some(checkpoint));
        let at = self.cuts.iter().position(|(c, _)| c.barrier.checkpoint == checkpoint);
        let at = at.ok_or_else(|| flott_core::Error::bug(format!("checkpoint {checkpoint} was not begun here")))?;
        let cut = self.take_cut(at);
        self.cuts.retain(|(c, _)| c.barrier.checkpoint > checkpoint);
        Ok(Some(Overtook { cut, queued: o.queued }))
    }

    /// Ends the call that the operator is in, whatever room that takes, and tells it of the barrier. Whether it is ready to be cut:
    /// not when it waits for time.
    fn clear(&mut self, o: &mut Overtaking, now_ms: i64) -> Result<bool> {
        let checkpoint = o.barrier.checkpoint;
        loop {
            let link = &mut self.links[o.at];
            link.ctx.out.lift(true);
            let Some(after) = link.pending.take() else {
                if o.told {
                    return Ok(true);
                }
                o.told = true;
                if link.event(OperatorEvent::BeforeBarrier(checkpoint))? == Progress::Blocked {
                    link.block(After::Cut(o.barrier));
                }
                continue;
            };
            let due = !link.waits_for_time || link.ctx.out.take_due_wake(now_ms);
            if !due {
                link.pending = Some(after);
                return Ok(false);
            }
            match link.call(|op, c| op.resume(c))? {
                Progress::Blocked => {
                    link.block(after);
                    // There is room for everything: it waits for time, or for something that no room gives.
                    return Ok(false);
                }
                Progress::Done => self.after_cleared(o.at, after)?,
            }
        }
    }

    /// What follows a call that ended, but for barriers: the one that overtakes cuts, older ones are over.
    fn after_cleared(&mut self, i: usize, after: After) -> Result<()> {
        let link = &mut self.links[i];
        match after {
            After::Nothing | After::Cut(_) => {}
            After::Forward(signal) => link.emit(signal),
            After::EndOfData => match link.event(OperatorEvent::EndOfData)? {
                Progress::Blocked => link.block(After::Forward(Signal::EndOfData)),
                Progress::Done => link.emit(Signal::EndOfData),
            },
        }
        Ok(())
    }

    /// Puts back what waited in front of an operator other than the first; whether it is in this chain.
    pub(crate) fn preload(&mut self, operator: OperatorId, queued: Queued) -> bool {
        let Some(at) = self.links.iter().position(|l| l.ctx.operator == operator).filter(|&at| at > 0) else {
            return false;
        };
        let items = crate::gate::preloaded(queued.seen, queued.items);
        let elements = items.filter_map(|item| match item {
            Item::Batch { batch, .. } => Some(Element::Batch(batch)),
            Item::Signal(s) => Some(Element::Signal(s)),
            _ => None,
        });
        self.links[at - 1].ctx.out.elements().extend(elements);
        true
    }
    /// The first operator.
    pub(crate) fn first(&self) -> Option<OperatorId> {
        self.links.first().map(|l| l.ctx.operator)
    }
    /// Holds wake-ups back while what a checkpoint held is put back, or lets them go.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }
    /// Whether nothing is on its way through the chain and every operator would take more.
    pub(crate) fn is_empty(&self) -> bool {
        let empty = |l: &Link| l.pending.is_none() && l.ctx.out.is_empty() && l.operator.accepts_input();
        self.direct.is_empty() && self.overtaking.is_none() && self.links.iter().all(empty)
    }
}

fn is_barrier(element: &Element, checkpoint: CheckpointId) -> bool {
    matches!(element, Element::Signal(Signal::Barrier(b)) if b.checkpoint == checkpoint)
}

/// Takes a barrier out of a queue, with copies of what stands before it.
fn take_barrier(queue: &mut VecDeque<Element>, checkpoint: CheckpointId) -> Option<(Barrier, Vec<Element>)> {
    let at = queue.iter().position(|e| is_barrier(e, checkpoint))?;
    let Some(Element::Signal(Signal::Barrier(barrier))) = queue.remove(at) else { return None };
    Some((barrier, crate::channel::overtaken(queue.iter().take(at))))
}
