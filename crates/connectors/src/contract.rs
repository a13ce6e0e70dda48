//! The laws of sources and sinks as tests that every implementation runs; used by tests only, never by a job.
//!
//! Panics are assertions here: a violated law names itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::ids::{JobId, OperatorId};
use flott_core::memory::MemoryBudget;
use flott_core::metrics::OperatorMetrics;
use flott_core::sink::{CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::source::{ReaderContext, ReaderEvent, Source, Split, SplitReader};
use flott_core::time::ManualClock;
use flott_core::{ChangeBatch, CheckpointId};

use crate::text::render_row;

/// A context of a reader, at a clock that the caller moves.
pub fn reader_context(clock: Arc<ManualClock>, subtask: u32, parallelism: u32) -> ReaderContext {
    let (config, metrics) = (Arc::new(Configuration::default()), Arc::new(OperatorMetrics::default()));
    ReaderContext { subtask, parallelism, clock, config, memory: MemoryBudget::unlimited(), metrics }
}

/// A context of a writer or committer of job 1.
pub fn sink_context(subtask: u32, parallelism: u32, attempt: u32, run: u64) -> SinkContext {
    SinkContext {
        job: JobId(1),
        operator: OperatorId(2),
        subtask,
        parallelism,
        attempt,
        run,
        clock: ManualClock::at(1_000_000),
        config: Arc::new(Configuration::default()),
        memory: MemoryBudget::unlimited(),
        metrics: Arc::new(OperatorMetrics::default()),
    }
}

/// The rows of a batch as text, for comparison.
pub fn rows_of(batch: &ChangeBatch) -> Vec<String> {
    let line = |i| {
        let mut text = String::new();
        render_row(&batch.rows, i, batch.kind(i), &mut text);
        text
    };
    (0..batch.num_rows()).map(line).collect()
}

/// Polls `steps` times at most, moving the clock when the reader waits; the rows, and whether it is drained.
fn drive(reader: &mut dyn SplitReader, clock: &ManualClock, steps: usize, rows: &mut Vec<String>) -> bool {
    for _ in 0..steps {
        match reader.poll().expect("a good source polls without error") {
            ReaderEvent::Rows { batch, .. } => rows.extend(rows_of(&batch)),
            ReaderEvent::SplitFinished { .. } => {}
            ReaderEvent::Wait { until_ms } => clock.set(until_ms.max(flott_core::Clock::now_ms(clock) + 1)),
            ReaderEvent::Drained => return true,
        }
    }
    false
}

/// Steps after which a bounded source that has not ended is held to be stuck.
const STEPS_MAX: usize = 1_000_000;

fn run_to_end(source: &dyn Source, splits: Vec<Split>, readers: u32, start_ms: i64, rows: &mut Vec<String>) {
    for subtask in 0..readers {
        let clock = ManualClock::at(start_ms);
        let mut reader = source.reader(reader_context(clock.clone(), subtask, readers)).expect("a reader");
        let own = splits.iter().enumerate().filter(|(i, _)| *i as u32 % readers == subtask).map(|(_, s)| s.clone());
        reader.assign(own.collect()).expect("splits are assigned");
        assert!(drive(reader.as_mut(), &clock, STEPS_MAX, rows), "a bounded source ends");
    }
}

/// The law of bounded sources: unique split ids that stay the same; whatever the number of readers, and from whatever
/// snapshot reading goes on, the rows are the same. `make` gives the same source afresh. Returns the rows, sorted.
pub fn check_source(make: &dyn Fn() -> Arc<dyn Source>) -> Vec<String> {
    let discover = || make().enumerator().expect("an enumerator").discover(2).expect("splits");
    let splits = discover();
    assert_eq!(splits, discover(), "splits are the same at every start");
    let ids: BTreeSet<_> = splits.iter().map(|s| &s.id).collect();
    assert_eq!(ids.len(), splits.len(), "split ids are unique");

    let mut expected = Vec::new();
    run_to_end(make().as_ref(), splits.clone(), 1, 0, &mut expected);
    expected.sort();
    for readers in [2, 3] {
        let mut rows = Vec::new();
        run_to_end(make().as_ref(), splits.clone(), readers, 0, &mut rows);
        rows.sort();
        assert_eq!(rows, expected, "{readers} readers give the rows of one");
    }
    for steps in 0..STEPS_MAX {
        let (source, clock, mut rows) = (make(), ManualClock::at(0), Vec::new());
        let mut reader = source.reader(reader_context(clock.clone(), 0, 1)).expect("a reader");
        reader.assign(splits.clone()).expect("splits are assigned");
        // Few steps are tried one by one, many in strides, so that long sources take no quadratic time.
        let steps = if steps < 8 { steps } else { steps * steps };
        let drained = drive(reader.as_mut(), &clock, steps, &mut rows);
        let snapshot = reader.snapshot().expect("a snapshot");
        assert_eq!(snapshot, reader.snapshot().expect("a snapshot"), "a snapshot changes nothing");
        drop(reader);
        run_to_end(make().as_ref(), snapshot, 2, flott_core::Clock::now_ms(clock.as_ref()), &mut rows);
        rows.sort();
        assert_eq!(rows, expected, "restored after {steps} polls, the rows are the same");
        if drained {
            break;
        }
    }
    expected
}

/// What the sink law needs to know about a sink in two phases.
pub struct SinkLaw<'a> {
    /// The sink, afresh.
    pub sink: &'a dyn Fn() -> Arc<dyn Sink>,
    /// Rows that readers see now, sorted.
    pub visible: &'a dyn Fn() -> Vec<String>,
    /// Number of things, visible or hidden, that the sink has left.
    pub left: &'a dyn Fn() -> usize,
}

