//! Which rules of one set share rows with which rules of another: the overlap graph of a repartition.
//!
//! Invariants:
//! - The answer is exact for the schema's types and nullability, or it is [`TooComplex`].
//! - Space is divided as by [`super::solve`]; a part is left once every pair that can meet in it is known to meet, so
//!   that the work follows the number of pairs and not that of boxes.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::cells::{CellBox, Run, clip};
use super::solve::{TooComplex, Work, cut};
use super::space::{Node, Space};
use super::{CheckError, Expr};
use crate::schema::Schema;

/// Why two sets of rules cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeetError {
    /// A rule is not one of this table.
    #[error("rule {index} of the {set} rules: {source}")]
    Rule {
        /// `old` or `new`.
        set: &'static str,
        /// Which rule, from 0.
        index: usize,
        /// What is wrong.
        source: CheckError,
    },
    /// It would take too much work to tell.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
}

/// The pairs (index into `old`, index into `new`) of rules that some row satisfies both of, in order.
///
/// # Errors
/// A rule that is none of this schema, or [`TooComplex`].
pub fn meeting(old: &[Expr], new: &[Expr], schema: &Schema) -> Result<BTreeSet<(usize, usize)>, MeetError> {
    for (set, rules) in [("old", old), ("new", new)] {
        for (index, rule) in rules.iter().enumerate() {
            rule.check(schema).map_err(|source| MeetError::Rule { set, index, source })?;
        }
    }
    let all: Vec<Expr> = old.iter().chain(new).cloned().collect();
    let mut space = Space::typed(&all, schema);
    let mut work = Work::new();
    let nodes = all.iter().map(|rule| space.compile(rule, false, &mut work)).collect::<Result<Vec<_>, _>>()?;
    let nodes = space.reduce(&nodes, &mut work)?;
    let mut search = Search { space: &space, work, pairs: BTreeSet::new() };
    let (old, new) = nodes.split_at(old.len());
    let side = |nodes: &[Rc<Node>]| Side { holds: Vec::new(), candidates: nodes.iter().cloned().enumerate().collect() };
    search.divide([side(old), side(new)])?;
    Ok(search.pairs)
}

/// One set's rules in a part of space.
#[derive(Debug, Clone)]
struct Side {
    /// The rules that hold in all of the part.
    holds: Vec<usize>,
    /// The rules that may hold in some of it, and what is left of them.
    candidates: Vec<(usize, Rc<Node>)>,
}

impl Side {
    fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.candidates.is_empty()
    }

    fn rules(&self) -> impl Iterator<Item = usize> + Clone {
        self.holds.iter().copied().chain(self.candidates.iter().map(|(index, _)| *index))
    }
}

struct Search<'s> {
    space: &'s Space,
    work: Work,
    pairs: BTreeSet<(usize, usize)>,
}

impl Search<'_> {
    fn divide(&mut self, sides: [Side; 2]) -> Result<(), TooComplex> {
        let mut todo: Vec<(CellBox, [Side; 2])> = vec![(self.space.whole(), sides)];
        while let Some((within, [old, new])) = todo.pop() {
            self.work.spend(within.len() + old.candidates.len() + new.candidates.len())?;
            let old = self.restrict(&within, old)?;
            let new = self.restrict(&within, new)?;
            if old.is_empty() || new.is_empty() {
                continue;
            }
            for first in &old.holds {
                self.pairs.extend(new.holds.iter().map(|second| (*first, *second)));
            }
            if self.is_known(&old, &new)? {
                continue;
            }
            if let Some(axis) = common_axis(&old, &new) {
                self.sweep(within[axis], &old, &new)?;
                continue;
            }
            let nodes: Vec<&Rc<Node>> = old.candidates.iter().chain(&new.candidates).map(|(_, node)| node).collect();
            if let Some((low, high)) = cut(&nodes, &within, &mut self.work)? {
                todo.push((high, [old.clone(), new.clone()]));
                todo.push((low, [old, new]));
            }
        }
        Ok(())
    }

    /// Leaves to a part only the rules that it does not decide.
    fn restrict(&mut self, within: &[Run], side: Side) -> Result<Side, TooComplex> {
        let Side { mut holds, candidates } = side;
        let mut undecided = Vec::with_capacity(candidates.len());
        for (index, node) in candidates {
            let node = self.space.restrict(&node, within, &mut self.work)?;
            match &*node {
                Node::Const(false) => {}
                Node::Const(true) => holds.push(index),
                _ => undecided.push((index, node)),
            }
        }
        Ok(Side { holds, candidates: undecided })
    }

    /// Whether every pair of the part is known to meet.
    fn is_known(&mut self, old: &Side, new: &Side) -> Result<bool, TooComplex> {
        for first in old.rules() {
            for second in new.rules() {
                self.work.spend(1)?;
                if !self.pairs.contains(&(first, second)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Decides a part in which all rules are sets of cells of one axis.
    fn sweep(&mut self, whole: Run, old: &Side, new: &Side) -> Result<(), TooComplex> {
        let (old, new) = (runs(whole, old), runs(whole, new));
        self.work.spend(old.len() + new.len())?;
        // Rules of one set do not overlap, as a rule; where they do, each still meets what it meets.
        let mut from = 0;
        for (run, first) in &old {
            while new.get(from).is_some_and(|(other, _)| other.1 <= run.0) {
                from += 1;
            }
            for (other, second) in &new[from..] {
                if other.0 >= run.1 {
                    break;
                }
                self.work.spend(1)?;
                if clip(*run, *other).is_some() {
                    self.pairs.insert((*first, *second));
                }
            }
        }
        Ok(())
    }
}

/// The runs of all rules of a side, in order of their start.
fn runs(whole: Run, side: &Side) -> Vec<(Run, usize)> {
    let mut runs: Vec<(Run, usize)> = side.holds.iter().map(|index| (whole, *index)).collect();
    for (index, node) in &side.candidates {
        if let Node::Leaf { cells, .. } = &**node {
            runs.extend(cells.meeting(whole).iter().filter_map(|run| Some((clip(*run, whole)?, *index))));
        }
    }
    runs.sort_unstable();
    runs
}

/// The axis of all candidates, if all are leaves of one.
fn common_axis(old: &Side, new: &Side) -> Option<usize> {
    let axis = |(_, node): &(usize, Rc<Node>)| if let Node::Leaf { axis, .. } = &**node { Some(*axis) } else { None };
    let mut axes = old.candidates.iter().chain(&new.candidates).map(axis);
    let first = axes.next()??;
    axes.all(|axis| axis == Some(first)).then_some(first)
}
