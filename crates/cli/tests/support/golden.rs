//! The connector `golden`: a sink that keeps every change in memory, for a job that runs straight through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::{ChangelogMode, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::source::Source;
use flott_core::types::Column;
use flott_core::{ChangeBatch, CheckpointId, Error, Result};

type Kept = BTreeMap<u32, Vec<ChangeBatch>>;

/// The connector, and what its sink was given: one sink.
#[derive(Clone, Default)]
pub struct Golden {
    columns: Arc<Mutex<Vec<Column>>>,
    kept: Arc<Mutex<Kept>>,
}

impl Golden {
    /// Calls `f` with each batch and the sink's columns.
    pub fn each(&self, mut f: impl FnMut(&[Column], &ChangeBatch)) {
        let columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().flatten().for_each(|batch| f(&columns, batch));
    }
}

impl ConnectorFactory for Golden {
    fn identifier(&self) -> &'static str {
        "golden"
    }
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }
    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        Err(Error::user("table.no-source", format!("table `{}`: golden cannot be read", table.name)))
    }
    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        *self.columns.lock().unwrap_or_else(PoisonError::into_inner) = table.columns.clone();
        Ok(Arc::new(self.clone()))
    }
}

impl Sink for Golden {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer { subtask: context.subtask, kept: self.kept.clone() }))
    }
    fn committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(None)
    }
}

struct Writer {
    subtask: u32,
    kept: Arc<Mutex<Kept>>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entry(self.subtask).or_default().push(batch.clone());
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}
