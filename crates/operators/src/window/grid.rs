//! The arithmetic of TUMBLE, HOP and CUMULATE windows and of the slices they share. Pure; all times are local milliseconds.

use flott_core::error::{Error, Result};
use flott_plan::spec::WindowKind;

/// Windows whose ends lie `slide` apart, cut into slices that each window is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Length of a window, at most.
    size: i64,
    /// Distance of the ends of windows.
    pub slide: i64,
    /// Length of a slice.
    slice: i64,
    offset: i64,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `[end - size, end)`: slices have the length of the greatest common divisor.
    Sliding,
    /// From a multiple of the size to each end up to the next one: slices have the length of the step.
    Cumulating,
    /// Times are the ends of windows: each window is one slice.
    Attached,
}

impl Grid {
    /// The grid of a window kind other than SESSION.
    pub(crate) fn new(kind: WindowKind) -> Result<Grid> {
        let (shape, size, slide, offset) = match kind {
            WindowKind::Tumble { size_ms, offset_ms } => (Shape::Sliding, size_ms, size_ms, offset_ms),
            WindowKind::Hop { size_ms, slide_ms, offset_ms } => (Shape::Sliding, size_ms, slide_ms, offset_ms),
            WindowKind::Cumulate { size_ms, step_ms, offset_ms } => (Shape::Cumulating, size_ms, step_ms, offset_ms),
            WindowKind::Attached => (Shape::Attached, 1, 1, 0),
            WindowKind::Session { .. } => return Err(Error::bug("sessions have no grid")),
        };
        if size <= 0 || slide <= 0 {
            let text = format!("a window of size {size} ms and slide {slide} ms is not possible");
            return Err(Error::user("sql.window-size", text).hint("give positive intervals"));
        }
        if shape == Shape::Cumulating && size % slide != 0 {
            let text = format!("CUMULATE of size {size} ms and step {slide} ms is not possible");
            return Err(Error::user("sql.window-size", text).hint("make the size a multiple of the step"));
        }
        let period = if shape == Shape::Cumulating { size } else { slide };
        Ok(Grid { size, slide, slice: gcd(size, slide), offset: offset.rem_euclid(period), shape })
    }
    /// End of the slice that holds `time`.
    #[inline]
    pub(crate) fn slice_end(&self, time: i64) -> i64 {
        if self.shape == Shape::Attached {
            return time;
        }
        let since = time.saturating_sub(self.offset);
        (since.div_euclid(self.slice) * self.slice).saturating_add(self.offset).saturating_add(self.slice)
    }
    /// End of the first window that holds the slice that ends at `slice_end`.
    #[inline]
    pub(crate) fn first_window(&self, slice_end: i64) -> i64 {
        if self.shape != Shape::Sliding {
            return slice_end;
        }
        let anchor = self.offset + self.size.rem_euclid(self.slide);
        let behind = slice_end.saturating_sub(anchor).rem_euclid(self.slide);
        if behind == 0 { slice_end } else { slice_end.saturating_add(self.slide - behind) }
    }
    /// End of the last window that holds the slice that ends at `slice_end`.
    #[inline]
    pub(crate) fn last_window(&self, slice_end: i64) -> i64 {
        match self.shape {
            Shape::Attached => return slice_end,
            Shape::Cumulating => return self.start(slice_end).saturating_add(self.size),
            Shape::Sliding => {}
        }
        let latest = slice_end.saturating_sub(self.slice).saturating_add(self.size);
        let anchor = self.offset + self.size.rem_euclid(self.slide);
        latest.saturating_sub(latest.saturating_sub(anchor).rem_euclid(self.slide))
    }
    /// Start of the window that ends at `end`; of attached windows only the last millisecond is known.
    #[inline]
    pub(crate) fn start(&self, end: i64) -> i64 {
        match self.shape {
            Shape::Sliding | Shape::Attached => end.saturating_sub(self.size),
            Shape::Cumulating => {
                let last = end.saturating_sub(1).saturating_sub(self.offset);
                (last.div_euclid(self.size) * self.size).saturating_add(self.offset)
            }
        }
    }
    /// Whether the window that ends at `end` holds the slice.
    #[inline]
    pub(crate) fn holds(&self, end: i64, slice_end: i64) -> bool {
        self.start(end) < slice_end && slice_end <= end
    }
    /// Whether each window holds the one before it, up to the last one of a period.
    pub(crate) fn cumulates(&self) -> bool {
        self.shape == Shape::Cumulating
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

    #[test]
    fn cumulating_windows_end_at_every_step_of_their_period() {
        for (size, step, offset) in [(10, 2, 0), (10, 5, 3), (6, 6, 1), (10, 1, -3)] {
            let kind = WindowKind::Cumulate { size_ms: size, step_ms: step, offset_ms: offset };
            let grid = Grid::new(kind).expect("a grid");
            for time in -40i64..40 {
                let start = (time - offset).div_euclid(size) * size + offset;
                let ends: Vec<i64> = (1..=size / step).map(|n| start + n * step).filter(|e| *e > time).collect();
                let slice = grid.slice_end(time);
                let (first, last) = (grid.first_window(slice), grid.last_window(slice));
                let found: Vec<i64> = (first..=last).step_by(step as usize).collect();
                assert_eq!(found, ends, "{grid:?} at {time}");
                assert!(found.iter().all(|&e| grid.start(e) == start && grid.holds(e, slice)), "{grid:?} at {time}");
            }
        }
    }
}
