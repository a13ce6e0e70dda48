//! Tests of the sink without a broker: options, layout, records, buffer, settings of the producer.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use flott_core::config::Configuration;
use flott_core::memory::MemoryBudget;
use flott_core::registry::TableSpec;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{ChangeBatch, Error, Result, RowKind};

use super::buffer::Buffer;
use super::naming::NamingStrategy;
use super::options::{DeliveryGuarantee, Partitioning, SinkOptions};
use super::records::RecordLayout;
use super::{check, config, topics};
use crate::contract::sink_context;
use crate::kafka::options::Encoding;
use crate::kafka::properties::{ClientProperties, Side};
use crate::options::TableOptions;
use crate::testing::{refused, sink, table};

const BASE: [(&str, &str); 3] =
    [("properties.bootstrap.servers", "127.0.0.1:1"), ("topic", "t"), ("value.format", "json")];

fn spec(connector: &str, more: &[(&str, &str)]) -> TableSpec {
    let columns = [("id", TypeKind::BigInt), ("name", TypeKind::STRING)];
    let options: Vec<_> = [("connector", connector)].into_iter().chain(BASE).chain(more.iter().copied()).collect();
    let mut table = table(&columns, &options);
    if connector == "upsert-kafka" {
        table.primary_key = vec![0];
    }
    table
}

/// Reads the sink's own options from a table that is checked otherwise.
fn read(more: &[(&str, &str)], upsert: bool, has_key: bool) -> Result<SinkOptions> {
    let table = spec("kafka", more);
    let all = [crate::kafka::options::SHARED_OPTIONS, super::SINK_OPTIONS, super::UPSERT_SINK_OPTIONS];
    SinkOptions::read(&TableOptions::checked(&table, &all)?, upsert, has_key)
}

#[test]
fn options_and_their_defaults() {
    let plain = read(&[], false, false).expect("nothing is needed");
    assert_eq!(plain.guarantee, DeliveryGuarantee::AtLeastOnce);
    assert_eq!((plain.partitioning, plain.buffer, plain.ignore_lost), (Partitioning::Default, None, false));
    assert_eq!(plain.naming, NamingStrategy::Pooling);
    let all = read(
        &[
            ("sink.semantic", "exactly-once"),
            ("sink.transactional-id-prefix", "p"),
            ("sink.transaction-naming-strategy", "INCREMENTING"),
            ("sink.buffer-flush.max-rows", "10"),
            ("sink.buffer-flush.interval", "2 s"),
        ],
        true,
        true,
    )
    .expect("good options");
    assert_eq!((all.guarantee, all.naming), (DeliveryGuarantee::ExactlyOnce, NamingStrategy::Incrementing));
    assert_eq!((all.prefix.as_str(), all.buffer), ("p", Some((10, 2_000))));
}

#[test]
fn options_that_contradict_are_refused_with_the_key() {
    let cases: [(&[(&str, &str)], bool, &str); 9] = [
        (&[("sink.delivery-guarantee", "exactly-once")], false, "sink.transactional-id-prefix"),
        (&[("sink.delivery-guarantee", "twice")], false, "sink.delivery-guarantee"),
        (&[("sink.delivery-guarantee", "none"), ("sink.semantic", "none")], false, "sink.semantic"),
        (&[("sink.partitioner", "com.acme.MyPartitioner")], false, "Java"),
        (&[("sink.partitioner", "sticky")], false, "round-robin"),
        (&[("sink.partitioner", "fixed")], true, "key"),
        (&[("sink.buffer-flush.max-rows", "10")], true, "sink.buffer-flush.interval"),
        (&[("sink.buffer-flush.interval", "1 s")], true, "sink.buffer-flush.max-rows"),
        (
            &[("sink.buffer-flush.max-rows", "-1"), ("sink.buffer-flush.interval", "1 s")],
            true,
            "sink.buffer-flush.max-rows",
        ),
    ];
    for (options, upsert, part) in cases {
        let error = refused(read(options, upsert, upsert));
        assert!(error.to_string().contains(part), "{options:?}: {error}");
    }
    let error = refused(read(&[("sink.partitioner", "round-robin")], false, true));
    assert!(error.to_string().contains("key.fields"), "{error}");
}

fn message(result: Result<std::sync::Arc<dyn flott_core::sink::Sink>>) -> String {
    refused(result).to_string()
}

