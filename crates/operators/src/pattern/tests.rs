//! The automaton against hand-made sequences, and its queue against a sorted list.

use flott_core::error::Result;
use proptest::prelude::*;

use super::queue::Keyed;
use super::*;

/// Whether an event may be taken: the values taken so far, by variable, and the event's.
type Condition = fn(&[(u16, i64)], i64) -> bool;

struct Fixed<'a> {
    values: &'a [i64],
    conditions: &'a [Condition],
}

impl Conditions for Fixed<'_> {
    fn holds(&mut self, buffer: &Buffer, variable: u16, tail: u32, event: u32) -> Result<bool> {
        let mut taken = Vec::new();
        let mut at = tail;
        while at != NONE {
            let node = buffer.node(at);
            taken.insert(0, (node.variable, self.values[node.event as usize]));
            at = node.previous;
        }
        Ok(self.conditions[usize::from(variable)](&taken, self.values[event as usize]))
    }
    fn taken(&mut self, _buffer: &Buffer, _node: u32) -> Result<()> {
        Ok(())
    }
}

fn element((name, min, max, greedy): (&str, u32, Option<u32>, bool)) -> Element {
    Element { name: name.to_owned(), min, max, greedy }
}

/// Matches as `first..last` positions with the time at which they are told; events are a second apart.
fn search(
    elements: &[(&str, u32, Option<u32>, bool)],
    skip: SkipTo,
    within_ms: Option<i64>,
    conditions: &[Condition],
    values: &[i64],
) -> Result<Vec<String>> {
    let nfa = Nfa::compile(Pattern { elements: elements.iter().copied().map(element).collect(), within_ms, skip });
    let (mut run, mut buffer, mut scratch) = (nfa.begin(), Buffer::default(), Scratch::default());
    let mut judge = Fixed { values, conditions };
    let mut matches = Vec::new();
    for i in 0..values.len() {
        let time = i as i64 * 1000;
        nfa.advance(&mut run, &buffer, time, &mut scratch, &mut matches)?;
        let event = buffer.event(time);
        nfa.step(&mut run, &mut buffer, event, &mut judge, &mut scratch, &mut matches)?;
    }
    nfa.advance(&mut run, &buffer, i64::MAX, &mut scratch, &mut matches)?;
    let text = |m: &Match| {
        let (first, last) = (buffer.first(m.tail, None, 0), buffer.last(m.tail, None, 0));
        format!("{}..{}", first.expect("a match has events"), last.expect("a match has events"))
    };
    Ok(matches.iter().map(text).collect())
}

const ONE: (u32, Option<u32>, bool) = (1, Some(1), true);

fn named(name: &str, (min, max, greedy): (u32, Option<u32>, bool)) -> (&str, u32, Option<u32>, bool) {
    (name, min, max, greedy)
}

/// The example of Flink's page: A above 10, B below 15, C above 12.
const PRICES: [i64; 6] = [10, 11, 12, 13, 14, 16];
const CLASSES: [Condition; 3] = [|_, v| v > 10, |_, v| v < 15, |_, v| v > 12];

fn prices(b: (u32, Option<u32>, bool), skip: SkipTo) -> Vec<String> {
    let elements = [named("A", ONE), named("B", b), named("C", ONE)];
    search(&elements, skip, None, &CLASSES, &PRICES).expect("finds")
}

#[test]
fn a_greedy_loop_takes_all_it_can_and_a_reluctant_one_as_little() {
    assert_eq!(prices((0, None, true), SkipTo::PastLast), ["1..5"]);
    assert_eq!(prices((0, None, false), SkipTo::PastLast), ["1..3", "4..5"]);
    assert_eq!(prices((1, None, true), SkipTo::PastLast), ["1..5"]);
    assert_eq!(prices((1, None, false), SkipTo::PastLast), ["1..3"]);
    assert_eq!(prices((2, Some(2), true), SkipTo::PastLast), ["1..4"]);
    assert_eq!(prices((1, Some(2), true), SkipTo::PastLast), ["2..5"]);
    assert_eq!(prices((0, Some(1), true), SkipTo::PastLast), ["1..3", "4..5"]);
    assert_eq!(prices((2, None, false), SkipTo::PastLast), ["1..4"]);
}

#[test]
fn where_the_search_goes_on_decides_what_overlaps() {
    assert_eq!(prices((0, None, true), SkipTo::Next), ["1..5", "2..5", "3..5", "4..5"]);
    assert_eq!(prices((1, None, true), SkipTo::First(1)), ["1..5", "2..5", "3..5"]);
    assert_eq!(prices((1, None, true), SkipTo::Last(1)), ["1..5"]);
}

