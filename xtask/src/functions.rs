//! The page `docs/compat/functions.md`: each function of Flink with an example that is run here; what runs works. Never says what no run has shown.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flott_core::config::Configuration;
use flott_core::sink::Sink;
use flott_launcher::{CollectSink, Environment, JobStatus, registry, source_transform, submit};
use flott_sql::{PlanServices, Planned, QueryInfo, Session};

const FUNCTIONS: &str = include_str!("functions/flink-functions.tsv");
/// An example makes a few rows at once; one that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Batches an example may give.
const BATCHES_MAX: usize = 64;

const INTRO: &str = "\
<!-- Written by `cargo xtask docs`: do not edit. -->
# Functions of Flink 2.3

All definitions of Flink's `BuiltInFunctionDefinitions`. *Works* means that the example was planned and run when this page was written, and
is again by the tests of the project; what the function gives is compared with Flink's rows in `tests/flink`. Where the name differs from the SQL, Flink's own name stands in parentheses.
";

/// A definition of Flink.
struct Definition<'a> {
    name: &'a str,
    sql: &'a str,
    kind: &'a str,
    /// An expression, or a script whose last statement is the query.
    example: &'a str,
    /// Why Flott does not have it; empty for what it should have.
    refused: &'a str,
}

fn definitions() -> impl Iterator<Item = Definition<'static>> {
    FUNCTIONS.lines().filter(|l| !l.starts_with('#')).map(|line| {
        let mut parts = line.split('\t');
        let mut next = || parts.next().unwrap_or_default();
        Definition { name: next(), sql: next(), kind: next(), example: next(), refused: next() }
    })
}

impl Definition<'_> {
    fn script(&self) -> String {
        match self.example {
            e if e.starts_with("SELECT ") || e.starts_with("CREATE ") => e.to_owned(),
            e => format!("SELECT {e}"),
        }
    }

    /// The name in SQL, and Flink's where that is another word.
    fn title(&self) -> String {
        let plain = |s: &str| s.replace('_', "").to_lowercase();
        match plain(self.name) == plain(self.sql) || self.name.starts_with('$') {
            true => format!("`{}`", self.sql),
            false => format!("`{}` ({})", self.sql, self.name),
        }
    }
}

/// Plans the script and runs its query to the end.
fn run(script: &str) -> Result<(), String> {
    let mut session = Session::new(Configuration::new());
    let services = PlanServices { registry: registry(), source_transform };
    let collect = |query: &QueryInfo| -> Arc<dyn Sink> { Arc::new(CollectSink::new(query.mode, BATCHES_MAX).0) };
    let text = |e: flott_core::Error| e.to_string();
    for statement in session.parse_script(script).map_err(text)? {
        let planned = session.plan(&statement, &services, &collect).map_err(text)?;
        let Planned::Job { graph, .. } = planned else { continue };
        let client = submit(&graph, session.config(), &Environment::default()).map_err(text)?;
        match client.wait(TIMEOUT) {
            JobStatus::Finished => {}
            JobStatus::Failed(e) => return Err(e.to_string()),
            other => return Err(format!("the job does not end: {other:?}")),
        }
    }
    Ok(())
}

/// The page, from runs of all examples.
pub fn markdown() -> String {
    let mut table = String::new();
    let (mut works, mut refused, mut missing) = (0, 0, 0);
    for definition in definitions() {
        let runs = !definition.example.is_empty() && run(&definition.script()).is_ok();
        let status = match (runs, definition.refused) {
            (true, _) => {
                works += 1;
                "works".to_owned()
            }
            (false, "") => {
                missing += 1;
                "not yet".to_owned()
            }
            (false, reason) => {
                refused += 1;
                format!("refused: {reason}")
            }
        };
        let example = match definition.example {
            "" => String::new(),
            e => format!("`{}`", e.replace('|', "\\|")),
        };
        let _ = writeln!(table, "| {} | {} | {status} | {example} |", definition.title(), definition.kind);
    }
    format!(
        "{INTRO}\n{works} of {} work, {refused} are refused for a reason, {missing} are missing.\n\n\
         | function | kind | status | example |\n|---|---|---|---|\n{table}",
        works + refused + missing
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_definitions_are_those_of_flink_each_once() {
        let names: HashSet<&str> = definitions().map(|d| d.name).collect();
        assert_eq!((names.len(), definitions().count()), (256, 256));
    }

    #[test]
    fn what_is_refused_does_not_run_and_what_is_not_has_an_example() {
        for definition in definitions() {
            match definition.refused {
                "" => assert!(!definition.example.is_empty(), "{} has no example", definition.name),
                _ if definition.example.is_empty() => {}
                reason => assert!(
                    run(&definition.script()).is_err(),
                    "{} works but is said to be refused: {reason}",
                    definition.name
                ),
            }
        }
    }
}
