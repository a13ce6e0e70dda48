//! The Kafka source: partitions are splits, positions are offsets in the checkpoint; no consumer group takes part. Writes nothing
//! but dead letters and committed offsets.

mod builder;
mod commit;
pub mod config;
mod dead_letter;
mod enumerator;
mod health;
pub mod memory;
mod partition;
mod reader;
pub mod rows;
pub mod split;

use std::sync::Arc;

use flott_core::Result;
use flott_core::registry::TableSpec;
use flott_core::sink::ChangelogMode;
use flott_core::source::{Boundedness, ReaderContext, Source, SplitEnumerator, SplitReader};
use flott_core::time::{SharedClock, SystemClock};

pub use builder::KafkaSourceBuilder;
pub use config::{BadRecords, Reset, SourceConfig, Start, Stop};

use crate::options::TableOptions;

/// Topics as a source.
pub struct KafkaSource {
    config: Arc<SourceConfig>,
    clock: SharedClock,
}

impl KafkaSource {
    /// The source of a table whose options were checked against those of the connector.
    pub fn new(o: &TableOptions<'_>, table: &TableSpec, upsert: bool) -> Result<Self> {
        Ok(KafkaSource { config: Arc::new(SourceConfig::read(o, table, upsert)?), clock: SystemClock::shared() })
    }

    /// A source for programs, made option by option.
    pub fn builder() -> KafkaSourceBuilder {
        KafkaSourceBuilder::default()
    }

    /// The same source at another clock: what "one hour ago" is counted from.
    pub fn at_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Which changes the rows are.
    pub fn mode(&self) -> ChangelogMode {
        self.config.plan.mode()
    }
}

impl Source for KafkaSource {
    fn boundedness(&self) -> Boundedness {
        if self.config.is_bounded() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(enumerator::KafkaEnumerator::new(self.config.clone(), self.clock.clone())?))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(reader::KafkaReader::new(self.config.clone(), context)?))
    }
}
