//! Crates depend downward, and every dependency says why it is there.

use std::collections::BTreeSet;
use std::fs;

use toml::Table;

use super::{expect_none, root};

/// Our crates by rank: each may depend on crates of a lower rank only. Tests and benches may depend on all.
const RANKS: [(&str, u32); 8] = [
    ("tessera-manifest", 0),
    ("tessera-engine", 1),
    ("tessera-gc", 1),
    ("tessera-metaclient", 1),
    ("tessera", 2),
    ("tessera-tests", 3),
    ("tessera-model", 3),
    ("tessera-benches", 3),
];

/// DataFusion is large: one crate alone may use it.
const ONLY_IN: [(&str, &str); 1] = [("datafusion", "tessera")];

fn rank(name: &str) -> Option<u32> {
    RANKS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, rank)| *rank)
}

fn cargo_toml(folder: &str) -> String {
    fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap()
}

/// The folders of the workspace's crates.
pub(super) fn members() -> Vec<String> {
    let root: Table = cargo_toml(".").parse().unwrap();
    let members = root["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Every dependency that a Cargo.toml names, for whatever purpose.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => found.extend(table.keys().cloned()),
            "target" => found.extend(table.values().filter_map(|target| target.as_table()).flat_map(dependencies)),
            _ => {}
        }
    }
    found
}

/// Dependencies of a crate that do not point downward.
fn upward(cargo_toml: &str) -> Vec<String> {
    let manifest: Table = cargo_toml.parse().unwrap();
    let name = manifest["package"]["name"].as_str().unwrap();
    let Some(own) = rank(name) else { return vec![format!("{name} has no rank: give it one, and say so in the design")] };
    let mut complaints = Vec::new();
    for dependency in dependencies(&manifest) {
        if rank(&dependency).is_some_and(|theirs| theirs >= own) || (rank(&dependency).is_none() && dependency.starts_with("tessera")) {
            complaints.push(format!("{name} depends on {dependency}, which is not below it: define a port and connect it in the server"));
        }
        if ONLY_IN.iter().any(|(only, owner)| *only == dependency && *owner != name && own < 3) {
            complaints.push(format!("{name} depends on {dependency}, which only one crate may"));
        }
    }
    complaints
}

/// Workspace dependencies without a comment that names them.
fn without_reason(cargo_toml: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut inside, mut comment, mut fresh) = (false, String::new(), false);
    for line in cargo_toml.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if let Some(text) = line.strip_prefix('#') {
            if !fresh {
                comment.clear();
            }
            comment.push_str(text);
            fresh = true;
        } else if let Some((name, value)) = line.split_once(" = ").filter(|_| inside) {
            fresh = false;
            let names = |part: &str| part.split(|c: char| !(c.is_alphanumeric() || "-_".contains(c))).any(|word| word == name);
            if !value.contains("path = ") && !names(&comment) {
                complaints.push(format!("the dependency {name} has no comment above it that names it and says why it is there"));
            }
        }
    }
    complaints
}

#[test]
fn crates_depend_downward() {
    let complaints: Vec<String> = members().iter().flat_map(|member| upward(&cargo_toml(member))).collect();
    expect_none(&complaints);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    expect_none(&without_reason(&cargo_toml(".")));
}

#[test]
fn a_dependency_upward_or_sideways_is_found() {
    let depends = |name: &str, on: &str| format!("[package]\nname = \"{name}\"\n[dependencies]\n{on}.workspace = true\n");
    for (name, on) in [
        ("tessera-manifest", "tessera-engine"),
        ("tessera-engine", "tessera-metaclient"),
        ("tessera-gc", "tessera-engine"),
        ("tessera-engine", "tessera"),
        ("tessera-metaclient", "tessera-gc"),
        ("tessera-engine", "tessera-unheard-of"),
        ("tessera-engine", "datafusion"),
    ] {
        assert_eq!(upward(&depends(name, on)).len(), 1, "{name} -> {on}");
        assert_eq!(upward(&depends(name, on).replace("[dep", "[dev-dep")).len(), 1, "{name} -> {on} in tests");
        assert_eq!(upward(&depends(name, on).replace("[dep", "[target.'cfg(unix)'.dep")).len(), 1, "{name} -> {on} on unix");
    }
    assert_eq!(upward(&depends("tessera-new", "serde")).len(), 1);
    assert_eq!(upward(&depends("tessera", "tessera-engine")), [""; 0]);
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let bad =
        "[workspace.dependencies]\n# serde: actions.\nserde = \"1\"\nrand = \"0.9\"\n# toml-like: no.\ntoml = \"1\"\n[other]\nx = 1\n";
    let complaints = without_reason(bad);
    assert!(complaints.len() == 2 && complaints[0].contains("rand") && complaints[1].contains("toml"), "{complaints:?}");
    assert_eq!(
        without_reason("[workspace.dependencies]\n# a, b: both, for\n# a reason.\na = \"1\"\nb = \"1\"\nc = { path = \"c\" }\n"),
        [""; 0]
    );
}
