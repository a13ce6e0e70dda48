//! From a JobGraph to running tasks: channels, links to other TaskManagers, operators, restored state. Deploys once per attempt and
//! TaskManager; decides nothing.

mod in_flight;
mod links;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow_schema::FieldRef;
use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::ids::{JobId, OperatorId, SubtaskId, VertexId};
use flott_core::key_group::KeyGroupRange;
use flott_core::memory::{MemoryBudget, MemoryUse};
use flott_core::metrics::{OperatorMetrics, TaskMetrics};
use flott_core::operator::Operator;
use flott_core::snapshot::OperatorStateStore;
use flott_core::source::ReaderContext;
use flott_core::state::StateBackend;
use flott_core::time::SharedClock;
use flott_jobmanager::Restore;
use flott_jobmanager::progress::TaskEntry;
use flott_plan::job_graph::{ChainedNode, JobGraph, JobVertex};
use flott_plan::stream_graph::{NodeKind, Partitioner};
use flott_runtime::{
    AlignmentGroup, ChainedOperator, ChannelOptions, ChannelReceiver, ChannelSender, OutputSpec, Recovered,
    SinkOperator, SourceHeadSpec, Task, TaskHandle, TaskHead, TaskListener, TaskOptions, TaskSpec, TaskWaker,
    channel_at, spawn_task,
};
use flott_state::MemoryStateBackend;

use in_flight::InFlight;
use links::Ends;
pub use links::{Links, Network};

/// What one attempt is made of.
#[derive(Clone)]
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
    /// Where all subtasks run, and which place this is. `None`: all here.
    pub network: Option<Network<'a>>,
}

/// The running tasks of an attempt.
#[derive(Default)]
pub struct Deployment {
    /// One handle per subtask.
    pub tasks: Vec<TaskHandle>,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
    /// Metrics for the board.
    pub entries: Vec<TaskEntry>,
    /// How rows in flight of a rescaled checkpoint are put in: operators, and the vertices to wait for, in order. Empty: there are
    /// none, or they are where they were.
    pub drains: VecDeque<(OperatorId, VertexId)>,
    /// Connections to other TaskManagers.
    pub links: Option<Links>,
}

