//! What was found, by key: least recently used entries go first. Holds at most the configured number of keys; never asks.

use std::sync::Arc;

use flott_core::lookup::LookupCache;
use hashbrown::HashTable;

/// Rows of one key, as bytes; none: nothing was found.
pub(super) type Found = Arc<[Box<[u8]>]>;

const NONE: usize = usize::MAX;

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    found: Found,
    written_ms: i64,
    read_ms: i64,
    newer: usize,
    older: usize,
}

/// The cache of one subtask: a hash table over entries that form a list by last use.
pub(super) struct Cache {
    options: LookupCache,
    index: HashTable<(u64, usize)>,
    entries: Vec<Entry>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
}

impl Cache {
    /// An empty cache.
    pub(super) fn new(options: LookupCache) -> Self {
        let index = HashTable::new();
        Cache { options, index, entries: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE }
    }
    /// What is known of a key.
    pub(super) fn get(&mut self, hash: u64, key: &[u8], now_ms: i64) -> Option<Found> {
        let at = self.find(hash, key)?;
        let entry = &self.entries[at];
        let past = |since: i64, limit: Option<i64>| limit.is_some_and(|ms| now_ms.saturating_sub(since) >= ms);
        if past(entry.written_ms, self.options.expire_after_write_ms)
            || past(entry.read_ms, self.options.expire_after_access_ms)
        {
            self.remove(at);
            return None;
        }
        self.unlink(at);
        self.link(at);
        self.entries[at].read_ms = now_ms;
        Some(Arc::clone(&self.entries[at].found))
    }
    /// Remembers what was found; nothing only if that is wanted.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], found: &Found, now_ms: i64) {
        if let Some(at) = self.find(hash, key) {
            self.remove(at);
        }
        if self.options.max_rows == 0 || (found.is_empty() && !self.options.cache_missing_key) {
            return;
        }
        while self.index.len() as u64 >= self.options.max_rows {
            self.remove(self.oldest);
        }
        let (found, key) = (Arc::clone(found), key.into());
        let entry = Entry { hash, key, found, written_ms: now_ms, read_ms: now_ms, newer: NONE, older: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.index.insert_unique(hash, (hash, at), |e| e.0);
        self.link(at);
    }
    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |e| e.0 == hash && *self.entries[e.1].key == *key).map(|e| e.1)
    }
    fn remove(&mut self, at: usize) {
        self.unlink(at);
        if let Ok(entry) = self.index.find_entry(self.entries[at].hash, |e| e.1 == at) {
            entry.remove();
        }
        self.entries[at].found = Found::default();
        self.entries[at].key = Box::default();
        self.free.push(at);
    }
    fn link(&mut self, at: usize) {
        (self.entries[at].newer, self.entries[at].older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = at,
            newest => self.entries[newest].newer = at,
        }
        self.newest = at;
    }
    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.entries[at].newer, self.entries[at].older);
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(n: u8) -> Found {
        Arc::from(vec![vec![n].into_boxed_slice()])
    }

    fn cache(max_rows: u64, write: Option<i64>, access: Option<i64>, missing: bool) -> Cache {
        Cache::new(LookupCache {
            max_rows,
            expire_after_write_ms: write,
            expire_after_access_ms: access,
            cache_missing_key: missing,
        })
    }

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let mut cache = cache(2, None, None, true);
        cache.put(1, b"a", &found(1), 0);
        cache.put(1, b"b", &found(2), 0);
        assert_eq!(cache.get(1, b"a", 0), Some(found(1)));
        cache.put(1, b"c", &found(3), 0);
        assert_eq!(cache.get(1, b"b", 0), None);
        assert_eq!(cache.get(1, b"a", 0), Some(found(1)));
        assert_eq!(cache.get(1, b"c", 0), Some(found(3)));
        cache.put(1, b"c", &found(4), 0);
        cache.put(2, b"d", &found(5), 0);
        assert_eq!(cache.get(1, b"a", 0), None);
        assert_eq!(cache.get(1, b"c", 0), Some(found(4)));
    }

    #[test]
    fn entries_expire_and_missing_keys_are_remembered_if_wanted() {
        let mut by_write = cache(9, Some(10), None, false);
        by_write.put(1, b"a", &found(1), 0);
        assert!(by_write.get(1, b"a", 9).is_some());
        assert!(by_write.get(1, b"a", 10).is_none());
        by_write.put(1, b"b", &Found::default(), 10);
        assert!(by_write.get(1, b"b", 10).is_none());
        let mut by_access = cache(9, None, Some(10), true);
        by_access.put(1, b"a", &Found::default(), 0);
        assert_eq!(by_access.get(1, b"a", 9), Some(Found::default()));
        assert!(by_access.get(1, b"a", 18).is_some());
        assert!(by_access.get(1, b"a", 28).is_none());
        cache(0, None, None, true).put(1, b"a", &found(1), 0);
    }
}
