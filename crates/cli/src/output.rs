//! What people read: errors, notices, tables. Pure formatting; rows themselves are rendered by their types.

use flott_core::Error;
use flott_core::error::Position;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::terminal;

/// Prints an error with its detail and hint, each on a line; where `text`, in which it is, is given, also its line with a mark.
pub fn error(e: &Error, text: Option<&str>) {
    let colours = terminal::colours(&std::io::stderr());
    eprint!("{}", error_text(e, text, colours));
}

fn error_text(e: &Error, text: Option<&str>, colours: bool) -> String {
    let (red, bold, end) = if colours { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let place = e.position().map(|p| format!(" at line {}, column {}", p.line, p.column)).unwrap_or_default();
    let mut out = format!("{red}error[{}]{end}{place}: {bold}{}{end}\n", e.code(), e.message());
    if let Some((text, at)) = text.zip(e.position()) {
        out += &caret(text, at, red, end);
    }
    if let Some(detail) = e.detail_text() {
        out += &format!("  found: {detail}\n");
    }
    if let Some(hint) = e.hint_text() {
        out += &format!("  hint: {hint}\n");
    }
    out
}

/// The line of a place with a mark under the word there.
fn caret(text: &str, at: Position, red: &str, end: &str) -> String {
    let number = |n: u64| usize::try_from(n).unwrap_or(1).saturating_sub(1);
    let Some(line) = text.lines().nth(number(at.line)) else { return String::new() };
    let chars: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let column = number(at.column).min(chars.len());
    let width = |chars: &[char]| chars.iter().filter_map(|c| c.width()).sum::<usize>();
    let word = match chars.get(column) {
        Some(quote @ ('\'' | '`')) => chars[column + 1..].iter().position(|c| c == quote).map_or(1, |n| n + 2),
        _ => chars[column..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count().max(1),
    };
    let marked = width(&chars[column..(column + word).min(chars.len())]).max(1);
    let gutter = " ".repeat(at.line.to_string().len());
    let (before, mark) = (" ".repeat(width(&chars[..column])), "^".repeat(marked));
    let shown: String = chars.iter().collect();
    format!(" {} | {shown}\n {gutter} | {before}{red}{mark}{end}\n", at.line)
}

/// A table with a frame, columns as wide as their widest value; numbers to the right.
pub fn table(header: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    let widths = widths(header, rows);
    let mut out = head(header, &widths);
    rows.iter().for_each(|row| out += &line(row, &widths, right));
    if !rows.is_empty() {
        out += &rule(&widths);
    }
    out
}

/// Columns of the terminal that each column of a table needs.
pub fn widths(header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|h| h.width()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.width());
        }
    }
    widths
}

/// The names of the columns of a table between two rules.
pub fn head(header: &[String], widths: &[usize]) -> String {
    let rule = rule(widths);
    format!("{rule}{}{rule}", line(header, widths, &[]))
}

/// A line between rows.
pub fn rule(widths: &[usize]) -> String {
    format!("+{}+\n", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("+"))
}

/// A row of a table; a value wider than its column pushes the others.
pub fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let cells = cells.iter().zip(widths).enumerate().map(|(i, (cell, w))| {
        let pad = " ".repeat(w.saturating_sub(cell.width()));
        if right.get(i).copied().unwrap_or(false) { format!(" {pad}{cell} ") } else { format!(" {cell}{pad} ") }
    });
    format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Milliseconds since the epoch as `yyyy-MM-dd HH:mm:ss`; a dash for the extremes.
pub fn event_time(ms: i64) -> String {
    match ms {
        i64::MIN => "–".to_owned(),
        i64::MAX => "end".to_owned(),
        ms => {
            let mut text = String::new();
            flott_core::text::format_timestamp(ms, 0, &mut text);
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_at_their_place() {
        let at = |line, column| Error::user("sql.parse", "no").at(Position { line, column }).hint("do");
        let text = "SELECT\n\ta, 'é日', nam FROM `my t`;";
        let shown = error_text(&at(2, 11), Some(text), false);
        let expected = "error[sql.parse] at line 2, column 11: no\n 2 |  a, 'é日', nam FROM `my t`;\n   |            ^^^\n  hint: do\n";
        assert_eq!(shown, expected);
        assert!(error_text(&at(2, 20), Some(text), false).contains("|                     ^^^^^^\n"));
        assert!(error_text(&at(1, 7), Some(text), false).contains(" 1 | SELECT\n   |       ^\n"));
        assert!(error_text(&at(1, 1), Some(text), true).contains("\u{1b}[1;31m^^^^^^\u{1b}[0m"));
        assert_eq!(error_text(&at(9, 1), Some(text), false), error_text(&at(9, 1), None, false));
    }

    #[test]
    fn tables_fit_wide_characters() {
        let texts = |t: &[&str]| t.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let table = table(&texts(&["k", "n"]), &[false, true], &[texts(&["日本", "1"]), texts(&["b", "22"])]);
        assert_eq!(table, "+------+----+\n| k    | n  |\n+------+----+\n| 日本 |  1 |\n| b    | 22 |\n+------+----+\n");
    }
}
