//! Finds topics and partitions, and the offsets to begin and end at, with a client of its own. Reads no message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flott_core::source::{Split, SplitEnumerator};
use flott_core::time::SharedClock;
use flott_core::{Error, Result};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::config::{BadRecords, Reset, SourceConfig, Start, Stop};
use super::split::PartitionSplit;
use crate::kafka::client::{Context, Watch, call_error, is_final, plain_offset};
use crate::kafka::options::Topics;

/// One try of a call; between two, errors that the client reported are looked at.
const TRY_MS: u64 = 2_000;
/// Limit of a later look for partitions: the job goes on without it.
const REDISCOVER_MS: u64 = 4_000;
/// Kafka's own topics, which no pattern matches.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// A partition by name.
type Partition = (String, i32);

/// What offsets to ask for. The numbers are Kafka's own.
#[derive(Clone, Copy)]
enum At {
    Earliest,
    Latest,
    Time(i64),
}

/// The enumerator of a source.
pub(super) struct KafkaEnumerator {
    config: Arc<SourceConfig>,
    clock: SharedClock,
    known: BTreeSet<String>,
    /// The partitions that the job began with are known; what comes now is new, and read from its beginning.
    begun: bool,
    /// Nothing has failed so far: the first look may take its time, later ones may not.
    first: bool,
}

impl KafkaEnumerator {
    pub(super) fn new(config: Arc<SourceConfig>, clock: SharedClock) -> Result<Self> {
        for notice in config.properties.notices() {
            tracing::warn!(table = %config.table, "{notice}");
        }
        Ok(KafkaEnumerator { config, clock, known: BTreeSet::new(), begun: false, first: true })
    }

