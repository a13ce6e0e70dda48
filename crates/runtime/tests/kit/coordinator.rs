//! A coordinator for tests: assigns splits, triggers checkpoints, publishes them at once, ends the job. As plain as can be.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use flott_core::element::{Barrier, BarrierOptions};
use flott_core::encoding::decode_split;
use flott_core::ids::{CheckpointId, OperatorId, SubtaskId};
use flott_core::operator::Notification;
use flott_core::snapshot::OperatorSubtaskState;
use flott_core::task::TaskCommand;
use flott_core::time::SystemClock;
use flott_runtime::testing::MemoryChunks;
use flott_runtime::{TaskEvent, TaskHandle, TaskListener};

use super::{JobSpec, MIDDLE, POISON, Restore, SINK, SOURCE, SUM, number_splits};

/// What the coordinator does besides ending the job.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// Only the final checkpoint.
    Run,
    /// A checkpoint as soon as the job runs and whenever one is complete, until the data ends.
    Checkpoints,
    /// Assigns no splits and does nothing else.
    Silent,
}

#[derive(Default)]
struct State {
    handles: Vec<TaskHandle>,
    running: usize,
    ended: usize,
    over: usize,
    log: Vec<String>,
    next_checkpoint: u64,
    in_flight: Option<(CheckpointId, bool)>,
    acks: Restore,
    acked: usize,
    /// What a rescaled checkpoint held is put in operator by operator, the last first, each followed through the vertices behind
    /// it: the steps to come, and how many subtasks have not answered the present one.
    drains: VecDeque<(OperatorId, OperatorId)>,
    draining: usize,
    published: Vec<(CheckpointId, Restore)>,
    aborted: Vec<CheckpointId>,
    triggered_ms: i64,
    /// Trigger to publication of every checkpoint.
    took_ms: Vec<i64>,
}

pub struct Coordinator {
    spec: JobSpec,
    mode: Mode,
    /// With the reader of each.
    splits: Vec<(u32, flott_core::source::Split)>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Coordinator {
    pub fn new(spec: JobSpec, mode: Mode, restore: Option<&Restore>) -> Arc<Self> {
        let spread = |(i, s)| (i as u32 % spec.sources, s);
        let splits = match restore {
            None => number_splits(spec.rows).into_iter().enumerate().map(spread).collect(),
            Some(r) => {
                let items = r.states[&SOURCE].iter().flat_map(|(i, s)| s.operator_state.iter().map(move |e| (*i, e)));
                let items = items.flat_map(|(i, e)| e.items.iter().map(move |b| (i, b)));
                let all = items.map(|(i, b)| (i, decode_split(b).expect("written by the source")));
                match r.parallelism.0 == spec.sources {
                    // What was in flight stays in front of what its source reads next.
                    true => all.collect(),
                    false => all.map(|(_, s)| s).enumerate().map(spread).collect(),
                }
            }
        };
        let mut drains = VecDeque::new();
        if restore.is_some_and(|r| r.parallelism != (spec.sources, spec.middles, spec.sums)) {
            drains.extend([SINK, SUM].map(|o| (o, SUM)));
            if spec.middles > 0 {
                drains.extend([(MIDDLE, MIDDLE), (MIDDLE, SUM), (POISON, SOURCE), (POISON, MIDDLE), (POISON, SUM)]);
            } else {
                drains.extend([(POISON, SOURCE), (POISON, SUM)]);
            }
        }
        let state = State { next_checkpoint: 1 + 1000 * u64::from(spec.attempt), drains, ..State::default() };
        Arc::new(Coordinator { spec, mode, splits, state: Mutex::new(state), changed: Condvar::new() })
    }
    pub fn attach(&self, handles: &[TaskHandle]) {
        self.lock().handles = handles.to_vec();
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a listener does not panic")
    }
    pub fn is_over(&self) -> bool {
        let s = self.lock();
        s.over == s.handles.len()
    }
    /// What the tasks said, in order; only ends and failures are kept.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }
    /// Published checkpoints.
    pub fn published(&self) -> Vec<(CheckpointId, Restore)> {
        self.lock().published.clone()
    }
    /// What the checkpoints took, in milliseconds.
    pub fn took_ms(&self) -> Vec<i64> {
        self.lock().took_ms.clone()
    }
    /// Waits until `done`, a minute at most.
    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = SystemClock::shared();
        let until_ns = clock.now_nanos() + 60_000_000_000;
        // Each event ends the pause: what is counted is time, not pauses.
        while clock.now_nanos() < until_ns {
            if done(self) {
                return;
            }
            let guard = self.lock();
            drop(self.changed.wait_timeout(guard, Duration::from_millis(10)).expect("a listener does not panic"));
        }
        panic!("waited a minute until {what}: {:?}", self.log());
    }

    fn send(&self, s: &State, to: impl Fn(&TaskHandle) -> bool, command: &TaskCommand) {
        for h in s.handles.iter().filter(|h| to(h)) {
            // A task that has ended on its own needs no command.
            let _ = h.send(command.clone());
        }
    }
    fn is_source(h: &TaskHandle) -> bool {
        h.subtask().vertex.0 == SOURCE.0
    }

