//! What the head of a chain hands to its first operator: from a source or from the input gate. Data only.

use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, Signal};
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::snapshot::OperatorCut;

use crate::gate::InputGate;
use crate::source_head::SourceHead;

/// One thing for the first operator.
pub(crate) enum Item {
    /// Rows of an input.
    Batch { port: usize, batch: ChangeBatch },
    /// Watermark, idleness, latency marker or end of data; barriers come as [`Item::Barrier`].
    Signal(Signal),
    /// An input has ended.
    EndOfInput(usize),
    /// A checkpoint passes.
    Barrier(BarrierItem),
}

/// An aligned barrier, with the source's own cut when it starts here.
pub(crate) struct BarrierItem {
    pub(crate) barrier: Barrier,
    pub(crate) start_delay_ms: u64,
    pub(crate) alignment_ms: u64,
    pub(crate) cut: Option<OperatorCut>,
    pub(crate) sync_ns: u64,
}

/// What the head has.
pub(crate) enum HeadPoll {
    /// Something.
    Item(Item),
    /// A checkpoint was given up here because a newer one came first.
    Declined(CheckpointId),
    /// Nothing before a wake-up or this time.
    Nothing { wake_at_ms: Option<i64> },
}

/// The head of a chain.
pub(crate) enum Head {
    Source(Box<SourceHead>),
    Gate(Box<InputGate>),
}

impl Head {
    pub(crate) fn poll(&mut self, now_ms: i64) -> Result<HeadPoll> {
        match self {
            Head::Source(s) => s.poll(now_ms),
            Head::Gate(g) => g.poll(now_ms),
        }
    }
}
