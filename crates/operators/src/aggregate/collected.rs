//! Accumulators without a fixed size: all values of a group as one byte string beside its state row. Pure: bytes in, bytes out.
//!
//! An entry is a u32 length and the canonical bytes of the arguments; in a bag a count (i64) follows. A value is found by its bytes.
//! Every change of a group rewrites its bytes: the result, which is emitted anyway, is as long.

use std::collections::HashMap;
use std::ops::Range;

use flott_core::error::{Error, Result};

/// What of the values is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// The first.
    First,
    /// The last.
    Last,
    /// All, in the order they came; a retraction takes the first equal one.
    List,
    /// Each distinct one with how often it is there, in the order they came first.
    Bag,
}

/// A change of a group: the bytes of a value, and +1 or −1 (of a bag: any count).
pub(crate) type Change<'a> = (&'a [u8], i64);

fn corrupt() -> Error {
    Error::corrupt("state.row", "the values of an aggregate in state are cut off")
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n).ok_or_else(corrupt)?;
    *rest = tail;
    Ok(head)
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = u32::from_le_bytes(take(rest, 4)?.try_into().map_err(|_| corrupt())?);
    take(rest, length as usize)
}

fn put_entry(entry: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(entry);
}

impl Collected {
    /// The values in order, with their counts (1 except in a bag).
    pub(crate) fn entries(self, bytes: &[u8]) -> Result<Vec<Change<'_>>> {
        let (mut rest, mut entries) = (bytes, Vec::new());
        while !rest.is_empty() {
            let entry = take_entry(&mut rest)?;
            let count = match self {
                Collected::Bag => i64::from_le_bytes(take(&mut rest, 8)?.try_into().map_err(|_| corrupt())?),
                _ => 1,
            };
            entries.push((entry, count));
        }
        Ok(entries)
    }

    /// The bytes after `changes`; `None`: nothing is left.
    pub(crate) fn fold(self, old: Option<&[u8]>, changes: &[Change<'_>]) -> Result<Option<Vec<u8>>> {
        let old = old.unwrap_or_default();
        let mut out = Vec::new();
        match self {
            Collected::First if !old.is_empty() => out.extend_from_slice(old),
            Collected::First => changes.iter().take(1).for_each(|(entry, _)| put_entry(entry, &mut out)),
            Collected::Last => match changes.last() {
                Some((entry, _)) => put_entry(entry, &mut out),
                None => out.extend_from_slice(old),
            },
            Collected::List => Self::fold_list(old, changes, &mut out)?,
            Collected::Bag => self.fold_bag(old, changes, &mut out)?,
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn fold_list(old: &[u8], changes: &[Change<'_>], out: &mut Vec<u8>) -> Result<()> {
        out.reserve(old.len() + changes.iter().map(|(e, _)| e.len() + 4).sum::<usize>());
        out.extend_from_slice(old);
        for &(entry, sign) in changes {
            if sign > 0 {
                put_entry(entry, out);
            } else if let Some(found) = find(out, entry)? {
                out.drain(found);
            }
        }
        Ok(())
    }

    fn fold_bag(self, old: &[u8], changes: &[Change<'_>], out: &mut Vec<u8>) -> Result<()> {
        let mut entries = self.entries(old)?;
        let mut places: HashMap<&[u8], usize> = entries.iter().enumerate().map(|(i, e)| (e.0, i)).collect();
        for &(entry, count) in changes {
            let at = *places.entry(entry).or_insert_with(|| {
                entries.push((entry, 0));
                entries.len() - 1
            });
            entries[at].1 += count;
        }
        for (entry, count) in entries.into_iter().filter(|e| e.1 != 0) {
            put_entry(entry, out);
            out.extend_from_slice(&count.to_le_bytes());
        }
        Ok(())
    }

    /// The bytes of two groups that became one: the values of `a` came first.
    pub(crate) fn merge(self, a: Option<&[u8]>, b: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let changes = self.entries(b.unwrap_or_default())?;
        self.fold(a, &changes)
    }
}

/// Where the first entry of these bytes lies.
fn find(bytes: &[u8], wanted: &[u8]) -> Result<Option<Range<usize>>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = bytes.len() - rest.len();
        if take_entry(&mut rest)? == wanted {
            return Ok(Some(start..bytes.len() - rest.len()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: Collected, bytes: Option<&[u8]>) -> Vec<(String, i64)> {
        let entries = kind.entries(bytes.unwrap_or_default()).expect("well formed");
        entries.into_iter().map(|(e, n)| (String::from_utf8(e.to_vec()).expect("text"), n)).collect()
    }

    #[test]
    fn a_list_keeps_the_order_and_a_bag_the_count() {
        let changes: Vec<Change<'_>> = vec![(b"b", 1), (b"a", 1), (b"b", 1), (b"c", 1), (b"b", -1), (b"c", -1)];
        let folded = Collected::List.fold(None, &changes).expect("folds");
        assert_eq!(list(Collected::List, folded.as_deref()), [("a".into(), 1), ("b".into(), 1)]);
        let bag = Collected::Bag.fold(None, &changes).expect("folds");
        assert_eq!(list(Collected::Bag, bag.as_deref()), [("b".into(), 1), ("a".into(), 1)]);
        let gone = Collected::Bag.fold(bag.as_deref(), &[(b"a", -1), (b"b", -1)]).expect("folds");
        assert_eq!(gone, None);
    }

    #[test]
    fn first_and_last_keep_one_value_also_over_batches() {
        for (kind, expected) in [(Collected::First, "x"), (Collected::Last, "z")] {
            let one = kind.fold(None, &[(b"x", 1), (b"y", 1)]).expect("folds");
            let two = kind.fold(one.as_deref(), &[(b"z", 1)]).expect("folds");
            assert_eq!(list(kind, two.as_deref()), [(expected.to_owned(), 1)]);
            assert_eq!(kind.fold(two.as_deref(), &[]).expect("folds"), two);
        }
    }

    #[test]
    fn merged_bags_add_their_counts_and_damage_is_an_error() {
        let a = Collected::Bag.fold(None, &[(b"x", 2), (b"y", 1)]).expect("folds");
        let b = Collected::Bag.fold(None, &[(b"y", 3)]).expect("folds");
        let both = Collected::Bag.merge(a.as_deref(), b.as_deref()).expect("merges").expect("not empty");
        assert_eq!(list(Collected::Bag, Some(&both)), [("x".into(), 2), ("y".into(), 4)]);
        for end in 1..both.len() {
            let whole = Collected::Bag.entries(&both[..end]);
            assert!(whole.is_err() || whole.is_ok_and(|e| e.len() == 1), "cut at {end}");
        }
    }
}
