//! When a partition is complete: its success file becomes visible with the part files of the same checkpoint. Commits nothing itself.
//!
//! Each subtask judges the partitions it wrote, by its own clock or watermark. All is complete at the end of data.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use flott_core::registry::OptionSpec;
use flott_core::sink::SinkContext;
use flott_core::text::parse_timestamp_units;
use flott_core::{Error, Result};

use super::committer::Pending;
use super::naming::{self, PENDING};
use crate::options::{TableOptions, option};
use crate::wire::{Reader, Writer};

/// Tag and version of the encoded partitions.
const TAG: (u8, u8) = (b'C', 1);

/// Options about partitions that are complete.
pub const OPTIONS: &[OptionSpec] = &[
    option(
        "sink.partition-commit.trigger",
        "ENUM(process-time|partition-time)",
        "process-time",
        false,
        "What says that a partition is complete: the clock, or the watermark and the time in the partition's values.",
    ),
    option("sink.partition-commit.delay", "DURATION", "0 s", false, "How long after its time a partition is complete."),
    option(
        "sink.partition-commit.policy.kind",
        "ENUM(success-file)",
        "",
        false,
        "What is done when a partition is complete; without it nothing. `metastore` and `custom` are refused.",
    ),
    option("sink.partition-commit.success-file.name", "STRING", "_SUCCESS", false, "Name of the success file."),
    option(
        "sink.partition-commit.watermark-time-zone",
        "STRING",
        "UTC",
        false,
        "Zone of the time in the partition's values; only UTC.",
    ),
    option("partition.time-extractor.kind", "ENUM(default)", "default", false, "How a partition's time is found."),
    option(
        "partition.time-extractor.timestamp-pattern",
        "STRING",
        "",
        false,
        "The partition's time as text, with `$column` for values: '$dt $hour:00:00'. Without it the first value is the time.",
    ),
];

/// What says that a partition is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trigger {
    ProcessTime,
    /// The pattern of the partition's time.
    PartitionTime(Option<String>),
}

/// When the success files of a table appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPolicy {
    trigger: Trigger,
    delay_ms: i64,
    file: String,
}

impl CommitPolicy {
    /// From the table's options; `None` when nothing is done.
    pub fn read(o: &TableOptions<'_>) -> Result<Option<Self>> {
        let trigger = match o.one_of("sink.partition-commit.trigger", &["process-time", "partition-time"], 0)? {
            0 => Trigger::ProcessTime,
            _ => Trigger::PartitionTime(o.text("partition.time-extractor.timestamp-pattern").map(str::to_owned)),
        };
        let delay_ms = o.duration_ms("sink.partition-commit.delay")?.unwrap_or(0);
        o.one_of("partition.time-extractor.kind", &["default"], 0)?;
        if o.text("sink.partition-commit.watermark-time-zone").is_some_and(|z| !z.eq_ignore_ascii_case("UTC")) {
            return Err(o.refused("sink.partition-commit.watermark-time-zone", "times of partitions are taken as UTC"));
        }
        match o.text("sink.partition-commit.policy.kind") {
            None => Ok(None),
            Some("success-file") => {
                let name = o.text("sink.partition-commit.success-file.name").unwrap_or("_SUCCESS");
                if !name.starts_with(['_', '.']) || name.contains('/') {
                    let expected = "a name that begins with `_` or `.`, which readers skip";
                    return Err(o.bad("sink.partition-commit.success-file.name", expected));
                }
                Ok(Some(CommitPolicy { trigger, delay_ms, file: name.to_owned() }))
            }
            Some(_) => Err(o.refused(
                "sink.partition-commit.policy.kind",
                "there is no metastore and no class to load; write 'success-file'",
            )),
        }
    }

    /// Of a partition that begins to be written: when it is complete.
    fn due(&self, values: &[(String, String)], now_ms: i64) -> Result<i64> {
        let Trigger::PartitionTime(pattern) = &self.trigger else { return Ok(now_ms.saturating_add(self.delay_ms)) };
        let text = match pattern {
            None => values.first().map(|(_, v)| v.clone()).unwrap_or_default(),
            Some(pattern) => {
                // Longer names first: `$hour` is not `$h` and `our`.
                let mut by_length: Vec<_> = values.iter().collect();
                by_length.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                by_length.iter().fold(pattern.clone(), |t, (name, value)| t.replace(&format!("${name}"), value))
            }
        };
        let full = match text.len() {
            // A date, or a time of day without seconds.
            10 => format!("{text} 00:00:00"),
            16 => format!("{text}:00"),
            _ => text.clone(),
        };
        let time_ms = parse_timestamp_units(&full, 3).ok_or_else(|| {
            Error::user("filesystem.partition-time", format!("the time of a partition is '{text}', which is none"))
                .detail("expected yyyy-MM-dd, yyyy-MM-dd HH:mm or yyyy-MM-dd HH:mm:ss")
                .hint("set 'partition.time-extractor.timestamp-pattern', as in '$dt $hour:00:00'")
        })?;
        Ok(time_ms.saturating_add(self.delay_ms))
    }
}

