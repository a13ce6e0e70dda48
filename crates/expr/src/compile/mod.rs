//! Compiles typed expressions into a graph of shared nodes and evaluates it column at a time; never filters columns nobody reads.

mod calc;
mod frame;
mod program;
mod value;

pub use calc::CompiledCalc;
pub(crate) use frame::child as field;
pub(crate) use program::Program;
#[cfg(test)]
pub(crate) use value::literal_to_array;
pub(crate) use value::{Value, array_to_literal};

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::Result;
use flott_core::operator::OperatorContext;
use flott_core::time::EventTime;
use flott_core::types::Column;
use flott_plan::expr::Expr;

use frame::Frame;

/// What an expression may know beside its row.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext {
    /// Now, for PROCTIME(), CURRENT_TIMESTAMP and friends, in milliseconds.
    pub now_ms: i64,
    /// The session's zone (`table.local-time-zone`).
    pub zone: chrono_tz::Tz,
    /// The operator's watermark, for CURRENT_WATERMARK; `None` before the first.
    pub watermark: Option<EventTime>,
}

impl EvalContext {
    /// Where there is no watermark.
    pub fn new(now_ms: i64, zone: chrono_tz::Tz) -> Self {
        EvalContext { now_ms, zone, watermark: None }
    }

    /// Within an operator.
    pub fn of(ctx: &OperatorContext, zone: chrono_tz::Tz) -> Self {
        let watermark = (ctx.watermark != EventTime::MIN).then_some(ctx.watermark);
        EvalContext { now_ms: ctx.clock.now_ms(), zone, watermark }
    }
}

/// One expression, compiled.
#[derive(Debug)]
pub struct CompiledExpr {
    program: Program,
}

impl CompiledExpr {
    /// Compiles `expr` over `columns`.
    pub fn compile(expr: &Expr, columns: &[Column]) -> Result<Self> {
        Ok(CompiledExpr { program: Program::compile(std::slice::from_ref(expr), columns)? })
    }

    /// Whether evaluating it may fail for some row.
    pub fn is_fallible(&self) -> bool {
        self.program.nodes[self.program.roots[0]].fallible
    }

    /// The values for the rows of `batch`, one each.
    pub fn evaluate(&self, batch: &RecordBatch, ctx: &EvalContext) -> Result<ArrayRef> {
        let frame = Frame::root(&self.program, batch, ctx);
        frame.eval(self.program.roots[0])?.into_array(batch.num_rows())
    }
}
