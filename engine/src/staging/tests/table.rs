//! The table of these tests: its catalog, its router, its coordinator, and what was promised to its writers.
//!
//! The partition column is a float tag with NULL and NaN among its values, so that every test has these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use tessera_manifest::action::StageTarget;
use tessera_manifest::env::{self, Env};
use tessera_manifest::id::{ColumnId, Generation, RegionId, RegionNumber, Slot, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{self, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::txn::{self, Decided, Verdict};
use tessera_manifest::value::{DataType, Value};

use crate::engine::Engine;
use crate::error::Error;
use crate::merge::fixtures::{MS, batch, column, rows_of};
use crate::region::Region;
use crate::request::{OpType, ScanRequest, WriteRequest};
use crate::staging::{Drained, ReadSet, RemapRequest, RemapTarget, StageRequest, Staged};

pub(super) const TABLE: TableId = TableId(1024);
/// Values of the partition column: NULL, the numbers from 1 on, NaN.
pub(super) const KEYS: i64 = 10;
/// How often a writer asks again before the test fails.
const RETRIES_MAX: usize = 20_000;
/// How often it asks without a pause.
const RETRIES_AT_ONCE: usize = 100;
const RETRY_PAUSE: Duration = Duration::from_millis(1);

pub(super) fn id(number: u32) -> RegionId {
    RegionId::new(TABLE, RegionNumber(number))
}

pub(super) fn key(index: i64) -> Value {
    match index {
        0 => Value::Null,
        index if index == KEYS - 1 => Value::Float(f64::NAN),
        index => Value::Float(index as f64),
    }
}

pub(super) fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "k", DataType::Float64, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "v", DataType::Int64, SemanticType::Field),
        column(3, "w", DataType::Int64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

pub(super) fn parsed(text: &str) -> Arc<Expr> {
    let rule = if text.is_empty() { Expr::always() } else { rule::parse(text, &schema()).unwrap() };
    Arc::new(rule.canonical())
}

/// A row: key, time and value; `None` leaves the second field out.
pub(super) fn row(index: i64, ts: i64, v: i64) -> Vec<Value> {
    vec![key(index), Value::Timestamp(ts), Value::Int(v), Value::Null]
}

/// A region in a published set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) generation: Generation,
    pub(super) rule: Arc<Expr>,
}

#[derive(Debug, Default)]
pub(super) struct Sets {
    pub(super) write: BTreeMap<RegionId, Route>,
    pub(super) read: BTreeMap<RegionId, Route>,
    pub(super) revision: u64,
    generation: u32,
    region: u32,
    /// The read set that a group will publish, for whoever does it.
    planned: BTreeMap<TxnId, BTreeMap<RegionId, Route>>,
    /// Whether it may be published by others.
    pub(super) publishable: BTreeSet<TxnId>,
}

/// The catalog; outlives processes.
#[derive(Debug, Clone, Default)]
pub(super) struct Kv(pub(super) Arc<Mutex<Sets>>);

#[async_trait]
impl ReadSet for Kv {
    async fn published(&self, region: RegionId) -> Result<Option<Generation>, String> {
        Ok(self.0.lock().unwrap().read.get(&region).map(|route| route.generation))
    }

    async fn publish(&self, _table: TableId, txn: TxnId) -> Result<bool, String> {
        let mut sets = self.0.lock().unwrap();
        let Some(planned) = sets.planned.get(&txn).filter(|_| sets.publishable.contains(&txn)).cloned() else { return Ok(false) };
        sets.read = planned;
        sets.revision += 1;
        Ok(true)
    }
}

/// One repartition of one group.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) txn: TxnId,
    pub(super) sources: BTreeMap<RegionId, Generation>,
    pub(super) targets: Vec<(RegionId, Arc<Expr>)>,
    pub(super) commit: Generation,
    pub(super) abort: Generation,
    pub(super) options: BTreeMap<String, String>,
}

