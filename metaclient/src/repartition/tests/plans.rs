//! Plans: which statement leads to which regions, and what wrong ones are told.

use super::*;

fn planned(rules: &[&str], columns: &[u32], request: &Request) -> Result<RepartitionPlan, PlanError> {
    let (info, routes) = table(rules, columns);
    plan(&info, &routes, request, |_, _| 1)
}

fn refused(rules: &[&str], columns: &[u32], request: &Request) -> String {
    planned(rules, columns, request).unwrap_err().to_string()
}

fn explained(rules: &[&str], columns: &[u32], request: &Request) -> Vec<String> {
    planned(rules, columns, request).unwrap().explain(&schema())
}

const HALVES: [&str; 2] = ["a < 10", "a >= 10"];

fn split(rule: &str, into: &[&str]) -> Request {
    Request::Split { rule: rule_of(rule), into: rules_of(into) }
}

fn on(columns: &[u32], rules: &[&str]) -> Request {
    Request::PartitionOn { columns: columns.iter().map(|id| ColumnId(*id)).collect(), rules: rules_of(rules) }
}

#[test]
fn a_plan_says_what_each_region_becomes() {
    let lines = explained(&HALVES, &[0], &split("a < 10", &["a < 5", "a >= 5 AND a < 10"]));
    let expected = [
        "group 0: [1024/0] -> [1024/0, 1024/2]",
        "  source 1024/0 (kept): a < 10",
        "  target 1024/0 (kept): a < 5",
        "  target 1024/2 (new): a < 10 AND a >= 5",
        "unchanged regions: 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn regions_are_named_by_what_their_rules_mean() {
    let plan = planned(&HALVES, &[0], &split("NOT a >= 10", &["a < 5", "a >= 5 AND a < 10"])).unwrap();
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.new_regions(), [region(2)]);
}

#[test]
fn each_group_draws_two_generations_and_fresh_numbers() {
    let rules = ["a < 0", "a >= 0 AND a < 10", "a >= 10 AND a < 20", "a >= 20"];
    let request = Request::Repartition {
        from: rules_of(&["a < 0", "a >= 0 AND a < 10", "a >= 10 AND a < 20"]),
        into: rules_of(&["a < -5", "a >= -5 AND a < 0", "a >= 0 AND a < 20"]),
        columns: None,
    };
    let plan = planned(&rules, &[0], &request).unwrap();
    assert_eq!(plan.groups.len(), 2);
    let drawn: Vec<(u32, u32)> = plan.drawn().iter().map(|drawn| (drawn.commit.as_u32(), drawn.abort.as_u32())).collect();
    assert_eq!(drawn, [(2, 3), (4, 5)]);
    let (info, _) = table(&rules, &[0]);
    let after = plan.table_after(&info);
    assert_eq!((after.next_generation, after.next_region_number), (generation(6), RegionNumber(5)));
}

#[test]
fn an_unpartitioned_table_is_partitioned_and_back() {
    let lines = explained(&["TRUE"], &[], &on(&[1], &["b < 5", "b >= 5"]));
    assert_eq!(lines[0], "group 0: [1024/0] -> [1024/0, 1024/1]");
    let back = planned(&["b < 5", "b >= 5"], &[1], &on(&[], &[])).unwrap();
    assert_eq!((back.groups[0].targets.len(), back.groups[0].retired().count()), (1, 1));
    assert!(back.columns.is_empty());
}

