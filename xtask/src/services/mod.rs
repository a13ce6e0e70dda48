//! `cargo xtask services`: real servers for tests, on loopback, each with its own port and directory. Never touches a process it did
//! not start: it stops by pid, and only when the process of that pid is still the one it started.

use std::path::PathBuf;
use std::thread;

mod debian;
mod instance;
pub mod jars;
mod probe;
mod recipe;

pub use instance::{Instance, signal};
pub use recipe::{Service, kafka_jars};

const USAGE: &str = "\
cargo xtask services up [NAME…]              start them; without names all: kafka kafka-tv1 zookeeper mariadb postgres opensearch
cargo xtask services down [NAME…]            stop them and delete their data
cargo xtask services restart [--kill] NAME…  stop (or SIGKILL) and start again, same data, same port
cargo xtask services status                  a table
cargo xtask services env                     `export FLOTT_TEST_…=…` for those that are up
Data lies in $FLOTT_SERVICES_DIR, by default flott-services-UID in the system's temporary directory.";

/// Runs one of the verbs.
pub fn run(args: &[String]) -> Result<(), String> {
    let verb = args.first().map(String::as_str);
    let mut names = args.get(1..).unwrap_or_default().to_vec();
    let kill = names.iter().position(|n| n == "--kill").map(|at| names.remove(at)).is_some();
    let named = names.iter().map(|n| Service::from_name(n)).collect::<Result<Vec<_>, _>>()?;
    let instances = |all: &[Service]| {
        let chosen = if named.is_empty() { all } else { &named };
        let dir = directory();
        chosen.iter().map(|s| Instance::new(*s, &dir)).collect::<Vec<_>>()
    };
    match verb {
        Some("up") => up(&instances(Service::ALL)),
        Some("down") => down(&instances(Service::ALL)),
        Some("restart") if !named.is_empty() => restart(&instances(&[]), kill),
        Some("status") => {
            print!("{}", status(&instances(Service::ALL)));
            Ok(())
        }
        Some("env") => {
            print!("{}", environment(&instances(Service::ALL)));
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

/// Where the servers of this user keep their data.
#[allow(clippy::disallowed_methods, reason = "a developer tool, not the product")]
pub fn directory() -> PathBuf {
    if let Ok(dir) = std::env::var("FLOTT_SERVICES_DIR") {
        return PathBuf::from(dir);
    }
    std::env::temp_dir().join(format!("flott-services-{}", instance::uid().unwrap_or_default()))
}

/// Starts what is not up, all at once; every failure is one line (and the end of the log), and none hides another.
pub fn up(instances: &[Instance]) -> Result<(), String> {
    let services: Vec<Service> = instances.iter().map(Instance::service).collect();
    // What cannot be installed shows below, service by service.
    if let Err(message) = debian::install(&services) {
        eprintln!("{message}");
    }
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let started: Vec<_> = instances.iter().map(|i| scope.spawn(move || i.up())).collect();
        started.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("the starting thread panicked".into()))).collect()
    });
    let mut failures = 0;
    for (instance, result) in instances.iter().zip(results) {
        match result {
            Ok(()) => println!("{:<11} up at {}", instance.service().name(), instance.address()),
            Err(message) => {
                failures += 1;
                eprintln!("{:<11} cannot be had: {message}", instance.service().name());
            }
        }
    }
    if failures == 0 { Ok(()) } else { Err(format!("{failures} of {} services are not up", instances.len())) }
}

/// Stops and forgets.
pub fn down(instances: &[Instance]) -> Result<(), String> {
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let stopped: Vec<_> = instances.iter().map(|i| scope.spawn(move || i.down())).collect();
        stopped.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("the stopping thread panicked".into()))).collect()
    });
    results.into_iter().collect()
}

fn restart(instances: &[Instance], kill: bool) -> Result<(), String> {
    for instance in instances {
        instance.restart(kill)?;
        println!("{:<11} up at {}", instance.service().name(), instance.address());
    }
    Ok(())
}

fn status(instances: &[Instance]) -> String {
    let mut text = format!("{:<11} {:<8} {:>6} {:>7} {:>7}  directory\n", "service", "state", "port", "pid", "RSS MB");
    for instance in instances {
        let state = instance.state();
        let pid = state.pid.map_or("–".to_owned(), |p| p.to_string());
        let rss = state.rss_mb.map_or("–".to_owned(), |r| r.to_string());
        let word = match (state.pid, state.ready) {
            (Some(_), true) => "up",
            (Some(_), false) => "not ready",
            (None, _) => "down",
        };
        let port = instance.port();
        let name = instance.service().name();
        text += &format!("{name:<11} {word:<8} {port:>6} {pid:>7} {rss:>7}  {}\n", instance.dir().display());
    }
    text
}

/// What tests read to find the servers that are up.
pub fn environment(instances: &[Instance]) -> String {
    let up = instances.iter().filter(|i| i.state().ready);
    up.map(|i| format!("export {}={}\n", i.service().variable(), i.url())).collect()
}
