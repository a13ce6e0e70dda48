//! A scripted reader and what the head makes of it: watermarks over splits, idleness, alignment, barriers, the end.

use std::sync::Mutex;

use arrow_schema::DataType;
use flott_core::batch::ChangeBatch;
use flott_core::element::BarrierOptions;
use flott_core::encoding::decode_split;
use flott_core::ids::OperatorId;
use flott_core::source::{SourceTransformFactory, SplitReader, WatermarkOptions};
use flott_core::time::{Clock, ManualClock};

use super::*;
use crate::alignment::AlignmentGroup;
use crate::testing::{batch, render_batch, schema};

/// Answers polls from a script: `a 5` is a row with time 5 of split a, `a end` its end, `wait 50`, `drained`.
#[derive(Clone, Default)]
struct Script {
    lines: Arc<Mutex<VecDeque<&'static str>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl SplitReader for Script {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        let ids: Vec<String> = splits.into_iter().map(|s| s.id).collect();
        self.calls.lock().expect("not poisoned").push(format!("assign {}", ids.join(" ")));
        Ok(())
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let line = self.lines.lock().expect("not poisoned").pop_front().unwrap_or("wait 9999999");
        Ok(match line.split_once(' ') {
            Some(("wait", ms)) => ReaderEvent::Wait { until_ms: ms.parse().expect("ms") },
            Some((split, "end")) => ReaderEvent::SplitFinished { split: Arc::from(split) },
            Some(("panic", why)) => panic!("{why}"),
            Some((split, ms)) => {
                let row = format!("[{ms}]");
                ReaderEvent::Rows { split: Arc::from(split), batch: batch(&columns(), &[&row]) }
            }
            None => ReaderEvent::Drained,
        })
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let left = self.lines.lock().expect("not poisoned").len() as u8;
        Ok(vec![Split { id: "a".into(), state: vec![left] }])
    }
    fn pause(&mut self, split: &str, paused: bool) {
        self.calls.lock().expect("not poisoned").push(format!("pause {split} {paused}"));
    }
}

fn columns() -> arrow_schema::SchemaRef {
    schema(&[("t", DataType::Int64)])
}

/// The watermark is the row's time.
struct Times;

impl SourceTransformFactory for Times {
    fn create(&self) -> Result<Box<dyn SourceTransform>> {
        Ok(Box::new(Times))
    }
    fn has_watermarks(&self) -> bool {
        true
    }
}

impl SourceTransform for Times {
    fn apply(&mut self, batch: ChangeBatch) -> Result<(ChangeBatch, Option<i64>)> {
        let text = render_batch(&batch).join("");
        let ms = text.trim_start_matches("+I[").trim_end_matches(']').parse().expect("one number");
        Ok((batch, Some(ms)))
    }
}

struct Kit {
    head: SourceHead,
    clock: Arc<ManualClock>,
    script: Script,
    metrics: Arc<TaskMetrics>,
}

