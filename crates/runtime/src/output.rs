//! The edges that leave a chain: spreads rows over channels. Never blocks: what does not fit waits in front of its channel, one
//! element each, or what a chain still had to say when a barrier overtook it.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_schema::FieldRef;
use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, Element, Signal};
use flott_core::error::{Error, Result};
use flott_core::ids::CheckpointId;
use flott_core::key_group::subtask_of;
use flott_core::keys::RowCodec;
use flott_core::metrics::TaskMetrics;
use flott_core::snapshot::ChannelAddress;
use flott_core::state::KeyBatch;
use flott_core::task::Sent;
use flott_plan::stream_graph::Partitioner;

use crate::channel::{ChannelSender, TrySendError, overtaken};
use crate::task::OutputSpec;

/// A reader is woken as soon as so many elements wait for it; for less, within a millisecond or at the end of the writer's turn: a
/// wake-up for each batch costs more than many batches do.
const WAKE_AT: usize = 4;

/// All edges that leave a chain.
pub(crate) struct Outputs {
    edges: Vec<Edge>,
    waiting: usize,
    /// Since when a reader has not been told of something.
    untold_ms: Option<i64>,
    metrics: Arc<TaskMetrics>,
}

struct Edge {
    route: Route,
    channels: Vec<ChannelSender>,
    /// What did not fit, per channel: at most one element, or what was given before an overtaking barrier.
    slots: Vec<VecDeque<Element>>,
    /// Channels that were empty before what they hold came, and whose readers do not know.
    untold: Vec<bool>,
}

enum Route {
    One,
    Hash(Box<HashRoute>),
    Rebalance { next: usize },
    Broadcast,
}

/// Splits rows by the owners of their keys: what a hash exchange does in front of its channels.
pub struct HashRoute {
    columns: Vec<usize>,
    codec: RowCodec,
    max_parallelism: u32,
    keys: KeyBatch,
    rows: Vec<Vec<u32>>,
}

impl Outputs {
    pub(crate) fn new(
        specs: Vec<OutputSpec>,
        max_parallelism: u32,
        subtask: u32,
        metrics: Arc<TaskMetrics>,
    ) -> Result<Self> {
        let edges = specs.into_iter().map(|s| Edge::new(s, max_parallelism, subtask)).collect::<Result<_>>()?;
        Ok(Outputs { edges, waiting: 0, untold_ms: None, metrics })
    }
    /// Whether the chain ends here.
    pub(crate) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }
    /// Whether the next element may come.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting == 0
    }
    /// Sends what did not fit; says whether anything went.
    pub(crate) fn flush(&mut self) -> bool {
        let before = self.waiting;
        if before > 0 {
            self.waiting = self.edges.iter_mut().map(Edge::flush).sum();
        }
        self.waiting < before
    }
    /// Tells readers what they do not know yet, if that has been so for a millisecond.
    pub(crate) fn tell_readers_by(&mut self, now_ms: i64) {
        if self.edges.iter().all(|e| !e.untold.contains(&true)) {
            self.untold_ms = None;
        } else if *self.untold_ms.get_or_insert(now_ms) < now_ms {
            self.tell_readers();
        }
    }
    /// Tells readers what they do not know yet.
    pub(crate) fn tell_readers(&mut self) {
        self.untold_ms = None;
        for edge in &mut self.edges {
            for (untold, channel) in edge.untold.iter_mut().zip(&edge.channels).filter(|(u, _)| **u) {
                *untold = false;
                channel.wake_receiver();
            }
        }
    }
    /// Spreads an element. Only when [`Outputs::is_ready`], or when a barrier waits for it.
    pub(crate) fn push(&mut self, element: Element) -> Result<()> {
        if let Element::Batch(b) = &element
            && !self.edges.is_empty()
        {
            self.metrics.records_out.add(b.num_rows() as u64);
        }
        let Some((last, others)) = self.edges.split_last_mut() else { return Ok(()) };
        for edge in others {
            edge.route(element.clone())?;
        }
        last.route(element)?;
        self.waiting = self.edges.iter_mut().map(Edge::flush).sum();
        Ok(())
    }
    /// What was ever sent.
    pub(crate) fn sent(&self) -> Sent {
        let channels = self.edges.iter().flat_map(|e| &e.channels);
        channels.map(|c| (c.address(), c.put().elements())).collect()
    }
    /// Whether a barrier still waits in front of a channel.
    pub(crate) fn holds_barrier(&self, checkpoint: CheckpointId) -> bool {
        let slots = self.edges.iter().flat_map(|e| &e.slots);
        self.waiting > 0 && slots.flatten().any(|e| is_barrier(e, checkpoint))
    }
    /// Sends a barrier in front of everything: returns what it overtook, by channel.
    pub(crate) fn overtake(&mut self, barrier: Barrier) -> Vec<(ChannelAddress, u8, Vec<Element>)> {
        let mut out = Vec::new();
        for edge in &self.edges {
            for (slot, channel) in edge.slots.iter().zip(&edge.channels) {
                let mut before = channel.overtake(barrier);
                before.extend(overtaken(slot));
                out.push((channel.address(), WRITER_PART, before));
            }
        }
        out
    }
    /// As [`Outputs::overtake`], for a barrier that has been spread and still waits in front of some of the channels. Where it is
    /// in a channel already, the reader sees to it.
    pub(crate) fn overtake_waiting(&mut self, barrier: Barrier) -> Vec<(ChannelAddress, u8, Vec<Element>)> {
        let mut out = Vec::new();
        for edge in &mut self.edges {
            for (slot, channel) in edge.slots.iter_mut().zip(&edge.channels) {
                let Some(at) = slot.iter().position(|e| is_barrier(e, barrier.checkpoint)) else { continue };
                slot.remove(at);
                let mut before = channel.overtake(barrier);
                before.extend(overtaken(slot.iter().take(at)));
                out.push((channel.address(), WRITER_PART, before));
            }
        }
        self.waiting = self.edges.iter_mut().map(Edge::flush).sum();
        out
    }
}

