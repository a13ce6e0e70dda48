//! A storage whose replies get lost, and what publishing makes of it.

use std::sync::Mutex;

use flott_core::{Error, ErrorKind, Result};

use super::*;

/// What happens to the next calls that match.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The put happens, its reply is lost.
    LosePutReply,
    /// The put does not happen.
    FailPut,
    /// Reading fails.
    FailGet,
}

/// Fault, part of the path, times.
type Planned = (Fault, &'static str, u32);

#[derive(Clone)]
struct Faulty {
    inner: Shared,
    plan: Arc<Mutex<Vec<Planned>>>,
}

impl Faulty {
    fn hits(&self, fault: Fault, path: &str) -> bool {
        let mut plan = self.plan.lock().unwrap();
        let hit = plan.iter_mut().find(|(f, part, n)| *f == fault && path.contains(part) && *n > 0);
        hit.map(|(_, _, n)| *n -= 1).is_some()
    }
    fn plan(&self, faults: &[Planned]) {
        *self.plan.lock().unwrap() = faults.to_vec();
    }
}

fn gone<T>() -> Result<T> {
    Err(Error::retry("storage.io", "the reply is lost"))
}

impl CheckpointStorage for Faulty {
    fn endpoint(&self) -> &str {
        self.inner.endpoint()
    }
    fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool> {
        if self.hits(Fault::FailPut, path) {
            return gone();
        }
        let done = self.inner.put_new(path, bytes);
        if self.hits(Fault::LosePutReply, path) { gone() } else { done }
    }
    fn get(&self, path: &str, range: Option<std::ops::Range<u64>>) -> Result<Option<Bytes>> {
        if self.hits(Fault::FailGet, path) { gone() } else { self.inner.get(path, range) }
    }
    fn list(&self, dir: &str) -> Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path)
    }
}

fn faulty() -> (Faulty, JobStorage) {
    let inner = Shared(Arc::new(ObjectStorage::in_memory().unwrap()));
    let faulty = Faulty { inner, plan: Arc::default() };
    let job = CheckpointDirectory::on(Box::new(faulty.clone()), options(1)).unwrap().job(JOB);
    (faulty, job)
}

#[test]
fn a_lost_reply_is_resolved_by_reading_the_nonce_back() {
    let (storage, job) = faulty();
    storage.plan(&[(Fault::LosePutReply, "/log/", 1)]);
    assert_eq!(job.begin_generation().unwrap().number, 1);
    storage.plan(&[(Fault::LosePutReply, "/log/", 1), (Fault::LosePutReply, "_metadata", 1)]);
    publish(&job, 1).unwrap();
    assert_eq!((chosen(&job), log_len(&storage.inner)), (Some(1), 2), "published once");
    storage.plan(&[(Fault::FailPut, "/log/", 2)]);
    publish(&job, 2).unwrap();
    assert_eq!((chosen(&job), log_len(&storage.inner)), (Some(2), 3));
}

#[test]
fn a_publish_that_may_have_happened_keeps_its_files_until_it_is_known() {
    let (storage, job) = faulty();
    job.begin_generation().unwrap();
    publish(&job, 1).unwrap();
    // It did happen, but neither the reply nor the reading back got through.
    storage.plan(&[(Fault::LosePutReply, "/log/", 9), (Fault::FailGet, "/log/", 9), (Fault::FailPut, "/log/", 0)]);
    let e = publish(&job, 2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Retry);
    job.abort(CheckpointId(2));
    storage.plan(&[]);
    assert_eq!(open(&storage.inner, 1).choose_restore_point().unwrap().unwrap().metadata.checkpoint.0, 2);
    // The next publish finds out and goes on behind it.
    publish(&job, 3).unwrap();
    assert_eq!(job.retire().unwrap(), [CheckpointId(1), CheckpointId(2)]);
    assert_eq!(chosen(&job), Some(3));
    assert!(tree(&storage.inner).iter().all(|p| p.starts_with("chk-3/")), "{:?}", tree(&storage.inner));
}

#[test]
fn a_publish_that_did_not_happen_leaves_nothing() {
    let (storage, job) = faulty();
    job.begin_generation().unwrap();
    for id in [1, 2] {
        storage.plan(&[(Fault::FailPut, "/log/", 9)]);
        assert_eq!(publish(&job, id).unwrap_err().kind(), ErrorKind::Retry);
        job.abort(CheckpointId(id));
    }
    storage.plan(&[]);
    publish(&job, 3).unwrap();
    assert_eq!(chosen(&job), Some(3));
    assert!(tree(&storage.inner).iter().all(|p| p.starts_with("chk-3/")), "{:?}", tree(&storage.inner));
}

#[test]
fn a_restore_point_is_not_passed_over_because_storage_is_down() {
    let (storage, job) = faulty();
    job.begin_generation().unwrap();
    publish(&job, 1).unwrap();
    storage.plan(&[(Fault::FailGet, "_metadata", 1)]);
    assert_eq!(job.choose_restore_point().unwrap_err().kind(), ErrorKind::Retry);
}
