//! Schema changes against repartitions. DESIGN sections 4, 6 and 8.
//!
//! Region A is split by column `d` into A and C, rows may be deleted by a TRUNCATE of C, and both are merged back; two
//! ALTER statements add a column and drop `d`. Statements make their plan first and wait for the lock of the table then.
//! A `Change` is sent to each region and may come late, a second time too. An ALTER may be cancelled until it has sent one.
//!
//! - A region's schema is its version and whether `d` is in it; a reference's scope and a rule either name `d` or do not.
//! - Invariants: no rule and no scope names a column that is gone; a schema never goes back; when a repartition has been
//!   resolved, its targets have one schema.
//! - The code is stricter than the design: a `Change` states the whole metadata, and is refused if its generation or
//!   schema version is below the region's. The rule of a region counts like a scope here; the code leaves that to the
//!   catalog.
//! - Not here: reconciliation, which evens out what somebody else left behind.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const NAMES: [&str; 2] = ["A", "C"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    AddColumn,
    DropColumn,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Region {
    exists: bool,
    generation: u8,
    staged: bool,
    schema: u8,
    has_d: bool,
    rule_names_d: bool,
    /// Whether it lists the file that both halves came from.
    lists: bool,
    scope_names_d: bool,
}

/// A `Change` on its way: what it states of one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Change {
    to: usize,
    schema: u8,
    has_d: bool,
    generation: u8,
    rule_names_d: bool,
}

/// Who has the lock of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    Alter,
    Repartition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Alter {
    kind: Kind,
    locked: bool,
    sent: bool,
}

/// A repartition: the schema version that its plan read, and what was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Repartition {
    schema: u8,
    has_d: bool,
    locked: bool,
    decided: bool,
    aborted: bool,
}

/// One table.
#[derive(Debug, Clone, Hash)]
pub struct State {
    regions: [Region; 2],
    schema: u8,
    has_d: bool,
    generation: u8,
    lock: Holder,
    alter: Option<Alter>,
    alters: u8,
    network: Vec<Change>,
    repartition: Option<Repartition>,
    repartitions: u8,
    split: bool,
    truncated: bool,
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug)]
pub struct Schema {
    /// Which rules hold.
    pub guards: Guards,
    /// ALTER statements.
    pub alters: u8,
    /// Repartitions, those that are aborted included.
    pub repartitions: u8,
}

impl Schema {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    fn free(&self, state: &State, for_: Holder) -> bool {
        state.lock == Holder::Nobody || state.lock == for_ || !self.holds(Guard::TableLock)
    }

    fn alter_steps(&self, state: &State, steps: &mut Steps<State>) {
        let Some(alter) = state.alter else {
            for kind in [Kind::AddColumn, Kind::DropColumn] {
                if state.alters < self.alters && (kind == Kind::AddColumn || state.has_d) {
                    steps.change(format_args!("ALTER TABLE is submitted: {kind:?}"), state, |next| {
                        next.alters += 1;
                        next.alter = Some(Alter { kind, locked: false, sent: false });
                    });
                }
            }
            return;
        };
        if !alter.locked {
            if self.free(state, Holder::Alter) {
                steps.change(format_args!("ALTER gets the lock"), state, |next| {
                    (next.lock, next.alter) = (Holder::Alter, Some(Alter { locked: true, ..alter }));
                });
            }
            return;
        }
        let schema = state.schema + 1;
        let has_d = state.has_d && alter.kind == Kind::AddColumn;
        for (to, region) in state.regions.iter().enumerate().filter(|(_, region)| region.exists && region.schema < schema) {
            let Region { generation, rule_names_d, .. } = *region;
            let change = Change { to, schema, has_d, generation, rule_names_d };
            if !state.network.contains(&change) {
                steps.change(format_args!("ALTER sends its Change to {}", NAMES[to]), state, |next| {
                    next.network.push(change);
                    next.network.sort_unstable();
                    next.alter = Some(Alter { sent: true, ..alter });
                });
            }
        }
        let everywhere = state.regions.iter().all(|region| !region.exists || region.schema >= schema);
        let mut end = |label: &str, to: (u8, bool)| {
            steps.change(format_args!("{label}"), state, |next| {
                (next.schema, next.has_d, next.alter) = (to.0, to.1, None);
                next.lock = if state.lock == Holder::Alter { Holder::Nobody } else { state.lock };
            });
        };
        if everywhere {
            end("ALTER is done", (schema, has_d));
        }
        if !alter.sent || !self.holds(Guard::AlterGoesForward) {
            end("ALTER is cancelled", (state.schema, state.has_d));
        }
    }

    /// A `Change` arrives; it stays on the network, to come again.
    fn change_steps(&self, state: &State, steps: &mut Steps<State>) {
        for change in &state.network {
            let region = state.regions[change.to];
            let forward = change.schema >= region.schema || !self.holds(Guard::ChangeGoesForward);
            let current = change.generation >= region.generation || !self.holds(Guard::ChangeNamesGeneration);
            let unstaged = !region.staged || !self.holds(Guard::NoChangeWhileStaged);
            let named = region.rule_names_d || (region.lists && region.scope_names_d);
            let spares = change.has_d || !named || !self.holds(Guard::ScopeColumnKept);
            let same_rule = change.rule_names_d == region.rule_names_d;
            let same = change.schema == region.schema && change.has_d == region.has_d && same_rule;
            if !region.exists || same || !(forward && current && unstaged && spares) {
                continue;
            }
            steps.change(format_args!("the Change to schema {} arrives at {}", change.schema, NAMES[change.to]), state, |next| {
                let Change { to, schema, has_d, rule_names_d, .. } = *change;
                next.regions[to] = Region { schema, has_d, rule_names_d, ..region };
                if schema < region.schema {
                    next.broken = Some("a schema went back");
                } else if !same_rule {
                    next.broken = Some("a rule changed without a repartition");
                }
            });
        }
    }

