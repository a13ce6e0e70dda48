//! `flott sql`: runs a script statement by statement in this process.

mod completion;
mod editing;
mod follow;
mod history;
mod interrupt;
mod json;
mod live;
mod materialised;
mod results;
mod shell;
mod tables;
mod tree;

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::sink::Sink;
use flott_core::types::{Column, TypeKind};
use flott_launcher::{Environment, JobStatus, registry, source_transform, submit};
use flott_sql::{PlanServices, Planned, QueryInfo, Session};

use crate::args::{ResultMode, SqlArgs};
use crate::{output, terminal};
use completion::Names;
use follow::Follower;
use results::{Limits, Outcome, QueryPrinter, Style};

pub use interrupt::{CODE as INTERRUPTED, EXIT_CODE as INTERRUPTED_EXIT};

/// Rows of a result that has ended that the shell prints.
const SHOWN_IN_SHELL: usize = 1_000;

/// Why a command ended.
pub struct Failed {
    /// What went wrong.
    pub error: Error,
    /// The script in which it did.
    pub text: Option<String>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, text: None }
    }
}

/// Runs the command.
pub fn run(args: &SqlArgs) -> std::result::Result<(), Failed> {
    let mut runner = Runner::new(args)?;
    let init = args.init.as_deref().map(read).transpose()?;
    let script = script(args)?;
    // Whoever presses Ctrl-C once more does not want to wait.
    interrupt::install(2)?;
    for text in init.into_iter().chain(script.clone()) {
        if let Err(error) = runner.script(&text) {
            if error.code() == INTERRUPTED {
                runner.suspend_background();
            }
            return Err(Failed { error, text: Some(text) });
        }
    }
    if script.is_none() {
        runner.interactive = true;
        return Ok(shell::run(&mut runner, args.history.clone())?);
    }
    Ok(runner.await_background()?)
}

/// What there is to run: nothing when a shell is wanted.
fn script(args: &SqlArgs) -> Result<Option<String>> {
    if let Some(file) = &args.file {
        return read(file).map(Some);
    }
    if args.execute.is_some() || (std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Ok(args.execute.clone());
    }
    let text = read("-".as_ref())?;
    if text.trim().is_empty() {
        let error = Error::user("cli.nothing", "there is nothing to run, and no terminal for the shell");
        return Err(error.hint("give -f FILE, -e STATEMENT, or a script on standard input"));
    }
    Ok(Some(text))
}

fn read(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|e| {
        Error::user("cli.read", format!("cannot read `{}`: {e}", path.display())).hint("give the path of a UTF-8 file")
    })
}

struct Runner {
    session: Session,
    services: PlanServices,
    environment: Environment,
    quiet: bool,
    /// A shell: plans are drawn, and the oldest rows of a large table give way.
    interactive: bool,
    json: bool,
    result_mode: Option<ResultMode>,
    background: Vec<Follower>,
}

impl Runner {
    fn new(args: &SqlArgs) -> Result<Self> {
        let config = configuration(args)?;
        test_switches(args)?;
        Ok(Runner {
            session: Session::new(config),
            services: PlanServices { registry: registry(), source_transform },
            environment: Environment {
                fence_disabled: args.test_only.iter().any(|s| s == "fence=off"),
                ..Environment::default()
            },
            quiet: args.quiet || args.json,
            interactive: false,
            json: args.json,
            result_mode: args.result_mode,
            background: Vec::new(),
        })
    }

    /// How results are shown now: the argument wins over the option.
    fn style(&self) -> Style {
        if self.json {
            return Style::Json;
        }
        let configured = self.session.config().enum_value(keys::RESULT_MODE).map(str::to_ascii_lowercase);
        Style::Text(self.result_mode.unwrap_or(match configured.as_deref() {
            Some("changelog") => ResultMode::Changelog,
            Some("tableau") => ResultMode::Tableau,
            _ => ResultMode::Table,
        }))
    }

