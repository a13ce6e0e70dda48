//! The shapes of `/jobs/:id/checkpoints…`, field for field Flink's; only converts, never serves.

use std::collections::BTreeMap;

use flott_core::{CheckpointId, VertexId};
use serde::{Deserialize, Serialize};

use super::path::{Phase, Segment};
use super::sentences::Diagnosis;
use super::{CheckpointRecord, CheckpointStatsHistory, Restored, Status, SubtaskRecord};

/// `counts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Times the job was started from a checkpoint.
    pub restored: u64,
    /// All.
    pub total: u64,
    /// Pending.
    pub in_progress: u64,
    /// Published.
    pub completed: u64,
    /// Given up.
    pub failed: u64,
}

/// Minimum to 99.9th percentile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Quantiles {
    pub min: i64,
    pub max: i64,
    pub avg: i64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Quantiles {
    /// Of these values; zeros when there are none. A percentile is the smallest value that so many do not exceed.
    pub fn of(values: impl IntoIterator<Item = i64>) -> Self {
        let mut v: Vec<i64> = values.into_iter().collect();
        v.sort_unstable();
        let (Some(min), Some(max)) = (v.first(), v.last()) else { return Quantiles::default() };
        let sum: i128 = v.iter().map(|x| i128::from(*x)).sum();
        let at = |permille: usize| v[(v.len() * permille).div_ceil(1_000).clamp(1, v.len()) - 1] as f64;
        Quantiles {
            min: *min,
            max: *max,
            avg: (sum / v.len() as i128) as i64,
            p50: at(500),
            p90: at(900),
            p95: at(950),
            p99: at(990),
            p999: at(999),
        }
    }
}

/// `summary`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes written.
    pub checkpointed_size: Quantiles,
    /// Bytes of state.
    pub state_size: Quantiles,
    /// Milliseconds.
    pub end_to_end_duration: Quantiles,
    /// Always zero, as in Flink.
    pub alignment_buffered: Quantiles,
    /// Bytes processed during alignment.
    pub processed_data: Quantiles,
    /// Bytes of channel state.
    pub persisted_data: Quantiles,
}

/// One vertex of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Flink's field names")]
pub struct TaskStatistics {
    pub id: u64,
    pub status: Status,
    pub latest_ack_timestamp: i64,
    pub checkpointed_size: u64,
    pub state_size: u64,
    pub end_to_end_duration: i64,
    pub alignment_buffered: u64,
    pub processed_data: u64,
    pub persisted_data: u64,
    pub num_subtasks: usize,
    pub num_acknowledged_subtasks: usize,
}

/// A part of the critical path. Not in Flink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSegment {
    /// What the checkpoint did.
    pub phase: Phase,
    /// The subtask it was at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    /// The vertex that the rows in front of the barrier waited for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub behind: Option<String>,
    /// Milliseconds.
    pub duration: i64,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Flink's field names")]
pub struct CheckpointStatistics {
    #[serde(rename = "className")]
    pub class_name: String,
    pub id: u64,
    pub status: Status,
    pub is_savepoint: bool,
    #[serde(rename = "savepointFormat")]
    pub savepoint_format: Option<String>,
    pub trigger_timestamp: i64,
    pub latest_ack_timestamp: i64,
    pub checkpointed_size: u64,
    pub state_size: u64,
    pub end_to_end_duration: i64,
    pub alignment_buffered: u64,
    pub processed_data: u64,
    pub persisted_data: u64,
    pub num_subtasks: usize,
    pub num_acknowledged_subtasks: usize,
    pub checkpoint_type: String,
    pub tasks: BTreeMap<String, TaskStatistics>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub external_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub discarded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diagnosis: Option<Diagnosis>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub critical_path: Vec<PathSegment>,
}

/// `latest`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Flink's field names")]
pub struct Latest {
    pub completed: Option<CheckpointStatistics>,
    pub savepoint: Option<CheckpointStatistics>,
    pub failed: Option<CheckpointStatistics>,
    pub restored: Option<Restored>,
}

