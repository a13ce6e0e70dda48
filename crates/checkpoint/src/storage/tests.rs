//! The storage's contract on every implementation, and the job's protocol on top: fences, lost replies, retention, damage.

mod contract;
mod faulty;
mod protocol;
mod retention;
mod start;

use std::sync::Arc;

use bytes::Bytes;
use flott_core::snapshot::{ChunkRef, ChunkScope, KeyedStateHandle, OperatorSubtaskState};
use flott_core::{CheckpointId, JobId, KeyGroupRange, OperatorId};

use super::*;
use crate::metadata::{CheckpointMetadata, OperatorMetadata};

const JOB: JobId = JobId(0xab);

/// One storage that several directories share: what several processes see.
#[derive(Clone)]
struct Shared(Arc<dyn CheckpointStorage>);

impl CheckpointStorage for Shared {
    fn endpoint(&self) -> &str {
        self.0.endpoint()
    }
    fn put_new(&self, path: &str, bytes: Bytes) -> flott_core::Result<bool> {
        self.0.put_new(path, bytes)
    }
    fn get(&self, path: &str, range: Option<std::ops::Range<u64>>) -> flott_core::Result<Option<Bytes>> {
        self.0.get(path, range)
    }
    fn list(&self, dir: &str) -> flott_core::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn delete(&self, path: &str) -> flott_core::Result<()> {
        self.0.delete(path)
    }
}

fn options(num_retained: usize) -> StorageOptions {
    StorageOptions { inline_threshold_bytes: 4, num_retained, ..StorageOptions::default() }
}

/// Runs a test on local files and in memory.
fn on_both(test: impl Fn(Shared)) {
    test(Shared(Arc::new(ObjectStorage::in_memory().unwrap())));
    let dir = tempfile::tempdir().unwrap();
    test(Shared(Arc::new(LocalStorage::new(dir.path().join("a/b")))));
}

/// The job as another process would open it.
fn open(storage: &Shared, num_retained: usize) -> JobStorage {
    CheckpointDirectory::on(Box::new(storage.clone()), options(num_retained)).unwrap().job(JOB)
}

fn metadata(checkpoint: u64, chunks: Vec<ChunkRef>) -> CheckpointMetadata {
    let operator = OperatorId(9);
    let keyed = KeyedStateHandle {
        format: ("test".to_owned(), 1),
        key_groups: KeyGroupRange { start: 0, end: 128 },
        descriptor: Bytes::new(),
        chunks,
        state_bytes: 1,
        written_bytes: 1,
    };
    let state = OperatorSubtaskState { operator, keyed: Some(keyed), operator_state: Vec::new() };
    CheckpointMetadata {
        job: JOB,
        job_name: "job".to_owned(),
        checkpoint: CheckpointId(checkpoint),
        generation: 0,
        triggered_ms: 1,
        completed_ms: 2,
        savepoint: false,
        last: false,
        max_parallelism: 128,
        operators: vec![OperatorMetadata {
            id: operator,
            name: "op".to_owned(),
            parallelism: 1,
            max_parallelism: 128,
            subtasks: vec![(0, state)],
        }],
        coordinator_states: Vec::new(),
        in_flight: Vec::new(),
    }
}

/// Writes a chunk of its own and publishes.
fn publish(job: &JobStorage, checkpoint: u64) -> flott_core::Result<()> {
    let chunk = put(job, checkpoint, ChunkScope::Exclusive, "exclusive");
    job.publish(&metadata(checkpoint, vec![chunk])).map(|_| ())
}

fn put(job: &JobStorage, checkpoint: u64, scope: ChunkScope, text: &str) -> ChunkRef {
    let writer = job.chunk_writer(CheckpointId(checkpoint)).unwrap();
    writer.put(scope, Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn chosen(job: &JobStorage) -> Option<u64> {
    job.choose_restore_point().unwrap().map(|p| p.metadata.checkpoint.0)
}

/// All files of the job but the log, without the random parts of names.
fn tree(storage: &Shared) -> Vec<String> {
    let mut out = Vec::new();
    let mut dirs = vec![JOB.to_string()];
    while let Some(dir) = dirs.pop() {
        for name in storage.list(&dir).unwrap() {
            match name.strip_suffix('/') {
                Some(sub) => dirs.push(format!("{dir}/{sub}")),
                None => out.push(format!("{}/{}", &dir[33.min(dir.len())..], name)),
            }
        }
    }
    out.retain(|p| !p.starts_with("log/"));
    out.sort();
    out
}

/// The entries of the log.
fn log_len(storage: &Shared) -> usize {
    storage.list(&format!("{JOB}/log")).unwrap().len()
}
