//! Developer tasks: `cargo xtask tidy | bench | crash | services | docs` …. Never part of the product.

use std::process::ExitCode;

mod bench;
mod child;
mod crash;
#[cfg(feature = "docs")]
mod docs;
mod e2e;
#[cfg(test)]
mod errors;
mod flink;
mod flink_diff;
#[cfg(feature = "docs")]
mod functions;
mod services;
mod tidy;

const USAGE: &str = "\
cargo xtask tidy                     check the layout: imports, first lines, sizes
cargo xtask bench nexmark [--queries q0,q5] [--events N] [--parallelism 1,2] [--checkpoint-interval off,5s] [--peer flink] [--json]
cargo xtask bench checkpoint         what checkpoints cost: interleaved pairs with and without
cargo xtask bench kafka [--records N] [--peer flink]   Kafka pipelines beside a bare consumer and Flink
cargo xtask bench latency [ROWS_PER_SECOND] [SECONDS] [PARALLELISM]   percentiles of a keyed count
cargo xtask bench exchange [BATCHES [alone]]   a hash exchange between processes, beside a plain TCP copy of the same bytes
cargo xtask crash [--kills N] [--seed S] [--switch-off fence|dedup]
cargo xtask flink-diff [FILE…] [--record]   the cases of tests/sql and tests/flink on stock Flink
cargo xtask e2e kafka-mysql …        jobs on real servers, with kills and restarts
cargo xtask services up|down|restart|status|env [NAME…]   real servers on loopback, for tests
cargo xtask docs                     write the generated pages under docs/";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("tidy") => tidy::run(),
        Some("bench") => bench::run(rest),
        Some("crash") => crash::run(rest),
        Some("e2e") => e2e::run(rest),
        Some("services") => services::run(rest),
        #[cfg(feature = "docs")]
        Some("docs") => docs::run(),
        Some("flink-diff") => flink_diff::run(rest),
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
