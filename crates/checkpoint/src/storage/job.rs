//! The checkpoints of one job: generations, publishing, chunks; never overwrites, and stops when a newer generation shows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flott_core::snapshot::{ChunkLocation, ChunkReader, ChunkWriter, SubtaskState};
use flott_core::{CheckpointId, Error, ErrorKind, JobId, Result};

use super::chunks::{JobChunkWriter, StoredChunks};
use super::files::{Files, Retained, Unresolved};
use super::log::{self, Appended, LogEntry, LogKind, PublishLog};
use super::nonce::random;
use super::restore::{self, RestorePoint, chk_dir, chk_number};
use super::{CheckpointStorage, StorageOptions, TimedStorage};
use crate::coordinator::Published;
use crate::metadata::CheckpointMetadata;

/// How many other starts of the same job may get in between before this one gives up.
const FENCE_ATTEMPTS: usize = 1_000;

/// One start of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// From 1; every start of the job has a greater one than all before.
    pub number: u64,
    /// The id of the first checkpoint to take: no id is given out twice.
    pub next_checkpoint: CheckpointId,
    /// Whether the publish log names any checkpoint.
    pub has_checkpoints: bool,
}

/// The checkpoints of one job. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct JobStorage {
    pub(super) inner: Arc<JobInner>,
}

pub(super) struct JobInner {
    pub storage: Arc<TimedStorage>,
    pub job: JobId,
    pub options: StorageOptions,
    pub counter: AtomicU64,
    /// 0: not begun. Read without waiting for an append.
    generation: AtomicU64,
    /// Held over I/O: one append at a time.
    log: Mutex<LogState>,
    /// Never held over I/O.
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
pub(super) struct LogState {
    /// 0: not begun.
    pub generation: u64,
    pub next_seq: u64,
    /// Checkpoints that the log names and that cannot be read.
    pub damaged: Vec<CheckpointId>,
}

impl JobInner {
    pub(super) fn prefix(&self) -> String {
        self.job.to_string()
    }
    pub(super) fn path(&self, relative: &str) -> String {
        format!("{}/{relative}", self.job)
    }
    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        // Changed in single steps that do not panic half way.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn log(&self) -> MutexGuard<'_, LogState> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn not_begun(&self) -> Error {
        Error::bug(format!("no generation of job {} was begun", self.job))
    }
    fn fenced(&self, own: u64, newer: u64) -> Error {
        Error::fenced(format!("job {} was started again: this is generation {own}, the newest is {newer}", self.job))
            .detail(format!("found in {}/{}/log", self.storage.endpoint(), self.job))
            .hint("stop one of the two: a job runs once at a time, or give them different pipeline.name or pipeline.job-id")
    }
}

impl JobStorage {
    pub(super) fn new(storage: Arc<TimedStorage>, job: JobId, options: StorageOptions) -> Self {
        let (counter, generation) = (AtomicU64::new(0), AtomicU64::new(0));
        let (log, files) = (Mutex::default(), Mutex::default());
        JobStorage { inner: Arc::new(JobInner { storage, job, options, counter, generation, log, files }) }
    }

