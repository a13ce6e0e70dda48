//! Hands figures to the history of checkpoints, tells what it finds, and holds the state to its budget. Looks at counters only; no task waits
//! for it.

use std::collections::BTreeMap;

use flott_checkpoint::stats::Diagnosis;
use flott_core::config::keys;
use flott_core::error::Error;
use flott_core::memory::{MemoryUse, size};

use super::JobDriver;
use crate::job_master::Event;
use crate::progress::StateSize;

/// Between two looks at all counters; the figures of a checkpoint are at most this much off.
const LOOK_EVERY_MS: i64 = 100;
/// From this share of its budget on, state is told of.
const NEARLY_FULL: f64 = 0.8;

/// When the job master looked, and what it has told.
#[derive(Debug, Default)]
pub(super) struct Looks {
    looked_ms: Option<i64>,
    weighed_ms: Option<i64>,
    /// Bytes of state from which on it is told again.
    state_told_bytes: usize,
    /// The held-back reservations that were told.
    refused_told: BTreeMap<&'static str, usize>,
}

impl JobDriver {
    /// Looks at all counters, unless that was just done, and tells what takes long.
    pub(super) fn look(&mut self, now_ms: i64) {
        if !is_due(&mut self.looks.looked_ms, now_ms) {
            return;
        }
        let mut figures = self.board.figures(now_ms);
        figures.storage = self.storage.slow_calls();
        figures.storage_endpoint = self.storage.uri();
        let running = self.master.is_running();
        let stats = self.master.coordinator_mut().stats_mut();
        stats.observe(figures);
        if running {
            stats.watch(now_ms);
        }
        let stats = self.master.coordinator().stats();
        self.board.set_late_messages(stats.late_messages);
        if let Some(age_ms) =
            stats.recovery_point_age_ms(now_ms).filter(|_| self.options.checkpoint.interval_ms.is_some())
        {
            self.board.set_recovery_point(now_ms - age_ms);
        }
        self.tell_diagnoses();
    }

    /// What is due every now and then, between events: it may fail the job.
    pub(super) fn look_after(&mut self, now_ms: i64) {
        self.look(now_ms);
        if is_due(&mut self.looks.weighed_ms, now_ms) {
            self.weigh_state();
            self.tell_refusals();
        }
    }

    /// Tells what the history found.
    pub(super) fn tell_diagnoses(&mut self) {
        for diagnosis in self.master.coordinator_mut().stats_mut().take_diagnoses() {
            tracing::warn!(target: "flott::diagnosis", job = %self.description.name, "{diagnosis}");
            self.board.diagnosis(diagnosis);
        }
    }

    /// Compares the state of all operators with its budget.
    fn weigh_state(&mut self) {
        let sizes = self.board.state_sizes();
        let used: usize = sizes.iter().map(|s| s.bytes).sum();
        self.state_memory.resize(used);
        let limit = self.memory.limit_bytes(MemoryUse::State);
        let all = self.memory.used_bytes(MemoryUse::State);
        if limit == usize::MAX || (all as f64) < limit as f64 * NEARLY_FULL || !self.master.is_running() {
            return;
        }
        let Some(largest) = sizes.first() else { return };
        let error = over_budget(largest, all, limit);
        if all > limit && self.options.fails_over_state_budget {
            let attempt = self.master.attempt();
            return self.step(Event::Failed { attempt, error });
        }
        if all >= self.looks.state_told_bytes {
            self.looks.state_told_bytes = all.saturating_add(limit / 5);
            let diagnosis = Diagnosis::from(error);
            tracing::warn!(target: "flott::diagnosis", job = %self.description.name, "{diagnosis}");
            self.board.diagnosis(diagnosis);
        }
    }

    /// Says once, and again at every tenfold, that somebody had to wait for memory.
    fn tell_refusals(&mut self) {
        for f in self.memory.figures() {
            let next = self.looks.refused_told.entry(f.of.name()).or_insert(1);
            if f.refused >= *next {
                *next = f.refused.saturating_mul(10);
                tracing::info!(
                    "memory: {} is bounded to {} ({} used at most) and waited {} times for room",
                    f.of.name(),
                    size(f.limit_bytes as u64),
                    size(f.peak_bytes as u64),
                    f.refused
                );
            }
        }
    }
}

/// Whether so much time has passed since `last`, which is then now.
fn is_due(last: &mut Option<i64>, now_ms: i64) -> bool {
    let due = last.is_none_or(|at| now_ms.saturating_sub(at) >= LOOK_EVERY_MS || now_ms < at);
    if due {
        *last = Some(now_ms);
    }
    due
}

/// State has outgrown its budget, or nearly: names the largest operator.
fn over_budget(largest: &StateSize, used: usize, limit: usize) -> Error {
    let of = if used > limit { "more than" } else { "nearly all of" };
    let text = format!(
        "state takes {}, {of} its budget of {}: operator \"{}\" holds {} in {} subtasks: expire its state ({}), give it more memory \
         ({} or {}), or spread it over more processes; it cannot be moved to disk",
        size(used as u64),
        size(limit as u64),
        largest.operator,
        size(largest.bytes as u64),
        largest.subtasks,
        keys::STATE_TTL,
        keys::MEMORY_MANAGED,
        keys::MEMORY_PROCESS
    );
    Error::user("memory.state", text)
}
