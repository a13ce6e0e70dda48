//! The sink of a `jdbc` table: appends without a primary key, upserts with one; at least once, or exactly once by a ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flott_core::sink::{ChangelogMode, Committer, Sink, SinkContext, SinkWriter};
use flott_core::{Error, Result};

use super::changes::mode;
use super::committer::LedgerCommitter;
use super::epoch::{EpochWriter, Outstanding};
use super::writer::{JdbcWriter, Table};

/// The sink.
pub struct JdbcSink {
    table: Arc<Table>,
    /// By subtask: what the writer and the committer of the newest attempt share.
    outstanding: Mutex<BTreeMap<u32, Arc<Outstanding>>>,
}

impl JdbcSink {
    /// Of a table; refuses changes that have no key to be applied by.
    pub fn new(table: Table) -> Result<Self> {
        if table.spec.primary_key.is_empty() && table.spec.input_mode != ChangelogMode::Append {
            return Err(Error::user(
                "jdbc.no-key",
                format!(
                    "table `{}`: please declare primary key for sink table when query contains update/delete record",
                    table.spec.name
                ),
            )
            .hint("add PRIMARY KEY (…) NOT ENFORCED to the table"));
        }
        Ok(JdbcSink { table: Arc::new(table), outstanding: Mutex::default() })
    }

    /// What writer and committer of a subtask share; each attempt asks for its committer first and begins afresh.
    fn outstanding(&self, subtask: u32, afresh: bool) -> Arc<Outstanding> {
        let mut all = self.outstanding.lock().unwrap_or_else(PoisonError::into_inner);
        if afresh {
            all.remove(&subtask);
        }
        Arc::clone(all.entry(subtask).or_default())
    }
}

impl Sink for JdbcSink {
    fn changelog_mode(&self) -> ChangelogMode {
        mode(&self.table.spec.primary_key)
    }

    fn writer(&self, context: SinkContext, restored: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        Ok(match &self.table.write.exactly_once {
            None => Box::new(JdbcWriter::start(Arc::clone(&self.table), context, &restored)?),
            Some(_) => {
                let shared = self.outstanding(context.subtask, false);
                Box::new(EpochWriter::new(Arc::clone(&self.table), context, shared, &restored)?)
            }
        })
    }

    fn committer(&self, context: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let Some(mode) = &self.table.write.exactly_once else { return Ok(None) };
        let shared = self.outstanding(context.subtask, true);
        Ok(Some(Box::new(LedgerCommitter::start(Arc::clone(&self.table), mode, context, shared)?)))
    }
}
