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
    /// Checkpoints whose barriers have come on some channels, oldest first. While aligned, one at most: its channels are held.
    pending: Vec<Pending>,
    /// The newest checkpoint that passed, or began to overtake.
    passed: Option<CheckpointId>,
    aborted: Vec<CheckpointId>,
}

#[derive(Debug)]
struct Pending {
    barrier: Barrier,
    arrived: Vec<bool>,
    missing: usize,
    first_ms: i64,
    /// It has overtaken what lies in the task: nothing is held, and what still comes before its barriers is stored.
    overtaking: bool,
}

/// A barrier that has come on every channel, or that goes ahead of those that have not.
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
    /// The checkpoint that passes now, aligned.
    pub passes: Option<AlignedBarrier>,
    /// The checkpoint that passes now and overtakes what is in flight.
    pub begins: Option<AlignedBarrier>,
    /// The checkpoint whose barrier, after it began to overtake, has now come on every channel.
    pub completes: Option<AlignedBarrier>,
}

impl Pending {
    fn at(&self, now_ms: i64) -> AlignedBarrier {
        AlignedBarrier {
            barrier: self.barrier,
            start_delay_ms: u64::try_from(self.first_ms - self.barrier.triggered_ms).unwrap_or(0),
            alignment_ms: u64::try_from(now_ms - self.first_ms).unwrap_or(0),
        }
    }
}

impl BarrierAligner {
    /// An aligner for so many channels.
    pub fn new(channels: usize) -> Self {
        BarrierAligner { channels, pending: Vec::new(), passed: None, aborted: Vec::new() }
    }
    /// Whether nothing may be read from `channel` for now.
    pub fn is_held(&self, channel: usize) -> bool {
        self.pending.iter().any(|p| !p.overtaking && !p.barrier.options.at_least_once && p.arrived[channel])
    }
    /// Whether what is read from `channel` belongs to a checkpoint that has already passed.
    pub fn captures(&self, channel: usize) -> bool {
        self.pending.iter().any(|p| p.overtaking && !p.arrived[channel])
    }
    /// Whether a checkpoint has come on some channels and not on all.
    pub fn is_aligning(&self) -> bool {
        !self.pending.is_empty()
    }
    /// When the checkpoint that is being aligned begins to overtake.
    pub fn overtakes_at_ms(&self) -> Option<i64> {
        self.pending.iter().filter(|p| !p.overtaking).filter_map(|p| p.barrier.overtakes_at_ms()).min()
    }
    /// The checkpoint that is overtaking, if its time has come.
    pub fn on_time(&mut self, now_ms: i64) -> Alignment {
        let due = |p: &Pending| !p.overtaking && p.barrier.overtakes_at_ms().is_some_and(|t| t <= now_ms);
        match self.pending.iter().position(due) {
            Some(at) => {
                let mut out = Alignment::default();
                self.begin(at, now_ms, &mut out);
                out
            }
            None => Alignment::default(),
        }
    }
    /// Takes a barrier.
    pub fn on_barrier(&mut self, channel: usize, barrier: Barrier, now_ms: i64) -> Alignment {
        let id = barrier.checkpoint;
        let mut out = Alignment::default();
        let known = self.pending.iter().any(|p| p.barrier.checkpoint == id);
        if !known && (self.passed.is_some_and(|p| id <= p) || self.aborted.contains(&id)) {
            return out;
        }
        if !barrier.options.at_least_once {
            let newest = self.pending.iter().map(|p| p.barrier.checkpoint).max();
            if !known && newest.is_some_and(|n| n > id) {
                return out;
            }
            // Barriers keep their order within a channel: an older one that has not come here never will.
            self.decline(|p| p.barrier.checkpoint < id && !p.arrived[channel], &mut out);
        }
        let mut at = match self.pending.iter().position(|p| p.barrier.checkpoint == id) {
            Some(at) => at,
            None => {
                let arrived = vec![false; self.channels];
                let missing = self.channels;
                self.pending.push(Pending { barrier, arrived, missing, first_ms: now_ms, overtaking: false });
                self.pending.len() - 1
            }
        };
        if barrier.is_unaligned() && !self.pending[at].overtaking {
            at = self.begin(at, now_ms, &mut out);
        }
        let p = &mut self.pending[at];
        if !std::mem::replace(&mut p.arrived[channel], true) {
            p.missing -= 1;
        }
        if p.missing == 0 {
            let done = self.pending.remove(at);
            self.decline(|p| p.barrier.checkpoint < id, &mut out);
            self.passed = self.passed.max(Some(id));
            let whole = Some(done.at(now_ms));
            if done.overtaking {
                out.completes = whole;
            } else {
                out.passes = whole;
            }
        }
        out
    }
    /// It overtakes from now on. Older ones are over: nobody triggers a barrier that overtakes while they are under way.
    fn begin(&mut self, at: usize, now_ms: i64, out: &mut Alignment) -> usize {
        let p = &mut self.pending[at];
        p.overtaking = true;
        p.barrier = p.barrier.overtaking();
        let id = p.barrier.checkpoint;
        out.begins = Some(AlignedBarrier { alignment_ms: 0, ..p.at(now_ms) });
        self.passed = self.passed.max(Some(id));
        self.decline(|p| p.barrier.checkpoint < id, out);
        self.pending.iter().position(|p| p.barrier.checkpoint == id).unwrap_or(at)
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

    fn decline(&mut self, over: impl Fn(&Pending) -> bool, out: &mut Alignment) {
        self.pending.retain(|p| {
            let over = over(p);
            if over {
                out.declined.push(p.barrier.checkpoint);
            }
            !over
        });
    }
}

#[cfg(test)]
mod tests;
