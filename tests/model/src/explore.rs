//! The explorer: breadth first, so that the trace to what went wrong is a shortest one.
//!
//! Invariants:
//! - A state is visited once; two states are the same if their fingerprints are.
//! - Labels of steps are only formatted for a trace, which is found by walking the parents and stepping again.
//! - Where a world asks for it, its goal must stay reachable from every state: whatever happened, somebody can finish.
//!   This is decided only if every state was visited.

use std::collections::VecDeque;
use std::fmt::{self, Arguments, Debug, Display};
use std::hash::Hash;

use crate::fingerprint::{self, Seen};

/// How often the caller hears of the states that were visited.
const PROGRESS_STATES: usize = 1 << 16;

/// A protocol, cut down to a size that can be explored.
pub trait World {
    /// Everything that matters of the moment.
    type State: Clone + Hash + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// Every step that some actor may take in `state`. The same state gives the same steps in the same order.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What is wrong in `state`, if anything is.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether `state` is where everybody wants to be. Asked only if [`has_goal`](Self::has_goal).
    fn is_goal(&self, _: &Self::State) -> bool {
        true
    }

    /// Whether a goal must stay reachable from every state.
    fn has_goal(&self) -> bool {
        false
    }
}

/// The steps out of a state.
#[derive(Debug)]
pub struct Steps<S> {
    next: Vec<S>,
    labels: Option<Vec<String>>,
}

impl<S: Clone> Steps<S> {
    fn new(labelled: bool) -> Self {
        Self { next: Vec::new(), labels: labelled.then(Vec::new) }
    }

    /// A step to `state`.
    pub fn to(&mut self, label: Arguments<'_>, state: S) {
        if let Some(labels) = &mut self.labels {
            labels.push(label.to_string());
        }
        self.next.push(state);
    }

    /// A step to what `change` makes of `from`.
    pub fn change(&mut self, label: Arguments<'_>, from: &S, change: impl FnOnce(&mut S)) {
        let mut state = from.clone();
        change(&mut state);
        self.to(label, state);
    }
}

/// How far to explore.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// No further states are visited once so many were seen.
    pub states_max: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Outcome {
    /// Different states that were seen.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// How it ended.
    pub end: End,
}

/// How an exploration ended.
#[derive(Debug)]
pub enum End {
    /// Every state was visited, and all is well.
    Exhausted,
    /// All is well in the states up to the cap.
    Capped,
    /// Something is wrong.
    Broken(Trace),
}

/// A shortest way to what is wrong.
#[derive(Debug)]
pub struct Trace {
    /// What is wrong.
    pub what: &'static str,
    /// The steps to it.
    pub steps: Vec<String>,
    /// The state that they lead to.
    pub last: String,
}

impl Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.what, self.steps.len())?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {:>2}. {step}", number + 1)?;
        }
        Ok(())
    }
}

impl Outcome {
    /// The trace, if something is wrong.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        match &self.end {
            End::Broken(trace) => Some(trace),
            End::Exhausted | End::Capped => None,
        }
    }
}

/// Explores `world`; `progress` hears now and then how many states were seen.
pub fn explore<W: World>(world: &W, limits: Limits, progress: &mut dyn FnMut(usize)) -> Outcome {
    let mut search = Search::new(world);
    let (states, end) = match search.run(limits, progress) {
        Some((what, id)) => (search.seen.len(), End::Broken(search.trace(what, id))),
        None if search.queue.is_empty() => match search.stuck() {
            Some(id) => (search.seen.len(), End::Broken(search.trace("stuck: nobody can finish from here", id))),
            None => (search.seen.len(), End::Exhausted),
        },
        None => (search.seen.len(), End::Capped),
    };
    Outcome { states, steps: search.steps, end }
}

/// An exploration in progress.
struct Search<'a, W: World> {
    world: &'a W,
    seen: Seen,
    /// Of each state but the first: where it was reached from, and by which step.
    parents: Vec<(u32, u16)>,
    queue: VecDeque<(u32, W::State)>,
    steps: usize,
    goals: Vec<bool>,
    /// Steps backward, `(to, from)`, if there is a goal.
    backward: Vec<(u32, u32)>,
}

impl<'a, W: World> Search<'a, W> {
    fn new(world: &'a W) -> Self {
        let (seen, parents, queue) = (Seen::new(), Vec::new(), VecDeque::new());
        let mut search = Self { world, seen, parents, queue, steps: 0, goals: Vec::new(), backward: Vec::new() };
        search.reach((0, 0), world.initial());
        search
    }

