//! The laws of functions that users write: over columns, not rows. Built-in functions are not here, and nothing here runs one.
//!
//! Every function is bound once per call in a query, then shared by all subtasks: it keeps nothing between calls that a result
//! depends on. An error fails the job with the function's name and the place of the call; so does a panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::ArrayRef;

use crate::error::{Error, Position, Result};
use crate::table_function::TableRows;
use crate::types::{Column, DataType};

/// What a scalar function makes of a call's argument types.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Types the arguments are cast to, as far as SQL casts by itself.
    pub args: Vec<DataType>,
    /// Type of the result.
    pub result: DataType,
}

/// What a table function makes of a call's argument types.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSignature {
    /// Types the arguments are cast to, as far as SQL casts by itself.
    pub args: Vec<DataType>,
    /// Columns of the rows it gives.
    pub columns: Vec<Column>,
}

/// One value per row.
pub trait ScalarFunction: Send + Sync {
    /// The types for a call with arguments of these types; an error says what it takes.
    fn bind(&self, args: &[DataType]) -> Result<Signature>;
    /// The results for `rows` rows. Arguments have the bound types and `rows` values each; the result must have the bound type and
    /// `rows` values.
    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef>;
    /// Whether equal arguments always give equal results: such calls may be evaluated once, or when the query is planned.
    fn is_deterministic(&self) -> bool {
        true
    }
}

/// Any number of rows per row.
pub trait TableFunction: Send + Sync {
    /// The types for a call with arguments of these types; an error says what it takes.
    fn bind(&self, args: &[DataType]) -> Result<TableSignature>;
    /// The rows for `rows` rows, with the bound columns. Equal arguments must give equal rows: a retraction calls it again.
    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows>;
}

/// A row that comes to an accumulator, or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateChange {
    /// Which accumulator of the call.
    pub accumulator: usize,
    /// Which row of the arguments.
    pub row: usize,
    /// It comes; else it leaves again.
    pub add: bool,
}

/// One value of many rows. Accumulators travel as bytes, which lie in state: their layout is the function's own, and should begin with
/// its version. `None` stands for an accumulator to which nothing came yet.
pub trait ColumnAggregate: Send + Sync {
    /// The types for a call with arguments of these types; an error says what it takes. The result's type is nullable when an accumulator
    /// may give NULL.
    fn bind(&self, args: &[DataType]) -> Result<Signature>;
    /// Whether rows can leave: what inputs that update, and frames of OVER that rows leave, need.
    fn can_retract(&self) -> bool {
        false
    }
    /// Whether two accumulators can become one: what lets sessions keep an accumulator instead of their rows.
    fn can_merge(&self) -> bool {
        false
    }
    /// Takes `changes` in their order into the accumulators. Arguments have the bound types.
    fn fold(&self, accumulators: &mut [Option<Vec<u8>>], changes: &[AggregateChange], args: &[ArrayRef]) -> Result<()>;
    /// Both accumulators in one; the rows of `first` came first. Called only when it can merge.
    fn merge(&self, first: &[u8], second: &[u8]) -> Result<Vec<u8>>;
    /// The result of each accumulator, with the bound type.
    fn values(&self, accumulators: &[Option<&[u8]>]) -> Result<ArrayRef>;
}

/// A function by its kind.
#[derive(Clone)]
pub enum Function {
    /// One value per row.
    Scalar(Arc<dyn ScalarFunction>),
    /// Any number of rows per row.
    Table(Arc<dyn TableFunction>),
    /// One value of many rows.
    Aggregate(Arc<dyn ColumnAggregate>),
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Function::Scalar(_) => "scalar function",
            Function::Table(_) => "table function",
            Function::Aggregate(_) => "aggregate function",
        })
    }
}

/// Calls code of the user; errors and panics come back with the function's name and the place of the call.
pub fn call_user<T>(name: &str, at: Option<Position>, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let placed = |e: Error| match at {
        Some(p) => e.at(p),
        None => e,
    };
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(placed(e.context(format_args!("function `{name}`")))),
        Err(payload) => {
            let error = Error::user("function.panic", format!("function `{name}` panicked: {}", panic_text(&*payload)));
            let hint = "return an Error instead; the place of the panic is on standard error";
            Err(placed(error.hint(hint)))
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(s), _) => (*s).to_owned(),
        (_, Some(s)) => s.clone(),
        _ => "without a message".to_owned(),
    }
}
