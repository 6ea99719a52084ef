//! The log in segment files on a local disk.
//!
//! ```text
//! open: lock the folder -> read wal.meta -> recover -> make the tail durable -> epoch + 1 into wal.meta -> threads
//! ```
//!
//! Invariants:
//! - One opening at a time, by an OS lock that the kernel drops with the process.
//! - What recovery accepted is durable before anybody sees it: a frame that a killed process had written but not
//!   synced may be in the page cache only, so it is written again and synced; so may the name of a segment, which the identity
//!   file must not be ahead of.
//! - An opening that appends nothing creates no segment.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tessera_manifest::env::{self, Env};
use tessera_manifest::id::{Epoch, NodeId, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};

use super::disk::{Disk, OsDisk, create_dir};
use super::error::WalError;
use super::frame::Side;
use super::header::HEADER_BYTES;
use super::keeper::{Files, Keeper};
use super::meta::{META_FILE, Meta};
use super::queue::Queue;
use super::recover::{Listing, Recovered, Unsettled, recover, segment_file};
use super::replay;
use super::shared::{Settled, Shared};
use super::writer::Writer;
use super::{EntryStream, LogStore, Pending};
use crate::limits::wal as limits;

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Once the device says so: nothing acknowledged is lost in a power failure.
    Always,
    /// Once the operating system has it: a killed process loses nothing, a power failure up to this much time.
    Interval(Duration),
}

/// How a local log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The node that writes it.
    pub node: NodeId,
    /// Bytes of a segment file, a multiple of 4096; an entry must fit in one.
    pub segment_bytes: u64,
    /// When an append counts as durable.
    pub sync: SyncMode,
}

impl Options {
    /// Segments of 64 MiB, every append durable.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self { node, segment_bytes: limits::SEGMENT_BYTES_DEFAULT, sync: SyncMode::Always }
    }
}

/// The write-ahead log of a node in a folder of its own.
///
/// Dropping it without [`close`](LogStore::close) ends it after the frame in flight; entries that are still queued are
/// answered with [`WalError::Closed`].
#[derive(Debug)]
pub struct LocalWal {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    keeper: Arc<Keeper>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LocalWal {
    /// Opens the log in `dir`, or creates it there. Reads the frame headers of all its segments.
    ///
    /// # Errors
    /// [`WalError::Locked`] when another opening lives, [`WalError::OtherNode`], [`WalError::Newer`],
    /// [`WalError::Identity`], [`WalError::Option`], [`WalError::Io`]. Damage in a segment is no error here: it is
    /// one of [`replay`](LogStore::replay), for the regions that it concerns.
    pub async fn open(dir: &Path, options: Options, env: Env) -> Result<Self, WalError> {
        let dir = dir.to_owned();
        let opened = env::spawn_blocking(move || Self::open_on(Arc::new(OsDisk), dir, options, env)).await;
        opened.unwrap_or(Err(WalError::Closed))
    }

    /// Which log is in `dir`, without opening it; `None` where there is none. Whether it can be read is not looked at.
    ///
    /// # Errors
    /// [`WalError::Identity`], also where there are segments of a log alone, [`WalError::Newer`], [`WalError::Io`].
    pub fn identify(dir: &Path) -> Result<Option<WalId>, WalError> {
        match Meta::read(dir)? {
            Some(meta) => Ok(Some(WalId { kind: WalKind::Local, node: meta.node, log: meta.log })),
            None if dir.is_dir() && !Listing::read(dir)?.segments.is_empty() => Err(unidentified(dir)),
            None => Ok(None),
        }
    }

    /// The same, on a disk that keeps what was written as long as the machine runs, and not longer.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    #[cfg(test)]
    pub(crate) async fn open_unsynced(dir: &Path, options: Options, env: Env) -> Result<Self, WalError> {
        let dir = dir.to_owned();
        let opened = env::spawn_blocking(move || Self::open_on(Arc::new(super::disk::PageCache), dir, options, env)).await;
        opened.unwrap_or(Err(WalError::Closed))
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, dir: PathBuf, options: Options, env: Env) -> Result<Self, WalError> {
        check(&options)?;
        create_dir(&*disk, &dir)?;
        let lock = lock(&dir)?;
        let listing = Listing::read(&dir)?;
        let meta = read_or_create(&dir, &listing, &options, &env)?;
        let recovered = recover(&meta, &listing)?;
        recovered.unsettled.iter().try_for_each(|frame| settle(&*disk, frame))?;
        disk.sync_dir(&dir).map_err(|e| WalError::io("sync", &dir, e))?;
        let (spares, obsolete) = tidy(&*disk, &listing, &meta, &options);
        let Recovered { catalog, epoch, last_segment, next_frame, next_entry, .. } = recovered;
        if epoch > meta.epoch {
            tracing::warn!(dir = %dir.display(), "wal segments are newer than {META_FILE}: was it restored from a backup?");
        }
        let epoch = epoch.next();
        let id = WalId { kind: WalKind::Local, node: options.node, log: meta.log };
        let segment_room = usize::try_from(options.segment_bytes).unwrap_or(usize::MAX) - HEADER_BYTES;
        let shared = Arc::new(Shared {
            dir,
            options,
            disk,
            env,
            id,
            epoch,
            meta: Mutex::new(Meta { epoch, last_segment, ..meta }),
            settled: Mutex::new(Settled { frame: next_frame - 1, next_entry }),
            catalog: Mutex::new(catalog),
            _lock: lock,
        });
        shared.write_meta(None).map_err(|e| WalError::io("write the identity file in", &shared.dir, e))?;
        let queue = Arc::new(Queue::new(epoch, next_entry, segment_room));
        let wal = Self { shared, queue, keeper: Arc::default(), threads: Mutex::default() };
        wal.start(Files { shared: Arc::clone(&wal.shared), spares, obsolete }, last_segment)?;
        Ok(wal)
    }