    fn plan(&self, state: &State, steps: &mut Steps<State>) {
        if state.repartition.is_none() && state.repartitions < self.repartitions && (state.split || state.has_d) {
            let what = if state.split { "merge" } else { "split by d" };
            steps.change(format_args!("a {what} is planned at schema {}", state.schema), state, |next| {
                next.repartitions += 1;
                let (schema, has_d) = (state.schema, state.has_d);
                next.repartition = Some(Repartition { schema, has_d, locked: false, decided: false, aborted: false });
            });
        }
    }

    fn repartition_steps(&self, state: &State, repartition: Repartition, steps: &mut Steps<State>) {
        if !repartition.locked {
            if self.free(state, Holder::Repartition) {
                steps.change(format_args!("the repartition gets the lock"), state, |next| {
                    (next.lock, next.generation) = (Holder::Repartition, state.generation + 2);
                    next.repartition = Some(Repartition { locked: true, ..repartition });
                    if !state.split {
                        let Repartition { schema, has_d, .. } = repartition;
                        next.regions[1] = Region { exists: true, staged: true, schema, has_d, ..Region::default() };
                    }
                });
            }
            return;
        }
        let staged = state.regions.iter().filter(|region| region.staged).count();
        let open = !repartition.decided && !repartition.aborted;
        for at in (0..2).filter(|at| open && !state.regions[*at].staged) {
            if state.regions[at].schema == repartition.schema || !self.holds(Guard::StageNamesSchema) {
                steps.change(format_args!("Stage of {} at schema {}", NAMES[at], repartition.schema), state, |next| {
                    next.regions[at].staged = true;
                });
            }
        }
        if open && staged == 2 {
            steps.change(format_args!("commit is decided"), state, |next| {
                next.repartition = Some(Repartition { decided: true, ..repartition });
            });
        }
        if open {
            steps.change(format_args!("abort is decided; every region resolves"), state, |next| {
                next.repartition = Some(Repartition { aborted: true, ..repartition });
                for (at, region) in next.regions.iter_mut().enumerate() {
                    (region.staged, region.generation) = (false, state.generation);
                    if at == 1 && !state.split {
                        *region = Region::default();
                    }
                }
            });
        }
        if repartition.decided && staged == 2 {
            self.resolve(state, steps);
        }
        if repartition.aborted || (repartition.decided && staged == 0) {
            steps.change(format_args!("the repartition is done"), state, |next| {
                next.repartition = None;
                next.lock = if state.lock == Holder::Repartition { Holder::Nobody } else { state.lock };
            });
        }
    }

    /// Remap, publish and Resolve at once: the file's scope in each target is the sources' scopes, each with its rule.
    fn resolve(&self, state: &State, steps: &mut Steps<State>) {
        steps.change(format_args!("remap; every region resolves"), state, |next| {
            let [a, c] = state.regions;
            next.split = !state.split;
            next.truncated = false;
            if state.split {
                // The two halves together are everything; one of them alone is a scope that names d.
                let scope_names_d = !(a.lists && c.lists) || a.scope_names_d || c.scope_names_d;
                next.regions[0] = Region { rule_names_d: false, lists: a.lists || c.lists, scope_names_d, ..a };
                next.regions[1] = Region::default();
            } else {
                next.regions[0].rule_names_d = true;
                next.regions[1] = Region { rule_names_d: true, lists: a.lists, scope_names_d: a.scope_names_d, ..c };
            }
            let generation = state.generation - 1;
            for region in &mut next.regions {
                region.staged = false;
                region.generation = if region.exists { generation } else { 0 };
            }
            if !state.split && (a.schema, a.has_d) != (c.schema, c.has_d) {
                next.broken = Some("the targets of a repartition have different schemas");
            }
        });
    }
}

impl World for Schema {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            regions: [Region::default(); 2],
            schema: 1,
            has_d: true,
            generation: 0,
            lock: Holder::Nobody,
            alter: None,
            alters: 0,
            network: Vec::new(),
            repartition: None,
            repartitions: 0,
            split: false,
            truncated: false,
            broken: None,
        };
        state.regions[0] = Region { exists: true, schema: 1, has_d: true, lists: true, ..Region::default() };
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.alter_steps(state, steps);
        self.change_steps(state, steps);
        match state.repartition {
            None => self.plan(state, steps),
            Some(repartition) => self.repartition_steps(state, repartition, steps),
        }
        if state.split && !state.truncated && !state.regions[1].staged {
            steps.change(format_args!("C is truncated"), state, |next| {
                (next.truncated, next.regions[1].lists) = (true, false);
            });
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let names_gone =
            |region: &Region| region.exists && !region.has_d && (region.rule_names_d || (region.lists && region.scope_names_d));
        let gone = state.regions.iter().any(names_gone);
        state.broken.or(gone.then_some("a rule or a scope names a column that is gone"))
    }
}
