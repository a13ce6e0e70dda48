//! Positions and "did you mean" for every error of the SQL front end; never decides anything.

use flott_core::error::Position;
use flott_core::{Error, Result};
use sqlparser::tokenizer::{Location, Span};

/// Where a span starts; `None` for the empty span that the parser gives to things without tokens.
pub(crate) fn position(span: Span) -> Option<Position> {
    location(span.start)
}

/// A tokenizer location as a position.
pub(crate) fn location(at: Location) -> Option<Position> {
    (at.line > 0).then_some(Position { line: at.line, column: at.column })
}

/// Adds a position to errors that have none yet.
pub(crate) trait At<T> {
    /// The error gets `position` unless it has one.
    fn at(self, position: Option<Position>) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, position: Option<Position>) -> Result<T> {
        self.map_err(|e| place(e, position))
    }
}

/// The error with a position, if there is one.
pub(crate) fn place(error: Error, position: Option<Position>) -> Error {
    match position {
        Some(p) => error.at(p),
        None => error,
    }
}

/// A construct of Flink's dialect that Flott does not have yet.
pub(crate) fn unsupported(what: &str, position: Option<Position>) -> Error {
    place(Error::user("sql.unsupported", format!("{what} is not supported yet")), position)
}

/// The candidate most like `name`, if any is like it at all.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&lower, &c.to_lowercase()), c))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// `did you mean "x"? available: a, b, c`, with at most `limit` names.
pub(crate) fn suggestion(name: &str, candidates: &[&str], limit: usize) -> String {
    let mut text = String::new();
    if let Some(near) = nearest(name, candidates.iter().copied()) {
        text.push_str(&format!("did you mean `{near}`? "));
    }
    if candidates.is_empty() {
        text.push_str("there are none");
        return text;
    }
    let shown = candidates.iter().take(limit).copied().collect::<Vec<_>>().join(", ");
    let more = candidates.len().saturating_sub(limit);
    text.push_str(&format!("available: {shown}"));
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
