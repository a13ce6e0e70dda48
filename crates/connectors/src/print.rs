//! The `print` and `blackhole` sinks: rows to a standard stream, or nowhere; neither takes part in exactly-once.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::{ChangelogMode, Committable, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::source::Source;
use flott_core::{ChangeBatch, CheckpointId, Error, Result};

use crate::options::{TableOptions, option};
use crate::text::render_row;

/// Options of `print`.
pub const PRINT_OPTIONS: &[OptionSpec] = &[
    option("print-identifier", "STRING", "", false, "Text in front of each row."),
    option("standard-error", "BOOLEAN", "false", false, "Prints to standard error instead of standard output."),
];

/// The factory of `print`.
pub struct PrintFactory;
/// The factory of `blackhole`.
pub struct BlackholeFactory;

fn cannot_read(table: &TableSpec, connector: &str) -> Error {
    Error::user("table.not-readable", format!("table `{}`: the connector '{connector}' cannot be read", table.name))
        .hint("it is a sink: use the table after INSERT INTO only")
}

impl ConnectorFactory for PrintFactory {
    fn identifier(&self) -> &'static str {
        "print"
    }
    fn options(&self) -> &'static [OptionSpec] {
        PRINT_OPTIONS
    }
    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        Err(cannot_read(table, "print"))
    }
    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        let o = TableOptions::checked(table, &[PRINT_OPTIONS])?;
        let target = if o.flag("standard-error", false)? { Target::Stderr } else { Target::Stdout };
        Ok(Arc::new(PrintSink::new(o.text("print-identifier").unwrap_or_default(), target)))
    }
}

impl ConnectorFactory for BlackholeFactory {
    fn identifier(&self) -> &'static str {
        "blackhole"
    }
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }
    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        Err(cannot_read(table, "blackhole"))
    }
    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        TableOptions::checked(table, &[])?;
        Ok(Arc::new(BlackholeSink))
    }
}

/// Where rows are printed.
#[derive(Clone)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A buffer, for tests.
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Target {
    /// Writes whole lines; no other writer's text comes in between.
    fn write(&self, lines: &str) -> std::io::Result<()> {
        match self {
            Target::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(lines.as_bytes())?;
                out.flush()
            }
            Target::Stderr => std::io::stderr().lock().write_all(lines.as_bytes()),
            Target::Memory(buffer) => {
                buffer.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(lines.as_bytes());
                Ok(())
            }
        }
    }
}

/// Prints rows as Flink does: `identifier:subtask> +I[1, a]`; the subtask only when there are several.
pub struct PrintSink {
    identifier: String,
    target: Target,
}

impl PrintSink {
    /// A sink that prints to `target`.
    pub fn new(identifier: &str, target: Target) -> Self {
        PrintSink { identifier: identifier.to_owned(), target }
    }
}

impl Sink for PrintSink {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        let number = context.subtask + 1;
        let prefix = match (self.identifier.as_str(), context.parallelism > 1) {
            ("", false) => String::new(),
            ("", true) => format!("{number}> "),
            (id, false) => format!("{id}> "),
            (id, true) => format!("{id}:{number}> "),
        };
        Ok(Box::new(PrintWriter { prefix, target: self.target.clone(), lines: String::new(), context }))
    }
}

struct PrintWriter {
    prefix: String,
    target: Target,
    lines: String,
    context: SinkContext,
}

impl SinkWriter for PrintWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        self.lines.clear();
        for row in 0..batch.num_rows() {
            self.lines.push_str(&self.prefix);
            render_row(&batch.rows, row, batch.kind(row), &mut self.lines);
            self.lines.push('\n');
        }
        self.context.metrics.bytes.add(self.lines.len() as u64);
        self.target.write(&self.lines).map_err(|e| {
            Error::user("print.write", format!("cannot print {} rows: {e}", batch.num_rows()))
                .hint("the program that reads the output has ended, or the disk behind it is full")
        })?;
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}

/// Takes everything and keeps nothing. Upsert, so that nobody computes `-U` rows for it.
pub struct BlackholeSink;

impl Sink for BlackholeSink {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Upsert
    }
    fn writer(&self, _: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(BlackholeWriter))
    }
}

struct BlackholeWriter;

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, _: &ChangeBatch) -> Result<WriteStatus> {
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}
