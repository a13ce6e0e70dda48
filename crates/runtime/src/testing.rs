//! The operator matrix: one description of input and expected output, run in every way the runtime may run an operator.
//!
//! ```text
//! verify_operator(|| Ok(Box::new(MyOperator::new()) as Box<dyn Operator>))
//!     .state_backend(|r| {
//!         let mut backend = MemoryStateBackend::new(r.key_groups, r.max_parallelism, r.clock);
//!         backend.restore(r.restored, &*r.chunks)?;
//!         Ok(Box::new(backend))
//!     })
//!     .keys(0, &[0])                                    // rescaling: key columns of port 0
//!     .input(0, [batch(&schema, &["+I[a, 1]", "+I[b, 2]"])])
//!     .watermark(1000)
//!     .end()
//!     .expect(&["+I[a, 1]", "+I[b, 2]"]);
//! ```
//! The ways are: batches as given; row by row; with an outbox of one element that is drained only when the operator is blocked;
//! with a snapshot and a restore into a fresh operator before every item; with a barrier that overtakes in the middle of every item,
//! while the operator is blocked, and a restore after it; and, when key columns are given, at parallelism
//! 1, then 3, then 2, with state redistributed in between. A failure names the way.
//!
//! Rows are compared as `+I[1, a]` texts. [`OperatorTest::expect`] wants them in order (as a multiset when rescaled);
//! [`OperatorTest::expect_any_order`] as a multiset; [`OperatorTest::expect_net`] compares what remains after all changes
//! are applied, for operators that fold the changes of a batch.

mod harness;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::FieldRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::config::Configuration;
use flott_core::error::Result;
use flott_core::key_group::{KeyGroupRange, subtask_of};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorFactory};
use flott_core::snapshot::{ChunkReader, KeyedStateHandle, OperatorSubtaskState};
use flott_core::state::{KeyBatch, StateBackend};

pub use harness::{MemoryChunks, NoState, OperatorHarness, redistribute};
pub use text::{batch, render_batch, render_element, schema};

/// Number of key groups in tests.
pub const TEST_MAX_PARALLELISM: u32 = 128;

/// What a state backend is made from.
pub struct BackendRequest<'a> {
    /// Key groups of the subtask.
    pub key_groups: KeyGroupRange,
    /// Number of key groups of the job.
    pub max_parallelism: u32,
    /// State of the subtasks that had these key groups before; empty for a fresh start.
    pub restored: &'a [KeyedStateHandle],
    /// Where the chunks of `restored` are.
    pub chunks: Arc<dyn ChunkReader>,
    /// The test's clock, for TTL.
    pub clock: flott_core::time::SharedClock,
}

