//! Two runs of one series, row by row: the inner loop where files overlap.
//!
//! Points of a series mostly come at regular intervals, so one run has as many rows between two of the other as it mostly
//! had: that is tried before anything is searched.

/// One of two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// How many rows a run has between two of the other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gap {
    /// As it mostly was.
    usual: usize,
    /// As it was when it last was another; twice the same makes it the usual one.
    other: usize,
}

impl Gap {
    /// Whether there mostly are more rows than of another.
    #[inline]
    pub(super) fn is_wider(self, other: Self) -> bool {
        self.usual > other.usual
    }
}

/// Goes through two ascending lists of times, in neither of which a time repeats, until one of them ends. Calls `emit` with
/// pieces (first row, end) in order of time; of two rows with the same time `left_wins` (their rows) says which goes out.
/// `gaps` go from one call to the next. Returns how many rows of each were passed; none lies behind all of the other list.
pub(super) fn interleave(
    left: &[i64],
    right: &[i64],
    gaps: &mut (Gap, Gap),
    left_wins: impl Fn(usize, usize) -> bool,
    mut emit: impl FnMut(Side, usize, usize),
) -> (usize, usize) {
    let (mut l, mut r) = (0, 0);
    while let (Some(_), Some(time)) = (left.get(l), right.get(r)) {
        let end = before(left, l, *time, &mut gaps.0);
        if end > l {
            emit(Side::Left, l, end);
            l = end;
        }
        let Some(time) = left.get(l) else { break };
        if *time == right[r] {
            if left_wins(l, r) {
                emit(Side::Left, l, l + 1);
            } else {
                emit(Side::Right, r, r + 1);
            }
            l += 1;
            r += 1;
        } else {
            let end = before(right, r, *time, &mut gaps.1);
            emit(Side::Right, r, end);
            r = end;
        }
    }
    (l, r)
}

/// Rows of two runs that have the same times: every so-many-th of each from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tie {
    /// (first row, step) of the left and of the right run; one of the steps is 1, and those of a single pair are, both.
    pub(super) left: (usize, usize),
    pub(super) right: (usize, usize),
    /// How many pairs there are; at least one.
    pub(super) rows: usize,
}

impl Tie {
    /// The same of longer runs, which have so many rows before.
    pub(super) fn behind(self, left: usize, right: usize) -> Self {
        Self { left: (self.left.0 + left, self.left.1), right: (self.right.0 + right, self.right.1), ..self }
    }

    /// Its pairs, one by one.
    pub(super) fn singles(self) -> impl Iterator<Item = Self> {
        let nth = |(first, step): (usize, usize), number: usize| (first + number * step, 1);
        (0..self.rows).map(move |number| Self { left: nth(self.left, number), right: nth(self.right, number), rows: 1 })
    }
}

/// Goes through two such lists as [`interleave`] does, for rows whose order does not count: calls `tie` for the times that
/// both have, in order. Returns how many rows of each were passed; those that are not in a tie are the only ones of their time.
#[inline]
pub(super) fn ties(left: &[i64], right: &[i64], gaps: &mut (Gap, Gap), mut tie: impl FnMut(Tie)) -> (usize, usize) {
    let (mut l, mut r) = (0, 0);
    while let (Some(_), Some(time)) = (left.get(l), right.get(r)) {
        // Times ascend, so one that is the same proves that there is none before it.
        let guess = l + gaps.0.usual;
        l = if left.get(guess) == Some(time) { guess } else { before(left, l, *time, &mut gaps.0) };
        let Some(time) = left.get(l) else { break };
        if *time == right[r] {
            let found = tie_at(left, l, right, r, (gaps.0.usual + 1, gaps.1.usual + 1));
            tie(found);
            (l, r) = (l + (found.rows - 1) * found.left.1 + 1, r + (found.rows - 1) * found.right.1 + 1);
        } else {
            r = before(right, r, *time, &mut gaps.1);
        }
    }
    (l, r)
}

