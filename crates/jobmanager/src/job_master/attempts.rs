//! Attempts: deployment, rows in flight, failure, restart, the end.

use flott_checkpoint::{Event as CheckpointEvent, RestartDecision};
use flott_core::error::{Error, ErrorKind, Result};
use flott_core::ids::{OperatorId, SubtaskId};
use flott_core::snapshot::ChannelAddress;
use flott_core::source::Split;
use flott_core::task::{Sent, TaskCommand};

use super::splits::{Assignment, Splits};
use super::state::{Attempt, Phase, Then};
use super::{Action, Deployed, JobMaster};
use crate::progress::JobStatus;

impl JobMaster {
    /// Starts an attempt.
    pub(super) fn deploy(&mut self) {
        let number = self.attempt.number;
        self.attempt = Attempt { number, ..Attempt::default() };
        self.phase = Phase::Running;
        self.order(Action::Deploy { attempt: number });
    }

    /// Starts the next attempt.
    pub(super) fn redeploy(&mut self) {
        self.attempt.number += 1;
        self.deploy();
    }

    /// The tasks of the attempt have been started, or could not be.
    pub(super) fn on_deployed(&mut self, result: Result<Deployed>) {
        self.attempt.deployed = true;
        match result {
            Err(e) => {
                self.attempt.ended = self.subtasks.len();
                match self.phase {
                    // A job that cannot be started at all has nothing to recover.
                    Phase::Running if self.attempt.number == 0 => self.end(JobStatus::Failed(e)),
                    Phase::Running => self.on_failure(e),
                    _ => self.end_attempt_if_over(),
                }
            }
            Ok(deployed) => match self.phase {
                Phase::Running => self.on_started(deployed),
                // It was told to stop meanwhile.
                _ => {
                    self.order(Action::Cancel);
                    self.end_attempt_if_over();
                }
            },
        }
    }

    fn on_started(&mut self, deployed: Deployed) {
        self.attempt.drains = deployed.drains;
        let sources = match deployed.sources {
            Ok(sources) => sources,
            // The tasks run already: a source that cannot start is a failure of the attempt like any other.
            Err(e) => return self.on_failure(e),
        };
        let mut starts: Vec<Assignment> = Vec::new();
        for source in sources {
            let (splits, assignments) = Splits::start(source);
            self.attempt.sources.push(splits);
            starts.extend(assignments);
        }
        if self.attempt.drains.is_empty() {
            self.start_reading(starts);
        } else {
            self.attempt.held_back = starts;
        }
        self.begin_if_all_are_up();
        self.end_attempt_if_over();
    }

    fn start_reading(&mut self, starts: Vec<Assignment>) {
        self.assign(starts);
        self.schedule_discovery();
    }

    fn assign(&mut self, assignments: Vec<Assignment>) {
        for (subtask, command) in assignments {
            self.order(Action::Tell { to: vec![subtask], command });
        }
    }

    pub(super) fn are_all_up(&self) -> bool {
        self.attempt.deployed && self.attempt.up == self.subtasks.len()
    }

    /// When all tasks run: what a rescaled checkpoint held in flight goes first; then the job begins.
    pub(super) fn begin_if_all_are_up(&mut self) {
        if !self.is_running() || !self.are_all_up() {
            return;
        }
        self.order(Action::Status(JobStatus::Running));
        match self.attempt.drains.is_empty() {
            true => self.begin(),
            false => self.drain_next(),
        }
    }

    /// From here on there are checkpoints.
    fn begin(&mut self) {
        self.checkpoint(CheckpointEvent::Started { subtasks: self.subtasks.clone() });
        for subtask in std::mem::take(&mut self.attempt.ended_early) {
            self.checkpoint(CheckpointEvent::SubtaskReachedEnd { subtask });
        }
    }

    /// The next step of putting rows in flight in; after the last, sources get their splits.
    fn drain_next(&mut self) {
        if let Some((operator, vertex)) = self.attempt.drains.pop_front() {
            let to: Vec<SubtaskId> = self.subtasks.iter().filter(|s| s.vertex == vertex).copied().collect();
            self.attempt.draining = to.len();
            for subtask in to {
                // A vertex has the number of its head.
                let here = |a: &ChannelAddress| a.operator.0 == subtask.vertex.0 && a.subtask == subtask.index;
                let sent = self.attempt.sent.iter().filter(|(a, _)| here(a)).map(|(a, n)| (*a, *n)).collect();
                self.order(Action::Tell { to: vec![subtask], command: TaskCommand::Drain { operator, sent } });
            }
            return;
        }
        self.tell_all(TaskCommand::Resume);
        let starts = std::mem::take(&mut self.attempt.held_back);
        self.start_reading(starts);
        self.begin();
    }

