//! Questions about rules, answered exactly within a bounded amount of work.
//!
//! A question becomes one of satisfiability over the cells of [`super::space`]: `a` implies `b` if `a AND NOT
//! b` cannot be satisfied. The space is cut in two, again and again, and each half sees only what it leaves
//! undecided. A rule over one column is a set of cells and needs no cut.
//!
//! Invariants:
//! - An answer is exact, or it is [`TooComplex`].
//! - No recursion follows the cuts, and the work bounds the memory too.

use std::rc::Rc;

use super::Expr;
use super::cells::{CellBox, Run, clip};
use super::space::{Node, Space};
use crate::limits;

/// A question about rules that takes more than the allowed work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rules are too complex to be compared exactly; use fewer columns, fewer literals or less nesting")]
pub struct TooComplex;

/// What work is left.
#[derive(Debug)]
pub(super) struct Work(u64);

impl Work {
    pub(super) const fn new() -> Self {
        Self(limits::RULE_WORK_MAX)
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(steps as u64).ok_or(TooComplex)?;
        Ok(())
    }
}

/// Whether no row satisfies both.
///
/// Columns are taken as nullable and of the widest type of their literals, so an answer holds for any column
/// that the rules can be about, and still after one is widened.
///
/// # Errors
/// [`TooComplex`].
pub fn disjoint(a: &Expr, b: &Expr) -> Result<bool, TooComplex> {
    unsatisfiable(&[(a, false), (b, false)])
}

/// Whether every row that satisfies `a` satisfies `b`. Columns are taken as by [`disjoint`].
///
/// # Errors
/// [`TooComplex`].
pub fn implies(a: &Expr, b: &Expr) -> Result<bool, TooComplex> {
    unsatisfiable(&[(a, false), (b, true)])
}

/// Whether the same rows satisfy both, however they are written. Columns are taken as by [`disjoint`].
///
/// # Errors
/// [`TooComplex`].
pub fn equal(a: &Expr, b: &Expr) -> Result<bool, TooComplex> {
    Ok(implies(a, b)? && implies(b, a)?)
}

impl Expr {
    /// Whether a row satisfies it. Columns are taken as by [`disjoint`].
    ///
    /// # Errors
    /// [`TooComplex`].
    pub fn satisfiable(&self) -> Result<bool, TooComplex> {
        Ok(!unsatisfiable(&[(self, false)])?)
    }
}

/// Whether no point satisfies all of the expressions, those with `true` negated.
fn unsatisfiable(exprs: &[(&Expr, bool)]) -> Result<bool, TooComplex> {
    let plain: Vec<&Expr> = exprs.iter().map(|(expr, _)| *expr).collect();
    let mut space = Space::untyped(&plain);
    let mut work = Work::new();
    let parts = exprs.iter().map(|(expr, negate)| space.compile(expr, *negate, &mut work)).collect::<Result<Vec<_>, _>>()?;
    let all = space.join(true, parts, &mut work)?;
    let all = space.reduce(&[all], &mut work)?.swap_remove(0);
    Ok(find(&space, all, space.whole(), &mut work)?.is_none())
}

/// A box within `within` all of whose points satisfy the node.
pub(super) fn find(space: &Space, node: Rc<Node>, within: CellBox, work: &mut Work) -> Result<Option<CellBox>, TooComplex> {
    let mut todo = vec![(within, node)];
    while let Some((within, node)) = todo.pop() {
        work.spend(within.len())?;
        let node = space.restrict(&node, &within, work)?;
        match *node {
            Node::Const(true) => return Ok(Some(within)),
            Node::Const(false) => continue,
            _ => {}
        }
        if let Some(found) = evident(&node, &within, work)? {
            return Ok(Some(found));
        }
        let Some(hull) = hull(&node, &within, work)? else { continue };
        if hull != within {
            todo.push((hull, node));
            continue;
        }
        if let Some((low, high)) = cut(&[&node], &within, work)? {
            todo.push((high, node.clone()));
            todo.push((low, node));
        }
    }
    Ok(None)
}

