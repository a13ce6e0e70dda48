//! Prints how long one core takes to decode and encode a message of each format; writes nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_connectors::formats::message::{MessageFormat, Messages};
use flott_connectors::formats::{Block, Format};
use flott_connectors::options::TableOptions;
use flott_core::ChangeBatch;
use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::time::{Clock, SystemClock};
use flott_core::types::{Column, TypeKind, arrow_schema};

const ROWS: usize = 4096;
const ROUNDS: usize = 100;

const OPTIONS: &[OptionSpec] = &[
    flott_connectors::options::option("format", "STRING", "", false, "Format."),
    flott_connectors::options::option("path", "STRING", "", false, "Unused."),
];

fn columns() -> Vec<Column> {
    let kinds = [
        ("order_id", TypeKind::BigInt),
        ("customer", TypeKind::STRING),
        ("product", TypeKind::STRING),
        ("quantity", TypeKind::Int),
        ("price", TypeKind::Decimal(10, 2)),
        ("ordered_at", TypeKind::Timestamp(3)),
        ("note", TypeKind::STRING),
    ];
    kinds.into_iter().map(|(name, kind)| Column::new(name, kind.nullable())).collect()
}

fn table(format: &str) -> TableSpec {
    TableSpec {
        name: "orders".into(),
        columns: columns(),
        options: BTreeMap::from([("connector".into(), "x".into()), ("format".into(), format.into())]),
        primary_key: vec![],
        partition_keys: vec![],
        input_mode: ChangelogMode::Append,
    }
}

fn rows() -> flott_core::Result<ChangeBatch> {
    let mut text = String::new();
    for i in 0..ROWS {
        text += &format!(
            "{{\"order_id\":{},\"customer\":\"customer-{}\",\"product\":\"product {}\",\"quantity\":{},\"price\":\"{}.25\",\
             \"ordered_at\":\"2026-01-01 00:{:02}:{:02}.{:03}\",\"note\":\"please deliver between nine and ten\"}}\n",
            1_000_000 + i,
            i % 977,
            i % 83,
            i % 9,
            i % 500,
            i / 60 % 60,
            i % 60,
            i % 1000
        );
    }
    let t = table("json");
    let options = TableOptions::checked(&t, &[OPTIONS, Format::options_of(&t)?])?;
    let mut decoder = Format::read(&options)?.decoder(&t.columns)?;
    let block = Block { data: text.as_bytes(), last: true, stop: usize::MAX, rows_max: usize::MAX };
    decoder.decode(block).map_err(|bad| bad.into_error("a row"))?;
    Ok(ChangeBatch::append(RecordBatch::try_new(arrow_schema(&t.columns), decoder.finish()?)?))
}

fn main() -> flott_core::Result<()> {
    let rows = rows()?;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    for name in ["json", "csv", "debezium-json", "canal-json", "maxwell-json", "avro"] {
        if !MessageFormat::names().contains(&name) {
            continue;
        }
        let t = table(name);
        let options = TableOptions::checked(&t, &[OPTIONS, MessageFormat::options(&t, "")?])?;
        let format = MessageFormat::read(&options, "")?;
        let (mut encoder, mut decoder) = (format.encoder(&t.columns)?, format.decoder(&t.columns)?);
        let mut messages = Messages::default();
        let begin = clock.now_nanos();
        for _ in 0..ROUNDS {
            messages.clear();
            encoder.encode(&rows, &mut messages)?;
        }
        let encoded = clock.now_nanos();
        for _ in 0..ROUNDS {
            for row in 0..ROWS {
                let message = messages.get(row).unwrap_or_default();
                decoder.decode(message).map_err(|bad| bad.into_error("a message"))?;
            }
            assert_eq!(decoder.finish()?.columns[0].len(), ROWS);
        }
        let decoded = clock.now_nanos();
        let each = |ns: u64| ns as f64 / (ROWS * ROUNDS) as f64;
        println!(
            "{name:14} {:4} bytes a message, decode {:6.0} ns, encode {:6.0} ns",
            messages.bytes.len() / ROWS,
            each(decoded - encoded),
            each(encoded - begin)
        );
    }
    Ok(())
}
