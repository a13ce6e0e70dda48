//! What joins are to do, as data: sides, keys and conditions, and what tells each kind of join apart. Nothing here runs.

use flott_core::sink::ChangelogMode;
use flott_core::types::Column;
use serde::{Deserialize, Serialize};

use crate::expr::Expr;

/// Kinds of joins. RIGHT is LEFT with the sides exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinKind {
    /// INNER
    Inner,
    /// LEFT OUTER
    Left,
    /// FULL OUTER
    Full,
    /// Left rows with a match, once, without right columns.
    Semi,
    /// Left rows without a match, without right columns.
    Anti,
}

impl JoinKind {
    /// Whether left rows appear depending on whether they have a match: the matches of left rows are counted.
    pub fn left_outer(self) -> bool {
        self != JoinKind::Inner
    }
    /// Whether right rows without a match appear.
    pub fn right_outer(self) -> bool {
        self == JoinKind::Full
    }
    /// Whether right columns are part of the output.
    pub fn projects_right(self) -> bool {
        !matches!(self, JoinKind::Semi | JoinKind::Anti)
    }
    /// Whether the right half of an output row may be NULL padding.
    pub fn pads_right(self) -> bool {
        matches!(self, JoinKind::Left | JoinKind::Full)
    }
    /// As EXPLAIN names it.
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "InnerJoin",
            JoinKind::Left => "LeftOuterJoin",
            JoinKind::Full => "FullOuterJoin",
            JoinKind::Semi => "LeftSemiJoin",
            JoinKind::Anti => "LeftAntiJoin",
        }
    }
}

/// Two inputs and when their rows match. Output: left columns, then right ones unless the kind has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinSpec {
    /// Which rows appear.
    pub kind: JoinKind,
    /// Equi-join columns of the left input, as numbers of the left input.
    pub left_keys: Vec<usize>,
    /// Equi-join columns of the right input, as numbers of the right input.
    pub right_keys: Vec<usize>,
    /// The rest of the condition, over left columns followed by right columns.
    pub condition: Option<Expr>,
    /// Columns of the left input.
    pub left: Vec<Column>,
    /// Columns of the right input.
    pub right: Vec<Column>,
}

/// A regular join: over the whole history of both sides, appended rows or changelogs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegularJoinSpec {
    /// The join.
    pub join: JoinSpec,
    /// What the left input holds.
    pub left_mode: ChangelogMode,
    /// What the right input holds.
    pub right_mode: ChangelogMode,
    /// State of left rows older than this goes away.
    pub left_ttl_ms: Option<i64>,
    /// State of right rows older than this goes away.
    pub right_ttl_ms: Option<i64>,
}

/// A join of appended rows whose times lie close together: `left time − right time` is within `lower_ms..=upper_ms`. Rows leave
/// the state once the watermark shows that no match can come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalJoinSpec {
    /// The join; the condition is what the bounds do not say. INNER, LEFT or FULL.
    pub join: JoinSpec,
    /// Time column of the left input.
    pub left_time: usize,
    /// Time column of the right input.
    pub right_time: usize,
    /// Times are those of arrival; the time columns are ignored.
    pub processing_time: bool,
    /// Least distance.
    pub lower_ms: i64,
    /// Greatest distance.
    pub upper_ms: i64,
    /// The left rows stay, because late right rows may ask for them; so it is where a regular join runs as this.
    pub keep_left: bool,
    /// The right rows stay, because late left rows may ask for them.
    pub keep_right: bool,
}

/// A join of appended rows that belong to windows, where the windows are equal too: made once, when the window is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowJoinSpec {
    /// The join; window starts and ends are among the keys.
    pub join: JoinSpec,
    /// Column of the left input that holds the window's end.
    pub left_window_end: usize,
    /// Column of the right input that holds the window's end.
    pub right_window_end: usize,
    /// Windows end by processing time.
    pub processing_time: bool,
    /// The windows were cut over TIMESTAMP_LTZ, in this zone.
    pub zone: Option<String>,
}

/// A join with the version of a table that was valid at the left row's time. Left rows wait until the watermark passes their
/// time; the right side is a changelog with a primary key among the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemporalJoinSpec {
    /// The join, INNER or LEFT.
    pub join: JoinSpec,
    /// Time column of the left input.
    pub left_time: usize,
    /// Time column of the right input.
    pub right_time: usize,
    /// What the left input holds.
    pub left_mode: ChangelogMode,
}
