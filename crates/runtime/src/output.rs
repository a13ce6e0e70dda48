//! The edges that leave a chain: spreads rows over channels. Never blocks: what does not fit waits in one slot per channel.

use std::sync::Arc;

use arrow_array::UInt32Array;
use flott_core::batch::ChangeBatch;
use flott_core::element::Element;
use flott_core::error::{Error, Result};
use flott_core::key_group::subtask_of;
use flott_core::keys::RowCodec;
use flott_core::metrics::TaskMetrics;
use flott_core::state::KeyBatch;
use flott_plan::stream_graph::Partitioner;

use crate::channel::{ChannelSender, TrySendError};
use crate::task::OutputSpec;

/// All edges that leave a chain.
pub(crate) struct Outputs {
    edges: Vec<Edge>,
    waiting: usize,
    metrics: Arc<TaskMetrics>,
}

struct Edge {
    route: Route,
    channels: Vec<ChannelSender>,
    /// What did not fit, at most one element per channel.
    slots: Vec<Option<Element>>,
}

enum Route {
    One,
    Hash(Box<HashRoute>),
    Rebalance { next: usize },
    Broadcast,
}

struct HashRoute {
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
        Ok(Outputs { edges, waiting: 0, metrics })
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
    /// Spreads an element. Only when [`Outputs::is_ready`].
    pub(crate) fn push(&mut self, element: Element) -> Result<()> {
        debug_assert!(self.is_ready(), "the caller asks first");
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
            Partitioner::Hash(columns) => Route::Hash(Box::new(HashRoute {
                columns,
                codec: RowCodec::new(spec.key_fields)?,
                max_parallelism,
                keys: KeyBatch::default(),
                rows: vec![Vec::new(); targets],
            })),
        };
        let slots = (0..targets).map(|_| None).collect();
        Ok(Edge { route, channels: spec.channels, slots })
    }

    fn route(&mut self, element: Element) -> Result<()> {
        let batch = match element {
            Element::Signal(s) => {
                self.slots.iter_mut().for_each(|slot| *slot = Some(Element::Signal(s.clone())));
                return Ok(());
            }
            Element::Batch(b) => b,
        };
        match &mut self.route {
            Route::One => self.slots[0] = Some(Element::Batch(batch)),
            Route::Rebalance { next } => {
                self.slots[*next] = Some(Element::Batch(batch));
                *next = (*next + 1) % self.slots.len();
            }
            Route::Broadcast => self.slots.iter_mut().for_each(|slot| *slot = Some(Element::Batch(batch.clone()))),
            Route::Hash(hash) => hash.split(batch, &mut self.slots)?,
        }
        Ok(())
    }

    /// Sends what waits; returns how much still does. A receiver that is gone has failed or was cancelled, and this task
    /// will be too: until then it waits.
    fn flush(&mut self) -> usize {
        let mut waiting = 0;
        for (slot, channel) in self.slots.iter_mut().zip(&self.channels) {
            let Some(element) = slot.take() else { continue };
            if let Err(TrySendError::Full(e) | TrySendError::Closed(e)) = channel.try_send(element) {
                *slot = Some(e);
                waiting += 1;
            }
        }
        waiting
    }
}

impl HashRoute {
    fn split(&mut self, batch: ChangeBatch, slots: &mut [Option<Element>]) -> Result<()> {
        let columns: Vec<_> = self.columns.iter().map(|&c| Arc::clone(batch.rows.column(c))).collect();
        match columns.is_empty() {
            true => RowCodec::encode_empty_keys(batch.num_rows(), self.max_parallelism, &mut self.keys),
            false => self.codec.encode_keys(&columns, self.max_parallelism, &mut self.keys)?,
        }
        let targets = slots.len() as u32;
        self.rows.iter_mut().for_each(Vec::clear);
        for (i, &group) in self.keys.groups.iter().enumerate() {
            self.rows[subtask_of(group, self.max_parallelism, targets) as usize].push(i as u32);
        }
        let all = batch.num_rows();
        if let Some(only) = self.rows.iter().position(|r| r.len() == all) {
            slots[only] = Some(Element::Batch(batch));
            return Ok(());
        }
        for (rows, slot) in self.rows.iter_mut().zip(slots) {
            if !rows.is_empty() {
                let indices = UInt32Array::from(std::mem::take(rows));
                *slot = Some(Element::Batch(batch.take(&indices)?));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