impl Kv {
    pub(super) fn sets(&self) -> std::sync::MutexGuard<'_, Sets> {
        self.0.lock().unwrap()
    }

    pub(super) fn routes(&self) -> Vec<(RegionId, Route)> {
        self.sets().write.iter().map(|(region, route)| (*region, route.clone())).collect()
    }

    /// Plans a group: regions become regions with these rules; `None` is a new one.
    pub(super) fn plan(&self, sources: &[u32], targets: &[(Option<u32>, &str)], mode: &str) -> Plan {
        let mut sets = self.sets();
        let mut fresh = || {
            sets.generation += 1;
            Generation::new(sets.generation).unwrap()
        };
        let (commit, abort) = (fresh(), fresh());
        let sources: BTreeMap<RegionId, Generation> = sources.iter().map(|n| (id(*n), sets.write[&id(*n)].generation)).collect();
        let targets: Vec<(RegionId, Arc<Expr>)> = targets
            .iter()
            .map(|(number, rule)| {
                let region = number.unwrap_or_else(|| {
                    sets.region += 1;
                    sets.region - 1
                });
                (id(region), parsed(rule))
            })
            .collect();
        let txn = TxnId(Env::system().ulid());
        let mut planned = sets.read.clone();
        planned.retain(|region, _| !sources.contains_key(region));
        planned.extend(targets.iter().map(|(region, rule)| (*region, Route { generation: commit, rule: Arc::clone(rule) })));
        sets.planned.insert(txn, planned);
        Plan { txn, sources, targets, commit, abort, options: options(mode) }
    }
}

pub(super) fn options(mode: &str) -> BTreeMap<String, String> {
    let option = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    match mode {
        "append" => option("append_mode", "true"),
        mode => option("merge_mode", mode),
    }
}

pub(super) fn meta(region: RegionId, rule: &Arc<Expr>, generation: Generation, options: &BTreeMap<String, String>) -> RegionMeta {
    RegionMeta {
        region,
        database: "public".into(),
        table: "t".into(),
        schema: schema(),
        partition_columns: vec![ColumnId(0)],
        rule: Arc::clone(rule),
        generation,
        options: options.clone(),
    }
}

/// Creates the regions of a table with these rules.
pub(super) async fn create(engine: &Engine, kv: &Kv, rules: &[&str], mode: &str) {
    for (number, rule) in rules.iter().enumerate() {
        let (region, rule) = (id(number as u32), parsed(rule));
        engine.create_region(meta(region, &rule, Generation::FIRST, &options(mode))).await.unwrap();
        let route = Route { generation: Generation::FIRST, rule };
        kv.sets().write.insert(region, route.clone());
        kv.sets().read.insert(region, route);
    }
    let mut sets = kv.sets();
    (sets.generation, sets.region) = (1, rules.len() as u32);
}

impl Plan {
    pub(super) fn request(&self, region: RegionId) -> StageRequest {
        let target = self.targets.iter().find(|(target, _)| *target == region);
        StageRequest {
            region,
            txn: self.txn,
            base: self.base(region),
            generation: self.commit,
            abort: self.abort,
            target: target.map(|(_, rule)| StageTarget { rule: Arc::clone(rule), partition_columns: vec![ColumnId(0)] }),
            schema_version: schema().version(),
        }
    }

    pub(super) fn base(&self, region: RegionId) -> Generation {
        self.sources.get(&region).copied().unwrap_or(Generation::FIRST)
    }

    fn new_regions(&self) -> impl Iterator<Item = RegionId> {
        self.targets.iter().map(|(region, _)| *region).filter(|region| !self.sources.contains_key(region))
    }

    pub(super) fn regions(&self) -> BTreeSet<RegionId> {
        self.sources.keys().copied().chain(self.new_regions()).collect()
    }

    /// Steps 1 to 3.
    pub(super) async fn fence(&self, engine: &Engine) -> Result<Vec<Staged>, Error> {
        let mut staged = Vec::new();
        for region in self.new_regions() {
            let meta = meta(region, &parsed(""), self.base(region), &self.options);
            staged.push(engine.create_staged(meta, self.request(region)).await?);
        }
        for region in self.sources.keys() {
            engine.prepare(*region, self.txn).await?;
        }
        let sources: Vec<RegionId> = self.sources.keys().copied().collect();
        engine.dry_run(&self.targets, &sources).await?;
        for region in self.sources.keys() {
            staged.push(engine.stage(self.request(*region)).await?);
        }
        Ok(staged)
    }

    pub(super) async fn decide(&self, engine: &Engine, stages: Option<&[Staged]>) -> Decided {
        let verdict = match stages {
            Some(staged) => {
                let mut stages: Vec<(RegionId, Slot)> = staged.iter().map(|staged| (staged.region, staged.version)).collect();
                stages.sort_unstable();
                Verdict::Commit { stages }
            }
            None => Verdict::Abort,
        };
        let proposal = Decided { txn: self.txn, table: TABLE, commit: self.commit, abort: self.abort, verdict };
        txn::decide(engine.context(), proposal).await.unwrap()
    }

    /// Step 5.
    pub(super) fn admit(&self, kv: &Kv) {
        let mut sets = kv.sets();
        let planned = sets.planned[&self.txn].clone();
        sets.write = planned;
    }

