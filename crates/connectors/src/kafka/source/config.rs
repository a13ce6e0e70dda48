//! What the options of a table say about reading: where to begin, where to end, what to do with bad records. Connects to nothing.

use flott_core::registry::TableSpec;
use flott_core::sink::ChangelogMode;
use flott_core::{Error, Result};

use super::rows::RowPlan;
use crate::kafka::options::{Encoding, Topics, is_topic};
use crate::kafka::properties::{ClientProperties, Side};
use crate::options::TableOptions;

/// Where reading begins when there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is kept.
    Earliest,
    /// After the last record.
    Latest,
    /// Where the group has committed.
    Group,
    /// At the first record of this time or later, in milliseconds since the epoch.
    Timestamp(i64),
    /// The same, so many milliseconds before now.
    Before(i64),
    /// At these offsets, by partition; elsewhere as [`Start::Group`], else at the first record.
    Specific(Vec<(i32, i64)>),
}

/// Where reading ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It does not.
    Never,
    /// After what is there now.
    Latest,
    /// Where the group has committed.
    Group,
    /// Before the first record of this time or later, in milliseconds since the epoch.
    Timestamp(i64),
    /// Before these offsets, by partition; other partitions are not read.
    Specific(Vec<(i32, i64)>),
}

/// What to do when an offset is not there, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// An error.
    Fail,
    /// Go on at the first record that is kept.
    Earliest,
    /// Go on after the last.
    Latest,
}

/// What to do with a record that the format refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRecords {
    /// An error.
    Fail,
    /// Count it.
    Skip,
    /// Copy it to this topic and count it.
    DeadLetter(String),
}

/// A source as configured.
#[derive(Debug)]
pub struct SourceConfig {
    /// The table, for messages.
    pub table: String,
    /// What it reads.
    pub topics: Topics,
    /// The consumer's properties.
    pub properties: ClientProperties,
    /// The producer's, for dead letters.
    pub producer: ClientProperties,
    /// `properties.group.id`.
    pub group: Option<String>,
    /// Where to begin.
    pub start: Start,
    /// Where to end.
    pub stop: Stop,
    /// For a group without offsets.
    pub reset: Reset,
    /// For offsets that are not kept any more.
    pub out_of_range: Reset,
    /// For records that cannot be decoded.
    pub bad_records: BadRecords,
    /// How often to look for new partitions; `None`: never.
    pub discovery_ms: Option<u64>,
    /// How long no broker may be reachable in mid-run.
    pub unavailable_ms: u64,
    /// How long the first call may take.
    pub call_ms: u64,
    /// Offsets are committed to the group when a checkpoint is complete.
    pub commit_on_checkpoint: bool,
    /// Offsets are committed this often as long as there are no checkpoints.
    pub auto_commit_ms: Option<u64>,
    /// How messages become rows.
    pub plan: RowPlan,
}

/// The group named to brokers when a table names none: nothing is ever committed to it.
pub const NO_GROUP: &str = "flott";

impl SourceConfig {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>, table: &TableSpec, upsert: bool) -> Result<Self> {
        let encoding = Encoding::read(o, table, upsert)?;
        let plan = RowPlan::new(table, encoding, upsert)?;
        let topics = Topics::read(o)?;
        let mut properties = ClientProperties::read(table, Side::Consumer)?;
        let group = properties.given("group.id").map(str::to_owned);
        let reset = auto_offset_reset(&properties)?;
        let out_of_range = match (o.text("scan.offsets-out-of-range"), reset) {
            (None, reset) => reset,
            (Some(_), _) => [Reset::Fail, Reset::Earliest, Reset::Latest]
                [o.one_of("scan.offsets-out-of-range", &["fail", "earliest", "latest"], 0)?],
        };
        let start = if upsert { Start::Earliest } else { start(o)? };
        let stop = stop(o)?;
        check_group_and_topics(o, &start, &stop, group.as_deref(), &topics)?;
        let auto_commit = properties.flag("enable.auto.commit", false)? && group.is_some();
        let auto_commit_ms = properties.number("auto.commit.interval.ms")?.unwrap_or(5_000).max(100);
        let commit = properties.flag("commit.offsets.on.checkpoint", true)? && group.is_some();
        let given_ms = properties.number("partition.discovery.interval.ms")?;
        let discovery_ms = match o.duration_ms("scan.topic-partition-discovery.interval")? {
            Some(ms) => u64::try_from(ms).unwrap_or(0),
            None => given_ms.unwrap_or(300_000),
        };
        let unavailable_ms = o.duration_ms("scan.unavailable-timeout")?.unwrap_or(120_000);
        defaults(&mut properties, &table.name);
        properties.check().map_err(|e| e.context(format_args!("table `{}`", table.name)))?;
        Ok(SourceConfig {
            table: table.name.clone(),
            topics,
            group,
            start,
            reset,
            out_of_range,
            bad_records: bad_records(o)?,
            discovery_ms: Some(discovery_ms).filter(|ms| *ms > 0 && stop == Stop::Never),
            stop,
            unavailable_ms: u64::try_from(unavailable_ms).unwrap_or(0).max(1_000),
            call_ms: properties.call_timeout_ms()?.max(1_000),
            commit_on_checkpoint: commit,
            auto_commit_ms: auto_commit.then_some(auto_commit_ms),
            producer: ClientProperties::read(table, Side::Producer)?,
            properties,
            plan,
        })
    }

    /// Whether the source ends.
    pub fn is_bounded(&self) -> bool {
        self.stop != Stop::Never
    }

    /// Whether a message without a value, where it means nothing, is counted: formats of changes send such after a delete.
    pub fn counts_tombstones(&self) -> bool {
        self.plan.mode() == ChangelogMode::Append
    }
}

