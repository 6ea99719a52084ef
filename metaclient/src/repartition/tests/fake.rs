//! Regions in memory that obey the manifest's own rules: every change goes through `RegionState::apply_record`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tessera_manifest::action::{
    Action, Change, Decision, Edit, Fence, Flushed, Open, RemapStaged, Resolve, Retire, Seal, SegmentRef, Stage, StagedEdit,
};
use tessera_manifest::env::Env;
use tessera_manifest::file::{FileMeta, FileRef, Scope, StagedFile};
use tessera_manifest::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, Nonce, RegionId, Sequence, Slot, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{self, Expr, RuleVersion};
use tessera_manifest::set_hash::{MemberHash, SetHash};
use tessera_manifest::state::{RegionState, Segments};
use tessera_manifest::value::Value;
use tessera_manifest::wal::{WalId, WalKind, WalPosition, WalRef};

use super::super::*;
use crate::testing::counting_env;

/// A row: its key, which two columns follow from, its version, and what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub key: i64,
    pub sequence: Sequence,
    pub value: u64,
}

/// The values of a key's partition columns.
pub(super) fn columns(key: i64) -> [Value; 2] {
    [Value::Int(key), Value::Int((key * 7).rem_euclid(10))]
}

pub(super) fn holds(rule: &Expr, key: i64) -> bool {
    let values = columns(key);
    rule.matches(|ColumnId(id)| &values[id as usize])
}

/// Why a write was refused: the router reads the routes again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stale;

#[derive(Debug, Clone)]
pub(super) struct FakeRegion {
    pub state: RegionState,
    /// Acknowledged entries of the log.
    log: Vec<(u64, Row)>,
    counter: u64,
    pub prepared: BTreeSet<TxnId>,
    pub localized: u32,
}

/// What a request asks.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    CreateStaged(RegionMeta, StageRequest),
    Prepare(RegionId, TxnId),
    DryRun(Vec<(RegionId, Arc<Expr>)>, Vec<RegionId>),
    Stage(StageRequest),
    Drain(RegionId, TxnId),
    Remap(RemapRequest),
    ApplyRemap(RegionId, RemapStaged),
    Resolve(RegionId, Generation, Decided),
    CreateRetired(RegionMeta, Decided),
    Restart(RegionId),
    TakeBack(RegionId),
    Release(RegionId, TxnId),
    Localize(RegionId),
    Decide(Decided),
    Decided(TxnId),
}

