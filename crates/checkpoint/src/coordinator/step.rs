//! The coordinator's decisions: one event in, actions out; never waits, never asks for the time.

use std::collections::{BTreeMap, VecDeque};

use flott_core::element::{Barrier, BarrierOptions};
use flott_core::snapshot::{SubtaskCheckpointStats, SubtaskState};
use flott_core::{CheckpointId, Error, ErrorKind, Result, SubtaskId};

use super::state::{Final, GHOSTS_MAX, Pending, Phase, REQUESTS_MAX, Stage};
use super::{Action, CheckpointCoordinator, Event, FailureReason, PendingMetadata, Published};

/// Pause before a failed final checkpoint is tried again.
const FINAL_RETRY_MS: i64 = 1_000;

type Actions = Vec<Action>;

impl CheckpointCoordinator {
    /// Takes an event that happened at `now_ms` and returns what to do, in order.
    pub fn step(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        let renew_wake = matches!(event, Event::Tick | Event::Started { .. });
        match event {
            Event::Started { subtasks } => self.on_started(now_ms, subtasks, &mut out),
            Event::Tick => {}
            Event::ManualTrigger { savepoint } => self.on_manual(savepoint, &mut out),
            Event::CoordinatorState { checkpoint, states } => self.on_captured(now_ms, checkpoint, states, &mut out),
            Event::CaptureFailed { checkpoint, message } => {
                if self.pending.get(&checkpoint).is_some_and(|p| p.stage == Stage::Capturing) {
                    self.fail(now_ms, checkpoint, FailureReason::Trigger, &message, &mut out);
                }
            }
            Event::Ack { subtask, checkpoint, state, stats } => {
                self.on_ack(now_ms, (checkpoint, subtask), state, stats, &mut out);
            }
            Event::Declined { subtask, checkpoint, reason, message } => {
                self.on_declined(now_ms, (checkpoint, subtask), reason, &message, &mut out);
            }
            Event::Published { checkpoint, result } => self.on_published(now_ms, checkpoint, result, &mut out),
            Event::SubtaskReachedEnd { subtask } => self.on_end(now_ms, subtask),
            Event::Suspended => self.leave(now_ms, Phase::NotRunning, FailureReason::CoordinatorSuspend, &mut out),
            Event::Stop => self.leave(now_ms, Phase::Stopped, FailureReason::CoordinatorShutdown, &mut out),
        }
        self.expire(now_ms, &mut out);
        self.publish_next(&mut out);
        self.trigger_due(now_ms, &mut out);
        self.wake(renew_wake, &mut out);
        debug_assert_eq!(self.check_invariants(), Ok(()));
        out
    }

    fn on_started(&mut self, now_ms: i64, subtasks: Vec<SubtaskId>, out: &mut Actions) {
        if self.phase == Phase::Stopped {
            return;
        }
        // A start without a suspension before it: what is pending belongs to tasks that are gone.
        self.leave(now_ms, Phase::NotRunning, FailureReason::CoordinatorSuspend, out);
        self.phase = Phase::Running;
        self.stats.started(now_ms);
        self.attempt += 1;
        self.subtasks = subtasks.into_iter().collect();
        self.next_periodic_ms = self.options.interval_ms.map(|i| now_ms.saturating_add(i.max(1)));
    }

    fn on_manual(&mut self, savepoint: bool, out: &mut Actions) {
        let reason = if self.phase != Phase::Running || self.subtasks.is_empty() || !self.may_trigger_more() {
            FailureReason::NotAllTasksRunning
        } else if self.requests.len() == REQUESTS_MAX {
            FailureReason::TooManyRequests
        } else {
            self.requests.push_back(savepoint);
            return;
        };
        out.push(Action::TriggerRejected { savepoint, reason });
    }

    fn on_captured(
        &mut self,
        now_ms: i64,
        checkpoint: CheckpointId,
        states: Vec<(flott_core::OperatorId, Vec<u8>)>,
        out: &mut Actions,
    ) {
        let Some(p) = self.pending.get_mut(&checkpoint).filter(|p| p.stage == Stage::Capturing) else { return };
        p.coordinator_states = states;
        p.stage = Stage::Collecting;
        self.stats.captured(checkpoint, now_ms);
        let at_least_once = self.options.at_least_once;
        let aligned = at_least_once || p.savepoint || p.last;
        let unaligned_after_ms = self.options.unaligned_after_ms.filter(|_| !aligned);
        let options = BarrierOptions { at_least_once, savepoint: p.savepoint, last: p.last, unaligned_after_ms };
        out.push(Action::TriggerSources(Barrier { checkpoint, triggered_ms: p.triggered_ms, options }));
    }

