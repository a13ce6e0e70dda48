//! The input gate: reads the channels of a task in turn, aligns barriers, combines watermarks, joins small batches.
//!
//! It decides nothing about checkpoints or time itself: [`BarrierAligner`] and [`WatermarkValve`] do. What it hands out and what it
//! copies for a checkpoint whose barrier has overtaken are kept apart here; [`overtake`] has the second half.

mod overtake;

use std::collections::VecDeque;

use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, Element, Signal};
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::task::Sent;

use crate::aligner::{AlignedBarrier, Alignment, BarrierAligner};
use crate::channel::ChannelReceiver;
use crate::head::{BarrierItem, HeadPoll, Item};
use crate::valve::WatermarkValve;

pub(crate) use overtake::{GateCapture, preloaded, take_barrier};

/// How a gate joins batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateOptions {
    pub(crate) buffer_timeout_ms: i64,
    pub(crate) target_batch_rows: usize,
}

pub(crate) struct InputGate {
    channels: Vec<Input>,
    ports: Vec<Port>,
    /// The channel to look at next.
    turn: usize,
    /// What was read and not handed out; at most the flushed ports and what one signal brings about.
    ready: VecDeque<HeadPoll>,
    buffered_since_ms: Option<i64>,
    aligner: BarrierAligner,
    valve: WatermarkValve,
    options: GateOptions,
    /// What is copied for a checkpoint that has overtaken here and not come on every channel.
    capture: Option<GateCapture>,
    /// Such a copy once it is whole.
    captured: Option<GateCapture>,
    /// A barrier that was put into `ready` and may overtake, now or later.
    started: Option<Barrier>,
    /// Bytes of rows read since the first barrier of the checkpoint that is aligned.
    aligning_bytes: u64,
}

struct Input {
    port: usize,
    receiver: ChannelReceiver,
    ended: bool,
    /// Elements in the channel that came with the checkpoint the job was restored from.
    recovered: usize,
}

#[derive(Default)]
struct Port {
    buffer: Vec<ChangeBatch>,
    rows: usize,
    open_channels: usize,
}

impl InputGate {
    pub(crate) fn new(ports: Vec<Vec<ChannelReceiver>>, options: GateOptions) -> Self {
        let mut channels = Vec::new();
        let mut state = Vec::with_capacity(ports.len());
        for (port, receivers) in ports.into_iter().enumerate() {
            state.push(Port { open_channels: receivers.len(), ..Port::default() });
            let input =
                |receiver: ChannelReceiver| Input { port, recovered: receiver.queued().0, receiver, ended: false };
            channels.extend(receivers.into_iter().map(input));
        }
        let count = channels.len();
        InputGate {
            channels,
            ports: state,
            turn: 0,
            ready: VecDeque::new(),
            buffered_since_ms: None,
            aligner: BarrierAligner::new(count),
            valve: WatermarkValve::new(count),
            options,
            capture: None,
            captured: None,
            started: None,
            aligning_bytes: 0,
        }
    }

