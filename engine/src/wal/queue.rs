//! Entries on their way to the writer.
//!
//! Invariants:
//! - Entry numbers are drawn under the queue's lock, so queue order is number order is write order.
//! - Bounded in bytes and in entries by one semaphore; whoever finds it full waits before anything is queued, so
//!   a submit that is cancelled while it waits leaves nothing behind.
//! - Every queued entry is answered: by the writer, or by [`Queue::stop`].

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tessera_manifest::id::{Epoch, RegionId};
use tessera_manifest::wal::WalPosition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Pending;
use super::error::WalError;
use super::frame::{block_bytes, padded};
use crate::limits::wal as limits;

/// An entry that waits to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) region: RegionId,
    pub(super) position: WalPosition,
    pub(super) payload: Vec<Bytes>,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) done: oneshot::Sender<Result<(), WalError>>,
    _room: OwnedSemaphorePermit,
}

/// What the writer should do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Write these in one frame.
    Write(Vec<Job>),
    /// Nothing came in the given time.
    Idle,
    /// Nothing will come any more.
    Closed,
}

#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    next_entry: u64,
    closing: bool,
    stopped: Option<WalError>,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Arc<Semaphore>,
    epoch: Epoch,
    /// Bytes for frames in an empty segment.
    segment_room: usize,
}

impl Queue {
    pub(super) fn new(epoch: Epoch, next_entry: u64, segment_room: usize) -> Self {
        Self {
            state: Mutex::new(State { jobs: VecDeque::new(), next_entry, closing: false, stopped: None }),
            arrived: Condvar::new(),
            room: Arc::new(Semaphore::new(limits::QUEUE_BYTES_MAX as usize)),
            epoch,
            segment_room,
        }
    }

    /// The most bytes that an entry may have: one that is alone in its frame and fills an empty segment. A multiple
    /// of the alignment, so that padding adds nothing to it.
    pub(super) fn entry_bytes_max(&self) -> usize {
        self.segment_room.saturating_sub(2 * block_bytes(1))
    }

    /// Queues an entry and numbers it.
    pub(super) async fn push(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let bytes: usize = payload.iter().map(Bytes::len).sum();
        let max = self.entry_bytes_max();
        let len = u32::try_from(bytes).ok().filter(|_| padded(bytes) <= max);
        let len = len.ok_or(WalError::TooLarge { bytes: bytes as u64, max: max as u64 })?;
        // Each entry costs at least its share, so that the bound in bytes also bounds their number.
        let cost = len.clamp(limits::QUEUE_BYTES_MAX / limits::QUEUE_ENTRIES_MAX, limits::QUEUE_BYTES_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await.map_err(|_| self.why_stopped())?;
        let mut hasher = crc32fast::Hasher::new();
        payload.iter().for_each(|part| hasher.update(part));
        let crc = hasher.finalize();
        let (done, answer) = oneshot::channel();
        let mut state = self.lock();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        if state.closing {
            return Err(WalError::Closed);
        }
        let position = WalPosition { epoch: self.epoch, entry: state.next_entry };
        state.next_entry += 1;
        state.jobs.push_back(Job { region, position, payload, len, crc, done, _room: room });
        drop(state);
        self.arrived.notify_one();
        Ok(Pending::new(position, answer))
    }

    /// Waits for entries and takes as many as one frame may hold: what fits in `left` bytes of the segment, or,
    /// when not even the first does, in an empty one.
    pub(super) fn next(&self, left: usize, patience: Option<Duration>) -> Next {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                return Next::Write(take_frame(&mut state.jobs, left, self.segment_room));
            }
            if state.closing || state.stopped.is_some() {
                return Next::Closed;
            }
            state = match patience {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let (state, timeout) = self.arrived.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() && state.jobs.is_empty() {
                        return Next::Idle;
                    }
                    state
                }
            };
        }
    }

    /// Takes no more entries; those that are queued are still written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.room.close();
        self.arrived.notify_all();
    }

    /// Answers everything that is queued, and all that comes, with `error`. The first error stays.
    pub(super) fn stop(&self, error: WalError) {
        let mut state = self.lock();
        state.stopped.get_or_insert(error.clone());
        let jobs = mem::take(&mut state.jobs);
        drop(state);
        self.room.close();
        self.arrived.notify_all();
        for job in jobs {
            drop(job.done.send(Err(error.clone())));
        }
    }

    /// The failure that stopped the log, if one did.
    pub(super) fn failure(&self) -> Option<WalError> {
        self.lock().stopped.clone().filter(|error| !matches!(error, WalError::Closed))
    }

    fn why_stopped(&self) -> WalError {
        self.lock().stopped.clone().unwrap_or(WalError::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_frame(jobs: &mut VecDeque<Job>, left: usize, segment_room: usize) -> Vec<Job> {
    let mut frame = 2 * block_bytes(0);
    let cost = |job: &Job| padded(job.len as usize) + 2 * (block_bytes(1) - block_bytes(0));
    let first = jobs.front().map_or(0, cost);
    let room = if frame + first <= left { left } else { segment_room }.min(limits::FRAME_BYTES_MAX.max(frame + first));
    let mut count = 0;
    for job in jobs.iter() {
        if frame + cost(job) > room {
            break;
        }
        frame += cost(job);
        count += 1;
    }
    jobs.drain(..count).collect()
}
