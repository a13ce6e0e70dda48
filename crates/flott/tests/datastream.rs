//! Whole jobs of the DataStream API: results against plain loops, with and without a failure in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flott::{
    AggregateFunction, Connector, Context, DataStream, EventTimeSessionWindows, JobStatus, KeyedProcessFunction,
    MapState, OpenContext, Record, Result, SlidingEventTimeWindows, StreamExecutionEnvironment, TimeDomain, Timestamp,
    TumblingEventTimeWindows, WatermarkStrategy,
};
use serde::{Deserialize, Serialize};

const ROWS: i64 = 3_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record, Serialize, Deserialize)]
struct Event {
    user: i64,
    at: Timestamp,
    n: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record, Serialize, Deserialize)]
struct Out {
    user: i64,
    start: i64,
    n: i64,
}

/// Out of order by up to 50 ms; a gap of a second now and then, so that sessions end.
fn events() -> Vec<Event> {
    let event = |i: i64| Event {
        user: i * 7 % 11,
        at: Timestamp(i * 10 + i / 400 * 1_000 + (i * 31 % 6) * 10 - 50),
        n: i % 13 - 6,
    };
    (0..ROWS).map(event).collect()
}

#[derive(Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = Event;
    type Acc = i64;
    type Out = i64;
    fn create_accumulator(&self) -> i64 {
        0
    }
    fn add(&self, event: Event, acc: &mut i64) -> Result<()> {
        *acc += event.n;
        Ok(())
    }
    fn result(&self, acc: &i64) -> i64 {
        *acc
    }
    fn merge(&self, a: i64, b: i64) -> Result<i64> {
        Ok(a + b)
    }
}

/// Rows per user and second, said by a timer at the end of the second.
#[derive(Clone, Default)]
struct PerSecond(MapState<i64, i64>);

impl KeyedProcessFunction for PerSecond {
    type Key = i64;
    type In = Event;
    type Out = Out;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.0 = ctx.map_state("seconds")?;
        Ok(())
    }
    fn process(&mut self, event: Event, ctx: &mut Context<'_, Self>) -> Result<()> {
        let second = event.at.0.div_euclid(1_000);
        let n = self.0.get(ctx, &second)?.unwrap_or(0);
        self.0.put(ctx, &second, &(n + 1))?;
        ctx.register_event_timer(second * 1_000 + 999)
    }
    fn on_timer(&mut self, time_ms: i64, _: TimeDomain, ctx: &mut Context<'_, Self>) -> Result<()> {
        let second = time_ms.div_euclid(1_000);
        let n = self.0.get(ctx, &second)?.unwrap_or(0);
        self.0.remove(ctx, &second)?;
        let user = *ctx.key();
        ctx.collect(Out { user, start: second * 1_000, n });
        Ok(())
    }
}

/// Every kind of operator, each into a directory of its own.
fn program(events: DataStream<Event>, out: &Path) -> Result<()> {
    let write = |name: &str, stream: DataStream<Out>| {
        let path = out.join(name).display().to_string();
        stream.sink_to(name, &Connector::new("filesystem").option("path", path).option("format", "json")).map(drop)
    };
    let of = |e: Event| Out { user: e.user, start: e.at.0, n: e.n };
    let strategy = WatermarkStrategy::bounded_out_of_orderness(60, |e: &Event| e.at);
    let events = events.assign_timestamps_and_watermarks(strategy)?;
    let even = events.clone().filter(|e| e.n % 2 == 0).map(of);
    let doubled = events.clone().flat_map(move |e| (e.n > 0).then_some([of(e.clone()), of(e)]).into_iter().flatten());
    write("union", even.union(doubled))?;
    let keyed = events.key_by(|e| e.user);
    write("reduce", keyed.clone().reduce(|a, b| Event { n: a.n + b.n, ..b }).map(of))?;
    write("aggregate", keyed.clone().aggregate(Sum).map(|n| Out { user: 0, start: 0, n }))?;
    write("process", keyed.clone().process(PerSecond::default()))?;
    let windows = [
        ("tumbling", TumblingEventTimeWindows::of(1_000)),
        ("sliding", SlidingEventTimeWindows::of(1_000, 250)),
        ("sessions", EventTimeSessionWindows::with_gap(200)),
    ];
    for (name, windows) in windows {
        let emit = |user: &i64, w: flott::TimeWindow, n| Out { user: *user, start: w.start_ms, n };
        write(name, keyed.clone().window(windows)?.aggregate(Sum, emit))?;
    }
    Ok(())
}

