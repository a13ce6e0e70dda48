//! One operator driven by hand, by the same chain driver as in a task. No threads, no channels, a manual clock.

use std::sync::Arc;

use bytes::Bytes;
use flott_core::batch::ChangeBatch;
use flott_core::config::Configuration;
use flott_core::element::{Barrier, BarrierOptions, Element, Signal};
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, JobId, OperatorId};
use flott_core::key_group::KeyGroupRange;
use flott_core::memory::MemoryBudget;
use flott_core::metrics::OperatorMetrics;
use flott_core::operator::{Notification, OperatorContext, OperatorFactory, Outbox};
use flott_core::snapshot::{
    ChunkLocation, ChunkReader, ChunkRef, ChunkScope, ChunkWriter, KeyedSnapshot, OperatorStateEntry,
    OperatorStateStore, OperatorSubtaskState, Redistribution,
};
use flott_core::state::{ListTable, MapTable, RowTable, StateBackend, TableDescriptor, TableId, ValueTable};
use flott_core::time::{Clock, EventTime, ManualClock, SharedClock};

use super::{BackendFactory, BackendRequest, TEST_MAX_PARALLELISM};
use crate::chain::{Chain, ChainEvent};
use crate::head::{BarrierItem, Item};
use crate::in_flight::Queued;
use crate::task::TaskCut;

/// Chunks kept inside their references.
#[derive(Debug, Default)]
pub struct MemoryChunks;

impl ChunkWriter for MemoryChunks {
    fn put(&self, scope: ChunkScope, bytes: Bytes) -> Result<ChunkRef> {
        Ok(ChunkRef { scope, len: bytes.len() as u64, crc32: 0, location: ChunkLocation::Inline(bytes) })
    }
}

impl ChunkReader for MemoryChunks {
    fn get(&self, chunk: &ChunkRef) -> Result<Bytes> {
        match &chunk.location {
            ChunkLocation::Inline(bytes) => Ok(bytes.clone()),
            ChunkLocation::File { path, .. } => Err(Error::bug(format!("a test wrote no file `{path}`"))),
        }
    }
}

/// The backend of an operator without keyed state: registering a table is an error.
#[derive(Debug)]
pub struct NoState;

impl StateBackend for NoState {
    fn register(&mut self, descriptor: &TableDescriptor) -> Result<TableId> {
        Err(Error::bug(format!("no state backend was given, and the operator wants table `{}`", descriptor.name)))
    }
    fn rows(&mut self, id: TableId) -> &mut dyn RowTable {
        panic!("no table was registered, and table {} is asked for", id.0)
    }
    fn values(&mut self, id: TableId) -> &mut dyn ValueTable {
        panic!("no table was registered, and table {} is asked for", id.0)
    }
    fn map(&mut self, id: TableId) -> &mut dyn MapTable {
        panic!("no table was registered, and table {} is asked for", id.0)
    }
    fn lists(&mut self, id: TableId) -> &mut dyn ListTable {
        panic!("no table was registered, and table {} is asked for", id.0)
    }
    fn snapshot(&mut self, _checkpoint: CheckpointId) -> Result<Option<Box<dyn KeyedSnapshot>>> {
        Ok(None)
    }
    fn notify(&mut self, _checkpoint: CheckpointId, _completed: bool) {}
}

/// How long, and how often, a harness waits for other threads.
const WAIT: std::time::Duration = std::time::Duration::from_micros(200);
const WAITS_MAX: usize = 50_000;

/// What a harness is built from.
pub struct OperatorHarnessBuilder {
    factory: Arc<dyn OperatorFactory>,
    backend: BackendFactory,
    config: Arc<Configuration>,
    subtask: u32,
    parallelism: u32,
    outbox: usize,
    now_ms: i64,
    chunks: Arc<MemoryChunks>,
    restored: Vec<OperatorSubtaskState>,
}

