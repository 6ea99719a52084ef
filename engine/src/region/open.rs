//! Creating and opening: manifest first, then the rows of the WAL.
//!
//! Crash order: the manifest's `Open` names the WAL epoch before the first row is acknowledged into it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tessera_manifest::env;
use tessera_manifest::id::{RegionId, Sequence};
use tessera_manifest::log::Manifest;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::wal::WalPosition;
use tokio::sync::RwLock;

use super::compact::Compactions;
use super::in_flight::InFlight;
use super::staging::{Control, Place, Sorter, StagedRows};
use super::version::{Frozen, Version, VersionCell};
use super::{GateState, Region, Sequencer};
use crate::budget::Budget;
use crate::codec;
use crate::config::Config;
use crate::error::Error;
use crate::memtable::Memtable;
use crate::options::TableOptions;
use crate::shared::Shared;
use crate::wal::{EntryStream, WalError};

/// Entries of the log that are decoded together.
const DECODED_ENTRIES: usize = 8;
/// Such chunks that are decoded at the same time.
const DECODED_CHUNKS: usize = 2;

/// An entry of the log, and what its bytes say.
type Decoded = (WalPosition, Result<codec::Payload, codec::Error>);

impl Region {
    /// Creates an empty region.
    pub(crate) async fn create(shared: &Arc<Shared>, meta: RegionMeta) -> Result<Self, Error> {
        let region = meta.region;
        let created = Manifest::create(&shared.context, Arc::new(meta), shared.opener()).await;
        let manifest = created.map_err(|source| Error::manifest(region, source))?;
        Self::assemble(shared, region, manifest)
    }

    /// Opens a region: takes its manifest over and replays its entries.
    pub(crate) async fn open(shared: &Arc<Shared>, region: RegionId) -> Result<Self, Error> {
        let opened = Manifest::open(&shared.context, region, shared.opener()).await;
        let manifest = opened.map_err(|source| match source {
            tessera_manifest::error::Error::Dropped { .. } => Error::RegionNotFound { region },
            source => Error::manifest(region, source),
        })?;
        let opened = Self::assemble(shared, region, manifest)?;
        opened.replay().await?;
        Ok(opened)
    }

    fn assemble(shared: &Arc<Shared>, region: RegionId, manifest: Manifest) -> Result<Self, Error> {
        let state = manifest.state().clone();
        let meta = state.meta().cloned().ok_or(Error::RegionNotFound { region })?;
        let active = Arc::new(Memtable::new(Arc::clone(&meta.schema)));
        let staged = state.staging().map(|staging| StagedRows::of(&meta, &staging.stage));
        let rule_version = meta.rule_version();
        let options = TableOptions::parse(&meta.options).map_err(|source| Error::Options { region, source })?;
        let options = Arc::new(options);
        let version = Version { state, meta, rule_version, options, active, frozen: Vec::new(), staged, hold: None };
        Ok(Self {
            id: region,
            shared: Arc::clone(shared),
            gate: Arc::new(RwLock::new(GateState::Open)),
            order: tokio::sync::Mutex::new(Sequencer::after(newest_of(&version))),
            inserted: Mutex::new(WalPosition::START),
            version: Arc::new(VersionCell::new(version, manifest.holds())),
            manifest: tokio::sync::Mutex::new(manifest),
            flushing: tokio::sync::Mutex::new(()),
            compactions: Compactions::default(),
            in_flight: InFlight::default(),
            budget: Arc::new(Budget::part(&shared.budget, region_bytes_max(&shared.parts.config))),
            active_bytes: AtomicU64::new(0),
            repartition: Control::default(),
        })
    }

