//! Rows as often as a column says, without that column: the copies of INTERSECT ALL and EXCEPT ALL. Keeps nothing.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::types::{Column, arrow_schema};

use crate::emit::Pending;

/// The operator.
pub(crate) struct Repeat {
    count: usize,
    schema: SchemaRef,
    /// The batch that is being repeated, its row, and how many copies of that are out.
    work: Option<(ChangeBatch, usize, i64)>,
    pending: Pending,
}

impl Repeat {
    /// Repeats rows as often as the BIGINT column `count` says.
    pub(crate) fn new(count: usize, output: &[Column]) -> Self {
        Repeat { count, schema: arrow_schema(output), work: None, pending: Pending::default() }
    }

    /// The next batch of copies.
    fn step(&mut self, (batch, mut row, mut out): (ChangeBatch, usize, i64)) -> Result<()> {
        let column = batch.rows.column(self.count);
        let counts = column
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| Error::bug(format!("a number of copies is {}", column.data_type())))?;
        let mut rows: Vec<u32> = Vec::new();
        while row < batch.num_rows() && rows.len() < TARGET_BATCH_ROWS {
            let room = (TARGET_BATCH_ROWS - rows.len()) as i64;
            let copies = (counts.value(row) - out).clamp(0, room);
            rows.extend(std::iter::repeat_n(row as u32, copies as usize));
            out += copies;
            if out >= counts.value(row) {
                (row, out) = (row + 1, 0);
            }
        }
        let taken = batch.take(&UInt32Array::from(rows))?;
        let mut columns = taken.rows.columns().to_vec();
        columns.remove(self.count);
        let options = RecordBatchOptions::new().with_row_count(Some(taken.num_rows()));
        let copies = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        if copies.num_rows() > 0 {
            self.pending.push(ChangeBatch::new(copies, taken.kinds, None));
        }
        if row < batch.num_rows() {
            self.work = Some((batch, row, out));
        }
        Ok(())
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some(work) = self.work.take() else { return Ok(Progress::Done) };
            self.step(work)?;
        }
    }
}

impl Operator for Repeat {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.work = Some((batch, 0, 0));
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}

#[cfg(test)]
mod tests {
    use flott_core::types::TypeKind;
    use flott_plan::spec::OperatorSpec;

    use crate::test_support::{columns, rows, verify};

    #[test]
    fn rows_come_as_often_as_they_say() {
        let input = columns(&[("v", TypeKind::Int), ("n", TypeKind::BigInt)]);
        let output = columns(&[("v", TypeKind::Int)]);
        let test = verify(&OperatorSpec::Repeat { count: 1 }, std::slice::from_ref(&input), &output);
        test.input(0, [rows(&input, &["+I[1, 2]", "-U[1, 2]", "+U[1, 3]", "+I[2, 1]", "+I[3, 0]"])])
            .end()
            .expect(&["+I[1]", "+I[1]", "-U[1]", "-U[1]", "+U[1]", "+U[1]", "+U[1]", "+I[2]"]);
    }

    #[test]
    fn many_copies_come_in_batches() {
        let input = columns(&[("v", TypeKind::Int), ("n", TypeKind::BigInt)]);
        let output = columns(&[("v", TypeKind::Int)]);
        let test = verify(&OperatorSpec::Repeat { count: 1 }, std::slice::from_ref(&input), &output);
        let out = test.input(0, [rows(&input, &["+I[1, 10000]"])]).end().output().expect("runs");
        assert_eq!(out.len(), 10_000);
    }
}
