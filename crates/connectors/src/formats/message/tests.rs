//! What messages become rows, and rows messages.

use arrow_array::RecordBatch;
use flott_core::batch::RowKind;
use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind as T, arrow_schema};
use flott_core::{ChangeBatch, Result};
use proptest::prelude::*;

use super::{MessageDecoder, MessageFormat, Messages};
use crate::contract::rows_of;
use crate::formats::BadRecord;
use crate::options::{TableOptions, option};
use crate::testing::{json_batch, refused, table};

/// What a connector of messages declares itself.
const CONNECTOR: &[OptionSpec] = &[
    option("topic", "STRING", "", false, "Topic."),
    option("format", "STRING", "", false, "Format."),
    option("value.format", "STRING", "", false, "Format of values."),
    option("key.format", "STRING", "", false, "Format of keys."),
];

pub(super) fn format(t: &TableSpec) -> Result<MessageFormat> {
    let prefix = MessageFormat::value_prefix(t);
    let known = [CONNECTOR, MessageFormat::options(t, prefix)?, MessageFormat::options(t, "key.")?];
    MessageFormat::read(&TableOptions::checked(t, &known)?, prefix)
}

pub(super) fn decoder(t: &TableSpec) -> Box<dyn MessageDecoder> {
    format(t).expect("a format").decoder(&t.columns).expect("a decoder")
}

pub(super) fn batch(t: &TableSpec, decoder: &mut dyn MessageDecoder) -> Result<ChangeBatch> {
    let rows = decoder.rows();
    let decoded = decoder.finish()?;
    assert!(decoded.columns.iter().all(|c| c.len() == rows), "columns have as many rows as were announced");
    let batch = RecordBatch::try_new(arrow_schema(&t.columns), decoded.columns)?;
    Ok(ChangeBatch::new(batch, decoded.kinds, None))
}

/// The rows of messages as text; bad ones as what is wrong.
pub(super) fn decode(t: &TableSpec, messages: &[&[u8]]) -> Vec<String> {
    let mut decoder = decoder(t);
    let mut bad = Vec::new();
    for message in messages {
        let before = decoder.rows();
        if let Err(BadRecord { field, problem, .. }) = decoder.decode(message) {
            assert_eq!(decoder.rows(), before, "a bad message leaves nothing");
            bad.push(field.map_or_else(|| problem.clone(), |f| format!("{f}: {problem}")));
        }
    }
    let mut rows = rows_of(&batch(t, decoder.as_mut()).expect("columns"));
    rows.extend(bad);
    rows
}

pub(super) fn encode(t: &TableSpec, batch: &ChangeBatch) -> Result<Messages> {
    let mut out = Messages::default();
    format(t)?.encoder(&t.columns)?.encode(batch, &mut out)?;
    assert_eq!(out.entries.len(), batch.num_rows(), "an entry per row");
    Ok(out)
}

fn texts(messages: &Messages) -> Vec<String> {
    let text = |i| messages.get(i).map_or("-".into(), |m| String::from_utf8_lossy(m).into_owned());
    (0..messages.entries.len()).map(text).collect()
}

const COLUMNS: [(&str, T); 2] = [("a", T::Int), ("s", T::STRING)];

fn of(format: &str) -> TableSpec {
    table(&COLUMNS, &[("connector", "x"), ("format", format)])
}

/// `(2, x)` removed, then the same with `y` added, as batches of every kind.
fn changes() -> ChangeBatch {
    let rows =
        json_batch(&COLUMNS, "{\"a\":1,\"s\":\"é\"}\n{\"a\":2,\"s\":\"x\"}\n{\"a\":2,\"s\":\"y\"}\n{\"a\":null}");
    let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
    ChangeBatch::new(rows.rows, Some(kinds.into()), None)
}

