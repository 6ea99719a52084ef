//! The plan of a repartition: which regions change together, and what each becomes.
//!
//! Invariants:
//! - Pure: the plan follows from the table, its routes, the request and the given estimates.
//! - Groups share no row, so that each succeeds or fails alone.
//! - Region numbers and generations come from the table's counters, and are used for nothing else afterwards.

use serde::{Deserialize, Serialize};
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::repartition::{self, Source};
use tessera_manifest::rule::{self, Expr, MeetError, ValidateError};
use tessera_manifest::schema::Schema;

use super::error::PlanError;
use super::port::RemapPreview;
use super::request::{Request, Wanted};
use crate::catalog::{Route, TableInfo};
use crate::kv::Limits;
use crate::limits::REGIONS_MAX;
use crate::values;

/// A region whose rows move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSource {
    /// The region.
    pub region: RegionId,
    /// The node that served it when the plan was made.
    pub node: NodeId,
    /// Its generation.
    pub generation: Generation,
    /// Its rule.
    pub rule: Expr,
}

/// A region that takes rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTarget {
    /// The region.
    pub region: RegionId,
    /// The node that serves it, or will.
    pub node: NodeId,
    /// Whether it has to be created.
    pub is_new: bool,
    /// Its rule to be.
    pub rule: Expr,
    /// The sources that may have rows for it.
    pub from: Vec<RegionId>,
}

/// Regions that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedGroup {
    /// The regions whose rows move, in order.
    pub sources: Vec<PlannedSource>,
    /// The regions that take them, in the order of the statement.
    pub targets: Vec<PlannedTarget>,
    /// What each target is expected to get, by a dry run; empty when there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub estimates: Vec<RemapPreview>,
}

impl PlannedGroup {
    /// The sources that are no target: they retire.
    pub fn retired(&self) -> impl Iterator<Item = RegionId> {
        let kept = |region: RegionId| self.targets.iter().any(|target| target.region == region);
        self.sources.iter().map(|source| source.region).filter(move |region| !kept(*region))
    }

    /// The targets that have to be created.
    pub fn created(&self) -> impl Iterator<Item = &PlannedTarget> {
        self.targets.iter().filter(|target| target.is_new)
    }

    /// Operations and bytes of the routes in the largest transaction that publishes something of the group: an abort
    /// writes the sources into both sets; a commit writes the targets into one, and deletes the retired.
    fn publication(&self) -> (usize, usize) {
        let bytes = |region: RegionId, node: NodeId, generation: Generation, rule: &Expr| {
            values::encode(&Route { region, node, generation, rule: rule.clone() }).len() + ROUTE_KEY_BYTES
        };
        let sources: usize = self.sources.iter().map(|source| bytes(source.region, source.node, Generation::MAX, &source.rule)).sum();
        let targets: usize = self.targets.iter().map(|target| bytes(target.region, target.node, Generation::MAX, &target.rule)).sum();
        let (abort, commit) = (self.sources.len().saturating_mul(2), self.regions().count());
        (abort.max(commit), (2 * sources).max(targets + self.retired().count() * ROUTE_KEY_BYTES))
    }

    /// All regions of the group, each once: the sources, then the new ones.
    pub fn regions(&self) -> impl Iterator<Item = RegionId> {
        self.sources.iter().map(|source| source.region).chain(self.created().map(|target| target.region))
    }
}

/// A change of a table's partition rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepartitionPlan {
    /// The table.
    pub table: TableId,
    /// The partition columns before it.
    pub columns_before: Vec<ColumnId>,
    /// The partition columns after it.
    pub columns: Vec<ColumnId>,
    /// What is to be done.
    pub groups: Vec<PlannedGroup>,
    /// The regions that stay as they are.
    pub unchanged: Vec<RegionNumber>,
    /// The table's next region number after it.
    pub next_region_number: RegionNumber,
    /// The table's next generation after it: two for each group are drawn.
    pub next_generation: Generation,
}

/// The two generations of a group of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drawn {
    pub commit: Generation,
    pub abort: Generation,
}

