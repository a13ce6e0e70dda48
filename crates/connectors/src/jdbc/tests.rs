//! What the connector refuses and how it reads options; servers are asked in `tests/services_jdbc*.rs`.

use flott_core::sink::ChangelogMode;
use flott_core::types::TypeKind;

use crate::testing::{refused, sink, source, table};

const BASE: [(&str, &str); 3] =
    [("connector", "jdbc"), ("url", "jdbc:mysql://127.0.0.1:1/d?password=geheim"), ("table-name", "t")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> flott_core::registry::TableSpec {
    let options: Vec<(&str, &str)> = BASE.iter().copied().chain(more.iter().copied()).collect();
    table(&[("k", TypeKind::BigInt), ("v", TypeKind::STRING)], &options)
}

#[test]
fn a_sink_upserts_with_a_key_and_appends_without() {
    let mut t = with(&[]);
    assert_eq!(sink(&t).expect("a sink").changelog_mode(), ChangelogMode::Append);
    t.input_mode = ChangelogMode::Upsert;
    assert_eq!(refused(sink(&t)).code(), "jdbc.no-key");
    t.primary_key = vec![0];
    assert_eq!(sink(&t).expect("a sink").changelog_mode(), ChangelogMode::Upsert);
}

#[test]
fn options_are_checked_and_no_message_shows_a_password() {
    for (more, code) in [
        (&[("sink.buffer-flush.max-rows", "many")][..], "table.bad-option"),
        (&[("sink.delivery-guarantee", "twice")], "table.bad-option"),
        (&[("sink.exactly-once.max-bytes", "1 b")], "table.bad-option"),
        (&[("connection.provider", "x")], "table.unsupported-option"),
        (&[("connection.max-retry-timeout", "10 ms")], "table.bad-option"),
        (&[("sink.buffer-flush.max-row", "1")], "table.unknown-option"),
        (&[("table-name", "a.b.c")], "table.bad-option"),
        (&[("url", "jdbc:db2://h/d?password=geheim")], "jdbc.url"),
    ] {
        let e = refused(sink(&with(more)));
        assert_eq!(e.code(), code, "{more:?}: {e}");
        assert!(!e.to_string().contains("geheim"), "{e}");
    }
    for (more, code) in [
        (&[("scan.partition.column", "k")][..], "table.missing-option"),
        (
            &[
                ("scan.partition.column", "v"),
                ("scan.partition.num", "2"),
                ("scan.partition.lower-bound", "0"),
                ("scan.partition.upper-bound", "9"),
            ],
            "table.bad-option",
        ),
    ] {
        assert_eq!(refused(source(&with(more))).code(), code, "{more:?}");
    }
    let mut t = with(&[]);
    t.columns[1].data_type = TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable();
    assert_eq!(refused(sink(&t)).code(), "jdbc.type");
}
