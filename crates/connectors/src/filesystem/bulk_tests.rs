//! Files as parquet, avro and raw against the laws of sources and sinks: every type there and back, parts, restored positions, and files
//! that are damaged or hold other columns.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use flott_core::registry::TableSpec;
use flott_core::source::Source;
use flott_core::types::{DataType, TypeKind as T};
use flott_core::{ChangeBatch, Result};

use super::input::Layout;
use super::reader::{FileSource, FileTable};
use crate::contract::{SinkLaw, check_source, rows_of, sink_context};
use crate::testing::{format, json_batch, refused, sink, source, table};

const COLUMNS: [(&str, T); 2] = [("a", T::Int), ("b", T::STRING)];

fn options<'a>(path: &'a Path, format: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let path = path.to_str().expect("a path in UTF-8");
    [("connector", "filesystem"), ("path", path), ("format", format)].iter().chain(more).copied().collect()
}

fn spec(columns: &[(&str, T)], path: &Path, name: &str, more: &[(&str, &str)]) -> TableSpec {
    table(columns, &options(path, name, more))
}

/// Writes the batches through the sink, and commits.
fn write(t: &TableSpec, batches: &[ChangeBatch]) -> Result<()> {
    let sink = sink(t)?;
    let context = sink_context(0, 1, 1, 1);
    let mut committer = sink.committer(context.clone())?.expect("in two phases");
    let mut writer = sink.writer(context, Vec::new())?;
    for batch in batches {
        let _ = writer.write(batch)?;
    }
    let prepared = writer.prepare_commit(flott_core::CheckpointId(1), true)?;
    committer.commit(&prepared).map_err(|_| ()).expect("committed");
    Ok(())
}

fn rows(t: &TableSpec) -> Vec<String> {
    check_source(&|| source(t).expect("a source"))
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        super::split::list_files(dir).map_or_else(|_| Vec::new(), |f| f.into_iter().map(|f| f.0).collect());
    found.sort();
    found
}

