//! One step of the job master: what an event changes, and what the checkpoint coordinator orders.

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::restart::RestartKind;
use flott_checkpoint::stats::CutRecord;
use flott_checkpoint::{
    Action as CheckpointAction, Event as CheckpointEvent, FailureReason, RestartOptions, RestartStrategy,
};
use flott_core::error::{ErrorKind, Result};
use flott_core::ids::{CheckpointId, SubtaskId};
use flott_core::operator::Notification;
use flott_core::task::{TaskCommand, TaskReport};

use super::state::{Phase, Then};
use super::{Action, Event, JobMaster};

impl JobMaster {
    /// What follows from `event` at `now_ms`.
    pub fn step(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        self.now_ms = now_ms;
        match event {
            Event::Start => self.deploy(),
            Event::Deployed { attempt, result } if attempt == self.attempt.number => self.on_deployed(result),
            Event::Task { subtask, attempt, report } => self.on_report(subtask, attempt, report),
            Event::Failed { attempt, error } if attempt == self.attempt.number => self.on_failure(error),
            Event::Discovered { attempt, result } if attempt == self.attempt.number => self.on_discovered(result),
            Event::Published { checkpoint, result } => self.on_published(checkpoint, result),
            Event::Stop(status) => self.on_stop(status),
            // Of an attempt that is over.
            Event::Deployed { .. } | Event::Failed { .. } | Event::Discovered { .. } | Event::Tick => {}
        }
        self.on_time();
        std::mem::take(&mut self.actions)
    }

    pub(super) fn order(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Tells all tasks.
    pub(super) fn tell_all(&mut self, command: TaskCommand) {
        let to = self.subtasks.clone();
        self.order(Action::Tell { to, command });
    }

    fn on_time(&mut self) {
        let now = self.now_ms;
        if self.wake_checkpoint_ms.is_some_and(|at| at <= now) {
            self.wake_checkpoint_ms = None;
            self.checkpoint(CheckpointEvent::Tick);
        }
        if let Phase::Waiting { until_ms } = self.phase {
            // A publication under way may still come to be: the restore point is chosen after it.
            if until_ms <= now && self.coordinator.publishing().is_none() {
                self.redeploy();
            }
        }
        if self.is_running() && self.attempt.next_discovery_ms.is_some_and(|at| at <= now) {
            self.attempt.next_discovery_ms = None;
            self.order(Action::Discover);
        }
    }

    fn on_report(&mut self, subtask: SubtaskId, attempt: u32, report: TaskReport) {
        match report {
            // Of whichever attempt: what nobody wants any more is to be deleted.
            TaskReport::Acknowledged { checkpoint, state, stats } => {
                self.checkpoint(CheckpointEvent::Ack { subtask, checkpoint, state, stats });
            }
            TaskReport::Declined { checkpoint, storing, reason } if storing || attempt == self.attempt.number => {
                let by = if storing { FailureReason::Async } else { FailureReason::Declined };
                self.checkpoint(CheckpointEvent::Declined { subtask, checkpoint, reason: by, message: reason });
            }
            _ if attempt != self.attempt.number => {}
            TaskReport::Running => {
                self.attempt.up += 1;
                self.begin_if_all_are_up();
            }
            TaskReport::Cut { checkpoint, start_delay_ms, alignment_ms, sync_ms } => {
                let passed = CutRecord { at_ms: self.now_ms, start_delay_ms, alignment_ms, sync_ms };
                self.coordinator.stats_mut().cut(checkpoint, subtask, passed);
            }
            TaskReport::Declined { .. } => {}
            TaskReport::Drained { sent, .. } => self.on_drained(sent),
            // A task with nothing to read ends before its neighbours are up; the coordinator hears it once all are.
            TaskReport::EndOfData => match self.phase {
                Phase::Running if !self.are_all_up() => self.attempt.ended_early.push(subtask),
                _ => self.checkpoint(CheckpointEvent::SubtaskReachedEnd { subtask }),
            },
            TaskReport::Finished => {
                self.attempt.finished += 1;
                self.on_ended();
            }
            TaskReport::Canceled => self.on_ended(),
            TaskReport::Failed(e) => {
                self.on_failure(e);
                self.on_ended();
            }
        }
    }

    /// One step of the coordinator, and what follows from it. Events that actions bring about wait until all actions of
    /// the step are carried out.
    pub(super) fn checkpoint(&mut self, event: CheckpointEvent) {
        self.queued.push_back(event);
        if self.stepping {
            return;
        }
        self.stepping = true;
        while let Some(event) = self.queued.pop_front() {
            for action in self.coordinator.step(self.now_ms, event) {
                self.carry_out(action);
            }
        }
        self.stepping = false;
    }

    fn carry_out(&mut self, action: CheckpointAction) {
        match action {
            CheckpointAction::CaptureCoordinatorState { checkpoint } => {
                let states = self.attempt.sources.iter().map(|s| (s.operator, s.snapshot())).collect();
                self.checkpoint(CheckpointEvent::CoordinatorState { checkpoint, states });
            }
            CheckpointAction::TriggerSources(barrier) => {
                let to = self.readers.clone();
                self.order(Action::Tell { to, command: TaskCommand::Trigger(barrier) });
            }
            CheckpointAction::Publish(pending) => self.order(Action::Publish(pending)),
            CheckpointAction::NotifyCompleted(id) => self.tell_all(TaskCommand::Notify(Notification::Completed(id))),
            CheckpointAction::NotifyAborted(id) => {
                self.tell_all(TaskCommand::Notify(Notification::Aborted(id)));
                self.order(Action::Abort(id));
            }
            CheckpointAction::DiscardState { checkpoint, state, .. } => {
                self.order(Action::Discard { checkpoint, state });
            }
            CheckpointAction::FailJob(e) => self.on_failure(e),
            CheckpointAction::WakeAt(at) => self.wake_checkpoint_ms = Some(at),
            CheckpointAction::FinalCheckpointCompleted(_) => self.tell_all(TaskCommand::FinishJob),
            a @ (CheckpointAction::LateMessage { .. } | CheckpointAction::TriggerRejected { .. }) => {
                self.order(Action::Log(a));
            }
        }
    }

    /// A publication ended.
    fn on_published(&mut self, checkpoint: CheckpointId, result: Result<Published>) {
        let fenced = result.as_ref().err().filter(|e| e.kind() == ErrorKind::Fenced).cloned();
        self.checkpoint(CheckpointEvent::Published { checkpoint, result });
        if let Phase::Ending { status } = &self.phase {
            let status = status.clone();
            return self.finish(status, true);
        }
        let Some(e) = fenced else { return };
        // A newer process owns the job: restarting would only be refused again.
        self.order(Action::Failed(e.clone()));
        self.restart = RestartStrategy::new(RestartOptions::of(RestartKind::None));
        match &mut self.phase {
            Phase::Running => self.stop(Then::Recover(e)),
            Phase::Stopping { then: then @ Then::Recover(_) } => *then = Then::Recover(e),
            // Not to be deployed once more: it would commit and write beside its successor until its next publication.
            Phase::Waiting { .. } => self.fail(e),
            Phase::Stopping { .. } | Phase::Created | Phase::Ending { .. } | Phase::Done => {}
        }
    }
}