/// A box that satisfies the node, if that can be seen without a cut: leaves of different axes do not get in
/// each other's way. The node must be restricted to `within`.
pub(super) fn evident(node: &Node, within: &[Run], work: &mut Work) -> Result<Option<CellBox>, TooComplex> {
    work.spend(1)?;
    match node {
        Node::Const(value) => Ok(value.then(|| within.to_vec())),
        Node::Leaf { .. } => narrow(std::iter::once(node), within, work),
        Node::And(parts) => narrow(parts.iter().map(|part| &**part), within, work),
        Node::Or(parts) => {
            for part in parts {
                if let Some(found) = evident(part, within, work)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

fn narrow<'n>(leaves: impl Iterator<Item = &'n Node>, within: &[Run], work: &mut Work) -> Result<Option<CellBox>, TooComplex> {
    work.spend(within.len())?;
    let mut narrowed = within.to_vec();
    for leaf in leaves {
        let Node::Leaf { axis, cells } = leaf else { return Ok(None) };
        let Some(run) = cells.first(narrowed[*axis]) else { return Ok(None) };
        narrowed[*axis] = run;
    }
    Ok(Some(narrowed))
}

/// A box within `within` outside of which the node does not hold; none if it holds nowhere.
pub(super) fn hull(node: &Node, within: &[Run], work: &mut Work) -> Result<Option<CellBox>, TooComplex> {
    work.spend(1 + within.len())?;
    match node {
        Node::Const(value) => Ok(value.then(|| within.to_vec())),
        Node::Leaf { axis, cells } => Ok(cells.hull(within[*axis]).map(|run| {
            let mut hull = within.to_vec();
            hull[*axis] = run;
            hull
        })),
        Node::And(parts) => {
            let mut hull_of_all = within.to_vec();
            for part in parts {
                match hull(part, &hull_of_all, work)? {
                    Some(smaller) => hull_of_all = smaller,
                    None => return Ok(None),
                }
            }
            Ok(Some(hull_of_all))
        }
        Node::Or(parts) => {
            let mut hull_of_any: Option<CellBox> = None;
            for part in parts {
                let Some(one) = hull(part, within, work)? else { continue };
                match &mut hull_of_any {
                    None => hull_of_any = Some(one),
                    Some(any) => any.iter_mut().zip(one).for_each(|(a, b)| *a = (a.0.min(b.0), a.1.max(b.1))),
                }
            }
            Ok(hull_of_any)
        }
    }
}

/// The two halves of `within` when it is cut where that parts the nodes best; none if nothing divides it.
///
/// The boxes around the nodes (of a disjunction: around its parts) are to be parted evenly and few of them
/// cut in two. If every cut leaves all of them on one side, it is the middle of the leaves' bounds on the
/// axis that has the most of them, which halves these.
pub(super) fn cut(nodes: &[&Rc<Node>], within: &[Run], work: &mut Work) -> Result<Option<(CellBox, CellBox)>, TooComplex> {
    let mut hulls = Vec::new();
    for node in nodes {
        match &***node {
            Node::Or(parts) => {
                for part in parts {
                    hulls.extend(hull(part, within, work)?);
                }
            }
            _ => hulls.extend(hull(node, within, work)?),
        }
    }
    let mut best: Option<(usize, usize, usize, u32)> = None;
    for (axis, whole) in within.iter().enumerate() {
        work.spend(hulls.len())?;
        let mut lows: Vec<u32> = hulls.iter().map(|hull| hull[axis].0).collect();
        let mut highs: Vec<u32> = hulls.iter().map(|hull| hull[axis].1).collect();
        lows.sort_unstable();
        highs.sort_unstable();
        let mut bounds = [lows.as_slice(), highs.as_slice()].concat();
        bounds.sort_unstable();
        bounds.dedup();
        for at in bounds.into_iter().filter(|at| whole.0 < *at && *at < whole.1) {
            let below = lows.partition_point(|low| *low < at);
            let above = hulls.len() - highs.partition_point(|high| *high <= at);
            let candidate = (below.max(above), below + above, axis, at);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
    }
    let best = best.filter(|(larger, ..)| *larger < hulls.len()).map(|(_, _, axis, at)| (axis, at));
    let best = match best {
        Some(best) => Some(best),
        None => middle_bound(nodes, within, work)?,
    };
    Ok(best.map(|(axis, at)| {
        let (mut low, mut high) = (within.to_vec(), within.to_vec());
        low[axis].1 = at;
        high[axis].0 = at;
        (low, high)
    }))
}

fn middle_bound(nodes: &[&Rc<Node>], within: &[Run], work: &mut Work) -> Result<Option<(usize, u32)>, TooComplex> {
    let mut bounds: Vec<Vec<u32>> = vec![Vec::new(); within.len()];
    let mut todo: Vec<&Node> = nodes.iter().map(|node| &***node).collect();
    while let Some(node) = todo.pop() {
        work.spend(1)?;
        match node {
            Node::Const(_) => {}
            Node::Leaf { axis, cells } => {
                let whole = within[*axis];
                let meeting = cells.meeting(whole);
                work.spend(meeting.len())?;
                let runs = meeting.iter().filter_map(|run| clip(*run, whole));
                bounds[*axis].extend(runs.flat_map(|(low, high)| [low, high]).filter(|at| whole.0 < *at && *at < whole.1));
            }
            Node::And(parts) | Node::Or(parts) => todo.extend(parts.iter().map(|part| &**part)),
        }
    }
    let axis = (0..bounds.len()).rev().max_by_key(|axis| bounds[*axis].len());
    Ok(axis.and_then(|axis| {
        let bounds = &mut bounds[axis];
        bounds.sort_unstable();
        bounds.get(bounds.len() / 2).map(|at| (axis, *at))
    }))
}
