//! Files stay under 600 lines and functions under 70, but for a written list that only shrinks.

use super::source::{code_of, functions};
use super::{Source, expect_none, sources};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Files that are longer. Nothing may be added.
const LONG_FILES: &[&str] = &[];
/// Functions that are longer, as `path name`. Nothing may be added.
const LONG_FUNCTIONS: &[&str] = &[];

fn long_files(sources: &[Source]) -> Vec<String> {
    sources.iter().filter(|source| source.text.lines().count() >= FILE_LINES).map(|source| source.path.clone()).collect()
}

fn long_functions(sources: &[Source]) -> Vec<String> {
    let of = |source: &Source| {
        let long = functions(&code_of(&source.text)).into_iter().filter(|(_, _, lines)| *lines >= FUNCTION_LINES);
        long.map(|(name, ..)| format!("{} {name}", source.path)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(of).collect()
}

/// What is too long and not listed, and what is listed and not too long.
fn compare(found: &[String], listed: &[&str], limit: usize) -> Vec<String> {
    let new = found.iter().filter(|found| !listed.contains(&found.as_str()));
    let done = listed.iter().filter(|listed| !found.iter().any(|found| found == *listed));
    let new = new.map(|name| format!("{name} has {limit} lines or more: split it"));
    new.chain(done.map(|name| format!("{name} is below {limit} lines: take it off the list"))).collect()
}

#[test]
fn files_stay_short() {
    expect_none(&compare(&long_files(&sources()), LONG_FILES, FILE_LINES));
}

#[test]
fn functions_stay_short() {
    expect_none(&compare(&long_functions(&sources()), LONG_FUNCTIONS, FUNCTION_LINES));
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let text = format!("fn short() {{}}\nfn long() {{\n{}}}\n", "    x();\n".repeat(68));
    let source = |lines: usize| Source { path: "a.rs".to_owned(), text: text.clone() + &"\n".repeat(lines - 71) };
    assert_eq!(long_functions(&[source(71)]), ["a.rs long"]);
    assert_eq!(long_files(&[source(599)]), [""; 0]);
    assert_eq!(long_files(&[source(600)]), ["a.rs"]);
}

#[test]
fn the_lists_only_shrink() {
    let found = ["a".to_owned()];
    assert_eq!(compare(&found, &["a"], 70), [""; 0]);
    assert_eq!(compare(&found, &[], 70), ["a has 70 lines or more: split it"]);
    assert_eq!(compare(&[], &["a"], 70), ["a is below 70 lines: take it off the list"]);
}
