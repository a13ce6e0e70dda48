//! The entry to a program: sources in, a graph built, a job started. Builds only; the launcher runs it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flott_core::config::{Configuration, Notice, keys};
use flott_core::error::{Error, Result};
use flott_core::registry::{Registry, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::{Source, WatermarkOptions};
use flott_launcher::{CollectionSource, Environment, JobClient, JobStatus};
use flott_plan::stream_graph::{NodeId, NodeKind, SourceNode, StreamGraph, StreamNode};
use flott_sql::Session;

use crate::record::Record;
use crate::stage::{Rows, decode, encode};
use crate::stream::DataStream;
use crate::table::Views;

/// Rows per batch of a collection.
const COLLECTION_BATCH_ROWS: usize = 4096;

/// Where a program starts. Cheap to clone; clones build the same job.
#[derive(Clone)]
pub struct StreamExecutionEnvironment {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    graph: StreamGraph,
    /// Nodes that an earlier job has run.
    executed: usize,
    /// Options, and the tables SQL knows.
    session: Session,
    registry: Registry,
    views: Views,
    environment: Environment,
}

impl Default for StreamExecutionEnvironment {
    fn default() -> Self {
        Self::new()
    }
}

/// A connector and its options, as in a WITH clause.
#[derive(Clone, Debug)]
pub struct Connector {
    options: BTreeMap<String, String>,
    primary_key: Vec<String>,
}

impl Connector {
    /// A connector by its identifier.
    pub fn new(identifier: &str) -> Self {
        Connector { options: [("connector".to_owned(), identifier.to_owned())].into(), primary_key: Vec::new() }
    }
    /// Sets an option.
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }
    /// The columns of the primary key, by which a sink replaces rows.
    pub fn primary_key(mut self, columns: &[&str]) -> Self {
        self.primary_key = columns.iter().map(|c| (*c).to_owned()).collect();
        self
    }
    pub(crate) fn table<T: Record>(&self, name: &str) -> Result<TableSpec> {
        let columns = T::columns();
        let place = |key: &String| {
            columns.iter().position(|c| c.name == *key).ok_or_else(|| {
                let error = Error::user(
                    "datastream.primary-key",
                    format!("`{name}` has no column `{key}` for its primary key"),
                );
                let names: Vec<&str> = columns.iter().map(|c| &*c.name).collect();
                error.detail(format!("its columns are {}", names.join(", "))).hint("name fields of the row type")
            })
        };
        let primary_key = self.primary_key.iter().map(place).collect::<Result<_>>()?;
        Ok(TableSpec {
            name: name.to_owned(),
            options: self.options.clone(),
            primary_key,
            partition_keys: Vec::new(),
            input_mode: ChangelogMode::Append,
            columns,
        })
    }
}

impl StreamExecutionEnvironment {
    /// An environment with default options.
    pub fn new() -> Self {
        let views = Views::default();
        let mut registry = flott_launcher::registry();
        registry.register(Arc::new(views.clone()));
        let inner = Inner {
            graph: StreamGraph::default(),
            executed: 0,
            session: Session::new(Configuration::new()),
            registry,
            views,
            environment: Environment::default(),
        };
        StreamExecutionEnvironment { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an option by Flink's key; returns what the user should know about it.
    pub fn set(&self, key: &str, value: &str) -> Result<Vec<Notice>> {
        self.lock().session.config_mut().set(key, value)
    }

    /// Sets an option from `key=value`, as `-D` has it.
    pub fn set_property(&self, property: &str) -> Result<Vec<Notice>> {
        self.lock().session.config_mut().set_property(property)
    }

    /// `parallelism.default`.
    pub fn set_parallelism(&self, parallelism: u32) -> Result<()> {
        self.set(keys::PARALLELISM, &parallelism.to_string()).map(drop)
    }

    /// Checkpoints every `interval_ms` into `dir`, and goes on from the newest one when the program is started again.
    pub fn enable_checkpointing(&self, interval_ms: u64, dir: &str) -> Result<()> {
        self.set(keys::CHECKPOINT_INTERVAL, &format!("{interval_ms} ms"))?;
        self.set(keys::CHECKPOINT_DIR, dir)?;
        self.set(keys::CHECKPOINT_RETENTION, "RETAIN_ON_CANCELLATION")?;
        self.set(keys::RECOVERY_PATH, "latest").map(drop)
    }

    /// Test-only: replaces clock and switches.
    #[doc(hidden)]
    pub fn set_environment(&self, environment: Environment) {
        self.lock().environment = environment;
    }

    /// A bounded stream of these rows.
    pub fn from_collection<T: Record>(&self, rows: Vec<T>) -> Result<DataStream<T>> {
        let chunks = rows.chunks(COLLECTION_BATCH_ROWS);
        let batches = chunks.map(|c| encode(&Rows { values: c.to_vec(), times: None }));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok(self.source("collection", Arc::new(CollectionSource::of_changes(batches))))
    }

    /// A stream from a connector; the columns are those of `T`.
    pub fn from_connector<T: Record>(&self, name: &str, connector: &Connector) -> Result<DataStream<T>> {
        let table = connector.table::<T>(name)?;
        let source = {
            let inner = self.lock();
            inner.registry.connector(name, &table.options)?.source(&table, inner.session.config())?
        };
        Ok(self.source(name, source))
    }

    /// A stream from any source whose rows have the columns of `T`.
    pub fn source<T: Record>(&self, name: &str, source: Arc<dyn Source>) -> DataStream<T> {
        let node = self.add(StreamNode {
            name: format!("Source: {name}"),
            uid: None,
            kind: NodeKind::Source(SourceNode { source, transform: None, watermarks: WatermarkOptions::default() }),
            parallelism: None,
            columns: T::columns(),
            chainable: false,
        });
        DataStream::of_node(self.clone(), node, decode::<T>())
    }

    pub(crate) fn add(&self, node: StreamNode) -> NodeId {
        self.lock().graph.add(node)
    }

    pub(crate) fn with_graph<R>(&self, f: impl FnOnce(&mut StreamGraph) -> R) -> R {
        f(&mut self.lock().graph)
    }

    pub(crate) fn with_session<R>(&self, f: impl FnOnce(&mut Session, Registry) -> R) -> R {
        let mut inner = self.lock();
        let registry = inner.registry.clone();
        f(&mut inner.session, registry)
    }

    pub(crate) fn views(&self) -> Views {
        self.lock().views.clone()
    }

    pub(crate) fn sink_of<T: Record>(
        &self,
        name: &str,
        connector: &Connector,
    ) -> Result<Arc<dyn flott_core::sink::Sink>> {
        let table = connector.table::<T>(name)?;
        let inner = self.lock();
        inner.registry.connector(name, &table.options)?.sink(&table, inner.session.config())
    }

    /// Starts a job of what was built since the last one, in this process. A stream that an earlier job has read may be used again.
    pub fn execute_async(&self, job_name: &str) -> Result<JobClient> {
        let mut inner = self.lock();
        let mut graph = inner.graph.since(inner.executed);
        graph.name = Some(job_name.to_owned());
        inner.executed = inner.graph.nodes.len();
        flott_launcher::submit(&graph, inner.session.config(), &inner.environment)
    }

    /// Runs the job in this process to its end.
    pub fn execute(&self, job_name: &str) -> Result<()> {
        match self.execute_async(job_name)?.join() {
            JobStatus::Failed(e) => Err(e),
            JobStatus::Canceled | JobStatus::Suspended => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }
}