impl RepartitionPlan {
    /// The generations of the groups, in order: drawn from the table's counter as it was before the plan.
    pub(super) fn drawn(&self) -> Vec<Drawn> {
        let after = self.next_generation.as_u32();
        let groups = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let first = after.saturating_sub(groups.saturating_mul(2));
        let at = |number: u32| Generation::new(number).unwrap_or(Generation::MAX);
        (0..groups).map(|group| Drawn { commit: at(first + 2 * group), abort: at(first + 2 * group + 1) }).collect()
    }

    /// The table after its counters gave what the plan uses.
    #[must_use]
    pub fn table_after(&self, info: &TableInfo) -> TableInfo {
        TableInfo { next_region_number: self.next_region_number, next_generation: self.next_generation, ..info.clone() }
    }

    /// Checks that each publication of each group fits in one transaction of a store with these limits, in which
    /// `besides_bytes` are taken by what is stored with the routes.
    ///
    /// # Errors
    /// [`PlanError::GroupTooLarge`]; [`PlanError::GroupTooWide`].
    pub fn check_size(&self, limits: &Limits, besides_bytes: usize) -> Result<(), PlanError> {
        for group in &self.groups {
            let regions = group.regions().count();
            let (ops, bytes) = group.publication();
            let ops = ops.saturating_add(BESIDES_ROUTES);
            if ops > limits.txn_ops_max {
                return Err(PlanError::GroupTooLarge { regions, ops, ops_max: limits.txn_ops_max });
            }
            let bytes = bytes.saturating_add(besides_bytes);
            if bytes > limits.txn_bytes_max {
                return Err(PlanError::GroupTooWide { regions, bytes, bytes_max: limits.txn_bytes_max });
            }
        }
        Ok(())
    }

    /// The plan in words, for `EXPLAIN`: one line per group and region, rules as SQL.
    #[must_use]
    pub fn explain(&self, schema: &Schema) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let numbers = |ids: Vec<RegionId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let sources = numbers(group.sources.iter().map(|source| source.region).collect());
            let targets = numbers(group.targets.iter().map(|target| target.region).collect());
            lines.push(format!("group {at}: [{sources}] -> [{targets}]"));
            for source in &group.sources {
                let kept = group.targets.iter().any(|target| target.region == source.region);
                let fate = if kept { "kept" } else { "retired" };
                lines.push(format!("  source {} ({fate}): {}", source.region, source.rule.display(schema)));
            }
            for target in &group.targets {
                let fate = if target.is_new { "new" } else { "kept" };
                lines.push(format!("  target {} ({fate}): {}", target.region, target.rule.display(schema)));
                if let Some(preview) = group.estimates.iter().find(|preview| preview.target == target.region) {
                    lines.push(describe(preview));
                }
            }
        }
        let unchanged: Vec<String> = self.unchanged.iter().map(ToString::to_string).collect();
        lines.push(format!("unchanged regions: {}", if unchanged.is_empty() { "none".to_owned() } else { unchanged.join(", ") }));
        lines
    }
}

fn describe(preview: &RemapPreview) -> String {
    let RemapPreview { target: _, files, foreign_files, bytes, rows, residual_files } = preview;
    let moves = format!("    {files} files, {bytes} bytes, {rows} rows; {foreign_files} files of other regions");
    if *residual_files == 0 {
        return moves;
    }
    format!("{moves}; warning: {residual_files} files hold rows of other regions too and are read through a filter until localized")
}

/// Operations of a publication beside those of routes: the table, the procedure's record, and two to spare.
const BESIDES_ROUTES: usize = 4;

/// Bytes of the key of a route, and to spare.
const ROUTE_KEY_BYTES: usize = 64;

