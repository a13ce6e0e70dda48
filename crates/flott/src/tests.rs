//! Keyed operators run in every way the runtime may run them: row by row, with a full outbox, restored before every item, rescaled.

use std::sync::Arc;

use flott_core::batch::ChangeBatch;
use flott_core::element::Element;
use flott_core::operator::{OperatorFactory, TARGET_BATCH_ROWS};
use flott_plan::stream_graph::NodeKind;
use flott_runtime::testing::{BackendRequest, OperatorHarness, OperatorTest, verify_operator_factory};
use flott_state::MemoryStateBackend;
use serde::{Deserialize, Serialize};

use crate::*;

#[derive(Clone, Debug, Record, Serialize, Deserialize)]
struct Row {
    key: String,
    at: i64,
}

#[derive(Clone, Debug, Record)]
struct Out {
    key: String,
    start: i64,
    end: i64,
    result: i64,
}

#[derive(Clone)]
struct Count;

impl AggregateFunction for Count {
    type In = Row;
    type Acc = i64;
    type Out = i64;
    fn create_accumulator(&self) -> i64 {
        0
    }
    fn add(&self, _: Row, acc: &mut i64) -> Result<()> {
        *acc += 1;
        Ok(())
    }
    fn result(&self, acc: &i64) -> i64 {
        *acc
    }
    fn merge(&self, a: i64, b: i64) -> Result<i64> {
        Ok(a + b)
    }
}

fn keyed() -> KeyedStream<String, Row> {
    let rows = StreamExecutionEnvironment::new().from_collection::<Row>(Vec::new()).unwrap();
    rows.key_by(|r| r.key.clone())
}

fn factory<T: Record>(stream: &DataStream<T>) -> Arc<dyn OperatorFactory> {
    stream.env.with_graph(|g| match &g.node(stream.node).kind {
        NodeKind::Operator(factory) => Arc::clone(factory),
        _ => panic!("a keyed stream gives an operator"),
    })
}

fn backend(request: BackendRequest<'_>) -> Result<Box<dyn flott_core::state::StateBackend>> {
    let mut backend = MemoryStateBackend::new(request.key_groups, request.max_parallelism, request.clock);
    backend.restore(request.restored, &*request.chunks)?;
    Ok(Box::new(backend))
}

fn verify<T: Record>(stream: DataStream<T>) -> OperatorTest {
    verify_operator_factory(factory(&stream)).state_backend(backend).keys(0, &[2])
}

/// Rows such as `a5`: the key and the event time.
fn rows(text: &str) -> [ChangeBatch; 1] {
    let row = |r: &str| Row { key: r[..1].to_owned(), at: r[1..].parse().unwrap() };
    batch(text.split_whitespace().map(row).collect())
}

fn batch(rows: Vec<Row>) -> [ChangeBatch; 1] {
    let mut arrays = Row::to_arrays(&rows);
    arrays.extend(String::to_arrays(&rows.iter().map(|r| r.key.clone()).collect::<Vec<_>>()));
    let mut columns = Row::columns();
    columns.push(Column::new("key.value", TypeKind::STRING.not_null()));
    let schema = flott_core::types::arrow_schema(&columns);
    let batch = arrow_array::RecordBatch::try_new(schema, arrays).unwrap();
    [ChangeBatch::new(batch, None, Some(rows.iter().map(|r| r.at).collect()))]
}

fn count(assigner: WindowAssigner) -> DataStream<Out> {
    let emit = |key: &String, w: TimeWindow, result| Out { key: key.clone(), start: w.start_ms, end: w.end_ms, result };
    keyed().window(assigner).unwrap().aggregate(Count, emit)
}

#[test]
fn tumbling_windows_fire_once_and_drop_late_rows() {
    verify(count(TumblingEventTimeWindows::of(10)))
        .input(0, rows("a1 a9 b5 c11"))
        .watermark(9)
        .input(0, rows("a3 a12 b10"))
        .watermark(15)
        .input(0, rows("a14 b19"))
        .end()
        .expect_any_order(&[
            "+I[a, 0, 10, 2]",
            "+I[b, 0, 10, 1]",
            "+I[c, 10, 20, 1]",
            "+I[a, 10, 20, 2]",
            "+I[b, 10, 20, 2]",
        ]);
}

/// The two streams read one operator; its rows say which of the two they are for.
fn late(assigner: WindowAssigner) -> DataStream<Out> {
    let emit = |key: &String, w: TimeWindow, result| Out { key: key.clone(), start: w.start_ms, end: w.end_ms, result };
    keyed().window(assigner).unwrap().side_output_late_data().aggregate(Count, emit).0
}