impl OperatorHarnessBuilder {
    /// Gives the operator keyed state.
    pub fn backend(mut self, backend: BackendFactory) -> Self {
        self.backend = backend;
        self
    }
    /// The configuration the operator sees.
    pub fn config(mut self, config: Arc<Configuration>) -> Self {
        self.config = config;
        self
    }
    /// Index and number of subtasks.
    pub fn subtask(mut self, index: u32, parallelism: u32) -> Self {
        (self.subtask, self.parallelism) = (index, parallelism);
        self
    }
    /// Elements the outbox holds.
    pub fn outbox(mut self, capacity: usize) -> Self {
        self.outbox = capacity;
        self
    }
    /// Processing time at the start.
    pub fn now_ms(mut self, ms: i64) -> Self {
        self.now_ms = ms;
        self
    }
    /// Where chunks are.
    pub fn chunks(mut self, chunks: Arc<MemoryChunks>) -> Self {
        self.chunks = chunks;
        self
    }
    /// State to start from, as [`redistribute`] gives it; nothing for a fresh start.
    pub fn restored(mut self, states: &[OperatorSubtaskState]) -> Self {
        self.restored = states.to_vec();
        self
    }
    /// Makes the operator and opens it.
    pub fn build(self) -> Result<OperatorHarness> {
        let clock = ManualClock::at(self.now_ms);
        let shared: SharedClock = clock.clone();
        let keyed: Vec<_> = self.restored.iter().filter_map(|s| s.keyed.clone()).collect();
        let state = (self.backend)(BackendRequest {
            key_groups: KeyGroupRange::of_subtask(TEST_MAX_PARALLELISM, self.parallelism, self.subtask),
            max_parallelism: TEST_MAX_PARALLELISM,
            restored: &keyed,
            chunks: self.chunks.clone(),
            clock: Arc::clone(&shared),
        })?;
        let entries = self.restored.iter().flat_map(|s| s.operator_state.clone()).collect();
        let context = OperatorContext {
            job: JobId(1),
            operator: OperatorId(1),
            name: Arc::from("operator under test"),
            subtask: self.subtask,
            parallelism: self.parallelism,
            max_parallelism: TEST_MAX_PARALLELISM,
            attempt: 0,
            config: self.config,
            clock: shared,
            watermark: EventTime::MIN,
            state,
            operator_state: OperatorStateStore::restored((!self.restored.is_empty()).then_some(entries)),
            out: Outbox::new(self.outbox),
            memory: MemoryBudget::unlimited(),
            metrics: Arc::new(OperatorMetrics::default()),
        };
        let metrics = Arc::clone(&context.metrics);
        let mut chain = Chain::new(vec![(self.factory.create()?, context)]);
        chain.open()?;
        let mut harness = OperatorHarness {
            chain,
            clock,
            chunks: self.chunks,
            metrics,
            output: Vec::new(),
            before_barrier: 0,
            next_checkpoint: 1,
            hurried: false,
        };
        harness.settle()?;
        Ok(harness)
    }
}

/// One open operator.
pub struct OperatorHarness {
    chain: Chain,
    clock: Arc<ManualClock>,
    chunks: Arc<MemoryChunks>,
    metrics: Arc<OperatorMetrics>,
    output: Vec<Element>,
    /// Elements of `output` that came out before the last barrier.
    before_barrier: usize,
    next_checkpoint: u64,
    /// What is given is only begun: see [`OperatorHarness::interrupted`].
    hurried: bool,
}