    fn limits(&self) -> Limits {
        let config = self.session.config();
        // As in Flink no positive number is no limit but that of the type.
        let rows = config.int(keys::MAX_TABLE_RESULT_ROWS).filter(|n| *n > 0).unwrap_or(i64::from(i32::MAX));
        Limits {
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            // A script whose table is cut without having been told to would pass for complete.
            oldest_give_way: self.interactive || config.is_set(keys::MAX_TABLE_RESULT_ROWS),
            shown: if self.interactive { SHOWN_IN_SHELL } else { usize::MAX },
            live: !self.quiet && terminal::draws(&std::io::stdout()),
        }
    }

    /// What completes a word.
    fn names(&self) -> Names {
        Names { tables: self.session.catalog().names(), functions: self.session.function_names() }
    }

    fn script(&mut self, text: &str) -> Result<()> {
        let mut script = self.session.parse_script(text)?;
        while let Some(statement) = script.next_statement()? {
            self.statement(&statement)?;
            if interrupt::pressed() {
                return Err(interrupt::error());
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: &flott_sql::ParsedStatement) -> Result<()> {
        let style = self.style();
        let printer = QueryPrinter::new(style, self.limits());
        let sink = |query: &QueryInfo| -> Arc<dyn Sink> { printer.sink(query) };
        match self.session.plan(statement, &self.services, &sink)? {
            Planned::Done { message, notices } => {
                for notice in notices {
                    eprintln!("notice: {notice}");
                }
                let message = message.or_else(|| self.interactive.then(|| "OK".to_owned()));
                if let (Some(message), false) = (message, self.quiet) {
                    eprintln!("{message}");
                }
                Ok(())
            }
            Planned::Rows { columns, rows } => {
                results::print_rows(style, &columns, &rows);
                Ok(())
            }
            Planned::Plan { text, warnings } => {
                let text = if self.interactive && !self.json { tree::drawn(&text) } else { text };
                results::print_rows(style, &[Column::new("result", TypeKind::STRING.nullable())], &[vec![Some(text)]]);
                warnings.iter().for_each(|w| eprintln!("warning: {w}"));
                Ok(())
            }
            Planned::Job { graph, query, warnings, .. } => {
                for warning in warnings {
                    eprintln!("warning: {warning}");
                }
                let config = self.session.config().clone();
                for notice in config.lint() {
                    eprintln!("notice: {notice}");
                }
                let restore = query.is_none();
                let config = if restore { config } else { query_config(&config)? };
                let client = submit(&graph, &config, &self.environment)?;
                // The first job decides what the process may hold; later ones share it.
                self.environment.memory = client.memory().clone();
                match query {
                    Some(query) => self.query(client, &query, &printer),
                    None => self.insert(Follower::new(client, self.quiet), config.bool(keys::DML_SYNC)),
                }
            }
        }
    }

    fn query(&mut self, client: flott_launcher::JobClient, query: &QueryInfo, printer: &QueryPrinter) -> Result<()> {
        match printer.run(&client, query)? {
            Outcome::Ended(JobStatus::Failed(e)) => Err(e),
            Outcome::Ended(_) | Outcome::Unread => Ok(()),
            Outcome::Left => {
                eprintln!("the query was ended");
                Ok(())
            }
            Outcome::Interrupted => {
                eprintln!("the query was cancelled");
                Err(interrupt::error())
            }
        }
    }

    fn insert(&mut self, follower: Follower, sync: bool) -> Result<()> {
        if sync {
            return follower.finish();
        }
        self.background.push(follower);
        Ok(())
    }

    /// Jobs submitted without `table.dml-sync` run beside the statements that follow; the process ends when they have.
    fn await_background(self) -> Result<()> {
        let mut first = Ok(());
        for follower in self.background {
            let done = follower.finish();
            first = first.and(done);
        }
        first
    }

    /// Says how the jobs beside the shell ended that have.
    fn report_ended(&mut self) {
        let (ended, running) = std::mem::take(&mut self.background).into_iter().partition(Follower::has_ended);
        self.background = running;
        for follower in ended {
            if let Err(e) = Follower::finish(follower) {
                output::error(&e, None);
            }
        }
    }

    /// Lists the jobs that run beside the shell.
    fn show_jobs(&self) {
        let header = ["job id", "job name", "status", "rows in", "rows out", "restarts"].map(str::to_owned);
        let rows: Vec<Vec<String>> = self.background.iter().map(Follower::row).collect();
        print!("{}", output::table(&header, &[false, false, false, true, true, true], &rows));
    }

    /// Cancels the job of an id, or of the beginning of one, or all; says why not if there is none, or more than one.
    fn stop_jobs(&mut self, id: &str) -> std::result::Result<(), String> {
        let all = id.eq_ignore_ascii_case("all");
        let is_meant = |f: &Follower| all || (!id.is_empty() && f.job_id().starts_with(id));
        match self.background.iter().filter(|f| is_meant(f)).count() {
            0 => return Err(format!("no job `{id}` runs; \\jobs lists them")),
            n if n > 1 && !all => return Err(format!("{n} jobs begin with `{id}`; \\jobs lists them")),
            _ => {}
        }
        let background = std::mem::take(&mut self.background).into_iter();
        let (chosen, others): (Vec<_>, Vec<_>) = background.partition(is_meant);
        self.background = others;
        chosen.into_iter().for_each(Follower::cancel);
        Ok(())
    }

    /// Ends the jobs beside the statements because the process ends.
    fn suspend_background(&mut self) {
        self.background.drain(..).for_each(Follower::suspend);
    }
}

/// A query is not a job to be continued: it neither restores nor leaves checkpoints.
fn query_config(config: &Configuration) -> Result<Configuration> {
    let mut config = config.clone();
    for key in [keys::RECOVERY_PATH, keys::CHECKPOINT_INTERVAL, keys::CHECKPOINT_DIR, keys::PIPELINE_JOB_ID] {
        config.reset(key)?;
    }
    Ok(config)
}

fn configuration(args: &SqlArgs) -> Result<Configuration> {
    let mut config = Configuration::new();
    let mut notices = Vec::new();
    if let Some(dir) = &args.config_dir {
        let (yaml, legacy) = (dir.join("config.yaml"), dir.join("flink-conf.yaml"));
        if yaml.exists() {
            notices.extend(config.load_yaml(&yaml.display().to_string(), &read(&yaml)?)?);
        } else {
            notices.extend(config.load_flink_conf(&legacy.display().to_string(), &read(&legacy)?)?);
        }
    }
    for property in &args.define {
        notices.extend(config.set_property(property)?);
    }
    if let Some(path) = &args.from_savepoint {
        config.set(keys::RECOVERY_PATH, path)?;
    }
    if args.allow_non_restored_state {
        config.set(keys::RECOVERY_IGNORE_UNCLAIMED, "true")?;
    }
    for notice in notices {
        eprintln!("notice: {notice}");
    }
    Ok(config)
}

/// `--test-only pause-at=POINT[@N]`: at the N-th time execution reaches the point, says so and waits to be killed.
fn test_switches(args: &SqlArgs) -> Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    for switch in &args.test_only {
        match switch.split_once('=') {
            Some(("pause-at", point)) => {
                let (point, nth) = point.split_once('@').unwrap_or((point, "1"));
                let (point, nth) = (point.to_owned(), nth.parse::<u64>().unwrap_or(1));
                let reached = AtomicU64::new(0);
                flott_core::crash_point::install(move |at| {
                    if at == point && reached.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                        eprintln!("PAUSED {at}");
                        loop {
                            std::thread::park();
                        }
                    }
                });
            }
            Some(("fence", "off")) => {}
            _ => return Err(Error::user("cli.test-only", format!("unknown test switch `{switch}`"))),
        }
    }
    Ok(())
}
