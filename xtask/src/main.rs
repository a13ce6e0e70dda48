//! Developer tasks: `cargo xtask tidy | bench | crash | docs`. Never part of the product.

use std::process::ExitCode;

mod bench;
mod crash;
mod docs;
#[cfg(test)]
mod errors;
mod tidy;

const USAGE: &str = "\
cargo xtask tidy                     check the layout: imports, first lines, sizes
cargo xtask bench nexmark [--queries q0,q5] [--events N] [--parallelism P] [--checkpoint-interval D] [--json]
cargo xtask bench checkpoint         what checkpoints cost: interleaved pairs with and without
cargo xtask crash [--kills N] [--seed S] [--switch-off fence|dedup]
cargo xtask docs                     write the generated pages under docs/";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("tidy") => tidy::run(),
        Some("bench") => bench::run(rest),
        Some("crash") => crash::run(rest),
        Some("docs") => docs::run(),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