impl Kit {
    fn new(watermarks: WatermarkOptions, interval_ms: i64, group: Option<&Arc<AlignmentGroup>>) -> Self {
        let (script, clock) = (Script::default(), ManualClock::at(0));
        let metrics: Arc<TaskMetrics> = Arc::default();
        let spec = SourceHeadSpec {
            operator: OperatorId(1),
            name: Arc::from("script"),
            reader: Box::new(script.clone()),
            transform: Some(Arc::new(Times)),
            watermarks,
            alignment: group.cloned(),
            metrics: Arc::default(),
        };
        let shared: SharedClock = clock.clone();
        let options =
            SourceHeadOptions { watermark_interval_ms: interval_ms, clock: shared, metrics: Arc::clone(&metrics) };
        Kit { head: SourceHead::new(spec, options), clock, script, metrics }
    }
    fn assign(&mut self, ids: &[&str], no_more: bool) {
        let splits = ids.iter().map(|id| Split { id: (*id).to_owned(), state: Vec::new() }).collect();
        self.head.assign(splits, no_more).expect("no error");
    }
    /// Adds lines to the script and polls until there is nothing.
    fn run(&mut self, lines: &[&'static str]) -> Vec<String> {
        self.script.lines.lock().expect("not poisoned").extend(lines);
        let mut out = Vec::new();
        for _ in 0..1_000 {
            match self.head.poll(self.clock.now_ms(), true).expect("no error") {
                HeadPoll::Item(Item::Batch { batch, .. }) => out.extend(render_batch(&batch)),
                HeadPoll::Item(Item::Signal(Signal::Watermark(w))) => out.push(format!("watermark {}", w.0)),
                HeadPoll::Item(Item::Signal(s)) => out.push(format!("{s:?}")),
                HeadPoll::Item(Item::EndOfInput(p)) => out.push(format!("end of {p}")),
                HeadPoll::Item(Item::Barrier(b)) => {
                    let cut = b.cut.expect("a source cuts itself");
                    let items = &cut.operator_state[0].items;
                    let splits: Vec<_> = items.iter().map(|i| decode_split(i).expect("encoded")).collect();
                    out.push(format!("barrier {} {}={:?}", b.barrier.checkpoint, splits[0].id, splits[0].state));
                }
                HeadPoll::Declined(c) => out.push(format!("declined {c}")),
                HeadPoll::Hurry => out.push("hurry".to_owned()),
                // The script may hold more than one answer of "nothing now".
                HeadPoll::Nothing { .. } if self.script.lines.lock().expect("not poisoned").is_empty() => return out,
                HeadPoll::Nothing { .. } => {}
            }
        }
        panic!("the script is not read to its end: {out:?}");
    }
    fn trigger(&mut self, checkpoint: u64) {
        let options = BarrierOptions::default();
        let barrier = Barrier { checkpoint: CheckpointId(checkpoint), triggered_ms: 0, options };
        self.head.trigger(barrier).expect("no error");
    }
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.script.calls.lock().expect("not poisoned"))
    }
}

#[test]
fn the_watermark_is_the_lowest_of_the_splits_and_never_falls() {
    let mut kit = Kit::new(WatermarkOptions::default(), 0, None);
    kit.assign(&["a", "b"], false);
    let out = kit.run(&["a 5", "b 3", "b 9", "a 4", "a end", "b 10"]);
    assert_eq!(
        out,
        ["+I[5]", "+I[3]", "watermark 3", "+I[9]", "watermark 5", "+I[4]", "watermark 9", "+I[10]", "watermark 10"]
    );
    kit.assign(&["c"], false);
    assert_eq!(kit.run(&["b 20", "c 1", "c 30"]), ["+I[20]", "+I[1]", "+I[30]", "watermark 20"]);
}

#[test]
fn watermarks_come_at_most_once_an_interval_and_the_last_is_not_forgotten() {
    let mut kit = Kit::new(WatermarkOptions::default(), 200, None);
    kit.assign(&["a"], false);
    assert_eq!(kit.run(&["a 1", "a 2", "a 3"]), ["+I[1]", "watermark 1", "+I[2]", "+I[3]"]);
    let HeadPoll::Nothing { wake_at_ms } = kit.head.poll(10, true).expect("no error") else {
        panic!("nothing is left")
    };
    assert_eq!(wake_at_ms, Some(200));
    kit.clock.set(200);
    assert_eq!(kit.run(&[]), ["watermark 3"]);
}

