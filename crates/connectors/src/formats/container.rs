//! The format `avro` of files: object container files, which carry their schema. Fields are found by name. Never reads single messages.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer as AvroWriter, WriterBuilder};
use arrow_schema::SchemaRef;
use flott_core::Result;
use flott_core::registry::OptionSpec;
use flott_core::types::{Column, arrow_schema};

use super::bulk::{BulkReader, BulkWriter, Part, damaged, unopened, unwritten};
use super::by_name::{self, Batches};
use super::message::avro::{self, AvroOptions};
use crate::options::{TableOptions, option};

/// Options of the format in files.
pub const OPTIONS: &[OptionSpec] = &[
    avro::ENCODING,
    avro::TIMESTAMP_MAPPING,
    option(
        "avro.codec",
        "ENUM(snappy|deflate|null)",
        "snappy",
        false,
        "How blocks are compressed; bzip2 and xz are refused.",
    ),
];

/// Options of the format, read.
#[derive(Clone, Debug)]
pub struct ContainerOptions {
    avro: AvroOptions,
    codec: Option<CompressionCodec>,
}

impl ContainerOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let codec = match o.text("avro.codec").unwrap_or("snappy").trim() {
            "snappy" => Some(CompressionCodec::Snappy),
            "deflate" => Some(CompressionCodec::Deflate),
            "null" => None,
            _ => return Err(o.bad("avro.codec", "one of snappy, deflate, null")),
        };
        Ok(ContainerOptions { avro: AvroOptions::read(o)?, codec })
    }
}

/// Refuses columns that Avro has no form for.
pub(super) fn check(options: &ContainerOptions, columns: &[Column]) -> Result<()> {
    avro::encoder(&options.avro, columns).map(drop)
}

/// A reader of a file.
pub(super) fn reader(part: Part<'_>, columns: &[Column]) -> Result<Box<dyn BulkReader>> {
    check_whole(part.path)?;
    let file = File::open(part.path).map_err(|e| unopened(part.path, &e))?;
    let batches = ReaderBuilder::new().with_batch_size(4096).build(BufReader::with_capacity(256 << 10, file));
    let batches = batches.map_err(|e| damaged(part.path, "avro", e))?;
    let schema = batches.schema();
    let place = |c: &Column| (c.clone(), by_name::place(schema.fields(), &c.name));
    let columns = columns.iter().map(place).collect();
    // Blocks are not numbered: what was read before a restore is read over.
    let (path, skip) = (part.path.to_path_buf(), part.skip_rows);
    Ok(Box::new(Batches { path, format: "avro", columns, batches, skip, rest: None }))
}

/// Refuses a file that is not whole: it was cut, or is still being written.
pub(super) fn check_whole(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| unopened(path, &e))?;
    match is_whole(&file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged(path, "avro", "it does not end with a whole block: it was cut, or is being written")),
        Err(e) => Err(damaged(path, "avro", e)),
    }
}

/// Whether a file ends with the mark that stands behind its header and behind every block: `arrow-avro` ends quietly with what is left
/// of a block. The header is `Obj`, 1, a map of bytes and the mark (Avro 1.11, *Object Container Files*).
fn is_whole(file: &File) -> io::Result<bool> {
    let mut input = BufReader::new(file);
    let mut magic = [0; 4];
    input.read_exact(&mut magic)?;
    if magic != *b"Obj\x01" {
        return Err(invalid("it does not begin with `Obj` and 1"));
    }
    loop {
        let entries = long(&mut input)?;
        if entries == 0 {
            break;
        }
        if entries < 0 {
            // The bytes of this part of the map.
            long(&mut input)?;
        }
        for _ in 0..entries.unsigned_abs() {
            for _key_and_value in 0..2 {
                let length =
                    u64::try_from(long(&mut input)?).map_err(|_| invalid("its header has a negative length"))?;
                if io::copy(&mut input.by_ref().take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    let (mut mark, mut end) = ([0; 16], [0; 16]);
    input.read_exact(&mut mark)?;
    input.seek(SeekFrom::End(-16))?;
    input.read_exact(&mut end)?;
    Ok(mark == end)
}

/// A number as Avro writes it: zigzag, seven bits a byte, the lowest first.
fn long(input: &mut impl Read) -> io::Result<i64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(invalid("its header has a number of more than 64 bits"))
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Counts what goes into a file.
struct Counted {
    file: BufWriter<File>,
    bytes: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Writer {
    path: String,
    schema: SchemaRef,
    columns: Vec<Column>,
    writer: AvroWriter<Counted, AvroOcfFormat>,
    bytes: Arc<AtomicU64>,
}

/// A writer of a file.
pub(super) fn writer(
    options: &ContainerOptions,
    file: File,
    path: &Path,
    columns: &[Column],
) -> Result<Box<dyn BulkWriter>> {
    let path = path.display().to_string();
    let (schema, carrier) = (avro::carrier(&options.avro, columns)?, arrow_schema(columns));
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Counted { file: BufWriter::new(file), bytes: Arc::clone(&bytes) };
    let writer = WriterBuilder::new(schema).with_compression(options.codec);
    let writer = writer.build::<_, AvroOcfFormat>(counted).map_err(|e| unwritten(&path, e))?;
    Ok(Box::new(Writer { path, schema: carrier, columns: columns.to_vec(), writer, bytes }))
}

impl BulkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        avro::check_nulls(&self.columns, rows)?;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())?;
        self.writer.write(&rows).map_err(|e| unwritten(&self.path, e))
    }
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    fn finish(self: Box<Self>) -> Result<File> {
        let Writer { path, mut writer, .. } = *self;
        writer.finish().map_err(|e| unwritten(&path, e))?;
        writer.into_inner().file.into_inner().map_err(|e| unwritten(&path, e.error()))
    }
}
