//! Feeds the events into Kafka through Kafka's own console producer, which outlives restarts of the broker. One thread and one JVM
//! per topic; paced and portioned, so that there is something to do at every kill, however long the kills take.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::tools;
use super::workload::{self, Topic};
use crate::services::{Instance, signal};

/// Events between two pauses, at most.
const STEP_MAX: u64 = 2_000;

/// Both producers.
pub struct Feeder {
    threads: Vec<JoinHandle<Result<u64, String>>>,
    producers: Vec<u32>,
    pace: Arc<Pace>,
}

/// What the threads go by.
struct Pace {
    /// The first event that may not be fed yet.
    allowed: AtomicU64,
    /// No more pauses.
    hurry: AtomicBool,
    fed: AtomicU64,
    /// Pause for every event.
    per_event: Duration,
}

impl Feeder {
    /// Starts to feed, `per_event` apart, as far as is allowed.
    pub fn start(broker: &Instance, dir: &Path, seed: u64, events: u64, per_event: Duration) -> Result<Self, String> {
        let (allowed, fed) = (AtomicU64::new(0), AtomicU64::new(0));
        let pace = Arc::new(Pace { allowed, hurry: AtomicBool::new(false), fed, per_event });
        let (mut threads, mut producers) = (Vec::new(), Vec::new());
        for topic in [Topic::Orders, Topic::Clicks] {
            let producer = producer(broker, topic, dir)?;
            producers.push(producer.id());
            let pace = Arc::clone(&pace);
            threads.push(thread::spawn(move || feed(producer, topic, seed, events, &pace)));
        }
        Ok(Self { threads, producers, pace })
    }

    /// Records written so far.
    pub fn fed(&self) -> u64 {
        self.pace.fed.load(Ordering::Relaxed)
    }

    /// Allows so many events more.
    pub fn allow(&self, events: u64) {
        self.pace.allowed.fetch_add(events, Ordering::Relaxed);
    }

    /// All that is left, without pauses.
    pub fn hurry(&self) {
        self.pace.allowed.store(u64::MAX, Ordering::Relaxed);
        self.pace.hurry.store(true, Ordering::Relaxed);
    }

    /// Waits until everything is in the topics; how many records.
    pub fn finish(mut self) -> Result<u64, String> {
        let mut records = 0;
        for thread in std::mem::take(&mut self.threads) {
            records += thread.join().map_err(|_| "a feeding thread panicked".to_owned())??;
        }
        Ok(records)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // A producer that was given up would go on trying, and find the next run's broker.
        for (thread, producer) in self.threads.iter().zip(&self.producers) {
            if !thread.is_finished() {
                let _ = signal(*producer, "KILL");
            }
        }
    }
}

fn producer(broker: &Instance, topic: Topic, dir: &Path) -> Result<Child, String> {
    let mut command = tools::kafka("ConsoleProducer")?;
    command.args(["--bootstrap-server", &broker.address(), "--topic", topic.name()]);
    command.args(["--property", "parse.key=true", "--request-required-acks", "all", "--timeout", "20"]);
    // Idempotent, and more patient than any restart.
    command.args(["--message-send-max-retries", "1000000", "--request-timeout-ms", "5000", "--max-block-ms", "900000"]);
    for property in ["delivery.timeout.ms=900000", "enable.idempotence=true"] {
        command.args(["--producer-property", property]);
    }
    let log = dir.join(format!("feeder-{}.log", topic.name()));
    let log = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let twin = log.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::piped()).stdout(log).stderr(twin).spawn().map_err(|e| format!("java: {e}"))
}

fn feed(mut producer: Child, topic: Topic, seed: u64, events: u64, pace: &Pace) -> Result<u64, String> {
    let mut input = producer.stdin.take().ok_or("no standard input")?;
    let step = (events / 2_000).clamp(1, STEP_MAX);
    let (mut records, mut at) = (0, 0);
    while at < events {
        let to = (at + step).min(events);
        if to > pace.allowed.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        let mut text = String::new();
        let count = workload::lines(seed, topic, at..to, events, &mut text);
        input.write_all(text.as_bytes()).map_err(|e| format!("{}: {e}", topic.name()))?;
        records += count;
        pace.fed.fetch_add(count, Ordering::Relaxed);
        if !pace.hurry.load(Ordering::Relaxed) {
            thread::sleep(pace.per_event * u32::try_from(to - at).unwrap_or(u32::MAX));
        }
        at = to;
    }
    let mut text = String::new();
    records += workload::closers(topic, &mut text);
    input.write_all(text.as_bytes()).map_err(|e| format!("{}: {e}", topic.name()))?;
    drop(input);
    let status = producer.wait().map_err(|e| e.to_string())?;
    if status.success() { Ok(records) } else { Err(format!("the producer of {} ended with {status}", topic.name())) }
}
