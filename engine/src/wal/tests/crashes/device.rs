//! A disk that knows which of its bytes and names are durable, and dies at one of its operations.
//!
//! Invariants:
//! - The folder is what processes see: everything that was done, as in the page cache. [`Device::survivors`] is what a power
//!   failure leaves of it.
//! - Bytes are durable once their file was synced, names once their folder was. Of the others each sector and each change of a
//!   name survives or does not, whatever became of those before it, but for what it needs: a rename a file of that name.
//! - Operations are one after the other. The one at which it dies is not done, or it is and nobody hears of it; later
//!   ones are not done.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::testing::Crash;
use crate::wal::disk::{Disk, OsDisk};

/// Bytes that survive together; less than on any device.
const SECTOR_BYTES: usize = 64;

/// What there is of a folder: its files by name.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

/// A file, however it is named.
type FileNumber = u64;

#[derive(Debug)]
pub(super) struct Device {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    crash: Crash,
    dead: bool,
    /// The operations that were begun.
    trace: Vec<&'static str>,
    /// What the operating system calls the files.
    inodes: BTreeMap<u64, FileNumber>,
    next_file: FileNumber,
    /// The names as processes see them.
    names: BTreeMap<String, FileNumber>,
    durable: Durable,
    /// Changes that are not durable yet.
    written: Vec<Write>,
    renamed: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
struct Durable {
    names: BTreeMap<String, FileNumber>,
    contents: BTreeMap<FileNumber, Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Write {
    file: FileNumber,
    offset: usize,
    bytes: Vec<u8>,
}

/// A file has no name any more, or gets one.
#[derive(Debug, Clone)]
struct Change {
    file: FileNumber,
    from: Option<String>,
    to: Option<String>,
}

impl Durable {
    /// Writes the sectors that `survives` says.
    fn write(&mut self, write: &Write, survives: &mut impl FnMut() -> bool) {
        let content = self.contents.entry(write.file).or_default();
        let mut at = 0;
        while at < write.bytes.len() {
            let offset = write.offset + at;
            let len = (SECTOR_BYTES - offset % SECTOR_BYTES).min(write.bytes.len() - at);
            if survives() {
                content.resize(content.len().max(offset + len), 0);
                content[offset..offset + len].copy_from_slice(&write.bytes[at..at + len]);
            }
            at += len;
        }
    }

    fn rename(&mut self, change: &Change) {
        if let Some(from) = &change.from {
            if self.names.get(from) != Some(&change.file) {
                return;
            }
            self.names.remove(from);
        }
        if let Some(to) = &change.to {
            self.names.insert(to.clone(), change.file);
        }
    }
}

fn died() -> io::Error {
    io::Error::other("the process is dead")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Device {
    /// A folder with these files, all durable.
    pub(super) fn new(dir: &Path, image: &Image) -> Self {
        fs::create_dir_all(dir).unwrap();
        let (mut inodes, mut durable) = (BTreeMap::new(), Durable::default());
        for (file, (name, bytes)) in (0..).zip(image) {
            let path = dir.join(name);
            fs::write(&path, bytes).unwrap();
            inodes.insert(fs::metadata(&path).unwrap().ino(), file);
            durable.names.insert(name.clone(), file);
            durable.contents.insert(file, bytes.clone());
        }
        let state = State {
            crash: Crash::Never,
            dead: false,
            trace: Vec::new(),
            inodes,
            next_file: image.len() as u64,
            names: durable.names.clone(),
            durable,
            written: Vec::new(),
            renamed: Vec::new(),
        };
        Self { dir: dir.to_owned(), state: Mutex::new(state) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next process begins, and dies there.
    pub(super) fn begin(&self, crash: Crash) {
        let mut state = self.lock();
        (state.crash, state.dead) = (crash, false);
        state.trace.clear();
    }

    /// The operations that the process has begun.
    pub(super) fn trace(&self) -> Vec<&'static str> {
        self.lock().trace.clone()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Changes of names that are not durable.
    pub(super) fn unsettled_names(&self) -> usize {
        self.lock().renamed.len()
    }

    /// What a power failure now leaves, if of what is not durable those sectors and those changes of names survive of which
    /// `sector` and `name`, which is told how many there were before, say so.
    pub(super) fn survivors(&self, mut sector: impl FnMut() -> bool, mut name: impl FnMut(usize) -> bool) -> Image {
        let state = self.lock();
        let mut durable = state.durable.clone();
        state.written.iter().for_each(|write| durable.write(write, &mut sector));
        for (number, change) in state.renamed.iter().enumerate() {
            if name(number) {
                durable.rename(change);
            }
        }
        let content = |file: &FileNumber| durable.contents.get(file).cloned().unwrap_or_default();
        durable.names.iter().map(|(name, file)| (name.clone(), content(file))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn step<T>(&self, verb: &'static str, operation: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        if state.dead {
            return Err(died());
        }
        let number = state.trace.len();
        state.trace.push(verb);
        match state.crash {
            Crash::Before(at) if at == number => state.dead = true,
            Crash::After(at) if at == number => {
                state.dead = true;
                operation(&mut state)?;
            }
            _ => return operation(&mut state),
        }
        Err(died())
    }
}

impl State {
    fn number(&self, file: &File) -> FileNumber {
        self.inodes[&file.metadata().unwrap().ino()]
    }

    fn sync(&mut self, file: &File) {
        let synced = self.number(file);
        for write in self.written.extract_if(.., |write| write.file == synced) {
            self.durable.write(&write, &mut || true);
        }
    }

    fn change(&mut self, change: Change) {
        if let Some(from) = &change.from {
            self.names.remove(from);
        }
        if let Some(to) = &change.to {
            self.names.insert(to.clone(), change.file);
        }
        self.renamed.push(change);
    }
}

impl Disk for Device {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step("create", |state| {
            // Never the file of a removed name, whose number the system may give again.
            let file = OsDisk.create(path)?;
            let number = state.next_file;
            state.next_file += 1;
            state.inodes.insert(file.metadata()?.ino(), number);
            state.change(Change { file: number, from: None, to: Some(name_of(path)) });
            Ok(file)
        })
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step("write", |state| {
            let write = Write { file: state.number(file), offset: usize::try_from(offset).unwrap(), bytes: bytes.to_vec() };
            state.written.push(write);
            OsDisk.write_at(file, bytes, offset)
        })
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.step("sync", |state| {
            state.sync(file);
            Ok(())
        })
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.step("sync", |state| {
            state.sync(file);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", |state| {
            OsDisk.rename(from, to)?;
            let (from, to) = (name_of(from), name_of(to));
            let file = state.names[&from];
            state.change(Change { file, from: Some(from), to: Some(to) });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step("remove", |state| {
            OsDisk.remove(path)?;
            let from = name_of(path);
            let file = state.names[&from];
            state.change(Change { file, from: Some(from), to: None });
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if dir != self.dir {
            // The folder around it, which was there before.
            return Ok(());
        }
        self.step("sync_dir", |state| {
            for change in std::mem::take(&mut state.renamed) {
                state.durable.rename(&change);
            }
            Ok(())
        })
    }
}
