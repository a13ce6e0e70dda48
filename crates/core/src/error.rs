//! The one error shape: what failed, in detail, and what to do next; sorted by what the caller must do.
//!
//! Every error carries a stable code that has a page under `docs/errors/`. A crate makes its errors with
//! the constructors here, so that CLI, log and REST print the same sentence.

use std::fmt;

/// Result of everything in Flott that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input is wrong (SQL, option, file, record): tell the user; retrying changes nothing.
    User,
    /// The outside world failed (storage, network): the restart strategy decides.
    Retry,
    /// A newer generation owns the job: stop, touch nothing.
    Fenced,
    /// Stored bytes are not what was written: never guess, refuse.
    Corrupt,
    /// An invariant of Flott does not hold.
    Bug,
    /// The job was cancelled; not a failure.
    Cancelled,
}

/// Line and column in a SQL script, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

/// An error: primary sentence, optional detail, hint and position.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<Position>,
}

impl Error {
    /// An error of `kind` with a stable `code` such as `sql.parse` and one sentence.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, code, message: message.into(), detail: None, hint: None, position: None }))
    }
    /// The user's input is wrong.
    pub fn user(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::User, code, message)
    }
    /// The outside world failed; trying again may help.
    pub fn retry(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retry, code, message)
    }
    /// Stored bytes are damaged or foreign.
    pub fn corrupt(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, code, message)
    }
    /// A newer generation owns the job.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, "checkpoint.fenced", message)
    }
    /// An invariant of Flott is broken.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, "bug", message)
    }
    /// The job was cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "job.cancelled", "the job was cancelled")
    }
    /// Adds what was found, one or more sentences.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }
    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    /// Adds the place in the SQL script; the first position given wins.
    pub fn at(mut self, position: Position) -> Self {
        self.0.position.get_or_insert(position);
        self
    }
    /// Puts `context` in front of the primary sentence: `operator "x": …`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }
    /// What the caller must do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }
    /// The primary sentence alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The detail, if any.
    pub fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// The place in the SQL script, if known.
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(p) = self.0.position {
            write!(f, "line {}, column {}: ", p.line, p.column)?;
        }
        write!(f, "{}", self.0.message)?;
        if let Some(d) = &self.0.detail {
            write!(f, "; {d}")?;
        }
        if let Some(h) = &self.0.hint {
            write!(f, " (hint: {h})")?;
        }
        write!(f, " [{}]", self.0.code)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

impl From<arrow_schema::ArrowError> for Error {
    /// Arrow kernels are fed by typed plans; what they refuse is a bug unless a caller says otherwise.
    fn from(e: arrow_schema::ArrowError) -> Self {
        Error::bug(format!("arrow: {e}"))
    }
}
