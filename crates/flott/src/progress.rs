//! The watermark of a keyed operator, kept as operator state, so that what fired before a restore is still past after it.
//! Never holds rows.

use bytes::Bytes;
use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange};
use flott_core::operator::OperatorContext;
use flott_core::snapshot::Redistribution;

const STATE: &str = "watermark";

/// Watermarks of one subtask.
pub(crate) struct WatermarkTracker {
    /// The operator's watermark in milliseconds.
    pub(crate) current_ms: i64,
    /// What the restored subtasks had reached, with the key groups they owned.
    restored: Vec<(KeyGroupRange, i64)>,
}

impl WatermarkTracker {
    /// Before the first watermark.
    pub(crate) fn new() -> Self {
        WatermarkTracker { current_ms: i64::MIN, restored: Vec::new() }
    }
    /// Takes restored watermarks.
    pub(crate) fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let own = ctx.key_groups();
        for item in ctx.operator_state.take(STATE) {
            let (range, ms): (KeyGroupRange, i64) = postcard::from_bytes(&item).map_err(|e| {
                Error::corrupt("state.watermark", format!("the watermark of an operator in state cannot be read: {e}"))
            })?;
            let common = range.intersect(&own);
            if !common.is_empty() {
                self.restored.push((common, ms));
            }
        }
        Ok(())
    }
    /// Stores the watermarks before a barrier; of a former subtask that ran ahead, its own.
    pub(crate) fn store(&self, ctx: &mut OperatorContext) -> Result<()> {
        let mut entries = vec![(ctx.key_groups(), self.current_ms)];
        if self.restored.iter().any(|r| r.1 > self.current_ms) {
            // Ahead of the current watermark still: kept group range by group range.
            entries = self.restored.iter().map(|(range, ms)| (*range, (*ms).max(self.current_ms))).collect();
        }
        let item = |entry: &(KeyGroupRange, i64)| {
            postcard::to_stdvec(entry)
                .map(Bytes::from)
                .map_err(|e| Error::bug(format!("a watermark has no bytes: {e}")))
        };
        let items = entries.iter().map(item).collect::<Result<_>>()?;
        ctx.operator_state.set(STATE, Redistribution::Union, items);
        Ok(())
    }
    /// The watermark that counts for a key group.
    pub(crate) fn of(&self, group: KeyGroup) -> i64 {
        match self.restored[..] {
            [] => self.current_ms,
            _ => {
                let own = self.restored.iter().find(|r| r.0.contains(group)).map_or(i64::MIN, |r| r.1);
                own.max(self.current_ms)
            }
        }
    }
    /// The watermark rises.
    pub(crate) fn raise(&mut self, ms: i64) {
        self.current_ms = self.current_ms.max(ms);
    }
}
