//! The lookup join over a table in memory with delays and failures: in the operator matrix, and what is under way at a barrier.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{RecordBatch, UInt32Array};
use flott_core::ErrorKind;
use flott_core::element::Signal;
use flott_core::error::{Error, Result};
use flott_core::lookup::{Lookup, LookupCache, LookupContext, LookupOptions, LookupRows, LookupSource};
use flott_core::operator::Operator;
use flott_core::sink::ChangelogMode;
use flott_core::snapshot::OperatorSubtaskState;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::{JoinKind, LookupJoinOptions, LookupJoinSpec, LookupMissRetry};
use flott_runtime::testing::{OperatorHarness, OperatorTest, render_element, verify_operator};

use crate::test_support::{columns, rows};

/// A table of (id INT, name STRING) that answers late, and fails as often as it is told.
struct Table {
    rows: Mutex<BTreeMap<i32, Vec<&'static str>>>,
    options: LookupOptions,
    delay: Duration,
    failures: AtomicI64,
    calls: AtomicUsize,
    asked: AtomicUsize,
}

impl Table {
    fn new(options: LookupOptions) -> Self {
        let rows = [(1, vec!["one"]), (2, vec!["two", "deux"]), (3, vec!["three"])];
        Table {
            rows: Mutex::new(rows.into_iter().collect()),
            options,
            delay: Duration::from_micros(300),
            failures: AtomicI64::new(0),
            calls: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }
    }
}

struct Source(Arc<Table>);

impl LookupSource for Source {
    fn connect(&self, _: LookupContext) -> Result<Box<dyn Lookup>> {
        Ok(Box::new(Source(Arc::clone(&self.0))))
    }
    fn options(&self) -> LookupOptions {
        self.0.options
    }
}

impl Lookup for Source {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        std::thread::sleep(self.0.delay);
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        self.0.asked.fetch_add(keys.num_rows(), Ordering::SeqCst);
        if self.0.failures.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Error::retry("test.down", "the table cannot be reached"));
        }
        let (mut owners, mut lines) = (Vec::new(), Vec::new());
        let table = self.0.rows.lock().expect("no test panics here");
        for (i, id) in keys.column(0).as_primitive::<Int32Type>().values().iter().enumerate() {
            for name in table.get(id).into_iter().flatten() {
                owners.push(i as u32);
                lines.push(format!("[{id}, {name}]"));
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Ok(LookupRows { keys: UInt32Array::from(owners), rows: rows(&dim(), &lines).rows })
    }
}

fn dim() -> Vec<Column> {
    columns(&[("id", TypeKind::Int), ("name", TypeKind::STRING)])
}

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("v", TypeKind::Int)])
}

fn spec(kind: JoinKind, input_mode: ChangelogMode) -> LookupJoinSpec {
    LookupJoinSpec {
        kind,
        keys: vec![0],
        table: dim(),
        projection: vec![Expr::column(1, TypeKind::STRING.nullable())],
        condition: None,
        input_mode,
        options: LookupJoinOptions::default(),
    }
}

fn make(spec: &LookupJoinSpec, table: &Arc<Table>) -> Result<Box<dyn Operator>> {
    let source: Arc<dyn LookupSource> = Arc::new(Source(Arc::clone(table)));
    let mut output = input();
    output.push(Column::new("name", TypeKind::STRING.nullable()));
    crate::lookup_join(spec, &source, &[input()], &output)
}

fn join(spec: LookupJoinSpec, options: LookupOptions) -> OperatorTest {
    verify_operator(move || make(&spec, &Arc::new(Table::new(options))))
}

fn cached() -> LookupOptions {
    let cache =
        LookupCache { max_rows: 2, expire_after_write_ms: None, expire_after_access_ms: None, cache_missing_key: true };
    LookupOptions { cache: Some(cache), max_retries: 3, retry_backoff_ms: 1 }
}

