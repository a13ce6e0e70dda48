//! The JobGraph: chains as vertices. Pure: the same StreamGraph always gives the same ids.

use flott_core::error::{Error, Result};
use flott_core::ids::{OperatorId, VertexId};
use flott_core::key_group::{MAX_PARALLELISM_LIMIT, default_max_parallelism};

use crate::stream_graph::{NodeId, NodeKind, Partitioner, StreamGraph, StreamNode};

/// A job ready to be deployed.
#[derive(Clone)]
pub struct JobGraph {
    /// Name.
    pub name: String,
    /// Number of key groups: fixed once state exists.
    pub max_parallelism: u32,
    /// Chains, upstream first.
    pub vertices: Vec<JobVertex>,
    /// Edges between chains.
    pub edges: Vec<JobEdge>,
}

/// A chain of operators that one task runs.
#[derive(Clone)]
pub struct JobVertex {
    /// Id: that of its head.
    pub id: VertexId,
    /// Names of the operators, joined by ` -> `.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Operators, head first.
    pub chain: Vec<ChainedNode>,
}

/// One operator of a chain.
#[derive(Clone)]
pub struct ChainedNode {
    /// Address of its state.
    pub id: OperatorId,
    /// The operator.
    pub node: StreamNode,
    /// Columns of its inputs, by port.
    pub inputs: Vec<Vec<flott_core::types::Column>>,
}

/// An edge between chains.
#[derive(Clone, Debug)]
pub struct JobEdge {
    /// Producing vertex, as index.
    pub from: usize,
    /// Consuming vertex, as index.
    pub to: usize,
    /// Input of the consumer's head.
    pub port: usize,
    /// How rows are spread.
    pub partitioner: Partitioner,
}

/// What the job asks of the graph.
#[derive(Clone, Copy, Debug)]
pub struct JobGraphOptions {
    /// `parallelism.default`.
    pub parallelism: u32,
    /// `pipeline.max-parallelism`, or automatic.
    pub max_parallelism: Option<u32>,
    /// `pipeline.operator-chaining.enabled`.
    pub chaining: bool,
}

impl JobGraph {
    /// Chains the operators of `graph`.
    pub fn build(graph: &StreamGraph, name: &str, options: JobGraphOptions) -> Result<JobGraph> {
        graph.validate()?;
        let widest = graph.nodes.iter().map(|n| n.parallelism.unwrap_or(options.parallelism)).max().unwrap_or(1);
        let max_parallelism = options.max_parallelism.unwrap_or_else(|| default_max_parallelism(widest));
        if widest > max_parallelism || max_parallelism > MAX_PARALLELISM_LIMIT {
            return Err(Error::user(
                "job.parallelism",
                format!("parallelism {widest} and max parallelism {max_parallelism} do not go together"),
            )
            .hint(format!("raise pipeline.max-parallelism; it may be at most {MAX_PARALLELISM_LIMIT}")));
        }
        let ids = operator_ids(graph)?;
        let (vertices, vertex_of) = chains(graph, &ids, options);
        let mut edges = Vec::new();
        for e in &graph.edges {
            let (from, to) = (vertex_of[e.from.0], vertex_of[e.to.0]);
            if from != to {
                let partitioner = fit(&e.partitioner, vertices[from].parallelism, vertices[to].parallelism);
                edges.push(JobEdge { from, to, port: e.port, partitioner });
            }
        }
        Ok(JobGraph { name: name.to_owned(), max_parallelism, vertices, edges })
    }
}

/// A forward edge between different parallelisms becomes a rebalance.
fn fit(partitioner: &Partitioner, from: u32, to: u32) -> Partitioner {
    match partitioner {
        Partitioner::Forward if from != to => Partitioner::Rebalance,
        p => p.clone(),
    }
}

