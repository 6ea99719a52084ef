//! Drop and undrop of a table, its purge, and an old backup of the catalog. DESIGN sections 2, 9 and 11.
//!
//! `DROP TABLE` creates a marker on the store; then the catalog follows. The verdict of a marker, purge or undrop, is an
//! object that is created once. The collector purges: it takes the table's region over, ends a repartition that is under
//! way by a decision of its own, records `Drop`, dooms and deletes. Reconciliation rebuilds the catalog from the store; a
//! backup of the catalog may bring back what was there before the drop. Every actor may stop at any step and another may go
//! on. A table may be dropped a second time after an undrop.
//!
//! - Invariants: no file is deleted unless the verdict of a marker is purge; who was told that the table is back finds it
//!   with all its files; a table that was dropped and not undropped does not stay in the catalog.
//! - Goal: every marker has its verdict, and the catalog says what the markers say.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const MARKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Purge,
    Undrop,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Marker {
    exists: bool,
    verdict: Option<Verdict>,
}

/// The statement that drops: where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Dropping {
    No,
    /// The name of its marker is in its plan.
    Planned(u8),
    Marked(u8),
}

/// One table with one region and one file.
#[derive(Debug, Clone, Hash)]
pub struct State {
    markers: [Marker; MARKERS],
    in_catalog: bool,
    dropping: Dropping,
    drops: u8,
    /// Somebody was told that the table is back, and it was not dropped since.
    told_back: bool,
    /// Undrop: created its verdict for this marker, and has the catalog to do.
    undropping: Option<u8>,
    undrops: u8,
    /// The purge of this marker: it has read or created the verdict.
    purging: Option<u8>,
    staged: bool,
    decided: bool,
    region_dropped: bool,
    on_store: bool,
    /// A backup of the catalog was put back; reconciliation is to run.
    restored: bool,
    restores: u8,
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug)]
pub struct Dropped {
    /// Which rules hold.
    pub guards: Guards,
    /// DROP statements.
    pub drops: u8,
    /// Attempts to undrop.
    pub undrops: u8,
    /// Restores of an old catalog.
    pub restores: u8,
}

impl State {
    /// Whether a marker says that the table is dropped.
    fn is_dropped(&self) -> bool {
        self.markers.iter().any(|marker| marker.exists && marker.verdict != Some(Verdict::Undrop))
    }
}

impl Dropped {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// Creates the verdict, or reads the one that is there.
    fn verdict(&self, state: &mut State, marker: u8, verdict: Verdict) -> Verdict {
        let object = &mut state.markers[usize::from(marker)].verdict;
        if self.holds(Guard::VerdictCreatedOnce) { *object.get_or_insert(verdict) } else { *object.insert(verdict) }
    }

    fn drop_steps(&self, state: &State, steps: &mut Steps<State>) {
        match state.dropping {
            Dropping::No => {
                let free = state.markers.iter().position(|marker| !marker.exists);
                let locked = state.undropping.is_some() && self.holds(Guard::TableLock);
                let may = state.in_catalog && !state.is_dropped() && !locked && state.drops < self.drops;
                if let Some(marker) = free.filter(|_| may) {
                    steps.change(format_args!("DROP TABLE is submitted, with marker {marker} in its plan"), state, |next| {
                        next.drops += 1;
                        next.dropping = Dropping::Planned(marker as u8);
                    });
                }
            }
            Dropping::Planned(marker) => steps.change(format_args!("marker {marker} is created: the table is dropped"), state, |next| {
                next.markers[usize::from(marker)].exists = true;
                next.dropping = Dropping::Marked(marker);
                next.told_back = false;
            }),
            Dropping::Marked(marker) => {
                let undropped = state.markers[usize::from(marker)].verdict == Some(Verdict::Undrop);
                if undropped && self.holds(Guard::DropHeedsVerdict) {
                    steps.change(format_args!("DROP TABLE finds that it was undone"), state, |next| next.dropping = Dropping::No);
                } else {
                    steps.change(format_args!("the table leaves the catalog"), state, |next| {
                        (next.dropping, next.in_catalog) = (Dropping::No, false);
                    });
                }
                let other = 1 - marker;
                if !self.holds(Guard::MarkerNamedInPlan) && !state.markers[usize::from(other)].exists {
                    steps.change(format_args!("DROP TABLE is resumed and creates another marker, {other}"), state, |next| {
                        next.markers[usize::from(other)].exists = true;
                        next.dropping = Dropping::Marked(other);
                    });
                }
            }
        }
    }

