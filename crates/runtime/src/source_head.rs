//! The source at the head of a chain: polls the reader, keeps watermarks per split, pauses splits that run ahead, and
//! snapshots positions when a checkpoint is triggered. Never sleeps and never talks to the enumerator.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use flott_core::element::{Barrier, Signal};
use flott_core::encoding::{SPLITS_STATE, encode_split};
use flott_core::error::{Error, Result};
use flott_core::ids::CheckpointId;
use flott_core::metrics::TaskMetrics;
use flott_core::snapshot::{OperatorCut, OperatorStateEntry, Redistribution};
use flott_core::source::{ReaderEvent, SourceTransform, Split};
use flott_core::time::{EventTime, SharedClock};

use crate::alignment::AlignmentMember;
use crate::gate::{preloaded, take_barrier};
use crate::head::{BarrierItem, HeadPoll, Item};
use crate::in_flight::{InFlightItem, Queued};
use crate::panics::guard;
use crate::task::SourceHeadSpec;

/// How often a source whose splits are paused looks at its group again.
const ALIGNMENT_INTERVAL_MS: i64 = 20;

pub(crate) struct SourceHeadOptions {
    pub(crate) watermark_interval_ms: i64,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Arc<TaskMetrics>,
}

pub(crate) struct SourceHead {
    spec: SourceHeadSpec,
    options: SourceHeadOptions,
    has_watermarks: bool,
    splits: BTreeMap<Arc<str>, SplitState>,
    /// What was made and not handed out: a few signals, and one barrier per checkpoint in flight.
    ready: VecDeque<Item>,
    emitted: i64,
    next_emit_ms: i64,
    idle: bool,
    no_more_splits: bool,
    drained: bool,
    ended: bool,
    /// Since when there is no split, on the clock of [`SourceHead::active_ms`].
    empty_since_ms: i64,
    wait_until_ms: Option<i64>,
    alignment: Option<AlignmentMember>,
    /// A barrier that was put into `ready` and may overtake.
    started: Option<Barrier>,
}

struct SplitState {
    transform: Option<Box<dyn SourceTransform>>,
    watermark: i64,
    last_rows_ms: i64,
    idle: bool,
    paused: bool,
}

impl SourceHead {
    pub(crate) fn new(spec: SourceHeadSpec, options: SourceHeadOptions) -> Self {
        let alignment = spec.alignment.as_ref().map(|g| g.join());
        let has_watermarks = spec.transform.as_ref().is_some_and(|t| t.has_watermarks());
        let mut head = SourceHead {
            spec,
            has_watermarks,
            splits: BTreeMap::new(),
            ready: VecDeque::new(),
            emitted: i64::MIN,
            next_emit_ms: i64::MIN,
            idle: false,
            no_more_splits: false,
            drained: false,
            ended: false,
            empty_since_ms: 0,
            wait_until_ms: None,
            alignment,
            started: None,
            options,
        };
        head.empty_since_ms = head.active_ms(head.options.clock.now_ms());
        head
    }

    /// Processing time without the time spent backpressured: a source that may not read is not idle.
    fn active_ms(&self, now_ms: i64) -> i64 {
        let held_ms = self.options.metrics.backpressured_ns.get() / 1_000_000;
        now_ms.saturating_sub(i64::try_from(held_ms).unwrap_or(i64::MAX))
    }

    fn call<T>(&mut self, f: impl FnOnce(&mut SourceHeadSpec) -> Result<T>) -> Result<T> {
        let spec = &mut self.spec;
        let result = guard(AssertUnwindSafe(|| f(spec)));
        result.map_err(|e| e.context(format_args!("source \"{}\"", self.spec.name)))
    }

    /// Takes splits to read.
    pub(crate) fn assign(&mut self, splits: Vec<Split>, no_more: bool) -> Result<()> {
        let now = self.active_ms(self.options.clock.now_ms());
        for split in &splits {
            let transform = match &self.spec.transform {
                Some(factory) => Some(factory.create()?),
                None => None,
            };
            let state = SplitState { transform, watermark: i64::MIN, last_rows_ms: now, idle: false, paused: false };
            self.splits.insert(Arc::from(split.id.as_str()), state);
        }
        self.no_more_splits |= no_more;
        self.wait_until_ms = None;
        if !splits.is_empty() {
            self.drained = false;
            self.call(|s| s.reader.assign(splits))?;
        }
        Ok(())
    }

