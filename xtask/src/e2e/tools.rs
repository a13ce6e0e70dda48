//! The servers' own clients: Kafka's command-line classes and the `mariadb` program. The checks use nothing of ours.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::services::{Instance, kafka_jars};

/// A class of Kafka's tools, in a JVM of its own.
pub fn kafka(class: &str) -> Result<Command, String> {
    kafka_with_heap(class, 256)
}

/// The same with another heap.
pub fn kafka_with_heap(class: &str, heap_mb: u32) -> Result<Command, String> {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap_mb}m")).args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    java.arg("-cp").arg(format!("{}/*", kafka_jars()?.display())).arg(format!("org.apache.kafka.tools.{class}"));
    java.stdin(Stdio::null());
    Ok(java)
}

/// Creates a topic.
pub fn create_topic(broker: &Instance, topic: &str, partitions: u32) -> Result<(), String> {
    let mut command = kafka("TopicCommand")?;
    command.args(["--bootstrap-server", &broker.address(), "--create", "--topic", topic]);
    output(command.args(["--partitions", &partitions.to_string()])).map(drop)
}

/// How many records a topic holds, uncommitted ones included: the sum of its end offsets.
pub fn end_offsets(broker: &Instance, topic: &str) -> Result<u64, String> {
    let mut command = kafka("GetOffsetShell")?;
    let text = output(command.args(["--bootstrap-server", &broker.address(), "--topic", topic]))?;
    // topic:partition:offset
    Ok(text.lines().filter_map(|l| l.rsplit(':').next()?.parse::<u64>().ok()).sum())
}

/// Every committed record of a topic, one a line.
pub fn read_committed(broker: &Instance, topic: &str) -> Result<String, String> {
    let mut command = kafka("consumer.ConsoleConsumer")?;
    command.args(["--bootstrap-server", &broker.address(), "--topic", topic, "--from-beginning"]);
    // Ends when nothing more came for a while.
    command.args(["--isolation-level", "read_committed", "--timeout-ms", "8000"]);
    output(&mut command)
}

/// Runs statements on the database; columns are separated by tabs.
pub fn mysql(server: &Instance, database: &str, statements: &str) -> Result<String, String> {
    let mut command = mysql_client(server);
    output(command.args(["-N", "-B", "-D", database, "-e", statements]))
}

/// Runs a script file on the database.
pub fn mysql_script(server: &Instance, file: &Path) -> Result<(), String> {
    let script = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut command = mysql_client(server);
    output(command.args(["-e", &script])).map(drop)
}

/// The `mariadb` program, pointed at the server.
pub fn mysql_client(server: &Instance) -> Command {
    let mut command = Command::new("mariadb");
    command.args([
        "--no-defaults",
        "--protocol=tcp",
        "-h",
        "127.0.0.1",
        "-u",
        "root",
        "-P",
        &server.port().to_string(),
    ]);
    command.stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{:?} failed: {}", command.get_program(), text.trim()));
    }
    String::from_utf8(output.stdout).map_err(|e| e.to_string())
}
