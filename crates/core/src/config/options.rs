//! The option table, part one: every key that Flott reads, with type, default, former names and meaning. Parsing, `-D`, `SET`,
//! notices and the docs page come from here; keys that Flink knows and Flott does not read are in `known.rs`.

use super::keys::*;
use super::value::OptionKind::{self, Bool, Double, Duration, Enum, Int, Long, Map, Memory, String as Text};

/// What Flott does with an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Works,
    /// Accepted, with this sentence about why it has no effect.
    Notice(&'static str),
    /// Not accepted, with this sentence.
    Refused(&'static str),
}

/// What happens to one particular value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRule {
    /// This value is not accepted, with a sentence.
    Refuse(&'static str, &'static str),
    /// This former value means that one.
    Former(&'static str, &'static str),
    /// This value is accepted with a sentence about what it does here.
    Note(&'static str, &'static str),
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDef {
    /// Flink's key.
    pub key: &'static str,
    /// Type of the value.
    pub kind: OptionKind,
    /// Default, as text.
    pub default: Option<&'static str>,
    /// Former names, accepted with a notice.
    pub deprecated: &'static [&'static str],
    /// What Flott does with it.
    pub status: Status,
    /// Values with a story.
    pub values: &'static [ValueRule],
    /// One sentence.
    pub doc: &'static str,
}

const fn works(key: &'static str, kind: OptionKind, default: &'static str, doc: &'static str) -> OptionDef {
    let default = if default.is_empty() { None } else { Some(default) };
    OptionDef { key, kind, default, deprecated: &[], status: Status::Works, values: &[], doc }
}

impl OptionDef {
    const fn old(mut self, deprecated: &'static [&'static str]) -> Self {
        self.deprecated = deprecated;
        self
    }
    const fn rules(mut self, values: &'static [ValueRule]) -> Self {
        self.values = values;
        self
    }
    const fn notice(mut self, why: &'static str) -> Self {
        self.status = Status::Notice(why);
        self
    }
}

use ValueRule::{Former, Note, Refuse};

const NO_BATCH: &str = "Flott runs every job as a stream; over bounded input it ends by itself with the same final rows. \
                        Leave the option out or use STREAMING";
const SINGLE_FILES: &str = "every subtask writes one file with its rows in flight, or none when they are few";
const CALLS_END: &str =
    "a barrier waits until the timers that are firing have fired; what they emit is part of the checkpoint";
const ALWAYS_UNALIGNED: &str = "there are no iterations and no other edges that a barrier could not overtake on";
const RECOVERS_AT_CONSUMER: &str = "rows in flight always go back to the subtasks that read them";
const NO_ROCKSDB: &str = "the RocksDB backend arrives in a later release; use hashmap, which keeps all state in memory";
const NO_FORST: &str = "the ForSt backend is not part of Flott; use hashmap, which keeps all state in memory";
const FOLDED: &str = "batches are always folded per key before state is touched, so there is nothing to switch on";
const NO_CLAIMING: &str = "a checkpoint from which a job starts stays its owner's (NO_CLAIM); taking it over \
                           arrives in a later release";
const NO_LEGACY_CAST: &str = "only the casts of Flink 1.15 and later exist; use TRY_CAST where a failed cast should \
                              give NULL";
const NO_SLOTS: &str = "the job's process starts as many tasks as its parallelism asks for; slots count once there \
                        are TaskManagers";
const NEVER_COPIED: &str = "rows pass in shared columnar batches that nobody changes, so they are never copied \
                            between chained operators";
const NO_PARAMETERS: &str = "nothing here reads parameters of a job; a Rust program hands them to its functions itself";
const ALWAYS_FLUSHED: &str = "incomplete batches are always passed on in the end; raise execution.buffer-timeout.interval \
                              to wait longer for full ones";
const ALWAYS_SUBDIR: &str = "the checkpoints of a job always lie in a directory named by its id, below \
                             execution.checkpointing.dir";
