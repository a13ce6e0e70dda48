//! The priority queue of partial matches. Which of several matches with one first event wins is a matter of the order inside such a
//! queue, so this one moves its items exactly as Java's does. Knows nothing of patterns.

/// A binary heap by a key that items tell; the items lie in heap order.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T>(Vec<T>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue(Vec::new())
    }
}

/// What a queue orders by.
pub(crate) trait Keyed {
    /// The least comes first.
    fn key(&self) -> u32;
}

impl<T: Keyed + Copy> Queue<T> {
    /// A queue whose items lie in heap order already.
    pub(crate) fn from_heap(items: Vec<T>) -> Self {
        Queue(items)
    }
    /// The items in heap order.
    pub(crate) fn items(&self) -> &[T] {
        &self.0
    }
    /// The items in heap order, to be changed without touching their keys' order.
    pub(crate) fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
    /// Forgets all items, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
    /// Adds an item.
    pub(crate) fn add(&mut self, item: T) {
        self.0.push(item);
        let mut at = self.0.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if item.key() >= self.0[parent].key() {
                break;
            }
            self.0[at] = self.0[parent];
            at = parent;
        }
        self.0[at] = item;
    }
    /// The first item.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.0.first()
    }
    /// Takes the first item.
    pub(crate) fn poll(&mut self) -> Option<T> {
        let last = self.0.pop()?;
        let Some(first) = self.0.first().copied() else { return Some(last) };
        self.sift_down(0, last);
        Some(first)
    }
    /// Removes what `drop` says.
    pub(crate) fn remove_if(&mut self, drop: impl Fn(&T) -> bool) {
        let before = self.0.len();
        self.0.retain(|item| !drop(item));
        if self.0.len() < before {
            for at in (0..self.0.len() / 2).rev() {
                self.sift_down(at, self.0[at]);
            }
        }
    }
    fn sift_down(&mut self, mut at: usize, item: T) {
        let half = self.0.len() / 2;
        while at < half {
            let mut child = 2 * at + 1;
            if self.0.get(child + 1).is_some_and(|right| self.0[child].key() > right.key()) {
                child += 1;
            }
            if item.key() <= self.0[child].key() {
                break;
            }
            self.0[at] = self.0[child];
            at = child;
        }
        self.0[at] = item;
    }
}
