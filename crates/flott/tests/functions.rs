//! Functions of the user in SQL: types from closures, NULL, errors and panics with name and place, vectorised ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{Array, Int64Array};
use flott::{
    ArrayRef, Column, DataType, Error, Function, Result, ScalarFunction, Signature, StreamExecutionEnvironment,
    TypeKind, function,
};

fn rows<T: flott::Record + Ord>(env: &StreamExecutionEnvironment, query: &str) -> Result<Vec<T>> {
    let mut rows = env.sql_query::<T>(query)?.execute_and_collect("functions")?;
    rows.sort();
    Ok(rows)
}

#[test]
fn types_come_from_the_closure() {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function(
        "repeat_text",
        function::scalar(|text: String, times: i64| text.repeat(times as usize)),
    );
    // The INT is cast to the BIGINT that the closure takes.
    let found = rows::<String>(&env, "SELECT REPEAT_TEXT(t, n) FROM (VALUES ('a', 2), ('b', 3)) AS v (t, n)");
    assert_eq!(found.expect("rows"), ["aa", "bbb"]);
    let error = env.sql_query::<String>("SELECT repeat_text(1, 'x')").err().expect("types that do not fit");
    assert!(
        error.to_string().contains("function `REPEAT_TEXT`: argument 1 is of type INT, and STRING is needed"),
        "{error}"
    );
    let error = env.sql_query::<String>("SELECT repeat_text('x')").err().expect("too few arguments");
    assert!(error.to_string().contains("takes 2 arguments, 1 are given"), "{error}");
}

#[test]
fn null_is_null_where_the_closure_takes_none() {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function("twice", function::scalar(|n: i64| n * 2));
    env.create_temporary_function("or_zero", function::scalar(|n: Option<i64>| n.unwrap_or(0)));
    let values = "(VALUES (1), (CAST(NULL AS INT)), (3)) AS v (n)";
    let twice = rows::<Option64>(&env, &format!("SELECT twice(n) AS `value` FROM {values}")).expect("rows");
    assert_eq!(twice, [Option64(None), Option64(Some(2)), Option64(Some(6))]);
    assert_eq!(rows::<i64>(&env, &format!("SELECT or_zero(n) FROM {values}")).expect("rows"), [0, 1, 3]);
}

/// A nullable BIGINT as a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Option64(Option<i64>);

impl flott::Record for Option64 {
    fn columns() -> Vec<flott::Column> {
        vec![flott::Column::new("value", TypeKind::BigInt.nullable())]
    }
    fn to_arrays(rows: &[Self]) -> Vec<ArrayRef> {
        vec![Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())]
    }
    fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>> {
        let array = arrays[0].as_any().downcast_ref::<Int64Array>().ok_or_else(|| Error::bug("BIGINT"))?;
        Ok(array.iter().map(Option64).collect())
    }
}

#[test]
fn errors_and_panics_name_the_function_and_its_place() {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function(
        "positive",
        function::scalar(
            |n: i64| {
                if n < 0 { Err(Error::user("my.negative", format!("{n} is negative"))) } else { Ok(n) }
            },
        ),
    );
    env.create_temporary_function(
        "fragile",
        function::scalar(|n: i64| if n > 1 { panic!("cannot take {n}") } else { n }),
    );
    let error = rows::<i64>(&env, "SELECT\n  positive(n) FROM (VALUES (1), (-2)) AS v (n)").expect_err("an error");
    assert!(
        error.to_string().contains("line 2, column 3: ")
            && error.to_string().contains("function `POSITIVE`: -2 is negative"),
        "{error}"
    );
    let error = rows::<i64>(&env, "SELECT fragile(n) FROM (VALUES (1), (2)) AS v (n)").expect_err("a panic");
    assert!(error.to_string().contains("function `FRAGILE` panicked: cannot take 2"), "{error}");
}

