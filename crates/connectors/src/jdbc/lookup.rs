//! Rows of a table by key for lookup joins: one statement for all keys of a call. Blocks; the join calls it off the task's
//! thread and keeps the cache.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use flott_core::lookup::{Lookup, LookupContext, LookupOptions, LookupRows, LookupSource};
use flott_core::registry::TableSpec;
use flott_core::types::{TypeKind, arrow_schema};
use flott_core::{Error, Result};

use super::encode::{needs_utc, param, push_key};
use super::options::JdbcOptions;
use super::session::{DbErrorKind, Param, Place, ReadError, RowQuery, Session, connect};
use super::statements::{key_condition, piece, select};
use super::target::{Target, Use, resolve};
use crate::columns::ColumnBuilder;

/// Keys of one statement at most.
const KEYS_MAX: usize = 1_024;

/// The table as a lookup source.
pub struct JdbcLookupSource(Arc<Asked>);

struct Asked {
    jdbc: JdbcOptions,
    options: LookupOptions,
    spec: TableSpec,
    keys: Vec<usize>,
}

impl JdbcLookupSource {
    /// Of a table by these columns.
    pub fn new(jdbc: JdbcOptions, options: LookupOptions, spec: TableSpec, keys: Vec<usize>) -> Self {
        JdbcLookupSource(Arc::new(Asked { jdbc, options, spec, keys }))
    }
}

impl LookupSource for JdbcLookupSource {
    fn connect(&self, context: LookupContext) -> Result<Box<dyn Lookup>> {
        let place = Place::of(&self.0.jdbc);
        context.metrics.external.set_endpoint(place.endpoint());
        let mut lookup = JdbcLookup { asked: Arc::clone(&self.0), context, place, connected: None };
        lookup.connected()?;
        Ok(Box::new(lookup))
    }

    fn options(&self) -> LookupOptions {
        self.0.options
    }
}

struct JdbcLookup {
    asked: Arc<Asked>,
    context: LookupContext,
    place: Place,
    connected: Option<(Box<dyn Session>, Target)>,
}

impl JdbcLookup {
    fn connected(&mut self) -> Result<(&mut dyn Session, &Target)> {
        if self.connected.is_none() {
            let (jdbc, spec) = (&self.asked.jdbc, &self.asked.spec);
            let utc = needs_utc(&spec.columns);
            let mut session = connect(jdbc, utc, true).map_err(|e| self.place.error("connect", &e))?;
            let target = resolve(session.as_mut(), jdbc, spec, Use::Read).map_err(|e| e.into_error(&self.place))?;
            self.connected = Some((session, target));
        }
        match &mut self.connected {
            Some((session, target)) => Ok((session.as_mut(), target)),
            None => Err(Error::bug("a lookup has no connection right after it connected")),
        }
    }

    /// The rows of the keys `from..from + count`, appended to the builders.
    fn ask(&mut self, keys: &RecordBatch, from: usize, count: usize, builders: &mut [ColumnBuilder]) -> Result<()> {
        let asked = Arc::clone(&self.asked);
        let (session, target) = self.connected()?;
        let is_bytes = |i: usize| is_bytes(&asked.spec.columns[i].data_type.kind);
        let sql = format!("{} WHERE {}", select(target, is_bytes), key_condition(target, &asked.keys, count));
        let mut params: Vec<Param> = Vec::with_capacity(count * asked.keys.len());
        for row in from..from + count {
            for (column, at) in keys.columns().iter().zip(&asked.keys) {
                params.push(param(column, row, target.holds[*at], target.dialect));
            }
        }
        let query = RowQuery { sql: &sql, params, fetch_rows: usize::MAX };
        let result = session.rows(query, builders, &mut |_| Ok(true));
        result.map_err(|e| match e {
            ReadError::Local(e) => e,
            ReadError::Db(e) => {
                if e.kind == DbErrorKind::Gone {
                    self.connected = None;
                }
                self.place.error(&format!("lookup of {count} keys"), &e)
            }
        })
    }
}

/// Whether a column is read as bytes rather than as text.
pub fn is_bytes(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Binary(_) | TypeKind::VarBinary(_))
}

impl Lookup for JdbcLookup {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        let columns = self.asked.spec.columns.clone();
        let mut builders = columns.iter().map(|c| ColumnBuilder::new(&c.data_type)).collect::<Result<Vec<_>>>()?;
        let what = format!("lookup of {} keys", keys.num_rows());
        let begin_ns = self.context.clock.now_nanos();
        let metrics = Arc::clone(&self.context.metrics);
        metrics.external.begin(what, self.context.clock.now_ms());
        let mut result = Ok(());
        let mut at = 0;
        while at < keys.num_rows() && result.is_ok() {
            let left = (keys.num_rows() - at).min(KEYS_MAX);
            let count = piece(left, self.asked.keys.len(), KEYS_MAX);
            result = self.ask(keys, at, count, &mut builders);
            at += count;
        }
        let rows = builders.first().map_or(0, ColumnBuilder::len);
        metrics.external.end(rows as u64, self.context.clock.now_nanos().saturating_sub(begin_ns));
        result?;
        let arrays = builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<ArrayRef>>>()?;
        let found = RecordBatch::try_new(arrow_schema(&columns), arrays)?;
        assign(keys, &found, &self.asked.keys)
    }
}

/// Says which key each row answers. The server compares by its collation, so rows that equal no key byte for byte go to
/// those they equal without regard to case and trailing spaces.
fn assign(keys: &RecordBatch, found: &RecordBatch, at: &[usize]) -> Result<LookupRows> {
    let found_keys: Vec<ArrayRef> = at.iter().map(|c| Arc::clone(found.column(*c))).collect();
    let exact = index(keys.columns(), keys.num_rows(), false);
    let mut loose: Option<HashMap<Vec<u8>, Vec<u32>>> = None;
    let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(found.num_rows());
    for row in 0..found.num_rows() {
        let matching = match exact.get(&key_bytes(&found_keys, row, false)) {
            Some(matching) => Some(matching),
            None => loose.get_or_insert_with(|| index(keys.columns(), keys.num_rows(), true)).get(&key_bytes(
                &found_keys,
                row,
                true,
            )),
        };
        pairs.extend(matching.into_iter().flatten().map(|key| (*key, row as u32)));
    }
    pairs.sort_unstable();
    let rows = arrow_select::take::take_record_batch(found, &pairs.iter().map(|p| p.1).collect::<UInt32Array>())?;
    Ok(LookupRows { keys: pairs.iter().map(|p| p.0).collect(), rows })
}

fn index(columns: &[ArrayRef], rows: usize, loose: bool) -> HashMap<Vec<u8>, Vec<u32>> {
    let mut index: HashMap<Vec<u8>, Vec<u32>> = HashMap::with_capacity(rows);
    for row in 0..rows {
        index.entry(key_bytes(columns, row, loose)).or_default().push(row as u32);
    }
    index
}

fn key_bytes(columns: &[ArrayRef], row: usize, loose: bool) -> Vec<u8> {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    let mut out = Vec::new();
    for column in columns {
        match column.as_string_opt::<i32>().filter(|c| loose && !c.is_null(row)) {
            Some(strings) => {
                out.extend_from_slice(strings.value(row).trim_end_matches(' ').to_lowercase().as_bytes());
                out.push(0);
            }
            None => push_key(column, row, &mut out),
        }
    }
    out
}