/// The tie of two rows and of those that follow them at these steps.
#[inline]
fn tie_at(left: &[i64], l: usize, right: &[i64], r: usize, steps: (usize, usize)) -> Tie {
    let (of_left, of_right) = (&left[l..], &right[r..]);
    let same = |(a, b): &(&i64, &i64)| a == b;
    // Of one run no row is passed over, so that none of the other can have its time.
    let rows = match steps {
        (1, 1) => of_left.iter().zip(of_right).take_while(same).count(),
        (_, 1) => of_left.iter().step_by(steps.0).zip(of_right).take_while(same).count(),
        (1, _) => of_left.iter().zip(of_right.iter().step_by(steps.1)).take_while(same).count(),
        _ => 1,
    };
    let (left, right) = if rows == 1 { ((l, 1), (r, 1)) } else { ((l, steps.0), (r, steps.1)) };
    Tie { left, right, rows }
}

/// The first row from `from` on whose time is not below `time`.
#[inline]
fn before(times: &[i64], from: usize, time: i64, gap: &mut Gap) -> usize {
    let at = from + gap.usual;
    let above = || at == from || times.get(at - 1).is_some_and(|last| *last < time);
    if times.get(at).is_some_and(|next| *next == time || (*next > time && above())) {
        return at;
    }
    if times.last().is_some_and(|last| *last < time) {
        return times.len();
    }
    let end = seek(times, from, time);
    if gap.other == end - from {
        gap.usual = gap.other;
    }
    gap.other = end - from;
    end
}

/// The first row from `from` on whose time is not below `time`, found by galloping.
pub(super) fn seek(times: &[i64], from: usize, time: i64) -> usize {
    let (mut low, mut high, mut step) = (from, from, 1);
    while high < times.len() && times[high] < time {
        low = high + 1;
        high += step;
        step *= 2;
    }
    let high = high.min(times.len());
    low + times[low..high].partition_point(|t| *t < time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each time once, of the side that wins, up to the end of the shorter list.
    fn expected(left: &[i64], right: &[i64], left_wins: bool) -> Vec<(i64, Side)> {
        let end = left.last().copied().unwrap_or(i64::MIN).min(right.last().copied().unwrap_or(i64::MIN));
        let mut all: Vec<(i64, Side)> = Vec::new();
        let loser = |time: &i64, other: &[i64], wins: bool| !wins && other.contains(time);
        all.extend(left.iter().filter(|t| !loser(t, right, left_wins)).map(|t| (*t, Side::Left)));
        all.extend(right.iter().filter(|t| !loser(t, left, !left_wins)).map(|t| (*t, Side::Right)));
        all.sort_by_key(|(time, _)| *time);
        all.retain(|(time, _)| *time <= end);
        all
    }

    proptest! {
        #[test]
        fn two_lists_of_times_come_out_in_order_and_each_time_once(
            left in proptest::collection::btree_set(0_i64..60, 0..40),
            right in proptest::collection::btree_set(0_i64..60, 0..40),
            left_wins: bool,
        ) {
            let (left, right): (Vec<i64>, Vec<i64>) = (left.into_iter().collect(), right.into_iter().collect());
            let mut out = Vec::new();
            let (l, r) = interleave(&left, &right, &mut Default::default(), |_, _| left_wins, |side, from, end| {
                let times = if side == Side::Left { &left } else { &right };
                out.extend(times[from..end].iter().map(|time| (*time, side)));
            });
            prop_assert!(l == left.len() || r == right.len(), "it ends with one of them");
            prop_assert_eq!(&out, &expected(&left, &right, left_wins));
            let passed = left[..l].iter().chain(&right[..r]).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(passed.len(), out.len(), "what is passed has come out");
            let mut both = Vec::new();
            let passed = ties(&left, &right, &mut Default::default(), |tie| {
                both.extend(tie.singles().map(|tie| (left[tie.left.0], right[tie.right.0])));
            });
            prop_assert_eq!(passed, (l, r), "as far as where the order counts");
            let expected: Vec<(i64, i64)> = left.iter().filter(|time| right.contains(time)).map(|time| (*time, *time)).collect();
            prop_assert_eq!(both, expected);
        }
    }
}
