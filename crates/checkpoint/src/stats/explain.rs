//! One sentence on what held a checkpoint up: who is missing, what dominated; never guesses beyond the reports.

use flott_core::SubtaskId;
use flott_core::snapshot::SubtaskCheckpointStats;

use super::{CheckpointRecord, CheckpointStatsHistory};

/// Subtasks named in a sentence; the rest is counted.
const NAMED_MAX: usize = 4;

impl CheckpointStatsHistory {
    /// Which subtasks had not acknowledged and what took the time of the slowest that had. Empty when all had and there is
    /// nothing to say.
    pub fn explain(&self, record: &CheckpointRecord) -> String {
        let missing: Vec<SubtaskId> = record
            .vertices
            .iter()
            .flat_map(|(vertex, subtasks)| {
                let without = subtasks.iter().enumerate().filter(|(_, s)| s.is_none());
                without.map(|(i, _)| SubtaskId { vertex: *vertex, index: i as u32 })
            })
            .collect();
        let (all, _) = record.subtasks();
        let mut parts = Vec::new();
        if !missing.is_empty() {
            let mut names: Vec<String> = missing.iter().take(NAMED_MAX).map(|s| self.subtask_name(*s)).collect();
            if missing.len() > NAMED_MAX {
                names.push(format!("{} more", missing.len() - NAMED_MAX));
            }
            parts.push(format!("{} of {all} subtasks had not acknowledged: {}", missing.len(), names.join(", ")));
        }
        if let Some((subtask, report)) = record.reports().max_by_key(|(_, r)| (busy_ms(&r.stats), r.ack_ms)) {
            let s = &report.stats;
            let phases = [
                (s.start_delay_ms, "waiting for the barrier, which queued behind data (backpressure)"),
                (s.alignment_ms, "aligning barriers (one input is slower than another)"),
                (s.sync_ms, "the synchronous cut"),
                (s.async_ms, "writing state to storage"),
            ];
            let (ms, what) = phases.into_iter().max_by_key(|(ms, _)| *ms).unwrap_or((0, ""));
            if ms > 0 {
                let total = report.ack_ms.saturating_sub(record.triggered_ms);
                let name = self.subtask_name(subtask);
                parts.push(format!(
                    "the slowest that had, {name}, took {}, of which {} was {what}",
                    seconds(total),
                    seconds(i64::try_from(ms).unwrap_or(i64::MAX))
                ));
            }
        }
        if parts.is_empty() { String::new() } else { format!("{}.", parts.join("; ")) }
    }

    pub(crate) fn subtask_name(&self, subtask: SubtaskId) -> String {
        match self.names.get(&subtask.vertex) {
            Some(name) => format!("{name}#{}", subtask.index),
            None => subtask.to_string(),
        }
    }
}

fn busy_ms(s: &SubtaskCheckpointStats) -> u64 {
    [s.start_delay_ms, s.alignment_ms, s.sync_ms, s.async_ms].into_iter().fold(0, u64::saturating_add)
}

fn seconds(ms: i64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}
