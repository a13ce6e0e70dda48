//! Why a checkpoint failed: Flink's names, Flink's sentences, and which of them count; never decides what follows.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $counts:literal, $text:literal;)*) => {
        /// Why a checkpoint failed or was not triggered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailureReason {
            $($(#[$doc])* $variant,)*
        }
        impl FailureReason {
            /// All reasons.
            pub const ALL: &'static [FailureReason] = &[$(FailureReason::$variant,)*];
            /// Flink's name, such as `CHECKPOINT_EXPIRED`.
            pub fn name(self) -> &'static str {
                match self { $(FailureReason::$variant => $name,)* }
            }
            /// Flink's sentence.
            pub fn message(self) -> &'static str {
                match self { $(FailureReason::$variant => $text,)* }
            }
            /// Whether it counts against `execution.checkpointing.tolerable-failed-checkpoints`.
            pub fn counts(self) -> bool {
                match self { $(FailureReason::$variant => $counts,)* }
            }
        }
    };
}

reasons! {
    /// Pre-flight: the periodic scheduler is off.
    PeriodicSchedulerShutdown = "PERIODIC_SCHEDULER_SHUTDOWN", false, "Periodic checkpoint scheduler is shut down.";
    /// Pre-flight: the queue of requests is full.
    TooManyRequests = "TOO_MANY_CHECKPOINT_REQUESTS", false, "The maximum number of queued checkpoint requests exceeded";
    /// Pre-flight: min-pause has not passed.
    MinimumTime = "MINIMUM_TIME_BETWEEN_CHECKPOINTS", false,
        "The minimum time between checkpoints is still pending. Checkpoint will be triggered after the minimum time.";
    /// Pre-flight: the job is not running.
    NotAllTasksRunning = "NOT_ALL_REQUIRED_TASKS_RUNNING", false, "Not all required tasks are currently running.";
    /// Pre-flight: storage failed.
    IoException = "IO_EXCEPTION", true, "An Exception occurred while triggering the checkpoint. IO-problem detected.";
    /// Pre-flight: a blocking edge.
    BlockingOutput = "BLOCKING_OUTPUT_EXIST", false, "Blocking output edge exists in running tasks.";
    /// The asynchronous part failed in a subtask.
    Async = "CHECKPOINT_ASYNC_EXCEPTION", true, "Asynchronous task checkpoint failed.";
    /// Another subtask that shares the channel state file failed.
    ChannelStateShared = "CHANNEL_STATE_SHARED_STREAM_EXCEPTION", false,
        "The checkpoint was aborted due to exception of other subtasks sharing the ChannelState file.";
    /// The timeout passed.
    Expired = "CHECKPOINT_EXPIRED", true, "Checkpoint expired before completing.";
    /// A newer checkpoint completed first.
    Subsumed = "CHECKPOINT_SUBSUMED", false, "Checkpoint has been subsumed.";
    /// A subtask declined.
    Declined = "CHECKPOINT_DECLINED", true, "Checkpoint was declined.";
    /// A subtask was not running yet.
    DeclinedNotReady = "CHECKPOINT_DECLINED_TASK_NOT_READY", false, "Checkpoint was declined (tasks not ready)";
    /// A subtask was closing.
    DeclinedClosing = "CHECKPOINT_DECLINED_TASK_CLOSING", false,
        "Checkpoint was declined (task's operators partially closed)";
    /// A barrier of a newer checkpoint arrived first.
    DeclinedSubsumed = "CHECKPOINT_DECLINED_SUBSUMED", false,
        "Checkpoint was canceled because a barrier from newer checkpoint was received.";
    /// A cancellation came with the data.
    DeclinedOnCancellation = "CHECKPOINT_DECLINED_ON_CANCELLATION_BARRIER", false,
        "Task received cancellation from one of its inputs";
    /// An input had ended.
    DeclinedEndOfStream = "CHECKPOINT_DECLINED_INPUT_END_OF_STREAM", false,
        "Checkpoint was declined because one input stream is finished";
    /// The coordinator was stopped.
    CoordinatorShutdown = "CHECKPOINT_COORDINATOR_SHUTDOWN", false, "CheckpointCoordinator shutdown.";
    /// The job fails over.
    CoordinatorSuspend = "CHECKPOINT_COORDINATOR_SUSPEND", false, "Checkpoint Coordinator is suspending.";
    /// A region fails over.
    FailoverRegion = "JOB_FAILOVER_REGION", false, "FailoverRegion is restarting.";
    /// A task failed.
    TaskFailure = "TASK_FAILURE", false, "Task has failed.";
    /// The synchronous part failed in a subtask.
    TaskCheckpointFailure = "TASK_CHECKPOINT_FAILURE", false, "Task local checkpoint failure.";
    /// A notification for an unknown task.
    UnknownTaskNotification = "UNKNOWN_TASK_CHECKPOINT_NOTIFICATION_FAILURE", false,
        "Unknown task for the checkpoint to notify.";
    /// The metadata could not be published.
    Finalize = "FINALIZE_CHECKPOINT_FAILURE", true, "Failure to finalize checkpoint.";
    /// The trigger itself failed.
    Trigger = "TRIGGER_CHECKPOINT_FAILURE", false, "Trigger checkpoint failure.";
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