    /// Steps 6 and 7.
    pub(super) async fn drain_and_remap(&self, engine: &Engine, epochs: &[Staged]) -> Result<(), Error> {
        let mut sources: Vec<Drained> = Vec::new();
        for region in self.sources.keys() {
            sources.push(engine.drain(*region, self.txn).await?);
        }
        for (region, rule) in &self.targets {
            let mut epoch = epochs.iter().find(|staged| staged.region == *region).unwrap().version.epoch;
            loop {
                let target = RemapTarget { region: *region, epoch, rule: Arc::clone(rule) };
                let request = RemapRequest { txn: self.txn, targets: vec![target], sources: sources.clone() };
                let remapped = engine.remap(request).await?.remove(0).1;
                match engine.apply_remap(*region, remapped).await {
                    Err(Error::StaleRemap { epoch: now, .. }) => epoch = now,
                    done => break done.map(|_| ())?,
                }
            }
        }
        Ok(())
    }

    /// Step 8, first half.
    pub(super) async fn publish(&self, kv: &Kv) {
        kv.sets().publishable.insert(self.txn);
        assert_eq!(kv.publish(TABLE, self.txn).await, Ok(true));
    }

    /// Step 8, second half.
    pub(super) async fn resolve(&self, engine: &Engine, decided: &Decided) -> Result<(), Error> {
        for region in self.regions() {
            engine.resolve(region, self.txn, self.base(region), decided).await?;
        }
        Ok(())
    }

    /// From wherever it is to the end; `abort` says what to propose if nothing is decided.
    pub(super) async fn run(&self, engine: &Engine, kv: &Kv, abort: Option<usize>) -> Result<bool, Error> {
        let mut decided = txn::read(engine.context(), TABLE, self.txn).await.unwrap();
        if decided.is_none() {
            decided = Some(match abort {
                None => {
                    let staged = self.fence(engine).await?;
                    self.decide(engine, Some(&staged)).await
                }
                Some(stages) => {
                    for region in self.sources.keys().take(stages) {
                        engine.stage(self.request(*region)).await?;
                    }
                    if stages > self.sources.len() {
                        self.fence(engine).await?;
                    }
                    self.decide(engine, None).await
                }
            });
        }
        let decided = decided.unwrap();
        match &decided.verdict {
            Verdict::Commit { stages } => {
                let published = kv.sets().read.values().any(|route| route.generation >= self.commit);
                if !published {
                    self.admit(kv);
                    let epochs = stages.iter().map(|(region, version)| Staged { region: *region, version: *version });
                    self.drain_and_remap(engine, &epochs.collect::<Vec<_>>()).await?;
                    self.publish(kv).await;
                }
                self.resolve(engine, &decided).await?;
            }
            Verdict::Abort => self.abort(engine, kv, &decided).await?,
        }
        Ok(decided.commits())
    }

    async fn abort(&self, engine: &Engine, kv: &Kv, decided: &Decided) -> Result<(), Error> {
        {
            let mut sets = kv.sets();
            for region in self.sources.keys() {
                sets.write.get_mut(region).unwrap().generation = self.abort;
                sets.read.get_mut(region).unwrap().generation = self.abort;
            }
            sets.revision += 1;
        }
        for region in self.sources.keys() {
            engine.resolve(*region, self.txn, self.base(*region), decided).await?;
        }
        for region in self.new_regions() {
            match engine.open_region(region).await {
                Ok(_) => {
                    engine.resolve(region, self.txn, self.base(region), decided).await?;
                }
                Err(_) => engine.create_retired(meta(region, &parsed(""), self.base(region), &self.options)).await?,
            }
        }
        Ok(())
    }
}

/// Opens every region that the catalog or the plan names; those of the plan may not exist.
pub(super) async fn open(engine: &Engine, kv: &Kv, plan: Option<&Plan>) {
    let mut regions: BTreeSet<RegionId> = {
        let sets = kv.sets();
        sets.write.keys().chain(sets.read.keys()).copied().collect()
    };
    regions.extend(plan.iter().flat_map(|plan| plan.regions()));
    for region in regions {
        if let Err(error) = engine.open_region(region).await {
            let there = kv.sets().read.contains_key(&region);
            assert!(!there, "{}", crate::error_chain(&error));
        }
    }
}

/// What writers were promised, by (key, time): what may be there now.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises(Arc<Mutex<BTreeMap<(i64, i64), Possible>>>);

/// The values that a row may have; `None`: it may be absent.
type Possible = Vec<Option<i64>>;

