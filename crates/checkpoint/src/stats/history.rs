//! Records of checkpoints, bounded; never formats JSON.

use std::collections::{BTreeMap, VecDeque};

use flott_core::snapshot::SubtaskCheckpointStats;
use flott_core::{CheckpointId, SubtaskId, VertexId};

use super::figures::Topology;
use super::path::CriticalPath;
use super::sentences::Diagnosis;
use super::watch::Watch;

/// Durations and sizes kept for percentiles.
const SAMPLES_MAX: usize = 10_000;

/// How far a checkpoint got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Not decided yet.
    InProgress,
    /// Published.
    Completed,
    /// Given up.
    Failed,
}

/// What a subtask reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubtaskRecord {
    /// When its acknowledgement arrived.
    pub ack_ms: i64,
    /// What it measured.
    pub stats: SubtaskCheckpointStats,
}

/// When the barrier passed a subtask: told at once, its state is stored later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutRecord {
    /// When that was heard of.
    pub at_ms: i64,
    /// Trigger to first barrier.
    pub start_delay_ms: u64,
    /// First to last barrier.
    pub alignment_ms: u64,
    /// The synchronous cut.
    pub sync_ms: u64,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRecord {
    /// The checkpoint.
    pub id: CheckpointId,
    /// How far it got.
    pub status: Status,
    /// A savepoint.
    pub savepoint: bool,
    /// The final checkpoint.
    pub last: bool,
    /// When it was triggered.
    pub triggered_ms: i64,
    /// When the enumerators' state was captured and the sources were told.
    pub captured_ms: Option<i64>,
    /// Subtasks that the barrier has passed.
    pub cuts: BTreeMap<SubtaskId, CutRecord>,
    /// When it completed or failed.
    pub end_ms: Option<i64>,
    /// Subtasks per vertex, with what they reported.
    pub vertices: BTreeMap<VertexId, Vec<Option<SubtaskRecord>>>,
    /// Why it failed: Flink's name, and a sentence.
    pub failure: Option<(String, String)>,
    /// Where it lies.
    pub path: Option<String>,
    /// Size of the metadata file.
    pub metadata_bytes: u64,
    /// Its files are deleted.
    pub discarded: bool,
    /// Where its time went; empty while it is under way.
    pub critical_path: CriticalPath,
    /// The sentence on a checkpoint that failed, was slow, or whose commit waits.
    pub diagnosis: Option<Diagnosis>,
}

impl CheckpointRecord {
    /// Subtasks that take part, and that have acknowledged.
    pub fn subtasks(&self) -> (usize, usize) {
        let all = self.vertices.values().flatten();
        all.fold((0, 0), |(n, acked), s| (n + 1, acked + usize::from(s.is_some())))
    }
    /// What was reported so far.
    pub fn reports(&self) -> impl Iterator<Item = (SubtaskId, &SubtaskRecord)> {
        self.vertices.iter().flat_map(|(vertex, subtasks)| {
            let reported = subtasks.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (i, s)));
            reported.map(|(i, s)| (SubtaskId { vertex: *vertex, index: i as u32 }, s))
        })
    }
    /// Subtasks that have not acknowledged.
    pub fn missing(&self) -> Vec<SubtaskId> {
        let of = |(vertex, subtasks): (&VertexId, &Vec<Option<SubtaskRecord>>)| {
            let vertex = *vertex;
            let without = subtasks.iter().enumerate().filter(|(_, s)| s.is_none());
            without.map(|(i, _)| SubtaskId { vertex, index: i as u32 }).collect::<Vec<_>>()
        };
        self.vertices.iter().flat_map(of).collect()
    }
    /// Bytes of state.
    pub fn state_bytes(&self) -> u64 {
        self.reports().map(|(_, s)| s.stats.state_bytes).sum()
    }
    /// Bytes that this checkpoint wrote, metadata included.
    pub fn written_bytes(&self) -> u64 {
        self.metadata_bytes + self.reports().map(|(_, s)| s.stats.written_bytes).sum::<u64>()
    }
    /// Bytes of rows that were processed between the first and the last barrier.
    pub fn processed_bytes(&self) -> u64 {
        self.reports().map(|(_, s)| s.stats.processed_bytes).sum()
    }
    /// Bytes of rows in flight that the checkpoint holds.
    pub fn persisted_bytes(&self) -> u64 {
        self.reports().map(|(_, s)| s.stats.persisted_bytes).sum()
    }
    /// The last acknowledgement.
    pub fn latest_ack_ms(&self) -> Option<i64> {
        self.reports().map(|(_, s)| s.ack_ms).max()
    }
    /// Trigger to end; while in progress: to the last acknowledgement.
    pub fn duration_ms(&self) -> i64 {
        let end = self.end_ms.or(self.latest_ack_ms());
        end.map_or(0, |e| e.saturating_sub(self.triggered_ms).max(0))
    }
}

