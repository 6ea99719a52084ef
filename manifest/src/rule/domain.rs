//! Boxes: what is known of the values of some columns, and what a rule says of them.
//!
//! Invariants:
//! - A [`Domain`] and a [`Box`] hold at least the values that occur; they may hold more.
//! - An answer of [`Expr::evaluate_box`] other than [`Tri::Unknown`] holds for every point of the box.

use std::collections::{BTreeMap, Bound};

use super::step::{predecessor, successor, widest_type};
use super::{CompareOp, Expr};
use crate::file::ColumnStats;
use crate::id::ColumnId;
use crate::value::Value;

/// An answer that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tri {
    /// For every point.
    True,
    /// For no point.
    False,
    /// For some points, or not known.
    Unknown,
}

impl Tri {
    fn negated(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// A stretch of the total order, which may begin at NULL and end at NaN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    lower: Bound<Value>,
    upper: Bound<Value>,
}

impl Interval {
    /// The values from `lower` to `upper`. Bounds are brought to the values next to them where there are such,
    /// so that (4, 6) of integers is [5, 5].
    #[must_use]
    pub fn new(lower: Bound<Value>, upper: Bound<Value>) -> Self {
        let lower = match lower {
            Bound::Excluded(v) => match widest_type(&v).and_then(|t| successor(&v, t)) {
                Some(next) => Bound::Included(next),
                None => Bound::Excluded(v),
            },
            other => other,
        };
        let upper = match upper {
            Bound::Excluded(v) => match predecessor(&v) {
                Some(previous) => Bound::Included(previous),
                None => Bound::Excluded(v),
            },
            other => other,
        };
        Self { lower, upper }
    }

    /// Only this value.
    #[must_use]
    pub fn point(value: Value) -> Self {
        Self { lower: Bound::Included(value.clone()), upper: Bound::Included(value) }
    }

    /// Where it begins.
    #[must_use]
    pub fn lower(&self) -> Bound<&Value> {
        self.lower.as_ref()
    }

    /// Where it ends.
    #[must_use]
    pub fn upper(&self) -> Bound<&Value> {
        self.upper.as_ref()
    }

    /// Whether the value lies in it.
    #[must_use]
    pub fn contains(&self, value: &Value) -> bool {
        !self.is_below(value) && !self.is_above(value)
    }

    /// Whether it surely holds no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
            (Bound::Excluded(low), Bound::Included(high)) => low >= high,
            // Nothing is below NULL, and nothing above NaN.
            (Bound::Unbounded, Bound::Excluded(high)) => high.is_null(),
            (Bound::Excluded(low), Bound::Unbounded) => matches!(low, Value::Float(v) if v.is_nan()),
            _ => false,
        }
    }

    /// Whether all of it lies below `value`.
    fn is_below(&self, value: &Value) -> bool {
        match &self.upper {
            Bound::Included(high) => high < value,
            Bound::Excluded(high) => high <= value,
            Bound::Unbounded => false,
        }
    }

    /// Whether all of it lies above `value`.
    fn is_above(&self, value: &Value) -> bool {
        match &self.lower {
            Bound::Included(low) => low > value,
            Bound::Excluded(low) => low >= value,
            Bound::Unbounded => false,
        }
    }

    fn is_point(&self, value: &Value) -> bool {
        matches!((&self.lower, &self.upper), (Bound::Included(low), Bound::Included(high)) if low == value && high == value)
    }

    /// How all of its values compare with `value`, if in one way.
    fn compare(&self, op: CompareOp, value: &Value) -> Tri {
        let at_most = || matches!(&self.upper, Bound::Included(high) if high == value) || self.is_below(value);
        let at_least = || matches!(&self.lower, Bound::Included(low) if low == value) || self.is_above(value);
        let (yes, no) = match op {
            CompareOp::Eq => (self.is_point(value), !self.contains(value)),
            CompareOp::Lt => (self.is_below(value), at_least()),
            CompareOp::LtEq => (at_most(), self.is_above(value)),
            CompareOp::NotEq | CompareOp::Gt | CompareOp::GtEq => return self.compare(op.negated(), value).negated(),
        };
        match (yes, no) {
            (true, _) => Tri::True,
            (_, true) => Tri::False,
            _ => Tri::Unknown,
        }
    }

    fn among(&self, values: &[Value]) -> Tri {
        if values.iter().any(|v| self.is_point(v)) {
            Tri::True
        } else if values.iter().any(|v| self.contains(v)) {
            Tri::Unknown
        } else {
            Tri::False
        }
    }
}

/// The values that a column may have: those of any of the intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    intervals: Vec<Interval>,
}

