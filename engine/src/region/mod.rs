//! One open region: the write gate, memtables, flush and scan on top of its manifest.
//!
//! ```text
//!   write ─▶ gate permit ─▶ check ─▶ WAL (group commit) ─▶ active memtable ─▶ acknowledged
//!   flush ─▶ close gate, swap memtables, open gate ─▶ SST ─▶ manifest Edit ─▶ drop memtable ─▶ release WAL
//!   scan  ─▶ pin a version (manifest state + memtables) ─▶ prune ─▶ merge
//! ```
//!
//! Invariants:
//! - Acknowledged means durable in the WAL and visible in a memtable.
//! - One gate permit covers check, append and insert. Whoever closes the gate waits for the permits, so a
//!   frozen memtable holds every entry up to its position: a flush position is never ahead of an insert.
//! - A version is immutable. Manifest state and memtables change together, under one lock, so that a scan
//!   sees each row in a memtable or in an SST, never in both and never in neither.
//! - The WAL is released only behind a committed Edit.
//!
//! Crash order of a flush: SST, then Edit, then release. A crash in between leaves a file that nobody lists,
//! or entries that a replay skips.

mod alter;
mod commit;
mod compact;
mod flush;
mod in_flight;
mod info;
mod open;
mod scan;
mod edit;
mod staging;
mod truncate;
mod ttl;
mod version;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tessera_manifest::id::{Generation, RegionId, Sequence};
use tessera_manifest::log::Manifest;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::wal::WalPosition;
use tokio::sync::RwLock;

use crate::budget::Budget;
use crate::error::Error;
use crate::region::compact::Compactions;
use crate::region::in_flight::InFlight;
use crate::region::version::{Version, VersionCell};
use crate::shared::Shared;

pub use edit::{Edited, RegionEdit};
pub use scan::{Known, Past, RegionScan, RowsAtOnce};
pub use truncate::Truncated;

/// An open region.
#[derive(Debug)]
pub struct Region {
    id: RegionId,
    shared: Arc<Shared>,
    /// Writers hold it for reading from check to insert; whoever closes the gate takes it for writing.
    gate: Arc<RwLock<GateState>>,
    /// Puts submits in sequence order.
    order: tokio::sync::Mutex<Sequencer>,
    /// What is inserted; only read under a closed gate.
    inserted: Mutex<WalPosition>,
    version: Arc<VersionCell>,
    /// Held for a commit and for what decides it, not while rows are read or written.
    manifest: tokio::sync::Mutex<Manifest>,
    /// One flush at a time. Taken before the manifest.
    flushing: tokio::sync::Mutex<()>,
    /// One compaction at a time. Taken before the manifest.
    compactions: Compactions,
    in_flight: InFlight,
    /// The region's part of the memory for memtables.
    budget: Arc<Budget>,
    /// Bytes of the active memtable that the budget counts.
    active_bytes: AtomicU64,
    repartition: staging::Control,
}

/// Whether writes may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateState {
    /// They may.
    Open,
    /// They may once it is known which generation is written: a fence is being recorded, or its outcome is not known.
    /// Writers wait for the manifest then.
    Doubt,
    /// The region is closed or dropped.
    Closed,
    /// Another writer has taken over.
    Fenced,
}

/// The sequence of the next row.
#[derive(Debug)]
struct Sequencer {
    /// The generation of the last row that was given a sequence.
    generation: Generation,
    next: u64,
}

impl Region {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// Its metadata now.
    #[must_use]
    pub fn meta(&self) -> Arc<RegionMeta> {
        Arc::clone(&self.version.load().meta)
    }

    /// Bytes of the memtable that takes rows.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.active_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all memtables.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.active_bytes() + self.pin().frozen_bytes() as u64
    }

    fn check_gate(&self, state: GateState) -> Result<(), Error> {
        match state {
            GateState::Open | GateState::Doubt => Ok(()),
            GateState::Closed => Err(Error::Closed { region: self.id }),
            GateState::Fenced => Err(Error::Fenced { region: self.id }),
        }
    }

    /// Closes the gate for good: waits for the writes under way, refuses later ones.
    async fn shut(&self, state: GateState) {
        *self.gate.write().await = state;
    }

    /// The last entry that is inserted; only asked under a closed gate.
    fn inserted_position(&self) -> WalPosition {
        *self.inserted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest sequence that was given to a row, acknowledged or not.
    async fn newest_sequence(&self) -> Option<Sequence> {
        let order = self.order.lock().await;
        Sequence::new(order.generation, order.next.saturating_sub(1))
    }

    /// The version that scans pin.
    fn pin(&self) -> Arc<Version> {
        self.version.load()
    }
}

impl Drop for Region {
    /// What was not flushed is in the log, and no memtable takes rows any more. Frozen ones give their part back themselves.
    fn drop(&mut self) {
        self.settle_share(0);
    }
}

impl Sequencer {
    /// Takes `rows` consecutive sequences of the generation that is written. Each generation counts from 1.
    fn take(&mut self, region: &Region, meta: &RegionMeta, rows: usize) -> Result<Sequence, Error> {
        if self.generation != meta.generation {
            *self = Self { generation: meta.generation, next: 1 };
        }
        let used_up = || Error::SequencesUsedUp { region: region.id };
        let last = self.next.checked_add(rows as u64).ok_or_else(used_up)?;
        Sequence::new(meta.generation, last).ok_or_else(used_up)?;
        let first = Sequence::new(meta.generation, self.next).ok_or_else(used_up)?;
        self.next = last;
        Ok(first)
    }
}

#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
