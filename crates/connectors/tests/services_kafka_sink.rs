//! The Kafka sink on real brokers, of both transaction protocols; never starts or stops one.
#![cfg(feature = "kafka")]

mod kafka_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, MapBuilder, StringBuilder};
use arrow_array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flott_connectors::contract::{self, SinkLaw, sink_context};
use flott_connectors::kafka::sink::{DeliveryGuarantee, KafkaSink, Partitioning};
use flott_core::memory::{MemoryBudget, MemoryUse};
use flott_core::sink::{CommitError, Committable, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{ChangeBatch, CheckpointId, Error, ErrorKind, RowKind};

use kafka_support::{Broker, Read, each_broker, unique};

fn columns() -> Vec<Column> {
    vec![Column::new("id", TypeKind::BigInt.nullable()), Column::new("name", TypeKind::STRING.nullable())]
}

fn batch(rows: &[(i64, &str)]) -> ChangeBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let names = StringArray::from_iter_values(rows.iter().map(|r| r.1));
    let rows = RecordBatch::try_new(arrow_schema(&columns()), vec![Arc::new(ids), Arc::new(names)]);
    ChangeBatch::append(rows.expect("columns fit"))
}

fn changes(rows: &[(RowKind, i64, &str)]) -> ChangeBatch {
    let plain: Vec<(i64, &str)> = rows.iter().map(|r| (r.1, r.2)).collect();
    ChangeBatch::new(batch(&plain).rows, Some(rows.iter().map(|r| r.0).collect()), None)
}

