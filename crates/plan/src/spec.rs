//! What the SQL operators are to do, as data. `operators` builds them, EXPLAIN prints them, `proto` will encode them.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, DataType};
use serde::{Deserialize, Serialize};

use crate::expr::Expr;
pub use crate::joins::JoinKind;
use crate::joins::{IntervalJoinSpec, RegularJoinSpec, TemporalJoinSpec, WindowJoinSpec};
use crate::over::{OverSpec, TemporalSortSpec};
use crate::pattern::MatchSpec;
use crate::user::UserAggregate;

/// An operator of a SQL plan. Column numbers refer to the input; for joins, left columns come first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OperatorSpec {
    /// Filter, then project.
    Calc {
        /// Rows where it is TRUE pass.
        filter: Option<Expr>,
        /// Output columns, over the input's columns.
        projection: Vec<Expr>,
    },
    /// Each row once per projection, in this order.
    Expand {
        /// Output columns of each, over the input's columns; of equal types.
        projections: Vec<Vec<Expr>>,
    },
    /// Appends `window_start`, `window_end` (TIMESTAMP(3)) and `window_time` to each row, once per window it falls into; SESSION emits
    /// the rows of a session when it is over.
    WindowAssign {
        /// The windows.
        window: WindowSpec,
    },
    /// Aggregates per window and group: fires once, when the watermark (or processing time) passes the window's end. Output: group columns, aggregates, window properties.
    WindowAggregate {
        /// The windows.
        window: WindowSpec,
        /// Group columns, window columns excluded.
        group: Vec<usize>,
        /// Aggregates.
        aggregates: Vec<AggregateCall>,
        /// Window columns to append, in this order.
        properties: Vec<WindowProperty>,
        /// Whether the input retracts.
        input_mode: ChangelogMode,
    },
    /// Unbounded aggregation. Output: group columns, aggregates; a changelog.
    GroupAggregate {
        /// Group columns; none: one global row, which exists from the first input row on.
        group: Vec<usize>,
        /// Aggregates.
        aggregates: Vec<AggregateCall>,
        /// Whether the input retracts.
        input_mode: ChangelogMode,
        /// Whether `-U` rows are wanted downstream.
        update_before: bool,
        /// State of groups not touched for so long goes away (`table.exec.state.ttl`, or a hint).
        ttl_ms: Option<i64>,
    },
    /// Regular join over the whole history of both sides.
    Join(RegularJoinSpec),
    /// Join of rows whose times lie close together.
    IntervalJoin(IntervalJoinSpec),
    /// Join of rows of equal windows.
    WindowJoin(WindowJoinSpec),
    /// Join with the version of a table at the row's time.
    TemporalJoin(TemporalJoinSpec),
    /// Each row as often as a BIGINT column says. Output: the other columns.
    Repeat {
        /// The column, the last one.
        count: usize,
    },
    /// UNION ALL of two or more inputs with equal columns.
    Union,
    /// ORDER BY / LIMIT of a bounded input: emits at the end of data. Takes changelogs, emits append.
    SortLimit {
        /// Sort keys; none: LIMIT alone.
        keys: Vec<SortKey>,
        /// Rows to skip.
        offset: u64,
        /// Rows to emit; `None`: all.
        limit: Option<u64>,
        /// Columns of the input.
        columns: Vec<Column>,
    },
    /// Functions over the rows before each row.
    OverAggregate(OverSpec),
    /// ORDER BY a time attribute of a stream that may never end.
    TemporalSort(TemporalSortSpec),
    /// The first rows of each partition by `order`: `ROW_NUMBER() … WHERE rn <= limit`. Output: the input's columns, then the
    /// rank if `with_rank`; a changelog.
    TopN {
        /// PARTITION BY columns; none: one partition.
        partition: Vec<usize>,
        /// ORDER BY; rows that are equal by it keep the order they came in.
        order: Vec<SortKey>,
        /// Rows per partition.
        limit: u64,
        /// Whether the rank is a column of the output.
        with_rank: bool,
        /// Whether the input retracts.
        input_mode: ChangelogMode,
        /// Whether `-U` rows are wanted downstream.
        update_before: bool,
        /// State of rows older than this goes away.
        ttl_ms: Option<i64>,
    },
    /// Top-N of each window: like [`OperatorSpec::TopN`], over appended rows that carry window columns; fires once, when the
    /// watermark (or processing time) passes the window's end.
    WindowTopN {
        /// PARTITION BY columns, `window_start` and `window_end` included.
        partition: Vec<usize>,
        /// ORDER BY.
        order: Vec<SortKey>,
        /// Rows per partition.
        limit: u64,
        /// Whether the rank is a column of the output.
        with_rank: bool,
        /// Of rows that are equal by the order the last to come wins; with a limit of 1 only.
        keep_last: bool,
        /// The `window_end` column.
        window_end: usize,
        /// Windows end by processing time.
        processing_time: bool,
        /// The windows were cut over TIMESTAMP_LTZ, in this zone.
        zone: Option<String>,
    },
    /// One row per key of an input of appended rows: the first by `order`, and of equal ones the first or the last to come.
    /// Output: the input's columns; `+I`, then updates.
    Deduplicate {
        /// Key columns.
        key: Vec<usize>,
        /// ORDER BY; none: the order of coming.
        order: Vec<SortKey>,
        /// Among equal rows the last to come wins, not the first.
        keep_last: bool,
        /// Whether `-U` rows are wanted downstream.
        update_before: bool,
        /// State of keys not touched for so long goes away.
        ttl_ms: Option<i64>,
    },
    /// MATCH_RECOGNIZE over appended rows. Output: partition columns, measures.
    Match(Box<MatchSpec>),
    /// A full changelog from an upsert source: remembers the row of every key, completes deletions, drops what changes nothing.
    ChangelogNormalize {
        /// Primary key columns.
        key: Vec<usize>,
        /// Whether `-U` rows are wanted downstream.
        update_before: bool,
        /// State of keys not touched for so long goes away.
        ttl_ms: Option<i64>,
    },
    /// Before an upsert sink whose key is not that of the changelog: remembers all rows of a key, so that the deletion of one
    /// brings the one before it back.
    SinkUpsertMaterialize {
        /// The sink's primary key columns.
        key: Vec<usize>,
        /// State of keys not touched for so long goes away.
        ttl_ms: Option<i64>,
    },
    /// Before an upsert sink by the same key as the changelog, where `-U` rows cannot be left out from the start: keeps the last
    /// change of each key of a batch, and makes a `-U` that is left a `-D`.
    ToUpsert {
        /// The key columns.
        key: Vec<usize>,
    },
    /// Drops `-U` rows before a sink that does not want them.
    DropUpdateBefore,
    /// Checks NOT NULL columns before a sink (`table.exec.sink.not-null-enforcer`).
    NotNullEnforcer {
        /// Columns to check with their names.
        columns: Vec<(usize, String)>,
        /// Drop the row (`DROP`) instead of failing the job (`ERROR`).
        drop: bool,
    },
}

