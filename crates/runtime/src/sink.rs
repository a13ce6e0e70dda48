//! The operator around a [`Sink`]: writes, prepares before every barrier, commits after every published checkpoint.
//!
//! It never commits what no published checkpoint covers, never gives up a commit that may still succeed without failing the
//! job, and never lets a checkpoint wait for a busy writer: the batch that the writer has no room for is part of the checkpoint.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use flott_core::batch::ChangeBatch;
use flott_core::batch_codec::{decode_batch, encode_batch};
use flott_core::encoding::{decode_committable, encode_committable};
use flott_core::error::{Error, Result};
use flott_core::ids::CheckpointId;
use flott_core::operator::{Notification, Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::sink::{CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::snapshot::Redistribution;

const WRITER_STATE: &str = "writer";
const COMMITTABLES_STATE: &str = "committables";
const PARKED_STATE: &str = "parked";

/// How commits are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// Attempts at one commit before the job fails; at least 1.
    pub commit_attempts: u32,
    /// Pause after the first failed attempt; doubles with each.
    pub retry_backoff_ms: i64,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions { commit_attempts: 5, retry_backoff_ms: 100 }
    }
}

/// A sink as the last operator of a chain.
pub struct SinkOperator {
    sink: Arc<dyn Sink>,
    run: u64,
    options: SinkOptions,
    writer: Option<Box<dyn SinkWriter>>,
    committer: Option<Box<dyn Committer>>,
    /// Prepared and not committed, oldest checkpoint first. Part of every checkpoint.
    pending: Vec<Committable>,
    /// The newest checkpoint known to be published: committables up to it are due.
    published: Option<CheckpointId>,
    /// Everything in `pending` came from the checkpoint the job was started from and is due before the first write.
    recovering: bool,
    retry: Option<Retry>,
    /// A commit is under way off this thread: when to ask for it again.
    commit_poll_ms: Option<i64>,
    /// Rows that come before all input: those the checkpoint held, then the one batch the writer had no room for.
    parked: VecDeque<ChangeBatch>,
    /// When the writer may have room for them.
    parked_until_ms: i64,
    /// What could not be done yet.
    work: Option<Work>,
    /// All data has been given.
    ended: bool,
    /// All of it is written: the last barrier may come.
    drained: bool,
    /// When to ask the writer for that again.
    drain_at_ms: i64,
    next_time_ms: Option<i64>,
}

struct Retry {
    attempts: u32,
    at_ms: i64,
}

enum Work {
    Batch(ChangeBatch),
    Event(OperatorEvent),
}

impl SinkOperator {
    /// A sink operator; `run` is unique to this process's run of the job.
    pub fn new(sink: Arc<dyn Sink>, run: u64) -> Self {
        Self::with_options(sink, run, SinkOptions::default())
    }
    /// A sink operator with other retries.
    pub fn with_options(sink: Arc<dyn Sink>, run: u64, options: SinkOptions) -> Self {
        SinkOperator {
            sink,
            run,
            options,
            writer: None,
            committer: None,
            pending: Vec::new(),
            published: None,
            recovering: false,
            retry: None,
            commit_poll_ms: None,
            parked: VecDeque::new(),
            parked_until_ms: i64::MIN,
            work: None,
            ended: false,
            drained: false,
            drain_at_ms: i64::MIN,
            next_time_ms: None,
        }
    }

    fn writer(&mut self) -> Result<&mut Box<dyn SinkWriter>> {
        self.writer.as_mut().ok_or_else(|| Error::bug("a sink was used before it was opened"))
    }

    /// Does everything that is due and possible; [`Progress::Blocked`] when `work` has to wait.
    fn advance(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.commit_due(ctx)?;
        self.write_parked(ctx)?;
        let Some(work) = self.work.take() else {
            self.drain(ctx)?;
            return Ok(Progress::Done);
        };
        let progress = match work {
            _ if self.recovering => {
                self.work = Some(work);
                return Ok(Progress::Blocked);
            }
            // A chain that asks [`Operator::accepts_input`] never comes here with rows in front.
            Work::Batch(batch) if !self.parked.is_empty() => {
                self.work = Some(Work::Batch(batch));
                Progress::Blocked
            }
            Work::Batch(batch) => {
                self.parked.push_back(batch);
                self.parked_until_ms = i64::MIN;
                self.write_parked(ctx)?;
                Progress::Done
            }
            Work::Event(event) => self.on_event_now(event, ctx)?,
        };
        self.drain(ctx)?;
        self.on_time(ctx)?;
        Ok(progress)
    }