/// The rows of [`batch`] as its JSON messages.
fn json(rows: &[(i64, &str)]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(|(id, name)| format!(r#"{{"id":{id},"name":"{name}"}}"#)).collect();
    lines.sort();
    lines
}

fn write(writer: &mut dyn SinkWriter, batch: &ChangeBatch) -> Result<(), Error> {
    while writer.write(batch)? != WriteStatus::Accepted {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(())
}

fn flush(writer: &mut dyn SinkWriter, end: bool) -> Result<(), Error> {
    while writer.flush(end)? != WriteStatus::Accepted {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(())
}

fn prepare(writer: &mut dyn SinkWriter, checkpoint: u64) -> Vec<Committable> {
    flush(writer, false).expect("a flush");
    writer.prepare_commit(CheckpointId(checkpoint), false).expect("prepared")
}

fn exactly_once(broker: &Broker, topic: &str) -> Arc<dyn Sink> {
    let builder = KafkaSink::builder(&broker.address, topic).exactly_once(topic);
    builder.build(columns()).expect("a sink")
}

fn refused<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(e) => e,
    }
}

/// Commits as the committer of a later attempt.
fn commit(sink: &dyn Sink, context: SinkContext, committables: &[Committable]) -> Result<(), CommitError> {
    let mut committer = sink.committer(context).expect("a committer").expect("two phases");
    contract::commit(committer.as_mut(), committables)
}

#[test]
fn the_law_of_sinks_in_two_phases() {
    each_broker(|broker| {
        let topic = broker.topic("law", 3);
        let visible = || {
            broker.settle(&topic);
            let read = broker.read(&topic, Read::Committed);
            let mut rows: Vec<String> = read.iter().map(|r| row_of(r.value.as_deref().expect("a value"))).collect();
            rows.sort();
            rows
        };
        let left = || {
            broker.settle(&topic);
            broker.open_transactions(&topic).len()
        };
        let law = SinkLaw { sink: &|| exactly_once(broker, &topic), visible: &visible, left: &left };
        law.check([&batch(&[(1, "a"), (2, "b")]), &batch(&[(3, "c")]), &batch(&[(4, "d"), (5, "e"), (6, "f")])]);
    });
}

/// `{"id":1,"name":"a"}` as `+I[1, a]`.
fn row_of(message: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(message).expect("JSON");
    format!("+I[{}, {}]", value["id"], value["name"].as_str().expect("a name"))
}

#[test]
fn a_prepared_transaction_is_committed_after_the_death_of_its_writer() {
    each_broker(|broker| {
        let topic = broker.topic("death", 2);
        let rows = [(1, "a"), (2, "b")];
        let mut writer = exactly_once(broker, &topic).writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &batch(&rows)).expect("written");
        let prepared = prepare(writer.as_mut(), 1);
        assert_eq!(prepared.len(), 1);
        // Rows of the next checkpoint, which never came.
        write(writer.as_mut(), &batch(&[(3, "lost with the process")])).expect("written");
        flush(writer.as_mut(), false).expect("delivered");
        std::mem::forget(writer);
        assert_eq!(broker.values(&topic, Read::Committed), Vec::<String>::new());
        assert_eq!(broker.values(&topic, Read::All).len(), 3);

        // Another process, another parallelism, another subtask.
        let sink = exactly_once(broker, &topic);
        commit(sink.as_ref(), sink_context(1, 2, 0, 2), &prepared).expect("committed");
        broker.settle(&topic);
        // The open transaction behind it does not hide it.
        assert_eq!(broker.values(&topic, Read::Committed), json(&rows));
        for _ in 0..2 {
            commit(sink.as_ref(), sink_context(0, 1, 0, 3), &prepared).expect("committed before");
        }
        let mut committer = sink.committer(sink_context(0, 1, 0, 3)).expect("a committer").expect("two phases");
        committer.clean_up().expect("cleaned up");
        broker.settle(&topic);
        assert_eq!(broker.open_transactions(&topic), Vec::<String>::new());
        assert_eq!(broker.values(&topic, Read::Committed), json(&rows));
    });
}

#[test]
fn names_are_used_again_and_old_committables_stay_committed() {
    each_broker(|broker| {
        let topic = broker.topic("pool", 1);
        let sink = exactly_once(broker, &topic);
        let context = sink_context(0, 1, 0, 1);
        let mut committer = sink.committer(context.clone()).expect("a committer").expect("two phases");
        let mut writer = sink.writer(context, Vec::new()).expect("a writer");
        let mut all = Vec::new();
        for n in 0..6 {
            write(writer.as_mut(), &batch(&[(n, "x")])).expect("written");
            let prepared = prepare(writer.as_mut(), n as u64 + 1);
            contract::commit(committer.as_mut(), &prepared).expect("committed");
            all.extend(prepared);
            // All of them again, while the next transaction is open under a name of theirs: nothing may change.
            write(writer.as_mut(), &batch(&[(100 + n, "open")])).expect("written");
            flush(writer.as_mut(), false).expect("delivered");
            let again = prepare(writer.as_mut(), n as u64 + 1);
            broker.settle(&topic);
            let before = broker.values(&topic, Read::Committed);
            contract::commit(committer.as_mut(), &all).expect("committed before");
            broker.settle(&topic);
            assert_eq!(broker.values(&topic, Read::Committed), before, "after round {n}");
            contract::commit(committer.as_mut(), &again).expect("committed");
            all.extend(again);
        }
        let names: std::collections::BTreeSet<&str> =
            all.iter().map(|c| c.id.split(':').next().expect("a name")).collect();
        assert_eq!(all.len(), 12);
        assert!(names.len() <= 4, "twelve transactions had the names {names:?}");
        broker.settle(&topic);
        assert_eq!(broker.values(&topic, Read::Committed).len(), 12);
    });
}

#[test]
fn a_transaction_that_expired_fails_the_job_and_names_what_is_lost() {
    each_broker(|broker| {
        let topic = broker.topic("expired", 1);
        let build = |lost: &str| {
            let builder = KafkaSink::builder(&broker.address, &topic).exactly_once(&topic);
            let builder = builder.property("transaction.timeout.ms", "1500").option("sink.lost-transactions", lost);
            builder.build(columns()).expect("a sink")
        };
        let context = sink_context(0, 1, 0, 1);
        let mut writer = build("fail").writer(context.clone(), Vec::new()).expect("a writer");
        write(writer.as_mut(), &batch(&[(1, "a"), (2, "b")])).expect("written");
        let prepared = prepare(writer.as_mut(), 7);
        let name = prepared[0].id.split(':').next().expect("a name").to_owned();
        broker.until(&name, "CompleteAbort");
        let error = match commit(build("fail").as_ref(), sink_context(0, 1, 1, 1), &prepared) {
            Err(CommitError::Fatal(error)) => error,
            other => panic!("this is lost: {other:?}"),
        };
        let text = error.to_string();
        assert_eq!((error.code(), error.kind()), ("kafka.transaction-lost", ErrorKind::User));
        for part in [&topic, "2 records", "checkpoint 7", &name, "transaction.timeout.ms"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let later = sink_context(0, 1, 2, 1);
        commit(build("ignore").as_ref(), later.clone(), &prepared).expect("given up");
        assert_eq!(later.metrics.bad_skipped.get(), 2, "they are counted");
        assert_eq!(broker.values(&topic, Read::Committed), Vec::<String>::new());

        // One that expires before its checkpoint fails the attempt, and nothing is lost.
        write(writer.as_mut(), &batch(&[(3, "c")])).expect("written");
        let open = loop {
            // Not flushed: the coordinator is asked by the flush, and shall find the transaction gone.
            if let Some(open) = broker.open_transactions(&topic).pop() {
                break open;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        broker.cluster().fence(&open, 1_500).expect("fenced");
        broker.until(&open, "CompleteAbort");
        let error = refused(flush(writer.as_mut(), false));
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        assert!(["kafka.transaction-aborted", "kafka.fenced"].contains(&error.code()), "{error}");
    });
}

#[test]
fn what_dead_attempts_left_is_aborted_but_no_committable() {
    each_broker(|broker| {
        let topic = broker.topic("linger", 1);
        let open = |subtask: u32, row: i64| {
            let context = sink_context(subtask, 2, 0, 1);
            let mut writer = exactly_once(broker, &topic).writer(context, Vec::new()).expect("a writer");
            write(writer.as_mut(), &batch(&[(row, "x")])).expect("written");
            writer
        };
        // Of subtask 0 one transaction is in the checkpoint and one is not; of subtask 1 none was prepared.
        let mut first = open(0, 1);
        let restored = prepare(first.as_mut(), 1);
        write(first.as_mut(), &batch(&[(2, "x")])).expect("written");
        flush(first.as_mut(), false).expect("delivered");
        let mut second = open(1, 3);
        flush(second.as_mut(), false).expect("delivered");
        assert_eq!(broker.open_transactions(&topic).len(), 3);

        // Subtask 0 of the next attempt starts before subtask 1, which gets the committable.
        let sink = exactly_once(broker, &topic);
        let starter = |subtask| {
            let context = sink_context(subtask, 2, 1, 1);
            let committer = sink.committer(context.clone()).expect("a committer").expect("two phases");
            (committer, sink.writer(context, Vec::new()).expect("a writer"))
        };
        let (mut committer, mut writer) = starter(0);
        committer.clean_up().expect("cleaned up");
        assert_eq!(broker.open_transactions(&topic).len(), 3, "any of them might be somebody's committable");
        let (mut other, _other_writer) = starter(1);
        contract::commit(other.as_mut(), &restored).expect("committed");
        other.clean_up().expect("cleaned up");
        write(writer.as_mut(), &batch(&[(4, "x")])).expect("written");
        let own = prepare(writer.as_mut(), 2);
        contract::commit(committer.as_mut(), &own).expect("committed");
        broker.settle(&topic);
        assert_eq!(broker.open_transactions(&topic), Vec::<String>::new());
        assert_eq!(broker.values(&topic, Read::Committed), json(&[(1, "x"), (4, "x")]));

        // The dead comes back: it cannot write into what is committed, nor say that it did.
        let revived = write(first.as_mut(), &batch(&[(5, "zombie")])).and_then(|()| flush(first.as_mut(), false));
        assert_eq!(refused(revived).kind(), ErrorKind::Retry);
        assert_eq!(broker.values(&topic, Read::Committed), json(&[(1, "x"), (4, "x")]));
        // A stalled process still had this one; it may go now.
        drop(second);
    });
}

#[test]
fn a_writer_that_is_dropped_aborts_its_open_transaction() {
    each_broker(|broker| {
        let topic = broker.topic("drop", 1);
        let mut writer = exactly_once(broker, &topic).writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &batch(&[(1, "a")])).expect("written");
        flush(writer.as_mut(), false).expect("delivered");
        assert_eq!(broker.open_transactions(&topic).len(), 1);
        drop(writer);
        assert_eq!(broker.open_transactions(&topic), Vec::<String>::new());
        broker.settle(&topic);
        assert_eq!(broker.values(&topic, Read::Committed), Vec::<String>::new());
    });
}

#[test]
fn a_timeout_above_the_brokers_maximum_is_refused_at_submission() {
    each_broker(|broker| {
        let builder = KafkaSink::builder(&broker.address, "never-written").exactly_once("p");
        let error = refused(builder.property("transaction.timeout.ms", "3600000").build(columns()));
        assert_eq!((error.code(), error.kind()), ("kafka.transaction-timeout", ErrorKind::User));
        assert!(error.to_string().contains("900000"), "{error}");
    });
}

#[test]
fn at_least_once_delivers_before_the_checkpoint_also_with_little_memory() {
    each_broker(|broker| {
        let topic = broker.topic("alo", 3);
        let builder = KafkaSink::builder(&broker.address, &topic).delivery_guarantee(DeliveryGuarantee::AtLeastOnce);
        let sink = builder.build(columns()).expect("a sink");
        let mut context = sink_context(0, 1, 0, 1);
        context.memory = MemoryBudget::new(|_| 300_000);
        assert!(sink.committer(context.clone()).expect("asked").is_none());
        let mut writer = sink.writer(context.clone(), Vec::new()).expect("a writer");
        let name = "n".repeat(100);
        for n in 0..50 {
            let rows: Vec<(i64, &str)> = (0..1000).map(|i| (n * 1000 + i, name.as_str())).collect();
            write(writer.as_mut(), &batch(&rows)).expect("written");
        }
        flush(writer.as_mut(), false).expect("delivered");
        assert!(writer.prepare_commit(CheckpointId(1), false).expect("prepared").is_empty());
        assert_eq!(broker.values(&topic, Read::Committed).len(), 50_000);
        assert_eq!(context.metrics.external.rows.get(), 50_000);
        assert!(
            context.memory.peak_bytes(MemoryUse::Sink) <= 300_000,
            "{}",
            context.memory.peak_bytes(MemoryUse::Sink)
        );
        assert!(context.memory.refused(MemoryUse::Sink) > 0, "the budget was felt");
        assert_eq!(context.memory.used_bytes(MemoryUse::Sink), 0, "all is given back");
    });
}

#[test]
fn upserts_and_tombstones_and_the_buffer() {
    each_broker(|broker| {
        for buffered in [false, true] {
            let topic = broker.topic("upsert", 1);
            let mut builder = KafkaSink::builder(&broker.address, &topic).upsert("json", &["id"]);
            if buffered {
                builder =
                    builder.option("sink.buffer-flush.max-rows", "100").option("sink.buffer-flush.interval", "1 h");
            }
            let sink = builder.build(columns()).expect("a sink");
            let mut writer = sink.writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
            use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
            let first = [(Insert, 1, "a"), (Insert, 2, "b"), (UpdateBefore, 1, "a"), (UpdateAfter, 1, "c")];
            write(writer.as_mut(), &changes(&first)).expect("written");
            write(writer.as_mut(), &changes(&[(Delete, 2, "b"), (Insert, 3, "d")])).expect("written");
            flush(writer.as_mut(), false).expect("delivered");
            let read: Vec<(String, Option<String>)> =
                broker.read(&topic, Read::Committed).into_iter().map(|r| (r.key.expect("a key"), r.value)).collect();
            let key = |id: i64| format!(r#"{{"id":{id}}}"#);
            let value = |id: i64, name: &str| Some(format!(r#"{{"id":{id},"name":"{name}"}}"#));
            let expected = if buffered {
                vec![(key(1), value(1, "c")), (key(2), None), (key(3), value(3, "d"))]
            } else {
                vec![
                    (key(1), value(1, "a")),
                    (key(2), value(2, "b")),
                    (key(1), value(1, "c")),
                    (key(2), None),
                    (key(3), value(3, "d")),
                ]
            };
            assert_eq!(read, expected);
        }
    });
}

#[test]
fn partitioners() {
    each_broker(|broker| {
        let counts = |topic: &str| {
            let mut counts = BTreeMap::new();
            broker.read(topic, Read::Committed).iter().for_each(|r| *counts.entry(r.partition).or_insert(0) += 1);
            counts
        };
        let run = |builder: flott_connectors::kafka::sink::KafkaSinkBuilder, subtask: u32| {
            let sink = builder.build(columns()).expect("a sink");
            let mut writer = sink.writer(sink_context(subtask, 8, 0, 1), Vec::new()).expect("a writer");
            let rows: Vec<(i64, &str)> = (0..90).map(|i| (i, "x")).collect();
            write(writer.as_mut(), &batch(&rows)).expect("written");
            flush(writer.as_mut(), true).expect("delivered");
        };
        let topic = broker.topic("fixed", 3);
        run(KafkaSink::builder(&broker.address, &topic).partitioner(Partitioning::Fixed), 7);
        assert_eq!(counts(&topic), BTreeMap::from([(1, 90)]));
        let topic = broker.topic("round", 3);
        run(KafkaSink::builder(&broker.address, &topic).partitioner(Partitioning::RoundRobin), 7);
        assert_eq!(counts(&topic), BTreeMap::from([(0, 30), (1, 30), (2, 30)]));
        // By key as Java's clients do it: murmur2, whose values for these keys Java computed.
        let topic = broker.topic("keyed", 3);
        run(KafkaSink::builder(&broker.address, &topic).key("raw", &["name"]), 0);
        assert_eq!(counts(&topic).len(), 1, "one key, one partition");
    });
}

#[test]
fn timestamps_headers_and_topics_by_row() {
    each_broker(|broker| {
        let (a, b) = (broker.topic("by-row-a", 1), broker.topic("by-row-b", 1));
        let metadata = |name: &str, kind: TypeKind| Column {
            metadata_key: Some(name.to_owned()),
            ..Column::new(name, kind.nullable())
        };
        let headers = TypeKind::Map(Box::new(TypeKind::STRING.not_null()), Box::new(TypeKind::BYTES.nullable()));
        let mut columns = vec![Column::new("id", TypeKind::BigInt.nullable())];
        columns.push(metadata("topic", TypeKind::STRING));
        columns.push(metadata("timestamp", TypeKind::TimestampLtz(3)));
        columns.push(metadata("headers", headers));
        let schema = arrow_schema(&columns);
        let batch = |topics: [&str; 2]| {
            let mut maps = MapBuilder::new(None, StringBuilder::new(), BinaryBuilder::new());
            maps.keys().append_value("k");
            maps.values().append_value(b"v");
            maps.keys().append_value("none");
            maps.values().append_null();
            maps.append(true).expect("an entry");
            maps.append(false).expect("no entry");
            let maps = arrow_cast::cast(&maps.finish(), schema.field(3).data_type()).expect("the column's own names");
            let times = TimestampMillisecondArray::from(vec![Some(1_600_000_000_123), None]).with_timezone("UTC");
            let ids = Int64Array::from(vec![1, 2]);
            let topics = StringArray::from_iter_values(topics);
            let rows =
                RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(topics), Arc::new(times), maps]);
            ChangeBatch::append(rows.expect("columns fit"))
        };
        let sink = KafkaSink::builder(&broker.address, format!("{a};{b}")).build(columns.clone()).expect("a sink");
        let mut writer = sink.writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &batch([&a, &b])).expect("written");
        flush(writer.as_mut(), false).expect("delivered");
        let (first, second) = (broker.read(&a, Read::Committed), broker.read(&b, Read::Committed));
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_eq!(first[0].value.as_deref(), Some(r#"{"id":1}"#));
        assert_eq!(first[0].timestamp_ms, 1_600_000_000_123);
        assert_eq!(first[0].headers, vec![("k".to_owned(), Some("v".to_owned())), ("none".to_owned(), None)]);
        assert!(second[0].timestamp_ms > 1_600_000_000_123, "no timestamp is the time of writing");
        assert_eq!(second[0].headers, Vec::new());
        let error = refused(writer.write(&batch([&a, "another"])));
        assert_eq!((error.code(), error.kind()), ("kafka.topic", ErrorKind::User), "{error}");
    });
}

#[test]
fn a_topic_that_the_broker_makes_by_itself_is_not_missing() {
    each_broker(|broker| {
        let topic = unique("made-by-itself");
        for builder in [KafkaSink::builder(&broker.address, &topic), {
            let other = unique("made-by-itself");
            KafkaSink::builder(&broker.address, &other).exactly_once(&other)
        }] {
            let sink = builder.build(columns()).expect("a sink");
            let mut writer = sink.writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
            write(writer.as_mut(), &batch(&[(1, "a")])).expect("written");
            flush(writer.as_mut(), false).expect("delivered");
        }
    });
}

#[test]
fn a_record_that_is_too_large_is_named() {
    each_broker(|broker| {
        let topic = broker.topic("large", 1);
        let name = "x".repeat(2_000_000);
        // The producer's own limit, then the topic's.
        for limit in ["1048576", "5000000"] {
            let builder = KafkaSink::builder(&broker.address, &topic).property("max.request.size", limit);
            let sink = builder.build(columns()).expect("a sink");
            let mut writer = sink.writer(sink_context(0, 1, 0, 1), Vec::new()).expect("a writer");
            let written = write(writer.as_mut(), &batch(&[(1, &name)])).and_then(|()| flush(writer.as_mut(), false));
            let error = refused(written);
            assert_eq!((error.code(), error.kind()), ("kafka.message-too-large", ErrorKind::User), "{error}");
            assert!(error.to_string().contains(&topic) && error.to_string().contains("2000"), "{error}");
        }
    });
}

#[test]
fn no_broker_is_one_clear_error() {
    // Nothing listens on port 1, and no server is needed to find that out.
    let topic = unique("nowhere");
    let sink = KafkaSink::builder("127.0.0.1:1", &topic).build(columns()).expect("a sink");
    let error = refused(sink.writer(sink_context(0, 1, 0, 1), Vec::new()).map(|_| ()));
    assert_eq!((error.code(), error.kind()), ("kafka.unavailable", ErrorKind::Retry), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    let sink = KafkaSink::builder("127.0.0.1:1", &topic).exactly_once(&topic).build(columns()).expect("a sink");
    let mut committer = sink.committer(sink_context(0, 1, 0, 1)).expect("a committer").expect("two phases");
    let error = refused(committer.clean_up());
    assert_eq!((error.code(), error.kind()), ("kafka.unavailable", ErrorKind::Retry), "{error}");
}
