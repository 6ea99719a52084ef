//! Findings from made-up surveys.

use std::collections::{BTreeMap, BTreeSet};

use tessera_manifest::id::TableId;
use tessera_metaclient::catalog::SwitchedOn;
use tessera_metaclient::keys::Switch;

use super::{Finding, Folder, Report, Survey, check};

/// Tables of the catalog, tombstones, folders without and with a drop marker.
fn survey(next: u32, tables: &[u32], tombstones: &[u32], folders: &[u32], dropped: &[u32]) -> Survey {
    let folder = |is_dropped| move |id: &u32| (TableId(*id), Folder { is_dropped });
    Survey {
        next_table_id: TableId(next),
        tables: tables.iter().map(|id| (TableId(*id), format!("public.t{id}"))).collect::<BTreeMap<_, _>>(),
        tombstones: tombstones.iter().copied().map(TableId).collect::<BTreeSet<_>>(),
        folders: folders.iter().map(folder(false)).chain(dropped.iter().map(folder(true))).collect(),
        switches: Vec::new(),
    }
}

fn findings(survey: &Survey) -> Vec<Finding> {
    check(survey).findings.into_iter().map(|found| found.finding).collect()
}

#[test]
fn a_catalog_that_knows_its_store_is_healthy() {
    let report = check(&survey(1027, &[1024, 1026], &[1025], &[1024, 1026], &[1025]));
    assert!(report.is_healthy() && report.findings.is_empty(), "{report:?}");
    assert_eq!((report.highest_in_catalog, report.highest_on_store), (Some(TableId(1026)), Some(TableId(1026))));
    assert!(check(&survey(1024, &[], &[], &[], &[])).is_healthy());
}

#[test]
fn an_id_that_is_not_above_everything_is_a_problem_wherever_the_id_is_in_use() {
    let too_low = |next, highest| Finding::NextIdTooLow { next: TableId(next), highest: TableId(highest) };
    assert_eq!(findings(&survey(1024, &[1024], &[], &[1024], &[])), [too_low(1024, 1024)]);
    assert_eq!(findings(&survey(1024, &[], &[1030], &[], &[])), [too_low(1024, 1030)]);
    assert_eq!(findings(&survey(1024, &[], &[], &[], &[1031])), [too_low(1024, 1031)], "a drop marker counts");
    let report = check(&survey(1025, &[1024], &[], &[1024, 1040], &[]));
    assert!(!report.is_healthy());
    assert!(report.findings[0].advice.contains("{\"next_table_id\":1041}") && report.findings[0].advice.contains("--fix"));
}

#[test]
fn folders_and_tables_that_lack_each_other_are_named() {
    let table = TableId(1025);
    let missing = check(&survey(1030, &[1024, 1025], &[], &[1024], &[]));
    assert_eq!(missing.findings[0].finding, Finding::FolderMissing { table, name: "public.t1025".into() });
    assert!(!missing.is_healthy());
    let unknown = check(&survey(1030, &[1024], &[], &[1024, 1025], &[]));
    assert_eq!(unknown.findings[0].finding, Finding::FolderUnknown { table });
    assert!(unknown.is_healthy(), "an interrupted CREATE TABLE leaves such a folder");
    let unfinished = check(&survey(1030, &[1025], &[], &[], &[1025]));
    assert_eq!(unfinished.findings[0].finding, Finding::DropUnfinished { table, name: "public.t1025".into() });
}

#[test]
fn switches_that_are_on_are_noted_with_what_turns_them_off() {
    let on = SwitchedOn { since_unix_ms: 7 };
    let report = check(&Survey { switches: Switch::ALL.map(|switch| (switch, on)).to_vec(), ..survey(1024, &[], &[], &[], &[]) });
    assert!(report.is_healthy());
    let advice: Vec<&str> = report.findings.iter().map(|found| found.advice.rsplit("POST ").next().unwrap()).collect();
    assert_eq!(advice[0], "/admin/recovery/disable");
    assert!(advice[1].starts_with("/admin/maintenance/disable"));
    assert_eq!(advice[2], "/admin/procedure-manager/resume");
}

#[test]
fn a_report_reads_back_from_its_json() {
    let report = check(&survey(1024, &[1025], &[], &[1040], &[]));
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""kind":"next_id_too_low""#) && text.contains(r#""severity":"problem""#), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
