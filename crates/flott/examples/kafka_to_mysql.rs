//! The job of `examples/kafka-to-mysql/kafka_to_mysql.sql` as a program: orders from Kafka, statistics per minute and hour into
//! MySQL, express orders into Kafka, all exactly once; orders that come after their hour has closed go to a table of their own.
//!
//! `kafka_to_mysql [BOOTSTRAP_SERVERS [JDBC_URL [CHECKPOINT_DIR]]]`

use std::collections::BTreeSet;
use std::process::ExitCode;

use flott::{
    AggregateFunction, Connector, Context, DataStream, KeyedProcessFunction, OpenContext, Record, Result,
    StreamExecutionEnvironment, TimeDomain, Timestamp, TumblingEventTimeWindows, ValueState, WatermarkStrategy,
};
use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

#[derive(Clone, Debug, Record)]
struct Order {
    order_id: i64,
    user_id: i64,
    product: String,
    quantity: i32,
    cents: i64,
    order_time: Timestamp,
}

#[derive(Clone, Debug, Record)]
struct Click {
    user_id: i64,
    product: String,
    click_time: Timestamp,
}

/// A row of `large_orders`, `late_orders` and of the topic.
#[derive(Clone, Debug, Record)]
struct Priced {
    order_id: i64,
    user_id: i64,
    product: String,
    order_cents: i64,
    order_time: Timestamp,
}

#[derive(Clone, Debug, Record)]
struct OrdersPerMinute {
    minute_start: Timestamp,
    orders: i64,
    items: i64,
    revenue_cents: i64,
}

#[derive(Clone, Debug, Record)]
struct OrdersPerHour {
    hour_start: Timestamp,
    orders: i64,
    customers: i64,
    revenue_cents: i64,
}

#[derive(Clone, Debug, Record)]
struct ClicksPerHour {
    hour_start: Timestamp,
    clicks: i64,
    visitors: i64,
}

#[derive(Clone, Debug, Record)]
struct ProductPerHour {
    hour_start: Timestamp,
    product: String,
    orders: i64,
    revenue_cents: i64,
}

#[derive(Clone, Debug, Record)]
struct TopProduct {
    hour_start: Timestamp,
    place: i64,
    product: String,
    orders: i64,
    revenue_cents: i64,
}

impl From<Order> for Priced {
    fn from(order: Order) -> Self {
        let order_cents = i64::from(order.quantity) * order.cents;
        let Order { order_id, user_id, product, order_time, .. } = order;
        Priced { order_id, user_id, product, order_cents, order_time }
    }
}

/// What is counted of orders and of clicks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sums {
    rows: i64,
    items: i64,
    cents: i64,
    users: BTreeSet<i64>,
}

/// Adds rows up; `of` says what a row counts: its user, if users are told apart, its items and its price.
#[derive(Clone)]
struct Add<T> {
    of: fn(&T) -> (Option<i64>, i64, i64),
}

impl<T: Record> AggregateFunction for Add<T> {
    type In = T;
    type Acc = Sums;
    type Out = Sums;
    fn create_accumulator(&self) -> Sums {
        Sums::default()
    }
    fn add(&self, row: T, sums: &mut Sums) -> Result<()> {
        let (user, items, cents) = (self.of)(&row);
        sums.rows += 1;
        sums.items += items;
        sums.cents += cents;
        sums.users.extend(user);
        Ok(())
    }
    fn result(&self, sums: &Sums) -> Sums {
        sums.clone()
    }
    fn merge(&self, mut a: Sums, b: Sums) -> Result<Sums> {
        a.rows += b.rows;
        a.items += b.items;
        a.cents += b.cents;
        a.users.extend(b.users);
        Ok(a)
    }
}

/// How many products of an hour are kept.
const TOP: usize = 5;

/// The products of an hour that sold best: kept until the hour has closed, then emitted by place.
#[derive(Clone, Default)]
struct TopOfHour {
    best: ValueState<Vec<(i64, String, i64)>>,
}

impl KeyedProcessFunction for TopOfHour {
    type Key = Timestamp;
    type In = ProductPerHour;
    type Out = TopProduct;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.best = ctx.value_state("best")?;
        Ok(())
    }

    fn process(&mut self, sums: ProductPerHour, ctx: &mut Context<'_, Self>) -> Result<()> {
        let ProductPerHour { hour_start, product, orders, revenue_cents } = sums;
        self.best.update(ctx, |best| {
            let best = best.get_or_insert_default();
            best.push((-revenue_cents, product, orders));
            best.sort();
            best.truncate(TOP);
        })?;
        // Sums of one hour all come before the watermark that closed it.
        ctx.register_event_timer(hour_start.0 + HOUR_MS - 1)
    }

    fn on_timer(&mut self, _: i64, _: TimeDomain, ctx: &mut Context<'_, Self>) -> Result<()> {
        let hour_start = *ctx.key();
        for (place, (revenue, product, orders)) in (1..).zip(self.best.get(ctx)?.unwrap_or_default()) {
            ctx.collect(TopProduct { hour_start, place, product, orders, revenue_cents: -revenue });
        }
        self.best.clear(ctx)
    }
}

fn revenue(order: &Order) -> i64 {
    i64::from(order.quantity) * order.cents
}

/// Where the program reads and writes.
struct Places {
    kafka: String,
    mysql: String,
}

