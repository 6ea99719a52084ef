//! Rules over ranks: the literals of each column divide its values into cells, within which no rule can tell
//! one value from another.
//!
//! Invariants:
//! - The cells of an axis are its literals (NULL always, NaN for floats) and the gaps between them, in order,
//!   but for the gaps that hold no value. So every cell holds a value, every box of cells a point, and
//!   what is found out about cells is exact.
//! - Without a schema a column is taken as the widest type of its literals and as nullable.
//! - A [`Node`] has no negation; it is constant only at the root; the parts of an `And` (`Or`) are not `And`
//!   (`Or`) themselves, and at most one of them is a leaf per axis.
//!
//! ```text
//! literals          NULL      -5          0          7
//! cells          |   0   | 1 | 2 |   3   | 4 |   5   | 6 |   7   |
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use super::cells::{CellBox, CellSet, Run};
use super::solve::{TooComplex, Work};
use super::step::{between, successor, widest_type};
use super::{CompareOp, Expr};
use crate::id::ColumnId;
use crate::schema::Schema;
use crate::value::{DataType, Value};

/// The cells of one column.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) column: ColumnId,
    data_type: Option<DataType>,
    /// The literals, each once, in order.
    points: Vec<Value>,
    /// Of raw cell `2i` (literal `i`) and `2i + 1` (the gap after it): how many cells come before it.
    starts: Vec<u32>,
    /// The raw cell of each cell.
    raw: Vec<u32>,
}

impl Axis {
    fn new(column: ColumnId, data_type: Option<DataType>, nullable: bool, literals: Vec<&Value>) -> Self {
        let float =
            matches!(data_type, Some(DataType::Float32 | DataType::Float64)) || literals.iter().any(|v| matches!(v, Value::Float(_)));
        let nan = Value::Float(f64::NAN);
        let mut sorted = literals;
        sorted.push(&Value::Null);
        if float {
            sorted.push(&nan);
        }
        sorted.sort_unstable();
        sorted.dedup();
        let points: Vec<Value> = sorted.into_iter().cloned().collect();
        let mut axis = Self { column, data_type, points, starts: Vec::new(), raw: Vec::new() };
        for i in 0..axis.points.len() {
            let occupied = [i > 0 || nullable, !axis.gap_is_empty(i)];
            for (half, occupied) in occupied.into_iter().enumerate() {
                axis.starts.push(axis.raw.len() as u32);
                if occupied {
                    axis.raw.push((2 * i + half) as u32);
                }
            }
        }
        axis.starts.push(axis.raw.len() as u32);
        axis
    }

    /// Whether no value lies between literal `i` and the next, or above it if it is the last.
    fn gap_is_empty(&self, i: usize) -> bool {
        let (point, next) = (&self.points[i], self.points.get(i + 1));
        let data_type = self.data_type.or_else(|| widest_type(point)).or_else(|| next.and_then(widest_type));
        data_type.is_some_and(|data_type| successor(point, data_type).as_ref() == next)
    }

    /// How many cells there are; at least one.
    pub(super) fn width(&self) -> u32 {
        self.raw.len() as u32
    }

    /// The cells before, at and after a literal: `[0, a)`, `[a, b)` and `[b, width)`.
    fn rank(&self, value: &Value) -> (u32, u32) {
        match self.points.binary_search(value) {
            Ok(i) => (self.starts[2 * i], self.starts[2 * i + 1]),
            // Not reached: an axis is built of all literals that are looked up.
            Err(i) => (self.starts[2 * i], self.starts[2 * i]),
        }
    }

    fn compare(&self, op: CompareOp, value: &Value) -> CellSet {
        let ((from, to), width) = (self.rank(value), self.width());
        match op {
            CompareOp::Eq => CellSet::run((from, to)),
            CompareOp::NotEq => CellSet::run((from, to)).complement(width),
            CompareOp::Lt => CellSet::run((0, from)),
            CompareOp::LtEq => CellSet::run((0, to)),
            CompareOp::Gt => CellSet::run((to, width)),
            CompareOp::GtEq => CellSet::run((from, width)),
        }
    }

