//! The option table, part two: keys that Flink knows and Flott does not read, from an embedded list that is parsed on first use,
//! each with the reason why it has no effect here.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::options::{OPTIONS, OptionDef, Status};
use super::value::OptionKind;

/// Lines of `key, kind, default, former names (separated by ,)`, separated by tabs.
static LIST: &str = include_str!("flink-keys.tsv");

/// Why a family of keys has no effect, by prefix; the first match counts.
const REASONS: &[(&str, &str)] = &[
    ("state.backend.rocksdb.", "there is no RocksDB backend yet; state lives in memory (hashmap)"),
    ("state.backend.forst.", "there is no ForSt backend; state lives in memory (hashmap)"),
    ("state.changelog.", "there is no state changelog: checkpoints are cut without stopping tasks already"),
    (
        "security.ssl.",
        "all tasks run in one process, so there is no traffic to encrypt; TLS comes with the distributed cluster",
    ),
    ("security.", "nothing here logs in to Kerberos-secured services yet"),
    ("zookeeper.", "the job runs in one process without ZooKeeper; it recovers from its checkpoints"),
    (
        "high-availability",
        "the job runs in one process without standby; it recovers from its checkpoints when started again",
    ),
    ("kubernetes.", "it takes effect only where Flott runs on Kubernetes"),
    ("yarn.", "Flott does not run on YARN"),
    ("taskmanager.memory.", "exchanges pass whole batches; there are no memory segments and no other consumers"),
    ("jobmanager.memory.", "there is no JVM whose memory must be divided; use limits of the operating system"),
    ("taskmanager.network.memory", "exchanges hold a fixed number of batches instead of a pool of network buffers"),
    ("taskmanager.network.", "all tasks run in one process, so there is no network between them"),
    ("taskmanager.", "there is no separate TaskManager: all tasks run in one process"),
    ("jobmanager.", "there is no separate JobManager: the job runs in one process"),
    ("blob.", "there is no blob server: nothing is shipped to other machines"),
    ("pekko.", "there is no Pekko: all parts of a job run in one process"),
    ("akka.", "there is no Akka: all parts of a job run in one process"),
    ("heartbeat.", "all parts of a job run in one process, so there are no heartbeats"),
    ("rest.", "there is no REST server yet"),
    ("web.", "there is no web dashboard yet"),
    ("historyserver.", "there is no history server"),
    ("sql-gateway.", "there is no SQL gateway"),
    ("queryable-state.", "queryable state is not supported"),
    ("query.", "queryable state is not supported"),
    ("env.", "there is no JVM and no start script that would read it"),
    ("classloader.", "there are no class loaders: user code is compiled in"),
    ("plugin.", "there are no plugin class loaders: connectors are compiled in"),
    ("metrics.", "metrics reporters and scopes are not supported yet"),
    ("traces.", "trace reporters are not supported yet"),
    ("events.", "event reporters are not supported yet"),
    ("execution.batch", "Flott has no batch mode: bounded input is read as a stream that ends"),
    ("execution.sort", "Flott has no batch mode: bounded input is read as a stream that ends"),
    (
        "execution.checkpointing.local-backup",
        "recovery reads checkpoints from their directory; there are no local copies",
    ),
    (
        "execution.checkpointing.file-merging",
        "small state is already kept inside the metadata; files are not merged further",
    ),
    ("table.optimizer.", "Flott plans queries with its own rules; results are the same"),
    ("table.exec.async-", "there are no asynchronous functions yet"),
    ("table.exec.sort.", "it tunes Flink's batch sort"),
    ("table.exec.spill-compression.", "operators do not spill"),
    ("table.generated-code.", "no code is generated: expressions run as vectorised kernels"),
    ("table.plan.", "compiled plans are not supported"),
    ("pipeline.", "Flott runs a job the same way without it"),
    ("table.", "Flott runs a query the same way without it"),
    ("execution.", "the job runs in the process that starts it"),
    ("client.", "there is no client apart from the process that runs the job"),
    ("sql-client.", "nothing here changes how results are shown"),
    ("cluster.", "there is no cluster: the job runs in one process"),
    ("minicluster.", "there is no cluster: the job runs in one process"),
    ("resourcemanager.", "there is no ResourceManager: the job runs in one process"),
    ("slot", "there are no slots to manage: all tasks run in one process"),
    ("task.", "tasks stop as soon as they are told to"),
    ("io.", "operators do not spill to temporary files"),
    ("fs.", "only the local file system is supported yet"),
    ("s3.", "only the local file system is supported yet"),
    ("", "it has no meaning in Flott"),
];

/// Keys whose tail the user chooses.
const FAMILIES: &[&str] = &[
    "metrics.reporter.",
    "traces.reporter.",
    "events.reporter.",
    "containerized.master.env.",
    "containerized.taskmanager.env.",
    "env.java.opts.",
    "external-resource.",
    "flink.hadoop.",
    "flink.yarn.",
    "fs.s3a.",
    "fs.s3.",
    "fs.azure.",
    "fs.gs.",
    "fs.oss.",
    "s3.",
    "table.catalog-store.",
    "job-event.store.",
];