#[test]
fn a_message_is_an_object_or_an_array_of_them() {
    let got = decode(
        &of("json"),
        &[
            br#"{"a":1,"s":"x"}"#,
            b" [{\"a\":2},{\"s\":\"y\"}]\n",
            b"[]",
            br#"[{"a":3},{"a":"z"}]"#,
            br#"{"a":4}{"a":5}"#,
            b"",
        ],
    );
    assert_eq!(got[..3], ["+I[1, x]", "+I[2, null]", "+I[null, y]"]);
    assert_eq!(got[3], "a: 'z' is not a INT", "the whole array is left out");
    assert!(got[4].contains("trailing characters") && got[5].contains("''"), "{got:?}");
    assert_eq!(
        texts(&encode(&of("json"), &changes()).expect("JSON")),
        [r#"{"a":1,"s":"é"}"#, r#"{"a":2,"s":"x"}"#, r#"{"a":2,"s":"y"}"#, r#"{"a":null,"s":null}"#]
    );
}

#[test]
fn a_csv_message_is_one_record() {
    let got = decode(&of("csv"), &[b"1,x", b"2,\"y\nz\"\r\n", b"3,x\n4,y", b"x,y", b"", b"5"]);
    assert_eq!(got[..2], ["+I[1, x]", "+I[2, y\nz]"]);
    assert_eq!(got[2], "'4,y' follows the record: a message is one record");
    assert_eq!(got[3], "a: 'x' is not a INT");
    assert_eq!(got[4], "the message is empty");
    assert!(got[5].contains("ends after 1 of 2"), "{got:?}");
    assert_eq!(texts(&encode(&of("csv"), &changes()).expect("csv")), ["1,é", "2,x", "2,y", ","]);
    let heading = table(&COLUMNS, &[("connector", "x"), ("format", "csv"), ("csv.ignore-first-line", "true")]);
    assert_eq!(refused(format(&heading)).code(), "table.unsupported-option");
}

#[test]
fn options_are_found_under_their_prefix() {
    let t = table(
        &COLUMNS,
        &[
            ("connector", "x"),
            ("value.format", "json"),
            ("value.json.ignore-parse-errors", "true"),
            ("key.format", "raw"),
            ("key.raw.charset", "latin1"),
        ],
    );
    let json = format(&t).expect("a format");
    assert!(json.ignores_parse_errors() && json.name() == "json" && json.changelog_mode() == ChangelogMode::Append);
    let mut decoder = json.decoder(&t.columns).expect("a decoder");
    let bad = decoder.decode(b"x").expect_err("not JSON");
    assert_eq!(bad.skip_option, "value.json.ignore-parse-errors");
    let unknown =
        table(&COLUMNS, &[("connector", "x"), ("value.format", "json"), ("json.ignore-parse-errors", "true")]);
    assert_eq!(refused(format(&unknown)).code(), "table.unknown-option");
    let value = table(&COLUMNS, &[("connector", "x"), ("value.format", "json"), ("value.json.map-null-key.mode", "x")]);
    assert!(refused(format(&value)).message().contains("'value.json.map-null-key.mode' = 'x'"));
    let error = refused(format(&of("protobuf")));
    assert_eq!(error.code(), "table.unknown-format");
    assert!(error.hint_text().is_some_and(|h| h.contains("debezium-json")), "{error}");
}

fn raw(kind: T, options: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "x"), ("format", "raw")];
    table(&[("v", kind)], &base.iter().chain(options).copied().collect::<Vec<_>>())
}

#[test]
fn raw_messages_are_the_value() {
    for (kind, big, little, shown) in [
        (T::Int, &[0, 0, 1, 2][..], &[2, 1, 0, 0][..], "258"),
        (T::BigInt, &[255; 8], &[255; 8], "-1"),
        (T::SmallInt, &[0x80, 0], &[0, 0x80], "-32768"),
        (T::TinyInt, &[7], &[7], "7"),
        (T::Boolean, &[1], &[1], "true"),
        (T::Double, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f], "1.5"),
        (T::Float, &[0xbf, 0xc0, 0, 0], &[0, 0, 0xc0, 0xbf], "-1.5"),
        (T::BYTES, &[1, 0], &[1, 0], "[1, 0]"),
        (T::STRING, b"\xc3\xa9", b"\xc3\xa9", "é"),
    ] {
        for (options, bytes) in [(&[][..], big), (&[("raw.endianness", "little-endian")][..], little)] {
            let t = raw(kind.clone(), options);
            assert_eq!(decode(&t, &[bytes]), [format!("+I[{shown}]")], "{kind}");
            let mut d = decoder(&t);
            d.decode(bytes).expect("a value");
            let out = encode(&t, &batch(&t, d.as_mut()).expect("a batch")).expect("bytes");
            assert_eq!(out.get(0), Some(bytes), "{kind}");
        }
    }
    assert_eq!(decode(&raw(T::Int, &[]), &[b"123"]), ["v: 3 bytes, and a value has 4"]);
    assert_eq!(decode(&raw(T::STRING, &[]), &[b"\xff"]), ["v: '\u{fffd}' is not UTF-8"]);
}