    /// Snapshots the reader and queues the barrier behind what was read so far.
    pub(crate) fn trigger(&mut self, barrier: Barrier) -> Result<()> {
        let start = self.options.clock.now_nanos();
        let splits = self.call(|s| s.reader.snapshot_for(barrier.checkpoint))?;
        let entry = OperatorStateEntry {
            name: SPLITS_STATE.to_owned(),
            redistribution: Redistribution::Split,
            items: splits.iter().map(encode_split).collect(),
        };
        let cut = OperatorCut { operator: self.spec.operator, keyed: None, operator_state: vec![entry] };
        let delay = self.options.clock.now_ms() - barrier.triggered_ms;
        self.ready.push_back(Item::Barrier(BarrierItem {
            barrier,
            start_delay_ms: u64::try_from(delay).unwrap_or(0),
            alignment_ms: 0,
            processed_bytes: 0,
            cut: Some(cut),
            sync_ns: self.options.clock.now_nanos() - start,
        }));
        if barrier.options.unaligned_after_ms.is_some() {
            self.started = Some(barrier);
        }
        Ok(())
    }
    pub(crate) fn take_started(&mut self) -> Option<Barrier> {
        self.started.take()
    }
    pub(crate) fn take_barrier(&mut self, checkpoint: CheckpointId) -> Option<(BarrierItem, Vec<InFlightItem>)> {
        take_barrier(&mut self.ready, checkpoint, |item| Some(item))
    }
    /// Takes what stands before a barrier, for a chain without operators.
    pub(crate) fn drain_before(&mut self, checkpoint: CheckpointId) -> Vec<Item> {
        let is_it = |i: &Item| matches!(i, Item::Barrier(b) if b.barrier.checkpoint == checkpoint);
        let at = self.ready.iter().position(is_it).unwrap_or(0);
        self.ready.drain(..at).collect()
    }
    /// Puts back what was read and not handed on when the checkpoint was taken.
    pub(crate) fn preload(&mut self, queued: Queued) {
        self.ready.extend(preloaded(queued.seen, queued.items));
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn notify_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.call(|s| s.reader.notify_complete(checkpoint))
    }

    /// The next thing; rows only when there are `rows` wanted.
    pub(crate) fn poll(&mut self, now_ms: i64, rows: bool) -> Result<HeadPoll> {
        if !rows && (self.ready.is_empty() || matches!(self.ready.front(), Some(Item::Batch { .. }))) {
            return Ok(HeadPoll::Nothing { wake_at_ms: None });
        }
        // A finished split, or rows that a transform dropped, are progress without anything to hand on.
        while self.ready.is_empty() && !self.ended && self.advance(now_ms)? {}
        match self.ready.pop_front() {
            Some(item) => Ok(HeadPoll::Item(item)),
            None => Ok(HeadPoll::Nothing { wake_at_ms: self.next_wake(now_ms) }),
        }
    }

    /// Asks the reader once; whether it may have more to say at once.
    fn advance(&mut self, now_ms: i64) -> Result<bool> {
        let mut again = false;
        self.align();
        let all_paused = !self.splits.is_empty() && self.splits.values().all(|s| s.paused);
        if all_paused {
            self.wait_until_ms = Some(now_ms + ALIGNMENT_INTERVAL_MS);
        } else if !self.drained && !self.splits.is_empty() {
            self.wait_until_ms = None;
            match self.call(|s| s.reader.poll())? {
                ReaderEvent::Rows { split, batch } => {
                    self.on_rows(split, batch, now_ms)?;
                    again = true;
                }
                ReaderEvent::SplitFinished { split } => {
                    self.on_split_finished(&split, now_ms);
                    again = true;
                }
                ReaderEvent::Wait { until_ms } => self.wait_until_ms = Some(until_ms),
                ReaderEvent::Drained => {
                    self.splits.clear();
                    self.empty_since_ms = self.active_ms(now_ms);
                    self.drained = true;
                }
            }
        }
        if self.splits.is_empty() && self.no_more_splits {
            self.end();
        } else if self.has_watermarks {
            self.check_idle(now_ms);
            self.emit_watermark(now_ms);
        }
        Ok(again)
    }

