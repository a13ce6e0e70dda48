//! `bench nexmark`: each query in a process of its own, on this engine and, if wanted, on stock Flink right after. Never a test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Usage};
use super::{ddl, query_text, release_binary, with_options};
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
/// So many CPU seconds of Flink a run of a query is meant to take, by those figures; its warm-up, which does not count, twice as many: after
/// warm-ups of ten CPU seconds q4, q7 and q9 still cost twice as much for each event.
const FLINK_CPU_S: f64 = 15.0;
/// The same from files, and what reading a million events as JSON costs Flink.
const FLINK_FILE_CPU_S: f64 = 10.0;
const FLINK_JSON_CPU_S: f64 = 8.0;
/// The warm-up's events, in those of a run.
const WARM_UP: u64 = 2;
/// Memory that is touched before a run of Flott, beyond what a run like it has taken.
const SPARE_MB: f64 = 200.0;
/// A run of Flott without checkpoints lasts at least so many seconds, one with them so many intervals, if its state stays below [`STATE_MB`].
const WALL_S: f64 = 3.0;
const INTERVALS: f64 = 1.3;
const STATE_MB: f64 = 9_000.0;
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

struct Options {
    queries: Vec<String>,
    events: Option<u64>,
    parallelism: Vec<u32>,
    intervals: Vec<Option<String>>,
    files: Vec<bool>,
    peer: Option<PathBuf>,
    json: bool,
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
    /// With its own number of events.
    flink: Option<(u64, Usage)>,
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
    let mut all = Vec::new();
    for file in options.files.iter().copied() {
        let mut rows: Vec<Row> = Vec::new();
        for query in &options.queries {
            let (_, cost) =
                QUERIES.iter().find(|(q, _)| q == query).ok_or(format!("--queries: there is no `{query}`"))?;
            let millions = if file { FLINK_FILE_CPU_S / (cost + FLINK_JSON_CPU_S) } else { FLINK_CPU_S / cost };
            let events = (millions * 2.0).round().max(1.0) as u64 * 500_000;
            let measured = bench.measure(query, options.events.unwrap_or(events), file, &options)?;
            if !options.json {
                if rows.is_empty() {
                    print!("{HEAD}");
                }
                measured.iter().for_each(|r| println!("{}", r.markdown(generator(&rows, &r.setting))));
            }
            rows.extend(measured);
            if options.write {
                write_table(&rows, file)?;
            }
        }
        if !options.json {
            print!("{}", means(&rows));
        }
        all.extend(rows);
    }
    if options.json {
        let all: Vec<Value> = all.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?);
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
            "--write" => options.write = true,
            other => return Err(format!("bench nexmark: unknown argument `{other}`\n{USAGE}")),
        }
    }
    Ok(options)
}

const USAGE: &str = "\
cargo xtask bench nexmark [--queries q0,q1] [--events N] [--parallelism 1,2] [--checkpoint-interval off,5s] [--input generator,file]
    [--peer flink --nexmark CHECKOUT] [--json] [--write]
CHECKOUT is a clone of nexmark/nexmark, whose generator runs in Flink. --write puts the table into docs/benchmarks.md.";

impl Bench {
    /// One query from one input, with each parallelism and interval: first here, then on Flink.
    fn measure(&self, query: &str, events: u64, file: bool, options: &Options) -> Result<Vec<Row>, String> {
        let setting = Setting { query: query.to_owned(), events, parallelism: 1, interval: None, file };
        let mut rows = Vec::new();
        let mut for_flink = vec![Setting { parallelism: 2, events: events * WARM_UP, ..setting.clone() }];
        // Does not count either: it says how long a run takes and how much memory to expect.
        let probe = self.flott(Setting { parallelism: 2, ..setting.clone() }, 0.0)?;
        for &parallelism in &options.parallelism {
            let plain = self.longer(&probe, parallelism, None, WALL_S)?;
            for interval in &options.intervals {
                for_flink.push(Setting { parallelism, interval: interval.clone(), ..setting.clone() });
                rows.push(match interval {
                    None => Row { setting: plain.setting.clone(), ..plain },
                    Some(text) => {
                        let wall_s = INTERVALS * seconds(text)?;
                        self.longer(&plain, parallelism, interval.clone(), wall_s)?
                    }
                });
            }
        }
        if let Some((flink, nexmark)) = &self.flink {
            match self.peer(flink, nexmark, &for_flink) {
                Ok(usages) => {
                    rows.iter_mut().zip(usages).for_each(|(row, usage)| row.flink = Some((events, usage)));
                }
                // Its row stands without: q13's file cannot be looked up in there.
                Err(e) => eprintln!("{}", e.lines().next().unwrap_or_default()),
            }
        }
        Ok(rows)
    }

