//! Avro messages and the registry, which a double answers for: what Confluent's does at the addresses that are used.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use flott_core::ErrorKind;
use flott_core::registry::TableSpec;
use flott_core::types::TypeKind as T;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{batch, decode, decoder, encode, format};
use crate::contract::rows_of;
use crate::http::double::{Asked, Double};
use crate::testing::{json_batch, refused, table};

/// What the double knows.
#[derive(Default)]
struct Known {
    schemas: Vec<String>,
    /// Answered to everything instead.
    status: Option<(u16, String)>,
}

/// A schema registry on loopback.
struct Registry {
    double: Double,
    known: Arc<Mutex<Known>>,
}

impl Registry {
    fn start() -> Registry {
        let known = Arc::new(Mutex::new(Known::default()));
        let theirs = Arc::clone(&known);
        Registry { double: Double::start(move |asked| answer(asked, &mut theirs.lock().expect("not poisoned"))), known }
    }
    fn url(&self) -> &str {
        &self.double.url
    }
    fn knows(&self, schema: &Value) -> u32 {
        let mut known = self.known.lock().expect("not poisoned");
        known.schemas.push(schema.to_string());
        known.schemas.len() as u32
    }
    fn requests(&self) -> Vec<String> {
        self.double.asked().into_iter().map(|a| a.line).collect()
    }
}

fn answer(asked: &Asked, known: &mut Known) -> (u16, String) {
    if let Some(answer) = &known.status {
        return answer.clone();
    }
    if let Some(id) = asked.line.strip_prefix("GET /schemas/ids/") {
        let schema = id.parse::<usize>().ok().and_then(|id| known.schemas.get(id.wrapping_sub(1)));
        return match schema {
            Some(schema) => (200, json!({ "schema": schema }).to_string()),
            None => (404, json!({"error_code": 40403, "message": "Schema not found"}).to_string()),
        };
    }
    assert!(asked.line.starts_with("POST /subjects/") && asked.line.ends_with("/versions"), "{}", asked.line);
    let schema: Value = serde_json::from_str(&asked.body).expect("JSON");
    let schema = schema["schema"].as_str().expect("a schema").to_owned();
    let id = known.schemas.iter().position(|s| *s == schema).unwrap_or_else(|| {
        known.schemas.push(schema);
        known.schemas.len() - 1
    });
    (200, json!({ "id": id + 1 }).to_string())
}

fn nested() -> Vec<(&'static str, T)> {
    let row = T::Row(vec![("x".into(), T::Int.nullable()), ("at".into(), T::Timestamp(3).nullable())]);
    vec![
        ("id", T::BigInt),
        ("tiny", T::TinyInt),
        ("small", T::SmallInt),
        ("flag", T::Boolean),
        ("f", T::Float),
        ("d", T::Double),
        ("price", T::Decimal(10, 2)),
        ("name", T::STRING),
        ("bytes", T::BYTES),
        ("day", T::Date),
        ("t", T::Time(3)),
        ("at", T::Timestamp(3)),
        ("r", row.clone()),
        ("list", T::Array(Box::new(row.nullable()))),
        ("m", T::Map(Box::new(T::STRING.not_null()), Box::new(T::Double.nullable()))),
    ]
}

const ROWS: &str = concat!(
    r#"{"id":-7,"tiny":-1,"small":300,"flag":true,"f":1.5,"d":-0.25,"price":"-12.34","name":"é","bytes":"AAH/","day":"2026-02-28","#,
    r#""t":"23:59:59.999","at":"1969-12-31 23:59:59.999","r":{"x":1,"at":"2026-01-01 00:00:00"},"list":[{"x":2},null],"m":{"k":1.5,"n":null}}"#,
    "\n",
    r#"{"id":null,"list":[],"m":{}}"#
);

fn plain(columns: &[(&str, T)], options: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "x"), ("format", "avro")];
    table(columns, &base.iter().chain(options).copied().collect::<Vec<_>>())
}

fn confluent(columns: &[(&str, T)], url: &str, options: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "x"), ("format", "avro-confluent"), ("avro-confluent.url", url)];
    table(columns, &base.iter().chain(options).copied().collect::<Vec<_>>())
}

