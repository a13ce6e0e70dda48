//! The slow sink: one batch per second behind a window and a hash exchange. With aligned checkpoints none completes in time; by default
//! and with unaligned ones each does, and a restore loses nothing.

mod support {
    pub mod staged;
}

use std::path::Path;
use std::time::{Duration, Instant};

use flott_core::config::Configuration;
use flott_launcher::{Environment, JobClient, JobStatus, registry, source_transform, submit};
use flott_plan::stream_graph::StreamGraph;
use flott_sql::{PlanServices, Planned, Session};
use support::staged::Staged;

const TABLE: &str = "CREATE TABLE events (id BIGINT, k AS MOD(id, 50), ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts) \
    WITH ('connector' = 'datagen', 'rows-per-second' = '20000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', \
    'fields.id.end' = '{end}')";
const QUERY: &str = "SELECT window_start, k, COUNT(*), SUM(id) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
    INTERVAL '0.1' SECOND)) GROUP BY window_start, window_end, k";

fn graph(end: u64, staged: &Staged) -> StreamGraph {
    let mut session = Session::new(Configuration::new());
    let services = PlanServices { registry: registry(), source_transform };
    for sql in [TABLE.replace("{end}", &end.to_string()), QUERY.to_owned()] {
        let collect = |query: &flott_sql::QueryInfo| staged.sink(query);
        for statement in session.parse_script(&sql).expect("valid SQL") {
            if let Planned::Job { graph, .. } = session.plan(&statement, &services, &collect).expect("a plan") {
                return graph;
            }
        }
    }
    panic!("the query is no job")
}

fn config(options: &[(&str, &str)]) -> Configuration {
    let mut config = Configuration::new();
    let common = [("parallelism.default", "2"), ("execution.checkpointing.interval", "300 ms")];
    for (key, value) in common.iter().chain(options) {
        config.set(key, value).expect("a valid option");
    }
    config
}

#[allow(clippy::disallowed_methods, reason = "a test with a limit in real time")]
fn completed_within(client: &JobClient, count: u64, limit: Duration) -> Vec<i64> {
    let start = Instant::now();
    let mut seen = Vec::new();
    while start.elapsed() < limit && (seen.len() as u64) < count {
        let progress = client.progress();
        if progress.checkpoints_completed > seen.len() as u64 {
            seen.extend(progress.checkpoint.map(|c| c.duration_ms));
        }
        let status = client.wait(Duration::from_millis(5));
        assert!(!matches!(status, JobStatus::Failed(_)), "{status:?}");
    }
    seen
}

/// Durations of the first checkpoints under backpressure.
fn durations(options: &[(&str, &str)]) -> Vec<i64> {
    let staged = Staged::slow(1_000);
    let client = submit(&graph(10_000_000, &staged), &config(options), &Environment::default()).expect("it starts");
    // The channels fill first.
    client.wait(Duration::from_secs(2));
    let before = client.progress().checkpoints_completed;
    let found = completed_within(&client, before + 4, Duration::from_secs(8));
    client.cancel();
    client.join();
    found.into_iter().skip(before as usize).collect()
}

#[test]
fn barriers_do_not_wait_behind_a_slow_sink() {
    let at_once = durations(&[("execution.checkpointing.unaligned.enabled", "true")]);
    assert!(at_once.len() >= 3 && at_once.iter().all(|ms| *ms < 1_000), "{at_once:?}");
    let by_default = durations(&[]);
    assert!(by_default.len() >= 3 && by_default.iter().all(|ms| *ms < 2_000), "{by_default:?}");
    let never = durations(&[("execution.checkpointing.unaligned.enabled", "false")]);
    println!("at once {at_once:?} ms, by default {by_default:?} ms, aligned {never:?} ms within 8 s");
    assert!(never.iter().all(|ms| *ms > 2_000), "{never:?}");
}

/// Whether metadata of version 2, which is written for rows in flight alone, lies below a directory.
fn holds_rows_in_flight(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).expect("a readable directory").map(|e| e.expect("an entry").path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => holds_rows_in_flight(&path),
        false => path.ends_with("_metadata") && std::fs::read(&path).expect("a readable file")[8] == 2,
    })
}

/// Runs the query over so many rows to its end, killed once after some checkpoints and restored at another parallelism if `dir` is given.
fn rows(end: u64, dir: Option<&str>) -> Vec<String> {
    let staged = Staged::slow(if dir.is_some() { 60 } else { 0 });
    let mut options = vec![("execution.checkpointing.unaligned.enabled", "true")];
    if let Some(dir) = dir {
        options.extend([
            ("execution.checkpointing.dir", dir),
            ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
            ("execution.state-recovery.path", "latest"),
        ]);
        let client = submit(&graph(end, &staged), &config(&options), &Environment::default()).expect("it starts");
        assert!(completed_within(&client, 4, Duration::from_secs(20)).len() >= 4);
        client.cancel();
        assert!(matches!(client.join(), JobStatus::Canceled));
        assert!(holds_rows_in_flight(Path::new(dir)), "no checkpoint under {dir} holds rows in flight");
        options.push(("parallelism.default", "3"));
    }
    let client = submit(&graph(end, &staged), &config(&options), &Environment::default()).expect("it starts");
    assert_eq!(client.restored_from().is_some(), dir.is_some());
    let status = client.wait(Duration::from_secs(60));
    assert!(matches!(status, JobStatus::Finished), "{status:?}");
    assert!(client.failures().is_empty(), "{:?}", client.failures());
    let mut rows = staged.rows();
    rows.sort();
    rows
}

#[test]
fn a_kill_under_backpressure_loses_and_doubles_nothing_at_another_parallelism() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let straight = rows(39_999, None);
    assert_eq!(straight.len(), 400 * 50);
    assert_eq!(rows(39_999, Some(&dir.path().display().to_string())), straight);
}