#[test]
fn raw_text_has_a_charset_and_null_has_no_bytes() {
    for (charset, bytes) in [
        ("ISO-8859-1", &b"a\xe9"[..]),
        ("utf-16be", &[0, b'a', 0, 0xe9]),
        ("UTF-16LE", &[b'a', 0, 0xe9, 0]),
        ("UTF-8", b"a\xc3\xa9"),
    ] {
        let t = raw(T::STRING, &[("raw.charset", charset)]);
        assert_eq!(decode(&t, &[bytes]), ["+I[aé]"], "{charset}");
        let out = encode(&t, &json_batch(&[("v", T::STRING)], "{\"v\":\"aé\"}\n{\"v\":null}")).expect("bytes");
        assert_eq!((out.get(0), out.get(1)), (Some(bytes), None), "{charset}");
    }
    let ascii = raw(T::STRING, &[("raw.charset", "US-ASCII")]);
    assert_eq!(decode(&ascii, &[b"\xe9"]), ["v: '\u{fffd}' is not US-ASCII"]);
    let error = refused(encode(&ascii, &json_batch(&[("v", T::STRING)], "{\"v\":\"é\"}")));
    assert!(error.message().contains("US-ASCII has no character 'é'"), "{error}");
    assert_eq!(refused(format(&raw(T::STRING, &[("raw.charset", "EBCDIC")]))).code(), "table.bad-option");
    assert_eq!(refused(format(&of("raw")).and_then(|f| f.decoder(&of("raw").columns))).code(), "format.raw.type");
}

#[test]
fn debezium_changes_become_rows_with_kinds() {
    let got = decode(
        &of("debezium-json"),
        &[
            br#"{"before":null,"after":{"a":1,"s":"x"},"op":"c"}"#,
            br#"{"op":"r","source":{"x":[1]},"after":{"a":2}}"#,
            br#"{"before":{"a":1,"s":"x"},"after":{"a":1,"s":"y"},"op":"u"}"#,
            br#"{"before":{"a":2},"after":null,"op":"d"}"#,
            b"",
            br#"{"before":null,"after":{"a":1},"op":"u"}"#,
            br#"{"after":{"a":1},"op":"d"}"#,
            br#"{"before":{"a":1},"after":{"a":"no"},"op":"u"}"#,
            br#"{"op":"t"}"#,
            br#"{"a":1,"s":"x"}"#,
            br#"{"schema":{},"payload":{"after":{"a":1},"op":"c"}}"#,
        ],
    );
    assert_eq!(got[..5], ["+I[1, x]", "+I[2, null]", "-U[1, x]", "+U[1, y]", "-D[2, null]"]);
    assert!(got[5].contains("UPDATE") && got[5].contains("REPLICA IDENTITY to FULL"), "{}", got[5]);
    assert!(got[6].contains("DELETE") && got[6].contains("REPLICA IDENTITY to FULL"), "{}", got[6]);
    assert_eq!(got[7], "a: 'no' is not a INT", "the row before it is taken back");
    assert_eq!(got[8], "op 't' is not one of c, r, u, d");
    assert!(got[9].contains("has no `op`"), "{}", got[9]);
    assert!(got[10].contains("'debezium-json.schema-include' = 'true'"), "{}", got[10]);
    let out = texts(&encode(&of("debezium-json"), &changes()).expect("JSON"));
    assert_eq!(
        out,
        [
            r#"{"before":null,"after":{"a":1,"s":"é"},"op":"c"}"#,
            r#"{"before":{"a":2,"s":"x"},"after":null,"op":"d"}"#,
            r#"{"before":null,"after":{"a":2,"s":"y"},"op":"c"}"#,
            r#"{"before":{"a":null,"s":null},"after":null,"op":"d"}"#,
        ]
    );
    let messages: Vec<_> = out.iter().map(String::as_bytes).collect();
    assert_eq!(decode(&of("debezium-json"), &messages), ["+I[1, é]", "-D[2, x]", "+I[2, y]", "-D[null, null]"]);
}

/// Adds the metadata that a format reads, each in front of the physical columns.
fn with_metadata(mut t: TableSpec) -> TableSpec {
    let metadata = format(&t).expect("a format").metadata();
    for (i, (key, data_type)) in metadata.into_iter().enumerate() {
        let metadata_key = Some(if i % 2 == 0 { format!("value.{key}") } else { key.to_owned() });
        t.columns.insert(i, Column { name: key.into(), data_type, metadata_key });
    }
    t
}