    fn assign(&self, s: &State) {
        for h in s.handles.iter().filter(|h| Self::is_source(h)) {
            let mine = |(i, _): &&(u32, _)| *i == h.subtask().index;
            let splits = self.splits.iter().filter(mine).map(|(_, s)| s.clone()).collect();
            h.send(TaskCommand::AssignSplits { splits, no_more: true }).expect("an empty mailbox");
        }
    }

    /// The next step of putting in what a rescaled checkpoint held; after the last the job begins.
    fn drain_next(&self, s: &mut State) {
        let Some((operator, vertex)) = s.drains.pop_front() else {
            self.send(s, |_| true, &TaskCommand::Resume);
            self.assign(s);
            return self.trigger_next(s);
        };
        s.draining = s.handles.iter().filter(|h| h.subtask().vertex.0 == vertex.0).count();
        self.send(s, |h| h.subtask().vertex.0 == vertex.0, &TaskCommand::Drain { operator, sent: Vec::new() });
    }

    fn trigger(&self, s: &mut State, last: bool) {
        let checkpoint = CheckpointId(s.next_checkpoint);
        s.next_checkpoint += 1;
        s.in_flight = Some((checkpoint, last));
        s.acks = Restore { parallelism: (self.spec.sources, self.spec.middles, self.spec.sums), ..Restore::default() };
        s.acked = 0;
        let unaligned_after_ms = self.spec.unaligned_after_ms.filter(|_| !last);
        let options = BarrierOptions { last, unaligned_after_ms, ..BarrierOptions::default() };
        s.triggered_ms = self.spec.clock.now_ms();
        let barrier = Barrier { checkpoint, triggered_ms: s.triggered_ms, options };
        self.send(s, Self::is_source, &TaskCommand::Trigger(barrier));
    }

    fn on_cut(&self, s: &mut State, subtask: SubtaskId, cut: flott_runtime::TaskCut) {
        let checkpoint = cut.barrier.checkpoint;
        if s.aborted.contains(&checkpoint) {
            return;
        }
        assert_eq!(Some(checkpoint), s.in_flight.map(|f| f.0), "only one checkpoint is in flight");
        let given_up = self.spec.abort_every > 0 && checkpoint.0.is_multiple_of(self.spec.abort_every);
        if given_up && !cut.barrier.options.last {
            s.aborted.push(checkpoint);
            s.in_flight = None;
            self.send(s, |_| true, &TaskCommand::Notify(Notification::Aborted(checkpoint)));
            return self.trigger_next(s);
        }
        for c in cut.cuts {
            let keyed = c.keyed.map(|k| k.write(&MemoryChunks).expect("memory takes it"));
            let state = OperatorSubtaskState { operator: c.operator, keyed, operator_state: c.operator_state };
            s.acks.states.entry(c.operator).or_default().push((subtask.index, state));
        }
        assert!(cut.unaligned || cut.in_flight.is_empty(), "aligned barriers overtake nothing");
        s.acks.in_flight.extend(cut.in_flight.write(subtask.index, &MemoryChunks).expect("memory takes it"));
        s.acked += 1;
        if s.acked < s.handles.len() {
            return;
        }
        let Some((checkpoint, last)) = s.in_flight.take() else { return };
        let mut acks = std::mem::take(&mut s.acks);
        acks.states.values_mut().for_each(|subtasks| subtasks.sort_by_key(|(i, _)| *i));
        s.took_ms.push(self.spec.clock.now_ms() - s.triggered_ms);
        s.published.push((checkpoint, acks));
        self.send(s, |_| true, &TaskCommand::Notify(Notification::Completed(checkpoint)));
        if last {
            self.send(s, |_| true, &TaskCommand::FinishJob);
        } else {
            self.trigger_next(s);
        }
    }

    fn trigger_next(&self, s: &mut State) {
        if s.in_flight.is_some() {
            return;
        }
        if s.ended == s.handles.len() {
            self.trigger(s, true);
        } else if self.mode == Mode::Checkpoints {
            self.trigger(s, false);
        }
    }
}

impl TaskListener for Coordinator {
    fn on_event(&self, subtask: SubtaskId, attempt: u32, event: TaskEvent) {
        assert_eq!(attempt, self.spec.attempt);
        let mut s = self.lock();
        match event {
            TaskEvent::Running => {
                s.running += 1;
                if s.running == s.handles.len() && self.mode != Mode::Silent {
                    self.drain_next(&mut s);
                }
            }
            TaskEvent::Cut(cut) => self.on_cut(&mut s, subtask, cut),
            TaskEvent::Drained(..) => {
                s.draining -= 1;
                if s.draining == 0 {
                    self.drain_next(&mut s);
                }
            }
            TaskEvent::Declined { checkpoint, .. } if s.aborted.contains(&checkpoint) => {}
            TaskEvent::Declined { checkpoint, reason } => s.log.push(format!("declined {checkpoint}: {reason}")),
            TaskEvent::EndOfData => {
                s.ended += 1;
                self.trigger_next(&mut s);
            }
            TaskEvent::Finished => {
                s.over += 1;
                s.log.push("finished".into());
            }
            TaskEvent::Failed(e) => {
                s.over += 1;
                s.log.push(format!("failed: {e}"));
                let failed = subtask;
                self.send(&s, |h| h.subtask() != failed, &TaskCommand::Cancel);
            }
            TaskEvent::Canceled => {
                s.over += 1;
                s.log.push("canceled".into());
            }
        }
        drop(s);
        self.changed.notify_all();
    }
}
