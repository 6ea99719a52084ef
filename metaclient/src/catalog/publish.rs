//! Publishing the route sets of a repartition.
//!
//! Invariants:
//! - Whoever changes routes writes the table in the same transaction and compares that the table is as it was read; so
//!   an unchanged table means unchanged routes, and one compare stands for all of them.
//! - Only routes that change are written; done again, nothing changes but the table's revision.
//! - The generation of a published route never goes back: what comes late finds newer routes, and leaves them.

use std::collections::BTreeMap;

use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, TableId};

use super::Catalog;
use super::error::CatalogError;
use super::model::{Planned, Route, TableInfo};
use super::route::decode_routes;
use super::table::id_key;
use crate::keys::{self, MetaKey, RouteSet};
use crate::kv::{Compare, Entry, Op, RangeRequest, Txn};
use crate::limits::ATTEMPTS_MAX;
use crate::values;

/// A table and its routes at one revision of the store.
#[derive(Debug, Clone)]
pub struct TableView {
    entry: Entry,
    /// The table.
    pub info: TableInfo,
    /// Where it is read, by region number.
    pub read: BTreeMap<RegionId, Route>,
    /// Where it is written, by region number.
    pub write: BTreeMap<RegionId, Route>,
}

/// A group's new write set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteSet<'a> {
    /// The routes of its targets, all of the generation that was committed.
    pub targets: &'a [Route],
    /// The sources that are no target.
    pub retired: &'a [RegionId],
    /// The partition columns that the table gets.
    pub columns: &'a [ColumnId],
}

impl Catalog {
    /// A table with its routes; one read.
    ///
    /// # Errors
    /// [`CatalogError::TableIdNotFound`].
    pub async fn table_view(&self, table: TableId) -> Result<TableView, CatalogError> {
        let range = |set| Op::Range { request: RangeRequest::new(keys::routes(set, table)) };
        let txn = Txn::new().then([Op::get(id_key(table)), range(RouteSet::Read), range(RouteSet::Write)]);
        let answer = self.kv.txn(txn).await?;
        let entry = answer.entry(0).ok_or(CatalogError::TableIdNotFound { id: table })?.clone();
        let by_region = |routes: Vec<Route>| routes.into_iter().map(|route| (route.region, route)).collect();
        let (read, write) = (decode_routes(answer.entries(1))?, decode_routes(answer.entries(2))?);
        Ok(TableView { info: values::decode_entry(&entry)?, entry, read: by_region(read), write: by_region(write) })
    }

    /// Publishes the read set of a committed group on behalf of a coordinator that is gone; see
    /// [`TableView::plan_read_set`]. Every target must have its references. False when the write set was not published,
    /// or is past that generation.
    ///
    /// # Errors
    /// [`CatalogError::Contended`]; [`CatalogError::TableIdNotFound`].
    pub async fn publish_read_set(&self, table: TableId, commit: Generation, sources: &[RegionId]) -> Result<bool, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.table_view(table).await?;
            let Some(planned) = view.plan_read_set(commit, sources, None) else { return Ok(false) };
            if view.is_published(commit, sources) || self.kv.txn(planned.into_txn()).await?.succeeded {
                return Ok(true);
            }
        }
        Err(CatalogError::Contended { what: format!("the routes of table {table}") })
    }
}

impl TableView {
    /// The node that serves the region, by either set.
    #[must_use]
    pub fn node(&self, region: RegionId) -> Option<NodeId> {
        self.write.get(&region).or_else(|| self.read.get(&region)).map(|route| route.node)
    }

    /// The routes for writing, by region number.
    #[must_use]
    pub fn write_routes(&self) -> Vec<Route> {
        self.write.values().cloned().collect()
    }

