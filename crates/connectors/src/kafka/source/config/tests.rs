//! Options of a source: what they mean, and what is refused with which words.

use std::collections::BTreeMap;

use flott_core::types::TypeKind;

use super::*;
use crate::kafka::KafkaFactory;

fn table(options: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "kafka"), ("properties.bootstrap.servers", "h:1"), ("topic", "a"), ("format", "json")];
    let mut all: BTreeMap<String, String> =
        base.iter().chain(options).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    all.retain(|_, v| v != "-");
    crate::testing::table(&[("n", TypeKind::BigInt)], &[]).with_options(all)
}

trait WithOptions {
    fn with_options(self, options: BTreeMap<String, String>) -> Self;
}

impl WithOptions for TableSpec {
    fn with_options(mut self, options: BTreeMap<String, String>) -> Self {
        self.options = options;
        self
    }
}

fn config(options: &[(&str, &str)]) -> Result<SourceConfig> {
    let table = table(options);
    let o = KafkaFactory::new(false).checked(&table)?;
    SourceConfig::read(&o, &table, false)
}

const EARLIEST: (&str, &str) = ("scan.startup.mode", "earliest-offset");

#[test]
fn modes_and_their_companions() {
    let start = |options: &[(&str, &str)]| config(options).expect("an accepted start").start;
    assert_eq!(start(&[("properties.group.id", "g")]), Start::Group, "Flink's default");
    assert_eq!(start(&[EARLIEST]), Start::Earliest);
    let timestamp = ("scan.startup.mode", "timestamp");
    assert_eq!(start(&[timestamp, ("scan.startup.timestamp-millis", "5")]), Start::Timestamp(5));
    assert_eq!(start(&[timestamp, ("scan.startup.timestamp-offset", "1 h")]), Start::Before(3_600_000));
    let specific = ("scan.startup.mode", "specific-offsets");
    let offsets = ("scan.startup.specific-offsets", " partition:0,offset:42; partition:1,offset:300 ;");
    assert_eq!(start(&[specific, offsets]), Start::Specific(vec![(0, 42), (1, 300)]));
    let stop = config(&[EARLIEST, ("scan.bounded.mode", "latest-offset")]).expect("bounded");
    assert!(stop.is_bounded() && stop.discovery_ms.is_none(), "a bounded source looks once");
    assert_eq!(config(&[EARLIEST]).expect("unbounded").discovery_ms, Some(300_000));
    let interval = ("scan.topic-partition-discovery.interval", "0 s");
    assert_eq!(config(&[EARLIEST, interval]).expect("never").discovery_ms, None);
    let reset = config(&[EARLIEST, ("properties.auto.offset.reset", "latest")]).expect("a policy");
    assert_eq!((reset.reset, reset.out_of_range), (Reset::Latest, Reset::Latest));
}

#[test]
fn what_librdkafka_is_told_without_a_word_from_the_table() {
    let c = config(&[EARLIEST]).expect("a source");
    for (key, value) in [
        ("isolation.level", "read_uncommitted"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("group.id", NO_GROUP),
    ] {
        assert_eq!(c.properties.native(key), Some(value), "{key}");
    }
    assert!(!c.commit_on_checkpoint, "there is no group to commit to");
    assert!(config(&[EARLIEST, ("properties.group.id", "g")]).expect("a group").commit_on_checkpoint);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "properties.group.id"),
        (&[("topic", "-"), EARLIEST], "'topic' is missing"),
        (&[("topic", "a b"), EARLIEST], "a list of topics"),
        (&[("topic-pattern", "a.*"), EARLIEST], "only one of the two"),
        (&[("topic", "-"), ("topic-pattern", "a("), EARLIEST], "a regular expression"),
        (&[("scan.startup.mode", "newest")], "one of group-offsets"),
        (&[("scan.startup.mode", "timestamp")], "scan.startup.timestamp-offset"),
        (&[EARLIEST, ("scan.startup.timestamp-millis", "5")], "it is for 'scan.startup.mode' = 'timestamp'"),
        (&[("scan.startup.mode", "specific-offsets")], "partition:0,offset:42"),
        (
            &[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:-1")],
            "partition:0,offset:42",
        ),
        (
            &[
                ("topic", "a;b"),
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "partition:0,offset:1"),
            ],
            "a single topic",
        ),
        (&[EARLIEST, ("properties.auto.offset.reset", "by_duration:PT1H")], "scan.startup.timestamp-offset"),
        (&[EARLIEST, ("scan.bad-records", "dead-letter")], "scan.dead-letter.topic"),
        (&[EARLIEST, ("scan.dead-letter.topic", "d")], "it is for 'scan.bad-records'"),
        (&[EARLIEST, ("key.format", "json")], "'key.fields' is missing"),
        (&[EARLIEST, ("key.fields", "n")], "'key.format' is missing"),
        (&[EARLIEST, ("key.format", "json"), ("key.fields", "m")], "there is no `m`"),
        (
            &[EARLIEST, ("key.format", "json"), ("key.fields", "n"), ("key.fields-prefix", "n")],
            "'value.fields-include' = 'EXCEPT_KEY'",
        ),
        (&[EARLIEST, ("value.format", "json")], "only one of the two"),
        (&[EARLIEST, ("format", "-")], "format' is missing"),
        (&[EARLIEST, ("format", "jsno")], "there is no format 'jsno'"),
        (&[EARLIEST, ("scan.stratup.mode", "x")], "scan.startup.mode"),
        (&[EARLIEST, ("properties.fetch.min.bytes", "x")], "fetch.min.bytes"),
    ];
    for (options, expected) in cases {
        let error = config(options).expect_err("it is refused");
        assert!(error.to_string().contains(expected), "{options:?}: {error}");
        assert_eq!(error.kind(), flott_core::ErrorKind::User, "{error}");
    }
}

#[test]
fn metadata_that_cannot_be_read_is_refused() {
    let with = |key: &str, kind: TypeKind| {
        let mut table = table(&[EARLIEST]);
        let column =
            flott_core::types::Column { name: "m".into(), data_type: kind.nullable(), metadata_key: Some(key.into()) };
        table.columns.push(column);
        let o = KafkaFactory::new(false).checked(&table)?;
        SourceConfig::read(&o, &table, false)
    };
    with("offset", TypeKind::BigInt).expect("an offset");
    with("timestamp", TypeKind::Timestamp(9)).expect("a timestamp");
    for (key, kind, expected) in [
        ("offset", TypeKind::STRING, "cannot be read as STRING"),
        ("leader-epoch", TypeKind::Int, "leader-epoch"),
        ("ofset", TypeKind::BigInt, "there is no metadata 'ofset'"),
    ] {
        let error = with(key, kind).expect_err("it is refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_upsert_table_needs_its_key_and_formats() {
    let mut table = table(&[("format", "-"), ("connector", "upsert-kafka"), ("value.format", "json")]);
    let factory = KafkaFactory::new(true);
    let read = |t: &TableSpec| SourceConfig::read(&factory.checked(t)?, t, true);
    assert!(read(&table).expect_err("no key").to_string().contains("PRIMARY KEY"));
    table.primary_key = vec![0];
    assert!(read(&table).expect_err("no format").to_string().contains("'key.format' is missing"));
    table.options.insert("key.format".into(), "json".into());
    let config = read(&table).expect("a source");
    assert_eq!((config.start.clone(), config.plan.mode()), (Start::Earliest, ChangelogMode::Upsert));
    table.options.insert("scan.startup.mode".into(), "latest-offset".into());
    assert!(read(&table).expect_err("always from the beginning").to_string().contains("scan.startup.mode"));
}
