//! What a sink does at barriers, notifications and restores; the engine's tests run it in whole jobs.

use std::sync::Mutex;

use arrow_schema::DataType;
use flott_core::operator::OperatorFactory;
use flott_core::sink::ChangelogMode;
use flott_core::snapshot::OperatorSubtaskState;

use super::*;
use crate::testing::{OperatorHarness, batch, render_batch, schema};

/// What the sink was asked, in order; and what it answers.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    busy_until_ms: i64,
    commit_errors: Vec<CommitError>,
}

#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Log>>);

impl Spy {
    fn say(&self, line: impl Into<String>) {
        self.0.lock().expect("not poisoned").lines.push(line.into());
    }
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("not poisoned").lines)
    }
    fn fail(&self, errors: impl IntoIterator<Item = CommitError>) {
        self.0.lock().expect("not poisoned").commit_errors.extend(errors);
    }
    fn harness(&self, restored: &[OperatorSubtaskState]) -> Result<OperatorHarness> {
        let spy = self.clone();
        let factory = move || Ok(Box::new(SinkOperator::new(Arc::new(spy.clone()), 7)) as Box<dyn Operator>);
        OperatorHarness::builder(Arc::new(factory) as Arc<dyn OperatorFactory>).restored(restored).build()
    }
}

impl Sink for Spy {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }
    fn writer(&self, context: SinkContext, restored: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        self.say(format!("writer run {} restored {restored:?}", context.run));
        Ok(Box::new(SpyWriter { spy: self.clone(), context }))
    }
    fn committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(self.clone())))
    }
}

struct SpyWriter {
    spy: Spy,
    context: SinkContext,
}

impl SinkWriter for SpyWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let until_ms = self.spy.0.lock().expect("not poisoned").busy_until_ms;
        if self.context.clock.now_ms() < until_ms {
            return Ok(WriteStatus::Busy { until_ms });
        }
        self.spy.say(format!("write {}", render_batch(batch).join(" ")));
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, checkpoint: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>> {
        self.spy.say(format!("prepare {checkpoint} end {end_of_data}"));
        Ok(vec![Committable { id: format!("part-{checkpoint}"), checkpoint, payload: Vec::new() }])
    }
    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        Ok(vec![Bytes::from_static(b"w")])
    }
    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        self.spy.say(format!("time {now_ms}"));
        Ok(Some(now_ms + 1_000))
    }
}

impl Committer for Spy {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let ids: Vec<&str> = committables.iter().map(|c| c.id.as_str()).collect();
        self.say(format!("commit {}", ids.join(" ")));
        let mut log = self.0.lock().expect("not poisoned");
        if log.commit_errors.is_empty() { Ok(()) } else { Err(log.commit_errors.remove(0)) }
    }
    fn clean_up(&mut self) -> Result<()> {
        self.say("clean up");
        Ok(())
    }
}

fn one_row() -> ChangeBatch {
    batch(&schema(&[("a", DataType::Int64)]), &["[1]"])
}

fn error() -> Error {
    Error::retry("test.commit", "the network is down")
}

#[test]
fn commits_follow_published_checkpoints_in_order() {
    let spy = Spy::default();
    let mut sink = spy.harness(&[]).expect("opens");
    assert_eq!(spy.lines(), ["writer run 7 restored []", "clean up", "time 0"]);
    sink.batch(0, one_row()).expect("taken");
    sink.checkpoint().expect("cut");
    sink.checkpoint().expect("cut");
    sink.checkpoint().expect("cut");
    sink.notify(Notification::Aborted(CheckpointId(1))).expect("heard");
    assert_eq!(spy.lines(), ["write +I[1]", "prepare 1 end false", "prepare 2 end false", "prepare 3 end false"]);
    // What an aborted checkpoint prepared belongs to the next one.
    sink.notify(Notification::Completed(CheckpointId(2))).expect("heard");
    sink.notify(Notification::Completed(CheckpointId(2))).expect("heard");
    assert_eq!(spy.lines(), ["commit part-1 part-2"]);
    sink.end_of_data().expect("ends");
    sink.checkpoint().expect("cut");
    sink.notify(Notification::Completed(CheckpointId(4))).expect("heard");
    assert_eq!(spy.lines(), ["prepare 4 end true", "commit part-3 part-4"]);
}

#[test]
fn restored_commits_come_before_the_clean_up_and_the_first_write() {
    let spy = Spy::default();
    let mut first = spy.harness(&[]).expect("opens");
    first.checkpoint().expect("cut");
    let state = first.checkpoint().expect("cut");
    spy.lines();
    spy.fail([CommitError::Determinate(error())]);
    let mut sink = spy.harness(&[state]).expect("opens");
    assert_eq!(spy.lines(), [r#"writer run 7 restored [b"w"]"#, "commit part-1 part-2"]);
    sink.batch(0, one_row()).expect("kept");
    assert!(sink.is_blocked(), "nothing is written before the restored commits are done");
    sink.processing_time(100).expect("tried again");
    assert_eq!(spy.lines(), ["commit part-1 part-2", "clean up", "time 100", "write +I[1]"]);
    assert!(!sink.is_blocked());
}

#[test]
fn a_busy_writer_gets_the_same_batch_again() {
    let spy = Spy::default();
    spy.0.lock().expect("not poisoned").busy_until_ms = 50;
    let mut sink = spy.harness(&[]).expect("opens");
    spy.lines();
    sink.batch(0, one_row()).expect("kept");
    assert!(sink.is_blocked());
    assert_eq!(sink.next_wake_ms(), Some(50));
    sink.processing_time(49).expect("too soon");
    assert_eq!(spy.lines(), Vec::<String>::new());
    sink.processing_time(50).expect("taken");
    assert_eq!(spy.lines(), ["write +I[1]"]);
    sink.processing_time(1_000).expect("rolls");
    sink.processing_time(2_000).expect("rolls");
    assert_eq!(spy.lines(), ["time 1000", "time 2000"]);
}

#[test]
fn what_may_have_happened_or_never_can_fails_the_job_at_once() {
    for (failure, text) in [
        (CommitError::Indeterminate(error()), "a commit may or may not have happened: the network is down"),
        (CommitError::Fatal(error()), "a commit can never succeed: part-1: the network is down"),
    ] {
        let spy = Spy::default();
        let mut sink = spy.harness(&[]).expect("opens");
        sink.checkpoint().expect("cut");
        spy.fail([failure]);
        let e = sink.notify(Notification::Completed(CheckpointId(1))).expect_err("the job fails");
        assert!(e.message().ends_with(text), "{e}");
    }
}

#[test]
fn retries_back_off_and_end() {
    let spy = Spy::default();
    let mut sink = spy.harness(&[]).expect("opens");
    sink.checkpoint().expect("cut");
    spy.fail((0..5).map(|_| CommitError::Determinate(error())));
    sink.notify(Notification::Completed(CheckpointId(1))).expect("tried again later");
    let mut at = Vec::new();
    let failed = loop {
        let wake_ms = sink.next_wake_ms().expect("a retry is due some time");
        at.push(wake_ms);
        if let Err(e) = sink.processing_time(wake_ms) {
            break e;
        }
    };
    assert_eq!(at, [100, 300, 700, 1_000, 1_500]);
    assert!(failed.message().contains("a commit failed 5 times: the network is down"), "{failed}");
}
