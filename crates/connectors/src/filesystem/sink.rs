//! The file sink's writers: rows into hidden part files that roll at every barrier; makes nothing visible.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use flott_core::registry::TableSpec;
use flott_core::sink::{ChangelogMode, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::types::Column;
use flott_core::{ChangeBatch, CheckpointId, Error, Result, RowKind};

use super::committer::{FileCommitter, Pending, sync_directory};
use super::naming::{self, IN_PROGRESS, PENDING};
use super::partition_commit::{CommitPolicy, OpenPartitions};
use crate::formats::bulk::BulkWriter;
use crate::formats::text::{ScalarStyle, push_scalar};
use crate::formats::{Encoder, Format};

/// Encoded bytes kept before they go to the file.
const BUFFER_BYTES: usize = 256 << 10;
/// Part files open at once; beyond that all of them end and new ones begin.
const OPEN_MAX: usize = 256;
/// Bytes that a subtask's part files may hold in memory before the largest are written out.
const HELD_BYTES_MAX: u64 = 128 << 20;

/// Options of the sink, read.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Directory of the table.
    pub path: PathBuf,
    /// Format of the records.
    pub format: Format,
    /// Compressed part files.
    pub gzip: bool,
    /// Longest part file.
    pub file_bytes_max: u64,
    /// Oldest part file.
    pub rollover_ms: i64,
    /// Part file without new rows.
    pub inactivity_ms: i64,
    /// How often ages are checked.
    pub check_ms: i64,
    /// Directory name of NULL.
    pub default_partition: String,
    /// When partitions are complete, and what is done then.
    pub partition_commit: Option<CommitPolicy>,
    /// Test-only: a repeated commit makes a second file.
    pub commit_dedup_disabled: bool,
}

/// Files as a sink.
pub struct FileSink {
    options: SinkOptions,
    columns: Vec<Column>,
    partition_keys: Vec<usize>,
}

impl FileSink {
    /// A sink into the files of `table`.
    pub fn new(options: SinkOptions, table: &TableSpec) -> Result<Self> {
        let sink = FileSink { options, columns: table.columns.clone(), partition_keys: table.partition_keys.clone() };
        // Types that the format cannot carry are refused here, not in the task.
        sink.options.format.check_write(&sink.written_columns())?;
        if sink.written_columns().is_empty() {
            return Err(Error::user(
                "filesystem.columns",
                format!("table `{}` has only partition columns", table.name),
            )
            .hint("declare a physical column that is no partition column"));
        }
        Ok(sink)
    }

    fn written_columns(&self) -> Vec<Column> {
        let kept = |i: &usize| !self.partition_keys.contains(i);
        (0..self.columns.len()).filter(kept).map(|i| self.columns[i].clone()).collect()
    }
}

impl Sink for FileSink {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn writer(&self, context: SinkContext, states: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        prepare_directory(&self.options.path)?;
        let written = (0..self.columns.len()).filter(|i| !self.partition_keys.contains(i)).collect();
        let format = self.options.format.name();
        let policy = self.options.partition_commit.clone();
        let open = policy.map(|p| OpenPartitions::restore(p, &states)).transpose()?;
        Ok(Box::new(FileWriter {
            encoder: match self.options.format.writes_text() {
                true => Some(self.options.format.encoder(&self.written_columns())?),
                false => None,
            },
            columns: self.written_columns(),
            suffix: if self.options.gzip { format!("{format}.gz") } else { format.to_owned() },
            names: self.partition_keys.iter().map(|&i| self.columns[i].name.clone()).collect(),
            partition_keys: self.partition_keys.clone(),
            options: self.options.clone(),
            written,
            context,
            parts: HashMap::new(),
            held: 0,
            closed: Vec::new(),
            open,
            counter: 0,
        }))
    }

    fn committer(&self, context: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let (path, off) = (self.options.path.clone(), self.options.commit_dedup_disabled);
        Ok(Some(Box::new(FileCommitter::new(path, context, off))))
    }
}

