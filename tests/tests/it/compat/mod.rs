//! Frozen bytes of every persisted format of data, in `compat/vNNN/` of this package; those of metadata values are in
//! `tessera-metaclient`.
//!
//! - Files are only added, never edited: a format that changes gets a new version and a new folder.
//! - For each there is a test that decodes it and compares with values written out in code, one with a flipped bit that
//!   must be refused, and one that asks for a newer reader and must be refused with both versions named.
//! - `cargo test -p tessera-tests -- --ignored write_missing` writes what is missing, and never touches what is there.

mod cluster;
mod manifest;
mod payload;
mod region;
mod sample;
mod txn;
mod wal;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::package;

/// Where a golden file of version 1 is.
fn path(name: &str) -> PathBuf {
    package().join("compat/v001").join(name)
}

/// The bytes of a golden file.
fn golden(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Writes a golden file, unless it is there.
fn write_missing(name: &str, bytes: &[u8]) {
    let path = path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if !path.exists() {
        fs::write(&path, bytes).unwrap();
    }
}

/// The bytes with one bit flipped.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// The bytes with every `old` replaced by `new`, of the same length; there must be one.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = (0..=bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!found.is_empty(), "{:?} is not in the bytes", String::from_utf8_lossy(old));
    for at in found {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    bytes
}

/// Copies a folder with everything in it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