    /// The job.
    pub fn job(&self) -> JobId {
        self.inner.job
    }
    /// The generation begun; 0 before.
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }
    /// What the storage calls took.
    pub fn stats(&self) -> super::StorageStats {
        self.inner.storage.stats()
    }
    /// The last slow storage calls, and those under way that have become slow.
    pub fn slow_calls(&self) -> Vec<super::StorageCall> {
        self.inner.storage.slow_calls()
    }
    /// The job's directory, as a URI.
    pub fn uri(&self) -> String {
        format!("{}/{}", self.inner.storage.endpoint(), self.inner.job)
    }

    /// Appends a fence: from here on every older start of the job that publishes learns that it is over. To be called before the
    /// restore point is chosen.
    pub fn begin_generation(&self) -> Result<Generation> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let mut state = inner.log();
        for _ in 0..FENCE_ATTEMPTS {
            let log = PublishLog::read(&*inner.storage, &prefix)?;
            let names = inner.storage.list(&prefix)?;
            let dirs = names.iter().filter_map(|n| chk_number(n.trim_end_matches('/')));
            let next = dirs.map(|n| n.saturating_add(1)).max().unwrap_or(1).max(log.next_checkpoint());
            let (number, seq) = (log.generation() + 1, log.next_seq());
            let kind = LogKind::Fence { next_checkpoint: next };
            let entry = LogEntry { generation: number, nonce: random(), kind };
            if let Appended::Taken(_) = log::append(&*inner.storage, &prefix, seq, &entry)? {
                continue;
            }
            let checkpoints = log.checkpoints();
            *state = LogState { generation: number, next_seq: seq + 1, ..LogState::default() };
            let mut files = Files::default();
            for (seq, checkpoint, crc) in &checkpoints {
                match restore::read_metadata(&inner.storage, &prefix, *checkpoint, *crc) {
                    Ok(metadata) => {
                        files.retained.insert(*checkpoint, Retained::of(*seq, &metadata));
                    }
                    Err(e) if e.kind() == ErrorKind::Retry => return Err(e),
                    Err(_) => state.damaged.push(*checkpoint),
                }
            }
            *inner.files() = files;
            inner.generation.store(number, Ordering::Release);
            let next_checkpoint = CheckpointId(next);
            return Ok(Generation { number, next_checkpoint, has_checkpoints: !checkpoints.is_empty() });
        }
        Err(Error::retry("checkpoint.fence", format!("job {} is started again and again by others", inner.job))
            .hint("stop the other processes that run it"))
    }

    /// The newest published checkpoint that can be read (older ones with a notice), or `None` when there is none.
    pub fn choose_restore_point(&self) -> Result<Option<RestorePoint>> {
        let prefix = self.inner.prefix();
        let log = PublishLog::read(&*self.inner.storage, &prefix)?;
        let chosen = restore::choose(&self.inner.storage, &prefix, &log)?;
        if let Some(point) = &chosen {
            self.adopt(point);
        }
        Ok(chosen)
    }

    /// Whether this generation has published. Until then a failover goes back to the restore point of the start, which is not the
    /// newest checkpoint when the user named one.
    pub fn has_published(&self) -> Result<bool> {
        let (own, log) = (self.generation(), PublishLog::read(&*self.inner.storage, &self.inner.prefix())?);
        let is_own = |e: &LogEntry| e.generation == own && matches!(e.kind, LogKind::Checkpoint { .. });
        Ok(log.entries.iter().any(|(_, e)| is_own(e)))
    }

    /// Keeps the files of the checkpoint that the job is restored from, if it is the job's own. Returns whether it is: when
    /// not, the state backend must write everything anew.
    pub fn adopt(&self, point: &RestorePoint) -> bool {
        let own = point.storage.endpoint() == self.inner.storage.endpoint() && point.prefix == self.inner.prefix();
        if own {
            self.inner.files().pinned = point.metadata.files().map(str::to_owned).collect();
        }
        own
    }

    /// Leaves a checkpoint of the job alone that the user named as the start of this generation, as Flink's `NO_CLAIM` does: it goes
    /// neither when newer ones complete nor when the job ends.
    pub fn keep(&self, checkpoint: CheckpointId) {
        self.inner.files().kept.insert(checkpoint);
    }

    /// A writer for the chunks of one checkpoint, for any thread. It fails once the checkpoint is given up.
    pub fn chunk_writer(&self, checkpoint: CheckpointId) -> Result<Arc<dyn ChunkWriter>> {
        let generation = self.generation();
        if generation == 0 {
            return Err(self.inner.not_begun());
        }
        let writer = JobChunkWriter { job: self.inner.clone(), checkpoint, generation };
        let mut files = self.inner.files();
        if files.is_settled(checkpoint) {
            return Err(writer.aborted());
        }
        files.in_flight.entry(checkpoint).or_default();
        Ok(Arc::new(writer))
    }

    /// A reader for the job's own chunks; for a restore use [`RestorePoint::chunk_reader`].
    pub fn chunk_reader(&self) -> Arc<dyn ChunkReader> {
        Arc::new(StoredChunks::new(self.inner.storage.clone(), self.inner.prefix()))
    }

    /// Writes `_metadata` and appends to the log: with that the checkpoint exists. [`ErrorKind::Fenced`] when a newer generation
    /// owns the job. After any other error it may exist or not; later calls find out, and its files stay until then.
    pub fn publish(&self, metadata: &CheckpointMetadata) -> Result<Published> {
        self.publish_at(metadata, &mut |_| {})
    }

    /// [`Self::publish`] that calls `at("metadata-written")` between writing the metadata and publishing it, and
    /// `at("published")` right after: where a crash harness kills the process.
    pub fn publish_at(&self, metadata: &CheckpointMetadata, at: &mut dyn FnMut(&'static str)) -> Result<Published> {
        let inner = &*self.inner;
        let mut state = inner.log();
        if state.generation == 0 {
            return Err(inner.not_begun());
        }
        let checkpoint = metadata.checkpoint;
        self.check_references(metadata)?;
        let metadata = CheckpointMetadata { generation: state.generation, ..metadata.clone() };
        let bytes = metadata.encode();
        self.write_metadata(&state, checkpoint, &bytes)?;
        at("metadata-written");
        let kind = LogKind::Checkpoint { checkpoint, metadata_crc32: crc32fast::hash(&bytes) };
        self.append_checkpoint(&mut state, &metadata, kind)?;
        at("published");
        let stragglers = inner.files().settle(checkpoint);
        self.delete_files(stragglers);
        let path = format!("{}/{}", inner.storage.endpoint(), chk_dir(&inner.prefix(), checkpoint));
        Ok(Published { path, metadata_bytes: bytes.len() as u64 })
    }

    /// A checkpoint was given up: its files go, and its writers fail.
    pub fn abort(&self, checkpoint: CheckpointId) {
        let orphans = self.inner.files().settle(checkpoint);
        self.delete_files(orphans);
        self.delete_files(vec![format!("chk-{checkpoint}")]);
    }

    /// A state that no checkpoint refers to: its files go, unless something else refers to them.
    pub fn discard(&self, checkpoint: CheckpointId, state: &SubtaskState) {
        let own = format!("chk-{checkpoint}/");
        let mut orphans = Vec::new();
        let mut files = self.inner.files();
        for chunk in state.chunks() {
            let ChunkLocation::File { path, .. } = &chunk.location else { continue };
            let written = files.in_flight.get_mut(&checkpoint).is_some_and(|f| f.remove(path));
            if (written || path.starts_with(&own)) && !files.is_known(path) {
                orphans.push(path.clone());
            }
        }
        drop(files);
        self.delete_files(orphans);
    }

    /// Best effort: what stays behind is removed when the next generation cleans up.
    pub(super) fn delete_files(&self, paths: Vec<String>) {
        for path in paths {
            if let Err(e) = self.inner.storage.delete(&self.inner.path(&path)) {
                tracing::warn!("an unused file stays behind until the next start of the job: {e}");
            }
        }
    }

    fn check_references(&self, metadata: &CheckpointMetadata) -> Result<()> {
        let files = self.inner.files();
        match metadata.files().find(|path| !files.is_known(path)) {
            None => Ok(()),
            Some(path) => Err(Error::bug(format!(
                "checkpoint {} refers to {path}, which this job neither wrote nor retains",
                metadata.checkpoint
            ))),
        }
    }

    fn write_metadata(&self, state: &LogState, checkpoint: CheckpointId, bytes: &[u8]) -> Result<()> {
        let inner = &*self.inner;
        let at = format!("{}/_metadata", chk_dir(&inner.prefix(), checkpoint));
        let put = inner.storage.put_new(&at, bytes.to_vec().into());
        let mut ours = matches!(put, Ok(true));
        let found = if ours { None } else { inner.storage.get(&at, None)? };
        ours |= found.as_deref() == Some(bytes);
        if ours {
            // Goes with the other files if the checkpoint is given up.
            let mut files = inner.files();
            files.in_flight.entry(checkpoint).or_default().insert(format!("chk-{checkpoint}/_metadata"));
            return Ok(());
        }
        let Some(found) = found else { return put.map(|_| ()) };
        let shown = format!("{}/{at}", inner.storage.endpoint());
        match CheckpointMetadata::decode(&found, &shown) {
            Ok(other) if other.generation > state.generation && !inner.options.fence_disabled => {
                Err(inner.fenced(state.generation, other.generation))
            }
            // An older start wrote it after this one began. Never overwritten: the next checkpoint has another id.
            _ => Err(Error::retry("checkpoint.metadata-exists", format!("checkpoint metadata {shown} exists already"))
                .detail("another start of the job wrote it; the checkpoint is given up")
                .hint("check that only one process runs the job")),
        }
    }

    fn append_checkpoint(&self, state: &mut LogState, metadata: &CheckpointMetadata, kind: LogKind) -> Result<()> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let entry = LogEntry { generation: state.generation, nonce: random(), kind };
        loop {
            let seq = state.next_seq;
            match log::append(&*inner.storage, &prefix, seq, &entry) {
                Ok(Appended::Ours) => break,
                Ok(Appended::Taken(found)) => {
                    // The lost reply of an earlier publish, which did happen, or another's entry.
                    let (own, orphans) = inner.files().resolve(found.nonce);
                    self.delete_files(orphans);
                    if !own && !inner.options.fence_disabled {
                        return Err(inner.fenced(state.generation, found.generation));
                    }
                    state.next_seq += 1;
                }
                Err(e) => {
                    let (checkpoint, retained) = (metadata.checkpoint, Retained::of(seq, metadata));
                    inner.files().doubt(Unresolved { nonce: entry.nonce, checkpoint, retained });
                    return Err(e);
                }
            }
        }
        // Truncation may have freed the number: only the last entry of the log is a published checkpoint.
        let seq = state.next_seq;
        let newest = log::sequence(&*inner.storage, &prefix)?.last().copied().unwrap_or(seq);
        if newest > seq && !inner.options.fence_disabled {
            inner.storage.delete(&log::path(&prefix, seq))?;
            let newer = log::read_entry(&*inner.storage, &prefix, newest)?.map_or(0, |e| e.generation);
            return Err(inner.fenced(state.generation, newer));
        }
        state.next_seq += 1;
        let mut files = inner.files();
        files.retained.insert(metadata.checkpoint, Retained::of(seq, metadata));
        // A failover goes back to this one now, no longer to the one the job was started from.
        files.pinned.clear();
        // At that number lies our entry, so those whose reply was lost never came to be.
        let (_, orphans) = files.resolve(entry.nonce);
        drop(files);
        self.delete_files(orphans);
        Ok(())
    }
}