/// The partitions that a writer wrote and that are not complete.
pub struct OpenPartitions {
    policy: CommitPolicy,
    /// When each is complete, by directory.
    due_ms: BTreeMap<String, i64>,
    watermark_ms: i64,
}

impl OpenPartitions {
    /// Those of the states of writers before.
    pub fn restore(policy: CommitPolicy, states: &[bytes::Bytes]) -> Result<Self> {
        let mut due_ms = BTreeMap::new();
        for state in states {
            let mut r = Reader::new("open partitions", state, TAG.0, TAG.1)?;
            for _ in 0..r.u64()? {
                let directory = r.text()?.to_owned();
                due_ms.insert(directory, r.u64()? as i64);
            }
            r.end()?;
        }
        Ok(OpenPartitions { policy, due_ms, watermark_ms: i64::MIN })
    }

    /// For the checkpoint.
    pub fn snapshot(&self) -> Vec<u8> {
        let writer = Writer::new(TAG.0, TAG.1).u64(self.due_ms.len() as u64);
        self.due_ms.iter().fold(writer, |w, (directory, due)| w.text(directory).u64(*due as u64)).done()
    }

    /// Rows go into a partition.
    pub fn written(&mut self, directory: &str, now_ms: i64) -> Result<()> {
        if !self.due_ms.contains_key(directory) {
            let value = |part: &str| {
                let (name, value) = part.split_once('=')?;
                Some((naming::unescape(name), naming::unescape(value)))
            };
            let values: Vec<(String, String)> = directory.split('/').filter_map(value).collect();
            self.due_ms.insert(directory.to_owned(), self.policy.due(&values, now_ms)?);
        }
        Ok(())
    }

    /// The watermark moved.
    pub fn watermark(&mut self, at_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(at_ms);
    }

    /// Success files of the partitions that are complete now, ready to become visible. `counter` makes names unique.
    pub fn complete(
        &mut self,
        (root, context): (&Path, &SinkContext),
        end_of_data: bool,
        counter: &mut u64,
    ) -> Result<Vec<Pending>> {
        let now_ms = match self.policy.trigger {
            Trigger::ProcessTime => context.clock.now_ms(),
            Trigger::PartitionTime(_) => self.watermark_ms,
        };
        let complete = |due: &i64| end_of_data || *due <= now_ms;
        let directories: Vec<String> =
            self.due_ms.iter().filter(|(_, d)| complete(d)).map(|(k, _)| k.clone()).collect();
        let mut out = Vec::new();
        for directory in directories {
            self.due_ms.remove(&directory);
            let path = std::path::absolute(root.join(&directory)).map_err(|e| super::sink::unwritable(root, &e))?;
            let visible = path.join(&self.policy.file);
            if visible.exists() {
                continue;
            }
            fs::create_dir_all(&path).map_err(|e| super::sink::unwritable(&path, &e))?;
            let name = naming::final_name(context, *counter, "success");
            *counter += 1;
            let pending = path.join(naming::hidden_name(context, &name, PENDING));
            let made = File::create_new(&pending).and_then(|f| f.sync_all());
            made.map_err(|e| super::sink::unwritable(&path, &e))?;
            out.push(Pending { pending, visible, length: 0 });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(pattern: &str, delay_ms: i64) -> CommitPolicy {
        let trigger = Trigger::PartitionTime(Some(pattern.to_owned()));
        CommitPolicy { trigger, delay_ms, file: "_SUCCESS".to_owned() }
    }

    #[test]
    fn the_time_of_a_partition_is_in_its_values() {
        let values = [("dt".to_owned(), "2024-01-02".to_owned()), ("h".to_owned(), "03".to_owned())];
        assert_eq!(policy("$dt $h:00", 60_000).due(&values, 0).expect("a time"), 1_704_164_460_000);
        assert_eq!(policy("$dt", 0).due(&values, 0).expect("a time"), 1_704_153_600_000);
        let error = policy("$h", 0).due(&values, 0).expect_err("no time");
        assert_eq!(error.code(), "filesystem.partition-time");
    }

    #[test]
    fn open_partitions_survive_a_restore() {
        let mut open = OpenPartitions::restore(policy("$dt", 0), &[]).expect("empty");
        open.written("dt=2024-01-02", 5).expect("a time");
        open.written("dt=2024-01-03", 5).expect("a time");
        let state = bytes::Bytes::from(open.snapshot());
        let again = OpenPartitions::restore(policy("$dt", 0), &[state]).expect("restored");
        assert_eq!(again.due_ms, open.due_ms);
    }
}