impl OperatorHarness {
    /// Starts to build a harness: no state, parallelism 1, an outbox of 4 elements.
    pub fn builder(factory: Arc<dyn OperatorFactory>) -> OperatorHarnessBuilder {
        OperatorHarnessBuilder {
            factory,
            backend: Arc::new(|_| Ok(Box::new(NoState))),
            config: Arc::default(),
            subtask: 0,
            parallelism: 1,
            outbox: 4,
            now_ms: 0,
            chunks: Arc::default(),
            restored: Vec::new(),
        }
    }
    /// Rows on a port.
    pub fn batch(&mut self, port: usize, batch: ChangeBatch) -> Result<()> {
        self.feed(Item::Batch { port, batch }).map(drop)
    }
    /// The combined watermark rises.
    pub fn watermark(&mut self, ms: i64) -> Result<()> {
        self.signal(Signal::Watermark(EventTime(ms)))
    }
    /// A signal other than a barrier.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.feed(Item::Signal(signal)).map(drop)
    }
    /// Processing time moves.
    pub fn processing_time(&mut self, ms: i64) -> Result<()> {
        self.clock.set(ms);
        self.settle().map(drop)
    }
    /// One input ends.
    pub fn end_of_input(&mut self, port: usize) -> Result<()> {
        self.feed(Item::EndOfInput(port)).map(drop)
    }
    /// All data has ended, after the ends of the inputs.
    pub fn end_of_data(&mut self) -> Result<()> {
        self.signal(Signal::EndOfData)
    }
    /// A barrier passes: the state, written.
    pub fn checkpoint(&mut self) -> Result<OperatorSubtaskState> {
        let item = Item::Barrier(self.barrier());
        let cut = self.feed(item)?.ok_or_else(|| Error::bug("the barrier did not pass the operator"))?;
        self.written(cut)
    }
    fn barrier(&mut self) -> BarrierItem {
        let checkpoint = CheckpointId(self.next_checkpoint);
        self.next_checkpoint += 1;
        let barrier = Barrier { checkpoint, triggered_ms: self.clock.now_ms(), options: BarrierOptions::default() };
        BarrierItem { barrier, start_delay_ms: 0, alignment_ms: 0, processed_bytes: 0, cut: None, sync_ns: 0 }
    }
    fn written(&self, cut: TaskCut) -> Result<OperatorSubtaskState> {
        let cut = cut.cuts.into_iter().next().ok_or_else(|| Error::bug("the cut is empty"))?;
        let keyed = cut.keyed.map(|k| k.write(&*self.chunks)).transpose()?;
        Ok(OperatorSubtaskState { operator: cut.operator, keyed, operator_state: cut.operator_state })
    }
    /// Begins what `give` gives, and lets a barrier overtake before anything that came out of it has been taken: the state, written.
    /// What had come out follows in the output, as it would out of the checkpoint.
    pub fn interrupted(&mut self, give: impl FnOnce(&mut Self) -> Result<()>) -> Result<OperatorSubtaskState> {
        self.hurried = true;
        let given = give(self);
        self.hurried = false;
        given?;
        let item = self.barrier();
        self.chain.overtake_from_head(item, Queued::default());
        let nanos = self.nanos();
        let mut waits = 0;
        loop {
            match self.chain.step(self.clock.now_ms(), &nanos)? {
                ChainEvent::Nothing if waits < WAITS_MAX && self.waits_for_others() => {
                    waits += 1;
                    std::thread::sleep(WAIT);
                }
                ChainEvent::Overtook(done) => {
                    self.output.extend(self.chain.drain_tail());
                    return self.written(done.cut);
                }
                ChainEvent::Worked => {}
                ChainEvent::Cut(_) | ChainEvent::Nothing => {
                    return Err(Error::bug("the barrier does not overtake: the operator waits for time"));
                }
            }
        }
    }
    /// Tells the operator that a checkpoint was published (`true`) or given up.
    pub fn notify(&mut self, notification: Notification) -> Result<()> {
        self.chain.notify(notification)?;
        self.settle().map(drop)
    }
    /// Takes what has come out, barriers excepted.
    pub fn take_output(&mut self) -> Vec<Element> {
        std::mem::take(&mut self.output)
    }
    /// Takes what came out before the last barrier; what another thread's answer brought about since is lost, as it is for a job
    /// that is restored from there.
    pub fn take_output_to_barrier(&mut self) -> Vec<Element> {
        self.output.truncate(self.before_barrier);
        self.take_output()
    }
    /// Processing time.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
    /// When the operator wants to be woken.
    pub fn next_wake_ms(&self) -> Option<i64> {
        self.chain.next_wake_ms()
    }
    /// Whether the operator takes no rows for now.
    pub fn is_busy(&self) -> bool {
        self.chain.is_busy()
    }
    /// Whether the operator is blocked on something other than room in its outbox.
    pub fn is_blocked(&self) -> bool {
        self.chain.is_blocked()
    }
    /// Where chunks are.
    pub fn chunks(&self) -> Arc<MemoryChunks> {
        Arc::clone(&self.chunks)
    }
    /// Counters of the operator.
    pub fn metrics(&self) -> &OperatorMetrics {
        &self.metrics
    }

    fn nanos(&self) -> impl Fn() -> u64 + use<> {
        let clock = Arc::clone(&self.clock);
        move || clock.now_nanos()
    }

    fn feed(&mut self, item: Item) -> Result<Option<TaskCut>> {
        if !self.chain.accepts() {
            return Err(Error::bug("the operator is blocked and was given something"));
        }
        let barrier = matches!(item, Item::Barrier(_));
        let event = self.chain.feed(item, &self.nanos())?;
        let mut cut = self.settle()?;
        if let ChainEvent::Cut(c) = event {
            cut = Some(c);
        }
        for _ in 0..WAITS_MAX {
            if !barrier || cut.is_some() || !self.waits_for_others() {
                break;
            }
            std::thread::sleep(WAIT);
            cut = self.settle()?;
        }
        Ok(cut)
    }

    /// Waits for what other threads do for the operator, until it has nothing under way any more: 10 s at most.
    pub fn wait(&mut self) -> Result<()> {
        for _ in 0..WAITS_MAX {
            self.settle()?;
            if !self.waits_for_others() {
                return Ok(());
            }
            std::thread::sleep(WAIT);
        }
        Err(Error::bug("the operator waits for more than 10 s"))
    }
    /// Whether something is under way that no call and no time of its own would end.
    fn waits_for_others(&self) -> bool {
        !self.chain.is_settled() && self.chain.next_wake_ms().is_none_or(|at| at == i64::MAX)
    }
    /// Whether the operator takes another batch.
    pub fn accepts_rows(&self) -> bool {
        self.chain.accepts() && self.chain.accepts_rows()
    }

    /// Lets the operator do all it can. Room is made only when nothing else helps, one element at a time.
    fn settle(&mut self) -> Result<Option<TaskCut>> {
        let mut cut = None;
        let nanos = self.nanos();
        if self.hurried {
            self.chain.step(self.clock.now_ms(), &nanos)?;
            return Ok(None);
        }
        loop {
            match self.chain.step(self.clock.now_ms(), &nanos)? {
                ChainEvent::Worked => {}
                ChainEvent::Cut(c) => cut = Some(c),
                ChainEvent::Overtook(o) => cut = Some(o.cut),
                ChainEvent::Nothing => match self.chain.pop() {
                    Some(Element::Signal(Signal::Barrier(_))) => self.before_barrier = self.output.len(),
                    Some(element) => self.output.push(element),
                    None => return Ok(cut),
                },
            }
        }
    }
}

