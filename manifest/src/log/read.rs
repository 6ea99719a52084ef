//! Reading manifests without writing anything.

use futures::{Stream, StreamExt};

use super::replay::{Replay, missing_segment};
use super::{Context, Manifest, Opener, slot_store};
use crate::body::Body;
use crate::checkpoint::Source;
use crate::error::Error;
use crate::id::{Epoch, RegionId, Slot};
use crate::slot::{self, Record};
use crate::state::RegionState;

/// Reads the newest state of a region, and changes nothing.
///
/// # Errors
/// [`Error::NotFound`] if there is no such region; damage; failures of the store.
pub async fn load(context: &Context, region: RegionId) -> Result<RegionState, Error> {
    let store = slot_store(context, region);
    let mut missing = None;
    loop {
        let mut source = Source::new(context, region, None);
        let loaded = slot::load(&store, &mut source).await;
        let loaded = loaded.map_err(|error| source.explain(error))?;
        if loaded.is_empty() {
            return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() });
        }
        let mut replay = Replay::from(context, source.state());
        let again = missing.is_some();
        match replay.records(&loaded.history).await.map_err(|error| missing_segment(&mut missing, error)) {
            Ok(()) => return Ok(replay.state),
            Err(Error::MissingRecord { .. }) if !again => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads the state of a region at a version, and changes nothing: any version from the floor on, and any that is
/// pinned.
///
/// # Errors
/// [`Error::NoVersion`] if retention has passed the version, or if it was never written; those of [`load`].
pub async fn load_at(context: &Context, region: RegionId, version: Slot) -> Result<RegionState, Error> {
    load_before(context, region, &load(context, region).await?, version).await
}

/// [`load_at`] for those who know a later state already, by which it is decided whether the version can be read.
///
/// # Errors
/// Those of [`load_at`]; the floor may have passed the version since the later state.
pub async fn load_before(context: &Context, region: RegionId, newest: &RegionState, version: Slot) -> Result<RegionState, Error> {
    let reached = newest.version().unwrap_or(Slot::new(Epoch(1), 0));
    let pinned = newest.pins().values().any(|pin| pin.checkpoint.version == version);
    let absent = || {
        let why = format!("versions from {} to {reached} can be read, where there is a record, and those with a snapshot", newest.floor());
        Error::NoVersion { region, version, why }
    };
    if !pinned && (version < newest.floor() || version > reached) {
        return Err(absent());
    }
    let store = slot_store(context, region);
    let mut source = Source::new(context, region, Some(version));
    match slot::load_until(&store, &mut source, version).await {
        Ok(loaded) => {
            let mut replay = Replay::from(context, source.state());
            replay.records(&loaded.history).await?;
            Ok(replay.state)
        }
        Err(Error::MissingRecord { .. }) if !pinned && store.read(version).await?.is_none() => Err(absent()),
        Err(error) => Err(source.explain(error)),
    }
}

/// Takes many regions over, some at the same time; one that cannot be opened stops none of the others.
pub fn open_many(
    context: &Context,
    regions: Vec<RegionId>,
    opener: Opener,
    at_once: usize,
) -> impl Stream<Item = (RegionId, Result<Manifest, Error>)> + '_ {
    let opens = regions.into_iter().map(move |region| async move { (region, Manifest::open(context, region, opener).await) });
    futures::stream::iter(opens).buffer_unordered(at_once.max(1))
}

/// The records that are on the store, oldest first, from the slot `from` on; with their bodies.
///
/// # Errors
/// Those of [`load`].
pub async fn record_bodies(context: &Context, region: RegionId, from: Option<Slot>) -> Result<Vec<(Record, Body)>, Error> {
    let store = slot_store(context, region);
    let listing = store.list(None).await?;
    let wanted: Vec<Slot> = listing.slots.into_iter().filter(|slot| from.is_none_or(|from| *slot >= from)).collect();
    let mut records = Vec::with_capacity(wanted.len());
    for record in store.read_all(&wanted).await? {
        let body = Body::decode(&record.body).map_err(|reason| Error::Body { path: store.path(record.slot).to_string(), reason })?;
        records.push((record, body));
    }
    Ok(records)
}
