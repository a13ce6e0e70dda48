//! The format `parquet` of files: by row groups, only the columns that are read, found by name. Never shifts a time by a zone.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use flott_core::registry::OptionSpec;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::bulk::{BulkReader, BulkWriter, Part, changed, damaged, unopened, unwritten};
use super::by_name::{self, Batches};
use crate::options::{TableOptions, option};

/// Options of the format.
pub const OPTIONS: &[OptionSpec] = &[
    option("parquet.compression", "ENUM(SNAPPY|GZIP|UNCOMPRESSED)", "SNAPPY", false, "How pages are compressed."),
    option(
        "parquet.utc-timezone",
        "BOOLEAN",
        "true",
        false,
        "Only true is supported: times are kept as they are, and instants in UTC (in Flink the default is false).",
    ),
    option("parquet.block.size", "MEMORY", "32 mb", false, "A row group ends when it is about this long."),
    option("parquet.enable.dictionary", "BOOLEAN", "true", false, "Repeated values are written once."),
    option("parquet.batch-size", "INT", "2048", false, "Accepted without effect."),
];

/// Rows of a batch out of a file.
const BATCH_ROWS: usize = 4096;

/// Options of the format, read.
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    compression: Compression,
    block_bytes: u64,
    dictionary: bool,
}

impl ParquetOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let compression = match o.text("parquet.compression").unwrap_or("SNAPPY").trim().to_ascii_uppercase().as_str() {
            "SNAPPY" => Compression::SNAPPY,
            "GZIP" => Compression::GZIP(Default::default()),
            "UNCOMPRESSED" => Compression::UNCOMPRESSED,
            _ => return Err(o.bad("parquet.compression", "one of SNAPPY, GZIP, UNCOMPRESSED")),
        };
        if !o.flag("parquet.utc-timezone", true)? {
            let error = o.refused("parquet.utc-timezone", "times are not shifted by the zone of the machine");
            return Err(error.hint("leave it out, or set it to 'true' in Flink too"));
        }
        let block_bytes = o.memory_bytes("parquet.block.size")?.unwrap_or(32 << 20);
        if block_bytes == 0 {
            return Err(o.bad("parquet.block.size", "above 0"));
        }
        Ok(ParquetOptions { compression, block_bytes, dictionary: o.flag("parquet.enable.dictionary", true)? })
    }
}

/// Refuses columns that parquet has no form for here.
pub(super) fn check(columns: &[Column]) -> Result<()> {
    fn plain(kind: &TypeKind) -> bool {
        match kind {
            TypeKind::Array(item) => plain(&item.kind),
            TypeKind::Map(k, v) => plain(&k.kind) && plain(&v.kind),
            TypeKind::Row(fields) => fields.iter().all(|(_, t)| plain(&t.kind)),
            TypeKind::Null | TypeKind::Variant | TypeKind::Bitmap | TypeKind::Multiset(_) => false,
            TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime => false,
            _ => true,
        }
    }
    match columns.iter().find(|c| !plain(&c.data_type.kind)) {
        Some(c) => Err(Error::user(
            "format.parquet.type",
            format!("column `{}`: the format 'parquet' has no values of {}", c.name, c.data_type),
        )
        .hint("cast it to a STRING or a number")),
        None => Ok(()),
    }
}

fn metadata(path: &Path) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(|e| unopened(path, &e))?;
    // What a writer noted of Arrow's types does not count: the file's own types do.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|e| damaged(path, "parquet", e))?;
    Ok((file, metadata))
}

/// The bytes of each row group.
pub(super) fn row_groups(path: &Path) -> Result<Vec<u64>> {
    let (_, metadata) = metadata(path)?;
    let bytes = metadata.metadata().row_groups().iter().map(|g| g.compressed_size().unsigned_abs());
    Ok(bytes.collect())
}

/// A reader of row groups.
pub(super) fn reader(part: Part<'_>, columns: &[Column]) -> Result<Box<dyn BulkReader>> {
    let (file, metadata) = metadata(part.path)?;
    let fields = metadata.schema().fields().clone();
    let found: Vec<Option<usize>> = columns.iter().map(|c| by_name::place(&fields, &c.name)).collect();
    let mut read: Vec<usize> = found.iter().flatten().copied().collect();
    read.sort_unstable();
    read.dedup();
    let groups = metadata.metadata().row_groups();
    let (first, end) = (part.pieces.0, part.pieces.1.min(groups.len() as u64));
    if first > end || (part.pieces.1 != u64::MAX && part.pieces.1 > groups.len() as u64) {
        return Err(changed(part.path, format_args!("it has {} row groups now", groups.len())));
    }
    let rows: u64 = groups[first as usize..end as usize].iter().map(|g| g.num_rows().unsigned_abs()).sum();
    if part.skip_rows > rows {
        let what = format_args!("{} rows were read of a part that has {rows} now", part.skip_rows);
        return Err(changed(part.path, what));
    }
    let places = found.iter().map(|f| f.and_then(|f| read.iter().position(|r| *r == f)));
    let columns = columns.iter().cloned().zip(places).collect();
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let mask = ProjectionMask::roots(builder.parquet_schema(), read);
    let offset = usize::try_from(part.skip_rows).unwrap_or(usize::MAX);
    let batches = builder
        .with_projection(mask)
        .with_row_groups((first as usize..end as usize).collect())
        .with_batch_size(BATCH_ROWS)
        .with_offset(offset)
        .build()
        .map_err(|e| damaged(part.path, "parquet", e))?;
    let path = part.path.to_path_buf();
    Ok(Box::new(Batches { path, format: "parquet", columns, batches, skip: 0, rest: None }))
}

struct Writer {
    path: String,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    block_bytes: u64,
}

/// A writer of a file.
pub(super) fn writer(
    options: &ParquetOptions,
    file: File,
    path: &Path,
    columns: &[Column],
) -> Result<Box<dyn BulkWriter>> {
    let properties = WriterProperties::builder()
        .set_compression(options.compression)
        .set_dictionary_enabled(options.dictionary)
        .set_created_by(concat!("flott ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let schema = arrow_schema(columns);
    let settings = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), settings);
    let path = path.display().to_string();
    let writer = writer.map_err(|e| unwritten(&path, e))?;
    Ok(Box::new(Writer { path, schema, writer, block_bytes: options.block_bytes }))
}

impl BulkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())?;
        self.writer.write(&rows).map_err(|e| unwritten(&self.path, e))?;
        // What a row group holds lies in memory until it ends.
        if self.held_bytes() >= self.block_bytes { self.release() } else { Ok(()) }
    }
    fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }
    fn held_bytes(&self) -> u64 {
        self.writer.in_progress_size().max(self.writer.memory_size()) as u64
    }
    fn release(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| unwritten(&self.path, e))
    }
    fn finish(self: Box<Self>) -> Result<File> {
        let Writer { path, writer, .. } = *self;
        writer.into_inner().map_err(|e| unwritten(&path, e))
    }
}
