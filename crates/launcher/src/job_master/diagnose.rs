//! Hands figures to the history of checkpoints, tells what it finds, and holds the state to its budget. Looks at counters only; no task waits
//! for it.

use std::collections::BTreeMap;

use flott_checkpoint::stats::Diagnosis;
use flott_core::config::keys;
use flott_core::error::Error;
use flott_core::memory::MemoryUse;

use super::{JobMaster, State};
use crate::memory::size;
use crate::progress::StateSize;

/// Between two looks at all counters; the figures of a checkpoint are at most this much off.
const LOOK_EVERY_MS: i64 = 100;
/// From this share of its budget on, state is told of.
const NEARLY_FULL: f64 = 0.8;

/// When the job master looked, and what it has told.
#[derive(Debug, Default)]
pub(super) struct Looks {
    looked_ms: Option<i64>,
    /// Bytes of state from which on it is told again.
    state_told_bytes: usize,
    /// The held-back reservations that were told.
    refused_told: BTreeMap<&'static str, usize>,
}

impl JobMaster {
    /// Looks at all counters, unless that was just done, and tells what takes long. Returns whether it looked.
    pub(super) fn look(&mut self, now_ms: i64) -> bool {
        if self.looks.looked_ms.is_some_and(|at| now_ms.saturating_sub(at) < LOOK_EVERY_MS && now_ms >= at) {
            return false;
        }
        self.looks.looked_ms = Some(now_ms);
        let mut figures = self.parts.board.figures(now_ms);
        figures.storage = self.parts.storage.slow_calls();
        figures.storage_endpoint = self.parts.storage.uri();
        let stats = self.parts.coordinator.stats_mut();
        stats.observe(figures);
        if matches!(self.state, State::Running { .. }) {
            stats.watch(now_ms);
        }
        let stats = self.parts.coordinator.stats();
        self.parts.board.set_late_messages(stats.late_messages);
        if let Some(age_ms) =
            stats.recovery_point_age_ms(now_ms).filter(|_| self.parts.options.checkpoint.interval_ms.is_some())
        {
            self.parts.board.set_recovery_point(now_ms - age_ms);
        }
        self.tell_diagnoses();
        true
    }

    /// What is due every now and then, between events: it may fail the job.
    pub(super) fn look_after(&mut self, now_ms: i64) {
        if self.look(now_ms) {
            self.weigh_state();
            self.tell_refusals();
        }
    }

    /// Tells what the history found.
    pub(super) fn tell_diagnoses(&mut self) {
        for diagnosis in self.parts.coordinator.stats_mut().take_diagnoses() {
            tracing::warn!(target: "flott::diagnosis", job = %self.parts.description.name, "{diagnosis}");
            self.parts.board.diagnosis(diagnosis);
        }
    }

    /// Compares the state of all operators with its budget.
    fn weigh_state(&mut self) {
        let sizes = self.parts.board.state_sizes();
        let used: usize = sizes.iter().map(|s| s.bytes).sum();
        self.state_memory.resize(used);
        let limit = self.parts.memory.limit_bytes(MemoryUse::State);
        let all = self.parts.memory.used_bytes(MemoryUse::State);
        if limit == usize::MAX
            || (all as f64) < limit as f64 * NEARLY_FULL
            || !matches!(self.state, State::Running { .. })
        {
            return;
        }
        let Some(largest) = sizes.first() else { return };
        let error = over_budget(largest, all, limit);
        if all > limit && self.parts.options.fails_over_state_budget {
            return self.on_failure(error);
        }
        if all >= self.looks.state_told_bytes {
            self.looks.state_told_bytes = all.saturating_add(limit / 5);
            let diagnosis = Diagnosis::from(error);
            tracing::warn!(target: "flott::diagnosis", job = %self.parts.description.name, "{diagnosis}");
            self.parts.board.diagnosis(diagnosis);
        }
    }

    /// Says once, and again at every tenfold, that somebody had to wait for memory.
    fn tell_refusals(&mut self) {
        for f in self.parts.memory.figures() {
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
