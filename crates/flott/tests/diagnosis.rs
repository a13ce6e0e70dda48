//! Sentences of whole jobs: a sink that is slow, a server that holds a commit, state that outgrows its budget. Each names the culprit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flott::{
    Context, JobClient, JobStatus, KeyedProcessFunction, OpenContext, Record, Result, StreamExecutionEnvironment,
    ValueState,
};
use flott_core::ChangeBatch;
use flott_core::ids::CheckpointId;
use flott_core::sink::{
    ChangelogMode, CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus,
};
use serde::{Deserialize, Serialize};

/// Longest wait for a sentence: far more than any of them takes.
const PATIENCE: u32 = 300;

#[derive(Clone, Debug, PartialEq, Record, Serialize, Deserialize)]
struct Order {
    user: i64,
    note: String,
}

fn orders(count: i64) -> Vec<Order> {
    (0..count).map(|i| Order { user: i % 97, note: format!("order {i}") }).collect()
}

/// A server that takes its time.
#[derive(Clone, Copy)]
struct Server {
    /// For a batch of rows.
    flush_ms: i64,
    /// For a commit.
    commit_ms: i64,
}

impl Sink for Server {
    fn changelog_mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        context.metrics.external.set_endpoint("testdb 127.0.0.1:1, table shop.totals");
        Ok(Box::new(Writer { server: *self, context, under_way: None }))
    }
    fn committer(&self, context: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok((self.commit_ms > 0)
            .then(|| Box::new(Commits { server: *self, context, since: None }) as Box<dyn Committer>))
    }
}

struct Writer {
    server: Server,
    context: SinkContext,
    /// When the flush under way ends, and its rows.
    under_way: Option<(i64, u64)>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let (now, external) = (self.context.clock.now_ms(), &self.context.metrics.external);
        if let Some((until_ms, rows)) = self.under_way {
            if now < until_ms {
                return Ok(WriteStatus::Busy { until_ms });
            }
            external.end(rows, self.server.flush_ms.unsigned_abs() * 1_000_000);
            self.under_way = None;
        }
        if self.server.flush_ms > 0 {
            let rows = batch.num_rows() as u64;
            external.begin(format!("flush of {rows} rows"), now);
            self.under_way = Some((now + self.server.flush_ms, rows));
        }
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, checkpoint: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        let id = format!("{}-{checkpoint}", self.context.subtask);
        let one = Committable { id, checkpoint, payload: Vec::new() };
        Ok(if self.server.commit_ms > 0 { vec![one] } else { Vec::new() })
    }
}

struct Commits {
    server: Server,
    context: SinkContext,
    since: Option<i64>,
}

impl Committer for Commits {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let (now, external) = (self.context.clock.now_ms(), &self.context.metrics.external);
        let since = *self.since.get_or_insert_with(|| {
            external.begin(format!("commit of {} epoch", committables.len()), now);
            now
        });
        if now - since < self.server.commit_ms {
            return Err(CommitError::Pending { committed: 0, until_ms: now + 50 });
        }
        external.end(0, 1);
        self.since = None;
        Ok(())
    }
}

/// Keeps everything it has seen of a user.
#[derive(Clone, Default)]
struct Remember(ValueState<String>);

impl KeyedProcessFunction for Remember {
    type Key = i64;
    type In = Order;
    type Out = Order;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.0 = ctx.value_state("seen")?;
        Ok(())
    }
    fn process(&mut self, order: Order, ctx: &mut Context<'_, Self>) -> Result<()> {
        let seen = self.0.get(ctx)?.unwrap_or_default() + &order.note;
        self.0.set(ctx, seen)?;
        ctx.collect(order);
        Ok(())
    }
}

fn job(options: &[(&str, &str)], rows: i64, server: Server) -> Result<JobClient> {
    let env = StreamExecutionEnvironment::new();
    for (key, value) in options {
        env.set(key, value)?;
    }
    let orders = env.from_collection(orders(rows))?.key_by(|o| o.user).process(Remember::default());
    let _ = orders.sink("totals", Arc::new(server));
    env.execute_async("diagnosis")
}