    /// Runs what `before` ran with so many times its events as it takes to last for `wall_s`.
    fn longer(&self, before: &Row, parallelism: u32, interval: Option<String>, wall_s: f64) -> Result<Row, String> {
        let (setting, was) = (&before.setting, before.flott);
        let times = (wall_s / was.wall_s).min(STATE_MB / was.peak_rss_mb).max(1.0);
        // Files of few sizes, each written once.
        let times = if setting.file { times.log2().ceil().exp2() } else { times.ceil() } as u64;
        let setting = Setting { parallelism, interval, events: setting.events * times, ..setting.clone() };
        self.flott(setting, was.peak_rss_mb * times as f64)
    }

    /// Runs a script here; `peak_mb`: how much memory it is expected to take.
    fn flott(&self, setting: Setting, peak_mb: f64) -> Result<Row, String> {
        process::touch_mb(peak_mb + SPARE_MB);
        let file = self.dir.join(format!("{}.sql", setting.query));
        fs::write(&file, self.script(&setting)?).map_err(|e| e.to_string())?;
        // One core for a parallelism of one: what two cores and subtasks are compared with.
        let mut command = match setting.parallelism {
            1 => Command::new("taskset"),
            _ => Command::new(&self.binary),
        };
        if setting.parallelism == 1 {
            command.args(["-c", "0"]).arg(&self.binary);
        }
        command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        let (flott, stderr) = process::run(command, Duration::from_millis(10))?;
        let checkpoints = process::number_before(&stderr, " checkpoints").unwrap_or(0);
        let _ = fs::remove_dir_all(self.dir.join(format!("chk-{}", setting.query)));
        Ok(Row { setting, flott, checkpoints, flink: None })
    }

    fn script(&self, setting: &Setting) -> Result<String, String> {
        let events = setting.events;
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
        let mut query = query_text(&setting.query)?;
        if setting.query == "q13" {
            let side = self.dir.join("side_input.csv");
            let rows: String = (0..10_000).map(|k| format!("{k},{k}\n")).collect();
            fs::write(&side, rows).map_err(|e| e.to_string())?;
            let options = format!("'connector' = 'filesystem', 'path' = 'file://{}', 'format' = 'csv'", side.display());
            query = with_options(&query, "side_input", &options)?;
        }
        let home = self.dir.join("home");
        let query = query.replace("${NEXMARK_DIR}", &home.display().to_string()).replace("${SUBMIT_TIME}", "now");
        Ok(script + &query)
    }