    fn on_ack(
        &mut self,
        now_ms: i64,
        (checkpoint, subtask): (CheckpointId, SubtaskId),
        state: SubtaskState,
        stats: SubtaskCheckpointStats,
        out: &mut Actions,
    ) {
        let known = self.subtasks.contains(&subtask);
        let collecting = self.pending.get_mut(&checkpoint).filter(|p| known && p.stage != Stage::Capturing);
        let Some(p) = collecting else {
            self.late(checkpoint, subtask, out);
            // A message that comes twice names the very files that the completed checkpoint refers to.
            if !self.completed.contains(&checkpoint) {
                discard(checkpoint, subtask, state, out);
            }
            return;
        };
        if p.stage != Stage::Collecting || p.acked.contains_key(&subtask) {
            return;
        }
        p.acked.insert(subtask, state);
        self.stats.acknowledged(checkpoint, now_ms, subtask, stats);
        if p.acked.len() == self.subtasks.len() {
            p.stage = Stage::Complete;
            p.completed_ms = now_ms;
        }
    }

    fn on_declined(
        &mut self,
        now_ms: i64,
        (checkpoint, subtask): (CheckpointId, SubtaskId),
        reason: FailureReason,
        message: &str,
        out: &mut Actions,
    ) {
        let known = self.subtasks.contains(&subtask);
        match self.pending.get(&checkpoint) {
            Some(p) if known && matches!(p.stage, Stage::Capturing | Stage::Collecting) => {
                self.fail(now_ms, checkpoint, reason, &format!("{}: {message}", self.stats.subtask_name(subtask)), out);
            }
            _ => self.late(checkpoint, subtask, out),
        }
    }