#[test]
fn what_is_not_deterministic_is_called_for_every_row() {
    let env = StreamExecutionEnvironment::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    env.create_temporary_function(
        "ticket",
        function::nondeterministic_scalar(move |_: i32| counter.fetch_add(1, Ordering::SeqCst) as i64),
    );
    let found = rows::<i64>(&env, "SELECT ticket(1) FROM (VALUES (1), (2), (3)) AS v (n)").expect("rows");
    assert_eq!(found.len(), 3);
    assert!(calls.load(Ordering::SeqCst) >= 1, "never called");
}

/// The same over columns.
struct Sum;

impl ScalarFunction for Sum {
    fn bind(&self, args: &[DataType]) -> Result<Signature> {
        if args.is_empty() {
            return Err(Error::user("my.arguments", "at least one number is needed"));
        }
        Ok(Signature { args: vec![TypeKind::BigInt.nullable(); args.len()], result: TypeKind::BigInt.not_null() })
    }
    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mut sums = vec![0i64; rows];
        for array in args {
            let numbers = array.as_any().downcast_ref::<Int64Array>().ok_or_else(|| Error::bug("BIGINT"))?;
            sums.iter_mut().zip(numbers.iter()).for_each(|(s, n)| *s += n.unwrap_or(0));
        }
        // A wrong length must not go unnoticed.
        sums.truncate(if args.len() == 4 { 0 } else { rows });
        Ok(Arc::new(Int64Array::from(sums)))
    }
}

#[test]
fn a_function_over_columns_takes_any_number_of_arguments() {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function("total", Function::Scalar(Arc::new(Sum)));
    let found = rows::<i64>(&env, "SELECT total(a, b, 10) FROM (VALUES (1, 2), (3, 4)) AS v (a, b)").expect("rows");
    assert_eq!(found, [13, 17]);
    let error = env.sql_query::<i64>("SELECT total()").err().expect("no argument");
    assert!(error.to_string().contains("function `TOTAL`: at least one number is needed"), "{error}");
    let error = rows::<i64>(&env, "SELECT total(a, b, a, b) FROM (VALUES (1, 2)) AS v (a, b)").expect_err("too short");
    assert_eq!(error.code(), "function.result");
    assert!(env.drop_temporary_function("Total"));
    assert!(env.sql_query::<i64>("SELECT total(1)").is_err());
}

/// The words of a text, with their places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, flott::Record)]
struct Word {
    word: String,
    place: i32,
}

fn words(text: String) -> Vec<Word> {
    (1..).zip(text.split(' ')).filter(|(_, w)| !w.is_empty()).map(|(place, w)| Word { word: w.into(), place }).collect()
}

#[test]
fn table_functions_give_rows_in_sql() {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function("words", function::table(words));
    let texts = "(VALUES (1, 'b a'), (2, ''), (3, CAST(NULL AS STRING)), (4, 'c')) AS t (id, text)";
    let inner = format!("SELECT word, place FROM {texts}, LATERAL TABLE(words(text)) AS w");
    let word = |word: &str, place| Word { word: word.into(), place };
    assert_eq!(rows::<Word>(&env, &inner).expect("rows"), [word("a", 2), word("b", 1), word("c", 1)]);
    let left =
        format!("SELECT id FROM {texts} LEFT JOIN LATERAL TABLE(words(text)) AS w (x, n) ON TRUE WHERE x IS NULL");
    assert_eq!(rows::<i32>(&env, &left).expect("rows"), [2, 3]);
    let value = env.sql_query::<Word>("SELECT words('a b')").err().expect("no value");
    assert!(value.to_string().contains("WORDS is a table function and gives rows"), "{value}");
    let wrong = env.sql_query::<Word>("SELECT word, place FROM LATERAL TABLE(words(1)) AS w").err().expect("a type");
    assert!(wrong.to_string().contains("argument 1 is of type INT"), "{wrong}");
}

/// Promises one row of BIGINT for each row.
struct Promises(fn(usize) -> flott::TableRows);

impl flott::TableFunction for Promises {
    fn bind(&self, _: &[DataType]) -> Result<flott::TableSignature> {
        let columns = vec![Column::new("n", TypeKind::BigInt.nullable())];
        Ok(flott::TableSignature { args: vec![TypeKind::Int.nullable()], columns })
    }
    fn evaluate(&self, _: &[ArrayRef], rows: usize) -> Result<flott::TableRows> {
        Ok((self.0)(rows))
    }
}

