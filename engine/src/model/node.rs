//! Runs a history on a real region, with a local log and a store in memory, beside the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tessera_manifest::env::{Env, Source};
use tessera_manifest::id::{Generation, NodeId, RegionId, RegionNumber, Slot, TableId};
use tessera_manifest::log::Settings;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, ColumnChange, ColumnDefault, Place, Schema, SemanticType};
use tessera_manifest::value::Value;

use super::look::Asked;
use super::naive::{self, Model};
use super::op::{Alter, At, Look, Op, Spot};
use super::table::{self, Row};
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::error::Error;
use crate::merge::fixtures::{batch, in_values, rows_of};
use crate::options::{MergeMode, SkippingIndex};
use crate::region::{Region, RegionScan};
use crate::request::{Alteration, AsOf, OpType, WriteRequest};
use crate::wal::{LocalWal, LogStore, Options, SyncMode};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

/// Records from which on a checkpoint is due: few, so that histories are forgotten.
const CHECKPOINT_RECORDS: usize = 6;

/// Runs the history; the error says after which step the region and the model differ.
pub(super) async fn run(mode: MergeMode, history: &[Op]) -> Result<(), String> {
    let mut node = Node::start(mode).await;
    for (step, op) in history.iter().enumerate() {
        node.apply(op).await.map_err(|detail| format!("step {step}, {op:?}: {detail}"))?;
    }
    for at in [At::Now, At::Past { ago: history.len() / 2, by_time: false, under_todays_schema: false }] {
        node.scan(&Look::all(at)).await.map_err(|detail| format!("at the end: {detail}"))?;
    }
    node.engine().close().await.map_err(failed)
}

/// A clock that goes on when it is told to, and numbers for random bits.
#[derive(Debug, Default)]
struct Clock {
    unix_ms: AtomicU64,
    drawn: AtomicU64,
}

impl Source for Clock {
    fn unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::Relaxed)
    }

    fn random_u128(&self) -> u128 {
        // An odd factor, so that no two are the same, in any of their lower bits.
        u128::from(self.drawn.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }
}

struct Node {
    dir: TempDir,
    store: Arc<InMemory>,
    clock: Arc<Clock>,
    open: Option<(Engine, Arc<Region>)>,
    model: Model,
    /// What of it is in files.
    in_files: Arc<Model>,
    /// What there was after each step.
    past: Vec<Moment>,
}

/// What there was after a step.
struct Moment {
    slot: Slot,
    time_ms: u64,
    schema: Arc<Schema>,
    in_files: Arc<Model>,
}

fn failed(error: Error) -> String {
    crate::error_chain(&error)
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

async fn engine(dir: &TempDir, store: &Arc<InMemory>, env: Env) -> Engine {
    let sync = SyncMode::Interval(Duration::from_secs(3600));
    let options = Options { segment_bytes: 64 << 10, sync, ..Options::new(NodeId(1)) };
    let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open_unsynced(dir.path(), options, env.clone()).await.unwrap());
    let history = Settings { checkpoint_records: CHECKPOINT_RECORDS, ..Settings::default() };
    let config = Config { row_group_rows: 16, history, ..Config::default() };
    Engine::start(Parts { store: Arc::clone(store) as _, wal, node: NodeId(1), env, config, read_set: None, reachable: None })
}

impl Node {
    async fn start(mode: MergeMode) -> Self {
        let (dir, store, clock) = (TempDir::new().unwrap(), Arc::new(InMemory::new()), Arc::new(Clock::default()));
        clock.unix_ms.store(1_000, Ordering::Relaxed);
        let engine = engine(&dir, &store, Env::from_source(Arc::clone(&clock) as _)).await;
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
        let model = Model::new(mode);
        let in_files = Arc::new(model.clone());
        let mut node = Self { dir, store, clock, open: Some((engine, region)), model, in_files, past: Vec::new() };
        node.remember();
        node
    }

    fn engine(&self) -> &Engine {
        &self.open.as_ref().unwrap().0
    }

    fn region(&self) -> &Arc<Region> {
        &self.open.as_ref().unwrap().1
    }

    fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.region().meta().schema)
    }

    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        self.clock.unix_ms.fetch_add(1, Ordering::Relaxed);
        match op {
            Op::Write { op, rows, ago } => self.write(*op, rows, *ago).await?,
            Op::Flush => {
                self.region().flush().await.map_err(failed)?;
                self.all_is_in_files();
            }
            Op::Crash => {
                self.engine().stop_background().await;
                self.reopen().await?;
            }
            Op::Restart => {
                self.engine().close().await.map_err(failed)?;
                self.all_is_in_files();
                self.reopen().await?;
            }
            Op::Compact(strategy) => {
                self.region().compact(*strategy).await.map_err(failed)?;
            }
            Op::Truncate => {
                self.region().truncate().await.map_err(failed)?;
                self.model.truncate();
                self.all_is_in_files();
            }
            Op::TruncateRange(from, to) => {
                self.region().truncate_ranges(&[(*from, *to)]).await.map_err(failed)?;
                self.model.truncate_range(*from, *to);
                self.all_is_in_files();
            }
            Op::Alter(alter) => self.alter(alter).await?,
            Op::HoursPass => {
                self.clock.unix_ms.fetch_add(2 * 3_600_000, Ordering::Relaxed);
            }
            Op::Scan(look) => self.scan(look).await?,
        }
        self.remember();
        Ok(())
    }

    fn all_is_in_files(&mut self) {
        self.in_files = Arc::new(self.model.clone());
    }

    /// A compaction in the background may come before the version is asked for: it changes no rows.
    fn remember(&mut self) {
        let slot = self.region().info().manifest_version;
        let (schema, in_files) = (self.schema(), Arc::clone(&self.in_files));
        self.past.push(Moment { slot, time_ms: self.clock.unix_ms(), schema, in_files });
    }

    /// What there was so many steps ago.
    fn ago(&self, steps: usize) -> &Moment {
        &self.past[self.past.len() - 1 - steps % self.past.len()]
    }

    async fn write(&mut self, op: OpType, rows: &[Row], ago: usize) -> Result<(), String> {
        let (meta, under) = (self.region().meta(), Arc::clone(&self.ago(ago).schema));
        let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.under(&under)).collect();
        let rows_batch = batch(&under, op, &rows);
        let request = WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch: rows_batch, op };
        self.region().write_under(Some(Arc::clone(&under)), request).await.map_err(failed)?;
        for row in &rows {
            match op {
                OpType::Put => self.model.put(&meta.schema, &under, row),
                OpType::Delete => self.model.delete(&meta.schema, &under, row),
            }
        }
        Ok(())
    }

    async fn alter(&mut self, alter: &Alter) -> Result<(), String> {
        let meta = self.region().meta();
        let mut options = meta.options.clone();
        let change = column_change(alter, &meta.schema);
        match (alter, &change) {
            (Alter::Index { column, false_positives }, _) => {
                let column = &meta.schema.columns()[column % meta.schema.columns().len()];
                set(&mut options, &SkippingIndex::option_name(column.id), *false_positives);
            }
            (Alter::Option(name, value), _) => set(&mut options, name, *value),
            (_, None) => return Ok(()),
            (_, Some(ColumnChange::Drop { name })) => {
                let id = meta.schema.column_by_name(name).unwrap().id;
                set(&mut options, &SkippingIndex::option_name(id), None);
            }
            _ => {}
        }
        let changes: Vec<ColumnChange> = change.into_iter().collect();
        let schema = Arc::new(meta.schema.evolve(&changes, &[]).map_err(|error| crate::error_chain(&error))?);
        let to = Alteration { database: meta.database.clone(), table: meta.table.clone(), schema, options };
        self.region().alter(&to).await.map_err(failed)?;
        if let [ColumnChange::Add { column, .. }] = &changes[..]
            && column.semantic == SemanticType::Tag
        {
            self.model.extend_keys(&naive::default(column));
        }
        Ok(())
    }

    /// The log's lock is free once the last handle of it is gone.
    async fn reopen(&mut self) -> Result<(), String> {
        drop(self.open.take());
        let engine = engine(&self.dir, &self.store, Env::from_source(Arc::clone(&self.clock) as _)).await;
        let region = engine.open_region(REGION).await.map_err(failed)?;
        self.open = Some((engine, region));
        Ok(())
    }

    async fn scan(&self, look: &Look) -> Result<(), String> {
        match look.at {
            At::Now => self.scan_now(look).await,
            At::NowUnder(ago) => self.scan_under(look, self.ago(ago)).await,
            At::Past { ago, by_time, under_todays_schema } => {
                let then = self.ago(ago);
                let as_of = if by_time { AsOf::UnixMs(then.time_ms) } else { AsOf::Version(then.slot) };
                self.scan_past(look, then, as_of, under_todays_schema).await
            }
        }
    }

    async fn scan_now(&self, look: &Look) -> Result<(), String> {
        let schema = self.schema();
        let known = self.region().known();
        let visible = self.model.rows(&schema);
        let times = || visible.iter().map(|row| &row[schema.position(schema.time_index().id).unwrap()]);
        let time = known.time.map(|(from, to)| (Some(Value::Timestamp(from)), Some(Value::Timestamp(to))));
        if known.rows.is_some_and(|rows| rows != visible.len() as u64)
            || time.is_some_and(|time| time != (times().min().cloned(), times().max().cloned()))
        {
            return Err(format!("without reading, {known:?} is known of {visible:?}"));
        }
        let asked = Asked::new(look, &schema);
        let scan = self.region().scan(asked.request()).await.map_err(failed)?;
        asked.check(&self.model, &streams(&asked, &scan).await?)
    }

    /// Under an earlier schema: refused where its rows would be others, or have columns that are gone.
    async fn scan_under(&self, look: &Look, then: &Moment) -> Result<(), String> {
        let (planned, present) = (&then.schema, self.schema());
        let asked = Asked::new(look, planned);
        let mut wanted = asked.columns().iter().map(|at| &planned.columns()[*at]);
        let scan = self.region().scan_under(Some(Arc::clone(planned)), asked.request()).await;
        if planned.primary_key() != present.primary_key() {
            return refused(&scan, |error| matches!(error, Error::KeyChanged { .. }));
        }
        if wanted.clone().any(|column| present.column(column.id).is_none()) {
            return refused(&scan, |error| matches!(error, Error::ColumnDropped { .. }));
        }
        let scan = scan.map_err(failed)?;
        // Values that came since may be too large for the type that a column had.
        if wanted.any(|column| present.column(column.id).is_some_and(|present| present.data_type != column.data_type)) {
            return Ok(());
        }
        asked.check(&self.model, &streams(&asked, &scan).await?)
    }

    /// What was in files, under the schema of then or of now. What retention has passed is refused; it may pass meanwhile.
    async fn scan_past(&self, look: &Look, then: &Moment, as_of: AsOf, under_todays_schema: bool) -> Result<(), String> {
        let under = under_todays_schema.then(|| self.schema());
        let asked = Asked::new(look, under.as_ref().unwrap_or(&then.schema));
        let request = crate::request::ScanRequest { as_of: Some(as_of), ..asked.request() };
        let before = self.region().state().floor();
        let scan = self.region().scan_under(under.clone(), request).await;
        if matches!(as_of, AsOf::Version(slot) if slot < before) {
            return refused(&scan, is_forgotten);
        }
        match scan {
            Err(error) if is_forgotten(&error) && then.slot < self.region().state().floor() => Ok(()),
            scan => asked.check(&then.in_files, &streams(&asked, &scan.map_err(failed)?).await?),
        }
    }
}

