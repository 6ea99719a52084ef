//! Two groups of one table, side by side under one runner. DESIGN sections 7 and 8.
//!
//! Group 0 splits its key off region X0 into the new region Y0, group 1 likewise. Each has its own decision object and its
//! own two generations; the table's routes are one value with one revision, which both groups read, change and compare.
//! One group may commit while the other aborts. The runner may crash and resume. Inside a group the calls are direct: late
//! messages are in the world of one group.
//!
//! - Rows of a group: bit 0 was there before, bit 1 is written at any time.
//! - Generations: 0 before; group 0 commits 1 or aborts into 2, group 1 commits 3 or aborts into 4.
//! - Invariants: in each group, once it is resolved, every acknowledged row is there once; the routes of a group never go
//!   back; a scan of the whole table sees every row it must, once, and none of a commit before its publish.
//! - Goal: both groups resolved and the routes in their generations: groups succeed and fail alone.

mod clients;
mod runner;

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};
use clients::Scan;
use runner::Runner;

const GROUPS: usize = 2;
/// The two regions of a group.
const X: usize = 0;
const Y: usize = 1;

const fn commit_of(group: usize) -> u8 {
    group as u8 * 2 + 1
}

const fn abort_of(group: usize) -> u8 {
    group as u8 * 2 + 2
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Decision {
    Commit,
    Abort,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Region {
    generation: u8,
    staged: bool,
    rows: u8,
    staged_rows: u8,
    retired: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Group {
    regions: [Region; 2],
    decision: Option<Decision>,
    remap: Option<u8>,
    acknowledged: u8,
}

/// The route value of the table: one generation a group, for writes and for reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Routes {
    revision: u8,
    write: [u8; GROUPS],
    read: [u8; GROUPS],
}

/// Both groups, the routes, the runner and the clients.
#[derive(Debug, Clone, Hash)]
pub struct State {
    groups: [Group; GROUPS],
    routes: Routes,
    runner: Runner,
    router: [u8; GROUPS],
    scanner: Routes,
    scan: Option<Scan>,
    scans: u8,
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug)]
pub struct Groups {
    /// Which rules hold.
    pub guards: Guards,
    /// How often the runner may crash.
    pub crashes: u8,
    /// Whether abort may be decided.
    pub aborts: bool,
    /// Whether rows are written.
    pub router: bool,
    /// Scans.
    pub scans: u8,
    /// Whether others may publish and resolve.
    pub on_demand: bool,
}

impl Groups {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// The decision object of a group.
    fn decision(&self, state: &State, group: usize) -> Option<Decision> {
        let object = if self.holds(Guard::DecisionPerGroup) { group } else { 0 };
        state.groups[object].decision
    }

    fn decide(&self, state: &mut State, group: usize, decision: Decision) {
        let object = if self.holds(Guard::DecisionPerGroup) { group } else { 0 };
        state.groups[object].decision.get_or_insert(decision);
    }

    /// The region's own `Resolve`.
    fn resolve(&self, state: &mut State, group: usize, at: usize, decision: Decision) {
        let (remap, region) = (state.groups[group].remap, &mut state.groups[group].regions[at]);
        match decision {
            Decision::Commit if region.staged => {
                let Some(rows) = remap else { return };
                region.rows = if at == Y { rows | std::mem::take(&mut region.staged_rows) } else { 0 };
                (region.staged, region.generation) = (false, commit_of(group));
            }
            Decision::Commit => {}
            Decision::Abort if region.generation < abort_of(group) && (region.staged || region.generation == 0) => {
                if region.staged_rows != 0 {
                    state.broken = Some("an abort drops staged rows");
                }
                let region = &mut state.groups[group].regions[at];
                (region.staged, region.generation, region.retired) = (false, abort_of(group), at == Y);
            }
            Decision::Abort => {}
        }
    }

    /// DESIGN 8, step 8, for whoever meets a staged region.
    fn on_demand(&self, state: &State, steps: &mut Steps<State>) {
        for group in 0..GROUPS {
            let Some(decision) = self.decision(state, group) else { continue };
            let published = state.routes.read[group] == commit_of(group);
            for at in [X, Y] {
                if state.groups[group].regions[at].staged && (decision == Decision::Abort || published) {
                    let mut next = state.clone();
                    self.resolve(&mut next, group, at, decision);
                    steps.to(format_args!("a staged region of group {group} is resolved on demand"), next);
                }
            }
            let admitted = state.routes.write[group] == commit_of(group);
            if decision == Decision::Commit && admitted && state.groups[group].remap.is_some() && !published {
                steps.change(format_args!("group {group} is published on demand"), state, |next| {
                    next.routes.read[group] = commit_of(group);
                    next.routes.revision += 1;
                });
            }
        }
    }
}

impl World for Groups {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            groups: [Group::default(); GROUPS],
            routes: Routes::default(),
            runner: Runner::default(),
            router: [0; GROUPS],
            scanner: Routes::default(),
            scan: None,
            scans: 0,
            broken: None,
        };
        for group in &mut state.groups {
            (group.regions[X].rows, group.acknowledged) = (0b01, 0b01);
        }
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.runner_steps(state, steps);
        if self.on_demand {
            self.on_demand(state, steps);
        }
        if self.router {
            self.router_steps(state, steps);
        }
        if self.scans > 0 {
            self.scan_steps(state, steps);
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let of_group = |group: &Group| {
            let resolved = group.regions.iter().all(|region| !region.staged && region.generation != 0);
            (0..2).filter(|_| resolved).find_map(|row| {
                let shows = |region: &&Region| !region.retired && region.rows & (1 << row) != 0;
                match group.regions.iter().filter(shows).count() {
                    0 if group.acknowledged & (1 << row) != 0 => Some("an acknowledged row is lost"),
                    0 | 1 => None,
                    _ => Some("a row is there twice"),
                }
            })
        };
        state.broken.or_else(|| state.groups.iter().find_map(of_group))
    }

    fn has_goal(&self) -> bool {
        true
    }

    fn is_goal(&self, state: &State) -> bool {
        (0..GROUPS).all(|group| {
            let generation = state.routes.read[group];
            let resolved = state.groups[group].regions.iter().all(|region| !region.staged && region.generation == generation);
            generation != 0 && resolved && state.routes.write[group] == generation
        })
    }
}