/// A join with rows asked of an outside table by key, as of now: `JOIN t FOR SYSTEM_TIME AS OF proctime`. Output: the
/// input's columns, then those of the table. Row kinds stay; rows of one key stay in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupJoinSpec {
    /// INNER or LEFT.
    pub kind: JoinKind,
    /// Columns of the input that hold the key, in the order of the lookup's key columns.
    pub keys: Vec<usize>,
    /// Columns that the lookup source gives.
    pub table: Vec<Column>,
    /// Output columns of the table, over `table`.
    pub projection: Vec<Expr>,
    /// The rest of the condition, over input columns followed by the output columns of the table.
    pub condition: Option<Expr>,
    /// What the input holds.
    pub input_mode: ChangelogMode,
    /// Hints.
    pub options: LookupJoinOptions,
}

/// Rows of a table function for each row of the input: `CROSS JOIN UNNEST(a)`, `LEFT JOIN LATERAL TABLE(f(x)) ON TRUE`. Output: some of
/// the input's columns, then some of the function's. Row kinds stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrelateSpec {
    /// INNER; LEFT keeps rows for which the function has none.
    pub kind: JoinKind,
    /// Arguments of the function.
    pub args: Vec<Expr>,
    /// Columns of the input that are passed on.
    pub left: Vec<usize>,
    /// Columns of the function that are passed on.
    pub right: Vec<usize>,
}

