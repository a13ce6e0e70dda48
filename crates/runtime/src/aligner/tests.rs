//! Scripts of barriers: `channel:checkpoint@time`, and what the aligner answers.

use flott_core::element::BarrierOptions;

use super::*;

/// Runs a script: `0:1@10` is the barrier of checkpoint 1 on channel 0 at time 10, `0:1!@10` one that overtakes, `0:1?5@10` one that may
/// from time 5 on; `abort 1` gives checkpoint 1 up, `time 7` lets time pass. Each answer is a line: what was declined, what passed
/// (with start delay and alignment), began to overtake, and was complete after that; which channels are held, which are copied.
fn run(channels: usize, at_least_once: bool, script: &str) -> Vec<String> {
    let mut aligner = BarrierAligner::new(channels);
    let mut lines = Vec::new();
    for step in script.split(';').map(str::trim) {
        let mut words = Vec::new();
        if let Some(id) = step.strip_prefix("abort ") {
            aligner.abort(CheckpointId(id.parse().expect("a number")));
        } else {
            let answer = match step.strip_prefix("time ") {
                Some(now) => aligner.on_time(now.parse().expect("ms")),
                None => {
                    let (channel, rest) = step.split_once(':').expect("channel:checkpoint@time");
                    let (id, now) = rest.split_once('@').expect("checkpoint@time");
                    let (id, after) = match (id.strip_suffix('!'), id.split_once('?')) {
                        (Some(id), _) => (id, Some(0)),
                        (None, Some((id, ms))) => (id, Some(ms.parse().expect("ms"))),
                        (None, None) => (id, None),
                    };
                    let barrier = Barrier {
                        checkpoint: CheckpointId(id.parse().expect("a number")),
                        triggered_ms: 0,
                        options: BarrierOptions {
                            at_least_once,
                            unaligned_after_ms: after,
                            ..BarrierOptions::default()
                        },
                    };
                    aligner.on_barrier(channel.parse().expect("a number"), barrier, now.parse().expect("ms"))
                }
            };
            words.extend(answer.declined.iter().map(|c| format!("declined {c}")));
            let passes = [("passes", answer.passes), ("overtakes", answer.begins), ("complete", answer.completes)];
            for (word, a) in passes.into_iter().filter_map(|(word, a)| Some((word, a?))) {
                let id = a.barrier.checkpoint;
                assert_eq!(a.barrier.is_unaligned(), word != "passes");
                words.push(format!("{word} {id} delay {} alignment {}", a.start_delay_ms, a.alignment_ms));
            }
        }
        let held: Vec<String> = (0..channels).filter(|&c| aligner.is_held(c)).map(|c| c.to_string()).collect();
        if !held.is_empty() {
            words.push(format!("held {}", held.join(" ")));
        }
        let copied: Vec<String> = (0..channels).filter(|&c| aligner.captures(c)).map(|c| c.to_string()).collect();
        if !copied.is_empty() {
            words.push(format!("copied {}", copied.join(" ")));
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

#[test]
fn a_barrier_that_overtakes_passes_at_once_and_the_rest_is_copied_until_its_barriers_come() {
    let lines = run(3, false, "1:1!@5; 0:1!@7; 2:1!@20; 0:2!@30");
    assert_eq!(
        lines,
        [
            "overtakes 1 delay 5 alignment 0, copied 0 2",
            "copied 2",
            "complete 1 delay 5 alignment 15",
            "overtakes 2 delay 30 alignment 0, copied 1 2"
        ]
    );
    assert_eq!(run(1, false, "0:1!@5"), ["overtakes 1 delay 5 alignment 0, complete 1 delay 5 alignment 0"]);
}

#[test]
fn an_alignment_switches_when_its_time_has_come_or_when_a_barrier_has_switched_before() {
    let lines = run(3, false, "0:1?10@3; time 9; time 10; 1:1?10@11; 2:1!@12");
    assert_eq!(
        lines,
        [
            "held 0",
            "held 0",
            "overtakes 1 delay 3 alignment 0, copied 1 2",
            "copied 2",
            "complete 1 delay 3 alignment 9"
        ]
    );
    let lines = run(3, false, "0:1?10@3; 1:1!@4; 2:1?10@5");
    assert_eq!(lines, ["held 0", "overtakes 1 delay 3 alignment 0, copied 2", "complete 1 delay 3 alignment 2"]);
    let lines = run(2, false, "0:1?10@3; 1:1?10@4; time 20");
    assert_eq!(lines, ["held 0", "passes 1 delay 3 alignment 1", "-"], "in time it stays aligned");
}

#[test]
fn an_aligned_savepoint_may_follow_a_barrier_that_overtakes() {
    let lines = run(2, false, "0:1!@1; 0:2@2; 1:1!@3; 1:2@4");
    assert_eq!(
        lines,
        [
            "overtakes 1 delay 1 alignment 0, copied 1",
            "held 0, copied 1",
            "complete 1 delay 1 alignment 2, held 0",
            "passes 2 delay 2 alignment 2"
        ]
    );
}

#[test]
fn what_overtakes_is_over_when_it_is_aborted_or_a_newer_one_comes_in_its_place() {
    assert_eq!(run(2, false, "0:1!@1; abort 1; 1:1!@2"), ["overtakes 1 delay 1 alignment 0, copied 1", "-", "-"]);
    let lines = run(2, false, "0:1!@1; 1:2!@2; 1:1!@3; 0:2!@4");
    assert_eq!(
        lines,
        [
            "overtakes 1 delay 1 alignment 0, copied 1",
            "declined 1, overtakes 2 delay 2 alignment 0, copied 0",
            "copied 0",
            "complete 2 delay 2 alignment 2"
        ]
    );
    let lines = run(2, false, "0:1@1; 0:2!@2; 1:2!@3");
    assert_eq!(
        lines,
        ["held 0", "declined 1, overtakes 2 delay 2 alignment 0, copied 1", "complete 2 delay 2 alignment 1"]
    );
}