/// Keys of old releases that newer ones dropped without a successor, and what they are.
const DROPPED: &[(&str, OptionKind)] = &[
    ("taskmanager.network.numberOfBuffers", OptionKind::Long),
    ("taskmanager.network.memory.buffers-per-channel", OptionKind::Long),
    ("taskmanager.network.memory.floating-buffers-per-gate", OptionKind::Long),
    ("taskmanager.heap.size", OptionKind::Memory),
    ("taskmanager.heap.mb", OptionKind::String),
    ("taskmanager.memory.preallocate", OptionKind::Bool),
    ("taskmanager.memory.off-heap", OptionKind::Bool),
    ("taskmanager.memory.fraction", OptionKind::Double),
    ("jobmanager.heap.size", OptionKind::Memory),
    ("jobmanager.heap.mb", OptionKind::String),
    ("jobmanager.rpc.bind-host", OptionKind::String),
    ("web.backpressure.refresh-interval", OptionKind::Duration),
    ("web.backpressure.cleanup-interval", OptionKind::Duration),
    ("web.backpressure.num-samples", OptionKind::Int),
    ("web.backpressure.delay-between-samples", OptionKind::Duration),
    ("query.server.port", OptionKind::String),
    ("query.server.enable", OptionKind::Bool),
    ("state.backend.async", OptionKind::Bool),
    ("state.backend.rocksdb.ttl.compaction.filter.enabled", OptionKind::Bool),
    ("slotmanager.request-timeout", OptionKind::Duration),
    ("cluster.evenly-spread-out-slots", OptionKind::Bool),
    ("execution.checkpointing.force-unaligned", OptionKind::Bool),
    ("high-availability.jobmanager.rpc.port", OptionKind::String),
    ("security.ssl.enabled", OptionKind::Bool),
    ("table.planner", OptionKind::String),
    ("sql-client.execution.type", OptionKind::String),
];

/// All options by key, and current keys by former name.
pub(super) struct Table {
    options: HashMap<&'static str, OptionDef>,
    former: HashMap<&'static str, &'static str>,
}

fn reason(key: &str) -> &'static str {
    REASONS.iter().find(|(prefix, _)| key.starts_with(prefix)).map_or("it has no meaning in Flott", |(_, why)| why)
}

fn kind(name: &str) -> OptionKind {
    match name {
        "BOOLEAN" => OptionKind::Bool,
        "DURATION" => OptionKind::Duration,
        "MEMORY" => OptionKind::Memory,
        "LIST" => OptionKind::List,
        // Only what is read is worth an error: numbers without meaning here may be ranges or have units in other releases.
        _ => OptionKind::String,
    }
}

fn meaningless(key: &'static str, kind: OptionKind, default: Option<&'static str>) -> OptionDef {
    OptionDef { key, kind, default, deprecated: &[], status: Status::Notice(reason(key)), values: &[], doc: "" }
}

impl Table {
    /// The table, built on first use.
    pub(super) fn get() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(Table::build)
    }
    fn build() -> Table {
        let mut table = Table { options: HashMap::with_capacity(1024), former: HashMap::with_capacity(256) };
        for line in LIST.lines() {
            let mut cells = line.split('\t');
            let (Some(key), Some(kind_name)) = (cells.next(), cells.next()) else { continue };
            let default = cells.next().filter(|d| !d.is_empty());
            for former in cells.next().into_iter().flat_map(|f| f.split(',')).filter(|f| !f.is_empty()) {
                table.former.insert(former, key);
            }
            table.options.insert(key, meaningless(key, kind(kind_name), default));
        }
        for &(key, kind) in DROPPED {
            table.options.insert(key, meaningless(key, kind, None));
            table.former.remove(key);
        }
        for option in OPTIONS {
            table.options.insert(option.key, option.clone());
            option.deprecated.iter().for_each(|former| {
                table.former.insert(former, option.key);
            });
        }
        table
    }
    /// The option with this current key.
    pub(super) fn option(&self, key: &str) -> Option<&OptionDef> {
        self.options.get(key)
    }
    /// The current key of a former name.
    pub(super) fn current(&self, former: &str) -> Option<&'static str> {
        self.former.get(former).copied()
    }
    /// Why a key of a family has no effect; `None` when it belongs to none.
    pub(super) fn family(&self, key: &str) -> Option<&'static str> {
        FAMILIES.iter().any(|f| key.len() > f.len() && key.starts_with(f)).then(|| reason(key))
    }
    /// Options of part two, sorted by key.
    pub(super) fn without_meaning(&self) -> Vec<&OptionDef> {
        let mut options: Vec<&OptionDef> =
            self.options.values().filter(|o| !matches!(o.status, Status::Works)).collect();
        options.sort_by_key(|o| o.key);
        options
    }
    /// The known key most like `key`, if any is like it at all.
    pub(super) fn nearest(&self, key: &str) -> Option<&'static str> {
        let score = |candidate: &'static str| (strsim::jaro_winkler(key, candidate), candidate);
        let names = self.options.keys().chain(self.former.keys()).copied();
        // Ties go to the lesser name, so that the answer does not depend on hash order.
        let best = names.map(score).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
        best.filter(|(score, _)| *score > 0.8).map(|(_, name)| self.current(name).unwrap_or(name))
    }
}
