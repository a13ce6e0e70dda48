//! Functions of one's own in SQL: a closure over values, and one that may fail. Run it with `cargo run --example functions`.

use flott::{Error, Record, Result, StreamExecutionEnvironment, function};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Record, Serialize, Deserialize)]
struct Order {
    customer: String,
    card: String,
    cents: i64,
}

fn main() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    let order = |customer: &str, card: &str, cents| Order { customer: customer.into(), card: card.into(), cents };
    let orders = vec![order("ann", "4111111111111111", 1250), order("bob", "5500005555555559", 900)];
    env.create_temporary_view("orders", env.from_collection(orders)?)?;

    env.create_temporary_function("masked", function::scalar(|card: String| format!("…{}", &card[card.len() - 4..])));
    env.create_temporary_function(
        "euros",
        function::scalar(|cents: i64| match cents {
            0.. => Ok(cents as f64 / 100.0),
            _ => Err(Error::user("orders.negative", format!("an order of {cents} cents"))),
        }),
    );
    let rows = env.sql_query::<(String, f64)>("SELECT masked(card) AS f0, euros(cents) AS f1 FROM orders")?;
    for (card, euros) in rows.execute_and_collect("orders")? {
        println!("{card} {euros:.2}");
    }
    Ok(())
}
