//! `bench nexmark`: each query in a process of its own, on this engine and, if wanted, on stock Flink right after. Never a test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Usage};
use super::{ddl, golden, query_text, release_binary};
use crate::flink::{Flink, Nexmark};
use crate::tidy::root;

/// The queries, in the order of the table, with CPU seconds per million events of Flink 2.3 on two cores (memory backend, no
/// checkpoints, JIT warm), rounded: they only decide how many events a query gets.
const QUERIES: &[(&str, f64)] = &[
    ("generator", 0.6),
    ("q0", 0.6),
    ("q1", 0.6),
    ("q2", 0.6),
    ("q3", 0.8),
    ("q4", 4.7),
    ("q5", 2.7),
    ("q7", 9.5),
    ("q8", 1.0),
    ("q9", 8.0),
    ("q10", 1.2),
    ("q11", 2.3),
    ("q12", 1.4),
    ("q13", 1.0),
    ("q14", 0.8),
    ("q15", 2.9),
    ("q16", 22.0),
    ("q17", 1.8),
    ("q18", 3.3),
    ("q19", 3.7),
    ("q20", 5.0),
    ("q21", 1.0),
    ("q22", 1.1),
];
/// So many CPU seconds of Flink a query is measured for.
const FLINK_CPU_S: f64 = 30.0;
/// Flink's warm-up, as a share of the events that count.
const WARM: u64 = 5;
/// Nexmark's own settings.
const FLINK_OPTIONS: &[&str] = &[
    "pipeline.object-reuse=true",
    "table.exec.mini-batch.enabled=true",
    "table.exec.mini-batch.allow-latency=2s",
    "table.exec.mini-batch.size=50000",
    "table.optimizer.distinct-agg.split.enabled=true",
    "execution.checkpointing.checkpoints-after-tasks-finish.enabled=false",
    "taskmanager.memory.managed.size=512m",
    "taskmanager.memory.network.max=256m",
];
const FLINK_HEAP: &str = "10g";
/// Between these lines of docs/benchmarks.md the table is written.
const MARKS: (&str, &str) = ("<!-- nexmark: begin -->\n", "<!-- nexmark: end -->\n");

struct Options {
    queries: Vec<String>,
    events: Option<u64>,
    parallelism: Vec<u32>,
    intervals: Vec<Option<String>>,
    files: Vec<bool>,
    peer: Option<PathBuf>,
    json: bool,
    golden: bool,
    write: bool,
}

/// How one row is measured.
#[derive(Clone)]
struct Setting {
    query: String,
    events: u64,
    parallelism: u32,
    interval: Option<String>,
    file: bool,
}

struct Row {
    setting: Setting,
    flott: Usage,
    checkpoints: u64,
    flink: Option<Usage>,
}

struct Bench {
    binary: PathBuf,
    flink: Option<(Flink, Nexmark)>,
    dir: PathBuf,
}

/// Runs it.
pub fn run(args: &[String]) -> Result<(), String> {
    let options = parse(args)?;
    let flink = match &options.peer {
        Some(checkout) => {
            let flink = Flink::ready()?;
            let nexmark = flink.nexmark(checkout)?;
            Some((flink, nexmark))
        }
        None => None,
    };
    let bench = Bench { binary: release_binary()?, flink, dir: process::scratch("bench")? };
    let mut rows: Vec<Row> = Vec::new();
    for setting in options.settings()? {
        if options.golden && rows.iter().all(|r| r.setting.query != setting.query) {
            golden::check(&bench.binary, &setting.query, &bench.dir)?;
        }
        let row = bench.measure(setting)?;
        if !options.json {
            if rows.is_empty() {
                print!("{HEAD}");
            }
            println!("{}", row.markdown(generator(&rows, &row.setting)));
        }
        rows.push(row);
    }
    if options.json {
        let all: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?);
    } else {
        print!("{}", means(&rows));
    }
    if options.write {
        write_table(&rows)?;
    }
    fs::remove_dir_all(&bench.dir).map_err(|e| e.to_string())
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        queries: QUERIES.iter().map(|(q, _)| (*q).to_owned()).collect(),
        events: None,
        parallelism: vec![2],
        intervals: vec![None],
        files: vec![false],
        peer: None,
        json: false,
        golden: true,
        write: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let list = |text: &String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match arg.as_str() {
            "--queries" => options.queries = list(value()?),
            "--events" => options.events = Some(value()?.replace('_', "").parse().map_err(|e| format!("{arg}: {e}"))?),
            "--parallelism" => {
                let all = list(value()?).iter().map(|p| p.parse()).collect::<Result<_, _>>();
                options.parallelism = all.map_err(|e| format!("{arg}: {e}"))?;
            }
            "--checkpoint-interval" => {
                options.intervals = list(value()?).into_iter().map(|i| (i != "off").then_some(i)).collect();
            }
            "--input" => options.files = list(value()?).iter().map(|i| i == "file").collect(),
            "--peer" if value()? != "flink" => return Err("--peer: there is `flink` only".into()),
            "--peer" => {}
            "--nexmark" => options.peer = Some(value()?.into()),
            "--json" => options.json = true,
            "--skip-golden" => options.golden = false,
            "--write" => options.write = true,
            other => return Err(format!("bench nexmark: unknown argument `{other}`\n{USAGE}")),
        }
    }
    Ok(options)
}

