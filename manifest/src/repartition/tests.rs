//! Plans against brute force on small domains, and the common cases.

use proptest::prelude::*;

use super::*;
use crate::id::ColumnId;
use crate::schema::{Column, SemanticType};
use crate::value::{DataType, TimeUnit, Value};

const A: ColumnId = ColumnId(0);
const B: ColumnId = ColumnId(1);

fn schema() -> Schema {
    let column = |id, name: &str, data_type, semantic, nullable| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        semantic,
        nullable,
        default: None,
        comment: None,
    };
    let columns = vec![
        column(0, "a", DataType::Int8, SemanticType::Tag, true),
        column(1, "b", DataType::Int8, SemanticType::Tag, true),
        column(2, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex, false),
    ];
    Schema::new(columns, vec![A, B]).unwrap()
}

fn parsed(text: &str) -> Expr {
    rule::parse(text, &schema()).unwrap()
}

fn sources(texts: &[&str]) -> Vec<Source> {
    texts.iter().enumerate().map(|(i, text)| Source { region: RegionNumber(i as u32), rule: parsed(text) }).collect()
}

fn planned(old: &[&str], new: &[&str]) -> Result<Plan, PlanError> {
    let new: Vec<Expr> = new.iter().map(|text| parsed(text)).collect();
    plan(&sources(old), &new, &schema(), RegionNumber(old.len() as u32), |_, _| 1)
}

/// `sources>targets` of each group, with `+` before a new region; then the unchanged ones.
fn outline(plan: &Plan) -> String {
    let group = |group: &Group| {
        let sources: Vec<String> = group.sources.iter().map(|region| region.0.to_string()).collect();
        let targets = group.targets.iter().map(|target| format!("{}{}", if target.is_new { "+" } else { "" }, target.region.0));
        format!("{}>{}", sources.join(","), targets.collect::<Vec<_>>().join(","))
    };
    let groups: Vec<String> = plan.groups.iter().map(group).collect();
    let unchanged: Vec<String> = plan.unchanged.iter().map(|region| region.0.to_string()).collect();
    format!("{} | {}", groups.join(" "), unchanged.join(","))
}

#[test]
fn a_split_keeps_the_number_in_one_half() {
    let plan = planned(&["a < 10", "a >= 10"], &["a < 5", "a >= 5 AND a < 10", "a >= 10"]).unwrap();
    assert_eq!(outline(&plan), "0>0,+2 | 1");
    assert_eq!(plan.next_region, RegionNumber(3));
    assert_eq!(plan.groups[0].retired().count(), 0);
}

#[test]
fn a_merge_retires_all_sources_but_one() {
    let plan = planned(&["a < 5", "a >= 5 AND a < 10", "a >= 10"], &["a < 10", "a >= 10"]).unwrap();
    assert_eq!(outline(&plan), "0,1>0 | 2");
    assert_eq!(plan.groups[0].retired().collect::<Vec<_>>(), [RegionNumber(1)]);
    assert_eq!(plan.groups[0].targets[0].from, [RegionNumber(0), RegionNumber(1)]);
}

#[test]
fn changes_that_share_no_rows_are_groups_of_their_own() {
    let old = ["a < 0", "a >= 0 AND a < 10", "a >= 10 AND a < 20", "a >= 20"];
    let new = ["a < -5", "a >= -5 AND a < 0", "a >= 0 AND a < 20", "a > 19"];
    assert_eq!(outline(&planned(&old, &new).unwrap()), "0>0,+4 1,2>1 | 3");
}

#[test]
fn a_rule_that_says_the_same_in_other_words_changes_nothing() {
    let plan = planned(&["a < 10", "a >= 10"], &["NOT (a < 10)", "a <= 9"]).unwrap();
    assert_eq!(outline(&plan), " | 0,1");
}

#[test]
fn a_new_column_joins_all_that_it_crosses() {
    let plan = planned(&["a < 10", "a >= 10"], &["b < 0", "b >= 0"]).unwrap();
    assert_eq!(outline(&plan), "0,1>0,1 | ");
    let back = planned(&["TRUE"], &["b < 0", "b >= 0"]).unwrap();
    assert_eq!(outline(&back), "0>0,+1 | ");
    assert_eq!(outline(&planned(&["b < 0", "b >= 0"], &["TRUE"]).unwrap()), "0,1>0 | ");
}

#[test]
fn the_number_stays_where_the_most_bytes_stay() {
    let new = [parsed("a < 5"), parsed("a >= 5")];
    let heavy_right = |_: RegionNumber, rule: &Expr| if *rule == new[1] { 10 } else { 1 };
    let plan = plan(&sources(&["TRUE"]), &new, &schema(), RegionNumber(7), heavy_right).unwrap();
    assert_eq!(outline(&plan), "0>+7,0 | ");
}

