//! What travels on an edge: batches, and the signals between them.

use serde::{Deserialize, Serialize};

use crate::batch::ChangeBatch;
use crate::ids::CheckpointId;
use crate::time::EventTime;

/// One item on an edge. FIFO: a signal never overtakes a batch, except an unaligned barrier,
/// and what it overtakes is in the checkpoint.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows.
    Batch(ChangeBatch),
    /// A signal between rows.
    Signal(Signal),
}

/// What is said between rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// No row with an event time at or below this one follows (late rows excepted).
    Watermark(EventTime),
    /// This input takes no part in the combined watermark until [`Signal::Active`].
    Idle,
    /// This input takes part again.
    Active,
    /// A checkpoint passes.
    Barrier(Barrier),
    /// Carries the time at which a source emitted it, for latency statistics.
    LatencyMarker {
        /// Processing time of emission in milliseconds.
        emitted_ms: i64,
    },
    /// No more rows. Barriers still follow: the final checkpoint passes after the data.
    EndOfData,
}

/// A checkpoint barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// When the coordinator triggered it: processing time in milliseconds.
    pub triggered_ms: i64,
    /// How the barrier travels and what it is for.
    pub options: BarrierOptions,
}

/// How a barrier travels and what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierOptions {
    /// At-least-once: channels are not held while barriers align.
    pub at_least_once: bool,
    /// A savepoint: always aligned, never subsumed.
    pub savepoint: bool,
    /// The checkpoint after the end of all data; tasks finish once it is complete.
    pub last: bool,
    /// So many milliseconds after its trigger the barrier overtakes the rows before it, wherever it is; 0: from the start.
    /// `None`: never.
    pub unaligned_after_ms: Option<u32>,
}

impl Barrier {
    /// When the barrier begins to overtake rows, if it ever does. One that does already, does so by every clock.
    pub fn overtakes_at_ms(&self) -> Option<i64> {
        if self.is_unaligned() {
            return Some(i64::MIN);
        }
        self.options.unaligned_after_ms.map(|ms| self.triggered_ms.saturating_add(i64::from(ms)))
    }
    /// Whether it overtakes rows already.
    pub fn is_unaligned(&self) -> bool {
        self.options.unaligned_after_ms == Some(0)
    }
    /// The same barrier, overtaking from now on.
    pub fn overtaking(mut self) -> Self {
        self.options.unaligned_after_ms = Some(0);
        self
    }
}
