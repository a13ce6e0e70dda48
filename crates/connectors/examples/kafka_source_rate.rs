//! What reading a topic costs: CPU seconds and memory of the source, or of a bare librdkafka consumer, until the topic's present
//! end. For developers; run it with `--release`.
//!
//! `kafka_source_rate source|bare SERVERS TOPIC [columns=a:BIGINT,b:STRING] [fetch-mb=N] [readers=N] [OPTION=VALUE …]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flott_connectors::kafka::KafkaFactory;
use flott_core::config::Configuration;
use flott_core::memory::{MemoryBudget, MemoryUse};
use flott_core::metrics::OperatorMetrics;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::{ReaderContext, ReaderEvent};
use flott_core::time::SystemClock;
use flott_core::types::{Column, TypeKind};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// CPU seconds of this process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// The most memory the process has held, in megabytes.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|l| l.starts_with("VmHWM")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
}

fn kind(name: &str) -> TypeKind {
    match name {
        "BIGINT" => TypeKind::BigInt,
        "DOUBLE" => TypeKind::Double,
        "TIMESTAMP" => TypeKind::Timestamp(3),
        _ => TypeKind::STRING,
    }
}

fn main() -> flott_core::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, servers, topic, rest @ ..] = args.as_slice() else {
        println!(
            "usage: kafka_source_rate source|bare SERVERS TOPIC [columns=…] [fetch-mb=N] [readers=N] [OPTION=VALUE …]"
        );
        return Ok(());
    };
    let mut options: BTreeMap<String, String> =
        rest.iter().filter_map(|a| a.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let clock = SystemClock::shared();
    let start = clock.now_nanos();
    let rows = if mode == "bare" { bare(servers, topic) } else { source(servers, topic, &mut options)? };
    let seconds = (clock.now_nanos() - start) as f64 / 1e9;
    let cpu = cpu_seconds();
    println!(
        "{mode}: {rows} rows, {seconds:.2} s, {cpu:.2} CPU s, {:.3} CPU s per million, peak {} MB",
        cpu / rows as f64 * 1e6,
        peak_mb()
    );
    Ok(())
}

/// Polls messages and looks at their length.
fn bare(servers: &str, topic: &str) -> u64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "kafka-rate")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let limit = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), limit).expect("metadata");
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for p in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, p.id(), limit).expect("offsets");
        left += high - low;
        list.add_partition_offset(topic, p.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut rows, mut bytes) = (0u64, 0usize);
    while (rows as i64) < left {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            rows += 1;
            bytes += message.payload_len();
        }
    }
    println!("bytes {bytes}");
    rows
}

fn source(servers: &str, topic: &str, options: &mut BTreeMap<String, String>) -> flott_core::Result<u64> {
    let mut take = |key: &str| options.remove(key);
    let columns = take("columns").unwrap_or_else(|| "n:BIGINT".into());
    let fetch_mb = take("fetch-mb").and_then(|v| v.parse::<usize>().ok());
    let readers: u32 = take("readers").and_then(|v| v.parse().ok()).unwrap_or(1);
    for (key, value) in [
        ("connector", "kafka"),
        ("properties.bootstrap.servers", servers),
        ("topic", topic),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ] {
        options.entry(key.into()).or_insert_with(|| value.into());
    }
    let column = |c: &str| c.split_once(':').map(|(n, t)| Column::new(n, kind(t).nullable()));
    let table = TableSpec {
        name: "t".into(),
        columns: columns.split(',').filter_map(column).collect(),
        options: options.clone(),
        primary_key: Vec::new(),
        partition_keys: Vec::new(),
        input_mode: ChangelogMode::Append,
    };
    let source = KafkaFactory::new(false).source(&table, &Configuration::default())?;
    let splits = source.enumerator()?.discover(readers)?;
    let memory = fetch_mb.map_or_else(MemoryBudget::unlimited, |mb| {
        MemoryBudget::new(move |of| if of == MemoryUse::Fetch { mb << 20 } else { 0 })
    });
    let threads: Vec<_> = (0..readers)
        .map(|subtask| {
            let own = splits.iter().skip(subtask as usize).step_by(readers as usize).cloned().collect();
            let (source, memory) = (source.clone(), memory.clone());
            std::thread::spawn(move || {
                let (config, metrics) = (Arc::new(Configuration::default()), Arc::new(OperatorMetrics::default()));
                let clock = SystemClock::shared();
                let context =
                    ReaderContext { subtask, parallelism: readers, clock: clock.clone(), config, memory, metrics };
                let mut reader = source.reader(context)?;
                reader.assign(own)?;
                let (mut rows, mut batches) = (0u64, 0u64);
                loop {
                    match reader.poll()? {
                        ReaderEvent::Rows { batch, .. } => {
                            rows += batch.num_rows() as u64;
                            batches += 1;
                        }
                        ReaderEvent::SplitFinished { .. } => {}
                        ReaderEvent::Wait { until_ms } => {
                            let ms = until_ms.saturating_sub(clock.now_ms()).clamp(0, 250);
                            std::thread::sleep(Duration::from_millis(ms as u64));
                        }
                        ReaderEvent::Drained => break,
                    }
                }
                println!("reader {subtask}: {rows} rows in {batches} batches");
                Ok::<u64, flott_core::Error>(rows)
            })
        })
        .collect();
    let mut rows = 0;
    for thread in threads {
        rows += thread.join().expect("no panic")?;
    }
    Ok(rows)
}
