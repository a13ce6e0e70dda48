//! The coordinator's data and what must always hold of it; decisions are in `step`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flott_core::snapshot::SubtaskState;
use flott_core::{CheckpointId, OperatorId, SubtaskId, VertexId};

use super::CheckpointOptions;
use crate::stats::CheckpointStatsHistory;

/// Ids of ended checkpoints remembered to tell late messages from unknown ones, as in Flink.
pub(super) const GHOSTS_MAX: usize = 16;
/// Manual requests that wait at the same time, as in Flink.
pub(super) const REQUESTS_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    NotRunning,
    Running,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for the enumerators' state.
    Capturing,
    /// Waits for acknowledgements.
    Collecting,
    /// All acknowledged; another checkpoint is being published.
    Complete,
    /// Handed to the storage: it may exist already, so it can no longer be given up here.
    Publishing,
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub triggered_ms: i64,
    pub deadline_ms: i64,
    pub completed_ms: i64,
    pub savepoint: bool,
    pub last: bool,
    /// Attempt of the job that takes it.
    pub attempt: u64,
    pub stage: Stage,
    pub acked: BTreeMap<SubtaskId, SubtaskState>,
    pub coordinator_states: Vec<(OperatorId, Vec<u8>)>,
}

/// The checkpoint after the end of all data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Final {
    NotDue,
    Due { at_ms: i64 },
    Pending(CheckpointId),
    Done(CheckpointId),
}

/// Decides when checkpoints are taken and what becomes of them. See [`super`].
#[derive(Clone, Debug)]
pub struct CheckpointCoordinator {
    pub(super) options: CheckpointOptions,
    pub(super) phase: Phase,
    pub(super) attempt: u64,
    pub(super) subtasks: BTreeSet<SubtaskId>,
    pub(super) ended: BTreeSet<SubtaskId>,
    pub(super) next_id: u64,
    pub(super) pending: BTreeMap<CheckpointId, Pending>,
    pub(super) next_periodic_ms: Option<i64>,
    pub(super) last_completed_ms: Option<i64>,
    /// Manual requests; `true`: a savepoint.
    pub(super) requests: VecDeque<bool>,
    pub(super) given_up: VecDeque<CheckpointId>,
    pub(super) completed: VecDeque<CheckpointId>,
    pub(super) consecutive_failures: u32,
    pub(super) final_checkpoint: Final,
    pub(super) wake_ms: Option<i64>,
    pub(super) stats: CheckpointStatsHistory,
}

impl CheckpointCoordinator {
    /// A coordinator whose first checkpoint is `next`; `names` are those of the vertices, for sentences.
    pub fn new(options: CheckpointOptions, next: CheckpointId, names: BTreeMap<VertexId, String>) -> Self {
        let mut stats = CheckpointStatsHistory::new(options.history_size, names);
        stats.set_thresholds(options.thresholds());
        CheckpointCoordinator {
            options,
            phase: Phase::NotRunning,
            attempt: 0,
            subtasks: BTreeSet::new(),
            ended: BTreeSet::new(),
            next_id: next.0.max(1),
            pending: BTreeMap::new(),
            next_periodic_ms: None,
            last_completed_ms: None,
            requests: VecDeque::new(),
            given_up: VecDeque::new(),
            completed: VecDeque::new(),
            consecutive_failures: 0,
            final_checkpoint: Final::NotDue,
            wake_ms: None,
            stats,
        }
    }
    /// The history.
    pub fn stats(&self) -> &CheckpointStatsHistory {
        &self.stats
    }
    /// The history, to record a restore or a deleted checkpoint.
    pub fn stats_mut(&mut self) -> &mut CheckpointStatsHistory {
        &mut self.stats
    }
    /// The checkpoint that the storage is publishing. Until it answers, no restore point may be chosen.
    pub fn publishing(&self) -> Option<CheckpointId> {
        self.pending.iter().find(|(_, p)| p.stage == Stage::Publishing).map(|(id, _)| *id)
    }
    /// When the next [`super::Event::Tick`] is due: the last [`super::Action::WakeAt`]. `None`: nothing waits for time.
    pub fn wake_at_ms(&self) -> Option<i64> {
        self.wake_ms
    }
    /// Checkpoints that are not decided yet.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointId> {
        self.pending.keys().copied()
    }
    /// The id of the next checkpoint.
    pub fn next_id(&self) -> CheckpointId {
        CheckpointId(self.next_id)
    }
    /// Whether the final checkpoint is complete.
    pub fn is_final_completed(&self) -> bool {
        matches!(self.final_checkpoint, Final::Done(_))
    }

    /// What must always hold; the sentence says what does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        let check = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
        check(self.pending.keys().all(|id| id.0 < self.next_id), "a pending checkpoint has an id not given out yet")?;
        let publishing = self.pending.values().filter(|p| p.stage == Stage::Publishing).count();
        check(publishing <= 1, "two checkpoints are being published")?;
        let limited = self.pending.values().filter(|p| !p.savepoint && !p.last && p.attempt == self.attempt).count();
        check(
            limited <= self.options.max_concurrent.max(1) as usize,
            "more than max-concurrent checkpoints are pending",
        )?;
        for p in self.pending.values() {
            let current = p.attempt == self.attempt && self.phase == Phase::Running;
            check(current || p.stage == Stage::Publishing, "a checkpoint outlived its attempt")?;
            let complete = matches!(p.stage, Stage::Complete | Stage::Publishing);
            if current {
                check(p.acked.keys().all(|s| self.subtasks.contains(s)), "an unknown subtask acknowledged")?;
                check(complete == (p.acked.len() == self.subtasks.len()), "acknowledgements and stage disagree")?;
            }
        }
        match self.final_checkpoint {
            Final::Pending(id) => check(self.pending.get(&id).is_some_and(|p| p.last), "the final checkpoint is lost")?,
            Final::Done(id) => check(!self.pending.contains_key(&id), "the final checkpoint is done and pending")?,
            Final::Due { .. } => check(self.phase == Phase::Running, "a final checkpoint is due in no attempt")?,
            Final::NotDue => {
                let all_ended = self.phase == Phase::Running
                    && !self.subtasks.is_empty()
                    && self.ended.len() == self.subtasks.len();
                check(!all_ended, "all subtasks ended and no final checkpoint is due")?;
            }
        }
        check(self.ended.is_subset(&self.subtasks), "an unknown subtask ended")?;
        check(self.given_up.len() <= GHOSTS_MAX && self.completed.len() <= GHOSTS_MAX, "too many ids are remembered")?;
        check(self.requests.len() <= REQUESTS_MAX, "too many requests wait")?;
        check(self.phase == Phase::Running || self.requests.is_empty(), "requests wait while the job does not run")
    }
}