/// A column of each type that both formats carry, and two rows.
fn every_type(avro: bool) -> (Vec<(&'static str, T)>, String) {
    let array = T::Array(Box::new(T::Int.nullable()));
    let map = T::Map(Box::new(T::STRING.not_null()), Box::new(T::BigInt.nullable()));
    let row = T::Row(vec![("x".into(), T::Int.nullable()), ("y".into(), T::STRING.nullable())]);
    let mut columns = vec![
        ("bool", T::Boolean),
        ("int", T::Int),
        ("big", T::BigInt),
        ("flt", T::Float),
        ("dbl", T::Double),
        ("dec", T::Decimal(20, 3)),
        ("txt", T::STRING),
        ("bin", T::BYTES),
        ("day", T::Date),
        ("tim", T::Time(0)),
        ("ts", T::Timestamp(3)),
        ("arr", array),
        ("map", map),
        ("row", row),
    ];
    if !avro {
        columns.extend([
            ("tiny", T::TinyInt),
            ("small", T::SmallInt),
            ("micros", T::Timestamp(6)),
            ("nanos", T::Timestamp(9)),
            ("ltz", T::TimestampLtz(3)),
            ("fixed", T::Char(3)),
        ]);
    }
    let text = r#"{"bool":true,"int":-7,"big":9007199254740993,"flt":1.5,"dbl":-2.25,"dec":"12345678901234567.891","txt":"grün\n\"q\"","bin":"AAEC","day":"1969-12-31","tim":"23:59:59","ts":"1968-05-04 03:02:01.123","arr":[1,null,3],"map":{"k":5,"l":null},"row":{"x":1,"y":"z"},"tiny":-128,"small":32767,"micros":"2024-02-29 12:00:00.123456","nanos":"2024-02-29 12:00:00.123456789","ltz":"2024-02-29 12:00:00.5Z","fixed":"abc"}
{"int":1,"arr":[],"map":{},"row":{"x":null,"y":null}}"#;
    (columns, text.to_owned())
}

fn there_and_back(name: &str, more: &[(&str, &str)]) {
    let dir = tempfile::tempdir().expect("a directory");
    let (columns, text) = every_type(name == "avro");
    let t = spec(&columns, dir.path(), name, more);
    let batch = json_batch(&columns, &text);
    let mut expected = rows_of(&batch);
    expected.sort();
    write(&t, &[batch]).expect("written");
    assert_eq!(rows(&t), expected, "{name} {more:?}");
    assert!(files(dir.path())[0].to_string_lossy().ends_with(&format!(".{name}")));
}

#[test]
fn every_type_comes_back() {
    for codec in ["SNAPPY", "gzip", "UNCOMPRESSED"] {
        there_and_back("parquet", &[("parquet.compression", codec)]);
    }
    for codec in ["snappy", "deflate", "null"] {
        there_and_back("avro", &[("avro.codec", codec)]);
    }
}

fn numbered(from: i64, to: i64) -> ChangeBatch {
    let lines: String = (from..to).map(|i| format!("{{\"a\":{i},\"b\":\"value {i}\"}}\n")).collect();
    json_batch(&COLUMNS, &lines)
}

fn expected(from: i64, to: i64) -> Vec<String> {
    let mut rows: Vec<_> = (from..to).map(|i| format!("+I[{i}, value {i}]")).collect();
    rows.sort();
    rows
}

#[test]
fn files_obey_the_law_of_sources_also_in_parts_and_at_a_rate() {
    for (name, more) in [("parquet", vec![("parquet.block.size", "1 kb")]), ("avro", vec![])] {
        let dir = tempfile::tempdir().expect("a directory");
        let t = spec(&COLUMNS, dir.path(), name, &more);
        let batches: Vec<ChangeBatch> = (0..12).map(|i| numbered(i * 1_000, (i + 1) * 1_000)).collect();
        write(&t, &batches).expect("written");
        assert_eq!(rows(&t), expected(0, 12_000), "{name}");
        let mut slow = more.clone();
        slow.push(("source.rows-per-second", "200000"));
        assert_eq!(rows(&spec(&COLUMNS, dir.path(), name, &slow)), expected(0, 12_000), "{name}");
        if name == "parquet" {
            let split = |split_bytes: u64| -> Arc<dyn Source> {
                Arc::new(FileSource::new(FileTable {
                    path: dir.path().to_path_buf(),
                    format: format(&t).expect("a format"),
                    layout: Layout::new(&t, super::DEFAULT_PARTITION).expect("a layout"),
                    pace: None,
                    split_bytes,
                    monitor_ms: None,
                    pattern: None,
                }))
            };
            let splits = split(1).enumerator().expect("one").discover(1).expect("splits");
            assert!(splits.len() > 3, "{} row groups are read by themselves", splits.len());
            assert_eq!(check_source(&|| split(1)), expected(0, 12_000));
        }
    }
}

#[test]
fn files_obey_the_law_of_sinks() {
    let batches = [numbered(0, 10), numbered(10, 30), numbered(30, 60)];
    for name in ["parquet", "avro"] {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out");
        let t = spec(&COLUMNS, &out, name, &[]);
        let visible = || if files(&out).is_empty() { Vec::new() } else { rows(&t) };
        let left = || fs::read_dir(&out).map_or(0, |entries| entries.count());
        let law = SinkLaw { sink: &|| sink(&t).expect("a sink"), visible: &visible, left: &left };
        law.check([&batches[0], &batches[1], &batches[2]]);
    }
}

#[test]
fn partitions_and_columns_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["parquet", "avro"] {
        let path = dir.path().join(name);
        let mut t = spec(&[("a", T::Int), ("b", T::STRING), ("dt", T::STRING)], &path, name, &[]);
        t.partition_keys = vec![2];
        let text = "{\"a\":1,\"b\":\"x\",\"dt\":\"2024-01-01\"}\n{\"a\":2,\"b\":\"y\",\"dt\":\"2024-01-02\"}";
        write(&t, &[json_batch(&[("a", T::Int), ("b", T::STRING), ("dt", T::STRING)], text)]).expect("written");
        assert_eq!(files(&path).len(), 2);
        // Another order, a wider number, and a column that the files lack.
        let mut other =
            spec(&[("dt", T::STRING), ("c", T::Date), ("b", T::STRING), ("a", T::BigInt)], &path, name, &[]);
        other.partition_keys = vec![0];
        assert_eq!(rows(&other), ["+I[2024-01-01, null, x, 1]", "+I[2024-01-02, null, y, 2]"], "{name}");
        let wrong = spec(&[("b", T::Date)], &path, name, &[]);
        let error = first_error(&wrong);
        assert!(error.contains("column `b`: it holds values of Utf8 there, and the table says DATE"), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

/// What reading the table fails with.
fn first_error(t: &TableSpec) -> String {
    let read = || -> Result<()> {
        let source = source(t)?;
        let splits = source.enumerator()?.discover(1)?;
        let clock = flott_core::time::ManualClock::at(0);
        let mut reader = source.reader(crate::contract::reader_context(clock, 0, 1))?;
        reader.assign(splits)?;
        while !matches!(reader.poll()?, flott_core::source::ReaderEvent::Drained) {}
        Ok(())
    };
    refused(read()).to_string()
}

#[test]
fn damaged_files_are_named() {
    for name in ["parquet", "avro"] {
        let dir = tempfile::tempdir().expect("a directory");
        let t = spec(&COLUMNS, dir.path(), name, &[]);
        write(&t, &[numbered(0, 5_000)]).expect("written");
        let file = files(dir.path()).remove(0);
        let whole = fs::read(&file).expect("a file");
        for (damage, bytes) in [
            ("cut", whole[..whole.len() / 2].to_vec()),
            ("text", b"a,b\n1,2\n".to_vec()),
            ("short", whole[..3].to_vec()),
        ] {
            fs::write(&file, &bytes).expect("written");
            let error = first_error(&t);
            let begins = format!("the file '{}' cannot be read as {name}: ", file.display());
            assert!(error.contains(&begins), "{name} {damage}: {error}");
        }
    }
}

#[test]
fn a_file_that_has_lost_rows_since_the_checkpoint_is_named() {
    for name in ["parquet", "avro"] {
        let dir = tempfile::tempdir().expect("a directory");
        let t = spec(&COLUMNS, dir.path(), name, &[]);
        write(&t, &[numbered(0, 9_000)]).expect("written");
        let reader = |splits| -> Result<_> {
            let clock = flott_core::time::ManualClock::at(0);
            let mut reader = source(&t)?.reader(crate::contract::reader_context(clock, 0, 1))?;
            reader.assign(splits)?;
            Ok(reader)
        };
        let splits = source(&t).and_then(|s| s.enumerator()?.discover(1)).expect("splits");
        let mut first = reader(splits).expect("a reader");
        first.poll().expect("rows");
        let position = first.snapshot().expect("a position");
        let file = files(dir.path()).remove(0);
        let other = tempfile::tempdir().expect("a directory");
        write(&spec(&COLUMNS, other.path(), name, &[]), &[numbered(0, 10)]).expect("written");
        fs::copy(&files(other.path())[0], &file).expect("written over");
        let read = || -> Result<()> {
            let mut reader = reader(position.clone())?;
            while !matches!(reader.poll()?, flott_core::source::ReaderEvent::Drained) {}
            Ok(())
        };
        let error = refused(read());
        assert_eq!(error.code(), "filesystem.changed", "{name}: {error}");
    }
}

#[test]
fn files_that_are_not_whole_yet_wait_in_a_watched_directory() {
    for name in ["parquet", "avro"] {
        let dir = tempfile::tempdir().expect("a directory");
        write(&spec(&COLUMNS, dir.path(), name, &[]), &[numbered(0, 100)]).expect("written");
        let file = files(dir.path()).remove(0);
        let whole = fs::read(&file).expect("a file");
        fs::write(&file, &whole[..whole.len() / 2]).expect("written");
        let t = spec(&COLUMNS, dir.path(), name, &[("source.monitor-interval", "1 s")]);
        let mut enumerator = source(&t).and_then(|s| s.enumerator()).expect("an enumerator");
        assert!(enumerator.discover(1).expect("nothing yet").is_empty(), "{name}");
        fs::write(&file, &whole).expect("written");
        assert_eq!(enumerator.discover(1).expect("the file").len(), 1, "{name}");
    }
}

#[test]
fn a_value_a_line_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = spec(&[("line", T::STRING)], dir.path(), "raw", &[]);
    fs::write(dir.path().join("1.log"), "GET /\r\n\nPOST /ü").expect("written");
    assert_eq!(rows(&t), ["+I[GET /]", "+I[POST /ü]", "+I[]"]);
    let latin = spec(&[("line", T::STRING)], dir.path(), "raw", &[("raw.charset", "US-ASCII")]);
    let error = first_error(&latin);
    assert!(error.contains("line 3") && error.contains("1.log"), "{error}");
    let out = dir.path().join("out");
    let written = spec(&[("line", T::STRING)], &out, "raw", &[]);
    write(&written, &[json_batch(&[("line", T::STRING)], "{\"line\":\"one\"}\n{\"line\":null}\n{\"line\":\"two\"}")])
        .expect("written");
    assert_eq!(fs::read_to_string(&files(&out)[0]).expect("a file"), "one\n\ntwo\n");
    let many: String = (0..10_000).map(|i| format!("line {i}\n")).collect();
    fs::write(dir.path().join("1.log"), many).expect("written");
    fs::remove_dir_all(&out).expect("removed");
    assert_eq!(rows(&t).len(), 10_000);
}

#[test]
fn what_cannot_be_is_refused_before_the_job_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    let refuse = |columns: &[(&str, T)], name: &str, more: &[(&str, &str)]| {
        let t = spec(columns, dir.path(), name, more);
        refused(sink(&t)).to_string()
    };
    assert!(refuse(&COLUMNS, "raw", &[]).contains("the format 'raw' carries one column"));
    assert!(refuse(&COLUMNS, "parquet", &[("parquet.compression", "LZO")]).contains("SNAPPY, GZIP, UNCOMPRESSED"));
    assert!(refuse(&COLUMNS, "parquet", &[("parquet.utc-timezone", "false")]).contains("not shifted by the zone"));
    assert!(refuse(&COLUMNS, "parquet", &[("sink.compression", "gzip")]).contains("not compressed as a whole"));
    assert!(refuse(&COLUMNS, "avro", &[("avro.codec", "xz")]).contains("snappy, deflate, null"));
    let set = T::Multiset(Box::new(DataType { kind: T::Int, nullable: true }));
    assert!(
        refuse(&[("s", set)], "parquet", &[]).contains("column `s`: the format 'parquet' has no values of MULTISET")
    );
    assert!(refuse(&COLUMNS, "orc", &[]).contains("available: csv, json, parquet, avro, raw"));
}
