//! A part of a file, the position in it, and the list of all parts of a path; never reads a record.

use std::fs;
use std::path::{Path, PathBuf};

use flott_core::source::Split;
use flott_core::{Error, Result};

use crate::wire::{Reader, Writer};

/// Tag and version of the encoded position.
const TAG: (u8, u8) = (b'F', 1);

/// Plain files longer than this are read in parts of this size.
pub const SPLIT_BYTES: u64 = 16 << 20;

/// A part of a file with the position in it. Of a format of whole files, `start` and `end` number its pieces (row groups) and `offset`
/// counts the rows that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSplit {
    /// The file.
    pub path: PathBuf,
    /// First byte of the part; the record that is cut by it belongs to the part before.
    pub start: u64,
    /// Records that begin at or after this byte belong to the next part; `u64::MAX`: the part goes to the end.
    pub end: u64,
    /// The next byte to read (uncompressed).
    pub offset: u64,
    /// Lines of this part before `offset`.
    pub line: u64,
}

impl FileSplit {
    /// The whole file.
    pub fn whole(path: PathBuf) -> Self {
        FileSplit { path, start: 0, end: u64::MAX, offset: 0, line: 0 }
    }

    /// Name of the part: stable over restarts, also when the file has grown.
    pub fn id(&self) -> String {
        if self.start == 0 {
            self.path.display().to_string()
        } else {
            format!("{}#{}", self.path.display(), self.start)
        }
    }

    /// With the position encoded.
    pub fn encode(&self) -> Split {
        let path = self.path.to_string_lossy();
        let state = Writer::new(TAG.0, TAG.1).text(&path).u64(self.start).u64(self.end).u64(self.offset).u64(self.line);
        Split { id: self.id(), state: state.done() }
    }

    /// From its encoding; a split without state is a whole file from the beginning.
    pub fn decode(split: &Split) -> Result<Self> {
        if split.state.is_empty() {
            return Ok(Self::whole(PathBuf::from(&split.id)));
        }
        let mut r = Reader::new("file position", &split.state, TAG.0, TAG.1)?;
        let path = PathBuf::from(r.text()?);
        let split = FileSplit { path, start: r.u64()?, end: r.u64()?, offset: r.u64()?, line: r.u64()? };
        r.end()?;
        Ok(split)
    }
}

/// Whether a file or directory is invisible to readers.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

/// All files at or below `path`, sorted; an error that names the path when there is nothing.
pub fn list_files(path: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let meta = fs::metadata(path).map_err(|e| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let what = if missing { "does not exist".to_owned() } else { format!("cannot be read: {e}") };
        Error::user("filesystem.path", format!("the path '{}' {what}", path.display()))
            .detail(format!("looked for '{}'", std::path::absolute(path).unwrap_or_else(|_| path.into()).display()))
            .hint("correct the table's option 'path'; relative paths start at the directory of the process")
    })?;
    if meta.is_file() {
        return Ok(vec![(path.to_path_buf(), meta.len())]);
    }
    let mut files = Vec::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(dir) = open.pop() {
        let failed =
            |e| Error::user("filesystem.path", format!("the directory '{}' cannot be listed: {e}", dir.display()));
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            // A file may be removed between listing and looking.
            let Ok(meta) = fs::metadata(entry.path()) else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.is_file() {
                files.push((entry.path(), meta.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The parts of one file: one, unless it is plain, long, and every line end in it is the end of a record.
pub fn parts(path: &Path, bytes: u64, quote: Option<u8>, split_bytes: u64) -> Result<Vec<FileSplit>> {
    let whole = FileSplit::whole(path.to_path_buf());
    if bytes <= split_bytes || is_gzip(path) {
        return Ok(vec![whole]);
    }
    if let Some(quote) = quote
        && contains(path, quote)?
    {
        return Ok(vec![whole]);
    }
    let starts = (0..bytes).step_by(usize::try_from(split_bytes).unwrap_or(usize::MAX));
    let mut parts: Vec<_> =
        starts.map(|start| FileSplit { start, end: start + split_bytes, offset: start, ..whole.clone() }).collect();
    if let Some(part) = parts.last_mut() {
        part.end = u64::MAX;
    }
    Ok(parts)
}

/// The parts of a file of pieces that can be read by themselves, each of about `split_bytes`.
pub fn parts_of_pieces(path: &Path, pieces: &[u64], split_bytes: u64) -> Vec<FileSplit> {
    let whole = FileSplit::whole(path.to_path_buf());
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, piece) in (1u64..).zip(pieces) {
        bytes += piece;
        if bytes >= split_bytes || i == pieces.len() as u64 {
            parts.push(FileSplit { start, end: i, ..whole.clone() });
            (start, bytes) = (i, 0);
        }
    }
    if parts.is_empty() { vec![whole] } else { parts }
}

/// Whether the file is compressed.
pub fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"))
}

/// Whether `byte` occurs in the file: one pass over it at the speed of the disk.
fn contains(path: &Path, byte: u8) -> Result<bool> {
    use std::io::Read;
    let failed = |e| Error::retry("filesystem.read", format!("cannot read '{}': {e}", path.display()));
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(failed)? {
            0 => return Ok(false),
            n if memchr::memchr(byte, &block[..n]).is_some() => return Ok(true),
            _ => {}
        }
    }
}
