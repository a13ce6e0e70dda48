//! What people read: errors, notices, tables. Pure formatting; rows themselves are rendered by their types.

use flott_core::Error;

/// Prints an error with its detail and hint, each on a line.
pub fn error(e: &Error) {
    let place = e.position().map(|p| format!(" at line {}, column {}", p.line, p.column)).unwrap_or_default();
    eprintln!("error[{}]{place}: {}", e.code(), e.message());
    if let Some(detail) = e.detail_text() {
        eprintln!("  found: {detail}");
    }
    if let Some(hint) = e.hint_text() {
        eprintln!("  hint: {hint}");
    }
}

/// A table with a frame, columns as wide as their widest value; numbers to the right.
pub fn table(header: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let rule = format!("+{}+\n", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("+"));
    let line = |cells: &[String], align: bool| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(i, (cell, w))| {
            let pad = " ".repeat(w - cell.chars().count());
            if align && right.get(i).copied().unwrap_or(false) {
                format!(" {pad}{cell} ")
            } else {
                format!(" {cell}{pad} ")
            }
        });
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let mut out = rule.clone() + &line(header, false) + &rule;
    for row in rows {
        out += &line(row, true);
    }
    if !rows.is_empty() {
        out += &rule;
    }
    out
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
