//! What JSON reads, refuses and writes.

use flott_core::types::TypeKind as T;
use proptest::prelude::*;

use crate::testing::{decode, encode, json_batch, refused, source, table};

const BASE: [(&str, &str); 3] = [("connector", "filesystem"), ("path", "-"), ("format", "json")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    BASE.iter().chain(more).copied().collect()
}

fn nested() -> Vec<(&'static str, T)> {
    let row = T::Row(vec![("id".into(), T::BigInt.nullable()), ("at".into(), T::Timestamp(3).nullable())]);
    vec![
        ("r", row.clone()),
        ("a", T::Array(Box::new(row.nullable()))),
        ("m", T::Map(Box::new(T::STRING.not_null()), Box::new(T::Array(Box::new(T::Int.nullable())).nullable()))),
        ("n", T::Decimal(38, 18)),
        ("s", T::STRING),
    ]
}

#[test]
fn nested_values_come_back_as_they_were_written() {
    let text = concat!(
        r#"{"r":{"id":1,"at":"2026-01-15 23:46:00.95"},"a":[{"id":2,"at":null},null],"m":{"k":[1,null],"":[]},"n":12345678901234567890.123456789012345678,"s":"\"\\\n\u001Fü"}"#,
        "\n",
        r#"{"r":null,"a":null,"m":null,"n":null,"s":null}"#,
        "\n"
    );
    let t = table(&nested(), &with(&[]));
    assert_eq!(encode(&t, &json_batch(&nested(), text)).expect("JSON"), text);
    let iso = table(&nested(), &with(&[("json.timestamp-format.standard", "ISO-8601")]));
    let out = encode(&iso, &json_batch(&nested(), text)).expect("JSON");
    assert!(out.contains("2026-01-15T23:46:00.95"), "{out}");
    assert_eq!(decode(&iso, out.as_bytes(), 9).expect("JSON"), decode(&t, text.as_bytes(), 64).expect("JSON"));
    let sparse = table(&nested(), &with(&[("json.encode.ignore-null-fields", "true")]));
    assert!(encode(&sparse, &json_batch(&nested(), text)).expect("JSON").ends_with("\n{}\n"));
}

#[test]
fn members_may_be_missing_unknown_repeated_or_in_any_order() {
    let columns = [("a", T::Int), ("b", T::STRING)];
    let t = table(&columns, &with(&[]));
    let text = "{\"b\":\"x\",\"zz\":[{}],\"a\":1}\n\n  \n{\"a\":1,\"a\":2}\r\n{\"a\":\" 7 \",\"b\":{\"k\":[1.0,true]}}\n{\"b\":1.50}";
    let (rows, skipped) = decode(&t, text.as_bytes(), 5).expect("JSON");
    assert_eq!(rows, ["+I[1, x]", "+I[2, null]", "+I[7, {\"k\":[1.0,true]}]", "+I[null, 1.5]"]);
    assert_eq!(skipped, 0);
    let strict = table(&columns, &with(&[("json.fail-on-missing-field", "true")]));
    let error = decode(&strict, b"{\"a\":1}", 99).expect_err("b is missing");
    assert_eq!((error.field.as_deref(), error.problem.as_str()), (Some("b"), "the member is missing"));
}

