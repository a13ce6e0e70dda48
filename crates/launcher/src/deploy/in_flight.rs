//! Rows in flight of an unaligned checkpoint on their way back into a job: where they were, when nothing was rescaled; else dealt
//! out to the owners of their keys, with the order in which operators take them. Starts nothing.

use std::collections::{BTreeMap, VecDeque};

use flott_checkpoint::metadata::CheckpointMetadata;
use flott_core::error::{Error, Result};
use flott_core::ids::{OperatorId, VertexId};
use flott_core::snapshot::{ChannelAddress, ChunkReader};
use flott_plan::job_graph::{ChainedNode, JobGraph, JobVertex};
use flott_plan::stream_graph::{NodeKind, Partitioner};
use flott_runtime::{ChannelReceiver, InFlightData, PortRoute, Queued, Recovered};

use super::key_fields;

/// What a checkpoint held in flight, on its way to the tasks.
#[derive(Default)]
pub(super) struct InFlight {
    data: InFlightData,
    /// The job has other subtasks than the checkpoint: rows are put in operator by operator.
    staged: bool,
    dealt: BTreeMap<(OperatorId, u32), Queued>,
}

impl InFlight {
    /// Reads what the checkpoint held.
    pub(super) fn load(graph: &JobGraph, metadata: &CheckpointMetadata, reader: &dyn ChunkReader) -> Result<Self> {
        let data = InFlightData::load(&metadata.in_flight, reader)?;
        if data.is_empty() {
            return Ok(InFlight::default());
        }
        let staged = !fits(graph, metadata, &data);
        let mut out = InFlight { data, staged, dealt: BTreeMap::new() };
        if staged {
            out.deal_out(graph, metadata)?;
        }
        Ok(out)
    }

    /// Puts what a channel held into it.
    pub(super) fn fill(&mut self, address: ChannelAddress, channel: &ChannelReceiver) {
        if !self.staged && !self.data.is_empty() {
            let held = self.data.take_channel(address);
            if !held.is_empty() {
                channel.rewrite_queued(|_| held);
            }
        }
    }

    /// What waited in front of the operators of a task.
    pub(super) fn of_task(&mut self, vertex: &JobVertex, index: u32) -> Recovered {
        let mut queued = Vec::new();
        for node in &vertex.chain {
            let found = match self.staged {
                true => self.dealt.remove(&(node.id, index)),
                false => self.data.take_queued(node.id, index),
            };
            queued.extend(found.map(|q| (node.id, q)));
        }
        Recovered { queued, staged: self.staged }
    }

    /// The steps in which rows are put in: an operator, and a vertex that they pass. The last operator comes first, and each is followed
    /// to the end of the job, so that nothing overtakes what was in front of it. Sinks may keep rows in their state.
    pub(super) fn steps(&self, graph: &JobGraph) -> VecDeque<(OperatorId, VertexId)> {
        let mut steps = VecDeque::new();
        if !self.staged {
            return steps;
        }
        let waits =
            |n: &&ChainedNode| matches!(n.node.kind, NodeKind::Sink(_)) || self.dealt.keys().any(|(o, _)| *o == n.id);
        for (v, vertex) in graph.vertices.iter().enumerate().rev() {
            for node in vertex.chain.iter().rev().filter(waits) {
                steps.extend(behind(graph, v).into_iter().map(|b| (node.id, graph.vertices[b].id)));
            }
        }
        steps
    }

    fn deal_out(&mut self, graph: &JobGraph, metadata: &CheckpointMetadata) -> Result<()> {
        let mut operators: Vec<OperatorId> = self.data.waiting().map(|(o, _)| o).collect();
        operators.sort();
        operators.dedup();
        for operator in operators {
            // Whether rows may be lost by this was decided when the checkpoint was chosen.
            let Some((v, at)) = place_of(graph, operator) else { continue };
            let former = metadata.operators.iter().find(|o| o.id == operator).map_or(1, |o| o.parallelism);
            let ports = if at == 0 { ports_of(graph, v) } else { vec![PortRoute::Whole] };
            let parallelism = graph.vertices[v].parallelism;
            let name = &graph.vertices[v].chain[at].node.name;
            let dealt = self
                .data
                .deal_out(operator, former, parallelism, &ports)
                .map_err(|e| e.context(format!("operator \"{name}\"")))?;
            for (i, queued) in dealt.into_iter().enumerate() {
                let index = u32::try_from(i).map_err(|_| Error::bug("more than 2^32 subtasks"))?;
                self.dealt.insert((operator, index), queued);
            }
        }
        Ok(())
    }
}

