//! A source that hands out another one's rows in small steps, waits for a checkpoint after each, and can be told never to end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::time::SharedClock;
use flott_core::{ChangeBatch, CheckpointId, Error, Result};
use flott_plan::stream_graph::{NodeKind, StreamGraph};

/// A source is read in about so many steps: watermarks move between them.
const STEPS: usize = 6;
/// How soon to look again while waiting for a checkpoint.
const POLL_MS: i64 = 1;

/// Every source of `graph` in steps; with `hold` they wait for checkpoints and never end.
pub fn stepped(graph: &StreamGraph, hold: bool) -> StreamGraph {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        if let NodeKind::Source(source) = &mut node.kind {
            source.source = Arc::new(Stepped { inner: Arc::clone(&source.source), hold });
        }
    }
    graph
}

struct Stepped {
    inner: Arc<dyn Source>,
    hold: bool,
}

impl Source for Stepped {
    fn boundedness(&self) -> Boundedness {
        self.inner.boundedness()
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(Enumerator(self.inner.enumerator()?)))
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let clock = Arc::clone(&context.clock);
        let inner = self.inner.reader(context)?;
        Ok(Box::new(Reader { inner, hold: self.hold, clock, splits: BTreeMap::new(), waiting: false, loaded: false }))
    }
}

/// A position is the number of rows handed out, then the inner source's own first position.
fn position(rows: usize, inner: &[u8]) -> Vec<u8> {
    [&(rows as u64).to_le_bytes()[..], inner].concat()
}

struct Enumerator(Box<dyn SplitEnumerator>);

impl SplitEnumerator for Enumerator {
    fn discover(&mut self, parallelism: u32) -> Result<Vec<Split>> {
        let splits = self.0.discover(parallelism)?.into_iter();
        Ok(splits.map(|s| Split { state: position(0, &s.state), id: s.id }).collect())
    }
}

struct Progress {
    /// First position of the inner split.
    first: Vec<u8>,
    done: usize,
    rows: VecDeque<ChangeBatch>,
}

struct Reader {
    inner: Box<dyn SplitReader>,
    hold: bool,
    clock: SharedClock,
    splits: BTreeMap<Arc<str>, Progress>,
    /// A step was handed out and no checkpoint completed since.
    waiting: bool,
    loaded: bool,
}

impl Reader {
    /// Reads the inner source to its end; false when it wants to wait.
    fn load(&mut self) -> Result<Option<i64>> {
        while !self.loaded {
            match self.inner.poll()? {
                ReaderEvent::Rows { split, batch } => {
                    let progress = self.splits.get_mut(&split);
                    progress
                        .ok_or_else(|| Error::bug(format!("rows of an unknown split `{split}`")))?
                        .rows
                        .push_back(batch);
                }
                ReaderEvent::SplitFinished { .. } => {}
                ReaderEvent::Wait { until_ms } => return Ok(Some(until_ms)),
                ReaderEvent::Drained => self.loaded = true,
            }
        }
        Ok(None)
    }
}

impl SplitReader for Reader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        self.loaded = false;
        let mut inner = Vec::new();
        for split in splits {
            let (done, first) = split.state.split_at(8);
            let done = u64::from_le_bytes(done.try_into().expect("eight bytes")) as usize;
            self.splits
                .insert(split.id.as_str().into(), Progress { first: first.to_vec(), done, rows: VecDeque::new() });
            inner.push(Split { id: split.id, state: first.to_vec() });
        }
        self.inner.assign(inner)
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let later = ReaderEvent::Wait { until_ms: self.clock.now_ms() + POLL_MS };
        if let Some(until_ms) = self.load()? {
            return Ok(ReaderEvent::Wait { until_ms });
        }
        if self.hold && self.waiting {
            return Ok(later);
        }
        for (id, p) in &mut self.splits {
            if p.rows.is_empty() {
                continue;
            }
            if p.rows.len() > 1 {
                p.rows = VecDeque::from([ChangeBatch::concat(p.rows.make_contiguous())?]);
            }
            let (all, total) = (&p.rows[0], p.rows[0].num_rows());
            if p.done < total {
                let len = total.div_ceil(STEPS).min(total - p.done);
                let batch = all.slice(p.done, len);
                p.done += len;
                self.waiting = true;
                return Ok(ReaderEvent::Rows { split: id.clone(), batch });
            }
        }
        if self.hold && !self.splits.is_empty() {
            return Ok(later);
        }
        match self.splits.pop_first() {
            Some((split, _)) => Ok(ReaderEvent::SplitFinished { split }),
            None => Ok(ReaderEvent::Drained),
        }
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let splits = self.splits.iter();
        Ok(splits.map(|(id, p)| Split { id: id.to_string(), state: position(p.done, &p.first) }).collect())
    }
    fn notify_complete(&mut self, _: CheckpointId) -> Result<()> {
        self.waiting = false;
        Ok(())
    }
}
