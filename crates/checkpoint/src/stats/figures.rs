//! What was going on in the job while a checkpoint was taken: plain figures that the driver hands in; never reads a counter itself.

use std::collections::BTreeMap;

use flott_core::metrics::ExternalCall;
use flott_core::{SubtaskId, VertexId};

use crate::storage::StorageCall;

/// The graph, as far as sentences need it. Vertices upstream first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The vertices.
    pub vertices: Vec<TopologyVertex>,
}

/// A vertex of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyVertex {
    /// Its id.
    pub id: VertexId,
    /// How sentences call it: the name of its chain.
    pub name: String,
    /// Name of the sink at its end.
    pub sink: Option<String>,
    /// Vertices it sends to.
    pub outputs: Vec<TopologyEdge>,
}

/// An edge of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyEdge {
    /// The consumer.
    pub to: VertexId,
    /// Subtask i sends to subtask i alone.
    pub pointwise: bool,
}

impl Topology {
    /// A vertex.
    pub fn vertex(&self, id: VertexId) -> Option<&TopologyVertex> {
        self.vertices.iter().find(|v| v.id == id)
    }
    /// Vertices that send to `id`, and whether pointwise.
    pub fn inputs(&self, id: VertexId) -> impl Iterator<Item = (VertexId, bool)> {
        self.vertices.iter().flat_map(move |v| {
            let edges = v.outputs.iter().filter(move |e| e.to == id);
            edges.map(|e| (v.id, e.pointwise))
        })
    }
    /// Place in the order, for ties.
    pub(super) fn position(&self, id: VertexId) -> usize {
        self.vertices.iter().position(|v| v.id == id).unwrap_or(usize::MAX)
    }
}

/// Counters of all tasks at one moment, since the start of their attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The moment, in processing time.
    pub at_ms: i64,
    /// The tasks.
    pub tasks: BTreeMap<SubtaskId, TaskFigures>,
    /// Slow calls of the checkpoint storage, and those under way.
    pub storage: Vec<StorageCall>,
    /// The checkpoint storage.
    pub storage_endpoint: String,
}

/// Counters of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFigures {
    /// Time at work.
    pub busy_ns: u64,
    /// Time waiting for input.
    pub idle_ns: u64,
    /// Time waiting for room downstream, or for a server.
    pub backpressured_ns: u64,
    /// Rows taken.
    pub rows_in: u64,
    /// Servers its operators talk to.
    pub external: Vec<ExternalFigures>,
}

/// Counters of one operator that talks to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalFigures {
    /// The server, such as `mysql 127.0.0.1:3306, table shop.totals`.
    pub endpoint: String,
    /// Calls that ended.
    pub calls: u64,
    /// Time spent in them.
    pub call_ns: u64,
    /// Rows they carried.
    pub rows: u64,
    /// Calls that failed and were tried again.
    pub retries: u64,
    /// The call under way.
    pub calling: Option<ExternalCall>,
}

/// What the tasks did between two moments. Shares are 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Length of the time.
    pub elapsed_ms: i64,
    /// The tasks.
    pub tasks: BTreeMap<SubtaskId, TaskLoad>,
    /// Slow calls of the storage that overlap it.
    pub storage: Vec<StorageCall>,
    /// The checkpoint storage.
    pub storage_endpoint: String,
}

/// What a task did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskLoad {
    /// At work.
    pub busy: f64,
    /// Waiting for room downstream, or for a server.
    pub backpressured: f64,
    /// Rows taken.
    pub rows_in: u64,
    /// Servers.
    pub external: Vec<ExternalLoad>,
}

/// What the calls to a server took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExternalLoad {
    /// The server.
    pub endpoint: String,
    /// Calls that ended.
    pub calls: u64,
    /// Time spent in them.
    pub call_ms: f64,
    /// Rows they carried.
    pub rows: u64,
    /// Calls that failed and were tried again.
    pub retries: u64,
    /// What a call has taken since the start, on average, and the rows it carried; `None` before the first has ended.
    pub usual: Option<(f64, u64)>,
    /// The call under way and for how long, in milliseconds.
    pub calling: Option<(String, i64)>,
}

/// A task that says nothing for longer than this is inside one call.
const SILENT_NS: u64 = 500_000_000;

impl Load {
    /// What happened from `before` to `after`.
    pub fn between(before: &Figures, after: &Figures) -> Self {
        let elapsed_ms = after.at_ms.saturating_sub(before.at_ms).max(0);
        let elapsed_ns = u64::try_from(elapsed_ms).unwrap_or(0).saturating_mul(1_000_000);
        let none = TaskFigures::default();
        let task = |(subtask, now): (&SubtaskId, &TaskFigures)| {
            let then = before.tasks.get(subtask).unwrap_or(&none);
            (*subtask, TaskLoad::between(then, now, elapsed_ns, after.at_ms))
        };
        let storage =
            after.storage.iter().filter(|c| c.end_ms(after.at_ms) >= before.at_ms && c.began_ms <= after.at_ms);
        Load {
            elapsed_ms,
            tasks: after.tasks.iter().map(task).collect(),
            storage: storage.cloned().collect(),
            storage_endpoint: after.storage_endpoint.clone(),
        }
    }

    /// Tasks of a vertex.
    pub(super) fn of(&self, vertex: VertexId) -> impl Iterator<Item = (SubtaskId, &TaskLoad)> {
        self.tasks.iter().filter(move |(s, _)| s.vertex == vertex).map(|(s, t)| (*s, t))
    }
}

impl TaskLoad {
    fn between(then: &TaskFigures, now: &TaskFigures, elapsed_ns: u64, at_ms: i64) -> Self {
        let backpressured_ns = now.backpressured_ns.saturating_sub(then.backpressured_ns);
        let idle_ns = now.idle_ns.saturating_sub(then.idle_ns);
        let mut busy_ns = now.busy_ns.saturating_sub(then.busy_ns);
        // Time is booked when a call returns: what is missing is a call that has not.
        let missing_ns = elapsed_ns.saturating_sub(busy_ns + idle_ns + backpressured_ns);
        if missing_ns > SILENT_NS {
            busy_ns += missing_ns;
        }
        let all = (busy_ns + idle_ns + backpressured_ns).max(1) as f64;
        let external = now.external.iter().enumerate().map(|(i, e)| {
            let none = ExternalFigures::default();
            let then = then.external.get(i).unwrap_or(&none);
            ExternalLoad {
                endpoint: e.endpoint.clone(),
                calls: e.calls.saturating_sub(then.calls),
                call_ms: e.call_ns.saturating_sub(then.call_ns) as f64 / 1e6,
                rows: e.rows.saturating_sub(then.rows),
                retries: e.retries.saturating_sub(then.retries),
                usual: (e.calls > 0).then(|| (e.call_ns as f64 / 1e6 / e.calls as f64, e.rows / e.calls)),
                calling: e.calling.as_ref().map(|c| (c.what.clone(), at_ms.saturating_sub(c.since_ms).max(0))),
            }
        });
        TaskLoad {
            busy: busy_ns as f64 / all,
            backpressured: backpressured_ns as f64 / all,
            rows_in: now.rows_in.saturating_sub(then.rows_in),
            external: external.collect(),
        }
    }

    /// The call under way that has lasted longest.
    pub(super) fn calling(&self) -> Option<(&ExternalLoad, &str, i64)> {
        let calls = self.external.iter().filter_map(|e| e.calling.as_ref().map(|(what, ms)| (e, what.as_str(), *ms)));
        calls.max_by_key(|(_, _, ms)| *ms)
    }
}
