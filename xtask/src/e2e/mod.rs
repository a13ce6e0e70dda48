//! `cargo xtask e2e SCENARIO`: jobs on real servers, with kills, restarts and slow databases; what they leave behind is compared
//! with an independent computation. Each run has servers of its own and never touches others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{process, target_dir};
use crate::services::{self, Instance, Service};
use crate::tidy::root;

mod check;
mod feeder;
mod job;
mod kafka_mysql;
mod large_messages;
mod proxy;
mod slow_mysql;
mod tools;
mod workload;

const USAGE: &str = "\
cargo xtask e2e kafka-mysql [--kills N] [--events N] [--seed S] [--kafka-tv1] [--rust] [--switch-off exactly-once]
    orders and clicks from Kafka into MySQL and Kafka, killed N times; brokers and databases restart in between
cargo xtask e2e slow-mysql [--timeout-s N]
    a table behind a proxy that lets 500 rows a second through, then under a lock for a minute: checkpoints must go on
cargo xtask e2e large-messages [--events N]
    messages of 30 MB under a budget of 256 MB
any of them: [--binary PATH] runs that program instead of building one; [--keep] leaves logs and data";

/// What every scenario takes.
pub struct Options {
    /// How often the job is killed.
    pub kills: u64,
    /// How many events are fed.
    pub events: u64,
    /// What all that is random comes from.
    pub seed: u64,
    /// Which Kafka: `kafka` or `kafka-tv1`.
    pub kafka: Service,
    /// The DataStream program instead of the SQL script.
    pub rust: bool,
    /// When a checkpoint behind the slow database is given up.
    pub timeout_s: u64,
    /// The protection that is turned off to see whether the harness notices.
    pub switch_off: Option<String>,
    /// The program.
    pub binary: Option<PathBuf>,
    /// Whether the directory stays.
    pub keep: bool,
}

/// A run's directory and servers; dropping it stops the servers.
pub struct Stage {
    /// Logs, checkpoints and data of this run.
    pub dir: PathBuf,
    /// The broker.
    pub kafka: Instance,
    /// The database.
    pub mariadb: Instance,
}

impl Stage {
    fn new(kafka: Service, with: &[Service]) -> Result<Self, String> {
        let dir = process::scratch("e2e")?;
        let below = dir.join("services");
        let stage = Self { kafka: Instance::new(kafka, &below), mariadb: Instance::new(Service::MariaDb, &below), dir };
        services::up(&with.iter().map(|s| Instance::new(*s, &below)).collect::<Vec<_>>())?;
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for server in [&self.kafka, &self.mariadb] {
            if let Err(message) = server.stop(true) {
                eprintln!("{message}");
            }
        }
    }
}

type Work = fn(&Options, &Path, &Stage) -> Result<(), String>;

/// Runs a scenario.
pub fn run(args: &[String]) -> Result<(), String> {
    let scenario = args.first().map(String::as_str).unwrap_or_default();
    let options = parse(args.get(1..).unwrap_or_default())?;
    let kafka = options.kafka;
    let (work, servers): (Work, &[Service]) = match scenario {
        "kafka-mysql" => (kafka_mysql::run, &[kafka, Service::MariaDb]),
        "slow-mysql" => (slow_mysql::run, &[Service::MariaDb]),
        "large-messages" => (large_messages::run, &[kafka]),
        _ => return Err(USAGE.to_owned()),
    };
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => build(options.rust)?,
    };
    let stage = Stage::new(kafka, servers)?;
    println!("seed {}, directory {}", options.seed, stage.dir.display());
    let done = work(&options, &binary, &stage);
    let dir = stage.dir.clone();
    drop(stage);
    if done.is_ok() && !options.keep {
        fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    done
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        kills: 20,
        events: 2_000_000,
        seed: 1,
        kafka: Service::Kafka,
        rust: false,
        timeout_s: 600,
        switch_off: None,
        binary: None,
        keep: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--kills" => options.kills = number(arg, value()?)?,
            "--events" => options.events = number(arg, value()?)?,
            "--seed" => options.seed = number(arg, value()?)?,
            "--timeout-s" => options.timeout_s = number(arg, value()?)?,
            "--rust" => options.rust = true,
            "--kafka-tv1" => options.kafka = Service::KafkaTv1,
            "--switch-off" => options.switch_off = Some(value()?.clone()),
            "--binary" => options.binary = Some(PathBuf::from(value()?)),
            "--keep" => options.keep = true,
            other => return Err(format!("e2e: unknown argument `{other}`\n{USAGE}")),
        }
    }
    match options.switch_off.as_deref() {
        None | Some("exactly-once") => Ok(options),
        Some(other) => Err(format!("--switch-off takes exactly-once, not `{other}`")),
    }
}

fn number(arg: &str, text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|e| format!("{arg}: {e}"))
}

fn build(rust: bool) -> Result<PathBuf, String> {
    let (package, product) = match rust {
        true => (["-p", "flott", "--example", "kafka_to_mysql"].as_slice(), "debug/examples/kafka_to_mysql"),
        false => (["-p", "flott-cli"].as_slice(), "debug/flott"),
    };
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(["build", "--quiet"]).args(package).current_dir(root()).status();
    if !status.map_err(|e| e.to_string())?.success() {
        return Err("cargo build failed".into());
    }
    Ok(target_dir().join(product))
}