const STORAGE_BY_DIR: &str =
    "checkpoints are files when execution.checkpointing.dir is set, and lie in memory when it is not";
const FULL_WIDTH: &str = "columns are always shown in full";
const NO_LATENCY: &str = "latency markers are not sent yet";
const RESTARTS: &[&str] = &["none", "fixed-delay", "failure-rate", "exponential-delay"];

/// Every option that Flott reads.
pub static OPTIONS: &[OptionDef] = &[
    works(PIPELINE_NAME, Text, "", "Name of the job."),
    works(PIPELINE_JOB_ID, Text, "", "Id of the job, 32 hexadecimal digits; by default kept per job name.")
        .old(&["$internal.pipeline.job-id"]),
    works(PARALLELISM, Int, "1", "Number of subtasks of each operator."),
    works(TABLE_DEFAULT_PARALLELISM, Int, "-1", "Parallelism of SQL operators; -1 means that of the job."),
    works(
        MAX_PARALLELISM,
        Int,
        "-1",
        "Number of key groups, the upper limit of rescaling; -1 derives it: 128 up to a parallelism of 85.",
    ),
    works(OPERATOR_CHAINING, Bool, "true", "Operators that need no exchange run in one task.")
        .old(&["pipeline.operator-chaining"]),
    works(
        AUTO_WATERMARK_INTERVAL,
        Duration,
        "200 ms",
        "Pause between watermarks that are emitted periodically; 0 emits with every batch.",
    ),
    works(GLOBAL_JOB_PARAMETERS, Map, "", "Parameters of the job.").notice(NO_PARAMETERS),
    works(RUNTIME_MODE, Enum(&["STREAMING", "BATCH", "AUTOMATIC"]), "STREAMING", "Execution mode of the job.").rules(
        &[
            Refuse("BATCH", NO_BATCH),
            Note(
                "AUTOMATIC",
                "every job runs as a stream; over bounded input it ends by itself with the same final rows",
            ),
        ],
    ),
    works(
        BUFFER_TIMEOUT,
        Duration,
        "100 ms",
        "Longest time rows wait in an incomplete batch before an exchange; 0 passes each on at once.",
    )
    .old(&["execution.buffer-timeout"]),
    works(
        BUFFER_TIMEOUT_ENABLED,
        Bool,
        "true",
        "Whether incomplete batches are passed on after execution.buffer-timeout.interval.",
    )
    .rules(&[Refuse("false", ALWAYS_FLUSHED)]),
    // Checkpoints.
    works(CHECKPOINT_INTERVAL, Duration, "", "Interval of periodic checkpoints; without it there are none."),
    works(
        CHECKPOINT_MIN_PAUSE,
        Duration,
        "0 ms",
        "Least pause from the end of one checkpoint to the trigger of the next.",
    ),
    works(CHECKPOINT_TIMEOUT, Duration, "10 min", "A checkpoint that takes longer is given up."),
    works(CHECKPOINT_MAX_CONCURRENT, Int, "1", "Checkpoints that may be under way at once."),
    works(CHECKPOINT_TOLERABLE_FAILURES, Int, "0", "Consecutive failed checkpoints before the job fails over.")
        .rules(&[]),
    works(CHECKPOINT_MODE, Enum(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]), "EXACTLY_ONCE", "Whether barriers align."),
    works(CHECKPOINT_DIR, Text, "", "Directory of checkpoints.")
        .old(&["state.checkpoints.dir", "state.backend.fs.checkpointdir"]),
    works(CHECKPOINT_NUM_RETAINED, Int, "1", "Completed checkpoints to keep.").old(&["state.checkpoints.num-retained"]),
    works(
        CHECKPOINT_RETENTION,
        Enum(&["NO_EXTERNALIZED_CHECKPOINTS", "DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION"]),
        "NO_EXTERNALIZED_CHECKPOINTS",
        "What becomes of checkpoints when the job is cancelled.",
    )
    .old(&["execution.checkpointing.externalized-checkpoint-retention-mode"]),
    works(
        CHECKPOINT_INLINE_THRESHOLD,
        Memory,
        "20 kb",
        "State chunks below this lie inside the metadata; at most 1 mb.",
    )
    .old(&["state.storage.fs.memory-threshold", "state.backend.fs.memory-threshold"]),
    works(CHECKPOINT_CREATE_SUBDIR, Bool, "true", "A sub-directory per job id under the checkpoint directory.")
        .old(&["state.checkpoints.create-subdir"])
        .rules(&[Refuse("false", ALWAYS_SUBDIR)]),
    works(
        CHECKPOINT_INCREMENTAL,
        Bool,
        "true",
        "Store only what changed since the last checkpoint (Flink's default is false).",
    )
    .old(&["state.backend.incremental"]),
    works(CHECKPOINTS_AFTER_TASKS_FINISH, Bool, "true", "Checkpoints go on after some tasks have finished.")
        .old(&["execution.checkpointing.checkpoints-after-tasks-finish.enabled"]),
    works(
        CHECKPOINT_STORAGE,
        Enum(&["filesystem", "jobmanager"]),
        "",
        "`filesystem` (with a directory) or `jobmanager` (memory).",
    )
    .old(&["state.checkpoint-storage"])
    .notice(STORAGE_BY_DIR),
    works(SAVEPOINT_DIR, Text, "", "Default directory of savepoints.")
        .old(&["state.savepoints.dir", "savepoints.state.backend.fs.dir"])
        .notice("savepoints arrive in a later release; retained checkpoints serve for restarts until then"),
    works(
        UNALIGNED_ENABLED,
        Bool,
        "true",
        "Barriers overtake rows in flight, which become part of the checkpoint (Flink's default is false). Only with \
         EXACTLY_ONCE and one checkpoint at a time; never for savepoints.",
    )
    .old(&["execution.checkpointing.unaligned"]),
    works(
        ALIGNED_TIMEOUT,
        Duration,
        "0 ms",
        "A barrier overtakes rows once its checkpoint is this old; 1 s when `execution.checkpointing.unaligned.enabled` is not set.",
    )
    .old(&["execution.checkpointing.alignment-timeout"]),
    works(UNALIGNED_FORCED, Bool, "false", "Unaligned checkpoints also where Flink would not take them.")
        .notice(ALWAYS_UNALIGNED),
    works("execution.checkpointing.unaligned.interruptible-timers.enabled", Bool, "false", "").notice(CALLS_END),
    works("execution.checkpointing.unaligned.max-subtasks-per-channel-state-file", Int, "5", "").notice(SINGLE_FILES),
    works("execution.checkpointing.unaligned.recover-output-on-downstream.enabled", Bool, "false", "")
        .notice(RECOVERS_AT_CONSUMER),
    // State.
    works(STATE_BACKEND, Enum(&["hashmap", "rocksdb", "forst"]), "hashmap", "Where state lives: `hashmap` (memory).")
        .old(&["state.backend"])
        .rules(&[
            Former("filesystem", "hashmap"),
            Former("jobmanager", "hashmap"),
            Former("org.apache.flink.runtime.state.hashmap.HashMapStateBackend", "hashmap"),
            Former("org.apache.flink.contrib.streaming.state.RocksDBStateBackendFactory", "rocksdb"),
            Refuse("rocksdb", NO_ROCKSDB),
            Refuse("forst", NO_FORST),
        ]),
    works(STATE_CHANGELOG, Bool, "false", "Write state changes to a changelog.")
        .rules(&[Note("true", "checkpoints are cut without stopping tasks already; there is no changelog to write")]),
    works(RECOVERY_PATH, Text, "", "Checkpoint from which the job starts; `latest` means the last one of this job.")
        .old(&["execution.savepoint.path"]),
    works(RECOVERY_IGNORE_UNCLAIMED, Bool, "false", "Drop state of operators that the job no longer has.")
        .old(&["execution.savepoint.ignore-unclaimed-state"]),
    works(
        RECOVERY_CLAIM_MODE,
        Enum(&["NO_CLAIM", "CLAIM", "LEGACY"]),
        "NO_CLAIM",
        "Who owns the checkpoint from which the job starts.",
    )
    .old(&["execution.savepoint-restore-mode"])
    .rules(&[Refuse("CLAIM", NO_CLAIMING), Former("LEGACY", "NO_CLAIM")]),
    // Restarts.
    works(
        RESTART_TYPE,
        Enum(RESTARTS),
        "",
        "After a failure; by default exponential-delay with checkpoints, none without.",
    )
    .old(&["restart-strategy"])
    .rules(&[
        Former("off", "none"),
        Former("disable", "none"),
        Former("fixeddelay", "fixed-delay"),
        Former("failurerate", "failure-rate"),
        Former("exponentialdelay", "exponential-delay"),
    ]),
    works(RESTART_FIXED_ATTEMPTS, Int, "1", "fixed-delay: restarts before the job fails for good."),
    works(RESTART_FIXED_DELAY, Duration, "1 s", "fixed-delay: pause before a restart."),
    works(RESTART_RATE_DELAY, Duration, "1 s", "failure-rate: pause before a restart."),
    works(RESTART_RATE_INTERVAL, Duration, "1 min", "failure-rate: the interval in which failures are counted."),
    works(RESTART_RATE_MAX, Int, "1", "failure-rate: failures within the interval before the job fails for good."),
    works(RESTART_EXP_INITIAL, Duration, "1 s", "exponential-delay: first pause."),
    works(RESTART_EXP_MAX, Duration, "1 min", "exponential-delay: longest pause."),
    works(RESTART_EXP_MULTIPLIER, Double, "1.5", "exponential-delay: factor from pause to pause."),
    works(
        RESTART_EXP_RESET,
        Duration,
        "1 h",
        "exponential-delay: time without failure after which the pause starts over.",
    ),
    works(RESTART_EXP_JITTER, Double, "0.1", "exponential-delay: random share by which a pause varies."),
    works(RESTART_EXP_ATTEMPTS, Int, "2147483647", "exponential-delay: restarts before the job fails for good."),
    // SQL.
    works(DML_SYNC, Bool, "false", "INSERT waits until its job has ended."),
    works(LOCAL_TIME_ZONE, Text, "default", "Session time zone for TIMESTAMP_LTZ; `default` means the machine's."),
    works(
        STATE_TTL,
        Duration,
        "0 ms",
        "State of unbounded SQL operators idle for longer is dropped; 0 keeps it for ever.",
    )
    .old(&["table.exec.state.ttl-ms"]),
    works(MINI_BATCH_ENABLED, Bool, "false", "Flink folds rows per key before it touches state.").notice(FOLDED),
    works(MINI_BATCH_LATENCY, Duration, "0 ms", "Longest wait for a mini batch.").notice(FOLDED),
    works(MINI_BATCH_SIZE, Long, "-1", "Rows of a mini batch.").notice(FOLDED),
    works(
        NOT_NULL_ENFORCER,
        Enum(&["ERROR", "DROP"]),
        "ERROR",
        "What happens when NULL arrives at a NOT NULL column of a sink.",
    ),
    works(DYNAMIC_TABLE_OPTIONS, Bool, "true", "The hint OPTIONS behind a table's name may set the table's options."),
    works(
        SOURCE_IDLE_TIMEOUT,
        Duration,
        "0 ms",
        "A split without rows for this long no longer holds the watermark back; 0 is never.",
    ),
    works(LEGACY_CAST, Enum(&["DISABLED", "ENABLED"]), "DISABLED", "CAST as in Flink before 1.15.")
        .rules(&[Refuse("ENABLED", NO_LEGACY_CAST)]),
    works(SQL_DIALECT, Enum(&["default", "hive"]), "default", "SQL dialect.")
        .rules(&[Refuse("hive", "only Flink's own dialect is supported")]),
    works(
        RESULT_MODE,
        Enum(&["TABLE", "CHANGELOG", "TABLEAU"]),
        "TABLE",
        "How the SQL client shows the result of a query.",
    ),
    works(
        MAX_TABLE_RESULT_ROWS,
        Int,
        "1000000",
        "Rows that result mode TABLE keeps: the newest. A script that does not set it fails beyond the default.",
    )
    .old(&["sql-client.execution.max-table-result.row"]),
    works(MAX_COLUMN_WIDTH, Int, "30", "Characters of a column that result modes TABLE and TABLEAU show.")
        .old(&["sql-client.display.max-column-width"])
        .notice(FULL_WIDTH),
    works(CHECKPOINT_HISTORY, Int, "10", "Checkpoints whose statistics are kept.")
        .old(&["jobmanager.web.checkpoints.history"]),
    works(TASK_SLOTS, Int, "1", "Slots of a TaskManager.").notice(NO_SLOTS),
    // Memory.
    works(
        MEMORY_PROCESS,
        Memory,
        "",
        "Memory of the whole process; without any size: the container's limit, else half of the machine's memory.",
    ),
    works(MEMORY_FLINK, Memory, "", "Memory of the process without the two reserves below."),
    works(MEMORY_TASK_HEAP, Memory, "", "With managed memory the budget of state; by default what the other parts leave."),
    works(MEMORY_MANAGED, Memory, "", "With task heap memory the budget of state; by default a fraction.")
        .old(&["taskmanager.memory.size"]),
    works(MEMORY_MANAGED_FRACTION, Double, "0.4", "Managed memory as a share of `taskmanager.memory.flink.size`."),
    works(
        MEMORY_TASK_OFF_HEAP,
        Memory,
        "0 bytes",
        "With framework off-heap memory the budget of what sources fetched and what sinks have not written: half each.",
    ),
    works(MEMORY_FRAMEWORK_OFF_HEAP, Memory, "128 mb", "As task off-heap memory."),
    works(MEMORY_FRAMEWORK_HEAP, Memory, "128 mb", "Reserved for rows at work inside operators."),
    works(MEMORY_NETWORK_MIN, Memory, "64 mb", "Least budget of the channels between tasks.")
        .old(&["taskmanager.network.memory.min"]),
    works(MEMORY_NETWORK_MAX, Memory, "9223372036854775807 bytes", "Greatest budget of the channels between tasks.")
        .old(&["taskmanager.network.memory.max"]),
    works(MEMORY_NETWORK_FRACTION, Double, "0.1", "Budget of the channels as a share of `taskmanager.memory.flink.size`.")
        .old(&["taskmanager.network.memory.fraction"]),
    works(MEMORY_METASPACE, Memory, "256 mb", "Reserved for the program itself and its libraries."),
    works(MEMORY_OVERHEAD_MIN, Memory, "192 mb", "Least reserve for threads and for what the allocator keeps."),
    works(MEMORY_OVERHEAD_MAX, Memory, "1 gb", "Greatest reserve for threads and for what the allocator keeps."),
    works(MEMORY_OVERHEAD_FRACTION, Double, "0.1", "That reserve as a share of the memory of the process."),
    works(
        STATE_OVER_BUDGET,
        Enum(&["fail", "warn"]),
        "",
        "What happens when state outgrows its budget; `fail` when a size of memory is set, else `warn`. Not in Flink.",
    ),
    works(
        CHECKPOINT_SLOW,
        Duration,
        "",
        "A checkpoint or commit that takes longer is explained; by default half the interval, at least 1 s. Not in Flink.",
    ),
    works(METRICS_LATENCY_INTERVAL, Duration, "0 ms", "Pause between latency markers of a source.").notice(NO_LATENCY),
    works(OBJECT_REUSE, Bool, "false", "Operators of a chain pass rows without copying.").notice(NEVER_COPIED),
];
