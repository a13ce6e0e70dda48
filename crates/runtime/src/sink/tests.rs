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
    flush_busy_until_ms: i64,
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
    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        let until_ms = self.spy.0.lock().expect("not poisoned").flush_busy_until_ms;
        if self.context.clock.now_ms() < until_ms {
            self.spy.say(format!("flush end {end_of_data}"));
            return Ok(WriteStatus::Busy { until_ms });
        }
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
    assert!(!sink.is_blocked(), "signals may still come");
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
fn a_barrier_passes_a_busy_writer_and_takes_the_batch_along() {
    let spy = Spy::default();
    spy.0.lock().expect("not poisoned").busy_until_ms = 50;
    let mut sink = spy.harness(&[]).expect("opens");
    spy.lines();
    sink.batch(0, one_row()).expect("kept");
    let state = sink.checkpoint().expect("the barrier passes at once");
    assert_eq!(spy.lines(), ["prepare 1 end false"]);
    // A chain that does not ask whether there is room is held back, and loses nothing.
    let second = batch(&schema(&[("a", DataType::Int64)]), &["[2]"]);
    sink.batch(0, second.clone()).expect("held back");
    assert!(sink.is_blocked());
    sink.processing_time(50).expect("taken");
    assert_eq!(spy.lines(), ["write +I[1]", "write +I[2]"]);
    assert!(!sink.is_blocked());
    let after = sink.checkpoint().expect("cut");

    let mut restored = spy.harness(&[state]).expect("opens");
    restored.batch(0, second).expect("held back until the parked rows are written");
    restored.processing_time(50).expect("taken");
    let lines = spy.lines();
    let writes: Vec<&String> = lines.iter().filter(|l| l.starts_with("write +")).collect();
    assert_eq!(writes, ["write +I[1]", "write +I[2]"], "the rows of the checkpoint come first");

    drop(spy.harness(&[after]).expect("opens"));
    assert!(!spy.lines().iter().any(|l| l.starts_with("write +")), "what was written is in no later checkpoint");
}

#[test]
fn an_operator_says_that_it_takes_no_batch_until_the_parked_one_is_written() {
    let spy = Spy::default();
    let mut sink = SinkOperator::new(Arc::new(spy.clone()), 7);
    assert!(sink.accepts_input());
    sink.parked.push_back(one_row());
    assert!(!sink.accepts_input());
    assert!(!sink.is_settled());
    sink.parked.clear();
    sink.recovering = true;
    assert!(!sink.accepts_input(), "restored commits come before the first row");
}

#[test]
fn the_writer_may_make_a_barrier_wait_and_at_the_end_of_data_nothing_is_left() {
    let spy = Spy::default();
    let mut sink = spy.harness(&[]).expect("opens");
    spy.lines();
    spy.0.lock().expect("not poisoned").flush_busy_until_ms = 20;
    sink.checkpoint().expect_err("the barrier waits");
    assert_eq!((sink.is_blocked(), sink.next_wake_ms()), (true, Some(20)));
    sink.processing_time(20).expect("flushed");
    assert_eq!(spy.lines(), ["flush end false", "prepare 1 end false"]);

    // While the rest is written, barriers pass; the end of the data is told after that, and the last barrier follows.
    spy.0.lock().expect("not poisoned").busy_until_ms = 40;
    sink.batch(0, one_row()).expect("kept");
    sink.end_of_data().expect("ends");
    sink.checkpoint().expect("a barrier passes");
    assert_eq!((spy.lines(), sink.is_busy()), (vec!["prepare 2 end false".to_owned()], true));
    spy.0.lock().expect("not poisoned").flush_busy_until_ms = 60;
    sink.processing_time(40).expect("written");
    assert_eq!((spy.lines(), sink.is_busy()), (vec!["write +I[1]".to_owned(), "flush end true".to_owned()], true));
    sink.processing_time(60).expect("flushed");
    assert!(!sink.is_busy(), "now the task may tell");
    sink.checkpoint().expect("the last barrier");
    assert_eq!(spy.lines(), ["prepare 3 end true"]);
}

#[test]
fn a_commit_under_way_is_asked_for_again_and_counts_no_attempt() {
    let spy = Spy::default();
    let mut sink = spy.harness(&[]).expect("opens");
    sink.checkpoint().expect("cut");
    spy.lines();
    spy.fail((1..20).map(|n| CommitError::Pending { committed: usize::from(n == 15), until_ms: n * 10 }));
    sink.notify(Notification::Completed(CheckpointId(1))).expect("begun");
    sink.batch(0, one_row()).expect("rows go on meanwhile");
    sink.checkpoint().expect("and barriers do");
    assert_eq!(spy.lines(), ["commit part-1", "write +I[1]", "prepare 2 end false"]);
    sink.notify(Notification::Completed(CheckpointId(2))).expect("heard, and not asked before the time");
    assert_eq!(spy.lines(), Vec::<String>::new());
    for n in 1..20 {
        sink.processing_time(n * 10).expect("asked again");
    }
    let lines = spy.lines();
    assert_eq!(lines.len(), 19);
    assert!(lines[..14].iter().all(|l| l == "commit part-1 part-2"), "{lines:?}");
    assert!(lines[14..].iter().all(|l| l == "commit part-2"), "what is committed does not come again: {lines:?}");
    sink.notify(Notification::Completed(CheckpointId(2))).expect("done");
    assert_eq!(spy.lines(), Vec::<String>::new(), "what is committed is not committed again");
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
