//! What happens to the rows of a SQL source first: computed columns, and watermarks per split. Never drops a row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::source::{SourceTransform, SourceTransformFactory};
use flott_core::time::{SharedClock, SystemClock};
use flott_core::types::Column;
use flott_expr::{CompiledCalc, CompiledExpr, EvalContext};
use flott_plan::expr::{Expr, ExprKind, Literal};
use flott_plan::spec::SourceTransformSpec;

use crate::calc::apply;
use crate::zone::parse_zone;

/// The factory of per-split transforms, with the machine's clock as processing time.
pub fn source_transform(spec: &SourceTransformSpec) -> Result<Arc<dyn SourceTransformFactory>> {
    source_transform_with(spec, SystemClock::shared())
}

/// The factory of per-split transforms; refuses expressions that do not compile.
pub fn source_transform_with(
    spec: &SourceTransformSpec,
    clock: SharedClock,
) -> Result<Arc<dyn SourceTransformFactory>> {
    let factory = Factory { zone: parse_zone(&spec.zone)?, spec: spec.clone(), clock };
    factory.create()?;
    Ok(Arc::new(factory))
}

struct Factory {
    spec: SourceTransformSpec,
    zone: chrono_tz::Tz,
    clock: SharedClock,
}

impl SourceTransformFactory for Factory {
    fn create(&self) -> Result<Box<dyn SourceTransform>> {
        let spec = &self.spec;
        let is_column = |(i, e): (usize, &Expr)| e.kind == ExprKind::Column(i);
        let identity = spec.projection.len() == spec.physical.len()
            && spec.projection.iter().enumerate().all(is_column)
            && spec.physical.iter().zip(&spec.output).all(|(p, o)| p.name == o.name);
        let names: Vec<String> = spec.output.iter().map(|c| c.name.clone()).collect();
        let calc = match identity {
            true => None,
            false => Some(CompiledCalc::compile(None, &spec.projection, &spec.physical, &names)?),
        };
        let watermark =
            spec.watermark.as_ref().map(|(rowtime, expr)| Watermark::new(*rowtime, expr, &spec.output)).transpose()?;
        Ok(Box::new(Transform { calc, watermark, zone: self.zone, clock: self.clock.clone(), last: None }))
    }
    fn has_watermarks(&self) -> bool {
        self.spec.watermark.is_some()
    }
}

/// How the watermark follows from a batch.
enum Rule {
    /// `rowtime - constant`.
    Delay(i64),
    /// Anything else.
    Computed(CompiledExpr),
}

struct Watermark {
    rowtime: usize,
    name: String,
    rule: Rule,
}

impl Watermark {
    fn new(rowtime: usize, expr: &Expr, output: &[Column]) -> Result<Self> {
        let rule = match delay_ms(expr, rowtime) {
            Some(delay) => Rule::Delay(delay),
            None => Rule::Computed(CompiledExpr::compile(expr, output)?),
        };
        Ok(Watermark { rowtime, name: output[rowtime].name.clone(), rule })
    }
    fn of(&self, rows: &RecordBatch, eval: &EvalContext) -> Result<Option<i64>> {
        let rowtime = rows.column(self.rowtime);
        if rowtime.null_count() > 0 {
            return Err(null_rowtime(&self.name));
        }
        match &self.rule {
            Rule::Delay(delay) => Ok(max_ms(rowtime)?.map(|t| t.saturating_sub(*delay))),
            Rule::Computed(expr) => max_ms(&expr.evaluate(rows, eval)?),
        }
    }
}

/// NULL in a time attribute, as Flink refuses it.
pub(crate) fn null_rowtime(column: &str) -> Error {
    Error::user("sql.null-rowtime", format!("rowtime column `{column}` is NULL in a row; it must not be"))
        .hint("filter such rows before the WATERMARK, or compute the column with COALESCE")
}