/// What the LOOKUP hint says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupJoinOptions {
    /// `async`: several connections per subtask instead of one.
    pub parallel: bool,
    /// `retry-predicate` = `lookup_miss`: keys without rows are asked for again.
    pub retry_miss: Option<LookupMissRetry>,
}

/// How often and when a key without rows is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupMissRetry {
    /// `fixed-delay`, in milliseconds.
    pub delay_ms: i64,
    /// `max-attempts`.
    pub max_attempts: u32,
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    /// The function.
    pub function: AggregateFunction,
    /// That of the user, for [`AggregateFunction::User`].
    pub user: Option<UserAggregate>,
    /// Argument columns; none for COUNT(*).
    pub args: Vec<usize>,
    /// Types of the arguments.
    pub arg_types: Vec<DataType>,
    /// DISTINCT.
    pub distinct: bool,
    /// FILTER (WHERE column), a BOOLEAN column: rows where it is TRUE count.
    pub filter: Option<usize>,
    /// Result type, Flink's: AVG(INT) is INT, SUM(INT) is INT, SUM(DECIMAL(p, s)) is DECIMAL(38, s) …
    pub data_type: DataType,
    /// Output name.
    pub name: String,
}

/// Aggregate functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    /// COUNT(*) or COUNT(x)
    Count,
    /// SUM: NULL over no rows.
    Sum,
    /// AVG: integer for integers.
    Avg,
    /// MIN
    Min,
    /// MAX
    Max,
    /// STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP
    Deviation {
        /// The square root: STDDEV.
        root: bool,
        /// Divided by n − 1.
        sample: bool,
    },
    /// FIRST_VALUE: of those that are not NULL.
    FirstValue,
    /// LAST_VALUE: of those that are not NULL.
    LastValue,
    /// The value of the only row: of a subquery used as a value.
    SingleValue,
    /// LISTAGG(text, separator)
    ListAgg,
    /// ARRAY_AGG
    ArrayAgg {
        /// IGNORE NULLS.
        ignore_nulls: bool,
    },
    /// COLLECT: a multiset.
    Collect,
    /// PERCENTILE(number, percentage or percentages [, frequency])
    Percentile,
    /// JSON_ARRAYAGG
    JsonArrayAgg {
        /// ABSENT ON NULL.
        absent_on_null: bool,
    },
    /// JSON_OBJECTAGG(key, value)
    JsonObjectAgg {
        /// ABSENT ON NULL.
        absent_on_null: bool,
    },
    /// BITMAP_BUILD_AGG(integer), BITMAP_AND_AGG(bitmap) …
    Bitmap {
        /// How the bitmaps of the rows become one.
        fold: BitmapFold,
        /// …_CARDINALITY_AGG: the number of its members.
        cardinality: bool,
    },
    /// One of the user: which, the call says.
    User,
}

/// How the bitmaps of a group become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BitmapFold {
    /// Of integers, one member each.
    Build,
    /// Intersection.
    And,
    /// Union.
    Or,
    /// Symmetric difference.
    Xor,
}

