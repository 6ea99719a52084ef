//! The thread that writes frames.
//!
//! Crash order of an append:
//! 1. If the frame does not fit: make the old segment durable; give it up; write the header into a spare and make
//!    it durable; give it the segment's name, durably; name it in the identity file.
//! 2. Write the frame, then `sync_data`, then answer every entry of it. Only then is the next frame begun, so
//!    at most one frame is ever torn (with [`SyncMode::Interval`](super::local::SyncMode) every frame says itself
//!    which ones before it are durable).
//!
//! Invariants:
//! - After any failed write or sync into a segment nothing is written any more: what a file holds after a failed
//!   sync is unknown, and a second sync that succeeds proves nothing.
//! - A failure before the first byte of the frame is written fails its entries cleanly, and the next ones try anew.
//! - Once the header of a next segment may be on disk no frame goes into the old one, whatever fails: that header
//!   says which frames the old one holds, and a reader ignores any more. The next frame rolls again.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::Stopwatch;

use super::error::{WalError, is_denied, is_disk_full};
use super::frame::{ALIGN, Block, DirectoryEntry, Side, padded};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::keeper::Keeper;
use super::local::SyncMode;
use super::queue::{Job, Next, Queue};
use super::recover::segment_file;
use super::shared::{Settled, Shared};
use crate::limits::wal as limits;

struct Active {
    file: File,
    path: PathBuf,
    salt: u64,
    offset: u64,
}

/// What the thread owns.
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    keeper: Arc<Keeper>,
    active: Option<Active>,
    next_segment: u64,
    next_frame: u64,
    /// The first entry number that no written frame has.
    next_entry: u64,
    /// Runs since something was written that is not known to be durable.
    unsynced: Option<Stopwatch>,
    buffer: Vec<u8>,
}

/// How much of a failure it is.
enum Failure {
    /// Nothing was written.
    Clean(WalError),
    /// Nobody knows what is on disk.
    Fatal(WalError),
}

