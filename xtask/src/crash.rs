//! `cargo xtask crash`: kills a stateful job again and again, restarts it from its latest checkpoint, and compares what it
//! committed with an independent computation. Two jobs: one in SQL, one with the DataStream API.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bench::{process, target_dir};
use crate::child::{Random, Running, Wait, end, signal, wait_for};
use crate::tidy::root;

/// Named points, in the order in which a checkpoint reaches them.
const POINTS: &[&str] = &["before-checkpoint", "before-publish", "before-commit", "sink.commit.linked"];

struct Options {
    kills: u64,
    seed: u64,
    switch_off: Option<String>,
}

/// Where one run of a job lives.
struct Place {
    dir: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Sql,
    DataStream,
}

#[derive(Default)]
struct Tally {
    hits: BTreeMap<String, u64>,
    lost: u64,
    duplicated: u64,
    finished: u64,
}

/// Runs the harness.
pub fn run(args: &[String]) -> Result<(), String> {
    let options = parse(args)?;
    println!("seed {}", options.seed);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "flott-cli", "-p", "flott", "--bins", "--examples"])
        .current_dir(root())
        .status();
    if !status.map_err(|e| e.to_string())?.success() {
        return Err("cargo build failed".into());
    }
    let dir = process::scratch("crash")?;
    let mut random = Random::new(options.seed);
    let mut tally = Tally::default();
    for (job, kills) in [(Job::Sql, options.kills.div_ceil(2)), (Job::DataStream, options.kills / 2)] {
        campaign(job, kills, &options, &dir, &mut random, &mut tally)?;
    }
    for (point, hits) in &tally.hits {
        println!("{point:<20} {hits} kills");
    }
    println!("{} runs to the end; {} lost, {} duplicated", tally.finished, tally.lost, tally.duplicated);
    fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
    if tally.lost + tally.duplicated > 0 { Err(format!("not exactly once (seed {})", options.seed)) } else { Ok(()) }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { kills: 25, seed: 1, switch_off: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--kills" => options.kills = value.parse().map_err(|e| format!("--kills: {e}"))?,
            "--seed" => options.seed = value.parse().map_err(|e| format!("--seed: {e}"))?,
            "--switch-off" if value == "fence" || value == "dedup" => options.switch_off = Some(value.clone()),
            _ => return Err(format!("crash: unknown argument `{arg} {value}`")),
        }
    }
    Ok(options)
}

/// Kills one job `kills` times; a job that reaches its end is checked and started anew elsewhere.
fn campaign(
    job: Job,
    kills: u64,
    options: &Options,
    dir: &Path,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), String> {
    let name = if job == Job::Sql { "sql" } else { "datastream" };
    let mut round = 0;
    let mut place = Place { dir: dir.join(format!("{name}-{round}")) };
    for kill in 0..kills {
        // Every fifth kill is a zombie: stopped, replaced by a process that goes on, then woken up.
        let finished = if kill % 5 == 4 {
            zombie(job, &place, options, random, tally)?
        } else {
            let point = (kill % 5 != 3).then(|| POINTS[(kill % 5 + kill / 5 * 3) as usize % POINTS.len()]);
            kill_once(job, &place, options, point, random, tally)?
        };
        if finished {
            check(&place, tally)?;
            round += 1;
            place = Place { dir: dir.join(format!("{name}-{round}")) };
        }
    }
    let mut child = start(job, &place, options, &[])?;
    let (status, text) = end(&mut child, Duration::from_secs(120))?;
    if !status {
        return Err(format!("the {name} job did not end well:\n{text}"));
    }
    check(&place, tally)
}

fn start(job: Job, place: &Place, options: &Options, switches: &[String]) -> Result<Running, String> {
    fs::create_dir_all(&place.dir).map_err(|e| e.to_string())?;
    let dedup = if options.switch_off.as_deref() == Some("dedup") { "off" } else { "on" };
    let mut command = match job {
        Job::Sql => {
            let file = place.dir.join("job.sql");
            fs::write(&file, sql(place, dedup)).map_err(|e| e.to_string())?;
            let mut c = Command::new(target_dir().join("debug/flott"));
            c.args(["sql", "-f"]).arg(file);
            c
        }
        Job::DataStream => {
            let mut c = Command::new(target_dir().join("debug/examples/crash_job"));
            c.arg(flights()).arg(place.dir.join("out")).arg(place.dir.join("chk")).arg(dedup);
            c
        }
    };
    for switch in switches {
        command.arg("--test-only").arg(switch);
    }
    if options.switch_off.as_deref() == Some("fence") {
        command.args(["--test-only", "fence=off"]);
    }
    Running::spawn(command.current_dir(root()))
}

