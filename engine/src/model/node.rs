//! Runs a history on a real region, with a local log and a store in memory, beside the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;

use tessera_manifest::schema::{Column, ColumnChange, ColumnDefault, Place, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::naive::Model;
use super::op::{Alter, Op};
use super::table::{self, Row};
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::merge::fixtures::{batch, rows_of};
use crate::options::MergeMode;
use crate::region::Region;
use crate::request::{Alteration, OpType, ScanRequest, WriteRequest};
use crate::wal::{LocalWal, LogStore, Options, SyncMode};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

/// Runs the history; the error says after which step the region and the model differ.
pub(super) async fn run(mode: MergeMode, history: &[Op]) -> Result<(), String> {
    let mut node = Node::start(mode).await;
    for (step, op) in history.iter().enumerate() {
        node.apply(op).await.map_err(|detail| format!("step {step}, {op:?}: {detail}"))?;
    }
    node.apply(&Op::Scan { filter: Expr::always(), projection: None, limit: None })
        .await
        .map_err(|detail| format!("at the end: {detail}"))?;
    node.engine().close().await.map_err(|error| crate::error_chain(&error))
}

struct Node {
    dir: TempDir,
    store: Arc<InMemory>,
    open: Option<(Engine, Arc<Region>)>,
    model: Model,
}

/// Few files are enough for a compaction, so that most cases have some.
fn options(mode: MergeMode) -> BTreeMap<String, String> {
    let merging = match mode {
        MergeMode::LastRow => ("merge_mode", "last_row"),
        MergeMode::LastNonNull => ("merge_mode", "last_non_null"),
        MergeMode::Append => ("append_mode", "true"),
    };
    [merging, ("compaction.twcs.trigger_file_num", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

async fn engine(dir: &TempDir, store: &Arc<InMemory>) -> Engine {
    let sync = SyncMode::Interval(Duration::from_secs(3600));
    let options = Options { segment_bytes: 64 << 10, sync, ..Options::new(NodeId(1)) };
    let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open(dir.path(), options, Env::system()).await.unwrap());
    let config = Config { row_group_rows: 16, ..Config::default() };
    Engine::start(Parts { store: Arc::clone(store) as _, wal, node: NodeId(1), env: Env::system(), config, read_set: None })
}

impl Node {
    async fn start(mode: MergeMode) -> Self {
        let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()));
        let engine = engine(&dir, &store).await;
        let schema = table::schema();
        let meta = RegionMeta {
            region: REGION,
            database: "public".into(),
            table: "t".into(),
            partition_columns: Vec::new(),
            schema,
            rule: Arc::new(Expr::always().canonical()),
            generation: Generation::FIRST,
            options: options(mode),
        };
        let region = engine.create_region(meta).await.unwrap();
        Self { dir, store, open: Some((engine, region)), model: Model::new(mode) }
    }

    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        let failed = |error: crate::error::Error| crate::error_chain(&error);
        match op {
            Op::Put(rows) => self.write(OpType::Put, rows).await,
            Op::Delete(rows) => self.write(OpType::Delete, rows).await,
            Op::Flush => self.region().flush().await.map_err(failed),
            Op::Crash => {
                self.engine().stop_background().await;
                self.reopen().await
            }
            Op::Restart => {
                self.engine().close().await.map_err(failed)?;
                self.reopen().await
            }
            Op::Compact(strategy) => self.region().compact(*strategy).await.map(|_| ()).map_err(failed),
            Op::Truncate => {
                self.model.truncate();
                self.region().truncate().await.map_err(failed)
            }
            Op::TruncateRange(from, to) => {
                self.model.truncate_range(*from, *to);
                self.region().truncate_ranges(&[(*from, *to)]).await.map(|_| ()).map_err(failed)
            }
            Op::Alter(alter) => self.alter(alter).await,
            Op::Scan { filter, projection, limit } => self.check(filter, projection.as_deref(), *limit).await,
        }
    }

    async fn write(&mut self, op: OpType, rows: &[Row]) -> Result<(), String> {
        let meta = self.region().meta();
        let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.under(&meta.schema)).collect();
        let rows_batch = batch(&meta.schema, op, &rows);
        let request = WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch: rows_batch, op };
        self.region().write(request).await.map_err(|error| crate::error_chain(&error))?;
        for row in &rows {
            match op {
                OpType::Put => self.model.put(&meta.schema, row),
                OpType::Delete => self.model.delete(&meta.schema, row),
            }
        }
        Ok(())
    }

    async fn alter(&self, alter: &Alter) -> Result<(), String> {
        let meta = self.region().meta();
        let Some(change) = column_change(alter, &meta.schema) else { return Ok(()) };
        let schema = Arc::new(meta.schema.evolve(&[change], &[]).map_err(|error| crate::error_chain(&error))?);
        let to = Alteration { database: meta.database.clone(), table: meta.table.clone(), schema, options: meta.options.clone() };
        self.region().alter(&to).await.map_err(|error| crate::error_chain(&error))
    }

    /// The log's lock is free once the last handle of it is gone.
    async fn reopen(&mut self) -> Result<(), String> {
        drop(self.open.take());
        let engine = engine(&self.dir, &self.store).await;
        let region = engine.open_region(REGION).await.map_err(|error| crate::error_chain(&error))?;
        self.open = Some((engine, region));
        Ok(())
    }

    fn engine(&self) -> &Engine {
        &self.open.as_ref().unwrap().0
    }

    fn region(&self) -> &Arc<Region> {
        &self.open.as_ref().unwrap().1
    }

    /// Columns that the filter names are always read: who scans tests the rows again.
    async fn check(&self, filter: &Expr, projection: Option<&[usize]>, limit: Option<usize>) -> Result<(), String> {
        let schema = Arc::clone(&self.region().meta().schema);
        let there = |id: &ColumnId| schema.position(*id).is_some();
        let filter = if filter.columns().iter().all(there) { filter } else { &Expr::always() };
        let width = schema.columns().len();
        let mut columns: Vec<usize> = projection.map_or_else(|| (0..width).collect(), <[usize]>::to_vec);
        columns.retain(|at| *at < width);
        columns.extend(filter.columns().into_iter().filter_map(|id| schema.position(id)));
        columns.sort_unstable();
        columns.dedup();
        let limit = limit.filter(|_| *filter == Expr::always());
        let request =
            ScanRequest { projection: projection.map(|_| columns.clone()), filter: filter.clone(), limit, ..ScanRequest::default() };
        let failed = |error: crate::error::Error| crate::error_chain(&error);
        let scan = self.region().scan(request).await.map_err(failed)?;
        let batches: Vec<_> = scan.into_stream().try_collect().await.map_err(failed)?;
        let found = if columns.is_empty() {
            vec![Vec::new(); batches.iter().map(arrow::array::RecordBatch::num_rows).sum()]
        } else {
            rows_of(&batches)
        };
        compare(&Scan { filter, columns: &columns, limit }, &self.model.rows(&schema), &schema, found)
    }
}

