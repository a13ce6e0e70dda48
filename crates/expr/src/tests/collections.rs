//! JSON paths and collections beyond what the cases compared with Flink show: damage, limits, nesting.

use flott_core::types::TypeKind;
use flott_plan::expr::{Expr, Literal};

use crate::{JsonClauses, bind_call, bind_json, constant_fold};

fn text(s: &str) -> Expr {
    Expr::literal(Literal::String(s.to_owned()), TypeKind::STRING.not_null())
}

fn folded(e: Expr) -> Literal {
    match constant_fold(&e).kind {
        flott_plan::ExprKind::Literal(l) => l,
        other => panic!("not constant: {other:?}"),
    }
}

fn value(json: &str, path: &str) -> Option<String> {
    match folded(bind_json("JSON_VALUE", vec![text(json), text(path)], JsonClauses::default()).expect("binds")) {
        Literal::String(s) => Some(s),
        _ => None,
    }
}

fn query(json: &str, path: &str) -> Option<String> {
    match folded(bind_json("JSON_QUERY", vec![text(json), text(path)], JsonClauses::default()).expect("binds")) {
        Literal::String(s) => Some(s),
        _ => None,
    }
}

#[test]
fn paths_find_names_positions_ranges_and_everything() {
    let json = r#"{"a":{"b":[10,20,30,40]},"x y":1,"q\"":"é","d":{"a":{"b":[5]}}}"#;
    for (path, expected) in [
        ("$.a.b[0]", Some("10")),
        ("$.a.b[-1]", Some("40")),
        ("$['x y']", Some("1")),
        ("$[\"a\"]['b'][1]", Some("20")),
        ("lax $.a.none.more", None),
        ("$.a.b[9]", None),
        ("$.a b", None),
        ("$.a[", None),
        ("", None),
    ] {
        assert_eq!(value(json, path).as_deref(), expected, "{path}");
    }
    for (path, expected) in [
        ("$.a.b[1:3]", Some("[20,30]")),
        ("$.a.b[:2]", Some("[10,20]")),
        ("$.a.b[-2:]", Some("[30,40]")),
        ("$.a.b[0,3]", Some("[10,40]")),
        ("$..b", Some("[[10,20,30,40],[5]]")),
        ("$.d.*", Some(r#"[{"b":[5]}]"#)),
        ("$.none[*]", None),
        ("lax $.none[*]", Some("[]")),
        ("$.a.b[?(@ > 1)]", None),
    ] {
        assert_eq!(query(json, path).as_deref(), expected, "{path}");
    }
}

#[test]
fn documents_are_read_as_strictly_as_they_are_written() {
    for (json, is) in [
        (" [ 1 , {\"a\" : null} ] ", true),
        ("[1 2]", false),
        ("{\"a\"}", false),
        ("\"\\ud83d\\ude00\\u0041\"", true),
        ("\"\\x\"", false),
        ("\"line\nbreak\"", false),
        ("-", false),
        ("-0", true),
        ("1.", false),
        (".5", false),
        ("1e", false),
        ("truely", false),
        ("[", false),
    ] {
        let is_json = bind_json("IS JSON VALUE", vec![text(json)], JsonClauses::default()).expect("binds");
        assert_eq!(folded(is_json), Literal::Boolean(is), "{json}");
    }
    assert_eq!(value("\"\\ud83d\\ude00\\u0041\"", "$").as_deref(), Some("😀A"));
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(query(&deep(1000), "$").is_some());
    assert!(query(&deep(1001), "$").is_none());
    for (number, shown) in [("1.50", "1.50"), ("1e5", "1E+5"), ("-0.0", "0.0"), ("12e-8", "1.2E-7"), ("0.001", "0.001")]
    {
        assert_eq!(value(number, "$").as_deref(), Some(shown), "{number}");
    }
}

#[test]
fn repeated_names_count_once_and_the_last_wins() {
    assert_eq!(query(r#"{"b":1,"a":2,"b":3}"#, "$").as_deref(), Some(r#"{"a":2,"b":3}"#));
    assert_eq!(value(r#"{"b":1,"a":2,"b":3}"#, "$.b").as_deref(), Some("3"));
}

#[test]
fn calls_that_do_not_fit_say_what_is_expected() {
    let number = || Expr::literal(Literal::Int(1), TypeKind::Int.not_null());
    let array = bind_call("ARRAY", vec![number(), number()]).expect("binds");
    assert_eq!(array.data_type.to_string(), "ARRAY<INT NOT NULL> NOT NULL");
    for (name, args) in [
        ("ARRAY", vec![number(), array.clone()]),
        ("ARRAY_CONTAINS", vec![number(), number()]),
        ("ARRAY_JOIN", vec![array.clone(), text(",")]),
        ("MAP", vec![number()]),
        ("MAP_KEYS", vec![array.clone()]),
        ("BITMAP_AND", vec![array.clone(), array.clone()]),
        ("CARDINALITY", vec![number()]),
        ("ELEMENT_AT", vec![array, text("x")]),
    ] {
        let error = bind_call(name, args).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}
