//! Scenarios: worlds with their sizes.
//!
//! Invariants:
//! - A scenario `for_ci` is exhausted, or broken, within [`CI_STATES_MAX`] states; the others are for runs by hand.
//! - Each scenario that is not for CI repeats one that is, at a larger size.

use crate::explore::{Limits, Outcome, World, explore};
use crate::guard::Guards;
use crate::world::{Blocked, Collect, Dropped, Groups, History, Repartition, Schema, Segments, SlotLog, SplitMerge, TakeOver, WritePath};

/// The cap of a scenario in CI: 2 million states stay under 1 GiB in every world.
pub const CI_STATES_MAX: usize = 2_000_000;

type Run = Box<dyn Fn(Guards, Limits, &mut dyn FnMut(usize)) -> Outcome + Send + Sync>;

/// A world of a certain size.
pub struct Scenario {
    /// The world's name.
    pub world: &'static str,
    /// The scenario's name within it.
    pub name: &'static str,
    /// What is in it.
    pub about: &'static str,
    /// Whether it is small enough for every run of the tests.
    pub for_ci: bool,
    run: Run,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path())
    }
}

impl Scenario {
    /// World and name.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.world, self.name)
    }

    /// Explores it; see [`explore`].
    pub fn run(&self, guards: Guards, limits: Limits, progress: &mut dyn FnMut(usize)) -> Outcome {
        (self.run)(guards, limits, progress)
    }
}

fn of<W: World>(
    path: (&'static str, &'static str),
    about: &'static str,
    for_ci: bool,
    world: impl Fn(Guards) -> W + Send + Sync + 'static,
) -> Scenario {
    let run: Run = Box::new(move |guards, limits, progress| explore(&world(guards), limits, progress));
    Scenario { world: path.0, name: path.1, about, for_ci, run }
}

const CI: bool = true;
const BY_HAND: bool = false;

/// The scenario of this world and name.
#[must_use]
pub fn find(path: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.path() == path)
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    writes(&mut all);
    slots(&mut all);
    histories(&mut all);
    repartitions(&mut all);
    references(&mut all);
    collections(&mut all);
    all
}

fn writes(all: &mut Vec<Scenario>) {
    let write_path = |guards, reopens, truncates| WritePath { guards, reopens, truncates };
    all.push(of(("write-path", "fence"), "4 writes, a fence, commit or abort", CI, move |guards| write_path(guards, 0, 0)));
    all.push(of(("write-path", "reopen"), "4 writes, a fence, 1 re-open", CI, move |guards| write_path(guards, 1, 0)));
    all.push(of(("write-path", "truncate"), "4 writes, a fence, 1 re-open, 1 truncate", CI, move |guards| write_path(guards, 1, 1)));
    all.push(of(("write-path", "large"), "4 writes, a fence, 3 re-opens, 2 truncates", BY_HAND, move |guards| write_path(guards, 3, 2)));
    all.push(of(("take-over", "three-nodes"), "4 rows, 3 nodes with a log each", CI, |guards| TakeOver { guards }));
}

fn slots(all: &mut Vec<Scenario>) {
    let log = |guards, writers, first_records, records| SlotLog { guards, writers, first_records, records, ahead: false, progress: false };
    all.push(of(("slot-log", "two-writers"), "2 writers, 3 records each", CI, move |guards| log(guards, 2, 3, 3)));
    all.push(of(("slot-log", "silent-first"), "3 writers; the first commits nothing, the others 2 records", CI, move |guards| {
        log(guards, 3, 0, 2)
    }));
    all.push(of(("slot-log", "ahead"), "2 writers, 2 records each, seals ahead", CI, move |guards| SlotLog {
        ahead: true,
        ..log(guards, 2, 2, 2)
    }));
    all.push(of(("slot-log", "ahead-progress"), "2 writers, seals ahead; the second must get to own the log", CI, move |guards| SlotLog {
        ahead: true,
        progress: true,
        ..log(guards, 2, 0, 1)
    }));
    all.push(of(("slot-log", "three-writers"), "3 writers, 1 record and 2 records each", BY_HAND, move |guards| log(guards, 3, 1, 2)));
    all.push(of(("slot-log", "ahead-large"), "2 writers, 3 records each, seals ahead", BY_HAND, move |guards| SlotLog {
        ahead: true,
        ..log(guards, 2, 3, 3)
    }));
    all.push(of(("slot-log", "ahead-three"), "3 writers, seals ahead", BY_HAND, move |guards| SlotLog {
        ahead: true,
        ..log(guards, 3, 1, 2)
    }));
}