/// The same with loops.
fn expected() -> BTreeMap<&'static str, Vec<Out>> {
    let events = events();
    let of = |e: &Event| Out { user: e.user, start: e.at.0, n: e.n };
    let mut out: BTreeMap<&'static str, Vec<Out>> = BTreeMap::new();
    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    let mut windows: BTreeMap<(&'static str, i64, i64), (i64, i64)> = BTreeMap::new();
    let mut users: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
    for e in &events {
        let copies = usize::from(e.n % 2 == 0) + if e.n > 0 { 2 } else { 0 };
        out.entry("union").or_default().extend(std::iter::repeat_n(of(e), copies));
        let sum = sums.entry(e.user).or_default();
        *sum += e.n;
        out.entry("reduce").or_default().push(Out { n: *sum, ..of(e) });
        out.entry("aggregate").or_default().push(Out { user: 0, start: 0, n: *sum });
        let mut add = |kind, start| {
            let (sum, count) = windows.entry((kind, e.user, start)).or_default();
            (*sum, *count) = (*sum + e.n, *count + 1);
        };
        add("tumbling", e.at.0.div_euclid(1_000) * 1_000);
        let last = e.at.0.div_euclid(250) * 250;
        (0..4).for_each(|i| add("sliding", last - i * 250));
        users.entry(e.user).or_default().push(e);
    }
    for ((kind, user, start), (sum, count)) in windows {
        out.entry(kind).or_default().push(Out { user, start, n: sum });
        if kind == "tumbling" {
            out.entry("process").or_default().push(Out { user, start, n: count });
        }
    }
    for (user, mut events) in users {
        events.sort_by_key(|e| e.at);
        for session in events.chunk_by(|a, b| b.at.0 - a.at.0 <= 200) {
            let n = session.iter().map(|e| e.n).sum();
            out.entry("sessions").or_default().push(Out { user, start: session[0].at.0, n });
        }
    }
    out.values_mut().for_each(|rows| rows.sort());
    out
}

#[allow(clippy::unwrap_used, reason = "a helper of tests")]
fn committed(dir: &Path) -> Vec<Out> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        rows.extend(text.lines().map(|l| serde_json::from_str::<Out>(l).unwrap()));
    }
    rows.sort();
    rows
}

