//! Prints how long one core takes per Nexmark event; writes nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_connectors::nexmark::NexmarkFactory;
use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::{ReaderContext, ReaderEvent};
use flott_core::time::SystemClock;

const EVENTS: u64 = 10_000_000;

fn main() -> flott_core::Result<()> {
    let options = [("connector", "nexmark".to_owned()), ("events.num", EVENTS.to_string())];
    let table = TableSpec {
        name: "datagen".into(),
        columns: flott_connectors::nexmark::columns(),
        options: options.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>(),
        primary_key: vec![],
        partition_keys: vec![],
        input_mode: ChangelogMode::Append,
    };
    let source = NexmarkFactory.source(&table, &Configuration::default())?;
    let clock = SystemClock::shared();
    let (config, metrics) = (Arc::new(Configuration::default()), Arc::default());
    let mut reader = source.reader(ReaderContext {
        subtask: 0,
        parallelism: 1,
        clock: clock.clone(),
        config,
        memory: flott_core::memory::MemoryBudget::unlimited(),
        metrics,
    })?;
    reader.assign(source.enumerator()?.discover(1)?)?;
    let (start, mut rows, mut bytes) = (clock.now_nanos(), 0usize, 0usize);
    loop {
        match reader.poll()? {
            ReaderEvent::Rows { batch, .. } => {
                rows += batch.num_rows();
                bytes += batch.memory_bytes();
            }
            ReaderEvent::Drained => break,
            _ => {}
        }
    }
    let ns = clock.now_nanos() - start;
    println!("{rows} events, {:.1} ns and {} bytes per event", ns as f64 / rows as f64, bytes / rows);
    Ok(())
}
