//! The half of the gate that concerns barriers which overtake: finds them, copies what they overtake, puts back what a checkpoint
//! held. Never hands anything out.

use flott_core::element::{Barrier, Element};
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::snapshot::ChannelAddress;
use flott_core::time::EventTime;

use super::InputGate;
use crate::aligner::AlignedBarrier;
use crate::channel::overtaken;
use crate::head::{BarrierItem, HeadPoll, Item};
use crate::in_flight::{ChannelMark, InFlightItem, Queued};

/// What a gate copies for one checkpoint.
pub(crate) struct GateCapture {
    pub(crate) checkpoint: CheckpointId,
    /// Per channel: what was read of it between the cut of the task and its barrier.
    pub(crate) channels: Vec<(ChannelAddress, Vec<Element>)>,
    /// How far time had come at the cut.
    pub(crate) combined: EventTime,
    pub(crate) marks: Vec<ChannelMark>,
    /// Bytes of rows between the first barrier and the last.
    pub(crate) processed_bytes: u64,
    pub(crate) alignment_ms: u64,
}

impl InputGate {
    /// When a barrier that is being aligned begins to overtake.
    pub(crate) fn overtakes_at_ms(&self) -> Option<i64> {
        self.aligner.overtakes_at_ms()
    }
    /// A barrier that was put into line and may overtake.
    pub(crate) fn take_started(&mut self) -> Option<Barrier> {
        self.started.take()
    }
    /// The whole copy for `checkpoint`, once there is one.
    pub(crate) fn take_captured(&mut self, checkpoint: CheckpointId) -> Option<GateCapture> {
        self.captured.take_if(|c| c.checkpoint == checkpoint)
    }