#[test]
fn a_quiet_split_is_idle_after_the_timeout_but_not_while_the_task_is_held_back() {
    let options = WatermarkOptions { idle_timeout_ms: Some(100), alignment: None };
    let mut kit = Kit::new(options, 0, None);
    kit.assign(&["a", "b"], false);
    assert_eq!(kit.run(&["a 5"]), ["+I[5]"]);
    kit.clock.set(90);
    assert_eq!(kit.run(&["a 6"]), ["+I[6]"]);
    kit.clock.set(100);
    assert_eq!(kit.run(&["wait 0"]), ["watermark 6"], "b has said nothing for 100 ms");
    // A second passes, all of it backpressured.
    kit.clock.set(1_100);
    kit.metrics.backpressured_ns.add(1_000_000_000);
    assert_eq!(kit.run(&["wait 0"]), Vec::<String>::new());
    kit.clock.set(1_200);
    assert_eq!(kit.run(&["wait 0"]), ["Idle"]);
    assert_eq!(kit.run(&["b 7"]), ["Active", "+I[7]", "watermark 7"]);
}

#[test]
fn a_split_that_runs_ahead_of_its_group_is_paused_until_the_others_follow() {
    let group = AlignmentGroup::new(10);
    let other = group.join();
    other.report(Some(100));
    let mut kit = Kit::new(WatermarkOptions::default(), 0, Some(&group));
    kit.assign(&["a", "b"], false);
    kit.calls();
    kit.run(&["a 105", "b 111", "wait 0"]);
    assert_eq!(kit.calls(), ["pause b true"]);
    kit.run(&["a 200"]);
    assert_eq!(kit.calls(), ["pause a true"]);
    // Both are paused: the reader is not even asked.
    kit.script.lines.lock().expect("not poisoned").push_back("a 300");
    let HeadPoll::Nothing { wake_at_ms } = kit.head.poll(0, true).expect("no error") else { panic!("all is paused") };
    assert_eq!(wake_at_ms, Some(ALIGNMENT_INTERVAL_MS));
    other.report(None);
    assert_eq!(kit.run(&[]), ["+I[300]"]);
    assert_eq!(kit.calls(), ["pause b false"]);
    drop(other);
    assert_eq!(group.allowed_ms(), 121, "this source alone decides");
}

#[test]
fn barriers_lie_behind_what_was_read_and_come_after_the_end_too() {
    let mut kit = Kit::new(WatermarkOptions::default(), 0, None);
    kit.assign(&["a"], true);
    kit.script.lines.lock().expect("not poisoned").extend(["a 1", "a 2", "a end"]);
    let HeadPoll::Item(Item::Batch { .. }) = kit.head.poll(0, true).expect("no error") else {
        panic!("a row comes first")
    };
    kit.trigger(1);
    assert_eq!(
        kit.run(&[]),
        [
            "watermark 1",
            "barrier 1 a=[2]",
            "+I[2]",
            "watermark 2",
            "watermark 9223372036854775807",
            "end of 0",
            "EndOfData"
        ]
    );
    kit.trigger(2);
    assert_eq!(kit.run(&[]), ["barrier 2 a=[0]"]);
}

#[test]
fn a_source_without_splits_waits_for_more_until_it_hears_there_are_none() {
    let mut kit = Kit::new(WatermarkOptions::default(), 0, None);
    assert_eq!(kit.run(&[]), Vec::<String>::new());
    kit.assign(&["a"], false);
    assert_eq!(kit.run(&["a 1", "drained"]), ["+I[1]", "watermark 1"]);
    kit.assign(&["b"], false);
    assert_eq!(kit.run(&["b 2", "b end"]), ["+I[2]", "watermark 2"]);
    kit.assign(&[], true);
    assert_eq!(kit.run(&[]), ["watermark 9223372036854775807", "end of 0", "EndOfData"]);
    assert_eq!(kit.calls(), ["assign a", "assign b"]);
}

#[test]
fn a_panic_in_a_connector_names_the_source() {
    let mut kit = Kit::new(WatermarkOptions::default(), 0, None);
    kit.assign(&["a"], true);
    kit.script.lines.lock().expect("not poisoned").push_back("panic no disk");
    let Err(e) = kit.head.poll(0, true) else { panic!("the panic is an error") };
    assert!(e.to_string().starts_with("source \"script\": panicked: no disk"), "{e}");
}
