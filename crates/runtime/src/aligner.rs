//! The barrier aligner: decides, from which barrier came on which channel, what to hold and when a checkpoint passes.
//! Pure: no channel, no clock; the input gate acts on its answers.

use flott_core::element::Barrier;
use flott_core::ids::CheckpointId;

/// Given-up checkpoints that are remembered, so that their late barriers are ignored.
const ABORTED_MAX: usize = 64;

/// Counts barriers over the channels of a gate.
#[derive(Debug)]
pub struct BarrierAligner {
    channels: usize,
    /// Checkpoints whose barriers have come on some channels, oldest first. One at most while aligned: its channels are held.
    pending: Vec<Pending>,
    /// The newest checkpoint that passed.
    passed: Option<CheckpointId>,
    aborted: Vec<CheckpointId>,
}

#[derive(Debug)]
struct Pending {
    barrier: Barrier,
    arrived: Vec<bool>,
    missing: usize,
    first_ms: i64,
}

/// A barrier that has come on every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignedBarrier {
    /// The barrier.
    pub barrier: Barrier,
    /// Trigger to first barrier.
    pub start_delay_ms: u64,
    /// First to last barrier.
    pub alignment_ms: u64,
}

/// What a barrier brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// Older checkpoints that will never be complete here.
    pub declined: Vec<CheckpointId>,
    /// The checkpoint that passes now.
    pub passes: Option<AlignedBarrier>,
}

impl BarrierAligner {
    /// An aligner for so many channels.
    pub fn new(channels: usize) -> Self {
        BarrierAligner { channels, pending: Vec::new(), passed: None, aborted: Vec::new() }
    }
    /// Whether nothing may be read from `channel` for now.
    pub fn is_held(&self, channel: usize) -> bool {
        self.pending.iter().any(|p| !p.barrier.options.at_least_once && p.arrived[channel])
    }
    /// Takes a barrier.
    pub fn on_barrier(&mut self, channel: usize, barrier: Barrier, now_ms: i64) -> Alignment {
        let id = barrier.checkpoint;
        let mut out = Alignment::default();
        if self.passed.is_some_and(|p| id <= p) || self.aborted.contains(&id) {
            return out;
        }
        if !barrier.options.at_least_once {
            // Channels of an alignment are held, so a newer barrier comes only where the older one never will.
            let newest = self.pending.iter().map(|p| p.barrier.checkpoint).max();
            if newest.is_some_and(|n| n > id) {
                return out;
            }
            self.decline_below(id, &mut out);
        }
        let at = match self.pending.iter().position(|p| p.barrier.checkpoint == id) {
            Some(at) => at,
            None => {
                let arrived = vec![false; self.channels];
                self.pending.push(Pending { barrier, arrived, missing: self.channels, first_ms: now_ms });
                self.pending.len() - 1
            }
        };
        let p = &mut self.pending[at];
        if !std::mem::replace(&mut p.arrived[channel], true) {
            p.missing -= 1;
        }
        if p.missing == 0 {
            let done = self.pending.remove(at);
            self.decline_below(id, &mut out);
            self.passed = Some(id);
            out.passes = Some(AlignedBarrier {
                barrier: done.barrier,
                start_delay_ms: u64::try_from(done.first_ms - done.barrier.triggered_ms).unwrap_or(0),
                alignment_ms: u64::try_from(now_ms - done.first_ms).unwrap_or(0),
            });
        }
        out
    }
    /// Gives a checkpoint up: its channels are no longer held, its later barriers are ignored.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.pending.retain(|p| p.barrier.checkpoint != checkpoint);
        if self.passed.is_none_or(|p| checkpoint > p) && !self.aborted.contains(&checkpoint) {
            if self.aborted.len() == ABORTED_MAX {
                self.aborted.remove(0);
            }
            self.aborted.push(checkpoint);
        }
    }

    fn decline_below(&mut self, id: CheckpointId, out: &mut Alignment) {
        self.pending.retain(|p| {
            let keep = p.barrier.checkpoint >= id;
            if !keep {
                out.declined.push(p.barrier.checkpoint);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
