//! A real broker as the tests of the Kafka sink need it: topics of their own, readers, the coordinator's view.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use flott_connectors::kafka::sink::protocol::{Cluster, Security};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Which records are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Those of committed transactions.
    Committed,
    /// Also those of open and aborted ones.
    All,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Option<String>)>,
}

/// A broker.
pub struct Broker {
    pub address: String,
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    format!("{what}-{:016x}", RandomState::new().build_hasher().finish())
}

/// Runs `test` on every broker that the environment names.
#[allow(clippy::disallowed_methods, reason = "a test's servers are named by the environment")]
pub fn each_broker(test: impl Fn(&Broker) + Sync) {
    let named = |name: &str| match std::env::var(name) {
        Ok(address) => Some(Broker { address }),
        Err(_) if std::env::var("FLOTT_REQUIRE_SERVICES").is_ok_and(|v| v == "1") => {
            panic!("{name} is not set, and FLOTT_REQUIRE_SERVICES is")
        }
        Err(_) => {
            println!("skipped: no {name}");
            None
        }
    };
    // The second transaction protocol, then the first.
    let brokers: Vec<Broker> = ["FLOTT_TEST_KAFKA", "FLOTT_TEST_KAFKA_TV1"].into_iter().filter_map(named).collect();
    std::thread::scope(|scope| {
        for broker in &brokers {
            scope.spawn(|| test(broker));
        }
    });
}

fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Broker {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// A new topic for records of up to 1 MB; also what its sink's transactions begin with.
    pub fn topic(&self, what: &str, partitions: i32) -> String {
        let name = unique(what);
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", "1000000")
            .set("retention.ms", "-1");
        let made = wait(admin.create_topics([&topic], &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|result| {
            result.expect("a new topic");
        });
        name
    }

    pub fn cluster(&self) -> Cluster {
        Cluster::new(&self.address, Security::default())
    }

    /// Ids of open transactions that begin with `prefix`.
    pub fn open_transactions(&self, prefix: &str) -> Vec<String> {
        let listed = self.cluster().list(prefix, &["Ongoing"]).expect("a listing");
        listed.into_iter().map(|t| t.id).collect()
    }

    /// Waits until what was ended is marked in the topics.
    pub fn settle(&self, prefix: &str) {
        for _ in 0..1000 {
            let listed = self.cluster().list(prefix, &["PrepareCommit", "PrepareAbort"]).expect("a listing");
            if listed.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("transactions of {prefix} do not complete");
    }

    /// Waits until a transaction is in `state`.
    pub fn until(&self, id: &str, state: &str) {
        for _ in 0..600 {
            let found = self.cluster().describe(id).expect("a description");
            if found.is_some_and(|t| t.state == state) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{id} does not become {state}");
    }

    /// The values of a topic, sorted.
    pub fn values(&self, topic: &str, read: Read) -> Vec<String> {
        let mut values: Vec<String> = self.read(topic, read).into_iter().filter_map(|r| r.value).collect();
        values.sort();
        values
    }

    /// All records of a topic up to its end, or up to the first open transaction.
    pub fn read(&self, topic: &str, read: Read) -> Vec<Record> {
        let isolation = if read == Read::Committed { "read_committed" } else { "read_uncommitted" };
        let mut config = self.config();
        config.set("group.id", "none").set("isolation.level", isolation).set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
        let mut list = TopicPartitionList::new();
        let partitions = metadata.topics()[0].partitions();
        for p in partitions {
            list.add_partition_offset(topic, p.id(), Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let (mut records, mut open) = (Vec::new(), partitions.len());
        assert!(open > 0, "{topic} has no partition");
        while open > 0 {
            // A poll may come back early with nothing.
            let Some(next) = (0..200).find_map(|_| consumer.poll(Duration::from_millis(100))) else {
                panic!("{topic}: nothing comes after {} records, {open} partitions are open", records.len());
            };
            match next {
                Ok(message) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let headers =
                        message.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), h.value.map(text))).collect());
                    records.push(Record {
                        partition: message.partition(),
                        key: message.key().map(text),
                        value: message.payload().map(text),
                        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
                        headers: headers.unwrap_or_default(),
                    });
                }
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(e) => panic!("{topic} cannot be read: {e}"),
            }
        }
        records
    }
}
