//! Opens a part of a file and hands out its bytes in blocks, and completes rows with what the path says; parses nothing.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use flate2::read::MultiGzDecoder;
use flott_core::registry::TableSpec;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{Error, Result};

use super::split::{FileSplit, is_gzip};
use crate::columns::ColumnBuilder;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Most bytes skipped in one call, so that a poll stays short.
const SKIP_BYTES_MAX: u64 = 4 << 20;

/// Where the columns of a row come from.
#[derive(Clone, Debug)]
pub struct Layout {
    /// All columns in the order of the rows.
    pub schema: SchemaRef,
    /// Columns in the file's records.
    pub decoded: Vec<Column>,
    /// For each column of the rows: the record, or the path.
    origins: Vec<Origin>,
    default_partition: String,
}

#[derive(Clone, Debug)]
enum Origin {
    Record(usize),
    Metadata(Column),
    Partition(Column),
}

impl Layout {
    /// Sorts the columns of a table by origin.
    pub fn new(table: &TableSpec, default_partition: &str) -> Result<Self> {
        let (mut decoded, mut origins) = (Vec::new(), Vec::new());
        for (i, column) in table.columns.iter().enumerate() {
            origins.push(if let Some(key) = &column.metadata_key {
                let known = super::METADATA.iter().find(|(k, _)| k == key);
                let kind = &column.data_type.kind;
                let fits = known.is_some_and(|(_, t)| {
                    t == kind || (t.is_timestamp() && kind.is_timestamp()) || (t.is_string() && kind.is_string())
                });
                if !fits {
                    let all: Vec<_> = super::METADATA.iter().map(|(k, t)| format!("'{k}' {t}")).collect();
                    return Err(Error::user(
                        "filesystem.metadata",
                        format!("table `{}`: there is no metadata '{key}' of type {kind}", table.name),
                    )
                    .hint(format!("available: {}", all.join(", "))));
                }
                Origin::Metadata(column.clone())
            } else if table.partition_keys.contains(&i) {
                Origin::Partition(column.clone())
            } else {
                decoded.push(column.clone());
                Origin::Record(decoded.len() - 1)
            });
        }
        if decoded.is_empty() {
            return Err(Error::user(
                "filesystem.columns",
                format!("table `{}` has no column in its files", table.name),
            )
            .hint("declare a physical column that is no partition column"));
        }
        let schema = arrow_schema(&table.columns);
        Ok(Layout { schema, decoded, origins, default_partition: default_partition.to_owned() })
    }

    /// Rows of a file: decoded columns completed with metadata and partition values.
    pub fn complete(&self, path: &Path, decoded: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let columns = self.origins.iter().map(|origin| match origin {
            Origin::Record(i) => Ok(decoded[*i].clone()),
            Origin::Metadata(column) => constant(column, rows, |b| append_metadata(column, path, b)),
            Origin::Partition(column) => {
                let value = partition_value(path, &column.name);
                let value = value.filter(|v| *v != self.default_partition);
                constant(column, rows, |b| match &value {
                    None => {
                        b.append_null();
                        true
                    }
                    Some(text) => b.append_text(text),
                })
            }
        });
        Ok(RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_>>()?)?)
    }
}

fn constant(column: &Column, rows: usize, mut append: impl FnMut(&mut ColumnBuilder) -> bool) -> Result<ArrayRef> {
    let mut builder = ColumnBuilder::new(&column.data_type)?;
    for _ in 0..rows {
        if !append(&mut builder) {
            return Err(Error::user(
                "filesystem.partition",
                format!("column `{}`: the value in the file's path is not a {}", column.name, column.data_type.kind),
            ));
        }
    }
    builder.finish()
}

fn append_metadata(column: &Column, path: &Path, builder: &mut ColumnBuilder) -> bool {
    match column.metadata_key.as_deref() {
        Some("file.path") => builder.append_text(&path.to_string_lossy()),
        Some("file.name") => builder.append_text(&path.file_name().unwrap_or_default().to_string_lossy()),
        Some("file.size") => {
            fs::metadata(path).is_ok_and(|m| builder.append_i64(i64::try_from(m.len()).unwrap_or(i64::MAX)))
        }
        _ => {
            use std::os::unix::fs::MetadataExt;
            let per_second = match column.data_type.kind {
                TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => flott_core::text::units_per_second(p),
                _ => 1_000,
            };
            fs::metadata(path)
                .is_ok_and(|m| builder.append_raw(m.mtime() * per_second + m.mtime_nsec() * per_second / 1_000_000_000))
        }
    }
}

/// The value of `key=value` among the directories of a path.
fn partition_value(path: &Path, key: &str) -> Option<String> {
    path.components().rev().find_map(|c| {
        let text = c.as_os_str().to_str()?;
        let value = text.strip_prefix(key)?.strip_prefix('=')?;
        Some(super::naming::unescape(value))
    })
}

enum Bytes {
    Plain(File),
    Gzip(Box<MultiGzDecoder<File>>),
}

/// An open part of a file.
pub struct Input {
    /// The part; its offset is that of [`Input::data`].
    pub split: FileSplit,
    bytes: Bytes,
    buffer: Vec<u8>,
    begin: usize,
    /// Nothing follows the buffer.
    pub eof: bool,
    skip: u64,
    fresh: Fresh,
}

/// What is left to do at the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    /// Find the first record of a part in the middle of a file.
    Align,
    /// Skip byte order mark and perhaps a heading.
    Heading {
        skip_line: bool,
    },
    Done,
}

