//! How far windows have fired: the watermark, or processing time, kept as operator state so that a restored subtask fires
//! nothing twice. Never holds rows.

use bytes::Bytes;
use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroupRange, key_group_of, key_hash};
use flott_core::operator::{OperatorContext, OperatorEvent};
use flott_core::snapshot::Redistribution;

use crate::zone::ZoneShift;

const STATE: &str = "window-progress";

/// Up to which instant an event makes windows fire; `None` when it makes none. Processing time has passed an instant only when
/// the clock is behind it; at the end of data its windows fire too, so that a bounded job loses no rows.
pub(crate) fn fires_up_to(event: OperatorEvent, processing_time: bool) -> Option<i64> {
    match event {
        OperatorEvent::Watermark(watermark) if !processing_time => Some(watermark.0),
        OperatorEvent::ProcessingTime(now_ms) if processing_time => Some(now_ms - 1),
        OperatorEvent::EndOfData if processing_time => Some(i64::MAX),
        _ => None,
    }
}

/// The progress of one subtask.
pub(crate) struct Tracker {
    /// Windows whose timer is at or before this instant have fired.
    pub progress: i64,
    /// What the restored subtasks had reached, with the key groups they owned.
    restored: Vec<(KeyGroupRange, i64)>,
    max_parallelism: u32,
}

impl Tracker {
    /// Before the first window.
    pub(crate) fn new() -> Self {
        Tracker { progress: i64::MIN, restored: Vec::new(), max_parallelism: 1 }
    }
    /// Takes restored progress: of several former subtasks, the one that lagged counts, and [`Tracker::fired_before`]
    /// remembers the others.
    pub(crate) fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        self.max_parallelism = ctx.max_parallelism;
        let own = ctx.key_groups();
        for item in ctx.operator_state.take(STATE) {
            let (range, progress) = decode(&item)?;
            if !range.intersect(&own).is_empty() {
                self.restored.push((range.intersect(&own), progress));
            }
        }
        self.progress = self.restored.iter().map(|r| r.1).min().unwrap_or(i64::MIN);
        Ok(())
    }
    /// The first instant that is not late.
    pub(crate) fn earliest(&self) -> i64 {
        self.progress.saturating_add(1)
    }
    /// Stores progress before a barrier.
    pub(crate) fn store(&self, ctx: &mut OperatorContext) {
        let own = ctx.key_groups();
        let mut item = Vec::with_capacity(16);
        item.extend_from_slice(&own.start.to_le_bytes());
        item.extend_from_slice(&own.end.to_le_bytes());
        item.extend_from_slice(&self.progress.to_le_bytes());
        ctx.operator_state.set(STATE, Redistribution::Union, vec![Bytes::from(item)]);
    }
    /// Whether the window that ends at `end` (local) has fired by `progress`.
    #[inline]
    pub(crate) fn is_due(end: i64, progress: i64, shift: &ZoneShift) -> bool {
        if shift.is_identity() { end.saturating_sub(1) <= progress } else { shift.timer_instant(end - 1) <= progress }
    }
    /// Whether the window has fired.
    #[inline]
    pub(crate) fn has_fired(&self, end: i64, shift: &ZoneShift) -> bool {
        Self::is_due(end, self.progress, shift)
    }
    /// Whether a former subtask that ran ahead fired this window for some keys.
    pub(crate) fn some_fired(&self, end: i64, shift: &ZoneShift) -> bool {
        self.restored.iter().any(|r| Self::is_due(end, r.1, shift))
    }
    /// Whether the former subtask that owned `key` fired this window.
    pub(crate) fn fired_before(&self, end: i64, key: &[u8], shift: &ZoneShift) -> bool {
        let group = key_group_of(key_hash(key), self.max_parallelism);
        self.restored.iter().any(|r| r.0.contains(group) && Self::is_due(end, r.1, shift))
    }
}

fn decode(item: &[u8]) -> Result<(KeyGroupRange, i64)> {
    let bad = || Error::corrupt("state.window-progress", "the progress of a window operator in state is damaged");
    let word = |at: usize| item.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(bad);
    let progress = item.get(8..16).and_then(|b| b.try_into().ok()).map(i64::from_le_bytes).ok_or_else(bad)?;
    Ok((KeyGroupRange { start: word(0)?, end: word(4)? }, progress))
}