/// Kills at a named point, or at a random moment. True when the job ended before.
fn kill_once(
    job: Job,
    place: &Place,
    options: &Options,
    point: Option<&str>,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<bool, String> {
    let switches: Vec<String> = point.map(|p| format!("pause-at={p}@{}", 1 + random.below(3))).into_iter().collect();
    let mut running = start(job, place, options, &switches)?;
    let patience = match point {
        Some(_) => Duration::from_secs(15),
        None => Duration::from_millis(150 + random.below(900)),
    };
    match wait_for(&mut running, |line| line.starts_with("PAUSED"), patience)? {
        Wait::Ended(true) => return Ok(true),
        Wait::Ended(false) => return Err(format!("the job failed by itself:\n{}", running.text)),
        Wait::Seen => *tally.hits.entry(point.unwrap_or("random").to_owned()).or_default() += 1,
        Wait::TimedOut => *tally.hits.entry("random".to_owned()).or_default() += 1,
    }
    running.kill()?;
    Ok(false)
}

/// Stops a process, lets another one take over, wakes the first: it must find itself fenced off.
fn zombie(job: Job, place: &Place, options: &Options, random: &mut Random, tally: &mut Tally) -> Result<bool, String> {
    let mut old = start(job, place, options, &[])?;
    match wait_for(&mut old, |_| false, Duration::from_millis(400 + random.below(900)))? {
        Wait::Ended(ok) => return if ok { Ok(true) } else { Err(format!("the job failed by itself:\n{}", old.text)) },
        Wait::Seen | Wait::TimedOut => {}
    }
    signal(old.child.id(), "STOP")?;
    let mut new = start(job, place, options, &[])?;
    let ended = wait_for(&mut new, |_| false, Duration::from_millis(700 + random.below(600)))?;
    signal(old.child.id(), "CONT")?;
    // Long enough for the old process to try a checkpoint and to commit what it thinks is its own.
    let (old_ok, text) = end(&mut old, Duration::from_secs(if options.switch_off.is_some() { 4 } else { 20 }))?;
    if old_ok && options.switch_off.is_none() && !matches!(ended, Wait::Ended(_)) {
        return Err(format!("the replaced process ended as if it were alone:\n{text}"));
    }
    *tally.hits.entry("zombie".to_owned()).or_default() += 1;
    if let Wait::Ended(true) = ended {
        return Ok(true);
    }
    new.kill()?;
    Ok(false)
}

fn flights() -> PathBuf {
    root().join("examples/flights/flights-2013-01.csv")
}

fn sql(place: &Place, dedup: &str) -> String {
    format!(
        "SET 'pipeline.name' = 'crash-sql';
SET 'execution.checkpointing.interval' = '100 ms';
SET 'execution.checkpointing.dir' = '{dir}/chk';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.path' = 'latest';
SET 'restart-strategy.type' = 'none';
SET 'parallelism.default' = '2';
SET 'table.dml-sync' = 'true';
CREATE TABLE flights (
  sched_dep TIMESTAMP(3), dep TIMESTAMP(3), dep_delay DOUBLE, arr_delay DOUBLE, carrier STRING, flight INT,
  tailnum STRING, origin STRING, dest STRING, air_time DOUBLE, distance DOUBLE,
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1' DAY
) WITH ('connector' = 'filesystem', 'path' = '{flights}', 'format' = 'csv', 'csv.ignore-first-line' = 'true',
  'source.rows-per-second' = '3000');
CREATE TABLE hourly (hour_start TIMESTAMP(3), origin STRING, flights BIGINT)
WITH ('connector' = 'filesystem', 'path' = '{dir}/out', 'format' = 'json', 'test.commit-deduplication' = '{dedup}');
INSERT INTO hourly
SELECT window_start, origin, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, origin;
",
        dir = place.dir.display(),
        flights = flights().display(),
    )
}

/// Compares the committed rows with what the csv says.
fn check(place: &Place, tally: &mut Tally) -> Result<(), String> {
    let mut expected = expected()?;
    tally.finished += 1;
    let out = place.dir.join("out");
    for entry in fs::read_dir(&out).map_err(|e| format!("{}: {e}", out.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(['.', '_']));
        if hidden || path.is_dir() {
            continue;
        }
        for line in fs::read_to_string(&path).map_err(|e| e.to_string())?.lines() {
            let row: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
            let text = |k: &str| row[k].as_str().unwrap_or("").to_owned();
            let hour = text("hour_start").chars().take(13).collect::<String>();
            let key = (hour, text("origin"), row["flights"].as_i64().unwrap_or(-1));
            *expected.entry(key).or_default() -= 1;
        }
    }
    for (key, n) in expected {
        if n != 0 {
            println!("{}: {key:?} {n:+}", place.dir.display());
        }
        tally.lost += u64::try_from(n).unwrap_or(0);
        tally.duplicated += u64::try_from(-n).unwrap_or(0);
    }
    Ok(())
}

/// (hour, origin, flights) → 1, straight from the csv.
fn expected() -> Result<BTreeMap<(String, String, i64), i64>, String> {
    let text = fs::read_to_string(flights()).map_err(|e| e.to_string())?;
    let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        *counts.entry((fields[0].chars().take(13).collect(), fields[7].to_owned())).or_default() += 1;
    }
    Ok(counts.into_iter().map(|((hour, origin), n)| ((hour, origin, n), 1)).collect())
}
