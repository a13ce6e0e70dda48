//! The `filesystem` connector: local files as a source, which may watch a directory, and as an exactly-once sink.

pub mod committer;
pub mod input;
pub mod lookup;
pub mod naming;
pub mod partition_commit;
pub mod reader;
pub mod sink;
pub mod split;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use flott_core::config::Configuration;
use flott_core::lookup::LookupSource;
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::Source;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};

use crate::formats::{FORMAT_OPTION, Format};
use crate::options::{TableOptions, option};
use crate::pace::Pace;

pub use sink::FileSink;

/// Options of the connector.
pub const OPTIONS: &[OptionSpec] = &[
    option("path", "STRING", "", true, "File or directory: `/data/in`, `out/hourly` or `file:///data/in`."),
    FORMAT_OPTION,
    option(
        "source.rows-per-second",
        "BIGINT",
        "",
        false,
        "Replays at this rate, all subtasks of a process together (Flott's own option).",
    ),
    option(
        "source.monitor-interval",
        "DURATION",
        "",
        false,
        "Looks for new files so often, and never ends; files that were seen are in the checkpoint. Without it the source ends.",
    ),
    option(
        "source.path.regex-pattern",
        "STRING",
        "",
        false,
        "Files below 'path' whose whole absolute path matches this expression are read.",
    ),
    option("source.report-statistics", "ENUM(ALL|NONE)", "ALL", false, "Accepted without effect."),
    option("sink.rolling-policy.file-size", "MEMORY", "128 mb", false, "A part file ends when it is this long."),
    option(
        "sink.rolling-policy.rollover-interval",
        "DURATION",
        "30 min",
        false,
        "A part file ends when it is this old; it ends at every checkpoint anyway.",
    ),
    option(
        "sink.rolling-policy.inactivity-interval",
        "DURATION",
        "30 min",
        false,
        "A part file ends when nothing was written to it for so long.",
    ),
    option("sink.rolling-policy.check-interval", "DURATION", "1 min", false, "How often the two ages are checked."),
    option("partition.default-name", "STRING", "__DEFAULT_PARTITION__", false, "Directory of NULL partitions."),
    option("auto-compaction", "BOOLEAN", "false", false, "Refused when true: part files are not merged."),
    option("sink.compression", "ENUM(none|gzip)", "none", false, "How part files are compressed (Flott's own option)."),
    option(
        "test.commit-deduplication",
        "ENUM(on|off)",
        "on",
        false,
        "For tests of exactly-once only: off lets a repeated commit make a second file.",
    ),
];

/// Metadata columns.
const METADATA: [(&str, TypeKind); 4] = [
    ("file.path", TypeKind::STRING),
    ("file.name", TypeKind::STRING),
    ("file.size", TypeKind::BigInt),
    ("file.modification-time", TypeKind::TimestampLtz(3)),
];

/// Name of the partition directory of NULL, unless an option says otherwise.
pub const DEFAULT_PARTITION: &str = "__DEFAULT_PARTITION__";

/// The factory.
pub struct FilesystemFactory;

/// The path of a table as a local path.
fn local_path(options: &TableOptions<'_>) -> Result<PathBuf> {
    let path = options.text("path").unwrap_or_default().trim();
    let local = path.strip_prefix("file://").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
    if local.is_empty() {
        return Err(options.bad("path", "the name of a file or directory"));
    }
    if local.contains("://") || (path.starts_with("file://") && !local.starts_with('/')) {
        return Err(options.bad("path", "a local path; write '/data/in', 'out/hourly' or 'file:///data/in'"));
    }
    Ok(PathBuf::from(local))
}