    fn run(&mut self, limits: Limits, progress: &mut dyn FnMut(usize)) -> Option<(&'static str, u32)> {
        let mut steps = Steps::new(false);
        let mut told = 0;
        while let Some((id, state)) = self.queue.pop_front() {
            if let Some(what) = self.world.broken(&state) {
                return Some((what, id));
            }
            if self.seen.len() >= limits.states_max {
                self.queue.push_front((id, state));
                return None;
            }
            if self.seen.len() >= told + PROGRESS_STATES {
                told = self.seen.len();
                progress(told);
            }
            self.world.steps(&state, &mut steps);
            self.steps += steps.next.len();
            for (index, next) in steps.next.drain(..).enumerate() {
                let index = u16::try_from(index).expect("a state has few steps");
                self.reach((id, index), next);
            }
        }
        None
    }

    fn reach(&mut self, by: (u32, u16), state: W::State) {
        let (id, new) = self.seen.insert(fingerprint::of(&state));
        if self.world.has_goal() && id != by.0 {
            self.backward.push((id, by.0));
        }
        if new {
            if self.world.has_goal() {
                self.goals.push(self.world.is_goal(&state));
            }
            self.parents.push(by);
            self.queue.push_back((id, state));
        }
    }

    /// A state from which no goal can be reached, if there is one.
    fn stuck(&mut self) -> Option<u32> {
        if !self.world.has_goal() {
            return None;
        }
        self.backward.sort_unstable();
        let mut reaches = self.goals.clone();
        let mut open: Vec<u32> = (0..reaches.len() as u32).filter(|id| reaches[*id as usize]).collect();
        while let Some(id) = open.pop() {
            let first = self.backward.partition_point(|(to, _)| *to < id);
            for (_, from) in self.backward[first..].iter().take_while(|(to, _)| *to == id) {
                if !std::mem::replace(&mut reaches[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        reaches.iter().position(|reaches| !reaches).map(|id| id as u32)
    }

    fn trace(&self, what: &'static str, id: u32) -> Trace {
        let mut path = Vec::new();
        let mut at = id;
        while at != 0 {
            let (parent, index) = self.parents[at as usize];
            path.push(usize::from(index));
            at = parent;
        }
        let mut state = self.world.initial();
        let mut labels = Vec::new();
        for index in path.into_iter().rev() {
            let mut steps = Steps::new(true);
            self.world.steps(&state, &mut steps);
            labels.extend(steps.labels.map(|mut labels| labels.swap_remove(index)));
            state = steps.next.swap_remove(index);
        }
        Trace { what, steps: labels, last: format!("{state:?}") }
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Limits, Steps, World, explore};

    /// A counter that adds 1 or doubles, up to 100, and gets stuck at 41 if `trap`.
    struct Counter {
        forbidden: u8,
        trap: bool,
    }

    impl World for Counter {
        type State = u8;

        fn initial(&self) -> u8 {
            1
        }

        fn steps(&self, state: &u8, steps: &mut Steps<u8>) {
            if self.trap && *state == 41 {
                return;
            }
            for (name, next) in [("add 1", *state + 1), ("double", *state * 2)] {
                if next <= 100 {
                    steps.to(format_args!("{name} to {next}"), next);
                }
            }
        }

        fn broken(&self, state: &u8) -> Option<&'static str> {
            (*state == self.forbidden).then_some("forbidden")
        }

        fn is_goal(&self, state: &u8) -> bool {
            *state == 100
        }

        fn has_goal(&self) -> bool {
            true
        }
    }

    fn run(forbidden: u8, trap: bool, states_max: usize) -> super::Outcome {
        explore(&Counter { forbidden, trap }, Limits { states_max }, &mut |_| ())
    }

    #[test]
    fn every_state_is_visited_once() {
        let outcome = run(0, false, 1000);
        assert!(matches!(outcome.end, End::Exhausted));
        assert_eq!((outcome.states, outcome.steps), (100, 99 + 50));
    }

    #[test]
    fn the_trace_is_a_shortest_one_and_readable() {
        let outcome = run(12, false, 1000);
        let text = outcome.trace().unwrap().to_string();
        assert_eq!(text, "forbidden, after 4 steps:\n   1. add 1 to 2\n   2. add 1 to 3\n   3. double to 6\n   4. double to 12\n");
    }

    #[test]
    fn a_cap_is_no_answer() {
        assert!(matches!(run(99, false, 20).end, End::Capped));
    }

    #[test]
    fn a_state_from_which_nobody_can_finish_is_found() {
        let outcome = run(0, true, 1000);
        let trace = outcome.trace().unwrap();
        assert_eq!((trace.what, trace.last.as_str()), ("stuck: nobody can finish from here", "41"));
    }
}