/// Makes the directory and checks that files can be made in it, so that a job fails before it has read anything.
fn prepare_directory(path: &Path) -> Result<()> {
    create_directories(path)?;
    let probe = path.join(format!(".flott-probe-{}", std::process::id()));
    match File::create(&probe) {
        Ok(_) => {
            // Another subtask may have removed it already.
            let _ = fs::remove_file(&probe);
            Ok(())
        }
        Err(e) => Err(unwritable(path, &e)),
    }
}

/// Makes a directory and those above it, and makes their names durable: a committed file is lost with a directory that is.
fn create_directories(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let directory = &std::path::absolute(directory).map_err(|e| unwritable(directory, &e))?;
    let missing = directory.ancestors().take_while(|d| !d.exists());
    let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
    fs::create_dir_all(directory).map_err(|e| unwritable(directory, &e))?;
    parents.into_iter().try_for_each(sync_directory)
}

/// The error for a directory that cannot be written, with what decides about it.
pub(super) fn unwritable(path: &Path, e: &std::io::Error) -> Error {
    use std::os::unix::fs::MetadataExt;
    let nearest = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    let uid = fs::metadata("/proc/self").map_or_else(|_| "unknown".to_owned(), |m| m.uid().to_string());
    let found = fs::metadata(nearest).map_or_else(
        |e| format!("'{}' cannot be examined: {e}", nearest.display()),
        |m| {
            let kind = if m.is_dir() { "directory" } else { "file" };
            let (owner, group, mode) = (m.uid(), m.gid(), m.mode() & 0o7777);
            format!("the {kind} '{}' has owner {owner}:{group} and mode {mode:04o}", nearest.display())
        },
    );
    Error::user("filesystem.unwritable", format!("cannot write to '{}': {e}", path.display()))
        .detail(format!("{found}; this process has uid {uid}"))
        .hint("change the table's option 'path', or owner or mode of the directory")
}

enum Output {
    Plain(File),
    Gzip(GzEncoder<File>),
    Bulk(Box<dyn BulkWriter>),
}

/// A part file that is being written.
struct Part {
    directory: PathBuf,
    final_name: String,
    hidden: PathBuf,
    output: Output,
    buffer: String,
    bytes: u64,
    opened_ms: i64,
    written_ms: i64,
}

