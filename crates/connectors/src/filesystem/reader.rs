//! The file source: lists splits, reads them block by block and decodes a batch a poll; never blocks for long.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::Array;
use flott_core::sink::ChangelogMode;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::{ChangeBatch, Result};
use regex::Regex;

use super::input::{Input, Layout};
use super::split::{FileSplit, list_files, parts, parts_of_pieces};
use crate::formats::bulk::{BulkFormat, BulkReader, Part, Step};
use crate::formats::{Block, Decoder, Format, RECORD_BYTES_MAX};
use crate::pace::Pace;

/// Rows of a batch at most.
pub const BATCH_ROWS: usize = 4096;
/// Blocks read in one poll at most.
const BLOCKS_PER_POLL: usize = 8;

/// Files as a source.
pub struct FileSource(Arc<FileTable>);

/// What enumerator and readers share.
pub(super) struct FileTable {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) layout: Layout,
    pub(super) pace: Option<Pace>,
    pub(super) split_bytes: u64,
    /// How often to look for new files; the source then never ends.
    pub(super) monitor_ms: Option<u64>,
    /// What the absolute path of a file must match.
    pub(super) pattern: Option<Regex>,
}

impl FileTable {
    /// Rows that may be read now, or the milliseconds until some may.
    fn rows_max(&self, context: &ReaderContext) -> std::result::Result<usize, i64> {
        match &self.pace {
            None => Ok(BATCH_ROWS),
            Some(pace) => pace.take(context.clock.now_nanos(), BATCH_ROWS),
        }
    }
}

impl FileSource {
    pub(super) fn new(table: FileTable) -> Self {
        FileSource(Arc::new(table))
    }
}

impl Source for FileSource {
    fn boundedness(&self) -> Boundedness {
        match self.0.monitor_ms {
            Some(_) => Boundedness::Unbounded,
            None => Boundedness::Bounded,
        }
    }

    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(FileEnumerator { table: self.0.clone(), known: BTreeSet::new() }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let (table, queue) = (self.0.clone(), VecDeque::new());
        if let Some(format) = self.0.format.bulk() {
            return Ok(Box::new(BulkFileReader { format: format.clone(), table, context, queue, current: None }));
        }
        let decoder = self.0.format.decoder(&self.0.layout.decoded)?;
        Ok(Box::new(FileReader { table, context, decoder, queue, current: None }))
    }
}

struct FileEnumerator {
    table: Arc<FileTable>,
    /// Files that were cut into parts before: in an earlier start, or in this one.
    known: BTreeSet<PathBuf>,
}

impl SplitEnumerator for FileEnumerator {
    fn restore(&mut self, known: &BTreeSet<String>) {
        self.known = known.iter().map(PathBuf::from).collect();
    }

    /// The last part of a file goes to its end, wherever that is by the time it is read: a file that was cut before is not cut
    /// again, or what it has grown by would be read twice.
    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        let mut splits = Vec::new();
        for (path, bytes) in list_files(&self.table.path)? {
            if self.known.contains(&path) || !self.matches(&path) {
                continue;
            }
            // The changes of a key are in the order of the file.
            let whole = self.table.format.changelog_mode() != ChangelogMode::Append;
            let split_bytes = if whole { u64::MAX } else { self.table.split_bytes };
            let parts = match self.table.format.bulk().map(|bulk| bulk.pieces(&path)) {
                Some(Ok(pieces)) => parts_of_pieces(&path, &pieces, split_bytes),
                // It was removed between listing and looking.
                Some(Err(_)) if !path.exists() => continue,
                Some(Err(e)) if self.table.monitor_ms.is_some() => {
                    tracing::warn!("{e}; it is tried again at the next look");
                    continue;
                }
                Some(Err(e)) => return Err(e),
                None => parts(&path, bytes, self.table.format.quote(), split_bytes)?,
            };
            splits.extend(parts.iter().map(FileSplit::encode));
            self.known.insert(path);
        }
        Ok(splits)
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        self.table.monitor_ms
    }
}

impl FileEnumerator {
    fn matches(&self, path: &Path) -> bool {
        let Some(pattern) = &self.table.pattern else { return true };
        std::path::absolute(path).is_ok_and(|path| pattern.is_match(&path.to_string_lossy()))
    }
}

struct Open {
    id: Arc<str>,
    input: Input,
}

struct FileReader {
    table: Arc<FileTable>,
    context: ReaderContext,
    decoder: Box<dyn Decoder>,
    queue: VecDeque<FileSplit>,
    current: Option<Open>,
}

fn again(context: &ReaderContext, in_ms: i64) -> ReaderEvent {
    ReaderEvent::Wait { until_ms: context.clock.now_ms().saturating_add(in_ms) }
}

fn enqueue(queue: &mut VecDeque<FileSplit>, splits: &[Split]) -> Result<()> {
    splits.iter().try_for_each(|split| {
        queue.push_back(FileSplit::decode(split)?);
        Ok(())
    })
}