    /// Offers the writer what it had no room for, if it may have room now.
    fn write_parked(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        if self.recovering {
            return Ok(());
        }
        while let Some(batch) = self.parked.pop_front() {
            if self.parked_until_ms <= ctx.clock.now_ms() {
                match self.writer()?.write(&batch)? {
                    WriteStatus::Accepted => continue,
                    WriteStatus::Busy { until_ms } => self.parked_until_ms = until_ms,
                }
            }
            self.parked.push_front(batch);
            ctx.out.wake_at(self.parked_until_ms);
            return Ok(());
        }
        self.parked_until_ms = i64::MIN;
        Ok(())
    }

    fn on_event_now(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            OperatorEvent::BeforeBarrier(checkpoint) => {
                if let Some(until_ms) = self.not_flushed()? {
                    ctx.out.wake_at(until_ms);
                    self.work = Some(Work::Event(event));
                    return Ok(Progress::Blocked);
                }
                self.prepare(checkpoint, ctx)?;
            }
            OperatorEvent::EndOfData => self.ended = true,
            OperatorEvent::Watermark(at) => self.writer()?.on_watermark(at.0),
            OperatorEvent::Idle
            | OperatorEvent::Active
            | OperatorEvent::ProcessingTime(_)
            | OperatorEvent::EndOfInput(_) => {}
        }
        Ok(Progress::Done)
    }

    /// When to try again, if the writer still has to write before the barrier.
    fn not_flushed(&mut self) -> Result<Option<i64>> {
        let drained = self.drained;
        match self.writer()?.flush(drained)? {
            WriteStatus::Accepted => Ok(None),
            WriteStatus::Busy { until_ms } => Ok(Some(until_ms)),
        }
    }

    /// After the end of data: asks the writer to write all there is. Barriers pass meanwhile like any other; the last one does
    /// not come before this is done, since a task does not report the end of its data while an operator takes no input.
    fn drain(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        if !self.ended || self.drained || self.recovering || !self.parked.is_empty() {
            return Ok(());
        }
        if self.drain_at_ms <= ctx.clock.now_ms() {
            match self.writer()?.flush(true)? {
                WriteStatus::Accepted => {
                    self.drained = true;
                    return Ok(());
                }
                WriteStatus::Busy { until_ms } => self.drain_at_ms = until_ms,
            }
        }
        ctx.out.wake_at(self.drain_at_ms);
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId, ctx: &mut OperatorContext) -> Result<()> {
        let drained = self.drained;
        let writer = self.writer()?;
        let prepared = writer.prepare_commit(checkpoint, drained)?;
        let state = writer.snapshot()?;
        if !prepared.is_empty() && self.committer.is_none() {
            return Err(Error::bug("a sink without a committer prepared a commit"));
        }
        self.pending.extend(prepared);
        let items: Vec<Bytes> = self.pending.iter().map(encode_committable).collect();
        let parked = self.parked.iter().map(encode_batch).collect::<Result<Vec<_>>>()?;
        ctx.operator_state.set(COMMITTABLES_STATE, Redistribution::Split, items);
        ctx.operator_state.set(WRITER_STATE, Redistribution::Split, state);
        ctx.operator_state.set(PARKED_STATE, Redistribution::Split, parked);
        Ok(())
    }

    /// The writer's timer (rolling policies). After the end of data there is nothing to roll.
    fn on_time(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let now_ms = ctx.clock.now_ms();
        if self.ended {
            self.next_time_ms = None;
        } else if self.next_time_ms.is_some_and(|t| t <= now_ms) {
            self.next_time_ms = self.writer()?.on_processing_time(now_ms)?;
        }
        if let Some(at_ms) = self.next_time_ms {
            ctx.out.wake_at(at_ms);
        }
        Ok(())
    }

    /// Commits what a published checkpoint covers.
    fn commit_due(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let now_ms = ctx.clock.now_ms();
        if let Some(at_ms) = self.retry.as_ref().map(|r| r.at_ms).max(self.commit_poll_ms)
            && now_ms < at_ms
        {
            ctx.out.wake_at(at_ms);
            return Ok(());
        }
        self.commit_poll_ms = None;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|c| self.recovering || self.published.is_some_and(|p| c.checkpoint <= p));
        self.pending = later;
        match self.commit(&due) {
            Ok(()) => {
                self.retry = None;
                if std::mem::take(&mut self.recovering) {
                    self.start(ctx)?;
                }
                Ok(())
            }
            Err(CommitError::Pending { committed, until_ms }) => {
                self.pending.splice(0..0, due.into_iter().skip(committed));
                self.commit_poll_ms = Some(until_ms);
                ctx.out.wake_at(until_ms);
                Ok(())
            }
            Err(CommitError::Determinate(error)) => {
                self.pending.splice(0..0, due);
                self.retry_later(error, now_ms, ctx)
            }
            Err(CommitError::Indeterminate(error)) => {
                let error = error.context("a commit may or may not have happened");
                Err(error.hint(
                    "the job restarts from the last checkpoint and commits again, if its restart strategy allows",
                ))
            }
            Err(CommitError::Fatal(error)) => {
                let ids: Vec<&str> = due.iter().map(|c| c.id.as_str()).collect();
                Err(error.context(format_args!("a commit can never succeed: {}", ids.join(", "))))
            }
        }
    }

    fn commit(&mut self, due: &[Committable]) -> Result<(), CommitError> {
        match &mut self.committer {
            Some(committer) if !due.is_empty() => committer.commit(due),
            None if !due.is_empty() => Err(CommitError::Fatal(
                Error::user("sink.no-committer", "the checkpoint holds commits of a sink in two phases")
                    .detail("this sink commits nothing")
                    .hint("restore with the sink the checkpoint was taken with"),
            )),
            _ => Ok(()),
        }
    }

    fn retry_later(&mut self, error: Error, now_ms: i64, ctx: &mut OperatorContext) -> Result<()> {
        let attempts = self.retry.take().map_or(0, |r| r.attempts) + 1;
        if attempts >= self.options.commit_attempts {
            return Err(error.context(format_args!("a commit failed {attempts} times")));
        }
        tracing::warn!(sink = %ctx.name, attempts, %error, "a commit failed and will be tried again");
        let pause_ms = self.options.retry_backoff_ms.saturating_mul(1 << (attempts - 1).min(16));
        let at_ms = now_ms.saturating_add(pause_ms);
        ctx.out.wake_at(at_ms);
        self.retry = Some(Retry { attempts, at_ms });
        Ok(())
    }

    /// Restored commits are done: what dead attempts left behind goes, and writing begins.
    fn start(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        if let Some(committer) = &mut self.committer {
            committer.clean_up()?;
        }
        let now_ms = ctx.clock.now_ms();
        self.next_time_ms = self.writer()?.on_processing_time(now_ms)?;
        if let Some(at_ms) = self.next_time_ms {
            ctx.out.wake_at(at_ms);
        }
        Ok(())
    }
}

