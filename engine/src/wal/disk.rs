//! The few things that a log asks of a file system, behind a trait so that tests can make them fail.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::WalError;

/// Writing to disk.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Makes the file at `path` with `bytes` zeros that are really on disk, so that later writes into it change
    /// no metadata and `sync_data` is one device write. (A sparse file costs a journal commit for each sync.)
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns once what was written is durable.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// Replaces `dir/name` by `bytes`, durably: a crash or a failure leaves the old file or the new one.
    fn replace_file(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the creations, renames and deletions in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The file system of the operating system.
#[derive(Debug)]
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        const CHUNK: usize = 1 << 20;
        let file = File::create(path)?;
        let zeros = vec![0; CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK))];
        let mut offset = 0;
        while offset < bytes {
            let len = (bytes - offset).min(zeros.len() as u64);
            file.write_all_at(&zeros[..usize::try_from(len).unwrap_or(CHUNK)], offset)?;
            offset += len;
        }
        file.sync_all()
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn replace_file(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temp = dir.join(format!("{name}.tmp"));
        let file = File::create(&temp)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs::rename(&temp, dir.join(name))?;
        self.sync_dir(dir)
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
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        File::create(path)?.set_len(bytes)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn replace_file(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temp = dir.join(format!("{name}.tmp"));
        fs::write(&temp, bytes)?;
        fs::rename(&temp, dir.join(name))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
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
