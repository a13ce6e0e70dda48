//! MATCH_RECOGNIZE as data: a pattern of variables, what rows must fulfil to belong to one, and what a match gives.

use flott_core::types::DataType;
use serde::{Deserialize, Serialize};

use crate::expr::Expr;
use crate::spec::{AggregateFunction, SortKey};

/// MATCH_RECOGNIZE. Output: partition columns, measures; appended rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchSpec {
    /// PARTITION BY columns.
    pub partition: Vec<usize>,
    /// The event time that rows are ordered by; `None`: processing time, the order of coming.
    pub time: Option<usize>,
    /// Order of rows of the same time.
    pub order: Vec<SortKey>,
    /// PATTERN: variables that follow one another without gaps.
    pub variables: Vec<PatternVariable>,
    /// WITHIN: the first and the last row of a match are less than this apart.
    pub within_ms: Option<i64>,
    /// AFTER MATCH.
    pub skip: AfterMatch,
    /// MEASURES.
    pub measures: Vec<MatchExpr>,
}

/// A pattern variable with its quantifier and its condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatternVariable {
    /// Name.
    pub name: String,
    /// Rows at least.
    pub min: u32,
    /// Rows at most; `None`: any number.
    pub max: Option<u32>,
    /// As many rows as possible rather than as few.
    pub greedy: bool,
    /// DEFINE; `None`: every row.
    pub condition: Option<MatchExpr>,
}

/// Where the search goes on after a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterMatch {
    /// SKIP PAST LAST ROW
    PastLastRow,
    /// SKIP TO NEXT ROW
    ToNextRow,
    /// SKIP TO FIRST variable, by number
    ToFirst(usize),
    /// SKIP TO LAST variable, by number
    ToLast(usize),
}

/// An expression over rows of a match: column `i` is the value of `references[i]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchExpr {
    /// The expression.
    pub expr: Expr,
    /// What its columns are.
    pub references: Vec<MatchReference>,
}

/// A value taken from the rows of a match. `variable` is a number, or `None` for all variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MatchReference {
    /// A column of one row; NULL when there is no such row.
    Column {
        /// Among the rows of this variable.
        variable: Option<usize>,
        /// Counted from the first row, not from the last.
        first: bool,
        /// Rows to go on from there.
        offset: u32,
        /// Column of the input.
        column: usize,
        /// Its type.
        data_type: DataType,
    },
    /// An aggregate over the rows of a variable.
    Aggregate {
        /// The rows.
        variable: Option<usize>,
        /// The function.
        function: AggregateFunction,
        /// Its argument, over the columns of the input; none: COUNT(*).
        argument: Option<Expr>,
        /// Type of the result.
        data_type: DataType,
    },
    /// MATCH_ROWTIME(): the time of the row that completes the match.
    Rowtime {
        /// Its type.
        data_type: DataType,
    },
}

impl MatchReference {
    /// The type of the value.
    pub fn data_type(&self) -> &DataType {
        match self {
            MatchReference::Column { data_type, .. }
            | MatchReference::Aggregate { data_type, .. }
            | MatchReference::Rowtime { data_type } => data_type,
        }
    }
    /// The variable whose rows are read, if it is a single one.
    pub fn variable(&self) -> Option<usize> {
        match self {
            MatchReference::Column { variable, .. } | MatchReference::Aggregate { variable, .. } => *variable,
            MatchReference::Rowtime { .. } => None,
        }
    }
    /// Calls `f` on every column of the input that is read.
    pub fn visit_columns(&self, f: &mut impl FnMut(usize)) {
        match self {
            MatchReference::Column { column, .. } => f(*column),
            MatchReference::Aggregate { argument: Some(argument), .. } => argument.visit_columns(f),
            _ => {}
        }
    }
}

impl MatchSpec {
    /// Every expression over rows of a match.
    pub fn expressions(&self) -> impl Iterator<Item = &MatchExpr> {
        self.variables.iter().filter_map(|v| v.condition.as_ref()).chain(&self.measures)
    }
    /// Every expression, to be changed.
    pub fn expressions_mut(&mut self) -> impl Iterator<Item = &mut MatchExpr> {
        self.variables.iter_mut().filter_map(|v| v.condition.as_mut()).chain(&mut self.measures)
    }
    /// Calls `f` on every column of the input that is read.
    pub fn visit_columns(&self, f: &mut impl FnMut(usize)) {
        self.partition.iter().copied().for_each(&mut *f);
        self.time.into_iter().for_each(&mut *f);
        self.order.iter().for_each(|k| f(k.column));
        self.expressions().flat_map(|e| &e.references).for_each(|r| r.visit_columns(f));
    }
}