#[test]
fn bad_records_name_the_path_or_are_skipped_whole() {
    let columns = nested();
    let good = r#"{"s":"x","a":[{"id":1}]}"#;
    for (bad, field, problem) in [
        (r#"{"s":"y","r":{"id":"x"}}"#, Some("r.id"), "'x' is not a BIGINT"),
        (r#"{"a":[{"id":1},{"at":"noon"}]}"#, Some("a.element.at"), "'noon' is not a TIMESTAMP(3)"),
        (r#"{"m":{"k":[1],"l":[1.5]}}"#, Some("m.l.element"), "1.5 is not a INT"),
        (r#"{"r":[1]}"#, Some("r"), "an array is not a ROW<`id` BIGINT, `at` TIMESTAMP(3)>"),
        (r#"{"r":{"id":{}}}"#, Some("r.id"), "an object is not a BIGINT"),
        (r#"{"n":"1e40"}"#, Some("n"), "'1e40' is not a DECIMAL(38, 18)"),
        (r#"{"r":{"id":18446744073709551615}}"#, Some("r.id"), "18446744073709551615 is not a BIGINT"),
        (r#"{"s":"y""#, None, "is not a JSON object as declared"),
        (r#"[1]"#, None, "is not a JSON object as declared"),
        (r#"{"s":"y"} x"#, None, "is not a JSON object as declared"),
    ] {
        let text = format!("{good}\n{bad}\n{good}\n");
        let error = decode(&table(&columns, &with(&[])), text.as_bytes(), 11).expect_err(bad);
        assert_eq!((error.line, error.field.as_deref()), (1, field), "{bad}");
        assert!(error.problem.contains(problem), "{}", error.problem);
        let skipping = table(&columns, &with(&[("json.ignore-parse-errors", "true")]));
        let (rows, skipped) = decode(&skipping, text.as_bytes(), 11).expect("bad records are skipped");
        assert_eq!((rows.len(), skipped), (2, 1), "{bad}");
        assert_eq!(rows[0], rows[1]);
    }
}

#[test]
fn depth_is_limited() {
    let text = format!("{{\"x\":{}", "[".repeat(100_000));
    let error = decode(&table(&[("x", T::STRING)], &with(&[])), text.as_bytes(), 1 << 20).expect_err("too deep");
    assert!(error.problem.contains("recursion limit"), "{}", error.problem);
}

#[test]
fn contradictory_options_and_types_are_refused() {
    for (options, expected) in [
        (
            vec![("json.fail-on-missing-field", "true"), ("json.ignore-parse-errors", "true")],
            "together with 'json.fail-on-missing-field'",
        ),
        (vec![("json.timestamp-format.standard", "RFC")], "one of SQL, ISO-8601"),
        (vec![("json.map-null-key.mode", "KEEP")], "one of FAIL, DROP, LITERAL"),
    ] {
        let error = refused(source(&table(&[("a", T::Int)], &with(&options)))).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let map = T::Map(Box::new(T::Int.nullable()), Box::new(T::Int.nullable()));
    let error = refused(source(&table(&[("m", map)], &with(&[])))).to_string();
    assert!(error.contains("column `m`") && error.contains("MAP<STRING"), "{error}");
}

#[test]
fn decimals_and_doubles_are_written_as_java_does() {
    let columns = [("n", T::Decimal(20, 10)), ("d", T::Double), ("f", T::Float)];
    let batch = json_batch(&columns, r#"{"n":0.0000000270,"d":"NaN","f":0.1}"#);
    let out = encode(&table(&columns, &with(&[])), &batch).expect("JSON");
    assert_eq!(out, "{\"n\":2.70E-8,\"d\":\"NaN\",\"f\":0.1}\n");
    let plain = table(&columns, &with(&[("json.encode.decimal-as-plain-number", "true")]));
    assert!(encode(&plain, &batch).expect("JSON").starts_with("{\"n\":0.0000000270,"));
}

proptest! {
    #[test]
    fn any_text_and_number_survives(s in any::<String>(), i in any::<i64>(), d in any::<f64>(), block in 1usize..50) {
        let columns = [("s", T::STRING), ("i", T::BigInt), ("d", T::Double)];
        let d = if d.is_finite() { d } else { 0.5 };
        let line = serde_json::json!({"s": s, "i": i, "d": d}).to_string();
        let batch = json_batch(&columns, &line);
        for format in ["json", "csv"] {
            let t = table(&columns, &[("connector", "filesystem"), ("path", "-"), ("format", format)]);
            let out = encode(&t, &batch).expect("encoded");
            prop_assert_eq!(decode(&t, out.as_bytes(), block).expect("decoded").0, crate::contract::rows_of(&batch));
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in any::<Vec<u8>>(), block in 1usize..20) {
        let columns = [("a", T::Int), ("b", T::STRING)];
        for (format, skip) in [("json", "json.ignore-parse-errors"), ("csv", "csv.ignore-parse-errors")] {
            let options = [("connector", "filesystem"), ("path", "-"), ("format", format), (skip, "true")];
            prop_assert!(decode(&table(&columns, &options), &bytes, block).is_ok());
        }
    }
}