#[test]
fn tables_that_cannot_be_written_are_refused_before_anything_runs() {
    sink(&spec("kafka", &[])).expect("a good table needs no broker to be declared");
    let text = message(sink(&spec("kafka", &[("sink.buffer-flush.max-rows", "1")])));
    assert!(text.contains("no option 'sink.buffer-flush.max-rows'"), "{text}");
    for (key, value, part) in [
        ("properties.acks", "1", "acks"),
        ("properties.enable.idempotence", "false", "idempotence"),
        ("properties.transaction.timeout.ms", "5", "transaction.timeout.ms"),
        ("properties.transaction.timeout.ms", "soon", "transaction.timeout.ms"),
        ("properties.security.protocol", "SASL_PLAINTEXT", "GSSAPI"),
        ("properties.linger.ms", "x", "linger.ms"),
    ] {
        let eo = [("sink.delivery-guarantee", "exactly-once"), ("sink.transactional-id-prefix", "p"), (key, value)];
        let text = message(sink(&spec("kafka", &eo)));
        assert!(text.contains(part), "{key}: {text}");
    }
    let mut offset = spec("kafka", &[]);
    offset
        .columns
        .push(Column { metadata_key: Some("offset".into()), ..Column::new("o", TypeKind::BigInt.nullable()) });
    assert!(message(sink(&offset)).contains("VIRTUAL"));
    let mut many = spec("kafka", &[]);
    many.options.insert("topic".into(), "a;b".into());
    assert!(message(sink(&many)).contains("column `topic`"));
}

fn layout(table: &TableSpec, upsert: bool) -> RecordLayout {
    let known = [
        crate::kafka::options::SHARED_OPTIONS,
        crate::kafka::options::PLAIN_OPTIONS,
        super::SINK_OPTIONS,
        super::UPSERT_SINK_OPTIONS,
    ];
    let o = TableOptions::checked(table, &known).expect("good options");
    let encoding = Encoding::read(&o, table, upsert).expect("formats");
    RecordLayout::new(table, topics(&o).expect("topics"), encoding, upsert).expect("a layout")
}

fn batch(table: &TableSpec, rows: &[(RowKind, i64, Option<&str>)]) -> ChangeBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    let names = StringArray::from_iter(rows.iter().map(|r| r.2));
    let columns = RecordBatch::try_new(arrow_schema(&table.columns), vec![Arc::new(ids), Arc::new(names)]);
    ChangeBatch::new(columns.expect("columns fit"), Some(rows.iter().map(|r| r.0).collect()), None)
}

type Shown = (Option<String>, Option<String>);

fn shown(layout: &RecordLayout, batch: &ChangeBatch) -> Vec<Option<Shown>> {
    let records = layout.encoder().expect("an encoder").encode(batch).expect("records");
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (0..records.rows()).map(|i| records.get(i).map(|r| (r.key.map(text), r.value.map(text)))).collect()
}

