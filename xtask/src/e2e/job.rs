//! The job under test: the example's own script, pointed at the servers of the run. Starts it as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Options, Stage};
use crate::child::Running;
use crate::tidy::root;

/// What the example's script assumes.
const EXAMPLE_KAFKA: &str = "127.0.0.1:29092";
const EXAMPLE_MYSQL: &str = "127.0.0.1:23306";

/// A job that can be started any number of times.
pub struct Job {
    binary: PathBuf,
    arguments: Vec<String>,
    dir: PathBuf,
}

impl Job {
    /// The example, adapted: the run's servers and directory.
    pub fn new(options: &Options, binary: &Path, stage: &Stage) -> Result<Self, String> {
        let arguments = if options.rust {
            let url = format!("jdbc:mysql://{}/shop", stage.mariadb.address());
            vec![stage.kafka.address(), url, stage.dir.join("chk").display().to_string()]
        } else {
            vec!["sql".into(), "-v".into(), "-f".into(), Self::script(options, stage)?]
        };
        Ok(Self { binary: binary.to_owned(), arguments, dir: stage.dir.clone() })
    }

    /// The example's script, with checkpoints as often as kills are near each other.
    fn script(options: &Options, stage: &Stage) -> Result<String, String> {
        let source = root().join("examples/kafka-to-mysql/kafka_to_mysql.sql");
        let mut script = fs::read_to_string(&source).map_err(|e| format!("{}: {e}", source.display()))?;
        replace(&mut script, EXAMPLE_KAFKA, &stage.kafka.address())?;
        replace(&mut script, EXAMPLE_MYSQL, &stage.mariadb.address())?;
        replace(&mut script, "'out/kafka-to-mysql/checkpoints'", &format!("'{}'", stage.dir.join("chk").display()))?;
        replace(
            &mut script,
            "'execution.checkpointing.interval' = '5 s'",
            "'execution.checkpointing.interval' = '1 s'",
        )?;
        if options.switch_off.as_deref() == Some("exactly-once") {
            replace(
                &mut script,
                "'sink.delivery-guarantee' = 'exactly-once'",
                "'sink.delivery-guarantee' = 'at-least-once'",
            )?;
        }
        let file = stage.dir.join("job.sql");
        fs::write(&file, script).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file.display().to_string())
    }

    /// Starts a process; it goes on from the last checkpoint if there is one.
    pub fn start(&self, pause_at: Option<&str>) -> Result<Running, String> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).current_dir(&self.dir);
        if let Some(point) = pause_at {
            command.args(["--test-only", &format!("pause-at={point}")]);
        }
        Running::spawn(&mut command)
    }
}

/// Replaces all occurrences; a text that is not there means that the example and the harness have grown apart.
pub fn replace(script: &mut String, from: &str, to: &str) -> Result<(), String> {
    if !script.contains(from) {
        return Err(format!("the example's script no longer has `{from}`"));
    }
    *script = script.replace(from, to);
    Ok(())
}
