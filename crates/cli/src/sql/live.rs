//! A table that is drawn again in its place while it changes. Draws on standard output, which must be a terminal.

use std::io::Write;

use flott_core::time::{SharedClock, SystemClock};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::terminal::{self, Keys};

/// How often it is drawn at most.
const EVERY_NS: u64 = 250_000_000;
/// Lines of the terminal that are not rows: the query's, the header's three, the last rule, the line below, and the cursor's.
const OTHER_LINES: usize = 7;

/// What is on the screen.
pub struct Live {
    clock: SharedClock,
    started_ns: u64,
    drawn_ns: u64,
    lines: usize,
    size: (usize, usize),
    keys: Option<Keys>,
}

impl Live {
    /// Nothing is drawn yet.
    pub fn new() -> Self {
        let clock = SystemClock::shared();
        // A query that ends at once is shown once.
        let now_ns = clock.now_nanos();
        Live { clock, started_ns: now_ns, drawn_ns: now_ns, lines: 0, size: terminal::size(), keys: None }
    }

    /// Whether it is time to draw again.
    pub fn is_due(&self) -> bool {
        self.clock.now_nanos().saturating_sub(self.drawn_ns) >= EVERY_NS
    }

    /// Rows that fit.
    pub fn rows(&self) -> usize {
        self.size.1.saturating_sub(OTHER_LINES).max(3)
    }

    /// Whether the user has asked to leave.
    pub fn is_left(&self) -> bool {
        self.keys.as_ref().is_some_and(|k| k.pressed(b"qQ"))
    }

    /// Draws the table and how many rows there are in all.
    pub fn show(&mut self, table: &str, rows: usize) {
        let size = terminal::size();
        // Before the first frame typing belongs to the next statement.
        if self.keys.is_none() && self.lines == 0 {
            self.keys = Keys::listen();
        }
        let seconds = self.clock.now_nanos().saturating_sub(self.started_ns) / 1_000_000_000;
        let shown = if rows > self.rows() { format!(", the last {} shown", self.rows()) } else { String::new() };
        let leave = if self.keys.is_some() { "q or Ctrl-C" } else { "Ctrl-C" };
        let below = format!("{rows} row{} after {seconds} s{shown} · {leave} ends the query", plural(rows));
        let mut out = String::from("\x1b[?25l");
        if size != self.size {
            // Lines were broken elsewhere: nobody knows where the old frame begins.
            out.push_str("\x1b[2J\x1b[H");
        } else if self.lines > 0 {
            out.push_str(&format!("\r\x1b[{}A", self.lines));
        }
        for line in table.lines().chain([below.as_str()]) {
            out.push_str(clip(line, size.0));
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J\x1b[?25h");
        // A closed terminal shows at the next line that is read.
        let _ = std::io::stdout().write_all(out.as_bytes());
        let _ = std::io::stdout().flush();
        self.lines = table.lines().count() + 1;
        self.size = size;
        self.drawn_ns = self.clock.now_nanos();
    }

    /// Takes it off the screen.
    pub fn clear(&mut self) {
        self.keys = None;
        if self.lines > 0 {
            print!("\r\x1b[{}A\x1b[J", self.lines);
            self.lines = 0;
        }
    }
}

/// An `s` for more than one, and for none.
pub fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// As much of a line as `columns` hold.
pub fn clip(line: &str, columns: usize) -> &str {
    if line.width() <= columns {
        return line;
    }
    let mut width = 0;
    let end = line.char_indices().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > columns
    });
    end.map_or(line, |(i, _)| &line[..i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_edge() {
        assert_eq!(clip("| a | b |", 20), "| a | b |");
        assert_eq!(clip("| a | b |", 5), "| a |");
        assert_eq!(clip("| 日本 |", 5), "| 日");
        assert_eq!(clip("| 日本 |", 0), "");
    }
}