fn chains(graph: &StreamGraph, ids: &[OperatorId], options: JobGraphOptions) -> (Vec<JobVertex>, Vec<usize>) {
    let parallelism = |n: NodeId| graph.node(n).parallelism.unwrap_or(options.parallelism);
    let mut vertices: Vec<JobVertex> = Vec::new();
    let mut vertex_of = vec![usize::MAX; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(i);
        let inputs = graph.inputs(id);
        let mut schemas: Vec<Vec<_>> = Vec::new();
        for e in &inputs {
            if e.port >= schemas.len() {
                schemas.push(graph.node(e.from).columns.clone());
            }
        }
        let chained = ChainedNode { id: ids[i], node: node.clone(), inputs: schemas };
        let upstream = match inputs[..] {
            [e] if options.chaining
                && node.chainable
                && e.partitioner == Partitioner::Forward
                && parallelism(e.from) == parallelism(id)
                && graph.outputs(e.from).len() == 1 =>
            {
                Some(vertex_of[e.from.0])
            }
            _ => None,
        };
        match upstream {
            Some(v) => {
                vertices[v].name = format!("{} -> {}", vertices[v].name, node.name);
                vertices[v].chain.push(chained);
                vertex_of[i] = v;
            }
            None => {
                vertex_of[i] = vertices.len();
                vertices.push(JobVertex {
                    id: VertexId(ids[i].0),
                    name: node.name.clone(),
                    parallelism: parallelism(id),
                    chain: vec![chained],
                });
            }
        }
    }
    (vertices, vertex_of)
}

/// The uid's hash, or the hash of the operator's kind, its place among its kind, and its inputs' ids: stable as long as the
/// graph upstream is.
fn operator_ids(graph: &StreamGraph) -> Result<Vec<OperatorId>> {
    let mut ids: Vec<OperatorId> = Vec::with_capacity(graph.nodes.len());
    for (i, node) in graph.nodes.iter().enumerate() {
        let id = match &node.uid {
            Some(uid) => OperatorId::from_uid(uid),
            None => {
                let inputs: Vec<String> =
                    graph.inputs(NodeId(i)).iter().map(|e| format!("{}:{}", e.port, ids[e.from.0])).collect();
                let twins = |path: &str| (0..i).filter(|&j| ids[j] == OperatorId::from_uid(path)).count();
                let mut path = format!("{}({})", kind_name(&node.kind), inputs.join(","));
                while twins(&path) > 0 {
                    path.push('\'');
                }
                OperatorId::from_uid(&path)
            }
        };
        if let Some(j) = ids.iter().position(|x| *x == id) {
            return Err(Error::user(
                "job.duplicate-uid",
                format!("operators `{}` and `{}` have the same uid", graph.nodes[j].name, node.name),
            )
            .hint("give each operator a uid of its own"));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn kind_name(kind: &NodeKind) -> String {
    use crate::spec::OperatorSpec as S;
    match kind {
        NodeKind::Source(_) => "source".into(),
        NodeKind::Sink(_) => "sink".into(),
        NodeKind::Operator(_) => "operator".into(),
        NodeKind::Lookup(_) => "lookup-join".into(),
        NodeKind::Correlate(_) => "correlate".into(),
        NodeKind::Spec(spec) => match spec {
            S::Calc { .. } => "calc",
            S::Expand { .. } => "expand",
            S::WindowAssign { .. } => "window-assign",
            S::WindowAggregate { .. } => "window-aggregate",
            S::GroupAggregate { .. } => "group-aggregate",
            S::Join(_) => "join",
            S::IntervalJoin(_) => "interval-join",
            S::WindowJoin(_) => "window-join",
            S::TemporalJoin(_) => "temporal-join",
            S::Repeat { .. } => "repeat",
            S::Union => "union",
            S::SortLimit { .. } => "sort-limit",
            S::OverAggregate(_) => "over-aggregate",
            S::TemporalSort(_) => "temporal-sort",
            S::TopN { .. } => "top-n",
            S::WindowTopN { .. } => "window-top-n",
            S::Match(_) => "match",
            S::Deduplicate { .. } => "deduplicate",
            S::ChangelogNormalize { .. } => "changelog-normalize",
            S::SinkUpsertMaterialize { .. } => "sink-upsert-materialize",
            S::ToUpsert { .. } => "to-upsert",
            S::DropUpdateBefore => "drop-update-before",
            S::NotNullEnforcer { .. } => "not-null-enforcer",
        }
        .into(),
    }
}
