//! A job that could write 4,000 rows a second into a table that takes 500, and then none for a minute: what its checkpoints do, and
//! whether a kill under the lock loses rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::proxy::DelayingProxy;
use super::{Options, Stage, tools};
use crate::child::{Running, Wait, end, wait_for};

/// Rows of one flush, and how long the proxy holds each of its two calls: 500 rows a second through the two writers together.
const FLUSH_ROWS: u64 = 100;
const DELAY: Duration = Duration::from_millis(200);
/// Rows in all: what is left after the slow minutes goes fast.
const ROWS: u64 = 150_000;
/// How long the slow table is watched.
const SLOW_S: u64 = 60;
/// How long the lock is held.
const LOCK_S: u64 = 60;
/// No checkpoint may take longer while the table is slow.
const CHECKPOINT_MS_MAX: i64 = 10_000;
const DATABASE: &str = "slow";

/// Runs the scenario.
pub fn run(options: &Options, binary: &Path, stage: &Stage) -> Result<(), String> {
    let create = format!(
        "CREATE DATABASE {DATABASE}; CREATE TABLE {DATABASE}.readings (id BIGINT PRIMARY KEY, sensor INT, celsius DOUBLE)"
    );
    tools::mysql(&stage.mariadb, "mysql", &create)?;
    let proxy = DelayingProxy::start(stage.mariadb.port(), DELAY)?;
    let file = stage.dir.join("slow.sql");
    fs::write(&file, script(options, stage, proxy.port)).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut job = start(binary, &file, stage)?;

    watch(&mut job, SLOW_S / 4)?;
    let before = rows(stage)?;
    watch(&mut job, SLOW_S)?;
    let rate = (rows(stage)? - before) / SLOW_S;
    let slow = durations(&job.text);
    let longest = slow.values().flatten().max().copied().unwrap_or(0);
    let completed = slow.values().flatten().count();
    println!("table at {rate} rows/s: {completed} checkpoints completed, the longest in {:.1} s", longest as f64 / 1e3);
    if completed < 3 || longest > CHECKPOINT_MS_MAX {
        return Err(format!("checkpoints wait behind the slow table:\n{}", interesting(&job.text)));
    }

    proxy.set_delay(Duration::ZERO);
    let at = job.text.len();
    lock(stage, LOCK_S)?;
    watch(&mut job, LOCK_S)?;
    let under_lock = durations(&job.text[at..]);
    let sentences: Vec<&str> =
        job.text[at..].lines().filter(|l| l.contains("checkpoint") && l.contains("WARN")).collect();
    println!(
        "locked for {LOCK_S} s: {} checkpoints completed; the job said {} sentences, the last:",
        under_lock.len(),
        sentences.len()
    );
    println!("{}", sentences.last().unwrap_or(&"nothing"));
    let server = format!("127.0.0.1:{}", proxy.port);
    let named = sentences.iter().any(|s| s.contains("\"readings\"") && s.contains(&server));
    let released = job.text.len();
    watch(&mut job, 10)?;
    let after = durations(&job.text[released..]).len();
    println!("after the lock: {after} checkpoints within 10 s");
    if !named || after == 0 {
        return Err(format!("no sentence names the sink and {server}, or no checkpoint completed after the lock"));
    }

    lock(stage, 15)?;
    watch(&mut job, 8)?;
    job.kill()?;
    let mut job = start(binary, &file, stage)?;
    let (ended_well, text) = end(&mut job, Duration::from_secs(240))?;
    let there = rows(stage)?;
    println!("killed under a second lock and started again: {there} of {ROWS} rows in the table");
    if !ended_well || there != ROWS {
        return Err(format!("rows are missing after the kill:\n{}", interesting(&text)));
    }
    Ok(())
}

fn start(binary: &Path, script: &Path, stage: &Stage) -> Result<Running, String> {
    let mut command = Command::new(binary);
    command.args(["sql", "-q", "-f"]).arg(script).current_dir(&stage.dir);
    // When checkpoints are triggered and completed is in the log, with the time.
    command.env("RUST_LOG", "info,flott_jobmanager=debug").env("NO_COLOR", "1");
    Running::spawn(&mut command)
}

