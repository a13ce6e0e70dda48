//! `flott sql`: runs a script statement by statement in this process.

mod follow;
mod json;
mod results;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::sink::Sink;
use flott_launcher::{Environment, JobStatus, registry, source_transform, submit};
use flott_sql::{PlanServices, Planned, QueryInfo, Session};

use crate::args::{ResultMode, SqlArgs};
use follow::Follower;
use results::{QueryPrinter, Style};

/// Runs the command.
pub fn run(args: &SqlArgs) -> Result<()> {
    let mut runner = Runner::new(args)?;
    if let Some(init) = &args.init {
        runner.script(&read(init)?)?;
    }
    match (&args.file, &args.execute) {
        (Some(file), _) => runner.script(&read(file)?)?,
        (None, Some(text)) => runner.script(text)?,
        (None, None) => {
            return Err(Error::user("cli.nothing", "there is nothing to run").hint("give -f FILE or -e STATEMENT"));
        }
    }
    runner.await_background()
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
    style: Style,
    quiet: bool,
    background: Vec<Follower>,
}

impl Runner {
    fn new(args: &SqlArgs) -> Result<Self> {
        let config = configuration(args)?;
        let mode = match args.result_mode {
            Some(mode) => mode,
            None => match config.enum_value(keys::RESULT_MODE).map(str::to_ascii_lowercase).as_deref() {
                Some("changelog") => ResultMode::Changelog,
                Some("tableau") => ResultMode::Tableau,
                _ => ResultMode::Table,
            },
        };
        test_switches(args)?;
        Ok(Runner {
            session: Session::new(config),
            services: PlanServices { registry: registry(), source_transform },
            environment: Environment {
                fence_disabled: args.test_only.iter().any(|s| s == "fence=off"),
                ..Environment::default()
            },
            style: if args.json { Style::Json } else { Style::Text(mode) },
            quiet: args.quiet || args.json,
            background: Vec::new(),
        })
    }

    fn script(&mut self, text: &str) -> Result<()> {
        let mut script = self.session.parse_script(text)?;
        while let Some(statement) = script.next_statement()? {
            self.statement(&statement)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &flott_sql::ParsedStatement) -> Result<()> {
        let printer = QueryPrinter::new(self.style);
        let sink = |query: &QueryInfo| -> Arc<dyn Sink> { printer.sink(query) };
        match self.session.plan(statement, &self.services, &sink)? {
            Planned::Done { message, notices } => {
                for notice in notices {
                    eprintln!("notice: {notice}");
                }
                if let (Some(message), false) = (message, self.quiet) {
                    eprintln!("{message}");
                }
                Ok(())
            }
            Planned::Rows { columns, rows } => {
                results::print_rows(self.style, &columns, &rows);
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
            JobStatus::Failed(e) => Err(e),
            _ => Ok(()),
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
