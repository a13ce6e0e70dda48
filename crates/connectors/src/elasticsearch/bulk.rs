//! Sends operations to a server with `_bulk`, on the flusher's thread: hosts in turn, parts again that the server was too busy
//! for, in the order of each document. Never sends what was done again, except after an answer that was lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use flott_core::metrics::OperatorMetrics;
use flott_core::registry::TableSpec;
use flott_core::time::SharedClock;
use flott_core::{ChangeBatch, Error, Result};
use ureq::Agent;

use super::answer::{self, FILTER, Outcome, Refusal};
use super::document::{Documents, Operations};
use super::options::{FailureHandler, SinkOptions};
use crate::flusher::{BatchWriter, FlushError, Stop};
use crate::http::{self, Answer, Request};

const CONTENT_TYPE: &str = "application/x-ndjson";
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest pause between retries.
const PAUSE_MS_MAX: u64 = 10_000;
/// Retries of updates that met others, even where back-off is disabled.
const CONFLICT_RETRIES: u32 = 8;
/// Room in a request for operations, so that small ones do not grow the text again and again.
const FIRST_ROOM: usize = 64 << 10;

/// Why an attempt left something undone.
enum Trouble {
    /// These operations were refused for now; the first refusal.
    Later(Refusal),
    /// The request as a whole was refused for now.
    Busy(String),
}

/// The writer of one subtask.
pub struct BulkWriter {
    options: Arc<SinkOptions>,
    documents: Documents,
    agent: Agent,
    clock: SharedClock,
    metrics: Arc<OperatorMetrics>,
    /// The host that answered last.
    host: usize,
    connected: bool,
    /// Bytes per request: less than the option after the server found one too long.
    max_bytes: usize,
    /// Operations made and not done: at most a request and one row.
    pending: Operations,
    /// Rows of the flush under way that were made into operations.
    taken: usize,
}

impl BulkWriter {
    /// A writer of a table's rows; nothing is sent yet.
    pub fn new(
        options: Arc<SinkOptions>,
        table: &TableSpec,
        clock: SharedClock,
        metrics: Arc<OperatorMetrics>,
    ) -> Result<Self> {
        let documents = Documents::new(table, options.index.clone(), options.json.clone(), options.delimiter.clone())?;
        let agent = http::agent(&options.calls).map_err(Error::bug)?;
        let max_bytes = options.max_bytes;
        Ok(BulkWriter {
            options,
            documents,
            agent,
            clock,
            metrics,
            host: 0,
            connected: false,
            max_bytes,
            pending: Operations::default(),
            taken: 0,
        })
    }

