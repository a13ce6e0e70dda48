//! The DataStream job of the crash harness: flights per hour and airport, counted in event time and committed exactly once.
//!
//! `crash_job <flights.csv> <out-dir> <checkpoint-dir> <on|off> [--test-only pause-at=POINT[@N] | --test-only fence=off]`

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use flott::testing::{Environment, crash_point};
use flott::{
    AggregateFunction, Connector, Error, Record, Result, StreamExecutionEnvironment, Timestamp,
    TumblingEventTimeWindows, WatermarkStrategy,
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[derive(Clone, Debug, Record)]
struct Flight {
    sched_dep: Timestamp,
    dep: Option<Timestamp>,
    dep_delay: Option<f64>,
    arr_delay: Option<f64>,
    carrier: Option<String>,
    flight: Option<i32>,
    tailnum: Option<String>,
    origin: String,
    dest: Option<String>,
    air_time: Option<f64>,
    distance: Option<f64>,
}

#[derive(Clone, Debug, Record)]
struct Hourly {
    hour_start: Timestamp,
    origin: String,
    flights: i64,
}

#[derive(Clone)]
struct Count;

impl AggregateFunction for Count {
    type In = Flight;
    type Acc = i64;
    type Out = i64;
    fn create_accumulator(&self) -> i64 {
        0
    }
    fn add(&self, _: Flight, acc: &mut i64) -> Result<()> {
        *acc += 1;
        Ok(())
    }
    fn result(&self, acc: &i64) -> i64 {
        *acc
    }
    fn merge(&self, a: i64, b: i64) -> Result<i64> {
        Ok(a + b)
    }
}

/// Carries out a switch of the harness.
fn switch(text: &str, environment: &mut Environment) -> Result<()> {
    match text.split_once('=') {
        Some(("pause-at", point)) => {
            let (point, nth) = point.split_once('@').unwrap_or((point, "1"));
            let nth: u64 = nth.parse().map_err(|e| usage(&format!("pause-at: {e}")))?;
            let (point, reached) = (point.to_owned(), AtomicU64::new(0));
            crash_point::install(move |at| {
                if at == point && reached.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                    eprintln!("PAUSED {at}");
                    loop {
                        std::thread::park();
                    }
                }
            });
            Ok(())
        }
        Some(("fence", "off")) => {
            environment.fence_disabled = true;
            Ok(())
        }
        _ => Err(usage(&format!("unknown switch `{text}`"))),
    }
}

fn usage(found: &str) -> Error {
    Error::user("crash-job.arguments", format!("the arguments are wrong: {found}"))
        .hint("crash_job <flights.csv> <out-dir> <checkpoint-dir> <on|off> [--test-only SWITCH]…")
}

fn run(args: &[String]) -> Result<()> {
    let [flights, out, checkpoints, deduplication, switches @ ..] = args else {
        return Err(usage("there are fewer than four"));
    };
    let env = StreamExecutionEnvironment::new();
    let mut environment = Environment::default();
    for pair in switches.chunks(2) {
        match pair {
            [flag, text] if flag == "--test-only" => switch(text, &mut environment)?,
            _ => return Err(usage(&format!("unexpected `{}`", pair.join(" ")))),
        }
    }
    env.set_environment(environment);
    env.set_parallelism(2)?;
    env.enable_checkpointing(100, checkpoints)?;
    env.set("restart-strategy.type", "none")?;

    let source = Connector::new("filesystem")
        .option("path", flights)
        .option("format", "csv")
        .option("csv.ignore-first-line", true)
        .option("source.rows-per-second", 3000);
    let sink = Connector::new("filesystem")
        .option("path", out)
        .option("format", "json")
        .option("test.commit-deduplication", deduplication);
    env.from_connector::<Flight>("flights", &source)?
        .uid("flights")
        .assign_timestamps_and_watermarks(WatermarkStrategy::bounded_out_of_orderness(DAY_MS, |f: &Flight| {
            f.sched_dep
        }))?
        .key_by(|f| f.origin.clone())
        .window(TumblingEventTimeWindows::of(HOUR_MS))?
        .aggregate(Count, |origin, window, flights| Hourly {
            hour_start: Timestamp(window.start_ms),
            origin: origin.clone(),
            flights,
        })
        .uid("hourly-count")
        .sink_to("hourly", &sink)?
        .uid("hourly-sink");
    env.execute("crash-datastream")
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
