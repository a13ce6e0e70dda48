//! Scripts of watermarks and idleness, and what the valve says.

use super::*;

/// `0:5` is watermark 5 on channel 0, `0:idle` and `0:active` its status. One line per step.
fn run(channels: usize, script: &str) -> Vec<String> {
    let mut valve = WatermarkValve::new(channels);
    let step = |step: &str| {
        let (channel, what) = step.trim().split_once(':').expect("channel:what");
        let channel = channel.parse().expect("a number");
        let said = match what {
            "idle" => valve.on_idle(channel),
            "active" => valve.on_active(channel).into_iter().collect(),
            ms => valve.on_watermark(channel, EventTime(ms.parse().expect("ms"))).into_iter().collect(),
        };
        let words: Vec<String> = said
            .iter()
            .map(|s| match s {
                Signal::Watermark(w) => w.0.to_string(),
                other => format!("{other:?}").to_lowercase(),
            })
            .collect();
        if words.is_empty() { "-".to_owned() } else { words.join(" ") }
    };
    script.split(';').map(step).collect()
}

#[test]
fn the_slowest_channel_decides() {
    assert_eq!(run(2, "0:5; 1:3; 1:9; 0:4; 0:7"), ["-", "3", "5", "-", "7"]);
}

#[test]
fn an_idle_channel_holds_nobody_back() {
    assert_eq!(run(2, "0:5; 1:idle; 0:8; 1:active; 0:10"), ["-", "5", "8", "-", "10"]);
}

#[test]
fn a_channel_that_comes_back_behind_takes_part_once_it_has_caught_up() {
    let lines = run(2, "0:5; 1:idle; 1:active; 1:3; 0:6; 1:7; 0:9; 1:8");
    assert_eq!(lines, ["-", "5", "-", "-", "6", "-", "7", "8"]);
}

#[test]
fn when_all_are_idle_time_goes_where_the_furthest_was() {
    let lines = run(2, "0:5; 1:9; 1:idle; 0:idle; 0:6; 1:active; 1:12; 0:active");
    assert_eq!(lines, ["-", "5", "-", "9 idle", "-", "active", "12", "-"]);
}

#[test]
fn idle_twice_is_idle_once() {
    assert_eq!(run(1, "0:idle; 0:idle; 0:active; 0:active"), ["idle", "-", "active", "-"]);
}

#[test]
fn after_a_restore_time_is_where_it_was_and_waits_for_who_begins_anew() {
    let mut valve = WatermarkValve::new(2);
    valve.restore(EventTime(10));
    valve.restore_channel(0, EventTime(10), false);
    valve.restore_channel(1, EventTime(30), false);
    assert_eq!(valve.mark(1), (EventTime(30), false));
    assert_eq!(valve.on_watermark(0, EventTime(20)), Some(Signal::Watermark(EventTime(20))));
    // What follows on the channels comes from sources that begin anew, with other splits perhaps.
    assert_eq!((valve.forget(0), valve.forget(1)), (None, None));
    assert_eq!(valve.on_watermark(0, EventTime(50)), None);
    assert_eq!(valve.on_watermark(1, EventTime(15)), None, "time does not go back");
    assert_eq!(valve.on_watermark(1, EventTime(25)), Some(Signal::Watermark(EventTime(25))));
    assert_eq!(valve.watermark(), EventTime(25));
    // Idleness is forgotten too, and taken back where it was said.
    assert_eq!((valve.on_idle(0).len(), valve.on_idle(1).pop()), (0, Some(Signal::Idle)));
    assert_eq!(valve.forget(0), Some(Signal::Active));
}
