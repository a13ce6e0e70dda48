//! What the reader does about everything that is not a message: brokers that are gone, positions that are not kept any more, ends
//! that no message marks. Decodes nothing.

use std::time::Duration;

use flott_core::{Error, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::config::{Reset, SourceConfig};
use super::reader::KafkaReader;
use crate::kafka::client::{Problem, Stats, call_error, error_of, is_final};

/// How often the client reports when an end has to be found.
const BOUNDED_STATS_MS: u64 = 100;
/// How often it does else.
const STATS_MS: u64 = 5_000;
/// Limit of a question that is asked in a fault only.
const ASK_MS: u64 = 10_000;
/// Reports in a row that must agree that everything before the end was fetched.
const AGREE: u8 = 2;

/// Whether the brokers are there.
pub(super) struct Health {
    interval_ms: u64,
    unavailable_ns: u64,
    down_since_ns: Option<u64>,
    warned: bool,
}

impl Health {
    pub(super) fn new(config: &SourceConfig) -> Self {
        let interval_ms = if config.is_bounded() { BOUNDED_STATS_MS } else { STATS_MS };
        Health {
            interval_ms: interval_ms.min(config.unavailable_ms / 2).max(1),
            unavailable_ns: config.unavailable_ms.saturating_mul(1_000_000),
            down_since_ns: None,
            warned: false,
        }
    }

    /// How often the client is to report.
    pub(super) fn interval_ms(&self) -> u64 {
        self.interval_ms
    }
}

impl KafkaReader {
    /// After a round: looks at the reports of the client. `empty`: it had no more messages.
    pub(super) fn after_round(&mut self, empty: bool) -> Result<()> {
        let Some(stats) = self.watch.take_stats() else { return Ok(()) };
        self.check_brokers(&stats)?;
        if self.config.is_bounded() {
            self.check_ends(&stats, empty);
        }
        Ok(())
    }

    /// Fails when no broker was there for too long.
    fn check_brokers(&mut self, stats: &Stats) -> Result<()> {
        let now_ns = self.context.clock.now_nanos();
        let table = &self.config.table;
        if stats.connected() {
            self.watch.forgive();
            if self.health.down_since_ns.take().is_some() && std::mem::take(&mut self.health.warned) {
                tracing::info!(%table, "a broker of {} is back", self.config.properties.servers());
            }
            return Ok(());
        }
        let since_ns = *self.health.down_since_ns.get_or_insert(now_ns);
        let problem = self.watch.problem();
        let down_ns = now_ns.saturating_sub(since_ns);
        if down_ns < self.health.unavailable_ns {
            if let (false, Some(problem)) = (self.health.warned, &problem) {
                self.health.warned = true;
                tracing::warn!(%table, "no broker of {} is reachable: {}", self.config.properties.servers(), problem.reason);
            }
            return Ok(());
        }
        let reason = problem.map_or_else(|| "no connection to any broker".to_owned(), |p| p.reason);
        let servers = self.config.properties.servers();
        Err(Error::retry(
            "kafka.unavailable",
            format!("kafka {servers}: no broker was reachable for {} s", down_ns / 1_000_000_000),
        )
        .detail(reason)
        .hint("see that the brokers run; 'scan.unavailable-timeout' is how long a source waits for them"))
    }

    /// Ends partitions whose last records are never handed out: control records, aborted ones, and those that compaction
    /// removed. The client has fetched past the end, says so twice, and has no message left.
    fn check_ends(&mut self, stats: &Stats, empty: bool) {
        for p in &mut self.partitions {
            let Some(stop) = p.stop.filter(|stop| p.next < *stop) else { continue };
            let fetched = stats.next_offset(&p.topic, p.partition).is_some_and(|next| next >= stop);
            if !(fetched && empty) || p.paused {
                p.fetched_to_end = 0;
                continue;
            }
            p.fetched_to_end += 1;
            if p.fetched_to_end >= AGREE {
                p.next = stop;
                if p.rows.rows() == 0 {
                    p.handed = stop;
                }
            }
        }
    }

    /// An error of the consumer: some fail the job, some are dealt with, most pass by themselves.
    #[cold]
    pub(super) fn on_error(&mut self, error: &KafkaError) -> Result<()> {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let servers = self.config.properties.servers();
        let topics = &self.config.topics;
        match code {
            Code::PartitionEOF => Ok(()),
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset => self.out_of_range(),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Err(Error::retry(
                "kafka.topic-missing",
                format!("kafka {servers}: topic {topics} or a partition of it is gone"),
            )
            .detail(error.to_string())
            .hint("it was deleted while the job read it; create it again, or correct the table")),
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => Err(Error::user(
                "kafka.message-too-large",
                format!("kafka {servers}: a message of topic {topics} is too large"),
            )
            .detail(error.to_string())
            .hint("raise 'properties.receive.message.max.bytes' and the memory of the process")),
            Code::InvalidMessage | Code::BadMessage | Code::BadCompression | Code::InvalidRecord => {
                Err(Error::retry("kafka.damaged", format!("kafka {servers}: what topic {topics} holds cannot be read"))
                    .detail(error.to_string())
                    .hint("a checksum or the compression is wrong: look at the broker's log and disk"))
            }
            // Nobody needs the group except for the commits, which warn for themselves.
            Code::GroupAuthorizationFailed => {
                tracing::warn!(table = %self.config.table, "the consumer group may not be used, offsets are not committed: {error}");
                Ok(())
            }
            // Credentials were right when the job began: the limit on unreachable brokers decides.
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => Ok(()),
            code if is_final(code) => {
                let problem = Problem { code, reason: error.to_string() };
                Err(error_of(servers, &format!("reading topic {topics}"), &problem))
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                Err(call_error(servers, &format!("reading topic {topics}"), error, &self.watch))
            }
            _ => {
                tracing::debug!(table = %self.config.table, "{error}");
                Ok(())
            }
        }
    }

    /// A position is not kept any more, or not there yet: asks which, then does what the option says.
    fn out_of_range(&mut self) -> Result<()> {
        let mut moved = Vec::new();
        let servers = self.config.properties.servers().to_owned();
        for at in 0..self.partitions.len() {
            let p = &self.partitions[at];
            let Some(consumer) = &self.consumer else { return Ok(()) };
            if p.ended() {
                continue;
            }
            let (topic, partition, next) = (p.topic.clone(), p.partition, p.next);
            let what = format!("asking for the offsets of topic `{topic}`, partition {partition}");
            let (low, high) = consumer
                .fetch_watermarks(&topic, partition, Duration::from_millis(ASK_MS))
                .map_err(|e| call_error(&servers, &what, &e, &self.watch))?;
            // The others are asked for again as well: the client does not say which one it gave up.
            let target = match self.config.out_of_range {
                _ if (low..=high).contains(&next) => next,
                Reset::Fail => {
                    return Err(Error::user(
                        "kafka.offset-out-of-range",
                        format!("kafka {servers}: topic `{topic}`, partition {partition} has no offset {next}"),
                    )
                    .detail(format!("it holds the offsets {low} to {high}"))
                    .hint(
                        "records were removed before they were read: set 'scan.offsets-out-of-range' = 'earliest' to go on \
                         with what is left ('latest': with what is new), or keep them longer (retention.ms of the topic)",
                    ));
                }
                Reset::Earliest => low,
                Reset::Latest => high,
            };
            if target != next {
                let lost = u64::try_from(target - next).unwrap_or(0);
                self.context.metrics.bad_skipped.add(lost);
                tracing::warn!(
                    table = %self.config.table, %topic, partition, from = next, to = target, lost,
                    "the position is out of range: the offsets between are skipped and counted"
                );
            }
            moved.push((at, target));
        }
        for (at, target) in &moved {
            self.leave(*at)?;
            self.partitions[*at].next = *target;
        }
        let again: Vec<usize> =
            moved.into_iter().map(|(at, _)| at).filter(|at| !self.partitions[*at].ended()).collect();
        if again.is_empty() { Ok(()) } else { self.read_from_here(&again) }
    }
}
