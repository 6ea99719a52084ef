//! `verify` finds what is damaged, names it, and is not fooled by anything else.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json as value};

use super::{Fixture, json, manifest, text};
use crate::support::{Objects, files, flip_bit};

const NOTHING: [PathBuf; 0] = [];

/// The objects that `verify` complains of, from the store's folder on.
fn complaints(fixture: &Fixture, args: &[&str]) -> Vec<PathBuf> {
    let found = json(&[&["verify", fixture.path()], args].concat());
    let problems = found["regions"].as_array().unwrap().iter().flat_map(|region| region["problems"].as_array().unwrap());
    let paths: Vec<PathBuf> = problems.map(|problem| fixture.home().join("store").join(problem["object"].as_str().unwrap())).collect();
    assert_eq!(found["problems"], value!(paths.len()));
    paths
}

/// Damages a file for as long as `check` runs.
fn with_flipped_bit(path: &Path, at: usize, check: impl FnOnce()) {
    flip_bit(path, at);
    check();
    flip_bit(path, at);
}

/// A home whose region 0 has checkpoints: two snapshots of it were made.
fn with_checkpoints() -> Fixture {
    let fixture = Fixture::new();
    text(&["snapshot", "create", fixture.path(), "1024/0", "old", "--version", "1-1"]);
    text(&["snapshot", "create", fixture.path(), "1024/0", "new"]);
    fixture
}

#[test]
fn a_sound_store_is_sound() {
    let fixture = with_checkpoints();
    let shown = text(&["verify", fixture.path(), "--files=crc"]);
    assert!(shown.contains("sound") && shown.ends_with("(2 regions, 0 problems)\n"), "{shown}");
    let found = json(&["verify", fixture.path(), "1024/0", "--files"]);
    let region = &found["regions"][0];
    for (what, number) in [("records", 12), ("replayed", 12), ("checkpoints", 2), ("compared", 2), ("segments", 2), ("files", 2)] {
        assert_eq!(region[what], value!(number), "{what} of {region}");
    }
    assert_eq!(json(&["verify", fixture.path(), "1024/1"])["regions"][0]["files"], Value::Null);
}

#[test]
fn a_flipped_bit_in_any_record_checkpoint_or_segment_is_found_and_named() {
    let fixture = with_checkpoints();
    let folder = fixture.home().join("store/0000001024/0000000000/manifest");
    let (records, roots, segments) = (files(&folder, ".json"), files(&folder, ".checkpoint"), files(&folder.join("seg"), ".parquet"));
    assert_eq!((records.len(), roots.len(), segments.len()), (12, 2, 2));
    for (index, path) in records.iter().chain(&roots).chain(&segments).enumerate() {
        let bytes = fs::read(path).unwrap().len();
        with_flipped_bit(path, (41 * index + 17) % bytes, || {
            assert_eq!(complaints(&fixture, &[]), std::slice::from_ref(path));
            let name = path.file_name().unwrap().to_str().unwrap();
            manifest(&["verify", fixture.path()]).expect(1, &["1024/0", "1024/1", "1 problem", name]);
        });
    }
    assert_eq!(complaints(&fixture, &[]), NOTHING);
}

#[test]
fn a_missing_or_damaged_file_is_found_when_files_are_asked_for() {
    let fixture = Fixture::new();
    let sst = Objects::of(fixture.home(), 1024, 0).ssts()[0].clone();
    with_flipped_bit(&sst, 1000, || {
        assert_eq!(complaints(&fixture, &[]), NOTHING);
        assert_eq!(complaints(&fixture, &["--files=size"]), NOTHING);
        assert_eq!(complaints(&fixture, &["--files=crc"]), std::slice::from_ref(&sst));
        manifest(&["verify", fixture.path(), "--files=crc"]).expect(1, &["is damaged: CRC-32"]);
    });
    let bytes = fs::read(&sst).unwrap();
    fs::write(&sst, &bytes[1..]).unwrap();
    manifest(&["verify", fixture.path(), "--files"]).expect(1, &[&format!("has {} bytes, {} are recorded", bytes.len() - 1, bytes.len())]);
    fs::remove_file(&sst).unwrap();
    assert_eq!(complaints(&fixture, &["--files=size"]), std::slice::from_ref(&sst));
    manifest(&["verify", fixture.path(), "--files=crc"]).expect(1, &["is missing (the file is visible)"]);
    manifest(&["verify", fixture.path(), "1024/1", "--files=crc"]).expect(0, &["sound"]);
}

#[test]
fn a_missing_record_is_found_and_all_problems_are_reported_at_once() {
    let fixture = with_checkpoints();
    let (zero, one) = (Objects::of(fixture.home(), 1024, 0), Objects::of(fixture.home(), 1024, 1));
    let (missing, damaged, lost) = (zero.records()[1].clone(), one.records()[2].clone(), zero.ssts()[1].clone());
    fs::remove_file(&missing).unwrap();
    flip_bit(&damaged, 50);
    fs::remove_file(&lost).unwrap();
    let mut found = complaints(&fixture, &["--files"]);
    found.sort();
    let mut expected = vec![missing, damaged, lost];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_record_of_another_region_is_not_taken_for_one_of_this() {
    let fixture = Fixture::new();
    let (zero, one) = (Objects::of(fixture.home(), 1024, 0).records(), Objects::of(fixture.home(), 1024, 1).records());
    fs::copy(&zero[1], &one[1]).unwrap();
    assert_eq!(complaints(&fixture, &[]), &one[1..2]);
    manifest(&["verify", fixture.path()]).expect(1, &["follows commit", "but the record before it is commit"]);
}
