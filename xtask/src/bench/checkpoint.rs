//! `cargo xtask bench checkpoint`: what checkpoints cost, as interleaved pairs with and without them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process;

/// Statistics per bidder: state grows by a row with every new person, hot bidders change all the time, old ones rest.
const PER_BIDDER: &str = "\
CREATE TABLE sink (bidder BIGINT, n BIGINT, low BIGINT, middle BIGINT, high BIGINT, lowest BIGINT, highest BIGINT, average BIGINT,
  total BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO sink SELECT bidder, COUNT(*), COUNT(*) FILTER (WHERE price < 10000),
  COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000), COUNT(*) FILTER (WHERE price >= 1000000),
  MIN(price), MAX(price), AVG(price), SUM(price)
FROM bid GROUP BY bidder;";

/// Statistics per auction and day: three times as many new rows, and longer keys.
const PER_AUCTION: &str = "\
CREATE TABLE sink (auction BIGINT, `day` STRING, n BIGINT, total BIGINT, lowest BIGINT, highest BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO sink SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), COUNT(*), SUM(price), MIN(price), MAX(price)
FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd');";

/// Runs pairs and prints the ratio of CPU seconds.
pub fn run(args: &[String]) -> Result<(), String> {
    let value = |flag: &str, default: u64| -> Result<u64, String> {
        let Some(i) = args.iter().position(|a| a == flag) else { return Ok(default) };
        let text = args.get(i + 1).ok_or_else(|| format!("{flag} needs a value"))?;
        text.replace('_', "").parse().map_err(|e| format!("{flag}: {e}"))
    };
    let (pairs, events, interval_s) =
        (value("--pairs", 3)?, value("--events", 250_000_000)?, value("--interval-s", 10)?);
    let query = if args.iter().any(|a| a == "--per-auction") { PER_AUCTION } else { PER_BIDDER };
    let binary = super::release_binary()?;
    let dir = process::scratch("bench-checkpoint")?;
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        let (off, _) = once(&binary, &dir, query, events, None)?;
        let (on, stderr) = once(&binary, &dir, query, events, Some(interval_s))?;
        let checkpoints = process::number_before(&stderr, " checkpoints").unwrap_or(0);
        let state = stderr.lines().rev().find(|l| l.contains("state")).unwrap_or("").trim().to_owned();
        let ratio = on.cpu_s / off.cpu_s;
        println!(
            "pair {}: {:.2} CPU s without, {:.2} with {checkpoints} checkpoints: {:+.1} %  (wall {:.1} s, {:.1} s; peak {:.0} MB, {:.0} MB) {state}",
            pair + 1,
            off.cpu_s,
            on.cpu_s,
            (ratio - 1.0) * 100.0,
            off.wall_s,
            on.wall_s,
            off.peak_rss_mb,
            on.peak_rss_mb
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:+.1} % CPU", (ratios[ratios.len() / 2] - 1.0) * 100.0);
    fs::remove_dir_all(&dir).map_err(|e| e.to_string())
}

fn once(
    binary: &Path,
    dir: &Path,
    query: &str,
    events: u64,
    interval_s: Option<u64>,
) -> Result<(process::Usage, String), String> {
    let source = format!(
        "'connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '3500000', 'next-event.rate' = '3500000', 'rate.limited' = 'true'"
    );
    let mut script = "SET 'parallelism.default' = '2';\nSET 'table.dml-sync' = 'true';\n".to_owned();
    let checkpoints = dir.join("chk");
    if let Some(s) = interval_s {
        script += &format!(
            "SET 'execution.checkpointing.interval' = '{s} s';\nSET 'execution.checkpointing.dir' = '{}';\n",
            checkpoints.display()
        );
    }
    script += &super::ddl(&source)?;
    script += query;
    let file = dir.join("checkpoint.sql");
    fs::write(&file, script).map_err(|e| e.to_string())?;
    let mut command = Command::new(binary);
    command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
    let result = process::run(command, Duration::from_millis(20));
    let _ = fs::remove_dir_all(&checkpoints);
    result
}