#[test]
fn what_a_table_function_gives_is_checked() {
    let broken: [fn(usize) -> flott::TableRows; 4] = [
        |rows| flott::TableRows { rows: vec![rows as u32].into(), columns: vec![Arc::new(Int64Array::from(vec![1]))] },
        |_| flott::TableRows { rows: vec![1, 0].into(), columns: vec![Arc::new(Int64Array::from(vec![1, 2]))] },
        |_| flott::TableRows { rows: vec![0].into(), columns: vec![Arc::new(Int64Array::from(vec![1, 2]))] },
        |_| panic!("no rows today"),
    ];
    for (give, code) in
        broken.into_iter().zip(["function.result", "function.result", "function.result", "function.panic"])
    {
        let env = StreamExecutionEnvironment::new();
        env.create_temporary_function("broken", Function::Table(Arc::new(Promises(give))));
        let query = "SELECT n FROM (VALUES (1), (2)) AS v (x), LATERAL TABLE(broken(x)) AS t";
        let error = rows::<i64>(&env, query).expect_err("what it gives does not fit");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("function `BROKEN`"), "{error}");
    }
}

/// The longest text of a group and how often it came; keeps all texts, so that they can leave again.
struct Longest;

impl function::Aggregate for Longest {
    type In = (String, Option<i64>);
    type Acc = std::collections::BTreeMap<String, i64>;
    type Out = Option<String>;
    const RETRACTS: bool = true;
    const MERGES: bool = true;
    fn create_accumulator(&self) -> Self::Acc {
        Self::Acc::new()
    }
    fn accumulate(&self, acc: &mut Self::Acc, (text, times): Self::In) -> Result<()> {
        if text == "fails" {
            return Err(Error::user("test.text", "this text fails"));
        }
        *acc.entry(text).or_default() += times.unwrap_or(1);
        Ok(())
    }
    fn retract(&self, acc: &mut Self::Acc, (text, times): Self::In) -> Result<()> {
        *acc.entry(text).or_default() -= times.unwrap_or(1);
        acc.retain(|_, n| *n != 0);
        Ok(())
    }
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) -> Result<()> {
        other.into_iter().for_each(|(text, n)| *acc.entry(text).or_default() += n);
        Ok(())
    }
    fn get_value(&self, acc: &Self::Acc) -> Result<Option<String>> {
        Ok(acc.iter().max_by_key(|(text, n)| (text.len(), **n)).map(|(text, n)| format!("{text}×{n}")))
    }
}

/// Counts rows and can do no more.
struct Plain;

impl function::Aggregate for Plain {
    type In = (i64,);
    type Acc = i64;
    type Out = i64;
    fn create_accumulator(&self) -> i64 {
        0
    }
    fn accumulate(&self, acc: &mut i64, _: (i64,)) -> Result<()> {
        *acc += 1;
        Ok(())
    }
    fn get_value(&self, acc: &i64) -> Result<i64> {
        Ok(*acc)
    }
}

fn with_aggregates() -> StreamExecutionEnvironment {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_function("longest", function::aggregate(Longest));
    env.create_temporary_function("plain", function::aggregate(Plain));
    env
}

const TEXTS: &str = "(VALUES (1, 'a', 2), (1, 'bcd', 1), (2, 'x', CAST(NULL AS INT)), (1, 'bcd', 4), \
                     (3, CAST(NULL AS STRING), 1), (2, 'x', 1)) AS t (id, text, n)";

/// The last row of each `id` of an updating query.
fn last(env: &StreamExecutionEnvironment, query: &str) -> Vec<(i32, String)> {
    let changes = env.to_changelog_stream::<(i32, String)>(query).expect("a query");
    let mut rows = std::collections::BTreeMap::new();
    for flott::Change { kind, row } in changes.execute_and_collect("aggregates").expect("rows") {
        match kind {
            flott::RowKind::Insert | flott::RowKind::UpdateAfter => drop(rows.insert(row.0, row.1)),
            flott::RowKind::Delete | flott::RowKind::UpdateBefore => drop(rows.remove(&row.0)),
        }
    }
    rows.into_iter().collect()
}

