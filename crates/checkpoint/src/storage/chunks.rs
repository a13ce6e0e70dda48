//! Chunks: written under names that never repeat, read back with their checksums verified; never overwrites.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flott_core::snapshot::{ChunkLocation, ChunkReader, ChunkRef, ChunkScope, ChunkWriter};
use flott_core::{CheckpointId, Error, ErrorKind, Result};

use super::job::JobInner;
use super::nonce::random;
use super::{CheckpointStorage, TimedStorage};

/// How often another name is tried when one is taken: names carry 64 random bits.
const NAME_ATTEMPTS: usize = 3;

/// Reads the chunks of one job's checkpoints.
pub struct StoredChunks {
    storage: Arc<TimedStorage>,
    prefix: String,
}

impl StoredChunks {
    pub(super) fn new(storage: Arc<TimedStorage>, prefix: String) -> Self {
        StoredChunks { storage, prefix }
    }
}

impl ChunkReader for StoredChunks {
    fn get(&self, chunk: &ChunkRef) -> Result<Bytes> {
        let (bytes, shown) = match &chunk.location {
            ChunkLocation::Inline(bytes) => (bytes.clone(), "a chunk inside the checkpoint metadata".to_owned()),
            ChunkLocation::File { path, offset } => {
                let shown = format!("{}/{}/{path}", self.storage.endpoint(), self.prefix);
                if !is_plain(path) {
                    return Err(Error::corrupt(
                        "checkpoint.chunk-path",
                        format!("`{path}` is not the path of a chunk"),
                    ));
                }
                let range = *offset..offset.saturating_add(chunk.len);
                let found = self.storage.get(&format!("{}/{path}", self.prefix), Some(range))?;
                let Some(bytes) = found else {
                    return Err(Error::corrupt("checkpoint.missing", format!("chunk {shown} does not exist"))
                        .detail("the checkpoint's metadata refers to it")
                        .hint("restore the file from a copy, or start from another checkpoint with -s PATH"));
                };
                (bytes, shown)
            }
        };
        let found = crc32fast::hash(&bytes);
        if bytes.len() as u64 != chunk.len || found != chunk.crc32 {
            return Err(Error::corrupt("checkpoint.chunk", format!("{shown} is damaged"))
                .detail(format!(
                    "it has {} bytes with checksum {found:08x}, expected {} with {:08x}",
                    bytes.len(),
                    chunk.len,
                    chunk.crc32
                ))
                .hint("restore the file from a copy, or start from another checkpoint with -s PATH"));
        }
        Ok(bytes)
    }
}

/// Relative, and without steps upwards.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Writes the chunks of one checkpoint.
pub(super) struct JobChunkWriter {
    pub job: Arc<JobInner>,
    pub checkpoint: CheckpointId,
    pub generation: u64,
}

impl JobChunkWriter {
    pub(super) fn aborted(&self) -> Error {
        Error::new(
            ErrorKind::Cancelled,
            "checkpoint.aborted",
            format!("checkpoint {} was given up while its state was being written", self.checkpoint),
        )
    }

    /// A name for a new file, entered in the books before it exists.
    fn reserve(&self, scope: ChunkScope) -> Result<String> {
        let dir = match scope {
            ChunkScope::Exclusive => format!("chk-{}", self.checkpoint),
            ChunkScope::Shared => "shared".to_owned(),
        };
        let n = self.job.counter.fetch_add(1, Ordering::Relaxed);
        let path = format!("{dir}/{:x}-{n:x}-{:016x}", self.generation, random() as u64);
        let mut files = self.job.files();
        let written = files.in_flight.get_mut(&self.checkpoint).ok_or_else(|| self.aborted())?;
        written.insert(path.clone());
        Ok(path)
    }
}

impl ChunkWriter for JobChunkWriter {
    fn put(&self, scope: ChunkScope, bytes: Bytes) -> Result<ChunkRef> {
        let (len, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let chunk = |location| ChunkRef { scope, location, len, crc32 };
        if bytes.len() < self.job.options.inline_threshold_bytes {
            // A copy: the bytes may be a slice of something large.
            return Ok(chunk(ChunkLocation::Inline(Bytes::copy_from_slice(&bytes))));
        }
        for _ in 0..NAME_ATTEMPTS {
            let path = self.reserve(scope)?;
            let at = self.job.path(&path);
            if !self.job.storage.put_new(&at, bytes.clone())? {
                continue;
            }
            let kept = self.job.files().in_flight.get(&self.checkpoint).is_some_and(|f| f.contains(&path));
            if !kept {
                // Given up meanwhile: whoever did so could not see this file.
                self.job.storage.delete(&at)?;
                return Err(self.aborted());
            }
            return Ok(chunk(ChunkLocation::File { path, offset: 0 }));
        }
        Err(Error::bug("names of new chunks are taken again and again"))
    }
}