#[test]
fn a_statement_that_fits_no_table_is_told_why() {
    let cases = [
        (split("a < 9", &["a < 5", "a >= 5 AND a < 9"]), "no region of table 'public.t' has the rule a < 9; it has (a < 10), (a >= 10)"),
        (split("a < 10", &["a < 10"]), "SPLIT PARTITION needs at least two rules, 1 given"),
        (
            split("a < 10", &["a < 6", "a > 4 AND a < 10"]),
            "a row with a = 5 satisfies both the new rule a < 6 and the new rule a > 4 AND a < 10",
        ),
        (
            split("a < 10", &["a < 5", "a >= 5"]),
            "a row with a = 10 satisfies both the new rule a >= 5 and the rule a >= 10 of a region that stays",
        ),
        (
            split("a < 10", &["a < 4", "a > 4 AND a < 10"]),
            "a row with a = 4 has a region now, and none under the new rules: add a rule that covers it",
        ),
        (split("a < 10", &["b < 5", "b >= 5"]), "the new rule b < 5 names column 'b', which is no partition column: add it to ON COLUMNS"),
        (Request::Merge { rules: rules_of(&["a < 10", "a <= 9"]) }, "the rule a <= 9 names a region that was named before: name it once"),
        (Request::Merge { rules: rules_of(&["a < 10"]) }, "MERGE PARTITION needs at least two regions, 1 given"),
        (on(&[0], &["a < 10", "a >= 10"]), "the rules of table 'public.t' already say this: nothing to do"),
        (on(&[3], &["v < 10", "v >= 10"]), "column 'v' is a field: partition on tags or the time index, or set append_mode"),
        (on(&[0, 0], &["a < 10", "a >= 10"]), "partition column 'a' is listed twice"),
        (on(&[0], &["a < 10", "a >= 10", "a < 5 AND a > 5"]), "no row satisfies the new rule a < 5 AND a > 5: leave it out"),
        (
            Request::Repartition { from: rules_of(&["a < 10"]), into: rules_of(&["a < 10"]), columns: Some(vec![ColumnId(1)]) },
            "the new rule a < 10 names column 'a', which is no partition column: add it to ON COLUMNS",
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(refused(&HALVES, &[0], &request), expected);
    }
    let dropped = Request::Repartition { from: vec![], into: vec![], columns: Some(vec![]) };
    assert_eq!(
        refused(&HALVES, &[0], &dropped),
        "the rule a < 10 of a region that stays names column 'a': keep it in ON COLUMNS, or repartition that region too"
    );
    assert!(refused(&["TRUE"], &[], &split("TRUE", &["a < 5", "a >= 5"])).starts_with("table 'public.t' is not partitioned"));
}

#[test]
fn a_group_whose_routes_do_not_fit_in_a_transaction_is_refused() {
    let bounds: Vec<String> = (0..40).map(|at| format!("a >= {} AND a < {}", at * 10, at * 10 + 10)).collect();
    let rules: Vec<&str> = bounds.iter().map(String::as_str).chain(["a < 0", "a >= 400"]).collect();
    let plan = planned(&rules, &[0], &Request::PartitionOn { columns: vec![], rules: vec![] }).unwrap();
    let of = |txn_ops_max, txn_bytes_max| Limits { txn_ops_max, txn_bytes_max, ..Limits::EMBEDDED };
    assert!(plan.check_size(&of(128, 1 << 20), 4096).is_ok());
    let error = plan.check_size(&of(64, 1 << 20), 4096).unwrap_err();
    assert_eq!(
        error.to_string(),
        "42 regions change together, and to publish that takes 88 operations in one transaction of the metadata store, which takes \
         64: do it in steps, or raise etcd's --max-txn-ops on all its servers and here"
    );
    let error = plan.check_size(&of(128, 8192), 4096).unwrap_err().to_string();
    assert!(error.contains("bytes in one transaction") && error.contains("--max-request-bytes"), "{error}");
}

#[test]
fn a_field_may_be_a_partition_column_where_every_row_is_kept() {
    let (mut info, routes) = table(&["TRUE"], &[]);
    info.options.insert("append_mode".into(), "true".into());
    let request = on(&[3], &["v < 10", "v >= 10"]);
    assert!(plan(&info, &routes, &request, |_, _| 1).is_ok());
}

#[test]
fn the_estimates_of_a_plan_are_shown_and_warn_of_shared_files() {
    let mut plan = planned(&HALVES, &[0], &split("a < 10", &["a < 5", "a >= 5 AND a < 10"])).unwrap();
    let preview = |target, residual_files| RemapPreview { target, files: 3, foreign_files: 1, bytes: 300, rows: 30, residual_files };
    plan.groups[0].estimates = vec![preview(region(0), 0), preview(region(2), 2)];
    let lines = plan.explain(&schema());
    assert_eq!(lines[3], "    3 files, 300 bytes, 30 rows; 1 files of other regions");
    assert!(lines[5].ends_with("warning: 2 files hold rows of other regions too and are read through a filter until localized"));
}