/// The answer of `/jobs/:id/checkpoints`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Flink's field names")]
pub struct CheckpointingStatistics {
    pub counts: Counts,
    pub summary: Summary,
    pub latest: Latest,
    pub history: Vec<CheckpointStatistics>,
}

/// The answer of `/jobs/:id/checkpoints/details/:checkpoint/subtasks/:vertex`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDetails {
    /// The vertex.
    #[serde(flatten)]
    pub task: TaskStatistics,
    /// Quantiles over its subtasks.
    pub summary: serde_json::Value,
    /// Its subtasks.
    pub subtasks: Vec<serde_json::Value>,
}

impl CheckpointStatsHistory {
    /// `counts`.
    pub fn counts(&self) -> Counts {
        let in_progress = self.pending.len() as u64;
        let total = in_progress + self.completed + self.failed;
        Counts { restored: self.restored, total, in_progress, completed: self.completed, failed: self.failed }
    }
    /// `summary`: over completed checkpoints.
    pub fn summary(&self) -> Summary {
        let column = |i: usize| Quantiles::of(self.samples.iter().map(|s| s[i]));
        Summary {
            checkpointed_size: column(0),
            state_size: column(1),
            end_to_end_duration: column(2),
            processed_data: column(3),
            persisted_data: column(4),
            ..Summary::default()
        }
    }
    /// The answer of `/jobs/:id/checkpoints`: history newest first, without vertices.
    pub fn statistics(&self) -> CheckpointingStatistics {
        let brief = |r: &CheckpointRecord| CheckpointStatistics { tasks: BTreeMap::new(), ..checkpoint(r) };
        CheckpointingStatistics {
            counts: self.counts(),
            summary: self.summary(),
            latest: Latest {
                completed: self.latest_completed.as_ref().map(brief),
                savepoint: self.latest_savepoint.as_ref().map(brief),
                failed: self.latest_failed.as_ref().map(brief),
                restored: self.latest_restored.clone(),
            },
            history: self.pending.values().rev().chain(self.ended.iter().rev()).map(brief).collect(),
        }
    }
    /// The answer of `/jobs/:id/checkpoints/details/:checkpoint`.
    pub fn details(&self, id: CheckpointId) -> Option<CheckpointStatistics> {
        let record = self.get(id)?;
        let mut details = checkpoint(record);
        details.critical_path = record.critical_path.segments.iter().map(|s| self.segment(s)).collect();
        Some(details)
    }
    fn segment(&self, s: &Segment) -> PathSegment {
        let name = |v: VertexId| self.names.get(&v).cloned().unwrap_or_else(|| v.to_string());
        PathSegment {
            phase: s.phase,
            at: s.at.map(|a| self.subtask_name(a)),
            behind: s.behind.map(name),
            duration: s.ms,
        }
    }
    /// The answer of `…/details/:checkpoint/subtasks/:vertex`.
    pub fn task_details(&self, id: CheckpointId, vertex: VertexId) -> Option<TaskDetails> {
        let record = self.get(id)?;
        let subtasks = record.vertices.get(&vertex)?;
        let reports: Vec<&SubtaskRecord> = subtasks.iter().flatten().collect();
        let of = |f: &dyn Fn(&SubtaskRecord) -> i64| Quantiles::of(reports.iter().map(|r| f(r)));
        let signed = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
        let zero = Quantiles::default();
        let summary = serde_json::json!({
            "checkpointed_size": of(&|r| signed(r.stats.written_bytes)),
            "state_size": of(&|r| signed(r.stats.state_bytes)),
            "end_to_end_duration": of(&|r| r.ack_ms - record.triggered_ms),
            "checkpoint_duration": {
                "sync": of(&|r| signed(r.stats.sync_ms)),
                "async": of(&|r| signed(r.stats.async_ms)),
            },
            "alignment": {
                "buffered": zero,
                "processed": of(&|r| signed(r.stats.processed_bytes)),
                "persisted": of(&|r| signed(r.stats.persisted_bytes)),
                "duration": of(&|r| signed(r.stats.alignment_ms)),
            },
            "start_delay": of(&|r| signed(r.stats.start_delay_ms)),
        });
        let subtasks = subtasks.iter().enumerate().map(|(i, s)| subtask(record, i, s.as_ref())).collect::<Vec<_>>();
        Some(TaskDetails { task: task(record, &record.vertices[&vertex]), summary, subtasks })
    }
}

