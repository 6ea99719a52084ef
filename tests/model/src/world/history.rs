//! The past of one region: checkpoints, damage, floor, snapshots, time travel, rollback, retention. DESIGN sections 3, 4, 9.
//!
//! Every record is a version. Edits replace one file by the next; checkpoints are written for the newest version and logged
//! by a later record; retention runs on the state of the moment at which it began, and deletes one object at a time while
//! records go on. The writer may be replaced: its retention goes on by itself, however late. A checkpoint may get damaged,
//! unless it is the last thing from which the region can be opened; one at most while a retention runs.
//!
//! - Versions are bits: bit `v` of `records` is the record of version `v`.
//! - Invariants: an opener that falls back from checkpoint to checkpoint, and at last to the first record, finds every
//!   record that it needs; as long as nothing is damaged, so does a reader of any version that is not below the floor, of
//!   a pinned one, of a held one, and every file of these versions is there.
//! - After the code: a rollback restores removed files that are retained; a pin names the present version and is logged
//!   after its checkpoint was written; retention reads the checkpoints that it relies on before it deletes anything.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const VERSIONS: usize = 10;
const FILES: usize = 4;

/// A run of retention: what it read at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Retention {
    /// Records before this version go.
    base: u8,
    pinned: u16,
    verified: bool,
    /// Something was damaged since.
    damaged: bool,
}

/// Versions and files are bits.
#[derive(Debug, Clone, Hash)]
pub struct State {
    version: u8,
    records: u16,
    checkpoints: u16,
    damaged: u16,
    /// The checkpoint that is on the store and not in a record yet.
    unlogged: Option<u8>,
    /// Those that the state needs.
    logged: u16,
    floor: u8,
    pins: u16,
    pins_made: u8,
    hold: Option<u8>,
    holds: u8,
    /// The files that each version shows.
    visible: [u8; VERSIONS],
    /// Since when and until when a file was visible.
    life: [(u8, u8); FILES],
    files: u8,
    doomed: u8,
    on_store: u8,
    retentions: [Option<Retention>; 2],
    restores: u8,
    damages: u8,
}

/// The world and its size.
#[derive(Debug)]
pub struct History {
    /// Which rules hold.
    pub guards: Guards,
    /// Records; at most nine.
    pub versions_max: u8,
    /// Named snapshots.
    pub pins: u8,
    /// Scans that hold a version.
    pub holds: u8,
    /// Checkpoints that get damaged.
    pub damages: u8,
    /// Rollbacks.
    pub restores: u8,
    /// Whether a second writer's retention runs beside the first one's.
    pub take_over: bool,
}

const fn bit(version: u8) -> u16 {
    1 << version
}

/// Those of `versions` that are below `version`.
const fn below(versions: u16, version: u8) -> u16 {
    versions & (bit(version) - 1)
}

fn newest(versions: u16) -> Option<u8> {
    (versions != 0).then(|| versions.ilog2() as u8)
}

fn oldest(versions: u16) -> Option<u8> {
    (versions != 0).then(|| versions.trailing_zeros() as u8)
}

impl State {
    /// Whether a reader that starts from a sound checkpoint not above `version`, or from the first record, finds all
    /// records up to it.
    fn readable(&self, version: u8) -> bool {
        let base = newest(below(self.checkpoints & !self.damaged, version + 1));
        // Versions begin with 1.
        let needed = (bit(version + 1) - 1) & !(bit(base.unwrap_or(0) + 1) - 1);
        self.records & needed == needed
    }

    /// Whether some reader may ask for a version that shows the file.
    fn retained(&self, file: usize, world: &History) -> bool {
        let (since, until) = self.life[file];
        let pinned = (since..until).any(|version| self.pins & bit(version) != 0) && world.holds(Guard::PinsCount);
        until > self.floor || pinned
    }

    fn commit(&mut self) -> u8 {
        let before = self.visible[usize::from(self.version)];
        self.version += 1;
        self.visible[usize::from(self.version)] = before;
        self.records |= bit(self.version);
        self.version
    }
}

