//! Starts attempts and ends them: deployment, failure, restart, cancellation.

use std::sync::Arc;

use flott_checkpoint::{Event as CheckpointEvent, RestartDecision};
use flott_core::error::{Error, ErrorKind, Result};
use flott_runtime::{TaskCommand, TaskHandle};

use super::{JobEvent, JobMaster, Restore, State, Then};
use crate::deploy::Plan;
use crate::progress::JobStatus;

impl JobMaster {
    /// Starts an attempt from the last published checkpoint.
    pub(super) fn deploy(&mut self) -> Result<()> {
        let restore = self.parts.restore.clone();
        let plan = Plan {
            job: self.parts.description.job,
            graph: &self.parts.graph,
            attempt: self.attempt,
            run: self.parts.generation,
            memory: self.parts.memory.clone(),
            config: Arc::clone(&self.parts.config),
            clock: Arc::clone(&self.parts.clock),
            options: self.parts.options.task,
            incremental: self.parts.options.incremental && restore.as_ref().is_none_or(|r| r.own),
            restore: restore.as_ref(),
        };
        let mut deployment = plan.deploy(&self.listener())?;
        let mut starts = Vec::new();
        let mut started = || -> Result<()> {
            for (vertex, enumerator) in &mut deployment.enumerators {
                let unfinished = plan.unfinished_splits(enumerator.operator)?;
                let former = plan.former_parallelism(enumerator.operator);
                starts.push((*vertex, enumerator.start(unfinished, former)?));
            }
            Ok(())
        };
        let outcome = started();
        self.tasks = deployment.tasks;
        self.threads = deployment.threads;
        self.sources = deployment.sources;
        self.enumerators = deployment.enumerators;
        self.alive = self.tasks.len();
        self.finished = 0;
        self.ended_early.clear();
        self.drains = deployment.drains;
        self.draining = 0;
        self.held_back.clear();
        self.state = State::Running { up: 0 };
        self.parts.board.set_tasks(deployment.entries);
        // The tasks run already: a source that cannot start is a failure of the attempt like any other.
        outcome?;
        if !self.drains.is_empty() {
            self.held_back = starts;
            self.next_discovery_ms = None;
            return Ok(());
        }
        for (vertex, assignments) in starts {
            self.tell_vertex(vertex, assignments);
        }
        self.schedule_discovery();
        Ok(())
    }

    /// All tasks run. What a rescaled checkpoint held in flight goes first; then the job begins.
    pub(super) fn on_all_up(&mut self) {
        self.parts.board.set_status(JobStatus::Running);
        match self.drains.is_empty() {
            true => self.begin(),
            false => self.drain_next(),
        }
    }

    /// From here on there are checkpoints.
    fn begin(&mut self) {
        let subtasks = self.tasks.iter().map(TaskHandle::subtask).collect();
        self.step(CheckpointEvent::Started { subtasks });
        for subtask in std::mem::take(&mut self.ended_early) {
            self.step(CheckpointEvent::SubtaskReachedEnd { subtask });
        }
    }

    /// The next step of putting rows in flight in; after the last, sources get their splits.
    fn drain_next(&mut self) {
        if let Some((operator, vertex)) = self.drains.pop_front() {
            let of_vertex: Vec<usize> =
                (0..self.tasks.len()).filter(|&i| self.tasks[i].subtask().vertex == vertex).collect();
            self.draining = of_vertex.len();
            of_vertex.into_iter().for_each(|i| self.tell(i, TaskCommand::Drain(operator)));
            return;
        }
        tracing::info!("the rows in flight of the checkpoint have been processed");
        self.tell_all(&TaskCommand::Resume);
        for (vertex, assignments) in std::mem::take(&mut self.held_back) {
            self.tell_vertex(vertex, assignments);
        }
        self.schedule_discovery();
        self.begin();
    }

    /// A task has nothing of the present step on its way any more.
    pub(super) fn on_drained(&mut self) {
        self.draining = self.draining.saturating_sub(1);
        if self.draining == 0 && matches!(self.state, State::Running { .. }) {
            self.drain_next();
        }
    }

    fn schedule_discovery(&mut self) {
        let shortest = self.enumerators.iter().filter_map(|(_, e)| e.discovery_interval_ms()).min();
        self.next_discovery_ms = shortest.map(|ms| self.now() + i64::try_from(ms).unwrap_or(i64::MAX / 2));
    }

    /// Asks the enumerators for new splits.
    pub(super) fn rediscover(&mut self) -> Result<()> {
        let mut found = Vec::new();
        for (vertex, enumerator) in &mut self.enumerators {
            if enumerator.discovery_interval_ms().is_some() {
                found.push((*vertex, enumerator.rediscover()?));
            }
        }
        for (vertex, assignments) in found {
            self.tell_vertex(vertex, assignments);
        }
        self.schedule_discovery();
        Ok(())
    }

