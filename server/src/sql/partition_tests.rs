//! Tests of statements about partitions.

use super::*;
use crate::error::Code;
use crate::sql::parse;

fn read(sql: &str) -> Repartition {
    match parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).remove(0) {
        Statement::Repartition(repartition) => *repartition,
        other => panic!("{sql} was read as {other:?}"),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_split_names_one_rule_and_what_it_becomes() {
    let split = read("ALTER TABLE m.t SPLIT PARTITION (host < 'h, (' AND dc IN (1, 2)) INTO (host < 'c', host >= 'c' AND host < 'h, (')");
    assert_eq!(split.name, TableName { database: Some("m".into()), table: "t".into() });
    let into = texts(&["host < 'c'", "host >= 'c' AND host < 'h, ('"]);
    assert_eq!(split.change, PartitionChange::Split { rule: "host < 'h, (' AND dc IN (1, 2)".into(), into });
    assert_eq!(split.options, RepartitionOptions { timeout: None, wait: true, localize: true });
}

#[test]
fn a_merge_and_a_repartition_name_lists_of_rules() {
    let merge = read("alter table t merge partition (a < 1, a >= 1 and a < 5) with (timeout = '1h 30m', wait = false, localize = false)");
    assert_eq!(merge.change, PartitionChange::Merge { rules: texts(&["a < 1", "a >= 1 and a < 5"]) });
    assert_eq!(merge.options, RepartitionOptions { timeout: Some(Duration::from_secs(5400)), wait: false, localize: false });
    let replace =
        read("alter table t repartition (a < 1, a >= 1) on columns (b, \"C\") into (b < 2, b >= 2 and \"C\" = 1, b >= 2 and \"C\" != 1)");
    let (from, into) = (texts(&["a < 1", "a >= 1"]), texts(&["b < 2", "b >= 2 and \"C\" = 1", "b >= 2 and \"C\" != 1"]));
    assert_eq!(replace.change, PartitionChange::Replace { from: from.clone(), columns: Some(texts(&["b", "C"])), into });
    let plain = read("alter table t repartition partition (a < 1, a >= 1) into (a = 0, a != 0)");
    assert_eq!(plain.change, PartitionChange::Replace { from, columns: None, into: texts(&["a = 0", "a != 0"]) });
}

#[test]
fn a_table_is_partitioned_anew_or_not_at_all() {
    let on = read("alter table t partition on columns (a) (a < 1, a >= 1)");
    assert_eq!(on.change, PartitionChange::On { columns: texts(&["a"]), rules: texts(&["a < 1", "a >= 1"]) });
    let none = read("alter table t partition on columns () ()");
    assert_eq!(none.change, PartitionChange::On { columns: Vec::new(), rules: Vec::new() });
}

#[test]
fn an_explained_repartition_is_read_as_one() {
    let parsed = parse("EXPLAIN ALTER TABLE t SPLIT PARTITION (a < 1) INTO (a < 0, a >= 0 AND a < 1)").unwrap().remove(0);
    let Statement::ExplainRepartition(explained) = parsed else { panic!("{parsed:?}") };
    assert_eq!(*explained, read("ALTER TABLE t SPLIT PARTITION (a < 1) INTO (a < 0, a >= 0 AND a < 1)"));
    let error = parse("EXPLAIN ALTER TABLE t RENAME u").unwrap_err();
    assert!(error.code == Code::Unsupported && error.message.contains("partitions"), "{error}");
}

#[test]
fn what_cannot_be_read_says_why() {
    let deep = format!("alter table t merge partition ({}a < 1{}, a >= 1)", "(".repeat(2000), ")".repeat(2000));
    let cases = [
        ("alter table t split partition (a < 1, a >= 1) into (a < 0, a >= 0)", "names the one rule that is split, not 2"),
        ("alter table t split partition (a < 1) into (a < 1)", "two rules or more"),
        ("alter table t split partition (a < 1)", "INTO"),
        ("alter table t merge partition (a < 1)", "two rules or more"),
        ("alter table t merge (a < 1, a >= 1)", "PARTITION"),
        ("alter table t merge partition (a < 1,, a >= 1)", "MERGE PARTITION has an empty rule"),
        ("alter table t merge partition (a < 1, a >= 1", "a rule and ')'"),
        ("alter table t merge partition (a < 1, a >= 1), rename u", "statement of its own"),
        ("alter table t repartition () into (a < 1)", "a rule in each list"),
        ("alter table t repartition (a < 1) into ()", "a rule in each list"),
        ("alter table t merge partition (a < 1, a >= 1) with (wait = 'maybe')", "neither true nor false"),
        ("alter table t merge partition (a < 1, a >= 1) with (localize = 1)", "neither true nor false"),
        ("alter table t merge partition (a < 1, a >= 1) with (timeout = '5 parsecs')", "no length of time"),
        ("alter table t merge partition (a < 1, a >= 1) with (timeout = '0s')", "no length of time"),
        ("alter table t merge partition (a < 1, a >= 1) with (speed = 'high')", "options are timeout, wait, localize"),
        (deep.as_str(), "more than 1000 operators"),
    ];
    for (sql, part) in cases {
        let error = parse(sql).unwrap_err();
        assert!(error.message.contains(part), "{}: {}", &sql[..sql.len().min(80)], error.message);
    }
}
