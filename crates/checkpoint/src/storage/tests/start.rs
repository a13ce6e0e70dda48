//! Opening a directory, finding jobs and checkpoints, timing calls.

use std::os::unix::fs::MetadataExt;

use flott_core::ErrorKind;
use flott_core::time::ManualClock;

use super::*;

#[test]
fn directories_are_paths_or_file_uris() {
    let path = |t: &str| Location::parse(t).unwrap().path;
    for text in ["/data/c", "file:///data/c", "file:/data/c", "file://localhost/data/c"] {
        assert_eq!(path(text), std::path::Path::new("/data/c"), "{text}");
    }
    assert!(path("relative/c").is_absolute() && path("relative/c").ends_with("relative/c"));
    for text in ["hdfs://nn:8020/c", "s3://bucket/c", "hdfs:/c", "gs://b"] {
        let e = Location::parse(text).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::User, "storage.scheme"), "{text}");
        assert!(e.to_string().contains("come later"), "{e}");
    }
    for text in ["", " ", "file://host/c"] {
        assert_eq!(Location::parse(text).unwrap_err().code(), "storage.location", "{text}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let e = CheckpointDirectory::open(file.join("c").to_str(), options(1)).err().unwrap();
    assert_eq!((e.kind(), e.code()), (ErrorKind::User, "storage.not-a-directory"), "{e}");
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let text = local::io_error("write", &dir.path().join("a/b"), &denied).to_string();
    let (found, own) = (std::fs::metadata(dir.path()).unwrap(), std::fs::metadata("/proc/self").unwrap());
    let owner = format!("{} is owned by {}:", dir.path().display(), found.uid());
    assert!(text.starts_with(&format!("cannot write file://{}/a/b: {owner}", dir.path().display())), "{text}");
    assert!(
        text.contains(&format!("mode {:04o}", found.mode() & 0o7777))
            && text.contains(&format!("running as {}:", own.uid())),
        "{text}"
    );
}

#[test]
fn opening_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/c");
    let opened = CheckpointDirectory::open(root.to_str(), options(1)).unwrap();
    assert_eq!(opened.endpoint(), format!("file://{}", root.display()));
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    let wrong = |o: StorageOptions| CheckpointDirectory::open(None, o).err().unwrap().code();
    assert_eq!(wrong(StorageOptions { inline_threshold_bytes: 2 << 20, ..options(1) }), "checkpoint.inline-threshold");
    assert_eq!(wrong(options(0)), "checkpoint.num-retained");
}

#[test]
fn a_job_name_keeps_its_id() {
    on_both(|s| {
        let directory = CheckpointDirectory::on(Box::new(s.clone()), options(1)).unwrap();
        let names = ["hourly", "a b", "a_b", "a/b", "", "..", &"long".repeat(99)];
        let ids: Vec<JobId> = names.iter().map(|n| directory.job_id(n).unwrap()).collect();
        let again: Vec<JobId> = names.iter().map(|n| directory.job_id(n).unwrap()).collect();
        assert_eq!(ids, again);
        let mut different = ids.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), names.len());
        s.delete("jobs/hourly").unwrap();
        s.put_new("jobs/hourly", "rubbish".into()).unwrap();
        assert_eq!(directory.job_id("hourly").unwrap_err().code(), "checkpoint.job-id");
    });
}

#[test]
fn checkpoints_are_found_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let directory = CheckpointDirectory::open(dir.path().to_str(), options(2)).unwrap();
    let job = directory.job(JOB);
    job.begin_generation().unwrap();
    let chunk = put(&job, 1, ChunkScope::Shared, "content");
    let at = job.publish(&metadata(1, vec![chunk.clone()])).unwrap().path;
    publish(&job, 2).unwrap();
    assert_eq!(directory.latest(JOB).unwrap().unwrap().metadata.checkpoint.0, 2);
    assert!(directory.latest(JobId(1)).unwrap().is_none());
    for path in [at.clone(), format!("{at}/_metadata"), format!("{at}/")] {
        let point = load(&path, options(1)).unwrap();
        assert_eq!((point.metadata.checkpoint.0, point.path.as_str()), (1, at.as_str()));
        assert_eq!(point.chunk_reader().get(&chunk).unwrap(), "content");
        assert!(job.adopt(&point) && !directory.job(JobId(2)).adopt(&point));
    }
    let code = |p: &str| load(p, options(1)).unwrap_err();
    assert_eq!(code("/no/such/place").code(), "checkpoint.not-found");
    let e = code(&job.uri());
    assert!(e.message().contains("chk-1, chk-2"), "{e}");
    // Written but never published.
    let chk_9 = dir.path().join(JOB.to_string()).join("chk-9");
    std::fs::create_dir(&chk_9).unwrap();
    std::fs::write(chk_9.join("_metadata"), metadata(9, Vec::new()).encode()).unwrap();
    assert_eq!(code(chk_9.to_str().unwrap()).code(), "checkpoint.unpublished");
    let log = dir.path().join(JOB.to_string()).join("log");
    std::fs::write(log.join(format!("{:020}", 1)), "rubbish").unwrap();
    let point = load(&at, options(1)).unwrap();
    assert!(point.notices.len() == 1 && point.notices[0].contains("unknown"), "the way out of a damaged log");
    std::fs::write(chk_9.join("_metadata"), "Java").unwrap();
    assert_eq!(code(chk_9.to_str().unwrap()).code(), "checkpoint.foreign");
}

struct Slow(Shared, Arc<ManualClock>);

impl CheckpointStorage for Slow {
    fn endpoint(&self) -> &str {
        "slow:"
    }
    fn put_new(&self, path: &str, bytes: Bytes) -> flott_core::Result<bool> {
        self.1.advance(if path.contains("chk-7") { 37_800 } else { 20 });
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

#[test]
fn slow_calls_are_told() {
    let clock = ManualClock::at(0);
    let inner = Shared(Arc::new(ObjectStorage::in_memory().unwrap()));
    let timed = TimedStorage::new(Box::new(Slow(inner, clock.clone())), clock, 1_000);
    for i in 0..50 {
        timed.put_new(&format!("x/{i}"), Bytes::from(vec![0; 10])).unwrap();
    }
    timed.put_new("chk-7/ab", Bytes::from(vec![0; 8 << 10])).unwrap();
    let stats = timed.stats();
    assert_eq!(
        (stats.endpoint.as_str(), stats.slow.as_slice()),
        ("slow:", &["put chk-7/ab (8 KiB) took 37.8 s, p99 is 0.02 s".to_owned()][..])
    );
    let put = &stats.operations[0];
    assert_eq!((put.operation, put.count, put.errors, put.bytes), ("put", 51, 0, 500 + 8192));
    assert_eq!((put.p50_ms, put.max_ms), (20.0, 37_800.0));
    assert_eq!(stats.operations.len(), 1, "others were never called");
}
