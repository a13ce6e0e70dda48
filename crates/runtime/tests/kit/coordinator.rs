//! A coordinator for tests: assigns splits, triggers checkpoints, publishes them at once, ends the job. As plain as can be.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use flott_core::element::{Barrier, BarrierOptions};
use flott_core::ids::{CheckpointId, OperatorId, SubtaskId};
use flott_core::operator::Notification;
use flott_core::snapshot::OperatorSubtaskState;
use flott_runtime::testing::MemoryChunks;
use flott_runtime::{TaskCommand, TaskEvent, TaskHandle, TaskListener, decode_split};

use super::{JobSpec, Restore, SOURCE, number_splits};

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
    acks: BTreeMap<OperatorId, Vec<OperatorSubtaskState>>,
    acked: usize,
    published: Vec<(CheckpointId, Restore)>,
}

pub struct Coordinator {
    spec: JobSpec,
    mode: Mode,
    splits: Vec<flott_core::source::Split>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Coordinator {
    pub fn new(spec: JobSpec, mode: Mode, restore: Option<&Restore>) -> Arc<Self> {
        let splits = match restore {
            None => number_splits(spec.rows),
            Some(r) => {
                let states = r[&SOURCE].iter().flat_map(|s| &s.operator_state);
                states.flat_map(|e| &e.items).map(|b| decode_split(b).expect("written by the source")).collect()
            }
        };
        let state = State { next_checkpoint: 1 + 1000 * u64::from(spec.attempt), ..State::default() };
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
    /// Waits until `done`, a minute at most.
    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
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
            let mine = |(i, _): &(usize, _)| *i as u32 % self.spec.sources == h.subtask().index;
            let splits = self.splits.iter().enumerate().filter(mine).map(|(_, s)| s.clone()).collect();
            h.send(TaskCommand::AssignSplits { splits, no_more: true }).expect("an empty mailbox");
        }
    }

    fn trigger(&self, s: &mut State, last: bool) {
        let checkpoint = CheckpointId(s.next_checkpoint);
        s.next_checkpoint += 1;
        s.in_flight = Some((checkpoint, last));
        s.acks.clear();
        s.acked = 0;
        let options = BarrierOptions { last, ..BarrierOptions::default() };
        let barrier = Barrier { checkpoint, triggered_ms: self.spec.clock.now_ms(), options };
        self.send(s, Self::is_source, &TaskCommand::Trigger(barrier));
    }

    fn on_cut(&self, s: &mut State, cut: flott_runtime::TaskCut) {
        assert_eq!(Some(cut.barrier.checkpoint), s.in_flight.map(|f| f.0), "only one checkpoint is in flight");
        for c in cut.cuts {
            let keyed = c.keyed.map(|k| k.write(&MemoryChunks).expect("memory takes it"));
            let state = OperatorSubtaskState { operator: c.operator, keyed, operator_state: c.operator_state };
            s.acks.entry(c.operator).or_default().push(state);
        }
        s.acked += 1;
        if s.acked < s.handles.len() {
            return;
        }
        let Some((checkpoint, last)) = s.in_flight.take() else { return };
        let acks = std::mem::take(&mut s.acks);
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
                    self.assign(&s);
                    self.trigger_next(&mut s);
                }
            }
            TaskEvent::Cut(cut) => self.on_cut(&mut s, cut),
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