/// The checkpoint that the job was started from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Restored {
    /// The checkpoint.
    pub id: u64,
    /// When it was restored.
    pub restore_timestamp: i64,
    /// A savepoint.
    pub is_savepoint: bool,
    /// Where it lies.
    pub external_path: Option<String>,
}

/// All that is remembered.
#[derive(Clone, Debug)]
pub struct CheckpointStatsHistory {
    pub(super) names: BTreeMap<VertexId, String>,
    pub(super) topology: Topology,
    pub(super) watch: Watch,
    size: usize,
    pub(super) pending: BTreeMap<CheckpointId, CheckpointRecord>,
    /// Newest last; at most `size`.
    pub(super) ended: VecDeque<CheckpointRecord>,
    pub(super) latest_completed: Option<CheckpointRecord>,
    pub(super) latest_savepoint: Option<CheckpointRecord>,
    pub(super) latest_failed: Option<CheckpointRecord>,
    pub(super) latest_restored: Option<Restored>,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) restored: u64,
    /// Of completed checkpoints: written bytes, state bytes, duration, bytes processed and persisted in flight.
    pub(super) samples: VecDeque<[i64; 5]>,
    /// Messages for checkpoints that were no longer pending.
    pub late_messages: u64,
}

impl CheckpointStatsHistory {
    /// An empty history of at most `size` ended checkpoints; `names` are those of the vertices, for sentences.
    pub fn new(size: usize, names: BTreeMap<VertexId, String>) -> Self {
        CheckpointStatsHistory {
            names,
            topology: Topology::default(),
            watch: Watch::default(),
            size,
            pending: BTreeMap::new(),
            ended: VecDeque::new(),
            latest_completed: None,
            latest_savepoint: None,
            latest_failed: None,
            latest_restored: None,
            completed: 0,
            failed: 0,
            restored: 0,
            samples: VecDeque::new(),
            late_messages: 0,
        }
    }
    /// A checkpoint was triggered.
    pub fn triggered(&mut self, id: CheckpointId, now_ms: i64, savepoint: bool, last: bool, subtasks: &[SubtaskId]) {
        let mut vertices: BTreeMap<VertexId, Vec<Option<SubtaskRecord>>> = BTreeMap::new();
        for s in subtasks {
            let slots = vertices.entry(s.vertex).or_default();
            slots.resize(slots.len().max(s.index as usize + 1), None);
        }
        let record = CheckpointRecord {
            id,
            status: Status::InProgress,
            savepoint,
            last,
            triggered_ms: now_ms,
            captured_ms: None,
            cuts: BTreeMap::new(),
            end_ms: None,
            vertices,
            failure: None,
            path: None,
            metadata_bytes: 0,
            discarded: false,
            critical_path: CriticalPath::default(),
            diagnosis: None,
        };
        self.pending.insert(id, record);
        self.watch_triggered(id);
    }
    /// The sources are told.
    pub fn captured(&mut self, id: CheckpointId, now_ms: i64) {
        if let Some(record) = self.pending.get_mut(&id) {
            record.captured_ms = Some(now_ms);
        }
    }
    /// The barrier has passed a subtask; its state is still to be stored.
    pub fn cut(&mut self, id: CheckpointId, subtask: SubtaskId, cut: CutRecord) {
        if let Some(record) = self.pending.get_mut(&id) {
            record.cuts.insert(subtask, cut);
        }
    }
    /// A subtask acknowledged.
    pub fn acknowledged(&mut self, id: CheckpointId, now_ms: i64, subtask: SubtaskId, stats: SubtaskCheckpointStats) {
        let record = self.pending.get_mut(&id);
        let slot =
            record.and_then(|r| r.vertices.get_mut(&subtask.vertex)).and_then(|v| v.get_mut(subtask.index as usize));
        if let Some(slot) = slot {
            *slot = Some(SubtaskRecord { ack_ms: now_ms, stats });
        }
    }
    /// A checkpoint was published at `path`.
    pub fn completed(&mut self, id: CheckpointId, now_ms: i64, path: String, metadata_bytes: u64) {
        let Some(mut record) = self.pending.remove(&id) else { return };
        record.status = Status::Completed;
        record.end_ms = Some(now_ms);
        record.path = Some(path);
        record.metadata_bytes = metadata_bytes;
        self.watch_completed(&mut record, now_ms);
        self.completed += 1;
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let signed = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
        self.samples.push_back([
            signed(record.written_bytes()),
            signed(record.state_bytes()),
            record.duration_ms(),
            signed(record.processed_bytes()),
            signed(record.persisted_bytes()),
        ]);
        let latest = if record.savepoint { &mut self.latest_savepoint } else { &mut self.latest_completed };
        *latest = Some(record.clone());
        self.end(record);
    }
    /// A checkpoint was given up, with Flink's reason and sentence and what was reported besides. The sentence gets what held it up.
    pub fn failed(&mut self, id: CheckpointId, now_ms: i64, (reason, message): (&str, &str), detail: &str) {
        let Some(mut record) = self.pending.remove(&id) else { return };
        record.status = Status::Failed;
        record.end_ms = Some(now_ms);
        self.watch_failed(&mut record, now_ms, (reason, detail));
        let message = match &record.diagnosis {
            Some(diagnosis) => format!("{message} {diagnosis}"),
            None if detail.is_empty() => message.to_owned(),
            None => format!("{message} {detail}"),
        };
        record.failure = Some((reason.to_owned(), message));
        self.failed += 1;
        self.latest_failed = Some(record.clone());
        self.end(record);
    }
    /// The files of a checkpoint are deleted.
    pub fn discarded(&mut self, id: CheckpointId) {
        let latest = [&mut self.latest_completed, &mut self.latest_savepoint].into_iter().flatten();
        for record in latest.chain(self.ended.iter_mut()).filter(|r| r.id == id) {
            record.discarded = true;
        }
    }
    /// The job was started from a checkpoint.
    pub fn restored(&mut self, id: CheckpointId, now_ms: i64, savepoint: bool, path: Option<String>) {
        self.restored += 1;
        self.latest_restored =
            Some(Restored { id: id.0, restore_timestamp: now_ms, is_savepoint: savepoint, external_path: path });
    }
    /// Pending checkpoints, oldest first.
    pub fn in_progress(&self) -> impl Iterator<Item = &CheckpointRecord> {
        self.pending.values()
    }
    /// Ended checkpoints, newest first.
    pub fn ended(&self) -> impl Iterator<Item = &CheckpointRecord> {
        self.ended.iter().rev()
    }
    /// The last completed checkpoint that is not a savepoint.
    pub fn latest_completed(&self) -> Option<&CheckpointRecord> {
        self.latest_completed.as_ref()
    }
    /// The last failed checkpoint.
    pub fn latest_failed(&self) -> Option<&CheckpointRecord> {
        self.latest_failed.as_ref()
    }
    /// A remembered checkpoint.
    pub fn get(&self, id: CheckpointId) -> Option<&CheckpointRecord> {
        self.pending.get(&id).or_else(|| self.ended.iter().find(|r| r.id == id))
    }

    fn end(&mut self, record: CheckpointRecord) {
        self.ended.push_back(record);
        while self.ended.len() > self.size {
            self.ended.pop_front();
        }
    }
}
