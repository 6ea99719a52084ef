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

/// Goes through two such lists as [`interleave`] does, for rows whose order does not count: calls `tie` for each time that
/// both have. Returns how many rows of each were passed; those that are not in a tie are the only ones of their time.
#[inline]
pub(super) fn ties(left: &[i64], right: &[i64], gaps: &mut (Gap, Gap), mut tie: impl FnMut(usize, usize)) -> (usize, usize) {
    let (mut l, mut r) = (0, 0);
    while let (Some(_), Some(time)) = (left.get(l), right.get(r)) {
        // Times ascend, so one that is the same proves that there is none before it.
        let guess = l + gaps.0.usual;
        l = if left.get(guess) == Some(time) { guess } else { before(left, l, *time, &mut gaps.0) };
        let Some(time) = left.get(l) else { break };
        if *time == right[r] {
            tie(l, r);
            (l, r) = (l + 1, r + 1);
        } else {
            r = before(right, r, *time, &mut gaps.1);
        }
    }
    (l, r)
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
            let passed = ties(&left, &right, &mut Default::default(), |l, r| both.push((left[l], right[r])));
            prop_assert_eq!(passed, (l, r), "as far as where the order counts");
            let expected: Vec<(i64, i64)> = left.iter().filter(|time| right.contains(time)).map(|time| (*time, *time)).collect();
            prop_assert_eq!(both, expected);
        }
    }
}
