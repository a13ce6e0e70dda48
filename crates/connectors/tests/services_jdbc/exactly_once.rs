//! Epochs applied with their checkpoint: the law of sinks, the ledger, locks and lost replies.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flott_connectors::contract::rows_of;
use flott_core::sink::{CommitError, Committable, Committer, Sink, SinkWriter};
use flott_core::types::TypeKind;
use flott_core::{CheckpointId, RowKind as K};

use crate::support::*;

const EXACTLY: (&str, &str) = ("sink.delivery-guarantee", "exactly-once");

type Parts = (Box<dyn SinkWriter>, Box<dyn Committer>);

fn start(sink: &Arc<dyn Sink>, subtask: u32, parallelism: u32, run: u64) -> Parts {
    let context = context(subtask, parallelism, run);
    let committer = sink.committer(context.clone()).expect("a committer").expect("two phases");
    (sink.writer(context, Vec::new()).expect("a writer"), committer)
}

fn one(writer: &mut dyn SinkWriter, checkpoint: u64) -> Committable {
    let mut prepared = writer.prepare_commit(CheckpointId(checkpoint), false).expect("prepared");
    assert_eq!(prepared.len(), 1);
    prepared.remove(0)
}

/// The ledger of a test of its own.
fn ledger(table: &Table) -> String {
    format!("{}_ledger", table.name)
}

struct Dropped(Server, String);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.client().try_run(&format!("DROP TABLE IF EXISTS {}", self.1));
    }
}

/// An append-only table shows most: a row applied twice is there twice.
fn append(server: &Server) -> (Table, Arc<dyn Sink>, Dropped) {
    let table = Table::kv(server, false);
    let name = ledger(&table);
    let columns = [("k", TypeKind::BigInt), ("v", TypeKind::STRING)];
    let spec = table.spec_of(&columns, &[], &[EXACTLY, ("sink.exactly-once.ledger-table", &name)]);
    let sink = sink(&spec).expect("a sink");
    (table, sink, Dropped(server.clone(), name))
}

#[test]
fn the_law_of_sinks_in_two_phases() {
    for server in servers() {
        let (table, sink, _ledger) = append(&server);
        let table = Mutex::new(table);
        let visible = || {
            let rows = table.lock().expect("not poisoned").rows();
            rows.iter().map(|r| format!("+I[{}]", r.replace('|', ", "))).collect::<Vec<_>>()
        };
        // The law commits and looks at once: this sink's commits take a moment.
        struct Patient(Arc<dyn Sink>);
        struct Waiting(Box<dyn Committer>);
        impl Committer for Waiting {
            fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
                commit(self.0.as_mut(), committables)
            }
        }
        impl Sink for Patient {
            fn changelog_mode(&self) -> flott_core::sink::ChangelogMode {
                self.0.changelog_mode()
            }
            fn writer(
                &self,
                context: flott_core::sink::SinkContext,
                restored: Vec<bytes::Bytes>,
            ) -> flott_core::Result<Box<dyn SinkWriter>> {
                self.0.writer(context, restored)
            }
            fn committer(
                &self,
                context: flott_core::sink::SinkContext,
            ) -> flott_core::Result<Option<Box<dyn Committer>>> {
                Ok(self.0.committer(context)?.map(|c| Box::new(Waiting(c)) as Box<dyn Committer>))
            }
        }
        let law = flott_connectors::contract::SinkLaw {
            sink: &|| Arc::new(Patient(Arc::clone(&sink))),
            visible: &visible,
            left: &|| visible().len(),
        };
        let (a, b, c) = (batch(&[(1, "a"), (1, "a")]), batch(&[(2, "b")]), range(10, 3_000, "c"));
        assert_eq!(rows_of(&b), ["+I[2, b]"]);
        law.check([&a, &b, &c]);
    }
}

