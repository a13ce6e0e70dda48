//! `cargo xtask bench kafka`: CPU per million records of Kafka pipelines, beside a bare librdkafka consumer and, with `--peer flink`,
//! beside Flink on the same broker and topics. The broker's own CPU is not counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{self, Usage};
use crate::flink::Flink;
use crate::tidy::root;

/// Flink's connector: the newest there is, made for 2.2.
const CONNECTOR: &str = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2";
/// So many of so many events of the generator are bids.
const BIDS: u64 = 46;
const EVENTS: u64 = 50;
const QUERIES: [&str; 3] = ["read", "filter", "window"];

struct Bench {
    bootstrap: String,
    dir: PathBuf,
    flott: PathBuf,
    consumer: PathBuf,
    parallelism: u64,
}

/// Runs it.
#[allow(clippy::disallowed_methods, reason = "a developer tool, not the product")]
pub fn run(args: &[String]) -> Result<(), String> {
    let value = |flag: &str, default: u64| -> Result<u64, String> {
        let Some(i) = args.iter().position(|a| a == flag) else { return Ok(default) };
        let text = args.get(i + 1).ok_or_else(|| format!("{flag} needs a value"))?;
        text.replace('_', "").parse().map_err(|e| format!("{flag}: {e}"))
    };
    let (records, small) = (value("--records", 5_000_000)? / BIDS * BIDS, value("--warm", 1_000_000)? / BIDS * BIDS);
    let bootstrap = std::env::var("FLOTT_TEST_KAFKA").map_err(
        |_| "FLOTT_TEST_KAFKA is not set: cargo xtask services up kafka; eval \"$(cargo xtask services env)\"",
    )?;
    let peer = args.windows(2).any(|w| w[0] == "--peer" && w[1] == "flink").then(Flink::ready).transpose()?;
    if let Some(flink) = &peer {
        flink.add_jar(CONNECTOR)?;
    }
    let flott = super::release_binary()?;
    let consumer = super::release_example("flott-connectors", "kafka_rate")?;
    let bench = Bench {
        bootstrap,
        dir: process::scratch("bench-kafka")?,
        flott,
        consumer,
        parallelism: value("--parallelism", 2)?,
    };
    let topics = [
        (format!("bench-{}-large", std::process::id()), records),
        (format!("bench-{}-small", std::process::id()), small),
    ];
    for (topic, n) in &topics {
        let cost = bench.produce(topic, *n)?;
        println!(
            "generator → Kafka (json): {:.3} CPU s per million records ({n} records)",
            per_million(cost.cpu_s, *n)
        );
    }
    println!("| pipeline | CPU s per M records | records/s | peak RSS MB | bare consumer | Flink | of Flink's |");
    println!("|---|---|---|---|---|---|---|");
    let bare = bench.bare(&topics[0].0, records)?;
    for query in QUERIES {
        let ours = bench.flott(query, &topics[0].0)?;
        let theirs = match &peer {
            Some(flink) => Some(bench.slope(flink, query, &topics)?),
            None => None,
        };
        let cpu = per_million(ours.cpu_s, records);
        println!(
            "| {query} | {cpu:.3} | {:.0} | {:.0} | {:.3} | {} | {} |",
            records as f64 / ours.wall_s,
            ours.peak_rss_mb,
            per_million(bare.cpu_s, records),
            theirs.map_or("–".to_owned(), |t| format!("{t:.3}")),
            theirs.map_or("–".to_owned(), |t| format!("1/{:.1}", t / cpu)),
        );
    }
    fs::remove_dir_all(&bench.dir).map_err(|e| e.to_string())
}

fn per_million(cpu_s: f64, records: u64) -> f64 {
    cpu_s / (records as f64 / 1e6)
}

impl Bench {
    fn script(&self, name: &str, topic: &str) -> Result<String, String> {
        let path = root().join("benches/kafka").join(format!("{name}.sql"));
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(text.replace("{topic}", topic).replace("{bootstrap}", &self.bootstrap))
    }

    fn run_flott(&self, name: &str, script: String) -> Result<Usage, String> {
        let file = self.dir.join(format!("{name}.sql"));
        let settings = format!("SET 'parallelism.default' = '{}';\nSET 'table.dml-sync' = 'true';\n", self.parallelism);
        fs::write(&file, settings + &script).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.flott);
        command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(process::run(command, Duration::from_millis(10))?.0)
    }

    /// Fills a topic with the bids among the generator's events.
    fn produce(&self, topic: &str, records: u64) -> Result<Usage, String> {
        let events = records / BIDS * EVENTS;
        let source = format!(
            "'connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '10000000', 'next-event.rate' = '10000000'"
        );
        let insert = "INSERT INTO target SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM bid;";
        let target = format!(
            "CREATE TABLE target (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), \
             extra STRING) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'format' = 'json');\n",
            self.bootstrap
        );
        self.run_flott("produce", super::ddl(&source)? + &target + insert)
    }

    fn flott(&self, query: &str, topic: &str) -> Result<Usage, String> {
        self.run_flott(query, self.script("tables", topic)? + &self.script(query, topic)?)
    }

    fn bare(&self, topic: &str, records: u64) -> Result<Usage, String> {
        let mut command = Command::new(&self.consumer);
        command.args([&self.bootstrap, topic, &records.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(process::run(command, Duration::from_millis(10))?.0)
    }

    /// CPU seconds of Flink per million records: the difference between a long and a short run, so that neither its start nor
    /// its compiler counts.
    fn slope(&self, flink: &Flink, query: &str, topics: &[(String, u64); 2]) -> Result<f64, String> {
        let mut cost = [0.0; 2];
        for (cost, (topic, _)) in cost.iter_mut().zip(topics) {
            *cost = self.run_flink(flink, query, topic)?.cpu_s;
        }
        Ok(per_million(cost[0] - cost[1], topics[0].1 - topics[1].1))
    }

    fn run_flink(&self, flink: &Flink, query: &str, topic: &str) -> Result<Usage, String> {
        let file: &Path = &self.dir.join(format!("flink-{query}.sql"));
        fs::write(file, self.script("tables", topic)? + &self.script(query, topic)?).map_err(|e| e.to_string())?;
        let parallelism = format!("parallelism.default={}", self.parallelism);
        let options = [parallelism.as_str(), "pipeline.object-reuse=true"];
        let mut command = flink.command(&[file.to_owned()], &options, "4g", &[]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (usage, _) = process::run(command, Duration::from_millis(20))?;
        let log = fs::read_to_string(file.with_file_name(format!("flink-{query}.sql.jsonl"))).unwrap_or_default();
        match log.lines().find(|l| l.contains("\"error\"")) {
            Some(error) => Err(format!("Flink: {error}")),
            None => Ok(usage),
        }
    }
}
