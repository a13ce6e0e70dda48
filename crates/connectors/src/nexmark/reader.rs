//! Source, splits and reader of Nexmark. Events lie in blocks; split `i` owns every block `b` with `b % SPLITS == i`, and the number
//! of splits never changes, so that a restored job finds the same splits at any parallelism.

use std::sync::Arc;

use flott_core::batch::ChangeBatch;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::time::SharedClock;
use flott_core::{Error, Result};

use super::batch::Generator;

/// Number of splits, and with it the largest useful parallelism. Each split's watermark trails the newest event of the source by
/// up to that many blocks, so it must not be large.
pub(super) const SPLITS: i64 = 16;
/// Events of a block, if the stream is not paced: those of a batch.
pub(super) const BLOCK_EVENTS_MAX: i64 = 4096;
/// A paced reader waits this long at least, to hand out more than a row at a time.
const PACE_MS: i64 = 10;
/// How often a reader that stays after its last event looks up.
const KEEP_ALIVE_MS: i64 = 1000;
const STATE_VERSION: u8 = 1;
const PREFIX: &str = "nexmark-";

/// A Nexmark table as a source.
pub(super) struct NexmarkSource {
    generator: Arc<Generator>,
}

impl NexmarkSource {
    pub(super) fn new(generator: Arc<Generator>) -> Self {
        NexmarkSource { generator }
    }
}

impl Source for NexmarkSource {
    fn boundedness(&self) -> Boundedness {
        let o = &self.generator.options;
        if o.events.is_some() && !o.keep_alive { Boundedness::Bounded } else { Boundedness::Unbounded }
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(NexmarkEnumerator))
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(NexmarkReader {
            generator: self.generator.clone(),
            clock: context.clock,
            splits: Vec::new(),
            start: None,
        }))
    }
}

struct NexmarkEnumerator;

impl SplitEnumerator for NexmarkEnumerator {
    fn discover(&mut self, parallelism: u32) -> Result<Vec<Split>> {
        let _ = parallelism;
        Ok((0..SPLITS).map(|i| Split { id: format!("{PREFIX}{i}"), state: Vec::new() }).collect())
    }
}

/// A split being read.
struct Position {
    id: Arc<str>,
    /// The block that is read, or comes next.
    block: i64,
    /// Events of the block that were read.
    offset: i64,
    paused: bool,
}

impl Position {
    fn restore(split: &Split, block_events: i64) -> Result<Self> {
        let damaged = |what: &str| {
            Error::corrupt("nexmark.split", format!("the position of split '{}' is damaged", split.id)).detail(what)
        };
        let index = split.id.strip_prefix(PREFIX).and_then(|i| i.parse::<i64>().ok());
        let index = index.filter(|i| (0..SPLITS).contains(i)).ok_or_else(|| damaged("there is no such split"))?;
        let mut position = Position { id: split.id.as_str().into(), block: index, offset: 0, paused: false };
        if split.state.is_empty() {
            return Ok(position);
        }
        let state: [u8; 25] = split.state.as_slice().try_into().map_err(|_| damaged("it is not 25 bytes long"))?;
        let number = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| state[at + i]));
        let stored_block_events = number(17);
        (position.block, position.offset) = (number(1), number(9));
        let valid = state[0] == STATE_VERSION
            && (1..=BLOCK_EVENTS_MAX).contains(&stored_block_events)
            && (0..i64::MAX / BLOCK_EVENTS_MAX / 2).contains(&position.block)
            && position.block % SPLITS == index
            && (0..stored_block_events).contains(&position.offset);
        if !valid {
            return Err(damaged("version, block or offset is out of range"));
        }
        if stored_block_events != block_events {
            return Err(Error::user("nexmark.changed", "the checkpoint was taken with another pace of the nexmark source")
                .detail(format!("its splits hold {stored_block_events} events in a row, now they would hold {block_events}"))
                .hint("keep 'rate.limited', 'max-emit-speed' and the event rate as they were, or start without the checkpoint"));
        }
        Ok(position)
    }
    fn save(&self, block_events: i64) -> Split {
        let mut state = vec![STATE_VERSION];
        for n in [self.block, self.offset, block_events] {
            state.extend(n.to_be_bytes());
        }
        Split { id: self.id.to_string(), state }
    }
    fn next_event(&self, block_events: i64) -> i64 {
        self.block * block_events + self.offset
    }
    fn advance(&mut self, events: i64, block_events: i64) {
        self.offset += events;
        if self.offset == block_events {
            (self.block, self.offset) = (self.block + SPLITS, 0);
        }
    }
}

/// Reads its splits in order of events, so that event time rises within a reader.
struct NexmarkReader {
    generator: Arc<Generator>,
    clock: SharedClock,
    splits: Vec<Position>,
    /// Processing time and event time where pacing began.
    start: Option<(i64, i64)>,
}

impl NexmarkReader {
    /// How many of the `available` events from `first` on are due; 0 and the time when the first will be.
    fn due(&mut self, first: i64, available: i64) -> (i64, i64) {
        let o = &self.generator.options;
        let now_ms = self.clock.now_ms();
        let (start_ms, start_time_ms) = *self.start.get_or_insert((now_ms, o.time_ms(first)));
        let due_ms = |n: i64| start_ms + o.time_ms(n) - start_time_ms;
        // Event times rise with n: halve the range of those not known to be due.
        let (mut due, mut open) = (0, available);
        while open > 0 {
            let half = (open + 1) / 2;
            if due_ms(first + due + half - 1) <= now_ms {
                due += half;
                open -= half;
            } else {
                open = half - 1;
            }
        }
        (due, due_ms(first).max(now_ms + PACE_MS))
    }
}

impl SplitReader for NexmarkReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        for split in &splits {
            self.splits.push(Position::restore(split, self.generator.options.block_events)?);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        let block_events = self.generator.options.block_events;
        let readable = (0..self.splits.len()).filter(|&i| !self.splits[i].paused);
        let next = readable.min_by_key(|&i| self.splits[i].next_event(block_events));
        let Some(i) = next else {
            return Ok(match self.splits.is_empty() {
                true => ReaderEvent::Drained,
                false => ReaderEvent::Wait { until_ms: self.clock.now_ms() + PACE_MS },
            });
        };
        let first = self.splits[i].next_event(block_events);
        let in_block = block_events - self.splits[i].offset;
        let mut events = match self.generator.options.events {
            Some(total) => (total - first).min(in_block),
            None => in_block,
        };
        if events <= 0 {
            if self.generator.options.keep_alive {
                return Ok(ReaderEvent::Wait { until_ms: self.clock.now_ms() + KEEP_ALIVE_MS });
            }
            return Ok(ReaderEvent::SplitFinished { split: self.splits.swap_remove(i).id });
        }
        if self.generator.options.paced {
            let (due, until_ms) = self.due(first, events);
            if due == 0 {
                return Ok(ReaderEvent::Wait { until_ms });
            }
            events = due;
        }
        let rows = usize::try_from(events).map_err(|_| Error::bug("a block holds more events than fit memory"))?;
        let batch = ChangeBatch::append(self.generator.batch(first, rows)?);
        let split = &mut self.splits[i];
        split.advance(events, block_events);
        Ok(ReaderEvent::Rows { split: split.id.clone(), batch })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let block_events = self.generator.options.block_events;
        Ok(self.splits.iter().map(|s| s.save(block_events)).collect())
    }

    fn pause(&mut self, split: &str, paused: bool) {
        for position in self.splits.iter_mut().filter(|p| &*p.id == split) {
            position.paused = paused;
        }
    }
}
