//! Sources, operators and sinks of the test job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::key_group::{key_group_of, key_hash};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::sink::{
    ChangelogMode, CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus,
};
use flott_core::source::{ReaderEvent, SourceTransform, SourceTransformFactory, Split, SplitReader};
use flott_core::state::{TableDescriptor, TableId, TableKind};
use flott_runtime::testing::{render_batch, schema};

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("n", DataType::Int64)])
}

fn rows(pairs: &[(i64, i64)]) -> ChangeBatch {
    let keys: ArrayRef = Arc::new(pairs.iter().map(|p| p.0).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(pairs.iter().map(|p| p.1).collect::<Int64Array>());
    ChangeBatch::append(RecordBatch::try_new(columns(), vec![keys, values]).expect("two columns of one length"))
}

fn position(next: i64, end: i64) -> Vec<u8> {
    [next.to_le_bytes(), end.to_le_bytes()].concat()
}

/// The numbers below `rows`, in four splits.
pub fn number_splits(rows: i64) -> Vec<Split> {
    let quarter = rows / 4;
    let split = |i: i64| {
        let end = if i == 3 { rows } else { (i + 1) * quarter };
        Split { id: format!("numbers-{i}"), state: position(i * quarter, end) }
    };
    (0..4).map(split).collect()
}

/// Reads its splits in turn, seven rows at a time.
#[derive(Default)]
pub struct Numbers {
    splits: VecDeque<(Arc<str>, i64, i64)>,
}

impl SplitReader for Numbers {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        for s in splits {
            let at = |i: usize| i64::from_le_bytes(s.state[i..i + 8].try_into().expect("eight bytes"));
            self.splits.push_back((Arc::from(s.id.as_str()), at(0), at(8)));
        }
        Ok(())
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let Some((split, next, end)) = self.splits.pop_front() else { return Ok(ReaderEvent::Drained) };
        if next == end {
            return Ok(ReaderEvent::SplitFinished { split });
        }
        let to = (next + 7).min(end);
        let pairs: Vec<(i64, i64)> = (next..to).map(|n| (n % 10, n)).collect();
        self.splits.push_back((Arc::clone(&split), to, end));
        Ok(ReaderEvent::Rows { split, batch: rows(&pairs) })
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let split = |(id, next, end): &(Arc<str>, i64, i64)| Split { id: id.to_string(), state: position(*next, *end) };
        Ok(self.splits.iter().map(split).collect())
    }
}

/// The number is the event time.
pub struct Watermarks;

impl SourceTransformFactory for Watermarks {
    fn create(&self) -> Result<Box<dyn SourceTransform>> {
        Ok(Box::new(Watermarks))
    }
    fn has_watermarks(&self) -> bool {
        true
    }
}

impl SourceTransform for Watermarks {
    fn apply(&mut self, batch: ChangeBatch) -> Result<(ChangeBatch, Option<i64>)> {
        let last = batch.rows.column(1).as_primitive::<Int64Type>().values().last().copied();
        Ok((batch, last))
    }
}

/// Passes rows on, and panics at one.
pub struct Poison {
    pub at: Option<i64>,
}

impl Operator for Poison {
    fn open(&mut self, _: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        for n in batch.rows.column(1).as_primitive::<Int64Type>().values() {
            assert!(Some(*n) != self.at, "cannot digest {n}");
        }
        ctx.out.emit(batch);
        Ok(Progress::Done)
    }
}

/// The splits and the residues modulo ten of numbers: rows of each stay in order on their way through the job.
const LANES: usize = 40;

/// Per key: the sum, and the last number of each lane.
struct Entry {
    sum: i64,
    last: [i64; LANES],
}

impl Entry {
    fn read(bytes: Option<&[u8]>) -> Entry {
        let at =
            |i: usize| bytes.map_or(-1, |b| i64::from_le_bytes(b[i * 8..i * 8 + 8].try_into().expect("eight bytes")));
        Entry { sum: at(LANES).max(0), last: std::array::from_fn(at) }
    }
    fn bytes(&self) -> Vec<u8> {
        self.last.iter().chain([&self.sum]).flat_map(|n| n.to_le_bytes()).collect()
    }
    fn take(&mut self, n: i64, all: i64) -> Result<()> {
        let split = (n / (all / 4)).min(3);
        let last = &mut self.last[(split * 10 + n % 10) as usize];
        if *last >= n {
            return Err(flott_core::Error::bug(format!("{n} comes after {last}")));
        }
        *last = n;
        self.sum += n;
        Ok(())
    }
}

/// The same bytes as the hash edge: a byte for "not null", then the number with its sign bit flipped.
fn key_bytes(k: i64) -> Vec<u8> {
    let mut key = vec![1u8];
    key.extend_from_slice(&(k as u64 ^ (1 << 63)).to_be_bytes());
    key
}

fn take_rows(batch: &ChangeBatch, table: Option<TableId>, all: i64, ctx: &mut OperatorContext) -> Result<()> {
    let keys = batch.rows.column(0).as_primitive::<Int64Type>();
    let values = batch.rows.column(1).as_primitive::<Int64Type>();
    let max = ctx.max_parallelism;
    let table = ctx.state.values(table.expect("opened"));
    for (k, v) in keys.values().iter().zip(values.values()) {
        let key = key_bytes(*k);
        let group = key_group_of(key_hash(&key), max);
        let mut entry = Entry::read(table.get(0, group, &key)?.as_deref());
        entry.take(*v, all)?;
        table.put(0, group, &key, &entry.bytes())?;
    }
    Ok(())
}

