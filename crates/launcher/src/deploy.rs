//! From a JobGraph to running tasks: channels, operators, restored state. Deploys once per attempt; decides nothing.

mod in_flight;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow_schema::FieldRef;
use flott_core::config::Configuration;
use flott_core::error::{Error, Result};
use flott_core::ids::{JobId, OperatorId, SubtaskId};
use flott_core::key_group::KeyGroupRange;
use flott_core::memory::{MemoryBudget, MemoryUse};
use flott_core::metrics::{OperatorMetrics, TaskMetrics};
use flott_core::operator::Operator;
use flott_core::snapshot::OperatorStateStore;
use flott_core::source::{ReaderContext, Split};
use flott_core::state::StateBackend;
use flott_core::time::SharedClock;
use flott_plan::job_graph::{ChainedNode, JobGraph, JobVertex};
use flott_plan::stream_graph::{NodeKind, Partitioner};
use flott_runtime::{
    AlignmentGroup, ChainedOperator, ChannelOptions, ChannelReceiver, ChannelSender, OutputSpec, Recovered,
    SPLITS_STATE, SinkOperator, SourceHeadSpec, Task, TaskHandle, TaskHead, TaskListener, TaskOptions, TaskSpec,
    TaskWaker, channel_at, decode_split, spawn_task,
};
use flott_state::MemoryStateBackend;

use crate::job_master::{Enumerator, Restore};
use crate::progress::TaskEntry;
use in_flight::InFlight;

/// What one attempt is made of.
pub struct Plan<'a> {
    /// The job.
    pub job: JobId,
    /// Its graph.
    pub graph: &'a JobGraph,
    /// Which start within this process, from 0.
    pub attempt: u32,
    /// Generation of this process: unique among all that ever ran the job.
    pub run: u64,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// Time.
    pub clock: SharedClock,
    /// Sizes of tasks.
    pub options: TaskOptions,
    /// Whether snapshots build on earlier ones.
    pub incremental: bool,
    /// The checkpoint to start from, and where its chunks are read.
    pub restore: Option<&'a Restore>,
}

/// The running tasks of an attempt.
#[derive(Default)]
pub struct Deployment {
    /// One handle per subtask.
    pub tasks: Vec<TaskHandle>,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
    /// Subtasks whose head is a source.
    pub sources: Vec<SubtaskId>,
    /// Metrics for the board.
    pub entries: Vec<TaskEntry>,
    /// Enumerators with the vertex whose subtasks read for them.
    pub enumerators: Vec<(flott_core::VertexId, Enumerator)>,
    /// How rows in flight of a rescaled checkpoint are put in: operators, and the vertices to wait for, in order. Empty: there are
    /// none, or they are where they were.
    pub drains: VecDeque<(OperatorId, flott_core::VertexId)>,
}

type Channels = BTreeMap<(usize, u32), Vec<ChannelSender>>;