fn check(out: &Path) {
    for (name, expected) in expected() {
        let found = committed(&out.join(name));
        assert!(!expected.is_empty());
        assert_eq!(found.len(), expected.len(), "rows of {name}");
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_operator_gives_what_loops_give() -> Result<()> {
    for parallelism in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(parallelism)?;
        program(env.from_collection(events())?.rebalance().map(|e| e), dir.path())?;
        // The order of a user's rows matters to running results: with one source and one reader it is kept.
        if parallelism == 1 {
            env.execute("operators")?;
            check(dir.path());
        } else {
            assert!(matches!(env.execute_async("operators")?.join(), JobStatus::Finished));
            for name in ["union", "process", "tumbling", "sliding", "sessions"] {
                assert_eq!(committed(&dir.path().join(name)), expected()[name], "{name}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_failure_in_the_middle_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut csv = String::new();
    for e in events() {
        let (at, ms) = (e.at.0.div_euclid(1_000), e.at.0.rem_euclid(1_000));
        // A day before 1970 would need a calendar: times are shifted by an hour.
        let s = at + 3_600;
        csv += &format!("{},1970-01-01 {:02}:{:02}:{:02}.{ms:03},{}\n", e.user, s / 3600, s / 60 % 60, s % 60, e.n);
    }
    fs::write(dir.path().join("events.csv"), csv).unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2)?;
    env.enable_checkpointing(50, &path("checkpoints"))?;
    for (key, value) in [("type", "fixed-delay"), ("fixed-delay.attempts", "3"), ("fixed-delay.delay", "10 ms")] {
        env.set(&format!("restart-strategy.{key}"), value)?;
    }
    let source = Connector::new("filesystem")
        .option("path", path("events.csv"))
        .option("format", "csv")
        .option("source.rows-per-second", 2_000);
    let (failed, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (failed_in_job, seen_in_job) = (Arc::clone(&failed), Arc::clone(&seen));
    let events = env.from_connector::<Event>("events", &source)?.map(move |e| {
        let seen = seen_in_job.fetch_add(1, Ordering::SeqCst) + 1;
        if seen == ROWS as u64 * 2 / 3 && !failed_in_job.swap(true, Ordering::SeqCst) {
            panic!("a failure in the middle");
        }
        Event { at: Timestamp(e.at.0 - 3_600_000), ..e }
    });
    program(events, &dir.path().join("out"))?;
    let client = env.execute_async("restart")?;
    let status = client.wait(std::time::Duration::from_secs(60));
    assert!(matches!(status, JobStatus::Finished), "{status:?}");
    let progress = client.progress();
    assert_eq!(progress.restarts, 1);
    assert!(progress.checkpoints_completed > 2);
    let error = client.failures()[0].to_string();
    assert!(error.contains("Map") && error.contains("a failure in the middle"), "{error}");
    let seen = seen.load(Ordering::SeqCst);
    assert!(
        seen > ROWS as u64 && seen < ROWS as u64 * 5 / 3,
        "it went on from a checkpoint, not from the start: {seen}"
    );
    check(&dir.path().join("out"));
    Ok(())
}

#[test]
fn a_poisoned_closure_fails_the_job_and_not_the_process() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.set("restart-strategy.type", "none")?;
    let poisoned = env.from_collection(events())?.map(|e| {
        assert!(e.n != 6, "six is poison");
        e
    });
    let error = poisoned.name("Poisoned").execute_and_collect("poisoned").unwrap_err();
    assert_eq!(error.code(), "task.panic");
    assert!(
        error.to_string().contains("operator \"Poisoned\"") && error.to_string().contains("six is poison"),
        "{error}"
    );

    let env = StreamExecutionEnvironment::new();
    env.set("restart-strategy.type", "none")?;
    let refused = env.from_collection(events())?.try_map(|e| match e.n {
        6 => Err(flott::Error::user("test.six", "six is refused")),
        _ => Ok(e),
    });
    let error = refused.key_by(|e| e.user).reduce(|a, _| a).execute_and_collect("refused").unwrap_err();
    assert!(error.code() == "test.six" && error.to_string().contains("KeyBy"), "{error}");

    let env = StreamExecutionEnvironment::new();
    assert_eq!(env.from_collection(events())?.execute_and_collect("healthy")?.len(), ROWS as usize);
    Ok(())
}

#[test]
fn streams_are_collected_broadcast_and_spread() -> Result<()> {
    let collect = |spread: fn(DataStream<i64>) -> DataStream<i64>| -> Result<Vec<i64>> {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(2)?;
        let mut rows =
            spread(env.from_collection((0..10_000i64).collect())?).map(|n| n).execute_and_collect("spread")?;
        rows.sort_unstable();
        Ok(rows)
    };
    let once: Vec<i64> = (0..10_000).collect();
    assert_eq!(collect(|s| s)?, once);
    assert_eq!(collect(|s| s.rebalance())?, once);
    assert_eq!(collect(|s| s.parallelism(1).map(|n| n + 1).parallelism(3).map(|n| n - 1))?, once);
    let twice: Vec<i64> = once.iter().flat_map(|n| [*n, *n]).collect();
    assert_eq!(collect(|s| s.broadcast())?, twice);
    Ok(())
}

/// Rows in order, so many that the watermark passes the first windows; then three that belong there.
fn with_late_rows(out: &Path) -> Result<(Vec<Out>, Vec<Event>)> {
    let event = |i: i64, n| Event { user: 1, at: Timestamp(i * 10), n };
    let events = (0..10_000).map(|i| event(i, 1)).chain((0..3).map(|i| event(i, 1000))).collect();
    let env = StreamExecutionEnvironment::new();
    let (sums, late) = env
        .from_collection(events)?
        .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|e: &Event| e.at))?
        .key_by(|e| e.user)
        .window(TumblingEventTimeWindows::of(10_000))?
        .side_output_late_data()
        .uid("sums")
        .aggregate(Sum, |user, window, n| Out { user: *user, start: window.start_ms, n });
    let side = Connector::new("filesystem").option("path", out.display()).option("format", "json");
    late.sink_to("late", &side)?;
    let sums = sums.execute_and_collect("late")?;
    let late = fs::read_dir(out).expect("rows as written").flat_map(|file| {
        let text = fs::read_to_string(file.expect("rows as written").path()).expect("rows as written");
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("rows as written")).collect::<Vec<_>>()
    });
    Ok((sums, late.map(|row| event(0, row["n"].as_i64().expect("rows as written"))).collect()))
}

#[test]
fn late_rows_are_neither_lost_nor_counted_in() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let (mut sums, late) = with_late_rows(dir.path())?;
    sums.sort();
    let expected: Vec<Out> = (0..10).map(|i| Out { user: 1, start: i * 10_000, n: 1000 }).collect();
    assert_eq!(sums, expected);
    assert_eq!(late.iter().map(|e| e.n).collect::<Vec<_>>(), [1000, 1000, 1000]);
    Ok(())
}

#[test]
fn a_primary_key_names_columns() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    let rows = env.from_collection(vec![Out { user: 1, start: 2, n: 3 }])?;
    let error = rows.sink_to("out", &Connector::new("print").primary_key(&["usr"])).err().unwrap();
    assert_eq!(error.code(), "datastream.primary-key");
    assert!(error.to_string().contains("usr") && error.to_string().contains("user, start, n"), "{error}");
    Ok(())
}
