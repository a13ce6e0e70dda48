//! Rows on their way out of a keyed operator: encoded once per call, handed over as the outbox has room. Holds the output of one
//! call at most.

use std::collections::VecDeque;

use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::operator::{Outbox, Progress, TARGET_BATCH_ROWS};

use crate::record::Record;
use crate::stage::{Rows, encode};

/// Rows to be encoded, and batches that wait for room.
pub(crate) struct Output<T> {
    /// What the current call said so far.
    pub(crate) rows: Rows<T>,
    waiting: VecDeque<ChangeBatch>,
}

impl<T: Record> Output<T> {
    pub(crate) fn new() -> Self {
        Output { rows: Rows::empty(), waiting: VecDeque::new() }
    }
    /// Encodes the rows of the call and hands over what fits.
    pub(crate) fn emit(&mut self, out: &mut Outbox) -> Result<Progress> {
        if !self.rows.values.is_empty() {
            let batch = encode(&std::mem::replace(&mut self.rows, Rows::empty()))?;
            let rows = batch.num_rows();
            if rows <= 2 * TARGET_BATCH_ROWS {
                self.waiting.push_back(batch);
            } else {
                let slice = |at: usize| batch.slice(at, TARGET_BATCH_ROWS.min(rows - at));
                self.waiting.extend((0..rows).step_by(TARGET_BATCH_ROWS).map(slice));
            }
        }
        Ok(self.hand_over(out))
    }
    /// Hands over what fits.
    pub(crate) fn hand_over(&mut self, out: &mut Outbox) -> Progress {
        while out.has_room() {
            match self.waiting.pop_front() {
                Some(batch) => out.emit(batch),
                None => return Progress::Done,
            }
        }
        if self.waiting.is_empty() { Progress::Done } else { Progress::Blocked }
    }
}