/// Plans what `request` asks of a table with these routes. `bytes` estimates how many bytes of a region satisfy a new
/// rule: a region keeps its number where most of its bytes stay.
///
/// # Errors
/// Why there is no such plan, with a row or rule that shows it.
pub fn plan(
    info: &TableInfo,
    routes: &[Route],
    request: &Request,
    bytes: impl Fn(RegionId, &Expr) -> u64,
) -> Result<RepartitionPlan, PlanError> {
    let wanted = request.wanted(info, routes)?;
    let old: Vec<Source> = routes.iter().map(|route| Source { region: route.region.number(), rule: route.rule.clone() }).collect();
    let weight = |number: RegionNumber, rule: &Expr| bytes(RegionId::new(info.id, number), rule);
    let planned = repartition::plan(&old, &wanted.rules, &info.schema, info.next_region_number, weight)
        .map_err(|error| named(error, &wanted, info))?;
    if planned.groups.is_empty() && wanted.columns == info.partition_columns {
        return Err(PlanError::NothingToDo { table: info.table_ref() });
    }
    let regions = wanted.rules.len();
    if regions > REGIONS_MAX {
        return Err(PlanError::TooManyRegions { table: info.table_ref(), regions, regions_max: REGIONS_MAX });
    }
    let groups: Vec<PlannedGroup> = planned.groups.iter().map(|group| placed(group, info.id, routes)).collect();
    let drawn = u32::try_from(groups.len()).unwrap_or(u32::MAX).saturating_mul(2);
    let next_generation = info.next_generation.as_u32().checked_add(drawn).and_then(Generation::new);
    let next_generation = next_generation.ok_or_else(|| PlanError::UsedUp { table: info.table_ref(), what: "generations" })?;
    Ok(RepartitionPlan {
        table: info.id,
        columns_before: info.partition_columns.clone(),
        columns: wanted.columns,
        groups,
        unchanged: planned.unchanged,
        next_region_number: planned.next_region,
        next_generation,
    })
}

/// The group with nodes and generations of the routes.
fn placed(group: &repartition::Group, table: TableId, routes: &[Route]) -> PlannedGroup {
    let of = |number: RegionNumber| routes.iter().find(|route| route.region.number() == number);
    let anywhere = routes.first().map_or(NodeId(0), |route| route.node);
    let sources = group.sources.iter().filter_map(|number| of(*number)).map(|route| PlannedSource {
        region: route.region,
        node: route.node,
        generation: route.generation,
        rule: route.rule.clone(),
    });
    let targets = group.targets.iter().map(|target| {
        let near = if target.is_new { target.from.first().copied() } else { Some(target.region) };
        PlannedTarget {
            region: RegionId::new(table, target.region),
            node: near.and_then(of).map_or(anywhere, |route| route.node),
            is_new: target.is_new,
            rule: target.rule.clone(),
            from: target.from.iter().map(|number| RegionId::new(table, *number)).collect(),
        }
    });
    PlannedGroup { sources: sources.collect(), targets: targets.collect(), estimates: Vec::new() }
}

/// The error with rules in place of their numbers.
fn named(error: repartition::PlanError, wanted: &Wanted, info: &TableInfo) -> PlanError {
    let text = |index: usize| {
        let rule = wanted.rules.get(index).map(|rule| rule.display(&info.schema).to_string()).unwrap_or_default();
        if index < wanted.given { format!("the new rule {rule}") } else { format!("the rule {rule} of a region that stays") }
    };
    let plain = |index: usize| wanted.rules.get(index).map(|rule| rule.display(&info.schema).to_string()).unwrap_or_default();
    match error {
        repartition::PlanError::Rules(ValidateError::Rule { index, source })
        | repartition::PlanError::Meet(MeetError::Rule { index, source, .. }) => PlanError::Rule { rule: plain(index), source },
        repartition::PlanError::Rules(ValidateError::Overlap { first, second, witness }) => {
            PlanError::Overlap { first: text(first), second: text(second), witness: witness.to_string() }
        }
        repartition::PlanError::Rules(ValidateError::TooComplex(source))
        | repartition::PlanError::TooComplex(source)
        | repartition::PlanError::Meet(MeetError::TooComplex(source)) => PlanError::TooComplex { source },
        repartition::PlanError::Uncovered { witness } => PlanError::Uncovered { witness: witness.to_string() },
        repartition::PlanError::Empty { index } => PlanError::Empty { rule: plain(index) },
        repartition::PlanError::RegionsUsedUp => PlanError::UsedUp { table: info.table_ref(), what: "region numbers" },
    }
}

/// Whether the rules of the sources are still those of the routes; for tests of what a plan rests on.
pub(super) fn still_holds(group: &PlannedGroup, routes: &[Route]) -> bool {
    group.sources.iter().all(|source| {
        let same = |route: &&Route| route.region == source.region;
        routes.iter().find(same).is_some_and(|route| {
            route.generation == source.generation && (route.rule == source.rule || rule::equal(&route.rule, &source.rule).unwrap_or(false))
        })
    })
}
