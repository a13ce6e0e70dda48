//! What csv reads, refuses and writes.

use flott_core::types::TypeKind as T;

use crate::testing::{decode, encode, json_batch, refused, source, table};

const BASE: [(&str, &str); 3] = [("connector", "filesystem"), ("path", "-"), ("format", "csv")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    BASE.iter().chain(more).copied().collect()
}

/// Reads the same in one block and in blocks of any small size.
fn read(columns: &[(&str, T)], options: &[(&str, &str)], text: &str) -> Vec<String> {
    let t = table(columns, &with(options));
    let (rows, _) = decode(&t, text.as_bytes(), usize::MAX >> 1).expect("a good text");
    for block in [1, 2, 3, 7, 64] {
        assert_eq!(decode(&t, text.as_bytes(), block).expect("a good text").0, rows, "blocks of {block}");
    }
    rows
}

#[test]
fn reads_every_type() {
    let columns = [
        ("i", T::Int),
        ("s", T::STRING),
        ("d", T::Double),
        ("n", T::Decimal(5, 2)),
        ("b", T::Boolean),
        ("t", T::Timestamp(3)),
        ("z", T::TimestampLtz(3)),
        ("y", T::Date),
        ("m", T::Time(0)),
        ("x", T::BYTES),
        ("a", T::Array(Box::new(T::BigInt.nullable()))),
        ("r", T::Row(vec![("u".into(), T::Int.nullable()), ("v".into(), T::STRING.nullable())])),
    ];
    let text = "7,x,1.5,12.345,TRUE,2013-01-01 05:15:00,2013-01-01 05:15:00.25Z,2013-01-02,01:02:03,AQI=,1;;3,5;q\n\
                ,,,,,,,,,,,\n";
    let rows = read(&columns, &[], text);
    assert_eq!(
        rows[0],
        "+I[7, x, 1.5, 12.35, true, 2013-01-01T05:15, 2013-01-01T05:15:00.250Z, 2013-01-02, 01:02:03, [1, 2], [1, null, 3], +I[5, q]]"
    );
    // Empty is NULL, but for strings; the empty row has no second field.
    let columns = &columns[..10];
    let rows = read(columns, &[], ",,,,,,,,,\n");
    assert_eq!(rows, ["+I[null, , null, null, null, null, null, null, null, []]"].map(|r| r.replace("[]]", "null]")));
}

#[test]
fn quotes_delimiters_comments_and_line_ends() {
    let columns = [("a", T::STRING), ("b", T::STRING)];
    for (options, text, expected) in [
        (vec![], "\"x,\"\"y\"\"\nz\",5\" pipe\r\n\nlast,", vec!["+I[x,\"y\"\nz, 5\" pipe]", "+I[last, ]"]),
        (vec![], "\"\",\"a\"  \n", vec!["+I[, a]"]),
        (vec![("csv.field-delimiter", ";"), ("csv.quote-character", "'")], "'a;b';c\n", vec!["+I[a;b, c]"]),
        (vec![("csv.field-delimiter", "\\t")], "a\tb\n", vec!["+I[a, b]"]),
        (vec![("csv.disable-quote-character", "true")], "\"a,b\"\n", vec!["+I[\"a, b\"]"]),
        (vec![("csv.escape-character", "\\")], "a\\,b,\"c\\\"d\"\n", vec!["+I[a,b, c\"d]"]),
        (vec![("csv.null-literal", "n/a")], "n/a,\"\"\n", vec!["+I[null, ]"]),
        (vec![("csv.allow-comments", "true")], "#x\na,#b\n#", vec!["+I[a, #b]"]),
    ] {
        assert_eq!(read(&columns, &options, text), expected, "{text}");
    }
    assert_eq!(read(&columns[..1], &[], "a\n\nb"), ["+I[a]", "+I[]", "+I[b]"]);
}

