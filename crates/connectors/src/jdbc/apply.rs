//! Changes as statements of one open transaction; never begins or ends it.

use flott_core::ChangeBatch;

use super::changes::{Changes, RowAt};
use super::encode::param;
use super::session::{DbError, DbErrorKind, Param, Session};
use super::statements::{delete, insert, piece};
use super::target::Target;

/// A statement failed: what it was, and what the server said.
pub struct ApplyError {
    /// `upsert of 100 rows`.
    pub what: String,
    /// The failure.
    pub error: DbError,
}

#[derive(Clone, Copy)]
enum Kind {
    Insert,
    Delete,
}

/// Sends the changes. `full` is how many rows a full flush has.
pub fn apply(
    session: &mut dyn Session,
    target: &Target,
    batches: &[ChangeBatch],
    changes: &Changes,
    full: usize,
) -> Result<(), ApplyError> {
    send(session, target, batches, &changes.deletes, (Kind::Delete, full))?;
    send(session, target, batches, &changes.upserts, (Kind::Insert, full))
}

fn send(
    session: &mut dyn Session,
    target: &Target,
    batches: &[ChangeBatch],
    rows: &[RowAt],
    (kind, full): (Kind, usize),
) -> Result<(), ApplyError> {
    let all: Vec<usize> = (0..target.names.len()).collect();
    let columns = match kind {
        Kind::Insert => &all,
        Kind::Delete => &target.key,
    };
    // Half a packet, so that names, types and escapes have room.
    let bytes_max = session.packet_bytes_max() / 2;
    let mut rest = rows;
    while !rest.is_empty() {
        let count = piece(rest.len(), columns.len(), full);
        let mut params: Vec<Param> = Vec::with_capacity(count * columns.len());
        let (mut bytes, mut taken) = (0, 0);
        for (b, r) in &rest[..count] {
            let before = params.len();
            for c in columns {
                params.push(param(batches[*b].rows.column(*c), *r, target.holds[*c], target.dialect));
            }
            let row_bytes: usize = params[before..].iter().map(Param::size_bytes).sum();
            if taken > 0 && bytes + row_bytes > bytes_max {
                params.truncate(before);
                break;
            }
            bytes += row_bytes;
            taken += 1;
        }
        let what = |rows: usize| {
            let verb = match kind {
                Kind::Delete => "delete",
                Kind::Insert if target.key.is_empty() => "insert",
                Kind::Insert => "upsert",
            };
            format!("{verb} of {rows} {}", if rows == 1 { "row" } else { "rows" })
        };
        // A row larger than a whole packet would only make the server hang up.
        if taken == 1 && bytes > session.packet_bytes_max() {
            let message = format!("the row has about {bytes} bytes, a packet at most {}", session.packet_bytes_max());
            let error = DbError { kind: DbErrorKind::TooLarge, code: String::new(), message };
            return Err(ApplyError { what: what(1), error });
        }
        let sql = match kind {
            Kind::Insert => insert(target, taken),
            Kind::Delete => delete(target, taken),
        };
        session.execute(&sql, params).map_err(|error| ApplyError { what: what(taken), error })?;
        rest = &rest[taken..];
    }
    Ok(())
}