fn histories(all: &mut Vec<Scenario>) {
    let history = |guards, versions_max| History { guards, versions_max, pins: 0, holds: 0, damages: 0, restores: 0, take_over: false };
    all.push(of(("history", "time-travel"), "7 records, 1 snapshot, 1 scan, 1 rollback", CI, move |guards| History {
        pins: 1,
        holds: 1,
        restores: 1,
        ..history(guards, 7)
    }));
    all.push(of(("history", "damage"), "6 records, 2 damaged checkpoints, 2 writers' retention", CI, move |guards| History {
        damages: 2,
        take_over: true,
        ..history(guards, 6)
    }));
    all.push(of(("history", "damage-large"), "7 records, 2 damaged checkpoints, 2 writers' retention", BY_HAND, move |guards| History {
        damages: 2,
        take_over: true,
        ..history(guards, 7)
    }));
    all.push(of(("history", "large"), "9 records, 2 snapshots, 1 scan, 1 rollback, 2 damages, 2 writers", BY_HAND, move |guards| {
        History { pins: 2, holds: 1, restores: 1, damages: 2, take_over: true, ..history(guards, 9) }
    }));
}

fn repartitions(all: &mut Vec<Scenario>) {
    let plain = |guards, coordinators| Repartition {
        guards,
        coordinators,
        crashes: 0,
        late_messages: false,
        on_demand: false,
        aborts: true,
        decided: false,
        second: false,
        router: false,
        scans: 0,
        zombie: false,
        progress: false,
    };
    let scans = move |guards, scans| Repartition { decided: true, router: true, scans, ..plain(guards, 1) };
    all.push(of(("repartition", "races"), "2 coordinators, commit against abort, somebody can finish", CI, move |guards| Repartition {
        progress: true,
        ..plain(guards, 2)
    }));
    all.push(of(("repartition", "late"), "1 coordinator, late messages, 1 crash, somebody can finish", CI, move |guards| Repartition {
        progress: true,
        late_messages: true,
        crashes: 1,
        ..plain(guards, 1)
    }));
    all.push(of(("repartition", "writes"), "1 coordinator, 2 rows, late messages", CI, move |guards| Repartition {
        router: true,
        late_messages: true,
        ..plain(guards, 1)
    }));
    all.push(of(("repartition", "second"), "2 coordinators, a second repartition follows", CI, move |guards| Repartition {
        second: true,
        ..plain(guards, 2)
    }));
    all.push(of(("repartition", "scan"), "from the decision on: 2 rows, 1 scan, on-demand resolve", CI, move |guards| Repartition {
        on_demand: true,
        ..scans(guards, 1)
    }));
    all.push(of(("repartition", "zombie"), "from the decision on: 2 rows, 1 scan, a fenced owner serves", CI, move |guards| Repartition {
        zombie: true,
        on_demand: true,
        ..scans(guards, 1)
    }));
    repartitions_by_hand(all);
    let groups = |guards| Groups { guards, crashes: 1, aborts: true, router: true, scans: 0, on_demand: true };
    all.push(of(("groups", "writes"), "2 groups, 1 crash, 2 rows, on-demand resolve", CI, groups));
    all.push(of(("groups", "scan"), "2 groups, 1 scan, no crash", CI, move |guards| Groups {
        crashes: 0,
        scans: 1,
        router: false,
        aborts: false,
        on_demand: false,
        ..groups(guards)
    }));
    all.push(of(("groups", "scan-large"), "2 groups, 2 rows, 1 scan, on-demand resolve, no crash, no abort", BY_HAND, move |guards| {
        Groups { crashes: 0, aborts: false, scans: 1, ..groups(guards) }
    }));
    all.push(of(("groups", "large"), "2 groups, 1 crash, 2 rows, 1 scan, aborts", BY_HAND, move |guards| Groups {
        scans: 1,
        ..groups(guards)
    }));
}

fn repartitions_by_hand(all: &mut Vec<Scenario>) {
    let two = |guards| Repartition {
        guards,
        coordinators: 2,
        crashes: 0,
        late_messages: false,
        on_demand: false,
        aborts: true,
        decided: false,
        second: false,
        router: false,
        scans: 0,
        zombie: false,
        progress: true,
    };
    all.push(of(("repartition", "late-large"), "2 coordinators, late messages, somebody can finish", BY_HAND, move |guards| Repartition {
        late_messages: true,
        ..two(guards)
    }));
    all.push(of(("repartition", "crashes-large"), "2 coordinators, 1 crash each, on-demand resolve", BY_HAND, move |guards| Repartition {
        crashes: 1,
        on_demand: true,
        ..two(guards)
    }));
    all.push(of(("repartition", "writes-large"), "2 coordinators, late messages, 2 rows", BY_HAND, move |guards| Repartition {
        late_messages: true,
        router: true,
        progress: false,
        ..two(guards)
    }));
    all.push(of(("repartition", "scan-large"), "from the decision on: 2 rows, 2 scans, 1 crash, late messages", BY_HAND, move |guards| {
        Repartition {
            coordinators: 1,
            crashes: 1,
            late_messages: true,
            on_demand: true,
            decided: true,
            router: true,
            scans: 2,
            progress: false,
            ..two(guards)
        }
    }));
}

