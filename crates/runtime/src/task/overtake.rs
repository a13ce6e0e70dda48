//! Barriers that overtake, seen from the task: when one begins to, where it is then, and when all that it overtook is gathered.
//! Also puts back what a checkpoint held in flight. Never writes anything.

use flott_core::element::Barrier;
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, OperatorId};
use flott_core::task::Sent;

use super::{Recovered, Task, TaskCut, TaskEvent};
use crate::chain::Overtook;
use crate::head::Head;
use crate::in_flight::{InFlightCut, Queued};

/// A barrier that is in this task and may overtake.
pub(super) struct Passing {
    barrier: Barrier,
    /// When it begins to.
    at_ms: i64,
    /// It has begun.
    overtaking: bool,
    /// It has left the chain.
    given: bool,
    /// The cut of the chain, held until the barrier is in every channel: what it overtakes on the way there is part of it.
    cut: Option<TaskCut>,
    in_flight: InFlightCut,
    /// The gate still copies what comes before its barriers.
    waits_for_gate: bool,
}

impl Passing {
    pub(super) fn checkpoint(&self) -> CheckpointId {
        self.barrier.checkpoint
    }
}

impl Task {
    /// When a barrier here begins to overtake, if no wake-up comes first.
    pub(super) fn hurry_at_ms(&self) -> Option<i64> {
        let gate = match &self.head {
            Head::Gate(g) => g.overtakes_at_ms(),
            Head::Source(_) => None,
        };
        let passing = self.passing.as_ref().filter(|p| !p.overtaking).map(|p| p.at_ms);
        let alarm = Some(self.waker.alarm_ms()).filter(|ms| *ms < i64::MAX);
        [gate, passing, alarm].into_iter().flatten().min()
    }

    /// Lets barriers overtake whose time has come, wherever they are.
    pub(super) fn hurry(&mut self) -> Result<()> {
        self.note_started();
        let Some(at_ms) = self.hurry_at_ms() else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        if at_ms > now_ms {
            return Ok(());
        }
        if let Head::Gate(gate) = &mut self.head {
            self.waker.clear_alarm();
            if let Some(next) = gate.hurry(now_ms)? {
                self.waker.alarm_at(next);
            }
        } else {
            self.waker.clear_alarm();
        }
        self.note_started();
        if let Some(p) = self.passing.as_mut().filter(|p| !p.overtaking && p.at_ms <= now_ms) {
            p.overtaking = true;
            p.barrier = p.barrier.overtaking();
            let barrier = p.barrier;
            self.overtake(barrier)?;
        }
        Ok(())
    }

    /// The head has put a barrier into line.
    pub(super) fn note_started(&mut self) {
        let Some(barrier) = self.head.take_started() else { return };
        self.passing = Some(Passing {
            at_ms: match barrier.is_unaligned() {
                true => i64::MIN,
                false => barrier.overtakes_at_ms().unwrap_or(i64::MAX),
            },
            barrier,
            overtaking: false,
            given: false,
            cut: None,
            in_flight: InFlightCut::default(),
            waits_for_gate: barrier.is_unaligned() && matches!(self.head, Head::Gate(_)),
        });
    }

