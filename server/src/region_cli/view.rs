//! What is shown of regions.

use serde::Serialize;
use tessera_manifest::id::{Generation, RegionId, Slot, TxnId};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;
use tessera_manifest::state::{RegionState, Staging};
use tessera_manifest::wal::AbandonedWal;

use super::routes::Routes;
use crate::cli::Exit;
use crate::cli::verb::View;
use crate::manifest_cli::text;
use crate::manifest_cli::version::short;

/// All regions.
#[derive(Debug, Serialize)]
pub(super) struct ListView {
    pub(super) regions: Vec<Found>,
    /// Why no routes are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<String>,
}

/// One region.
#[derive(Debug, Serialize)]
pub(super) struct ShowView {
    #[serde(flatten)]
    pub(super) region: Found,
    /// Why no routes are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<String>,
}

/// What its manifest and the metadata say of a region.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    region: RegionId,
    table: String,
    state: &'static str,
    rule: String,
    generation: Option<Generation>,
    files: usize,
    rows: u64,
    bytes: u64,
    /// The generation of the route by which it is read.
    read: Option<Generation>,
    /// The generation of the route by which it is written.
    write: Option<Generation>,
    staging: Option<StagingView>,
    /// Logs that were given up by force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    abandoned: Vec<AbandonedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct AbandonedView {
    #[serde(flatten)]
    abandoned: AbandonedWal,
    unix_ms: Option<u64>,
}

impl AbandonedView {
    fn text(&self) -> String {
        let (wal, by) = (&self.abandoned.wal, self.abandoned.by);
        let when = self.unix_ms.map_or_else(String::new, |ms| format!(" at {}", text::utc_ms(ms)));
        format!("{} by record {}{when}; rows behind position {} may be lost", wal.id, short(by), wal.flushed)
    }
}

#[derive(Debug, Serialize)]
struct StagingView {
    txn: TxnId,
    since: Slot,
    since_unix_ms: Option<u64>,
    generation: Generation,
    /// The rule that it gets; none if it retires.
    rule: Option<String>,
    drained: bool,
    remapped: bool,
    staged_files: usize,
    staged_rows: u64,
}

fn rule_text(rule: &Expr, schema: Option<&Schema>) -> String {
    if *rule == Expr::always() { "every row".to_owned() } else { text::rule(rule, schema) }
}

impl Found {
    pub(super) fn new(region: RegionId, state: &RegionState, staged_unix_ms: Option<u64>, routes: &Routes) -> Self {
        let (meta, totals) = (state.meta(), state.totals());
        let schema = meta.map(|meta| &*meta.schema);
        let (read, write) = routes.of(region);
        Self {
            region,
            table: meta.map_or_else(String::new, |meta| format!("{}.{}", meta.database, meta.table)),
            state: text::life(state),
            rule: meta.map_or_else(String::new, |meta| rule_text(&meta.rule, schema)),
            generation: meta.map(|meta| meta.generation),
            files: state.files().len(),
            rows: totals.rows,
            bytes: totals.bytes,
            read: read.map(|route| route.generation),
            write: write.map(|route| route.generation),
            staging: state.staging().map(|staging| StagingView::new(staging, state, staged_unix_ms)),
            abandoned: Vec::new(),
            error: None,
        }
    }

    /// With the logs that were given up, and when.
    pub(super) fn with_abandoned(self, abandoned: Vec<(AbandonedWal, Option<u64>)>) -> Self {
        let view = |(abandoned, unix_ms)| AbandonedView { abandoned, unix_ms };
        Self { abandoned: abandoned.into_iter().map(view).collect(), ..self }
    }

    pub(super) fn unreadable(region: RegionId, error: String, routes: &Routes) -> Self {
        let (read, write) = routes.of(region);
        let (read, write) = (read.map(|route| route.generation), write.map(|route| route.generation));
        let (table, rule) = (String::new(), String::new());
        Self {
            region,
            table,
            state: "unreadable",
            rule,
            generation: None,
            files: 0,
            rows: 0,
            bytes: 0,
            read,
            write,
            staging: None,
            abandoned: Vec::new(),
            error: Some(error),
        }
    }
}

