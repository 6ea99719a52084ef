//! Rules made shorter without changing what they mean where it matters.
//!
//! Invariants:
//! - `simplify(e)` holds for the same rows as `e`; `residual(e, known, box)` does among the rows that satisfy
//!   `known` and lie in the box.
//! - A rule over one column comes out as its ranges, whatever it was made of; so a loop of splits and merges
//!   does not grow it.
//! - What is too complex is left as it is: these functions have no error.

use std::rc::Rc;

use super::Expr;
use super::cells::{CellSet, Run, clip};
use super::domain::Box;
use super::solve::{TooComplex, Work, find, hull};
use super::space::{Node, Space};

/// Stretches of an axis that are asked about one by one.
const SEGMENTS_MAX: usize = 256;

/// How often a rule is gone through: what one pass drops may let the next drop more.
const PASSES_MAX: usize = 4;

impl Expr {
    /// A shorter rule that holds for the same rows, in canonical form.
    #[must_use]
    pub fn simplify(&self) -> Self {
        residual(self, &Self::always(), &Box::unbounded())
    }
}

/// The part of `expr` that still has to be tested on rows that are known to satisfy `known` and to lie in
/// `within`: what these imply is dropped. Canonical; *true* if nothing has to be tested, *false* if no such
/// row satisfies `expr`.
#[must_use]
pub fn residual(expr: &Expr, known: &Expr, within: &Box) -> Expr {
    let bounds = within.to_expr();
    let space = Space::untyped(&[expr, known, &bounds]);
    let simplified = Simplifier { space: &space, work: Work::new() }.run(expr, &[known, &bounds]);
    let canonical = expr.canonical();
    match simplified {
        // Shorter by structure, but not always by the count of literals: never hand back the longer one.
        Ok(simplified) if simplified.nodes() <= canonical.nodes() => simplified,
        _ => canonical,
    }
}

struct Simplifier<'s> {
    space: &'s Space,
    work: Work,
}

impl Simplifier<'_> {
    fn run(&mut self, expr: &Expr, known: &[&Expr]) -> Result<Expr, TooComplex> {
        let context = known.iter().map(|known| self.space.compile(known, false, &mut self.work)).collect::<Result<Vec<_>, _>>()?;
        let context = self.space.join(true, context, &mut self.work)?;
        let node = self.space.compile(expr, false, &mut self.work)?;
        let mut best = self.space.to_expr(&node).canonical();
        let mut node = node;
        for _ in 0..PASSES_MAX {
            node = self.simplify(&node, &context)?;
            let next = self.space.to_expr(&node).canonical();
            if next.nodes() > best.nodes() || next == best {
                break;
            }
            best = next;
        }
        Ok(best)
    }

    /// A node that equals this one wherever the context holds.
    fn simplify(&mut self, node: &Rc<Node>, context: &Rc<Node>) -> Result<Rc<Node>, TooComplex> {
        let negated = self.space.negate(node, &mut self.work)?;
        if !self.possible(&[context.clone(), negated])? {
            return Ok(Rc::new(Node::Const(true)));
        }
        if !self.possible(&[context.clone(), node.clone()])? {
            return Ok(Rc::new(Node::Const(false)));
        }
        match &**node {
            Node::Const(_) => Ok(node.clone()),
            Node::Leaf { axis, cells } => self.relax(*axis, cells, context),
            Node::And(parts) => self.simplify_parts(true, parts, context),
            Node::Or(parts) => self.simplify_parts(false, parts, context),
        }
    }

    /// The leaf with no more bounds: cells in which the context does not hold may be in it or not, so they go
    /// to whichever side lets its runs grow together.
    fn relax(&mut self, axis: usize, cells: &CellSet, context: &Rc<Node>) -> Result<Rc<Node>, TooComplex> {
        let width = self.space.whole()[axis].1;
        let known = self.known_cells(axis, cells, context)?;
        let refused = known.intersect(&cells.complement(width));
        let mut runs: Vec<Run> = Vec::new();
        for wanted in known.intersect(cells).runs() {
            let from = runs.last().map_or(0, |last| last.1);
            match (refused.hull((from, wanted.0)), runs.last_mut()) {
                (None, Some(last)) => last.1 = wanted.1,
                (None, None) => runs.push((0, wanted.1)),
                (Some(hole), last) => {
                    if let Some(last) = last {
                        last.1 = hole.0;
                    }
                    runs.push((hole.1, wanted.1));
                }
            }
        }
        if let Some(last) = runs.last_mut() {
            last.1 = refused.hull((last.1, width)).map_or(width, |hole| hole.0);
        }
        Ok(self.space.of_cells(axis, CellSet::from_runs(runs)))
    }

    /// The cells of an axis in which the context can hold, or some more if there are many to ask about.
    fn known_cells(&mut self, axis: usize, cells: &CellSet, context: &Rc<Node>) -> Result<CellSet, TooComplex> {
        let whole = self.space.whole();
        let Some(within) = hull(context, &whole, &mut self.work)? else { return Ok(CellSet::empty()) };
        let mut bounds = vec![within[axis].0, within[axis].1];
        bounds.extend(cells.runs().iter().flat_map(|run| [run.0, run.1]));
        let mut todo: Vec<&Node> = vec![context];
        while let Some(node) = todo.pop() {
            self.work.spend(1)?;
            match node {
                Node::And(parts) | Node::Or(parts) => todo.extend(parts.iter().map(|part| &**part)),
                Node::Leaf { axis: of, cells } if *of == axis => bounds.extend(cells.runs().iter().flat_map(|run| [run.0, run.1])),
                Node::Leaf { .. } | Node::Const(_) => {}
            }
        }
        bounds.sort_unstable();
        bounds.dedup();
        self.work.spend(bounds.len())?;
        let segments = bounds.windows(2).filter_map(|pair| clip((pair[0], pair[1]), within[axis]));
        let mut known = Vec::new();
        for segment in segments {
            let mut slab = whole.clone();
            slab[axis] = segment;
            if bounds.len() > SEGMENTS_MAX || find(self.space, context.clone(), slab, &mut self.work)?.is_some() {
                known.push(segment);
            }
        }
        Ok(CellSet::from_runs(known))
    }

    /// Simplifies each part in the context of the others: a part of a conjunction matters only where the
    /// others hold, one of a disjunction only where they do not.
    fn simplify_parts(&mut self, conjunction: bool, parts: &[Rc<Node>], context: &Rc<Node>) -> Result<Rc<Node>, TooComplex> {
        let mut parts = parts.to_vec();
        // The last ones first, so that of two parts of which either would do the first stays.
        for i in (0..parts.len()).rev() {
            let mut around = vec![context.clone()];
            for (other, part) in parts.iter().enumerate() {
                if other != i {
                    around.push(if conjunction { part.clone() } else { self.space.negate(part, &mut self.work)? });
                }
            }
            let around = self.space.join(true, around, &mut self.work)?;
            parts[i] = self.simplify(&parts[i], &around)?;
        }
        self.space.join(conjunction, parts, &mut self.work)
    }

    fn possible(&mut self, parts: &[Rc<Node>]) -> Result<bool, TooComplex> {
        let all = self.space.join(true, parts.to_vec(), &mut self.work)?;
        Ok(find(self.space, all, self.space.whole(), &mut self.work)?.is_some())
    }
}