#[test]
fn late_rows_of_tumbling_windows_come_out_at_the_side() {
    verify(late(TumblingEventTimeWindows::of(10)))
        .input(0, rows("a1 a9 b5 c11"))
        .watermark(9)
        .input(0, rows("a3 a12 b10"))
        .watermark(19)
        .input(0, rows("b9 a19 a20"))
        .end()
        .expect_any_order(&[
            "+I[false, a, 0, 10, 2, NULL, NULL]",
            "+I[false, b, 0, 10, 1, NULL, NULL]",
            "+I[true, NULL, NULL, NULL, NULL, a, 3]",
            "+I[false, c, 10, 20, 1, NULL, NULL]",
            "+I[false, a, 10, 20, 1, NULL, NULL]",
            "+I[false, b, 10, 20, 1, NULL, NULL]",
            "+I[true, NULL, NULL, NULL, NULL, b, 9]",
            "+I[true, NULL, NULL, NULL, NULL, a, 19]",
            "+I[false, a, 20, 30, 1, NULL, NULL]",
        ]);
}

#[test]
fn late_rows_of_sessions_come_out_at_the_side() {
    verify(late(EventTimeSessionWindows::with_gap(10)))
        .input(0, rows("a1 a5"))
        .watermark(20)
        .input(0, rows("a3 b15"))
        .end()
        .expect_any_order(&[
            "+I[false, a, 1, 15, 2, NULL, NULL]",
            "+I[true, NULL, NULL, NULL, NULL, a, 3]",
            "+I[false, b, 15, 25, 1, NULL, NULL]",
        ]);
}

#[test]
fn sliding_windows_hold_a_row_each() {
    verify(count(SlidingEventTimeWindows::of(10, 5)))
        .input(0, rows("a7 a12"))
        .watermark(9)
        .input(0, rows("a8"))
        .end()
        // a8 is late for 0..10, which fired with one row, and in time for 5..15.
        .expect_any_order(&["+I[a, 0, 10, 1]", "+I[a, 5, 15, 3]", "+I[a, 10, 20, 1]"]);
}

#[test]
fn sessions_merge_when_they_touch() {
    verify(count(EventTimeSessionWindows::with_gap(5)))
        .input(0, rows("a1 a6 b3 a20 b30"))
        .watermark(2)
        .input(0, rows("a11"))
        // Exactly the gap after 11, and closer than the gap to 20: one session of all.
        .input(0, rows("a16"))
        .watermark(29)
        .input(0, rows("a22 a26 b26"))
        .end()
        // a22 is late; a26 is not, and b26 reaches the open session of b.
        .expect_any_order(&["+I[a, 1, 25, 5]", "+I[b, 3, 8, 1]", "+I[a, 26, 31, 1]", "+I[b, 26, 35, 2]"]);
}

#[test]
fn a_windowed_reduce_keeps_the_row_type() {
    let latest = |a: Row, b: Row| if b.at > a.at { b } else { a };
    verify(keyed().window(TumblingEventTimeWindows::of(10)).unwrap().reduce(latest))
        .input(0, rows("a1 a9 a4 b5 a10"))
        .end()
        .expect_any_order(&["+I[a, 9]", "+I[b, 5]", "+I[a, 10]"]);
}

#[test]
fn processing_time_windows_fire_by_the_clock_and_at_the_end() {
    verify(count(TumblingProcessingTimeWindows::of(10)))
        .input(0, rows("a500"))
        .processing_time(9)
        .input(0, rows("a3 b1"))
        .processing_time(10)
        .input(0, rows("a4"))
        .end()
        .expect_any_order(&["+I[a, 0, 10, 2]", "+I[b, 0, 10, 1]", "+I[a, 10, 20, 1]"]);
}

#[test]
fn running_reduce_and_aggregate_emit_after_every_row() {
    let latest = |a: Row, b: Row| if b.at > a.at { b } else { a };
    verify(keyed().reduce(latest))
        .input(0, rows("a1 a5 b2 a3"))
        .end()
        .expect_any_order(&["+I[a, 1]", "+I[a, 5]", "+I[b, 2]", "+I[a, 5]"]);
    verify(keyed().aggregate(Count))
        .input(0, rows("a1 a5 b2"))
        .input(0, rows("a9"))
        .end()
        .expect_any_order(&["+I[1]", "+I[2]", "+I[1]", "+I[3]"]);
}

/// Uses every kind of state. Per key and ten milliseconds it emits the count, once the watermark passes; a row at 99 deletes the
/// timer of its key's first ten.
#[derive(Clone, Default)]
struct Tens {
    tens: MapState<i64, i64>,
    seen: ListState<i64>,
    newest: ReducingState<i64>,
    count: AggregatingState<Count>,
    last: ValueState<i64>,
}

