//! Looks at what has not ended: checkpoints and commits under way, and the age of the last usable checkpoint. Collects sentences for the
//! driver to tell; decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flott_core::CheckpointId;

use super::figures::{Figures, Load, Topology};
use super::path::{Phase, Segment, critical_path};
use super::sentences::Diagnosis;
use super::{CheckpointRecord, CheckpointStatsHistory, Status};

/// Sentences that wait to be told; the oldest go first.
const UNTOLD_MAX: usize = 64;
/// So many checkpoints in a row must take longer than their interval before that is told.
const OVERRUNS: u32 = 3;

/// When something takes long enough to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A checkpoint or a commit.
    pub slow_ms: i64,
    /// The time without a completed checkpoint; `None`: none are taken.
    pub stale_ms: Option<i64>,
    /// The interval that checkpoints should fit into.
    pub interval_ms: Option<i64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { slow_ms: 30_000, stale_ms: None, interval_ms: None }
    }
}

/// What is being watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    pub thresholds: Thresholds,
    figures: Arc<Figures>,
    /// Figures at the trigger of the checkpoints under way.
    since: BTreeMap<CheckpointId, Arc<Figures>>,
    untold: VecDeque<Diagnosis>,
    /// Age at which a checkpoint under way is told again.
    slow_at_ms: BTreeMap<CheckpointId, i64>,
    commit: Option<Commit>,
    /// Since when there has been no newer recovery point.
    recovery_ms: Option<i64>,
    stale_at_ms: i64,
    last_failure: Option<(i64, Diagnosis)>,
    /// Checkpoints in a row that took longer than their interval.
    overrun: u32,
}

/// A commit that is waiting for a server.
#[derive(Clone, Debug)]
struct Commit {
    checkpoint: CheckpointId,
    /// What the checkpoint took: it may leave the history before its commit ends.
    took_ms: i64,
    since_ms: i64,
    /// The call seen last, and the calls that had been tried again by then.
    call_ms: i64,
    retries: u64,
    waited_ms: i64,
    tell_at_ms: i64,
}

