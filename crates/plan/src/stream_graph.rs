//! The StreamGraph: what the front ends build. Nodes are operators, edges say how rows are spread.

use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::lookup::LookupSource;
use flott_core::operator::OperatorFactory;
use flott_core::sink::Sink;
use flott_core::source::{Source, SourceTransformFactory, WatermarkOptions};
use flott_core::table_function::BoundTableFunction;
use flott_core::types::Column;

use crate::spec::{CorrelateSpec, LookupJoinSpec, OperatorSpec};

/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A job as the user wrote it.
#[derive(Clone, Default)]
pub struct StreamGraph {
    /// `pipeline.name`, if given.
    pub name: Option<String>,
    /// The nodes; an edge goes from a lower to a higher index.
    pub nodes: Vec<StreamNode>,
    /// The edges.
    pub edges: Vec<StreamEdge>,
}

/// One operator.
#[derive(Clone)]
pub struct StreamNode {
    /// Name shown to people.
    pub name: String,
    /// The user's uid: keeps the address of the state when the graph changes.
    pub uid: Option<String>,
    /// What it is.
    pub kind: NodeKind,
    /// Own parallelism, or the job's.
    pub parallelism: Option<u32>,
    /// Columns of the output.
    pub columns: Vec<Column>,
    /// Whether it may be chained to its input.
    pub chainable: bool,
}

/// What a node is.
#[derive(Clone)]
pub enum NodeKind {
    /// A source.
    Source(SourceNode),
    /// A SQL operator, as data.
    Spec(OperatorSpec),
    /// An operator of the DataStream API: code.
    Operator(Arc<dyn OperatorFactory>),
    /// A lookup join: a SQL operator that asks a connector.
    Lookup(LookupNode),
    /// A table function applied to each row.
    Correlate(CorrelateNode),
    /// A sink.
    Sink(Arc<dyn Sink>),
}

/// A lookup join with the table it asks.
#[derive(Clone)]
pub struct LookupNode {
    /// The join, as data.
    pub spec: LookupJoinSpec,
    /// The connector's lookup source, on the key columns of the join.
    pub source: Arc<dyn LookupSource>,
}

/// A table function applied to each row, with the function.
#[derive(Clone)]
pub struct CorrelateNode {
    /// What is called with what, as data.
    pub spec: CorrelateSpec,
    /// The function: UNNEST, or one of the user.
    pub function: Arc<dyn BoundTableFunction>,
}

/// A source with what happens to its rows first.
#[derive(Clone)]
pub struct SourceNode {
    /// The connector's source.
    pub source: Arc<dyn Source>,
    /// Computed columns, event times, watermarks; per split.
    pub transform: Option<Arc<dyn SourceTransformFactory>>,
    /// Idleness and alignment.
    pub watermarks: WatermarkOptions,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEdge {
    /// Producer.
    pub from: NodeId,
    /// Consumer.
    pub to: NodeId,
    /// Input of the consumer: 0, or 1 for the right side of a join. UNION inputs all use 0.
    pub port: usize,
    /// How rows are spread.
    pub partitioner: Partitioner,
}

/// How rows are spread over the subtasks of the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// Subtask i to subtask i; parallelisms must be equal.
    Forward,
    /// By key group of these columns, through [`flott_core::keys::RowCodec`].
    Hash(Vec<usize>),
    /// Round-robin by batch.
    Rebalance,
    /// Every row to every subtask.
    Broadcast,
    /// Every row to subtask 0.
    Global,
}

impl StreamGraph {
    /// Adds a node.
    pub fn add(&mut self, node: StreamNode) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }
    /// Adds an edge.
    pub fn connect(&mut self, from: NodeId, to: NodeId, port: usize, partitioner: Partitioner) {
        self.edges.push(StreamEdge { from, to, port, partitioner });
    }
    /// The node.
    pub fn node(&self, id: NodeId) -> &StreamNode {
        &self.nodes[id.0]
    }
    /// Edges into a node, by port.
    pub fn inputs(&self, id: NodeId) -> Vec<&StreamEdge> {
        let mut edges: Vec<_> = self.edges.iter().filter(|e| e.to == id).collect();
        edges.sort_by_key(|e| e.port);
        edges
    }
    /// Edges out of a node.
    pub fn outputs(&self, id: NodeId) -> Vec<&StreamEdge> {
        self.edges.iter().filter(|e| e.from == id).collect()
    }
    /// The nodes from `first` on and what they read: what was added since an earlier part of the graph was run.
    pub fn since(&self, first: usize) -> StreamGraph {
        let mut needed: Vec<bool> = (0..self.nodes.len()).map(|i| i >= first).collect();
        for i in (0..self.nodes.len()).rev().filter(|_| first > 0) {
            if needed[i] {
                self.inputs(NodeId(i)).iter().for_each(|e| needed[e.from.0] = true);
            }
        }
        let mut places = vec![None; self.nodes.len()];
        let mut part = StreamGraph { name: self.name.clone(), ..StreamGraph::default() };
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
            places[i] = Some(part.add(node.clone()));
        }
        for edge in &self.edges {
            if let (Some(from), Some(to)) = (places[edge.from.0], places[edge.to.0]) {
                part.edges.push(StreamEdge { from, to, ..edge.clone() });
            }
        }
        part
    }
    /// Refuses graphs that cannot run: no source, no sink, an operator without input.
    pub fn validate(&self) -> Result<()> {
        let is_sink = |n: &StreamNode| matches!(n.kind, NodeKind::Sink(_));
        if !self.nodes.iter().any(is_sink) {
            return Err(Error::user("job.no-sink", "the job has no sink").hint("add an INSERT INTO, or a sink_to()"));
        }
        for (i, n) in self.nodes.iter().enumerate() {
            let fed = self.edges.iter().any(|e| e.to == NodeId(i));
            if fed == matches!(n.kind, NodeKind::Source(_)) {
                return Err(Error::bug(format!("node `{}` has the wrong number of inputs", n.name)));
            }
        }
        Ok(())
    }
}
