//! Tests of the restart strategies.

use super::*;

const MIDDLE: u64 = 1 << 63; // no jitter

fn delay(d: RestartDecision) -> i64 {
    match d {
        RestartDecision::Restart { delay_ms } => delay_ms,
        RestartDecision::GiveUp(why) => panic!("gave up: {why}"),
    }
}

fn gave_up(d: RestartDecision) -> String {
    match d {
        RestartDecision::GiveUp(why) => why,
        RestartDecision::Restart { delay_ms } => panic!("restarts after {delay_ms}"),
    }
}

#[test]
fn defaults_depend_on_checkpointing() {
    assert_eq!(RestartOptions::for_checkpointing(false).kind, RestartKind::None);
    assert_eq!(RestartOptions::for_checkpointing(true).kind, RestartKind::ExponentialDelay);
    let why = gave_up(RestartStrategy::new(RestartOptions::for_checkpointing(false)).on_failure(0, 0));
    assert!(why.contains("restart-strategy.type"), "{why}");
}

#[test]
fn fixed_delay_restarts_once_by_default() {
    let mut s = RestartStrategy::new(RestartOptions::of(RestartKind::FixedDelay));
    assert_eq!(delay(s.on_failure(5, 1)), 1_000);
    assert!(gave_up(s.on_failure(6, 1)).contains("fixed-delay.attempts = 1"));
}

#[test]
fn failure_rate_forgets_old_failures() {
    let mut s =
        RestartStrategy::new(RestartOptions { rate_failures: 2, ..RestartOptions::of(RestartKind::FailureRate) });
    assert_eq!(delay(s.on_failure(0, 0)), 1_000);
    assert_eq!(delay(s.on_failure(10_000, 0)), 1_000);
    gave_up(s.clone().on_failure(60_000, 0));
    assert_eq!(delay(s.on_failure(60_001, 0)), 1_000, "the first failure is out of the interval");
}

#[test]
fn exponential_delay_grows_caps_and_resets() {
    let mut s = RestartStrategy::new(RestartOptions::of(RestartKind::ExponentialDelay));
    let delays: Vec<i64> = (0..13).map(|i| delay(s.on_failure(i * 1_000, MIDDLE))).collect();
    assert_eq!(delays[..5], [1_000, 1_500, 2_250, 3_375, 5_062]);
    assert_eq!(delays[12], 60_000);
    let late = 12_000 + 3_600_000 + 60_000;
    assert_eq!(delay(s.clone().on_failure(late - 1, MIDDLE)), 60_000);
    assert_eq!(delay(s.on_failure(late, MIDDLE)), 1_000);
}

#[test]
fn jitter_stays_within_its_factor() {
    for random in [0, 1, u64::MAX, 12_345_678_901_234_567_890] {
        let d = delay(RestartStrategy::new(RestartOptions::of(RestartKind::ExponentialDelay)).on_failure(0, random));
        assert!((900..=1_100).contains(&d), "{d}");
    }
}

#[test]
fn exponential_delay_gives_up_after_its_attempts() {
    let options = RestartOptions { attempts_before_reset: 2, ..RestartOptions::of(RestartKind::ExponentialDelay) };
    let mut s = RestartStrategy::new(options);
    delay(s.on_failure(0, 0));
    delay(s.on_failure(1, 0));
    assert!(gave_up(s.on_failure(2, 0)).contains("attempts-before-reset-backoff = 2"));
}
