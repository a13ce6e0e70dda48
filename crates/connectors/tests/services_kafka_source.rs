//! The Kafka source on a real broker: where it begins and ends, what it makes of messages, and what it does in faults.
#![cfg(feature = "kafka")]

mod kafka_kit;

use std::sync::Arc;

use flott_connectors::contract::check_source;
use flott_core::CheckpointId;
use flott_core::ErrorKind;
use flott_core::memory::{MemoryBudget, MemoryUse};
use flott_core::source::Source;
use flott_core::types::{Column, TypeKind};
use kafka_kit::*;

const JSON: (&str, &str) = ("format", "json");
const BOUNDED: (&str, &str) = ("scan.bounded.mode", "latest-offset");

#[test]
fn reads_every_partition_once_whatever_the_restore() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("contract", 3, &[]);
    broker.write(&topic, &counted(0, 9_000, 3));
    let table = broker.table(numbers(), &[("topic", &topic), JSON, BOUNDED]);
    let rows = check_source(&|| Arc::new(Patient(source(&table).expect("a source"))));
    assert_eq!(rows, counted_rows(0, 9_000));
}

#[test]
fn begins_and_ends_where_the_options_say() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("modes", 2, &[]);
    let now = now_ms();
    let hours = |h: i64| now - h * 3_600_000;
    // Partition 0: offsets 0, 1, 2 at 3, 2 and 1 hours ago; partition 1: one record 3 hours ago.
    let at = |partition, n: i64, hours_ago| {
        let r = value(partition, format!("{{\"n\":{n}}}"));
        Record { timestamp: Some(hours(hours_ago)), ..r }
    };
    broker.write(&topic, &[at(0, 1, 3), at(0, 2, 2), at(0, 3, 1), at(1, 11, 3)]);
    let (two, five) = (hours(2).to_string(), hours(5).to_string());
    let start = |mode: &'static str| ("scan.startup.mode", mode);
    let bounded = |mode: &'static str| ("scan.bounded.mode", mode);
    type Options<'a> = Vec<(&'a str, &'a str)>;
    let cases: Vec<(Options<'_>, &str)> = vec![
        (vec![BOUNDED], "1 11 2 3"),
        (vec![start("latest-offset"), BOUNDED], ""),
        (vec![start("timestamp"), ("scan.startup.timestamp-millis", &two), BOUNDED], "2 3"),
        (vec![start("timestamp"), ("scan.startup.timestamp-offset", "150 min"), BOUNDED], "2 3"),
        (vec![start("timestamp"), ("scan.startup.timestamp-offset", "1 d"), BOUNDED], "1 11 2 3"),
        (
            vec![
                start("specific-offsets"),
                ("scan.startup.specific-offsets", "partition:0,offset:1;partition:1,offset:1"),
                BOUNDED,
            ],
            "2 3",
        ),
        (vec![start("specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:2"), BOUNDED], "11 3"),
        (vec![bounded("timestamp"), ("scan.bounded.timestamp-millis", &two)], "1 11"),
        (vec![bounded("timestamp"), ("scan.bounded.timestamp-millis", &five)], ""),
        (vec![bounded("specific-offsets"), ("scan.bounded.specific-offsets", "partition:0,offset:2")], "1 2"),
        (
            vec![
                start("group-offsets"),
                ("properties.group.id", "never-used"),
                ("properties.auto.offset.reset", "earliest"),
                BOUNDED,
            ],
            "1 11 2 3",
        ),
        (
            vec![
                start("group-offsets"),
                ("properties.group.id", "never-used"),
                ("properties.auto.offset.reset", "latest"),
                BOUNDED,
            ],
            "",
        ),
    ];
    for (options, expected) in cases {
        let all = [vec![("topic", topic.as_str()), JSON], options.clone()].concat();
        let (rows, _) = read_all(source(&broker.table(numbers(), &all)).expect("a source").as_ref()).expect("rows");
        let mut rows: Vec<_> = rows.iter().map(|r| r.trim_start_matches("+I[").trim_end_matches(']')).collect();
        rows.sort();
        assert_eq!(rows.join(" "), expected, "{options:?}");
    }
    let none = [("topic", topic.as_str()), JSON, start("group-offsets"), ("properties.group.id", "never-used")];
    let error = splits(source(&broker.table(numbers(), &none)).expect("a source").as_ref()).expect_err("no offsets");
    assert_eq!((error.code(), error.kind()), ("kafka.no-offset", ErrorKind::User), "{error}");
}

