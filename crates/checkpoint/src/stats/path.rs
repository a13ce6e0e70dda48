//! Where the time of a checkpoint went: a chain of segments from the trigger to its end, from what subtasks reported. Pure; what no
//! report says is not in it.

use flott_core::{SubtaskId, VertexId};
use serde::{Deserialize, Serialize};

use super::CheckpointRecord;
use super::figures::{Load, Topology};

/// From this share of time on, waiting downstream counts as pressure.
const PRESSED: f64 = 0.25;
/// From this share on a task may be what the others wait for.
const LOADED: f64 = 0.5;

/// What a checkpoint did in a part of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Capturing the enumerators' state.
    Trigger,
    /// Until a source took the trigger.
    Source,
    /// The barrier travelled behind rows.
    BehindData,
    /// One input's barrier had come, another's had not.
    Alignment,
    /// The operator finished what must not be under way when its state is cut.
    Flush,
    /// The synchronous cut.
    Sync,
    /// Writing state.
    Upload,
    /// Waiting for a thread that writes, and for the acknowledgement.
    Acknowledge,
    /// Publishing.
    Publish,
    /// Committing what sinks had prepared.
    Commit,
}

/// A part of the time of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it did.
    pub phase: Phase,
    /// The subtask it was at; none for what concerns them all.
    pub at: Option<SubtaskId>,
    /// The vertex that the rows in front of the barrier waited for.
    pub behind: Option<VertexId>,
    /// How long.
    pub ms: i64,
}

/// Where the time of a checkpoint went, from the trigger to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath {
    /// In the order of time. Empty parts are left out.
    pub segments: Vec<Segment>,
}

impl CriticalPath {
    /// What took most: parts with the same cause are added up.
    pub fn dominant(&self) -> Option<Segment> {
        let mut sums: Vec<Segment> = Vec::new();
        for s in &self.segments {
            let same = |o: &&mut Segment| match (s.behind, o.behind) {
                (Some(a), Some(b)) => a == b,
                (None, None) => s.phase == o.phase && s.at == o.at,
                _ => false,
            };
            match sums.iter_mut().find(same) {
                Some(sum) => {
                    // The longest part tells what kind it was.
                    if s.ms > sum.ms {
                        (sum.phase, sum.at) = (s.phase, s.at);
                    }
                    sum.ms += s.ms;
                }
                None => sums.push(s.clone()),
            }
        }
        // The first of equals: what came later may follow from it.
        sums.into_iter().rev().max_by_key(|s| s.ms)
    }

    /// The sum.
    pub fn total_ms(&self) -> i64 {
        self.segments.iter().map(|s| s.ms).sum()
    }
}

/// The critical path of a checkpoint that ended, or so far at `now_ms`.
pub fn critical_path(record: &CheckpointRecord, topology: &Topology, load: &Load, now_ms: i64) -> CriticalPath {
    let mut path = Path { record, topology, load, segments: Vec::new() };
    path.walk(record.end_ms.unwrap_or(now_ms));
    path.segments.retain(|s| s.ms > 0);
    path.segments.reverse();
    CriticalPath { segments: path.segments }
}

struct Path<'a> {
    record: &'a CheckpointRecord,
    topology: &'a Topology,
    load: &'a Load,
    /// Latest first.
    segments: Vec<Segment>,
}

/// When a barrier was where, milliseconds since the epoch.
#[derive(Clone, Copy)]
struct Passage {
    aligned_ms: i64,
    alignment_ms: i64,
    sync_ms: i64,
    /// Cut, and handed on.
    passed_ms: i64,
}

