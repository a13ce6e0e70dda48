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
        let eval = EvalContext::of(ctx, self.zone);
        if let Some(rows) = apply(&self.calc, &batch, &eval)? {
            ctx.out.emit(rows);
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use flott_core::types::TypeKind;
    use flott_plan::expr::{Expr, ExprKind, Literal};
    use flott_plan::spec::OperatorSpec;

    use crate::test_support::{columns, rows, verify};

    /// What a side output of late rows is made of: the watermark is the operator's own, NULL before the first.
    #[test]
    fn rows_see_the_watermark_that_came_before_them() {
        let input = columns(&[("ts", TypeKind::Timestamp(3))]);
        let ts = Expr::column(0, input[0].data_type.clone());
        let watermark = flott_expr::bind_call("CURRENT_WATERMARK", vec![ts.clone()]).expect("takes a timestamp");
        assert_eq!(watermark.data_type, TypeKind::Timestamp(3).nullable());
        let late = flott_expr::bind_call("<=", vec![ts.clone(), watermark.clone()]).expect("compares");
        let output =
            columns(&[("ts", TypeKind::Timestamp(3)), ("w", TypeKind::Timestamp(3)), ("l", TypeKind::Boolean)]);
        let calc =
            |filter| OperatorSpec::Calc { filter, projection: vec![ts.clone(), watermark.clone(), late.clone()] };
        let events = |spec: &OperatorSpec| {
            let one = |r| [rows(&input, &[r])];
            let test = verify(spec, std::slice::from_ref(&input), &output).input(0, one("+I[1970-01-01T00:00:05]"));
            let test = test.watermark(5_000).input(0, one("+I[1970-01-01T00:00:05]"));
            test.input(0, one("+I[1970-01-01T00:00:06]")).output().expect("runs")
        };
        let all = [
            "+I[1970-01-01T00:00:05, NULL, NULL]",
            "+I[1970-01-01T00:00:05, 1970-01-01T00:00:05, true]",
            "+I[1970-01-01T00:00:06, 1970-01-01T00:00:05, false]",
        ];
        assert_eq!(events(&calc(None)), all);
        assert_eq!(events(&calc(Some(late.clone()))), all[1..2], "the filter sees it too");
        let never = Expr { kind: ExprKind::Literal(Literal::Null), data_type: TypeKind::Boolean.nullable() };
        assert!(events(&calc(Some(never))).is_empty());
        assert!(!flott_expr::is_deterministic(&late), "it may not be moved or folded");
    }
}
