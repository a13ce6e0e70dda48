//! The command line. Nothing here does anything but describe it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stateful stream processing with Flink's SQL, options and checkpoints.
#[derive(Parser, Debug)]
#[command(
    name = "flott",
    version,
    about,
    after_help = "\
Examples:
  flott sql                               a shell: completion, history, live tables
  flott sql -e \"SELECT 1\"
  flott sql -f job.sql -D parallelism.default=2
  flott sql -f job.sql -s latest          go on from the job's last checkpoint
  flott sql --json -e \"SELECT …\" | jq .  one JSON object a row, nothing else on standard output"
)]
pub struct Cli {
    /// Log more: -v for decisions, -vv for every checkpoint message.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `flott` can do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run SQL statements in this process: a script, or those typed into a shell when none is given.
    Sql(SqlArgs),
}

/// Arguments of `flott sql`.
#[derive(Args, Debug)]
pub struct SqlArgs {
    /// Script to run; `-` reads standard input. Ctrl-C suspends its job, a second one ends the process at once.
    #[arg(short, long, value_name = "FILE", conflicts_with = "execute")]
    pub file: Option<PathBuf>,
    /// Statements to run.
    #[arg(short, long, value_name = "STATEMENT")]
    pub execute: Option<String>,
    /// Script to run first: tables, views, settings.
    #[arg(short, long, value_name = "INIT")]
    pub init: Option<PathBuf>,
    /// Set an option; may be repeated. Wins over the configuration file, loses to SET.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
    /// Start from a checkpoint: a path, or `latest`.
    #[arg(short = 's', long = "from-savepoint", value_name = "PATH", alias = "fromSavepoint")]
    pub from_savepoint: Option<String>,
    /// Skip state of the checkpoint that no operator of the job takes.
    #[arg(short = 'n', long = "allow-non-restored-state", alias = "allowNonRestoredState")]
    pub allow_non_restored_state: bool,
    /// Directory with config.yaml or flink-conf.yaml.
    #[arg(long, value_name = "DIR", env = "FLINK_CONF_DIR")]
    pub config_dir: Option<PathBuf>,
    /// How results of SELECT are shown.
    #[arg(long, value_enum)]
    pub result_mode: Option<ResultMode>,
    /// One JSON object a row on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// File of the shell's history [default: flott/history in XDG_STATE_HOME or ~/.local/state]. Passwords are not written to it.
    #[arg(long, value_name = "FILE", env = "FLOTT_HISTORY")]
    pub history: Option<PathBuf>,
    /// No progress line, no table that changes in place.
    #[arg(short, long)]
    pub quiet: bool,
    /// Switches of the crash harness; never for production.
    #[arg(long, hide = true, value_name = "SWITCH")]
    pub test_only: Vec<String>,
}

/// How results of SELECT are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResultMode {
    /// The final table.
    Table,
    /// Every change, as it comes, with its row kind.
    Changelog,
    /// Every change, as a table that grows.
    Tableau,
}