fn delay_ms(expr: &Expr, rowtime: usize) -> Option<i64> {
    match &expr.kind {
        ExprKind::Column(c) if *c == rowtime => Some(0),
        ExprKind::Call { function, args } if function == "-" => match &args[..] {
            [Expr { kind: ExprKind::Column(c), .. }, Expr { kind: ExprKind::Literal(Literal::Int(ms)), data_type }]
                if *c == rowtime && data_type.kind == flott_core::types::TypeKind::IntervalDayTime =>
            {
                Some(*ms)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The greatest timestamp of a column in milliseconds, rounded down.
fn max_ms(column: &ArrayRef) -> Result<Option<i64>> {
    fn max(values: &[i64], column: &ArrayRef) -> Option<i64> {
        if column.null_count() == 0 {
            return values.iter().copied().max();
        }
        (0..values.len()).filter(|&i| column.is_valid(i)).map(|i| values[i]).max()
    }
    match column.data_type() {
        Arrow::Timestamp(TimeUnit::Millisecond, _) => {
            Ok(max(column.as_primitive::<TimestampMillisecondType>().values(), column))
        }
        Arrow::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            Ok(max(values, column).map(|t| t.div_euclid(1_000)))
        }
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>().values();
            Ok(max(values, column).map(|t| t.div_euclid(1_000_000)))
        }
        other => Err(Error::bug(format!("a watermark has type {other}"))),
    }
}

struct Transform {
    calc: Option<CompiledCalc>,
    watermark: Option<Watermark>,
    zone: chrono_tz::Tz,
    clock: SharedClock,
    last: Option<i64>,
}

impl SourceTransform for Transform {
    fn apply(&mut self, batch: ChangeBatch) -> Result<(ChangeBatch, Option<i64>)> {
        let eval = EvalContext::new(self.clock.now_ms(), self.zone);
        let batch = match &self.calc {
            Some(calc) => apply(calc, &batch, &eval)?.unwrap_or_else(|| batch.slice(0, 0)),
            None => batch,
        };
        let Some(watermark) = &self.watermark else { return Ok((batch, None)) };
        let now = watermark.of(&batch.rows, &eval)?;
        let moved = now.filter(|now| self.last.is_none_or(|last| *now > last));
        self.last = moved.or(self.last);
        Ok((batch, moved))
    }
}

#[cfg(test)]
mod tests {
    use flott_core::types::TypeKind;

    use super::*;
    use crate::test_support::{columns, rows};

    fn transform(watermark: Expr) -> Box<dyn SourceTransform> {
        let ts = TypeKind::Timestamp(3);
        let physical = columns(&[("v", TypeKind::BigInt), ("t", ts.clone())]);
        let output = columns(&[("t", ts), ("w", TypeKind::BigInt)]);
        let column = |i: usize| Expr::column(i, physical[i].data_type.clone());
        let one = Expr::literal(Literal::Int(1), TypeKind::BigInt.not_null());
        let projection = vec![column(1), Expr::call("+", vec![column(0), one], TypeKind::BigInt.nullable())];
        let (watermark, zone) = (Some((0, watermark)), "UTC".into());
        let spec = SourceTransformSpec { physical, projection, output, watermark, zone };
        let factory = source_transform(&spec).expect("it compiles");
        assert!(factory.has_watermarks());
        factory.create().expect("it compiles")
    }

    fn rowtime() -> Expr {
        Expr::column(0, TypeKind::Timestamp(3).nullable())
    }

    fn delayed() -> Expr {
        let delay = Expr::literal(Literal::Int(1_000), TypeKind::IntervalDayTime.not_null());
        Expr::call("-", vec![rowtime(), delay], TypeKind::Timestamp(3).nullable())
    }

    #[test]
    fn computes_columns_and_rising_watermarks() {
        let input = columns(&[("v", TypeKind::BigInt), ("t", TypeKind::Timestamp(3))]);
        // The second rule is not recognised as a constant delay, and gives the same.
        let case = ExprKind::Case { branches: vec![(Expr::boolean(true), delayed())], otherwise: None };
        let computed = Expr { kind: case, data_type: TypeKind::Timestamp(3).nullable() };
        for watermark in [delayed(), computed] {
            let mut transform = transform(watermark);
            let first = rows(&input, &["[1, 1970-01-01T00:00:05]", "[2, 1970-01-01T00:00:03]"]);
            let (out, moved) = transform.apply(first).expect("applies");
            assert_eq!(
                flott_runtime::testing::render_batch(&out),
                ["+I[1970-01-01T00:00:05, 2]", "+I[1970-01-01T00:00:03, 3]"]
            );
            assert_eq!(moved, Some(4_000));
            let (_, moved) = transform.apply(rows(&input, &["[1, 1970-01-01T00:00:04]"])).expect("applies");
            assert_eq!(moved, None);
        }
    }

    #[test]
    fn a_null_rowtime_is_refused_by_name() {
        let input = columns(&[("v", TypeKind::BigInt), ("t", TypeKind::Timestamp(3))]);
        let error = transform(rowtime()).apply(rows(&input, &["[1, NULL]"])).expect_err("refused");
        assert_eq!(error.code(), "sql.null-rowtime");
        assert!(error.message().contains("`t`"), "{error}");
    }
}
