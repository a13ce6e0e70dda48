//! The file source and sink against their laws, and every way in which files are not what a table says.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use flott_core::sink::{CommitError, Committer, Sink, SinkWriter};
use flott_core::source::{Boundedness, ReaderEvent, Source, Split};
use flott_core::time::ManualClock;
use flott_core::types::{Column, TypeKind as T};
use flott_core::{CheckpointId, ErrorKind, Result};

use super::input::Layout;
use super::reader::{FileSource, FileTable};
use crate::contract::{SinkLaw, check_source, reader_context, rows_of, sink_context};
use crate::testing::{decode, format, json_batch, refused, sink, source, table};

const COLUMNS: [(&str, T); 2] = [("a", T::Int), ("b", T::STRING)];

fn options<'a>(path: &'a Path, format: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let path = path.to_str().expect("a path in UTF-8");
    [("connector", "filesystem"), ("path", path), ("format", format)].iter().chain(more).copied().collect()
}

fn gzip(path: &Path, text: &str) {
    let mut gz = flate2::write::GzEncoder::new(fs::File::create(path).expect("a file"), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).expect("written");
    gz.finish().expect("finished");
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|i| format!("{i},value {i}\n")).collect()
}

#[test]
fn a_directory_of_plain_and_compressed_files_obeys_the_law_of_sources() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("sub")).expect("a directory");
    fs::write(dir.path().join("1.csv"), format!("\u{feff}a,b\n{}", lines(0, 9000))).expect("written");
    fs::write(dir.path().join("sub/2.csv"), "a,b\r\n9000,value 9000").expect("written");
    gzip(&dir.path().join("3.csv.gz"), &format!("a,b\n{}", lines(9001, 15_000)));
    fs::write(dir.path().join("4.csv"), "").expect("written");
    fs::write(dir.path().join(".hidden"), "bad").expect("written");
    fs::write(dir.path().join("_SUCCESS"), "bad").expect("written");
    let t = table(&COLUMNS, &options(dir.path(), "csv", &[("csv.ignore-first-line", "true")]));
    let mut expected: Vec<_> = (0..15_000).map(|i| format!("+I[{i}, value {i}]")).collect();
    expected.sort();
    assert_eq!(check_source(&|| source(&t).expect("a source")), expected);
    let slow = [("csv.ignore-first-line", "true"), ("source.rows-per-second", "50000")];
    let t = table(&COLUMNS, &options(dir.path(), "csv", &slow));
    assert_eq!(check_source(&|| source(&t).expect("a source")), expected);
}

fn in_parts(path: &Path, split_bytes: u64, name: &str, more: &[(&str, &str)]) -> Arc<dyn Source> {
    let t = table(&COLUMNS, &options(path, name, more));
    let layout = Layout::new(&t, super::DEFAULT_PARTITION).expect("a layout");
    let format = format(&t).expect("a format");
    Arc::new(FileSource::new(FileTable {
        path: path.to_path_buf(),
        format,
        layout,
        pace: None,
        split_bytes,
        monitor_ms: None,
        pattern: None,
    }))
}

#[test]
fn long_files_are_read_in_parts_that_lose_and_repeat_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let csv = dir.path().join("a.csv");
    fs::write(&csv, format!("a,b\n{}", lines(0, 500))).expect("written");
    let mut expected: Vec<_> = (0..500).map(|i| format!("+I[{i}, value {i}]")).collect();
    expected.sort();
    for split_bytes in [1, 7, 13, 100, 1000, 100_000] {
        let make = || in_parts(&csv, split_bytes, "csv", &[("csv.ignore-first-line", "true")]);
        if split_bytes >= 100 {
            assert_eq!(check_source(&make), expected, "parts of {split_bytes}");
        }
        let splits = make().enumerator().expect("an enumerator").discover(1).expect("splits");
        assert_eq!(splits.len() as u64, fs::metadata(&csv).expect("a file").len().div_ceil(split_bytes));
    }
    // A quote may hide a line end: such a file stays whole.
    fs::write(&csv, "1,\"x\ny\"\n".repeat(100)).expect("written");
    let splits =
        |more: &[_]| in_parts(&csv, 10, "csv", more).enumerator().and_then(|mut e| e.discover(1)).expect("splits");
    assert_eq!(splits(&[]).len(), 1);
    assert!(splits(&[("csv.disable-quote-character", "true")]).len() > 1);
}

