//! Split, then delete, truncate or compact, then merge back; each may be aborted. DESIGN sections 4 to 8.
//!
//! Region A holds the keys k0 and k1; a split gives k0 to a new region C, a merge gives it back, and both take references
//! to files with scopes, never rows. Writes, flushes in flight, truncates and compactions come in between. The order of
//! decision, publish and resolve is a world of its own; here the steps of a repartition are whole, but for `Stage` and
//! `Resolve`, which each region takes by itself.
//!
//! - A file holds at most one version of each key, as a number: twice the sequence, plus 1 for a put (0: none). Scopes and
//!   rules are sets of keys. The truth is what a reader should see of each key.
//! - Invariant, whenever nothing is staged: for each key, the newest version in the region whose rule has it is the
//!   truth's. So nothing deleted or truncated comes back, nothing acknowledged is lost, no older version wins.

mod repartition;

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};
use repartition::{Phase, Repartition};

const FILES: usize = 9;
const KEYS: usize = 2;
const NAMES: [&str; 2] = ["A", "C"];

/// The scope of each file in a list of references; 0: not listed.
type References = [u8; FILES];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flush {
    file: usize,
    generation: u8,
    truncates: u8,
}

/// A compaction in flight: what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Compaction {
    generation: u8,
    rule: u8,
    inputs: u16,
    references: References,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Region {
    exists: bool,
    generation: u8,
    rule: u8,
    staged: bool,
    references: References,
    /// Files that were visible here at any time.
    listed: u16,
    staged_files: u16,
    remap: Option<References>,
    /// Each row in the memtable is a file to be.
    memtable: u16,
    flush: Option<Flush>,
    compaction: Option<Compaction>,
    counter: u8,
    truncates: u8,
}

impl Region {
    fn has(&self, key: usize) -> bool {
        self.rule & (1 << key) != 0
    }

    fn list(&mut self, file: usize) {
        self.references[file] = 3;
        self.listed |= 1 << file;
    }
}

/// The regions A and C, their files, and what a reader should see.
#[derive(Debug, Clone, Hash)]
pub struct State {
    regions: [Region; 2],
    files: [[u8; KEYS]; FILES],
    file_count: usize,
    truth: [u8; KEYS],
    repartition: Repartition,
    writes: u8,
    truncates: u8,
    compactions: u8,
    refused_remap: bool,
}

/// The world and its size.
#[derive(Debug)]
pub struct SplitMerge {
    /// Which rules hold.
    pub guards: Guards,
    /// Puts and deletes.
    pub writes: u8,
    /// TRUNCATE statements.
    pub truncates: u8,
    /// Compactions.
    pub compactions: u8,
    /// Repartitions that may be aborted.
    pub aborts: u8,
    /// Whether a flush takes two steps.
    pub flushes_in_flight: bool,
}

/// The newest version of `key` in these references and files.
fn newest(files: &[[u8; KEYS]; FILES], references: &References, memtable: u16, rule: u8, key: usize) -> u8 {
    let bit = 1 << key;
    if rule & bit == 0 {
        return 0;
    }
    let listed = |file: &usize| references[*file] & bit != 0 || memtable & (1 << file) != 0;
    (0..FILES).filter(listed).map(|file| files[file][key]).max().unwrap_or(0)
}

impl SplitMerge {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// The keys that may be written to a region now: by its rule, or by its rule to be, while staged.
    fn writable(&self, state: &State, at: usize) -> u8 {
        if state.regions[at].staged { state.repartition.staged_rule(at) } else { state.regions[at].rule }
    }

    fn write_steps(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        if state.writes >= self.writes || state.file_count >= FILES {
            return;
        }
        let (region, writable) = (state.regions[at], self.writable(state, at));
        for key in (0..KEYS).filter(|key| writable & (1 << key) != 0) {
            for put in [false, true] {
                let generation = if region.staged { state.repartition.commit } else { region.generation };
                let prefix = if self.holds(Guard::SequenceHasGeneration) { generation * 8 } else { 0 };
                let version = (prefix + region.counter) * 2 + u8::from(put);
                let what = if put { "put" } else { "delete" };
                let place = if region.staged { "staged" } else { "visible" };
                steps.change(format_args!("{} takes a {what} of k{key}, sequence {}, {place}", NAMES[at], version / 2), state, |next| {
                    let file = state.file_count;
                    next.writes += 1;
                    next.file_count += 1;
                    next.files[file][key] = version;
                    next.truth[key] = if put { version } else { 0 };
                    next.regions[at].counter += 1;
                    *(if region.staged { &mut next.regions[at].staged_files } else { &mut next.regions[at].memtable }) |= 1 << file;
                });
            }
        }
    }

    fn flush_steps(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let (region, name) = (state.regions[at], NAMES[at]);
        let Some(flush) = region.flush else {
            let Some(file) = (0..FILES).find(|file| region.memtable & (1 << file) != 0) else { return };
            steps.change(format_args!("{name} begins to flush file {file}"), state, |next| {
                let region = &mut next.regions[at];
                if self.flushes_in_flight {
                    region.flush = Some(Flush { file, generation: region.generation, truncates: region.truncates });
                } else {
                    region.memtable &= !(1 << file);
                    region.list(file);
                }
            });
            return;
        };
        // A truncate moves the flushed position, so that the Edit of a flush that began before does not advance it.
        let advances = flush.truncates == region.truncates || !self.holds(Guard::FlushAdvances);
        let current = flush.generation == region.generation;
        let takes = advances && current;
        steps.change(format_args!("{name}'s flush Edit is {}", if takes { "committed" } else { "refused" }), state, |next| {
            let region = &mut next.regions[at];
            region.flush = None;
            if takes || (!current && !self.holds(Guard::FlushRedoneAfterResolve)) {
                region.memtable &= !(1 << flush.file);
            }
            if takes {
                region.list(flush.file);
            }
        });
    }

