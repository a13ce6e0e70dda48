//! The list of a partition as one value: a number of rows (u16), per row the lengths of its sort key and of its bytes (u32 each), the
//! sort keys, the rows. The order of the list is that of its rows: nothing is sorted here, and reading allocates nothing.

use flott_core::error::{Error, Result};

use super::list::{Item, damaged};

/// Longer lists lie in state row by row: each change rewrites the whole value.
pub(super) const ROWS_MAX: usize = 64;
/// Longest value.
const BYTES_MAX: usize = 1 << 30;

/// A list as it was read: slices of its value. Kept from one partition to the next for its memory.
#[derive(Default)]
pub(super) struct Packed<'a> {
    sorts: Vec<&'a [u8]>,
    rows: Vec<&'a [u8]>,
}

impl<'a> Packed<'a> {
    /// Takes the value apart; no value is an empty list.
    pub(super) fn read(&mut self, value: Option<&'a [u8]>) -> Result<()> {
        self.sorts.clear();
        self.rows.clear();
        let Some(value) = value else { return Ok(()) };
        let (count, rest) = value.split_first_chunk::<2>().ok_or_else(damaged)?;
        let count = usize::from(u16::from_le_bytes(*count));
        if count > ROWS_MAX {
            return Err(damaged());
        }
        let (lengths, mut rest) = rest.split_at_checked(count * 8).ok_or_else(damaged)?;
        for (column, into) in [&mut self.sorts, &mut self.rows].into_iter().enumerate() {
            for pair in lengths.as_chunks::<8>().0 {
                let (halves, _) = pair.as_chunks::<4>();
                let (bytes, behind) =
                    rest.split_at_checked(u32::from_le_bytes(halves[column]) as usize).ok_or_else(damaged)?;
                into.push(bytes);
                rest = behind;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }
    /// The sort keys.
    pub(super) fn sorts(&self) -> impl Iterator<Item = &'a [u8]> {
        self.sorts.iter().copied()
    }
    /// The rows.
    pub(super) fn rows(&self) -> &[&'a [u8]] {
        &self.rows
    }
    /// The bytes of a row of a list that follows from this one.
    pub(super) fn row<'b>(&self, item: Item, bytes: &impl Fn(usize) -> &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match item {
            Item::Before(i) => self.rows[i],
            Item::Row(row) => bytes(row),
        }
    }
    /// Replaces `value` by a list that follows from this one.
    pub(super) fn write<'b>(
        &self,
        items: &[(&[u8], Item)],
        bytes: &impl Fn(usize) -> &'b [u8],
        value: &mut Vec<u8>,
    ) -> Result<()>
    where
        'a: 'b,
    {
        let rows = || items.iter().map(|(_, item)| self.row(*item, bytes));
        let length: usize = items.iter().zip(rows()).map(|((sort, _), row)| sort.len() + row.len()).sum();
        if length > BYTES_MAX {
            let text = format!("the first {} rows of a partition have {length} bytes", items.len());
            return Err(Error::user("state.value_too_long", text)
                .hint(format!("they may have up to {BYTES_MAX} bytes: leave out the large columns")));
        }
        value.clear();
        value.extend_from_slice(&(items.len() as u16).to_le_bytes());
        for ((sort, _), row) in items.iter().zip(rows()) {
            value.extend_from_slice(&(sort.len() as u32).to_le_bytes());
            value.extend_from_slice(&(row.len() as u32).to_le_bytes());
        }
        items.iter().for_each(|(sort, _)| value.extend_from_slice(sort));
        rows().for_each(|row| value.extend_from_slice(row));
        Ok(())
    }
}
