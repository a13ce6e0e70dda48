//! Names of the option keys that code reads, so that no code repeats a string. The table behind them is `options.rs`.

macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {$(
        #[doc = concat!("`", $key, "`")]
        pub const $name: &str = $key;
    )*};
}

keys! {
    PIPELINE_NAME = "pipeline.name";
    PIPELINE_JOB_ID = "pipeline.job-id";
    MAX_PARALLELISM = "pipeline.max-parallelism";
    OPERATOR_CHAINING = "pipeline.operator-chaining.enabled";
    AUTO_WATERMARK_INTERVAL = "pipeline.auto-watermark-interval";
    OBJECT_REUSE = "pipeline.object-reuse";
    GLOBAL_JOB_PARAMETERS = "pipeline.global-job-parameters";
    PARALLELISM = "parallelism.default";
    TABLE_DEFAULT_PARALLELISM = "table.exec.resource.default-parallelism";
    RUNTIME_MODE = "execution.runtime-mode";
    BUFFER_TIMEOUT = "execution.buffer-timeout.interval";
    BUFFER_TIMEOUT_ENABLED = "execution.buffer-timeout.enabled";
    CHECKPOINT_INTERVAL = "execution.checkpointing.interval";
    CHECKPOINT_MIN_PAUSE = "execution.checkpointing.min-pause";
    CHECKPOINT_TIMEOUT = "execution.checkpointing.timeout";
    CHECKPOINT_MAX_CONCURRENT = "execution.checkpointing.max-concurrent-checkpoints";
    CHECKPOINT_TOLERABLE_FAILURES = "execution.checkpointing.tolerable-failed-checkpoints";
    CHECKPOINT_MODE = "execution.checkpointing.mode";
    CHECKPOINT_DIR = "execution.checkpointing.dir";
    CHECKPOINT_NUM_RETAINED = "execution.checkpointing.num-retained";
    CHECKPOINT_RETENTION = "execution.checkpointing.externalized-checkpoint-retention";
    CHECKPOINT_INLINE_THRESHOLD = "execution.checkpointing.data-inline-threshold";
    CHECKPOINT_CREATE_SUBDIR = "execution.checkpointing.create-subdir";
    CHECKPOINT_INCREMENTAL = "execution.checkpointing.incremental";
    CHECKPOINTS_AFTER_TASKS_FINISH = "execution.checkpointing.checkpoints-after-tasks-finish";
    CHECKPOINT_STORAGE = "execution.checkpointing.storage";
    SAVEPOINT_DIR = "execution.checkpointing.savepoint-dir";
    UNALIGNED_ENABLED = "execution.checkpointing.unaligned.enabled";
    ALIGNED_TIMEOUT = "execution.checkpointing.aligned-checkpoint-timeout";
    UNALIGNED_FORCED = "execution.checkpointing.unaligned.forced";
    STATE_BACKEND = "state.backend.type";
    STATE_CHANGELOG = "state.changelog.enabled";
    RECOVERY_PATH = "execution.state-recovery.path";
    RECOVERY_IGNORE_UNCLAIMED = "execution.state-recovery.ignore-unclaimed-state";
    RECOVERY_CLAIM_MODE = "execution.state-recovery.claim-mode";
    RESTART_TYPE = "restart-strategy.type";
    RESTART_FIXED_ATTEMPTS = "restart-strategy.fixed-delay.attempts";
    RESTART_FIXED_DELAY = "restart-strategy.fixed-delay.delay";
    RESTART_RATE_DELAY = "restart-strategy.failure-rate.delay";
    RESTART_RATE_INTERVAL = "restart-strategy.failure-rate.failure-rate-interval";
    RESTART_RATE_MAX = "restart-strategy.failure-rate.max-failures-per-interval";
    RESTART_EXP_INITIAL = "restart-strategy.exponential-delay.initial-backoff";
    RESTART_EXP_MAX = "restart-strategy.exponential-delay.max-backoff";
    RESTART_EXP_MULTIPLIER = "restart-strategy.exponential-delay.backoff-multiplier";
    RESTART_EXP_RESET = "restart-strategy.exponential-delay.reset-backoff-threshold";
    RESTART_EXP_JITTER = "restart-strategy.exponential-delay.jitter-factor";
    RESTART_EXP_ATTEMPTS = "restart-strategy.exponential-delay.attempts-before-reset-backoff";
    DML_SYNC = "table.dml-sync";
    LOCAL_TIME_ZONE = "table.local-time-zone";
    STATE_TTL = "table.exec.state.ttl";
    MINI_BATCH_ENABLED = "table.exec.mini-batch.enabled";
    MINI_BATCH_LATENCY = "table.exec.mini-batch.allow-latency";
    MINI_BATCH_SIZE = "table.exec.mini-batch.size";
    NOT_NULL_ENFORCER = "table.exec.sink.not-null-enforcer";
    DYNAMIC_TABLE_OPTIONS = "table.dynamic-table-options.enabled";
    SOURCE_IDLE_TIMEOUT = "table.exec.source.idle-timeout";
    LEGACY_CAST = "table.exec.legacy-cast-behaviour";
    SQL_DIALECT = "table.sql-dialect";
    RESULT_MODE = "sql-client.execution.result-mode";
    MAX_TABLE_RESULT_ROWS = "sql-client.execution.max-table-result.rows";
    MAX_COLUMN_WIDTH = "table.display.max-column-width";
    CHECKPOINT_HISTORY = "web.checkpoints.history";
    TASK_SLOTS = "taskmanager.numberOfTaskSlots";
    MEMORY_PROCESS = "taskmanager.memory.process.size";
    MEMORY_FLINK = "taskmanager.memory.flink.size";
    MEMORY_FRAMEWORK_HEAP = "taskmanager.memory.framework.heap.size";
    MEMORY_TASK_HEAP = "taskmanager.memory.task.heap.size";
    MEMORY_FRAMEWORK_OFF_HEAP = "taskmanager.memory.framework.off-heap.size";
    MEMORY_TASK_OFF_HEAP = "taskmanager.memory.task.off-heap.size";
    MEMORY_MANAGED = "taskmanager.memory.managed.size";
    MEMORY_MANAGED_FRACTION = "taskmanager.memory.managed.fraction";
    MEMORY_NETWORK_MIN = "taskmanager.memory.network.min";
    MEMORY_NETWORK_MAX = "taskmanager.memory.network.max";
    MEMORY_NETWORK_FRACTION = "taskmanager.memory.network.fraction";
    MEMORY_METASPACE = "taskmanager.memory.jvm-metaspace.size";
    MEMORY_OVERHEAD_MIN = "taskmanager.memory.jvm-overhead.min";
    MEMORY_OVERHEAD_MAX = "taskmanager.memory.jvm-overhead.max";
    MEMORY_OVERHEAD_FRACTION = "taskmanager.memory.jvm-overhead.fraction";
    STATE_OVER_BUDGET = "flott.state.over-budget";
    CHECKPOINT_SLOW = "flott.checkpoint.slow-threshold";
    METRICS_LATENCY_INTERVAL = "metrics.latency.interval";
}
