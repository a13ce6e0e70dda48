//! How long a row takes from its source through a keyed count to its sink, in one process: percentiles over all rows. The source makes
//! rows at an even rate and a row counts from when it was due, so that a source that falls behind does not look fast.
//! Run it with `cargo run --release --example latency [ROWS_PER_SECOND] [SECONDS] [PARALLELISM]`.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use flott::{Record, Result, Sink, Source, StreamExecutionEnvironment};
use flott_core::batch::ChangeBatch;
use flott_core::sink::{ChangelogMode, Committable, SinkContext, SinkWriter, WriteStatus};
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Split, SplitEnumerator, SplitReader};
use flott_core::time::SharedClock;
use flott_core::types::arrow_schema;
use flott_core::{CheckpointId, Error};
use serde::{Deserialize, Serialize};

/// Distinct keys.
const KEYS: u64 = 1_000;

/// A row, and the count of its key.
#[derive(Clone, Debug, PartialEq, Record, Serialize, Deserialize)]
struct Event {
    key: i64,
    count: i64,
    /// When it was due, in nanoseconds of the process's clock.
    due_ns: i64,
}

/// Makes `rows` at an even rate, from one split.
struct Paced {
    rows_per_s: u64,
    rows: u64,
}

struct Enumerator;

impl SplitEnumerator for Enumerator {
    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        Ok(vec![Split { id: "rows".into(), state: Vec::new() }])
    }
}

struct Reader {
    rows_per_s: u64,
    rows: u64,
    clock: SharedClock,
    start_ns: u64,
    sent: u64,
    split: Option<Arc<str>>,
}

impl Source for Paced {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(Enumerator))
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let start_ns = context.clock.now_nanos();
        let (rows_per_s, rows, clock) = (self.rows_per_s, self.rows, context.clock);
        Ok(Box::new(Reader { rows_per_s, rows, clock, start_ns, sent: 0, split: None }))
    }
}

impl Reader {
    fn due_ns(&self, row: u64) -> u64 {
        self.start_ns + row * 1_000_000_000 / self.rows_per_s
    }
}

impl SplitReader for Reader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        self.split = splits.into_iter().next().map(|s| s.id.into());
        self.start_ns = self.clock.now_nanos();
        Ok(())
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let Some(split) = self.split.clone() else { return Ok(ReaderEvent::Drained) };
        if self.sent == self.rows {
            self.split = None;
            return Ok(ReaderEvent::SplitFinished { split });
        }
        let now_ns = self.clock.now_nanos();
        let first = self.sent;
        while self.sent < self.rows && self.due_ns(self.sent) <= now_ns {
            self.sent += 1;
        }
        if self.sent == first {
            return Ok(ReaderEvent::Wait { until_ms: self.clock.now_ms() + 1 });
        }
        // Multiplied by a prime, keys do not come in order.
        let keys = Int64Array::from_iter_values((first..self.sent).map(|i| (i * 7_919 % KEYS) as i64));
        let counts = Int64Array::from_iter_values((first..self.sent).map(|_| 1));
        let due = Int64Array::from_iter_values((first..self.sent).map(|i| self.due_ns(i) as i64));
        let schema = arrow_schema(&Event::columns());
        let rows = RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(counts), Arc::new(due)])?;
        Ok(ReaderEvent::Rows { split, batch: ChangeBatch::append(rows) })
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        Ok(self.split.iter().map(|id| Split { id: id.to_string(), state: Vec::new() }).collect())
    }
}

/// Notes how old each row is.
#[derive(Clone, Default)]
struct Ages(Arc<Mutex<Vec<u64>>>);

struct Writer {
    ages: Ages,
    clock: SharedClock,
}

impl Sink for Ages {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }
    fn writer(&self, context: SinkContext, _: Vec<bytes::Bytes>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer { ages: self.clone(), clock: context.clock }))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let now_ns = self.clock.now_nanos();
        let due = batch.rows.column(2).as_primitive_opt::<Int64Type>();
        let due = due.ok_or_else(|| Error::bug("due_ns is a BIGINT"))?;
        let mut ages = self.ages.0.lock().unwrap_or_else(PoisonError::into_inner);
        ages.extend(due.values().iter().map(|due| now_ns.saturating_sub(*due as u64)));
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |name: &str, default: u64| match args.next() {
        None => Ok(default),
        Some(text) => text.parse().map_err(|e| Error::user("latency.argument", format!("{name}: `{text}`: {e}"))),
    };
    let (rows_per_s, seconds, parallelism) =
        (number("ROWS_PER_SECOND", 10_000)?.max(1), number("SECONDS", 10)?, number("PARALLELISM", 2)?);
    let env = StreamExecutionEnvironment::new();
    env.set("parallelism.default", &parallelism.to_string())?;
    let ages = Ages::default();
    env.source::<Event>("paced", Arc::new(Paced { rows_per_s, rows: rows_per_s * seconds }))
        .key_by(|e| e.key)
        .reduce(|a, b| Event { count: a.count + b.count, ..b })
        .sink("ages", Arc::new(ages.clone()));
    env.execute("latency")?;
    let mut ages = std::mem::take(&mut *ages.0.lock().unwrap_or_else(PoisonError::into_inner));
    ages.sort_unstable();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!("{} rows at {rows_per_s} a second, parallelism {parallelism}", ages.len());
    println!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(0.999), at(1.0));
    Ok(())
}
