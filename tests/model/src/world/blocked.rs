//! A repartition that is blocked, and the statements that want its table. DESIGN sections 8 to 10.
//!
//! After its decision a repartition only goes forward; when it cannot, it is blocked and keeps the lock of the table. An
//! operator may take the cause away and say retry; the cause may also be there for good. `DROP TABLE` takes the place of the
//! blocked one: one transaction ends it and begins the drop, which gets its lock. The drop then decides what was not decided,
//! has the region follow if it can, and leaves it staged if not. An undrop goes on with a repartition that was left so. An
//! `ALTER` waits for the lock, or comes when it is free. A step is one action here, whose result the runner stores; it may
//! learn late that the block was stored, and repeats the step until then.
//!
//! - Invariants: one statement at a time works on the table; none but a drop begins while a region is staged.
//! - Goal: nothing is under way, and a table that is there has no region that is staged.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Running,
    Blocked,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Dropping {
    No,
    /// It has the lock.
    Begun,
    Marked,
    Left,
    Done,
}

/// One table with one region.
#[derive(Debug, Clone, Hash)]
pub struct State {
    repartition: Phase,
    /// The drop ended it.
    superseded: bool,
    /// A step of it is under way, or is repeated.
    in_step: bool,
    /// What keeps it from going forward is there.
    cause: bool,
    /// Nobody can take it away.
    for_good: bool,
    decided: bool,
    aborted: bool,
    staged: bool,
    altering: bool,
    dropping: Dropping,
    in_catalog: bool,
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug)]
pub struct Blocked {
    /// Which rules hold.
    pub guards: Guards,
}

impl State {
    /// How many hold the lock of the table.
    fn holders(&self) -> usize {
        let drops = matches!(self.dropping, Dropping::Begun | Dropping::Marked | Dropping::Left);
        usize::from(self.repartition != Phase::Over) + usize::from(self.altering) + usize::from(drops)
    }

    fn resolve(&mut self) {
        (self.staged, self.repartition) = (false, Phase::Over);
    }
}

impl Blocked {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    fn repartition_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.repartition == Phase::Running && !state.in_step {
            steps.change(format_args!("the runner begins a step of the repartition"), state, |next| next.in_step = true);
        }
        if state.in_step {
            self.step_ends(state, steps);
        }
        if state.cause && !state.for_good {
            steps.change(format_args!("an operator takes the cause away"), state, |next| next.cause = false);
            steps.change(format_args!("the cause is found to be there for good"), state, |next| next.for_good = true);
        }
        let again = state.superseded && state.repartition == Phase::Over && state.staged && !self.holds(Guard::SupersededIsOver);
        if state.repartition == Phase::Blocked || again {
            steps.change(format_args!("somebody says retry"), state, |next| next.repartition = Phase::Running);
        }
    }

    fn step_ends(&self, state: &State, steps: &mut Steps<State>) {
        let beside = !matches!(state.dropping, Dropping::No | Dropping::Done) || state.altering;
        if beside {
            steps.change(format_args!("a step of the repartition acts"), state, |next| {
                next.broken = Some("a step of a repartition runs beside another statement");
            });
        } else if state.repartition == Phase::Blocked {
            steps.change(format_args!("the runner learns that the block is stored"), state, |next| next.in_step = false);
        } else if !state.decided {
            steps.change(format_args!("the repartition is decided: commit"), state, |next| (next.in_step, next.decided) = (false, true));
        } else if state.cause {
            steps.change(format_args!("the step fails for good: the repartition is blocked"), state, |next| {
                (next.in_step, next.repartition) = (false, Phase::Blocked);
            });
            steps.change(format_args!("the block is stored, and its answer lost: the step is repeated"), state, |next| {
                next.repartition = Phase::Blocked;
            });
        } else {
            steps.change(format_args!("the region is resolved, and the repartition over"), state, |next| {
                next.in_step = false;
                next.resolve();
            });
        }
        if !state.decided && state.cause {
            steps.change(format_args!("the decision cannot be read: the repartition is blocked"), state, |next| {
                (next.in_step, next.repartition) = (false, Phase::Blocked);
            });
        }
    }

    fn alter_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.altering {
            steps.change(format_args!("the alteration is done"), state, |next| next.altering = false);
        } else if state.holders() == 0 && state.in_catalog {
            steps.change(format_args!("ALTER TABLE gets the lock"), state, |next| {
                next.altering = true;
                if state.staged {
                    next.broken = Some("an alteration begins in the middle of a repartition");
                }
            });
        }
    }

    fn drop_steps(&self, state: &State, steps: &mut Steps<State>) {
        match state.dropping {
            Dropping::No if state.holders() == 0 && state.in_catalog => {
                steps.change(format_args!("DROP TABLE gets the lock"), state, |next| next.dropping = Dropping::Begun);
            }
            Dropping::No => self.take_over(state, steps),
            Dropping::Begun => steps.change(format_args!("the drop marker is created"), state, |next| next.dropping = Dropping::Marked),
            Dropping::Marked => steps.change(format_args!("the table leaves the catalog"), state, |next| {
                (next.dropping, next.in_catalog) = (Dropping::Left, false);
            }),
            Dropping::Left => steps.change(format_args!("the drop ends what the repartition left, if it can"), state, |next| {
                next.dropping = Dropping::Done;
                if state.staged && !state.decided {
                    (next.decided, next.aborted) = (true, true);
                }
                if state.staged && (next.aborted || !state.cause) {
                    next.staged = false;
                }
            }),
            Dropping::Done => steps.change(format_args!("the table is undropped"), state, |next| {
                (next.dropping, next.in_catalog, next.superseded) = (Dropping::No, true, false);
                if state.staged && self.holds(Guard::UndropGoesOn) {
                    next.repartition = Phase::Running;
                }
            }),
        }
    }

    fn take_over(&self, state: &State, steps: &mut Steps<State>) {
        let blocked = state.repartition == Phase::Blocked || state.repartition == Phase::Running && !self.holds(Guard::OnlyBlockedGivesWay);
        // Who ends one that goes on by itself cannot know when its last step was.
        let still = !state.in_step || state.repartition == Phase::Running || !self.holds(Guard::TakeOverAfterLastStep);
        if !blocked || !still || !self.holds(Guard::BlockedGivesWay) {
            return;
        }
        if self.holds(Guard::LockHandedOver) {
            steps.change(format_args!("DROP TABLE takes the place of the repartition"), state, |next| {
                (next.repartition, next.superseded, next.dropping) = (Phase::Over, true, Dropping::Begun);
            });
        } else {
            steps.change(format_args!("DROP TABLE ends the repartition, and will ask for the lock"), state, |next| {
                (next.repartition, next.superseded) = (Phase::Over, true);
            });
        }
    }
}

impl World for Blocked {
    type State = State;

    fn initial(&self) -> State {
        State {
            repartition: Phase::Running,
            superseded: false,
            in_step: false,
            cause: true,
            for_good: false,
            decided: false,
            aborted: false,
            staged: true,
            altering: false,
            dropping: Dropping::No,
            in_catalog: true,
            broken: None,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.repartition_steps(state, steps);
        self.alter_steps(state, steps);
        self.drop_steps(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken.or_else(|| (state.holders() > 1).then_some("two statements hold the lock of a table"))
    }

    fn has_goal(&self) -> bool {
        true
    }

    fn is_goal(&self, state: &State) -> bool {
        state.holders() == 0 && !(state.in_catalog && state.staged)
    }
}