impl Path<'_> {
    fn push(&mut self, phase: Phase, at: Option<SubtaskId>, behind: Option<VertexId>, ms: i64) {
        self.segments.push(Segment { phase, at, behind, ms });
    }

    fn walk(&mut self, end_ms: i64) {
        let r = self.record;
        if r.captured_ms.is_none() && r.reports().next().is_none() && r.cuts.is_empty() {
            return self.push(Phase::Trigger, None, None, end_ms - r.triggered_ms);
        }
        let (all, acked) = r.subtasks();
        if acked < all {
            return self.walk_missing(end_ms);
        }
        let Some((last, report)) = r.reports().max_by_key(|(s, a)| (a.ack_ms, std::cmp::Reverse(*s))) else { return };
        self.push(Phase::Publish, None, None, end_ms - report.ack_ms);
        let Some(p) = self.passage(last) else { return };
        let written = signed(report.stats.async_ms);
        let upload = written.min(report.ack_ms - p.passed_ms).max(0);
        self.push(Phase::Acknowledge, Some(last), None, report.ack_ms - p.passed_ms - upload);
        self.push(Phase::Upload, Some(last), None, upload);
        self.trace(last);
    }

    /// Some subtasks have not acknowledged: the first of them, in the order of the graph, whose predecessors have passed the barrier.
    fn walk_missing(&mut self, end_ms: i64) {
        let missing = self.record.missing();
        let ready = |s: &SubtaskId| self.upstream(*s).iter().all(|u| self.passage(*u).is_some());
        let frontier: Vec<SubtaskId> = missing.into_iter().filter(ready).collect();
        let waits_for_barrier = |s: &SubtaskId| self.passage(*s).is_none();
        let rank = |s: &SubtaskId| (!waits_for_barrier(s), self.topology.position(s.vertex), s.index);
        let Some(subtask) = frontier.into_iter().min_by_key(rank) else { return };
        if let Some(p) = self.passage(subtask) {
            self.push(Phase::Upload, Some(subtask), None, end_ms - p.passed_ms);
            return self.trace(subtask);
        }
        let behind = bottleneck(self.topology, self.load, subtask.vertex);
        match self.slowest_upstream(subtask) {
            Some((upstream, passed_ms)) => {
                self.push(Phase::BehindData, Some(subtask), behind, end_ms - passed_ms);
                self.trace(upstream);
            }
            None => {
                let begun = self.begun_ms();
                self.push(Phase::Source, Some(subtask), behind, end_ms - begun);
                self.push(Phase::Trigger, None, None, begun - self.record.triggered_ms);
            }
        }
    }

    /// How the barrier came to a subtask that it has passed.
    fn trace(&mut self, from: SubtaskId) {
        let mut subtask = from;
        // Cuts are reported a little later than they were made: none was made after the barrier was seen downstream.
        let mut latest_ms = i64::MAX;
        // A graph has no cycles; the bound is for records that do not fit it.
        for _ in 0..=self.topology.vertices.len() {
            let Some(p) = self.passage(subtask) else { return };
            self.push(Phase::Sync, Some(subtask), None, p.sync_ms);
            let passed_ms = p.passed_ms.min(latest_ms);
            let behind = bottleneck(self.topology, self.load, subtask.vertex);
            // Inside a task, too, a barrier waits behind rows that wait for somebody downstream, or for a server.
            self.push(Phase::Flush, Some(subtask), behind, passed_ms - p.aligned_ms - p.sync_ms);
            latest_ms = p.aligned_ms;
            let Some((upstream, passed_ms)) = self.slowest_upstream(subtask) else {
                let begun = self.begun_ms();
                self.push(Phase::Source, Some(subtask), behind, p.aligned_ms - begun);
                self.push(Phase::Trigger, None, None, begun - self.record.triggered_ms);
                return;
            };
            let wait_ms = (p.aligned_ms - passed_ms).max(0);
            let alignment_ms = p.alignment_ms.min(wait_ms);
            self.push(Phase::Alignment, Some(subtask), behind, alignment_ms);
            self.push(Phase::BehindData, Some(subtask), behind, wait_ms - alignment_ms);
            subtask = upstream;
        }
    }

    fn begun_ms(&self) -> i64 {
        self.record.captured_ms.unwrap_or(self.record.triggered_ms)
    }

    /// Subtasks whose barriers this one waits for.
    fn upstream(&self, subtask: SubtaskId) -> Vec<SubtaskId> {
        let mut out = Vec::new();
        for (vertex, pointwise) in self.topology.inputs(subtask.vertex) {
            let count = self.record.vertices.get(&vertex).map_or(0, Vec::len);
            let all = (0..count).map(|i| SubtaskId { vertex, index: i as u32 });
            out.extend(all.filter(|s| !pointwise || s.index == subtask.index));
        }
        out
    }

    fn slowest_upstream(&self, subtask: SubtaskId) -> Option<(SubtaskId, i64)> {
        let passed = self.upstream(subtask).into_iter().filter_map(|u| Some((u, self.passage(u)?.passed_ms)));
        passed.max_by_key(|(u, ms)| (*ms, std::cmp::Reverse(*u)))
    }

    fn passage(&self, subtask: SubtaskId) -> Option<Passage> {
        let begun = self.record.triggered_ms;
        let passage = |delay: u64, alignment: u64, sync: u64, passed_ms: Option<i64>| {
            let aligned_ms = begun + signed(delay) + signed(alignment);
            let least = aligned_ms + signed(sync);
            Passage {
                aligned_ms,
                alignment_ms: signed(alignment),
                sync_ms: signed(sync),
                passed_ms: passed_ms.map_or(least, |at| at.max(least)),
            }
        };
        if let Some(c) = self.record.cuts.get(&subtask) {
            return Some(passage(c.start_delay_ms, c.alignment_ms, c.sync_ms, Some(c.at_ms)));
        }
        let report = self.record.vertices.get(&subtask.vertex)?.get(subtask.index as usize)?.as_ref()?;
        let s = &report.stats;
        Some(passage(s.start_delay_ms, s.alignment_ms, s.sync_ms, None))
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// How hard a vertex is pressed, by its hardest subtask: at work, and waiting for others.
fn pressure(load: &Load, vertex: VertexId) -> (f64, f64) {
    load.of(vertex).fold((0.0, 0.0), |(busy, waits), (_, t)| (t.busy.max(busy), t.backpressured.max(waits)))
}

/// What the rows in front of `vertex` wait for: down the graph as long as the next one is pressed too. `None` when nothing was
/// busy or waiting.
pub fn bottleneck(topology: &Topology, load: &Load, vertex: VertexId) -> Option<VertexId> {
    let mut at = vertex;
    for _ in 0..topology.vertices.len() {
        let (_, waits) = pressure(load, at);
        if waits < PRESSED {
            break;
        }
        let weight = |v: VertexId| {
            let (busy, waits) = pressure(load, v);
            busy + waits
        };
        let outputs = topology.vertex(at).map_or(&[][..], |v| &v.outputs[..]);
        let next = outputs.iter().map(|e| e.to).max_by(|a, b| weight(*a).total_cmp(&weight(*b)));
        match next.filter(|v| weight(*v) >= LOADED) {
            Some(v) => at = v,
            None => break,
        }
    }
    let (busy, waits) = pressure(load, at);
    let calls = load.of(at).any(|(_, t)| t.calling().is_some_and(|(_, _, ms)| ms * 2 >= load.elapsed_ms));
    (busy + waits >= LOADED || calls).then_some(at)
}