impl Places {
    fn topic(&self, name: &str) -> Connector {
        let topic = Connector::new("kafka").option("topic", name);
        topic.option("properties.bootstrap.servers", &self.kafka).option("format", "json")
    }
    fn source(&self, name: &str) -> Connector {
        let source = self.topic(name).option("properties.group.id", "kafka-to-mysql-rust");
        source.option("scan.startup.mode", "earliest-offset")
    }
    fn table(&self, name: &str, primary_key: &[&str]) -> Connector {
        let table = Connector::new("jdbc").option("url", &self.mysql).option("username", "root");
        table.option("table-name", name).option("sink.delivery-guarantee", "exactly-once").primary_key(primary_key)
    }
}

fn program(env: &StreamExecutionEnvironment, places: &Places) -> Result<()> {
    let orders = env
        .from_connector::<Order>("orders", &places.source("orders"))?
        .uid("orders")
        .assign_timestamps_and_watermarks(WatermarkStrategy::bounded_out_of_orderness(30_000, |o: &Order| {
            o.order_time
        }))?;
    let clicks = env
        .from_connector::<Click>("clicks", &places.source("clicks"))?
        .uid("clicks")
        .assign_timestamps_and_watermarks(WatermarkStrategy::bounded_out_of_orderness(30_000, |c: &Click| {
            c.click_time
        }))?;
    order_statistics(orders.clone(), places)?;
    product_statistics(orders.clone(), places)?;
    single_orders(orders, places)?;

    clicks
        .key_by(|_| 0_i64)
        .window(TumblingEventTimeWindows::of(HOUR_MS))?
        .aggregate(Add { of: |c: &Click| (Some(c.user_id), 0, 0) }, |_, window, sums: Sums| ClicksPerHour {
            hour_start: Timestamp(window.start_ms),
            clicks: sums.rows,
            visitors: sums.users.len() as i64,
        })
        .uid("clicks-per-hour")
        .sink_to("click_stats_hour", &places.table("click_stats_hour", &["hour_start"]))?
        .uid("click-stats-hour");
    Ok(())
}

/// The whole shop per minute and per hour: one key. Orders that come after their hour has closed get a table of their own.
fn order_statistics(orders: DataStream<Order>, places: &Places) -> Result<()> {
    let shop = orders.key_by(|_| 0_i64);
    shop.clone()
        .window(TumblingEventTimeWindows::of(MINUTE_MS))?
        .aggregate(Add { of: |o: &Order| (None, i64::from(o.quantity), revenue(o)) }, |_, window, sums: Sums| {
            OrdersPerMinute {
                minute_start: Timestamp(window.start_ms),
                orders: sums.rows,
                items: sums.items,
                revenue_cents: sums.cents,
            }
        })
        .uid("orders-per-minute")
        .sink_to("order_stats_minute", &places.table("order_stats_minute", &["minute_start"]))?
        .uid("order-stats-minute");

    let (hourly, late) = shop
        .window(TumblingEventTimeWindows::of(HOUR_MS))?
        .side_output_late_data()
        .uid("orders-per-hour")
        .aggregate(Add { of: |o: &Order| (Some(o.user_id), 0, revenue(o)) }, |_, window, sums: Sums| OrdersPerHour {
            hour_start: Timestamp(window.start_ms),
            orders: sums.rows,
            customers: sums.users.len() as i64,
            revenue_cents: sums.cents,
        });
    hourly.sink_to("order_stats_hour", &places.table("order_stats_hour", &["hour_start"]))?.uid("order-stats-hour");
    late.map(Priced::from).sink_to("late_orders", &places.table("late_orders", &[]))?.uid("late-orders");
    Ok(())
}

/// Every product per hour, and the best of them.
fn product_statistics(orders: DataStream<Order>, places: &Places) -> Result<()> {
    let products = orders
        .key_by(|o| o.product.clone())
        .window(TumblingEventTimeWindows::of(HOUR_MS))?
        .aggregate(Add { of: |o: &Order| (None, 0, revenue(o)) }, |product, window, sums: Sums| ProductPerHour {
            hour_start: Timestamp(window.start_ms),
            product: product.clone(),
            orders: sums.rows,
            revenue_cents: sums.cents,
        })
        .uid("products-per-hour");
    products
        .clone()
        .sink_to("product_stats_hour", &places.table("product_stats_hour", &["hour_start", "product"]))?
        .uid("product-stats-hour");
    products
        .key_by(|p| p.hour_start)
        .process(TopOfHour::default())
        .uid("top-of-hour")
        .sink_to("top_products", &places.table("top_products", &["hour_start", "place"]))?
        .uid("top-products");
    Ok(())
}

/// Large orders into MySQL, express orders into Kafka.
fn single_orders(orders: DataStream<Order>, places: &Places) -> Result<()> {
    orders
        .clone()
        .filter(|o| revenue(o) >= 40_000)
        .map(Priced::from)
        .sink_to("large_orders", &places.table("large_orders", &[]))?
        .uid("large-orders");
    let express = places
        .topic("express-orders")
        .option("sink.delivery-guarantee", "exactly-once")
        .option("sink.transactional-id-prefix", "kafka-to-mysql-rust")
        .option("properties.transaction.timeout.ms", 600_000);
    orders.filter(|o| o.quantity >= 3).map(Priced::from).sink_to("express_orders", &express)?.uid("express-orders");
    Ok(())
}

fn run(args: &[String]) -> Result<()> {
    let argument = |i: usize, default: &str| args.get(i).map_or(default.to_owned(), Clone::clone);
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2)?;
    env.enable_checkpointing(5_000, &argument(2, "out/kafka-to-mysql-rust/checkpoints"))?;
    let (kafka, mysql) = (argument(0, "127.0.0.1:29092"), argument(1, "jdbc:mysql://127.0.0.1:23306/shop"));
    program(&env, &Places { kafka, mysql })?;
    env.execute("kafka-to-mysql-rust")
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
