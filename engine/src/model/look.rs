//! What a scan must give.

use std::collections::BTreeMap;

use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::Schema;
use tessera_manifest::value::Value;

use super::naive::Model;
use super::op::Look;
use crate::options::MergeMode;
use crate::request::{Order, ScanRequest};
use crate::sst::time_bounds;

/// A look at a table under a schema.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    look: &'a Look,
    schema: &'a Schema,
    filter: Expr,
    columns: Vec<usize>,
    limit: Option<usize>,
}

type Rows = Vec<Vec<Value>>;

impl<'a> Asked<'a> {
    pub(super) fn new(look: &'a Look, schema: &'a Schema) -> Self {
        let filter = look.filter.under(schema);
        let width = schema.columns().len();
        let mut columns: Vec<usize> = (0..width).collect();
        if let Some(some) = &look.projection {
            columns = some.iter().copied().filter(|at| *at < width).collect();
            // Who scans tests the rows again, and so reads the columns that the filter names.
            let keys = schema.primary_key().iter().copied().chain([schema.time_index().id]).filter(|_| look.last_rows);
            for at in filter.columns().into_iter().chain(keys).filter_map(|id| schema.position(id)) {
                if !columns.contains(&at) {
                    columns.push(at);
                }
            }
        }
        let limit = look.limit.filter(|_| leaves_nothing_to_test(&filter, schema));
        Self { look, schema, filter, columns, limit }
    }

    pub(super) fn request(&self) -> ScanRequest {
        ScanRequest {
            projection: self.look.projection.as_ref().map(|_| self.columns.clone()),
            filter: self.filter.clone(),
            limit: self.limit,
            order: self.look.order,
            tags: self.look.tags,
            last_rows: self.look.last_rows,
            streams: self.look.streams,
            ..ScanRequest::default()
        }
    }

    /// Positions of the columns wanted.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether the rows of the streams are what the table shows.
    pub(super) fn check(&self, table: &Model, streams: &[Rows]) -> Result<(), String> {
        let visible = table.rows(self.schema);
        self.check_promises(streams.iter().flatten())?;
        let by_key = self.check_order(streams)?;
        let outcome = match self.look.last_rows {
            true => self.check_last_rows(&visible, streams),
            // Rows of one key come in any order.
            false => self.check_rows(&visible, streams, by_key && table.mode() != MergeMode::Append),
        };
        outcome.map_err(|detail| format!("{detail}, under {:?}, of {visible:?}", self.filter))
    }

    /// Where a column of the schema is in what comes out.
    fn place(&self, id: ColumnId) -> Option<usize> {
        self.columns.iter().position(|at| self.schema.columns()[*at].id == id)
    }

    fn holds(&self, expr: &Expr, row: &[Value]) -> bool {
        expr.matches(|id| &row[self.place(id).unwrap()])
    }

