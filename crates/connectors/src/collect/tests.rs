//! The in-memory ends and the printing sinks.

use std::sync::Mutex;

use flott_core::types::TypeKind as T;
use flott_core::{ErrorKind, RowKind};

use super::*;
use crate::contract::{check_source, rows_of, sink_context};
use crate::print::{PrintSink, Target};
use crate::testing::{json_batch, refused, sink, source, table};

fn batch(text: &str) -> ChangeBatch {
    json_batch(&[("a", T::Int), ("b", T::STRING)], text)
}

#[test]
fn a_collection_obeys_the_law_of_sources() {
    let text: String = (0..5000).map(|i| format!("{{\"a\":{i}}}\n")).collect();
    let batches = || vec![batch(&text).rows, batch("").rows, batch("{\"b\":\"x\"}").rows];
    let rows = check_source(&|| Arc::new(CollectionSource::new(batches())));
    assert_eq!(rows.len(), 5001);
    let short = CollectionSource::new(vec![]);
    let state = Writer::new(TAG.0, TAG.1).u64(1).u64(0).done();
    let context = crate::contract::reader_context(flott_core::time::ManualClock::at(0), 0, 1);
    let error = short.reader(context).expect("a reader").assign(vec![Split { id: SPLIT.into(), state }]);
    assert_eq!(error.expect_err("the collection is shorter").kind(), ErrorKind::User);
}

#[test]
fn collected_rows_keep_their_kinds_and_a_full_queue_is_backpressure() {
    let (sink, handle) = CollectSink::new(ChangelogMode::Retract, 2);
    assert!(handle.next(Duration::ZERO).is_none() && !handle.is_finished());
    let mut writer = sink.writer(sink_context(0, 1, 1, 1), Vec::new()).expect("a writer");
    let rows = batch("{\"a\":1}\n{\"a\":1}").rows;
    let changes = ChangeBatch::new(rows, Some([RowKind::Insert, RowKind::Delete].into()), None);
    assert_eq!(writer.write(&changes).expect("taken"), WriteStatus::Accepted);
    assert_eq!(writer.write(&changes).expect("taken"), WriteStatus::Accepted);
    assert!(matches!(writer.write(&changes).expect("refused for now"), WriteStatus::Busy { .. }));
    let taken = handle.next(Duration::from_secs(1)).expect("a batch");
    assert_eq!(rows_of(&taken), ["+I[1, null]", "-D[1, null]"]);
    assert_eq!(writer.write(&changes).expect("taken"), WriteStatus::Accepted);
    writer.prepare_commit(CheckpointId(1), true).expect("the end");
    assert!(!handle.is_finished());
    assert!(handle.next(Duration::ZERO).is_some() && handle.next(Duration::ZERO).is_some());
    assert!(handle.is_finished() && handle.next(Duration::from_secs(60)).is_none());
    drop(handle);
    for _ in 0..5 {
        assert_eq!(writer.write(&changes).expect("nobody reads"), WriteStatus::Accepted);
    }
}

#[test]
fn print_writes_whole_lines_as_flink_does() {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let rows = batch("{\"a\":1,\"b\":\"x\"}\n{}");
    for (identifier, subtask, parallelism) in [("", 0, 1), ("", 1, 2), ("id", 0, 1), ("id", 1, 2)] {
        let sink = PrintSink::new(identifier, Target::Memory(buffer.clone()));
        let mut writer = sink.writer(sink_context(subtask, parallelism, 1, 1), Vec::new()).expect("a writer");
        assert_eq!(writer.write(&rows).expect("printed"), WriteStatus::Accepted);
    }
    let text = String::from_utf8(buffer.lock().expect("no panic").clone()).expect("UTF-8");
    let expected = ["", "2> ", "id> ", "id:2> "].map(|p| format!("{p}+I[1, x]\n{p}+I[null, null]\n")).concat();
    assert_eq!(text, expected);
}

#[test]
fn sinks_cannot_be_read_and_sources_cannot_be_written() {
    for name in ["print", "blackhole"] {
        let t = table(&[("a", T::Int)], &[("connector", name)]);
        assert!(refused(source(&t)).to_string().contains("cannot be read"));
        assert!(sink(&t).is_ok());
        let t = table(&[("a", T::Int)], &[("connector", name), ("format", "json")]);
        assert!(refused(sink(&t)).to_string().contains("there is no option 'format'"));
    }
    let t = table(&[("a", T::Int)], &[("connector", "datagen")]);
    assert!(refused(sink(&t)).to_string().contains("cannot be written"));
    assert_eq!(
        sink(&table(&[("a", T::Int)], &[("connector", "blackhole")])).expect("a sink").changelog_mode(),
        ChangelogMode::Upsert
    );
}
