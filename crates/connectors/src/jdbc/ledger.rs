//! The ledger of applied committables: a table beside the target, written in the same transaction as the rows. It is what makes
//! applying twice the same as once; it never judges rows.

use flott_core::sink::SinkContext;
use flott_core::{CheckpointId, Error};

use super::session::{DbError, DbErrorKind, Param, Place, Session};
use super::target::{Target, TargetError, quote};
use super::url::Dialect;

/// Ledger rows that are kept: those of so many checkpoints. Older ones are in no checkpoint that a job restarts from.
const KEPT_CHECKPOINTS: u64 = 1_000;

/// Statements on the ledger of one target.
pub struct Ledger {
    dialect: Dialect,
    table_sql: String,
    job: String,
    operator: String,
}

impl Ledger {
    /// Finds the ledger, or makes it; refuses a target whose rows and ledger would not be one transaction.
    pub fn open(
        session: &mut dyn Session,
        target: &Target,
        name: &str,
        context: &SinkContext,
        place: &Place,
    ) -> Result<Self, TargetError> {
        let schema = &target.table.0;
        let ledger = Ledger {
            dialect: target.dialect,
            table_sql: format!("{}.{}", quote(target.dialect, schema), quote(target.dialect, name)),
            job: context.job.to_string(),
            operator: context.operator.to_string(),
        };
        if target.dialect == Dialect::MySql {
            let sql = "SELECT engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?";
            let (schema, table) = (target.table.0.clone(), target.table.1.clone());
            let engine = session.texts(sql, vec![Param::Text(schema), Param::Text(table)])?;
            let engine = engine.into_iter().flatten().flatten().next().unwrap_or_default();
            if !["innodb", "rocksdb", "ndbcluster", ""].contains(&engine.to_lowercase().as_str()) {
                return Err(TargetError::Misfit(not_transactional(place, &engine)));
            }
        }
        if !ledger.exists(session, schema, name)? {
            match session.command(&ledger.create()) {
                Ok(()) => tracing::info!(ledger = %ledger.table_sql, "created the ledger of an exactly-once sink"),
                // Another subtask was faster.
                Err(e) if e.kind == DbErrorKind::Duplicate && ledger.exists(session, schema, name)? => {}
                Err(e) => return Err(TargetError::Misfit(place.error("create the ledger", &e))),
            }
        }
        Ok(ledger)
    }

    fn p(&self, n: usize) -> String {
        if self.dialect == Dialect::MySql { "?".to_owned() } else { format!("${n}") }
    }

    fn exists(&self, session: &mut dyn Session, schema: &str, name: &str) -> Result<bool, DbError> {
        let sql = format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            self.p(1),
            self.p(2)
        );
        let rows = session.texts(&sql, vec![Param::Text(schema.to_owned()), Param::Text(name.to_owned())])?;
        Ok(!rows.is_empty())
    }

    fn create(&self) -> String {
        let index =
            if self.dialect == Dialect::MySql { ", KEY (job, operator, checkpoint_id)) ENGINE = InnoDB" } else { ")" };
        format!(
            "CREATE TABLE IF NOT EXISTS {} (id VARCHAR(190) NOT NULL PRIMARY KEY, job CHAR(32) NOT NULL, \
             operator CHAR(32) NOT NULL, checkpoint_id BIGINT NOT NULL, row_count BIGINT NOT NULL, \
             applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP{index}",
            self.table_sql
        )
    }

    /// Enters a committable in the open transaction; `false`: it was applied before. Waits for another session that is
    /// applying the same one.
    pub fn enter(
        &self,
        session: &mut dyn Session,
        id: &str,
        checkpoint: CheckpointId,
        rows: usize,
    ) -> Result<bool, DbError> {
        let conflict = if self.dialect == Dialect::MySql { "" } else { " ON CONFLICT (id) DO NOTHING" };
        let sql = format!(
            "INSERT INTO {} (id, job, operator, checkpoint_id, row_count) VALUES ({}, {}, {}, {}, {}){conflict}",
            self.table_sql,
            self.p(1),
            self.p(2),
            self.p(3),
            self.p(4),
            self.p(5)
        );
        let number = |n: u64| Param::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let params = vec![
            Param::Text(id.to_owned()),
            Param::Text(self.job.clone()),
            Param::Text(self.operator.clone()),
            number(checkpoint.0),
            number(rows as u64),
        ];
        match session.execute(&sql, params) {
            Ok(entered) => Ok(entered > 0),
            Err(e) if e.kind == DbErrorKind::Duplicate => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether `before`, the committable in front of one of `checkpoint`, is applied (or long gone).
    pub fn has(&self, session: &mut dyn Session, before: &str, checkpoint: CheckpointId) -> Result<bool, DbError> {
        let sql = format!(
            "SELECT id FROM {} WHERE id = {} OR (job = {} AND operator = {} AND checkpoint_id > {}) LIMIT 1",
            self.table_sql,
            self.p(1),
            self.p(2),
            self.p(3),
            self.p(4)
        );
        let params = vec![
            Param::Text(before.to_owned()),
            Param::Text(self.job.clone()),
            Param::Text(self.operator.clone()),
            Param::Int(i64::try_from(checkpoint.0).unwrap_or(i64::MAX)),
        ];
        Ok(!session.texts(&sql, params)?.is_empty())
    }

    /// Removes rows that no restart can ask for; a failure waits for the next time.
    pub fn clean(&self, session: &mut dyn Session, newest: CheckpointId) {
        let Some(oldest) = newest.0.checked_sub(KEPT_CHECKPOINTS) else { return };
        let sql = format!(
            "DELETE FROM {} WHERE job = {} AND operator = {} AND checkpoint_id < {}",
            self.table_sql,
            self.p(1),
            self.p(2),
            self.p(3)
        );
        let oldest = Param::Int(i64::try_from(oldest).unwrap_or(i64::MAX));
        let params = vec![Param::Text(self.job.clone()), Param::Text(self.operator.clone()), oldest];
        let cleaned = session.begin().and_then(|()| session.execute(&sql, params)).and_then(|_| session.commit());
        if let Err(e) = cleaned {
            tracing::info!(ledger = %self.table_sql, error = %e, "old rows of the ledger stay for now");
            let _ = session.rollback();
        }
    }
}

fn not_transactional(place: &Place, engine: &str) -> Error {
    Error::user(
        "jdbc.not-transactional",
        format!("{}, table {}: its engine {engine} has no transactions", place.server, place.table),
    )
    .detail("'sink.delivery-guarantee' = 'exactly-once' writes rows and ledger in one transaction")
    .hint("ALTER TABLE … ENGINE = InnoDB, or use 'at-least-once'")
}