impl Operator for SinkOperator {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let context = SinkContext {
            job: ctx.job,
            operator: ctx.operator,
            subtask: ctx.subtask,
            parallelism: ctx.parallelism,
            attempt: ctx.attempt,
            run: self.run,
            clock: Arc::clone(&ctx.clock),
            config: Arc::clone(&ctx.config),
            memory: ctx.memory.clone(),
            metrics: Arc::clone(&ctx.metrics),
        };
        let restored = ctx.operator_state.take(WRITER_STATE);
        let committables = ctx.operator_state.take(COMMITTABLES_STATE);
        let parked = ctx.operator_state.take(PARKED_STATE);
        self.committer = self.sink.committer(context.clone())?;
        self.writer = Some(self.sink.writer(context, restored)?);
        self.pending = committables.iter().map(|b| decode_committable(b)).collect::<Result<_>>()?;
        self.pending.sort_by_key(|c| c.checkpoint);
        self.parked = parked.iter().map(|b| decode_batch(b)).collect::<Result<_>>()?;
        self.recovering = true;
        self.commit_due(ctx)?;
        self.write_parked(ctx)?;
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.work = Some(Work::Batch(batch));
        self.advance(ctx)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if matches!(event, OperatorEvent::EndOfInput(_)) {
            return Ok(Progress::Done);
        }
        self.work = Some(Work::Event(event));
        match (self.advance(ctx)?, event) {
            // A wake-up that came too soon for a retry is no work to keep.
            (Progress::Blocked, OperatorEvent::ProcessingTime(_)) => {
                self.work = None;
                Ok(Progress::Done)
            }
            (progress, _) => Ok(progress),
        }
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.advance(ctx)
    }

    fn notify(&mut self, notification: Notification, ctx: &mut OperatorContext) -> Result<()> {
        if let Notification::Completed(checkpoint) = notification {
            self.published = self.published.max(Some(checkpoint));
            self.commit_due(ctx)?;
        }
        Ok(())
    }

    fn accepts_input(&self) -> bool {
        !self.recovering && self.parked.is_empty() && self.work.is_none() && self.ended == self.drained
    }

    fn is_settled(&self) -> bool {
        let due = |c: &Committable| self.recovering || self.published.is_some_and(|p| c.checkpoint <= p);
        self.work.is_none() && self.parked.is_empty() && self.ended == self.drained && !self.pending.iter().any(due)
    }
}

#[cfg(test)]
mod tests;