impl CheckpointStatsHistory {
    /// The graph that sentences speak of.
    pub fn set_topology(&mut self, topology: Topology) {
        self.topology = topology;
    }
    /// When something is told.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.watch.thresholds = thresholds;
    }
    /// The counters of all tasks now. To be handed in before an event that may trigger or end a checkpoint.
    pub fn observe(&mut self, figures: Figures) {
        self.watch.figures = Arc::new(figures);
    }
    /// An attempt runs: from here on a job without a checkpoint has no recovery point.
    pub fn started(&mut self, now_ms: i64) {
        let watch = &mut self.watch;
        watch.recovery_ms.get_or_insert(now_ms);
        watch.stale_at_ms = watch.stale_at_ms.max(watch.thresholds.stale_ms.unwrap_or(0));
    }
    /// Time since the last completed checkpoint, or since the start when there is none.
    pub fn recovery_point_age_ms(&self, now_ms: i64) -> Option<i64> {
        self.watch.recovery_ms.map(|at| now_ms.saturating_sub(at).max(0))
    }
    /// Sentences that came up since the last call, oldest first.
    pub fn take_diagnoses(&mut self) -> Vec<Diagnosis> {
        self.watch.untold.drain(..).collect()
    }

    /// Looks at what is under way. To be called every second or so, after [`Self::observe`].
    pub fn watch(&mut self, now_ms: i64) {
        self.watch_pending(now_ms);
        self.watch_commit(now_ms);
        self.watch_age(now_ms);
    }

    pub(super) fn watch_triggered(&mut self, id: CheckpointId) {
        self.watch.since.insert(id, Arc::clone(&self.watch.figures));
    }

    /// The path of a checkpoint that ended, or so far.
    pub(super) fn path_of(&self, record: &CheckpointRecord, now_ms: i64) -> (super::path::CriticalPath, Load) {
        let load = match self.watch.since.get(&record.id) {
            Some(since) => Load::between(since, &self.watch.figures),
            None => Load::default(),
        };
        (critical_path(record, &self.topology, &load, now_ms), load)
    }

    pub(super) fn watch_completed(&mut self, record: &mut CheckpointRecord, now_ms: i64) {
        let (path, load) = self.path_of(record, now_ms);
        if record.duration_ms() >= self.watch.thresholds.slow_ms {
            let diagnosis = self.slow_sentence(record, &path, &load, now_ms);
            record.diagnosis = Some(diagnosis.clone());
            self.tell(diagnosis);
        }
        record.critical_path = path;
        self.watch_interval(record);
        self.forget(record.id);
        self.watch.recovery_ms = Some(now_ms);
        self.watch.stale_at_ms = self.watch.thresholds.stale_ms.unwrap_or(0);
    }

    /// Checkpoints that take longer than their interval leave the job no pause.
    fn watch_interval(&mut self, record: &CheckpointRecord) {
        let took_ms = record.duration_ms();
        let Some(interval_ms) = self.watch.thresholds.interval_ms.filter(|i| took_ms >= *i && !record.savepoint) else {
            self.watch.overrun = 0;
            return;
        };
        self.watch.overrun = self.watch.overrun.saturating_add(1);
        if self.watch.overrun >= OVERRUNS
            && (self.watch.overrun / OVERRUNS).is_power_of_two()
            && self.watch.overrun.is_multiple_of(OVERRUNS)
        {
            let diagnosis = self.overrun_sentence(self.watch.overrun, interval_ms, took_ms);
            self.tell(diagnosis);
        }
    }

    /// Gives the record its sentence; a checkpoint that was given up for another's sake, or because the job ends, has none.
    pub(super) fn watch_failed(&mut self, record: &mut CheckpointRecord, now_ms: i64, (reason, detail): (&str, &str)) {
        let (path, load) = self.path_of(record, now_ms);
        let expected = ["CHECKPOINT_SUBSUMED", "CHECKPOINT_COORDINATOR_SUSPEND", "CHECKPOINT_COORDINATOR_SHUTDOWN"]
            .contains(&reason);
        if !expected {
            let diagnosis = self.failure_sentence(record, (reason, detail), &path, &load);
            record.diagnosis = Some(diagnosis.clone());
            self.watch.last_failure = Some((now_ms, diagnosis.clone()));
            self.tell(diagnosis);
        }
        record.critical_path = path;
        self.forget(record.id);
    }

    fn forget(&mut self, id: CheckpointId) {
        self.watch.since.remove(&id);
        self.watch.slow_at_ms.remove(&id);
    }

    fn tell(&mut self, diagnosis: Diagnosis) {
        if self.watch.untold.len() == UNTOLD_MAX {
            self.watch.untold.pop_front();
        }
        self.watch.untold.push_back(diagnosis);
    }

    fn watch_pending(&mut self, now_ms: i64) {
        let slow_ms = self.watch.thresholds.slow_ms.max(1);
        let mut late = Vec::new();
        for record in self.pending.values() {
            let age_ms = now_ms.saturating_sub(record.triggered_ms);
            // One that is only a little slow is told once, when it is done.
            let first_ms = slow_ms.saturating_mul(2);
            if age_ms >= self.watch.slow_at_ms.get(&record.id).copied().unwrap_or(first_ms) {
                let (path, load) = self.path_of(record, now_ms);
                late.push((record.id, age_ms, self.slow_sentence(record, &path, &load, now_ms)));
            }
        }
        for (id, age_ms, diagnosis) in late {
            self.watch.slow_at_ms.insert(id, age_ms.saturating_mul(2));
            if let Some(record) = self.pending.get_mut(&id) {
                record.diagnosis = Some(diagnosis.clone());
            }
            self.tell(diagnosis);
        }
    }

    fn watch_commit(&mut self, now_ms: i64) {
        let calls = self.watch.figures.tasks.values().flat_map(|t| &t.external);
        let commits = calls.filter_map(|e| e.calling.as_ref().map(|c| (e, c)));
        let longest = commits.filter(|(_, c)| c.what.starts_with("commit")).min_by_key(|(_, c)| c.since_ms);
        let Some((server, call)) = longest else {
            if let Some(commit) = self.watch.commit.take() {
                self.commit_took(&commit);
            }
            return;
        };
        let (endpoint, what) = (server.endpoint.clone(), call.what.clone());
        let (call_ms, retries) = (call.since_ms, server.retries);
        // The same call, or the next try of it.
        let known = self.watch.commit.take().filter(|c| c.call_ms == call_ms || retries > c.retries);
        let covered =
            |r: &&CheckpointRecord| r.status == Status::Completed && r.end_ms.is_some_and(|end| end <= call_ms);
        let fresh = || {
            let record = self.ended.iter().rev().chain(&self.latest_completed).find(covered)?;
            Some(Commit {
                checkpoint: record.id,
                took_ms: record.duration_ms(),
                since_ms: call_ms,
                call_ms,
                retries,
                waited_ms: 0,
                tell_at_ms: self.watch.thresholds.slow_ms.max(1),
            })
        };
        let Some(commit) = known.or_else(fresh) else { return };
        let mut commit = Commit { call_ms, retries, ..commit };
        let waited_ms = now_ms.saturating_sub(commit.since_ms).max(0);
        commit.waited_ms = waited_ms;
        if waited_ms >= commit.tell_at_ms {
            commit.tell_at_ms = waited_ms.saturating_mul(2);
            let id = commit.checkpoint;
            let diagnosis = self.commit_sentence((id, commit.took_ms), &endpoint, &what, waited_ms);
            self.amend(id, |r| r.diagnosis = Some(diagnosis.clone()));
            self.tell(diagnosis);
        }
        self.commit_took(&commit);
        self.watch.commit = Some(commit);
    }

    /// Notes what a commit took, so far or in all.
    fn commit_took(&mut self, commit: &Commit) {
        let (id, ms) = (commit.checkpoint, commit.waited_ms);
        self.amend(id, |r| {
            r.critical_path.segments.retain(|s| s.phase != Phase::Commit);
            if ms > 0 {
                r.critical_path.segments.push(Segment { phase: Phase::Commit, at: None, behind: None, ms });
            }
        });
    }

    fn amend(&mut self, id: CheckpointId, change: impl Fn(&mut CheckpointRecord)) {
        let latest = [&mut self.latest_completed, &mut self.latest_savepoint].into_iter().flatten();
        latest.chain(self.ended.iter_mut()).filter(|r| r.id == id).for_each(change);
    }

    fn watch_age(&mut self, now_ms: i64) {
        let Some(age_ms) = self.recovery_point_age_ms(now_ms).filter(|_| self.watch.thresholds.stale_ms.is_some())
        else {
            return;
        };
        if age_ms < self.watch.stale_at_ms.max(1) {
            return;
        }
        self.watch.stale_at_ms = age_ms.saturating_mul(2);
        let since = now_ms.saturating_sub(age_ms);
        let failed = self.watch.last_failure.as_ref().filter(|(at, _)| *at >= since).map(|(_, d)| d);
        let under_way = self.pending.values().find_map(|r| r.diagnosis.as_ref());
        let diagnosis = self.stale_sentence(age_ms, under_way.or(failed));
        self.tell(diagnosis);
    }
}