#[test]
fn aggregates_of_the_user_in_sql() {
    let env = with_aggregates();
    let row = |id, text: &str| (id, text.to_owned());
    let grouped = format!("SELECT id AS f0, COALESCE(longest(text, n), '-') AS f1 FROM {TEXTS} GROUP BY id");
    assert_eq!(last(&env, &grouped), [row(1, "bcd×5"), row(2, "x×2"), row(3, "-")]);
    let distinct = format!(
        "SELECT id AS f0, COALESCE(LONGEST(DISTINCT text, id) FILTER (WHERE n < 3), 'none') AS f1 \
         FROM {TEXTS} GROUP BY id HAVING plain(id) > 1"
    );
    assert_eq!(last(&env, &distinct), [row(1, "bcd×1"), row(2, "x×2")]);
    // Over what updates: each group's longest text, then the longest of these.
    let updating = format!("SELECT 0 AS f0, COALESCE(longest(f1, 1), '-') AS f1 FROM ({grouped}) AS g");
    assert_eq!(last(&env, &updating), [row(0, "bcd×5×1")]);
    let over = format!(
        "SELECT id AS f0, COALESCE(longest(text, n) OVER (PARTITION BY id ORDER BY pt ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), '-') \
         AS f1 FROM (SELECT *, PROCTIME() AS pt FROM {TEXTS})"
    );
    let found = rows::<(i32, String)>(&env, &over).expect("rows");
    assert_eq!(found, [row(1, "a×2"), row(1, "bcd×1"), row(1, "bcd×5"), row(2, "x×1"), row(2, "x×2"), row(3, "-")]);
}

#[test]
fn an_aggregate_is_refused_where_it_cannot_do_what_is_asked() {
    let env = with_aggregates();
    let refused = |query: &str| {
        let error = env.to_changelog_stream::<i64>(query).err();
        error.unwrap_or_else(|| panic!("{query} is planned")).to_string()
    };
    let twice = format!("SELECT plain(c) AS `value` FROM (SELECT id, COUNT(*) AS c FROM {TEXTS} GROUP BY id)");
    let error = refused(&twice);
    assert!(
        error.contains("line 1, column 8: aggregate function `PLAIN` has no retract, and its input updates"),
        "{error}"
    );
    let frame = format!(
        "SELECT plain(id) OVER (ORDER BY pt ROWS 2 PRECEDING) AS `value` FROM (SELECT id, PROCTIME() AS pt FROM {TEXTS})"
    );
    assert!(refused(&frame).contains("`PLAIN` has no retract, and rows leave the frame of its OVER"));
    assert!(refused("SELECT plain('x', 1) AS `value`").contains("function `PLAIN` takes 1 arguments, 2 are given"));
    assert!(refused("SELECT plain(*) AS `value`").contains("this argument of PLAIN"));
    let filter = format!("SELECT id AS `value` FROM {TEXTS} WHERE plain(id) > 1");
    assert!(refused(&filter).contains("the aggregate PLAIN is not allowed in WHERE"));
    let table = "SELECT 1 AS `value` FROM LATERAL TABLE(plain(1)) AS t";
    assert!(refused(table).contains("PLAIN is an aggregate function and gives a value, not rows"));
    // Frames without a bound only grow.
    let grows =
        "SELECT plain(id) OVER (ORDER BY pt) AS `value` FROM (SELECT id, PROCTIME() AS pt FROM (VALUES (1)) AS t (id))";
    assert_eq!(rows::<i64>(&env, grows).expect("rows"), [1]);
    let fails = "SELECT 1 AS f0, longest(text, 1) AS f1 FROM (VALUES ('fails')) AS t (text)";
    let error = env.to_changelog_stream::<(i32, String)>(fails).expect("a query").execute_and_collect("fails");
    let error = error.expect_err("the function fails").to_string();
    assert!(error.contains("line 1, column 17") && error.contains("function `LONGEST`: this text fails"), "{error}");
}
