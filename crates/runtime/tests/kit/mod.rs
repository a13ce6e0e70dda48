//! A small job for the engine's tests: sources of numbers, keyed sums, a two-phase sink, a coordinator. No launcher.

mod coordinator;
mod parts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, Field};
use flott_core::ids::{JobId, OperatorId, SubtaskId, VertexId};
use flott_core::key_group::KeyGroupRange;
use flott_core::metrics::TaskMetrics;
use flott_core::snapshot::{OperatorStateStore, OperatorSubtaskState};
use flott_core::source::{SourceTransformFactory, WatermarkOptions};
use flott_core::time::SharedClock;
use flott_plan::stream_graph::Partitioner;
use flott_runtime::testing::{MemoryChunks, redistribute};
use flott_runtime::{
    ChainedOperator, ChannelOptions, ChannelReceiver, ChannelSender, OutputSpec, SinkOperator, SourceHeadSpec, Task,
    TaskHandle, TaskHead, TaskOptions, TaskSpec, TaskWaker, channel,
};
use flott_state::MemoryStateBackend;

pub use coordinator::{Coordinator, Mode};
pub use parts::{Committed, KeyedSum, Numbers, Poison, TestSink, Watermarks, number_splits};

pub const MAX_PARALLELISM: u32 = 128;
pub const SOURCE: OperatorId = OperatorId(1);
pub const POISON: OperatorId = OperatorId(2);
pub const SUM: OperatorId = OperatorId(3);
pub const SINK: OperatorId = OperatorId(4);

/// What a job looks like: `sources` subtasks of numbers, `sums` subtasks of keyed sums with a sink chained to them.
#[derive(Clone)]
pub struct JobSpec {
    pub sources: u32,
    pub sums: u32,
    /// Rows of all splits together.
    pub rows: i64,
    pub channel: ChannelOptions,
    pub options: TaskOptions,
    pub clock: SharedClock,
    pub committed: Arc<Mutex<Committed>>,
    /// The value at which a user function panics.
    pub panic_at: Option<i64>,
    pub attempt: u32,
}

impl JobSpec {
    pub fn new(sources: u32, sums: u32, rows: i64, clock: SharedClock) -> Self {
        JobSpec {
            sources,
            sums,
            rows,
            channel: ChannelOptions { batches_max: 2, bytes_max: 1 << 20 },
            options: TaskOptions { watermark_interval_ms: 0, ..TaskOptions::default() },
            clock,
            committed: Arc::default(),
            panic_at: None,
            attempt: 0,
        }
    }
    /// The rows that the sink must have committed at the end, sorted.
    pub fn expected(&self) -> Vec<String> {
        let mut sums = BTreeMap::new();
        for n in 0..self.rows {
            *sums.entry(n % 10).or_insert(0) += n;
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

/// State of a checkpoint, by operator: one entry per old subtask.
pub type Restore = BTreeMap<OperatorId, Vec<OperatorSubtaskState>>;

struct Wiring<'a> {
    spec: &'a JobSpec,
    restore: Option<&'a Restore>,
    chunks: Arc<MemoryChunks>,
    coordinator: Arc<Coordinator>,
    job: Job,
}

/// Builds all tasks of a job, restored if there is something to restore.
pub fn build(spec: &JobSpec, mode: Mode, restore: Option<&Restore>) -> Job {
    let coordinator = Coordinator::new(spec.clone(), mode, restore);
    let job =
        Job { tasks: Vec::new(), handles: Vec::new(), metrics: Vec::new(), coordinator: Arc::clone(&coordinator) };
    let mut w = Wiring { spec, restore, chunks: Arc::default(), coordinator, job };
    let source_wakers: Vec<TaskWaker> = (0..spec.sources).map(|_| TaskWaker::new()).collect();
    let sum_wakers: Vec<TaskWaker> = (0..spec.sums).map(|_| TaskWaker::new()).collect();
    let mut inputs: Vec<Vec<ChannelReceiver>> = (0..spec.sums).map(|_| Vec::new()).collect();
    for (i, waker) in source_wakers.iter().enumerate() {
        let mut senders: Vec<ChannelSender> = Vec::new();
        for (target, input) in sum_wakers.iter().zip(&mut inputs) {
            let (tx, rx) = channel(spec.channel, waker.clone(), target.clone());
            senders.push(tx);
            input.push(rx);
        }
        w.source(i as u32, waker.clone(), senders);
    }
    for (i, (receivers, waker)) in inputs.into_iter().zip(sum_wakers).enumerate() {
        w.sum(i as u32, waker, receivers);
    }
    w.coordinator.attach(&w.job.handles);
    w.job
}

impl Wiring<'_> {
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
        let output = OutputSpec {
            partitioner: Partitioner::Hash(vec![0]),
            key_fields: vec![Arc::new(Field::new("k", DataType::Int64, true))],
            channels,
        };
        self.task("source", SOURCE, (index, self.spec.sources), head, chain, vec![output], waker);
    }

    fn sum(&mut self, index: u32, waker: TaskWaker, receivers: Vec<ChannelReceiver>) {
        let n = self.spec.sums;
        let sink = TestSink { committed: Arc::clone(&self.spec.committed) };
        let chain = vec![
            self.operator(SUM, "sum", Box::new(KeyedSum::default()), index, n),
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
        let mine = self.restore.map(|r| {
            let states = r.get(&id).map_or(&[][..], Vec::as_slice);
            redistribute(states, MAX_PARALLELISM, parallelism, index)
        });
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
        };
        let (task, handle) = Task::new(spec, Arc::clone(&self.coordinator) as _).expect("a valid task");
        self.job.tasks.push(task);
        self.job.handles.push(handle);
        self.job.metrics.push(metrics);
    }
}