fn write_all(writer: &mut dyn SinkWriter, batch: &ChangeBatch) {
    while writer.write(batch).expect("a write") != WriteStatus::Accepted {}
}

/// Flushes, then prepares.
fn prepare(writer: &mut dyn SinkWriter, checkpoint: u64, end_of_data: bool) -> Vec<Committable> {
    while writer.flush(end_of_data).expect("a flush") != WriteStatus::Accepted {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    writer.prepare_commit(CheckpointId(checkpoint), end_of_data).expect("prepared")
}

/// Commits, and asks again for as long as the committer says that it is under way.
pub fn commit(committer: &mut dyn Committer, committables: &[Committable]) -> Result<(), CommitError> {
    let mut rest = committables;
    loop {
        match committer.commit(rest) {
            Err(CommitError::Pending { committed, .. }) => rest = &rest[committed..],
            done => return done,
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Rows that are visible, with how often.
fn counted(rows: Vec<String>) -> BTreeMap<String, usize> {
    rows.into_iter().fold(BTreeMap::new(), |mut counts, row| {
        *counts.entry(row).or_default() += 1;
        counts
    })
}

impl SinkLaw<'_> {
    fn start(&self, attempt: u32, run: u64, restored: &[Committable]) -> (Box<dyn SinkWriter>, Box<dyn Committer>) {
        let sink = (self.sink)();
        let context = sink_context(0, 1, attempt, run);
        let mut committer = sink.committer(context.clone()).expect("a committer").expect("a sink in two phases");
        commit(committer.as_mut(), restored).expect("restored committables commit");
        committer.clean_up().expect("clean up");
        (sink.writer(context, Vec::new()).expect("a writer"), committer)
    }

    /// Runs the law with three different batches: nothing is visible before its commit; a crash before or after the
    /// barrier loses nothing that a checkpoint covers and shows nothing that none covers; a repeated commit changes nothing;
    /// cleaning up leaves what is committed.
    pub fn check(&self, batches: [&ChangeBatch; 3]) {
        let rows: Vec<Vec<String>> = batches.iter().map(|b| rows_of(b)).collect();
        let [first, second, third] = [&rows[0], &rows[1], &rows[2]];
        // Crash before the first barrier.
        let (mut writer, _) = self.start(1, 10, &[]);
        write_all(writer.as_mut(), batches[2]);
        drop(writer);
        // The same attempt number again, in a new process: nothing collides.
        let (mut writer, mut committer) = self.start(1, 11, &[]);
        assert_eq!((self.left)(), 0, "what a dead attempt left is gone");
        write_all(writer.as_mut(), batches[0]);
        assert!((self.visible)().is_empty(), "nothing is visible before the barrier");
        let prepared = prepare(writer.as_mut(), 1, false);
        assert!((self.visible)().is_empty(), "nothing is visible before the commit");
        assert!(prepared.iter().all(|c| c.checkpoint == CheckpointId(1)), "committables name their checkpoint");
        commit(committer.as_mut(), &prepared).expect("a commit");
        let one = counted(first.clone());
        assert_eq!(counted((self.visible)()), one, "the commit shows the rows");
        commit(committer.as_mut(), &prepared).expect("a repeated commit succeeds");
        assert_eq!(counted((self.visible)()), one, "a repeated commit changes nothing");
        // Crash after a barrier whose checkpoint was published, before its commit; rows after it are lost with the process.
        write_all(writer.as_mut(), batches[1]);
        let published = prepare(writer.as_mut(), 2, false);
        write_all(writer.as_mut(), batches[2]);
        drop((writer, committer));
        let (mut writer, mut committer) = self.start(2, 12, &published);
        let two = counted(first.iter().chain(second).cloned().collect());
        assert_eq!(counted((self.visible)()), two, "restored committables are committed, later rows are not");
        commit(committer.as_mut(), &published).expect("a repeated commit after the restore succeeds");
        assert_eq!(counted((self.visible)()), two, "and changes nothing");
        // Crash after a barrier whose checkpoint was never published.
        write_all(writer.as_mut(), batches[2]);
        prepare(writer.as_mut(), 3, false);
        drop((writer, committer));
        let (mut writer, mut committer) = self.start(3, 13, &published);
        assert_eq!(counted((self.visible)()), two, "unpublished rows stay invisible");
        write_all(writer.as_mut(), batches[2]);
        let last = prepare(writer.as_mut(), 3, true);
        commit(committer.as_mut(), &last).expect("a commit");
        let ids: BTreeSet<_> = prepared.iter().chain(&published).chain(&last).map(|c| &c.id).collect();
        assert_eq!(ids.len(), prepared.len() + published.len() + last.len(), "ids of committables are unique for ever");
        let all = counted(first.iter().chain(second).chain(third).cloned().collect());
        assert_eq!(counted((self.visible)()), all, "at the end all rows are there once");
    }
}
