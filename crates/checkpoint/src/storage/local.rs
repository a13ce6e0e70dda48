//! Local files: written aside, synced, linked to their name, directory synced; never overwrites.
//!
//! object_store's local file system syncs nothing in the version used here, and a link before a sync could show an empty file
//! after a power cut, so this talks to the file system itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flott_core::{Error, Result};

use super::CheckpointStorage;
use super::nonce::random;

/// What follows the name in a file that is being written.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Files from here on are written past the page cache.
const DIRECT_BYTES_MIN: usize = 1 << 20;
/// Alignment that every block device accepts for such writes.
const BLOCK_BYTES: usize = 4096;
/// Bytes of one such write.
const WINDOW_BYTES: usize = 1 << 20;

/// A directory of the machine.
pub struct LocalStorage {
    root: PathBuf,
    endpoint: String,
    unique: u64,
    counter: AtomicU64,
}

impl LocalStorage {
    /// A storage in `root`, an absolute path; created on the first write.
    pub fn new(root: PathBuf) -> Self {
        let endpoint = format!("file://{}", root.display());
        LocalStorage { root, endpoint, unique: random() as u64, counter: AtomicU64::new(0) }
    }

    /// Tries everything a checkpoint needs: create, sync, link, list, read, delete.
    pub fn probe(&self) -> Result<()> {
        let name = format!(".probe-{:016x}", self.unique);
        // Errors name the directory, not the file that tries it out.
        let written = self.write(&self.path(&name), b"probe").map_err(|e| io_error("write", &self.root, &e))?;
        let listed = self.list("")?.contains(&name);
        let read = self.get(&name, None)?;
        self.delete(&name)?;
        if !written || !listed || read.as_deref() != Some(b"probe") {
            return Err(Error::user("storage.probe", format!("{} does not behave like a directory", self.endpoint))
                .detail(format!("created: {written}, listed: {listed}, read back: {}", read.is_some()))
                .hint("set execution.checkpointing.dir to a directory on a file system with hard links and fsync"));
        }
        Ok(())
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn unlinked(&self, target: &Path) -> PathBuf {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!("{TEMPORARY}{:016x}-{n:x}", self.unique));
        target.with_file_name(name)
    }

    fn create_parents(&self, dir: &Path) -> std::io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.create_parents(parent)?;
            match fs::create_dir(dir) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => sync_dir(parent)?,
            }
        }
        Ok(())
    }

    fn write(&self, target: &Path, bytes: &[u8]) -> std::io::Result<bool> {
        let dir = target.parent().unwrap_or(&self.root);
        self.create_parents(dir)?;
        let aside = self.unlinked(target);
        let linked = (|| {
            let mut file = File::options().write(true).create_new(true).open(&aside)?;
            let written = write_past_cache(&aside, bytes);
            file.seek(SeekFrom::Start(written as u64))?;
            file.write_all(&bytes[written..])?;
            file.sync_all()?;
            match fs::hard_link(&aside, target) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(e),
            }
        })();
        let removed = fs::remove_file(&aside);
        if linked? {
            removed.or_else(absent_is_fine)?;
            sync_dir(dir)?;
            return Ok(true);
        }
        Ok(false)
    }
}

