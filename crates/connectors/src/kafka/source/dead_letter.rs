//! Copies of records that could not be decoded, to a topic of their own: durable before the checkpoint that passes over them.
//! Never drops one silently.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flott_core::{Error, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Header, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::kafka::client::{Context, Watch, call_error};
use crate::kafka::properties::ClientProperties;

/// How long a letter may take.
const DELIVERY_MS: u64 = 30_000;
/// How long sending waits for room, at most.
const ROOM_MS: u64 = 5_000;

/// Remembers the first letter that was not delivered.
#[derive(Clone, Default)]
struct Delivery {
    watch: Context,
    failed: Arc<Mutex<Option<Code>>>,
}

impl ClientContext for Delivery {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.watch.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(code);
        }
    }
}

/// Sends letters of one reader.
pub(super) struct DeadLetters {
    servers: String,
    topic: String,
    producer: BaseProducer<Delivery>,
    delivery: Delivery,
    watch: Arc<Watch>,
    /// Letters were sent since the last flush.
    open: bool,
}

impl DeadLetters {
    pub(super) fn new(properties: &ClientProperties, topic: &str) -> Result<Self> {
        let mut properties = properties.clone();
        let id = format!("{}-dead-letters", properties.native("client.id").unwrap_or("flott"));
        for (key, value) in [("client.id", id.as_str()), ("acks", "all"), ("enable.idempotence", "true")] {
            properties.set(key, value);
        }
        properties.set("delivery.timeout.ms", &DELIVERY_MS.to_string());
        // As large as it was read: the broker decides.
        properties.set_default("message.max.bytes", "1000000000");
        properties.set_default("queue.buffering.max.kbytes", "65536");
        let delivery = Delivery::default();
        let producer = BaseProducer::from_config_and_context(&properties.client_config(), delivery.clone())
            .map_err(|e| super::enumerator::creation(properties.servers(), &e))?;
        Ok(DeadLetters {
            servers: properties.servers().to_owned(),
            topic: topic.to_owned(),
            producer,
            watch: delivery.watch.0.clone(),
            delivery,
            open: false,
        })
    }

    /// Sends a record as it is, with headers that say where it was and what is wrong with it.
    pub(super) fn send(&mut self, message: &BorrowedMessage<'_>, reason: &str) -> Result<()> {
        let mut headers = message.headers().map(|h| h.detach()).unwrap_or_default();
        for (key, value) in [
            ("flott.topic", message.topic()),
            ("flott.partition", &message.partition().to_string()),
            ("flott.offset", &message.offset().to_string()),
            ("flott.reason", reason),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        if let Some(key) = message.key() {
            record = record.key(key);
        }
        if let Some(payload) = message.payload() {
            record = record.payload(payload);
        }
        if let Some(ms) = message.timestamp().to_millis() {
            record = record.timestamp(ms);
        }
        self.open = true;
        match self.producer.send(record) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(Code::QueueFull), record)) => {
                let _ = self.producer.flush(Duration::from_millis(ROOM_MS));
                self.producer.send(record).map_err(|(e, _)| self.failed(&e))?;
            }
            Err((e, _)) => return Err(self.failed(&e)),
        }
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    /// Waits until all letters are durable: before every barrier, and as long as a letter may take.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.open {
            let flushed = self.producer.flush(Duration::from_millis(DELIVERY_MS + 1_000));
            self.check()?;
            flushed.map_err(|e| self.failed(&e))?;
            self.open = false;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let failed = *self.delivery.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |code| Err(self.failed(&KafkaError::MessageProduction(code))))
    }

    fn failed(&self, error: &KafkaError) -> Error {
        let what = format!("writing a bad record to the dead-letter topic `{}`", self.topic);
        call_error(&self.servers, &what, error, &self.watch)
    }
}