#[test]
fn rows_leave_in_the_order_they_came_whatever_is_cached() {
    let input = input();
    let batches = || {
        [
            rows(&input, &["[1, 10]", "[2, 20]", "[NULL, 30]", "[9, 40]", "[1, 50]"]),
            rows(&input, &["[3, 60]", "[2, 70]"]),
            rows(&input, &["[NULL, 80]"]),
        ]
    };
    for options in [LookupOptions::default(), cached()] {
        for parallel in [false, true] {
            let mut inner = spec(JoinKind::Inner, ChangelogMode::Append);
            inner.options.parallel = parallel;
            join(inner, options).input(0, batches()).watermark(5).input(0, batches()[..1].to_vec()).end().expect(&[
                "+I[1, 10, one]",
                "+I[2, 20, two]",
                "+I[2, 20, deux]",
                "+I[1, 50, one]",
                "+I[3, 60, three]",
                "+I[2, 70, two]",
                "+I[2, 70, deux]",
                "+I[1, 10, one]",
                "+I[2, 20, two]",
                "+I[2, 20, deux]",
                "+I[1, 50, one]",
            ]);
        }
        join(spec(JoinKind::Left, ChangelogMode::Append), options).input(0, batches()).end().expect(&[
            "+I[1, 10, one]",
            "+I[2, 20, two]",
            "+I[2, 20, deux]",
            "+I[NULL, 30, NULL]",
            "+I[9, 40, NULL]",
            "+I[1, 50, one]",
            "+I[3, 60, three]",
            "+I[2, 70, two]",
            "+I[2, 70, deux]",
            "+I[NULL, 80, NULL]",
        ]);
    }
}

#[test]
fn a_condition_decides_which_rows_match() {
    let input = input();
    let mut left = spec(JoinKind::Left, ChangelogMode::Append);
    let name = Expr::column(2, TypeKind::STRING.nullable());
    let two = Expr::literal(flott_plan::expr::Literal::String("two".into()), TypeKind::STRING.not_null());
    left.condition = Some(Expr::call("=", vec![name, two], TypeKind::Boolean.nullable()));
    join(left, cached())
        .input(0, [rows(&input, &["[1, 10]", "[2, 20]"])])
        .end()
        .expect(&["+I[1, 10, NULL]", "+I[2, 20, two]"]);
}

#[test]
fn changes_keep_their_kinds_and_order() {
    let input = input();
    let batches = ["+I[1, 10]", "-U[1, 10]", "+U[2, 10]", "-D[2, 10]"].map(|r| rows(&input, &[r]));
    join(spec(JoinKind::Left, ChangelogMode::Retract), LookupOptions::default()).input(0, batches).end().expect(&[
        "+I[1, 10, one]",
        "-U[1, 10, one]",
        "+U[2, 10, two]",
        "+U[2, 10, deux]",
        "-D[2, 10, two]",
        "-D[2, 10, deux]",
    ]);
}

fn open(spec: &LookupJoinSpec, table: &Arc<Table>, restored: &[OperatorSubtaskState]) -> OperatorHarness {
    let (spec, table) = (spec.clone(), Arc::clone(table));
    let factory = Arc::new(move || make(&spec, &table));
    OperatorHarness::builder(factory).outbox(64).restored(restored).build().expect("opens")
}

fn lines(harness: &mut OperatorHarness) -> Vec<String> {
    harness.take_output().iter().flat_map(|e| render_element(e, true)).collect()
}

