//! Results as tables: the final one, live on a terminal while it changes, and the table of changes that grows. Reads no rows itself.

use std::io::{BufWriter, IsTerminal, Write};

use flott_core::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::time::{SharedClock, SystemClock};
use flott_sql::QueryInfo;

use super::live::{Live, plural};
use super::materialised::Materialised;
use super::results::{Limits, Show, cells};
use crate::output;

/// How long a table of changes on a terminal waits for rows whose width it fits its columns to.
const FIT_NS: u64 = 500_000_000;
/// Rows that it waits for.
const FIT_ROWS: usize = 1_000;
/// Characters of a column of a table that is not done when its columns are fitted.
const WIDTH_MIN: usize = 10;

/// Names of the columns, and which of them are numbers.
fn header(query: &QueryInfo) -> (Vec<String>, Vec<bool>) {
    let names = query.columns.iter().map(|c| c.name.clone()).collect();
    (names, query.columns.iter().map(|c| c.data_type.kind.is_numeric()).collect())
}

/// A text whose control characters are pictures: they would move the cursor of a table that is drawn in place.
fn visible(text: &str) -> String {
    let picture = |c: char| match u32::from(c) {
        n @ 0..0x20 => char::from_u32(0x2400 + n).unwrap_or('?'),
        _ if c.is_control() => '␡',
        _ => c,
    };
    text.chars().map(picture).collect()
}

/// The final table; on a terminal it is shown while it changes.
pub struct Table {
    query: QueryInfo,
    limits: Limits,
    rows: Materialised,
    live: Option<Live>,
}

impl Table {
    /// An empty table.
    pub fn new(query: &QueryInfo, limits: Limits) -> Self {
        let max = if limits.oldest_give_way { limits.rows } else { limits.rows.saturating_add(1) };
        let live = limits.live.then(Live::new);
        Table { query: query.clone(), limits, rows: Materialised::new(max), live }
    }

    fn frame(&self, mut rows: Vec<Vec<String>>) -> String {
        let (names, right) = header(&self.query);
        if self.live.is_some() {
            rows.iter_mut().flatten().filter(|c| c.contains(char::is_control)).for_each(|c| *c = visible(c));
        }
        output::table(&names, &right, &rows)
    }

    fn print(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
        let (count, shown) = (self.rows.count(), self.rows.count().min(self.limits.shown));
        print!("{}", self.frame(self.rows.last(shown)));
        let mut said = format!("{count} row{}", plural(count));
        if shown < count {
            said += &format!(", the last {shown} shown: with INSERT INTO a table, or in result mode tableau, all are");
        }
        if std::io::stdout().is_terminal() {
            println!("{said}");
        }
        if self.rows.dropped() > 0 {
            let n = self.rows.dropped();
            let s = plural(usize::try_from(n).unwrap_or(usize::MAX));
            eprintln!("notice: {n} older row{s} gave way, as 'sql-client.execution.max-table-result.rows' says");
        }
    }
}

impl Show for Table {
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool> {
        for (i, row) in cells(batch, &self.query).into_iter().enumerate() {
            self.rows.change(batch.kind(i), row)?;
            if !self.limits.oldest_give_way && self.rows.count() > self.limits.rows {
                let error =
                    Error::user("cli.too-many-rows", format!("the result has more than {} rows", self.limits.rows));
                return Err(
                    error.hint("use --result-mode changelog or --json, or write it to a table with INSERT INTO")
                );
            }
        }
        Ok(true)
    }
    fn flush(&mut self) -> Result<()> {
        let Some(rows) = self.live.as_ref().filter(|l| l.is_due()).map(Live::rows) else { return Ok(()) };
        let frame = self.frame(self.rows.last(rows));
        if let Some(live) = &mut self.live {
            live.show(&frame, self.rows.count());
        }
        Ok(())
    }
    fn is_left(&self) -> bool {
        self.live.as_ref().is_some_and(Live::is_left)
    }
    fn end(&mut self) -> Result<()> {
        self.print();
        Ok(())
    }
    fn leave(&mut self) -> Result<()> {
        // What a script's query gave before it was cancelled is not its result.
        let Some(live) = &mut self.live else { return Ok(()) };
        live.clear();
        self.limits.shown = live.rows();
        self.print();
        Ok(())
    }
}

/// A table of all changes. Its columns fit the rows of its first moments; from then on it grows line by line.
pub struct Tableau {
    query: QueryInfo,
    clock: SharedClock,
    out: BufWriter<std::io::Stdout>,
    /// Rows that wait until the columns are fitted, and since when.
    waiting: Vec<Vec<String>>,
    since_ns: Option<u64>,
    widths: Option<Vec<usize>>,
    count: usize,
}

impl Tableau {
    /// An empty table.
    pub fn new(query: &QueryInfo) -> Self {
        let out = BufWriter::new(std::io::stdout());
        let clock = SystemClock::shared();
        Tableau { query: query.clone(), clock, out, waiting: Vec::new(), since_ns: None, widths: None, count: 0 }
    }

    fn header(&self) -> (Vec<String>, Vec<bool>) {
        let (mut names, mut right) = header(&self.query);
        names.insert(0, "op".to_owned());
        right.insert(0, false);
        (names, right)
    }

    /// False when nobody reads any more.
    fn begin(&mut self) -> bool {
        let (names, right) = self.header();
        let mut widths = output::widths(&names, &self.waiting);
        widths.iter_mut().skip(1).for_each(|w| *w = (*w).max(WIDTH_MIN));
        let mut text = output::head(&names, &widths);
        self.waiting.drain(..).for_each(|row| text += &output::line(&row, &widths, &right));
        self.widths = Some(widths);
        self.out.write_all(text.as_bytes()).is_ok()
    }
}

impl Show for Tableau {
    fn batch(&mut self, batch: &ChangeBatch) -> Result<bool> {
        let (_, right) = self.header();
        for (i, mut row) in cells(batch, &self.query).into_iter().enumerate() {
            row.insert(0, batch.kind(i).short().to_owned());
            self.count += 1;
            match &self.widths {
                Some(widths) => {
                    if self.out.write_all(output::line(&row, widths, &right).as_bytes()).is_err() {
                        return Ok(false);
                    }
                }
                None => self.waiting.push(row),
            }
            if self.waiting.len() >= FIT_ROWS && !self.begin() {
                return Ok(false);
            }
        }
        Ok(true)
    }
    fn flush(&mut self) -> Result<()> {
        // Nobody waits before a file.
        if self.widths.is_none() && !self.waiting.is_empty() && std::io::stdout().is_terminal() {
            let now_ns = self.clock.now_nanos();
            if now_ns.saturating_sub(*self.since_ns.get_or_insert(now_ns)) >= FIT_NS {
                self.begin();
            }
        }
        // A closed pipe shows at the next line.
        let _ = self.out.flush();
        Ok(())
    }
    fn end(&mut self) -> Result<()> {
        let (names, right) = self.header();
        let text = match &self.widths {
            None => output::table(&names, &right, &self.waiting),
            Some(widths) => output::rule(widths),
        };
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
        if std::io::stdout().is_terminal() {
            println!("{} row{}", self.count, plural(self.count));
        }
        Ok(())
    }
    fn leave(&mut self) -> Result<()> {
        self.end()
    }
}
