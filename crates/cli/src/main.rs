//! The binary `flott`: the only reader of arguments and environment, and the only one that decides the exit code.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod logging;
mod output;
mod sql;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    logging::init(cli.verbose);
    let done = match cli.command {
        args::Command::Sql(sql_args) => sql::run(&sql_args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::error(&e);
            ExitCode::FAILURE
        }
    }
}
