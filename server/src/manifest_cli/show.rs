//! `tessera manifest show`: everything that a manifest says of a region.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use tessera_manifest::action::{CheckpointRef, Pin, Stage};
use tessera_manifest::body::Body;
use tessera_manifest::id::{ColumnId, Epoch, Generation, NodeId, Nonce, RegionId, Sequence, Slot, TxnId};
use tessera_manifest::log::{load, load_at};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::state::{RegionState, Staging};
use tessera_manifest::wal::{WalId, WalKind, WalRef};

use super::args::ShowArgs;
use super::store::{Objects, Place};
use super::version::short;
use super::{Failure, View, text};

/// A region at a version.
#[derive(Debug, Serialize)]
pub(super) struct ShowView {
    region: RegionId,
    version: Slot,
    time: Option<String>,
    state: &'static str,
    epoch: Epoch,
    writer: Option<Nonce>,
    sealed: bool,
    clean: bool,
    retired: bool,
    dropped: bool,
    table: Option<TableView>,
    logs: Vec<LogView>,
    sequence: Sequence,
    staging: Option<StagingView>,
    floor: Slot,
    snapshots: Vec<Pin>,
    checkpoints: Vec<CheckpointRef>,
    totals: TotalsView,
    set_hash: String,
    replay: ReplayView,
}

