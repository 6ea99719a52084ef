//! One file that regions refer to, and the collector that wants it gone. DESIGN section 9.
//!
//! File F was born in region A. Repartitions move the reference between A, B and a new region C; compactions remove it,
//! floors rise, a snapshot pins it, a scan reads it, a rollback restores it. The collector reads the region set and every
//! region twice, then sends a `Doom` to the owner of A, which may arrive at any later time. A second file X is uploaded
//! and may never be committed; sweeps look for such files, and a sweep's LIST and DELETE are apart.
//!
//! - Versions count a region's records. `removed` is the version that removed F; below `floor` no reader may ask for it.
//! - Invariants: a file that is visible, staged, retained or pinned anywhere, or that a running remap will list, is
//!   neither doomed nor deleted; no scan's file vanishes; a sweep deletes no listed file.
//! - After the code: an edit may restore a removed file that is retained and that no repartition took away since (the
//!   design knows only the remap); a `Doom` is refused while the region is staged at all.

mod collector;
mod repartition;

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};
use collector::Mark;
use repartition::Repartition;

const REGIONS: usize = 3;
const NAMES: [&str; REGIONS] = ["A", "B", "C"];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Region {
    exists: bool,
    /// Whether the catalog's region set shows it.
    in_set: bool,
    staged: bool,
    live: bool,
    /// Whether its `RemapStaged` lists F, once there is one.
    remap: Option<bool>,
    removed: Option<u8>,
    pinned: bool,
    version: u8,
    floor: u8,
    /// The version that resolved its last repartition.
    repartitioned: u8,
    /// Seal, Stage and Resolve records so far.
    turns: u8,
}

impl Region {
    fn shows_retained(&self) -> bool {
        self.exists && (self.pinned || self.removed.is_some_and(|version| version >= self.floor))
    }

    fn refers(&self) -> bool {
        self.exists && (self.live || self.remap == Some(true))
    }

    fn turn(&mut self) {
        self.version += 1;
        self.turns += 1;
    }
}

/// The life of the uploaded file X.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Upload {
    epoch: Option<u8>,
    on_store: bool,
    listed: bool,
}

/// What a sweep is about to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sweep {
    f: bool,
    x: bool,
}

/// Everything of one table.
#[derive(Debug, Clone, Hash)]
pub struct State {
    regions: [Region; REGIONS],
    repartition: Option<Repartition>,
    repartitions: u8,
    mark: Option<Mark>,
    marks: u8,
    /// A `Doom` on its way to the owner of A.
    doom_sent: bool,
    doomed: bool,
    on_store: bool,
    epoch: u8,
    sweep: Option<Sweep>,
    upload: Upload,
    scan: Option<usize>,
    scans: u8,
    pins: u8,
    restores: u8,
}

/// The world and its size.
#[derive(Debug)]
pub struct Collect {
    /// Which rules hold.
    pub guards: Guards,
    /// Repartitions.
    pub repartitions: u8,
    /// Runs of the collector.
    pub marks: u8,
    /// Take-overs of A; sweeps run only if there are some.
    pub take_overs: u8,
    /// Whether X is uploaded.
    pub upload: bool,
    /// Scans.
    pub scans: u8,
    /// Named snapshots.
    pub pins: u8,
    /// Rollbacks that restore F.
    pub restores: u8,
    /// Whether only A may restore it.
    pub restores_in_origin: bool,
    /// Whether the region set shows new regions from their plan on, and not only once they are published.
    pub set_since_plan: bool,
    /// Versions that bound compactions and Stages.
    pub versions_max: u8,
}

impl Collect {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// Compactions, floors, scans, snapshots and rollbacks of single regions.
    fn region_steps(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let (region, name) = (state.regions[at], NAMES[at]);
        if region.live && !region.staged && region.version < self.versions_max {
            steps.change(format_args!("a compaction removes F in {name}"), state, |next| {
                let region = &mut next.regions[at];
                region.version += 1;
                (region.live, region.removed) = (false, Some(region.version));
            });
        }
        let held = state.scan == Some(at) && self.holds(Guard::ScansHoldFloors);
        if region.removed.is_some_and(|version| version >= region.floor) && !held {
            steps.change(format_args!("Floor of {name} above {}", region.version), state, |next| {
                next.regions[at].floor = region.version + 1;
            });
        }
        if region.live && state.scan.is_none() && state.scans < self.scans && state.on_store {
            steps.change(format_args!("a scan of {name} begins"), state, |next| (next.scan, next.scans) = (Some(at), state.scans + 1));
        }
        if region.live && !region.pinned && state.pins < self.pins {
            steps.change(format_args!("a snapshot pins {name}"), state, |next| {
                next.regions[at].pinned = true;
                next.pins += 1;
            });
        }
        if region.pinned {
            steps.change(format_args!("the snapshot of {name} ends"), state, |next| next.regions[at].pinned = false);
        }
        self.restore(state, at, steps);
    }

