//! Tables and streams in one program: SQL over streams, streams out of SQL.

use std::collections::BTreeMap;

use flott::{Change, Record, Result, RowKind, StreamExecutionEnvironment, Timestamp};

#[derive(Clone, Debug, PartialEq, Record)]
struct Bid {
    auction: i64,
    bidder: String,
    price: i64,
    at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
struct Total {
    auction: i64,
    total: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
struct Windowed {
    start: Timestamp,
    auction: i64,
    bids: i64,
}

fn bids() -> Vec<Bid> {
    let bid = |i: i64| Bid { auction: i % 5, bidder: format!("b{}", i % 3), price: i * 10, at: Timestamp(i * 100) };
    (0..500).map(bid).collect()
}

fn totals() -> Vec<Total> {
    let mut totals = BTreeMap::new();
    bids().iter().for_each(|b| *totals.entry(b.auction).or_insert(0) += b.price);
    totals.into_iter().map(|(auction, total)| Total { auction, total: Some(total) }).collect()
}

#[test]
fn sql_reads_a_stream_and_a_stream_reads_sql() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2)?;
    let dear = env.from_collection(bids())?.filter(|b| b.price >= 100);
    env.create_temporary_view("bids", dear)?;
    env.execute_sql("CREATE VIEW b1 AS SELECT auction, price FROM bids WHERE bidder = 'b1'")?;
    let rows = env.sql_query::<(i64, i64)>("SELECT auction, price * 2 FROM b1 WHERE price < 1000")?;
    let mut rows = rows.map(|(auction, price)| (auction, price + 1)).execute_and_collect("both")?;
    rows.sort_unstable();
    let chosen = bids().into_iter().filter(|b| (100..1000).contains(&b.price) && b.bidder == "b1");
    let mut expected: Vec<(i64, i64)> = chosen.map(|b| (b.auction, b.price * 2 + 1)).collect();
    expected.sort_unstable();
    assert_eq!(rows, expected);
    Ok(())
}

#[test]
fn a_changelog_is_a_stream_of_changes() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2)?;
    env.create_temporary_view("bids", env.from_collection(bids())?)?;
    let query = "SELECT auction, SUM(price) FROM bids GROUP BY auction";
    assert_eq!(env.sql_query::<Total>(query).err().map(|e| e.code()), Some("datastream.changelog"));
    let changes = env.to_changelog_stream::<Total>(query)?.filter(|c| c.kind != RowKind::UpdateBefore);
    let mut last: BTreeMap<i64, Total> = BTreeMap::new();
    for Change { kind, row } in changes.execute_and_collect("changes")? {
        assert_eq!(kind == RowKind::Insert, !last.contains_key(&row.auction), "first +I, then +U");
        last.insert(row.auction, row);
    }
    assert_eq!(last.into_values().collect::<Vec<_>>(), totals());
    Ok(())
}

#[test]
fn a_view_may_have_event_time() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_view_with("bids", env.from_collection(bids())?, "WATERMARK FOR `at` AS `at`")?;
    let windows = env.sql_query::<Windowed>(
        "SELECT window_start, auction, COUNT(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) \
         GROUP BY window_start, window_end, auction",
    )?;
    let mut rows = windows.execute_and_collect("windows")?;
    rows.sort();
    let mut expected: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    bids().iter().for_each(|b| *expected.entry((b.at.0 / 10_000 * 10_000, b.auction)).or_default() += 1);
    let expected: Vec<Windowed> = expected
        .into_iter()
        .map(|((start, auction), bids)| Windowed { start: Timestamp(start), auction, bids })
        .collect();
    assert_eq!(rows, expected);
    Ok(())
}

#[test]
fn inserts_join_the_job_of_the_program() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_view("bids", env.from_collection(bids())?.map(|b| b))?;
    env.execute_sql(&format!(
        "SET 'parallelism.default' = '1';
         CREATE TABLE out (auction BIGINT, bidder STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO out SELECT auction, bidder FROM bids WHERE auction = 3;",
        dir.path().display()
    ))?;
    env.execute("insert")?;
    let files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    let lines: usize = files.map(|p| std::fs::read_to_string(p).unwrap().lines().count()).sum();
    assert_eq!(lines, 100);
    Ok(())
}

#[test]
fn mistakes_between_tables_and_streams_are_named() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.create_temporary_view("bids", env.from_collection(bids())?)?;
    let code = |query: &str| env.sql_query::<Total>(query).err().map(|e| e.code());
    assert_eq!(code("SELECT bidder, price FROM bids"), Some("datastream.columns"));
    assert_eq!(code("SELECT auction FROM bids"), Some("datastream.columns"));
    assert_eq!(code("SELECT price AS total, auction FROM bids"), Some("datastream.columns"));
    assert_eq!(code("SELECT * FROM nothing"), Some("sql.unknown-table"));
    assert_eq!(code("CREATE VIEW v AS SELECT 1"), Some("datastream.sql"));
    assert_eq!(env.execute_sql("SELECT 1").err().map(|e| e.code()), Some("datastream.sql"));
    let insert = "INSERT INTO bids SELECT * FROM bids";
    assert_eq!(env.execute_sql(insert).err().map(|e| e.code()), Some("table.view"));
    let twice = env.create_temporary_view("bids", env.from_collection(bids())?);
    assert_eq!(twice.err().map(|e| e.code()), Some("sql.exists"));
    Ok(())
}
