//! What is known of values that stay where they are in memory, found again by their address.
//!
//! Invariants:
//! - Every value outlives what is known of it, so that no other can have got its address.
//! - Equal values at two addresses are two values.

use std::collections::HashMap;
use std::marker::PhantomData;

/// See the module.
#[derive(Debug)]
pub(crate) struct ByAddress<'a, T: ?Sized, K> {
    known: HashMap<*const T, K>,
    /// What was asked for last, as neighbours often have the same value.
    last: Option<(*const T, K)>,
    values: PhantomData<&'a T>,
}

impl<T: ?Sized, K> Default for ByAddress<'_, T, K> {
    fn default() -> Self {
        Self { known: HashMap::new(), last: None, values: PhantomData }
    }
}

impl<'a, T: ?Sized, K: Copy> ByAddress<'a, T, K> {
    /// What is known of a value; `find_out` says it the first time.
    pub(crate) fn get_or_insert_with(&mut self, value: &'a T, find_out: impl FnOnce() -> K) -> K {
        let at = std::ptr::from_ref(value);
        if let Some((_, known)) = self.last.filter(|(last, _)| std::ptr::eq(*last, at)) {
            return known;
        }
        let known = *self.known.entry(at).or_insert_with(find_out);
        self.last = Some((at, known));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_found_out_once_and_equal_ones_apart() {
        let values = [String::from("a"), String::from("b"), String::from("a")];
        let (mut known, mut found_out) = (ByAddress::default(), 0);
        let mut ask = |place: usize| {
            known.get_or_insert_with(&values[place], || {
                found_out += 1;
                found_out
            })
        };
        assert_eq!([0, 0, 1, 2, 1, 0, 2].map(&mut ask), [1, 1, 2, 3, 2, 1, 3]);
    }
}