impl Deployment {
    /// Waits for the threads, which end when their tasks have, and hangs up.
    pub fn release(self) {
        for thread in self.threads {
            // A task that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Sizes and intervals of tasks.
pub fn task_options(config: &Configuration) -> TaskOptions {
    let mut options = TaskOptions::default();
    if let Some(ms) = config.duration_ms(keys::BUFFER_TIMEOUT) {
        options.buffer_timeout_ms = ms;
    }
    if let Some(ms) = config.duration_ms(keys::AUTO_WATERMARK_INTERVAL) {
        options.watermark_interval_ms = ms;
    }
    options
}

/// Reading ends by consumer (vertex and subtask), then port.
type Receivers = BTreeMap<(usize, u32), Vec<Vec<ChannelReceiver>>>;
/// Writing ends by producer (edge and subtask).
type Senders = BTreeMap<(usize, u32), Vec<ChannelSender>>;

impl Plan<'_> {
    /// Builds and starts every task of this place. After an error none of them runs.
    pub fn deploy(&self, listener: &Arc<dyn TaskListener>) -> Result<Deployment> {
        let wakers: Vec<Vec<TaskWaker>> =
            self.graph.vertices.iter().map(|v| (0..v.parallelism).map(|_| TaskWaker::new()).collect()).collect();
        let mut in_flight = match self.restore {
            Some(r) => InFlight::load(self.graph, &r.metadata, &*r.reader)?,
            None => InFlight::default(),
        };
        let (mut senders, mut receivers, ends) = self.channels(&wakers, &mut in_flight);
        let mut links = self.network.as_ref().map(|n| n.connect(self.job, self.run, self.attempt, ends)).transpose()?;
        let mut groups = BTreeMap::new();
        let mut deployment = Deployment { drains: in_flight.steps(self.graph), ..Deployment::default() };
        let mut tasks = Vec::new();
        for (v, vertex) in self.graph.vertices.iter().enumerate() {
            for index in (0..vertex.parallelism).filter(|i| self.is_here(v, *i)) {
                let inputs = receivers.remove(&(v, index)).unwrap_or_default();
                let outputs = self.outputs(v, index, &mut senders);
                let waker = wakers[v][index as usize].clone();
                let spec = TaskSpec {
                    recovered: in_flight.of_task(vertex, index),
                    ..self.task(vertex, index, inputs, outputs, waker, &mut groups)?
                };
                deployment.entries.push(entry(vertex, &spec));
                tasks.push(Task::new(spec, Arc::clone(listener))?);
            }
        }
        // The tasks hold what was in flight: rows of other TaskManagers may come behind it.
        links.iter_mut().try_for_each(Links::start)?;
        deployment.links = links;
        for (task, handle) in tasks {
            match spawn_task(task) {
                Ok(thread) => {
                    deployment.tasks.push(handle);
                    deployment.threads.push(thread);
                }
                Err(e) => {
                    // Those that run already would wait for their neighbours for ever.
                    deployment.tasks.iter().for_each(TaskHandle::cancel);
                    deployment.release();
                    return Err(e);
                }
            }
        }
        Ok(deployment)
    }

    /// Whether a subtask runs in this place.
    fn is_here(&self, vertex: usize, index: u32) -> bool {
        self.network.as_ref().is_none_or(|n| n.place_of(vertex, index) == n.me)
    }

    fn channels(&self, wakers: &[Vec<TaskWaker>], in_flight: &mut InFlight) -> (Senders, Receivers, Ends) {
        let (mut senders, mut receivers, mut ends) = (Senders::new(), Receivers::new(), Ends::default());
        let options = channel_options(self.graph, &self.memory);
        for (e, edge) in self.graph.edges.iter().enumerate() {
            let (from, to) = (self.graph.vertices[edge.from].parallelism, self.graph.vertices[edge.to].parallelism);
            let pairs = (0..from).flat_map(|i| (0..to).map(move |j| (i, j)));
            for (i, j) in pairs.filter(|(i, j)| edge.partitioner != Partitioner::Forward || i == j) {
                let (produced, consumed) = (self.is_here(edge.from, i), self.is_here(edge.to, j));
                if !produced && !consumed {
                    continue;
                }
                let address = in_flight::address(self.graph, e, i, j);
                let writer = wakers[edge.from][i as usize].clone();
                let reader = wakers[edge.to][j as usize].clone();
                let (sender, receiver) = match &self.network {
                    Some(n) if !consumed => {
                        let to = n.place_of(edge.to, j);
                        let (s, r) = ends.outgoing(to, address, options, writer);
                        r.draw_on(&self.memory);
                        ends.sends(to, r);
                        (Some(s), None)
                    }
                    Some(n) if !produced => {
                        let from = n.place_of(edge.from, i);
                        let (s, r) = ends.incoming(from, address, reader);
                        ends.receives(from, s, links::schema(&self.graph.vertices[edge.from]));
                        (None, Some(r))
                    }
                    _ => {
                        let (s, r) = channel_at(address, options, writer, reader);
                        (Some(s), Some(r))
                    }
                };
                if let Some(receiver) = receiver {
                    in_flight.fill(address, &receiver);
                    receiver.draw_on(&self.memory);
                    let ports = receivers.entry((edge.to, j)).or_default();
                    if ports.len() <= edge.port {
                        ports.resize_with(edge.port + 1, Vec::new);
                    }
                    ports[edge.port].push(receiver);
                }
                if let Some(sender) = sender {
                    senders.entry((e, i)).or_default().push(sender);
                }
            }
        }
        (senders, receivers, ends)
    }

    fn outputs(&self, vertex: usize, index: u32, senders: &mut Senders) -> Vec<OutputSpec> {
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