    /// The attempt failed; the first cause counts.
    pub(super) fn on_failure(&mut self, e: Error) {
        if !matches!(self.state, State::Running { .. }) {
            return;
        }
        tracing::info!("job failed: {e}");
        self.parts.board.failure(e.clone());
        self.stop(Then::Recover(e));
    }

    /// The user wants it to stop.
    pub(super) fn on_stop(&mut self, status: JobStatus) {
        match self.state {
            State::Running { .. } | State::Stopping { .. } => self.stop(Then::End(status)),
            State::Waiting { .. } => self.end(status),
            State::Done => {}
        }
    }

    /// Stops all tasks; `then` when all have ended.
    pub(super) fn stop(&mut self, then: Then) {
        self.state = State::Stopping { then };
        self.step(CheckpointEvent::Suspended);
        self.tasks.iter().for_each(TaskHandle::cancel);
        if self.alive == 0 {
            self.all_ended();
        }
    }

    /// A task ended.
    pub(super) fn on_ended(&mut self) {
        self.alive = self.alive.saturating_sub(1);
        if self.alive == 0 {
            self.all_ended();
        }
    }

    fn all_ended(&mut self) {
        // Every task has said its last word; what it owns goes before the next attempt begins.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Running { .. } if self.finished == self.tasks.len() => self.end(JobStatus::Finished),
            State::Running { .. } => self.fail(Error::bug("all tasks ended, but not all of them finished")),
            State::Stopping { then: Then::End(status) } => self.end(status),
            State::Stopping { then: Then::Recover(e) } => self.decide(e),
            other => self.state = other,
        }
    }

    /// Asks the restart strategy.
    fn decide(&mut self, e: Error) {
        // What is wrong in the input, is damaged, or belongs to a newer process stays so: a restart would only hide it.
        let hopeless = matches!(e.kind(), ErrorKind::User | ErrorKind::Fenced | ErrorKind::Corrupt);
        if hopeless {
            return self.fail(e);
        }
        let now = self.now();
        let random = self.parts.clock.now_nanos().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match self.parts.restart.on_failure(now, random) {
            RestartDecision::Restart { delay_ms } => {
                tracing::info!("restarting in {delay_ms} ms");
                self.parts.board.restarted();
                self.parts.board.set_status(JobStatus::Restarting);
                self.state = State::Waiting { until_ms: now + delay_ms };
            }
            RestartDecision::GiveUp(reason) => {
                tracing::info!("{reason}");
                self.fail(e);
            }
        }
    }

    /// Starts the next attempt.
    pub(super) fn redeploy(&mut self) {
        self.attempt += 1;
        if let Err(e) = self.refresh_restore_point().and_then(|()| self.deploy()) {
            if matches!(self.state, State::Running { .. }) {
                self.on_failure(e);
            } else {
                self.parts.board.failure(e.clone());
                self.decide(e);
            }
        }
    }

    /// Looks into the publish log: a checkpoint whose publication seemed to fail may exist all the same.
    fn refresh_restore_point(&mut self) -> Result<()> {
        let storage = &self.parts.storage;
        if storage.has_published()?
            && let Some(point) = storage.choose_restore_point()?
        {
            let reader = point.chunk_reader();
            self.parts.restore = Some(Restore { metadata: Arc::new(point.metadata), reader, own: true });
        }
        Ok(())
    }

    /// Gives up.
    pub(super) fn fail(&mut self, e: Error) {
        if matches!(self.state, State::Running { .. }) {
            // Deployment failed half-way: the tasks that run are stopped first.
            return self.on_failure(e);
        }
        self.end(JobStatus::Failed(e));
    }

    /// What is being published would appear after everything was removed.
    fn await_publication(&mut self) {
        while !self.stepping && self.parts.coordinator.publishing().is_some() {
            if let Ok(JobEvent::Published { checkpoint, result }) = self.events.recv() {
                let result = result.map(|(published, _)| published);
                self.step(CheckpointEvent::Published { checkpoint, result });
            }
        }
    }

    fn end(&mut self, status: JobStatus) {
        self.step(CheckpointEvent::Stop);
        if self.parts.options.discards_at(&status) {
            self.await_publication();
            // A start that published nothing has nothing to remove: what is there belongs to starts before it.
            let outcome = self.parts.storage.has_published().and_then(|own| match own {
                true => self.parts.storage.discard_all(true),
                false => Ok(()),
            });
            if let Err(e) = outcome {
                tracing::warn!("checkpoints were not removed: {e}");
            }
        }
        self.state = State::Done;
        self.parts.board.set_status(status);
    }
}
