//! Whether a set of rules covers every row, and none twice.
//!
//! Invariants:
//! - The answer is exact for the schema's types and nullability: an overlap comes with a row that both rules
//!   hold for, a gap with a row that none holds for. Changing a column's type or nullability asks for a new
//!   validation.
//! - Space is divided as by [`super::solve`], and each part looks only at the rules that it leaves undecided;
//!   where all of these are about one column, one sweep over their sorted runs ends the division.

use std::fmt;
use std::rc::Rc;

use super::cells::{CellBox, Run, clip};
use super::solve::{TooComplex, Work, cut, evident, find};
use super::space::{Node, Space};
use super::{CheckError, Expr, display, literal};
use crate::id::ColumnId;
use crate::schema::Schema;
use crate::value::{DataType, Value};

/// A row that shows what is wrong with a set of rules: a value for each column that the rules name. Shown as
/// `host = 'm', dc = NULL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    columns: Vec<WitnessColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct WitnessColumn {
    id: ColumnId,
    name: String,
    data_type: DataType,
    value: Value,
}

impl Witness {
    fn new(space: &Space, schema: &Schema, within: &[Run]) -> Self {
        let columns = space.axes().iter().zip(within).filter_map(|(axis, run)| {
            let column = schema.column(axis.column)?;
            Some(WitnessColumn { id: column.id, name: column.name.clone(), data_type: column.data_type, value: axis.sample(*run) })
        });
        Self { columns: columns.collect() }
    }

    /// The row's value in a column, if the rules name it.
    #[must_use]
    pub fn value(&self, column: ColumnId) -> Option<&Value> {
        self.columns.iter().find(|c| c.id == column).map(|c| &c.value)
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.columns.is_empty() {
            return f.write_str("any row");
        }
        for (i, column) in self.columns.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let name = display::identifier(&column.name);
            write!(f, "{separator}{name} = {}", literal::sql(&column.value, Some(column.data_type)))?;
        }
        Ok(())
    }
}

/// What a set of rules without overlaps covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// A row that no rule holds for; none if every row has its rule.
    pub gap: Option<Witness>,
    /// The indices of the rules that no row satisfies, in order.
    pub empty: Vec<usize>,
}

impl Coverage {
    /// Whether every row has its rule.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gap.is_none()
    }
}

/// Why a set of rules cannot partition a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// A rule is not one of this table.
    #[error("rule {index}: {source}")]
    Rule {
        /// Which rule, from 0.
        index: usize,
        /// What is wrong.
        source: CheckError,
    },
    /// Two rules hold for the same row.
    #[error("a row with {witness} satisfies both rule {first} and rule {second}")]
    Overlap {
        /// One rule, from 0.
        first: usize,
        /// The other, a later one.
        second: usize,
        /// The row.
        witness: Witness,
    },
    /// It would take too much work to tell.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
}

/// Whether the rules cover every row of a table with this schema, and none twice. Gaps are reported in the
/// [`Coverage`], since a table may have them; overlaps are an error.
///
/// # Errors
/// A rule that is none of this schema, an overlap, or [`TooComplex`].
pub fn validate(rules: &[Expr], schema: &Schema) -> Result<Coverage, ValidateError> {
    for (index, rule) in rules.iter().enumerate() {
        rule.check(schema).map_err(|source| ValidateError::Rule { index, source })?;
    }
    let mut space = Space::typed(rules, schema);
    let mut work = Work::new();
    let nodes = rules.iter().map(|rule| space.compile(rule, false, &mut work)).collect::<Result<Vec<_>, _>>()?;
    let nodes = if one_axis(&nodes) { nodes } else { space.reduce(&nodes, &mut work)? };
    let mut search = Search { space: &space, work, gap: None, seen: vec![false; rules.len()] };
    let candidates = nodes.iter().cloned().enumerate().collect();
    if let Some((first, second, at)) = search.divide(candidates)? {
        let witness = Witness::new(&space, schema, &at);
        return Err(ValidateError::Overlap { first: first.min(second), second: first.max(second), witness });
    }
    let Search { mut work, gap, seen, .. } = search;
    let mut empty = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        if !seen[index] && find(&space, node.clone(), space.whole(), &mut work)?.is_none() {
            empty.push(index);
        }
    }
    Ok(Coverage { gap: gap.map(|at| Witness::new(&space, schema, &at)), empty })
}

/// A row of a table with this schema that satisfies the expression, if there is one.
///
/// # Errors
/// [`TooComplex`].
pub fn witness(expr: &Expr, schema: &Schema) -> Result<Option<Witness>, TooComplex> {
    let mut space = Space::typed(std::slice::from_ref(expr), schema);
    let mut work = Work::new();
    let node = space.compile(expr, false, &mut work)?;
    let node = space.reduce(&[node], &mut work)?.swap_remove(0);
    let found = find(&space, node, space.whole(), &mut work)?;
    Ok(found.map(|at| Witness::new(&space, schema, &at)))
}

/// A rule's index, and what is left of the rule.
type Candidate = (usize, Rc<Node>);