    /// A checkpoint was given up elsewhere.
    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) {
        self.aligner.abort(checkpoint);
        self.capture.take_if(|c| c.checkpoint == checkpoint);
        self.captured.take_if(|c| c.checkpoint == checkpoint);
    }
    /// Whether everything that was sent here has come, and been read or not.
    pub(crate) fn has_received(&self, sent: &Sent) -> bool {
        sent.iter().all(|(address, count)| {
            let channel = self.channels.iter().find(|c| c.receiver.address() == *address);
            channel.is_none_or(|c| c.receiver.put().elements() >= *count)
        })
    }
    /// Whether nothing has been read or waits to be.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.buffered_since_ms.is_none() && self.channels.iter().all(|c| c.receiver.is_empty())
    }

    /// The next thing; rows only when there are `rows` wanted.
    pub(crate) fn poll(&mut self, now_ms: i64, rows: bool) -> Result<HeadPoll> {
        loop {
            if self.started.as_ref().is_some_and(Barrier::is_unaligned) {
                return Ok(HeadPoll::Hurry);
            }
            if !rows && matches!(self.ready.front(), Some(HeadPoll::Item(Item::Batch { .. }))) {
                return Ok(HeadPoll::Nothing { wake_at_ms: None });
            }
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            if self.buffered_since_ms.is_some_and(|t| now_ms - t >= self.options.buffer_timeout_ms) {
                self.flush_all()?;
                continue;
            }
            match self.receive() {
                Some((channel, Element::Batch(batch))) => {
                    self.on_batch(channel, batch, now_ms)?;
                    self.count_recovered(channel)?;
                }
                Some((channel, Element::Signal(signal))) => {
                    let recovers = !matches!(signal, Signal::Barrier(_));
                    self.on_signal(channel, signal, now_ms)?;
                    if recovers {
                        self.count_recovered(channel)?;
                    }
                }
                // With nothing else to read, waiting for fuller batches would only add latency.
                None if self.buffered_since_ms.is_some() => self.flush_all()?,
                None => return Ok(HeadPoll::Nothing { wake_at_ms: None }),
            }
        }
    }

    fn receive(&mut self) -> Option<(usize, Element)> {
        let n = self.channels.len();
        for step in 0..n {
            let i = (self.turn + step) % n;
            if self.aligner.is_held(i) {
                continue;
            }
            if let Some(element) = self.channels[i].receiver.try_recv() {
                self.turn = (i + 1) % n;
                self.copy(i, &element);
                return Some((i, element));
            }
        }
        None
    }

    fn on_batch(&mut self, channel: usize, batch: ChangeBatch, now_ms: i64) -> Result<()> {
        let number = self.channels[channel].port;
        let target = self.options.target_batch_rows;
        let port = &mut self.ports[number];
        let joins = self.options.buffer_timeout_ms > 0 && batch.num_rows() < target / 4;
        if !joins && port.buffer.is_empty() {
            self.ready.push_back(HeadPoll::Item(Item::Batch { port: number, batch }));
            return Ok(());
        }
        port.rows += batch.num_rows();
        port.buffer.push(batch);
        self.buffered_since_ms.get_or_insert(now_ms);
        if !joins || port.rows >= target {
            self.flush(number)?;
            if self.ports.iter().all(|p| p.buffer.is_empty()) {
                self.buffered_since_ms = None;
            }
        }
        Ok(())
    }

    fn flush(&mut self, number: usize) -> Result<()> {
        let port = &mut self.ports[number];
        if !port.buffer.is_empty() {
            let batch = ChangeBatch::concat(&port.buffer)?;
            port.buffer.clear();
            port.rows = 0;
            self.ready.push_back(HeadPoll::Item(Item::Batch { port: number, batch }));
        }
        Ok(())
    }

    fn flush_all(&mut self) -> Result<()> {
        self.buffered_since_ms = None;
        (0..self.ports.len()).try_for_each(|p| self.flush(p))
    }

    fn on_signal(&mut self, channel: usize, signal: Signal, now_ms: i64) -> Result<()> {
        match signal {
            Signal::Watermark(w) => {
                if let Some(combined) = self.valve.on_watermark(channel, w) {
                    self.say(combined)?;
                }
            }
            Signal::Idle => {
                for s in self.valve.on_idle(channel) {
                    self.say(s)?;
                }
            }
            Signal::Active => {
                if let Some(s) = self.valve.on_active(channel) {
                    self.say(s)?;
                }
            }
            Signal::LatencyMarker { .. } => self.say(signal)?,
            Signal::EndOfData => self.on_end(channel)?,
            Signal::Barrier(barrier) => {
                let alignment = self.aligner.on_barrier(channel, barrier, now_ms);
                self.on_alignment(alignment, None, now_ms)?;
            }
        }
        Ok(())
    }

    /// `before`: copies of what the barrier overtook in its channel.
    fn on_alignment(&mut self, alignment: Alignment, before: Option<(usize, Vec<Element>)>, now_ms: i64) -> Result<()> {
        for checkpoint in alignment.declined {
            self.capture.take_if(|c| c.checkpoint == checkpoint);
            self.ready.push_back(HeadPoll::Declined(checkpoint));
        }
        if let Some(passes) = alignment.passes {
            let bytes = std::mem::take(&mut self.aligning_bytes);
            self.queue_barrier(passes, bytes)?;
        }
        if let Some(begins) = alignment.begins {
            self.begin(begins, before, now_ms)?;
        }
        if let Some(whole) = alignment.completes {
            self.complete(whole);
        }
        Ok(())
    }

    fn queue_barrier(&mut self, aligned: AlignedBarrier, processed_bytes: u64) -> Result<()> {
        self.flush_all()?;
        if aligned.barrier.options.unaligned_after_ms.is_some() {
            self.started = Some(aligned.barrier);
        }
        self.ready.push_back(HeadPoll::Item(Item::Barrier(BarrierItem {
            barrier: aligned.barrier,
            start_delay_ms: aligned.start_delay_ms,
            alignment_ms: aligned.alignment_ms,
            processed_bytes,
            cut: None,
            sync_ns: 0,
        })));
        Ok(())
    }

    fn on_end(&mut self, channel: usize) -> Result<()> {
        let input = &mut self.channels[channel];
        if std::mem::replace(&mut input.ended, true) {
            return Ok(());
        }
        let port = input.port;
        self.ports[port].open_channels -= 1;
        if self.ports[port].open_channels == 0 {
            self.flush_all()?;
            self.ready.push_back(HeadPoll::Item(Item::EndOfInput(port)));
            if self.ports.iter().all(|p| p.open_channels == 0) {
                self.ready.push_back(HeadPoll::Item(Item::Signal(Signal::EndOfData)));
            }
        }
        Ok(())
    }

    fn say(&mut self, signal: Signal) -> Result<()> {
        self.flush_all()?;
        self.ready.push_back(HeadPoll::Item(Item::Signal(signal)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
