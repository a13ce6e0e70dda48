//! Carries out what the job master orders.

use std::sync::Arc;

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::metadata::CheckpointMetadata;
use flott_checkpoint::{Action as CheckpointAction, PendingMetadata};
use flott_core::crash_point;
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, SubtaskId};
use flott_core::task::TaskCommand;

use super::{JobDriver, JobEvent, Restore};
use crate::job_master::{Action, Deployed, Event};
use crate::progress::{CheckpointProgress, JobStatus};

impl JobDriver {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Deploy { attempt } => {
                let result = self.deploy(attempt);
                self.answers.push_back(Event::Deployed { attempt, result });
            }
            Action::Tell { to, command } => self.tell(&to, &command),
            Action::Cancel => self.gateway.cancel(),
            Action::Release => self.gateway.release(),
            Action::Discover => {
                let (attempt, result) = (self.master.attempt(), self.discover());
                self.answers.push_back(Event::Discovered { attempt, result });
            }
            Action::Publish(pending) => self.publish(*pending),
            Action::Abort(id) => {
                self.board.checkpoint_failed();
                let stats = self.master.coordinator().stats();
                if let Some((reason, message)) = stats.get(id).and_then(|r| r.failure.as_ref()) {
                    tracing::debug!(checkpoint = %id, "checkpoint {id} failed: {reason}: {message}");
                }
                let storage = Arc::clone(&self.storage);
                self.work.submit(move || storage.abort(id));
            }
            Action::Discard { checkpoint, state } => {
                let storage = Arc::clone(&self.storage);
                self.work.submit(move || storage.discard(checkpoint, &state));
            }
            Action::Log(CheckpointAction::LateMessage { checkpoint, subtask, expired }) => {
                tracing::debug!(%checkpoint, %subtask, expired, "late message");
            }
            Action::Log(CheckpointAction::TriggerRejected { reason, .. }) => {
                tracing::warn!("checkpoint not triggered: {reason}");
            }
            Action::Log(other) => tracing::debug!("{other:?}"),
            Action::Status(status) => self.board.set_status(status),
            Action::Failed(e) => {
                tracing::info!("job failed: {e}");
                self.board.failure(e);
            }
            Action::Restarting { delay_ms } => {
                tracing::info!("restarting in {delay_ms} ms");
                self.board.restarted();
                self.board.set_status(JobStatus::Restarting);
            }
            Action::GivingUp(reason) => tracing::info!("{reason}"),
            Action::End { status, discard } => self.end(status, discard),
        }
    }

    /// Starts an attempt from the last published checkpoint.
    fn deploy(&mut self, attempt: u32) -> Result<Deployed> {
        if attempt > 0 {
            self.refresh_restore_point()?;
        }
        let sources = self.sources()?;
        let started = self.gateway.deploy(attempt, self.restore.as_ref())?;
        self.board.set_tasks(started.entries);
        Ok(Deployed { sources: self.start(sources), drains: started.drains })
    }

    /// Looks into the publish log: a checkpoint whose publication seemed to fail may exist all the same.
    fn refresh_restore_point(&mut self) -> Result<()> {
        if self.storage.has_published()?
            && let Some(point) = self.storage.choose_restore_point()?
        {
            let reader = point.chunk_reader();
            self.restore = Some(Restore { metadata: Arc::new(point.metadata), reader, own: true });
        }
        Ok(())
    }

    fn tell(&mut self, to: &[SubtaskId], command: &TaskCommand) {
        match command {
            TaskCommand::Trigger(barrier) => {
                crash_point::reach("before-checkpoint");
                tracing::debug!(checkpoint = %barrier.checkpoint, "triggered");
            }
            TaskCommand::Resume => tracing::info!("the rows in flight of the checkpoint have been processed"),
            _ => {}
        }
        for subtask in to {
            if let Err(error) = self.gateway.tell(*subtask, command.clone()) {
                self.answers.push_back(Event::Failed { attempt: self.master.attempt(), error });
            }
        }
    }

    fn publish(&mut self, pending: PendingMetadata) {
        let checkpoint = pending.checkpoint;
        let storage = Arc::clone(&self.storage);
        let metadata = pending.into_metadata(&self.description, self.generation);
        let sender = self.sender.clone();
        self.work.submit(move || {
            crash_point::reach("before-publish");
            let result = crate::work::caught(|| {
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
        result: Result<(Published, Arc<CheckpointMetadata>), Error>,
    ) {
        let result = result.map(|(published, metadata)| {
            let now = self.now();
            self.board.checkpoint_completed(CheckpointProgress {
                id: checkpoint.0,
                completed_ms: now,
                duration_ms: now - metadata.triggered_ms,
                state_bytes: metadata.state_bytes(),
            });
            tracing::info!(%checkpoint, path = %published.path, "checkpoint completed");
            let reader = self.storage.chunk_reader();
            self.restore = Some(Restore { metadata, reader, own: true });
            let storage = Arc::clone(&self.storage);
            self.work.submit(move || {
                if let Err(e) = storage.retire() {
                    tracing::warn!("old checkpoints were not removed: {e}");
                }
            });
            published
        });
        self.step(Event::Published { checkpoint, result });
    }

    fn end(&mut self, status: JobStatus, discard: bool) {
        if discard {
            // A start that published nothing has nothing to remove: what is there belongs to starts before it.
            let outcome = self.storage.has_published().and_then(|own| match own {
                true => self.storage.discard_all(true),
                false => Ok(()),
            });
            if let Err(e) = outcome {
                tracing::warn!("checkpoints were not removed: {e}");
            }
        }
        self.board.set_status(status);
    }
}