impl KeyedProcessFunction for Tens {
    type Key = String;
    type In = Row;
    type Out = Out;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.tens = ctx.map_state("tens")?;
        self.seen = ctx.list_state("seen")?;
        self.newest = ctx.reducing_state("newest", i64::max)?;
        self.count = ctx.aggregating_state("count", Count)?;
        self.last = ctx.value_state("last")?;
        Ok(())
    }
    fn process(&mut self, row: Row, ctx: &mut Context<'_, Self>) -> Result<()> {
        assert_eq!(ctx.timestamp_ms(), Some(row.at));
        if row.at == 99 {
            return ctx.delete_event_timer(9);
        }
        let tens = row.at / 10;
        let n = self.tens.get(ctx, &tens)?.unwrap_or(0);
        self.tens.put(ctx, &tens, &(n + 1))?;
        self.seen.add(ctx, row.at)?;
        self.newest.add(ctx, row.at)?;
        self.last.set(ctx, row.at)?;
        self.count.add(ctx, row)?;
        ctx.register_event_timer(tens * 10 + 9)
    }
    fn on_timer(&mut self, time_ms: i64, domain: TimeDomain, ctx: &mut Context<'_, Self>) -> Result<()> {
        assert_eq!((domain, ctx.timestamp_ms()), (TimeDomain::EventTime, Some(time_ms)));
        assert!(ctx.watermark_ms() >= time_ms);
        let n = self.tens.get(ctx, &(time_ms / 10))?.unwrap_or(0);
        self.tens.remove(ctx, &(time_ms / 10))?;
        if self.tens.is_empty(ctx)? {
            let seen = self.seen.get(ctx)?;
            assert_eq!(self.newest.get(ctx)?, seen.iter().copied().max());
            assert_eq!(self.last.get(ctx)?, seen.last().copied());
            assert_eq!(self.count.get(ctx)?, i64::try_from(seen.len()).ok());
            self.seen.clear(ctx)?;
            self.newest.clear(ctx)?;
            self.count.clear(ctx)?;
            self.last.clear(ctx)?;
        }
        let key = ctx.key().clone();
        ctx.collect(Out { key, start: time_ms - 9, end: time_ms + 1, result: n });
        Ok(())
    }
}

#[test]
fn process_functions_have_state_and_timers() {
    verify(keyed().process(Tens::default()))
        .input(0, rows("a1 b2 a12 a5 c3"))
        .input(0, rows("c99"))
        .watermark(9)
        .input(0, rows("a13 b25 b21"))
        .watermark(19)
        .end()
        .expect_any_order(&["+I[a, 0, 10, 2]", "+I[b, 0, 10, 1]", "+I[a, 10, 20, 2]", "+I[b, 20, 30, 2]"]);
}

/// Rearms itself twice while timers fire.
#[derive(Clone)]
struct Rearm;

impl KeyedProcessFunction for Rearm {
    type Key = String;
    type In = Row;
    type Out = (String, i64);
    fn process(&mut self, row: Row, ctx: &mut Context<'_, Self>) -> Result<()> {
        ctx.register_event_timer(row.at)?;
        ctx.register_processing_timer(20)
    }
    fn on_timer(&mut self, time_ms: i64, domain: TimeDomain, ctx: &mut Context<'_, Self>) -> Result<()> {
        let key = ctx.key().clone();
        if domain == TimeDomain::EventTime && time_ms < 3 {
            ctx.register_event_timer(time_ms + 1)?;
        }
        if domain == TimeDomain::ProcessingTime {
            assert_eq!(ctx.timestamp_ms(), None);
        }
        ctx.collect((key, time_ms));
        Ok(())
    }
}

#[test]
fn a_timer_may_register_others() {
    verify(keyed().process(Rearm))
        .input(0, rows("a1 b2"))
        .watermark(10)
        .processing_time(20)
        .processing_time(21)
        .end()
        .expect_any_order(&["+I[a, 1]", "+I[a, 2]", "+I[b, 2]", "+I[a, 3]", "+I[b, 3]", "+I[a, 20]", "+I[b, 20]"]);
}

#[derive(Clone, Default)]
struct Forgetful(ValueState<i64>);

impl KeyedProcessFunction for Forgetful {
    type Key = String;
    type In = Row;
    type Out = i64;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.0 = ctx.value_state(StateDescriptor::new("n").with_ttl(Ttl { ttl_ms: 50, update_on_read: false }))?;
        Ok(())
    }
    fn process(&mut self, _: Row, ctx: &mut Context<'_, Self>) -> Result<()> {
        let n = self.0.get(ctx)?.unwrap_or(0) + 1;
        self.0.set(ctx, n)?;
        ctx.collect(n);
        Ok(())
    }
}