    /// Whether the two sets are the same.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.read == self.write
    }

    /// Replaces the table, and nothing else.
    #[must_use]
    pub fn plan_table(&self, info: &TableInfo) -> Planned {
        self.planned(info, Vec::new())
    }

    fn planned(&self, info: &TableInfo, mut ops: Vec<Op>) -> Planned {
        ops.push(Op::put(id_key(info.id), values::encode(info)));
        Planned { compares: vec![Compare::unchanged(&self.entry)], ops }
    }

    /// Admits writes under the new rules: the targets come in, the retired sources go out of the write set.
    #[must_use]
    pub fn plan_write_set(&self, set: &WriteSet<'_>) -> Planned {
        let mut write = self.write.clone();
        let mut ops = Vec::new();
        for route in set.targets {
            if write.get(&route.region).is_none_or(|known| known.generation < route.generation) {
                ops.push(put(RouteSet::Write, route));
                write.insert(route.region, route.clone());
            }
        }
        for region in set.retired {
            if write.remove(region).is_some() {
                ops.push(delete(RouteSet::Write, *region));
            }
        }
        let info = self.with_columns(set.columns, &self.read, &write);
        self.planned(&info, ops)
    }

    /// Makes the rows of a committed group visible: what the write set has of generation `commit` comes into the read
    /// set, and those of its `sources` that are older and written no more go out. `columns` are the partition columns
    /// that the table gets, if they change. `None` when the write set has nothing of that generation.
    #[must_use]
    pub fn plan_read_set(&self, commit: Generation, sources: &[RegionId], columns: Option<&[ColumnId]>) -> Option<Planned> {
        let admitted: Vec<&Route> = self.write.values().filter(|route| route.generation == commit).collect();
        if admitted.is_empty() {
            return None;
        }
        let mut read = self.read.clone();
        let mut ops = Vec::new();
        for route in admitted {
            if read.get(&route.region).is_none_or(|known| known.generation < commit) {
                ops.push(put(RouteSet::Read, route));
                read.insert(route.region, route.clone());
            }
        }
        for region in sources.iter().filter(|region| self.is_old(**region, commit)) {
            read.remove(region);
            ops.push(delete(RouteSet::Read, *region));
        }
        let columns = columns.unwrap_or(&self.info.partition_columns);
        Some(self.planned(&self.with_columns(columns, &read, &self.write), ops))
    }

    /// Whether `region` is read under an older generation, and not written any more.
    fn is_old(&self, region: RegionId, commit: Generation) -> bool {
        !self.write.contains_key(&region) && self.read.get(&region).is_some_and(|route| route.generation < commit)
    }

    /// The targets of the group that was committed in this generation; none while its write set is not published.
    #[must_use]
    pub fn admitted(&self, commit: Generation) -> Vec<RegionId> {
        self.write.values().filter(|route| route.generation == commit).map(|route| route.region).collect()
    }

    /// Whether the read set of a committed group is published: its write set is, and is read.
    #[must_use]
    pub fn is_published(&self, commit: Generation, sources: &[RegionId]) -> bool {
        let mut admitted = self.write.values().filter(|route| route.generation == commit).peekable();
        let read = |route: &Route| self.read.get(&route.region).is_some_and(|known| known.generation >= commit);
        admitted.peek().is_some() && admitted.all(read) && !sources.iter().any(|region| self.is_old(*region, commit))
    }

    /// Moves the sources of an aborted group to generation `abort` in both sets, under their old rules.
    #[must_use]
    pub fn plan_abort(&self, abort: Generation, sources: &[RegionId]) -> Planned {
        let mut ops = Vec::new();
        for region in sources {
            for (set, routes) in [(RouteSet::Read, &self.read), (RouteSet::Write, &self.write)] {
                if let Some(route) = routes.get(region).filter(|route| route.generation < abort) {
                    ops.push(put(set, &Route { generation: abort, ..route.clone() }));
                }
            }
        }
        self.planned(&self.info, ops)
    }

    /// The table with these partition columns, and behind them those that it has and a rule still names.
    fn with_columns(&self, columns: &[ColumnId], read: &BTreeMap<RegionId, Route>, write: &BTreeMap<RegionId, Route>) -> TableInfo {
        let named = |column: &ColumnId| read.values().chain(write.values()).any(|route| route.rule.columns().contains(column));
        let old = self.info.partition_columns.iter().filter(|column| !columns.contains(column) && named(column));
        let partition_columns = columns.iter().chain(old).copied().collect();
        TableInfo { partition_columns, ..self.info.clone() }
    }
}

fn put(set: RouteSet, route: &Route) -> Op {
    Op::put(MetaKey::Route { set, region: route.region }.to_key(), values::encode(route))
}

fn delete(set: RouteSet, region: RegionId) -> Op {
    Op::delete(MetaKey::Route { set, region }.to_key())
}
