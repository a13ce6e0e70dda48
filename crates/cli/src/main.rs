//! The binary `flott`: the only reader of arguments and environment, and the only one that decides the exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

mod args;
mod logging;
mod output;
mod sql;
mod terminal;

/// Batches are made by one thread and freed by another: glibc's arenas cost 5 to 9 % more CPU on Nexmark with two subtasks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    logging::init(cli.verbose);
    let done = match cli.command {
        args::Command::Sql(sql_args) => sql::run(&sql_args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            let on_terminal = std::io::stderr().is_terminal();
            output::error(&failed.error, failed.text.as_deref().filter(|_| on_terminal));
            let interrupted = failed.error.code() == sql::INTERRUPTED;
            if interrupted { ExitCode::from(sql::INTERRUPTED_EXIT) } else { ExitCode::FAILURE }
        }
    }
}
