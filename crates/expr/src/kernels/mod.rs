//! The functions themselves, over Arrow arrays: chosen by argument types when an expression is compiled; none reads a clock or panics on data.

mod arith;
mod array;
mod array_set;
pub(crate) mod bitmap;
pub(crate) mod cast;
pub(crate) mod choose;
mod codec;
mod compare;
mod decimal;
mod digest;
mod extremes;
mod java_regex;
pub(crate) mod json;
mod lift;
mod logic;
mod map;
mod math;
mod nested;
mod parse_url;
mod pattern;
mod printf;
mod random;
mod regexp;
mod string;
mod substring;
mod temporal;
mod time_format;
mod units;
mod words;
mod zone;

pub use cast::result_writer;
pub use zone::parse_zone;

/// Whether the text is a regular expression that can be used.
pub(crate) fn is_regexp(text: &str) -> bool {
    java_regex::compile(text).is_ok()
}

use arrow_array::ArrayRef;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind, Literal};

use crate::compile::{EvalContext, Value};

/// A compiled function: arguments, number of rows (1 when all arguments are constant), context.
pub(crate) type Kernel = Box<dyn Fn(&[Value], usize, &EvalContext) -> Result<ArrayRef> + Send + Sync>;

/// A kernel and whether it may fail for some row.
pub(crate) struct Compiled {
    pub kernel: Kernel,
    pub fallible: bool,
}

impl Compiled {
    /// A kernel that succeeds for every row.
    pub fn total(kernel: impl Fn(&[Value], usize, &EvalContext) -> Result<ArrayRef> + Send + Sync + 'static) -> Self {
        Compiled { kernel: Box::new(kernel), fallible: false }
    }
    /// A kernel that may fail.
    pub fn partial(kernel: impl Fn(&[Value], usize, &EvalContext) -> Result<ArrayRef> + Send + Sync + 'static) -> Self {
        Compiled { kernel: Box::new(kernel), fallible: true }
    }
}

/// The kernel of `function` for these arguments.
pub(crate) fn compile(function: &str, args: &[Expr], out: &DataType) -> Result<Compiled> {
    for family in [
        compare::kernel,
        logic::kernel,
        arith::kernel,
        math::kernel,
        extremes::kernel,
        string::kernel,
        substring::kernel,
        pattern::kernel,
        regexp::kernel,
        temporal::kernel,
        units::kernel,
        nested::kernel,
        codec::kernel,
        digest::kernel,
        words::kernel,
        parse_url::kernel,
        printf::kernel,
        random::kernel,
        array::kernel,
        array_set::kernel,
        map::kernel,
        json::kernel,
        bitmap::kernel,
    ] {
        if let Some(compiled) = family(function, args, out)? {
            return Ok(compiled);
        }
    }
    let types: Vec<String> = args.iter().map(|a| a.data_type.kind.to_string()).collect();
    Err(Error::bug(format!("function {function}({}) has no kernel", types.join(", "))))
}

/// The text of a constant argument.
pub(crate) fn constant_text(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Literal(Literal::String(s)) => Some(s),
        ExprKind::Cast { input, .. } if expr.data_type.kind.is_string() && input.data_type.kind.is_string() => {
            constant_text(input)
        }
        _ => None,
    }
}

/// An error of the data: the job fails with it.
pub(crate) fn data_error(message: impl Into<String>) -> Error {
    Error::user("sql.data", message)
}