/// The change of the schema that is meant; none if it is not possible now.
fn column_change(alter: &Alter, schema: &Schema) -> Option<ColumnChange> {
    match alter {
        Alter::Add { kind, default, first } => {
            let column = Column {
                id: schema.next_column_id(),
                name: format!("added{kind}"),
                data_type: table::ADDED[*kind],
                semantic: SemanticType::Field,
                nullable: true,
                default: default.clone().map(ColumnDefault::Value),
                comment: None,
            };
            let place = if *first { Place::First } else { Place::Last };
            schema.column_by_name(&column.name).is_none().then_some(ColumnChange::Add { column, place })
        }
        Alter::Drop(nth) => {
            let fields: Vec<&Column> = schema.columns().iter().filter(|column| column.semantic == SemanticType::Field).collect();
            let name = fields.get(*nth)?.name.clone();
            (fields.len() > 1).then_some(ColumnChange::Drop { name })
        }
        Alter::Widen => {
            let added = schema.column_by_name("added0")?;
            (added.data_type == DataType::Int32).then(|| ColumnChange::Modify { name: added.name.clone(), data_type: DataType::Int64 })
        }
    }
}

/// What was asked.
struct Scan<'a> {
    filter: &'a Expr,
    columns: &'a [usize],
    limit: Option<usize>,
}

/// A scan gives each visible row that satisfies the filter once; of rows that do not satisfy it, anything. With a limit,
/// there are at least so many, each visible.
fn compare(scan: &Scan<'_>, visible: &[Vec<Value>], schema: &Schema, found: Vec<Vec<Value>>) -> Result<(), String> {
    let projected = |row: &Vec<Value>| scan.columns.iter().map(|at| row[*at].clone()).collect::<Vec<Value>>();
    let wanted: Vec<Vec<Value>> =
        visible.iter().filter(|row| scan.filter.matches(|id| &row[schema.position(id).unwrap()])).map(projected).collect();
    let place = |id| scan.columns.iter().position(|at| schema.columns()[*at].id == id).unwrap();
    let given: Vec<Vec<Value>> = found.into_iter().filter(|row| scan.filter.matches(|id| &row[place(id)])).collect();
    if let Some(limit) = scan.limit
        && given.len() < limit.min(wanted.len())
    {
        return Err(format!("the scan gave {} rows of {limit}, there are {}", given.len(), wanted.len()));
    }
    let mut missing = counted(wanted.iter().cloned());
    for row in given {
        match missing.get_mut(&row) {
            Some(count) if *count > 0 => *count -= 1,
            _ => return Err(format!("the scan gave {row:?}, which is not there (so often); expected were {wanted:?}")),
        }
    }
    match missing.into_iter().find(|(_, count)| *count > 0) {
        Some((row, count)) if scan.limit.is_none() => Err(format!("the scan left out {count} of {row:?}; expected were {wanted:?}")),
        _ => Ok(()),
    }
}

fn counted(rows: impl Iterator<Item = Vec<Value>>) -> BTreeMap<Vec<Value>, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts
}
