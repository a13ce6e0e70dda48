//! A small job for the engine's tests: sources of numbers, keyed sums, a two-phase sink, a coordinator. No launcher.

mod coordinator;
mod parts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, Field};
use flott_core::ids::{JobId, OperatorId, SubtaskId, VertexId};
use flott_core::key_group::KeyGroupRange;
use flott_core::metrics::TaskMetrics;
use flott_core::snapshot::{ChannelAddress, InFlightSegment, OperatorStateStore, OperatorSubtaskState};
use flott_core::source::{SourceTransformFactory, WatermarkOptions};
use flott_core::time::SharedClock;
use flott_plan::stream_graph::Partitioner;
use flott_runtime::testing::{MemoryChunks, redistribute};
use flott_runtime::{
    ChainedOperator, ChannelOptions, ChannelReceiver, ChannelSender, InFlightData, OutputSpec, PortRoute, Queued,
    Recovered, SinkOperator, SourceHeadSpec, Task, TaskHandle, TaskHead, TaskOptions, TaskSpec, TaskWaker, channel_at,
};
use flott_state::MemoryStateBackend;

pub use coordinator::{Coordinator, Mode};
pub use parts::{Committed, KeyedSum, Middle, Numbers, Poison, TestSink, Watermarks, number_splits};

pub const MAX_PARALLELISM: u32 = 128;
pub const SOURCE: OperatorId = OperatorId(1);
pub const POISON: OperatorId = OperatorId(2);
pub const SUM: OperatorId = OperatorId(3);
pub const SINK: OperatorId = OperatorId(4);
pub const MIDDLE: OperatorId = OperatorId(5);

/// What a job looks like: `sources` subtasks of numbers, `sums` subtasks of keyed sums with a sink chained to them.
#[derive(Clone)]
pub struct JobSpec {
    pub sources: u32,
    pub sums: u32,
    /// Subtasks between sources and sums that key rows anew; 0: there are none.
    pub middles: u32,
    /// Rows of all splits together.
    pub rows: i64,
    pub channel: ChannelOptions,
    pub options: TaskOptions,
    pub clock: SharedClock,
    pub committed: Arc<Mutex<Committed>>,
    /// The value at which a user function panics.
    pub panic_at: Option<i64>,
    /// Barriers overtake after so many milliseconds.
    pub unaligned_after_ms: Option<u32>,
    /// The sink takes a batch this often; 0: whenever it is offered one.
    pub sink_pause_ms: i64,
    /// Every checkpoint whose number this divides is given up when the first task has acknowledged it; 0: none.
    pub abort_every: u64,
    /// The sink is given every row, one by one, instead of sums.
    pub all_rows: bool,
    pub attempt: u32,
}

impl JobSpec {
    pub fn new(sources: u32, sums: u32, rows: i64, clock: SharedClock) -> Self {
        JobSpec {
            sources,
            sums,
            middles: 0,
            rows,
            channel: ChannelOptions { batches_max: 2, bytes_max: 1 << 20 },
            options: TaskOptions { watermark_interval_ms: 0, ..TaskOptions::default() },
            clock,
            committed: Arc::default(),
            panic_at: None,
            unaligned_after_ms: None,
            sink_pause_ms: 0,
            abort_every: 0,
            all_rows: false,
            attempt: 0,
        }
    }
    /// The rows that the sink must have committed at the end, sorted.
    pub fn expected(&self) -> Vec<String> {
        if self.all_rows {
            let mut rows: Vec<String> = (0..self.rows).map(|n| format!("+I[{}, {n}]", n % 7)).collect();
            rows.sort();
            return rows;
        }
        let mut sums = BTreeMap::new();
        let modulus = if self.middles > 0 { 7 } else { 10 };
        for n in 0..self.rows {
            *sums.entry(n % modulus).or_insert(0) += n;
        }
        let mut rows: Vec<String> = sums.into_iter().map(|(k, s)| format!("+I[{k}, {s}]")).collect();
        rows.sort();
        rows
    }
    /// What the sink has committed, sorted.
    pub fn result(&self) -> Vec<String> {
        let mut rows = self.committed.lock().expect("no test panics while it holds this").rows();
        rows.sort();
        rows
    }
}