    /// Calls the hosts in turn, beginning with the one that answered last.
    fn call(&mut self, path: &str, body: Option<&[u8]>) -> Result<Answer, FlushError> {
        let hosts = &self.options.hosts;
        let mut problems = Vec::new();
        for turn in 0..hosts.len() {
            let at = (self.host + turn) % hosts.len();
            let request = Request {
                url: &format!("{}{path}", hosts[at].url),
                authorization: self.options.authorization.as_ref().or(hosts[at].authorization.as_ref()),
                body: body.map(|b| (CONTENT_TYPE, b)),
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            match http::call(&self.agent, request) {
                Ok((status, body)) if !matches!(status, 502..=504) => {
                    self.host = at;
                    return Ok((status, body));
                }
                Ok((status, body)) => {
                    problems.push(format!("{} answers {status}: {}", hosts[at].url, answer::said(&body)))
                }
                Err(e) => problems.push(format!("{}: {e}", hosts[at].url)),
            }
        }
        self.connected = false;
        let message = format!("table `{}`: no server answers: {}", self.options.table, problems.join("; "));
        Err(FlushError::Unreachable(
            Error::retry("elasticsearch.unreachable", message).hint("start the server, or correct 'hosts'"),
        ))
    }

    fn server(&self) -> &str {
        &self.options.hosts[self.host].url
    }

    /// An answer that is a fault of the options, or of the server.
    fn refused(&self, status: u16, body: &[u8]) -> FlushError {
        let (table, server, said) = (&self.options.table, self.server(), answer::said(body));
        let error = Error::user("elasticsearch.request", format!("table `{table}`: {server} answers {status}: {said}"));
        FlushError::Fatal(error.hint(match status {
            401 | 403 => "set 'username' and 'password', or give the user the right to write to the index",
            404 | 405 => "is 'hosts' an Elasticsearch or OpenSearch server, and 'connection.path-prefix' right?",
            _ => "the server's log says more",
        }))
    }

    /// Makes operations of the next rows, as many as a request carries; whether there are any.
    fn take(&mut self, rows: &[ChangeBatch]) -> Result<bool, FlushError> {
        let (now_ms, mut skip) = (self.clock.now_ms(), self.taken);
        if self.pending.text.capacity() == 0 {
            self.pending.text.reserve(FIRST_ROOM);
        }
        for batch in rows {
            for row in skip.min(batch.num_rows())..batch.num_rows() {
                if self.pending.text.len() >= self.max_bytes {
                    return Ok(true);
                }
                self.documents
                    .push(batch, row, now_ms, &mut self.pending)
                    .map_err(|e| FlushError::Fatal(e.context(format_args!("table `{}`", self.options.table))))?;
                self.taken += 1;
            }
            skip = skip.saturating_sub(batch.num_rows());
        }
        Ok(!self.pending.is_empty())
    }

    /// How many pending operations one request carries: one at least.
    fn fitting(&self) -> usize {
        let fit = self.pending.ends.partition_point(|o| o.end <= self.max_bytes);
        fit.clamp(1, self.pending.ends.len())
    }

    /// Sends pending operations once; what is not done stays pending.
    fn send(&mut self) -> Result<Option<Trouble>, FlushError> {
        let count = self.fitting();
        let bytes = self.pending.ends[count - 1].end;
        let text = std::mem::take(&mut self.pending.text);
        let answer = self.call(&format!("/_bulk?{FILTER}"), Some(&text.as_bytes()[..bytes]));
        self.pending.text = text;
        let (status, body) = answer?;
        match status {
            200 => {}
            413 if count > 1 => {
                self.max_bytes = bytes / 2;
                tracing::warn!(server = self.server(), bytes, "a request was too long; smaller ones follow");
                return Ok(None);
            }
            413 => {
                let reason = format!("it has {bytes} bytes, more than the server takes (http.max_content_length)");
                let refusal = Refusal { index: String::new(), id: String::new(), status, reason, is_conflict: false };
                self.refuse(&refusal, 1)?;
                self.keep(count, &[]);
                return Ok(None);
            }
            429 => return Ok(Some(Trouble::Busy(answer::said(&body)))),
            _ => return Err(self.refused(status, &body)),
        }
        self.metrics.bytes.add(bytes as u64);
        let outcomes = answer::outcomes(&body, count).map_err(|problem| {
            let message =
                format!("table `{}`: {} answers what cannot be read: {problem}", self.options.table, self.server());
            FlushError::Fatal(
                Error::user("elasticsearch.request", message).hint("is it an Elasticsearch or OpenSearch server?"),
            )
        })?;
        match outcomes {
            None => {
                self.keep(count, &[]);
                Ok(None)
            }
            Some(outcomes) => self.sort_out(&outcomes),
        }
    }

    /// Keeps what has to be sent again: refused operations, and what follows them for the same document, so that the last
    /// row wins.
    fn sort_out(&mut self, outcomes: &[Outcome]) -> Result<Option<Trouble>, FlushError> {
        let (mut again, mut documents) = (Vec::new(), BTreeSet::new());
        let (mut later, mut never): (Option<&Refusal>, Option<&Refusal>) = (None, None);
        let (mut never_count, mut only_conflicts) = (0, true);
        for (i, outcome) in outcomes.iter().enumerate() {
            let document = self.pending.ends[i].document;
            match outcome {
                Outcome::Later(refusal) => {
                    later.get_or_insert(refusal);
                    only_conflicts &= refusal.is_conflict;
                    again.push(i);
                    documents.extend(document);
                }
                Outcome::Never(refusal) => {
                    never.get_or_insert(refusal);
                    never_count += 1;
                }
                Outcome::Done if document.is_some_and(|d| documents.contains(&d)) => again.push(i),
                Outcome::Done => {}
            }
        }
        if let Some(refusal) = never {
            self.refuse(refusal, never_count)?;
        }
        self.keep(outcomes.len(), &again);
        Ok(later.map(|refusal| Trouble::Later(Refusal { is_conflict: only_conflicts, ..refusal.clone() })))
    }

    /// Documents that the server will never take: fails, or counts them.
    fn refuse(&self, refusal: &Refusal, count: u64) -> Result<(), FlushError> {
        if self.options.failure_handler == FailureHandler::Ignore {
            self.metrics.bad_skipped.add(count);
            tracing::warn!(
                table = self.options.table,
                count,
                index = refusal.index,
                id = refusal.id,
                reason = refusal.reason,
                "documents were refused and are left out"
            );
            return Ok(());
        }
        Err(FlushError::Fatal(self.document_error(refusal, count)))
    }

    fn document_error(&self, refusal: &Refusal, count: u64) -> Error {
        let document = match (refusal.index.is_empty(), refusal.id.is_empty()) {
            (true, _) => "a document".to_owned(),
            (false, true) => format!("a document of index `{}`", refusal.index),
            (false, false) => format!("document `{}` of index `{}`", refusal.id, refusal.index),
        };
        let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        let message = format!(
            "table `{}`: {} refuses {document}{more} with status {}: {}",
            self.options.table,
            self.server(),
            refusal.status,
            refusal.reason
        );
        Error::user("elasticsearch.document", message).hint(
            "correct the row, the column's type or the index's mapping; 'failure-handler' = 'ignore' counts and leaves out \
             such documents",
        )
    }

    /// Forgets the first `count` pending operations except those in `again`.
    fn keep(&mut self, count: usize, again: &[usize]) {
        if again.is_empty() && count == self.pending.ends.len() {
            self.pending.text.clear();
            self.pending.ends.clear();
            return;
        }
        let mut left = Operations::default();
        for i in again.iter().copied().chain(count..self.pending.ends.len()) {
            left.push(&self.pending, i);
        }
        self.pending = left;
    }

    /// The server is too busy for too long.
    fn give_up(&mut self, trouble: &Trouble, tries: u32) -> Result<(), FlushError> {
        let (table, server, count) = (&self.options.table, self.server(), self.pending.ends.len() as u64);
        if self.options.failure_handler == FailureHandler::Ignore {
            self.metrics.bad_skipped.add(count);
            tracing::warn!(%table, count, "the server stays too busy: rows are left out");
            self.keep(self.pending.ends.len(), &[]);
            return Ok(());
        }
        let (place, reason) = match trouble {
            Trouble::Later(refusal) => {
                (format!(", first of document `{}` of index `{}`", refusal.id, refusal.index), &refusal.reason)
            }
            Trouble::Busy(reason) => (String::new(), reason),
        };
        let message =
            format!("table `{table}`: {server} put off {count} operations{place}, after {tries} retries: {reason}");
        Err(FlushError::Fatal(Error::retry("elasticsearch.rejected", message).hint(
            "set 'sink.bulk-flush.backoff.strategy' = 'EXPONENTIAL', or 'failure-handler' = 'retry-rejected', or lower the \
             sink's parallelism",
        )))
    }

    /// Sends until nothing is pending, with pauses while the server is too busy.
    fn send_all(&mut self, stop: &Stop) -> Result<(), FlushError> {
        let backoff = self.options.backoff;
        let (mut tries, mut pause_ms) = (0, backoff.delay_ms.max(1));
        while !self.pending.is_empty() && !stop.is_stopped() {
            let before = self.pending.ends.len();
            let Some(trouble) = self.send()? else {
                (tries, pause_ms) = (0, backoff.delay_ms.max(1));
                continue;
            };
            if self.pending.ends.len() < before {
                (tries, pause_ms) = (0, backoff.delay_ms.max(1));
            }
            let conflict = matches!(&trouble, Trouble::Later(refusal) if refusal.is_conflict);
            let most = if conflict { backoff.max_retries.max(CONFLICT_RETRIES) } else { backoff.max_retries };
            if tries >= most {
                self.give_up(&trouble, tries)?;
                continue;
            }
            tries += 1;
            self.metrics.external.retries.add(1);
            if !stop.sleep_ms(pause_ms) {
                break;
            }
            if backoff.doubles {
                pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
            }
        }
        Ok(())
    }
}

impl BatchWriter for BulkWriter {
    /// Asks the server who it is.
    fn connect(&mut self, _: &Stop) -> Result<(), FlushError> {
        if self.connected {
            return Ok(());
        }
        let (status, body) = self.call("/", None)?;
        match status {
            200 => {
                let Some(server) = answer::server(&body) else { return Err(self.refused(404, &body)) };
                if server.distribution.is_empty() && server.major() < 7 {
                    let message = format!(
                        "table `{}`: {} is {}, and '{}' needs version 7 or later",
                        self.options.table,
                        self.server(),
                        server.name(),
                        self.options.connector
                    );
                    return Err(FlushError::Fatal(
                        Error::user("elasticsearch.version", message)
                            .hint("upgrade the server, or name another in 'hosts'"),
                    ));
                }
            }
            // Who may write need not have the right to ask who the server is.
            403 | 404 => {}
            _ => return Err(self.refused(status, &body)),
        }
        self.connected = true;
        Ok(())
    }

    fn write(&mut self, rows: &[ChangeBatch], stop: &Stop) -> Result<(), FlushError> {
        loop {
            self.send_all(stop)?;
            if stop.is_stopped() {
                return Ok(());
            }
            if !self.take(rows)? {
                self.taken = 0;
                return Ok(());
            }
        }
    }
}
