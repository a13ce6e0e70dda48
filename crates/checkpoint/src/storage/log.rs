//! The publish log: numbered entries, each created once; never decides who may append.

use flott_core::{CheckpointId, Error, Result};
use serde::{Deserialize, Serialize};

use super::CheckpointStorage;
use crate::metadata::Frame;

const LOG_ENTRY: Frame = Frame { magic: *b"FLOTT\x00LG", version: 1, noun: "publish log entry" };

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LogKind {
    /// A generation began.
    Fence {
        /// First checkpoint id that was never given out.
        next_checkpoint: u64,
    },
    /// A checkpoint exists from here on.
    Checkpoint {
        /// Its id.
        checkpoint: CheckpointId,
        /// CRC-32 of the whole metadata file.
        metadata_crc32: u32,
    },
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogEntry {
    /// Who appended it.
    pub generation: u64,
    /// Tells the own entry from another's after a lost reply.
    pub nonce: u128,
    /// What it says.
    pub kind: LogKind,
}

impl LogEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        LOG_ENTRY.encode(self)
    }
}

/// All entries of a job, ascending by number.
#[derive(Clone, Debug, Default)]
pub(super) struct PublishLog {
    pub entries: Vec<(u64, LogEntry)>,
}

/// `{job}/log/SEQ`.
pub(super) fn path(prefix: &str, seq: u64) -> String {
    format!("{prefix}/log/{seq:020}")
}

/// Numbers of the entries that exist, ascending.
pub(super) fn sequence(storage: &dyn CheckpointStorage, prefix: &str) -> Result<Vec<u64>> {
    let names = storage.list(&format!("{prefix}/log"))?;
    let is_entry = |n: &&String| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit());
    let mut numbers: Vec<u64> = names.iter().filter(is_entry).filter_map(|n| n.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The entry with a number; `None` when it does not exist.
pub(super) fn read_entry(storage: &dyn CheckpointStorage, prefix: &str, seq: u64) -> Result<Option<LogEntry>> {
    let at = path(prefix, seq);
    let Some(bytes) = storage.get(&at, None)? else { return Ok(None) };
    LOG_ENTRY.decode(&bytes, &format!("{}/{at}", storage.endpoint())).map(Some).map_err(|e| {
        e.hint("the publish log says which checkpoint is the last; start from a checkpoint with -s PATH under another pipeline.job-id, or remove the job's directory to start from nothing")
    })
}

/// What became of an attempt to append.
#[derive(Debug)]
pub(super) enum Appended {
    /// The entry has this number: ours.
    Ours,
    /// Another's entry has it.
    Taken(LogEntry),
}

/// How often an append whose reply was lost is tried before the error is handed on.
const APPEND_ATTEMPTS: usize = 3;

/// Creates entry `seq`. A lost reply is resolved by reading the nonce back; what cannot be resolved is an error, and the entry may
/// then exist or not.
pub(super) fn append(storage: &dyn CheckpointStorage, prefix: &str, seq: u64, entry: &LogEntry) -> Result<Appended> {
    let at = path(prefix, seq);
    let mut failed = None;
    for _ in 0..APPEND_ATTEMPTS {
        let put = storage.put_new(&at, entry.encode().into());
        match put {
            Ok(true) => return Ok(Appended::Ours),
            Ok(false) => {}
            Err(e) => failed = Some(e),
        }
        match read_entry(storage, prefix, seq) {
            Ok(Some(found)) if found.nonce == entry.nonce => return Ok(Appended::Ours),
            Ok(Some(found)) => return Ok(Appended::Taken(found)),
            Ok(None) => {}
            Err(e) => failed = Some(e),
        }
    }
    Err(failed.unwrap_or_else(|| {
        Error::retry("storage.io", format!("{}/{at} can neither be created nor read", storage.endpoint()))
    }))
}

impl PublishLog {
    /// Reads all entries.
    pub(super) fn read(storage: &dyn CheckpointStorage, prefix: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for seq in sequence(storage, prefix)? {
            // One that vanished between listing and reading was truncated by its owner.
            if let Some(entry) = read_entry(storage, prefix, seq)? {
                entries.push((seq, entry));
            }
        }
        Ok(PublishLog { entries })
    }
    /// The number the next entry gets.
    pub(super) fn next_seq(&self) -> u64 {
        self.entries.last().map_or(1, |(seq, _)| seq + 1)
    }
    /// The newest generation; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.entries.iter().map(|(_, e)| e.generation).max().unwrap_or(0)
    }
    /// The first checkpoint id that no entry mentions as given out.
    pub(super) fn next_checkpoint(&self) -> u64 {
        let ids = self.entries.iter().map(|(_, e)| match e.kind {
            LogKind::Fence { next_checkpoint } => next_checkpoint,
            LogKind::Checkpoint { checkpoint, .. } => checkpoint.0.saturating_add(1),
        });
        ids.max().unwrap_or(1).max(1)
    }
    /// Published checkpoints, the one to restore from first: by generation, then by id. (number, id, CRC of the metadata.)
    pub(super) fn checkpoints(&self) -> Vec<(u64, CheckpointId, u32)> {
        let published = self.entries.iter().filter_map(|(seq, e)| match e.kind {
            LogKind::Checkpoint { checkpoint, metadata_crc32 } => {
                Some((e.generation, checkpoint, *seq, metadata_crc32))
            }
            LogKind::Fence { .. } => None,
        });
        let mut all: Vec<_> = published.collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().map(|(_, checkpoint, seq, crc)| (seq, checkpoint, crc)).collect()
    }
}
