//! The graph as sentences about checkpoints speak of it: names, sinks, who sends to whom. Converts only.

use flott_checkpoint::stats::{Topology, TopologyEdge, TopologyVertex};
use flott_plan::job_graph::{JobGraph, JobVertex};
use flott_plan::stream_graph::{NodeKind, Partitioner};

/// The topology of a job.
pub fn topology(graph: &JobGraph) -> Topology {
    let vertex = |(i, v): (usize, &JobVertex)| {
        let edges = graph.edges.iter().filter(|e| e.from == i);
        let edge = |to: usize, p: &Partitioner| TopologyEdge {
            to: graph.vertices[to].id,
            pointwise: *p == Partitioner::Forward,
        };
        TopologyVertex {
            id: v.id,
            name: v.name.clone(),
            sink: sink_of(v),
            outputs: edges.map(|e| edge(e.to, &e.partitioner)).collect(),
        }
    };
    Topology { vertices: graph.vertices.iter().enumerate().map(vertex).collect() }
}

/// The name of the sink at the end of a chain, without the front ends' prefix.
fn sink_of(vertex: &JobVertex) -> Option<String> {
    let last = vertex.chain.last().filter(|n| matches!(n.node.kind, NodeKind::Sink(_)))?;
    let name = &last.node.name;
    Some(name.strip_prefix("Sink: ").unwrap_or(name).to_owned())
}
