//! Fewer cells: the cells of an axis that no leaf tells apart become one.
//!
//! Ten interleaved lists of a hundred literals make two hundred cells, but only eleven kinds of them. Which
//! leaves a cell is in is followed by one sweep over the axis, which keeps a hash-consed tree over the leaves:
//! two trees are equal exactly if their roots are.
//!
//! Invariants:
//! - Exact: no hash stands for a set anywhere.
//! - A run of cells stays a run: kinds are numbered in the order in which they first occur, and all cells of a
//!   kind lie in the same leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cells::{CellSet, Run};
use super::solve::{TooComplex, Work};
use super::space::{Node, Space};

/// The runs of a leaf up to which it is left to the cuts. A range has one, all but a range two.
const RUNS_MAX: usize = 2;

impl Space {
    /// The nodes over the fewest cells that tell their leaves apart. Expressions cannot be compiled in the
    /// space any more, nor be made of its cells; values can.
    pub(super) fn reduce(&mut self, nodes: &[Rc<Node>], work: &mut Work) -> Result<Vec<Rc<Node>>, TooComplex> {
        let mut leaves: Vec<BTreeSet<&[Run]>> = vec![BTreeSet::new(); self.axes().len()];
        let mut todo: Vec<&Node> = nodes.iter().map(|node| &**node).collect();
        while let Some(node) = todo.pop() {
            work.spend(1)?;
            match node {
                Node::Const(_) => {}
                Node::Leaf { axis, cells } => {
                    work.spend(cells.runs().len())?;
                    leaves[*axis].insert(cells.runs());
                }
                Node::And(parts) | Node::Or(parts) => todo.extend(parts.iter().map(|part| &**part)),
            }
        }
        let mut kinds: Vec<Option<Kinds>> = Vec::with_capacity(leaves.len());
        for (axis, leaves) in leaves.into_iter().enumerate() {
            let worthwhile = leaves.iter().any(|runs| runs.len() > RUNS_MAX);
            let width = self.axes()[axis].width();
            kinds.push(if worthwhile { Some(Kinds::of(&leaves, width, work)?) } else { None });
        }
        if kinds.iter().all(Option::is_none) {
            return Ok(nodes.to_vec());
        }
        for (axis, kinds) in kinds.iter().enumerate() {
            if let Some(kinds) = kinds {
                self.keep_cells(axis, &kinds.cells);
            }
        }
        nodes.iter().map(|node| rewrite(node, &kinds, work)).collect()
    }
}

fn rewrite(node: &Rc<Node>, kinds: &[Option<Kinds>], work: &mut Work) -> Result<Rc<Node>, TooComplex> {
    work.spend(1)?;
    Ok(match &**node {
        Node::Const(_) => node.clone(),
        Node::Leaf { axis, cells } => match &kinds[*axis] {
            None => node.clone(),
            Some(kinds) => {
                let runs = cells.runs().iter().map(|(low, high)| (kinds.before[*low as usize], kinds.before[*high as usize]));
                // A leaf that was neither empty nor full has a kind in it and one outside.
                Rc::new(Node::Leaf { axis: *axis, cells: CellSet::from_runs(runs.collect()) })
            }
        },
        Node::And(parts) => Rc::new(Node::And(parts.iter().map(|p| rewrite(p, kinds, work)).collect::<Result<_, _>>()?)),
        Node::Or(parts) => Rc::new(Node::Or(parts.iter().map(|p| rewrite(p, kinds, work)).collect::<Result<_, _>>()?)),
    })
}

/// The kinds of cells of an axis.
struct Kinds {
    /// How many kinds first occur before each cell, and before the end.
    before: Vec<u32>,
    /// A cell of each kind; NULL's only if there is no other.
    cells: Vec<u32>,
}

impl Kinds {
    fn of(leaves: &BTreeSet<&[Run]>, width: u32, work: &mut Work) -> Result<Self, TooComplex> {
        let mut tree = Tree::new(leaves.len());
        let bounds = leaves.iter().enumerate().flat_map(|(leaf, runs)| runs.iter().flat_map(move |run| [(run.0, leaf), (run.1, leaf)]));
        let mut bounds: Vec<(u32, usize)> = bounds.collect();
        work.spend(bounds.len().saturating_mul(tree.depth()) + width as usize)?;
        bounds.sort_unstable();
        let mut bounds = bounds.into_iter().peekable();
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut before, mut cells) = (Vec::with_capacity(width as usize + 1), Vec::new());
        for cell in 0..width {
            while let Some((_, leaf)) = bounds.next_if(|(at, _)| *at == cell) {
                tree.toggle(leaf);
            }
            before.push(cells.len() as u32);
            let number = *numbers.entry(tree.root()).or_insert(cells.len() as u32);
            match cells.get_mut(number as usize) {
                None => cells.push(cell),
                Some(first) if *first == 0 => *first = cell,
                Some(_) => {}
            }
        }
        before.push(cells.len() as u32);
        Ok(Self { before, cells })
    }
}

/// A set of leaves as a complete binary tree, whose nodes are numbered so that equal subtrees of a level have
/// equal numbers.
struct Tree {
    /// Node `n` has the children `2n` and `2n + 1`; the root is 1. The last level is 1 for a leaf that is in.
    nodes: Vec<u32>,
    numbers: BTreeMap<(u32, u32), u32>,
}

impl Tree {
    fn new(leaves: usize) -> Self {
        let capacity = leaves.next_power_of_two();
        let mut tree = Self { nodes: vec![0; 2 * capacity], numbers: BTreeMap::new() };
        for node in (1..capacity).rev() {
            tree.number(node);
        }
        tree
    }

    fn depth(&self) -> usize {
        self.nodes.len().ilog2() as usize
    }

    fn root(&self) -> u32 {
        self.nodes[1]
    }

    fn toggle(&mut self, leaf: usize) {
        let mut node = self.nodes.len() / 2 + leaf;
        self.nodes[node] ^= 1;
        while node > 1 {
            node /= 2;
            self.number(node);
        }
    }

    fn number(&mut self, node: usize) {
        // 0 and 1 are the numbers of single leaves.
        let next = self.numbers.len() as u32 + 2;
        let children = (self.nodes[2 * node], self.nodes[2 * node + 1]);
        self.nodes[node] = *self.numbers.entry(children).or_insert(next);
    }
}
