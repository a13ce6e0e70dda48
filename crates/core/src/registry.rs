//! Where connectors make themselves known: the only way from an option string to code.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::{Configuration, REDACTED, is_secret};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::lookup::LookupSource;
use crate::sink::{ChangelogMode, Sink};
use crate::source::Source;
use crate::types::{Column, DataType};

/// A table as the catalog knows it, reduced to what a connector needs.
#[derive(Clone, PartialEq)]
pub struct TableSpec {
    /// Full name, for messages.
    pub name: String,
    /// The physical columns, then the metadata columns that are read or written, in the order rows have.
    pub columns: Vec<Column>,
    /// Options of the WITH clause, `connector` included.
    pub options: BTreeMap<String, String>,
    /// Primary key columns.
    pub primary_key: Vec<usize>,
    /// Partition columns (PARTITIONED BY).
    pub partition_keys: Vec<usize>,
    /// For sinks: what the query produces after adaptation.
    pub input_mode: ChangelogMode,
}

impl fmt::Debug for TableSpec {
    /// Without what is secret among the options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |(k, v): (&String, &String)| (k.clone(), if is_secret(k) { REDACTED.to_owned() } else { v.clone() });
        let options: BTreeMap<String, String> = self.options.iter().map(shown).collect();
        f.debug_struct("TableSpec")
            .field("name", &self.name)
            .field("columns", &self.columns)
            .field("options", &options)
            .field("primary_key", &self.primary_key)
            .field("partition_keys", &self.partition_keys)
            .field("input_mode", &self.input_mode)
            .finish()
    }
}

/// One option of a connector or format: the table from which checks, messages and docs come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Flink's key. A `#` stands for a column name, as in `fields.#.min`.
    pub key: &'static str,
    /// `STRING`, `INT`, `BIGINT`, `BOOLEAN`, `DURATION`, `MEMORY`, `DOUBLE`, or `ENUM(a|b)`.
    pub kind: &'static str,
    /// Default in words; empty when there is none.
    pub default: &'static str,
    /// Must be given.
    pub required: bool,
    /// One sentence.
    pub doc: &'static str,
}

/// A connector, by its identifier.
pub trait ConnectorFactory: Send + Sync {
    /// The value of `connector`.
    fn identifier(&self) -> &'static str;
    /// Every option it knows, format options excluded: an unknown option is an error before anything runs.
    fn options(&self) -> &'static [OptionSpec];
    /// Metadata keys it can read, with their types.
    fn metadata(&self, options: &BTreeMap<String, String>) -> Vec<(String, DataType)> {
        let _ = options;
        Vec::new()
    }
    /// Columns of a table declared without any (`nexmark` has a fixed schema); `None`: they must be declared.
    fn default_columns(&self) -> Option<Vec<Column>> {
        None
    }
    /// Which changes the source yields, from its options (`debezium-json` retracts, `upsert-kafka` upserts by primary key).
    fn source_mode(&self, table: &TableSpec) -> Result<ChangelogMode> {
        let _ = table;
        Ok(ChangelogMode::Append)
    }
    /// The lookup source on these key columns (indices into the table's columns); an error of kind `User` when the connector
    /// cannot be asked by key.
    fn lookup(&self, table: &TableSpec, keys: &[usize], config: &Configuration) -> Result<Arc<dyn LookupSource>> {
        let _ = (keys, config);
        Err(Error::user(
            "table.not-a-lookup-source",
            format!("table `{}`: the connector '{}' cannot be asked by key", table.name, self.identifier()),
        )
        .hint("a lookup join needs a table of the connector 'jdbc'; join the stream itself by leaving out FOR SYSTEM_TIME AS OF"))
    }
    /// The source; an error of kind `User` when the connector cannot be read.
    fn source(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Source>>;
    /// The sink; an error of kind `User` when the connector cannot be written.
    fn sink(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Sink>>;
}

/// All connectors of a process, and the functions that CREATE FUNCTION finds. Filled once by `launcher`, then shared.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Arc<dyn ConnectorFactory>>,
    functions: BTreeMap<String, Function>,
}

impl Registry {
    /// Adds a connector; the last one of a name wins.
    pub fn register(&mut self, factory: Arc<dyn ConnectorFactory>) {
        self.connectors.insert(factory.identifier(), factory);
    }
    /// Adds a function that CREATE FUNCTION finds by this name: that of the Java class it stands for, or one of its own.
    pub fn register_function(&mut self, name: &str, function: Function) {
        self.functions.insert(name.to_owned(), function);
    }
    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }
    /// Names of all functions.
    pub fn function_names(&self) -> Vec<&str> {
        self.functions.keys().map(String::as_str).collect()
    }
    /// The connector named by a table's options.
    pub fn connector(&self, table: &str, options: &BTreeMap<String, String>) -> Result<&Arc<dyn ConnectorFactory>> {
        let Some(name) = options.get("connector") else {
            return Err(Error::user("table.no-connector", format!("table `{table}` has no option 'connector'"))
                .hint(format!("add 'connector' = one of {}", self.names().join(", "))));
        };
        self.connectors.get(name.as_str()).ok_or_else(|| {
            Error::user("table.unknown-connector", format!("table `{table}`: there is no connector '{name}'"))
                .hint(format!("available: {}", self.names().join(", ")))
        })
    }
    /// Names of all connectors.
    pub fn names(&self) -> Vec<&'static str> {
        self.connectors.keys().copied().collect()
    }
}
