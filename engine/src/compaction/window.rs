//! Time windows: intervals of one width, counted from 1970-01-01T00:00:00Z.
//!
//! Invariant: an inferred width comes from a ladder of which each rung is a multiple of the one below, so that
//! windows nest: a file within a window is within one window of every wider rung.

use std::time::Duration;

use tessera_manifest::value::DataType;

use super::pick::Candidate;

/// Seconds: one hour, two, twelve, a day, a week, 52 weeks, 520 weeks.
const LADDER_SECONDS: [i64; 7] = [3_600, 7_200, 43_200, 86_400, 604_800, 31_449_600, 314_496_000];
/// A flushed file should cross the end of a window seldom: windows are this many times as long as its span.
const SPANS_PER_WINDOW: u128 = 4;

/// Windows of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    width: i64,
}

impl Windows {
    /// Windows of `width` ticks, at least one.
    #[must_use]
    pub fn new(width: i64) -> Self {
        Self { width: width.max(1) }
    }

    /// Their width in ticks.
    #[must_use]
    pub fn width(self) -> i64 {
        self.width
    }

    /// The number of the window that a time is in.
    #[must_use]
    pub fn of(self, time: i64) -> i64 {
        time.div_euclid(self.width)
    }

    /// The window that holds the whole of an inclusive range, if one does.
    #[must_use]
    pub fn holding(self, range: (i64, i64)) -> Option<i64> {
        (self.of(range.0) == self.of(range.1)).then(|| self.of(range.0))
    }

    /// How many windows an inclusive range touches.
    #[must_use]
    pub fn touched(self, range: (i64, i64)) -> u64 {
        self.of(range.1).abs_diff(self.of(range.0)).saturating_add(1)
    }

    /// The width that suits the files: the least rung within which files with half of all bytes fit, flushed ones
    /// several times over. Compacted files are within the windows of the time, so that the width settles.
    #[must_use]
    pub fn infer(files: &[Candidate], ticks_per_second: i64) -> Self {
        let mut wanted: Vec<(u128, u64)> = files.iter().map(|file| (wish(file), file.bytes.max(1))).collect();
        wanted.sort_unstable();
        let all: u128 = wanted.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
        let mut sum = 0;
        let half = wanted.iter().find(|(_, bytes)| {
            sum += u128::from(*bytes);
            sum * 2 >= all
        });
        let wish = half.map_or(0, |(wish, _)| *wish);
        let rungs = LADDER_SECONDS.iter().map(|seconds| seconds.saturating_mul(ticks_per_second));
        Self::new(rungs.into_iter().find(|rung| u128::from(rung.unsigned_abs()) >= wish).unwrap_or(i64::MAX))
    }
}

/// The width that a file speaks for.
fn wish(file: &Candidate) -> u128 {
    let span = u128::from(file.time.1.abs_diff(file.time.0)) + 1;
    if file.level == 0 { span * SPANS_PER_WINDOW } else { span }
}

/// Ticks of a time index in a second; milliseconds for what is no timestamp, which no time index is.
pub(super) fn per_second(data_type: DataType) -> i64 {
    match data_type {
        DataType::Timestamp(unit) => unit.per_second(),
        _ => 1_000,
    }
}

/// A length in ticks, at least one.
pub(super) fn ticks(length: Duration, ticks_per_second: i64) -> i64 {
    let ticks = length.as_nanos().saturating_mul(u128::from(ticks_per_second.unsigned_abs())) / 1_000_000_000;
    i64::try_from(ticks).unwrap_or(i64::MAX).max(1)
}
