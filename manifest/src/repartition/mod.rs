//! What a change of a table's partition rules means for its regions: independent groups of sources and targets.
//!
//! Invariants:
//! - A group is a connected component of the graph in which an old and a new rule are joined if a row satisfies both:
//!   no row moves between groups, so that each may be done, succeed or fail alone.
//! - A region whose rule keeps its meaning is in no group.
//! - Region numbers are never reused: a target keeps the number of one of its sources, or takes the next fresh one.
//!   Each source keeps its number in one target at most; which, is chosen so that many bytes stay where they are.
//! - The same input gives the same plan.

mod remap;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::RegionNumber;
use crate::rule::{self, Expr, MeetError, TooComplex, ValidateError, Witness};
use crate::schema::Schema;

pub use remap::{Fenced, Reference, remap, write as write_remap};
pub use step::{Drained, Prepared, RemapPreview, RemapRequest, RemapTarget, Resolved, StageRequest, Staged};

#[cfg(test)]
mod tests;

/// A region as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The region.
    pub region: RegionNumber,
    /// Its rule.
    pub rule: Expr,
}

/// A region as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The region.
    pub region: RegionNumber,
    /// Whether it has to be created.
    pub is_new: bool,
    /// Its rule, in canonical form.
    pub rule: Expr,
    /// The sources that may have rows for it, in order.
    pub from: Vec<RegionNumber>,
}

/// Regions that are repartitioned together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The regions whose rows move, in order.
    pub sources: Vec<RegionNumber>,
    /// The regions that take them, in the order of the new rules.
    pub targets: Vec<Target>,
}

impl Group {
    /// The sources that are no target: they retire.
    pub fn retired(&self) -> impl Iterator<Item = RegionNumber> {
        let kept: BTreeSet<RegionNumber> = self.targets.iter().map(|target| target.region).collect();
        self.sources.iter().copied().filter(move |source| !kept.contains(source))
    }
}

/// A change of partition rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is to be done, each independent of the others, ordered by least source.
    pub groups: Vec<Group>,
    /// The regions that stay as they are, in order.
    pub unchanged: Vec<RegionNumber>,
    /// The next region number that is free when all groups are done.
    pub next_region: RegionNumber,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The new rules do not partition.
    #[error("the new partition rules are not valid: {0}")]
    Rules(#[from] ValidateError),
    /// A row has a region now and would have none.
    #[error("a row with {witness} has a region now, and none under the new rules: add a rule that covers it")]
    Uncovered {
        /// The row.
        witness: Witness,
    },
    /// A new rule holds for no row.
    #[error("no row satisfies the new rule {index}: leave it out")]
    Empty {
        /// Which, from 0.
        index: usize,
    },
    /// A rule is none of the schema, or the sets are too complex.
    #[error(transparent)]
    Meet(#[from] MeetError),
    /// The rules are too complex.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    /// There are no region numbers left.
    #[error("the table has used up its region numbers")]
    RegionsUsedUp,
}

/// Plans the change from the regions `old` to the rules `new`.
///
/// `bytes` estimates how many bytes of a region satisfy a new rule; it is asked about pairs that meet only. `next_region`
/// is the first number that the table has never used.
///
/// # Errors
/// [`PlanError`]; the old rules are taken as they are.
pub fn plan(
    old: &[Source],
    new: &[Expr],
    schema: &Schema,
    next_region: RegionNumber,
    bytes: impl Fn(RegionNumber, &Expr) -> u64,
) -> Result<Plan, PlanError> {
    check(old, new, schema)?;
    let old_rules: Vec<Expr> = old.iter().map(|source| source.rule.clone()).collect();
    let pairs = rule::meeting(&old_rules, new, schema)?;
    let mut plan = Plan { groups: Vec::new(), unchanged: Vec::new(), next_region };
    for (sources, targets) in components(old.len(), new.len(), &pairs) {
        if let ([source], [target]) = (&sources[..], &targets[..])
            && rule::equal(&old[*source].rule, &new[*target])?
        {
            plan.unchanged.push(old[*source].region);
            continue;
        }
        let weight = |(source, target): (usize, usize)| bytes(old[source].region, &new[target]);
        let met: Vec<(usize, usize)> =
            sources.iter().flat_map(|source| pairs.range((*source, 0)..=(*source, usize::MAX)).copied()).collect();
        let kept = keepers(&met, weight);
        let mut group = Group { sources: sources.iter().map(|source| old[*source].region).collect(), targets: Vec::new() };
        group.sources.sort_unstable();
        for target in targets {
            let kept = kept.get(&target).map(|source| old[*source].region);
            let region = match kept {
                Some(region) => region,
                None => {
                    let region = plan.next_region;
                    plan.next_region = RegionNumber(region.0.checked_add(1).ok_or(PlanError::RegionsUsedUp)?);
                    region
                }
            };
            let mut from: Vec<RegionNumber> = met.iter().filter(|(_, to)| *to == target).map(|(source, _)| old[*source].region).collect();
            from.sort_unstable();
            group.targets.push(Target { region, is_new: kept.is_none(), rule: new[target].canonical(), from });
        }
        plan.groups.push(group);
    }
    plan.unchanged.sort_unstable();
    Ok(plan)
}

/// Whether the new rules partition, and every row that has a region keeps one.
fn check(old: &[Source], new: &[Expr], schema: &Schema) -> Result<(), PlanError> {
    let coverage = rule::validate(new, schema)?;
    if let Some(index) = coverage.empty.first() {
        return Err(PlanError::Empty { index: *index });
    }
    if coverage.is_complete() {
        return Ok(());
    }
    // What the old rules leave out may stay out: the old gaps, as one more rule, must close the new ones.
    let covered = Expr::Or(old.iter().map(|source| source.rule.clone()).collect());
    let left = covered.and(Expr::Or(new.to_vec()).negated());
    match rule::witness(&left, schema)? {
        Some(witness) => Err(PlanError::Uncovered { witness }),
        None => Ok(()),
    }
}

/// Connected components as (old indices, new indices), each in order, ordered by least old index, then new.
fn components(old: usize, new: usize, pairs: &BTreeSet<(usize, usize)>) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut parent: Vec<usize> = (0..old + new).collect();
    fn root(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    for (source, target) in pairs {
        let (a, b) = (root(&mut parent, *source), root(&mut parent, old + *target));
        // The lesser index is the root: components come out in order of their least old index.
        parent[a.max(b)] = a.min(b);
    }
    let mut components: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for node in 0..old + new {
        let root = root(&mut parent, node);
        let (sources, targets) = components.entry(root).or_default();
        if node < old { sources.push(node) } else { targets.push(node - old) }
    }
    components.into_values().collect()
}

/// For each target that keeps a number, the source whose number it keeps: the heaviest pairs first.
fn keepers(pairs: &[(usize, usize)], weight: impl Fn((usize, usize)) -> u64) -> BTreeMap<usize, usize> {
    let mut by_weight: Vec<(u64, usize, usize)> = pairs.iter().map(|pair| (weight(*pair), pair.0, pair.1)).collect();
    by_weight.sort_unstable_by_key(|(weight, source, target)| (std::cmp::Reverse(*weight), *source, *target));
    let (mut kept, mut used) = (BTreeMap::new(), BTreeSet::new());
    for (_, source, target) in by_weight {
        if !kept.contains_key(&target) && used.insert(source) {
            kept.insert(target, source);
        }
    }
    kept
}