/// Reads all of a source; the first error, or the rows.
fn read(source: &dyn Source) -> Result<(Vec<String>, u64)> {
    let context = reader_context(ManualClock::at(0), 0, 1);
    let mut reader = source.reader(context.clone())?;
    reader.assign(source.enumerator()?.discover(1)?)?;
    let mut rows = Vec::new();
    loop {
        match reader.poll()? {
            ReaderEvent::Rows { batch, .. } => rows.extend(rows_of(&batch)),
            ReaderEvent::Drained => return Ok((rows, context.metrics.bad_skipped.get())),
            _ => {}
        }
    }
}

#[test]
fn a_bad_record_is_named_by_file_line_and_field_in_every_part() {
    let dir = tempfile::tempdir().expect("a directory");
    let csv = dir.path().join("a.csv");
    fs::write(&csv, format!("{}oops,x\n{}", lines(0, 300), lines(301, 400))).expect("written");
    for split_bytes in [50, 1000, 1 << 20] {
        let error = read(in_parts(&csv, split_bytes, "csv", &[]).as_ref()).expect_err("a bad record");
        assert_eq!(error.kind(), ErrorKind::User);
        let text = error.to_string();
        let place = format!("file '{}', line 301, field `a`: 'oops' is not a INT", csv.display());
        assert!(text.contains(&place) && text.contains("'csv.ignore-parse-errors' = 'true'"), "{text}");
    }
    let skipping = in_parts(&csv, 50, "csv", &[("csv.ignore-parse-errors", "true")]);
    let (rows, skipped) = read(skipping.as_ref()).expect("bad records are skipped");
    assert_eq!((rows.len(), skipped), (399, 1));
}

#[test]
fn missing_changed_and_damaged_files_are_clear_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("none");
    let t = table(&COLUMNS, &options(&missing, "csv", &[]));
    let error = read(source(&t).expect("a source").as_ref()).expect_err("missing");
    assert!(
        error.kind() == ErrorKind::User
            && error.to_string().contains(&format!("'{}' does not exist", missing.display()))
    );

    let gz = dir.path().join("a.json.gz");
    gzip(&gz, "{\"a\":1}\n");
    let whole = fs::read(&gz).expect("a file");
    fs::write(&gz, &whole[..whole.len() - 6]).expect("written");
    let t = table(&COLUMNS, &options(&gz, "json", &[]));
    let error = read(source(&t).expect("a source").as_ref()).expect_err("truncated").to_string();
    assert!(error.contains("cannot read") && error.contains("gzip -t"), "{error}");

    let csv = dir.path().join("b.csv");
    fs::write(&csv, lines(0, 5000)).expect("written");
    let t = table(&COLUMNS, &options(&csv, "csv", &[]));
    let source = source(&t).expect("a source");
    let mut reader = source.reader(reader_context(ManualClock::at(0), 0, 1)).expect("a reader");
    reader.assign(source.enumerator().and_then(|mut e| e.discover(1)).expect("splits")).expect("assigned");
    reader.poll().expect("rows");
    let snapshot = reader.snapshot().expect("a snapshot");
    fs::write(&csv, "1,x\n").expect("written");
    let mut reader = source.reader(reader_context(ManualClock::at(0), 0, 1)).expect("a reader");
    reader.assign(snapshot.clone()).expect("assigned");
    let error = reader.poll().expect_err("the file is shorter").to_string();
    assert!(error.contains("has changed: it is 4 bytes long"), "{error}");

    let mut foreign = snapshot[0].clone();
    foreign.state[1] = 9;
    assert!(reader.assign(vec![foreign.clone()]).expect_err("foreign").to_string().contains("has version 9"));
    foreign.state = snapshot[0].state[..12].to_vec();
    assert_eq!(reader.assign(vec![foreign]).expect_err("short").kind(), ErrorKind::Corrupt);
}

