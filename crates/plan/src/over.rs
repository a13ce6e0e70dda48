//! What an OVER aggregation and a sort by time are to do, as data.

use flott_core::sink::ChangelogMode;
use flott_core::types::DataType;
use serde::{Deserialize, Serialize};

use crate::spec::{AggregateFunction, SortKey};
use crate::user::UserAggregate;

/// Functions over the rows before each row. Output: the input's columns, then one column per call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverSpec {
    /// PARTITION BY columns; none: one partition.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: OverOrder,
    /// Which rows before a row count.
    pub frame: OverFrame,
    /// The functions.
    pub calls: Vec<OverCall>,
    /// What the input holds; only [`OverOrder::Column`] takes changes.
    pub input_mode: ChangelogMode,
    /// Whether `-U` rows are wanted downstream ([`OverOrder::Column`] alone updates).
    pub update_before: bool,
    /// State of partitions not touched for so long goes away.
    pub ttl_ms: Option<i64>,
}

/// The ORDER BY of an OVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverOrder {
    /// An event-time attribute: rows wait for the watermark.
    Rowtime(usize),
    /// Processing time: the order of coming.
    Proctime,
    /// Another column, or any over an input that updates: results of later rows are corrected when a row comes between. Frames are
    /// unbounded, or of ROWS.
    Column(SortKey),
}

/// From so far before the row up to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverFrame {
    /// ROWS; else RANGE, where rows that are equal by the order have one result.
    pub rows: bool,
    /// Rows before the row, or milliseconds; `None`: UNBOUNDED PRECEDING.
    pub preceding: Option<i64>,
}

/// One function of an OVER aggregation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverCall {
    /// The function.
    pub function: OverFunction,
    /// Argument column; none for COUNT(*) and the functions that number rows.
    pub arg: Option<usize>,
    /// Arguments behind the first: the separator of LISTAGG, those of an aggregate of the user.
    pub more: Vec<usize>,
    /// The aggregate of the user, for [`AggregateFunction::User`].
    pub user: Option<UserAggregate>,
    /// DISTINCT.
    pub distinct: bool,
    /// Result type.
    pub data_type: DataType,
}

/// Functions that take OVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverFunction {
    /// An aggregate of the frame. ROW_NUMBER is COUNT(*) of a ROWS frame; RANK and DENSE_RANK are COUNT(*) of a RANGE frame, as in
    /// Flink, which does not see that rows are equal.
    Aggregate(AggregateFunction),
    /// The first value of the frame that is not NULL.
    FirstValue,
    /// The last value of the frame that is not NULL.
    LastValue,
    /// The value so many rows before, NULL included.
    Lag {
        /// How many rows.
        offset: u32,
        /// The column that holds what stands there before the first row; none: NULL.
        default: Option<usize>,
    },
}

/// ORDER BY of a stream that may never end, by a time attribute first: rows wait for the watermark (or for the clock to go on).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemporalSortSpec {
    /// The event-time attribute; none: processing time.
    pub rowtime: Option<usize>,
    /// The keys behind the time.
    pub keys: Vec<SortKey>,
}