/// The address of a channel of `graph`.
pub(super) fn address(graph: &JobGraph, edge: usize, from: u32, to: u32) -> ChannelAddress {
    let e = &graph.edges[edge];
    let number = graph.edges[..edge].iter().filter(|other| other.to == e.to).count();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ChannelAddress {
        operator: graph.vertices[e.to].chain[0].id,
        subtask: to,
        edge: narrow(number),
        port: narrow(e.port),
        producer: last(&graph.vertices[e.from]),
        from,
    }
}

fn last(vertex: &JobVertex) -> OperatorId {
    vertex.chain.last().expect("a chain has a head").id
}

fn place_of(graph: &JobGraph, operator: OperatorId) -> Option<(usize, usize)> {
    let mut vertices = graph.vertices.iter().enumerate();
    vertices.find_map(|(v, vertex)| Some((v, vertex.chain.iter().position(|n| n.id == operator)?)))
}

/// Whether every operator has the subtasks it had, and every channel is where it was: then rows go back to their place and the job
/// goes on as if nothing had happened.
fn fits(graph: &JobGraph, metadata: &CheckpointMetadata, data: &InFlightData) -> bool {
    let same = |vertex: &JobVertex| {
        let former = |id| metadata.operators.iter().find(|o| o.id == id).map(|o| o.parallelism);
        vertex.chain.iter().all(|n| former(n.id) == Some(vertex.parallelism))
    };
    if graph.max_parallelism != metadata.max_parallelism || !graph.vertices.iter().all(same) {
        return false;
    }
    let known = |a: ChannelAddress| {
        let edges = graph.edges.iter().enumerate();
        let exists = |(e, edge): (usize, &flott_plan::job_graph::JobEdge)| {
            let forward = edge.partitioner == Partitioner::Forward;
            address(graph, e, a.from, a.subtask) == a && (!forward || a.from == a.subtask)
        };
        edges.into_iter().any(exists)
    };
    data.waiting().all(|(operator, _)| place_of(graph, operator).is_some()) && data.channels().all(known)
}

/// Whose the rows of each input of a vertex's head are.
fn ports_of(graph: &JobGraph, vertex: usize) -> Vec<PortRoute> {
    let edges: Vec<_> = graph.edges.iter().filter(|e| e.to == vertex).collect();
    let ports = edges.iter().map(|e| e.port + 1).max().unwrap_or(1);
    let route = |port: usize| {
        let mut into = edges.iter().filter(|e| e.port == port);
        match into.next().map(|e| (e.from, &e.partitioner)) {
            Some((from, Partitioner::Hash(columns))) => PortRoute::Keys {
                columns: columns.clone(),
                fields: key_fields(&graph.vertices[from], columns),
                max_parallelism: graph.max_parallelism,
            },
            Some((_, Partitioner::Broadcast)) => PortRoute::Broadcast,
            _ => PortRoute::Whole,
        }
    };
    (0..ports).map(route).collect()
}

/// A vertex and those behind it, upstream first.
fn behind(graph: &JobGraph, vertex: usize) -> Vec<usize> {
    let mut reached = vec![false; graph.vertices.len()];
    reached[vertex] = true;
    for v in vertex..graph.vertices.len() {
        if reached[v] {
            graph.edges.iter().filter(|e| e.from == v).for_each(|e| reached[e.to] = true);
        }
    }
    (0..reached.len()).filter(|&v| reached[v]).collect()
}