impl ConnectorFactory for FilesystemFactory {
    fn identifier(&self) -> &'static str {
        "filesystem"
    }

    fn options(&self) -> &'static [OptionSpec] {
        static ALL: LazyLock<Vec<OptionSpec>> = LazyLock::new(|| [OPTIONS, partition_commit::OPTIONS].concat());
        &ALL
    }

    fn metadata(&self, _: &BTreeMap<String, String>) -> Vec<(String, DataType)> {
        METADATA.iter().map(|(key, kind)| ((*key).to_owned(), kind.clone().not_null())).collect()
    }

    fn source_mode(&self, table: &TableSpec) -> Result<ChangelogMode> {
        let o = TableOptions::checked(table, &[OPTIONS, partition_commit::OPTIONS, Format::options_of(table)?])?;
        Ok(Format::read(&o)?.changelog_mode())
    }

    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let o = TableOptions::checked(table, &[OPTIONS, partition_commit::OPTIONS, Format::options_of(table)?])?;
        let monitor_ms = match o.duration_ms("source.monitor-interval")? {
            Some(ms) if ms <= 0 => return Err(o.bad("source.monitor-interval", "a duration above 0")),
            ms => ms.map(i64::unsigned_abs),
        };
        let pattern = o.text("source.path.regex-pattern").map(|p| regex::Regex::new(&format!("^(?:{p})$")));
        let pattern = pattern.transpose().map_err(|e| {
            o.bad("source.path.regex-pattern", "a regular expression").detail(e.to_string().replace('\n', " "))
        })?;
        let rate: Option<f64> = o.number("source.rows-per-second", "a number of rows above 0")?;
        if rate.is_some_and(|r| r <= 0.0 || !r.is_finite()) {
            return Err(o.bad("source.rows-per-second", "a number of rows above 0"));
        }
        let layout = input::Layout::new(table, o.text("partition.default-name").unwrap_or(DEFAULT_PARTITION))?;
        let format = Format::read(&o)?;
        // Types that the format cannot carry are refused here, not in the task.
        format.check_read(&layout.decoded)?;
        let table = reader::FileTable {
            path: local_path(&o)?,
            format,
            layout,
            pace: rate.map(Pace::new),
            split_bytes: split::SPLIT_BYTES,
            monitor_ms,
            pattern,
        };
        Ok(Arc::new(reader::FileSource::new(table)))
    }

    fn lookup(&self, table: &TableSpec, keys: &[usize], config: &Configuration) -> Result<Arc<dyn LookupSource>> {
        if table.options.contains_key("source.monitor-interval") {
            let o = TableOptions::checked(table, &[OPTIONS, partition_commit::OPTIONS, Format::options_of(table)?])?;
            return Err(o.refused("source.monitor-interval", "a table to look up in is read once, as a whole"));
        }
        if self.source_mode(table)? != ChangelogMode::Append {
            let text = format!("table `{}`: a file of changes cannot be looked up in", table.name);
            return Err(
                Error::user("filesystem.lookup", text).hint("use a temporal join by event time, or a regular one")
            );
        }
        Ok(Arc::new(lookup::FileLookup::new(self.source(table, config)?, &table.columns, keys)?))
    }

    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        let o = TableOptions::checked(table, &[OPTIONS, partition_commit::OPTIONS, Format::options_of(table)?])?;
        if o.flag("auto-compaction", false)? {
            return Err(o.refused("auto-compaction", "part files are not merged"));
        }
        if let Some(column) = table.columns.iter().find(|c| c.metadata_key.is_some()) {
            return Err(Error::user(
                "filesystem.metadata",
                format!("table `{}`: the metadata column `{}` cannot be written", table.name, column.name),
            )
            .hint("declare it VIRTUAL"));
        }
        let above_zero = |key, value: Option<u64>| match value {
            Some(0) => Err(o.bad(key, "above 0")),
            other => Ok(other),
        };
        let interval = |key, default| Ok::<_, Error>(o.duration_ms(key)?.unwrap_or(default));
        let format = Format::read(&o)?;
        let gzip = o.one_of("sink.compression", &["none", "gzip"], 0)? == 1;
        if gzip && !format.writes_text() {
            let error = o.refused("sink.compression", "files of this format are not compressed as a whole");
            return Err(error.hint("use the format's own option, as 'parquet.compression' or 'avro.codec'"));
        }
        let options = sink::SinkOptions {
            path: local_path(&o)?,
            gzip,
            file_bytes_max: above_zero(
                "sink.rolling-policy.file-size",
                o.memory_bytes("sink.rolling-policy.file-size")?,
            )?
            .unwrap_or(128 << 20),
            rollover_ms: interval("sink.rolling-policy.rollover-interval", 1_800_000)?,
            inactivity_ms: interval("sink.rolling-policy.inactivity-interval", 1_800_000)?,
            check_ms: interval("sink.rolling-policy.check-interval", 60_000)?.max(1),
            default_partition: o.text("partition.default-name").unwrap_or(DEFAULT_PARTITION).to_owned(),
            partition_commit: partition_commit::CommitPolicy::read(&o)?.filter(|_| !table.partition_keys.is_empty()),
            commit_dedup_disabled: o.one_of("test.commit-deduplication", &["on", "off"], 0)? == 1,
            format,
        };
        Ok(Arc::new(FileSink::new(options, table)?))
    }
}

#[cfg(all(test, feature = "parquet", feature = "avro"))]
mod bulk_tests;
#[cfg(test)]
mod tests;
