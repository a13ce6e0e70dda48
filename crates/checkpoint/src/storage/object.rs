//! Any object store behind the storage's law: memory now, S3 and HDFS later; never used for local files (see `local`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flott_core::{Error, Result};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::CheckpointStorage;

/// An object store with its own small runtime.
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    endpoint: String,
    runtime: tokio::runtime::Runtime,
}

impl ObjectStorage {
    /// A storage on `store`, called `endpoint` in messages.
    pub fn new(store: Arc<dyn ObjectStore>, endpoint: impl Into<String>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::retry("storage.runtime", format!("cannot start the storage's runtime: {e}")))?;
        Ok(ObjectStorage { store, endpoint: endpoint.into(), runtime })
    }
    /// A storage in memory: for jobs without a checkpoint directory. Gone with the process.
    pub fn in_memory() -> Result<Self> {
        Self::new(Arc::new(object_store::memory::InMemory::new()), "memory:")
    }

    fn error(&self, verb: &str, path: &str, e: &object_store::Error) -> Error {
        Error::retry("storage.io", format!("cannot {verb} {}/{path}: {e}", self.endpoint))
    }
}

impl CheckpointStorage for ObjectStorage {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let location = Path::from(path);
        match self.runtime.block_on(self.store.put_opts(&location, bytes.into(), options)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.error("write", path, &e)),
        }
    }

    fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let location = Path::from(path);
        let read = async {
            let Some(range) = range else {
                return self.store.get_opts(&location, GetOptions::default()).await?.bytes().await;
            };
            // A range beyond the end is an error in most stores, here it is a short answer.
            let size = self.store.head(&location).await?.size;
            let (start, end) = (range.start.min(size), range.end.min(size));
            if start >= end {
                return Ok(Bytes::new());
            }
            let options = GetOptions { range: Some(GetRange::Bounded(start..end)), ..GetOptions::default() };
            self.store.get_opts(&location, options).await?.bytes().await
        };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("read", path, &e)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>> {
        let prefix = Path::from(dir);
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|e| self.error("list", dir, &e))?;
        let name = |p: &Path| p.filename().unwrap_or_default().to_owned();
        let files = listed.objects.iter().map(|o| name(&o.location));
        let dirs = listed.common_prefixes.iter().map(|p| format!("{}/", name(p)));
        let mut names: Vec<String> = files.chain(dirs).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, path: &str) -> Result<()> {
        match self.runtime.block_on(self.store.delete(&Path::from(path))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("delete", path, &e)),
        }
    }
}