impl Plan<'_> {
    /// Builds and starts every task; assigns splits.
    pub fn deploy(&self, listener: &Arc<dyn TaskListener>) -> Result<Deployment> {
        let wakers: Vec<Vec<TaskWaker>> =
            self.graph.vertices.iter().map(|v| (0..v.parallelism).map(|_| TaskWaker::new()).collect()).collect();
        let mut in_flight = match self.restore {
            Some(r) => InFlight::load(self.graph, &r.metadata, &*r.reader)?,
            None => InFlight::default(),
        };
        let (mut senders, mut receivers) = self.channels(&wakers, &mut in_flight);
        let mut groups = BTreeMap::new();
        let mut specs = Vec::new();
        let mut deployment = Deployment { drains: in_flight.steps(self.graph), ..Deployment::default() };
        for (v, vertex) in self.graph.vertices.iter().enumerate() {
            for index in 0..vertex.parallelism {
                let inputs = receivers.remove(&(v, index)).unwrap_or_default();
                let outputs = self.outputs(v, index, &mut senders);
                let waker = wakers[v][index as usize].clone();
                let spec = TaskSpec {
                    recovered: in_flight.of_task(vertex, index),
                    ..self.task(vertex, index, inputs, outputs, waker, &mut groups)?
                };
                deployment.entries.push(entry(vertex, &spec));
                if matches!(spec.head, TaskHead::Source(_)) {
                    deployment.sources.push(spec.subtask);
                }
                specs.push(spec);
            }
            if let NodeKind::Source(source) = &vertex.chain[0].node.kind {
                let node = &vertex.chain[0];
                let state =
                    self.restore.and_then(|r| r.metadata.assign(node.id, vertex.parallelism, 0).coordinator_state);
                let enumerator =
                    Enumerator::new(node.id, &node.node.name, &source.source, vertex.parallelism, state.as_deref())?;
                deployment.enumerators.push((vertex.id, enumerator));
            }
        }
        for spec in specs {
            let task = Task::new(spec, Arc::clone(listener));
            match task.and_then(|(task, handle)| Ok((spawn_task(task)?, handle))) {
                Ok((thread, handle)) => {
                    deployment.tasks.push(handle);
                    deployment.threads.push(thread);
                }
                Err(e) => {
                    // Those that run already would wait for their neighbours for ever.
                    deployment.tasks.iter().for_each(TaskHandle::cancel);
                    return Err(e);
                }
            }
        }
        Ok(deployment)
    }

    /// Unfinished splits of a source in the checkpoint, with the subtasks that read them.
    pub fn unfinished_splits(&self, operator: OperatorId) -> Result<Vec<(u32, Split)>> {
        let Some(restore) = self.restore else { return Ok(Vec::new()) };
        let states = restore.metadata.operators.iter().filter(|o| o.id == operator).flat_map(|o| &o.subtasks);
        let entries = states.flat_map(|(i, s)| s.operator_state.iter().map(move |e| (*i, e)));
        let items =
            entries.filter(|(_, e)| e.name == SPLITS_STATE).flat_map(|(i, e)| e.items.iter().map(move |b| (i, b)));
        items.map(|(i, b)| Ok((i, decode_split(b)?))).collect()
    }
    /// Subtasks that a source had in the checkpoint.
    pub fn former_parallelism(&self, operator: OperatorId) -> Option<u32> {
        let found = self.restore.and_then(|r| r.metadata.operators.iter().find(|o| o.id == operator));
        found.map(|o| o.parallelism)
    }

    #[allow(clippy::type_complexity, reason = "two halves of one table")]
    fn channels(
        &self,
        wakers: &[Vec<TaskWaker>],
        in_flight: &mut InFlight,
    ) -> (Channels, BTreeMap<(usize, u32), Vec<Vec<ChannelReceiver>>>) {
        let mut senders = Channels::new();
        let mut receivers: BTreeMap<(usize, u32), Vec<Vec<ChannelReceiver>>> = BTreeMap::new();
        let options = channel_options(self.graph, &self.memory);
        for (e, edge) in self.graph.edges.iter().enumerate() {
            let (from, to) = (self.graph.vertices[edge.from].parallelism, self.graph.vertices[edge.to].parallelism);
            for i in 0..from {
                for j in 0..to {
                    if edge.partitioner == Partitioner::Forward && i != j {
                        continue;
                    }
                    let address = in_flight::address(self.graph, e, i, j);
                    let (s, r) = channel_at(
                        address,
                        options,
                        wakers[edge.from][i as usize].clone(),
                        wakers[edge.to][j as usize].clone(),
                    );
                    in_flight.fill(address, &r);
                    r.draw_on(&self.memory);
                    senders.entry((e, i)).or_default().push(s);
                    let ports = receivers.entry((edge.to, j)).or_default();
                    if ports.len() <= edge.port {
                        ports.resize_with(edge.port + 1, Vec::new);
                    }
                    ports[edge.port].push(r);
                }
            }
        }
        (senders, receivers)
    }

    fn outputs(&self, vertex: usize, index: u32, senders: &mut Channels) -> Vec<OutputSpec> {
        let edges = self.graph.edges.iter().enumerate().filter(|(_, e)| e.from == vertex);
        edges
            .map(|(e, edge)| {
                let key_fields = match &edge.partitioner {
                    Partitioner::Hash(keys) => key_fields(&self.graph.vertices[vertex], keys),
                    _ => Vec::new(),
                };
                let channels = senders.remove(&(e, index)).unwrap_or_default();
                OutputSpec { partitioner: edge.partitioner.clone(), key_fields, channels }
            })
            .collect()
    }

    fn task(
        &self,
        vertex: &JobVertex,
        index: u32,
        inputs: Vec<Vec<ChannelReceiver>>,
        outputs: Vec<OutputSpec>,
        waker: TaskWaker,
        groups: &mut BTreeMap<String, Arc<AlignmentGroup>>,
    ) -> Result<TaskSpec> {
        let task_name: Arc<str> = format!("{} ({}/{})", vertex.name, index + 1, vertex.parallelism).into();
        let mut chain = Vec::new();
        let mut head = TaskHead::Inputs(inputs);
        for node in &vertex.chain {
            let metrics = Arc::new(OperatorMetrics::default());
            if let NodeKind::Source(_) = &node.node.kind {
                head = TaskHead::Source(self.source(node, vertex, index, metrics, groups)?);
            } else {
                chain.push(self.operator(node, vertex, index, metrics)?);
            }
        }
        Ok(TaskSpec {
            subtask: SubtaskId { vertex: vertex.id, index },
            parallelism: vertex.parallelism,
            max_parallelism: self.graph.max_parallelism,
            attempt: self.attempt,
            job: self.job,
            task_name,
            head,
            chain,
            outputs,
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            memory: self.memory.clone(),
            metrics: Arc::new(TaskMetrics::default()),
            options: self.options,
            waker,
            recovered: Recovered::default(),
        })
    }

    fn source(
        &self,
        node: &ChainedNode,
        vertex: &JobVertex,
        index: u32,
        metrics: Arc<OperatorMetrics>,
        groups: &mut BTreeMap<String, Arc<AlignmentGroup>>,
    ) -> Result<SourceHeadSpec> {
        let NodeKind::Source(source) = &node.node.kind else {
            return Err(Error::bug(format!("`{}` is not a source", node.node.name)));
        };
        let reader = source.source.reader(ReaderContext {
            subtask: index,
            parallelism: vertex.parallelism,
            clock: Arc::clone(&self.clock),
            config: Arc::clone(&self.config),
            memory: self.memory.clone(),
            metrics: Arc::clone(&metrics),
        })?;
        let alignment =
            source.watermarks.alignment.as_ref().map(|a| {
                Arc::clone(groups.entry(a.group.clone()).or_insert_with(|| AlignmentGroup::new(a.max_drift_ms)))
            });
        Ok(SourceHeadSpec {
            operator: node.id,
            name: node.node.name.as_str().into(),
            reader,
            transform: source.transform.clone(),
            watermarks: source.watermarks.clone(),
            alignment,
            metrics,
        })
    }

    fn operator(
        &self,
        node: &ChainedNode,
        vertex: &JobVertex,
        index: u32,
        metrics: Arc<OperatorMetrics>,
    ) -> Result<ChainedOperator> {
        let operator: Box<dyn Operator> = match &node.node.kind {
            NodeKind::Spec(spec) => flott_operators::factory(spec, &node.inputs, &node.node.columns)?.create()?,
            NodeKind::Operator(factory) => factory.create()?,
            NodeKind::Lookup(lookup) => {
                flott_operators::lookup_join(&lookup.spec, &lookup.source, &node.inputs, &node.node.columns)?
            }
            NodeKind::Correlate(correlate) => {
                flott_operators::correlate(&correlate.spec, &correlate.function, &node.inputs, &node.node.columns)?
            }
            NodeKind::Sink(sink) => Box::new(SinkOperator::new(Arc::clone(sink), self.run)),
            NodeKind::Source(_) => return Err(Error::bug("a source inside a chain")),
        };
        let range = KeyGroupRange::of_subtask(self.graph.max_parallelism, vertex.parallelism, index);
        let mut backend = MemoryStateBackend::new(range, self.graph.max_parallelism, Arc::clone(&self.clock))
            .with_incremental(self.incremental)
            .with_metrics(Arc::clone(&metrics));
        let mut operator_state = None;
        if let Some(restore) = self.restore {
            let state = restore.metadata.assign(node.id, vertex.parallelism, index);
            backend
                .restore(&state.keyed, &*restore.reader)
                .map_err(|e| e.context(format!("operator \"{}\"", node.node.name)))?;
            operator_state = Some(state.operator_state);
        }
        let state: Box<dyn StateBackend> = Box::new(backend);
        Ok(ChainedOperator {
            id: node.id,
            name: node.node.name.as_str().into(),
            operator,
            state,
            operator_state: OperatorStateStore::restored(operator_state),
            metrics,
        })
    }
}