#[derive(Debug, Serialize)]
struct TableView {
    database: String,
    name: String,
    schema_version: u32,
    columns: Vec<ColumnView>,
    primary_key: Vec<String>,
    partition_columns: Vec<String>,
    rule: String,
    rule_version: String,
    generation: Generation,
    options: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct ColumnView {
    id: ColumnId,
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    semantic: SemanticType,
    nullable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

/// A log that may hold rows of the region.
#[derive(Debug, Serialize)]
struct LogView {
    kind: WalKind,
    node: NodeId,
    log: Nonce,
    epochs: Vec<Epoch>,
    flushed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    flushed_staged: Option<String>,
}

#[derive(Debug, Serialize)]
struct StagingView {
    txn: TxnId,
    since: Slot,
    base: Generation,
    generation: Generation,
    target: Option<String>,
    fence: BTreeMap<String, String>,
    drained: bool,
    sequence: Option<Sequence>,
    staged_files: usize,
    staged_rows: u64,
    staged_bytes: u64,
    remapped_files: Option<usize>,
}

#[derive(Debug, Serialize)]
struct TotalsView {
    files: usize,
    rows: u64,
    bytes: u64,
    removed: usize,
    doomed: usize,
}

/// What is on the store, and what of it an opener would replay.
#[derive(Debug, Serialize)]
struct ReplayView {
    checkpoint: Option<Slot>,
    records: usize,
    bytes: u64,
    records_on_store: usize,
    bytes_on_store: u64,
}

pub(super) async fn run(args: &ShowArgs) -> Result<ShowView, Failure> {
    let Some(region) = args.region else { return Err(Failure::usage("name a region")) };
    let place = Place::open(&args.store)?;
    let state = match args.version {
        None => load(&place.context, region).await?,
        Some(version) => load_at(&place.context, region, version.0).await?,
    };
    let objects = place.objects(region).await?;
    let version = state.version().ok_or_else(|| Failure::failed(format!("region {region} has no record")))?;
    let time_ms = time_of(&place, &state, version).await;
    Ok(ShowView::new(&state, version, time_ms, &objects))
}

/// When a version was written.
async fn time_of(place: &Place, state: &RegionState, version: Slot) -> Option<u64> {
    match place.slots(state.region()).read(version).await {
        Ok(Some(record)) => Body::decode(&record.body).ok().map(|body| body.time_ms),
        _ => state.checkpoints().iter().find(|checkpoint| checkpoint.version == version).map(|checkpoint| checkpoint.time_ms),
    }
}

impl ShowView {
    fn new(state: &RegionState, version: Slot, time_ms: Option<u64>, objects: &Objects) -> Self {
        let schema = state.meta().map(|meta| &*meta.schema);
        let totals = state.totals();
        Self {
            region: state.region(),
            version,
            time: time_ms.map(text::utc_ms),
            state: text::life(state),
            epoch: version.epoch,
            writer: state.writer(),
            sealed: state.is_sealed(),
            clean: state.is_clean(),
            retired: state.is_retired(),
            dropped: state.is_dropped(),
            table: state.meta().map(|meta| TableView::new(meta)),
            logs: state.wals().iter().map(|wal| LogView::new(wal, state.staging())).collect(),
            sequence: state.flushed_sequence(),
            staging: state.staging().map(|staging| StagingView::new(staging, state.is_drained() == Some(true), schema)),
            floor: state.floor(),
            snapshots: state.pins().values().map(|pin| Pin::clone(pin)).collect(),
            checkpoints: state.checkpoints().to_vec(),
            totals: TotalsView {
                files: state.files().len(),
                rows: totals.rows,
                bytes: totals.bytes,
                removed: state.removed().len(),
                doomed: state.doomed().len(),
            },
            set_hash: state.set_hash().to_string(),
            replay: ReplayView::new(objects, version),
        }
    }
}

impl TableView {
    fn new(meta: &RegionMeta) -> Self {
        let schema = &meta.schema;
        Self {
            database: meta.database.clone(),
            name: meta.table.clone(),
            schema_version: schema.version(),
            columns: schema.columns().iter().map(ColumnView::new).collect(),
            primary_key: names(schema.primary_key(), schema),
            partition_columns: names(&meta.partition_columns, schema),
            rule: text::rule(&meta.rule, Some(schema)),
            rule_version: meta.rule_version().to_string(),
            generation: meta.generation,
            options: meta.options.clone(),
        }
    }
}

/// The names of columns.
pub(super) fn names(columns: &[ColumnId], schema: &Schema) -> Vec<String> {
    let name = |id: &ColumnId| schema.column(*id).map_or_else(|| format!("column#{id}"), |column| column.name.clone());
    columns.iter().map(name).collect()
}

impl ColumnView {
    fn new(column: &Column) -> Self {
        Self {
            id: column.id,
            name: column.name.clone(),
            data_type: crate::sql::types::name(column.data_type),
            semantic: column.semantic,
            nullable: column.nullable,
            default: column.default.as_ref().map(|default| crate::sql::show::default_text(default, column.data_type)),
            comment: column.comment.clone(),
        }
    }
}

impl LogView {
    fn new(wal: &WalRef, staging: Option<&Staging>) -> Self {
        let WalRef { id: WalId { kind, node, log }, epochs, flushed } = wal;
        let flushed_staged = staging.map(|staging| staging.flushed(wal.id).to_string());
        Self { kind: *kind, node: *node, log: *log, epochs: epochs.clone(), flushed: flushed.to_string(), flushed_staged }
    }

    fn name(&self) -> String {
        WalId { kind: self.kind, node: self.node, log: self.log }.to_string()
    }
}

impl StagingView {
    fn new(staging: &Staging, drained: bool, schema: Option<&Schema>) -> Self {
        let Stage { txn, base, generation, target, fence, schema_version: _ } = &staging.stage;
        let metas = || staging.added().values().map(|file| file.meta());
        Self {
            txn: *txn,
            since: staging.since,
            base: *base,
            generation: *generation,
            target: target.as_ref().map(|target| text::rule(&target.rule, schema)),
            fence: fence.iter().map(|fence| (fence.wal.to_string(), fence.position.to_string())).collect(),
            drained,
            sequence: staging.flushed_sequence(),
            staged_files: staging.added().len(),
            staged_rows: metas().map(|meta| meta.rows).sum(),
            staged_bytes: metas().map(|meta| meta.bytes).sum(),
            remapped_files: staging.remap().map(|remap| remap.files().len()),
        }
    }

    /// In a few words.
    fn text(&self) -> String {
        let target = self.target.as_ref().map_or_else(|| "to be retired".to_owned(), |rule| format!("to become {rule}"));
        let remap = self.remapped_files.map_or_else(|| "no remap yet".to_owned(), |files| format!("{files} remapped"));
        format!(
            "txn {} since {}, generation {} -> {}, {target}; {}, {} staged ({}, {}), {remap}",
            self.txn,
            short(self.since),
            self.base,
            self.generation,
            if self.drained { "drained" } else { "not drained" },
            text::count(self.staged_files as u64, "file"),
            text::count(self.staged_rows, "row"),
            text::bytes(self.staged_bytes)
        )
    }
}

impl ReplayView {
    fn new(objects: &Objects, version: Slot) -> Self {
        let checkpoint = objects.checkpoints.iter().rev().find(|checkpoint| **checkpoint <= version).copied();
        let after = |slot: Slot| slot <= version && checkpoint.is_none_or(|checkpoint| slot > checkpoint);
        let tail = || objects.records.iter().filter(|(slot, _)| after(*slot));
        Self {
            checkpoint,
            records: tail().count(),
            bytes: tail().map(|(_, bytes)| bytes).sum(),
            records_on_store: objects.records.len(),
            bytes_on_store: objects.records.iter().map(|(_, bytes)| bytes).sum(),
        }
    }

    fn text(&self) -> String {
        let from = self.checkpoint.map_or_else(|| "from the first record".to_owned(), |at| format!("after checkpoint {}", short(at)));
        format!(
            "{} {from} ({}); on the store {} ({})",
            text::count(self.records as u64, "record"),
            text::bytes(self.bytes),
            text::count(self.records_on_store as u64, "record"),
            text::bytes(self.bytes_on_store)
        )
    }
}

impl View for ShowView {
    fn text(&self) -> String {
        let mut out = String::new();
        let table = self.table.as_ref();
        let name = table.map_or_else(String::new, |table| format!(" of {}.{}", table.database, table.name));
        let time = self.time.as_ref().map_or_else(String::new, |time| format!(", written {time}"));
        let _ = writeln!(out, "region {}{name}, version {}{time}\n", self.region, short(self.version));
        for (title, value) in self.facts() {
            let _ = writeln!(out, "{title:<12} {value}");
        }
        if let Some(table) = table {
            let _ = write!(out, "\n{}", columns_text(table));
        }
        if !self.snapshots.is_empty() {
            let _ = write!(out, "\n{}", snapshots_text(&self.snapshots));
        }
        out
    }
}

impl ShowView {
    /// What is said in a line each.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        let mut fact = |title: &'static str, value: String| facts.push((title, value));
        fact("state", self.state.to_owned());
        let writer = self.writer.map_or_else(String::new, |writer| format!(", opened as {writer}"));
        fact("epoch", format!("{}{writer}", self.epoch));
        if let Some(table) = &self.table {
            fact("schema", format!("version {}, primary key ({})", table.schema_version, table.primary_key.join(", ")));
            let on =
                if table.partition_columns.is_empty() { String::new() } else { format!(" on ({})", table.partition_columns.join(", ")) };
            fact("rule", format!("{}{on}", table.rule));
            fact("generation", table.generation.to_string());
            let options: Vec<String> = table.options.iter().map(|(key, value)| format!("{key} = '{value}'")).collect();
            fact("options", if options.is_empty() { "none".to_owned() } else { options.join(", ") });
        }
        for log in &self.logs {
            let epochs: Vec<String> = log.epochs.iter().map(ToString::to_string).collect();
            let staged = log.flushed_staged.as_ref().map_or_else(String::new, |at| format!(", staged rows up to {at}"));
            let held = if self.clean { "; holds nothing more" } else { "" };
            fact("log", format!("{}, epochs {}, flushed up to {}{staged}{held}", log.name(), epochs.join(" "), log.flushed));
        }
        if self.logs.is_empty() {
            fact("log", "none".to_owned());
        }
        fact("sequence", self.sequence.to_string());
        fact("staging", self.staging.as_ref().map_or_else(|| "none".to_owned(), StagingView::text));
        let TotalsView { files, rows, bytes, removed, doomed } = self.totals;
        let rows = text::count(rows, "row");
        fact("files", format!("{}, {rows}, {}; {removed} removed, {doomed} doomed", text::count(files as u64, "file"), text::bytes(bytes)));
        fact("set hash", self.set_hash.clone());
        fact("floor", short(self.floor));
        let checkpoint = |checkpoint: &CheckpointRef| format!("{} of {}", short(checkpoint.version), text::utc_ms(checkpoint.time_ms));
        let checkpoints: Vec<String> = self.checkpoints.iter().map(checkpoint).collect();
        fact("checkpoints", if checkpoints.is_empty() { "none logged".to_owned() } else { checkpoints.join(", ") });
        fact("snapshots", self.snapshots.len().to_string());
        fact("replay", self.replay.text());
        facts
    }
}

fn columns_text(table: &TableView) -> String {
    let row = |column: &ColumnView| {
        let semantic = crate::sql::show::semantic_text(column.semantic).to_owned();
        let null = if column.nullable { "YES" } else { "NO" }.to_owned();
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, data_type) = (column.name.clone(), column.data_type.clone());
        vec![column.id.to_string(), name, data_type, semantic, null, or_empty(&column.default), or_empty(&column.comment)]
    };
    text::table(&["#id", "column", "type", "semantic", "null", "default", "comment"], table.columns.iter().map(row))
}

/// Snapshots as a table.
pub(super) fn snapshots_text(pins: &[Pin]) -> String {
    let row = |pin: &Pin| {
        let expires = pin.expires_unix_ms.map_or_else(|| "never".to_owned(), text::utc_ms);
        vec![pin.name.clone(), short(pin.checkpoint.version), text::utc_ms(pin.checkpoint.time_ms), expires]
    };
    text::table(&["snapshot", "version", "written", "expires"], pins.iter().map(row))
}
