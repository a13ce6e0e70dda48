//! Tests of timers against a model, with restores and rescaling. Never waits.

use std::collections::BTreeSet;

use flott_core::ids::CheckpointId;
use flott_core::key_group::KeyGroupRange;
use flott_core::state::StateBackend;
use flott_core::time::ManualClock;
use proptest::prelude::*;

use super::{TimeDomain, TimerService};
use crate::MemoryStateBackend;
use crate::testing::MemoryChunks;
use crate::typed::StateKey;

const GROUPS: u32 = 8;

fn backend(groups: KeyGroupRange) -> MemoryStateBackend {
    MemoryStateBackend::new(groups, GROUPS, ManualClock::at(0))
}

#[derive(Clone, Debug)]
enum Step {
    Register(i64, u8, i64),
    Delete(i64, u8, i64),
    Pop(i64),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let timer = || (-20i64..20, 0u8..4, 0i64..2);
    prop_oneof![
        6 => timer().prop_map(|(t, k, n)| Step::Register(t, k, n)),
        2 => timer().prop_map(|(t, k, n)| Step::Delete(t, k, n)),
        2 => (-20i64..20).prop_map(Step::Pop),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn due_timers_come_in_order_and_once(steps in proptest::collection::vec(step(), 1..60)) {
        let all = KeyGroupRange { start: 0, end: GROUPS };
        let domain = TimeDomain::EventTime;
        let mut b = backend(all);
        let mut timers = TimerService::open(&mut b, "t").unwrap();
        let mut model: BTreeSet<(i64, i64, Vec<u8>)> = BTreeSet::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Register(time, key, namespace) => {
                    let at = StateKey::new(std::slice::from_ref(&key), GROUPS).in_namespace(namespace);
                    let new = timers.register(&mut b, domain, at, time).unwrap();
                    prop_assert_eq!(new, model.insert((time, namespace, vec![key])), "duplicates collapse");
                }
                Step::Delete(time, key, namespace) => {
                    let at = StateKey::new(std::slice::from_ref(&key), GROUPS).in_namespace(namespace);
                    let there = timers.delete(&mut b, domain, at, time).unwrap();
                    prop_assert_eq!(there, model.remove(&(time, namespace, vec![key])));
                }
                Step::Pop(now) => {
                    let mut last = i64::MIN;
                    while let Some(timer) = timers.pop_due(&mut b, domain, now).unwrap() {
                        prop_assert!(timer.time_ms >= last && timer.time_ms <= now);
                        last = timer.time_ms;
                        prop_assert!(model.remove(&(timer.time_ms, timer.namespace, timer.key.to_vec())));
                    }
                    prop_assert!(model.first().is_none_or(|t| t.0 > now), "all that is due came up");
                }
                Step::Restore => {
                    let chunks = MemoryChunks::new();
                    let cut = b.snapshot(CheckpointId(n as u64 + 1)).unwrap().unwrap();
                    let handle = cut.write(&chunks).unwrap();
                    b = backend(all);
                    b.restore(&[handle], &chunks).unwrap();
                    timers = TimerService::open(&mut b, "t").unwrap();
                }
            }
            prop_assert_eq!(timers.len(domain), model.len());
            prop_assert_eq!(timers.next_due_ms(domain), model.first().map(|t| t.0));
        }
    }
}

#[test]
fn time_domains_are_apart_and_timers_move_with_their_key_groups() {
    let chunks = MemoryChunks::new();
    let mut b = backend(KeyGroupRange { start: 0, end: GROUPS });
    let mut timers = TimerService::open(&mut b, "t").unwrap();
    for key in 0..100u32 {
        let key = key.to_be_bytes();
        let at = StateKey::new(&key, GROUPS);
        timers.register(&mut b, TimeDomain::EventTime, at, 5).unwrap();
        timers.register(&mut b, TimeDomain::ProcessingTime, at, 7).unwrap();
    }
    assert!(timers.pop_due(&mut b, TimeDomain::ProcessingTime, 6).unwrap().is_none());
    let handle = b.snapshot(CheckpointId(1)).unwrap().unwrap().write(&chunks).unwrap();
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let groups = KeyGroupRange::of_subtask(GROUPS, 3, index);
        let mut b = backend(groups);
        b.restore(std::slice::from_ref(&handle), &chunks).unwrap();
        let mut timers = TimerService::open(&mut b, "t").unwrap();
        assert_eq!(timers.len(TimeDomain::EventTime), timers.len(TimeDomain::ProcessingTime));
        while let Some(timer) = timers.pop_due(&mut b, TimeDomain::EventTime, 5).unwrap() {
            assert!(groups.contains(timer.group) && groups.contains(timer.state_key().group));
            assert!(seen.insert(timer.key), "a timer lives in one subtask");
        }
        assert!(timers.is_empty(TimeDomain::EventTime) && !timers.is_empty(TimeDomain::ProcessingTime));
    }
    assert_eq!(seen.len(), 100);
}