/// Makes the state backend of a subtask.
pub type BackendFactory = Arc<dyn Fn(BackendRequest<'_>) -> Result<Box<dyn StateBackend>> + Send + Sync>;

/// What happens to the operator under test.
#[derive(Clone, Debug)]
enum Step {
    Rows(usize, ChangeBatch),
    Watermark(i64),
    Idle,
    Active,
    ProcessingTime(i64),
    EndOfInput(usize),
    EndOfData,
}

/// An operator, its input, and how to run it.
pub struct OperatorTest {
    factory: Arc<dyn OperatorFactory>,
    backend: BackendFactory,
    config: Arc<Configuration>,
    steps: Vec<Step>,
    keys: BTreeMap<usize, Vec<usize>>,
    ports: usize,
    signals: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Compare {
    Order,
    Multiset,
    Net,
}

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    row_by_row: bool,
    outbox: usize,
    restore: bool,
    overtake: bool,
}

const WAYS: [Way; 9] = [
    Way { name: "all at once", row_by_row: false, outbox: 64, restore: false, overtake: false },
    Way { name: "row by row", row_by_row: true, outbox: 64, restore: false, overtake: false },
    Way { name: "full outbox", row_by_row: false, outbox: 1, restore: false, overtake: false },
    Way { name: "full outbox, row by row", row_by_row: true, outbox: 1, restore: false, overtake: false },
    Way { name: "snapshot and restore", row_by_row: false, outbox: 64, restore: true, overtake: false },
    Way { name: "snapshot and restore, row by row", row_by_row: true, outbox: 64, restore: true, overtake: false },
    Way { name: "snapshot and restore, full outbox", row_by_row: false, outbox: 1, restore: true, overtake: false },
    Way { name: "overtaking snapshot and restore", row_by_row: false, outbox: 1, restore: false, overtake: true },
    Way { name: "overtaking, row by row", row_by_row: true, outbox: 1, restore: false, overtake: true },
];

/// Starts the description of a test of the operators that `factory` makes.
pub fn verify_operator(factory: impl Fn() -> Result<Box<dyn Operator>> + Send + Sync + 'static) -> OperatorTest {
    verify_operator_factory(Arc::new(factory))
}

/// As [`verify_operator`], for a factory that is a value.
pub fn verify_operator_factory(factory: Arc<dyn OperatorFactory>) -> OperatorTest {
    OperatorTest {
        factory,
        backend: Arc::new(|_| Ok(Box::new(NoState))),
        config: Arc::default(),
        steps: Vec::new(),
        keys: BTreeMap::new(),
        ports: 1,
        signals: false,
    }
}

impl OperatorTest {
    /// Gives the operator keyed state. Without this, registering a table is an error.
    pub fn state_backend(
        mut self,
        factory: impl Fn(BackendRequest<'_>) -> Result<Box<dyn StateBackend>> + Send + Sync + 'static,
    ) -> Self {
        self.backend = Arc::new(factory);
        self
    }
    /// The configuration the operator sees.
    pub fn config(mut self, config: Configuration) -> Self {
        self.config = Arc::new(config);
        self
    }
    /// Key columns of a port: rows are spread by them when the operator is rescaled. Give them for every port.
    pub fn keys(mut self, port: usize, columns: &[usize]) -> Self {
        self.keys.insert(port, columns.to_vec());
        self
    }
    /// Also compares the watermarks and idleness that come out, as `watermark 5`, `idle`, `active`.
    pub fn with_signals(mut self) -> Self {
        self.signals = true;
        self
    }
    /// Rows on a port.
    pub fn input(mut self, port: usize, batches: impl IntoIterator<Item = ChangeBatch>) -> Self {
        self.ports = self.ports.max(port + 1);
        self.steps.extend(batches.into_iter().map(|b| Step::Rows(port, b)));
        self
    }
    /// The combined watermark rises.
    pub fn watermark(self, ms: i64) -> Self {
        self.step(Step::Watermark(ms))
    }
    /// All inputs are idle.
    pub fn idle(self) -> Self {
        self.step(Step::Idle)
    }
    /// Inputs are active again.
    pub fn active(self) -> Self {
        self.step(Step::Active)
    }
    /// Processing time moves to `ms` (it starts at 0); wake-ups that are due are delivered.
    pub fn processing_time(self, ms: i64) -> Self {
        self.step(Step::ProcessingTime(ms))
    }
    /// One input ends.
    pub fn end_of_input(self, port: usize) -> Self {
        self.step(Step::EndOfInput(port))
    }
    /// All data has ended, after the ends of the inputs.
    pub fn end_of_data(self) -> Self {
        self.step(Step::EndOfData)
    }
    /// The watermark rises to the end of time and every input ends: what a bounded job does.
    pub fn end(mut self) -> Self {
        self.steps.push(Step::Watermark(i64::MAX));
        self.steps.extend((0..self.ports).map(Step::EndOfInput));
        self.step(Step::EndOfData)
    }
    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Runs the matrix and wants these rows in this order. Panics with the way and both lists when they differ.
    #[track_caller]
    pub fn expect(self, rows: &[&str]) {
        self.run(rows, Compare::Order);
    }
    /// As [`OperatorTest::expect`], in any order.
    #[track_caller]
    pub fn expect_any_order(self, rows: &[&str]) {
        self.run(rows, Compare::Multiset);
    }
    /// Runs the matrix and compares what remains once all changes are applied. Write the rows as `+I[…]`.
    #[track_caller]
    pub fn expect_net(self, rows: &[&str]) {
        self.run(rows, Compare::Net);
    }
    /// Runs the input once, as given, and returns the rows as text.
    pub fn output(&self) -> Result<Vec<String>> {
        self.run_one(WAYS[0], &self.steps)
    }

    #[track_caller]
    fn run(self, expected: &[&str], compare: Compare) {
        let expected: Vec<String> = expected.iter().map(|&s| s.to_owned()).collect();
        for way in WAYS {
            let steps = if way.row_by_row { single_rows(&self.steps) } else { self.steps.clone() };
            match self.run_one(way, &steps) {
                Ok(actual) => check(way.name, &actual, &expected, compare),
                Err(e) => panic!("[{}] the operator failed: {e}", way.name),
            }
        }
        if self.keys.len() == self.ports {
            for (name, steps) in [("rescaled", self.steps.clone()), ("rescaled, row by row", single_rows(&self.steps))]
            {
                let compare = if compare == Compare::Order { Compare::Multiset } else { compare };
                match self.run_rescaled(&steps) {
                    // Every subtask says every signal: only rows can be compared.
                    Ok(actual) => check(name, &actual, &only_rows(&expected), compare),
                    Err(e) => panic!("[{name}] the operator failed: {e}"),
                }
            }
        }
    }

    fn harness(&self, way: Way, at: (u32, u32), restored: &[OperatorSubtaskState]) -> Result<OperatorHarness> {
        OperatorHarness::builder(Arc::clone(&self.factory))
            .backend(Arc::clone(&self.backend))
            .config(Arc::clone(&self.config))
            .subtask(at.0, at.1)
            .outbox(way.outbox)
            .restored(restored)
            .build()
    }

    fn run_one(&self, way: Way, steps: &[Step]) -> Result<Vec<String>> {
        let mut harness = self.harness(way, (0, 1), &[])?;
        let mut out = Vec::new();
        for step in steps {
            if way.overtake {
                let state = harness.interrupted(|h| apply(h, step))?;
                out.extend(harness.take_output());
                harness = self.again(way, &harness, state)?;
                out.extend(harness.take_output());
                continue;
            }
            if way.restore {
                let state = harness.checkpoint()?;
                out.extend(harness.take_output_to_barrier());
                harness = self.again(way, &harness, state)?;
            }
            apply(&mut harness, step)?;
            out.extend(harness.take_output());
        }
        harness.wait()?;
        out.extend(harness.take_output());
        Ok(out.iter().flat_map(|e| render_element(e, self.signals)).collect())
    }

    /// A fresh operator with the state of another.
    fn again(&self, way: Way, old: &OperatorHarness, state: OperatorSubtaskState) -> Result<OperatorHarness> {
        OperatorHarness::builder(Arc::clone(&self.factory))
            .backend(Arc::clone(&self.backend))
            .config(Arc::clone(&self.config))
            .outbox(way.outbox)
            .chunks(old.chunks())
            .now_ms(old.now_ms())
            .restored(&[state])
            .build()
    }

    fn run_rescaled(&self, steps: &[Step]) -> Result<Vec<String>> {
        let way = WAYS[0];
        let mut out = Vec::new();
        let mut states: Vec<OperatorSubtaskState> = Vec::new();
        let chunks = Arc::new(MemoryChunks);
        let mut now_ms = 0;
        let third = steps.len().div_ceil(3).max(1);
        for (phase, part) in steps.chunks(third).enumerate() {
            let parallelism = [1u32, 3, 2][phase.min(2)];
            let mut subtasks = Vec::new();
            for i in 0..parallelism {
                let restored: Vec<_> =
                    redistribute(&states, TEST_MAX_PARALLELISM, parallelism, i).into_iter().collect();
                let harness = OperatorHarness::builder(Arc::clone(&self.factory))
                    .backend(Arc::clone(&self.backend))
                    .config(Arc::clone(&self.config))
                    .subtask(i, parallelism)
                    .outbox(way.outbox)
                    .chunks(Arc::clone(&chunks))
                    .now_ms(now_ms)
                    .restored(&restored)
                    .build()?;
                subtasks.push(harness);
            }
            for step in part {
                for (i, harness) in subtasks.iter_mut().enumerate() {
                    if let Some(step) = self.part_of(step, i as u32, parallelism)? {
                        apply(harness, &step)?;
                    }
                    out.extend(harness.take_output());
                }
            }
            now_ms = subtasks[0].now_ms();
            states = subtasks.iter_mut().map(OperatorHarness::checkpoint).collect::<Result<_>>()?;
            if (phase + 1) * third >= steps.len() {
                subtasks.iter_mut().try_for_each(OperatorHarness::wait)?;
            }
            out.extend(subtasks.iter_mut().flat_map(OperatorHarness::take_output));
        }
        Ok(out.iter().flat_map(|e| render_element(e, false)).collect())
    }

    /// What of a step concerns one of several subtasks.
    fn part_of(&self, step: &Step, subtask: u32, parallelism: u32) -> Result<Option<Step>> {
        let Step::Rows(port, batch) = step else { return Ok(Some(step.clone())) };
        let columns = &self.keys[port];
        let schema = batch.schema();
        let fields: Vec<FieldRef> = columns.iter().map(|&c| Arc::clone(&schema.fields()[c])).collect();
        let arrays: Vec<_> = columns.iter().map(|&c| Arc::clone(batch.rows.column(c))).collect();
        let mut keys = KeyBatch::default();
        RowCodec::new(fields)?.encode_keys(&arrays, TEST_MAX_PARALLELISM, &mut keys)?;
        let mine = |&i: &u32| subtask_of(keys.groups[i as usize], TEST_MAX_PARALLELISM, parallelism) == subtask;
        let rows: Vec<u32> = (0..batch.num_rows() as u32).filter(mine).collect();
        match rows.is_empty() {
            true => Ok(None),
            false => Ok(Some(Step::Rows(*port, batch.take(&rows.into())?))),
        }
    }
}

fn apply(harness: &mut OperatorHarness, step: &Step) -> Result<()> {
    if !harness.accepts_rows() {
        harness.wait()?;
    }
    match step {
        Step::Rows(port, batch) => harness.batch(*port, batch.clone()),
        Step::Watermark(ms) => harness.watermark(*ms),
        Step::Idle => harness.signal(flott_core::Signal::Idle),
        Step::Active => harness.signal(flott_core::Signal::Active),
        Step::ProcessingTime(ms) => harness.processing_time(*ms),
        Step::EndOfInput(port) => harness.end_of_input(*port),
        Step::EndOfData => harness.end_of_data(),
    }
}

fn single_rows(steps: &[Step]) -> Vec<Step> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Rows(port, b) => out.extend((0..b.num_rows()).map(|i| Step::Rows(*port, b.slice(i, 1)))),
            other => out.push(other.clone()),
        }
    }
    out
}

fn only_rows(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|l| l.contains('[')).cloned().collect()
}

/// What remains of changes: rows and how often each is there.
fn net(lines: &[String]) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in only_rows(lines) {
        let (kind, row) = line.split_at(2);
        let adds = [RowKind::Insert, RowKind::UpdateAfter].iter().any(|k| k.short() == kind);
        *rows.entry(row.to_owned()).or_insert(0) += if adds { 1 } else { -1 };
    }
    rows.retain(|_, n| *n != 0);
    rows
}

#[track_caller]
fn check(way: &str, actual: &[String], expected: &[String], compare: Compare) {
    let equal = match compare {
        Compare::Order => actual == expected,
        Compare::Multiset => {
            let (mut a, mut b) = (actual.to_vec(), expected.to_vec());
            a.sort();
            b.sort();
            a == b
        }
        Compare::Net => net(actual) == net(expected),
    };
    assert!(
        equal,
        "[{way}] the rows differ\n--- expected\n{}\n--- found\n{}\n",
        expected.join("\n"),
        actual.join("\n")
    );
}

#[cfg(test)]
mod tests;