const USAGE: &str = "\
cargo xtask bench nexmark [--queries q0,q1] [--events N] [--parallelism 1,2] [--checkpoint-interval off,5s] [--input generator,file]
    [--peer flink --nexmark CHECKOUT] [--json] [--skip-golden] [--write]
CHECKOUT is a clone of nexmark/nexmark, whose generator runs in Flink. --write puts the table into docs/benchmarks.md.";

impl Options {
    fn settings(&self) -> Result<Vec<Setting>, String> {
        let mut all = Vec::new();
        for file in &self.files {
            for parallelism in &self.parallelism {
                for interval in &self.intervals {
                    for query in &self.queries {
                        let known = QUERIES.iter().find(|(q, _)| q == query);
                        let (_, cost) = known.ok_or_else(|| format!("--queries: there is no `{query}`"))?;
                        let share = if *file { 0.2 } else { 1.0 };
                        let events = (share * FLINK_CPU_S / cost).round().max(1.0) as u64 * 1_000_000;
                        all.push(Setting {
                            query: query.clone(),
                            events: self.events.unwrap_or(events),
                            parallelism: *parallelism,
                            interval: interval.clone(),
                            file: *file,
                        });
                    }
                }
            }
        }
        Ok(all)
    }
}

impl Bench {
    fn measure(&self, setting: Setting) -> Result<Row, String> {
        let script = self.script(&setting, setting.events)?;
        let file = self.dir.join(format!("{}.sql", setting.query));
        fs::write(&file, &script).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.binary);
        command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        let (flott, stderr) = process::run(command, Duration::from_millis(10))?;
        let checkpoints = process::number_before(&stderr, " checkpoints").unwrap_or(0);
        let flink = match &self.flink {
            Some((flink, nexmark)) => Some(self.peer(flink, nexmark, &setting, &script)?),
            None => None,
        };
        Ok(Row { setting, flott, checkpoints, flink })
    }

    fn script(&self, setting: &Setting, events: u64) -> Result<String, String> {
        let mut script =
            format!("SET 'parallelism.default' = '{}';\nSET 'table.dml-sync' = 'true';\n", setting.parallelism);
        if let Some(interval) = &setting.interval {
            let dir = self.dir.join(format!("chk-{}", setting.query));
            write!(
                script,
                "SET 'execution.checkpointing.interval' = '{interval}';\nSET 'execution.checkpointing.dir' = 'file://{}';\n",
                dir.display()
            )
            .expect("strings accept text");
        }
        let generator = format!(
            "'connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '10000000', 'next-event.rate' = '10000000'"
        );
        let source = match setting.file {
            true => format!(
                "'connector' = 'filesystem', 'path' = 'file://{}', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL'",
                self.events_file(&generator, events)?.display()
            ),
            false => generator,
        };
        script += &ddl(&source)?;
        if setting.query == "q13" {
            let side = self.dir.join("side_input.csv");
            if !side.exists() {
                let rows: String = (0..10_000).map(|k| format!("{k},{k}\n")).collect();
                fs::write(&side, rows).map_err(|e| e.to_string())?;
            }
            write!(
                script,
                "\nCREATE TABLE side_input (key BIGINT, `value` STRING) WITH ('connector' = 'filesystem', 'path' = 'file://{}', \
                 'format' = 'csv');\n",
                side.display()
            )
            .expect("strings accept text");
        }
        let bids = self.dir.join(format!("bids-{}", setting.query));
        script += &query_text(&setting.query)?.replace("file:///data/bids", &format!("file://{}", bids.display()));
        Ok(script)
    }

    /// The generator's events as JSON lines, written once.
    fn events_file(&self, generator: &str, events: u64) -> Result<PathBuf, String> {
        let path = self.dir.join(format!("events-{events}"));
        if path.exists() {
            return Ok(path);
        }
        let source = ddl(generator)?;
        let (columns, _) = source.split_once("  `dateTime` AS").ok_or("ddl.sql has no computed dateTime")?;
        let target = columns.trim_end().trim_end_matches(',').replacen("datagen", "events", 1);
        let script = format!(
            "SET 'table.dml-sync' = 'true';\n{source}\n{target}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json', \
             'json.timestamp-format.standard' = 'SQL');\nINSERT INTO events SELECT event_type, person, auction, bid FROM datagen;",
            path.display()
        );
        let file = self.dir.join("events.sql");
        fs::write(&file, script).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.binary);
        command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        process::run(command, Duration::from_millis(50))?;
        Ok(path)
    }

    /// The same script on Flink, warmed up with a part of it in the same process.
    fn peer(&self, flink: &Flink, nexmark: &Nexmark, setting: &Setting, script: &str) -> Result<Usage, String> {
        let (warm, measured) = (self.dir.join("flink-warm.sql"), self.dir.join("flink.sql"));
        fs::write(&warm, self.script(setting, setting.events / WARM)?).map_err(|e| e.to_string())?;
        fs::write(&measured, script).map_err(|e| e.to_string())?;
        let mut command = flink.command(&[warm, measured.clone()], FLINK_OPTIONS, FLINK_HEAP, &[nexmark.classes()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (usage, _) = process::run(command, Duration::from_millis(20))?;
        let log = fs::read_to_string(measured.with_file_name("flink.sql.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        if let Some(error) = lines.iter().find_map(|l| l["error"].as_str()) {
            return Err(format!("{}: Flink: {error}", setting.query));
        }
        let sum = |key: &str| lines.iter().filter_map(|l| l[key].as_f64()).sum();
        Ok(Usage { cpu_s: sum("cpu_s"), wall_s: sum("wall_s"), peak_rss_mb: usage.peak_rss_mb })
    }
}

const HEAD: &str = "\
| query | input | parallelism | checkpoints | M events | CPU s per M events | Flink's | ratio | without generator | events/s | peak MB | Flink's |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// The generator's own row under the same setting.
fn generator<'a>(rows: &'a [Row], setting: &Setting) -> Option<&'a Row> {
    let same = |s: &Setting| {
        s.query == "generator"
            && (s.parallelism, s.file, &s.interval) == (setting.parallelism, setting.file, &setting.interval)
    };
    rows.iter().find(|r| same(&r.setting))
}

