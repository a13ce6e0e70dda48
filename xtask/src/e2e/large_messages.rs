//! Messages of 30 MB under a budget of 256 MB: the source slows down, nothing fails, and the process stays small.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Options, Stage, tools};
use crate::bench::process;

const MESSAGE_BYTES: u64 = 30_000_000;
const BUDGET: &str = "256m";
const RSS_MB_MAX: f64 = 400.0;
/// What `--events` means here at most: a gigabyte or so of messages.
const MESSAGES: u64 = 40;
const TOPIC: &str = "large";

/// Runs the scenario.
pub fn run(options: &Options, binary: &Path, stage: &Stage) -> Result<(), String> {
    let messages = options.events.min(MESSAGES);
    tools::create_topic(&stage.kafka, TOPIC, 4)?;
    produce(stage, messages)?;
    let out = stage.dir.join("out");
    let file = stage.dir.join("large.sql");
    fs::write(&file, script(stage, &out)).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut command = Command::new(binary);
    command
        .args(["sql", "-v", "-q", "-f"])
        .arg(&file)
        .args(["-D", &format!("taskmanager.memory.process.size={BUDGET}")]);
    command.current_dir(&stage.dir).env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let (usage, log) = process::run(command, Duration::from_millis(5))?;

    let mut lengths = Vec::new();
    for entry in fs::read_dir(&out).map_err(|e| format!("{}: {e}", out.display()))? {
        let text = fs::read_to_string(entry.map_err(|e| e.to_string())?.path()).map_err(|e| e.to_string())?;
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
            lengths.push(row["length"].as_u64().unwrap_or(0));
        }
    }
    let bounded: Vec<&str> = log.lines().filter(|l| l.contains("bounded")).collect();
    println!("{}", bounded.join("\n"));
    println!(
        "{} of {messages} messages of 30 MB under a budget of {BUDGET}: peak RSS {:.0} MB, {:.1} s, {:.1} CPU s",
        lengths.len(),
        usage.peak_rss_mb,
        usage.wall_s,
        usage.cpu_s
    );
    if lengths.len() as u64 != messages || lengths.iter().any(|l| *l != MESSAGE_BYTES) {
        return Err(format!("messages are missing or cut: {lengths:?}\n{log}"));
    }
    if usage.peak_rss_mb > RSS_MB_MAX {
        return Err(format!("the process grew to {:.0} MB; at most {RSS_MB_MAX} MB are allowed", usage.peak_rss_mb));
    }
    if bounded.is_empty() {
        return Err(format!("the log does not say that the fetch was bounded:\n{log}"));
    }
    Ok(())
}

/// Kafka's own load generator: random capital letters.
fn produce(stage: &Stage, messages: u64) -> Result<(), String> {
    let mut command = tools::kafka_with_heap("ProducerPerformance", 1024)?;
    command.args(["--topic", TOPIC, "--num-records", &messages.to_string(), "--throughput", "-1"]);
    command.args(["--record-size", &MESSAGE_BYTES.to_string(), "--producer-props"]);
    command.arg(format!("bootstrap.servers={}", stage.kafka.address()));
    command.args(["max.request.size=60000000", "buffer.memory=200000000", "acks=all", "linger.ms=0"]);
    let output = command.output().map_err(|e| format!("java: {e}"))?;
    let there = tools::end_offsets(&stage.kafka, TOPIC)?;
    if !output.status.success() || there != messages {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{there} of {messages} messages were produced: {}", text.lines().last().unwrap_or("")));
    }
    Ok(())
}

fn script(stage: &Stage, out: &Path) -> String {
    format!(
        "SET 'pipeline.name' = 'large-messages';
SET 'parallelism.default' = '2';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.dir' = '{dir}/chk';
SET 'table.dml-sync' = 'true';
CREATE TABLE large (payload STRING) WITH (
  'connector' = 'kafka', 'topic' = '{TOPIC}', 'properties.bootstrap.servers' = '{kafka}', 'properties.group.id' = 'large',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'raw');
CREATE TABLE lengths (length BIGINT) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'json');
INSERT INTO lengths SELECT CAST(CHAR_LENGTH(payload) AS BIGINT) FROM large;
",
        dir = stage.dir.display(),
        kafka = stage.kafka.address(),
        out = out.display(),
    )
}
