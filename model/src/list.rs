//! A short list in place: states are copied by the million, and none of them may touch the heap.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// Up to `N` items. What is beyond the length is always the default, so that equal lists are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<T, const N: usize> {
    items: [T; N],
    length: u8,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// Adds an item.
    ///
    /// # Panics
    /// When the list is full: the bounds of a model allow more than its lists hold.
    pub fn push(&mut self, item: T) {
        assert!(self.len() < N, "the list holds {N}");
        self.items[self.len()] = item;
        self.length += 1;
    }

    /// Keeps the first `length` items.
    pub fn truncate(&mut self, length: usize) {
        while self.len() > length {
            self.length -= 1;
            self.items[usize::from(self.length)] = T::default();
        }
    }

    /// Keeps what `wanted` picks.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        let all = *self;
        *self = all.iter().copied().filter(|item| wanted(item)).collect();
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> List<T, N> {
        List {
            items: [T::default(); N],
            length: 0,
        }
    }
}

impl<T: Copy + Default, const N: usize> FromIterator<T> for List<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> List<T, N> {
        let mut list = List::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..usize::from(self.length)]
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.length)]
    }
}

impl<T: Hash, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.deref().hash(hasher);
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}