    /// Finds the barrier in this task and lets it overtake from there.
    fn overtake(&mut self, barrier: Barrier) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        if self.chain.first().is_none() {
            // A source alone: what it has read goes to the channels, and the barrier past it.
            let Head::Source(source) = &mut self.head else { return Ok(()) };
            let before = source.drain_before(checkpoint);
            let clock = std::sync::Arc::clone(&self.clock);
            let nanos = move || clock.now_nanos();
            for item in before {
                self.feed(item, &nanos)?;
            }
            if let Some((item, _)) = self.head.take_barrier(checkpoint) {
                let cut = TaskCut::of(item);
                return self.on_overtook(Overtook { cut, queued: Vec::new() });
            }
        } else if let Some((item, items)) = self.head.take_barrier(checkpoint) {
            self.chain.overtake_from_head(item, Queued { items, ..Queued::default() });
            return Ok(());
        } else if self.chain.overtake_from_within(checkpoint) {
            return Ok(());
        }
        if let Some(before) = self.chain.drain_to_barrier(checkpoint) {
            for element in before {
                self.give(element)?;
            }
            self.overtake_channels(barrier);
        } else {
            let channels = self.outputs.overtake_waiting(barrier);
            if let Some(p) = &mut self.passing {
                p.in_flight.channels.extend(channels);
            }
        }
        self.check_passing();
        Ok(())
    }

    /// The barrier is through the chain: on to the channels, past what the chain still has to say.
    pub(super) fn on_overtook(&mut self, done: Overtook) -> Result<()> {
        let barrier = done.cut.barrier;
        let Some(p) = self.passing.as_mut().filter(|p| p.checkpoint() == barrier.checkpoint) else { return Ok(()) };
        p.in_flight.queued.extend(done.queued);
        p.cut = Some(done.cut);
        for element in self.chain.drain_tail() {
            self.give(element)?;
        }
        self.overtake_channels(barrier.overtaking());
        self.check_passing();
        Ok(())
    }

    fn overtake_channels(&mut self, barrier: Barrier) {
        let channels = self.outputs.overtake(barrier);
        if let Some(p) = &mut self.passing {
            p.in_flight.channels.extend(channels);
            p.given = true;
        }
    }

    /// The chain has cut its state for an aligned barrier.
    pub(super) fn on_cut(&mut self, cut: TaskCut) {
        match self.passing.as_mut().filter(|p| p.checkpoint() == cut.barrier.checkpoint) {
            Some(p) => p.cut = Some(cut),
            None => self.say(TaskEvent::Cut(cut)),
        }
    }

    /// A barrier leaves the chain in line.
    pub(super) fn on_given(&mut self, checkpoint: CheckpointId) {
        if let Some(p) = self.passing.as_mut().filter(|p| p.checkpoint() == checkpoint) {
            p.given = true;
        }
    }

    /// Says the cut once the barrier has left the task and nothing more belongs to it.
    pub(super) fn check_passing(&mut self) {
        let Some(p) = &mut self.passing else { return };
        let checkpoint = p.checkpoint();
        if p.waits_for_gate
            && let Some(cut) = &mut p.cut
            && let Head::Gate(gate) = &mut self.head
            && let Some(copy) = gate.take_captured(checkpoint)
        {
            p.waits_for_gate = false;
            (cut.alignment_ms, cut.processed_bytes) = (copy.alignment_ms, copy.processed_bytes);
            if let Some(head) = self.chain.first() {
                let queued = &mut p.in_flight.queued;
                if let Some((_, q)) = queued.iter_mut().find(|(operator, _)| *operator == head) {
                    (q.combined, q.marks) = (copy.combined, copy.marks);
                }
            }
            p.in_flight.channels.extend(copy.channels.into_iter().map(|(address, elements)| (address, 0, elements)));
        }
        if p.waits_for_gate || !p.given || p.cut.is_none() || self.outputs.holds_barrier(checkpoint) {
            return;
        }
        let Some(Passing { cut: Some(mut cut), mut in_flight, overtaking, .. }) = self.passing.take() else { return };
        in_flight.channels.retain(|(_, _, elements)| !elements.is_empty());
        cut.unaligned = overtaking;
        cut.in_flight = in_flight;
        self.say(TaskEvent::Cut(cut));
    }

    /// Puts back what the checkpoint held in front of the operators, or keeps it until it is asked for.
    pub(super) fn recover(&mut self, recovered: Recovered) -> Result<()> {
        if recovered.staged {
            self.stages = recovered.queued;
            self.chain.pause(true);
            return Ok(());
        }
        recovered.queued.into_iter().try_for_each(|(operator, queued)| self.put_in(operator, queued))
    }

    fn put_in(&mut self, operator: OperatorId, queued: Queued) -> Result<()> {
        if self.chain.first() == Some(operator) {
            self.head.preload(queued);
            return Ok(());
        }
        match self.chain.preload(operator, queued) {
            true => Ok(()),
            false => Err(Error::bug(format!("task `{}` was given rows for operator {operator}", self.task_name))),
        }
    }

    /// Puts in an operator's share of what a rescaled checkpoint held; `sent`: what has been sent here by now.
    pub(super) fn drain(&mut self, operator: OperatorId, sent: Sent) -> Result<()> {
        self.draining = Some((operator, sent));
        self.chain.pause(false);
        match self.stages.iter().position(|(o, _)| *o == operator) {
            Some(at) => {
                let (_, queued) = self.stages.swap_remove(at);
                self.put_in(operator, queued)
            }
            None => Ok(()),
        }
    }

    /// Says that nothing is on its way here, if somebody wants to know.
    pub(super) fn check_drained(&mut self) {
        let Some((operator, sent)) = &self.draining else { return };
        if self.outputs.is_ready() && self.chain.is_empty() && self.head.is_empty() && self.head.has_received(sent) {
            let operator = *operator;
            self.draining = None;
            self.say(TaskEvent::Drained(operator, self.outputs.sent()));
        }
    }
}