impl Promises {
    pub(super) fn begin(&self, at: (i64, i64), v: Option<i64>) {
        self.0.lock().unwrap().entry(at).or_insert_with(|| vec![None]).push(v);
    }

    pub(super) fn done(&self, at: (i64, i64), v: Option<i64>) {
        self.0.lock().unwrap().insert(at, vec![v]);
    }

    /// Whether these rows are what was promised.
    pub(super) fn check(&self, rows: &BTreeMap<(i64, i64), i64>) {
        let promised = self.0.lock().unwrap();
        for (at, may) in promised.iter() {
            assert!(may.contains(&rows.get(at).copied()), "{at:?} is {:?}, may be {may:?}", rows.get(at));
        }
        for at in rows.keys() {
            assert!(promised.contains_key(at), "{at:?} was never written");
        }
    }
}

fn index_of(value: &Value) -> i64 {
    (0..KEYS).find(|index| key(*index) == *value).unwrap()
}

/// Sends a row where the write set says, and asks again when it is told to. `None` deletes.
pub(super) async fn write(engine: &Engine, kv: &Kv, at: (i64, i64), v: Option<i64>) -> Result<(), Error> {
    for retry in 0..RETRIES_MAX {
        let value = key(at.0);
        let owners: Vec<(RegionId, Route)> = kv.routes().into_iter().filter(|(_, route)| route.rule.matches(|_| &value)).collect();
        assert_eq!(owners.len(), 1, "{owners:?}");
        let (region, route) = &owners[0];
        let op = if v.is_some() { OpType::Put } else { OpType::Delete };
        let request = WriteRequest {
            generation: route.generation,
            rule_version: route.rule.version(),
            batch: batch(&schema(), op, &[row(at.0, at.1, v.unwrap_or(0))]),
            op,
        };
        let written = match engine.region(*region) {
            Ok(open) => open.write(request).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => return Ok(()),
            Err(Error::Stale { .. } | Error::Retired { .. } | Error::RegionNotFound { .. }) if retry < RETRIES_AT_ONCE => {
                tokio::task::yield_now().await;
            }
            // Where time is virtual, it passes only while everybody waits.
            Err(Error::Stale { .. } | Error::Retired { .. } | Error::RegionNotFound { .. }) => env::sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    panic!("a router that retries is never let in");
}

/// The same, with a promise.
pub(super) async fn promise(engine: &Engine, kv: &Kv, promises: &Promises, at: (i64, i64), v: Option<i64>) {
    promises.begin(at, v);
    write(engine, kv, at, v).await.unwrap();
    promises.done(at, v);
}

/// All rows as one scan sees them that pins all regions of one read set; each row as (key, time, value).
pub(super) async fn scan(engine: &Engine, kv: &Kv) -> Vec<(i64, i64, i64)> {
    'again: for _ in 0..RETRIES_MAX {
        let (revision, regions) = {
            let sets = kv.sets();
            (sets.revision, sets.read.clone())
        };
        let mut scans = Vec::new();
        for (region, route) in regions {
            match engine.region(region).unwrap().scan(ScanRequest::default()).await {
                Ok(scan) => scans.push((route, scan)),
                Err(Error::Retired { .. }) => {
                    tokio::task::yield_now().await;
                    continue 'again;
                }
                Err(error) => panic!("{}", crate::error_chain(&error)),
            }
        }
        if kv.sets().revision != revision {
            continue;
        }
        let mut rows = Vec::new();
        for (route, scan) in scans {
            let batches: Vec<_> = scan.into_stream().try_collect().await.unwrap();
            for found in rows_of(&batches) {
                assert!(route.rule.matches(|_| &found[0]), "{found:?} is not of {route:?}");
                let (Value::Timestamp(ts), Value::Int(v)) = (&found[1], &found[2]) else { panic!("{found:?}") };
                rows.push((index_of(&found[0]), *ts, *v));
            }
        }
        rows.sort_unstable();
        return rows;
    }
    panic!("the read set never rests");
}

/// The rows of a scan, each of which must be there once.
pub(super) fn once(rows: &[(i64, i64, i64)]) -> BTreeMap<(i64, i64), i64> {
    let map: BTreeMap<(i64, i64), i64> = rows.iter().map(|(k, ts, v)| ((*k, *ts), *v)).collect();
    assert_eq!(map.len(), rows.len(), "a row is there twice: {rows:?}");
    map
}

pub(super) async fn region(engine: &Engine, number: u32) -> Arc<Region> {
    engine.region(id(number)).unwrap()
}
