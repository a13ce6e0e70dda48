//! The arithmetic of TUMBLE and HOP windows and of the slices they share. Pure; all times are local milliseconds.

use flott_core::error::{Error, Result};
use flott_plan::spec::WindowKind;

/// Windows `[end - size, end)` whose ends lie `slide` apart, cut into slices of the greatest common divisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Length of a window.
    pub size: i64,
    /// Distance of windows.
    pub slide: i64,
    /// Length of a slice.
    pub slice: i64,
    offset: i64,
}

impl Grid {
    /// The grid of a window kind other than SESSION.
    pub(crate) fn new(kind: WindowKind) -> Result<Grid> {
        let (size, slide, offset) = match kind {
            WindowKind::Tumble { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            WindowKind::Hop { size_ms, slide_ms, offset_ms } => (size_ms, slide_ms, offset_ms),
            WindowKind::Session { .. } => return Err(Error::bug("sessions have no grid")),
        };
        if size <= 0 || slide <= 0 {
            let text = format!("a window of size {size} ms and slide {slide} ms is not possible");
            return Err(Error::user("sql.window-size", text).hint("give positive intervals"));
        }
        let slice = gcd(size, slide);
        Ok(Grid { size, slide, slice, offset: offset.rem_euclid(slide) })
    }
    /// End of the slice that holds `time`.
    #[inline]
    pub(crate) fn slice_end(&self, time: i64) -> i64 {
        let since = time.saturating_sub(self.offset);
        (since.div_euclid(self.slice) * self.slice).saturating_add(self.offset).saturating_add(self.slice)
    }
    /// End of the first window that holds the slice that ends at `slice_end`.
    #[inline]
    pub(crate) fn first_window(&self, slice_end: i64) -> i64 {
        let anchor = self.offset + self.size.rem_euclid(self.slide);
        let behind = slice_end.saturating_sub(anchor).rem_euclid(self.slide);
        if behind == 0 { slice_end } else { slice_end.saturating_add(self.slide - behind) }
    }
    /// End of the last window that holds the slice that ends at `slice_end`.
    #[inline]
    pub(crate) fn last_window(&self, slice_end: i64) -> i64 {
        let latest = slice_end.saturating_sub(self.slice).saturating_add(self.size);
        let anchor = self.offset + self.size.rem_euclid(self.slide);
        latest.saturating_sub(latest.saturating_sub(anchor).rem_euclid(self.slide))
    }
    /// Number of windows that a row can fall into.
    pub(crate) fn windows_per_row(&self) -> usize {
        usize::try_from((self.size - 1) / self.slide + 1).unwrap_or(usize::MAX)
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_window_agree_with_the_definition() {
        for (size, slide, offset) in [(10, 10, 0), (10, 2, 0), (10, 5, 3), (6, 4, 1), (10, 10, -3), (4, 6, 0)] {
            let grid =
                Grid::new(WindowKind::Hop { size_ms: size, slide_ms: slide, offset_ms: offset }).expect("a grid");
            for time in -40..40 {
                let holds = |end: i64| end - size <= time && time < end && (end - size - offset).rem_euclid(slide) == 0;
                let ends: Vec<i64> = (time..=time + size).filter(|&e| holds(e)).collect();
                let slice = grid.slice_end(time);
                let mut found = Vec::new();
                let mut end = grid.first_window(slice);
                while end <= grid.last_window(slice) {
                    found.push(end);
                    end += slide;
                }
                assert_eq!(found, ends, "{grid:?} at {time}");
            }
        }
    }
}