/// Answers everybody if the thread ends in a way that nobody thought of.
struct StopAtEnd(Arc<Queue>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop(WalError::Closed);
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>, keeper: Arc<Keeper>, last_segment: u64) -> Self {
        let Settled { frame, next_entry } = shared.settled();
        Self {
            shared,
            queue,
            keeper,
            active: None,
            next_segment: last_segment + 1,
            next_frame: frame + 1,
            next_entry,
            unsynced: None,
            buffer: Vec::new(),
        }
    }

    /// The thread: until the queue is closed and empty, or something failed.
    pub(super) fn run(mut self) {
        let _stop = StopAtEnd(Arc::clone(&self.queue));
        loop {
            let left = self.active.as_ref().map_or(0, |a| self.shared.options.segment_bytes - a.offset);
            let result = match self.queue.next(usize::try_from(left).unwrap_or(usize::MAX), self.patience()) {
                Next::Write(jobs) => self.write(jobs),
                Next::Idle => self.sync(),
                Next::Closed => break,
            };
            if let Err(error) = result {
                tracing::error!(%error, "the wal stopped");
                self.queue.stop(error);
                return;
            }
        }
        if let Err(error) = self.sync().and_then(|()| self.write_meta(None)) {
            tracing::error!(%error, "the wal could not be closed cleanly");
            self.queue.stop(error);
        }
    }

    /// How long written bytes may still wait for their sync.
    fn patience(&self) -> Option<Duration> {
        match (self.shared.options.sync, &self.unsynced) {
            (SyncMode::Interval(interval), Some(since)) => Some(interval.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    fn write(&mut self, jobs: Vec<Job>) -> Result<(), WalError> {
        let directory = jobs.iter().map(|job| DirectoryEntry { region: job.region, len: job.len, crc: job.crc }).collect();
        let first_entry = jobs.first().map_or(self.next_entry, |job| job.position.entry);
        let mut block = Block { salt: 0, number: self.next_frame, durable: self.shared.settled().frame, first_entry, directory };
        let bytes = block.frame_bytes();
        match self.segment_for(bytes, first_entry) {
            Ok(active) => block.salt = active.salt,
            Err(Failure::Clean(error)) => {
                tracing::warn!(%error, entries = jobs.len(), "wal entries are refused");
                answer(jobs, &Err(error));
                return Ok(());
            }
            Err(Failure::Fatal(error)) => {
                answer(jobs, &Err(error.clone()));
                return Err(error);
            }
        }
        // Rolling may have made earlier frames durable.
        block.durable = self.shared.settled().frame;
        encode_frame(&block, &jobs, &mut self.buffer);
        {
            let mut catalog = self.shared.catalog();
            jobs.iter().for_each(|job| catalog.wrote(job.region, job.position));
        }
        let result = self.write_frame(&block);
        answer(jobs, &result);
        if self.buffer.capacity() > limits::BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        result
    }

    fn write_frame(&mut self, block: &Block) -> Result<(), WalError> {
        let active = self.active.as_mut().expect("a segment was chosen for this frame just before");
        let written = self.shared.disk.write_at(&active.file, &self.buffer, active.offset);
        written.map_err(|e| poisoned(&active.path, e))?;
        active.offset += self.buffer.len() as u64;
        self.next_frame = block.number + 1;
        self.next_entry = block.next_entry();
        self.unsynced.get_or_insert_with(Stopwatch::start);
        metrics::counter!("tessera_wal_frames_total").increment(1);
        metrics::counter!("tessera_wal_entries_total").increment(block.directory.len() as u64);
        metrics::counter!("tessera_wal_bytes_total").increment(self.buffer.len() as u64);
        match self.patience() {
            Some(patience) if !patience.is_zero() => Ok(()),
            _ => self.sync(),
        }
    }

    /// Makes everything that was written durable.
    fn sync(&mut self) -> Result<(), WalError> {
        if let (Some(active), Some(_)) = (&self.active, &self.unsynced) {
            self.shared.disk.sync_data(&active.file).map_err(|e| poisoned(&active.path, e))?;
        }
        self.unsynced = None;
        self.shared.settle(Settled { frame: self.next_frame - 1, next_entry: self.next_entry });
        Ok(())
    }

    /// The active segment, if it has room for the frame; else the next one.
    fn segment_for(&mut self, frame_bytes: u64, first_entry: u64) -> Result<&Active, Failure> {
        let room = self.active.as_ref().is_some_and(|a| a.offset + frame_bytes <= self.shared.options.segment_bytes);
        if !room {
            self.sync().map_err(Failure::Fatal)?;
            // Without a spare nothing is named yet, and a smaller frame may still go into the old segment.
            let spare = self.keeper.take().map_err(|e| self.clean(e))?;
            // From here on the old segment is never written again, even if the next one cannot be begun: a header
            // that says that frames from here on are in the next segment may be on disk already.
            self.active = None;
            let next = self.roll(&spare, first_entry)?;
            self.next_segment += 1;
            self.active = Some(next);
            if self.shared.catalog().has_released() {
                self.keeper.sweep();
            }
        }
        Ok(self.active.as_ref().expect("set above, or there was room in it"))
    }

    fn roll(&self, spare: &Path, first_entry: u64) -> Result<Active, Failure> {
        let header = SegmentHeader {
            log: self.shared.id.log,
            epoch: self.shared.epoch,
            number: self.next_segment,
            first_frame: self.next_frame,
            first_entry,
            salt: (self.shared.env.nonce().0 & u128::from(u64::MAX)) as u64,
        };
        let path = self.shared.dir.join(segment_file(header.number));
        let file = self.name_segment(&header, spare, &path).and_then(|file| {
            self.shared.write_meta(Some(header.number))?;
            Ok(file)
        });
        match file {
            Ok(file) => Ok(Active { file, path, salt: header.salt, offset: HEADER_BYTES as u64 }),
            // No frame is in the file yet; the next attempt replaces it.
            Err(error) if is_disk_full(&error) || is_denied(&error) => Err(self.clean(error)),
            Err(error) => Err(Failure::Fatal(poisoned(&path, error))),
        }
    }

    fn name_segment(&self, header: &SegmentHeader, spare: &Path, path: &Path) -> io::Result<File> {
        let Shared { dir, disk, .. } = &*self.shared;
        let file = OpenOptions::new().read(true).write(true).open(spare)?;
        disk.write_at(&file, &header.encode(), 0)?;
        disk.sync_data(&file)?;
        disk.rename(spare, path)?;
        disk.sync_dir(dir)?;
        Ok(file)
    }

    fn write_meta(&self, activating: Option<u64>) -> Result<(), WalError> {
        self.shared.write_meta(activating).map_err(|e| WalError::io("write the identity file in", &self.shared.dir, e))
    }

    fn clean(&self, error: io::Error) -> Failure {
        let dir = self.shared.dir.clone();
        Failure::Clean(if is_disk_full(&error) {
            WalError::DiskFull { dir, source: Arc::new(error) }
        } else {
            WalError::io("prepare a wal segment in", &dir, error)
        })
    }
}

fn poisoned(path: &Path, error: io::Error) -> WalError {
    WalError::Poisoned { file: path.to_owned(), source: Arc::new(error) }
}

fn answer(jobs: Vec<Job>, result: &Result<(), WalError>) {
    for job in jobs {
        // Nobody waits if the caller was cancelled; the entry stands all the same.
        drop(job.done.send(result.clone()));
    }
}

/// The only copy that a payload sees on its way to the disk.
fn encode_frame(block: &Block, jobs: &[Job], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(usize::try_from(block.frame_bytes()).unwrap_or(0));
    block.encode(Side::Head, out);
    for job in jobs {
        job.payload.iter().for_each(|part| out.extend_from_slice(part));
        out.resize(padded(out.len()), 0);
    }
    block.encode(Side::Tail, out);
    debug_assert_eq!(out.len() % ALIGN, 0, "blocks and padded payloads are multiples of the alignment");
}