    /// A value in the run, a readable one, NULL only if there is no other. Needs the column's type.
    pub(super) fn sample(&self, run: Run) -> Value {
        let cells = (run.0..run.1).take(3).filter_map(|cell| {
            let raw = self.raw[cell as usize] as usize;
            let point = &self.points[raw / 2];
            let value =
                if raw.is_multiple_of(2) { Some(point.clone()) } else { between(point, self.points.get(raw / 2 + 1), self.data_type?) };
            value.filter(|v| !v.is_null())
        });
        cells.into_iter().next().unwrap_or(Value::Null)
    }

    /// An expression for a set of cells of the axis.
    pub(super) fn to_expr(&self, cells: &CellSet) -> Expr {
        let width = self.width();
        let (Some(first), Some(last)) = (cells.runs().first(), cells.runs().last()) else {
            return Expr::never();
        };
        let hull = (first.0, last.1);
        let holes = CellSet::run(hull).intersect(&cells.complement(width));
        if let Some(values) = self.as_points(cells) {
            return Expr::In { column: self.column, values };
        }
        if let Some(values) = self.as_points(&holes) {
            return self.run_expr(hull).and(Expr::In { column: self.column, values }.negated());
        }
        let (runs, points): (Vec<Run>, Vec<Run>) = cells.runs().iter().partition(|run| self.as_points(&CellSet::run(**run)).is_none());
        let mut parts: Vec<Expr> = runs.into_iter().map(|run| self.run_expr(run)).collect();
        if let Some(values) = self.as_points(&CellSet::from_runs(points)) {
            parts.push(Expr::In { column: self.column, values });
        }
        Expr::Or(parts)
    }

    /// The literals that are the cells of the set, if it has no gap.
    fn as_points(&self, cells: &CellSet) -> Option<Vec<Value>> {
        let raw = cells.runs().iter().flat_map(|run| run.0..run.1).map(|cell| self.raw[cell as usize] as usize);
        raw.map(|raw| raw.is_multiple_of(2).then(|| self.points[raw / 2].clone())).collect()
    }

    fn run_expr(&self, (from, to): Run) -> Expr {
        let compare = |op, point: usize| Expr::Compare { column: self.column, op, value: self.points[point].clone() };
        let mut parts = Vec::new();
        if from > 0 {
            let raw = self.raw[from as usize] as usize;
            parts.push(match raw {
                1 => compare(CompareOp::NotEq, 0),
                _ if raw.is_multiple_of(2) => compare(CompareOp::GtEq, raw / 2),
                _ => compare(CompareOp::Gt, raw / 2),
            });
        }
        if to < self.width() {
            let raw = self.raw[to as usize - 1] as usize;
            let point = raw.is_multiple_of(2);
            parts.push(if point { compare(CompareOp::LtEq, raw / 2) } else { compare(CompareOp::Lt, raw / 2 + 1) });
        }
        Expr::And(parts)
    }
}

/// A rule over cells; see the module's invariants.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Const(bool),
    Leaf { axis: usize, cells: CellSet },
    And(Vec<Rc<Node>>),
    Or(Vec<Rc<Node>>),
}

/// The axes of some expressions, in order of their columns' ids.
#[derive(Debug)]
pub(super) struct Space {
    axes: Vec<Axis>,
}

impl Space {
    /// The space of these expressions over columns of the widest types.
    pub(super) fn untyped(exprs: &[&Expr]) -> Self {
        let axes = literals(exprs.iter().copied());
        Self { axes: axes.into_iter().map(|(column, values)| Axis::new(column, None, true, values)).collect() }
    }

    /// The space of these rules over the columns of a schema.
    pub(super) fn typed(rules: &[Expr], schema: &Schema) -> Self {
        let axes = literals(rules.iter());
        let axis = |(id, values)| {
            let column = schema.column(id);
            Axis::new(id, column.map(|c| c.data_type), column.is_none_or(|c| c.nullable), values)
        };
        Self { axes: axes.into_iter().map(axis).collect() }
    }

