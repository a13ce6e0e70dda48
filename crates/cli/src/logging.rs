//! Where log lines go: standard error, as text. Never standard output, which belongs to results.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber: warnings by default, more with each `-v`; `RUST_LOG` wins. Without `-v` the sentences on checkpoints and memory
/// are left to whoever follows the job, which shows them once.
pub fn init(verbose: u8) {
    let level = ["warn,flott::diagnosis=off", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
