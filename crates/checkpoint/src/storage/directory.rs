//! A checkpoint directory: opened and probed once, it knows jobs by name and finds checkpoints by path; never runs one.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use flott_core::{Error, ErrorKind, JobId, Result};

use super::local::io_error;
use super::log::PublishLog;
use super::nonce::random;
use super::restore::{self, RestorePoint, chk_number};
use super::{
    CheckpointStorage, JobStorage, LocalStorage, Location, ObjectStorage, StorageOptions, StorageStats, TimedStorage,
};
use crate::metadata::CheckpointMetadata;

/// `execution.checkpointing.dir`, or memory.
#[derive(Clone)]
pub struct CheckpointDirectory {
    storage: Arc<TimedStorage>,
    options: StorageOptions,
}

impl CheckpointDirectory {
    /// Opens `dir` (`file:///path` or a path) and tries it out; `None`: memory, gone with the process.
    pub fn open(dir: Option<&str>, options: StorageOptions) -> Result<Self> {
        let Some(dir) = dir else { return Self::on(Box::new(ObjectStorage::in_memory()?), options) };
        let local = LocalStorage::new(Location::parse(dir)?.path);
        local.probe()?;
        Self::on(Box::new(local), options)
    }

    /// A directory on any storage.
    pub fn on(storage: Box<dyn CheckpointStorage>, options: StorageOptions) -> Result<Self> {
        options.validate()?;
        let storage = Arc::new(TimedStorage::new(storage, options.clock.clone(), options.slow_call_ms));
        Ok(CheckpointDirectory { storage, options })
    }

    /// The id kept for a job name: made up the first time, the same for ever. `pipeline.job-id` overrides it.
    pub fn job_id(&self, name: &str) -> Result<JobId> {
        let path = format!("jobs/{}", file_name(name));
        let id = JobId(random());
        let created = self.storage.put_new(&path, format!("{id}\n{name}\n").into_bytes().into());
        if matches!(created, Ok(true)) {
            return Ok(id);
        }
        let shown = format!("{}/{path}", self.storage.endpoint());
        let Some(bytes) = self.storage.get(&path, None)? else {
            created?;
            return Err(Error::retry("storage.io", format!("{shown} can neither be created nor read")));
        };
        let text = String::from_utf8_lossy(&bytes);
        let first = text.lines().next().unwrap_or_default();
        JobId::from_str(first).map_err(|_| {
            Error::corrupt("checkpoint.job-id", format!("{shown} does not hold the id of job `{name}`"))
                .detail(format!("its first line is `{first}`, expected 32 hexadecimal digits"))
                .hint("restore the file, or set pipeline.job-id to the id of the job")
        })
    }

    /// The checkpoints of a job.
    pub fn job(&self, job: JobId) -> JobStorage {
        JobStorage::new(self.storage.clone(), job, self.options.clone())
    }

    /// The newest published checkpoint of a job (`-s latest`), without starting a generation. To start the job use
    /// [`JobStorage::begin_generation`] and [`JobStorage::choose_restore_point`].
    pub fn latest(&self, job: JobId) -> Result<Option<RestorePoint>> {
        let prefix = job.to_string();
        restore::choose(&self.storage, &prefix, &PublishLog::read(&*self.storage, &prefix)?)
    }

    /// What the storage calls took.
    pub fn stats(&self) -> StorageStats {
        self.storage.stats()
    }
    /// What the directory is called in messages.
    pub fn endpoint(&self) -> &str {
        self.storage.endpoint()
    }
    /// The options it was opened with.
    pub fn options(&self) -> &StorageOptions {
        &self.options
    }
}

/// The checkpoint in a `chk-N` directory, or whose `_metadata` file is named (`-s PATH`).
pub fn load(path: &str, options: StorageOptions) -> Result<RestorePoint> {
    let not_found = |why: String| {
        Error::user("checkpoint.not-found", format!("there is no checkpoint at `{path}`: {why}"))
            .hint("name a chk-N directory or the _metadata file in it, or write -s latest")
    };
    let asked = Location::parse(path)?.path;
    let canonical = match std::fs::canonicalize(&asked) {
        Ok(p) => p,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(not_found("it does not exist".to_owned())),
        Err(e) => return Err(io_error("read", &asked, &e)),
    };
    let is_metadata = canonical.file_name().is_some_and(|n| n == "_metadata") && canonical.is_file();
    let dir = if is_metadata { canonical.parent().unwrap_or(Path::new("/")) } else { &canonical };
    let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    let (Some(chk), Some(job_dir)) = (name(dir), dir.parent()) else { return Err(not_found("it is the root".into())) };
    let (Some(prefix), Some(root)) = (name(job_dir), job_dir.parent()) else {
        return Err(not_found("it does not lie in a job's directory".to_owned()));
    };
    let local = Box::new(LocalStorage::new(root.to_owned()));
    let storage = Arc::new(TimedStorage::new(local, options.clock.clone(), options.slow_call_ms));
    let Some(bytes) = storage.get(&format!("{prefix}/{chk}/_metadata"), None)? else {
        let inside = storage.list(&format!("{prefix}/{chk}"))?;
        let found: Vec<&str> =
            inside.iter().map(|n| n.trim_end_matches('/')).filter(|n| chk_number(n).is_some()).collect();
        let why = if found.is_empty() {
            "no _metadata file is there".to_owned()
        } else {
            format!("it is the directory of a job, with {}", found.join(", "))
        };
        return Err(not_found(why));
    };
    let shown = format!("{}/{prefix}/{chk}/_metadata", storage.endpoint());
    let metadata = CheckpointMetadata::decode(&bytes, &shown)?;
    let crc = crc32fast::hash(&bytes);
    let mut notices = Vec::new();
    match PublishLog::read(&*storage, &prefix) {
        Ok(log) if log.entries.is_empty() => {}
        Ok(log) if log.checkpoints().iter().any(|(_, id, c)| *id == metadata.checkpoint && *c == crc) => {}
        Ok(_) => {
            return Err(Error::user("checkpoint.unpublished", format!("{shown} was never published"))
                .detail(
                    "the job's publish log does not name it: the process that wrote it died before, or was replaced",
                )
                .hint("write -s latest for the newest published checkpoint"));
        }
        Err(e) if e.kind() == ErrorKind::Retry => return Err(e),
        // The way out when the log is damaged.
        Err(e) => notices.push(format!("whether {shown} was published is unknown: {e}")),
    }
    let path = format!("{}/{prefix}/{chk}", storage.endpoint());
    Ok(RestorePoint { metadata, path, notices, storage, prefix })
}

/// A file name for a job name: itself when it is plain, else with a hash so that no two names meet.
fn file_name(name: &str) -> String {
    const LEN_MAX: usize = 100;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let kept: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(LEN_MAX).collect();
    if kept == name && !kept.is_empty() {
        return kept;
    }
    format!("{kept}.{:032x}", xxhash_rust::xxh3::xxh3_128(name.as_bytes()))
}