    pub(super) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Leaves to an axis only these of its cells, in this order.
    pub(super) fn keep_cells(&mut self, axis: usize, cells: &[u32]) {
        let axis = &mut self.axes[axis];
        axis.raw = cells.iter().map(|cell| axis.raw[*cell as usize]).collect();
    }

    /// The box of all points.
    pub(super) fn whole(&self) -> CellBox {
        self.axes.iter().map(|axis| (0, axis.width())).collect()
    }

    /// The expression, or its negation, over the cells. All of its literals must be in the space.
    pub(super) fn compile(&self, expr: &Expr, negate: bool, work: &mut Work) -> Result<Rc<Node>, TooComplex> {
        work.spend(1)?;
        match expr {
            Expr::And(parts) | Expr::Or(parts) => {
                let conjunction = matches!(expr, Expr::And(_)) != negate;
                let parts = parts.iter().map(|part| self.compile(part, negate, work)).collect::<Result<Vec<_>, _>>()?;
                self.join(conjunction, parts, work)
            }
            Expr::Not(inner) => self.compile(inner, !negate, work),
            Expr::Compare { column, op, value } => {
                let op = if negate { op.negated() } else { *op };
                Ok(self.leaf(*column, |axis| axis.compare(op, value)))
            }
            Expr::In { column, values } => {
                work.spend(values.len())?;
                Ok(self.leaf(*column, |axis| {
                    let cells = CellSet::from_runs(values.iter().map(|v| axis.rank(v)).collect());
                    if negate { cells.complement(axis.width()) } else { cells }
                }))
            }
        }
    }

    fn leaf(&self, column: ColumnId, cells: impl Fn(&Axis) -> CellSet) -> Rc<Node> {
        let Ok(at) = self.axes.binary_search_by_key(&column, |axis| axis.column) else {
            // Only an `In` without literals names a column that has no axis.
            return Rc::new(Node::Const(false));
        };
        self.of_cells(at, cells(&self.axes[at]))
    }

    /// The leaf for these cells of an axis, or the constant that it is.
    pub(super) fn of_cells(&self, axis: usize, cells: CellSet) -> Rc<Node> {
        Rc::new(if cells.is_empty() {
            Node::Const(false)
        } else if cells.is_full(self.axes[axis].width()) {
            Node::Const(true)
        } else {
            Node::Leaf { axis, cells }
        })
    }

    /// The conjunction (or else disjunction) of the parts.
    pub(super) fn join(&self, conjunction: bool, parts: Vec<Rc<Node>>, work: &mut Work) -> Result<Rc<Node>, TooComplex> {
        let mut leaves: BTreeMap<usize, Vec<Rc<Node>>> = BTreeMap::new();
        let mut others = Vec::new();
        let mut todo = parts;
        todo.reverse();
        while let Some(part) = todo.pop() {
            work.spend(1)?;
            match &*part {
                Node::Const(value) if *value == conjunction => {}
                Node::Const(value) => return Ok(Rc::new(Node::Const(*value))),
                Node::Leaf { axis, .. } => leaves.entry(*axis).or_default().push(part),
                Node::And(inner) if conjunction => todo.extend(inner.iter().rev().cloned()),
                Node::Or(inner) if !conjunction => todo.extend(inner.iter().rev().cloned()),
                Node::And(_) | Node::Or(_) => others.push(part),
            }
        }
        let mut all = Vec::with_capacity(leaves.len() + others.len());
        for (axis, leaves) in leaves {
            let leaf = if leaves.len() == 1 { leaves[0].clone() } else { self.of_cells(axis, merge(conjunction, &leaves, work)?) };
            match &*leaf {
                Node::Const(value) if *value == conjunction => {}
                Node::Const(_) => return Ok(leaf),
                _ => all.push(leaf),
            }
        }
        all.append(&mut others);
        Ok(match all.len() {
            0 => Rc::new(Node::Const(conjunction)),
            1 => all.swap_remove(0),
            _ => Rc::new(if conjunction { Node::And(all) } else { Node::Or(all) }),
        })
    }