#[test]
fn skipping_to_the_first_event_or_to_none_is_an_error() {
    let elements = [named("A", ONE), named("B", (0, Some(1), true)), named("C", ONE)];
    for skip in [SkipTo::First(0), SkipTo::Last(1)] {
        let conditions: [Condition; 3] = [|_, _| true, |_, v| v > 5, |_, _| true];
        let error = search(&elements, skip, None, &conditions, &[1, 2, 3]).expect_err("refused");
        assert_eq!(error.code(), "match.skip");
    }
}

#[test]
fn a_match_waits_for_earlier_ones_until_they_are_given_up() {
    // B stays near the first event, C falls below it by 10: from 20 and from 30 both go on, only the second ends.
    let conditions: [Condition; 3] = [|_, _| true, |taken, v| v > taken[0].1 - 10, |taken, v| v < taken[0].1 - 10];
    let elements = [named("A", ONE), named("B", (0, None, true)), named("C", ONE)];
    let values = [20, 30, 15, 15, 15];
    assert_eq!(search(&elements, SkipTo::PastLast, None, &conditions, &values).expect("finds"), [""; 0]);
    assert_eq!(search(&elements, SkipTo::PastLast, Some(10_000), &conditions, &values).expect("finds"), ["1..2"]);
    assert_eq!(search(&elements, SkipTo::PastLast, Some(1000), &conditions, &values).expect("finds"), [""; 0]);
}

#[test]
fn compacting_keeps_what_matches_hold_and_nothing_else() {
    let elements = [named("A", ONE), named("B", (1, None, true)), named("C", ONE)];
    let pattern = Pattern { elements: elements.map(element).into(), within_ms: None, skip: SkipTo::PastLast };
    let nfa = Nfa::compile(pattern);
    let values = [1, 9, 5, 6, 7];
    let conditions: [Condition; 3] = [|_, v| v > 4, |t, v| v >= 5 && v < t[0].1, |_, v| v == 0];
    let (mut run, mut buffer, mut scratch) = (nfa.begin(), Buffer::default(), Scratch::default());
    let mut judge = Fixed { values: &values, conditions: &conditions };
    for i in 0..values.len() {
        let event = buffer.event(i as i64);
        nfa.step(&mut run, &mut buffer, event, &mut judge, &mut scratch, &mut Vec::new()).expect("steps");
    }
    let mut kept = Vec::new();
    let roots = run.partial.items_mut().iter_mut().map(|p| (&mut p.tail, &mut p.start));
    buffer.compact(roots, &mut kept);
    assert_eq!(kept, [1, 2, 3, 4], "the first event belongs to no match");
    let first = run.partial.peek().expect("a match is under way");
    let of_b: Vec<u32> = (0..3).filter_map(|n| buffer.first(first.tail, Some(1), n)).collect();
    assert_eq!((first.start, buffer.count(first.tail, Some(1)), of_b), (0, 3, vec![1, 2, 3]));
    assert_eq!(buffer.last(first.tail, Some(1), 1), Some(2));
    assert_eq!(buffer.last(first.tail, None, 3), Some(0));
    assert_eq!((buffer.last(first.tail, Some(1), 3), buffer.first(first.tail, Some(2), 0)), (None, None));
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Item(u32, usize);

impl Keyed for Item {
    fn key(&self) -> u32 {
        self.0
    }
}

proptest! {
    #[test]
    fn the_queue_gives_the_least_first(keys in prop::collection::vec(0..20u32, 0..40), gone in 0..20u32) {
        let mut queue = Queue::default();
        keys.iter().enumerate().for_each(|(i, k)| queue.add(Item(*k, i)));
        queue.remove_if(|item| item.0 == gone);
        let mut expected: Vec<u32> = keys.into_iter().filter(|k| *k != gone).collect();
        expected.sort_unstable();
        let mut found = Vec::new();
        while let Some(item) = queue.poll() {
            found.push(item.0);
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_reluctant_loop_ends_at_the_first_event_that_fits(values in prop::collection::vec(0..5i64, 1..30)) {
        let conditions: [Condition; 3] = [|_, v| v == 1, |_, _| true, |_, v| v == 2];
        let elements = [named("A", ONE), named("B", (0, None, false)), named("C", ONE)];
        let found = search(&elements, SkipTo::PastLast, None, &conditions, &values).expect("finds");
        let (mut expected, mut from) = (Vec::new(), 0);
        while let Some(a) = (from..values.len()).find(|&i| values[i] == 1) {
            let Some(c) = (a + 1..values.len()).find(|&i| values[i] == 2) else { break };
            expected.push(format!("{a}..{c}"));
            from = c + 1;
        }
        prop_assert_eq!(found, expected);
    }
}