    fn undrop_steps(&self, state: &State, steps: &mut Steps<State>) {
        if let Some(marker) = state.undropping {
            steps.change(format_args!("the table is back in the catalog; undrop of marker {marker} answers"), state, |next| {
                next.undropping = None;
                next.in_catalog = true;
                next.told_back = true;
            });
            return;
        }
        for marker in 0..MARKERS as u8 {
            let Marker { exists, verdict } = state.markers[usize::from(marker)];
            let open = exists && verdict.is_none();
            if !open || state.undrops >= self.undrops || matches!(state.dropping, Dropping::Marked(_)) && self.holds(Guard::TableLock) {
                continue;
            }
            steps.change(format_args!("undrop creates its verdict for marker {marker}"), state, |next| {
                next.undrops += 1;
                if self.verdict(next, marker, Verdict::Undrop) == Verdict::Undrop {
                    next.undropping = Some(marker);
                }
            });
        }
    }

    fn purge_steps(&self, state: &State, steps: &mut Steps<State>) {
        let Some(marker) = state.purging else {
            for marker in 0..MARKERS as u8 {
                let Marker { exists, verdict } = state.markers[usize::from(marker)];
                let undropped = verdict == Some(Verdict::Undrop) && self.holds(Guard::VerdictCreatedOnce);
                if exists && !undropped && state.on_store {
                    steps.change(format_args!("the collector creates or reads the verdict of marker {marker}"), state, |next| {
                        let purge = !self.holds(Guard::PurgeAfterVerdict) || self.verdict(next, marker, Verdict::Purge) == Verdict::Purge;
                        next.purging = purge.then_some(marker);
                    });
                }
            }
            return;
        };
        if state.staged && !state.decided {
            steps.change(format_args!("the collector decides the open repartition: abort"), state, |next| next.decided = true);
        }
        if state.staged && state.decided {
            steps.change(format_args!("the collector resolves the region"), state, |next| next.staged = false);
        }
        if !state.region_dropped && (!state.staged || !self.holds(Guard::DropAfterResolve)) {
            steps.change(format_args!("the collector takes the region over and records Drop"), state, |next| {
                next.region_dropped = true;
                if state.staged {
                    next.broken = Some("a region is dropped in the middle of a repartition");
                }
            });
        }
        if state.region_dropped && state.on_store {
            steps.change(format_args!("the files are doomed and deleted"), state, |next| {
                next.on_store = false;
                if state.markers[usize::from(marker)].verdict != Some(Verdict::Purge) {
                    next.broken = Some("files are deleted without a verdict to purge");
                }
            });
        }
        steps.change(format_args!("the collector ends, or crashes"), state, |next| {
            next.purging = None;
            let done = !state.on_store && !self.holds(Guard::DropMarkersKept);
            if done {
                next.markers[usize::from(marker)] = Marker::default();
            }
        });
    }

    /// DESIGN 11: drop markers keep an old backup from bringing dropped tables back.
    fn recovery_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.restores < self.restores && !state.in_catalog && state.drops > 0 {
            steps.change(format_args!("an old backup of the catalog is put back"), state, |next| {
                (next.in_catalog, next.restored) = (true, true);
                next.restores += 1;
            });
        }
        if state.restored {
            steps.change(format_args!("reconciliation compares the catalog with the store"), state, |next| {
                next.restored = false;
                let dropped = state.is_dropped() && self.holds(Guard::ReconcileReadsMarkers);
                next.in_catalog = !dropped;
                if !dropped && !state.on_store {
                    next.broken = Some("a dropped table is back in the catalog, without its files");
                }
            });
        }
    }
}

impl World for Dropped {
    type State = State;

    fn initial(&self) -> State {
        State {
            markers: [Marker::default(); MARKERS],
            in_catalog: true,
            dropping: Dropping::No,
            drops: 0,
            told_back: false,
            undropping: None,
            undrops: 0,
            purging: None,
            staged: true,
            decided: false,
            region_dropped: false,
            on_store: true,
            restored: false,
            restores: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.staged && !state.decided {
            steps.change(format_args!("the repartition that was under way is decided"), state, |next| next.decided = true);
        }
        if state.staged && state.decided {
            steps.change(format_args!("the repartition that was under way is resolved"), state, |next| next.staged = false);
        }
        self.drop_steps(state, steps);
        self.undrop_steps(state, steps);
        self.purge_steps(state, steps);
        self.recovery_steps(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let broken = [
            (state.told_back && (state.region_dropped || !state.on_store), "a table that was undropped is being deleted"),
            (state.told_back && state.is_dropped() && state.dropping == Dropping::No, "a table that was undropped counts as dropped"),
            (state.told_back && !state.in_catalog && state.dropping == Dropping::No, "a table that was undropped is not in the catalog"),
        ];
        state.broken.or_else(|| broken.into_iter().find(|(broken, _)| *broken).map(|(_, what)| what))
    }

    fn has_goal(&self) -> bool {
        true
    }

    fn is_goal(&self, state: &State) -> bool {
        let settled = state.markers.iter().all(|marker| !marker.exists || marker.verdict.is_some());
        let quiet = state.dropping == Dropping::No && state.undropping.is_none() && !state.restored;
        settled && quiet && state.in_catalog != state.is_dropped()
    }
}