    fn partitions(&self, client: &Client) -> Result<Vec<Partition>> {
        let mut all = Vec::new();
        match &self.config.topics {
            Topics::List(names) => {
                for name in names {
                    all.extend(client.partitions_of(name)?);
                }
            }
            Topics::Pattern(regex) => {
                all = client.all_partitions()?;
                all.retain(|(topic, _)| regex.is_match(topic) && !INTERNAL.contains(&topic.as_str()));
                if all.is_empty() && self.config.discovery_ms.is_none() {
                    let message = format!("kafka {}: no topic matches '{}'", client.servers, self.config.topics);
                    return Err(Error::user("kafka.topic-missing", message)
                        .hint("create one, or correct 'topic-pattern': the whole name must match"));
                }
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Looks with a client of its own: one that nobody polls in between would pile up what it has to say.
    fn find(&mut self, limit_ms: u64) -> Result<Vec<Split>> {
        let client = Client::new(&self.config, limit_ms)?;
        if !self.begun
            && let BadRecords::DeadLetter(topic) = &self.config.bad_records
        {
            client.partitions_of(topic).map_err(|e| e.context("dead letters"))?;
        }
        let mut fresh = self.partitions(&client)?;
        fresh.retain(|(topic, partition)| !self.known.contains(&PartitionSplit::id_of(topic, *partition)));
        if fresh.is_empty() {
            self.begun = true;
            return Ok(Vec::new());
        }
        let start = if self.begun { &Start::Earliest } else { &self.config.start };
        let starts = client.starts(start, self.config.reset, &fresh, self.clock.now_ms())?;
        let stops = client.stops(&self.config.stop, &fresh, &starts)?;
        let splits = fresh
            .into_iter()
            .zip(starts)
            .zip(stops)
            .map(|(((topic, partition), offset), stop)| PartitionSplit { topic, partition, offset, stop }.encode());
        let splits: Vec<Split> = splits.collect();
        self.known.extend(splits.iter().map(|s| s.id.clone()));
        self.begun = true;
        Ok(splits)
    }
}

impl SplitEnumerator for KafkaEnumerator {
    fn restore(&mut self, known: &BTreeSet<String>) {
        self.known.extend(known.iter().cloned());
        self.begun = true;
    }

    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        if self.first {
            let found = self.find(self.config.call_ms)?;
            self.first = false;
            return Ok(found);
        }
        match self.find(REDISCOVER_MS) {
            Ok(found) => {
                for split in &found {
                    tracing::info!(table = %self.config.table, split = %split.id, "a new partition is read from its beginning");
                }
                Ok(found)
            }
            // The readers notice for themselves when the brokers stay away.
            Err(e) => {
                tracing::warn!(table = %self.config.table, "no look for new partitions: {e}");
                Ok(Vec::new())
            }
        }
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        self.config.discovery_ms
    }
}

/// A client that asks for metadata and offsets, with a limit on every call.
pub(super) struct Client {
    servers: String,
    group: String,
    consumer: BaseConsumer<Context>,
    watch: Arc<Watch>,
    limit_ms: u64,
}

impl Client {
    pub(super) fn new(config: &SourceConfig, limit_ms: u64) -> Result<Self> {
        let mut properties = config.properties.clone();
        let id = format!("{}-enumerator", properties.native("client.id").unwrap_or("flott"));
        properties.set("client.id", &id);
        let context = Context::default();
        let watch = context.0.clone();
        let servers = properties.servers().to_owned();
        let consumer = BaseConsumer::from_config_and_context(&properties.client_config(), context)
            .map_err(|e| creation(&servers, &e))?;
        let group = properties.native("group.id").unwrap_or_default().to_owned();
        Ok(Client { servers, group, consumer, watch, limit_ms })
    }

    /// Calls until it succeeds, fails for good or the limit is reached.
    fn call<T>(&self, what: &str, mut call: impl FnMut(Duration) -> KafkaResult<T>) -> Result<T> {
        let tries = self.limit_ms.div_ceil(TRY_MS).max(1);
        for attempt in 1..=tries {
            let error = match call(Duration::from_millis(TRY_MS.min(self.limit_ms))) {
                Ok(value) => return Ok(value),
                Err(e) => e,
            };
            // Serves the callbacks that say why.
            self.watch.serve(&self.consumer);
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            let reported = self.watch.problem().is_some_and(|p| is_final(p.code));
            if reported || is_final(code) || attempt == tries {
                return Err(call_error(&self.servers, what, &error, &self.watch));
            }
            tracing::warn!(servers = %self.servers, attempt, tries, "{what}: {error}; trying again");
            if code != Code::OperationTimedOut {
                std::thread::sleep(Duration::from_millis(TRY_MS / 4));
            }
        }
        Err(Error::bug("a call to Kafka was never made"))
    }

    fn partitions_of(&self, topic: &str) -> Result<Vec<Partition>> {
        let what = format!("reading the metadata of topic `{topic}`");
        let mut missing = 0;
        self.call(&what, |limit| {
            let metadata = self.consumer.fetch_metadata(Some(topic), limit)?;
            let found = metadata.topics().iter().find(|t| t.name() == topic);
            match found.map(|t| (t.error(), t)) {
                Some((None, t)) if !t.partitions().is_empty() => {
                    Ok(Some(t.partitions().iter().map(|p| (topic.to_owned(), p.id())).collect()))
                }
                Some((Some(e), _)) => match Code::from(e) {
                    Code::UnknownTopicOrPartition | Code::UnknownTopic if missing >= 2 => Ok(None),
                    code => {
                        // A topic that was made just now is not known everywhere yet.
                        missing += 1;
                        Err(KafkaError::MetadataFetch(code))
                    }
                },
                _ => Err(KafkaError::MetadataFetch(Code::LeaderNotAvailable)),
            }
        })?
        .ok_or_else(|| {
            Error::user("kafka.topic-missing", format!("kafka {}: there is no topic `{topic}`", self.servers))
                .hint("create it, as with kafka-topics --create --topic NAME --partitions N, or correct the option")
        })
    }

    fn all_partitions(&self) -> Result<Vec<Partition>> {
        let metadata =
            self.call("reading the metadata of all topics", |limit| self.consumer.fetch_metadata(None, limit))?;
        let healthy = metadata.topics().iter().filter(|t| t.error().is_none());
        Ok(healthy.flat_map(|t| t.partitions().iter().map(|p| (t.name().to_owned(), p.id()))).collect())
    }

    /// Where to begin in each partition.
    fn starts(&self, start: &Start, reset: Reset, of: &[Partition], now_ms: i64) -> Result<Vec<i64>> {
        match start {
            Start::Earliest => self.offsets(of, At::Earliest),
            Start::Latest => self.offsets(of, At::Latest),
            Start::Timestamp(ms) => self.offsets(of, At::Time(*ms)),
            Start::Before(ms) => self.offsets(of, At::Time(now_ms.saturating_sub(*ms))),
            Start::Group => self.committed(of, reset),
            Start::Specific(given) => {
                let rest = match given.len() < of.len() {
                    true if self.group != super::config::NO_GROUP => self.committed(of, Reset::Earliest)?,
                    _ => self.offsets(of, At::Earliest)?,
                };
                let given = |p: &Partition| given.iter().find(|(partition, _)| *partition == p.1).map(|g| g.1);
                Ok(of.iter().zip(rest).map(|(p, rest)| given(p).unwrap_or(rest)).collect())
            }
        }
    }

    /// Where to end in each partition.
    fn stops(&self, stop: &Stop, of: &[Partition], starts: &[i64]) -> Result<Vec<Option<i64>>> {
        let some = |offsets: Vec<i64>| offsets.into_iter().map(Some).collect();
        Ok(match stop {
            Stop::Never => vec![None; of.len()],
            Stop::Latest => some(self.offsets(of, At::Latest)?),
            Stop::Timestamp(ms) => some(self.offsets(of, At::Time(*ms))?),
            Stop::Group => some(self.committed(of, Reset::Fail)?),
            Stop::Specific(given) => {
                let given = |p: &Partition| given.iter().find(|(partition, _)| *partition == p.1).map(|g| g.1);
                of.iter().zip(starts).map(|(p, start)| Some(given(p).unwrap_or(*start))).collect()
            }
        })
    }

    /// What the group has committed; what to do without is `reset`.
    fn committed(&self, of: &[Partition], reset: Reset) -> Result<Vec<i64>> {
        let what = format!("reading the offsets of group `{}`", self.group);
        let found = self.call(&what, |limit| {
            let list = self.consumer.committed_offsets(list_of(of, Offset::Invalid)?, limit)?;
            of.iter().map(|(t, p)| read(&list, t, *p)).collect::<KafkaResult<Vec<_>>>()
        })?;
        let missing: Vec<Partition> =
            of.iter().zip(&found).filter(|(_, f)| plain_offset(**f).is_none()).map(|(p, _)| p.clone()).collect();
        let instead = match reset {
            _ if missing.is_empty() => Vec::new(),
            Reset::Earliest => self.offsets(&missing, At::Earliest)?,
            Reset::Latest => self.offsets(&missing, At::Latest)?,
            Reset::Fail => {
                let (topic, partition) = &missing[0];
                return Err(Error::user(
                    "kafka.no-offset",
                    format!("kafka {}: group `{}` has no offset for {} partition(s)", self.servers, self.group, missing.len()),
                )
                .detail(format!("the first is topic `{topic}`, partition {partition}"))
                .hint(
                    "set 'properties.auto.offset.reset' = 'earliest' or 'latest' for partitions without an offset, or another \
                     'scan.startup.mode'",
                ));
            }
        };
        let mut instead = instead.into_iter();
        Ok(found.into_iter().map(|f| plain_offset(f).or_else(|| instead.next()).unwrap_or(0)).collect())
    }

    /// The offsets of all partitions at a point: one request per broker.
    fn offsets(&self, of: &[Partition], at: At) -> Result<Vec<i64>> {
        let raw = match at {
            At::Earliest => Offset::Beginning,
            At::Latest => Offset::End,
            At::Time(ms) => Offset::Offset(ms.max(0)),
        };
        let found = self.call("asking for offsets", |limit| {
            let list = self.consumer.offsets_for_times(list_of(of, raw)?, limit)?;
            of.iter().map(|(t, p)| read(&list, t, *p)).collect::<KafkaResult<Vec<_>>>()
        })?;
        // No record of that time or later: the end.
        let late: Vec<Partition> =
            of.iter().zip(&found).filter(|(_, f)| plain_offset(**f).is_none()).map(|(p, _)| p.clone()).collect();
        let mut ends = match at {
            At::Time(_) if !late.is_empty() => self.offsets(&late, At::Latest)?,
            _ if late.is_empty() => Vec::new(),
            _ => return Err(Error::retry("kafka.unavailable", "kafka gave no offset for a partition")),
        }
        .into_iter();
        Ok(found.into_iter().map(|f| plain_offset(f).or_else(|| ends.next()).unwrap_or(0)).collect())
    }
}

/// The error when a client cannot be made: a setting that only shows when everything is put together.
pub(super) fn creation(servers: &str, error: &KafkaError) -> Error {
    Error::user("kafka.property", format!("kafka {servers}: the client refuses its properties"))
        .detail(error.to_string())
        .hint("correct the table's 'properties.*'")
}

fn list_of(of: &[Partition], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for (topic, partition) in of {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

fn read(list: &TopicPartitionList, topic: &str, partition: i32) -> KafkaResult<Offset> {
    let element = list.find_partition(topic, partition).ok_or(KafkaError::OffsetFetch(Code::UnknownPartition))?;
    element.error()?;
    Ok(element.offset())
}