/// The first sentence with this code and these words.
fn sentence(client: &JobClient, code: &str, words: &str) -> String {
    for _ in 0..PATIENCE {
        let (said, _) = client.diagnoses(0);
        if let Some(found) = said.into_iter().find(|d| d.code == code && d.sentence.contains(words)) {
            return found.sentence;
        }
        if client.wait(Duration::from_millis(100)).is_terminal() {
            break;
        }
    }
    panic!("nobody said {code}: {:?}, {:?}", client.diagnoses(0), client.status());
}

const CHECKPOINTS: [(&str, &str); 3] = [
    ("execution.checkpointing.interval", "300 ms"),
    ("execution.checkpointing.tolerable-failed-checkpoints", "1000"),
    ("flott.checkpoint.slow-threshold", "700 ms"),
];

#[test]
fn an_expired_checkpoint_names_the_slow_sink_with_its_figures() {
    let mut options = CHECKPOINTS.to_vec();
    options.push(("execution.checkpointing.timeout", "1500 ms"));
    // Otherwise barriers overtake the rows, and nothing expires.
    options.push(("execution.checkpointing.unaligned.enabled", "false"));
    let client = job(&options, 400_000, Server { flush_ms: 2_500, commit_ms: 0 }).expect("a job");
    let said = sentence(&client, "checkpoint.expired", " per flush of ");
    for part in [
        " expired after 1.",
        "waiting behind sink \"totals\" (busy 1",
        " rows/s in, 2.5 s per flush of ",
        " rows to testdb 127.0.0.1:1, table shop.totals): raise its parallelism or its batch size; ",
        " subtasks had not acknowledged: ",
    ] {
        assert!(said.contains(part), "`{part}` in `{said}`");
    }
    client.cancel();
    assert!(matches!(client.join(), JobStatus::Canceled));
}

#[test]
fn a_server_that_holds_a_commit_is_named_and_the_job_goes_on() {
    let client = job(&CHECKPOINTS, 4_000, Server { flush_ms: 0, commit_ms: 2_500 }).expect("a job");
    let said = sentence(&client, "checkpoint.commit-waiting", "");
    assert!(said.starts_with("checkpoint "), "{said}");
    assert!(said.contains(" but its commit has been waiting "), "{said}");
    assert!(said.contains(" s for testdb 127.0.0.1:1, table shop.totals (commit of "), "{said}");
    assert!(matches!(client.join(), JobStatus::Finished));
}

#[test]
fn state_above_its_budget_fails_the_job_with_the_operators_name_or_warns() {
    let sizes = [
        ("taskmanager.memory.task.heap.size", "100 kb"),
        ("taskmanager.memory.managed.size", "100 kb"),
        ("execution.checkpointing.interval", "100 ms"),
    ];
    let client = job(&sizes, 30_000, Server { flush_ms: 60, commit_ms: 0 }).expect("a job");
    let budget = client.memory().clone();
    assert_eq!(budget.limit_bytes(flott_core::memory::MemoryUse::State), 200 << 10);
    let JobStatus::Failed(e) = client.join() else { panic!("300 kb of notes fit 200 kb") };
    assert_eq!(e.code(), "memory.state");
    for part in [", more than its budget of 200 kb: operator \"", "\" holds ", "taskmanager.memory.managed.size"] {
        assert!(e.message().contains(part), "`{part}` in {e}");
    }
    assert!(budget.figures().iter().any(|f| f.peak_bytes > 200 << 10), "the peak is kept: {:?}", budget.figures());
    let warn = [&sizes[..], &[("flott.state.over-budget", "warn")]].concat();
    let client = job(&warn, 30_000, Server { flush_ms: 60, commit_ms: 0 }).expect("a job");
    assert!(sentence(&client, "memory.state", "").contains("its budget of 200 kb"));
    assert!(matches!(client.join(), JobStatus::Finished));
}

#[test]
fn contradictory_sizes_are_refused_before_anything_starts() {
    let sizes = [("taskmanager.memory.process.size", "1 gb"), ("taskmanager.memory.task.off-heap.size", "1 gb")];
    let e = job(&sizes, 1, Server { flush_ms: 0, commit_ms: 0 }).err().expect("they do not add up");
    assert_eq!(e.code(), "config.memory");
    assert!(e.detail_text().is_some_and(|d| d.contains("task.off-heap.size") && d.contains("sum")), "{e}");
}
