//! The matrix passes a sound operator and catches each kind of broken one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_schema::DataType;
use bytes::Bytes;
use flott_core::operator::{OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::snapshot::Redistribution;

use super::*;

/// How a counter is broken.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Emits past a full outbox nothing: rows are lost.
    LosesRowsWhenFull,
    /// Keeps its count out of the checkpoint.
    ForgetsState,
    /// Says something once per batch instead of per row.
    CountsBatches,
}

/// Says every row twice, and at the end how many rows there were in all.
struct Twice {
    fault: Fault,
    seen: i64,
    say: Vec<ChangeBatch>,
}

fn columns() -> arrow_schema::SchemaRef {
    schema(&[("n", DataType::Int64), ("s", DataType::Utf8)])
}

impl Twice {
    fn emit(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        while !self.say.is_empty() {
            if !ctx.out.has_room() {
                if self.fault == Fault::LosesRowsWhenFull {
                    self.say.clear();
                    return Ok(Progress::Done);
                }
                return Ok(Progress::Blocked);
            }
            ctx.out.emit(self.say.remove(0));
        }
        Ok(Progress::Done)
    }
}

impl Operator for Twice {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        for item in ctx.operator_state.take("seen") {
            self.seen += i64::from_le_bytes(item.as_ref().try_into().expect("eight bytes"));
        }
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, rows: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.seen += if self.fault == Fault::CountsBatches { 1 } else { rows.num_rows() as i64 };
        for i in 0..rows.num_rows() {
            self.say.extend([rows.slice(i, 1), rows.slice(i, 1)]);
        }
        self.emit(ctx)
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            OperatorEvent::EndOfData if self.seen > 0 => {
                self.say.push(batch(&columns(), &[&format!("[{}, rows]", self.seen)]));
            }
            OperatorEvent::BeforeBarrier(_) if self.fault != Fault::ForgetsState => {
                let bytes = Bytes::copy_from_slice(&self.seen.to_le_bytes());
                ctx.operator_state.set("seen", Redistribution::Split, vec![bytes]);
            }
            _ => {}
        }
        self.emit(ctx)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.emit(ctx)
    }
}

fn test(fault: Fault) -> OperatorTest {
    verify_operator(move || Ok(Box::new(Twice { fault, seen: 0, say: Vec::new() }) as Box<dyn Operator>))
        .input(0, [batch(&columns(), &["[1, a]", "-D[2, NULL]"])])
        .watermark(5)
        .input(0, [batch(&columns(), &["+U[3, c]"])])
        .end()
}

const EXPECTED: [&str; 7] =
    ["+I[1, a]", "+I[1, a]", "-D[2, NULL]", "-D[2, NULL]", "+U[3, c]", "+U[3, c]", "+I[3, rows]"];

#[test]
fn a_sound_operator_passes_every_way() {
    test(Fault::None).expect(&EXPECTED);
    test(Fault::None).expect_any_order(&EXPECTED);
    test(Fault::None).expect_net(&[
        "+I[1, a]",
        "+I[1, a]",
        "-D[2, NULL]",
        "-D[2, NULL]",
        "+I[3, c]",
        "+I[3, c]",
        "+I[3, rows]",
    ]);
    let mut with_signals = EXPECTED.to_vec();
    with_signals.insert(4, "watermark 5");
    with_signals.insert(7, "watermark 9223372036854775807");
    test(Fault::None).with_signals().expect(&with_signals);
}

#[test]
fn broken_operators_are_caught_and_the_way_is_named() {
    for (fault, way) in [
        (Fault::LosesRowsWhenFull, "[full outbox]"),
        (Fault::ForgetsState, "[snapshot and restore]"),
        (Fault::CountsBatches, "[all at once]"),
    ] {
        let caught = catch_unwind(AssertUnwindSafe(|| test(fault).expect(&EXPECTED)));
        let message = crate::panics::message(&*caught.expect_err("a broken operator does not pass"));
        assert!(message.contains(way), "{message}");
    }
}

#[test]
fn a_rescaled_operator_keeps_its_state_and_each_key_its_subtask() {
    // Three phases: the counts of one subtask, then of three, are handed on; the end is said by those that have rows.
    let rows: Vec<String> = (0..30).map(|i| format!("[{i}, x]")).collect();
    let texts: Vec<&str> = rows.iter().map(String::as_str).collect();
    let passing = || verify_operator(|| Ok(Box::new(Pass) as Box<dyn Operator>)).keys(0, &[0]);
    let expected: Vec<String> = rows.iter().map(|r| format!("+I{r}")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let thirds = texts.chunks(10).map(|t| batch(&columns(), t));
    passing().input(0, thirds).expect(&expected);
    let wrong = catch_unwind(AssertUnwindSafe(|| {
        // Rows in an operator's memory do not survive rescaling.
        verify_operator(|| Ok(Box::new(Twice { fault: Fault::None, seen: 0, say: Vec::new() }) as Box<dyn Operator>))
            .keys(0, &[0])
            .input(0, texts.chunks(10).map(|t| batch(&columns(), t)))
            .end()
            .expect_net(&["+I[30, rows]"]);
    }));
    assert!(wrong.is_err());
}

struct Pass;

impl Operator for Pass {
    fn open(&mut self, _: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, rows: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        ctx.out.emit(rows);
        Ok(Progress::Done)
    }
}

#[test]
fn a_batch_reads_as_it_is_written() {
    let schema =
        schema(&[("t", DataType::Timestamp(arrow_schema::TimeUnit::Millisecond, None)), ("b", DataType::Boolean)]);
    let rows = ["-U[2020-01-01T00:00:01.500, true]", "+U[NULL, false]"];
    let b = batch(&schema, &rows);
    assert_eq!(render_batch(&b), rows);
    assert!(batch(&schema, &["[NULL, NULL]"]).kinds.is_none());
}