impl History {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    fn edits(&self, state: &State, steps: &mut Steps<State>) {
        let shown = state.visible[usize::from(state.version)];
        if usize::from(state.files) < FILES {
            steps.change(format_args!("an Edit replaces the files {shown:#06b} by file {}", state.files), state, |next| {
                let version = next.commit();
                for file in (0..FILES).filter(|file| shown & (1 << file) != 0) {
                    next.life[file].1 = version;
                }
                let added = usize::from(state.files);
                next.life[added] = (version, u8::MAX);
                next.visible[usize::from(version)] = 1 << added;
                next.on_store |= 1 << added;
                next.files += 1;
            });
        }
        for file in (0..usize::from(state.files)).filter(|file| shown & (1 << file) == 0) {
            let known = state.doomed & (1 << file) == 0 && state.on_store & (1 << file) != 0;
            let retained = state.retained(file, self) || !self.holds(Guard::RestoreOnlyRetained);
            if state.restores < self.restores && known && retained {
                steps.change(format_args!("a rollback restores file {file}"), state, |next| {
                    let version = next.commit();
                    next.restores += 1;
                    next.visible[usize::from(version)] |= 1 << file;
                    next.life[file].1 = u8::MAX;
                });
            }
        }
    }

    fn checkpoints(&self, state: &State, steps: &mut Steps<State>) {
        if state.checkpoints & bit(state.version) == 0 {
            steps.change(format_args!("a checkpoint of version {} is written", state.version), state, |next| {
                next.checkpoints |= bit(state.version);
                next.unlogged = Some(state.version);
            });
        }
        if let Some(checkpoint) = state.unlogged {
            steps.change(format_args!("a record logs the checkpoint of version {checkpoint}"), state, |next| {
                next.commit();
                next.unlogged = None;
                next.logged |= bit(checkpoint);
                self.let_checkpoints_go(next);
            });
        }
        // The keeper proposes floors at logged checkpoints only.
        let held = state.hold.filter(|_| self.holds(Guard::ScansHoldFloors));
        for version in (state.floor + 1..=state.version).filter(|version| state.logged & bit(*version) != 0) {
            if held.is_none_or(|held| version <= held) {
                steps.change(format_args!("Floor {version}"), state, |next| {
                    next.commit();
                    next.floor = version;
                    self.let_checkpoints_go(next);
                });
            }
        }
    }

    /// The newest checkpoint that is not above the floor is the oldest one that is needed; two are kept in any case.
    fn let_checkpoints_go(&self, state: &mut State) {
        let kept = if self.holds(Guard::TwoCheckpointsKept) { 2 } else { 1 };
        while state.logged.count_ones() > kept {
            let rest = state.logged & (state.logged - 1);
            if oldest(rest).is_none_or(|next| next > state.floor) {
                break;
            }
            state.logged = rest;
        }
    }

    fn snapshots(&self, state: &State, steps: &mut Steps<State>) {
        let pinnable = |version: u8| version >= state.floor && version == state.version || !self.holds(Guard::PinNotBelowFloor);
        for version in (1..=state.version).filter(|version| state.checkpoints & bit(*version) != 0 && pinnable(*version)) {
            if state.pins_made < self.pins && state.pins & bit(version) == 0 {
                steps.change(format_args!("a snapshot pins version {version}"), state, |next| {
                    next.commit();
                    next.pins |= bit(version);
                    next.pins_made += 1;
                });
            }
        }
        for version in (1..=state.version).filter(|version| state.pins & bit(*version) != 0) {
            steps.change(format_args!("the snapshot of version {version} ends"), state, |next| {
                next.commit();
                next.pins &= !bit(version);
            });
        }
    }

    fn dooms(&self, state: &State, steps: &mut Steps<State>) {
        let shown = state.visible[usize::from(state.version)];
        for file in (0..usize::from(state.files)).filter(|file| (shown | state.doomed) & (1 << file) == 0) {
            let (since, until) = state.life[file];
            let pinned = (since..until).any(|version| state.pins & bit(version) != 0);
            let above = until > state.floor && self.holds(Guard::RetainedVersionsCount);
            let kept = above || (pinned && self.holds(Guard::PinsCount));
            if !kept {
                steps.change(format_args!("Doom of file {file}"), state, |next| {
                    next.commit();
                    next.doomed |= 1 << file;
                });
            }
        }
    }