impl Row {
    /// CPU seconds per million events, here and of Flink.
    fn costs(&self) -> (f64, Option<f64>) {
        let millions = self.setting.events as f64 / 1e6;
        (self.flott.cpu_s / millions, self.flink.map(|f| f.cpu_s / millions))
    }

    fn ratio(&self) -> Option<f64> {
        let (flott, flink) = self.costs();
        flink.map(|f| f / flott)
    }

    fn markdown(&self, generator: Option<&Row>) -> String {
        let (flott, flink) = self.costs();
        let times = |r: f64| format!("{r:.1}×");
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let net = generator.filter(|_| self.setting.query != "generator").and_then(|g| {
            let ((own, own_flink), flink) = (g.costs(), flink?);
            let own_flink = own_flink?;
            // What costs no more than the generator alone has no share of its own.
            (flott > own).then(|| times((flink - own_flink) / (flott - own)))
        });
        format!(
            "| {} | {} | {} | {}{} | {:.0} | {flott:.3} | {} | {} | {} | {:.0} | {:.0} | {} |",
            self.setting.query,
            if self.setting.file { "file" } else { "generator" },
            self.setting.parallelism,
            self.setting.interval.as_deref().unwrap_or("off"),
            if self.setting.interval.is_some() { format!(" ({})", self.checkpoints) } else { String::new() },
            self.setting.events as f64 / 1e6,
            or_dash(flink.map(|f| format!("{f:.2}"))),
            or_dash(self.ratio().map(times)),
            or_dash(net),
            self.setting.events as f64 / self.flott.wall_s,
            self.flott.peak_rss_mb,
            or_dash(self.flink.map(|f| format!("{:.0}", f.peak_rss_mb))),
        )
    }

    fn json(&self) -> Value {
        let (flott, flink) = self.costs();
        json!({
            "query": self.setting.query,
            "input": if self.setting.file { "file" } else { "generator" },
            "parallelism": self.setting.parallelism,
            "checkpoint_interval": self.setting.interval,
            "checkpoints": self.checkpoints,
            "events": self.setting.events,
            "events_per_s": (self.setting.events as f64 / self.flott.wall_s).round(),
            "cpu_s_per_million": (flott * 1000.0).round() / 1000.0,
            "flink_cpu_s_per_million": flink,
            "peak_rss_mb": self.flott.peak_rss_mb.round(),
            "flink_peak_rss_mb": self.flink.map(|f| f.peak_rss_mb.round()),
        })
    }
}

/// The geometric mean of the ratios, the generator's own row left out.
fn means(rows: &[Row]) -> String {
    let ratios: Vec<f64> = rows.iter().filter(|r| r.setting.query != "generator").filter_map(Row::ratio).collect();
    let Some(least) = ratios.iter().copied().reduce(f64::min) else { return String::new() };
    let mean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
    format!("\nGeometric mean of {} ratios: {mean:.1}×; the least: {least:.1}×.\n", ratios.len())
}

fn write_table(rows: &[Row]) -> Result<(), String> {
    let path: &Path = &root().join("docs/benchmarks.md");
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = text.split_once(MARKS.0).and_then(|(a, rest)| Some((a, rest.split_once(MARKS.1)?.1)));
    let (before, after) = found.ok_or_else(|| format!("{} has no marks for the table", path.display()))?;
    let table: String = rows.iter().map(|r| r.markdown(generator(rows, &r.setting)) + "\n").collect();
    let new = format!("{before}{}{HEAD}{table}{}{}{after}", MARKS.0, means(rows), MARKS.1);
    fs::write(path, new).map_err(|e| format!("{}: {e}", path.display()))
}
