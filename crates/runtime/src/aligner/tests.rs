//! Scripts of barriers: `channel:checkpoint@time`, and what the aligner answers.

use flott_core::element::BarrierOptions;

use super::*;

/// Runs a script: `0:1@10` is the barrier of checkpoint 1 on channel 0 at time 10, `abort 1` gives checkpoint 1 up. Each answer
/// is a line: what was declined, what passed (with start delay and alignment), which channels are held.
fn run(channels: usize, at_least_once: bool, script: &str) -> Vec<String> {
    let mut aligner = BarrierAligner::new(channels);
    let mut lines = Vec::new();
    for step in script.split(';').map(str::trim) {
        let mut words = Vec::new();
        if let Some(id) = step.strip_prefix("abort ") {
            aligner.abort(CheckpointId(id.parse().expect("a number")));
        } else {
            let (channel, rest) = step.split_once(':').expect("channel:checkpoint@time");
            let (id, now) = rest.split_once('@').expect("checkpoint@time");
            let barrier = Barrier {
                checkpoint: CheckpointId(id.parse().expect("a number")),
                triggered_ms: 0,
                options: BarrierOptions { at_least_once, ..BarrierOptions::default() },
            };
            let answer = aligner.on_barrier(channel.parse().expect("a number"), barrier, now.parse().expect("ms"));
            words.extend(answer.declined.iter().map(|c| format!("declined {c}")));
            if let Some(a) = answer.passes {
                let id = a.barrier.checkpoint;
                words.push(format!("passes {id} delay {} alignment {}", a.start_delay_ms, a.alignment_ms));
            }
        }
        let held: Vec<String> = (0..channels).filter(|&c| aligner.is_held(c)).map(|c| c.to_string()).collect();
        if !held.is_empty() {
            words.push(format!("held {}", held.join(" ")));
        }
        lines.push(if words.is_empty() { "-".to_owned() } else { words.join(", ") });
    }
    lines
}

#[test]
fn one_channel_never_waits() {
    assert_eq!(run(1, false, "0:1@5; 0:2@9"), ["passes 1 delay 5 alignment 0", "passes 2 delay 9 alignment 0"]);
}

#[test]
fn channels_are_held_until_the_last_barrier() {
    let lines = run(3, false, "1:1@5; 0:1@7; 2:1@20; 0:2@30");
    assert_eq!(lines, ["held 1", "held 0 1", "passes 1 delay 5 alignment 15", "held 0"]);
}

#[test]
fn a_newer_barrier_gives_the_older_up() {
    // Channel 1 was declined upstream and brings checkpoint 2 at once; the late barrier of 1 means nothing any more.
    let lines = run(2, false, "0:1@1; 1:2@2; 1:1@3; 0:2@4");
    assert_eq!(lines, ["held 0", "declined 1, held 1", "held 1", "passes 2 delay 2 alignment 2"]);
}

#[test]
fn an_aborted_checkpoint_frees_its_channels_and_never_passes() {
    let lines = run(2, false, "0:1@1; abort 1; 1:1@2; abort 2; 0:2@3; 0:3@4; 1:3@5");
    assert_eq!(lines, ["held 0", "-", "-", "-", "-", "held 0", "passes 3 delay 4 alignment 1"]);
}

#[test]
fn a_barrier_that_has_passed_is_not_counted_again() {
    assert_eq!(run(2, false, "0:1@1; 1:1@1; 0:1@2; 1:1@2"), ["held 0", "passes 1 delay 1 alignment 0", "-", "-"]);
}

#[test]
fn at_least_once_holds_nothing_and_counts_several_checkpoints() {
    let lines = run(2, true, "0:1@1; 0:2@2; 1:1@3; 1:2@4");
    assert_eq!(lines, ["-", "-", "passes 1 delay 1 alignment 2", "passes 2 delay 2 alignment 2"]);
    assert_eq!(run(2, true, "0:1@1; 0:2@2; 1:2@3; 1:1@4"), ["-", "-", "declined 1, passes 2 delay 2 alignment 1", "-"]);
}