    fn on_rows(&mut self, id: Arc<str>, batch: flott_core::ChangeBatch, now_ms: i64) -> Result<()> {
        self.spec.metrics.records_out.add(batch.num_rows() as u64);
        self.options.metrics.records_in.add(batch.num_rows() as u64);
        let active_ms = self.active_ms(now_ms);
        let name = &self.spec.name;
        let split = self
            .splits
            .get_mut(&id)
            .ok_or_else(|| Error::bug(format!("source \"{name}\" read split `{id}`, which it was not assigned")))?;
        split.last_rows_ms = active_ms;
        split.idle = false;
        let batch = match &mut split.transform {
            None => batch,
            Some(t) => {
                let applied = guard(AssertUnwindSafe(|| t.apply(batch)));
                let (batch, watermark) = applied.map_err(|e| e.context(format_args!("source \"{name}\"")))?;
                split.watermark = split.watermark.max(watermark.unwrap_or(i64::MIN));
                batch
            }
        };
        if std::mem::take(&mut self.idle) {
            self.ready.push_back(Item::Signal(Signal::Active));
        }
        if batch.num_rows() > 0 {
            self.ready.push_back(Item::Batch { port: 0, batch });
        }
        Ok(())
    }

    fn on_split_finished(&mut self, id: &str, now_ms: i64) {
        self.splits.remove(id);
        if self.splits.is_empty() {
            self.empty_since_ms = self.active_ms(now_ms);
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(member) = &self.alignment {
            member.report(None);
        }
        if std::mem::take(&mut self.idle) {
            self.ready.push_back(Item::Signal(Signal::Active));
        }
        self.ready.push_back(Item::Signal(Signal::Watermark(EventTime::MAX)));
        self.ready.push_back(Item::EndOfInput(0));
        self.ready.push_back(Item::Signal(Signal::EndOfData));
    }

    /// The lowest watermark of the splits that take part; `None` when none does.
    fn lowest(&self) -> Option<i64> {
        self.splits.values().filter(|s| !s.idle).map(|s| s.watermark).min()
    }

    fn emit_watermark(&mut self, now_ms: i64) {
        if let Some(lowest) = self.lowest()
            && lowest > self.emitted
            && now_ms >= self.next_emit_ms
        {
            self.emitted = lowest;
            self.next_emit_ms = now_ms.saturating_add(self.options.watermark_interval_ms);
            self.ready.push_back(Item::Signal(Signal::Watermark(EventTime(lowest))));
        }
    }

    fn check_idle(&mut self, now_ms: i64) {
        let Some(timeout_ms) = self.spec.watermarks.idle_timeout_ms else { return };
        let now = self.active_ms(now_ms);
        for split in self.splits.values_mut().filter(|s| !s.paused) {
            split.idle |= now - split.last_rows_ms >= timeout_ms;
        }
        let all_idle = match self.splits.is_empty() {
            true => now - self.empty_since_ms >= timeout_ms,
            false => self.splits.values().all(|s| s.idle),
        };
        if all_idle && !self.idle {
            self.idle = true;
            self.ready.push_back(Item::Signal(Signal::Idle));
        }
    }

    /// Tells the group where this source is and pauses the splits that are too far ahead.
    fn align(&mut self) {
        let Some(member) = &self.alignment else { return };
        member.report(self.lowest().filter(|&w| w != i64::MIN));
        let allowed_ms = member.allowed_ms();
        for (id, split) in &mut self.splits {
            let ahead = split.watermark > allowed_ms;
            if ahead != split.paused {
                split.paused = ahead;
                self.spec.reader.pause(id, ahead);
            }
        }
    }

    fn next_wake(&self, now_ms: i64) -> Option<i64> {
        if self.ended {
            return None;
        }
        let mut wake = self.wait_until_ms;
        let mut at = |ms: i64| wake = Some(wake.map_or(ms, |w: i64| w.min(ms)));
        if self.has_watermarks {
            if self.lowest().is_some_and(|w| w > self.emitted) {
                at(self.next_emit_ms);
            }
            if let (Some(timeout_ms), false) = (self.spec.watermarks.idle_timeout_ms, self.idle) {
                let offset = now_ms - self.active_ms(now_ms);
                let quiet = self.splits.values().filter(|s| !s.idle && !s.paused).map(|s| s.last_rows_ms);
                let since = quiet.min().unwrap_or(self.empty_since_ms);
                at((since + offset + timeout_ms).max(now_ms + 1));
            }
        }
        if self.splits.values().any(|s| s.paused) {
            at(now_ms + ALIGNMENT_INTERVAL_MS);
        }
        wake
    }
}

#[cfg(test)]
mod tests;
