//! The law of table functions in a plan: from each row any number of rows, for UNNEST and LATERAL TABLE(f(…)). Called on the task's thread
//! and shared by all subtasks; never blocks and keeps nothing between calls.

use std::fmt;

use arrow_array::{ArrayRef, UInt32Array};

use crate::error::Result;

/// A call of a table function whose types are settled: makes rows of rows. The same arguments give the same rows: a retraction calls it again.
pub trait BoundTableFunction: Send + Sync + fmt::Debug {
    /// The rows for each of `rows` rows of `args`, one array per argument. A row that gets none is absent.
    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows>;
}

/// What a table function made.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// For each row made, which row of the call it belongs to; ascending.
    pub rows: UInt32Array,
    /// The columns, as declared when the function was bound.
    pub columns: Vec<ArrayRef>,
}