fn checkpoint(r: &CheckpointRecord) -> CheckpointStatistics {
    let (num_subtasks, num_acknowledged_subtasks) = r.subtasks();
    let failed = r.status == Status::Failed;
    CheckpointStatistics {
        class_name: match r.status {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Failed => "failed",
        }
        .to_owned(),
        id: r.id.0,
        status: r.status,
        is_savepoint: r.savepoint,
        savepoint_format: r.savepoint.then(|| "CANONICAL".to_owned()),
        trigger_timestamp: r.triggered_ms,
        latest_ack_timestamp: r.latest_ack_ms().unwrap_or(-1),
        checkpointed_size: r.written_bytes(),
        state_size: r.state_bytes(),
        end_to_end_duration: r.duration_ms(),
        alignment_buffered: 0,
        processed_data: r.processed_bytes(),
        persisted_data: r.persisted_bytes(),
        num_subtasks,
        num_acknowledged_subtasks,
        checkpoint_type: if r.savepoint { "SAVEPOINT" } else { "CHECKPOINT" }.to_owned(),
        tasks: r.vertices.iter().map(|(id, subtasks)| (id.to_string(), task(r, subtasks))).collect(),
        external_path: r.path.clone(),
        discarded: (r.status == Status::Completed).then_some(r.discarded),
        failure_timestamp: if failed { r.end_ms } else { None },
        failure_message: r.failure.as_ref().map(|(_, message)| message.clone()),
        diagnosis: r.diagnosis.clone(),
        critical_path: Vec::new(),
    }
}

fn task(r: &CheckpointRecord, subtasks: &[Option<SubtaskRecord>]) -> TaskStatistics {
    let reports = || subtasks.iter().flatten();
    let latest = reports().map(|s| s.ack_ms).max();
    TaskStatistics {
        id: r.id.0,
        status: r.status,
        latest_ack_timestamp: latest.unwrap_or(-1),
        checkpointed_size: reports().map(|s| s.stats.written_bytes).sum(),
        state_size: reports().map(|s| s.stats.state_bytes).sum(),
        end_to_end_duration: latest.map_or(-1, |l| l - r.triggered_ms),
        alignment_buffered: 0,
        processed_data: reports().map(|s| s.stats.processed_bytes).sum(),
        persisted_data: reports().map(|s| s.stats.persisted_bytes).sum(),
        num_subtasks: subtasks.len(),
        num_acknowledged_subtasks: reports().count(),
    }
}

fn subtask(r: &CheckpointRecord, index: usize, report: Option<&SubtaskRecord>) -> serde_json::Value {
    let Some(s) = report else {
        return serde_json::json!({ "className": "pending", "index": index, "status": "pending_or_failed" });
    };
    serde_json::json!({
        "className": "completed",
        "index": index,
        "ack_timestamp": s.ack_ms,
        "end_to_end_duration": s.ack_ms - r.triggered_ms,
        "checkpointed_size": s.stats.written_bytes,
        "state_size": s.stats.state_bytes,
        "checkpoint": { "sync": s.stats.sync_ms, "async": s.stats.async_ms },
        "alignment": {
            "buffered": 0,
            "processed": s.stats.processed_bytes,
            "persisted": s.stats.persisted_bytes,
            "duration": s.stats.alignment_ms,
        },
        "start_delay": s.stats.start_delay_ms,
        "unaligned_checkpoint": s.stats.unaligned,
        "aborted": false,
        "status": "completed",
    })
}
