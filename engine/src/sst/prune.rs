//! Whether a predicate can hold anywhere in a set of rows of which only statistics are known. Pure.
//!
//! Invariant: never says no where a row could say yes. A column without statistics is unknown.

use tessera_manifest::file::ColumnStats;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::domain::{Box, Tri};
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::value::Value;

/// Whether no row with these statistics satisfies the predicate.
#[must_use]
pub fn excludes(expr: &Expr, stats: &[ColumnStats]) -> bool {
    expr.evaluate_box(&Box::from_stats(stats)) == Tri::False
}

/// The inclusive range of times outside of which the predicate cannot hold; empty (low > high) if nowhere.
#[must_use]
pub fn time_bounds(expr: &Expr, time_index: ColumnId) -> (i64, i64) {
    const ALL: (i64, i64) = (i64::MIN, i64::MAX);
    const NONE: (i64, i64) = (i64::MAX, i64::MIN);
    let union = |a: (i64, i64), b: (i64, i64)| {
        if a.0 > a.1 {
            b
        } else if b.0 > b.1 {
            a
        } else {
            (a.0.min(b.0), a.1.max(b.1))
        }
    };
    match expr {
        Expr::And(all) => all.iter().map(|e| time_bounds(e, time_index)).fold(ALL, |a, b| (a.0.max(b.0), a.1.min(b.1))),
        Expr::Or(any) => any.iter().map(|e| time_bounds(e, time_index)).fold(NONE, union),
        Expr::Compare { column, op, value: Value::Timestamp(t) } if *column == time_index => match op {
            CompareOp::Eq => (*t, *t),
            CompareOp::NotEq => ALL,
            CompareOp::Lt => t.checked_sub(1).map_or(NONE, |t| (i64::MIN, t)),
            CompareOp::LtEq => (i64::MIN, *t),
            CompareOp::Gt => t.checked_add(1).map_or(NONE, |t| (t, i64::MAX)),
            CompareOp::GtEq => (*t, i64::MAX),
        },
        Expr::In { column, values } if *column == time_index => values.iter().fold(NONE, |all, value| match value {
            Value::Timestamp(t) => union(all, (*t, *t)),
            _ => all,
        }),
        Expr::Compare { .. } | Expr::In { .. } | Expr::Not(_) => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: ColumnId = ColumnId(1);

    fn at(op: CompareOp, t: i64) -> Expr {
        Expr::Compare { column: T, op, value: Value::Timestamp(t) }
    }

    #[test]
    fn time_bounds_follow_and_or_and_in() {
        let both = Expr::And(vec![at(CompareOp::GtEq, 5), at(CompareOp::Lt, 9)]);
        assert_eq!(time_bounds(&both, T), (5, 8));
        assert_eq!(time_bounds(&Expr::Or(vec![both, at(CompareOp::Eq, 20)]), T), (5, 20));
        assert_eq!(time_bounds(&Expr::Not(std::boxed::Box::new(at(CompareOp::Lt, 3))), T), (i64::MIN, i64::MAX));
        let none = time_bounds(&at(CompareOp::Lt, i64::MIN), T);
        assert!(none.0 > none.1);
    }

    #[test]
    fn null_and_nan_count_as_values() {
        let float = |v| Expr::Compare { column: T, op: CompareOp::Lt, value: Value::Float(v) };
        let range = Some((Value::Float(5.0), Value::Float(7.0)));
        let clean = ColumnStats { column: T, range: range.clone(), has_null: false, has_nan: false };
        let nulls = ColumnStats { column: T, range: range.clone(), has_null: true, has_nan: false };
        let nans = ColumnStats { column: T, range, has_null: false, has_nan: true };
        assert!(excludes(&float(5.0), std::slice::from_ref(&clean)));
        assert!(!excludes(&float(5.0), &[nulls]), "NULL is below every value");
        let not_less = Expr::Not(std::boxed::Box::new(float(8.0)));
        assert!(excludes(&not_less, std::slice::from_ref(&clean)));
        assert!(!excludes(&not_less, &[nans]), "NaN is above every value");
        assert!(!excludes(&float(5.0), &[]), "a missing statistic means unknown");
        assert!(excludes(&Expr::never(), &[]));
    }
}