    fn truncate(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let region = state.regions[at];
        if state.truncates >= self.truncates || (region.staged && self.holds(Guard::FrozenWhileStaged)) {
            return;
        }
        steps.change(format_args!("{} is truncated", NAMES[at]), state, |next| {
            next.truncates += 1;
            let truncated = &mut next.regions[at];
            (truncated.references, truncated.memtable) = ([0; FILES], 0);
            truncated.truncates += 1;
            // What is staged is newer than the truncate.
            let staged = |key: usize| {
                let written =
                    |region: &Region| (0..FILES).any(|file| region.staged_files & (1 << file) != 0 && state.files[file][key] != 0);
                state.regions.iter().any(written)
            };
            for key in (0..KEYS).filter(|key| region.has(*key) && !staged(*key)) {
                next.truth[key] = 0;
            }
        });
    }

    fn compaction_starts(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let region = state.regions[at];
        if region.compaction.is_some() || state.compactions >= self.compactions || state.file_count >= FILES {
            return;
        }
        let all = (0..FILES).filter(|file| region.references[*file] != 0).fold(0_u16, |all, file| all | 1 << file);
        let mut choices = vec![all];
        if all.count_ones() > 1 {
            let single = (0..FILES).map(|file| 1 << file).filter(|one| all & one != 0);
            choices.extend(single.flat_map(|one| if all.count_ones() > 2 { vec![one, all & !one] } else { vec![one] }));
        }
        for inputs in choices.into_iter().filter(|inputs| *inputs != 0) {
            steps.change(format_args!("{} begins to compact {inputs:#b}", NAMES[at]), state, |next| {
                next.compactions += 1;
                let Region { generation, rule, references, .. } = region;
                next.regions[at].compaction = Some(Compaction { generation, rule, inputs, references });
            });
        }
    }

    /// DESIGN 5: tombstones are dropped only where no other reference can hold the key.
    fn compacted(&self, state: &State, compaction: &Compaction) -> [u8; KEYS] {
        let input = |file: usize| compaction.inputs & (1 << file) != 0;
        let references: References = std::array::from_fn(|file| if input(file) { compaction.references[file] } else { 0 });
        std::array::from_fn(|key| {
            let version = newest(&state.files, &references, 0, compaction.rule, key);
            let may_hold = |file: usize| !input(file) && compaction.references[file] & (1 << key) != 0 && state.files[file][key] != 0;
            let is_needed = (0..FILES).any(may_hold) && self.holds(Guard::TombstonesKept);
            if version & 1 == 0 && !is_needed { 0 } else { version }
        })
    }

    fn compaction_commits(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let region = state.regions[at];
        let Some(compaction) = region.compaction else { return };
        let inputs = || (0..FILES).filter(|file| compaction.inputs & (1 << file) != 0);
        let listed = inputs().all(|file| region.references[file] != 0);
        let current = compaction.generation == region.generation || !self.holds(Guard::EditNamesGeneration);
        let frozen = region.staged && self.holds(Guard::FrozenWhileStaged);
        let takes = listed && current && !frozen && state.file_count < FILES;
        steps.change(format_args!("{}'s compaction is {}", NAMES[at], if takes { "committed" } else { "refused" }), state, |next| {
            next.regions[at].compaction = None;
            if takes {
                let file = state.file_count;
                next.file_count += 1;
                next.files[file] = self.compacted(state, &compaction);
                for input in inputs() {
                    next.regions[at].references[input] = 0;
                }
                next.regions[at].list(file);
            }
        });
    }
}

impl World for SplitMerge {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            regions: [Region::default(); 2],
            files: [[0; KEYS]; FILES],
            file_count: 1,
            truth: [3, 5],
            repartition: Repartition::default(),
            writes: 0,
            truncates: 0,
            compactions: 0,
            refused_remap: false,
        };
        state.files[0] = state.truth;
        state.regions[0] = Region { exists: true, rule: 3, counter: 3, ..Region::default() };
        state.regions[0].list(0);
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for at in (0..2).filter(|at| state.regions[*at].exists) {
            self.write_steps(state, at, steps);
            self.flush_steps(state, at, steps);
            self.truncate(state, at, steps);
            self.compaction_starts(state, at, steps);
            self.compaction_commits(state, at, steps);
        }
        self.repartition_steps(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        if state.refused_remap {
            return Some("a remap is refused after the decision");
        }
        if state.repartition.phase != Phase::Quiet {
            return None;
        }
        for key in 0..KEYS {
            let of = |region: &Region| newest(&state.files, &region.references, region.memtable, region.rule, key);
            let version = state.regions.iter().filter(|region| region.exists).map(of).max().unwrap_or(0);
            let seen = if version & 1 == 1 { version } else { 0 };
            if seen != state.truth[key] {
                return Some(match (state.truth[key], seen) {
                    (0, _) => "a deleted or truncated row came back",
                    (_, 0) => "an acknowledged row is lost",
                    _ => "an older version won",
                });
            }
        }
        None
    }
}