    /// The negation of a node.
    pub(super) fn negate(&self, node: &Node, work: &mut Work) -> Result<Rc<Node>, TooComplex> {
        work.spend(1)?;
        Ok(match node {
            Node::Const(value) => Rc::new(Node::Const(!value)),
            Node::Leaf { axis, cells } => {
                work.spend(cells.runs().len())?;
                self.of_cells(*axis, cells.complement(self.axes[*axis].width()))
            }
            Node::And(parts) => Rc::new(Node::Or(parts.iter().map(|p| self.negate(p, work)).collect::<Result<_, _>>()?)),
            Node::Or(parts) => Rc::new(Node::And(parts.iter().map(|p| self.negate(p, work)).collect::<Result<_, _>>()?)),
        })
    }

    /// An expression for the node.
    pub(super) fn to_expr(&self, node: &Node) -> Expr {
        match node {
            Node::Const(true) => Expr::always(),
            Node::Const(false) => Expr::never(),
            Node::Leaf { axis, cells } => self.axes[*axis].to_expr(cells),
            Node::And(parts) => Expr::And(parts.iter().map(|p| self.to_expr(p)).collect()),
            Node::Or(parts) => Expr::Or(parts.iter().map(|p| self.to_expr(p)).collect()),
        }
    }

    /// The node as it is within a box: constant where that decides it.
    pub(super) fn restrict(&self, node: &Rc<Node>, within: &[Run], work: &mut Work) -> Result<Rc<Node>, TooComplex> {
        work.spend(1)?;
        let (conjunction, parts) = match &**node {
            Node::Const(_) => return Ok(node.clone()),
            Node::Leaf { axis, cells } => {
                let run = within[*axis];
                return Ok(match cells.meeting(run) {
                    [] => Rc::new(Node::Const(false)),
                    [only] if only.0 <= run.0 && run.1 <= only.1 => Rc::new(Node::Const(true)),
                    _ => node.clone(),
                });
            }
            Node::And(parts) => (true, parts),
            Node::Or(parts) => (false, parts),
        };
        let mut changed = false;
        let mut restricted = Vec::with_capacity(parts.len());
        for part in parts {
            let now = self.restrict(part, within, work)?;
            if *now == Node::Const(!conjunction) {
                return Ok(now);
            }
            changed |= !Rc::ptr_eq(part, &now);
            restricted.push(now);
        }
        if !changed {
            return Ok(node.clone());
        }
        // Joining may merge leaves, and the box may decide the merged one.
        let joined = self.join(conjunction, restricted, work)?;
        self.restrict(&joined, within, work)
    }
}

/// The cells in all (or else any) of the leaves.
fn merge(conjunction: bool, leaves: &[Rc<Node>], work: &mut Work) -> Result<CellSet, TooComplex> {
    let sets = leaves.iter().filter_map(|leaf| if let Node::Leaf { cells, .. } = &**leaf { Some(cells) } else { None });
    if !conjunction {
        let runs: Vec<Run> = sets.flat_map(|cells| cells.runs().iter().copied()).collect();
        work.spend(runs.len())?;
        return Ok(CellSet::from_runs(runs));
    }
    let mut merged: Option<CellSet> = None;
    for cells in sets {
        let next = merged.map_or_else(|| cells.clone(), |merged| merged.intersect(cells));
        work.spend(next.runs().len() + cells.runs().len())?;
        merged = Some(next);
    }
    Ok(merged.unwrap_or(CellSet::empty()))
}

fn literals<'e>(exprs: impl Iterator<Item = &'e Expr>) -> BTreeMap<ColumnId, Vec<&'e Value>> {
    let mut axes: BTreeMap<ColumnId, Vec<&Value>> = BTreeMap::new();
    for expr in exprs {
        expr.visit(&mut |part, _| match part {
            Expr::Compare { column, value, .. } => axes.entry(*column).or_default().push(value),
            Expr::In { column, values } => axes.entry(*column).or_default().extend(values),
            Expr::And(_) | Expr::Or(_) | Expr::Not(_) => {}
        });
    }
    axes
}