/// What holds unless the table says otherwise: the defaults of the Java client where librdkafka has others.
fn defaults(properties: &mut ClientProperties, table: &str) {
    let prefix = properties.given("client.id.prefix").unwrap_or("flott").to_owned();
    properties.set_default("client.id", &format!("{prefix}-{table}"));
    properties.set_default("group.id", NO_GROUP);
    properties.set_default("isolation.level", "read_uncommitted");
    properties.set_default("check.crcs", "true");
    properties.set_default("reconnect.backoff.max.ms", "1000");
    properties.set_default("socket.keepalive.enable", "true");
    // A full queue is drained in milliseconds; librdkafka would look again only a second later.
    properties.set_default("fetch.queue.backoff.ms", "5");
    for (key, value) in [
        // Offsets are committed by us, and a lost position is our decision.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "false"),
    ] {
        properties.set(key, value);
    }
}

fn auto_offset_reset(properties: &ClientProperties) -> Result<Reset> {
    match properties.given("auto.offset.reset").map(str::to_ascii_lowercase).as_deref() {
        None | Some("none") => Ok(Reset::Fail),
        Some("earliest") => Ok(Reset::Earliest),
        Some("latest") => Ok(Reset::Latest),
        Some(other) => Err(Error::user(
            "kafka.property",
            format!("'properties.auto.offset.reset' = '{other}' is not earliest, latest or none"),
        )
        .hint(
            "to begin some time ago, set 'scan.startup.mode' = 'timestamp' and 'scan.startup.timestamp-offset' = '1 h'",
        )),
    }
}

fn start(o: &TableOptions<'_>) -> Result<Start> {
    let modes = ["group-offsets", "earliest-offset", "latest-offset", "timestamp", "specific-offsets"];
    let mode = o.one_of("scan.startup.mode", &modes, 0)?;
    let of_timestamp = ["scan.startup.timestamp-millis", "scan.startup.timestamp-offset"];
    companions(o, "scan.startup.mode", mode == 3, "timestamp", &of_timestamp)?;
    companions(o, "scan.startup.mode", mode == 4, "specific-offsets", &["scan.startup.specific-offsets"])?;
    Ok(match mode {
        0 => Start::Group,
        1 => Start::Earliest,
        2 => Start::Latest,
        3 => {
            let millis = o.number("scan.startup.timestamp-millis", "a number of milliseconds since the epoch")?;
            match (millis, o.duration_ms("scan.startup.timestamp-offset")?) {
                (Some(_), Some(_)) => {
                    let why = "'scan.startup.timestamp-millis' is set too; only one of the two may be";
                    return Err(o.refused("scan.startup.timestamp-offset", why));
                }
                (Some(ms), None) => Start::Timestamp(ms),
                (None, Some(ms)) => Start::Before(ms),
                (None, None) => return Err(o.bad("scan.startup.mode", "complete without a time").hint(
                    "set 'scan.startup.timestamp-millis' to milliseconds since the epoch, or 'scan.startup.timestamp-offset' \
                     to a time before now, as in '1 h'",
                )),
            }
        }
        _ => Start::Specific(specific(o, "scan.startup.specific-offsets")?),
    })
}