fn script(options: &Options, stage: &Stage, port: u16) -> String {
    format!(
        "SET 'pipeline.name' = 'slow-mysql';
SET 'parallelism.default' = '2';
SET 'execution.checkpointing.interval' = '2 s';
SET 'execution.checkpointing.timeout' = '{timeout} s';
SET 'execution.checkpointing.tolerable-failed-checkpoints' = '100';
SET 'execution.checkpointing.unaligned.enabled' = 'true';
SET 'execution.checkpointing.aligned-checkpoint-timeout' = '1 s';
SET 'execution.checkpointing.dir' = '{dir}/chk';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.path' = 'latest';
SET 'table.dml-sync' = 'true';
CREATE TABLE numbers (id BIGINT, sensor INT, celsius DOUBLE) WITH ('connector' = 'datagen', 'rows-per-second' = '4000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}',
  'fields.sensor.min' = '1', 'fields.sensor.max' = '9999', 'fields.celsius.min' = '-20', 'fields.celsius.max' = '40');
CREATE TABLE readings (id BIGINT, sensor INT, celsius DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:{port}/{DATABASE}', 'username' = 'root', 'table-name' = 'readings',
  'sink.buffer-flush.max-rows' = '{FLUSH_ROWS}');
INSERT INTO readings SELECT id, sensor, celsius FROM numbers;
",
        timeout = options.timeout_s,
        dir = stage.dir.display(),
    )
}

/// Lets the job run; that it ends is a failure.
fn watch(job: &mut Running, seconds: u64) -> Result<(), String> {
    match wait_for(job, |_| false, Duration::from_secs(seconds))? {
        Wait::Ended(_) => Err(format!("the job ended by itself:\n{}", interesting(&job.text))),
        Wait::Seen | Wait::TimedOut => Ok(()),
    }
}

fn rows(stage: &Stage) -> Result<u64, String> {
    let text = tools::mysql(&stage.mariadb, DATABASE, "SELECT COUNT(*) FROM readings")?;
    text.trim().parse().map_err(|e| format!("readings: {e}"))
}

/// A session of its own holds the table for a while; it ends by itself.
fn lock(stage: &Stage, seconds: u64) -> Result<(), String> {
    let mut command = tools::mysql_client(&stage.mariadb);
    let held = format!("LOCK TABLES readings WRITE; SELECT SLEEP({seconds})");
    let session = command.args(["-D", DATABASE, "-e", &held]).stdout(Stdio::null()).spawn();
    let mut session = session.map_err(|e| format!("mariadb: {e}"))?;
    thread::spawn(move || session.wait());
    Ok(())
}

/// How long each completed checkpoint took, by the times of the log's lines.
fn durations(log: &str) -> BTreeMap<u64, Option<i64>> {
    let mut triggered = BTreeMap::new();
    let mut done = BTreeMap::new();
    for line in log.lines() {
        let Some(id) = line.split("checkpoint=").nth(1) else { continue };
        let Ok(id) = id.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>() else { continue };
        let Some(at) = time_of_day_ms(line) else { continue };
        if line.contains("triggered") {
            triggered.insert(id, at);
        } else if line.contains("checkpoint completed") {
            // Across midnight the difference is negative by a day.
            done.insert(id, triggered.get(&id).map(|t| (at - t).rem_euclid(86_400_000)));
        }
    }
    done
}

/// `2026-01-05T12:34:56.789012Z …`.
fn time_of_day_ms(line: &str) -> Option<i64> {
    let time = line.split('T').nth(1)?.split('Z').next()?;
    let mut parts = time.split([':', '.']);
    let mut next = || parts.next().and_then(|p| p.parse::<i64>().ok());
    let (h, m, s, micros) = (next()?, next()?, next()?, next()?);
    Some(((h * 60 + m) * 60 + s) * 1000 + micros / 1000)
}

fn interesting(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("checkpoint") || !l.contains("DEBUG")).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_from_the_log() {
        let log = "2026-01-05T23:59:59.500000Z DEBUG triggered checkpoint=7\n\
                   2026-01-06T00:00:01.750000Z  INFO checkpoint completed checkpoint=7 path=x\n\
                   2026-01-06T00:00:02.000000Z DEBUG triggered checkpoint=8\n\
                   2026-01-06T00:00:02.000000Z DEBUG checkpoint 8 failed: late checkpoint=8";
        assert_eq!(durations(log), BTreeMap::from([(7, Some(2_250))]));
    }
}