fn is_forgotten(error: &Error) -> bool {
    matches!(error, Error::Manifest { source, .. } if matches!(**source, tessera_manifest::error::Error::NoVersion { .. }))
}

fn refused(scan: &Result<RegionScan, Error>, as_it_should: impl Fn(&Error) -> bool) -> Result<(), String> {
    match scan {
        Err(error) if as_it_should(error) => Ok(()),
        Err(error) => Err(format!("the scan was refused for another reason: {}", crate::error_chain(error))),
        Ok(_) => Err("the scan was not refused".to_owned()),
    }
}

/// The rows of each stream.
async fn streams(asked: &Asked<'_>, scan: &RegionScan) -> Result<Vec<Vec<Vec<Value>>>, String> {
    let mut streams = Vec::with_capacity(scan.streams());
    for number in 0..scan.streams() {
        let batches: Vec<_> = scan.stream(number).map_ok(|batch| in_values(&batch)).try_collect().await.map_err(failed)?;
        streams.push(match asked.columns() {
            [] => vec![Vec::new(); batches.iter().map(arrow::array::RecordBatch::num_rows).sum()],
            _ => rows_of(&batches),
        });
    }
    Ok(streams)
}

fn set(options: &mut BTreeMap<String, String>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => drop(options.insert(name.to_owned(), value.to_owned())),
        None => drop(options.remove(name)),
    }
}

/// The change of the schema that is meant; none if it is not possible now.
fn column_change(alter: &Alter, schema: &Schema) -> Option<ColumnChange> {
    let fields = || schema.columns().iter().filter(|column| column.semantic == SemanticType::Field);
    match alter {
        Alter::Add { kind, tag, default, not_null, spot } => {
            let column = Column {
                id: schema.next_column_id(),
                name: format!("added{kind}{}", if *tag { "tag" } else { "" }),
                data_type: table::ADDED[*kind],
                semantic: if *tag { SemanticType::Tag } else { SemanticType::Field },
                nullable: default.is_null() || !not_null,
                default: Some(ColumnDefault::Value(default.clone())).filter(|_| !default.is_null()),
                comment: None,
            };
            let place = match spot {
                Spot::Last => Place::Last,
                Spot::First => Place::First,
                Spot::After(nth) => Place::After(schema.columns()[nth % schema.columns().len()].name.clone()),
            };
            schema.column_by_name(&column.name).is_none().then_some(ColumnChange::Add { column, place })
        }
        Alter::Drop(nth) => {
            let name = fields().nth(*nth)?.name.clone();
            (fields().count() > 1).then_some(ColumnChange::Drop { name })
        }
        Alter::Widen(nth, to) => {
            let added: Vec<&Column> = fields().filter(|column| column.name.starts_with("added")).collect();
            let column = added.get(nth % added.len().max(1))?;
            let wider: Vec<_> = table::WIDER.into_iter().filter(|t| *t != column.data_type && column.data_type.widens_to(*t)).collect();
            let data_type = *wider.get(to % wider.len().max(1))?;
            Some(ColumnChange::Modify { name: column.name.clone(), data_type })
        }
        Alter::Index { .. } | Alter::Option(..) => None,
    }
}
