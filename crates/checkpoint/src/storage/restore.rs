//! A checkpoint that was found and verified: what a job is restored from; never writes.

use std::sync::Arc;

use flott_core::snapshot::ChunkReader;
use flott_core::{CheckpointId, Error, Result};

use super::log::PublishLog;
use super::{CheckpointStorage, StoredChunks, TimedStorage};
use crate::metadata::CheckpointMetadata;

/// A checkpoint to restore from.
#[derive(Clone)]
pub struct RestorePoint {
    /// What it says.
    pub metadata: CheckpointMetadata,
    /// Its directory, as a URI.
    pub path: String,
    /// What the user should hear: newer checkpoints that could not be read.
    pub notices: Vec<String>,
    pub(super) storage: Arc<TimedStorage>,
    pub(super) prefix: String,
}

impl RestorePoint {
    /// Reads its chunks, wherever it lies.
    pub fn chunk_reader(&self) -> Arc<dyn ChunkReader> {
        Arc::new(StoredChunks::new(self.storage.clone(), self.prefix.clone()))
    }
}

impl std::fmt::Debug for RestorePoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestorePoint").field("path", &self.path).field("notices", &self.notices).finish_non_exhaustive()
    }
}

pub(super) fn chk_dir(prefix: &str, checkpoint: CheckpointId) -> String {
    format!("{prefix}/chk-{checkpoint}")
}

/// Number of a `chk-N` directory name.
pub(super) fn chk_number(name: &str) -> Option<u64> {
    name.strip_prefix("chk-")?.parse().ok()
}

/// Reads `chk-N/_metadata` and verifies it; `expected_crc32` is what the log says of the whole file.
pub(super) fn read_metadata(
    storage: &TimedStorage,
    prefix: &str,
    checkpoint: CheckpointId,
    expected_crc32: u32,
) -> Result<CheckpointMetadata> {
    let at = format!("{}/_metadata", chk_dir(prefix, checkpoint));
    let shown = format!("{}/{at}", storage.endpoint());
    let Some(bytes) = storage.get(&at, None)? else {
        return Err(Error::corrupt("checkpoint.missing", format!("checkpoint metadata {shown} does not exist"))
            .detail("the publish log names it")
            .hint("restore the file from a copy, or start from another checkpoint with -s PATH"));
    };
    let metadata = CheckpointMetadata::decode(&bytes, &shown)?;
    let found = crc32fast::hash(&bytes);
    if found != expected_crc32 || metadata.checkpoint != checkpoint {
        return Err(Error::corrupt(
            "checkpoint.replaced",
            format!("checkpoint metadata {shown} is not what was published"),
        )
        .detail(format!(
            "it is checkpoint {} with checksum {found:08x}, expected {checkpoint} with {expected_crc32:08x}",
            metadata.checkpoint
        ))
        .hint("restore the file from a copy, or start from another checkpoint with -s PATH"));
    }
    Ok(metadata)
}

/// The newest checkpoint in the log that can be read, with a notice for each newer one that cannot. `None` when the job has
/// none; an error when it has some and none can be read: a job with state is not started from nothing by accident.
pub(super) fn choose(storage: &Arc<TimedStorage>, prefix: &str, log: &PublishLog) -> Result<Option<RestorePoint>> {
    let mut notices = Vec::new();
    for (_, checkpoint, crc) in log.checkpoints() {
        match read_metadata(storage, prefix, checkpoint, crc) {
            Ok(metadata) => {
                let path = format!("{}/{}", storage.endpoint(), chk_dir(prefix, checkpoint));
                let (storage, prefix) = (storage.clone(), prefix.to_owned());
                return Ok(Some(RestorePoint { metadata, path, notices, storage, prefix }));
            }
            Err(e) if e.kind() == flott_core::ErrorKind::Retry => return Err(e),
            Err(e) => notices.push(format!("checkpoint {checkpoint} is passed over: {e}")),
        }
    }
    if notices.is_empty() {
        return Ok(None);
    }
    Err(Error::corrupt(
        "checkpoint.none-readable",
        format!("no checkpoint of the job in {}/{prefix} can be read", storage.endpoint()),
    )
    .detail(notices.join("; "))
    .hint("restore its files from a copy, start from another checkpoint with -s PATH, or remove the directory to start from nothing"))
}