    fn start(&self, files: Files, last_segment: u64) -> Result<(), WalError> {
        let failed = |e| WalError::io("start a thread for the wal in", &self.shared.dir, e);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = Writer::new(Arc::clone(&self.shared), Arc::clone(&self.queue), Arc::clone(&self.keeper), last_segment);
        threads.push(env::spawn_thread("wal-writer", move || writer.run()).map_err(failed)?);
        let keeper = Arc::clone(&self.keeper);
        threads.push(env::spawn_thread("wal-keeper", move || keeper.run(files)).map_err(failed)?);
        self.keeper.want();
        self.keeper.sweep();
        Ok(())
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Joins the writer, then stops and joins the keeper, which the writer may have been waiting for.
fn join(threads: Vec<JoinHandle<()>>, keeper: &Keeper) -> std::thread::Result<()> {
    let mut result = Ok(());
    for thread in threads {
        result = result.and(thread.join());
        keeper.stop();
    }
    result
}

#[async_trait]
impl LogStore for LocalWal {
    fn id(&self) -> WalId {
        self.shared.id
    }

    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn entry_bytes_max(&self) -> u64 {
        self.queue.entry_bytes_max() as u64
    }

    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        self.queue.push(region, payload).await
    }

    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        let catalog = self.shared.catalog();
        if let Some(lost) = catalog.lost().iter().find(|lost| lost.concerns(after)) {
            let file = self.shared.dir.join(segment_file(lost.segment));
            return Err(WalError::Damaged { region, file, offset: lost.offset, what: lost.what.clone() });
        }
        Ok(replay::stream(self.shared.dir.clone(), region, catalog.entries_after(region, after)))
    }

    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        self.shared.catalog().regions()
    }

    fn release(&self, region: RegionId, up_to: WalPosition) {
        let mut catalog = self.shared.catalog();
        catalog.release(region, up_to);
        if catalog.has_released() {
            self.keeper.sweep();
        }
    }

    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        self.shared.catalog().oldest_needed()
    }

    fn bytes(&self) -> u64 {
        self.shared.catalog().segments() as u64 * self.shared.options.segment_bytes
    }

    async fn close(&self) -> Result<(), WalError> {
        self.queue.close();
        let threads = self.take_threads();
        let keeper = Arc::clone(&self.keeper);
        let joined = env::spawn_blocking(move || join(threads, &keeper)).await;
        match joined {
            Ok(Ok(())) => self.queue.failure().map_or(Ok(()), Err),
            _ => Err(WalError::Closed),
        }
    }
}

impl Drop for LocalWal {
    fn drop(&mut self) {
        self.queue.stop(WalError::Closed);
        if join(self.take_threads(), &self.keeper).is_err() {
            tracing::error!(dir = %self.shared.dir.display(), "a thread of the wal panicked");
        }
    }
}

fn check(options: &Options) -> Result<(), WalError> {
    let (min, max) = (limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
    let value = options.segment_bytes;
    if !(min..=max).contains(&value) || !value.is_multiple_of(4096) {
        return Err(WalError::Option { option: "segment_bytes (a multiple of 4096)", value, min, max });
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, WalError> {
    let path = dir.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|e| WalError::io("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(WalError::io("lock", &path, e)),
    }
}

fn read_or_create(dir: &Path, listing: &Listing, options: &Options, env: &Env) -> Result<Meta, WalError> {
    match Meta::read(dir)? {
        Some(meta) if meta.node != options.node => {
            Err(WalError::OtherNode { dir: dir.to_owned(), expected: options.node, found: meta.node })
        }
        Some(meta) => Ok(meta),
        None if listing.segments.is_empty() => Ok(Meta::new(env.nonce(), options.node)),
        None => Err(unidentified(dir)),
    }
}

fn unidentified(dir: &Path) -> WalError {
    WalError::Identity { file: dir.join(META_FILE), what: "it is missing beside existing segments".to_owned() }
}

/// Writes a frame that may be in the page cache only once more, the same bytes, and makes it durable.
fn settle(disk: &dyn Disk, frame: &Unsettled) -> Result<(), WalError> {
    let Unsettled { path, offset, block } = frame;
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    block.encode(Side::Head, &mut head);
    block.encode(Side::Tail, &mut tail);
    let work = || -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = vec![0; usize::try_from(block.payload_bytes()).unwrap_or(usize::MAX)];
        let payloads_at = offset + head.len() as u64;
        // A file that was cut short may lack the last padding.
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], payloads_at + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        let frame = [head, bytes, tail].concat();
        disk.write_at(&file, &frame, *offset)?;
        disk.sync_data(&file)
    };
    work().map_err(|e| WalError::io("write the tail of", path, e))
}

/// Deletes leftovers; returns the files that can be used again and the segments that are not needed.
fn tidy(disk: &dyn Disk, listing: &Listing, meta: &Meta, options: &Options) -> (Vec<PathBuf>, Vec<u64>) {
    let (mut spares, mut surplus) = (Vec::new(), listing.temps.clone());
    for spare in &listing.spares {
        let fits = fs::metadata(spare).is_ok_and(|m| m.len() == options.segment_bytes);
        let list = if fits && spares.len() < limits::SPARE_SEGMENTS_MAX { &mut spares } else { &mut surplus };
        list.push(spare.clone());
    }
    for file in surplus {
        if let Err(error) = disk.remove(&file) {
            tracing::warn!(file = %file.display(), %error, "cannot remove a leftover of the wal");
        }
    }
    (spares, listing.segments.keys().copied().filter(|n| *n < meta.kept_from).collect())
}
