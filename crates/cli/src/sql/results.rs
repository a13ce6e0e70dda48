//! Shows the rows of a query: as a table, as changes, or as JSON lines. Rows go to standard output, everything else does not.

use std::cell::RefCell;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use flott_core::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::sink::Sink;
use flott_core::types::Column;
use flott_launcher::{CollectHandle, CollectSink, JobClient, JobStatus, parse_zone, result_writer};
use flott_sql::QueryInfo;

use super::tables::{Table, Tableau};
use super::{interrupt, json};
use crate::args::ResultMode;
use crate::output;

/// How long to wait for rows before looking at the job.
const POLL: Duration = Duration::from_millis(20);

/// Batches that are taken before a look at the keyboard and the screen: a fast source always has another one.
const BATCHES_PER_LOOK: usize = 8;

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// JSON lines.
    Json,
    /// For people.
    Text(ResultMode),
}

/// What a table may hold and show.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows it may hold, `sql-client.execution.max-table-result.rows`.
    pub rows: usize,
    /// Beyond that the oldest are dropped; else it is an error.
    pub oldest_give_way: bool,
    /// Rows that are printed of it at the end: the last ones.
    pub shown: usize,
    /// It is shown while it changes.
    pub live: bool,
}

/// How a query ended.
pub enum Outcome {
    /// Its job ended.
    Ended(JobStatus),
    /// Nobody reads standard output any more.
    Unread,
    /// The user left it with a key.
    Left,
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Shows the result of one query.
pub struct QueryPrinter {
    style: Style,
    limits: Limits,
    handle: RefCell<Option<CollectHandle>>,
}

impl QueryPrinter {
    /// A printer that has not met its query yet.
    pub fn new(style: Style, limits: Limits) -> Self {
        QueryPrinter { style, limits, handle: RefCell::new(None) }
    }

    /// The sink of the query.
    pub fn sink(&self, query: &QueryInfo) -> Arc<dyn Sink> {
        let (sink, handle) = CollectSink::new(query.mode, 64);
        *self.handle.borrow_mut() = Some(handle);
        Arc::new(sink)
    }

    /// Shows rows until the job ends, or the user has enough of it.
    pub fn run(&self, client: &JobClient, query: &QueryInfo) -> Result<Outcome> {
        let handle = self.handle.borrow_mut().take();
        let handle = handle.ok_or_else(|| Error::bug("a query was planned without its sink"))?;
        let mut show: Box<dyn Show> = match self.style {
            Style::Json => Box::new(Lines::new(query, true)),
            Style::Text(ResultMode::Changelog) => Box::new(Lines::new(query, false)),
            Style::Text(ResultMode::Tableau) => Box::new(Tableau::new(query)),
            Style::Text(ResultMode::Table) => Box::new(Table::new(query, self.limits)),
        };
        loop {
            // The status is read before the rows: what comes after a final status is all there is.
            let status = client.status();
            let mut batches = 0;
            while let Some(batch) =
                handle.next(if batches == 0 && !status.is_terminal() { POLL } else { Duration::ZERO })
            {
                batches += 1;
                if !show.batch(&batch).inspect_err(|_| client.cancel())? {
                    client.cancel();
                    return Ok(Outcome::Unread);
                }
                if interrupt::pressed() || (batches >= BATCHES_PER_LOOK && !status.is_terminal()) {
                    break;
                }
            }
            if interrupt::pressed() || show.is_left() {
                cancelled(client, &handle);
                show.leave()?;
                return Ok(if interrupt::pressed() { Outcome::Interrupted } else { Outcome::Left });
            }
            if status.is_terminal() {
                // What a failed job gave is not a result: changes stay as they were shown, a table is not.
                if matches!(status, JobStatus::Failed(_)) {
                    show.leave()?
                } else {
                    show.end()?
                }
                return Ok(Outcome::Ended(status));
            }
            show.flush()?;
        }
    }
}

/// Cancels the job and waits for its end; the rows that still come are thrown away.
fn cancelled(client: &JobClient, handle: &CollectHandle) {
    client.cancel();
    while !client.status().is_terminal() {
        let _ = handle.next(POLL);
    }
}

/// Shows changes as they come.
pub trait Show {
    /// False when nobody reads any more.
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool>;
    /// A moment without rows.
    fn flush(&mut self) -> Result<()>;
    /// Whether the user wants to see no more.
    fn is_left(&self) -> bool {
        false
    }
    /// The result is complete.
    fn end(&mut self) -> Result<()>;
    /// It will not be complete.
    fn leave(&mut self) -> Result<()>;
}

/// A line a change.
struct Lines {
    query: QueryInfo,
    json: bool,
    out: BufWriter<std::io::Stdout>,
}

impl Lines {
    fn new(query: &QueryInfo, json: bool) -> Self {
        Lines { query: query.clone(), json, out: BufWriter::new(std::io::stdout()) }
    }
}

impl Show for Lines {
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool> {
        let mut texts = if self.json { Vec::new() } else { cells(batch, &self.query) }.into_iter();
        for i in 0..batch.num_rows() {
            let line = match texts.next() {
                Some(cells) => format!("{}[{}]", batch.kind(i).short(), cells.join(", ")),
                None => json::row(batch.kind(i), &self.query.columns, batch.rows.columns(), i).to_string(),
            };
            if writeln!(self.out, "{line}").is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
    fn flush(&mut self) -> Result<()> {
        // A closed pipe shows at the next line.
        let _ = self.out.flush();
        Ok(())
    }
    fn end(&mut self) -> Result<()> {
        self.flush()
    }
    fn leave(&mut self) -> Result<()> {
        self.flush()
    }
}

/// The texts of the rows of a batch.
pub fn cells(batch: &ChangeBatch, query: &QueryInfo) -> Vec<Vec<String>> {
    let zone = parse_zone(&query.zone).unwrap_or_default();
    let columns = batch.rows.columns().iter().zip(&query.columns);
    let writers: Vec<_> = columns.map(|(array, column)| result_writer(array, &column.data_type.kind, zone)).collect();
    let cell = |write: &dyn Fn(usize, &mut String), i| {
        let mut text = String::new();
        write(i, &mut text);
        text
    };
    (0..batch.num_rows()).map(|i| writers.iter().map(|w| cell(w.as_ref(), i)).collect()).collect()
}

/// Prints the rows of SHOW, DESCRIBE, EXPLAIN.
pub fn print_rows(style: Style, columns: &[Column], rows: &[Vec<Option<String>>]) {
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let columns = names.as_slice();
    let stdout = std::io::stdout();
    let mut out = stdout.lock();
    // Nobody to tell when standard output is closed.
    let _ = match style {
        Style::Json => rows.iter().try_for_each(|row| {
            let mut object = serde_json::Map::new();
            object.insert("op".to_owned(), "+I".into());
            object.extend(
                columns.iter().cloned().zip(row.iter().map(|v| v.clone().map_or(serde_json::Value::Null, Into::into))),
            );
            writeln!(out, "{}", serde_json::Value::Object(object))
        }),
        Style::Text(_) if columns.len() == 1 && rows.len() == 1 => {
            writeln!(out, "{}", rows[0][0].as_deref().unwrap_or("NULL"))
        }
        Style::Text(_) => {
            let rows: Vec<Vec<String>> =
                rows.iter().map(|r| r.iter().map(|v| v.clone().unwrap_or_else(|| "NULL".into())).collect()).collect();
            write!(out, "{}", output::table(columns, &vec![false; columns.len()], &rows))
        }
    };
}