    fn on_published(&mut self, now_ms: i64, id: CheckpointId, result: Result<Published>, out: &mut Actions) {
        let Some(p) = self.pending.get(&id).filter(|p| p.stage == Stage::Publishing) else { return };
        let (savepoint, last, current) = (p.savepoint, p.last, self.is_current(p));
        let published = match result {
            Ok(published) => published,
            Err(e) if e.kind() == ErrorKind::Fenced => {
                self.give_up(now_ms, id, FailureReason::Finalize, &e.to_string(), out);
                if current {
                    self.fail_job(now_ms, e, out);
                }
                return;
            }
            Err(e) => return self.fail(now_ms, id, FailureReason::Finalize, &e.to_string(), out),
        };
        self.pending.remove(&id);
        remember(&mut self.completed, id);
        self.consecutive_failures = 0;
        self.last_completed_ms = Some(now_ms);
        self.stats.completed(id, now_ms, published.path, published.metadata_bytes);
        if !current {
            // The tasks that took it are gone; the next attempt restores from it.
            return;
        }
        out.push(Action::NotifyCompleted(id));
        if !savepoint {
            let subsumed = self.pending.range(..id).filter(|(_, p)| !p.savepoint && p.stage != Stage::Publishing);
            for older in subsumed.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.fail(now_ms, older, FailureReason::Subsumed, &format!("checkpoint {id} completed first"), out);
            }
        }
        if last {
            self.final_checkpoint = Final::Done(id);
            out.push(Action::FinalCheckpointCompleted(id));
        }
    }

    fn on_end(&mut self, now_ms: i64, subtask: SubtaskId) {
        if self.phase != Phase::Running || !self.subtasks.contains(&subtask) {
            return;
        }
        self.ended.insert(subtask);
        if self.ended.len() == self.subtasks.len() && self.final_checkpoint == Final::NotDue {
            self.final_checkpoint = Final::Due { at_ms: now_ms };
        }
    }

    /// Gives everything up but what is being published.
    fn leave(&mut self, now_ms: i64, phase: Phase, reason: FailureReason, out: &mut Actions) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.phase = phase;
        let open = self.pending.iter().filter(|(_, p)| p.stage != Stage::Publishing).map(|(id, _)| *id);
        for id in open.collect::<Vec<_>>() {
            self.give_up(now_ms, id, reason, "", out);
        }
        for savepoint in std::mem::take(&mut self.requests) {
            out.push(Action::TriggerRejected { savepoint, reason });
        }
        self.subtasks.clear();
        self.ended.clear();
        self.next_periodic_ms = None;
        self.consecutive_failures = 0;
        // Stopped after the final checkpoint: that it is complete stays known.
        if phase == Phase::NotRunning || !matches!(self.final_checkpoint, Final::Done(_)) {
            self.final_checkpoint = Final::NotDue;
        }
    }

    fn expire(&mut self, now_ms: i64, out: &mut Actions) {
        let open = |p: &Pending| matches!(p.stage, Stage::Capturing | Stage::Collecting);
        let expired = self.pending.iter().filter(|(_, p)| open(p) && now_ms >= p.deadline_ms).map(|(id, _)| *id);
        for id in expired.collect::<Vec<_>>() {
            // An earlier one may have failed the job and taken this one along.
            if self.pending.contains_key(&id) {
                self.fail(now_ms, id, FailureReason::Expired, "", out);
            }
        }
    }

    fn publish_next(&mut self, out: &mut Actions) {
        if self.publishing().is_some() {
            return;
        }
        let Some((id, p)) = self.pending.iter_mut().find(|(_, p)| p.stage == Stage::Complete) else { return };
        p.stage = Stage::Publishing;
        out.push(Action::Publish(Box::new(PendingMetadata {
            checkpoint: *id,
            triggered_ms: p.triggered_ms,
            completed_ms: p.completed_ms,
            savepoint: p.savepoint,
            last: p.last,
            subtasks: p.acked.iter().map(|(s, state)| (*s, state.clone())).collect(),
            coordinator_states: p.coordinator_states.clone(),
        })));
    }

    /// Whether checkpoints other than the final one are still taken.
    fn may_trigger_more(&self) -> bool {
        self.final_checkpoint == Final::NotDue && (self.options.checkpoints_after_tasks_finish || self.ended.is_empty())
    }

    fn has_slot(&self) -> bool {
        self.pending.len() < self.options.max_concurrent.max(1) as usize
    }

    fn is_capturing(&self) -> bool {
        self.pending.values().any(|p| p.stage == Stage::Capturing)
    }

    fn is_current(&self, p: &Pending) -> bool {
        self.phase == Phase::Running && p.attempt == self.attempt
    }

    fn trigger_due(&mut self, now_ms: i64, out: &mut Actions) {
        if self.phase != Phase::Running || self.subtasks.is_empty() {
            return;
        }
        // It waits for those under way: completed first, it would subsume them and tell of failures that are none.
        if let Final::Due { at_ms } = self.final_checkpoint
            && now_ms >= at_ms
            && self.pending.is_empty()
        {
            let id = self.trigger(now_ms, false, true, out);
            self.final_checkpoint = Final::Pending(id);
        }
        if !self.may_trigger_more() {
            for savepoint in std::mem::take(&mut self.requests) {
                out.push(Action::TriggerRejected { savepoint, reason: FailureReason::NotAllTasksRunning });
            }
            return;
        }
        while !self.is_capturing() {
            // Savepoints go first and pass the limit, as in Flink.
            let at = self.requests.iter().position(|savepoint| *savepoint || self.has_slot());
            let first = self.requests.iter().position(|savepoint| *savepoint).or(at);
            let Some(savepoint) = first.and_then(|i| self.requests.remove(i)) else { break };
            self.trigger(now_ms, savepoint, false, out);
        }
        if let Some(due_ms) = self.periodic_due_ms()
            && now_ms >= due_ms
        {
            self.trigger(now_ms, false, false, out);
            // A fixed rate: what was missed is not made up for.
            if let (Some(next), Some(interval)) = (self.next_periodic_ms, self.options.interval_ms) {
                let interval = interval.max(1);
                let missed = now_ms.saturating_sub(next).max(0) / interval;
                let steps = (missed + 1).saturating_mul(interval);
                self.next_periodic_ms = Some(next.saturating_add(steps));
            }
        }
    }

    /// When the next periodic checkpoint may be triggered; `None` when it waits for something other than time.
    fn periodic_due_ms(&self) -> Option<i64> {
        let next = self.next_periodic_ms.filter(|_| self.phase == Phase::Running && !self.subtasks.is_empty())?;
        if !self.may_trigger_more() || !self.has_slot() || self.is_capturing() {
            return None;
        }
        let pause_ends = self.last_completed_ms.map(|t| t.saturating_add(self.options.min_pause_ms));
        Some(pause_ends.map_or(next, |t| t.max(next)))
    }

    fn trigger(&mut self, now_ms: i64, savepoint: bool, last: bool, out: &mut Actions) -> CheckpointId {
        let id = CheckpointId(self.next_id);
        self.next_id += 1;
        let pending = Pending {
            triggered_ms: now_ms,
            deadline_ms: now_ms.saturating_add(self.options.timeout_ms.max(1)),
            completed_ms: now_ms,
            savepoint,
            last,
            attempt: self.attempt,
            stage: Stage::Capturing,
            acked: BTreeMap::new(),
            coordinator_states: Vec::new(),
        };
        self.pending.insert(id, pending);
        let subtasks: Vec<SubtaskId> = self.subtasks.iter().copied().collect();
        self.stats.triggered(id, now_ms, savepoint, last, &subtasks);
        out.push(Action::CaptureCoordinatorState { checkpoint: id });
        id
    }

    /// A checkpoint failed: it is given up, and counted if it counts.
    fn fail(&mut self, now_ms: i64, id: CheckpointId, reason: FailureReason, message: &str, out: &mut Actions) {
        let Some(p) = self.pending.get(&id) else { return };
        // Without its final checkpoint a job cannot finish: every failure of that one counts.
        let counts = self.is_current(p) && (p.last || (reason.counts() && !p.savepoint));
        let last = p.last;
        self.give_up(now_ms, id, reason, message, out);
        if !counts {
            return;
        }
        if last {
            self.final_checkpoint = Final::Due { at_ms: now_ms.saturating_add(FINAL_RETRY_MS) };
        }
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if self.options.tolerable_failures == u32::MAX || self.consecutive_failures <= self.options.tolerable_failures {
            return;
        }
        let told = self.stats.get(id).or(self.stats.latest_failed()).and_then(|r| r.diagnosis.as_ref());
        let why = told.map_or_else(|| reason.message().to_owned(), |d| d.sentence.clone());
        let error =
            Error::retry("checkpoint.tolerable-failures", "Exceeded checkpoint tolerable failure threshold.")
                .detail(format!(
                    "{why}. It was failure {} in a row, {} are tolerated",
                    self.consecutive_failures, self.options.tolerable_failures
                ))
                .hint("remove the cause, or raise execution.checkpointing.tolerable-failed-checkpoints (and execution.checkpointing.timeout)");
        self.fail_job(now_ms, error, out);
    }

    fn fail_job(&mut self, now_ms: i64, error: Error, out: &mut Actions) {
        out.push(Action::FailJob(error));
        self.leave(now_ms, Phase::NotRunning, FailureReason::CoordinatorSuspend, out);
    }

    /// A checkpoint will not be: forgets it and has its files deleted.
    fn give_up(&mut self, now_ms: i64, id: CheckpointId, reason: FailureReason, message: &str, out: &mut Actions) {
        let Some(p) = self.pending.remove(&id) else { return };
        self.stats.failed(id, now_ms, (reason.name(), reason.message()), message);
        remember(&mut self.given_up, id);
        out.push(Action::NotifyAborted(id));
        for (subtask, state) in p.acked {
            discard(id, subtask, state, out);
        }
    }

    fn late(&mut self, checkpoint: CheckpointId, subtask: SubtaskId, out: &mut Actions) {
        self.stats.late_messages += 1;
        out.push(Action::LateMessage { checkpoint, subtask, expired: self.given_up.contains(&checkpoint) });
    }

    fn wake(&mut self, renew: bool, out: &mut Actions) {
        let open = self.pending.values().filter(|p| matches!(p.stage, Stage::Capturing | Stage::Collecting));
        let retry = match self.final_checkpoint {
            Final::Due { at_ms } if self.pending.is_empty() => Some(at_ms),
            _ => None,
        };
        let wake_ms = open.map(|p| p.deadline_ms).chain(retry).chain(self.periodic_due_ms()).min();
        if let Some(at) = wake_ms
            && (renew || wake_ms != self.wake_ms)
        {
            out.push(Action::WakeAt(at));
        }
        self.wake_ms = wake_ms;
    }
}

fn discard(checkpoint: CheckpointId, subtask: SubtaskId, state: SubtaskState, out: &mut Actions) {
    if state.chunks().next().is_some() {
        out.push(Action::DiscardState { checkpoint, subtask, state: Box::new(state) });
    }
}

fn remember(ring: &mut VecDeque<CheckpointId>, id: CheckpointId) {
    if ring.len() == GHOSTS_MAX {
        ring.pop_front();
    }
    ring.push_back(id);
}
