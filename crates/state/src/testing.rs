//! Chunks in memory, for tests of backends and of whoever drives them. Never used by a running job.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flott_core::error::{Error, Result};
use flott_core::snapshot::{ChunkLocation, ChunkReader, ChunkRef, ChunkScope, ChunkWriter};

/// A store of chunks in memory that checks lengths and checksums on every read.
#[derive(Default)]
pub struct MemoryChunks {
    files: Mutex<BTreeMap<String, Bytes>>,
    numbers: AtomicU64,
}

impl MemoryChunks {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.files().len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Keeps only the chunks listed: what a checkpoint store does when it retires checkpoints.
    pub fn retain<'a>(&self, chunks: impl IntoIterator<Item = &'a ChunkRef>) {
        let keep: Vec<&str> = chunks.into_iter().filter_map(path).collect();
        self.files().retain(|p, _| keep.contains(&p.as_str()));
    }
    /// Replaces the bytes of a chunk, as a damaged disk would.
    pub fn overwrite(&self, chunk: &ChunkRef, bytes: Bytes) {
        if let Some(path) = path(chunk) {
            self.files().insert(path.to_owned(), bytes);
        }
    }
    /// The bytes of a chunk, unchecked.
    pub fn raw(&self, chunk: &ChunkRef) -> Option<Bytes> {
        self.files().get(path(chunk)?).cloned()
    }
}

fn path(chunk: &ChunkRef) -> Option<&str> {
    match &chunk.location {
        ChunkLocation::File { path, .. } => Some(path),
        ChunkLocation::Inline(_) => None,
    }
}

impl ChunkWriter for MemoryChunks {
    fn put(&self, scope: ChunkScope, bytes: Bytes) -> Result<ChunkRef> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = format!("chunks/{number:08}");
        let chunk = ChunkRef {
            scope,
            location: ChunkLocation::File { path: path.clone(), offset: 0 },
            len: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
        };
        self.files().insert(path, bytes);
        Ok(chunk)
    }
}

impl ChunkReader for MemoryChunks {
    fn get(&self, chunk: &ChunkRef) -> Result<Bytes> {
        let bytes = self
            .raw(chunk)
            .ok_or_else(|| Error::corrupt("checkpoint.missing_chunk", format!("{:?} is missing", chunk.location)))?;
        if bytes.len() as u64 != chunk.len || crc32fast::hash(&bytes) != chunk.crc32 {
            return Err(Error::corrupt(
                "checkpoint.corrupt_chunk",
                format!("{:?} is not what was written", chunk.location),
            ));
        }
        Ok(bytes)
    }
}
