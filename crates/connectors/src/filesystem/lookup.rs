//! Files as a table to look up in: read whole when the first connection is made, kept in memory by key, never read again. A
//! failed read is tried again by the next connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::keys::RowCodec;
use flott_core::lookup::{Lookup, LookupContext, LookupOptions, LookupRows, LookupSource};
use flott_core::memory::MemoryBudget;
use flott_core::source::{ReaderContext, ReaderEvent, Source};
use flott_core::types::{Column, arrow_schema};
use flott_core::{Error, Result};

/// A bounded source, looked up by key.
pub struct FileLookup {
    source: Arc<dyn Source>,
    keys: Vec<usize>,
    codec: RowCodec,
    schema: SchemaRef,
    loaded: Mutex<Option<Arc<Loaded>>>,
}

/// All rows, and where those of each key are.
struct Loaded {
    rows: RecordBatch,
    index: HashMap<Box<[u8]>, Vec<u32>>,
}

impl FileLookup {
    /// Rows of `source`, which has `columns`, by the columns `keys`.
    pub fn new(source: Arc<dyn Source>, columns: &[Column], keys: &[usize]) -> Result<Self> {
        let field = |k: &usize| Arc::new(columns[*k].data_type.to_field(&columns[*k].name));
        let codec = RowCodec::new(keys.iter().map(field).collect())?;
        Ok(FileLookup { source, keys: keys.to_vec(), codec, schema: arrow_schema(columns), loaded: Mutex::new(None) })
    }

    fn load(&self, context: &LookupContext) -> Result<Loaded> {
        let mut reader = self.source.reader(ReaderContext {
            subtask: 0,
            parallelism: 1,
            clock: Arc::clone(&context.clock),
            config: Arc::clone(&context.config),
            memory: MemoryBudget::unlimited(),
            metrics: Arc::clone(&context.metrics),
        })?;
        reader.assign(self.source.enumerator()?.discover(1)?)?;
        let mut batches = Vec::new();
        loop {
            match reader.poll()? {
                ReaderEvent::Rows { batch, .. } => batches.push(batch.rows),
                ReaderEvent::SplitFinished { .. } => {}
                ReaderEvent::Wait { .. } => std::thread::sleep(std::time::Duration::from_millis(1)),
                ReaderEvent::Drained => break,
            }
        }
        let rows = arrow_select::concat::concat_batches(&self.schema, &batches)?;
        let columns: Vec<_> = self.keys.iter().map(|&k| rows.column(k).clone()).collect();
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.codec.encode_rows(&columns, &mut offsets, &mut bytes)?;
        let mut index: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        for (row, range) in offsets.windows(2).enumerate() {
            let row = u32::try_from(row).map_err(|_| Error::bug("a file of more than 2^32 rows in memory"))?;
            index.entry(bytes[range[0] as usize..range[1] as usize].into()).or_default().push(row);
        }
        Ok(Loaded { rows, index })
    }
}

impl LookupSource for FileLookup {
    fn connect(&self, context: LookupContext) -> Result<Box<dyn Lookup>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match &*loaded {
            Some(table) => Arc::clone(table),
            None => Arc::clone(loaded.insert(Arc::new(self.load(&context)?))),
        };
        Ok(Box::new(Connection { table, codec: self.codec.clone() }))
    }
    fn options(&self) -> LookupOptions {
        LookupOptions::default()
    }
}

struct Connection {
    table: Arc<Loaded>,
    codec: RowCodec,
}

impl Lookup for Connection {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.codec.encode_rows(keys.columns(), &mut offsets, &mut bytes)?;
        let (mut owners, mut rows) = (Vec::new(), Vec::new());
        for (owner, range) in (0u32..).zip(offsets.windows(2)) {
            let found = self.table.index.get(&bytes[range[0] as usize..range[1] as usize]);
            for row in found.into_iter().flatten() {
                owners.push(owner);
                rows.push(*row);
            }
        }
        let rows = arrow_select::take::take_record_batch(&self.table.rows, &UInt32Array::from(rows))?;
        Ok(LookupRows { keys: UInt32Array::from(owners), rows })
    }
}