impl CheckpointStorage for LocalStorage {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let target = self.path(path);
        self.write(&target, &bytes).map_err(|e| io_error("write", &target, &e))
    }

    fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let target = self.path(path);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&target)?;
            let mut bytes = Vec::new();
            match &range {
                None => file.read_to_end(&mut bytes)?,
                Some(r) => {
                    file.seek(SeekFrom::Start(r.start))?;
                    file.take(r.end.saturating_sub(r.start)).read_to_end(&mut bytes)?
                }
            };
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(e) if is_no_file(e.kind()) => Ok(None),
            Err(e) => Err(io_error("read", &target, &e)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>> {
        let target = self.path(dir);
        let read = || -> std::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&target)? {
                let entry = entry?;
                let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
                // Names of ours are ASCII; what is not is not ours.
                if let Some(name) = entry.file_name().to_str() {
                    names.push(format!("{name}{slash}"));
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        match read() {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
            other => other.map_err(|e| io_error("list", &target, &e)),
        }
    }

    fn delete(&self, path: &str) -> Result<()> {
        let target = self.path(path);
        let deleted = if target.is_dir() { fs::remove_dir(&target) } else { fs::remove_file(&target) };
        match deleted {
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.or_else(absent_is_fine).map_err(|e| io_error("delete", &target, &e)),
        }
    }
}

/// Writes the aligned beginning of a large file past the page cache and returns its length: nobody reads a checkpoint soon, and
/// copying it into the cache costs more CPU than all else about writing it. 0 where the file system or the size does not
/// allow it; what is not written here is written the usual way.
fn write_past_cache(path: &Path, bytes: &[u8]) -> usize {
    if bytes.len() < DIRECT_BYTES_MIN {
        return 0;
    }
    let Ok(mut file) = File::options().write(true).custom_flags(libc::O_DIRECT).open(path) else { return 0 };
    let mut buffer = vec![0u8; WINDOW_BYTES + BLOCK_BYTES];
    let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
    let Some(window) = buffer.get_mut(start..start + WINDOW_BYTES) else { return 0 };
    let mut written = 0;
    for chunk in bytes[..bytes.len() / BLOCK_BYTES * BLOCK_BYTES].chunks(WINDOW_BYTES) {
        window[..chunk.len()].copy_from_slice(chunk);
        match file.write(&window[..chunk.len()]) {
            Ok(n) if n == chunk.len() => written += n,
            // A short or refused write: the rest, from the last whole window on, goes the usual way.
            _ => break,
        }
    }
    written
}

fn is_no_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

fn absent_is_fine(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// `cannot write file:///x/y: …` with the owner and mode of the nearest directory that exists, and who is asking.
pub(super) fn io_error(verb: &str, path: &Path, e: &std::io::Error) -> Error {
    let sentence = |why: &str| format!("cannot {verb} file://{}: {why}", path.display());
    let hint = "set execution.checkpointing.dir to a directory that the process may write";
    match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::user("storage.permission", sentence(&ownership(path, e))).hint(hint)
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Error::user("storage.not-a-directory", sentence(&format!("a part of the path is a file ({e})"))).hint(hint)
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::retry("storage.full", sentence(&e.to_string()))
            .hint("free space, or set execution.checkpointing.dir to another disk"),
        ErrorKind::Unsupported => Error::user("storage.unsupported", sentence(&e.to_string()))
            .hint("set execution.checkpointing.dir to a directory on a file system with hard links and fsync"),
        _ => Error::retry("storage.io", sentence(&e.to_string())),
    }
}

fn ownership(path: &Path, e: &std::io::Error) -> String {
    let Some((at, found)) = path.ancestors().find_map(|p| fs::metadata(p).ok().map(|m| (p, m))) else {
        return e.to_string();
    };
    let which = if at == path { String::new() } else { format!("{} is ", at.display()) };
    let owner = format!("{which}owned by {}:{} mode {:04o}", found.uid(), found.gid(), found.mode() & 0o7777);
    match fs::metadata("/proc/self") {
        Ok(own) => format!("{owner}, running as {}:{} ({e})", own.uid(), own.gid()),
        Err(_) => format!("{owner} ({e})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_of_any_length_come_back_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = LocalStorage::new(dir.path().to_owned());
        for len in [0, 1, DIRECT_BYTES_MIN - 1, DIRECT_BYTES_MIN, DIRECT_BYTES_MIN + 1, 3 * WINDOW_BYTES + 5000] {
            let bytes: Bytes = (0..len).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into();
            let path = format!("chk-1/{len}");
            assert!(storage.put_new(&path, bytes.clone()).expect("written"));
            assert!(storage.get(&path, None).expect("read").expect("it is there") == bytes, "length {len}");
        }
    }
}