/// In a channel, what its reader stored comes before what its writer stored.
const WRITER_PART: u8 = 1;

fn is_barrier(element: &Element, checkpoint: CheckpointId) -> bool {
    matches!(element, Element::Signal(Signal::Barrier(b)) if b.checkpoint == checkpoint)
}

impl Edge {
    fn new(spec: OutputSpec, max_parallelism: u32, subtask: u32) -> Result<Self> {
        let targets = spec.channels.len();
        if targets == 0 {
            return Err(Error::bug("an edge without channels"));
        }
        let route = match spec.partitioner {
            Partitioner::Forward if targets != 1 => {
                return Err(Error::bug(format!("a forward edge needs one channel, found {targets}")));
            }
            Partitioner::Forward | Partitioner::Global => Route::One,
            _ if targets == 1 => Route::One,
            // Subtasks start at different targets, so that the first batches do not all meet at subtask 0.
            Partitioner::Rebalance => Route::Rebalance { next: subtask as usize % targets },
            Partitioner::Broadcast => Route::Broadcast,
            Partitioner::Hash(columns) => {
                Route::Hash(Box::new(HashRoute::new(columns, spec.key_fields, max_parallelism, targets)?))
            }
        };
        let slots = (0..targets).map(|_| VecDeque::new()).collect();
        Ok(Edge { route, channels: spec.channels, slots, untold: vec![false; targets] })
    }

    fn route(&mut self, element: Element) -> Result<()> {
        let batch = match element {
            Element::Signal(s) => {
                self.slots.iter_mut().for_each(|slot| slot.push_back(Element::Signal(s.clone())));
                return Ok(());
            }
            Element::Batch(b) => b,
        };
        match &mut self.route {
            Route::One => self.slots[0].push_back(Element::Batch(batch)),
            Route::Rebalance { next } => {
                self.slots[*next].push_back(Element::Batch(batch));
                *next = (*next + 1) % self.slots.len();
            }
            Route::Broadcast => self.slots.iter_mut().for_each(|slot| slot.push_back(Element::Batch(batch.clone()))),
            Route::Hash(hash) => hash.split(batch, |to, part| self.slots[to].push_back(Element::Batch(part)))?,
        }
        Ok(())
    }

    /// Sends what waits; returns in front of how many channels something still does. A receiver that is gone has failed or was
    /// cancelled, and this task will be too: until then it waits.
    fn flush(&mut self) -> usize {
        let mut waiting = 0;
        for ((slot, channel), untold) in self.slots.iter_mut().zip(&self.channels).zip(&mut self.untold) {
            while let Some(element) = slot.pop_front() {
                match channel.try_send_quietly(element) {
                    Ok(held) => {
                        *untold |= held == 1;
                        if *untold && held >= WAKE_AT {
                            *untold = false;
                            channel.wake_receiver();
                        }
                    }
                    Err(TrySendError::Full(e) | TrySendError::Closed(e)) => {
                        slot.push_front(e);
                        waiting += 1;
                        break;
                    }
                }
            }
        }
        waiting
    }
}

impl HashRoute {
    /// A splitter by `columns`, whose fields these are, for `targets` owners.
    pub fn new(columns: Vec<usize>, key_fields: Vec<FieldRef>, max_parallelism: u32, targets: usize) -> Result<Self> {
        let codec = RowCodec::new(key_fields)?;
        let rows = vec![Vec::new(); targets];
        Ok(HashRoute { columns, codec, max_parallelism, keys: KeyBatch::default(), rows })
    }

    /// Gives each owner its rows, in order.
    pub fn split(&mut self, batch: ChangeBatch, mut give: impl FnMut(usize, ChangeBatch)) -> Result<()> {
        let columns: Vec<_> = self.columns.iter().map(|&c| Arc::clone(batch.rows.column(c))).collect();
        match columns.is_empty() {
            true => RowCodec::encode_empty_keys(batch.num_rows(), self.max_parallelism, &mut self.keys),
            false => self.codec.encode_keys(&columns, self.max_parallelism, &mut self.keys)?,
        }
        let targets = self.rows.len() as u32;
        self.rows.iter_mut().for_each(Vec::clear);
        for (i, &group) in self.keys.groups.iter().enumerate() {
            self.rows[subtask_of(group, self.max_parallelism, targets) as usize].push(i as u32);
        }
        let all = batch.num_rows();
        if let Some(only) = self.rows.iter().position(|r| r.len() == all) {
            give(only, batch);
            return Ok(());
        }
        for (to, rows) in self.rows.iter_mut().enumerate().filter(|(_, r)| !r.is_empty()) {
            let indices = UInt32Array::from(std::mem::take(rows));
            give(to, batch.take(&indices)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
