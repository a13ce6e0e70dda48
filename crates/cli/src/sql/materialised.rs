//! The rows that stand after all changes so far, at most so many: the oldest give way. Knows nothing of how they are shown.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use flott_core::RowKind;
use flott_core::error::{Error, Result};

/// A row as texts.
type Row = Rc<Vec<String>>;
/// Holes that are left alone before they are squeezed out.
const HOLES_MIN: usize = 1024;

/// A table made of changes.
pub struct Materialised {
    max: usize,
    /// Rows in order of arrival; a row that was taken back leaves a hole.
    rows: VecDeque<Option<Row>>,
    /// The number of the first place.
    first: u64,
    /// Ascending.
    places: HashMap<Row, VecDeque<u64>>,
    count: usize,
    dropped: u64,
    /// The place of the row that the last change took back as the first half of an update.
    vacated: Option<u64>,
}

impl Materialised {
    /// An empty table of at most `max` rows.
    pub fn new(max: usize) -> Self {
        Materialised {
            max: max.max(1),
            rows: VecDeque::new(),
            first: 0,
            places: HashMap::new(),
            count: 0,
            dropped: 0,
            vacated: None,
        }
    }

    /// Rows that stand.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Rows that gave way to newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last `n` rows in order.
    pub fn last(&self, n: usize) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = self.rows.iter().rev().flatten().take(n).map(|r| r.to_vec()).collect();
        rows.reverse();
        rows
    }

    /// Applies a change. The new row of an update takes the place of the old one.
    pub fn change(&mut self, kind: RowKind, row: Vec<String>) -> Result<()> {
        let vacated = self.vacated.take();
        if !kind.is_add() {
            return self.take_back(kind, row);
        }
        let row = Rc::new(row);
        let index = vacated.filter(|_| kind == RowKind::UpdateAfter).and_then(|place| self.index(place));
        match index.and_then(|i| self.rows.get_mut(i)) {
            Some(hole) => *hole = Some(Rc::clone(&row)),
            None => self.rows.push_back(Some(Rc::clone(&row))),
        }
        let place = self.first + index.unwrap_or(self.rows.len() - 1) as u64;
        let places = self.places.entry(row).or_default();
        let at = places.partition_point(|p| *p < place);
        places.insert(at, place);
        self.count += 1;
        if self.count > self.max {
            self.drop_oldest();
        }
        if self.rows.len() - self.count > self.count.max(HOLES_MIN) {
            self.squeeze();
        }
        Ok(())
    }

    fn index(&self, place: u64) -> Option<usize> {
        usize::try_from(place.checked_sub(self.first)?).ok()
    }

    fn take_back(&mut self, kind: RowKind, row: Vec<String>) -> Result<()> {
        let Some(places) = self.places.get_mut(&row) else {
            // It may be one of those that gave way.
            if self.dropped > 0 {
                return Ok(());
            }
            let message = format!(
                "the query takes back a row that its result does not hold: {}[{}]",
                kind.short(),
                row.join(", ")
            );
            let error = Error::user("cli.unmatched-change", message);
            return Err(error.hint(
                "a function such as UUID() or NOW() over rows that change gives another value each time: leave it out, or use --result-mode changelog",
            ));
        };
        let place = places.pop_back();
        if places.is_empty() {
            self.places.remove(&row);
        }
        if let Some(i) = place.and_then(|p| self.index(p)) {
            self.rows[i] = None;
            self.count -= 1;
            self.vacated = place.filter(|_| kind == RowKind::UpdateBefore);
        }
        Ok(())
    }

    fn drop_oldest(&mut self) {
        while let Some(oldest) = self.rows.pop_front() {
            self.first += 1;
            let Some(row) = oldest else { continue };
            if let Some(places) = self.places.get_mut(&row) {
                // The places are in order, and this is the first of all.
                places.pop_front();
                if places.is_empty() {
                    self.places.remove(&row);
                }
            }
            self.count -= 1;
            self.dropped += 1;
            return;
        }
    }

    fn squeeze(&mut self) {
        self.rows.retain(Option::is_some);
        self.places.clear();
        self.first = 0;
        for (place, row) in (0..).zip(self.rows.iter().flatten()) {
            self.places.entry(Rc::clone(row)).or_default().push_back(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};

    fn row(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    fn texts(table: &Materialised) -> Vec<String> {
        table.last(usize::MAX).concat()
    }

    fn of(max: usize, changes: &[(RowKind, &str)]) -> Materialised {
        let mut table = Materialised::new(max);
        for (kind, text) in changes {
            table.change(*kind, row(text)).expect("a row that is there");
        }
        table
    }

    #[test]
    fn an_update_stays_in_its_place() {
        let table = of(9, &[(Insert, "a"), (Insert, "b"), (UpdateBefore, "a"), (UpdateAfter, "a2"), (Delete, "b")]);
        assert_eq!(texts(&table), ["a2"]);
        let table = of(9, &[(Insert, "a"), (Insert, "b"), (Insert, "c"), (UpdateBefore, "b"), (UpdateAfter, "B")]);
        assert_eq!(texts(&table), ["a", "B", "c"]);
        assert_eq!(table.last(2).concat(), ["B", "c"]);
    }

    #[test]
    fn equal_rows_are_taken_back_one_by_one() {
        let table = of(9, &[(Insert, "a"), (Insert, "a"), (Insert, "a"), (Delete, "a")]);
        assert_eq!(texts(&table), ["a", "a"]);
        let mut table = of(9, &[(Insert, "a")]);
        assert!(table.change(Delete, row("b")).is_err());
    }

    #[test]
    fn the_oldest_give_way() {
        let mut table = of(2, &[(Insert, "a"), (Insert, "b"), (Insert, "c")]);
        assert_eq!((texts(&table), table.dropped()), (vec!["b".to_owned(), "c".to_owned()], 1));
        // The row that gave way may be taken back, and what follows is new.
        table.change(UpdateBefore, row("a")).expect("it gave way");
        table.change(UpdateAfter, row("a2")).expect("a new row");
        assert_eq!((texts(&table), table.dropped()), (vec!["c".to_owned(), "a2".to_owned()], 2));
    }

    #[test]
    fn holes_are_squeezed_out_and_places_stay_right() {
        let mut table = Materialised::new(10_000);
        table.change(Insert, row("first")).expect("a row");
        for i in 0..50_000 {
            table.change(Insert, row(&format!("x{i}"))).expect("a row");
            if i % 10 > 0 {
                table.change(Delete, row(&format!("x{i}"))).expect("it is there");
            }
            assert!(table.rows.len() <= 2 * table.count() + HOLES_MIN + 1, "{} places", table.rows.len());
        }
        assert_eq!(table.count(), 5_001);
        table.change(UpdateBefore, row("x100")).expect("it is there");
        table.change(UpdateAfter, row("X")).expect("a row");
        assert_eq!(table.last(usize::MAX)[11], row("X"));
        assert_eq!(table.last(usize::MAX)[0], row("first"));
    }
}
