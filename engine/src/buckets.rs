//! Stretches of time of one width.

/// Buckets of time, of which each begins at a multiple of their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buckets {
    /// Units of the time index in each, more than zero.
    width: i64,
    /// Times outside of it, inclusive, lie in no bucket.
    within: (i64, i64),
}

impl Buckets {
    /// Those of a width in units of the time index, for all times; `None` for a width below one.
    #[must_use]
    pub fn new(width: i64) -> Option<Self> {
        (width > 0).then_some(Self { width, within: (i64::MIN, i64::MAX) })
    }

    /// The same for times within these only, inclusive: others lie in no bucket.
    #[must_use]
    pub fn within(self, within: (i64, i64)) -> Self {
        Self { within, ..self }
    }

    /// Units of the time index in each.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Whether each of these times, inclusive, lies in a bucket.
    #[must_use]
    pub fn hold(&self, (from, to): (i64, i64)) -> bool {
        self.within.0 <= from && to <= self.within.1
    }

    /// The first instant of the bucket that a time lies in, if it lies in one. Of the first bucket of all, which may begin
    /// before any time, it wraps around.
    #[must_use]
    pub fn start(&self, time: i64) -> Option<i64> {
        self.hold((time, time)).then(|| time.wrapping_sub(time.rem_euclid(self.width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_at_a_multiple_of_the_width() {
        let tens = Buckets::new(10).unwrap();
        assert_eq!([-11, -10, -1, 0, 9, 10].map(|time| tens.start(time)), [-20, -10, -10, 0, 0, 10].map(Some));
        assert_eq!(Buckets::new(0), None);
    }

    #[test]
    fn what_lies_outside_lies_in_no_bucket() {
        let some = Buckets::new(10).unwrap().within((-5, 25));
        assert_eq!([-6, -5, 25, 26].map(|time| some.start(time)), [None, Some(-10), Some(20), None]);
        assert!(some.hold((-5, 25)) && !some.hold((-6, 0)) && !some.hold((0, 26)));
    }
}