/// What subtask `index` of `parallelism` is restored from: one state per old subtask that matters to it.
pub fn redistribute(
    states: &[OperatorSubtaskState],
    max_parallelism: u32,
    parallelism: u32,
    index: u32,
) -> Vec<OperatorSubtaskState> {
    let range = KeyGroupRange::of_subtask(max_parallelism, parallelism, index);
    let mut dealt = 0usize;
    let mut entries: Vec<OperatorStateEntry> = Vec::new();
    for (i, state) in states.iter().enumerate() {
        for entry in &state.operator_state {
            let items: Vec<Bytes> = match entry.redistribution {
                Redistribution::Union => entry.items.clone(),
                Redistribution::Broadcast if i == 0 => entry.items.clone(),
                Redistribution::Broadcast => Vec::new(),
                Redistribution::Split => {
                    let first = dealt;
                    dealt += entry.items.len();
                    let mine = |(n, _): &(usize, &Bytes)| (first + n) % parallelism as usize == index as usize;
                    entry.items.iter().enumerate().filter(mine).map(|(_, b)| b.clone()).collect()
                }
            };
            match entries.iter_mut().find(|e| e.name == entry.name) {
                Some(e) => e.items.extend(items),
                None => entries.push(OperatorStateEntry { items, ..entry.clone() }),
            }
        }
    }
    let mut out: Vec<OperatorSubtaskState> = states
        .iter()
        .map(|s| OperatorSubtaskState {
            operator: s.operator,
            keyed: s.keyed.clone().filter(|k| !k.key_groups.intersect(&range).is_empty()),
            operator_state: Vec::new(),
        })
        .collect();
    if let Some(first) = out.first_mut() {
        first.operator_state = entries;
    }
    out
}