impl Part {
    fn failed(&self, e: &std::io::Error) -> Error {
        Error::retry("filesystem.write", format!("cannot write '{}': {e}", self.hidden.display()))
            .detail(format!("{} bytes were written before", self.bytes))
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.buffer.as_bytes();
        let done = match &mut self.output {
            Output::Plain(file) => file.write_all(bytes),
            Output::Gzip(gz) => gz.write_all(bytes),
            // Nothing is buffered here.
            Output::Bulk(_) => Ok(()),
        };
        done.map_err(|e| self.failed(&e))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

struct FileWriter {
    options: SinkOptions,
    context: SinkContext,
    /// Of text formats.
    encoder: Option<Box<dyn Encoder>>,
    /// What is written.
    columns: Vec<Column>,
    suffix: String,
    partition_keys: Vec<usize>,
    /// Names of the partition columns.
    names: Vec<String>,
    /// Columns that go into the records.
    written: Vec<usize>,
    /// Open part files by partition directory, relative to the table's.
    parts: HashMap<String, Part>,
    /// Bytes that these hold in memory, of formats that write in pieces.
    held: u64,
    /// Ended since the last barrier.
    closed: Vec<Pending>,
    /// Partitions whose success files are to come.
    open: Option<OpenPartitions>,
    counter: u64,
}

impl FileWriter {
    fn open(&mut self, partition: &str) -> Result<()> {
        if self.parts.len() >= OPEN_MAX {
            self.close_if(|_| true)?;
        }
        let directory =
            std::path::absolute(self.options.path.join(partition)).map_err(|e| unwritable(&self.options.path, &e))?;
        create_directories(&directory)?;
        let final_name = naming::final_name(&self.context, self.counter, &self.suffix);
        self.counter += 1;
        let hidden = directory.join(naming::hidden_name(&self.context, &final_name, IN_PROGRESS));
        let file = File::create_new(&hidden).map_err(|e| unwritable(&directory, &e))?;
        let output = match (self.options.format.writes_text(), self.options.gzip) {
            (false, _) => Output::Bulk(self.options.format.writer(file, &hidden, &self.columns)?),
            (true, true) => Output::Gzip(GzEncoder::new(file, Compression::fast())),
            (true, false) => Output::Plain(file),
        };
        let now = self.context.clock.now_ms();
        let buffer = String::with_capacity(BUFFER_BYTES / 4);
        let part = Part { directory, final_name, hidden, output, buffer, bytes: 0, opened_ms: now, written_ms: now };
        self.parts.insert(partition.to_owned(), part);
        Ok(())
    }

    fn append(&mut self, partition: &str, rows: &RecordBatch) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.written(partition, self.context.clock.now_ms())?;
        }
        if !self.parts.contains_key(partition) {
            self.open(partition)?;
        }
        let part = self.parts.get_mut(partition).expect("the part was opened above");
        let before = part.buffer.len();
        match (&mut part.output, &mut self.encoder) {
            (Output::Bulk(writer), _) => {
                let held = writer.held_bytes();
                writer.write(rows)?;
                self.held = (self.held + writer.held_bytes()).saturating_sub(held);
                self.context.metrics.bytes.add(writer.bytes().saturating_sub(part.bytes));
                part.bytes = writer.bytes();
            }
            (_, Some(encoder)) => {
                encoder.encode(rows, &mut part.buffer)?;
                self.context.metrics.bytes.add((part.buffer.len() - before) as u64);
            }
            (_, None) => return Err(Error::bug("a text format without an encoder")),
        }
        part.written_ms = self.context.clock.now_ms();
        if part.buffer.len() >= BUFFER_BYTES {
            part.flush()?;
        }
        if part.bytes + part.buffer.len() as u64 >= self.options.file_bytes_max
            && let Some(part) = self.parts.remove(partition)
        {
            self.end(part)?;
        }
        if self.held > HELD_BYTES_MAX { self.release() } else { Ok(()) }
    }

    /// Writes out the parts that hold most, until half of what they may hold together is left.
    fn release(&mut self) -> Result<()> {
        let mut writers: Vec<(u64, &mut Box<dyn BulkWriter>)> = Vec::new();
        for part in self.parts.values_mut() {
            if let Output::Bulk(writer) = &mut part.output {
                writers.push((writer.held_bytes(), writer));
            }
        }
        writers.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        for (held, writer) in writers {
            if self.held <= HELD_BYTES_MAX / 2 {
                break;
            }
            writer.release()?;
            self.held = (self.held + writer.held_bytes()).saturating_sub(held);
        }
        Ok(())
    }

    /// Makes a part durable under its pending name.
    fn end(&mut self, mut part: Part) -> Result<()> {
        part.flush()?;
        if let Output::Bulk(writer) = &part.output {
            self.held = self.held.saturating_sub(writer.held_bytes());
        }
        let fail = |e: std::io::Error| {
            Error::retry("filesystem.write", format!("cannot complete '{}': {e}", part.hidden.display()))
        };
        let file = match part.output {
            Output::Plain(file) => file,
            Output::Gzip(gz) => gz.finish().map_err(fail)?,
            Output::Bulk(writer) => writer.finish()?,
        };
        file.sync_all().map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let pending = part.directory.join(naming::hidden_name(&self.context, &part.final_name, PENDING));
        fs::rename(&part.hidden, &pending).map_err(fail)?;
        self.closed.push(Pending { pending, visible: part.directory.join(&part.final_name), length });
        Ok(())
    }

