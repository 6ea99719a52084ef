//! Validation of rule sets.

use super::*;
use crate::rule::solve::Work;
use crate::rule::space::Space;

fn rules(texts: &[&str]) -> Vec<Expr> {
    texts.iter().map(|text| rule(text)).collect()
}

fn gap(texts: &[&str]) -> Option<String> {
    validate(&rules(texts), &schema()).unwrap().gap.map(|witness| witness.to_string())
}

fn overlap(texts: &[&str]) -> (usize, usize, String) {
    match validate(&rules(texts), &schema()) {
        Err(ValidateError::Overlap { first, second, witness }) => (first, second, witness.to_string()),
        other => panic!("{texts:?}: {other:?}"),
    }
}

#[test]
fn complete_sets_are_complete() {
    assert_eq!(gap(&["TRUE"]), None);
    assert_eq!(gap(&["i < 5", "i >= 5"]), None);
    assert_eq!(gap(&["i <= 4", "i >= 5"]), None);
    assert_eq!(gap(&["f < 0", "f >= 0"]), None);
    assert_eq!(gap(&["\"Is\" = TRUE", "\"Is\" = FALSE OR \"Is\" IS NULL"]), None);
    assert_eq!(gap(&["s < 'm' AND i < 0", "s < 'm' AND i >= 0", "s >= 'm'"]), None);
    assert_eq!(gap(&["tiny <= 127"]), None);
    assert_eq!(gap(&["ts < 0", "ts >= 0"]), None);
}

#[test]
fn a_gap_is_shown_by_a_row() {
    assert_eq!(gap(&[]).as_deref(), Some("any row"));
    assert_eq!(gap(&["i < 5", "i > 5"]).as_deref(), Some("i = 5"));
    assert_eq!(gap(&["\"Is\" = TRUE", "\"Is\" = FALSE"]).as_deref(), Some("\"Is\" = NULL"));
    assert_eq!(gap(&["f <= 'Infinity'"]).as_deref(), Some("f = 'NaN'"));
    assert_eq!(gap(&["s < 'a'", "s > 'a' AND s < 'q'", "s >= 'q'", "s = 'a' AND i IS NOT NULL"]).as_deref(), Some("i = NULL, s = 'a'"));
    assert_eq!(gap(&["i < 5", "i >= 7"]).as_deref(), Some("i = 5"));
    assert_eq!(gap(&["s <= 'k'", "s >= 'n'"]).as_deref(), Some("s = 'm'"));
    assert_eq!(gap(&["tiny < 127"]).as_deref(), Some("tiny = 127"));
}

#[test]
fn an_overlap_is_shown_by_a_row_and_both_rules() {
    assert_eq!(overlap(&["i < 5", "i >= 5", "i = 3"]), (0, 2, "i = 3".into()));
    assert_eq!(overlap(&["i <= 5", "i >= 5"]), (0, 1, "i = 5".into()));
    assert_eq!(overlap(&["TRUE", "s = 'a'"]), (0, 1, "s = 'a'".into()));
    assert_eq!(overlap(&["s = 'a'", "i = 1"]), (0, 1, "i = 1, s = 'a'".into()));
    assert_eq!(overlap(&["i < 5 OR i IS NULL", "i >= 5 OR i IS NULL"]), (0, 1, "i = NULL".into()));
    let error = validate(&rules(&["f >= 1", "f = 'NaN'"]), &schema()).unwrap_err();
    assert_eq!(error.to_string(), "a row with f = 'NaN' satisfies both rule 0 and rule 1");
}

#[test]
fn a_column_that_is_not_nullable_needs_no_rule_for_null() {
    let mut flag = column(0, "flag", DataType::Boolean, SemanticType::Field);
    flag.nullable = false;
    let schema = Schema::new(vec![flag, column(1, "ts", DataType::Timestamp(TimeUnit::Second), SemanticType::TimeIndex)], vec![]).unwrap();
    let rules = [parse("flag = TRUE", &schema).unwrap(), parse("flag = FALSE", &schema).unwrap()];
    assert_eq!(validate(&rules, &schema), Ok(Coverage { gap: None, empty: vec![] }));
}

#[test]
fn rules_that_no_row_satisfies_are_named() {
    let coverage = validate(&rules(&["i < 5", "i > 4 AND i < 5", "i >= 5", "s = 'a' AND s = 'b'"]), &schema()).unwrap();
    assert_eq!(coverage, Coverage { gap: None, empty: vec![1, 3] });
}

#[test]
fn a_rule_of_another_schema_is_named() {
    let stranger = Expr::Compare { column: ColumnId(99), op: CompareOp::Eq, value: Value::Null };
    let error = validate(&[Expr::never(), stranger], &schema()).unwrap_err();
    assert!(matches!(error, ValidateError::Rule { index: 1, source: CheckError::UnknownColumn { .. } }));
}