    /// The generator's events as JSON lines, written once.
    fn events_file(&self, generator: &str, events: u64) -> Result<PathBuf, String> {
        let path = self.dir.join(format!("events-{events}"));
        if path.exists() {
            return Ok(path);
        }
        let source = ddl(generator)?;
        let (columns, _) = source.split_once("    `dateTime` AS\n").ok_or("ddl_gen.sql has no computed dateTime")?;
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

    /// The same scripts on Flink, all in one process; what each cost but the first ones, which warm it up.
    fn peer(&self, flink: &Flink, nexmark: &Nexmark, settings: &[Setting]) -> Result<Vec<Usage>, String> {
        let mut scripts = Vec::new();
        for (i, setting) in settings.iter().enumerate() {
            let path = self.dir.join(format!("flink-{i}.sql"));
            fs::write(&path, self.script(setting)?).map_err(|e| e.to_string())?;
            scripts.push(path);
        }
        let mut command = flink.command(&scripts, FLINK_OPTIONS, FLINK_HEAP, &[nexmark.classes()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (usage, _) = process::run(command, Duration::from_millis(20))?;
        let mut usages = Vec::new();
        for (path, setting) in scripts.iter().zip(settings) {
            let log = fs::read_to_string(path.with_extension("sql.jsonl")).unwrap_or_default();
            let lines: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            if let Some(error) = lines.iter().find_map(|l| l["error"].as_str()) {
                return Err(format!("{}: Flink: {error}", setting.query));
            }
            let sum = |key: &str| lines.iter().filter_map(|l| l[key].as_f64()).sum();
            usages.push(Usage { cpu_s: sum("cpu_s"), wall_s: sum("wall_s"), peak_rss_mb: usage.peak_rss_mb });
        }
        let _ = fs::remove_dir_all(self.dir.join("home"));
        let _ = fs::remove_dir_all(self.dir.join(format!("chk-{}", settings[0].query)));
        Ok(usages.split_off(1))
    }
}

/// The seconds of an interval like `5s`.
fn seconds(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('s').trim_end();
    number.parse().map_err(|e| format!("--checkpoint-interval: `{text}`: {e}; expected seconds, as in 5s"))
}

const HEAD: &str = "\
| query | parallelism | checkpoints | M events | CPU s per M events | Flink's | ratio | without generator | events/s | peak MB | Flink's |
|---|---|---|---|---|---|---|---|---|---|---|
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
        (self.flott.cpu_s / millions, self.flink.map(|(events, f)| f.cpu_s / (events as f64 / 1e6)))
    }

    /// Events a second.
    fn rate(&self) -> f64 {
        self.setting.events as f64 / self.flott.wall_s
    }

    fn ratio(&self) -> Option<f64> {
        let (flott, flink) = self.costs();
        flink.map(|f| f / flott)
    }

    fn markdown(&self, generator: Option<&Row>) -> String {
        let (flott, flink) = self.costs();
        let times = |r: f64| format!("{r:.1}×");
        let own = self.setting.events as f64 / 1e6;
        let events = match self.flink {
            Some((events, _)) if events != self.setting.events => format!("{own}, Flink {}", events as f64 / 1e6),
            _ => own.to_string(),
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        // Beside what reading JSON costs, the rest of a query is noise.
        let net = generator.filter(|_| self.setting.query != "generator" && !self.setting.file).and_then(|g| {
            let ((own, own_flink), flink) = (g.costs(), flink?);
            let own_flink = own_flink?;
            // What costs no more than the generator alone has no share of its own.
            (flott > own).then(|| times((flink - own_flink) / (flott - own)))
        });
        format!(
            "| {} | {} | {}{} | {} | {flott:.3} | {} | {} | {} | {:.0} | {:.0} | {} |",
            self.setting.query,
            self.setting.parallelism,
            self.setting.interval.as_deref().unwrap_or("off"),
            if self.setting.interval.is_some() { format!(" ({})", self.checkpoints) } else { String::new() },
            events,
            or_dash(flink.map(|f| format!("{f:.2}"))),
            or_dash(self.ratio().map(times)),
            or_dash(net),
            self.rate(),
            self.flott.peak_rss_mb,
            or_dash(self.flink.map(|(_, f)| format!("{:.0}", f.peak_rss_mb))),
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
            "events_per_s": self.rate().round(),
            "cpu_s_per_million": (flott * 1000.0).round() / 1000.0,
            "flink_cpu_s_per_million": flink,
            "peak_rss_mb": self.flott.peak_rss_mb.round(),
            "flink_peak_rss_mb": self.flink.map(|(_, f)| f.peak_rss_mb.round()),
        })
    }
}

/// The geometric means of the ratios, the generator's own row left out, and how two cores compare with one.
fn means(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut seen: Vec<(u32, Option<String>)> = Vec::new();
    for row in rows {
        let key = (row.setting.parallelism, row.setting.interval.clone());
        if !seen.contains(&key) {
            seen.push(key);
        }
    }
    for (parallelism, interval) in seen {
        let same = |r: &&Row| (r.setting.parallelism, &r.setting.interval) == (parallelism, &interval);
        let queries = || rows.iter().filter(|r| r.setting.query != "generator").filter(same);
        let every = interval.as_deref().unwrap_or("off");
        let ratios: Vec<f64> = queries().filter_map(Row::ratio).collect();
        if let Some(least) = ratios.iter().copied().reduce(f64::min) {
            let _ = writeln!(
                text,
                "- parallelism {parallelism}, checkpoints {every}: geometric mean of {} ratios {:.1}×, the least {least:.1}×",
                ratios.len(),
                mean(&ratios)
            );
        }
        let one = |r: &Row| {
            let of = |s: &Setting| (s.query.clone(), s.interval.clone());
            rows.iter().find(|o| o.setting.parallelism == 1 && of(&o.setting) == of(&r.setting)).map(Row::rate)
        };
        let gains: Vec<f64> = queries().filter_map(|r| Some(r.rate() / one(r)?)).collect();
        if let (2.., Some(least)) = (parallelism, gains.iter().copied().reduce(f64::min)) {
            let _ = writeln!(
                text,
                "- checkpoints {every}: events a second on {parallelism} cores by those on one: geometric mean {:.2}×, the least {least:.2}×",
                mean(&gains)
            );
        }
    }
    text
}

fn mean(of: &[f64]) -> f64 {
    (of.iter().map(|r| r.ln()).sum::<f64>() / of.len() as f64).exp()
}

/// Puts the table into docs/benchmarks.md, between the marks of its input.
fn write_table(rows: &[Row], file: bool) -> Result<(), String> {
    let input = if file { "file" } else { "generator" };
    let marks = [format!("<!-- nexmark {input}: begin -->\n"), format!("<!-- nexmark {input}: end -->\n")];
    let path: &Path = &root().join("docs/benchmarks.md");
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = text.split_once(&marks[0]).and_then(|(a, rest)| Some((a, rest.split_once(&marks[1])?.1)));
    let (before, after) = found.ok_or_else(|| format!("{} has no marks for the table", path.display()))?;
    let table: String = rows.iter().map(|r| r.markdown(generator(rows, &r.setting)) + "\n").collect();
    let new = format!("{before}{}{HEAD}{table}\n{}{}{after}", marks[0], means(rows), marks[1]);
    fs::write(path, new).map_err(|e| format!("{}: {e}", path.display()))
}
