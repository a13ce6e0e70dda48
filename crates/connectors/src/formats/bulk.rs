//! Formats of whole files, whose records are not text: parquet and avro containers. Columns in, columns out; never lists files and makes
//! none visible.

use std::fs::File;
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::types::Column;
use flott_core::{Error, Result};

/// A format of files with its options.
#[derive(Clone, Debug)]
pub enum BulkFormat {
    /// Parquet.
    #[cfg(feature = "parquet")]
    Parquet(super::parquet::ParquetOptions),
    /// Avro's object container files.
    #[cfg(feature = "avro")]
    Avro(super::container::ContainerOptions),
}

/// Writes one file.
pub trait BulkWriter: Send {
    /// Appends rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;
    /// About how long the file is.
    fn bytes(&self) -> u64;
    /// Bytes that lie in memory until they are written.
    fn held_bytes(&self) -> u64 {
        0
    }
    /// Writes what lies in memory.
    fn release(&mut self) -> Result<()> {
        Ok(())
    }
    /// Completes the file, which is not synchronised yet.
    fn finish(self: Box<Self>) -> Result<File>;
}

/// What a reader has.
pub enum Step {
    /// Columns, and how many rows they have.
    Rows(Vec<ArrayRef>, usize),
    /// Nothing yet: rows that were read before were read over.
    Again,
    /// The part has ended.
    End,
}

/// Reads a part of a file.
pub trait BulkReader: Send {
    /// The next rows, at most so many. Decodes one batch at most.
    fn next(&mut self, rows_max: usize) -> Result<Step>;
}

/// The part of a file that a reader reads.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The file.
    pub path: &'a Path,
    /// First and last piece (row group) of it; formats without pieces have one.
    pub pieces: (u64, u64),
    /// Rows of the part that were read before.
    pub skip_rows: u64,
}

impl BulkFormat {
    /// The format's name, also the suffix of files.
    pub fn name(&self) -> &'static str {
        match self {
            #[cfg(feature = "parquet")]
            BulkFormat::Parquet(_) => "parquet",
            #[cfg(feature = "avro")]
            BulkFormat::Avro(_) => "avro",
            #[allow(unreachable_patterns, reason = "without these features there is no such format")]
            _ => "none",
        }
    }

    /// Refuses columns that the format has no form for.
    pub fn check(&self, columns: &[Column]) -> Result<()> {
        match self {
            #[cfg(feature = "parquet")]
            BulkFormat::Parquet(_) => super::parquet::check(columns),
            #[cfg(feature = "avro")]
            BulkFormat::Avro(options) => super::container::check(options, columns),
            #[allow(unreachable_patterns, reason = "without these features there is no such format")]
            _ => Err(none()),
        }
    }

    /// How many bytes each piece has that can be read by itself; none for formats that are read from their beginning. Refuses a file
    /// that is not whole.
    pub fn pieces(&self, path: &Path) -> Result<Vec<u64>> {
        match self {
            #[cfg(feature = "parquet")]
            BulkFormat::Parquet(_) => super::parquet::row_groups(path),
            #[cfg(feature = "avro")]
            BulkFormat::Avro(_) => super::container::check_whole(path).map(|()| Vec::new()),
            #[allow(unreachable_patterns, reason = "without these features there is no such format")]
            _ => Err(none()),
        }
    }

    /// A reader of a part.
    pub fn reader(&self, part: Part<'_>, columns: &[Column]) -> Result<Box<dyn BulkReader>> {
        match self {
            #[cfg(feature = "parquet")]
            BulkFormat::Parquet(_) => super::parquet::reader(part, columns),
            #[cfg(feature = "avro")]
            BulkFormat::Avro(_) => super::container::reader(part, columns),
            #[allow(unreachable_patterns, reason = "without these features there is no such format")]
            _ => Err(none()),
        }
    }

    /// A writer of `columns` to a new file.
    pub fn writer(&self, file: File, path: &Path, columns: &[Column]) -> Result<Box<dyn BulkWriter>> {
        match self {
            #[cfg(feature = "parquet")]
            BulkFormat::Parquet(options) => super::parquet::writer(options, file, path, columns),
            #[cfg(feature = "avro")]
            BulkFormat::Avro(options) => super::container::writer(options, file, path, columns),
            #[allow(unreachable_patterns, reason = "without these features there is no such format")]
            _ => Err(none()),
        }
    }
}

fn none() -> Error {
    Error::bug("a format of whole files in a build without any")
}

/// The error for a file that is not what its format says.
pub(super) fn damaged(path: &Path, format: &str, problem: impl std::fmt::Display) -> Error {
    let text = format!("the file '{}' cannot be read as {format}: {problem}", path.display());
    Error::user("format.bad-file", text)
        .hint("remove the file or write it anew; files whose names begin with '.' or '_' are not read")
}

/// The error for a file that is not the one a checkpoint speaks of.
pub(super) fn changed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::user("filesystem.changed", format!("the file '{}' has changed since the checkpoint: {what}", path.display()))
        .hint("restore the file, or start without the checkpoint")
}

/// The error for a file that cannot be opened.
pub(super) fn unopened(path: &Path, e: &std::io::Error) -> Error {
    Error::user("filesystem.open", format!("cannot open '{}': {e}", path.display()))
        .hint("the file was there when the job looked for splits; was it removed?")
}

/// The error for bytes that cannot be written.
pub(super) fn unwritten(path: &str, problem: impl std::fmt::Display) -> Error {
    Error::retry("filesystem.write", format!("cannot write '{path}': {problem}"))
}