#[test]
fn an_upsert_epoch_is_applied_as_a_whole_or_not_at_all() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        let name = ledger(&table);
        let _drop = Dropped(server.clone(), name.clone());
        table.client.run(&format!("INSERT INTO {} VALUES (1, 'old'), (2, 'old')", table.name));
        let spec = table.spec(&[EXACTLY, ("sink.exactly-once.ledger-table", &name)]);
        let sink = sink(&spec).expect("a sink");
        let (mut writer, mut committer) = start(&sink, 0, 1, 1);
        write(writer.as_mut(), &changes(&[(K::Delete, 1, ""), (K::UpdateAfter, 2, "new"), (K::Insert, 3, "new")]));
        let first = one(writer.as_mut(), 1);
        assert_eq!(table.rows(), ["1|old", "2|old"], "nothing before the commit");
        commit(committer.as_mut(), std::slice::from_ref(&first)).expect("a commit");
        assert_eq!(table.rows(), ["2|new", "3|new"]);
        // A row that does not fit takes the whole epoch with it, and the error says so.
        write(writer.as_mut(), &range(10, 1_500, "fits"));
        write(writer.as_mut(), &batch(&[(5_000, "much longer than twenty characters")]));
        let bad = one(writer.as_mut(), 2);
        match commit(committer.as_mut(), &[bad]) {
            Err(CommitError::Fatal(e)) => {
                assert_eq!(e.code(), "jdbc.data", "{e}");
                assert!(e.to_string().contains(&table.name), "{e}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(table.count(), 2, "no part of it is there");
        assert_eq!(table.client.number(&format!("SELECT COUNT(*) FROM {name}")), 1);
        let row = table.client.rows(&format!("SELECT id, checkpoint_id, row_count FROM {name}"));
        assert_eq!(row, [format!("{}|1|3", first.id)]);
    }
}

#[test]
fn a_reply_that_is_lost_is_settled_by_the_ledger() {
    for server in servers() {
        let (mut table, _, _ledger) = append(&server);
        let proxy = Proxy::to(&server);
        let name = ledger(&table);
        let columns = [("k", TypeKind::BigInt), ("v", TypeKind::STRING)];
        let mut spec = table.spec_of(&columns, &[], &[EXACTLY, ("sink.exactly-once.ledger-table", &name)]);
        spec.options.insert("url".into(), server.url(proxy.port));
        let sink = sink(&spec).expect("a sink");
        let (mut writer, mut committer) = start(&sink, 0, 1, 1);
        for checkpoint in 1..=30u64 {
            write(writer.as_mut(), &batch(&[(checkpoint as i64, "a")]));
            let prepared = one(writer.as_mut(), checkpoint);
            // Answers come late, so that cuts at different moments meet every step, the COMMIT included.
            proxy.delay_ms.store(4, Ordering::SeqCst);
            let _ = committer.commit(std::slice::from_ref(&prepared));
            std::thread::sleep(Duration::from_millis(checkpoint));
            proxy.cut();
            proxy.delay_ms.store(0, Ordering::SeqCst);
            commit(committer.as_mut(), &[prepared]).expect("a commit");
        }
        let expected: Vec<String> = (1..=30).map(|k| format!("{k}|a")).collect();
        assert_eq!(table.rows(), expected, "every row once: {server:?}");
    }
}

#[test]
fn a_lock_holds_commits_and_neither_barriers_nor_the_end() {
    for server in servers() {
        let (mut table, sink, _ledger) = append(&server);
        let (mut writer, mut committer) = start(&sink, 0, 1, 1);
        write(writer.as_mut(), &batch(&[(0, "a")]));
        let first = one(writer.as_mut(), 1);
        commit(committer.as_mut(), &[first]).expect("a commit");
        let mut blocker = server.client();
        if server.mysql {
            blocker.run(&format!("LOCK TABLES {} WRITE", table.name));
        } else {
            blocker.run(&format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table.name));
        }
        let mut pending = Vec::new();
        let begin_ms = now_ms();
        for checkpoint in 2..=20u64 {
            write(writer.as_mut(), &batch(&[(checkpoint as i64, "a")]));
            pending.push(one(writer.as_mut(), checkpoint));
            match committer.commit(&pending) {
                Err(CommitError::Pending { committed: 0, .. }) => {}
                other => panic!("{other:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(now_ms() - begin_ms < 2_000, "nobody waited for the lock");
        // The job is cancelled while the commit waits, and starts again.
        let begin_ms = now_ms();
        drop((writer, committer));
        let took_ms = now_ms() - begin_ms;
        assert!(took_ms < 1_000, "stopping took {took_ms} ms");
        let (mut writer, mut committer) = start(&sink, 0, 1, 2);
        assert!(matches!(committer.commit(&pending), Err(CommitError::Pending { committed: 0, .. })));
        std::thread::sleep(Duration::from_millis(200));
        blocker.run(if server.mysql { "UNLOCK TABLES" } else { "ROLLBACK" });
        commit(committer.as_mut(), &pending).expect("the lock is gone");
        write(writer.as_mut(), &batch(&[(21, "a")]));
        let last = one(writer.as_mut(), 21);
        commit(committer.as_mut(), &[last]).expect("a commit");
        let numbers: Vec<i64> = table.rows().iter().filter_map(|r| r.split('|').next()?.parse().ok()).collect();
        let expected: Vec<i64> = [0].into_iter().chain(2..=21).collect();
        assert_eq!(numbers, expected, "{server:?}");
    }
}

#[test]
fn two_processes_with_the_same_committable_apply_it_once() {
    for server in servers() {
        let (mut table, sink, _ledger) = append(&server);
        let (mut writer, _) = start(&sink, 0, 1, 1);
        let mut prepared = Vec::new();
        for checkpoint in 1..=20 {
            write(writer.as_mut(), &range(checkpoint * 100, checkpoint * 100 + 50, "a"));
            prepared.push(one(writer.as_mut(), checkpoint as u64));
        }
        std::thread::scope(|scope| {
            for run in 2..=4 {
                let (sink, prepared) = (&sink, &prepared);
                scope.spawn(move || {
                    let (_, mut committer) = start(sink, run - 2, 3, u64::from(run));
                    commit(committer.as_mut(), prepared).expect("a commit");
                });
            }
        });
        assert_eq!(table.count(), 1_000, "{server:?}");
    }
}

#[test]
fn after_a_rescale_epochs_of_one_writer_are_applied_in_order() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        let name = ledger(&table);
        let _drop = Dropped(server.clone(), name.clone());
        let sink = sink(&table.spec(&[EXACTLY, ("sink.exactly-once.ledger-table", &name)])).expect("a sink");
        let (mut writer, _) = start(&sink, 0, 1, 1);
        let mut prepared = Vec::new();
        for checkpoint in 1..=6u64 {
            write(writer.as_mut(), &batch(&[(1, &format!("v{checkpoint}"))]));
            prepared.push(one(writer.as_mut(), checkpoint));
        }
        // Dealt out over two subtasks; the one with the later epochs is asked first.
        let deal = |to: usize| -> Vec<Committable> { prepared.iter().skip(to).step_by(2).cloned().collect() };
        let (_, mut odd) = start(&sink, 1, 2, 2);
        assert!(matches!(odd.commit(&deal(1)), Err(CommitError::Pending { committed: 0, .. })));
        std::thread::sleep(Duration::from_millis(300));
        assert!(table.rows().is_empty(), "it waits for what comes before");
        let (_, mut even) = start(&sink, 0, 2, 2);
        std::thread::scope(|scope| {
            scope.spawn(|| commit(even.as_mut(), &deal(0)).expect("a commit"));
            commit(odd.as_mut(), &deal(1)).expect("a commit");
        });
        assert_eq!(table.rows(), ["1|v6"], "{server:?}");
    }
}

#[test]
fn a_table_without_transactions_is_refused() {
    let Some(server) = mysql() else { return };
    let mut table = Table::kv(&server, true);
    table.client.run(&format!("ALTER TABLE {} ENGINE = MyISAM", table.name));
    let sink = sink(&table.spec(&[EXACTLY])).expect("a sink");
    let (mut writer, _committer) = start(&sink, 0, 1, 1);
    let e = wait("an error", || writer.on_processing_time(now_ms()).err());
    assert_eq!(e.code(), "jdbc.not-transactional", "{e}");
    assert!(e.to_string().contains("MyISAM") && e.to_string().contains(&table.name), "{e}");
}