#[test]
fn debezium_metadata_and_schemas_are_read() {
    let options = [("connector", "x"), ("format", "debezium-json"), ("debezium-json.schema-include", "true")];
    let t = with_metadata(table(&COLUMNS, &options));
    let message = br#"{"schema":{"v":1},"payload":{"after":{"a":1,"s":"x"},"op":"c","ts_ms":1500,
        "source":{"ts_ms":1000,"db":"shop","schema":"public","table":"t","pos":7}}}"#;
    let got = decode(&t, &[message, br#"{"payload":{"after":{},"op":"c"}}"#, b"{}"]);
    assert_eq!(
        got[0],
        "+I[{\"v\":1}, 1970-01-01T00:00:01.500Z, 1970-01-01T00:00:01Z, shop, public, t, \
         {ts_ms=1000, db=shop, schema=public, table=t, pos=7}, 1, x]"
    );
    assert_eq!(got[1], format!("+I[{}null]", "null, ".repeat(8)));
    assert!(got[2].contains("no `payload`"), "{}", got[2]);
    let f = format(&t).expect("a format");
    assert_eq!(f.changelog_mode(), ChangelogMode::Retract);
    assert_eq!(refused(f.encoder(&t.columns[7..])).code(), "table.unsupported-option");
    let wrong = Column { metadata_key: Some("value.offset".into()), ..t.columns[0].clone() };
    assert_eq!(refused(f.decoder(std::slice::from_ref(&wrong))).code(), "format.metadata");
    assert_eq!(refused(format(&of("json")).and_then(|f| f.decoder(&[wrong]))).code(), "format.metadata");
}

#[test]
fn canal_and_maxwell_hold_what_changed_in_old() {
    let canal = with_metadata(table(
        &COLUMNS,
        &[("connector", "x"), ("format", "canal-json"), ("canal-json.table.include", "t.*")],
    ));
    let got = decode(
        &canal,
        &[
            br#"{"data":[{"a":"1","s":"x"},{"a":"2"}],"type":"INSERT","database":"d","table":"t1","es":1,"ts":2,
                "pkNames":["a"],"sqlType":{"a":4}}"#,
            br#"{"data":[{"a":"1","s":"y"}],"old":[{"s":"x"}],"type":"UPDATE","table":"t1"}"#,
            br#"{"data":[{"a":"2"}],"type":"DELETE","table":"t1"}"#,
            br#"{"data":[{"a":"3"}],"type":"INSERT","table":"other"}"#,
            br#"{"data":null,"type":"CREATE","table":"t1"}"#,
            br#"{"data":[{"a":"3"}],"type":"UPDATE","table":"t1"}"#,
            br#"{"data":{},"type":"INSERT","table":"t1"}"#,
        ],
    );
    let meta = "d, t1, {a=4}, [a], 1970-01-01T00:00:00.002Z, 1970-01-01T00:00:00.001Z";
    let none = "null, t1, null, null, null, null";
    assert_eq!(got[..2], [format!("+I[{meta}, 1, x]"), format!("+I[{meta}, 2, null]")]);
    assert_eq!(got[2..5], [format!("-U[{none}, 1, x]"), format!("+U[{none}, 1, y]"), format!("-D[{none}, 2, null]")]);
    assert_eq!(got[5..], ["`data` has 1 objects and `old` has 0", "`data` is not an array of objects"]);

    let got = decode(
        &of("maxwell-json"),
        &[
            br#"{"type":"insert","data":{"a":1,"s":"x"}}"#,
            br#"{"type":"update","data":{"a":1,"s":null},"old":{"s":"x"}}"#,
            br#"{"type":"delete","data":{"a":1}}"#,
            br#"{"type":"table-create"}"#,
        ],
    );
    assert_eq!(got[..4], ["+I[1, x]", "-U[1, x]", "+U[1, null]", "-D[1, null]"]);
    assert_eq!(got.len(), 5, "{got:?}");
    for f in ["canal-json", "maxwell-json"] {
        let out = texts(&encode(&of(f), &changes()).expect("JSON"));
        let messages: Vec<_> = out.iter().map(String::as_bytes).collect();
        assert_eq!(decode(&of(f), &messages), ["+I[1, é]", "-D[2, x]", "+I[2, y]", "-D[null, null]"], "{out:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No bytes make a decoder panic, or leave columns of different lengths.
    #[test]
    fn arbitrary_messages_never_panic(
        messages in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                r#"\{"(a|s|op|type|data|old|before|after)":("?[a-z0-9]{0,3}"?|\[?\{"(a|s)":(1|"x"|null)\}\]?)(,"(op|type|after|data)":("[cudr]"|"INSERT"|"UPDATE"|\[?\{\}\]?))?\}"#
                    .prop_map(String::into_bytes),
            ],
            1..8,
        ),
    ) {
        let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        for f in ["json", "csv", "debezium-json", "canal-json", "maxwell-json"] {
            decode(&of(f), &messages);
        }
        for kind in [T::STRING, T::Int, T::BYTES, T::Boolean] {
            decode(&raw(kind, &[]), &messages);
        }
    }

    /// What is written comes back.
    #[test]
    fn rows_come_back_from_their_messages(rows in prop::collection::vec((any::<Option<i32>>(), any::<String>()), 1..20)) {
        let mut text = String::new();
        for (a, s) in &rows {
            text += &serde_json::json!({"a": a, "s": s}).to_string();
            text.push('\n');
        }
        let rows = json_batch(&COLUMNS, &text);
        for f in ["json", "debezium-json", "canal-json", "maxwell-json"] {
            let t = of(f);
            let out = encode(&t, &rows).expect("messages");
            let messages: Vec<_> = (0..rows.num_rows()).filter_map(|i| out.get(i)).collect();
            prop_assert_eq!(decode(&t, &messages), rows_of(&rows));
        }
    }
}