/// Fields of columns that leave a vertex.
fn key_fields(vertex: &JobVertex, keys: &[usize]) -> Vec<FieldRef> {
    let columns = &vertex.chain.last().expect("a chain has a head").node.columns;
    keys.iter().map(|&k| Arc::new(columns[k].data_type.to_field(&columns[k].name))).collect()
}

/// Every channel of the job gets the same share of the network's budget.
fn channel_options(graph: &JobGraph, memory: &MemoryBudget) -> ChannelOptions {
    let channels = graph.edges.iter().map(|e| {
        let (from, to) = (graph.vertices[e.from].parallelism as usize, graph.vertices[e.to].parallelism as usize);
        if e.partitioner == Partitioner::Forward { from } else { from * to }
    });
    let share = memory.limit_bytes(MemoryUse::Network) / channels.sum::<usize>().max(1);
    let usual = ChannelOptions::default();
    ChannelOptions { bytes_max: usual.bytes_max.min(share).max(1), ..usual }
}

fn entry(vertex: &JobVertex, spec: &TaskSpec) -> TaskEntry {
    let is_sink = matches!(vertex.chain.last().map(|n| &n.node.kind), Some(NodeKind::Sink(_)));
    let mut operators: Vec<_> = spec.chain.iter().map(|o| Arc::clone(&o.metrics)).collect();
    let mut operator_names: Vec<_> = spec.chain.iter().map(|o| Arc::clone(&o.name)).collect();
    if let TaskHead::Source(source) = &spec.head {
        operators.insert(0, Arc::clone(&source.metrics));
        operator_names.insert(0, Arc::clone(&source.name));
    }
    TaskEntry {
        subtask: spec.subtask,
        name: spec.task_name.to_string(),
        task: Arc::clone(&spec.metrics),
        operators,
        operator_names,
        is_source: matches!(spec.head, TaskHead::Source(_)),
        is_sink,
    }
}