#[test]
fn bad_records_name_line_field_and_text_or_are_skipped_whole() {
    let columns = [("a", T::Int), ("b", T::Timestamp(3)), ("c", T::STRING)];
    let good = "1,2013-01-01 00:00:00,x\n";
    for (bad, field, problem) in [
        ("x,,\n", Some("a"), "'x' is not a INT"),
        ("99999999999,,\n", Some("a"), "'99999999999' is not a INT"),
        ("1,2013-02-30 00:00:00,\n", Some("b"), "'2013-02-30 00:00:00' is not a TIMESTAMP(3)"),
        ("1,yesterday,y\n", Some("b"), "'yesterday' is not a TIMESTAMP(3)"),
        ("1,,y,z\n", None, "the record has more than the 3 fields declared"),
        ("1,\n", Some("c"), "the record ends after 2 of 3 fields"),
        ("1,,\"x\"y\n", Some("c"), "'y' follows the closing quote"),
    ] {
        let text = format!("{good}{bad}{good}");
        for block in [1, 5, 1 << 20] {
            let error = decode(&table(&columns, &with(&[])), text.as_bytes(), block).expect_err(bad);
            assert_eq!((error.line, error.field.as_deref()), (1, field), "{bad}");
            assert_eq!(error.problem, problem);
            let skipping = table(&columns, &with(&[("csv.ignore-parse-errors", "true")]));
            let (rows, skipped) = decode(&skipping, text.as_bytes(), block).expect("bad records are skipped");
            assert_eq!((rows.len(), skipped), (2, 1), "{bad}");
        }
    }
    let error = decode(&table(&columns, &with(&[])), b"1,,\xff\n", 64).expect_err("not UTF-8");
    assert!(error.problem.contains("not UTF-8"), "{error:?}");
    // An unclosed quote costs one line, not the file.
    let text = format!("{good}1,,\"open\n{good}{good}");
    let error = decode(&table(&columns, &with(&[])), text.as_bytes(), 16).expect_err("unclosed");
    assert!(error.line == 1 && error.problem.contains("never closed"), "{error:?}");
    let skipping = table(&columns, &with(&[("csv.ignore-parse-errors", "true")]));
    assert_eq!(decode(&skipping, text.as_bytes(), 16).expect("skipped").0.len(), 3);
}

#[test]
fn contradictory_options_and_types_are_refused() {
    for (options, expected) in [
        (vec![("csv.quote-character", "'"), ("csv.disable-quote-character", "true")], "csv.disable-quote-character"),
        (vec![("csv.field-delimiter", "ab")], "'csv.field-delimiter' = 'ab' is not a single ASCII character"),
        (vec![("csv.field-delimiter", "\"")], "different from the quote"),
        (vec![("csv.ignore-parse-errors", "yes")], "is not true or false"),
        (vec![("csv.delimiter", ";")], "the nearest is 'csv.field-delimiter'"),
        (vec![("json.ignore-parse-errors", "true")], "there is no option 'json.ignore-parse-errors'"),
    ] {
        let error = refused(source(&table(&[("a", T::Int)], &with(&options)))).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let map = T::Map(Box::new(T::STRING.nullable()), Box::new(T::Int.nullable()));
    let error = refused(source(&table(&[("m", map)], &with(&[])))).to_string();
    assert!(error.contains("column `m`: csv cannot carry MAP"), "{error}");
}

#[test]
fn writes_quotes_where_flink_does_and_reads_it_back() {
    let columns = [("a", T::STRING), ("n", T::Decimal(10, 2)), ("t", T::Timestamp(3)), ("d", T::Double)];
    let text = r#"{"a":"x","n":100000,"t":"2013-01-01 05:15:00.020","d":2.0}
{"a":"a \"b\", c","n":1.5,"t":null,"d":1e10}
{"a":"","n":null,"t":"2013-01-01 05:15:00","d":null}"#;
    let batch = json_batch(&columns, text);
    let t = table(&columns, &with(&[]));
    let out = encode(&t, &batch).expect("csv");
    assert_eq!(
        out,
        "x,1E+5,\"2013-01-01 05:15:00.02\",2.0\n\"a \"\"b\"\", c\",1.5,,1.0E10\n,,\"2013-01-01 05:15:00\",\n"
    );
    assert_eq!(decode(&t, out.as_bytes(), 64).expect("csv").0, crate::contract::rows_of(&batch));
    let plain = table(&columns, &with(&[("csv.write-bigdecimal-in-scientific-notation", "false")]));
    assert!(encode(&plain, &batch).expect("csv").starts_with("x,100000.00,"));
}
