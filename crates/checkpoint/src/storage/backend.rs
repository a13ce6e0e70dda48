//! The law of storages: what a checkpoint directory needs from a file system; never knows what a checkpoint is.

use std::ops::Range;

use bytes::Bytes;
use flott_core::Result;

/// A place for files, addressed by paths relative to its root with `/` between names.
///
/// Calls block and may come from any thread at the same time. Errors are of kind `Retry` unless trying again cannot help. Files
/// are immutable: written once, never overwritten.
pub trait CheckpointStorage: Send + Sync {
    /// What it is called in messages: `file:///data/checkpoints`.
    fn endpoint(&self) -> &str;
    /// Creates `path` with all its parents, atomically and durably: on `true` it survives a crash of the machine. `false`: a file
    /// of that name exists, and is untouched. On an error it may or may not have been created.
    fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool>;
    /// The file, or a part of it (shorter than asked when the file ends); `None` when there is none.
    fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>>;
    /// Names directly in a directory, sorted; those of directories end in `/`. Empty when there is none.
    fn list(&self, dir: &str) -> Result<Vec<String>>;
    /// Deletes a file or an empty directory. What does not exist, or is a directory with files, is left alone: no error.
    fn delete(&self, path: &str) -> Result<()>;
}

/// Deletes a directory and everything in it.
pub(super) fn delete_tree(storage: &dyn CheckpointStorage, dir: &str) -> Result<()> {
    for name in storage.list(dir)? {
        match name.strip_suffix('/') {
            Some(sub) => delete_tree(storage, &format!("{dir}/{sub}"))?,
            None => storage.delete(&format!("{dir}/{name}"))?,
        }
    }
    storage.delete(dir)
}
