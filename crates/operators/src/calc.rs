//! Calc: filters, then projects, with row kinds and event times kept in step. Never keeps state.

use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::types::Column;
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::expr::Expr;

use crate::zone::session_zone;

/// The operator.
pub(crate) struct Calc {
    calc: CompiledCalc,
    zone: chrono_tz::Tz,
}

impl Calc {
    /// Compiles the expressions.
    pub(crate) fn new(filter: Option<&Expr>, projection: &[Expr], input: &[Column], output: &[Column]) -> Result<Self> {
        let names: Vec<String> = output.iter().map(|c| c.name.clone()).collect();
        Ok(Calc { calc: CompiledCalc::compile(filter, projection, input, &names)?, zone: chrono_tz::UTC })
    }
}

/// Applies `calc` to a batch; `None` when no row passes.
pub(crate) fn apply(calc: &CompiledCalc, batch: &ChangeBatch, eval: &EvalContext) -> Result<Option<ChangeBatch>> {
    let Some((rows, mask)) = calc.apply(&batch.rows, eval)? else { return Ok(None) };
    let Some(mask) = mask else {
        return Ok(Some(ChangeBatch::new(rows, batch.kinds.clone(), batch.times.clone())));
    };
    let kept = || mask.values().set_indices();
    let kinds = batch.kinds.as_ref().map(|k| kept().map(|i| k[i]).collect());
    let times = batch.times.as_ref().map(|t| kept().map(|i| t[i]).collect());
    Ok(Some(ChangeBatch::new(rows, kinds, times)))
}

impl Operator for Calc {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let eval = EvalContext { now_ms: ctx.clock.now_ms(), zone: self.zone };
        if let Some(rows) = apply(&self.calc, &batch, &eval)? {
            ctx.out.emit(rows);
        }
        Ok(Progress::Done)
    }
}