#[test]
fn options_that_contradict_or_mean_nothing_are_refused() {
    let path = Path::new("x");
    for (more, expected) in [
        (vec![("source.monitor-interval", "0 s")], "a duration above 0"),
        (vec![("source.rows-per-second", "0")], "is not a number of rows above 0"),
        (vec![("sink.rolling-policy.file-sise", "1")], "the nearest is 'sink.rolling-policy.file-size'"),
        (vec![("path", "s3://bucket/x")], "a local path"),
        (vec![("path", "file://x")], "a local path"),
    ] {
        let error = refused(source(&table(&COLUMNS, &options(path, "csv", &more)))).to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (more, expected) in [
        (vec![("auto-compaction", "true")], "part files are not merged"),
        (vec![("sink.rolling-policy.file-size", "0")], "is not above 0"),
        (vec![("sink.rolling-policy.file-size", "many")], "a memory size"),
        (vec![("sink.rolling-policy.rollover-interval", "soon")], "a duration"),
        (vec![("sink.compression", "zip")], "one of none, gzip"),
    ] {
        let error = refused(sink(&table(&COLUMNS, &options(path, "csv", &more)))).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = refused(source(&table(&COLUMNS, &options(path, "orc", &[])))).to_string();
    assert!(error.contains("no format 'orc'") && error.contains("csv, json"), "{error}");
    let error = refused(source(&table(&COLUMNS, &[("connector", "filesystem"), ("format", "csv")]))).to_string();
    assert!(error.contains("'path' is missing"), "{error}");
}

#[test]
fn metadata_and_partitions_come_from_the_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut t = table(&[("dt", T::STRING), ("a", T::Int)], &options(dir.path(), "json", &[]));
    t.partition_keys = vec![0];
    let batch = json_batch(
        &[("dt", T::STRING), ("a", T::Int)],
        "{\"dt\":\"10:00\",\"a\":1}\n{\"a\":2}\n{\"dt\":\"10:00\",\"a\":3}",
    );
    let sink = sink(&t).expect("a sink");
    let mut writer = sink.writer(sink_context(0, 1, 1, 1), Vec::new()).expect("a writer");
    assert_eq!(writer.write(&batch).expect("written"), flott_core::sink::WriteStatus::Accepted);
    let prepared = writer.prepare_commit(CheckpointId(1), true).expect("prepared");
    assert_eq!(prepared.len(), 2);
    let mut committer = sink.committer(sink_context(0, 1, 1, 1)).expect("a committer").expect("in two phases");
    committer.commit(&prepared).expect("committed");
    assert!(dir.path().join("dt=10%3A00").is_dir() && dir.path().join("dt=__DEFAULT_PARTITION__").is_dir());
    let mut name = Column::new("n", T::BigInt.not_null());
    name.metadata_key = Some("file.size".into());
    t.columns.push(name.clone());
    let (mut rows, _) = read(source(&t).expect("a source").as_ref()).expect("rows");
    rows.sort();
    assert_eq!(rows, ["+I[10:00, 1, 16]", "+I[10:00, 3, 16]", "+I[null, 2, 8]"]);
    name.metadata_key = Some("file.owner".into());
    t.columns[2] = name;
    assert!(refused(source(&t)).to_string().contains("no metadata 'file.owner'"));
}

/// Visible rows of a directory, sorted; part files only.
fn visible(dir: &Path) -> Vec<String> {
    let t = table(&COLUMNS, &options(dir, "json", &[]));
    let mut rows =
        if dir.exists() { read(source(&t).expect("a source").as_ref()).expect("rows").0 } else { Vec::new() };
    rows.sort();
    rows
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_sink_obeys_its_law_plain_and_compressed() {
    let batches = [1, 2, 3].map(|n| {
        let text: String = (0..10 * n).map(|i| format!("{{\"a\":{i},\"b\":\"batch {n}\"}}\n")).collect();
        json_batch(&COLUMNS, &text)
    });
    for more in [vec![], vec![("sink.compression", "gzip")], vec![("sink.rolling-policy.file-size", "1")]] {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out");
        let t = table(&COLUMNS, &options(&out, "json", &more));
        let law =
            SinkLaw { sink: &|| sink(&t).expect("a sink"), visible: &|| visible(&out), left: &|| files(&out).len() };
        law.check([&batches[0], &batches[1], &batches[2]]);
        assert!(files(&out).iter().all(|n| n.starts_with("part-")), "no hidden file is left: {:?}", files(&out));
    }
}

fn put(writer: &mut dyn SinkWriter, batch: &flott_core::ChangeBatch) {
    assert_eq!(writer.write(batch).expect("written"), flott_core::sink::WriteStatus::Accepted);
}

type Pair = (Box<dyn SinkWriter>, Box<dyn Committer>);

fn pair(sink: &dyn Sink, subtask: u32, parallelism: u32, attempt: u32) -> Pair {
    let context = sink_context(subtask, parallelism, attempt, u64::from(attempt));
    let committer = sink.committer(context.clone()).expect("a committer").expect("in two phases");
    (sink.writer(context, Vec::new()).expect("a writer"), committer)
}

#[test]
fn a_file_that_grows_between_two_starts_is_not_cut_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.csv");
    fs::write(&path, lines(0, 10)).expect("written");
    let source = in_parts(dir.path(), 50, "csv", &[]);
    let ids = |splits: Vec<flott_core::source::Split>| splits.into_iter().map(|s| s.id).collect::<Vec<_>>();
    let known = ids(source.enumerator().expect("one").discover(1).expect("parts"));
    assert!(known.len() > 1, "{known:?}");
    fs::write(&path, lines(0, 100)).expect("written");
    fs::write(dir.path().join("2.csv"), lines(0, 1)).expect("written");
    let mut restored = source.enumerator().expect("one");
    restored.restore(&known.into_iter().collect());
    let new = ids(restored.discover(1).expect("parts"));
    assert_eq!(new, [dir.path().join("2.csv").display().to_string()]);
}

#[test]
fn cleaning_up_spares_live_writers_and_what_other_subtasks_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = sink(&table(&COLUMNS, &options(dir.path(), "json", &[]))).expect("a sink");
    let row = json_batch(&COLUMNS, "{\"a\":1,\"b\":\"x\"}");
    let write = |w: &mut Box<dyn SinkWriter>| put(w.as_mut(), &row);
    // Attempt 1: subtask 1 prepared a file that checkpoint 1 covers, subtask 0 one that is still being written.
    let (mut w0, _) = pair(sink.as_ref(), 0, 2, 1);
    let (mut w1, _) = pair(sink.as_ref(), 1, 2, 1);
    write(&mut w0);
    write(&mut w1);
    let restored = w1.prepare_commit(CheckpointId(1), false).expect("prepared");
    write(&mut w1);
    let unpublished = w1.prepare_commit(CheckpointId(2), false).expect("prepared");
    drop((w0, w1));
    // Attempt 2: subtask 0 starts, writes and cleans up before subtask 1 has committed what it restored.
    let (mut w0, mut c0) = pair(sink.as_ref(), 0, 2, 2);
    let (mut w1, mut c1) = pair(sink.as_ref(), 1, 2, 2);
    write(&mut w1);
    c0.clean_up().expect("clean up");
    assert_eq!(files(dir.path()).len(), 3, "the restored, the unpublished and the live one: {:?}", files(dir.path()));
    c1.commit(&restored).expect("restored committables commit");
    c1.clean_up().expect("clean up");
    write(&mut w0);
    let own = w0.prepare_commit(CheckpointId(2), false).expect("prepared");
    let live = w1.prepare_commit(CheckpointId(2), false).expect("prepared");
    c0.commit(&own).expect("committed");
    c1.commit(&live).expect("committed");
    assert_eq!(visible(dir.path()).len(), 3);
    assert_eq!(files(dir.path()).len(), 3, "the unpublished file went with the first commit: {:?}", files(dir.path()));
    // Now that it is gone, committing it is the loss that it is.
    let Err(CommitError::Fatal(lost)) = c1.commit(&unpublished) else { panic!("a lost file must be fatal") };
    assert!(lost.to_string().contains("cannot be committed"), "{lost}");
}

