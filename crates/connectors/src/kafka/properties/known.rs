//! Every key of Kafka's Java clients, and what becomes of it here; a table, never code.

/// Which half of a client a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sources.
    Consumer,
    /// Sinks.
    Producer,
    /// Either.
    Both,
}

/// What becomes of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// librdkafka has it under the same key.
    Same,
    /// librdkafka has it under this key.
    As(&'static str),
    /// The same key, the value in lower case.
    Lower,
    /// The same key, the value in upper case.
    Upper,
    /// A size for which Java's -1 is librdkafka's 0, under this key.
    Buffer(&'static str),
    /// The connector reads it itself.
    Read,
    /// Accepted, without effect.
    Notice(&'static str),
    /// Refused.
    Refused(&'static str),
}

/// One key of the Java client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key, without `properties.`.
    pub key: &'static str,
    /// For whom.
    pub side: Side,
    /// What becomes of it.
    pub rule: Rule,
}

const NO_GROUP: &str = "partitions are dealt out by the job, not by a consumer group";
const NO_JAVA: &str = "it names a Java class, and no Java code runs here";
const NO_JMX: &str = "Kafka's Java metrics do not exist here";
const TLS: &str = "OpenSSL decides";
const TICKETS: &str = "tickets are renewed by 'sasl.kerberos.min.time.before.relogin'";
const FORMAT: &str = "the format of the table decides";
const NO_OAUTH: &str = "OAUTHBEARER is not supported; use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or TLS";

const fn both(key: &'static str, rule: Rule) -> Property {
    Property { key, side: Side::Both, rule }
}
const fn consumer(key: &'static str, rule: Rule) -> Property {
    Property { key, side: Side::Consumer, rule }
}
const fn producer(key: &'static str, rule: Rule) -> Property {
    Property { key, side: Side::Producer, rule }
}

use Rule::{As, Buffer, Lower, Notice, Read, Refused, Same, Upper};

/// The table: keys of Kafka 4.1's consumer and producer, Flink's own ones among `properties.*`, and some of librdkafka's.
pub const KNOWN: &[Property] = &[
    both("bootstrap.servers", Same),
    both("client.id", Same),
    both("client.dns.lookup", Same),
    both("connections.max.idle.ms", Same),
    both("default.api.timeout.ms", Read),
    both("metadata.max.age.ms", As("topic.metadata.refresh.interval.ms")),
    both("metadata.recovery.strategy", Same),
    both("metadata.recovery.rebootstrap.trigger.ms", Same),
    both("receive.buffer.bytes", Buffer("socket.receive.buffer.bytes")),
    both("send.buffer.bytes", Buffer("socket.send.buffer.bytes")),
    both("reconnect.backoff.ms", Same),
    both("reconnect.backoff.max.ms", Same),
    both("request.timeout.ms", As("socket.timeout.ms")),
    both("retry.backoff.ms", Same),
    both("retry.backoff.max.ms", Same),
    both("socket.connection.setup.timeout.ms", Same),
    both("socket.connection.setup.timeout.max.ms", Notice("'socket.connection.setup.timeout.ms' is the limit")),
    both("enable.metrics.push", Same),
    both("metric.reporters", Notice(NO_JMX)),
    both("auto.include.jmx.reporter", Notice(NO_JMX)),
    both("metrics.num.samples", Notice(NO_JMX)),
    both("metrics.recording.level", Notice(NO_JMX)),
    both("metrics.sample.window.ms", Notice(NO_JMX)),
    both("interceptor.classes", Refused(NO_JAVA)),
    both("security.providers", Refused(NO_JAVA)),
    both("config.providers", Refused(NO_JAVA)),
    both("security.protocol", Lower),
    both("sasl.mechanism", Upper),
    both("sasl.jaas.config", Read),
    both("sasl.kerberos.service.name", Same),
    both("sasl.kerberos.min.time.before.relogin", Same),
    both("sasl.kerberos.kinit.cmd", Notice("kinit is called as librdkafka calls it")),
    both("sasl.kerberos.ticket.renew.jitter", Notice(TICKETS)),
    both("sasl.kerberos.ticket.renew.window.factor", Notice(TICKETS)),
    both("sasl.client.callback.handler.class", Refused(NO_JAVA)),
    both("sasl.login.callback.handler.class", Refused(NO_JAVA)),
    both("sasl.login.class", Refused(NO_JAVA)),
    both("sasl.login.connect.timeout.ms", Refused(NO_OAUTH)),
    both("sasl.login.read.timeout.ms", Refused(NO_OAUTH)),
    both("sasl.login.refresh.buffer.seconds", Notice(NO_OAUTH)),
    both("sasl.login.refresh.min.period.seconds", Notice(NO_OAUTH)),
    both("sasl.login.refresh.window.factor", Notice(NO_OAUTH)),
    both("sasl.login.refresh.window.jitter", Notice(NO_OAUTH)),
    both("sasl.login.retry.backoff.max.ms", Notice(NO_OAUTH)),
    both("sasl.login.retry.backoff.ms", Notice(NO_OAUTH)),
    both("sasl.oauthbearer.token.endpoint.url", Refused(NO_OAUTH)),
    both("sasl.oauthbearer.jwks.endpoint.url", Refused(NO_OAUTH)),
    both("sasl.oauthbearer.scope.claim.name", Refused(NO_OAUTH)),
    both("sasl.oauthbearer.sub.claim.name", Refused(NO_OAUTH)),
    both("ssl.truststore.location", Read),
    both("ssl.truststore.type", Read),
    both("ssl.truststore.password", Read),
    both("ssl.truststore.certificates", Read),
    both("ssl.keystore.location", Read),
    both("ssl.keystore.type", Read),
    both("ssl.keystore.password", Read),
    both("ssl.keystore.key", Read),
    both("ssl.keystore.certificate.chain", Read),
    both("ssl.key.password", Same),
    both("ssl.endpoint.identification.algorithm", Read),
    both("ssl.cipher.suites", Same),
    both("ssl.enabled.protocols", Notice(TLS)),
    both("ssl.protocol", Notice(TLS)),
    both("ssl.provider", Refused(NO_JAVA)),
    both("ssl.engine.factory.class", Refused(NO_JAVA)),
    both("ssl.keymanager.algorithm", Notice(TLS)),
    both("ssl.trustmanager.algorithm", Notice(TLS)),
    both("ssl.secure.random.implementation", Notice(TLS)),
    // The consumer's.
    consumer("group.id", Same),
    consumer("allow.auto.create.topics", Same),
    consumer("auto.commit.interval.ms", Read),
    consumer("auto.offset.reset", Read),
    consumer("check.crcs", Same),
    consumer("client.rack", Same),
    consumer("enable.auto.commit", Read),
    consumer("exclude.internal.topics", Notice("a pattern never matches Kafka's internal topics")),
    consumer("fetch.max.bytes", Same),
    consumer("fetch.max.wait.ms", As("fetch.wait.max.ms")),
    consumer("fetch.min.bytes", Same),
    consumer("max.partition.fetch.bytes", Same),
    consumer("isolation.level", Lower),
    consumer("max.poll.records", Notice("a source hands out batches of up to 4096 rows whatever it says")),
    consumer("group.instance.id", Notice(NO_GROUP)),
    consumer("group.protocol", Notice(NO_GROUP)),
    consumer("group.remote.assignor", Notice(NO_GROUP)),
    consumer("partition.assignment.strategy", Notice(NO_GROUP)),
    consumer("session.timeout.ms", Notice(NO_GROUP)),
    consumer("heartbeat.interval.ms", Notice(NO_GROUP)),
    consumer("max.poll.interval.ms", Notice(NO_GROUP)),
    consumer("key.deserializer", Notice(FORMAT)),
    consumer("value.deserializer", Notice(FORMAT)),
    // Flink's own among them.
    consumer("client.id.prefix", Read),
    consumer("commit.offsets.on.checkpoint", Read),
    consumer("partition.discovery.interval.ms", Read),
    consumer("register.consumer.metrics", Notice(NO_JMX)),
    producer("register.producer.metrics", Notice(NO_JMX)),
    // The producer's.
    producer("acks", Same),
    producer("batch.size", Same),
    producer("buffer.memory", Read),
    producer("compression.type", Same),
    producer("compression.gzip.level", Read),
    producer("compression.lz4.level", Read),
    producer("compression.zstd.level", Read),
    producer("delivery.timeout.ms", Same),
    producer("enable.idempotence", Read),
    producer("linger.ms", Same),
    producer("max.block.ms", Read),
    producer("max.in.flight.requests.per.connection", Same),
    producer("max.request.size", As("message.max.bytes")),
    producer("metadata.max.idle.ms", Notice("topics that are not written to any more are forgotten by themselves")),
    producer("retries", Same),
    producer("transaction.timeout.ms", Same),
    producer("transactional.id", Refused("set 'sink.transactional-id-prefix'; every subtask has ids of its own")),
    producer("transaction.two.phase.commit.enable", Refused("prepared transactions are resumed without it")),
    producer("key.serializer", Notice(FORMAT)),
    producer("value.serializer", Notice(FORMAT)),
    producer("partitioner.class", Refused("set 'sink.partitioner'")),
    producer("partitioner.adaptive.partitioning.enable", Notice("'sink.partitioner' decides")),
    producer("partitioner.availability.timeout.ms", Notice("'sink.partitioner' decides")),
    producer("partitioner.ignore.keys", Notice("'sink.partitioner' decides")),
    // librdkafka's own, for what the Java client has no key for.
    both("broker.address.family", Same),
    both("broker.address.ttl", Same),
    both("debug", Same),
    both("receive.message.max.bytes", Same),
    both("socket.keepalive.enable", Same),
    both("socket.timeout.ms", Same),
    both("sasl.username", Same),
    both("sasl.password", Same),
    both("sasl.kerberos.keytab", Same),
    both("sasl.kerberos.principal", Same),
    both("ssl.ca.location", Same),
    both("ssl.certificate.location", Same),
    both("ssl.key.location", Same),
    both("ssl.crl.location", Same),
    both("enable.ssl.certificate.verification", Same),
    consumer("fetch.error.backoff.ms", Same),
    consumer("fetch.queue.backoff.ms", Same),
    consumer("queued.max.messages.kbytes", Same),
    consumer("queued.min.messages", Same),
    producer("compression.level", Same),
    producer("queue.buffering.max.kbytes", Same),
    producer("queue.buffering.max.messages", Same),
];
