//! `tessera region abandon-wal`: a region whose log was on a node that is gone for good.
//!
//! Invariants:
//! - Nothing is given up that was not named, and nothing without `--yes`.
//! - The log of the data home itself is not given up without `--force`: its server replays it.
//! - The record that gives a log up says from where on rows may be lost, and is never deleted.

use std::time::Duration;

use serde::Serialize;
use tessera_engine::wal::LocalWal;
use tessera_manifest::id::{NodeId, Nonce, RegionId, Slot};
use tessera_manifest::log::{Context, Manifest, Opener, Settings, load};
use tessera_manifest::state::RegionState;
use tessera_manifest::wal::{WalId, WalPosition, WalRef};

use super::args::AbandonWalArgs;
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};
use crate::home;
use crate::manifest_cli::store::Place;
use crate::manifest_cli::version::short;

/// The node of a writer that is no server.
const NODE: NodeId = NodeId(0);

/// What may be lost, or is.
#[derive(Debug, Serialize)]
pub(super) struct AbandonView {
    region: RegionId,
    #[serde(flatten)]
    wal: WalRef,
    /// How far the rows since the fence are flushed, in a region that is being repartitioned.
    #[serde(skip_serializing_if = "Option::is_none")]
    staged_flushed: Option<WalPosition>,
    /// The record that gave it up; none before somebody said yes.
    version: Option<Slot>,
}

pub(super) async fn run(args: &AbandonWalArgs) -> Result<AbandonView, Failure> {
    let (place, region) = (Place::open(&args.store)?, args.region);
    // Held to the end, so that no server of this data home starts meanwhile.
    let _lock = if args.yes { place.lock()? } else { None };
    let state = load(&place.context, region).await?;
    let wal = listed(&state, args.wal)?;
    if !args.force {
        refuse_own(&place, region, wal.id)?;
    }
    let staged_flushed = state.staging().map(|staging| staging.flushed(wal.id));
    let mut view = AbandonView { region, wal, staged_flushed, version: None };
    if args.yes {
        let settings = Settings { background: false, history: Duration::MAX, ..Settings::default() };
        let context = Context { settings, ..place.context.clone() };
        let manifest = Manifest::open_abandoning(&context, region, Opener { node: NODE, wal: None }, &[view.wal.id]).await?;
        // What its last writer flushed meanwhile is not lost.
        if let Some(abandoned) = manifest.state().abandoned().last() {
            view.wal = abandoned.wal.clone();
            view.version = Some(abandoned.by);
        }
    }
    Ok(view)
}

/// The log with this id, as the region lists it.
fn listed(state: &RegionState, log: Nonce) -> Result<WalRef, Failure> {
    let region = state.region();
    let refuse = |why: String| Err(Failure::failed(format!("region {region} has nothing to give up: {why}")));
    if state.is_dropped() {
        return refuse("it was dropped".to_owned());
    }
    let found = state.wals().iter().find(|wal| wal.id.log == log);
    let before = state.abandoned().iter().rfind(|abandoned| abandoned.wal.id.log == log);
    if let Some(before) = before.filter(|_| found.is_none()) {
        return refuse(format!("the {} was abandoned in record {} already", before.wal.id, short(before.by)));
    }
    if state.is_clean() {
        return refuse("it was closed cleanly, every row is in a file".to_owned());
    }
    if let Some(wal) = found {
        return Ok(wal.clone());
    }
    let there: Vec<String> = state.wals().iter().map(|wal| wal.id.to_string()).collect();
    let there = if there.is_empty() { "no log".to_owned() } else { format!("the {}", there.join(" and the ")) };
    refuse(format!("no row of it is only in log {log}; it names {there}"))
}

/// Refuses to give up the log of the data home that the store is in.
fn refuse_own(place: &Place, region: RegionId, wal: WalId) -> Result<(), Failure> {
    let Some(folder) = place.home().map(home::wal_folder) else { return Ok(()) };
    // A log that does not even say which it is will not be opened by a server.
    if LocalWal::identify(&folder).ok().flatten() != Some(wal) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the {wal} is not gone: it is the one in '{}'. Start the server of this data home, which replays it, and nothing is lost. If it is \
         so damaged that region {region} does not open, and no copy of it can be had, say --force: nothing was changed",
        folder.display()
    )))
}

impl View for AbandonView {
    fn text(&self) -> String {
        let Self { region, wal, staged_flushed, version } = self;
        let epochs: Vec<String> = wal.epochs.iter().map(ToString::to_string).collect();
        let epochs = epochs.join(", ");
        let staged = staged_flushed.map_or_else(String::new, |to| format!(" (rows since the fence: up to {to})"));
        let loss = format!("behind position {}{staged} of the {}, epochs {epochs}", wal.flushed, wal.id);
        match version {
            Some(version) => format!(
                "region {region} has abandoned the {} (record {}): acknowledged rows {loss}, are lost unless they are in files\n\
                 the epoch is left open: the next server seals it and goes on\n",
                wal.id,
                short(*version)
            ),
            None => format!(
                "acknowledged rows of region {region} may be lost: those {loss}\n\
                 nothing was changed. If node {} or its disk can come back, bring it back: its server replays them. If it is gone for good, \
                 stop the server of this data home and say --yes: whoever still writes to the region is fenced, and the loss is recorded\n",
                wal.id.node
            ),
        }
    }

    fn exit(&self) -> Exit {
        if self.version.is_some() { Exit::Ok } else { Exit::Failed }
    }
}