/// Two rules and a box in which both hold.
type Overlap = (usize, usize, CellBox);

/// A part of space that is to be looked at.
struct Part {
    within: CellBox,
    /// The rule that holds in all of it.
    holds: Option<usize>,
    /// The rules that may hold in some of it.
    candidates: Vec<Candidate>,
}

struct Search<'s> {
    space: &'s Space,
    work: Work,
    /// The first box found in which no rule holds.
    gap: Option<CellBox>,
    /// Which rules were seen to hold somewhere.
    seen: Vec<bool>,
}

impl Search<'_> {
    /// Divides space until every part is decided, or an overlap is found.
    fn divide(&mut self, candidates: Vec<Candidate>) -> Result<Option<Overlap>, TooComplex> {
        let mut todo = vec![Part { within: self.space.whole(), holds: None, candidates }];
        while let Some(part) = todo.pop() {
            self.work.spend(part.within.len() + part.candidates.len())?;
            let (part, overlap) = self.restrict(part)?;
            if overlap.is_some() {
                return Ok(overlap);
            }
            match (part.holds, part.candidates.as_slice()) {
                (None, []) => self.found_gap(&part.within),
                (Some(_), []) => {}
                // With a gap known already, one rule alone has nothing more to tell.
                (None, [_]) if self.gap.is_some() => {}
                _ => {
                    if let Some(axis) = common_axis(&part.candidates) {
                        if let Some(overlap) = self.sweep(&part, axis) {
                            return Ok(Some(overlap));
                        }
                        continue;
                    }
                    let nodes: Vec<&Rc<Node>> = part.candidates.iter().map(|(_, node)| node).collect();
                    if let Some((low, high)) = cut(&nodes, &part.within, &mut self.work)? {
                        todo.push(Part { within: high, holds: part.holds, candidates: part.candidates.clone() });
                        todo.push(Part { within: low, holds: part.holds, candidates: part.candidates });
                    }
                }
            }
        }
        Ok(None)
    }

    /// Leaves to a part only the rules that it does not decide.
    fn restrict(&mut self, part: Part) -> Result<(Part, Option<Overlap>), TooComplex> {
        let Part { within, mut holds, candidates } = part;
        let mut undecided = Vec::with_capacity(candidates.len());
        for (index, node) in candidates {
            let node = self.space.restrict(&node, &within, &mut self.work)?;
            match (&*node, holds) {
                (Node::Const(false), _) => {}
                (Node::Const(true), None) => {
                    holds = Some(index);
                    self.seen[index] = true;
                }
                (Node::Const(true), Some(first)) => {
                    let overlap = (first, index, within.clone());
                    return Ok((Part { within, holds, candidates: undecided }, Some(overlap)));
                }
                _ => undecided.push((index, node)),
            }
        }
        let mut overlap = None;
        if let Some(first) = holds {
            for (index, node) in &undecided {
                if let Some(at) = evident(node, &within, &mut self.work)? {
                    overlap = Some((first, *index, at));
                    break;
                }
            }
        }
        Ok((Part { within, holds, candidates: undecided }, overlap))
    }

    fn found_gap(&mut self, at: &CellBox) {
        if self.gap.is_none() {
            self.gap = Some(at.clone());
        }
    }

    /// Decides a part in which all rules are sets of cells of one axis.
    fn sweep(&mut self, part: &Part, axis: usize) -> Option<Overlap> {
        let whole = part.within[axis];
        let at = |run: Run| {
            let mut at = part.within.clone();
            at[axis] = run;
            at
        };
        let mut runs: Vec<(Run, usize)> = Vec::new();
        for (index, node) in &part.candidates {
            if let Node::Leaf { cells, .. } = &**node {
                runs.extend(cells.meeting(whole).iter().filter_map(|run| Some((clip(*run, whole)?, *index))));
                self.seen[*index] = true;
            }
        }
        runs.sort_unstable();
        let (mut covered, mut last) = (whole.0, part.holds);
        for (run, index) in runs {
            match last {
                Some(last) if part.holds.is_some() || run.0 < covered => {
                    let shared = if part.holds.is_some() { run } else { (run.0, run.1.min(covered)) };
                    return Some((last, index, at(shared)));
                }
                _ => {}
            }
            if run.0 > covered {
                self.found_gap(&at((covered, run.0)));
            }
            covered = run.1;
            last = Some(index);
        }
        if covered < whole.1 && part.holds.is_none() {
            self.found_gap(&at((covered, whole.1)));
        }
        None
    }
}

/// Whether all nodes are leaves of one axis, which a sweep decides at once.
fn one_axis(nodes: &[Rc<Node>]) -> bool {
    nodes.iter().all(|node| matches!(&**node, Node::Leaf { axis: 0, .. }))
}

/// The axis of the candidates, if all are leaves of one.
fn common_axis(candidates: &[Candidate]) -> Option<usize> {
    let mut axes = candidates.iter().map(|(_, node)| if let Node::Leaf { axis, .. } = &**node { Some(*axis) } else { None });
    let first = axes.next()??;
    axes.all(|axis| axis == Some(first)).then_some(first)
}
