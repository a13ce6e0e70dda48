//! Numbers found by key: a hash table of keys, and a chain of numbers for each. Holds no keys; the caller can show those of every
//! number. Not part of snapshots.

use flott_core::key_group::key_hash;
use hashbrown::HashTable;

const END: u32 = u32::MAX;

/// The chains.
#[derive(Default)]
pub(crate) struct Chains {
    /// Hash of the key, first and last link.
    heads: HashTable<(u64, u32, u32)>,
    /// Number, next link.
    links: Vec<(u32, u32)>,
}

impl Chains {
    /// Adds a number under `key`, behind the others; `key_of` gives the keys of numbers added before.
    pub(crate) fn add<'k>(&mut self, key: &[u8], number: u32, key_of: impl Fn(u32) -> &'k [u8]) {
        self.add_hashed(key_hash(key), number, |other| key_of(other) == key);
    }
    /// Adds a number whose key has this hash; `same` tells whether a number added before has the same key.
    pub(crate) fn add_hashed(&mut self, hash: u64, number: u32, same: impl Fn(u32) -> bool) {
        let link = self.links.len() as u32;
        self.links.push((number, END));
        let links = &mut self.links;
        let is_it = |head: &(u64, u32, u32)| head.0 == hash && same(links[head.1 as usize].0);
        match self.heads.find_mut(hash, is_it) {
            Some(head) => {
                links[head.2 as usize].1 = link;
                head.2 = link;
            }
            None => {
                self.heads.insert_unique(hash, (hash, link, link), |h| h.0);
            }
        }
    }
    /// Calls `f` for every number of the key of this hash, in the order they were added.
    pub(crate) fn each_hashed(&self, hash: u64, same: impl Fn(u32) -> bool, mut f: impl FnMut(u32)) {
        let is_it = |head: &(u64, u32, u32)| head.0 == hash && same(self.links[head.1 as usize].0);
        let mut at = self.heads.find(hash, is_it).map_or(END, |head| head.1);
        while let Some((number, next)) = self.links.get(at as usize) {
            f(*number);
            at = *next;
        }
    }
}