    /// A task has nothing of the present step on its way any more.
    pub(super) fn on_drained(&mut self, sent: Sent) {
        self.attempt.sent.extend(sent);
        self.attempt.draining = self.attempt.draining.saturating_sub(1);
        if self.attempt.draining == 0 && self.is_running() {
            self.drain_next();
        }
    }

    fn schedule_discovery(&mut self) {
        let shortest = self.attempt.sources.iter().filter_map(|s| s.discovery_interval_ms).min();
        self.attempt.next_discovery_ms =
            shortest.map(|ms| self.now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX / 2)));
    }

    /// The enumerators were asked again.
    pub(super) fn on_discovered(&mut self, result: Result<Vec<(OperatorId, Vec<Split>)>>) {
        if !self.is_running() {
            return;
        }
        let found = match result {
            Ok(found) => found,
            Err(e) => return self.on_failure(e),
        };
        for (operator, splits) in found {
            let source = self.attempt.sources.iter_mut().find(|s| s.operator == operator);
            let assignments = source.map(|s| s.assign(splits)).unwrap_or_default();
            self.assign(assignments);
        }
        self.schedule_discovery();
    }

    /// The attempt failed; the first cause counts.
    pub(super) fn on_failure(&mut self, e: Error) {
        if !self.is_running() {
            return;
        }
        self.order(Action::Failed(e.clone()));
        self.stop(Then::Recover(e));
    }

    /// The user wants it to stop.
    pub(super) fn on_stop(&mut self, status: JobStatus) {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => self.stop(Then::End(status)),
            Phase::Created | Phase::Waiting { .. } => self.end(status),
            Phase::Ending { .. } | Phase::Done => {}
        }
    }

    /// Stops all tasks; `then` when all have ended.
    pub(super) fn stop(&mut self, then: Then) {
        self.phase = Phase::Stopping { then };
        self.checkpoint(CheckpointEvent::Suspended);
        self.order(Action::Cancel);
        self.end_attempt_if_over();
    }

    /// A task ended.
    pub(super) fn on_ended(&mut self) {
        // Those of a deployment that failed half-way count already.
        self.attempt.ended = (self.attempt.ended + 1).min(self.subtasks.len());
        self.end_attempt_if_over();
    }

    /// When every task has said its last word.
    fn end_attempt_if_over(&mut self) {
        if !self.is_attempt_over() || !matches!(self.phase, Phase::Running | Phase::Stopping { .. }) {
            return;
        }
        // What it owns goes before the next attempt begins.
        self.order(Action::Release);
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Stopping { then: Then::End(status) } => self.end(status),
            Phase::Stopping { then: Then::Recover(e) } => self.decide(e),
            _ if self.attempt.finished == self.subtasks.len() => self.end(JobStatus::Finished),
            _ => self.fail(Error::bug("all tasks ended, but not all of them finished")),
        }
    }

    /// Asks the restart strategy.
    fn decide(&mut self, e: Error) {
        // What is wrong in the input, is damaged, or belongs to a newer process stays so: a restart would only hide it.
        let hopeless = matches!(e.kind(), ErrorKind::User | ErrorKind::Fenced | ErrorKind::Corrupt);
        if hopeless {
            return self.fail(e);
        }
        // SplitMix64's increment; the strategy takes the high bits.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        match self.restart.on_failure(self.now_ms, self.random) {
            RestartDecision::Restart { delay_ms } => {
                self.order(Action::Restarting { delay_ms });
                // Never at once: whoever wants to stop a job that cannot be deployed must be heard in between.
                self.phase = Phase::Waiting { until_ms: self.now_ms.saturating_add(delay_ms.max(1)) };
            }
            RestartDecision::GiveUp(reason) => {
                self.order(Action::GivingUp(reason));
                self.fail(e);
            }
        }
    }

    /// Gives up.
    pub(super) fn fail(&mut self, e: Error) {
        self.end(JobStatus::Failed(e));
    }

    /// Ends the job: no task runs any more.
    pub(super) fn end(&mut self, status: JobStatus) {
        self.checkpoint(CheckpointEvent::Stop);
        let discard = self.options.discards_at(&status);
        match discard && self.coordinator.publishing().is_some() {
            true => self.phase = Phase::Ending { status },
            false => self.finish(status, discard),
        }
    }

    pub(super) fn finish(&mut self, status: JobStatus, discard: bool) {
        self.phase = Phase::Done;
        self.order(Action::End { status, discard });
    }
}