/// Tasks, and a way to talk to each.
pub struct Job {
    pub tasks: Vec<Task>,
    pub handles: Vec<TaskHandle>,
    pub metrics: Vec<Arc<TaskMetrics>>,
    pub coordinator: Arc<Coordinator>,
}

/// What a checkpoint holds.
#[derive(Clone, Default)]
pub struct Restore {
    /// By operator: old subtasks and their states.
    pub states: BTreeMap<OperatorId, Vec<(u32, OperatorSubtaskState)>>,
    pub in_flight: Vec<InFlightSegment>,
    /// Sources, middles and sums of the job that took it.
    pub parallelism: (u32, u32, u32),
}

impl Restore {
    pub fn states(&self, operator: OperatorId) -> Vec<OperatorSubtaskState> {
        self.states.get(&operator).into_iter().flatten().map(|(_, s)| s.clone()).collect()
    }
    /// Rows that were in flight.
    pub fn rows_in_flight(&self) -> u64 {
        self.in_flight.iter().map(|s| s.rows).sum()
    }
    fn former(&self, operator: OperatorId) -> u32 {
        let (sources, middles, sums) = self.parallelism;
        match operator {
            SOURCE | POISON => sources,
            MIDDLE => middles,
            _ => sums,
        }
    }
}

struct Wiring<'a> {
    spec: &'a JobSpec,
    restore: Option<&'a Restore>,
    in_flight: InFlightData,
    /// What was dealt out anew, when the job is rescaled: by operator and subtask.
    stages: BTreeMap<(OperatorId, u32), Queued>,
    staged: bool,
    chunks: Arc<MemoryChunks>,
    coordinator: Arc<Coordinator>,
    job: Job,
}

/// Ends of channels, by subtask.
type Ends<T> = Vec<Vec<T>>;

/// Builds all tasks of a job, restored if there is something to restore.
pub fn build(spec: &JobSpec, mode: Mode, restore: Option<&Restore>) -> Job {
    let coordinator = Coordinator::new(spec.clone(), mode, restore);
    let job =
        Job { tasks: Vec::new(), handles: Vec::new(), metrics: Vec::new(), coordinator: Arc::clone(&coordinator) };
    let in_flight = restore.map(|r| InFlightData::load(&r.in_flight, &MemoryChunks).expect("written by this test"));
    let mut w = Wiring {
        spec,
        restore,
        in_flight: in_flight.unwrap_or_default(),
        stages: BTreeMap::new(),
        staged: restore.is_some_and(|r| r.parallelism != (spec.sources, spec.middles, spec.sums)),
        chunks: Arc::default(),
        coordinator,
        job,
    };
    if w.staged {
        w.deal_out();
    }
    let wakers = |n: u32| (0..n).map(|_| TaskWaker::new()).collect::<Vec<TaskWaker>>();
    let (source_wakers, middle_wakers, sum_wakers) = (wakers(spec.sources), wakers(spec.middles), wakers(spec.sums));
    let (mut outputs, mut inputs) = match spec.middles {
        0 => w.exchange((POISON, &source_wakers), (SUM, &sum_wakers)),
        _ => w.exchange((POISON, &source_wakers), (MIDDLE, &middle_wakers)),
    };
    for (i, (waker, senders)) in source_wakers.iter().zip(outputs).enumerate() {
        w.source(i as u32, waker.clone(), senders);
    }
    if spec.middles > 0 {
        let (next_outputs, next_inputs) = w.exchange((MIDDLE, &middle_wakers), (SUM, &sum_wakers));
        outputs = next_outputs;
        let receivers = std::mem::replace(&mut inputs, next_inputs);
        for (i, ((waker, senders), receivers)) in middle_wakers.iter().zip(outputs).zip(receivers).enumerate() {
            w.middle(i as u32, waker.clone(), receivers, senders);
        }
    }
    for (i, (receivers, waker)) in inputs.into_iter().zip(sum_wakers).enumerate() {
        w.sum(i as u32, waker, receivers);
    }
    w.coordinator.attach(&w.job.handles);
    w.job
}

