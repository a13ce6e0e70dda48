//! Rows as operations of the `_bulk` request: what to do, where, and with which document; sends nothing.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_array::Array;
use flott_core::batch::ChangeBatch;
use flott_core::registry::TableSpec;
use flott_core::types::TypeKind;
use flott_core::{Error, Result, RowKind};

use super::index::IndexName;
use crate::formats::JsonOptions;
use crate::formats::json_encode::{JsonEncoder, push_string};
use crate::text::render_value;

/// How often the server itself repeats an update that met another one.
const RETRY_ON_CONFLICT: u32 = 3;

/// Operations, one after another as the request has them.
#[derive(Debug, Default)]
pub struct Operations {
    /// Their lines.
    pub text: String,
    /// Where each ends (it begins where the one before ends), and of which document it is.
    pub ends: Vec<Operation>,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Offset just after its last line.
    pub end: usize,
    /// A hash of index and id; `None`: the server makes the id.
    pub document: Option<u64>,
}

impl Operations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// Where operation `i` begins.
    pub fn start(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.ends[before].end)
    }
    /// The lines of operation `i`.
    pub fn lines(&self, i: usize) -> &str {
        &self.text[self.start(i)..self.ends[i].end]
    }
    /// Adds operation `i` of others.
    pub fn push(&mut self, others: &Operations, i: usize) {
        self.text.push_str(others.lines(i));
        self.ends.push(Operation { end: self.text.len(), document: others.ends[i].document });
    }
}

/// Makes operations of rows.
pub struct Documents {
    json: JsonEncoder,
    index: IndexName,
    key: Vec<usize>,
    key_names: Vec<String>,
    delimiter: String,
    index_of_row: String,
    id: String,
}

impl Documents {
    /// Documents of a table's rows.
    pub fn new(table: &TableSpec, index: IndexName, json: JsonOptions, delimiter: String) -> Result<Self> {
        for column in table.primary_key.iter().map(|&k| &table.columns[k]) {
            let illegal = matches!(
                column.data_type.kind,
                TypeKind::Array(_)
                    | TypeKind::Map(..)
                    | TypeKind::Row(_)
                    | TypeKind::Binary(_)
                    | TypeKind::VarBinary(_)
                    | TypeKind::IntervalDayTime
                    | TypeKind::IntervalYearMonth
            );
            if illegal {
                let (name, t) = (&column.name, &column.data_type);
                let message = format!("table `{}`: the primary key column `{name}` is a {t}", table.name);
                return Err(Error::user("elasticsearch.key", message)
                    .hint("the id of a document is made of the key's text: use columns of simple types"));
            }
        }
        Ok(Documents {
            json: JsonEncoder::new(json, &table.columns)?,
            index,
            key: table.primary_key.clone(),
            key_names: table.primary_key.iter().map(|&k| table.columns[k].name.clone()).collect(),
            delimiter,
            index_of_row: String::new(),
            id: String::new(),
        })
    }

    /// Appends the operation of a row, as Flink has it: with a primary key an update that inserts what is not there, or a
    /// delete; without one a new document.
    pub fn push(&mut self, batch: &ChangeBatch, row: usize, now_ms: i64, out: &mut Operations) -> Result<()> {
        let columns = batch.rows.columns();
        self.index_of_row.clear();
        self.index.push(columns, row, now_ms, &mut self.index_of_row)?;
        self.id.clear();
        for (i, &k) in self.key.iter().enumerate() {
            if columns[k].is_null(row) {
                let message =
                    format!("the primary key column `{}` is NULL, so the document has no id", self.key_names[i]);
                return Err(Error::user("elasticsearch.key", message).hint("filter such rows, or leave the key out"));
            }
            if i > 0 {
                self.id.push_str(&self.delimiter);
            }
            render_value(&columns[k], row, &mut self.id);
        }
        let has_id = !self.key.is_empty();
        let is_delete = matches!(batch.kind(row), RowKind::Delete | RowKind::UpdateBefore);
        let text = &mut out.text;
        text.push_str(match (is_delete, has_id) {
            (true, true) => r#"{"delete":{"_index":"#,
            (false, true) => r#"{"update":{"_index":"#,
            (false, false) => r#"{"index":{"_index":"#,
            (true, false) => {
                return Err(Error::user("elasticsearch.key", "a row is to be deleted, and documents have no id")
                    .hint("declare a PRIMARY KEY … NOT ENFORCED on the sink table"));
            }
        });
        push_string(&self.index_of_row, text);
        if has_id {
            text.push_str(r#","_id":"#);
            push_string(&self.id, text);
        }
        match (is_delete, has_id) {
            (true, _) => text.push_str("}}\n"),
            (false, true) => {
                text.push_str(r#","retry_on_conflict":"#);
                crate::formats::text::push_int(RETRY_ON_CONFLICT.into(), text);
                text.push_str("}}\n{\"doc\":");
                self.json.row(columns, row, text)?;
                text.push_str(",\"doc_as_upsert\":true}\n");
            }
            (false, false) => {
                text.push_str("}}\n");
                self.json.row(columns, row, text)?;
                text.push('\n');
            }
        }
        let document = has_id.then(|| {
            let mut hasher = DefaultHasher::new();
            (&self.index_of_row, &self.id).hash(&mut hasher);
            hasher.finish()
        });
        out.ends.push(Operation { end: out.text.len(), document });
        Ok(())
    }
}
