//! Carries out what the checkpoint coordinator orders.

use std::sync::Arc;

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::metadata::CheckpointMetadata;
use flott_checkpoint::restart::RestartKind;
use flott_checkpoint::{Action, Event as CheckpointEvent, PendingMetadata, RestartOptions, RestartStrategy};
use flott_core::crash_point;
use flott_core::error::{ErrorKind, Result};
use flott_core::ids::CheckpointId;
use flott_core::operator::Notification;
use flott_runtime::TaskCommand;

use super::upload::caught;
use super::{JobEvent, JobMaster, Restore, State, Then};
use crate::progress::CheckpointProgress;

impl JobMaster {
    /// One step of the coordinator, and what follows from it. Events that actions bring about wait until all actions of
    /// the step are carried out.
    pub(super) fn step(&mut self, event: CheckpointEvent) {
        self.queued.push_back(event);
        if self.stepping {
            return;
        }
        self.stepping = true;
        while let Some(event) = self.queued.pop_front() {
            let now = self.now();
            self.look(now);
            for action in self.parts.coordinator.step(now, event) {
                self.act(action);
            }
            self.tell_diagnoses();
        }
        self.stepping = false;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::CaptureCoordinatorState { checkpoint } => {
                let states = self.enumerators.iter().map(|(_, e)| (e.operator, e.snapshot())).collect();
                self.step(CheckpointEvent::CoordinatorState { checkpoint, states });
            }
            Action::TriggerSources(barrier) => {
                crash_point::reach("before-checkpoint");
                tracing::debug!(checkpoint = %barrier.checkpoint, "triggered");
                for i in 0..self.tasks.len() {
                    if self.sources.contains(&self.tasks[i].subtask()) {
                        self.tell(i, TaskCommand::Trigger(barrier));
                    }
                }
            }
            Action::Publish(pending) => self.publish(*pending),
            Action::NotifyCompleted(id) => self.tell_all(&TaskCommand::Notify(Notification::Completed(id))),
            Action::NotifyAborted(id) => {
                self.parts.board.checkpoint_failed();
                if let Some((reason, message)) = self.parts.coordinator.stats().get(id).and_then(|r| r.failure.clone())
                {
                    tracing::debug!(checkpoint = %id, "checkpoint {id} failed: {reason}: {message}");
                }
                self.tell_all(&TaskCommand::Notify(Notification::Aborted(id)));
                let storage = Arc::clone(&self.parts.storage);
                self.work.submit(move || storage.abort(id));
            }
            Action::DiscardState { checkpoint, state, .. } => {
                let storage = Arc::clone(&self.parts.storage);
                self.work.submit(move || storage.discard(checkpoint, &state));
            }
            Action::FailJob(e) => self.on_failure(e),
            Action::WakeAt(at) => self.wake_checkpoint_ms = Some(at),
            Action::FinalCheckpointCompleted(_) => self.tell_all(&TaskCommand::FinishJob),
            Action::LateMessage { checkpoint, subtask, expired } => {
                tracing::debug!(%checkpoint, %subtask, expired, "late message");
            }
            Action::TriggerRejected { reason, .. } => tracing::warn!("checkpoint not triggered: {reason}"),
        }
    }

    fn publish(&mut self, pending: PendingMetadata) {
        let checkpoint = pending.checkpoint;
        let storage = Arc::clone(&self.parts.storage);
        let metadata = pending.into_metadata(&self.parts.description, self.parts.generation);
        let sender = self.sender.clone();
        self.work.submit(move || {
            crash_point::reach("before-publish");
            let result = caught(|| {
                let m = metadata?;
                let published = storage.publish(&m)?;
                Ok((published, Arc::new(m)))
            });
            crash_point::reach("before-commit");
            let _ = sender.send(JobEvent::Published { checkpoint, result });
        });
    }

    /// A publication ended: the newest published checkpoint is what a restart starts from.
    pub(super) fn on_published(
        &mut self,
        checkpoint: CheckpointId,
        result: Result<(Published, Arc<CheckpointMetadata>)>,
    ) {
        let fenced = result.as_ref().err().filter(|e| e.kind() == ErrorKind::Fenced).cloned();
        let result = result.map(|(published, metadata)| {
            let now = self.now();
            self.parts.board.checkpoint_completed(CheckpointProgress {
                id: checkpoint.0,
                completed_ms: now,
                duration_ms: now - metadata.triggered_ms,
                state_bytes: metadata.state_bytes(),
            });
            tracing::info!(%checkpoint, path = %published.path, "checkpoint completed");
            let reader = self.parts.storage.chunk_reader();
            self.parts.restore = Some(Restore { metadata, reader, own: true });
            let storage = Arc::clone(&self.parts.storage);
            self.work.submit(move || {
                if let Err(e) = storage.retire() {
                    tracing::warn!("old checkpoints were not removed: {e}");
                }
            });
            published
        });
        self.step(CheckpointEvent::Published { checkpoint, result });
        if let Some(e) = fenced {
            // A newer process owns the job: restarting would only be refused again.
            self.parts.board.failure(e.clone());
            self.parts.restart = RestartStrategy::new(RestartOptions::of(RestartKind::None));
            match &mut self.state {
                State::Running { .. } => self.stop(Then::Recover(e)),
                State::Stopping { then: then @ Then::Recover(_) } => *then = Then::Recover(e),
                // Not to be deployed once more: it would commit and write beside its successor until its next publication.
                State::Waiting { .. } => self.fail(e),
                State::Stopping { .. } | State::Done => {}
            }
        }
    }
}