impl FileReader {
    /// Decodes up to `rows_max` rows of the open split; the second value says whether the split has ended.
    fn read(&mut self, rows_max: usize) -> Result<(usize, bool)> {
        let Some(Open { input, .. }) = &mut self.current else { return Ok((0, true)) };
        if !input.settle()? {
            return Ok((0, false));
        }
        for _ in 0..BLOCKS_PER_POLL {
            let stop = input.split.end.saturating_sub(input.split.offset);
            let stop = usize::try_from(stop).unwrap_or(usize::MAX);
            let rows = self.decoder.rows();
            if stop == 0 {
                return Ok((rows, rows == 0));
            }
            let block = Block { data: input.data(), last: input.eof, stop, rows_max: rows_max.saturating_sub(rows) };
            let done = self.decoder.decode(block).map_err(|bad| {
                let line = input.line_number(bad.line);
                bad.into_error(format_args!("file '{}', line {line}", input.split.path.display()))
            })?;
            input.advance(done.consumed, done.lines);
            self.context.metrics.bytes.add(done.consumed as u64);
            self.context.metrics.bad_skipped.add(done.skipped);
            let rows = self.decoder.rows();
            if rows >= rows_max {
                return Ok((rows, false));
            }
            if input.eof {
                return Ok((rows, rows == 0 && (input.data().is_empty() || done.consumed == 0)));
            }
            debug_assert!(input.data().len() <= 2 * RECORD_BYTES_MAX, "a decoder gives up on longer records");
            input.fill()?;
        }
        Ok((self.decoder.rows(), false))
    }
}

impl SplitReader for FileReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        enqueue(&mut self.queue, &splits)
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        if self.current.is_none() {
            let Some(split) = self.queue.pop_front() else { return Ok(ReaderEvent::Drained) };
            let id = split.id().into();
            self.current = Some(Open { id, input: Input::open(split, self.table.format.skips_first_line())? });
        }
        let rows_max = match self.table.rows_max(&self.context) {
            Ok(rows) => rows,
            Err(wait_ms) => return Ok(again(&self.context, wait_ms)),
        };
        let (rows, ended) = self.read(rows_max)?;
        if let Some(pace) = &self.table.pace {
            pace.give_back(rows_max.saturating_sub(rows));
        }
        let Some(open) = &self.current else { return Ok(ReaderEvent::Drained) };
        if rows > 0 {
            let columns = self.decoder.finish()?;
            let batch = self.table.layout.complete(&open.input.split.path, columns, rows)?;
            let batch = ChangeBatch::new(batch, self.decoder.kinds(), None);
            return Ok(ReaderEvent::Rows { split: open.id.clone(), batch });
        }
        if ended {
            let split = open.id.clone();
            self.current = None;
            return Ok(ReaderEvent::SplitFinished { split });
        }
        Ok(again(&self.context, 0))
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let open = self.current.iter().map(|open| open.input.position().encode());
        Ok(open.chain(self.queue.iter().map(FileSplit::encode)).collect())
    }
}

/// Reads formats of whole files: the position is the number of rows that were read of a part.
struct BulkFileReader {
    format: BulkFormat,
    table: Arc<FileTable>,
    context: ReaderContext,
    queue: VecDeque<FileSplit>,
    current: Option<OpenBulk>,
}

struct OpenBulk {
    id: Arc<str>,
    split: FileSplit,
    reader: Box<dyn BulkReader>,
}

impl SplitReader for BulkFileReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        enqueue(&mut self.queue, &splits)
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        if self.current.is_none() {
            let Some(split) = self.queue.pop_front() else { return Ok(ReaderEvent::Drained) };
            let part = Part { path: &split.path, pieces: (split.start, split.end), skip_rows: split.offset };
            let reader = self.format.reader(part, &self.table.layout.decoded)?;
            self.current = Some(OpenBulk { id: split.id().into(), split, reader });
        }
        let rows_max = match self.table.rows_max(&self.context) {
            Ok(rows) => rows,
            Err(wait_ms) => return Ok(again(&self.context, wait_ms)),
        };
        let Some(open) = &mut self.current else { return Ok(ReaderEvent::Drained) };
        let step = open.reader.next(rows_max)?;
        if let Some(pace) = &self.table.pace {
            pace.give_back(rows_max - if let Step::Rows(_, rows) = &step { *rows } else { 0 });
        }
        let (columns, rows) = match step {
            Step::Rows(columns, rows) => (columns, rows),
            Step::Again => return Ok(again(&self.context, 0)),
            Step::End => {
                let split = open.id.clone();
                self.current = None;
                return Ok(ReaderEvent::SplitFinished { split });
            }
        };
        open.split.offset += rows as u64;
        let bytes: usize = columns.iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        self.context.metrics.bytes.add(bytes as u64);
        let batch = self.table.layout.complete(&open.split.path, columns, rows)?;
        Ok(ReaderEvent::Rows { split: open.id.clone(), batch: ChangeBatch::append(batch) })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let open = self.current.iter().map(|open| open.split.encode());
        Ok(open.chain(self.queue.iter().map(FileSplit::encode)).collect())
    }
}