#[test]
fn an_end_behind_control_records_and_aborted_transactions_is_reached() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("control", 1, &[]);
    broker.transaction(&topic, &counted(0, 3, 1), true);
    broker.transaction(&topic, &counted(3, 6, 1), false);
    let options = [("topic", topic.as_str()), JSON, BOUNDED, ("properties.isolation.level", "read_committed")];
    let table = broker.table(numbers(), &options);
    let (rows, _) = read_all(source(&table).expect("a source").as_ref()).expect("rows");
    assert_eq!(rows, counted_rows(0, 3), "aborted records are not read");
    let dirty = broker.table(numbers(), &[("topic", &topic), JSON, BOUNDED]);
    let (rows, _) = read_all(source(&dirty).expect("a source").as_ref()).expect("rows");
    assert_eq!(rows, counted_rows(0, 6), "read_uncommitted is the default, as in Flink");
    // The end itself is the offset of a control record, and the source is restored in front of it.
    let source = source(&table).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    run.rows(3);
    let positions = run.reader.snapshot().expect("a snapshot");
    let mut rest = Run::new(source.as_ref(), positions);
    assert!(rest.until(20, |r| r.drained).expect("no error"), "it ends");
    assert_eq!(rest.rows, Vec::<String>::new());
}

#[test]
fn an_end_in_a_compacted_hole_is_reached() {
    let Some(broker) = Broker::find() else { return };
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "100"),
        ("min.compaction.lag.ms", "0"),
    ];
    let topic = broker.topic("compact", 1, &config);
    for n in 0..40 {
        broker.write(&topic, &[keyed("same", Some(&format!("{{\"n\":{n}}}")))]);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    // Rolls the segment; what is before may be compacted.
    broker.write(&topic, &[keyed("other", Some("{\"n\":100}"))]);
    let offsets = "partition:0,offset:39";
    let options = [
        ("topic", topic.as_str()),
        JSON,
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", offsets),
    ];
    let table = broker.table(numbers(), &options);
    let end = now_ms() + 30_000;
    let mut last = Vec::new();
    while now_ms() < end {
        last = read_all(source(&table).expect("a source").as_ref()).expect("it ends, compacted or not").0;
        if last.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    panic!("the broker did not compact: {} rows are left", last.len());
}

fn key_and_metadata() -> Vec<Column> {
    let headers = TypeKind::Map(Box::new(TypeKind::STRING.not_null()), Box::new(TypeKind::BYTES.nullable()));
    let mut all = columns(&[("k_id", TypeKind::BigInt), ("id", TypeKind::BigInt), ("name", TypeKind::STRING)]);
    all.extend([
        metadata("t", "topic", TypeKind::STRING),
        metadata("p", "partition", TypeKind::Int),
        metadata("o", "offset", TypeKind::BigInt),
        metadata("ts", "timestamp", TypeKind::TimestampLtz(3)),
        metadata("tt", "timestamp-type", TypeKind::STRING),
        metadata("h", "headers", headers),
    ]);
    all
}

#[test]
fn keys_prefixes_and_metadata() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("keys", 2, &[]);
    let record = |key: Option<&str>, headers: Vec<(&'static str, &'static str)>| Record {
        partition: 1,
        key: key.map(Into::into),
        value: Some(br#"{"id":7,"name":"seven"}"#.to_vec()),
        timestamp: Some(1_600_000_000_123),
        headers,
    };
    broker.write(&topic, &[record(Some(r#"{"id":1}"#), vec![("a", "x"), ("b", "y")]), record(None, vec![])]);
    let options = [
        ("topic", topic.as_str()),
        ("value.format", "json"),
        ("key.format", "json"),
        ("key.fields", "k_id"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
        BOUNDED,
    ];
    let (rows, _) =
        read_all(source(&broker.table(key_and_metadata(), &options)).expect("a source").as_ref()).expect("rows");
    let of = |key: &str, offset: i32, headers: &str| {
        format!("+I[{key}, 7, seven, {topic}, 1, {offset}, 2020-09-13T12:26:40.123Z, CreateTime, {headers}]")
    };
    assert_eq!(rows, [of("1", 0, "{a=[120], b=[121]}"), of("null", 1, "{}")], "a message without a key has NULL there");
}

#[test]
fn an_upsert_table_reads_deletes() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("upsert", 1, &[]);
    let records = [
        keyed("1", Some(r#"{"id":1,"name":"one"}"#)),
        keyed("2", Some(r#"{"id":2,"name":"two"}"#)),
        keyed("1", None),
        keyed("2", Some(r#"{"id":2,"name":null}"#)),
    ];
    broker.write(&topic, &records);
    for include in ["ALL", "EXCEPT_KEY"] {
        let options = [
            ("topic", topic.as_str()),
            ("key.format", "raw"),
            ("value.format", "json"),
            ("value.fields-include", include),
            BOUNDED,
        ];
        let source = source(&upsert(&broker, &options)).expect("a source");
        let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
        assert!(run.until(20, |r| r.drained).expect("no error"));
        assert_eq!(run.rows, ["+U[1, one]", "+U[2, two]", "-D[1, null]", "+U[2, null]"], "{include}");
    }
    broker.write(&topic, &[value(0, "{}")]);
    let options = [("topic", topic.as_str()), ("key.format", "raw"), ("value.format", "json"), BOUNDED];
    let error = read_all(source(&upsert(&broker, &options)).expect("a source").as_ref()).expect_err("no key");
    assert!(error.to_string().contains("offset 4, key: the message has no key"), "{error}");
}

/// A table of strings by `id`.
fn upsert(broker: &Broker, options: &[(&str, &str)]) -> flott_core::registry::TableSpec {
    let mut table = broker.table(columns(&[("id", TypeKind::STRING), ("name", TypeKind::STRING)]), options);
    table.options.remove("scan.startup.mode");
    table.options.insert("connector".into(), "upsert-kafka".into());
    table.primary_key = vec![0];
    table
}

#[test]
fn bad_records_fail_or_are_counted_or_copied() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("bad", 1, &[]);
    let dead = broker.topic("dead", 1, &[]);
    broker.write(
        &topic,
        &[
            value(0, r#"{"n":1}"#),
            Record { key: Some(b"k".to_vec()), ..value(0, r#"{"n":"x"}"#) },
            value(0, "{"),
            value(0, r#"{"n":4}"#),
        ],
    );
    let with = |more: &[(&str, &str)]| {
        let all = [&[("topic", topic.as_str()), JSON, BOUNDED], more].concat();
        source(&broker.table(numbers(), &all)).expect("a source")
    };
    let error = read_all(with(&[]).as_ref()).expect_err("it fails");
    let text = error.to_string();
    assert!(text.contains(&format!("topic `{topic}`, partition 0, offset 1, field `n`")), "{text}");
    assert!(text.contains("scan.bad-records"), "{text}");
    for skip in [("scan.bad-records", "skip"), ("json.ignore-parse-errors", "true")] {
        let (rows, metrics) = read_all(with(&[skip]).as_ref()).expect("rows");
        assert_eq!((rows.join(" "), metrics.bad_skipped.get()), ("+I[1] +I[4]".into(), 2), "{skip:?}");
    }
    let letters = with(&[("scan.bad-records", "dead-letter"), ("scan.dead-letter.topic", &dead)]);
    let mut run = Run::new(letters.as_ref(), splits(letters.as_ref()).expect("splits"));
    run.rows(2);
    run.reader.snapshot_for(CheckpointId(1)).expect("letters are durable");
    assert_eq!(run.metrics.bad_skipped.get(), 2);
    let raw = [
        ("topic", dead.as_str()),
        ("value.format", "raw"),
        ("key.format", "raw"),
        ("key.fields", "k"),
        ("value.fields-include", "EXCEPT_KEY"),
        BOUNDED,
    ];
    let kinds = columns(&[("k", TypeKind::STRING), ("v", TypeKind::STRING)]);
    let (rows, _) = read_all(source(&broker.table(kinds, &raw)).expect("a source").as_ref()).expect("letters");
    assert_eq!(rows, [r#"+I[k, {"n":"x"}]"#, "+I[null, {]"]);
    let consumer = rdkafka_headers(&broker.servers, &dead);
    assert!(consumer[0].contains("flott.offset=1") && consumer[0].contains("flott.partition=0"), "{consumer:?}");
    assert!(
        consumer[1].contains("flott.offset=2") && consumer[1].contains(&format!("flott.topic={topic}")),
        "{consumer:?}"
    );
}

/// The headers of the first two records of a topic.
fn rdkafka_headers(servers: &str, topic: &str) -> Vec<String> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{Headers, Message};
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "kit")
        .create()
        .expect("a consumer");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    let one = |_| {
        let message = consumer.poll(std::time::Duration::from_secs(10)).expect("a message").expect("no error");
        let headers = message.headers().expect("headers");
        let text = |h: rdkafka::message::Header<'_, &[u8]>| {
            format!("{}={} ", h.key, String::from_utf8_lossy(h.value.unwrap_or_default()))
        };
        headers.iter().map(text).collect()
    };
    (0..2).map(one).collect()
}

#[test]
fn new_partitions_and_topics_are_read_from_their_beginning() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("grow", 1, &[]);
    let pattern = format!("{}(-more)?", topic.replace('.', "\\."));
    let options = [("topic-pattern", pattern.as_str()), JSON, ("scan.startup.mode", "latest-offset")];
    broker.write(&topic, &counted(0, 3, 1));
    let source = source(&broker.table(numbers(), &options)).expect("a source");
    let mut enumerator = source.enumerator().expect("an enumerator");
    let first = enumerator.discover(1).expect("splits");
    assert_eq!(first.len(), 1);
    let mut run = Run::new(source.as_ref(), first.clone());
    broker.add_partitions(&topic, 3);
    broker.write(&topic, &counted(9, 12, 3));
    let mut found = Vec::new();
    // The metadata of the broker may lag a little.
    for _ in 0..50 {
        found.extend(enumerator.discover(1).expect("splits"));
        if found.len() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut ids: Vec<_> = found.iter().map(|s| s.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, [format!("{topic}-1"), format!("{topic}-2")]);
    run.reader.assign(found).expect("assigned");
    run.rows(3);
    assert_eq!(run.sorted(), ["+I[10]", "+I[11]", "+I[9]"], "what was there before `latest` is not read");
    // A restored job knows one partition: the others came while it was down, and are read from their beginning too.
    let mut restored = source.enumerator().expect("an enumerator");
    restored.restore(&first.iter().map(|s| s.id.clone()).collect());
    let mut run = Run::new(source.as_ref(), restored.discover(1).expect("splits"));
    run.rows(2);
    assert_eq!(run.sorted(), ["+I[10]", "+I[11]"]);
}

#[test]
fn offsets_are_committed_after_their_checkpoint() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("commit", 1, &[]);
    broker.write(&topic, &counted(0, 10, 1));
    let group = format!("group-{topic}");
    let options = [("topic", topic.as_str()), JSON, ("properties.group.id", &group)];
    let source = source(&broker.table(numbers(), &options)).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    run.rows(10);
    run.reader.snapshot_for(CheckpointId(1)).expect("a snapshot");
    broker.write(&topic, &counted(10, 15, 1));
    run.rows(15);
    run.reader.snapshot_for(CheckpointId(2)).expect("a snapshot");
    assert_eq!(committed(&broker, &topic, &group), None, "nothing before a checkpoint is complete");
    run.reader.notify_complete(CheckpointId(1)).expect("a commit");
    let came = run.until(10, |_| committed(&broker, &topic, &group) == Some(10)).expect("no error");
    assert!(came, "the positions of the first checkpoint, not of the second: {:?}", committed(&broker, &topic, &group));
    // And the group's offsets are a place to begin at; the end of a bounded job is committed too.
    let options = [
        ("topic", topic.as_str()),
        JSON,
        ("properties.group.id", &group),
        ("scan.startup.mode", "group-offsets"),
        BOUNDED,
    ];
    let (rows, _) =
        read_all(self::source(&broker.table(numbers(), &options)).expect("a source").as_ref()).expect("rows");
    assert_eq!(rows, counted_rows(10, 15));
    let bounded = self::source(&broker.table(numbers(), &options)).expect("a source");
    let mut run = Run::new(bounded.as_ref(), splits(bounded.as_ref()).expect("splits"));
    assert!(run.until(20, |r| r.drained).expect("no error"));
    assert_eq!(run.reader.snapshot_for(CheckpointId(7)).expect("a snapshot"), []);
    run.reader.notify_complete(CheckpointId(7)).expect("a commit");
    drop(run);
    assert_eq!(committed(&broker, &topic, &group), Some(15));
}

fn committed(broker: &Broker, topic: &str, group: &str) -> Option<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &broker.servers)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(topic, 0);
    let found = consumer.committed_offsets(list, std::time::Duration::from_secs(10)).expect("offsets");
    found.find_partition(topic, 0).and_then(|e| e.offset().to_raw()).filter(|o| *o >= 0)
}

#[test]
fn records_that_are_gone_fail_the_job_or_are_counted() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("range", 2, &[]);
    broker.write(&topic, &counted(0, 20, 2));
    let with = |more: &[(&str, &str)]| {
        let all = [&[("topic", topic.as_str()), JSON, BOUNDED], more].concat();
        source(&broker.table(numbers(), &all)).expect("a source")
    };
    let positions = splits(with(&[]).as_ref()).expect("splits");
    broker.delete_before(&topic, 1, 4);
    let fails = |source: &dyn Source| {
        let mut run = Run::new(source, positions.clone());
        run.until(20, |r| r.drained).expect_err("the offset is gone")
    };
    let error = fails(with(&[]).as_ref());
    assert_eq!((error.code(), error.kind()), ("kafka.offset-out-of-range", ErrorKind::User), "{error}");
    assert!(error.to_string().contains("partition 1") && error.to_string().contains("4 to 10"), "{error}");
    for (option, value, rows, lost) in [
        ("scan.offsets-out-of-range", "earliest", 16, 4),
        ("properties.auto.offset.reset", "earliest", 16, 4),
        ("scan.offsets-out-of-range", "latest", 10, 10),
    ] {
        let source = with(&[(option, value)]);
        let mut run = Run::new(source.as_ref(), positions.clone());
        assert!(run.until(20, |r| r.drained).expect("no error"), "it ends");
        assert_eq!((run.rows.len(), run.metrics.bad_skipped.get()), (rows, lost), "{option} = {value}");
    }
}

#[test]
fn paused_partitions_lose_and_repeat_nothing() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("pause", 2, &[]);
    broker.write(&topic, &counted(0, 20_000, 2));
    let source = source(&broker.table(numbers(), &[("topic", &topic), JSON, BOUNDED])).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    let split = format!("{topic}-0");
    for round in 0..12 {
        run.reader.pause(&split, round % 2 == 0);
        for _ in 0..4 {
            run.step().expect("no error");
        }
    }
    run.reader.pause(&split, false);
    assert!(run.until(30, |r| r.drained).expect("no error"), "it ends");
    assert_eq!(run.sorted(), counted_rows(0, 20_000));
}

#[test]
fn large_messages_stay_within_the_budget() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("large", 2, &[("max.message.bytes", "50000000")]);
    let text = |n: usize| format!("{{\"n\":{n},\"s\":\"{}\"}}", "x".repeat(6_000_000));
    let records: Vec<Record> = (0..8).map(|n| value((n % 2) as i32, text(n))).collect();
    broker.write(&topic, &records);
    let kinds = columns(&[("n", TypeKind::BigInt), ("s", TypeKind::STRING)]);
    let source = source(&broker.table(kinds, &[("topic", &topic), JSON, BOUNDED])).expect("a source");
    let memory = MemoryBudget::new(|of| if of == MemoryUse::Fetch { 8 << 20 } else { 0 });
    let mut run = Run::within(source.as_ref(), splits(source.as_ref()).expect("splits"), memory.clone());
    let done = run.until(40, |r| {
        assert!(memory.used_bytes(MemoryUse::Fetch) <= 16 << 20, "{}", memory.used_bytes(MemoryUse::Fetch));
        r.drained
    });
    assert!(done.expect("no error"), "it ends: {} rows", run.rows.len());
    assert_eq!(run.rows.len(), 8);
    drop(run);
    assert_eq!(memory.used_bytes(MemoryUse::Fetch), 0);
}

#[test]
fn what_is_not_there_is_named() {
    let Some(broker) = Broker::find() else { return };
    let missing = broker.table(numbers(), &[("topic", "src.never-made"), JSON]);
    let error = splits(source(&missing).expect("a source").as_ref()).expect_err("no topic");
    assert_eq!((error.code(), error.kind()), ("kafka.topic-missing", ErrorKind::User), "{error}");
    assert!(error.message().contains("src.never-made") && error.message().contains(&broker.servers), "{error}");
    let nothing = [("topic-pattern", "src.never-made.*"), JSON, ("scan.topic-partition-discovery.interval", "0 s")];
    let error = splits(source(&broker.table(numbers(), &nothing)).expect("a source").as_ref()).expect_err("no topic");
    assert_eq!(error.code(), "kafka.topic-missing", "{error}");
    // A listener without SASL.
    let topic = broker.topic("login", 1, &[]);
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"s3cret\";";
    let login = [
        ("topic", topic.as_str()),
        JSON,
        ("properties.security.protocol", "SASL_PLAINTEXT"),
        ("properties.sasl.mechanism", "PLAIN"),
        ("properties.sasl.jaas.config", jaas),
        ("properties.default.api.timeout.ms", "5000"),
    ];
    let error = splits(source(&broker.table(numbers(), &login)).expect("a source").as_ref()).expect_err("no SASL");
    assert!(error.to_string().contains(&broker.servers) && !error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn a_changelog_of_several_topics() {
    let Some(broker) = Broker::find() else { return };
    let topics = [broker.topic("cdc-a", 1, &[]), broker.topic("cdc-b", 1, &[])];
    for (topic, n) in topics.iter().zip([1, 2]) {
        let row = |v: &str| format!("{{\"n\":{n},\"v\":\"{v}\"}}");
        let key = format!("{{\"n\":{n}}}");
        let change = |before: &str, after: &str, op: &str| {
            keyed(&key, Some(&format!("{{\"before\":{before},\"after\":{after},\"op\":\"{op}\"}}")))
        };
        let (old, new) = (row("old"), row("new"));
        let deleted = [change(&new, "null", "d"), keyed(&key, None)];
        broker.write(topic, &[vec![change("null", &old, "c"), change(&old, &new, "u")], deleted.to_vec()].concat());
    }
    let list = topics.join(";");
    let options = [
        ("topic", list.as_str()),
        ("value.format", "debezium-json"),
        ("key.format", "json"),
        ("key.fields", "n"),
        ("value.fields-include", "EXCEPT_KEY"),
        BOUNDED,
    ];
    let mut all = columns(&[("n", TypeKind::BigInt), ("v", TypeKind::STRING)]);
    all.push(metadata("o", "offset", TypeKind::BigInt));
    let source = source(&broker.table(all, &options)).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    assert!(run.until(20, |r| r.drained).expect("no error"), "it ends");
    let of = |n: i32| {
        let rows = run.rows.iter().filter(|r| r.contains(&format!("[{n}, ")));
        rows.cloned().collect::<Vec<_>>().join(" ")
    };
    for n in [1, 2] {
        let expected = format!("+I[{n}, old, 0] -U[{n}, old, 1] +U[{n}, new, 1] -D[{n}, new, 2]");
        assert_eq!(of(n), expected, "both halves of an update have the key and the offset of their message");
    }
    assert_eq!(run.metrics.bad_skipped.get(), 0, "what follows a delete is not counted");
}

#[test]
fn without_checkpoints_offsets_are_committed_if_the_table_says_so() {
    let Some(broker) = Broker::find() else { return };
    let topic = broker.topic("auto", 1, &[]);
    broker.write(&topic, &counted(0, 10, 1));
    let group = format!("group-{topic}");
    let options = [
        ("topic", topic.as_str()),
        JSON,
        ("properties.group.id", &group),
        ("properties.enable.auto.commit", "true"),
        ("properties.auto.commit.interval.ms", "200"),
    ];
    let source = source(&broker.table(numbers(), &options)).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    let came = run.until(15, |r| r.rows.len() == 10 && committed(&broker, &topic, &group) == Some(10));
    assert!(came.expect("no error"), "{:?}", committed(&broker, &topic, &group));
}