    /// DESIGN 4: `Floor` is logged before anything older is deleted; two logged checkpoints are kept.
    fn retention_starts(&self, state: &State, steps: &mut Steps<State>) {
        let counted = if self.holds(Guard::CheckpointsLogged) { state.logged } else { state.logged | state.checkpoints };
        let kept = if self.holds(Guard::TwoCheckpointsKept) { 2 } else { 1 };
        let Some(base) = oldest(counted).filter(|_| counted.count_ones() >= kept) else { return };
        let floor = base <= state.floor || !self.holds(Guard::FloorLoggedFirst);
        let runs = if self.take_over { 2 } else { 1 };
        if let Some(free) = (0..runs).find(|run| state.retentions[*run].is_none()).filter(|_| floor && below(state.records, base) != 0) {
            steps.change(format_args!("a retention starts, behind version {base}"), state, |next| {
                let pinned = if self.holds(Guard::PinKeepsCheckpoint) { state.pins } else { 0 };
                next.retentions[free] = Some(Retention { base, pinned, verified: false, damaged: false });
            });
        }
    }

    fn retention_runs(&self, state: &State, run: usize, retention: Retention, steps: &mut Steps<State>) {
        let mut set = |label: &str, retention: Option<Retention>| {
            steps.change(format_args!("retention {run} {label}"), state, |next| next.retentions[run] = retention);
        };
        set("ends, or its process does", None);
        if !retention.verified {
            let needed = state.logged & (bit(retention.base) | !(bit(retention.base) - 1));
            let sound = needed & state.checkpoints & !state.damaged == needed;
            if sound || !self.holds(Guard::RetentionReadsCheckpoints) {
                set("finds the checkpoints whole that it relies on", Some(Retention { verified: true, damaged: false, ..retention }));
            }
            return;
        }
        if let Some(version) = oldest(below(state.records, retention.base)) {
            steps.change(format_args!("retention {run} deletes record {version}"), state, |next| next.records &= !bit(version));
        }
        if let Some(version) = oldest(below(state.checkpoints & !retention.pinned, retention.base)) {
            steps.change(format_args!("retention {run} deletes the checkpoint of version {version}"), state, |next| {
                next.checkpoints &= !bit(version);
            });
        }
    }

    fn damage(&self, state: &State, steps: &mut Steps<State>) {
        let during = state.retentions.iter().flatten().any(|retention| retention.damaged);
        if state.damages >= self.damages || during {
            return;
        }
        for version in (1..=state.version).filter(|version| state.checkpoints & !state.damaged & bit(*version) != 0) {
            let mut next = state.clone();
            next.damages += 1;
            next.damaged |= bit(version);
            for retention in next.retentions.iter_mut().flatten() {
                retention.damaged = true;
            }
            if next.readable(next.version) {
                steps.to(format_args!("the checkpoint of version {version} gets damaged"), next);
            }
        }
    }
}

impl World for History {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            version: 1,
            records: 0b10,
            checkpoints: 0,
            damaged: 0,
            unlogged: None,
            logged: 0,
            floor: 1,
            pins: 0,
            pins_made: 0,
            hold: None,
            holds: 0,
            visible: [0; VERSIONS],
            life: [(u8::MAX, u8::MAX); FILES],
            files: 1,
            doomed: 0,
            on_store: 1,
            retentions: [None; 2],
            restores: 0,
            damages: 0,
        };
        (state.visible[1], state.life[0]) = (1, (1, u8::MAX));
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.version < self.versions_max {
            self.edits(state, steps);
            self.checkpoints(state, steps);
            self.snapshots(state, steps);
            self.dooms(state, steps);
        }
        for file in (0..FILES).filter(|file| state.doomed & state.on_store & (1 << file) != 0) {
            steps.change(format_args!("file {file} is deleted"), state, |next| next.on_store &= !(1 << file));
        }
        match state.hold {
            None if state.holds < self.holds => steps.change(format_args!("a scan holds version {}", state.version), state, |next| {
                (next.hold, next.holds) = (Some(state.version), state.holds + 1);
            }),
            None => {}
            Some(_) => steps.change(format_args!("the scan ends"), state, |next| next.hold = None),
        }
        self.retention_starts(state, steps);
        for (run, retention) in state.retentions.iter().enumerate() {
            if let Some(retention) = retention {
                self.retention_runs(state, run, *retention, steps);
            }
        }
        self.damage(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        if !state.readable(state.version) {
            return Some("the region cannot be opened");
        }
        for version in 1..=state.version {
            let pinned = state.pins & bit(version) != 0;
            let held = state.hold == Some(version);
            if version < state.floor && !pinned && !held {
                continue;
            }
            if (version >= state.floor || pinned) && state.damaged == 0 && !state.readable(version) {
                return Some("a version above the floor, or a pinned one, cannot be read");
            }
            if state.visible[usize::from(version)] & !state.on_store != 0 {
                return Some("a file of a readable version is gone");
            }
        }
        None
    }
}