#[test]
fn rows_of_every_type_come_back() {
    let columns = nested();
    let rows = json_batch(&columns, ROWS);
    let t = plain(&columns, &[]);
    let out = encode(&t, &rows).expect("Avro");
    let messages = [out.get(0).expect("a message"), out.get(1).expect("a message")];
    assert_eq!(decode(&t, &messages), rows_of(&rows));
    let columns = [("a", T::Timestamp(6)), ("b", T::TimestampLtz(6)), ("c", T::TimestampLtz(3))];
    let text = r#"{"a":"2026-01-01 00:00:00.123456","b":"2026-01-01 00:00:00.123456Z","c":"1960-01-01 00:00:00.001Z"}"#;
    let t = plain(&columns, &[("avro.timestamp_mapping.legacy", "false")]);
    let rows = json_batch(&columns, text);
    let out = encode(&t, &rows).expect("Avro");
    assert_eq!(decode(&t, &[out.get(0).expect("a message")]), rows_of(&rows));
    assert_eq!(refused(format(&plain(&columns, &[])).and_then(|f| f.encoder(&t.columns))).code(), "format.avro.type");
}

#[test]
fn bytes_are_those_of_flink() {
    // A union with null first: index 1 is the value; longs are zigzag, strings carry their length.
    let columns = [("id", T::BigInt), ("name", T::STRING)];
    let out = encode(&plain(&columns, &[]), &json_batch(&columns, "{\"id\":3,\"name\":\"ab\"}\n{}")).expect("Avro");
    assert_eq!((out.get(0), out.get(1)), (Some(&[2, 6, 2, 4, b'a', b'b'][..]), Some(&[0, 0][..])));
    let mut t = plain(&columns, &[]);
    t.columns[0].data_type.nullable = false;
    let schema = super::schema::of_columns(&t.columns, true).expect("a schema");
    assert_eq!(
        schema,
        json!({"type": "record", "name": "record", "namespace": "org.apache.flink.avro.generated", "fields": [
            {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"], "default": null}]})
    );
    assert_eq!(refused(encode(&t, &json_batch(&columns, "{}"))).code(), "format.avro.encode");
}

#[test]
fn bad_messages_leave_the_good_ones() {
    let columns = [("id", T::BigInt), ("name", T::STRING)];
    let t = plain(&columns, &[]);
    let good = [2, 6, 2, 2, b'a'];
    let got = decode(&t, &[&good, &[2], &good, &[2, 6, 2, 2, b'a', 0], &[9, 9], &[], &good]);
    assert_eq!(got[..3], ["+I[3, a]", "+I[3, a]", "+I[3, a]"]);
    assert_eq!(got.len(), 7, "{got:?}");
    let mut d = decoder(&t);
    d.decode(&good).expect("good");
    d.decode(&[2, 6, 2, 2, 0xff]).expect("found when the batch is finished");
    let error = refused(d.finish());
    assert!(error.message().contains("text that is not UTF-8"), "{error}");
}

#[test]
fn schemas_are_asked_for_once_and_resolved() {
    let double = Registry::start();
    let t = confluent(&[("id", T::BigInt), ("name", T::STRING), ("extra", T::Int)], double.url(), &[]);
    let field = |name: &str, t: Value| json!({"name": name, "type": t});
    let old = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
        field("name", json!("string")), field("gone", json!({"type": "array", "items": "int"})), field("id", json!("int"))]});
    let new = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
        field("id", json!(["null", "long"])), field("name", json!(["null", "string"])), field("extra", json!(["null", "int"]))]});
    let odd = json!({"type": "record", "name": "Order", "fields": [field("id", json!("string"))]});
    let [old, new, odd] = [old, new, odd].map(|s| double.knows(&s) as u8);
    let first: &[u8] = &[0, 0, 0, 0, old, 2, b'a', 2, 8, 0, 14];
    let second: &[u8] = &[0, 0, 0, 0, new, 2, 10, 2, 2, b'b', 2, 4];
    let got =
        decode(&t, &[first, second, first, second, &[0, 0, 0, 0, odd, 2, b'x'], &[0, 0, 0, 0, 99, 2], b"{}", second]);
    let (a, b) = ("+I[7, a, null]", "+I[5, b, 2]");
    assert_eq!(got[..5], [a, b, a, b, b]);
    assert!(got[5].contains("(id 3) cannot be read as the table's columns"), "{}", got[5]);
    assert!(got[6].contains("knows no schema with the id 99"), "{}", got[6]);
    assert!(got[7].contains("does not begin with a zero byte"), "{}", got[7]);
    assert_eq!(double.requests().len(), 4, "{:?}", double.requests());
}

