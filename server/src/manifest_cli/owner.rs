//! Writing to a region that nobody is meant to write to.
//!
//! ```text
//!   lock ─► last record is a clean seal? ─► take over ─► commit ─► seal cleanly
//!                └─ no, --take-over ──────► take over ─► commit ─► leave the epoch open
//! ```
//!
//! Invariants:
//! - No floor is raised and nothing is deleted. What every record may carry beside its purpose, this one may: a checkpoint
//!   that is on the store, the end of snapshots whose time is over.
//! - A clean seal says that no log holds a row of the region. It is written only if the record before the own epoch was
//!   such a seal: nobody has written rows since. Else the list of logs is kept, and the next server replays them.

use std::time::Duration;

use tessera_manifest::action::Action;
use tessera_manifest::id::{NodeId, RegionId, Slot};
use tessera_manifest::log::{Context, Manifest, Outcome, Settings, load};
use tessera_manifest::state::RegionState;

use super::args::Writing;
use super::store::Place;
use super::version::short;
use super::{Failure, text};
use crate::home::Home;

/// The node of a writer that is no server.
const NODE: NodeId = NodeId(0);

/// A region that was taken over.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) context: Context,
    pub(super) manifest: Manifest,
    region: RegionId,
    clean: bool,
    _lock: Option<Home>,
}

/// What a writing verb needs before it takes the region over: the lock is held for as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    /// The newest state.
    pub(super) state: RegionState,
    context: Context,
    lock: Option<Home>,
}

/// Locks the data home and reads the region.
pub(super) async fn claim(place: &Place, region: RegionId) -> Result<Claim, Failure> {
    let lock = place.lock()?;
    let state = load(&place.context, region).await?;
    let settings = Settings { background: false, history: Duration::MAX, ..Settings::default() };
    Ok(Claim { state, context: Context { settings, ..place.context.clone() }, lock })
}

impl Claim {
    /// Takes the region over, if that cannot do harm or is wanted in any case.
    pub(super) async fn take(self, writing: &Writing) -> Result<Owner, Failure> {
        let Self { state, context, lock } = self;
        let region = state.region();
        let clean = state.is_sealed() && state.is_clean();
        if !clean && !writing.take_over {
            return Err(refusal(&state));
        }
        let manifest = Manifest::open_ownerless(&context, region, NODE).await?;
        let follows = state.version().map(Slot::next_epoch) == manifest.state().version();
        if clean && !follows && !writing.take_over {
            let text = format!("region {region} was opened by another writer meanwhile, which is fenced now: start that server again");
            return Err(Failure::failed(text));
        }
        Ok(Owner { context, manifest, region, clean: clean && follows, _lock: lock })
    }
}

fn refusal(state: &RegionState) -> Failure {
    let region = state.region();
    let logs: Vec<String> = state.wals().iter().map(|wal| wal.id.to_string()).collect();
    let logs = if logs.is_empty() { String::new() } else { format!(", and rows may be in the {} only", logs.join(" and the ")) };
    let text = format!(
        "region {region} was not closed cleanly: it is {} at version {}; a server may be writing to it{logs}. Stop that server, which flushes \
         and seals the region, and try again; or pass --take-over, which fences it and leaves its logs to the next server",
        text::life(state),
        state.version().map_or_else(|| "0-0".to_owned(), short),
    );
    Failure::failed(text)
}

/// How a region was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Left {
    /// Sealed cleanly, as it was found.
    Sealed,
    /// The epoch is open; the next server seals it and replays its logs.
    Open,
}

impl Left {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Sealed => "the region is sealed cleanly again",
            Self::Open => "the epoch is left open: the next server seals it and replays the logs of the region",
        }
    }
}

impl Owner {
    /// Commits, and ends as the region was found. The version of the record.
    pub(super) async fn commit(mut self, actions: Vec<Action>) -> Result<(Slot, Left), Failure> {
        let outcome = self.manifest.commit(actions).await?;
        self.finish(outcome).await
    }

    /// Ends as the region was found, after this outcome. The version of the record.
    pub(super) async fn finish(mut self, outcome: Outcome) -> Result<(Slot, Left), Failure> {
        let version = self.committed(outcome)?;
        if !self.clean {
            return Ok((version, Left::Open));
        }
        let sealed = match self.manifest.seal().await {
            Ok(outcome) => self.committed(outcome),
            Err(error) => Err(error.into()),
        };
        // What was asked for is recorded, and an open epoch loses nothing.
        if let Err(failure) = &sealed {
            tracing::warn!(region = %self.region, error = failure.message, "the region was not sealed again");
        }
        Ok((version, if sealed.is_ok() { Left::Sealed } else { Left::Open }))
    }

    fn committed(&self, outcome: Outcome) -> Result<Slot, Failure> {
        match outcome {
            Outcome::Committed(state) => {
                let version = state.version();
                version.ok_or_else(|| Failure::failed(format!("region {} has no version after a commit", self.region)))
            }
            Outcome::Conflict { by, slot, .. } => {
                let text = format!("region {} was taken over by {by} at {}: nothing was recorded", self.region, short(slot));
                Err(Failure::failed(text))
            }
            Outcome::Unknown(error) => Err(error.into()),
        }
    }
}