fn stop(o: &TableOptions<'_>) -> Result<Stop> {
    let modes = ["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"];
    let mode = o.one_of("scan.bounded.mode", &modes, 0)?;
    companions(o, "scan.bounded.mode", mode == 3, "timestamp", &["scan.bounded.timestamp-millis"])?;
    companions(o, "scan.bounded.mode", mode == 4, "specific-offsets", &["scan.bounded.specific-offsets"])?;
    Ok(match mode {
        0 => Stop::Never,
        1 => Stop::Latest,
        2 => Stop::Group,
        3 => match o.number("scan.bounded.timestamp-millis", "a number of milliseconds since the epoch")? {
            Some(ms) => Stop::Timestamp(ms),
            None => {
                return Err(o.bad("scan.bounded.mode", "complete without 'scan.bounded.timestamp-millis'"));
            }
        },
        _ => Stop::Specific(specific(o, "scan.bounded.specific-offsets")?),
    })
}

/// Refuses companion options of a mode that is not chosen: they would do nothing.
fn companions(o: &TableOptions<'_>, mode: &str, chosen: bool, name: &str, keys: &[&str]) -> Result<()> {
    match keys.iter().find(|k| !chosen && o.text(k).is_some()) {
        None => Ok(()),
        Some(key) => Err(o.refused(key, &format!("it is for '{mode}' = '{name}'"))),
    }
}

/// `partition:0,offset:42;partition:1,offset:300`.
fn specific(o: &TableOptions<'_>, key: &str) -> Result<Vec<(i32, i64)>> {
    let bad = || o.bad(key, "a list such as 'partition:0,offset:42;partition:1,offset:300'");
    let one = |entry: &str| {
        let (partition, offset) = entry.split_once(',')?;
        let partition: i32 = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
        let offset: i64 = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
        (partition >= 0 && offset >= 0).then_some((partition, offset))
    };
    let text = o.text(key).ok_or_else(bad)?;
    let entries = text.split(';').map(str::trim).filter(|e| !e.is_empty());
    let all: Vec<_> = entries.map(|e| one(e).ok_or_else(bad)).collect::<Result<_>>()?;
    let mut partitions: Vec<i32> = all.iter().map(|(p, _)| *p).collect();
    partitions.sort_unstable();
    if all.is_empty() || partitions.windows(2).any(|w| w[0] == w[1]) {
        return Err(bad());
    }
    Ok(all)
}

fn check_group_and_topics(
    o: &TableOptions<'_>,
    start: &Start,
    stop: &Stop,
    group: Option<&str>,
    topics: &Topics,
) -> Result<()> {
    if group.is_none() && (*start == Start::Group || *stop == Stop::Group) {
        let key = if *start == Start::Group { "scan.startup.mode" } else { "scan.bounded.mode" };
        let message = format!("table `{}`: '{key}' = 'group-offsets' needs 'properties.group.id'", o.table());
        return Err(Error::user("table.missing-option", message)
            .hint(format!("set 'properties.group.id', or another '{key}', as in 'earliest-offset'")));
    }
    let single = matches!(topics, Topics::List(names) if names.len() == 1);
    if !single && (matches!(start, Start::Specific(_)) || matches!(stop, Stop::Specific(_))) {
        let key = if matches!(start, Start::Specific(_)) { "scan.startup.mode" } else { "scan.bounded.mode" };
        return Err(o.refused(key, "specific offsets are for a single topic"));
    }
    Ok(())
}

fn bad_records(o: &TableOptions<'_>) -> Result<BadRecords> {
    let topic = o.text("scan.dead-letter.topic").map(str::trim);
    match (o.one_of("scan.bad-records", &["fail", "skip", "dead-letter"], 0)?, topic) {
        (2, Some(topic)) if is_topic(topic) => Ok(BadRecords::DeadLetter(topic.to_owned())),
        (2, Some(_)) => Err(o.bad("scan.dead-letter.topic", "the name of a topic")),
        (2, None) => Err(o.bad("scan.bad-records", "complete without 'scan.dead-letter.topic'")),
        (_, Some(_)) => Err(o.refused("scan.dead-letter.topic", "it is for 'scan.bad-records' = 'dead-letter'")),
        (0, None) => Ok(BadRecords::Fail),
        (_, None) => Ok(BadRecords::Skip),
    }
}

#[cfg(test)]
mod tests;
