//! Output that may not fit into the outbox at once: kept in order, handed over in batches of the target size.
//! Holds at most what one step of an operator produced.

use std::collections::VecDeque;

use flott_core::batch::ChangeBatch;
use flott_core::operator::{Outbox, Progress, TARGET_BATCH_ROWS};

/// Batches that wait for room.
#[derive(Default)]
pub(crate) struct Pending {
    queue: VecDeque<ChangeBatch>,
}

impl Pending {
    /// Adds rows; large batches are sliced.
    pub(crate) fn push(&mut self, batch: ChangeBatch) {
        let rows = batch.num_rows();
        if rows <= 2 * TARGET_BATCH_ROWS {
            self.queue.push_back(batch);
            return;
        }
        for offset in (0..rows).step_by(TARGET_BATCH_ROWS) {
            self.queue.push_back(batch.slice(offset, TARGET_BATCH_ROWS.min(rows - offset)));
        }
    }
    /// Hands over as much as there is room for.
    pub(crate) fn flush(&mut self, out: &mut Outbox) -> Progress {
        while let Some(batch) = self.queue.pop_front() {
            if !out.has_room() {
                self.queue.push_front(batch);
                return Progress::Blocked;
            }
            out.emit(batch);
        }
        Progress::Done
    }
}
