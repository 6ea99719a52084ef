//! What every file must say, and what none may.

use super::source::code_of;
use super::{Source, expect_none, sources};

/// A file opens with its module doc.
fn without_doc(source: &Source) -> Option<String> {
    let opens = source.text.lines().next().is_some_and(|line| line.strip_prefix("//! ").is_some_and(|text| text.len() > 5));
    (!opens).then(|| format!("{} does not open with `//!`: say what it owns", source.path))
}

/// An exception is expected, with its reason.
fn with_allow(source: &Source) -> Option<String> {
    let code: String = code_of(&source.text).split_whitespace().collect();
    let found = ["#[allow(", "#![allow(", ",allow("].iter().any(|attribute| code.contains(attribute));
    found.then(|| format!("{} allows a lint: use `#[expect(lint, reason = \"...\")]`", source.path))
}

#[test]
fn every_file_opens_with_its_module_doc() {
    expect_none(&sources().iter().filter_map(without_doc).collect::<Vec<_>>());
}

#[test]
fn nothing_is_allowed_only_expected() {
    expect_none(&sources().iter().filter_map(with_allow).collect::<Vec<_>>());
}

#[test]
fn a_file_without_doc_and_an_allow_are_found() {
    let source = |text: &str| Source { path: "a.rs".to_owned(), text: text.to_owned() };
    for text in ["", "use std::fs;\n//! Late.", "//!\n", "/// Of the first item.\nfn f() {}"] {
        assert!(without_doc(&source(text)).is_some(), "{text}");
    }
    assert!(without_doc(&source("//! What it owns.\n")).is_none());
    for text in ["#[allow(dead_code)]", "#![ allow (x) ]", "#[cfg_attr(test, allow(x))]"] {
        assert!(with_allow(&source(text)).is_some(), "{text}");
    }
    assert!(with_allow(&source("// #[allow(x)]\n#[expect(x, reason = \"#[allow(\")]")).is_none());
}