impl Ask {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::CreateStaged(..) => "create_staged",
            Self::Prepare(..) => "prepare",
            Self::DryRun(..) => "dry_run",
            Self::Stage(_) => "stage",
            Self::Drain(..) => "drain",
            Self::Remap(_) => "remap",
            Self::ApplyRemap(..) => "apply_remap",
            Self::Resolve(..) => "resolve",
            Self::CreateRetired(..) => "create_retired",
            Self::Restart(_) => "restart",
            Self::TakeBack(_) => "take_back",
            Self::Release(..) => "release",
            Self::Localize(_) => "localize",
            Self::Decide(_) => "decide",
            Self::Decided(_) => "decided",
        }
    }

    pub(super) fn region(&self) -> Option<RegionId> {
        match self {
            Self::CreateStaged(meta, _) | Self::CreateRetired(meta, _) => Some(meta.region),
            Self::Stage(request) => Some(request.region),
            Self::Prepare(region, _)
            | Self::Drain(region, _)
            | Self::ApplyRemap(region, _)
            | Self::Resolve(region, ..)
            | Self::Restart(region)
            | Self::TakeBack(region)
            | Self::Release(region, _)
            | Self::Localize(region) => Some(*region),
            Self::DryRun(..) | Self::Remap(_) | Self::Decide(_) | Self::Decided(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Told {
    Staged(Staged),
    Prepared(Prepared),
    Previews(Vec<RemapPreview>),
    Drained(Drained),
    Remaps(Vec<(RegionId, RemapStaged)>),
    Applied(Applied),
    Resolved(Resolved),
    Decided(Option<Decided>),
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub regions: BTreeMap<RegionId, FakeRegion>,
    segments: Segments,
    contents: BTreeMap<FileKey, Vec<Row>>,
    pub decisions: BTreeMap<TxnId, Decided>,
    ids: Option<Env>,
    /// What was asked, in order.
    pub asked: Vec<&'static str>,
    /// How many requests to the metadata its process had made before each.
    pub asked_after: Vec<u64>,
}

/// The regions and decisions of a cluster.
#[derive(Debug, Default)]
pub(super) struct World(Mutex<Inner>);

/// By which source, and with which scope, a file is listed.
type Listings = Vec<((RegionId, RuleVersion), Scope)>;

fn wal_of(region: RegionId) -> WalId {
    WalId { kind: WalKind::Object, node: NodeId(1), log: Nonce(u128::from(region.as_u64())) }
}

const fn at(entry: u64) -> WalPosition {
    WalPosition { epoch: Epoch(1), entry }
}

fn fatal(error: impl ToString) -> PortError {
    PortError::fatal(error.to_string())
}

impl World {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Creates the region of a new table.
    pub(super) fn create(&self, meta: RegionMeta) {
        let region = FakeRegion::create(meta, &[]).unwrap();
        self.inner().regions.insert(region.state.region(), region);
    }

    pub(super) fn run(&self, ask: &Ask) -> Result<Told, PortError> {
        self.inner().run(ask)
    }

    /// Writes a row; what it was acknowledged with.
    pub(super) fn write(&self, region: RegionId, generation: Generation, rule: RuleVersion, key: i64, value: u64) -> Result<Row, Stale> {
        let mut inner = self.inner();
        let Some(region) = inner.regions.get_mut(&region) else { return Err(Stale) };
        region.write(generation, rule, key, value)
    }

    pub(super) fn is_staged(&self, region: RegionId, txn: TxnId) -> bool {
        let inner = self.inner();
        let staging = inner.regions.get(&region).and_then(|region| region.state.staging());
        staging.is_some_and(|staging| staging.stage.txn == txn)
    }

    /// Flushes what may be flushed now, rows before a fence and staged rows apart.
    pub(super) fn flush(&self, region: RegionId) {
        let mut inner = self.inner();
        inner.flush(region).unwrap();
        inner.flush_staged(region).unwrap();
    }

    /// The visible rows of a region under `generation`; `None` when it is in no such generation.
    pub(super) fn scan(&self, region: RegionId, generation: Generation) -> Option<Vec<Row>> {
        self.inner().scan(region, generation)
    }
}

impl FakeRegion {
    fn create(meta: RegionMeta, more: &[Action]) -> Result<Self, PortError> {
        let id = wal_of(meta.region);
        let wals = vec![WalRef { id, epochs: vec![Epoch(1)], flushed: WalPosition::START }];
        let open = Action::Open(Open { writer: Nonce(1), node: NodeId(1), wal: Some(id), wals, abandoned: vec![] });
        let region = meta.region;
        let mut actions = vec![open, Action::Change(Change { meta: Arc::new(meta) })];
        actions.extend_from_slice(more);
        let state = RegionState::empty(region).apply_record(Slot::new(Epoch(1), 0), &actions).map_err(fatal)?;
        Ok(Self { state, log: Vec::new(), counter: 0, prepared: BTreeSet::new(), localized: 0 })
    }

    pub(super) fn generation(&self) -> Generation {
        self.state.meta().unwrap().generation
    }

    fn version(&self) -> Slot {
        self.state.version().unwrap()
    }

    fn commit(&mut self, actions: &[Action], segments: &Segments) -> Result<(), PortError> {
        self.state = self.state.apply_record_with(self.version().next(), actions, segments).map_err(fatal)?;
        Ok(())
    }

    fn fence_now(&self) -> Vec<Fence> {
        let entry = self.log.last().map_or(WalPosition::START, |(entry, _)| at(*entry));
        self.state.wals().iter().map(|wal| Fence { wal: wal.id, position: entry.max(wal.flushed) }).collect()
    }

    fn write(&mut self, generation: Generation, rule: RuleVersion, key: i64, value: u64) -> Result<Row, Stale> {
        if self.state.is_retired() {
            return Err(Stale);
        }
        let meta = self.state.meta().unwrap();
        let expected = match self.state.staging() {
            Some(staging) => staging.stage.target.as_ref().map(|target| (staging.stage.generation, Arc::clone(&target.rule))),
            None => Some((meta.generation, Arc::clone(&meta.rule))),
        };
        let Some((current, current_rule)) = expected else { return Err(Stale) };
        if current != generation || current_rule.version() != rule {
            return Err(Stale);
        }
        assert!(holds(&current_rule, key), "a row outside of the rule");
        self.counter += 1;
        let row = Row { key, sequence: Sequence::new(generation, self.counter).unwrap(), value };
        let entry = self.log.last().map_or(1, |(entry, _)| entry + 1);
        self.log.push((entry, row));
        Ok(row)
    }

    fn flushed(&self) -> WalPosition {
        self.state.wals().first().map_or(WalPosition::START, |wal| wal.flushed)
    }

    /// Unflushed entries up to the fence, if there is one.
    fn unflushed(&self) -> Vec<(u64, Row)> {
        let fence = self.state.staging().and_then(|staging| staging.fence(wal_of(self.state.region())));
        let within = |entry: u64| at(entry) > self.flushed() && fence.is_none_or(|fence| at(entry) <= fence);
        self.log.iter().filter(|(entry, _)| within(*entry)).copied().collect()
    }

    fn unflushed_staged(&self) -> Vec<(u64, Row)> {
        let Some(staging) = self.state.staging() else { return Vec::new() };
        let from = staging.flushed(wal_of(self.state.region()));
        self.log.iter().filter(|(entry, _)| at(*entry) > from).copied().collect()
    }
}

/// Which sources list a file, each with the version of the scope.
type Way = Vec<(RegionId, RuleVersion)>;

impl Inner {
    fn fresh(&mut self, epoch: Epoch) -> FileId {
        self.ids.get_or_insert_with(|| counting_env(5)).file_id(epoch)
    }

    fn region(&mut self, region: RegionId) -> Result<&mut FakeRegion, PortError> {
        let missing =
            PortError { retryable: false, not_found: true, overtaken: false, message: format!("there is no region {region}"), code: None };
        self.regions.get_mut(&region).ok_or(missing)
    }

    fn file(&mut self, region: RegionId, generation: Generation, rule: Arc<Expr>, rows: Vec<Row>) -> Arc<FileRef> {
        let epoch = self.regions[&region].version().epoch;
        let schema_version = self.regions[&region].state.meta().unwrap().schema.version();
        let key = FileKey { origin: region, file: self.fresh(epoch) };
        let sequences = rows.iter().map(|row| row.sequence);
        let meta = FileMeta {
            time_range: (0, 0),
            rows: rows.len() as u64,
            deletes: 0,
            bytes: 100 * rows.len() as u64,
            sequences: (sequences.clone().min().unwrap(), sequences.max().unwrap()),
            level: 0,
            generation,
            schema_version,
            rule,
            stats: [].into(),
            crc32: 1,
        };
        self.contents.insert(key, rows);
        Arc::new(FileRef { key, scope: Scope::all(), meta })
    }

    fn flush(&mut self, id: RegionId) -> Result<(), PortError> {
        let region = self.region(id)?;
        let entries = region.unflushed();
        let Some((last, _)) = entries.last().copied() else { return Ok(()) };
        let (generation, rule) = (region.generation(), Arc::clone(&region.state.meta().unwrap().rule));
        let file = self.file(id, generation, rule, entries.into_iter().map(|(_, row)| row).collect());
        let flushed = vec![Flushed { wal: wal_of(id), position: at(last), done: false }];
        let sequence = Some(file.meta.sequences.1.max(self.regions[&id].state.flushed_sequence()));
        let edit = Edit { add: vec![file], flushed, sequence, ..Edit::new(generation) };
        self.region(id)?.commit(&[Action::Edit(edit)], &Segments::new())
    }

    fn flush_staged(&mut self, id: RegionId) -> Result<(), PortError> {
        let region = self.region(id)?;
        let entries = region.unflushed_staged();
        let Some((last, _)) = entries.last().copied() else { return Ok(()) };
        let stage = region.state.staging().unwrap().stage.clone();
        let Some(target) = stage.target else { return Err(fatal("staged rows in a region that retires")) };
        let file = self.file(id, stage.generation, target.rule, entries.into_iter().map(|(_, row)| row).collect());
        let (txn, generation, sequence) = (stage.txn, stage.generation, Some(file.meta.sequences.1));
        let flushed = vec![Flushed { wal: wal_of(id), position: at(last), done: false }];
        self.region(id)?.commit(&[Action::StagedEdit(StagedEdit { txn, generation, add: vec![file], flushed, sequence })], &Segments::new())
    }

    fn run(&mut self, ask: &Ask) -> Result<Told, PortError> {
        self.asked.push(ask.name());
        match ask {
            Ask::CreateStaged(meta, stage) => self.create_staged(meta, stage).map(Told::Staged),
            Ask::Prepare(region, txn) => self.prepare(*region, *txn).map(Told::Prepared),
            Ask::DryRun(targets, sources) => self.dry_run(targets, sources).map(Told::Previews),
            Ask::Stage(request) => self.stage(request).map(Told::Staged),
            Ask::Drain(region, txn) => self.drain(*region, *txn).map(Told::Drained),
            Ask::Remap(request) => self.remap(request).map(Told::Remaps),
            Ask::ApplyRemap(region, remap) => self.apply_remap(*region, remap).map(Told::Applied),
            Ask::Resolve(region, base, decided) => self.resolve(*region, *base, decided).map(Told::Resolved),
            Ask::CreateRetired(meta, decided) => self.create_retired(meta, decided).map(|()| Told::Nothing),
            Ask::Restart(region) | Ask::TakeBack(region) => self.restart(*region).map(|()| Told::Nothing),
            Ask::Release(region, txn) => {
                self.region(*region)?.prepared.remove(txn);
                Ok(Told::Nothing)
            }
            Ask::Localize(region) => {
                self.region(*region)?.localized += 1;
                Ok(Told::Nothing)
            }
            Ask::Decide(proposal) => {
                Ok(Told::Decided(Some(self.decisions.entry(proposal.txn).or_insert_with(|| proposal.clone()).clone())))
            }
            Ask::Decided(txn) => Ok(Told::Decided(self.decisions.get(txn).cloned())),
        }
    }

    fn create_staged(&mut self, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        let region = meta.region;
        if let Some(known) = self.regions.get(&region) {
            return match known.state.staging() {
                Some(staging) if staging.stage.txn == stage.txn => Ok(Staged { region, version: staging.since }),
                _ => Err(fatal(format!("region {region} exists"))),
            };
        }
        let fence = vec![Fence { wal: wal_of(region), position: WalPosition::START }];
        let created = FakeRegion::create(meta.clone(), &[Action::Stage(stage_action(stage, fence))])?;
        let version = created.version();
        self.regions.insert(region, created);
        Ok(Staged { region, version })
    }

    fn prepare(&mut self, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        if self.region(region)?.state.is_retired() {
            return Err(fatal(format!("region {region} is retired")));
        }
        if self.decisions.contains_key(&txn) {
            return Err(fatal(format!("repartition {txn} is decided: the preparation came late")));
        }
        self.flush(region)?;
        let region = self.region(region)?;
        region.prepared.insert(txn);
        let (files, totals) = (region.state.files().keys().count() as u64, region.state.totals());
        Ok(Prepared { files, bytes: totals.bytes, rows: totals.rows, memtable_bytes: 0 })
    }

    /// The references of each target, by what the sources list now.
    fn references(&self, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Vec<Vec<Arc<FileRef>>> {
        let mut listed_by: BTreeMap<FileKey, (Arc<FileRef>, Listings)> = BTreeMap::new();
        for source in sources {
            for (key, listed) in self.regions[source].state.files().iter() {
                let listing = (*source, listed.file.scope.version());
                listed_by.entry(key).or_insert_with(|| (Arc::clone(&listed.file), Vec::new())).1.push((listing, listed.file.scope.clone()));
            }
        }
        // Files that are listed in the same way have the same scope: it is worked out once.
        let mut known: BTreeMap<Way, (Scope, Vec<bool>)> = BTreeMap::new();
        let mut found = vec![Vec::new(); targets.len()];
        for (file, listings) in listed_by.into_values() {
            let way = listings.iter().map(|(listing, _)| *listing).collect();
            let (scope, met) = known.entry(way).or_insert_with(|| {
                let rule = |region: &RegionId| Expr::clone(&self.regions[region].state.meta().unwrap().rule);
                let parts = listings.iter().map(|((source, _), scope)| Expr::clone(scope).and(rule(source))).collect();
                let scope = Expr::Or(parts).simplify();
                let met = targets.iter().map(|(_, rule)| !rule::disjoint(&scope, rule).unwrap()).collect();
                (Scope::new(scope), met)
            });
            for (files, _) in found.iter_mut().zip(met.iter()).filter(|(_, met)| **met) {
                files.push(Arc::new(FileRef { scope: scope.clone(), ..FileRef::clone(&file) }));
            }
        }
        found
    }

    fn dry_run(&self, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        if let Some(missing) = sources.iter().find(|source| !self.regions.contains_key(source)) {
            return Err(fatal(format!("there is no region {missing}")));
        }
        let references = self.references(targets, sources);
        let preview = |((target, _), files): (&(RegionId, Arc<Expr>), Vec<Arc<FileRef>>)| RemapPreview {
            target: *target,
            files: files.len() as u64,
            foreign_files: files.iter().filter(|file| file.key.origin != *target).count() as u64,
            bytes: files.iter().map(|file| file.meta.bytes).sum(),
            rows: files.iter().map(|file| file.meta.rows).sum(),
            residual_files: files.len() as u64,
        };
        Ok(targets.iter().zip(references).map(preview).collect())
    }

    fn stage(&mut self, request: &StageRequest) -> Result<Staged, PortError> {
        let region = self.region(request.region)?;
        if let Some(staging) = region.state.staging()
            && staging.stage.txn == request.txn
        {
            return Ok(Staged { region: request.region, version: staging.since });
        }
        let fence = region.fence_now();
        region.commit(&[Action::Stage(stage_action(request, fence))], &Segments::new())?;
        Ok(Staged { region: request.region, version: region.version() })
    }

    fn drain(&mut self, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        let staged = self.region(region)?.state.staging().is_some_and(|staging| staging.stage.txn == txn);
        if !staged {
            return Err(fatal(format!("region {region} is not staged for {txn}")));
        }
        self.flush(region)?;
        let state = &self.region(region)?.state;
        assert_eq!(state.is_drained(), Some(true));
        Ok(Drained { region, version: state.version().unwrap(), visible: state.set_hash() })
    }

    fn remap(&mut self, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        for source in &request.sources {
            let state = &self.region(source.region)?.state;
            if state.set_hash() != source.visible || state.is_drained() != Some(true) {
                return Err(fatal(format!("region {} is not as it was drained", source.region)));
            }
        }
        let targets: Vec<(RegionId, Arc<Expr>)> = request.targets.iter().map(|target| (target.region, Arc::clone(&target.rule))).collect();
        let sources: Vec<RegionId> = request.sources.iter().map(|source| source.region).collect();
        let references = self.references(&targets, &sources);
        let mut remaps = Vec::new();
        for (target, files) in request.targets.iter().zip(references) {
            let set_hash = files.iter().fold(SetHash::EMPTY, |hash, file| hash.with(MemberHash::of(file)));
            let mut segments = Vec::new();
            if !files.is_empty() {
                let file = self.fresh(target.epoch);
                let segment = SegmentRef { file, crc32: 7, bytes: 70, rows: files.len() as u64 };
                self.segments.insert(segment, files.into_iter().map(StagedFile::new).collect());
                segments.push(segment);
            }
            remaps.push((target.region, RemapStaged { txn: request.txn, segments, set_hash }));
        }
        Ok(remaps)
    }

    fn apply_remap(&mut self, id: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        let segments: Segments = remap.segments.iter().map(|segment| (*segment, self.segments[segment].clone())).collect();
        let region = self.region(id)?;
        if let Some(staging) = region.state.staging()
            && staging.stage.txn == remap.txn
            && let Some(known) = staging.remap()
        {
            assert_eq!(known.set_hash(), remap.set_hash, "two remaps of one repartition differ");
            return Ok(Applied::Remapped { version: region.version(), references: known.files().len() as u64 });
        }
        let epoch = region.version().epoch;
        if remap.segments.iter().any(|segment| segment.file.epoch != epoch) {
            return Ok(Applied::StaleEpoch { epoch });
        }
        region.commit(&[Action::RemapStaged(remap.clone())], &segments)?;
        let references = segments.values().map(Vec::len).sum::<usize>() as u64;
        Ok(Applied::Remapped { version: region.version(), references })
    }

    pub(super) fn resolve(&mut self, id: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        assert_eq!(self.decisions.get(&decided.txn), Some(decided), "resolved by what was not decided");
        let txn = decided.txn;
        let region = self.region(id)?;
        let staged = region.state.staging().map(|staging| staging.stage.txn);
        let (decision, to) = match decided.verdict {
            Verdict::Commit { .. } => (Decision::Commit, decided.commit),
            Verdict::Abort => (Decision::Abort { generation: decided.abort }, decided.abort),
        };
        let done = region.state.is_retired() || (staged != Some(txn) && region.generation() >= to);
        if !done {
            if let (Verdict::Commit { stages }, Some(staging)) = (&decided.verdict, region.state.staging()) {
                assert!(stages.contains(&(id, staging.since)), "the decision is about another staging of {id}: {stages:?}");
            }
            region.commit(&[Action::Resolve(Resolve { txn, base, decision })], &Segments::new())?;
        }
        region.prepared.remove(&txn);
        Ok(Resolved { version: region.version(), retired: region.state.is_retired() })
    }

    fn create_retired(&mut self, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        assert_eq!(self.decisions.get(&decided.txn).map(|known| &known.verdict), Some(&Verdict::Abort));
        let Some(region) = self.regions.get_mut(&meta.region) else {
            let created = FakeRegion::create(meta.clone(), &[Action::Retire(Retire {})])?;
            self.regions.insert(meta.region, created);
            return Ok(());
        };
        if region.state.is_retired() {
            return Ok(());
        }
        let (txn, base) = (decided.txn, meta.generation);
        let resolve = Action::Resolve(Resolve { txn, base, decision: Decision::Abort { generation: decided.abort } });
        let retire = Action::Retire(Retire {});
        let actions = if region.state.staging().is_some() { vec![resolve, retire] } else { vec![retire] };
        region.commit(&actions, &Segments::new())
    }

    pub(super) fn restart(&mut self, id: RegionId) -> Result<(), PortError> {
        let region = self.region(id)?;
        region.prepared.clear();
        region.commit(&[Action::Seal(Seal { by: Nonce(9), clean: false })], &Segments::new())?;
        let wals = region.state.wals().to_vec();
        let open = Action::Open(Open { writer: Nonce(2), node: NodeId(1), wal: wals.first().map(|wal| wal.id), wals, abandoned: vec![] });
        region.state = region.state.apply_record(region.version().next_epoch(), &[open]).map_err(fatal)?;
        Ok(())
    }

    fn scan(&self, id: RegionId, generation: Generation) -> Option<Vec<Row>> {
        let region = self.regions.get(&id)?;
        if region.generation() != generation || region.state.is_retired() {
            return None;
        }
        let rule = &region.state.meta().unwrap().rule;
        let mut rows = Vec::new();
        for (key, listed) in region.state.files().iter() {
            let stands = |row: &&Row| holds(&listed.file.scope, row.key) && holds(rule, row.key);
            rows.extend(self.contents[&key].iter().filter(stands).copied());
        }
        rows.extend(region.unflushed().into_iter().map(|(_, row)| row));
        Some(rows)
    }
}

fn stage_action(request: &StageRequest, fence: Vec<Fence>) -> Stage {
    let StageRequest { region: _, txn, base, generation, abort: _, target, schema_version } = request.clone();
    Stage { txn, base, generation, target, fence, schema_version }
}
