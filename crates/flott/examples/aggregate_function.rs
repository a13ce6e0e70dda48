//! An aggregate of one's own in SQL: the volume-weighted average price of each symbol, over all trades and over the last three. Run it
//! with `cargo run --example aggregate_function`.

use flott::{Record, Result, StreamExecutionEnvironment, function};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Record, Serialize, Deserialize)]
struct Trade {
    symbol: String,
    price: f64,
    volume: i64,
}

/// Money and volume; its result has no meaning without volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Traded {
    money: f64,
    volume: i64,
}

struct Vwap;

impl function::Aggregate for Vwap {
    type In = (f64, i64);
    type Acc = Traded;
    type Out = Option<f64>;
    // Inputs that update, and frames that rows leave.
    const RETRACTS: bool = true;
    // Sessions that grow together.
    const MERGES: bool = true;

    fn create_accumulator(&self) -> Traded {
        Traded::default()
    }
    fn accumulate(&self, acc: &mut Traded, (price, volume): (f64, i64)) -> Result<()> {
        acc.money += price * volume as f64;
        acc.volume += volume;
        Ok(())
    }
    fn retract(&self, acc: &mut Traded, (price, volume): (f64, i64)) -> Result<()> {
        self.accumulate(acc, (price, -volume))
    }
    fn merge(&self, acc: &mut Traded, other: Traded) -> Result<()> {
        acc.money += other.money;
        acc.volume += other.volume;
        Ok(())
    }
    fn get_value(&self, acc: &Traded) -> Result<Option<f64>> {
        Ok((acc.volume != 0).then(|| acc.money / acc.volume as f64))
    }
}

fn main() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    let trade = |symbol: &str, price, volume| Trade { symbol: symbol.into(), price, volume };
    let trades = vec![
        trade("acme", 10.0, 100),
        trade("acme", 11.0, 300),
        trade("zeta", 5.0, 50),
        trade("acme", 12.0, 100),
        trade("acme", 9.0, 500),
    ];
    env.create_temporary_view("trades", env.from_collection(trades)?)?;
    env.create_temporary_function("vwap", function::aggregate(Vwap));
    let query = "SELECT symbol AS f0, COALESCE(vwap(price, volume) OVER (PARTITION BY symbol ORDER BY pt \
                 ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), 0.0) AS f1 FROM (SELECT *, PROCTIME() AS pt FROM trades)";
    for (symbol, average) in env.sql_query::<(String, f64)>(query)?.execute_and_collect("vwap")? {
        println!("{symbol} {average:.3}");
    }
    Ok(())
}
