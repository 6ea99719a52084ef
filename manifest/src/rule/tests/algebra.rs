//! Implication, disjointness, boxes and simplification.

use std::collections::Bound;

use super::*;
use crate::file::ColumnStats;
use crate::rule::domain::Box;

#[test]
fn discrete_types_have_nothing_between_neighbours() {
    for text in [
        "i > 4 AND i < 5",
        "u > 4 AND u < 5",
        "date > '2024-02-28' AND date < '2024-02-29'",
        "ts > 4 AND ts < 5",
        "dec > 0.04 AND dec < 0.05",
        "\"Is\" > FALSE AND \"Is\" < TRUE",
        "f > 'Infinity' AND f < 'NaN'",
        "i < NULL",
        "f > 'NaN'",
        "s > NULL AND s < ''",
        "i > 9223372036854775807",
    ] {
        assert_eq!(rule(text).satisfiable(), Ok(false), "{text}");
    }
    for text in ["f > 4 AND f < 5", "s > 'a' AND s < 'ab'", "i < -9223372036854775808", "i <= NULL"] {
        assert_eq!(rule(text).satisfiable(), Ok(true), "{text}");
    }
}

#[test]
fn a_question_that_takes_too_long_is_answered_so() {
    // A pigeonhole problem: 12 columns, each pair different, of 11 values.
    let types = (0..12).map(|i| column(i, &format!("c{i}"), DataType::Int64, SemanticType::Field));
    let columns: Vec<Column> = types.collect();
    let mut parts: Vec<Expr> = columns.iter().map(|c| Expr::In { column: c.id, values: (0..11).map(Value::Int).collect() }).collect();
    for a in 0..12_u32 {
        for b in 0..a {
            for value in (0..11).map(Value::Int) {
                let differs = |c| Expr::Compare { column: ColumnId(c), op: CompareOp::NotEq, value: value.clone() };
                parts.push(differs(a).or(differs(b)));
            }
        }
    }
    let hard = Expr::And(parts);
    assert_eq!(hard.satisfiable(), Err(TooComplex));
    assert_eq!(hard.simplify().canonical(), hard.canonical());
}

#[test]
fn known_conjuncts_are_dropped() {
    let residual = |expr: &str, known: &str| shown(&residual(&rule(expr), &rule(known), &Box::unbounded()));
    assert_eq!(residual("i >= 0 AND i < 10", "i < 5"), "i >= 0");
    assert_eq!(residual("i < 10 AND s = 'a'", "i < 5"), "s = 'a'");
    assert_eq!(residual("i < 10", "i < 5"), "TRUE");
    assert_eq!(residual("i < 10", "i >= 20"), "FALSE");
    assert_eq!(residual("i = 1 OR s = 'a'", "i != 1"), "s = 'a'");
    assert_eq!(residual("i < 5 AND s < 'm'", "TRUE"), "i < 5 AND s < 'm'");
}

#[test]
fn statistics_decide_conjuncts() {
    let range = (Value::Int(5), Value::Int(9));
    let stats = |has_null| ColumnStats { column: I, range: Some(range.clone()), has_null, has_nan: false };
    let within = Box::from_stats(&[stats(false)]);
    assert_eq!(shown(&residual(&rule("i >= 5 AND s = 'a'"), &Expr::always(), &within)), "s = 'a'");
    assert_eq!(rule("i >= 5").evaluate_box(&within), Tri::True);
    assert_eq!(rule("i > 9").evaluate_box(&within), Tri::False);
    assert_eq!(rule("i > 5").evaluate_box(&within), Tri::Unknown);
    assert_eq!(rule("s = 'a'").evaluate_box(&within), Tri::Unknown);
    assert_eq!(rule("i >= 5").evaluate_box(&Box::from_stats(&[stats(true)])), Tri::Unknown);
    assert_eq!(rule("i < 10").evaluate_box(&Box::from_stats(&[stats(true)])), Tri::True);
    let open = Interval::new(Bound::Excluded(Value::Int(4)), Bound::Excluded(Value::Int(6)));
    assert_eq!(rule("i = 5").evaluate_box(&Box::unbounded().with(I, Domain::new([open]))), Tri::True);
}

#[test]
fn merging_what_was_split_gives_back_the_rule() {
    assert_eq!(shown(&rule("i < 5 OR i >= 5 AND i < 10").simplify()), "i < 10");
    assert_eq!(shown(&rule("i < 5 AND s < 'm' OR i < 5 AND s >= 'm'").simplify()), "i < 5");
    assert_eq!(shown(&rule("i = 1 OR i = 2 OR i IN (2, 7)").simplify()), "i IN (1, 2, 7)");
    assert_eq!(shown(&rule("i < 5 OR i > 5").simplify()), "i != 5");
    assert_eq!(shown(&rule("NOT (i IS NULL) AND i < 7").simplify()), "i IS NOT NULL AND i < 7");
    assert_eq!(shown(&rule("i < 5 OR i >= 5").simplify()), "TRUE");
    let mut grown = rule("i >= 0 AND i < 100 AND s < 'm'");
    let first = grown.simplify();
    for at in 1..50 {
        let left = grown.clone().and(rule(&format!("i < {at}")));
        let right = grown.clone().and(rule(&format!("i >= {at}")));
        grown = left.or(right).simplify();
    }
    assert_eq!(grown, first);
}