/// Rules `i < 10`, `10 <= i < 20`, and so on.
fn ranges(column: ColumnId, count: i64) -> Vec<Expr> {
    let compare = |op, value: i64| Expr::Compare { column, op, value: Value::Int(value) };
    let range = |n: i64| {
        let low = (n > 0).then(|| compare(CompareOp::GtEq, n * 10));
        let high = (n + 1 < count).then(|| compare(CompareOp::Lt, (n + 1) * 10));
        Expr::And(low.into_iter().chain(high).collect())
    };
    (0..count).map(range).collect()
}

#[test]
fn ten_thousand_ranges_validate_and_one_lost_is_found() {
    let mut rules = ranges(I, 10_000);
    assert_eq!(validate(&rules, &schema()), Ok(Coverage { gap: None, empty: vec![] }));
    rules.remove(7000);
    let gap = validate(&rules, &schema()).unwrap().gap.unwrap();
    assert!(matches!(gap.value(I), Some(Value::Int(70_000..=70_009))), "{gap}");
    rules.push(rule("i = 123"));
    assert!(matches!(validate(&rules, &schema()), Err(ValidateError::Overlap { first: 12, second: 9999, .. })));
}

/// Splits a box of three columns, each in 101 ranges, until there are `count` boxes; where is drawn from `seed`.
fn boxes(count: usize, mut seed: u64) -> Vec<Expr> {
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut boxes = vec![[(0_i64, 101_i64); 3]];
    while boxes.len() < count {
        // The largest of three, so that the boxes do not become slivers.
        let volume = |at: &usize| boxes[*at].iter().map(|(low, high)| high - low).product::<i64>();
        let drawn = [(); 3].map(|()| next(boxes.len() as u64) as usize);
        let at = drawn.into_iter().max_by_key(volume).unwrap();
        let axis = next(3) as usize;
        let (low, high) = boxes[at][axis];
        if high - low < 2 {
            continue;
        }
        let cut = low + 1 + next((high - low - 1) as u64) as i64;
        let mut other = boxes[at];
        boxes[at][axis].1 = cut;
        other[axis].0 = cut;
        boxes.push(other);
    }
    let columns = [ColumnId(0), ColumnId(1), ColumnId(2)];
    let side = |column, (low, high): (i64, i64)| {
        let compare = |op, value: i64| Expr::Compare { column, op, value: Value::Int(value) };
        let low = (low > 0).then(|| compare(CompareOp::GtEq, low * 10));
        let high = (high < 101).then(|| compare(CompareOp::Lt, high * 10));
        Expr::And(low.into_iter().chain(high).collect())
    };
    boxes.into_iter().map(|sides| Expr::And(columns.into_iter().zip(sides).map(|(column, run)| side(column, run)).collect())).collect()
}

fn three_ints() -> Schema {
    let mut columns: Vec<Column> =
        ["a", "b", "c"].iter().zip(0..).map(|(name, id)| column(id, name, DataType::Int64, SemanticType::Field)).collect();
    columns.push(column(3, "ts", DataType::Timestamp(TimeUnit::Second), SemanticType::TimeIndex));
    Schema::new(columns, vec![]).unwrap()
}

#[test]
fn a_thousand_boxes_over_three_columns_validate_with_work_to_spare() {
    for seed in 0..3 {
        let mut rules = boxes(1000, seed);
        let space = Space::typed(&rules, &three_ints());
        assert!(space.axes().iter().all(|axis| axis.width() > 150), "the case is not the one that is meant");
        assert_eq!(validate(&rules, &three_ints()), Ok(Coverage { gap: None, empty: vec![] }));
        let lost = rules.swap_remove(500);
        let gap = validate(&rules, &three_ints()).unwrap().gap.unwrap();
        assert!(lost.matches(|id| gap.value(id).unwrap()), "{gap}");
        rules.push(lost.clone());
        rules.push(lost);
        assert!(matches!(validate(&rules, &three_ints()), Err(ValidateError::Overlap { first: 999, second: 1000, .. })));
    }
}

/// Whether all is covered, and how that changes when one rule is lost.
fn assert_complete_and_one_lost_is_found(mut rules: Vec<Expr>, schema: &Schema) {
    assert_eq!(validate(&rules, schema), Ok(Coverage { gap: None, empty: vec![] }));
    let lost = rules.swap_remove(rules.len() / 2);
    let gap = validate(&rules, schema).unwrap().gap.unwrap();
    assert!(lost.matches(|id| gap.value(id).unwrap()), "{gap}");
}

#[test]
fn interleaved_lists_over_three_columns_validate() {
    // Ten lists of ten literals per column, of which no two lists are apart; what is in no list goes to the first.
    let part = |column: u32, n: i64| {
        let list = |n: i64| Expr::In { column: ColumnId(column), values: (0..10).map(|i| Value::Int((i * 10 + n) * 3)).collect() };
        let others = (1..10).map(list).collect();
        if n == 0 { Expr::Or(others).negated() } else { list(n) }
    };
    let triples = (0..10).flat_map(|a| (0..10).flat_map(move |b| (0..10).map(move |c| (a, b, c))));
    let rules = triples.map(|(a, b, c)| Expr::And(vec![part(0, a), part(1, b), part(2, c)])).collect();
    assert_complete_and_one_lost_is_found(rules, &three_ints());
}

