//! Jobs as pure data: typed expressions, operator specs, and the way StreamGraph → JobGraph.
//!
//! Where the two front ends and the engine meet. Nothing here runs.

pub mod expr;
pub mod job_graph;
pub mod joins;
pub mod over;
pub mod pattern;
pub mod spec;
pub mod stream_graph;
mod user;

pub use expr::{Expr, ExprKind, Literal};
pub use job_graph::{ChainedNode, JobEdge, JobGraph, JobVertex};
pub use joins::{IntervalJoinSpec, JoinKind, JoinSpec, RegularJoinSpec, TemporalJoinSpec, WindowJoinSpec};
pub use over::{OverCall, OverFrame, OverFunction, OverOrder, OverSpec, TemporalSortSpec};
pub use pattern::{AfterMatch, MatchExpr, MatchReference, MatchSpec, PatternVariable};
pub use spec::{
    AggregateCall, AggregateFunction, BitmapFold, CorrelateSpec, LookupJoinOptions, LookupJoinSpec, LookupMissRetry,
    OperatorSpec, SortKey, SourceTransformSpec, WindowKind, WindowProperty, WindowSpec,
};
pub use stream_graph::{
    CorrelateNode, LookupNode, NodeId, NodeKind, Partitioner, SourceNode, StreamEdge, StreamGraph, StreamNode,
};
pub use user::{UserAggregate, UserFunction};
