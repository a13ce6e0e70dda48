//! Which files of a job are referred to by whom: the books behind retention; never does I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use flott_core::CheckpointId;

use crate::metadata::CheckpointMetadata;

/// A published checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    pub seq: u64,
    pub savepoint: bool,
    pub files: HashSet<String>,
}

impl Retained {
    pub(super) fn of(seq: u64, metadata: &CheckpointMetadata) -> Self {
        let own = format!("chk-{}/_metadata", metadata.checkpoint);
        let files = metadata.files().map(str::to_owned).chain([own]).collect();
        Retained { seq, savepoint: metadata.savepoint, files }
    }
}

/// The books of one job. Bounded by what the retained and pending checkpoints refer to.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Published and not dropped.
    pub retained: BTreeMap<CheckpointId, Retained>,
    /// Referred to by the checkpoint the job was restored from, until this generation has published its own.
    pub pinned: HashSet<String>,
    /// Checkpoints that the user named: retention leaves them alone.
    pub kept: BTreeSet<CheckpointId>,
    /// Written for checkpoints that are not decided.
    pub in_flight: BTreeMap<CheckpointId, HashSet<String>>,
    /// Shared files nobody retained refers to, deleted once no checkpoint up to this id is in flight: it may have been
    /// built on a checkpoint dropped meanwhile.
    pub doomed: Vec<(CheckpointId, String)>,
    /// Published, or not: the reply was lost. At most one of them was: all tried for the same number.
    pub unresolved: Vec<Unresolved>,
    /// Lately published or given up: a late subtask gets no writer for them.
    settled: VecDeque<CheckpointId>,
}

/// A checkpoint that may have been published.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Nonce of its log entry.
    pub nonce: u128,
    pub checkpoint: CheckpointId,
    pub retained: Retained,
}

/// Lost replies in a row that are kept track of.
const UNRESOLVED_MAX: usize = 64;
/// Settled checkpoints that are remembered.
const SETTLED_MAX: usize = 256;

impl Files {
    /// Whether a published checkpoint refers to the file, or may.
    pub(super) fn is_referenced(&self, path: &str) -> bool {
        self.pinned.contains(path)
            || self.retained.values().any(|r| r.files.contains(path))
            || self.unresolved.iter().any(|u| u.retained.files.contains(path))
    }
    /// Whether the file is known to exist.
    pub(super) fn is_known(&self, path: &str) -> bool {
        self.is_referenced(path)
            || self.in_flight.values().any(|f| f.contains(path))
            || self.doomed.iter().any(|(_, p)| p == path)
    }
    /// A publish got no reply.
    pub(super) fn doubt(&mut self, unresolved: Unresolved) {
        if self.unresolved.len() == UNRESOLVED_MAX {
            // Its files stay behind until the next start of the job.
            self.unresolved.remove(0);
        }
        self.unresolved.push(unresolved);
    }
    /// The entry at the number in doubt has this nonce: if it is one of ours, that checkpoint exists. Returns whether it is, and the
    /// files of those that never came to be.
    pub(super) fn resolve(&mut self, nonce: u128) -> (bool, Vec<String>) {
        let (mut found, mut orphans) = (false, Vec::new());
        for u in std::mem::take(&mut self.unresolved) {
            if u.nonce == nonce {
                found = true;
                self.retained.insert(u.checkpoint, u.retained);
            } else {
                orphans.extend(u.retained.files);
            }
        }
        orphans.retain(|path| !self.is_known(path));
        (found, orphans)
    }
    /// Whether a writer may still begin.
    pub(super) fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.settled.contains(&checkpoint)
    }
    /// Takes a checkpoint out of flight and returns the files that nobody refers to.
    pub(super) fn settle(&mut self, checkpoint: CheckpointId) -> Vec<String> {
        if self.settled.len() == SETTLED_MAX {
            self.settled.pop_front();
        }
        self.settled.push_back(checkpoint);
        let written = self.in_flight.remove(&checkpoint).unwrap_or_default();
        written.into_iter().filter(|path| !self.is_referenced(path)).collect()
    }
    /// Checkpoints beyond the newest `num_retained`; savepoints and what the user named stay.
    pub(super) fn surplus(&self, num_retained: usize) -> Vec<CheckpointId> {
        let is_regular = |(id, r): &(&CheckpointId, &Retained)| !r.savepoint && !self.kept.contains(id);
        let regular: Vec<CheckpointId> = self.retained.iter().filter(is_regular).map(|(id, _)| *id).collect();
        let keep = num_retained.max(1).min(regular.len());
        regular[..regular.len() - keep].to_vec()
    }
    /// Forgets a dropped checkpoint: returns its exclusive files; shared ones that nobody refers to are doomed.
    pub(super) fn drop_retained(&mut self, checkpoint: CheckpointId) -> Vec<String> {
        let Some(dropped) = self.retained.remove(&checkpoint) else { return Vec::new() };
        let barred_by = self.in_flight.keys().next_back().copied().unwrap_or(CheckpointId(0));
        let mut exclusive = Vec::new();
        for path in dropped.files {
            if self.is_referenced(&path) {
                continue;
            }
            if path.starts_with("shared/") {
                self.doomed.push((barred_by, path));
            } else {
                exclusive.push(path);
            }
        }
        exclusive
    }
    /// Doomed files that may be deleted now.
    pub(super) fn take_doomed(&mut self) -> Vec<String> {
        let oldest_in_flight = self.in_flight.keys().next().copied();
        let (now, later) = std::mem::take(&mut self.doomed)
            .into_iter()
            .partition(|(barred_by, _)| oldest_in_flight.is_none_or(|oldest| oldest > *barred_by));
        self.doomed = later;
        let free: Vec<(CheckpointId, String)> = now;
        free.into_iter().map(|(_, path)| path).filter(|path| !self.is_referenced(path)).collect()
    }
}
