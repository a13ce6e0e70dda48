//! What the head of a chain hands to its first operator: from a source or from the input gate. Data only.

use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, Signal};
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::snapshot::OperatorCut;
use flott_core::task::Sent;

use crate::gate::InputGate;
use crate::in_flight::{InFlightItem, Queued};
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
    pub(crate) processed_bytes: u64,
    pub(crate) cut: Option<OperatorCut>,
    pub(crate) sync_ns: u64,
}

/// What the head has.
pub(crate) enum HeadPoll {
    /// Something.
    Item(Item),
    /// A checkpoint was given up here because a newer one came first.
    Declined(CheckpointId),
    /// A barrier came that overtakes: it is to be taken out of line before anything else is.
    Hurry,
    /// Nothing before a wake-up or this time.
    Nothing { wake_at_ms: Option<i64> },
}

impl From<Item> for Option<BarrierItem> {
    fn from(item: Item) -> Self {
        match item {
            Item::Barrier(b) => Some(b),
            _ => None,
        }
    }
}

impl From<HeadPoll> for Option<BarrierItem> {
    fn from(poll: HeadPoll) -> Self {
        match poll {
            HeadPoll::Item(item) => item.into(),
            _ => None,
        }
    }
}

/// The head of a chain.
pub(crate) enum Head {
    Source(Box<SourceHead>),
    Gate(Box<InputGate>),
}

impl Head {
    /// The next thing; rows only when they are wanted.
    pub(crate) fn poll(&mut self, now_ms: i64, rows: bool) -> Result<HeadPoll> {
        match self {
            Head::Source(s) => s.poll(now_ms, rows),
            Head::Gate(g) => g.poll(now_ms, rows),
        }
    }
    /// A barrier that was put into line since the last call and may overtake.
    pub(crate) fn take_started(&mut self) -> Option<Barrier> {
        match self {
            Head::Source(s) => s.take_started(),
            Head::Gate(g) => g.take_started(),
        }
    }
    /// Takes a barrier out of line, with copies of what stands before it.
    pub(crate) fn take_barrier(&mut self, checkpoint: CheckpointId) -> Option<(BarrierItem, Vec<InFlightItem>)> {
        match self {
            Head::Source(s) => s.take_barrier(checkpoint),
            Head::Gate(g) => g.take_barrier(checkpoint),
        }
    }
    /// Puts back what waited here when the checkpoint was taken.
    pub(crate) fn preload(&mut self, queued: Queued) {
        match self {
            Head::Source(s) => s.preload(queued),
            Head::Gate(g) => g.preload(queued),
        }
    }
    /// Whether everything that was sent here has come, and been read or not.
    pub(crate) fn has_received(&self, sent: &Sent) -> bool {
        match self {
            Head::Source(_) => true,
            Head::Gate(g) => g.has_received(sent),
        }
    }
    /// Whether nothing has been read or waits to be.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Head::Source(s) => s.is_empty(),
            Head::Gate(g) => g.is_empty(),
        }
    }
}