    fn close_if(&mut self, ends: impl Fn(&Part) -> bool) -> Result<()> {
        let mut keys: Vec<_> = self.parts.iter().filter(|(_, p)| ends(p)).map(|(k, _)| k.clone()).collect();
        keys.sort();
        for key in keys {
            if let Some(part) = self.parts.remove(&key) {
                self.end(part)?;
            }
        }
        Ok(())
    }

    fn append_partitioned(&mut self, batch: &RecordBatch, written: &RecordBatch) -> Result<()> {
        let keys: Vec<ArrayRef> = self.partition_keys.iter().map(|&i| batch.column(i).clone()).collect();
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let (mut directory, mut value) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            directory.clear();
            for (name, key) in self.names.iter().zip(&keys) {
                value.clear();
                if key.is_valid(row) {
                    push_partition_value(key, row, &mut value);
                }
                let value = if value.is_empty() { &self.options.default_partition } else { &value };
                directory.push_str(if directory.is_empty() { "" } else { "/" });
                naming::escape(name, &mut directory);
                directory.push('=');
                naming::escape(value, &mut directory);
            }
            let group = index.get(directory.as_str()).copied().unwrap_or_else(|| {
                groups.push((directory.clone(), Vec::new()));
                index.insert(directory.clone(), groups.len() - 1);
                groups.len() - 1
            });
            groups[group].1.push(row as u32);
        }
        for (directory, rows) in groups {
            let part = arrow_select::take::take_record_batch(written, &UInt32Array::from(rows))?;
            self.append(&directory, &part)?;
        }
        Ok(())
    }
}

fn push_partition_value(key: &ArrayRef, row: usize, out: &mut String) {
    use arrow_array::cast::AsArray;
    if let Some(strings) = key.as_string_opt::<i32>() {
        return out.push_str(strings.value(row));
    }
    push_scalar(key, row, ScalarStyle { iso: false, plain_decimals: true, stripped_decimals: false }, out);
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        if let Some(kind) = batch.kinds.iter().flat_map(|k| k.iter()).find(|k| **k != RowKind::Insert) {
            return Err(Error::bug(format!("the file sink was given a {} row, it takes inserts only", kind.short())));
        }
        if batch.num_rows() == 0 {
            return Ok(WriteStatus::Accepted);
        }
        if self.partition_keys.is_empty() {
            self.append("", &batch.rows)?;
        } else {
            let written = batch.rows.project(&self.written)?;
            self.append_partitioned(&batch.rows, &written)?;
        }
        Ok(WriteStatus::Accepted)
    }

    fn prepare_commit(&mut self, checkpoint: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>> {
        self.close_if(|_| true)?;
        if let Some(open) = &mut self.open {
            let place = (self.options.path.as_path(), &self.context);
            self.closed.extend(open.complete(place, end_of_data, &mut self.counter)?);
        }
        let mut synced: Vec<&Path> = Vec::new();
        for pending in &self.closed {
            let directory = pending.pending.parent().expect("part files have a directory");
            if !synced.contains(&directory) {
                sync_directory(directory)?;
                synced.push(directory);
            }
        }
        let closed = std::mem::take(&mut self.closed);
        Ok(closed.into_iter().map(|p| p.into_committable(checkpoint)).collect())
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        Ok(self.open.iter().map(|open| open.snapshot().into()).collect())
    }

    fn on_watermark(&mut self, at_ms: i64) {
        if let Some(open) = &mut self.open {
            open.watermark(at_ms);
        }
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        let (rollover, inactivity) = (self.options.rollover_ms, self.options.inactivity_ms);
        self.close_if(|p| now_ms - p.opened_ms >= rollover || now_ms - p.written_ms >= inactivity)?;
        Ok(Some(now_ms + self.options.check_ms))
    }
}
