//! The few things that a log asks of a file system, behind a trait so that tests can make them fail, and count on a crash at
//! each of them.
//!
//! Invariants:
//! - Everything that changes files or names in a log's folder goes through here, but for making the folder and its lock.
//! - Bytes are durable after a sync of their file, names after a sync of their folder; neither stands for the other.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::WalError;

/// Writing to disk.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Makes an empty file at `path`, in the place of one that is there.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns once what was written is durable.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// The same for what was written and everything that the file system knows of the file, but for its name.
    fn sync_all(&self, file: &File) -> io::Result<()>;

    /// Gives the file at `from` the name `to`, in the place of one that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the file at `path` with `bytes` zeros that are really on disk, so that later writes into it change
    /// no metadata and `sync_data` is one device write. (A sparse file costs a journal commit for each sync.)
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        const CHUNK: usize = 1 << 20;
        let file = self.create(path)?;
        let zeros = vec![0; CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK))];
        let mut offset = 0;
        while offset < bytes {
            let len = (bytes - offset).min(zeros.len() as u64);
            self.write_at(&file, &zeros[..usize::try_from(len).unwrap_or(CHUNK)], offset)?;
            offset += len;
        }
        self.sync_all(&file)
    }

    /// Replaces `dir/name` by `bytes`, durably: a crash or a failure leaves the old file or the new one.
    fn replace_file(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temp = dir.join(format!("{name}.tmp"));
        let file = self.create(&temp)?;
        self.write_at(&file, bytes, 0)?;
        self.sync_all(&file)?;
        self.rename(&temp, &dir.join(name))?;
        self.sync_dir(dir)
    }
}

/// The file system of the operating system.
#[derive(Debug)]
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The file system as a process that is killed leaves it: nothing waits for the device. For tests in which no power fails.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct PageCache;

#[cfg(test)]
impl Disk for PageCache {
    fn create(&self, path: &Path) -> io::Result<File> {
        OsDisk.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.create(path)?.set_len(bytes)
    }
}

/// Creates `dir` and makes its name durable.
pub(super) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    fs::create_dir_all(dir).map_err(|e| WalError::io("create", dir, e))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent).map_err(|e| WalError::io("sync", parent, e)),
        _ => Ok(()),
    }
}