impl Wiring<'_> {
    /// Channels from every subtask of one operator to every one of another, with what a checkpoint held in them.
    fn exchange(
        &mut self,
        (producer, from): (OperatorId, &[TaskWaker]),
        (operator, to): (OperatorId, &[TaskWaker]),
    ) -> (Ends<ChannelSender>, Ends<ChannelReceiver>) {
        let mut senders: Ends<ChannelSender> = from.iter().map(|_| Vec::new()).collect();
        let mut receivers: Ends<ChannelReceiver> = to.iter().map(|_| Vec::new()).collect();
        for (i, writer) in from.iter().enumerate() {
            for (j, reader) in to.iter().enumerate() {
                let (subtask, from) = (j as u32, i as u32);
                let address = ChannelAddress { operator, subtask, edge: 0, port: 0, producer, from };
                let (s, r) = channel_at(address, self.spec.channel, writer.clone(), reader.clone());
                if !self.staged {
                    let held = self.in_flight.take_channel(address);
                    r.rewrite_queued(|_| held);
                }
                senders[i].push(s);
                receivers[j].push(r);
            }
        }
        (senders, receivers)
    }

    /// Deals what was in flight out to other subtasks than before.
    fn deal_out(&mut self) {
        let restore = self.restore.expect("staged only when restored");
        let now = Restore { parallelism: (self.spec.sources, self.spec.middles, self.spec.sums), ..Restore::default() };
        let mut operators: Vec<OperatorId> = self.in_flight.waiting().map(|(o, _)| o).collect();
        operators.dedup();
        for operator in operators {
            let route = match operator {
                MIDDLE | SUM => {
                    PortRoute::Keys { columns: vec![0], fields: vec![key_field()], max_parallelism: MAX_PARALLELISM }
                }
                _ => PortRoute::Whole,
            };
            let (former, parallelism) = (restore.former(operator), now.former(operator));
            let dealt = self.in_flight.deal_out(operator, former, parallelism, &[route]).expect("well-formed rows");
            for (i, queued) in dealt.into_iter().enumerate() {
                self.stages.insert((operator, i as u32), queued);
            }
        }
    }

    fn recovered(&mut self, operators: &[OperatorId], index: u32) -> Recovered {
        let mut queued = Vec::new();
        for &operator in operators {
            let found = match self.staged {
                true => self.stages.remove(&(operator, index)),
                false => self.in_flight.take_queued(operator, index),
            };
            queued.extend(found.map(|q| (operator, q)));
        }
        Recovered { queued, staged: self.staged }
    }

    fn source(&mut self, index: u32, waker: TaskWaker, channels: Vec<ChannelSender>) {
        let head = TaskHead::Source(SourceHeadSpec {
            operator: SOURCE,
            name: Arc::from("numbers"),
            reader: Box::new(Numbers::default()),
            transform: Some(Arc::new(Watermarks) as Arc<dyn SourceTransformFactory>),
            watermarks: WatermarkOptions::default(),
            alignment: None,
            metrics: Arc::default(),
        });
        let poison = Box::new(Poison { at: self.spec.panic_at });
        let chain = vec![self.operator(POISON, "poison", poison, index, self.spec.sources)];
        let output = OutputSpec { partitioner: Partitioner::Hash(vec![0]), key_fields: vec![key_field()], channels };
        self.task("source", SOURCE, (index, self.spec.sources), head, chain, vec![output], waker);
    }

    fn middle(&mut self, index: u32, waker: TaskWaker, receivers: Vec<ChannelReceiver>, channels: Vec<ChannelSender>) {
        let n = self.spec.middles;
        let chain = vec![self.operator(MIDDLE, "middle", Box::new(Middle::new(self.spec.rows)), index, n)];
        let partitioner = Partitioner::Hash(vec![0]);
        let output = OutputSpec { partitioner, key_fields: vec![key_field()], channels };
        self.task("middle", MIDDLE, (index, n), TaskHead::Inputs(vec![receivers]), chain, vec![output], waker);
    }

    fn sum(&mut self, index: u32, waker: TaskWaker, receivers: Vec<ChannelReceiver>) {
        let n = self.spec.sums;
        let sink = TestSink { committed: Arc::clone(&self.spec.committed), pause_ms: self.spec.sink_pause_ms };
        let sum: Box<dyn flott_core::operator::Operator> = match self.spec.all_rows {
            true => Box::new(Middle::new(self.spec.rows)),
            false => Box::new(KeyedSum::new(self.spec.rows)),
        };
        let chain = vec![
            self.operator(SUM, "sum", sum, index, n),
            self.operator(SINK, "sink", Box::new(SinkOperator::new(Arc::new(sink), 1)), index, n),
        ];
        self.task("sum", SUM, (index, n), TaskHead::Inputs(vec![receivers]), chain, Vec::new(), waker);
    }

    fn operator(
        &self,
        id: OperatorId,
        name: &str,
        operator: Box<dyn flott_core::operator::Operator>,
        index: u32,
        parallelism: u32,
    ) -> ChainedOperator {
        let range = KeyGroupRange::of_subtask(MAX_PARALLELISM, parallelism, index);
        let mut backend = MemoryStateBackend::new(range, MAX_PARALLELISM, Arc::clone(&self.spec.clock));
        let mine = self.restore.map(|r| redistribute(&r.states(id), MAX_PARALLELISM, parallelism, index));
        if let Some(states) = &mine {
            let keyed: Vec<_> = states.iter().filter_map(|s| s.keyed.clone()).collect();
            backend.restore(&keyed, &*self.chunks).expect("written by this test");
        }
        let entries = mine.map(|states| states.into_iter().flat_map(|s| s.operator_state).collect());
        ChainedOperator {
            id,
            name: Arc::from(name),
            operator,
            state: Box::new(backend),
            operator_state: OperatorStateStore::restored(entries),
            metrics: Arc::default(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the two callers stand above")]
    fn task(
        &mut self,
        name: &str,
        head_id: OperatorId,
        (index, parallelism): (u32, u32),
        head: TaskHead,
        chain: Vec<ChainedOperator>,
        outputs: Vec<OutputSpec>,
        waker: TaskWaker,
    ) {
        let metrics: Arc<TaskMetrics> = Arc::default();
        let operators: Vec<OperatorId> = chain.iter().map(|o| o.id).collect();
        let recovered = self.recovered(&operators, index);
        let spec = TaskSpec {
            subtask: SubtaskId { vertex: VertexId(head_id.0), index },
            parallelism,
            max_parallelism: MAX_PARALLELISM,
            attempt: self.spec.attempt,
            job: JobId(7),
            task_name: Arc::from(name),
            head,
            chain,
            outputs,
            config: Arc::default(),
            clock: Arc::clone(&self.spec.clock),
            memory: flott_core::memory::MemoryBudget::unlimited(),
            metrics: Arc::clone(&metrics),
            options: self.spec.options,
            waker,
            recovered,
        };
        let (task, handle) = Task::new(spec, Arc::clone(&self.coordinator) as _).expect("a valid task");
        self.job.tasks.push(task);
        self.job.handles.push(handle);
        self.job.metrics.push(metrics);
    }
}

fn key_field() -> Arc<Field> {
    Arc::new(Field::new("k", DataType::Int64, true))
}