    fn restore(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let region = state.regions[at];
        let Some(removed) = region.removed else { return };
        let retained = region.shows_retained() || !self.holds(Guard::RestoreOnlyRetained);
        let own = removed > region.repartitioned;
        let here = at == 0 || !self.restores_in_origin;
        // The owner of A knows what it doomed; no other region does.
        let known_doomed = at == 0 && state.doomed;
        if state.restores < self.restores && here && retained && own && !region.staged && !known_doomed {
            steps.change(format_args!("a rollback restores F in {}", NAMES[at]), state, |next| {
                next.restores += 1;
                let region = &mut next.regions[at];
                region.version += 1;
                (region.live, region.removed) = (true, None);
            });
        }
    }

    /// The Doom arrives, the delete follows; sweeps.
    fn origin_steps(&self, state: &State, steps: &mut Steps<State>) {
        let origin = state.regions[0];
        if state.doom_sent {
            let listed = origin.removed.is_some() && !origin.refers() && !origin.shows_retained();
            let refused = self.holds(Guard::DoomChecked) && (!listed || origin.staged || state.scan == Some(0));
            steps.change(format_args!("Doom of F: {}", if refused { "refused" } else { "committed" }), state, |next| {
                next.doom_sent = false;
                next.doomed = !refused;
            });
        }
        if state.doomed && state.on_store {
            steps.change(format_args!("F is deleted"), state, |next| next.on_store = false);
        }
        if state.epoch < self.take_overs {
            steps.change(format_args!("A is taken over"), state, |next| {
                next.epoch += 1;
                next.regions[0].turn();
            });
        }
        if self.take_overs > 0 {
            self.sweep_steps(state, steps);
        }
        if self.upload {
            self.upload_steps(state, steps);
        }
    }

    fn sweep_steps(&self, state: &State, steps: &mut Steps<State>) {
        let origin = state.regions[0];
        if let Some(Sweep { f, x }) = state.sweep {
            steps.change(format_args!("a sweep deletes"), state, |next| {
                next.sweep = None;
                next.on_store &= !f;
                next.upload.on_store &= !x;
            });
            return;
        }
        let removed = origin.removed.is_some() && self.holds(Guard::SweepSparesRemoved);
        let f = !(origin.refers() || state.doomed || removed) && state.epoch > 0 && state.on_store;
        let past = state.upload.epoch.is_some_and(|epoch| epoch < state.epoch);
        let x = past && state.upload.on_store && !state.upload.listed;
        if f || x {
            steps.change(format_args!("a sweep lists: {:?}", Sweep { f, x }), state, |next| next.sweep = Some(Sweep { f, x }));
        }
    }

    fn upload_steps(&self, state: &State, steps: &mut Steps<State>) {
        match state.upload.epoch {
            None => steps.change(format_args!("X is uploaded in epoch {}", state.epoch), state, |next| {
                next.upload = Upload { epoch: Some(state.epoch), on_store: true, listed: false };
            }),
            Some(epoch) => {
                let current = epoch == state.epoch || !self.holds(Guard::AddedFilesOfCurrentEpoch);
                if !state.upload.listed && !state.regions[0].staged && current && state.upload.on_store {
                    steps.change(format_args!("an Edit adds X"), state, |next| next.upload.listed = true);
                }
            }
        }
    }
}

impl World for Collect {
    type State = State;

    fn initial(&self) -> State {
        let mut regions = [Region::default(); REGIONS];
        for region in &mut regions[..2] {
            (region.exists, region.in_set) = (true, true);
        }
        regions[0].live = true;
        State {
            regions,
            repartition: None,
            repartitions: 0,
            mark: None,
            marks: 0,
            doom_sent: false,
            doomed: false,
            on_store: true,
            epoch: 0,
            sweep: None,
            upload: Upload::default(),
            scan: None,
            scans: 0,
            pins: 0,
            restores: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.plan_steps(state, steps);
        if let Some(repartition) = state.repartition {
            self.repartition_steps(state, repartition, steps);
        }
        for at in (0..REGIONS).filter(|at| state.regions[*at].exists) {
            self.region_steps(state, at, steps);
        }
        if state.scan.is_some() {
            steps.change(format_args!("the scan ends"), state, |next| next.scan = None);
        }
        self.mark_steps(state, steps);
        self.origin_steps(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let gone = state.doomed || !state.on_store;
        let broken = [
            (gone && state.regions.iter().any(Region::refers), "a referenced file is doomed or deleted"),
            (gone && state.regions.iter().any(Region::shows_retained), "a file of a readable version is doomed or deleted"),
            (gone && repartition::will_list(state), "a file that a running remap will list is doomed or deleted"),
            (!state.on_store && state.scan.is_some(), "a file vanished under a scan"),
            (state.upload.listed && !state.upload.on_store, "a sweep deleted a listed file"),
        ];
        broken.into_iter().find(|(broken, _)| *broken).map(|(_, what)| what)
    }
}