#[test]
fn without_deduplication_a_repeated_commit_shows_rows_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = table(&COLUMNS, &options(dir.path(), "json", &[("test.commit-deduplication", "off")]));
    let (mut writer, mut committer) = pair(sink(&t).expect("a sink").as_ref(), 0, 1, 1);
    put(writer.as_mut(), &json_batch(&COLUMNS, "{\"a\":1}"));
    let prepared = writer.prepare_commit(CheckpointId(1), false).expect("prepared");
    committer.commit(&prepared).expect("committed");
    assert_eq!(visible(dir.path()).len(), 1);
    committer.commit(&prepared).expect("committed");
    assert_eq!(visible(dir.path()).len(), 2);
}

#[test]
fn a_foreign_file_of_the_final_name_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = table(&COLUMNS, &options(dir.path(), "json", &[]));
    let (mut writer, mut committer) = pair(sink(&t).expect("a sink").as_ref(), 0, 1, 1);
    put(writer.as_mut(), &json_batch(&COLUMNS, "{\"a\":1}"));
    let prepared = writer.prepare_commit(CheckpointId(1), false).expect("prepared");
    fs::write(&prepared[0].id, "precious").expect("written");
    assert!(matches!(committer.commit(&prepared), Err(CommitError::Fatal(_))));
    assert_eq!(fs::read_to_string(&prepared[0].id).expect("a file"), "precious");
}

#[test]
fn old_part_files_end_without_a_barrier() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = table(&COLUMNS, &options(dir.path(), "csv", &[("sink.rolling-policy.rollover-interval", "1 min")]));
    let context = sink_context(0, 1, 1, 1);
    let now = context.clock.now_ms();
    let mut writer = sink(&t).and_then(|s| s.writer(context, Vec::new())).expect("a writer");
    let row = json_batch(&COLUMNS, "{\"a\":1,\"b\":\"x\"}");
    put(writer.as_mut(), &row);
    assert_eq!(writer.on_processing_time(now + 59_999).expect("fine"), Some(now + 119_999));
    put(writer.as_mut(), &row);
    writer.on_processing_time(now + 60_000).expect("rolled");
    put(writer.as_mut(), &row);
    assert_eq!(writer.prepare_commit(CheckpointId(1), false).expect("prepared").len(), 2);
}