impl Domain {
    /// The values of any of these; empty intervals are dropped.
    #[must_use]
    pub fn new(intervals: impl IntoIterator<Item = Interval>) -> Self {
        Self { intervals: intervals.into_iter().filter(|i| !i.is_empty()).collect() }
    }

    /// The values that the statistics allow.
    #[must_use]
    pub fn from_stats(stats: &ColumnStats) -> Self {
        let null = stats.has_null.then(|| Interval::point(Value::Null));
        let range = stats.range.clone().map(|(low, high)| Interval::new(Bound::Included(low), Bound::Included(high)));
        let nan = stats.has_nan.then(|| Interval::point(Value::Float(f64::NAN)));
        Self::new(null.into_iter().chain(range).chain(nan))
    }

    /// The intervals.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Whether the value lies in it.
    #[must_use]
    pub fn contains(&self, value: &Value) -> bool {
        self.intervals.iter().any(|i| i.contains(value))
    }

    /// Whether no value lies in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The answer that is the same in every interval.
    fn common(&self, answer: impl Fn(&Interval) -> Tri) -> Tri {
        let mut answers = self.intervals.iter().map(answer);
        let first = answers.next().unwrap_or(Tri::False);
        if answers.all(|other| other == first) { first } else { Tri::Unknown }
    }
}

/// The points whose columns lie in these domains; a column without one may have any value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Box {
    domains: BTreeMap<ColumnId, Domain>,
}

impl Box {
    /// Every point.
    #[must_use]
    pub const fn unbounded() -> Self {
        Self { domains: BTreeMap::new() }
    }

    /// The points that the statistics of a file allow.
    #[must_use]
    pub fn from_stats(stats: &[ColumnStats]) -> Self {
        Self { domains: stats.iter().map(|s| (s.column, Domain::from_stats(s))).collect() }
    }

    /// The box with the domain of one column set.
    #[must_use]
    pub fn with(mut self, column: ColumnId, domain: Domain) -> Self {
        self.domains.insert(column, domain);
        self
    }

    /// The domain of a column; none means any value.
    #[must_use]
    pub fn domain(&self, column: ColumnId) -> Option<&Domain> {
        self.domains.get(&column)
    }

    /// The rule that exactly its points satisfy.
    #[must_use]
    pub fn to_expr(&self) -> Expr {
        let domains = self.domains.iter();
        Expr::And(domains.map(|(column, domain)| Expr::Or(domain.intervals.iter().map(|i| interval_expr(*column, i)).collect())).collect())
    }
}

fn interval_expr(column: ColumnId, interval: &Interval) -> Expr {
    let compare = |op, value: &Value| Expr::Compare { column, op, value: value.clone() };
    let lower = match &interval.lower {
        Bound::Included(v) => Some(compare(CompareOp::GtEq, v)),
        Bound::Excluded(v) => Some(compare(CompareOp::Gt, v)),
        Bound::Unbounded => None,
    };
    let upper = match &interval.upper {
        Bound::Included(v) => Some(compare(CompareOp::LtEq, v)),
        Bound::Excluded(v) => Some(compare(CompareOp::Lt, v)),
        Bound::Unbounded => None,
    };
    Expr::And(lower.into_iter().chain(upper).collect())
}

impl Expr {
    /// Whether every point of the box satisfies the rule, or none does. Fast, and not complete: it looks at
    /// each comparison by itself, so `Unknown` may be said of a box that is decided. Of a box without points,
    /// where both hold, the answer is `False` or what the rule's structure gives.
    #[must_use]
    pub fn evaluate_box(&self, within: &Box) -> Tri {
        match self {
            Self::And(parts) => fold(parts, within, Tri::True, Tri::False),
            Self::Or(parts) => fold(parts, within, Tri::False, Tri::True),
            Self::Not(inner) => inner.evaluate_box(within).negated(),
            Self::Compare { column, op, value } => within.domain(*column).map_or(Tri::Unknown, |d| d.common(|i| i.compare(*op, value))),
            Self::In { values, .. } if values.is_empty() => Tri::False,
            Self::In { column, values } => within.domain(*column).map_or(Tri::Unknown, |d| d.common(|i| i.among(values))),
        }
    }
}

/// Folds the answers of the parts: `decisive` decides, all `neutral` is `neutral`.
fn fold(parts: &[Expr], within: &Box, neutral: Tri, decisive: Tri) -> Tri {
    let mut result = neutral;
    for part in parts {
        match part.evaluate_box(within) {
            answer if answer == decisive => return decisive,
            answer if answer == neutral => {}
            _ => result = Tri::Unknown,
        }
    }
    result
}