#[test]
fn records_are_found_whatever_their_writer_calls_them() {
    let double = Registry::start();
    let address = T::Row(vec![("city".into(), T::STRING.nullable())]);
    let columns =
        [("home", address.clone()), ("work", address.clone()), ("all", T::Array(Box::new(address.nullable())))];
    let text = json!({"type": "string", "avro.java.string": "String"});
    let fields = json!([{"name": "zip", "type": "int"}, {"name": "city", "type": text}]);
    let address = json!({"type": "record", "name": "Address", "fields": fields});
    let id = double.knows(&json!({"type": "record", "name": "Person", "namespace": "shop", "fields": [
        {"name": "home", "type": ["null", address], "default": null}, {"name": "work", "type": "shop.Address"},
        {"name": "all", "type": {"type": "array", "items": "Address"}}]})) as u8;
    let t = confluent(&columns, double.url(), &[]);
    let message = [0, 0, 0, 0, id, 2, 2, 2, b'a', 4, 2, b'b', 2, 6, 2, b'c', 0];
    assert_eq!(decode(&t, &[&message]), ["+I[+I[a], +I[b], [+I[c]]]"]);
}

#[test]
fn schemas_that_would_be_misread_are_refused() {
    let double = Registry::start();
    let columns = [("at", T::Timestamp(3)), ("price", T::Decimal(10, 2)), ("next", T::STRING)];
    let t = confluent(&columns, double.url(), &[]);
    for (fields, problem) in [
        (json!([{"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]), "timestamp-micros"),
        (
            json!([{"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 3}}]),
            "scale 3",
        ),
        (json!([{"name": "other", "type": ["null", "Node"]}]), "recursive"),
        (json!([{"name": "next", "type": "Nowhere"}]), "nowhere defined"),
        (json!([{"name": "next", "type": {"type": "array", "items": "int"}}]), "cannot be read"),
    ] {
        let id = double.knows(&json!({"type": "record", "name": "Node", "fields": fields})) as u8;
        let got = decode(&t, &[&[0, 0, 0, 0, id, 0, 0, 0]]);
        assert!(got.len() == 1 && got[0].contains(problem), "{problem}: {got:?}");
    }
}

#[test]
fn schemas_are_registered_under_the_subject() {
    let double = Registry::start();
    let columns = [("id", T::BigInt)];
    let auth = ("avro-confluent.basic-auth.user-info", "ann:secret");
    let source = ("avro-confluent.basic-auth.credentials-source", "USER_INFO");
    let t = confluent(&columns, double.url(), &[("topic", "orders"), auth, source]);
    let rows = json_batch(&columns, "{\"id\":3}\n{\"id\":null}");
    let out = encode(&t, &rows).expect("Avro");
    assert_eq!(out.get(0), Some(&[0, 0, 0, 0, 1, 2, 6][..]));
    let messages = [out.get(0).expect("a message"), out.get(1).expect("a message")];
    assert_eq!(decode(&t, &messages), rows_of(&rows));
    assert_eq!(double.requests(), ["POST /subjects/orders-value/versions", "GET /schemas/ids/1"]);
    let seen = double.double.asked();
    assert_eq!(seen[0].headers["authorization"], "Basic YW5uOnNlY3JldA==");
    assert_eq!(seen[0].headers["content-type"], "application/vnd.schemaregistry.v1+json");
    assert!(!format!("{:?}", format(&t)).contains("YW5u"), "credentials are not shown");

    let named = confluent(&columns, double.url(), &[("avro-confluent.subject", "a/b")]);
    encode(&named, &rows).expect("Avro");
    assert_eq!(double.requests().last().map(String::as_str), Some("POST /subjects/a%2Fb/versions"));
    assert_eq!(refused(encode(&confluent(&columns, double.url(), &[]), &rows)).code(), "format.avro.subject");

    double.known.lock().expect("not poisoned").status =
        Some((409, json!({"error_code": 409, "message": "incompatible with an earlier schema"}).to_string()));
    let error = refused(encode(&named, &rows));
    assert!(error.code() == "format.avro.incompatible" && error.message().contains("an earlier schema"), "{error}");
    double.known.lock().expect("not poisoned").status = Some((401, "{}".into()));
    let error = refused(encode(&named, &rows));
    assert!(error.kind() == ErrorKind::User && !error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_registry_that_does_not_answer_is_no_bad_record() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let t = confluent(&[("id", T::BigInt)], &format!("http://127.0.0.1:{port}"), &[]);
    let mut d = decoder(&t);
    for rows in 1..=2 {
        d.decode(&[0, 0, 0, 0, 1, 2, 6]).expect("no fault of the message");
        assert_eq!(d.rows(), rows, "whoever skips messages without rows must not skip this one");
    }
    let error = refused(batch(&t, d.as_mut()));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Retry, "format.avro.registry"));
    assert!(error.message().contains(&port.to_string()), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let columns = [("id", T::BigInt)];
    for (options, code) in [
        (&[("avro-confluent.url", "x")][..], "table.bad-option"),
        (&[("avro-confluent.ssl.keystore.location", "x")], "table.unsupported-option"),
        (&[("avro-confluent.ssl.truststore.password", "x")], "table.unsupported-option"),
        (&[("avro-confluent.ssl.truststore.location", "/does/not/exist")], "table.bad-option"),
        (&[("avro-confluent.basic-auth.credentials-source", "SASL_INHERIT")], "table.unsupported-option"),
        (&[("avro-confluent.basic-auth.credentials-source", "USER_INFO")], "table.missing-option"),
        (&[("avro-confluent.bearer-auth.credentials-source", "STATIC_TOKEN")], "table.missing-option"),
        (&[("avro-confluent.properties.x", "y")], "table.unsupported-option"),
    ] {
        assert_eq!(refused(format(&confluent(&columns, "http://127.0.0.1:1", options))).code(), code, "{options:?}");
    }
    assert_eq!(refused(format(&plain(&columns, &[("avro.encoding", "json")]))).code(), "table.unsupported-option");
    for (schema, problem) in [
        ("{", "not JSON"),
        (r#"{"type":"record","name":"R","fields":[]}"#, "no field `id`"),
        (r#"{"type":"record","name":"R","fields":[{"name":"id","type":"string"}]}"#, "field `id` is"),
        (r#"{"type":"record","name":"R","fields":[{"name":"id","type":["null","long","int"]}]}"#, "union"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"x","type":"int"}]}"#,
            "is not a column",
        ),
    ] {
        let t = confluent(&columns, "http://127.0.0.1:1", &[("avro-confluent.schema", schema)]);
        let error = refused(format(&t).and_then(|f| f.decoder(&t.columns)));
        assert!(error.code() == "format.avro.schema" && error.message().contains(problem), "{error}");
    }
    let own = r#"{"type":"record","name":"R","namespace":"shop","fields":[{"name":"id","type":["null","long"]}]}"#;
    let t = confluent(&columns, "http://127.0.0.1:1", &[("avro-confluent.schema", own), ("topic", "t")]);
    format(&t).and_then(|f| f.encoder(&t.columns)).map(drop).expect("it fits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No bytes make the decoder panic, and good messages among them survive.
    #[test]
    fn arbitrary_messages_never_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        let columns = nested();
        let t = plain(&columns, &[]);
        let out = encode(&t, &json_batch(&columns, ROWS)).expect("Avro");
        let mut d = decoder(&t);
        let mut good = 0;
        for message in &messages {
            good += usize::from(d.decode(message).is_ok());
            d.decode(out.get(0).expect("a message")).expect("good");
        }
        prop_assert_eq!(d.rows(), messages.len() + good);
        // Bytes that are not text are found only here.
        if let Ok(decoded) = d.finish() {
            prop_assert!(decoded.columns.iter().all(|c| c.len() == messages.len() + good));
        }
    }
}
