//! The file sink's committer: pending files become visible by a rename that never overwrites; commits once, however often asked.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use flott_core::sink::{CommitError, Committable, Committer, SinkContext};
use flott_core::{CheckpointId, Error, Result, crash_point};

use super::naming::read_hidden;
use crate::wire::{Reader, Writer};

/// Tag and version of the encoding.
const TAG: (u8, u8) = (b'P', 1);

/// A complete, durable, invisible part file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where it is.
    pub pending: PathBuf,
    /// Where it goes.
    pub visible: PathBuf,
    /// Its length in bytes.
    pub length: u64,
}

impl Pending {
    /// As part of a checkpoint.
    pub fn into_committable(self, checkpoint: CheckpointId) -> Committable {
        let visible = self.visible.to_string_lossy();
        let payload = Writer::new(TAG.0, TAG.1).text(&self.pending.to_string_lossy()).text(&visible).u64(self.length);
        Committable { id: visible.into_owned(), checkpoint, payload: payload.done() }
    }

    /// Back from its encoding.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut r = Reader::new("pending file", payload, TAG.0, TAG.1)?;
        let pending = Pending { pending: r.text()?.into(), visible: r.text()?.into(), length: r.u64()? };
        r.end()?;
        Ok(pending)
    }
}

/// Commits the files of one subtask.
pub struct FileCommitter {
    root: PathBuf,
    context: SinkContext,
    dedup_disabled: bool,
    /// Whether pending files of dead attempts were removed.
    swept: bool,
}

impl FileCommitter {
    /// A committer below `root`. With `dedup_disabled` (tests only) a repeated commit makes a second file.
    pub fn new(root: PathBuf, context: SinkContext, dedup_disabled: bool) -> Self {
        FileCommitter { root, context, dedup_disabled, swept: false }
    }

    fn publish(&self, file: &Pending) -> Result<(), CommitError> {
        let failed = |what: &str, e: std::io::Error| {
            CommitError::Determinate(Error::retry(
                "filesystem.commit",
                format!("cannot {what} '{}': {e}", file.visible.display()),
            ))
        };
        match fs::symlink_metadata(&file.pending) {
            Ok(meta) if meta.len() != file.length => Err(CommitError::Fatal(
                Error::corrupt("filesystem.commit", format!("'{}' is not as it was written", file.pending.display()))
                    .detail(format!("it has {} bytes, the checkpoint says {}", meta.len(), file.length)),
            )),
            Ok(_) => match fs::hard_link(&file.pending, &file.visible) {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => self.already_there(file, true),
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                    // A file system without links: names are unique, so that the look before the rename suffices.
                    if file.visible.exists() {
                        return self.already_there(file, true);
                    }
                    fs::rename(&file.pending, &file.visible).map_err(|e| failed("rename to", e))
                }
                Err(e) => Err(failed("link to", e)),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => self.already_there(file, false),
            Err(e) => Err(failed("examine what becomes", e)),
        }
    }

    /// The visible name is taken, or the pending one is gone: fine when an earlier commit of the same file did it.
    fn already_there(&self, file: &Pending, pending_exists: bool) -> Result<(), CommitError> {
        use std::os::unix::fs::MetadataExt;
        let visible = fs::symlink_metadata(&file.visible);
        let same = match (&visible, fs::symlink_metadata(&file.pending)) {
            // Success files are all alike, and several subtasks may make that of one partition.
            (Ok(v), Ok(_)) if file.length == 0 => v.len() == 0,
            (Ok(v), Ok(p)) if pending_exists => v.ino() == p.ino() && v.dev() == p.dev(),
            (Ok(v), _) => v.len() == file.length,
            (Err(_), _) => false,
        };
        if same {
            return if self.dedup_disabled { duplicate(file) } else { Ok(()) };
        }
        let found = match &visible {
            Ok(v) => format!("'{}' is another file of {} bytes", file.visible.display(), v.len()),
            Err(e) => format!("'{}' is not there either: {e}", file.visible.display()),
        };
        let lost = format!("the {} bytes of '{}' cannot be committed", file.length, file.pending.display());
        let hint =
            "somebody else removed or replaced files of this table; restore them, or start from an older checkpoint";
        Err(CommitError::Fatal(Error::user("filesystem.commit-lost", lost).detail(found).hint(hint)))
    }

    /// Removes hidden files of dead attempts; pending ones only when no checkpoint can name them any more.
    fn sweep(&self, with_pending: bool) -> Result<()> {
        let mut open = vec![self.root.clone()];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(list_error(&directory, &e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| list_error(&directory, &e))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !name.starts_with('.') {
                    if entry.file_type().is_ok_and(|t| t.is_dir()) {
                        open.push(entry.path());
                    }
                    continue;
                }
                let dead = read_hidden(&self.context, &name).is_some_and(|h| h.dead && (with_pending || !h.pending));
                if !dead {
                    continue;
                }
                match fs::remove_file(entry.path()) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(Error::retry(
                            "filesystem.clean-up",
                            format!("cannot remove '{}', left by a dead attempt: {e}", entry.path().display()),
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn list_error(directory: &Path, e: &std::io::Error) -> Error {
    Error::retry("filesystem.clean-up", format!("cannot list '{}': {e}", directory.display()))
}

/// What a commit without deduplication does: the rows appear a second time.
fn duplicate(file: &Pending) -> Result<(), CommitError> {
    let name = file.visible.file_name().unwrap_or_default().to_string_lossy();
    let free = (1u32..).map(|n| file.visible.with_file_name(format!("again-{n}-{name}"))).find(|p| !p.exists());
    let copied = free.map(|path| fs::copy(&file.visible, path)).transpose();
    copied.map(|_| ()).map_err(|e| CommitError::Determinate(Error::retry("filesystem.commit", e.to_string())))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| {
        Error::retry("filesystem.sync", format!("cannot sync the directory '{}': {e}", directory.display()))
    })
}

impl Committer for FileCommitter {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let mut files = Vec::with_capacity(committables.len());
        for committable in committables {
            files.push(Pending::decode(&committable.payload).map_err(CommitError::Fatal)?);
        }
        let mut directories: Vec<&Path> = Vec::new();
        for file in &files {
            self.publish(file)?;
            crash_point::reach("sink.commit.linked");
            if let Some(directory) = file.visible.parent()
                && !directories.contains(&directory)
            {
                directories.push(directory);
            }
        }
        for directory in directories {
            sync_directory(directory).map_err(CommitError::Indeterminate)?;
        }
        // Only now: a pending file may go when its visible name is durable.
        let mut own = false;
        for file in &files {
            let name = file.pending.file_name().unwrap_or_default().to_string_lossy();
            own |= read_hidden(&self.context, &name).is_some_and(|h| !h.dead);
            match fs::remove_file(&file.pending) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(CommitError::Indeterminate(Error::retry(
                        "filesystem.commit",
                        format!("cannot remove '{}' after its commit: {e}", file.pending.display()),
                    )));
                }
                _ => {}
            }
        }
        if own && !std::mem::replace(&mut self.swept, true) {
            // A checkpoint of this attempt is complete: every subtask has committed what it restored.
            self.sweep(true).map_err(CommitError::Indeterminate)?;
        }
        Ok(())
    }

    /// Files that were never prepared are in no checkpoint and go now. Prepared files of dead attempts may be restored
    /// committables of other subtasks that have not committed yet: alone, this committer knows that there are none; else
    /// they go at the first commit of this attempt.
    fn clean_up(&mut self) -> Result<()> {
        let alone = self.context.parallelism == 1;
        self.swept = alone;
        self.sweep(alone)
    }
}
