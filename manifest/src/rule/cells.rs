//! Sets of cells of one axis, and boxes of cells.
//!
//! Invariants:
//! - The runs of a [`CellSet`] are half-open, not empty, sorted, and neither overlap nor touch.

/// Cells from the first to before the second.
pub(super) type Run = (u32, u32);

/// A run of cells on each axis, none empty.
pub(super) type CellBox = Vec<Run>;

/// A set of cells of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CellSet {
    runs: Vec<Run>,
}

impl CellSet {
    pub(super) const fn empty() -> Self {
        Self { runs: Vec::new() }
    }

    pub(super) fn run(run: Run) -> Self {
        Self { runs: if run.0 < run.1 { vec![run] } else { Vec::new() } }
    }

    /// The set of these runs, which may be in any order, overlap or be empty.
    pub(super) fn from_runs(mut runs: Vec<Run>) -> Self {
        runs.retain(|(low, high)| low < high);
        runs.sort_unstable();
        let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(last) if run.0 <= last.1 => last.1 = last.1.max(run.1),
                _ => joined.push(run),
            }
        }
        Self { runs: joined }
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether it has all cells of an axis of this width.
    pub(super) fn is_full(&self, width: u32) -> bool {
        self.runs == [(0, width)]
    }

    pub(super) fn complement(&self, width: u32) -> Self {
        let mut runs = Vec::with_capacity(self.runs.len() + 1);
        let mut from = 0;
        for (low, high) in &self.runs {
            if from < *low {
                runs.push((from, *low));
            }
            from = *high;
        }
        if from < width {
            runs.push((from, width));
        }
        Self { runs }
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        let mut runs = Vec::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let run = (x.0.max(y.0), x.1.min(y.1));
            if run.0 < run.1 {
                runs.push(run);
            }
            if x.1 <= y.1 {
                a.next();
            } else {
                b.next();
            }
        }
        Self { runs }
    }

    /// The runs that meet `within`, not clipped to it.
    pub(super) fn meeting(&self, within: Run) -> &[Run] {
        let from = self.runs.partition_point(|run| run.1 <= within.0);
        let to = self.runs.partition_point(|run| run.0 < within.1);
        &self.runs[from..to.max(from)]
    }

    /// The least run that holds every cell of the set within `within`.
    pub(super) fn hull(&self, within: Run) -> Option<Run> {
        let meeting = self.meeting(within);
        let (first, last) = (meeting.first()?, meeting.last()?);
        Some((first.0.max(within.0), last.1.min(within.1)))
    }

    /// The first run of the set within `within`.
    pub(super) fn first(&self, within: Run) -> Option<Run> {
        self.meeting(within).first().map(|run| (run.0.max(within.0), run.1.min(within.1)))
    }
}

/// The part of `a` within `b`, if there is one.
pub(super) fn clip(a: Run, b: Run) -> Option<Run> {
    let run = (a.0.max(b.0), a.1.min(b.1));
    (run.0 < run.1).then_some(run)
}