fn references(all: &mut Vec<Scenario>) {
    let split =
        |guards, writes, truncates, compactions| SplitMerge { guards, writes, truncates, compactions, aborts: 0, flushes_in_flight: true };
    all.push(of(("split-merge", "delete"), "1 write, 1 compaction, 1 abort", CI, move |guards| SplitMerge {
        aborts: 1,
        ..split(guards, 1, 0, 1)
    }));
    all.push(of(("split-merge", "truncate"), "1 write, 1 truncate, 1 compaction", CI, move |guards| split(guards, 1, 1, 1)));
    all.push(of(("split-merge", "writes"), "2 writes, 1 compaction, whole flushes", CI, move |guards| SplitMerge {
        flushes_in_flight: false,
        ..split(guards, 2, 0, 1)
    }));
    all.push(of(("split-merge", "large"), "2 writes, 1 truncate, 1 compaction, 1 abort", BY_HAND, move |guards| SplitMerge {
        aborts: 1,
        ..split(guards, 2, 1, 1)
    }));
    all.push(of(("split-merge", "two-compactions"), "1 write, 1 truncate, 2 compactions, 2 aborts", BY_HAND, move |guards| SplitMerge {
        aborts: 2,
        ..split(guards, 1, 1, 2)
    }));
    let schema = |guards, alters, repartitions| Schema { guards, alters, repartitions };
    all.push(of(("schema", "alter"), "2 ALTERs, 3 repartitions", CI, move |guards| schema(guards, 2, 3)));
    all.push(of(("schema", "large"), "3 ALTERs, 4 repartitions", BY_HAND, move |guards| schema(guards, 3, 4)));
    all.push(of(("segments", "sweep"), "a remap's segment, 2 take-overs, sweeps", CI, |guards| Segments { guards }));
}

fn collections(all: &mut Vec<Scenario>) {
    let collect = |guards, repartitions, marks| Collect {
        guards,
        repartitions,
        marks,
        take_overs: 0,
        upload: false,
        scans: 0,
        pins: 0,
        restores: 0,
        restores_in_origin: false,
        set_since_plan: true,
        versions_max: 5,
    };
    all.push(of(("collect", "mark"), "2 repartitions, 1 mark", CI, move |guards| collect(guards, 2, 1)));
    all.push(of(("collect", "published-set"), "2 repartitions, 1 mark; new regions show once they are published", CI, move |guards| {
        Collect { set_since_plan: false, ..collect(guards, 2, 1) }
    }));
    all.push(of(("collect", "snapshot"), "1 repartition, 1 mark, 1 snapshot, 1 scan", CI, move |guards| Collect {
        scans: 1,
        pins: 1,
        ..collect(guards, 1, 1)
    }));
    all.push(of(("collect", "restore"), "1 repartition, 1 mark, 1 rollback", CI, move |guards| Collect {
        restores: 1,
        ..collect(guards, 1, 1)
    }));
    all.push(of(("collect", "restore-origin"), "no repartition, 1 mark, 1 rollback in the origin", CI, move |guards| Collect {
        restores: 1,
        restores_in_origin: true,
        ..collect(guards, 0, 1)
    }));
    all.push(of(("collect", "sweep"), "1 repartition, 1 mark, 2 take-overs, an upload", CI, move |guards| Collect {
        take_overs: 2,
        upload: true,
        ..collect(guards, 1, 1)
    }));
    all.push(of(("collect", "large"), "2 repartitions, 1 mark, 9 versions, 1 rollback, 1 snapshot", BY_HAND, move |guards| Collect {
        restores: 1,
        pins: 1,
        versions_max: 9,
        ..collect(guards, 2, 1)
    }));
    all.push(of(("collect", "three"), "3 repartitions, 2 marks", BY_HAND, move |guards| Collect {
        versions_max: 7,
        ..collect(guards, 3, 2)
    }));
    let dropped = |guards| Dropped { guards, drops: 2, undrops: 2, restores: 1 };
    all.push(of(("dropped", "undrop"), "2 drops, 2 undrops, 1 old backup", CI, dropped));
    all.push(of(("blocked", "statements"), "a repartition, ALTER, DROP, undrop", CI, |guards| Blocked { guards }));
}
