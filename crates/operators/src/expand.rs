//! Expand: each row once per projection, for grouping sets. Never keeps state; stops between projections when there is no room.

use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::types::Column;
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::expr::Expr;

use crate::calc::apply;
use crate::zone::session_zone;

/// The operator.
pub(crate) struct Expand {
    calcs: Vec<CompiledCalc>,
    zone: chrono_tz::Tz,
    /// The batch that is on its way out, and its next projection.
    rest: Option<(ChangeBatch, usize)>,
}

impl Expand {
    /// Compiles the projections.
    pub(crate) fn new(projections: &[Vec<Expr>], input: &[Column], output: &[Column]) -> Result<Self> {
        if projections.iter().any(|p| p.len() != output.len()) {
            return Err(Error::bug("the projections of an Expand differ in width"));
        }
        let names: Vec<String> = output.iter().map(|c| c.name.clone()).collect();
        let compile = |p: &Vec<Expr>| CompiledCalc::compile(None, p, input, &names);
        let calcs = projections.iter().map(compile).collect::<Result<_>>()?;
        Ok(Expand { calcs, zone: chrono_tz::UTC, rest: None })
    }
}

impl Operator for Expand {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.rest = Some((batch, 0));
        self.resume(ctx)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        let Some((batch, next)) = self.rest.take() else { return Ok(Progress::Done) };
        let eval = EvalContext::of(ctx, self.zone);
        for (i, calc) in self.calcs.iter().enumerate().skip(next) {
            if !ctx.out.has_room() {
                self.rest = Some((batch, i));
                return Ok(Progress::Blocked);
            }
            if let Some(rows) = apply(calc, &batch, &eval)? {
                ctx.out.emit(rows);
            }
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use flott_core::types::TypeKind;
    use flott_plan::expr::Literal;
    use flott_plan::spec::OperatorSpec;

    use super::*;
    use crate::test_support::{columns, rows, verify};

    #[test]
    fn each_row_comes_once_per_projection_with_its_kind() {
        let input = columns(&[("k", TypeKind::Int), ("v", TypeKind::BigInt)]);
        let output = columns(&[("k", TypeKind::Int), ("v", TypeKind::BigInt), ("$e", TypeKind::BigInt)]);
        let (int, big) = (TypeKind::Int.nullable(), TypeKind::BigInt.nullable());
        let number = |n| Expr::literal(Literal::Int(n), big.clone());
        let projections = vec![
            vec![Expr::column(0, int.clone()), Expr::column(1, big.clone()), number(0)],
            vec![Expr::literal(Literal::Null, int), Expr::column(1, big.clone()), number(1)],
        ];
        verify(&OperatorSpec::Expand { projections }, std::slice::from_ref(&input), &output)
            .input(0, [rows(&input, &["+I[1, 10]"]), rows(&input, &["-D[1, 10]"])])
            .expect(&["+I[1, 10, 0]", "+I[NULL, 10, 1]", "-D[1, 10, 0]", "-D[NULL, 10, 1]"]);
    }
}