#[test]
fn watermarks_and_idleness_stay_behind_their_rows_and_barriers_do_not_wait() {
    let slow = Table { delay: Duration::from_millis(100), ..Table::new(LookupOptions::default()) };
    let (table, spec) = (Arc::new(slow), spec(JoinKind::Inner, ChangelogMode::Append));
    let mut first = open(&spec, &table, &[]);
    first.batch(0, rows(&input(), &["[1, 10]", "[3, 30]"])).expect("taken");
    first.watermark(7).expect("taken");
    first.signal(Signal::Idle).expect("taken");
    let state = first.checkpoint().expect("a barrier passes what is under way");
    assert!(lines(&mut first).is_empty(), "nothing is answered yet");
    assert_eq!(state.operator_state.iter().map(|e| e.items.len()).sum::<usize>(), 1);
    first.wait().expect("answered");
    assert_eq!(lines(&mut first), ["+I[1, 10, one]", "+I[3, 30, three]", "watermark 7", "idle"]);
    first.signal(Signal::Active).expect("taken");
    assert_eq!(lines(&mut first), ["active"]);
    assert!(first.checkpoint().expect("passes").operator_state.iter().all(|e| e.items.is_empty()));
    let mut second = open(&spec, &table, &[state]);
    second.wait().expect("answered");
    assert_eq!(lines(&mut second), ["+I[1, 10, one]", "+I[3, 30, three]"]);
}

#[test]
fn a_full_queue_takes_no_more_rows_and_still_lets_barriers_pass() {
    let slow = Table { delay: Duration::from_millis(20), ..Table::new(LookupOptions::default()) };
    let (table, spec) = (Arc::new(slow), spec(JoinKind::Inner, ChangelogMode::Append));
    let mut harness = open(&spec, &table, &[]);
    let mut taken = 0;
    while harness.accepts_rows() {
        harness.batch(0, rows(&input(), &["[1, 10]"])).expect("taken");
        taken += 1;
        assert!(taken < 100, "the queue is bounded");
    }
    harness.checkpoint().expect("a barrier passes");
    harness.wait().expect("answered");
    assert!(harness.accepts_rows());
    assert_eq!(lines(&mut harness).len(), taken);
}

#[test]
fn failures_that_may_pass_are_tried_again_and_then_fail_the_job() {
    let spec = spec(JoinKind::Inner, ChangelogMode::Append);
    let run = |failures| {
        let table = Arc::new(Table::new(cached()));
        table.failures.store(failures, Ordering::SeqCst);
        let mut harness = open(&spec, &table, &[]);
        harness.batch(0, rows(&input(), &["[1, 10]"])).and_then(|()| harness.wait()).map(|()| {
            assert_eq!(harness.metrics().external.retries.get(), failures as u64);
            lines(&mut harness)
        })
    };
    assert_eq!(run(3).expect("the fourth try succeeds"), ["+I[1, 10, one]"]);
    let error = run(4).expect_err("three retries are not enough");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Retry, "test.down"));
    assert!(error.to_string().contains("failed 4 times"), "{error}");
}

#[test]
fn a_cached_key_is_asked_for_once_and_keys_of_a_batch_once() {
    let table = Arc::new(Table::new(cached()));
    let mut harness = open(&spec(JoinKind::Inner, ChangelogMode::Append), &table, &[]);
    for _ in 0..3 {
        harness.batch(0, rows(&input(), &["[1, 10]", "[9, 1]", "[1, 11]"])).expect("taken");
        harness.wait().expect("answered");
    }
    assert_eq!((table.calls.load(Ordering::SeqCst), table.asked.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn a_missing_row_is_asked_for_again_when_the_hint_says_so() {
    let mut spec = spec(JoinKind::Left, ChangelogMode::Append);
    spec.options.retry_miss = Some(LookupMissRetry { delay_ms: 20, max_attempts: 500 });
    let table = Arc::new(Table::new(LookupOptions::default()));
    let mut harness = open(&spec, &table, &[]);
    harness.batch(0, rows(&input(), &["[1, 10]", "[7, 70]"])).expect("taken");
    std::thread::sleep(Duration::from_millis(60));
    table.rows.lock().expect("no test panics here").insert(7, vec!["seven"]);
    harness.wait().expect("answered");
    assert_eq!(lines(&mut harness), ["+I[1, 10, one]", "+I[7, 70, seven]"]);
    assert!(table.calls.load(Ordering::SeqCst) > 1);
}