    /// Puts the entries behind the flushed position into the memtable.
    async fn replay(&self) -> Result<(), Error> {
        let version = self.pin();
        let wal = &self.shared.parts.wal;
        let Some(named) = version.state.wals().iter().find(|named| named.id == wal.id()).cloned() else { return Ok(()) };
        // Damage in entries from before the region's first epoch in this log is none of its business.
        let first = named.epochs.first().map_or(named.flushed, |epoch| WalPosition { epoch: *epoch, entry: 0 });
        let mut entries = self.decoded(wal.replay(self.id, named.flushed.max(first)).map_err(|source| Error::wal(self.id, source))?);
        let sorter = Sorter::new(&version.state, wal.id());
        let (mut rows, mut set_aside, mut last) = (0, 0_u64, WalPosition::START);
        while let Some(entry) = entries.next().await {
            let (position, decoded) = entry?;
            if !named.epochs.contains(&position.epoch) {
                set_aside += 1;
                continue;
            }
            let decoded = decoded.map_err(|source| Error::WalEntry { region: self.id, position, source })?;
            let newest = decoded.first_sequence.as_u64().saturating_add(decoded.rows.saturating_sub(1) as u64);
            let memtable = match sorter.place(position, decoded.first_sequence, Sequence::from_u64(newest)) {
                Place::Visible => &version.active,
                Place::Staged => version.writing(),
                Place::Passed => continue,
                Place::Aside => {
                    set_aside += 1;
                    continue;
                }
            };
            let batch = decoded.to_batch(memtable.schema()).map_err(|source| Error::rows(self.id, source))?;
            rows += batch.num_rows();
            let inserted = memtable.insert(batch, decoded.op, decoded.first_sequence);
            inserted.map_err(|source| Error::rows(self.id, source))?;
            last = position;
        }
        *self.inserted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = last;
        *self.order.lock().await = Sequencer::after(newest_of(&version));
        self.settle_replayed(&version);
        // Releases are not kept over a restart: say again what is not needed, or an idle region would keep its
        // segments for ever.
        match rows == 0 && set_aside == 0 {
            true => wal.release(self.id, named.flushed.max(before_this_epoch(wal.epoch()))),
            false => self.release_behind(&version.state),
        }
        if rows > 0 || set_aside > 0 {
            tracing::info!(region = %self.id, rows, set_aside, up_to = %last, "replayed the write-ahead log");
        }
        Ok(())
    }

    /// Entries decoded off the async threads, a few at a time and ahead of what is asked for; in order.
    fn decoded(&self, entries: EntryStream) -> BoxStream<'static, Result<Decoded, Error>> {
        let region = self.id;
        let decode = move |entries: Vec<Result<(WalPosition, Bytes), WalError>>| {
            let one = move |entry: Result<(WalPosition, Bytes), WalError>| {
                entry.map(|(position, bytes)| (position, codec::decode(&bytes))).map_err(|source| Error::wal(region, source))
            };
            env::spawn_blocking(move || entries.into_iter().map(one).collect::<Vec<_>>())
        };
        let chunks = entries.ready_chunks(DECODED_ENTRIES).map(decode).buffered(DECODED_CHUNKS);
        chunks.flat_map(move |chunk| stream::iter(chunk.unwrap_or_else(|_| vec![Err(Error::Stopped { region })]))).boxed()
    }

    /// Accounts for what was replayed. Of a staged region, what is before the fence takes no more rows.
    fn settle_replayed(&self, version: &Version) {
        self.budget.add(version.writing().bytes());
        self.active_bytes.store(version.writing().bytes() as u64, std::sync::atomic::Ordering::Relaxed);
        let fence = version.state.staging().and_then(|staging| staging.fence(self.shared.parts.wal.id()));
        if let Some(fence) = fence.filter(|_| version.active.rows() > 0) {
            self.budget.add(version.active.bytes());
            let frozen = Arc::new(Frozen::new(Arc::clone(&version.active), fence, Arc::clone(&self.budget)));
            self.version.update(|version| {
                version.frozen.push(frozen);
                version.active = Arc::new(Memtable::new(Arc::clone(&version.meta.schema)));
            });
        }
    }
}

impl Sequencer {
    /// Goes on after the newest row of a generation.
    fn after(newest: Sequence) -> Self {
        Self { generation: newest.generation(), next: newest.counter() + 1 }
    }
}

/// The newest sequence of the generation that is written.
fn newest_of(version: &Version) -> Sequence {
    let flushed = match (&version.staged, version.state.staging()) {
        (Some(_), Some(staging)) => staging.flushed_sequence().unwrap_or(Sequence::ZERO),
        _ => version.state.flushed_sequence(),
    };
    flushed.max(version.writing().max_sequence().unwrap_or(Sequence::ZERO))
}

/// What a region's memtables may hold: one that fills while another is flushed, at least.
fn region_bytes_max(config: &Config) -> usize {
    config.region_memtable_bytes_max.max(config.region_memtable_bytes.saturating_mul(2))
}

/// The last position that an earlier opening of a log can have.
fn before_this_epoch(epoch: tessera_manifest::id::Epoch) -> WalPosition {
    WalPosition { epoch, entry: 0 }
}
