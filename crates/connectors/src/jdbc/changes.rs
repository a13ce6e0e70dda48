//! What a run of batches does to a table: the last change per key, in the order of keys; or all rows, appended. Sends nothing.

use std::collections::BTreeMap;

use arrow_array::UInt32Array;
use flott_core::sink::ChangelogMode;
use flott_core::{ChangeBatch, Error, Result};

use super::encode::push_key;

/// A row: index of the batch, index within it.
pub type RowAt = (usize, usize);

/// Rows to insert (or upsert) and keys to delete. No key is in both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows that are there afterwards.
    pub upserts: Vec<RowAt>,
    /// Rows whose keys are gone afterwards.
    pub deletes: Vec<RowAt>,
}

impl Changes {
    /// Of batches in order. With an empty `key` every row is appended.
    pub fn of(batches: &[ChangeBatch], key: &[usize]) -> Result<Self> {
        let rows = || batches.iter().enumerate().flat_map(|(b, batch)| (0..batch.num_rows()).map(move |r| (b, r)));
        if key.is_empty() {
            if batches.iter().any(|b| b.kinds.as_ref().is_some_and(|k| k.iter().any(|k| !k.is_add()))) {
                return Err(Error::bug("a retraction reached a table without a key"));
            }
            return Ok(Changes { upserts: rows().collect(), deletes: Vec::new() });
        }
        // Sorted by key: two subtasks (or two programs) that lock the same rows do so in the same order.
        let mut last: BTreeMap<Vec<u8>, RowAt> = BTreeMap::new();
        let mut bytes = Vec::new();
        for (b, r) in rows() {
            bytes.clear();
            for k in key {
                push_key(batches[b].rows.column(*k), r, &mut bytes);
            }
            match last.get_mut(&bytes) {
                Some(at) => *at = (b, r),
                None => drop(last.insert(bytes.clone(), (b, r))),
            }
        }
        let (upserts, deletes) = last.into_values().partition(|(b, r)| batches[*b].kind(*r).is_add());
        Ok(Changes { upserts, deletes })
    }

    /// How many rows are touched.
    pub fn len(&self) -> usize {
        self.upserts.len() + self.deletes.len()
    }
}

/// The batches as one, each key with its last change only (at its place in the order of rows), so that a checkpoint carries no
/// more than has an effect.
pub fn compact(batches: &[ChangeBatch], key: &[usize]) -> Result<ChangeBatch> {
    let changes = Changes::of(batches, key)?;
    let whole = ChangeBatch::concat(batches)?;
    if changes.len() == whole.num_rows() {
        return Ok(whole);
    }
    let mut first = Vec::with_capacity(batches.len());
    let mut rows = 0;
    for batch in batches {
        first.push(rows);
        rows += batch.num_rows();
    }
    let at = changes.upserts.iter().chain(&changes.deletes).map(|(b, r)| (first[*b] + r) as u32);
    let mut at: Vec<u32> = at.collect();
    at.sort_unstable();
    whole.take(&UInt32Array::from(at))
}

/// What a table with this key takes.
pub fn mode(key: &[usize]) -> ChangelogMode {
    if key.is_empty() { ChangelogMode::Append } else { ChangelogMode::Upsert }
}

#[cfg(test)]
mod tests {
    use flott_core::RowKind as K;
    use flott_core::types::TypeKind;

    use super::*;
    use crate::contract::rows_of;
    use crate::testing::json_batch;

    fn batch(text: &str, kinds: &[K]) -> ChangeBatch {
        let rows = json_batch(&[("k", TypeKind::BigInt), ("v", TypeKind::STRING)], text).rows;
        ChangeBatch::new(rows, Some(kinds.into()), None)
    }

    #[test]
    fn the_last_change_of_a_key_wins_across_batches() {
        let a = batch(
            "{\"k\":2,\"v\":\"a\"}\n{\"k\":1,\"v\":\"b\"}\n{\"k\":2,\"v\":\"c\"}\n{\"k\":3,\"v\":\"d\"}\n",
            &[K::Insert, K::Insert, K::UpdateAfter, K::Delete],
        );
        let b = batch("{\"k\":1,\"v\":\"b\"}\n{\"k\":3,\"v\":\"e\"}\n", &[K::Delete, K::Insert]);
        let changes = Changes::of(&[a.clone(), b.clone()], &[0]).expect("changes");
        assert_eq!(changes, Changes { upserts: vec![(0, 2), (1, 1)], deletes: vec![(1, 0)] });
        let small = compact(&[a, b], &[0]).expect("one batch");
        assert_eq!(rows_of(&small), ["+U[2, c]", "-D[1, b]", "+I[3, e]"]);
    }

    #[test]
    fn without_a_key_rows_are_appended_and_retractions_are_a_bug() {
        let a = batch("{\"k\":2,\"v\":\"a\"}\n{\"k\":2,\"v\":\"a\"}\n", &[K::Insert, K::Insert]);
        assert_eq!(Changes::of(std::slice::from_ref(&a), &[]).expect("changes").upserts, [(0, 0), (0, 1)]);
        assert_eq!(compact(&[a], &[]).expect("one batch").num_rows(), 2);
        let d = batch("{\"k\":2,\"v\":\"a\"}\n", &[K::Delete]);
        assert_eq!(Changes::of(&[d], &[]).expect_err("no key").code(), "bug");
    }

    #[test]
    fn keys_of_several_columns_do_not_run_into_each_other() {
        let rows =
            |t: &str| ChangeBatch::append(json_batch(&[("a", TypeKind::STRING), ("b", TypeKind::STRING)], t).rows);
        let a = rows("{\"a\":\"x\",\"b\":\"yz\"}\n{\"a\":\"xy\",\"b\":\"z\"}\n{\"a\":\"xy\",\"b\":null}\n");
        assert_eq!(Changes::of(&[a], &[0, 1]).expect("changes").len(), 3);
    }
}
