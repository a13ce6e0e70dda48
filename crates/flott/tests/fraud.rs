//! The fraud example against an independent computation: consecutive payments of an account, looked at in pairs.

#[path = "../examples/fraud.rs"]
#[allow(dead_code, reason = "the example's main is not called")]
mod fraud;

use std::collections::BTreeMap;

use flott::{Result, StreamExecutionEnvironment};
use fraud::{Alert, LARGE_CENTS, Payment, SMALL_CENTS, SUSPICION_MS};

fn expected(payments: &[Payment]) -> Vec<Alert> {
    let mut by_account: BTreeMap<i64, Vec<&Payment>> = BTreeMap::new();
    payments.iter().for_each(|p| by_account.entry(p.account).or_default().push(p));
    let pairs = by_account.values().flat_map(|ps| ps.windows(2));
    let suspicious =
        pairs.filter(|p| p[0].cents < SMALL_CENTS && p[1].cents > LARGE_CENTS && p[1].at.0 - p[0].at.0 <= SUSPICION_MS);
    let mut alerts: Vec<Alert> =
        suspicious.map(|p| Alert { account: p[1].account, at: p[1].at, cents: p[1].cents }).collect();
    alerts.sort();
    alerts
}

#[test]
fn alerts_are_those_of_the_pairs() -> Result<()> {
    let payments = fraud::payments(20_000);
    let expected = expected(&payments);
    assert!(expected.len() > 100, "the payments hold enough fraud to find");
    for parallelism in [1, 3] {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(parallelism)?;
        let stream = env.from_collection(payments.clone())?;
        let mut found = fraud::alerts(stream)?.execute_and_collect("fraud")?;
        found.sort();
        assert_eq!(found, expected);
    }
    Ok(())
}
