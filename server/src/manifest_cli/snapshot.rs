//! `tessera manifest snapshot`: versions that are kept by name.

use std::sync::Arc;

use serde::Serialize;
use tessera_manifest::action::{Action, CheckpointRef, Pin, Unpin};
use tessera_manifest::body::Body;
use tessera_manifest::checkpoint::{Dirty, Job, read_root, read_state};
use tessera_manifest::error::Error;
use tessera_manifest::id::{RegionId, Slot};
use tessera_manifest::limits;
use tessera_manifest::log::{Outcome, load, load_at};
use tessera_manifest::slot::SlotStore;
use tessera_manifest::state::RegionState;

use super::args::{SnapshotCreateArgs, SnapshotDropArgs, SnapshotLsArgs};
use super::owner::{Left, Owner, claim};
use super::show::snapshots_text;
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};

#[derive(Debug, Serialize)]
pub(super) struct SnapshotsView {
    region: RegionId,
    snapshots: Vec<Pin>,
}

/// What a verb that writes did.
#[derive(Debug, Serialize)]
pub(super) struct DoneView {
    region: RegionId,
    name: String,
    /// The record that says so.
    version: Slot,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Pin>,
    region_left: Left,
}

pub(super) async fn list(args: &SnapshotLsArgs) -> Result<SnapshotsView, Failure> {
    let (place, region) = (Place::open(&args.target.store)?, args.target.region);
    let state = load(&place.context, region).await?;
    Ok(SnapshotsView { region, snapshots: state.pins().values().map(|pin| Pin::clone(pin)).collect() })
}

pub(super) async fn create(args: &SnapshotCreateArgs) -> Result<DoneView, Failure> {
    let (place, region, name) = (Place::open(&args.target.store)?, args.target.region, &args.name);
    check_name(name)?;
    let claim = claim(&place, region).await?;
    if claim.state.pins().contains_key(name) {
        return Err(Failure::failed(format!("region {region} has a snapshot '{name}' already: choose another name, or drop that one")));
    }
    if claim.state.is_dropped() {
        return Err(Failure::failed(format!("region {region} was dropped")));
    }
    let expires_unix_ms = args.expires.map(|expiry| place.context.env.unix_ms().saturating_add(expiry.after_ms));
    // Whatever can fail should fail before the region is taken over.
    let wanted = match args.version {
        None => None,
        Some(version) => Some(wanted(&place, &claim.state, version.0).await?),
    };
    let mut owner = claim.take(&args.writing).await?;
    let outcome = match wanted {
        None => owner.manifest.snapshot(name, expires_unix_ms).await?,
        Some(wanted) => {
            let checkpoint = checkpoint_of(&owner, &place.slots(region), wanted).await?;
            owner.manifest.commit(vec![Action::Pin(Pin { name: name.clone(), checkpoint, expires_unix_ms })]).await?
        }
    };
    let snapshot = match &outcome {
        Outcome::Committed(state) => state.pins().get(name).map(|pin| Pin::clone(pin)),
        _ => None,
    };
    let (version, region_left) = owner.finish(outcome).await?;
    Ok(DoneView { region, name: name.clone(), version, snapshot, region_left })
}

/// The state at an older version, if a snapshot of it can be made.
async fn wanted(place: &Place, now: &RegionState, version: Slot) -> Result<RegionState, Failure> {
    let state = load_at(&place.context, now.region(), version).await?;
    if version < now.floor() {
        let text = format!("version {} is below the floor {}: its files may be gone", short(version), short(now.floor()));
        return Err(Failure::failed(text));
    }
    if state.is_sealed() {
        let before = Slot { seq: version.seq.saturating_sub(1), ..version };
        let text = format!("version {} is a seal, which changes nothing: name {}, the one before it", short(version), short(before));
        return Err(Failure::failed(text));
    }
    Ok(state)
}

/// A checkpoint of an older version: the one that there is, or a new one.
async fn checkpoint_of(owner: &Owner, slots: &SlotStore, state: RegionState) -> Result<CheckpointRef, Failure> {
    let (context, region) = (&owner.context, state.region());
    let Some(version) = state.version() else { return Err(Failure::failed(format!("region {region} has no record"))) };
    match read_root(context, region, version).await {
        Ok((root, reference)) => {
            read_state(context, region, root).await?;
            return Ok(reference);
        }
        Err(Error::MissingRecord { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = || Failure::failed(format!("record '{}' is gone", slots.path(version)));
    let record = slots.read(version).await?.ok_or_else(gone)?;
    let body = Body::decode(&record.body).map_err(|reason| Failure::failed(format!("record '{}': {reason}", slots.path(version))))?;
    let job = Job {
        context: context.clone(),
        state,
        commit_id: record.commit_id,
        time_ms: body.time_ms,
        epoch: owner.manifest.epoch(),
        before: Arc::from([]),
        dirty: Dirty::default(),
    };
    Ok(job.run().await?.reference)
}

/// Refuses a name before the region is taken over for nothing; the state machine has the last word.
fn check_name(name: &str) -> Result<(), Failure> {
    let fits = (1..=limits::PIN_NAME_BYTES_MAX).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        return Ok(());
    }
    let max = limits::PIN_NAME_BYTES_MAX;
    Err(Failure::usage(format!("'{name}' cannot be the name of a snapshot: write 1 to {max} letters, digits and - _ . :")))
}

pub(super) async fn drop(args: &SnapshotDropArgs) -> Result<DoneView, Failure> {
    let (place, region, name) = (Place::open(&args.target.store)?, args.target.region, args.name.clone());
    let claim = claim(&place, region).await?;
    if !claim.state.pins().contains_key(&name) {
        let names: Vec<&str> = claim.state.pins().keys().map(String::as_str).collect();
        let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        return Err(Failure::failed(format!("region {region} has no snapshot '{name}': {there}")));
    }
    let owner = claim.take(&args.writing).await?;
    let (version, region_left) = owner.commit(vec![Action::Unpin(Unpin { name: name.clone() })]).await?;
    Ok(DoneView { region, name, version, snapshot: None, region_left })
}

impl View for SnapshotsView {
    fn text(&self) -> String {
        let table = if self.snapshots.is_empty() { String::new() } else { snapshots_text(&self.snapshots) };
        format!("{table}({})\n", text::count(self.snapshots.len() as u64, "snapshot"))
    }
}

impl View for DoneView {
    fn text(&self) -> String {
        let Self { region, name, version, snapshot, region_left } = self;
        let what = match snapshot {
            Some(pin) => {
                let expires = pin.expires_unix_ms.map_or_else(String::new, |ms| format!(" until {}", text::utc_ms(ms)));
                format!("keeps version {}{expires}", short(pin.checkpoint.version))
            }
            None => "is dropped".to_owned(),
        };
        format!("snapshot '{name}' of region {region} {what} (record {})\n{}\n", short(*version), region_left.text())
    }
}