impl Input {
    /// Opens the part at its position.
    pub fn open(split: FileSplit, skip_line: bool) -> Result<Self> {
        let path = split.path.clone();
        let failed = |e: std::io::Error| {
            Error::user("filesystem.open", format!("cannot open '{}': {e}", path.display()))
                .hint("the file was there when the job looked for splits; was it removed?")
        };
        let mut file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let gzip = is_gzip(&path);
        if !gzip && split.offset > length {
            return Err(Error::user(
                "filesystem.changed",
                format!("the file '{}' has changed: it is {length} bytes long", path.display()),
            )
            .detail(format!("the checkpoint says that {} bytes of it were read", split.offset))
            .hint("restore the file, or start without the checkpoint"));
        }
        let fresh = match (split.offset == split.start, split.start) {
            (true, 0) => Fresh::Heading { skip_line },
            (true, _) => Fresh::Align,
            (false, _) => Fresh::Done,
        };
        let mut skip = 0;
        if gzip {
            skip = split.offset;
        } else {
            // Alignment begins one byte early: a line end just before the part means that its first byte begins a record.
            let from = if fresh == Fresh::Align { split.offset - 1 } else { split.offset };
            file.seek(SeekFrom::Start(from)).map_err(failed)?;
        }
        let bytes = if gzip { Bytes::Gzip(Box::new(MultiGzDecoder::new(file))) } else { Bytes::Plain(file) };
        let mut input = Input { split, bytes, buffer: Vec::new(), begin: 0, eof: false, skip, fresh };
        if fresh == Fresh::Align {
            input.split.offset -= 1;
        }
        Ok(input)
    }

    /// Bytes at hand.
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    /// Marks bytes and lines as read.
    pub fn advance(&mut self, bytes: usize, lines: u64) {
        self.begin += bytes;
        self.split.offset += bytes as u64;
        self.split.line += lines;
    }

    /// Reads one more block; `false` at the end of the file.
    pub fn fill(&mut self) -> Result<bool> {
        if self.begin > 0 {
            self.buffer.drain(..self.begin);
            self.begin = 0;
        }
        let from = self.buffer.len();
        self.buffer.resize(from + BLOCK_BYTES, 0);
        let read = match &mut self.bytes {
            Bytes::Plain(file) => file.read(&mut self.buffer[from..]),
            Bytes::Gzip(gz) => gz.read(&mut self.buffer[from..]),
        };
        let n = match read {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                self.buffer.truncate(from);
                return Ok(true);
            }
            Err(e) => {
                self.buffer.truncate(from);
                return Err(self.read_error(&e));
            }
        };
        self.buffer.truncate(from + n);
        self.eof = n == 0;
        Ok(n > 0)
    }

    fn read_error(&self, e: &std::io::Error) -> Error {
        let message = format!("cannot read '{}' at byte {}: {e}", self.split.path.display(), self.split.offset);
        match self.bytes {
            Bytes::Gzip(_) => Error::user("filesystem.gzip", message).hint("check the file with `gzip -t`"),
            Bytes::Plain(_) => Error::retry("filesystem.read", message),
        }
    }

    /// Goes to the first record, as far as bytes at hand allow; `false` when called again is needed.
    pub fn settle(&mut self) -> Result<bool> {
        if self.skip > 0 {
            return self.skip_forward();
        }
        if let Fresh::Heading { skip_line } = self.fresh {
            while self.data().len() < 3 && !self.eof {
                self.fill()?;
            }
            if self.data().starts_with(b"\xef\xbb\xbf") {
                self.advance(3, 0);
            }
            self.fresh = if skip_line { Fresh::Align } else { Fresh::Done };
        }
        if self.fresh == Fresh::Align {
            let counted = u64::from(self.split.start == 0);
            match memchr::memchr(b'\n', self.data()) {
                Some(at) => self.advance(at + 1, counted),
                None => {
                    self.advance(self.data().len(), 0);
                    self.fill()?;
                    if !self.eof {
                        return Ok(false);
                    }
                }
            }
            self.fresh = Fresh::Done;
        }
        Ok(true)
    }

    /// Reads over what a restored position of a compressed file says was read.
    fn skip_forward(&mut self) -> Result<bool> {
        let Bytes::Gzip(gz) = &mut self.bytes else { return Ok(true) };
        let want = self.skip.min(SKIP_BYTES_MAX);
        let skipped = std::io::copy(&mut gz.by_ref().take(want), &mut std::io::sink());
        let skipped = skipped.map_err(|e| self.read_error(&e))?;
        self.skip -= skipped;
        if skipped < want {
            return Err(Error::user(
                "filesystem.changed",
                format!("the file '{}' has changed: it ends {} bytes early", self.split.path.display(), self.skip),
            )
            .detail(format!("the checkpoint says that {} bytes of it were read", self.split.offset))
            .hint("restore the file, or start without the checkpoint"));
        }
        Ok(self.skip == 0)
    }

    /// Position for a snapshot: an unaligned part is at its start.
    pub fn position(&self) -> FileSplit {
        let mut split = self.split.clone();
        if self.fresh != Fresh::Done {
            split.offset = split.start;
            split.line = 0;
        }
        split
    }

    /// Number of the line at the current position plus `ahead`, from 1, counted over the whole file.
    pub fn line_number(&self, ahead: u64) -> u64 {
        let mut before = 0;
        if self.split.start > 0 {
            // Only for a message, so a second look at the file does no harm.
            before = 1 + count_lines(&self.split.path, self.split.start - 1).unwrap_or(0);
        }
        before + self.split.line + ahead + 1
    }
}

fn count_lines(path: &Path, bytes: u64) -> std::io::Result<u64> {
    let mut file = File::open(path)?.take(bytes);
    let (mut block, mut lines) = (vec![0; BLOCK_BYTES], 0);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(lines),
            n => lines += memchr::memchr_iter(b'\n', &block[..n]).count() as u64,
        }
    }
}