#[test]
fn state_expires() {
    verify(keyed().process(Forgetful::default()))
        .input(0, rows("a1"))
        .processing_time(10)
        .input(0, rows("a2"))
        .processing_time(100)
        .input(0, rows("a3"))
        .end()
        .expect_any_order(&["+I[1]", "+I[2]", "+I[1]"]);
}

#[test]
fn many_timers_come_out_in_batches() {
    for stream in [factory(&keyed().process(Tens::default())), factory(&count(TumblingEventTimeWindows::of(10)))] {
        let mut harness = OperatorHarness::builder(stream).backend(Arc::new(backend)).outbox(1).build().unwrap();
        let all = (0..10_000).map(|i| Row { key: format!("{i}"), at: 1 }).collect();
        let [all] = batch(all);
        harness.batch(0, all).unwrap();
        harness.watermark(9).unwrap();
        let sizes: Vec<usize> = harness
            .take_output()
            .iter()
            .filter_map(|e| if let Element::Batch(b) = e { Some(b.num_rows()) } else { None })
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 10_000);
        assert!(sizes.iter().all(|n| *n <= TARGET_BATCH_ROWS), "{sizes:?}");
    }
}

#[test]
fn late_rows_are_counted() {
    for (assigner, late) in [(TumblingEventTimeWindows::of(10), 2), (EventTimeSessionWindows::with_gap(2), 1)] {
        let operator = factory(&count(assigner));
        let mut harness = OperatorHarness::builder(operator).backend(Arc::new(backend)).build().unwrap();
        harness.watermark(9).unwrap();
        let [batch] = rows("a9 a11 b6 a10");
        harness.batch(0, batch).unwrap();
        // A session of a9 would end at 11, after the watermark.
        assert_eq!(harness.metrics().late_dropped.get(), late);
    }
}

#[test]
fn mistakes_are_named() {
    let no_time = |operator| {
        let mut harness = OperatorHarness::builder(operator).backend(Arc::new(backend)).build().unwrap();
        let [mut batch] = rows("a1");
        batch.times = None;
        harness.batch(0, batch).unwrap_err().code()
    };
    assert_eq!(no_time(factory(&count(TumblingEventTimeWindows::of(10)))), "datastream.no-event-time");
    assert_eq!(no_time(factory(&count(EventTimeSessionWindows::with_gap(10)))), "datastream.no-event-time");
    let zero = keyed().window(SlidingEventTimeWindows::of(10, 0)).err().map(|e| e.code());
    assert_eq!(zero, Some("datastream.window"));

    #[derive(Clone, Default)]
    struct NotOpen(ValueState<i64>);
    impl KeyedProcessFunction for NotOpen {
        type Key = String;
        type In = Row;
        type Out = i64;
        fn process(&mut self, _: Row, ctx: &mut Context<'_, Self>) -> Result<()> {
            self.0.set(ctx, 1)
        }
    }
    let operator = factory(&keyed().process(NotOpen::default()));
    let mut harness = OperatorHarness::builder(operator).backend(Arc::new(backend)).build().unwrap();
    let [batch] = rows("a1");
    let error = harness.batch(0, batch).unwrap_err();
    assert_eq!(error.code(), "datastream.state-not-open");
    assert!(error.to_string().contains("operator"), "{error}");
}

#[test]
fn records_keep_their_values() {
    #[derive(Clone, Debug, PartialEq, Record)]
    struct All {
        rows: bool,
        all: Option<i8>,
        arrays: i16,
        length: Option<i32>,
        r#type: f32,
        f: Option<f64>,
        s: Option<String>,
        t: Option<Timestamp>,
    }
    let full = All {
        rows: true,
        all: Some(-1),
        arrays: 2,
        length: Some(3),
        r#type: 0.5,
        f: Some(1.5),
        s: Some("x".into()),
        t: Some(Timestamp(-1)),
    };
    let empty = All { all: None, length: None, f: None, s: None, t: None, ..full.clone() };
    let values = vec![full, empty];
    assert_eq!(All::from_arrays(&All::to_arrays(&values)).unwrap(), values);
    assert_eq!(All::columns()[4].name, "type");
    let nulls = Option::<i64>::to_array(&mut [None].iter());
    let error = <i64 as FieldType>::from_array(&nulls, "n").unwrap_err();
    assert!(error.code() == "datastream.null" && error.to_string().contains("`n`"));
    assert_eq!(<String as FieldType>::from_array(&nulls, "n").unwrap_err().code(), "datastream.type");
}