fn register(ctx: &mut OperatorContext) -> Result<Option<TableId>> {
    let name = "sum".into();
    let table = TableDescriptor { name, kind: TableKind::Values, schema: "BIGINT".into(), ttl: None };
    ctx.state.register(&table).map(Some)
}

/// Checks the order of the numbers of each key, and passes them on keyed by their residue modulo seven, row by row.
pub struct Middle {
    pub all: i64,
    table: Option<TableId>,
    say: VecDeque<i64>,
}

impl Middle {
    pub fn new(all: i64) -> Self {
        Middle { all, table: None, say: VecDeque::new() }
    }
    fn emit(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        while let Some(n) = self.say.pop_front() {
            if !ctx.out.has_room() {
                self.say.push_front(n);
                return Ok(Progress::Blocked);
            }
            ctx.out.emit(rows(&[(n % 7, n)]));
        }
        Ok(Progress::Done)
    }
}

impl Operator for Middle {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.table = register(ctx)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        take_rows(&batch, self.table, self.all, ctx)?;
        self.say.extend(batch.rows.column(1).as_primitive::<Int64Type>().values());
        self.emit(ctx)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.emit(ctx)
    }
}

/// Sums per key in keyed state, and checks the order; says the sums at the end of data, one batch per key.
pub struct KeyedSum {
    pub all: i64,
    table: Option<TableId>,
    say: VecDeque<(i64, i64)>,
}

impl KeyedSum {
    pub fn new(all: i64) -> Self {
        KeyedSum { all, table: None, say: VecDeque::new() }
    }
    fn emit(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        while let Some(pair) = self.say.pop_front() {
            if !ctx.out.has_room() {
                self.say.push_front(pair);
                return Ok(Progress::Blocked);
            }
            ctx.out.emit(rows(&[pair]));
        }
        Ok(Progress::Done)
    }
}

impl Operator for KeyedSum {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.table = register(ctx)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        take_rows(&batch, self.table, self.all, ctx)?;
        Ok(Progress::Done)
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if event == OperatorEvent::EndOfData {
            let table = ctx.state.values(self.table.expect("opened"));
            let mut all = Vec::new();
            table.for_each(&mut |_, group, key, value| {
                let k = (u64::from_be_bytes(key[1..].try_into().expect("a key")) ^ (1 << 63)) as i64;
                all.push((group, key.to_vec(), k, Entry::read(Some(value)).sum));
                Ok(())
            })?;
            for (group, key, k, sum) in all {
                table.remove(0, group, &key)?;
                self.say.push_back((k, sum));
            }
        }
        self.emit(ctx)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.emit(ctx)
    }
}

/// What the sink made visible: committable id to rows. Committing an id twice changes nothing.
#[derive(Default)]
pub struct Committed {
    by_id: BTreeMap<String, Vec<String>>,
    /// Commit calls that fail before one succeeds.
    pub failures: u32,
    pub calls: u32,
    pub clean_ups: u32,
}

impl Committed {
    pub fn rows(&self) -> Vec<String> {
        self.by_id.values().flatten().cloned().collect()
    }
}

pub struct TestSink {
    pub committed: Arc<Mutex<Committed>>,
    /// It takes a batch this often; 0: every other time it is offered one.
    pub pause_ms: i64,
}

struct Writer {
    context: SinkContext,
    rows: Vec<String>,
    busy: bool,
    pause_ms: i64,
    next_ms: i64,
    /// How often it was asked to write the rest after the end of data: twice it is not done yet.
    asked: u32,
}

struct TestCommitter(Arc<Mutex<Committed>>);

impl Sink for TestSink {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            context,
            rows: Vec::new(),
            busy: false,
            pause_ms: self.pause_ms,
            next_ms: i64::MIN,
            asked: 0,
        }))
    }
    fn committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(TestCommitter(Arc::clone(&self.committed)))))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let now_ms = self.context.clock.now_ms();
        if self.pause_ms > 0 {
            if now_ms < self.next_ms {
                return Ok(WriteStatus::Busy { until_ms: self.next_ms });
            }
            self.next_ms = now_ms + self.pause_ms;
        }
        // Every other offer is refused for a moment.
        self.busy = !self.busy && self.pause_ms == 0;
        if self.busy {
            return Ok(WriteStatus::Busy { until_ms: self.context.clock.now_ms() + 1 });
        }
        self.rows.extend(render_batch(batch));
        Ok(WriteStatus::Accepted)
    }
    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        self.asked += u32::from(end_of_data);
        if end_of_data && self.asked < 3 {
            return Ok(WriteStatus::Busy { until_ms: self.context.clock.now_ms() + 1 });
        }
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, checkpoint: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>> {
        assert!(!end_of_data || self.asked >= 3, "the end of data is prepared before all is written");
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let payload = std::mem::take(&mut self.rows).join("\n").into_bytes();
        let id = format!("{}-{}-{}", self.context.attempt, self.context.subtask, checkpoint);
        Ok(vec![Committable { id, checkpoint, payload }])
    }
}

impl Committer for TestCommitter {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let mut all = self.0.lock().expect("no test panics while it holds this");
        all.calls += 1;
        if all.failures > 0 {
            all.failures -= 1;
            return Err(CommitError::Determinate(flott_core::Error::retry("test.commit", "not now")));
        }
        for c in committables {
            let text = String::from_utf8(c.payload.clone()).expect("written as text");
            all.by_id.insert(c.id.clone(), text.lines().map(str::to_owned).collect());
        }
        Ok(())
    }
    fn clean_up(&mut self) -> Result<()> {
        self.0.lock().expect("no test panics while it holds this").clean_ups += 1;
        Ok(())
    }
}