#[test]
fn ten_thousand_rules_over_two_columns_validate() {
    let columns = [ranges(ColumnId(0), 100), ranges(ColumnId(1), 100)];
    let rules = columns[0].iter().flat_map(|a| columns[1].iter().map(|b| a.clone().and(b.clone()))).collect();
    assert_complete_and_one_lost_is_found(rules, &three_ints());
}

#[test]
fn hostile_rules_are_too_complex_and_do_not_hang() {
    // Random clauses of three booleans, 4.3 per column, where it is hardest to tell whether all can hold.
    let columns: Vec<Column> = (0..60).map(|i| column(i, &format!("c{i}"), DataType::Boolean, SemanticType::Field)).collect();
    let ts = column(60, "ts", DataType::Timestamp(TimeUnit::Second), SemanticType::TimeIndex);
    let schema = Schema::new(columns.into_iter().chain([ts]).collect(), vec![]).unwrap();
    let mut seed = 1_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut literal = || Expr::In { column: ColumnId((next() % 60) as u32), values: vec![Value::Boolean(next() % 2 == 0)] };
    let rules: Vec<Expr> = (0..258).map(|_| Expr::Or(vec![literal(), literal(), literal()]).negated()).collect();
    let all = Expr::Or(rules);
    assert_eq!(validate(&[all.clone(), all.negated()], &schema), Err(ValidateError::TooComplex(TooComplex)));
}

#[test]
fn work_is_bounded() {
    let mut work = Work::new();
    assert_eq!(work.spend(limits::RULE_WORK_MAX as usize), Ok(()));
    assert_eq!(work.spend(1), Err(TooComplex));
}

/// Rules that partition all rows: each expression splits one of the rules so far.
fn any_partition() -> impl Strategy<Value = Vec<Expr>> {
    let splits = prop::collection::vec((any::<prop::sample::Index>(), any_leaf()), 0..5);
    splits.prop_map(|splits| {
        let mut rules = vec![Expr::always()];
        for (which, at) in splits {
            let which = which.index(rules.len());
            let rule = rules[which].clone();
            rules[which] = rule.clone().and(at.clone());
            rules.push(rule.and(at.negated()));
        }
        rules
    })
}

fn check_against_rows(rules: &[Expr]) -> Result<(), TestCaseError> {
    let rows = all_rows(&rules.iter().collect::<Vec<_>>());
    let holding = |row: &Row| rules.iter().enumerate().filter(|(_, rule)| holds(rule, row)).map(|(i, _)| i).collect::<Vec<_>>();
    let at = |witness: &Witness| [I, F, S, B].map(|column| witness.value(column).cloned().unwrap_or(Value::Null));
    match validate(rules, &schema()) {
        Ok(coverage) => {
            prop_assert!(rows.iter().all(|row| holding(row).len() <= 1), "an overlap was missed");
            match &coverage.gap {
                Some(witness) => prop_assert!(holding(&at(witness)).is_empty(), "{} is no gap", witness),
                None => prop_assert!(rows.iter().all(|row| holding(row).len() == 1), "a gap was missed"),
            }
            let empty = |rule: &Expr| !rows.iter().any(|row| holds(rule, row));
            let empties: Vec<usize> = (0..rules.len()).filter(|i| empty(&rules[*i])).collect();
            prop_assert_eq!(coverage.empty, empties);
        }
        Err(ValidateError::Overlap { first, second, witness }) => {
            prop_assert!(first < second);
            let holding = holding(&at(&witness));
            prop_assert!(holding.contains(&first) && holding.contains(&second), "{} is no overlap", witness);
        }
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_rules_are_judged_exactly(rules in prop::collection::vec(any_expr(), 0..4)) {
        check_against_rows(&rules)?;
    }

    #[test]
    fn partitions_are_complete_and_damaged_ones_are_not(rules in any_partition(), which in any::<prop::sample::Index>(), at in any_leaf()) {
        prop_assert_eq!(validate(&rules, &schema()).map(|c| c.gap), Ok(None));
        let which = which.index(rules.len());
        let mut damaged = rules.clone();
        damaged.remove(which);
        check_against_rows(&damaged)?;
        let mut damaged = rules.clone();
        damaged[which] = damaged[which].clone().or(at.clone());
        check_against_rows(&damaged)?;
        let mut damaged = rules;
        damaged[which] = damaged[which].clone().and(at);
        check_against_rows(&damaged)?;
    }
}

#[test]
fn a_thousand_boxes_know_which_of_another_thousand_they_meet() {
    let (old, new) = (boxes(1000, 1), boxes(1000, 2));
    let pairs = meeting(&old, &new, &three_ints()).unwrap();
    for (sampled, first) in old.iter().enumerate().step_by(97) {
        let expected: Vec<usize> = (0..new.len()).filter(|second| !disjoint(first, &new[*second]).unwrap()).collect();
        let found: Vec<usize> = pairs.range((sampled, 0)..=(sampled, usize::MAX)).map(|(_, second)| *second).collect();
        assert_eq!(found, expected, "rule {sampled}");
    }
}