    /// Conditions on tags and bounds of the time hold for every row that comes out.
    fn check_promises<'r>(&self, mut rows: impl Iterator<Item = &'r Vec<Value>>) -> Result<(), String> {
        let time = self.place(self.schema.time_index().id);
        let (from, to) = time_bounds(&self.filter, self.schema.time_index().id);
        let within = |row: &[Value]| time.is_none_or(|at| Value::Timestamp(from) <= row[at] && row[at] <= Value::Timestamp(to));
        let of_tags = of_tags(&self.filter, self.schema);
        match rows.find(|row| !within(row) || !of_tags.iter().all(|part| self.holds(part, row))) {
            Some(row) => Err(format!("the scan gave {row:?}, which {:?} excludes", self.filter)),
            None => Ok(()),
        }
    }

    /// Whether the rows must come by key. As far as the columns that rows are ordered by come out, the order is looked at.
    fn check_order(&self, streams: &[Rows]) -> Result<bool, String> {
        let order = if self.look.last_rows { Order::Any } else { self.look.order };
        let key = match order {
            Order::Any => return Ok(false),
            Order::Key => self.schema.primary_key().iter().copied().chain([self.schema.time_index().id]).collect(),
            Order::Time | Order::NewestFirst => vec![self.schema.time_index().id],
        };
        let Some(places) = key.into_iter().map(|id| self.place(id)).collect::<Option<Vec<_>>>() else { return Ok(order == Order::Key) };
        let key = |row: &Vec<Value>| places.iter().map(|at| row[*at].clone()).collect::<Vec<Value>>();
        let ascends = |mut keys: Vec<Vec<Value>>| {
            if order == Order::NewestFirst {
                keys.reverse();
            }
            keys.is_sorted()
        };
        let in_streams = streams.iter().all(|rows| ascends(rows.iter().map(key).collect()));
        // By key, the streams are in order as well.
        let in_all = order != Order::Key || ascends(streams.iter().flatten().map(key).collect());
        if in_streams && in_all { Ok(order == Order::Key) } else { Err(format!("rows are not in order: {streams:?}")) }
    }

    /// Each visible row that satisfies the filter comes once; of rows that do not satisfy it, anything. With a limit, there
    /// are at least so many, each visible, and by time these are the first.
    fn check_rows(&self, visible: &[Vec<Value>], streams: &[Rows], in_order: bool) -> Result<(), String> {
        let wanted = visible.iter().filter(|row| self.filter.matches(|id| &row[self.schema.position(id).unwrap()]));
        let wanted: Rows = wanted.map(|row| self.projected(row)).collect();
        let given: Rows = streams.iter().flatten().filter(|row| self.holds(&self.filter, row)).cloned().collect();
        if let Some(limit) = self.limit {
            if given.len() < limit.min(wanted.len()) {
                return Err(format!("the scan gave {} rows of {limit}, there are {}", given.len(), wanted.len()));
            }
            self.check_first(&wanted, &given, limit)?;
        } else if in_order && given != wanted {
            return Err(format!("the scan gave {given:?} where {wanted:?} come by key"));
        }
        let mut missing = counted(wanted);
        for row in given {
            match missing.get_mut(&row) {
                Some(count) if *count > 0 => *count -= 1,
                _ => return Err(format!("the scan gave {row:?}, which is not there (so often)")),
            }
        }
        match missing.into_iter().find(|(_, count)| *count > 0) {
            Some((row, count)) if self.limit.is_none() => Err(format!("the scan left out {count} of {row:?}")),
            _ => Ok(()),
        }
    }

    fn check_first(&self, wanted: &[Vec<Value>], given: &[Vec<Value>], limit: usize) -> Result<(), String> {
        let Some(time) = self.place(self.schema.time_index().id) else { return Ok(()) };
        let first = |rows: &[Vec<Value>]| {
            let mut times: Vec<Value> = rows.iter().map(|row| row[time].clone()).collect();
            times.sort();
            if self.look.order == Order::NewestFirst {
                times.reverse();
            }
            times.truncate(limit);
            times
        };
        let by_time = matches!(self.look.order, Order::Time | Order::NewestFirst);
        if by_time && first(wanted) != first(given) {
            return Err(format!(
                "the first {limit} that the scan gave are at {:?}, those that there are at {:?}",
                first(given),
                first(wanted)
            ));
        }
        Ok(())
    }

    /// Of each series one of its last rows comes. Of a filter, only conditions on tags and bounds of the time count.
    fn check_last_rows(&self, visible: &[Vec<Value>], streams: &[Rows]) -> Result<(), String> {
        let schema = self.schema;
        let (from, to) = time_bounds(&self.filter, schema.time_index().id);
        let of_tags = of_tags(&self.filter, schema);
        let mut last: BTreeMap<Vec<Value>, Rows> = BTreeMap::new();
        let at = |id: ColumnId| schema.position(id).unwrap();
        let time = at(schema.time_index().id);
        for row in visible {
            let in_time = Value::Timestamp(from) <= row[time] && row[time] <= Value::Timestamp(to);
            if !in_time || !of_tags.iter().all(|part| part.matches(|id| &row[at(id)])) {
                continue;
            }
            let rows = last.entry(schema.primary_key().iter().map(|id| row[at(*id)].clone()).collect()).or_default();
            match rows.first().map(|first| row[time].cmp(&first[time])) {
                Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => rows.push(row.clone()),
                _ => *rows = vec![row.clone()],
            }
        }
        let (series, mut given) = (last.len(), 0);
        for row in streams.iter().flatten() {
            let key: Vec<Value> = schema.primary_key().iter().map(|id| row[self.place(*id).unwrap()].clone()).collect();
            match last.remove(&key) {
                Some(rows) if rows.iter().any(|last| self.projected(last) == *row) => given += 1,
                rows => return Err(format!("the scan gave {row:?} for the last row of a series, of {rows:?} that were left of it")),
            }
        }
        if given < self.limit.unwrap_or(series).min(series) {
            return Err(format!("the scan left out the last rows of {last:?}"));
        }
        Ok(())
    }

    fn projected(&self, row: &[Value]) -> Vec<Value> {
        self.columns.iter().map(|at| row[*at].clone()).collect()
    }
}

fn parts(filter: &Expr) -> &[Expr] {
    match filter {
        Expr::And(parts) => parts,
        one => std::slice::from_ref(one),
    }
}

/// The parts of a conjunction that name tags alone.
fn of_tags<'a>(filter: &'a Expr, schema: &Schema) -> Vec<&'a Expr> {
    parts(filter).iter().filter(|part| part.columns().iter().all(|id| schema.primary_key().contains(id))).collect()
}

/// Whether every row that comes out satisfies the filter.
fn leaves_nothing_to_test(filter: &Expr, schema: &Schema) -> bool {
    let time = schema.time_index().id;
    let bounds = |part: &Expr| matches!(part, Expr::Compare { column, op, .. } if *column == time && *op != CompareOp::NotEq);
    let of_tags = |part: &Expr| part.columns().iter().all(|id| schema.primary_key().contains(id));
    parts(filter).iter().all(|part| bounds(part) || of_tags(part))
}

fn counted(rows: Rows) -> BTreeMap<Vec<Value>, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts
}