impl StagingView {
    fn new(staging: &Staging, state: &RegionState, since_unix_ms: Option<u64>) -> Self {
        let schema = state.meta().map(|meta| &*meta.schema);
        Self {
            txn: staging.stage.txn,
            since: staging.since,
            since_unix_ms,
            generation: staging.stage.generation,
            rule: staging.stage.target.as_ref().map(|target| rule_text(&target.rule, schema)),
            drained: state.is_drained() == Some(true),
            remapped: staging.remap().is_some(),
            staged_files: staging.added().len(),
            staged_rows: staging.added().values().map(|file| file.meta().rows).sum(),
        }
    }

    fn text(&self) -> String {
        let Self { txn, since, since_unix_ms, generation, rule, drained, remapped, staged_files, staged_rows } = self;
        let since = since_unix_ms.map_or_else(|| since.to_string(), text::utc_ms);
        let becomes = rule.as_ref().map_or_else(|| "to retire".to_owned(), |rule| format!("to become {rule}"));
        let step = match (drained, remapped) {
            (_, true) => "has its references",
            (true, false) => "drained",
            (false, false) => "not drained",
        };
        format!("txn {txn} since {since}, generation {generation}, {becomes}; {step}, {staged_files} staged files of {staged_rows} rows")
    }
}

fn number(generation: Option<Generation>) -> String {
    generation.map_or_else(String::new, |generation| generation.to_string())
}

impl View for ListView {
    fn text(&self) -> String {
        let unknown = self.routes.is_some();
        let route = |generation| if unknown { "unknown".to_owned() } else { number(generation) };
        let row = |found: &Found| {
            let staging = found.staging.as_ref().map_or_else(String::new, |staging| format!("{} -> {}", staging.txn, staging.generation));
            let sizes = [found.files.to_string(), found.rows.to_string(), text::bytes(found.bytes)];
            let routes = [number(found.generation), route(found.read), route(found.write)];
            let names = [found.region.to_string(), found.table.clone(), found.state.to_owned(), found.rule.clone()];
            names.into_iter().chain(routes).chain(sizes).chain([staging]).collect::<Vec<_>>()
        };
        let titles = ["region", "table", "state", "rule", "#generation", "#read", "#write", "#files", "#rows", "#bytes", "staging"];
        let mut out = text::table(&titles, self.regions.iter().map(row));
        for found in &self.regions {
            if let Some(error) = &found.error {
                out.push_str(&format!("{}: {error}\n", found.region));
            }
        }
        out.push_str(&format!("({})\n", text::count(self.regions.len() as u64, "region")));
        out.push_str(&without(self.routes.as_deref()));
        out
    }

    fn exit(&self) -> Exit {
        if self.regions.iter().any(|found| found.error.is_some()) { Exit::Failed } else { Exit::Ok }
    }
}

impl View for ShowView {
    fn text(&self) -> String {
        let found = &self.region;
        let mut out = String::new();
        let route = |generation: Option<Generation>, none: &str| match generation {
            Some(generation) => format!("as of generation {generation}"),
            None if self.routes.is_some() => "unknown".to_owned(),
            None => none.to_owned(),
        };
        let mut fact = |name: &str, value: String| out.push_str(&format!("{name:<12}{value}\n"));
        fact("region", found.region.to_string());
        fact("table", found.table.clone());
        fact("state", found.state.to_owned());
        fact("rule", found.rule.clone());
        fact("generation", number(found.generation));
        fact("read", route(found.read, "not read"));
        fact("written", route(found.write, "not written"));
        fact("files", format!("{}, {} rows, {}", found.files, found.rows, text::bytes(found.bytes)));
        fact("staging", found.staging.as_ref().map_or_else(|| "none".to_owned(), StagingView::text));
        for abandoned in &found.abandoned {
            fact("abandoned", abandoned.text());
        }
        if let Some(error) = &found.error {
            fact("error", error.clone());
        }
        out.push_str(&without(self.routes.as_deref()));
        out
    }

    fn exit(&self) -> Exit {
        if self.region.error.is_some() { Exit::Failed } else { Exit::Ok }
    }
}

fn without(routes: Option<&str>) -> String {
    routes.map_or_else(String::new, |why| format!("routes are not shown: {why}\n"))
}