impl AggregateFunction {
    /// Flink's name.
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "COUNT",
            AggregateFunction::Sum => "SUM",
            AggregateFunction::Avg => "AVG",
            AggregateFunction::Min => "MIN",
            AggregateFunction::Max => "MAX",
            AggregateFunction::Deviation { root: true, sample: false } => "STDDEV_POP",
            AggregateFunction::Deviation { root: true, sample: true } => "STDDEV_SAMP",
            AggregateFunction::Deviation { root: false, sample: false } => "VAR_POP",
            AggregateFunction::Deviation { root: false, sample: true } => "VAR_SAMP",
            AggregateFunction::FirstValue => "FIRST_VALUE",
            AggregateFunction::LastValue => "LAST_VALUE",
            AggregateFunction::SingleValue => "SINGLE_VALUE",
            AggregateFunction::User => "an aggregate of the user",
            AggregateFunction::ListAgg => "LISTAGG",
            AggregateFunction::ArrayAgg { .. } => "ARRAY_AGG",
            AggregateFunction::Collect => "COLLECT",
            AggregateFunction::Percentile => "PERCENTILE",
            AggregateFunction::JsonArrayAgg { .. } => "JSON_ARRAYAGG",
            AggregateFunction::JsonObjectAgg { .. } => "JSON_OBJECTAGG",
            AggregateFunction::Bitmap { fold, cardinality: false } => match fold {
                BitmapFold::Build => "BITMAP_BUILD_AGG",
                BitmapFold::And => "BITMAP_AND_AGG",
                BitmapFold::Or => "BITMAP_OR_AGG",
                BitmapFold::Xor => "BITMAP_XOR_AGG",
            },
            AggregateFunction::Bitmap { fold, cardinality: true } => match fold {
                BitmapFold::Build => "BITMAP_BUILD_CARDINALITY_AGG",
                BitmapFold::And => "BITMAP_AND_CARDINALITY_AGG",
                BitmapFold::Or => "BITMAP_OR_CARDINALITY_AGG",
                BitmapFold::Xor => "BITMAP_XOR_CARDINALITY_AGG",
            },
        }
    }
}

/// Windows over a time attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// The kind and its sizes.
    pub kind: WindowKind,
    /// The time attribute column.
    pub time: usize,
    /// Processing time instead of event time: `time` is then ignored.
    pub processing_time: bool,
    /// The attribute is TIMESTAMP_LTZ: windows are cut in this zone (`table.local-time-zone`).
    pub zone: Option<String>,
    /// PARTITION BY of SESSION; empty otherwise.
    pub partition: Vec<usize>,
}

/// Kinds of windows; sizes in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowKind {
    /// TUMBLE
    Tumble {
        /// Size.
        size_ms: i64,
        /// Offset of the grid.
        offset_ms: i64,
    },
    /// HOP
    Hop {
        /// Size, a multiple of the slide.
        size_ms: i64,
        /// Slide.
        slide_ms: i64,
        /// Offset of the grid.
        offset_ms: i64,
    },
    /// CUMULATE: windows of `size_ms` that fire each `step_ms` with what they hold so far.
    Cumulate {
        /// Size, a multiple of the step.
        size_ms: i64,
        /// Step.
        step_ms: i64,
        /// Offset of the grid.
        offset_ms: i64,
    },
    /// Windows that rows bring along: the time column holds their ends, and a group column their starts where these are wanted.
    Attached,
    /// SESSION; a gap of exactly this length does not split.
    Session {
        /// Gap.
        gap_ms: i64,
    },
}

/// Columns a window adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowProperty {
    /// `window_start`, TIMESTAMP(3)
    Start,
    /// `window_end`, TIMESTAMP(3)
    End,
    /// `window_time`, end − 1 ms, a time attribute
    Time,
}

/// One ORDER BY key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortKey {
    /// Column.
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST. Flink's default: first when ascending, last when descending.
    pub nulls_first: bool,
}

/// What happens to the rows of a table source before anything else sees them. `operators` turns it into a
/// `SourceTransformFactory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceTransformSpec {
    /// Columns as the connector gives them.
    pub physical: Vec<Column>,
    /// Output columns, over `physical`: plain columns and computed ones.
    pub projection: Vec<Expr>,
    /// Names and types of the output, one per projection.
    pub output: Vec<Column>,
    /// Event time: the rowtime column as a number of `output`, and the watermark (a timestamp) over the columns of `output`.
    pub watermark: Option<(usize, Expr)>,
    /// `table.local-time-zone`.
    pub zone: String,
}