#[test]
fn an_unwritable_output_names_path_owner_mode_and_uid() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let t = table(&COLUMNS, &options(&file, "csv", &[]));
    let error = refused(sink(&t).and_then(|s| s.writer(sink_context(0, 1, 1, 1), Vec::new())));
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::User);
    for part in [&format!("cannot write to '{}'", file.display()), "has owner", "and mode 0", "this process has uid"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_flights_are_read_as_they_are() {
    let t = table(
        &[("sched_dep", T::Timestamp(3)), ("dep", T::Timestamp(3)), ("dep_delay", T::Double), ("carrier", T::STRING)],
        &options(Path::new("-"), "csv", &[]),
    );
    let rows =
        decode(&t, b"2013-01-01 05:15:00,2013-01-01 05:17:00,2,UA\n2013-01-01 16:30:00,,,EV\n", 64).expect("csv").0;
    assert_eq!(rows, ["+I[2013-01-01T05:15, 2013-01-01T05:17, 2.0, UA]", "+I[2013-01-01T16:30, null, null, EV]"]);
}

#[test]
fn a_watched_directory_gives_each_file_once_and_never_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("1.csv"), lines(0, 3)).expect("written");
    fs::write(dir.path().join("note.txt"), "no record").expect("written");
    let pattern = format!("{}/.*\\.csv", dir.path().display());
    let more = [("source.monitor-interval", "1 s"), ("source.path.regex-pattern", pattern.as_str())];
    let t = table(&COLUMNS, &options(dir.path(), "csv", &more));
    let watched = source(&t).expect("a source");
    assert_eq!(watched.boundedness(), Boundedness::Unbounded);
    let mut enumerator = watched.enumerator().expect("an enumerator");
    assert_eq!(enumerator.discovery_interval_ms(), Some(1000));
    let ids = |splits: Vec<Split>| -> Vec<String> {
        splits.iter().filter_map(|s| s.id.rsplit('/').next().map(str::to_owned)).collect()
    };
    assert_eq!(ids(enumerator.discover(1).expect("splits")), ["1.csv"]);
    assert!(enumerator.discover(1).expect("splits").is_empty(), "a file twice");
    fs::write(dir.path().join("2.csv"), lines(3, 5)).expect("written");
    assert_eq!(ids(enumerator.discover(1).expect("splits")), ["2.csv"]);
    let mut again = watched.enumerator().expect("an enumerator");
    again.restore(&[dir.path().join("1.csv").display().to_string()].into());
    assert_eq!(ids(again.discover(1).expect("splits")), ["2.csv"], "what the checkpoint knows is not read again");
    let wrong = table(&COLUMNS, &options(dir.path(), "csv", &[("source.path.regex-pattern", "(")]));
    assert!(refused(source(&wrong)).to_string().contains("a regular expression"));
}

#[test]
fn complete_partitions_get_a_success_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let more = [
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 h"),
        ("sink.partition-commit.policy.kind", "success-file"),
    ];
    let columns = [("a", T::Int), ("dt", T::STRING)];
    let mut t = table(&columns, &options(dir.path(), "csv", &more));
    t.partition_keys = vec![1];
    let sink = sink(&t).expect("a sink");
    let (mut writer, mut committer) = pair(&*sink, 0, 1, 1);
    put(&mut *writer, &json_batch(&columns, "{\"a\":1,\"dt\":\"2024-01-01\"}\n{\"a\":2,\"dt\":\"2024-01-02\"}"));
    let success = |day: &str| dir.path().join(format!("dt={day}/_SUCCESS")).exists();
    let hour_ms = 3_600_000;
    writer.on_watermark(1_704_067_200_000 + hour_ms);
    let first = writer.prepare_commit(CheckpointId(1), false).expect("prepared");
    committer.commit(&first).map_err(|_| ()).expect("committed");
    assert!(success("2024-01-01") && !success("2024-01-02"), "{:?}", files(dir.path()));
    committer.commit(&first).map_err(|_| ()).expect("committing again changes nothing");
    let last = writer.prepare_commit(CheckpointId(2), true).expect("prepared");
    committer.commit(&last).map_err(|_| ()).expect("committed");
    assert!(success("2024-01-02"), "the end of data completes everything");
}
