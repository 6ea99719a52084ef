//! The rules of the house that no lint knows, checked over the sources of the whole workspace.
//!
//! Each check is a pure function from a path and a text to complaints, and is shown to complain by a bad text of its own.

mod crates;
mod metrics;
mod purity;
mod sizes;
mod source;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::package;

/// A source file: its path from the root of the workspace, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    package().parent().unwrap()
}

/// Every Rust file of the workspace, by path.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for member in crates::members() {
        collect(&root().join(member), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 100, "{} files: the workspace was not found", paths.len());
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[track_caller]
fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