    /// Looks for barriers that have overtaken, or that may from now on, in channels and in the alignment. Returns when to look
    /// again.
    pub(crate) fn hurry(&mut self, now_ms: i64) -> Result<Option<i64>> {
        for channel in 0..self.channels.len() {
            while let Some(barrier) = self.channels[channel].receiver.take_priority() {
                let alignment = self.aligner.on_barrier(channel, barrier, now_ms);
                self.on_alignment(alignment, None, now_ms)?;
            }
        }
        let alignment = self.aligner.on_time(now_ms);
        self.on_alignment(alignment, None, now_ms)?;
        let mut next = None;
        for channel in 0..self.channels.len() {
            while self.overtake_in(channel, now_ms, |b| b.overtakes_at_ms().is_some_and(|t| t <= now_ms))? {}
            let at = self.channels[channel].receiver.next_overtaking_ms();
            next = [next, at].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Takes a wanted barrier out of the middle of a channel. What was before it is copied if the checkpoint passes by that.
    fn overtake_in(&mut self, channel: usize, now_ms: i64, wanted: impl Fn(&Barrier) -> bool) -> Result<bool> {
        let Some((barrier, before)) = self.channels[channel].receiver.overtake(wanted) else { return Ok(false) };
        let copy = self.capture.as_mut().filter(|c| c.checkpoint == barrier.checkpoint);
        let before = match copy {
            Some(copy) => {
                copy.channels[channel].1.extend(before);
                None
            }
            // The checkpoint begins with this barrier, and its copy with this.
            None => Some((channel, before)),
        };
        let alignment = self.aligner.on_barrier(channel, barrier.overtaking(), now_ms);
        self.on_alignment(alignment, before, now_ms)?;
        Ok(true)
    }

    /// A checkpoint passes now and overtakes: what the gate holds goes before it, what still comes before its barriers is
    /// copied, and the barriers that already lie in channels are taken out.
    pub(super) fn begin(
        &mut self,
        begins: AlignedBarrier,
        before: Option<(usize, Vec<Element>)>,
        now_ms: i64,
    ) -> Result<()> {
        let barrier = begins.barrier;
        self.queue_barrier(begins, 0)?;
        let mark = |(i, c): (usize, &super::Input)| {
            let (watermark, idle) = self.valve.mark(i);
            let address = c.receiver.address();
            ChannelMark { edge: address.edge, from: address.from, watermark, idle }
        };
        self.capture = Some(GateCapture {
            checkpoint: barrier.checkpoint,
            channels: self.channels.iter().map(|c| (c.receiver.address(), Vec::new())).collect(),
            combined: self.valve.watermark(),
            marks: self.channels.iter().enumerate().map(mark).collect(),
            processed_bytes: std::mem::take(&mut self.aligning_bytes),
            alignment_ms: 0,
        });
        if let (Some((channel, elements)), Some(copy)) = (before, &mut self.capture) {
            copy.channels[channel].1 = elements;
        }
        for channel in 0..self.channels.len() {
            while self.overtake_in(channel, now_ms, |b| b.checkpoint == barrier.checkpoint)? {}
        }
        Ok(())
    }

    pub(super) fn complete(&mut self, whole: AlignedBarrier) {
        if let Some(mut capture) = self.capture.take_if(|c| c.checkpoint == whole.barrier.checkpoint) {
            capture.alignment_ms = whole.alignment_ms;
            self.captured = Some(capture);
        }
    }

    /// An element was read: copies it if its channel's barrier is still to come.
    pub(super) fn copy(&mut self, channel: usize, element: &Element) {
        if !self.aligner.is_aligning() {
            self.aligning_bytes = 0;
            return;
        }
        let bytes = match element {
            Element::Batch(b) => b.memory_bytes() as u64,
            Element::Signal(_) => 0,
        };
        if !self.aligner.captures(channel) {
            self.aligning_bytes += bytes;
        } else if let Some(capture) = &mut self.capture {
            capture.processed_bytes += bytes;
            capture.channels[channel].1.extend(overtaken([element]));
        }
    }

    /// Takes a barrier out of what is ready, with copies of what stands before it.
    pub(crate) fn take_barrier(&mut self, checkpoint: CheckpointId) -> Option<(BarrierItem, Vec<InFlightItem>)> {
        take_barrier(&mut self.ready, checkpoint, |poll| match poll {
            HeadPoll::Item(item) => Some(item),
            _ => None,
        })
    }

    /// Puts back what waited here when the checkpoint was taken. What the channels held is in the channels already.
    pub(crate) fn preload(&mut self, queued: Queued) {
        self.ready.extend(preloaded(queued.seen, queued.items).map(HeadPoll::Item));
        // When all had ended nothing is held back, and nothing that is found anew should be late.
        if queued.combined == EventTime::MAX {
            return;
        }
        self.valve.restore(queued.combined);
        for (i, input) in self.channels.iter().enumerate().filter(|(_, c)| c.recovered > 0) {
            let address = input.receiver.address();
            let mark = queued.marks.iter().find(|m| (m.edge, m.from) == (address.edge, address.from));
            if let Some(mark) = mark {
                self.valve.restore_channel(i, mark.watermark, mark.idle);
            }
        }
    }

    /// One element fewer of those the checkpoint held. After the last the channel holds time back until its writer, which began
    /// anew, has said where it is: its splits may be others.
    pub(super) fn count_recovered(&mut self, channel: usize) -> Result<()> {
        let input = &mut self.channels[channel];
        if input.recovered == 0 {
            return Ok(());
        }
        input.recovered -= 1;
        if input.recovered == 0
            && let Some(signal) = self.valve.forget(channel)
        {
            self.say(signal)?;
        }
        Ok(())
    }
}

/// The items of a restored queue: time first comes to where it was.
pub(crate) fn preloaded(seen: EventTime, items: Vec<InFlightItem>) -> impl Iterator<Item = Item> {
    let first = (seen > EventTime::MIN).then_some(InFlightItem::Watermark(seen));
    first.into_iter().chain(items).map(|item| match item {
        InFlightItem::Batch { port, batch } => Item::Batch { port, batch },
        InFlightItem::Watermark(w) => Item::Signal(flott_core::Signal::Watermark(w)),
    })
}

/// Takes the barrier of `checkpoint` out of a queue, with copies of what stands before it.
pub(crate) fn take_barrier<T>(
    queue: &mut std::collections::VecDeque<T>,
    checkpoint: CheckpointId,
    item_of: impl Fn(&T) -> Option<&Item>,
) -> Option<(BarrierItem, Vec<InFlightItem>)>
where
    T: Into<Option<BarrierItem>>,
{
    let is_it = |t: &T| matches!(item_of(t), Some(Item::Barrier(b)) if b.barrier.checkpoint == checkpoint);
    let at = queue.iter().position(is_it)?;
    let barrier = queue.remove(at)?.into()?;
    let before = queue.iter().take(at).filter_map(|t| match item_of(t)? {
        Item::Batch { port, batch } => Some(InFlightItem::Batch { port: *port, batch: batch.clone() }),
        Item::Signal(flott_core::Signal::Watermark(w)) => Some(InFlightItem::Watermark(*w)),
        _ => None,
    });
    Some((barrier, before.collect()))
}