#[test]
fn rows_that_have_a_region_must_keep_one_and_old_gaps_may_stay() {
    let error = planned(&["a < 10", "a >= 10"], &["a < 5", "a >= 10"]).unwrap_err();
    assert_eq!(error.to_string(), "a row with a = 5 has a region now, and none under the new rules: add a rule that covers it");
    assert_eq!(outline(&planned(&["a < 10", "a >= 10"], &["a < 5", "a >= 5"]).unwrap()), "0,1>0,1 | ");
    // A rule for the rows that none had is a group without sources.
    assert_eq!(outline(&planned(&["a >= 0 AND a < 10", "a >= 10"], &["a >= 0 AND a < 10", "a >= 10", "a IS NULL"]).unwrap()), ">+2 | 0,1");
    assert!(matches!(planned(&["TRUE"], &["TRUE", "a < 5 AND a > 5"]), Err(PlanError::Empty { index: 1 })));
    assert!(matches!(planned(&["TRUE"], &["a < 6", "a > 4"]), Err(PlanError::Rules(ValidateError::Overlap { .. }))));
}

/// A partition of the plane of two columns, by cutting boxes; NULL belongs to the lowest.
fn partition() -> impl Strategy<Value = Vec<Expr>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..6_i64), 0..5).prop_map(|cuts| {
        let mut rules = vec![Expr::always()];
        for (at, first, bound) in cuts {
            let column = if first { A } else { B };
            let value = Value::Int(bound);
            let low = Expr::Compare { column, op: rule::CompareOp::Lt, value: value.clone() };
            let high = Expr::Compare { column, op: rule::CompareOp::GtEq, value };
            let index = at.index(rules.len());
            let whole = rules[index].clone();
            let (left, right) = (whole.clone().and(low), whole.and(high));
            if left.satisfiable().unwrap() && right.satisfiable().unwrap() {
                rules[index] = left;
                rules.push(right);
            }
        }
        rules
    })
}

fn rows() -> Vec<[Value; 2]> {
    let values = || std::iter::once(Value::Null).chain((-1..7).map(Value::Int));
    values().flat_map(|a| values().map(move |b| [a.clone(), b])).collect()
}

proptest! {
    #[test]
    fn rules_meet_iff_a_row_satisfies_both(old in partition(), new in partition()) {
        let found = rule::meeting(&old, &new, &schema()).unwrap();
        let holds = |expr: &Expr, row: &[Value; 2]| expr.matches(|id| &row[id.0 as usize]);
        let rows = rows();
        let mut expected = BTreeSet::new();
        for (i, first) in old.iter().enumerate() {
            for (j, second) in new.iter().enumerate() {
                if rows.iter().any(|row| holds(first, row) && holds(second, row)) {
                    expected.insert((i, j));
                }
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn every_row_of_a_source_has_one_target_and_numbers_are_used_once(old in partition(), new in partition()) {
        let old: Vec<Source> = old.into_iter().enumerate().map(|(i, rule)| Source { region: RegionNumber(i as u32), rule }).collect();
        let plan = plan(&old, &new, &schema(), RegionNumber(100), |region, _| u64::from(region.0) % 3).unwrap();
        let holds = |expr: &Expr, row: &[Value; 2]| expr.matches(|id| &row[id.0 as usize]);
        for row in rows() {
            let source = old.iter().find(|source| holds(&source.rule, &row)).unwrap();
            let target = plan.groups.iter().flat_map(|group| group.targets.iter().map(move |target| (group, target)));
            let takes: Vec<_> = target.filter(|(_, target)| holds(&target.rule, &row)).collect();
            if plan.unchanged.contains(&source.region) {
                prop_assert!(takes.is_empty());
            } else {
                let [(group, target)] = takes[..] else { return Err(TestCaseError::fail(format!("{row:?} has {} targets", takes.len()))) };
                prop_assert!(group.sources.contains(&source.region) && target.from.contains(&source.region));
            }
        }
        let mut used: Vec<RegionNumber> = plan.groups.iter().flat_map(|group| group.targets.iter().map(|target| target.region)).collect();
        used.extend(&plan.unchanged);
        let distinct: BTreeSet<RegionNumber> = used.iter().copied().collect();
        prop_assert_eq!(distinct.len(), used.len());
        let mut seen: Vec<RegionNumber> = plan.groups.iter().flat_map(|group| group.sources.clone()).chain(plan.unchanged.clone()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, old.iter().map(|source| source.region).collect::<Vec<_>>());
    }
}

#[test]
fn ten_thousand_ranges_split_in_two_are_ten_thousand_groups() {
    let ts = ColumnId(2);
    let compare = |op, value: i64| Expr::Compare { column: ts, op, value: Value::Timestamp(value) };
    let range = |from: i64, to: Option<i64>| {
        let low = (from > 0).then(|| compare(rule::CompareOp::GtEq, from));
        let high = to.map(|to| compare(rule::CompareOp::Lt, to));
        Expr::And(low.into_iter().chain(high).collect())
    };
    let count = 10_000;
    let end = |n: i64| (n < count).then_some(n * 10);
    let old: Vec<Source> = (0..count).map(|n| Source { region: RegionNumber(n as u32), rule: range(n * 10, end(n + 1)) }).collect();
    let new: Vec<Expr> = (0..count).flat_map(|n| [range(n * 10, Some(n * 10 + 5)), range(n * 10 + 5, end(n + 1))]).collect();
    let plan = plan(&old, &new, &schema(), RegionNumber(count as u32), |_, _| 0).unwrap();
    assert_eq!((plan.groups.len(), plan.unchanged.len(), plan.next_region.0), (10_000, 0, 20_000));
}