fn any_interval(column: ColumnId) -> impl Strategy<Value = Interval> {
    let bound = move || {
        // Of the literals only, so that the points stay one of every cell.
        let value = prop::sample::select(literals(column));
        prop_oneof![
            2 => value.clone().prop_map(Bound::Included),
            2 => value.prop_map(Bound::Excluded),
            1 => Just(Bound::Unbounded),
        ]
    };
    (bound(), bound()).prop_map(|(lower, upper)| Interval::new(lower, upper))
}

fn any_box() -> impl Strategy<Value = Box> {
    let domain = |column| prop::option::of(prop::collection::vec(any_interval(column), 0..3).prop_map(Domain::new));
    (domain(I), domain(F), domain(S), domain(B)).prop_map(|domains| {
        let domains = [(I, domains.0), (F, domains.1), (S, domains.2), (B, domains.3)];
        domains.into_iter().fold(Box::unbounded(), |all, (column, domain)| match domain {
            Some(domain) => all.with(column, domain),
            None => all,
        })
    })
}

fn in_box(within: &Box, row: &Row) -> bool {
    [I, F, S, B].into_iter().all(|column| within.domain(column).is_none_or(|d| d.contains(&row[column.0 as usize])))
}

proptest! {
    #[test]
    fn satisfiable_disjoint_implies_and_equal_are_exact(a in any_expr(), b in any_expr()) {
        let rows = all_rows(&[&a, &b]);
        let truth: Vec<(bool, bool)> = rows.iter().map(|row| (holds(&a, row), holds(&b, row))).collect();
        prop_assert_eq!(a.satisfiable(), Ok(truth.iter().any(|(a, _)| *a)));
        prop_assert_eq!(disjoint(&a, &b), Ok(!truth.iter().any(|(a, b)| *a && *b)));
        prop_assert_eq!(implies(&a, &b), Ok(truth.iter().all(|(a, b)| !a || *b)));
        prop_assert_eq!(equal(&a, &b), Ok(truth.iter().all(|(a, b)| a == b)));
        prop_assert_eq!(implies(&a.clone().and(b.clone()), &a), Ok(true));
        prop_assert_eq!(equal(&a.canonical(), &a), Ok(true));
    }

    #[test]
    fn an_interval_keeps_its_values(column in any_column(), seed in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let points = points(column);
        let (low, high) = (seed.get(&points).clone(), other.get(&points).clone());
        for (lower, upper) in [(Bound::Included(&low), Bound::Excluded(&high)), (Bound::Excluded(&low), Bound::Included(&high)), (Bound::Excluded(&low), Bound::Excluded(&high))] {
            let interval = Interval::new(lower.cloned(), upper.cloned());
            for value in &points {
                let above = match lower { Bound::Excluded(l) => value > l, Bound::Included(l) => value >= l, Bound::Unbounded => true };
                let below = match upper { Bound::Excluded(u) => value < u, Bound::Included(u) => value <= u, Bound::Unbounded => true };
                prop_assert_eq!(interval.contains(value), above && below, "{:?} in {:?}", value, interval);
            }
            prop_assert!(!interval.is_empty() || !points.iter().any(|v| interval.contains(v)));
        }
    }

    #[test]
    fn an_answer_for_a_box_holds_for_all_its_points(expr in any_expr(), within in any_box()) {
        let answer = expr.evaluate_box(&within);
        let bounds = within.to_expr();
        for row in all_rows(&[&expr, &bounds]) {
            prop_assert_eq!(holds(&bounds, &row), in_box(&within, &row), "{:?} {:?}", row, within);
            if in_box(&within, &row) {
                prop_assert!(answer == Tri::Unknown || (answer == Tri::True) == holds(&expr, &row), "{:?} at {:?}", answer, row);
            }
        }
    }

    #[test]
    fn simplified_means_the_same_and_is_no_longer(expr in any_expr()) {
        let simple = expr.simplify();
        prop_assert!(simple.nodes() <= expr.canonical().nodes());
        for row in all_rows(&[&expr]) {
            prop_assert_eq!(holds(&simple, &row), holds(&expr, &row), "{:?}: {} for {}", row, shown(&simple), shown(&expr));
        }
    }

    #[test]
    fn a_residual_means_the_same_where_it_matters(expr in any_expr(), known in any_expr(), within in any_box()) {
        let rest = residual(&expr, &known, &within);
        let bounds = within.to_expr();
        let mut matters = false;
        for row in all_rows(&[&expr, &known, &bounds]) {
            if holds(&known, &row) && in_box(&within, &row) {
                matters = true;
                prop_assert_eq!(holds(&rest, &row), holds(&expr, &row), "{:?}: {} for {}", row, shown(&rest), shown(&expr));
            }
        }
        if !matters {
            prop_assert!(rest == Expr::always() || rest == Expr::never());
        }
        if implies(&known, &expr) == Ok(true) {
            prop_assert_eq!(rest, Expr::always());
        }
    }
}
