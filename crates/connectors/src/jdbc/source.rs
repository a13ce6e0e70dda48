//! The bounded scan: splits are ranges of the partition column; rows are read on a thread and handed over in batches. The
//! reader itself never blocks.
//!
//! With a partition column a split is read in its order and goes on after the last value handed out. Without one it is read in
//! the order of the declared primary key, or in the server's own, and goes on after the number of rows handed out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flott_core::memory::Reservation;
use flott_core::registry::TableSpec;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::{ChangeBatch, Error, Result};

use super::monitor::Monitor;
use super::options::{JdbcOptions, Partitions, ScanOptions};
use super::session::Place;
use crate::flusher::Worker;
use crate::wire::{Reader, Writer};

mod scan;

/// Tag and version of positions.
const TAG: (u8, u8) = (b'R', 1);
/// Batches that wait for the reader at most.
const READY_MAX: usize = 2;
/// How soon an empty-handed reader is polled again.
const WAIT_MS: i64 = 5;

/// A table to read, as configured.
pub struct ScanTable {
    jdbc: JdbcOptions,
    scan: ScanOptions,
    spec: TableSpec,
}

/// The source.
pub struct JdbcSource(Arc<ScanTable>);

impl JdbcSource {
    /// Of a table.
    pub fn new(jdbc: JdbcOptions, scan: ScanOptions, spec: TableSpec) -> Self {
        JdbcSource(Arc::new(ScanTable { jdbc, scan, spec }))
    }
}

impl Source for JdbcSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(RangeEnumerator(Arc::clone(&self.0))))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        context.metrics.external.set_endpoint(Place::of(&self.0.jdbc).endpoint());
        Ok(Box::new(JdbcReader {
            table: Arc::clone(&self.0),
            context,
            shared: Arc::default(),
            worker: None,
            unfinished: BTreeMap::new(),
        }))
    }
}

/// A part of the table and how much of it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    /// Smallest and largest value of the partition column; `None`: the whole table.
    bounds: Option<(i64, i64)>,
    position: Position,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    /// The partition column's value in the last row handed out; all rows up to it were.
    last: Option<i64>,
    /// Rows handed out.
    rows: u64,
}

impl Range {
    fn id(&self) -> String {
        match self.bounds {
            Some((lower, upper)) => format!("{lower}..{upper}"),
            None => "all".to_owned(),
        }
    }

    fn encode(&self) -> Split {
        let bits = |n: i64| n as u64;
        let (lower, upper) = self.bounds.unwrap_or((0, 0));
        let state = Writer::new(TAG.0, TAG.1)
            .u64(u64::from(self.bounds.is_some()))
            .u64(bits(lower))
            .u64(bits(upper))
            .u64(u64::from(self.position.last.is_some()))
            .u64(bits(self.position.last.unwrap_or(0)))
            .u64(self.position.rows);
        Split { id: self.id(), state: state.done() }
    }

    fn decode(split: &Split) -> Result<Self> {
        let mut r = Reader::new("position in a scan", &split.state, TAG.0, TAG.1)?;
        let mut pair = || Ok::<_, Error>((r.u64()?, r.u64()? as i64));
        let (bounded, lower) = pair()?;
        let (upper, has_last) = pair()?;
        let (last, rows) = pair()?;
        r.end()?;
        let position = Position { last: (has_last != 0).then_some(last as i64), rows: rows as u64 };
        Ok(Range { bounds: (bounded != 0).then_some((lower, upper as i64)), position })
    }
}

/// Ranges of about one size that cover the bounds.
fn ranges(p: &Partitions) -> Vec<Range> {
    let (lower, upper) = (i128::from(p.lower), i128::from(p.upper));
    let values = upper - lower + 1;
    let count = i128::from(p.count).min(values);
    let cut = |i: i128| lower + values * i / count;
    let narrow = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
    (0..count)
        .map(|i| Range { bounds: Some((narrow(cut(i)), narrow(cut(i + 1) - 1))), position: Position::default() })
        .collect()
}

struct RangeEnumerator(Arc<ScanTable>);

impl SplitEnumerator for RangeEnumerator {
    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        let ranges = match &self.0.scan.partitions {
            Some(p) => ranges(p),
            None => vec![Range { bounds: None, position: Position::default() }],
        };
        Ok(ranges.iter().map(Range::encode).collect())
    }
}

/// What the thread hands over.
enum Item {
    Rows { split: Arc<str>, batch: ChangeBatch, position: Position, held: Reservation },
    Finished(Arc<str>),
}

#[derive(Default)]
struct State {
    todo: VecDeque<Range>,
    ready: VecDeque<Item>,
    failed: Option<Error>,
    stopped: bool,
}

struct JdbcReader {
    table: Arc<ScanTable>,
    context: ReaderContext,
    shared: Arc<Monitor<State>>,
    /// Started with the first split: subtasks without one need no connection.
    worker: Option<Worker>,
    unfinished: BTreeMap<Arc<str>, Range>,
}

impl SplitReader for JdbcReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        for split in &splits {
            let range = Range::decode(split)?;
            self.unfinished.insert(split.id.as_str().into(), range.clone());
            self.shared.lock().todo.push_back(range);
        }
        self.shared.notify_all();
        if self.worker.is_none() && !splits.is_empty() {
            let scan = scan::Scan::new(Arc::clone(&self.table), self.context.clone(), Arc::clone(&self.shared));
            let name = format!("jdbc-scan-{}", self.context.subtask);
            self.worker = Some(Worker::spawn(name, move |stop| scan.run(&stop))?);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        let mut state = self.shared.lock();
        let item = state.ready.pop_front();
        let failed = if item.is_none() { state.failed.clone() } else { None };
        drop(state);
        match (item, failed) {
            (Some(Item::Rows { split, batch, position, held }), _) => {
                drop(held);
                self.shared.notify_all();
                if let Some(range) = self.unfinished.get_mut(&split) {
                    range.position = position;
                }
                Ok(ReaderEvent::Rows { split, batch })
            }
            (Some(Item::Finished(split)), _) => {
                self.unfinished.remove(&split);
                Ok(ReaderEvent::SplitFinished { split })
            }
            (None, Some(error)) => Err(error),
            (None, None) if self.unfinished.is_empty() => Ok(ReaderEvent::Drained),
            (None, None) if self.worker.as_ref().is_none_or(Worker::is_finished) => {
                Err(Error::bug("the thread of a scan ended without an error"))
            }
            (None, None) => Ok(ReaderEvent::Wait { until_ms: self.context.clock.now_ms() + WAIT_MS }),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        Ok(self.unfinished.values().map(Range::encode).collect())
    }
}

impl Drop for JdbcReader {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.stop().stop();
        }
        self.shared.lock().stopped = true;
        self.shared.notify_all();
    }
}

#[cfg(test)]
mod tests;
