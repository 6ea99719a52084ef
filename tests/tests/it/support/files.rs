//! Files of a data home: finding them, and damaging them.

use std::fs;
use std::path::{Path, PathBuf};

/// The objects of a region below a data home.
pub(crate) struct Objects {
    folder: PathBuf,
}

impl Objects {
    /// The objects of region `number` of `table`.
    pub(crate) fn of(home: &Path, table: u32, number: u32) -> Self {
        Self { folder: home.join(format!("store/{table:010}/{number:010}")) }
    }

    /// Its manifest records, oldest first.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        files(&self.folder.join("manifest"), ".json")
    }

    /// Its SSTs, oldest first.
    pub(crate) fn ssts(&self) -> Vec<PathBuf> {
        files(&self.folder.join("sst"), ".parquet")
    }
}

/// The files of a folder with this ending, by name.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

/// The only one of some files.
pub(crate) fn one_file(files: &[PathBuf]) -> &Path {
    let [file] = files else { panic!("expected one file: {files:?}") };
    file
}

/// Flips the lowest bit of the byte at `offset`.
pub(crate) fn flip_bit(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
}
