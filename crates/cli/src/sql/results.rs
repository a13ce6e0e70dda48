//! Shows the rows of a query: as a table, as changes, or as JSON lines. Rows go to standard output, everything else does not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufWriter, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use flott_core::error::{Error, Result};
use flott_core::sink::Sink;
use flott_core::types::Column;
use flott_core::{ChangeBatch, RowKind};
use flott_launcher::{CollectHandle, CollectSink, JobClient, JobStatus, parse_zone, result_writer};
use flott_sql::QueryInfo;

use super::json;
use crate::args::ResultMode;
use crate::output;

/// How long to wait for rows before looking at the job.
const POLL: Duration = Duration::from_millis(20);
/// Rows a table on the screen may hold, as `sql-client.execution.max-table-result.rows`.
const TABLE_ROWS_MAX: usize = 1_000_000;

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// JSON lines.
    Json,
    /// For people.
    Text(ResultMode),
}

/// Shows the result of one query.
pub struct QueryPrinter {
    style: Style,
    handle: RefCell<Option<CollectHandle>>,
}

impl QueryPrinter {
    /// A printer that has not met its query yet.
    pub fn new(style: Style) -> Self {
        QueryPrinter { style, handle: RefCell::new(None) }
    }

    /// The sink of the query.
    pub fn sink(&self, query: &QueryInfo) -> Arc<dyn Sink> {
        let (sink, handle) = CollectSink::new(query.mode, 64);
        *self.handle.borrow_mut() = Some(handle);
        Arc::new(sink)
    }

    /// Shows rows until the job ends.
    pub fn run(&self, client: &JobClient, query: &QueryInfo) -> Result<JobStatus> {
        let handle = self.handle.borrow_mut().take();
        let handle = handle.ok_or_else(|| Error::bug("a query was planned without its sink"))?;
        let mut show: Box<dyn Show> = match self.style {
            Style::Json => Box::new(Lines::new(query, true)),
            Style::Text(ResultMode::Changelog) => Box::new(Lines::new(query, false)),
            Style::Text(ResultMode::Tableau) => Box::new(Table::new(query, true)),
            Style::Text(ResultMode::Table) => Box::new(Table::new(query, false)),
        };
        loop {
            // The status is read before the rows: what comes after a final status is all there is.
            let status = client.status();
            let mut quiet = true;
            while let Some(batch) = handle.next(if quiet && !status.is_terminal() { POLL } else { Duration::ZERO }) {
                quiet = false;
                if !show.batch(&batch)? {
                    client.cancel();
                    return Ok(JobStatus::Canceled);
                }
            }
            if status.is_terminal() {
                // What a failed job gave is not a result: changes stay as they were shown, a table is not.
                if matches!(status, JobStatus::Failed(_)) {
                    show.flush()?
                } else {
                    show.end()?
                }
                return Ok(status);
            }
            show.flush()?;
        }
    }
}

trait Show {
    /// False when nobody reads any more.
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool>;
    fn flush(&mut self) -> Result<()>;
    fn end(&mut self) -> Result<()>;
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
}

/// The final table, or a table of changes.
struct Table {
    query: QueryInfo,
    with_op: bool,
    /// Rows in order of arrival; a retracted one leaves a hole.
    rows: Vec<Option<Vec<String>>>,
    places: HashMap<Vec<String>, Vec<usize>>,
}

impl Table {
    fn new(query: &QueryInfo, with_op: bool) -> Self {
        Table { query: query.clone(), with_op, rows: Vec::new(), places: HashMap::new() }
    }
}

impl Show for Table {
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool> {
        for (i, row) in cells(batch, &self.query).into_iter().enumerate() {
            let kind = batch.kind(i);
            if self.with_op {
                let mut with_op = vec![kind.short().to_owned()];
                with_op.extend(row);
                self.rows.push(Some(with_op));
            } else if kind.is_add() {
                self.places.entry(row.clone()).or_default().push(self.rows.len());
                self.rows.push(Some(row));
            } else if let Some(place) = self.places.get_mut(&row).and_then(Vec::pop) {
                self.rows[place] = None;
            } else if kind == RowKind::Delete || kind == RowKind::UpdateBefore {
                return Err(Error::bug(format!("{} of a row that is not in the result: {row:?}", kind.short())));
            }
            if self.rows.len() > TABLE_ROWS_MAX {
                return Err(Error::user(
                    "cli.too-many-rows",
                    format!("the result has more than {TABLE_ROWS_MAX} changes"),
                )
                .hint("use --result-mode changelog or --json, or write it to a table with INSERT INTO"));
            }
        }
        Ok(true)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn end(&mut self) -> Result<()> {
        let rows: Vec<Vec<String>> = self.rows.drain(..).flatten().collect();
        let mut header: Vec<String> = self.query.columns.iter().map(|c| c.name.clone()).collect();
        let mut right: Vec<bool> = self.query.columns.iter().map(|c| c.data_type.kind.is_numeric()).collect();
        if self.with_op {
            header.insert(0, "op".to_owned());
            right.insert(0, false);
        }
        print!("{}", output::table(&header, &right, &rows));
        if std::io::stdout().is_terminal() {
            println!("{} row{}", rows.len(), if rows.len() == 1 { "" } else { "s" });
        }
        Ok(())
    }
}

/// The texts of the rows of a batch.
fn cells(batch: &ChangeBatch, query: &QueryInfo) -> Vec<Vec<String>> {
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
