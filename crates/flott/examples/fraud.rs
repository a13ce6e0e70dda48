//! Fraud detection with keyed state and timers: a small payment followed within a minute by a large one, with none in between, is an
//! alert. Deterministic: payments are generated, and time is event time.
//!
//! `cargo run -p flott --example fraud`

use flott::{
    Context, DataStream, KeyedProcessFunction, OpenContext, Record, Result, StreamExecutionEnvironment, TimeDomain,
    Timestamp, ValueState, WatermarkStrategy,
};

/// Below this a payment is small: a thief tries a card.
pub const SMALL_CENTS: i64 = 100;
/// Above this a payment is large.
pub const LARGE_CENTS: i64 = 50_000;
/// How long a small payment makes its account suspicious.
pub const SUSPICION_MS: i64 = 60_000;

/// A payment.
#[derive(Clone, Debug, PartialEq, Record)]
pub struct Payment {
    /// Who pays.
    pub account: i64,
    /// When.
    pub at: Timestamp,
    /// How much.
    pub cents: i64,
}

/// A suspicious payment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct Alert {
    /// Whose account.
    pub account: i64,
    /// When the large payment was made.
    pub at: Timestamp,
    /// How large it was.
    pub cents: i64,
}

/// Remembers, per account, when the last payment was a small one.
#[derive(Clone, Default)]
pub struct FraudDetector {
    small_at: ValueState<i64>,
}

impl KeyedProcessFunction for FraudDetector {
    type Key = i64;
    type In = Payment;
    type Out = Alert;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.small_at = ctx.value_state("small-at")?;
        Ok(())
    }

    fn process(&mut self, payment: Payment, ctx: &mut Context<'_, Self>) -> Result<()> {
        let Payment { account, at, cents } = payment;
        if let Some(small_at) = self.small_at.get(ctx)? {
            if cents > LARGE_CENTS && at.0 <= small_at + SUSPICION_MS {
                ctx.collect(Alert { account, at, cents });
            }
            self.small_at.clear(ctx)?;
            ctx.delete_event_timer(small_at + SUSPICION_MS)?;
        }
        if cents < SMALL_CENTS {
            self.small_at.set(ctx, at.0)?;
            ctx.register_event_timer(at.0 + SUSPICION_MS)?;
        }
        Ok(())
    }

    /// A minute has passed without another payment: nothing is kept for quiet accounts.
    fn on_timer(&mut self, _: i64, _: TimeDomain, ctx: &mut Context<'_, Self>) -> Result<()> {
        self.small_at.clear(ctx)
    }
}

/// Payments of 50 accounts, one a second, the same every time.
pub fn payments(count: i64) -> Vec<Payment> {
    let mut seed = 42u64;
    let mut random = move |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as i64) % below
    };
    let payment = |i: i64| {
        let cents = match random(10) {
            0..=2 => random(SMALL_CENTS),
            3..=5 => LARGE_CENTS + 1 + random(100_000),
            _ => SMALL_CENTS + random(LARGE_CENTS - SMALL_CENTS),
        };
        Payment { account: random(50), at: Timestamp(i * 1_000), cents }
    };
    (0..count).map(payment).collect()
}

/// The alerts of a stream of payments.
pub fn alerts(payments: DataStream<Payment>) -> Result<DataStream<Alert>> {
    let strategy = WatermarkStrategy::monotonous(|p: &Payment| p.at);
    let payments = payments.assign_timestamps_and_watermarks(strategy)?;
    Ok(payments.key_by(|p| p.account).process(FraudDetector::default()).name("Fraud detector").uid("fraud-detector"))
}

fn main() -> Result<()> {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2)?;
    let payments = env.from_collection(payments(20_000))?;
    let mut found = alerts(payments)?.execute_and_collect("fraud")?;
    found.sort_by_key(|a| a.at);
    for a in &found {
        println!("account {:>2} at {:>8} s: {}.{:02}", a.account, a.at.0 / 1_000, a.cents / 100, a.cents % 100);
    }
    println!("{} alerts", found.len());
    Ok(())
}