#[test]
fn upserts_become_values_and_tombstones_and_no_row_is_out_of_place() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let table = spec("upsert-kafka", &[("key.format", "raw")]);
    let rows = [
        (Delete, 1, Some("a")),
        (Insert, 2, Some("b")),
        (UpdateBefore, 2, Some("b")),
        (UpdateAfter, 2, None),
        (Delete, 3, None),
        (Insert, 4, Some("d")),
    ];
    let key = |id: i64| Some(String::from_utf8_lossy(&id.to_be_bytes()).into_owned());
    let value = |text: &str| Some(text.to_owned());
    let expected = vec![
        Some((key(1), None)),
        Some((key(2), value(r#"{"id":2,"name":"b"}"#))),
        None,
        Some((key(2), value(r#"{"id":2,"name":null}"#))),
        Some((key(3), None)),
        Some((key(4), value(r#"{"id":4,"name":"d"}"#))),
    ];
    assert_eq!(shown(&layout(&table, true), &batch(&table, &rows)), expected);
}

#[test]
fn keys_and_values_hold_the_columns_that_the_table_says() {
    let options = [("key.format", "json"), ("key.fields", "id"), ("value.fields-include", "EXCEPT_KEY")];
    let table = spec("kafka", &options);
    let rows = [(RowKind::Insert, 1, Some("a"))];
    let expected = (Some(r#"{"id":1}"#.to_owned()), Some(r#"{"name":"a"}"#.to_owned()));
    assert_eq!(shown(&layout(&table, false), &batch(&table, &rows)), vec![Some(expected)]);
    let plain = spec("kafka", &[]);
    let expected = (None, Some(r#"{"id":1,"name":"a"}"#.to_owned()));
    assert_eq!(shown(&layout(&plain, false), &batch(&plain, &rows)), vec![Some(expected)]);
}

#[test]
fn the_buffer_keeps_the_last_change_of_a_key_and_the_order_of_keys() {
    use RowKind::{Delete, Insert};
    let table = spec("upsert-kafka", &[("key.format", "json")]);
    let layout = layout(&table, true);
    let records = |rows: &[(RowKind, i64, Option<&str>)]| {
        layout.encoder().expect("an encoder").encode(&batch(&table, rows)).expect("records")
    };
    let mut buffer = Buffer::new(3, 1_000);
    assert!(!buffer.is_due(i64::MAX), "nothing is ever due when nothing is there");
    buffer.add(&records(&[(Insert, 1, Some("a")), (Insert, 2, Some("b")), (Delete, 1, None)]), 5_000);
    assert_eq!((buffer.due_ms(), buffer.is_due(5_999), buffer.is_due(6_000)), (Some(6_000), false, true));
    let bytes = buffer.bytes();
    buffer.add(&records(&[(Insert, 1, Some("c"))]), 5_500);
    assert!(buffer.bytes() > bytes && !buffer.is_due(5_999), "two keys still, and older than before");
    buffer.add(&records(&[(Insert, 3, Some("d"))]), 5_500);
    assert!(buffer.is_due(5_500), "three keys");
    let changes = buffer.take();
    let text = |b: &Vec<u8>| String::from_utf8_lossy(b).into_owned();
    let shown: Vec<_> = changes.iter().map(|c| (text(&c.key), c.value.as_ref().map(text))).collect();
    let value = |id: i64, name: &str| Some(format!(r#"{{"id":{id},"name":"{name}"}}"#));
    assert_eq!(
        shown,
        vec![
            (r#"{"id":1}"#.to_owned(), value(1, "c")),
            (r#"{"id":2}"#.to_owned(), value(2, "b")),
            (r#"{"id":3}"#.to_owned(), value(3, "d")),
        ]
    );
    assert_eq!((buffer.bytes(), buffer.due_ms(), buffer.take().len()), (0, None, 0));
}

#[test]
fn the_producers_queue_fits_into_the_memory_and_the_largest_record_into_the_queue() {
    let properties = |more: &[(&str, &str)]| {
        let table = spec("kafka", more);
        let given = ClientProperties::read(&table, Side::Producer).expect("properties");
        config::table_properties(given, &read(&[], false, false).expect("options")).expect("good properties")
    };
    let kbytes = |more: &[(&str, &str)], limit: usize, parallelism: u32| -> u64 {
        let mut context = sink_context(0, parallelism, 0, 1);
        context.memory = MemoryBudget::new(|_| limit);
        let options = read(&[], false, false).expect("options");
        let config = config::of_subtask(&properties(more), &options, None, &context);
        let found = config.properties.native("queue.buffering.max.kbytes").expect("it is set");
        found.parse().expect("a number")
    };
    assert_eq!(kbytes(&[], usize::MAX, 1), 32 << 10);
    assert_eq!(kbytes(&[], 16 << 20, 4), 4 << 10);
    assert_eq!(kbytes(&[], 1 << 10, 4), 1 << 10, "never below what works");
    assert_eq!(kbytes(&[("properties.buffer.memory", "8388608")], usize::MAX, 1), 8 << 10);
    assert!(kbytes(&[("properties.max.request.size", "31457280")], 1 << 20, 1) > 30 << 10);
    let p = properties(&[("properties.compression.type", "gzip"), ("properties.compression.gzip.level", "3")]);
    assert_eq!(p.native("compression.level"), Some("3"));
    assert_eq!((p.native("enable.idempotence"), p.native("partitioner")), (Some("true"), Some("murmur2_random")));
    assert_eq!(properties(&[("properties.acks", "1")]).native("enable.idempotence"), Some("false"));
}

#[test]
fn a_timeout_that_is_too_short_for_the_checkpoints_is_told() {
    let mut config = Configuration::new();
    assert_eq!(check::too_short(1, &config), None, "without checkpoints there is nothing to compare");
    config.set("execution.checkpointing.interval", "10 s").expect("a duration");
    config.set("execution.checkpointing.timeout", "1 min").expect("a duration");
    assert_eq!(check::too_short(70_000, &config), None);
    let why = check::too_short(69_999, &config).expect("too short");
    assert!(why.contains("69999 ms") && why.contains("10000 ms") && why.contains("60000 ms"), "{why}");
}

#[test]
fn a_program_that_names_a_wrong_column_is_told() {
    let columns = vec![Column::new("id", TypeKind::BigInt.not_null())];
    let build = |key: &str| super::KafkaSink::builder("127.0.0.1:1", "t").upsert("json", &[key]).build(columns.clone());
    assert!(build("id").is_ok());
    let error: Error = refused(build("idd"));
    assert!(error.to_string().contains("idd") && error.to_string().contains("available: id"), "{error}");
}
