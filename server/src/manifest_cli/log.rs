//! `tessera manifest log`: the records that are on the store.

use futures::StreamExt;
use serde::Serialize;
use tessera_manifest::action::Action;
use tessera_manifest::body::Body;
use tessera_manifest::id::{Nonce, RegionId, Slot};
use tessera_manifest::limits;
use tessera_manifest::slot::{Kind, Record};

use super::args::LogArgs;
use super::store::Place;
use super::summary::summary;
use super::version::short;
use super::{Failure, View, text};
use crate::cli::Exit;
use crate::error::chain;

#[derive(Debug, Serialize)]
pub(super) struct LogView {
    region: RegionId,
    records: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    slot: Slot,
    bytes: u64,
    #[serde(flatten)]
    content: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Content {
    kind: Kind,
    time: String,
    time_ms: u64,
    writer: Nonce,
    commit_id: Nonce,
    prev: Option<Nonce>,
    set_hash: String,
    summary: Vec<String>,
    actions: Vec<Action>,
}

impl Content {
    fn new(record: &Record, body: Body) -> Self {
        Self {
            kind: record.kind,
            time: text::utc_ms(body.time_ms),
            time_ms: body.time_ms,
            writer: record.writer,
            commit_id: record.commit_id,
            prev: record.prev,
            set_hash: body.set_hash.to_string(),
            summary: body.actions.iter().map(summary).collect(),
            actions: body.actions,
        }
    }
}

pub(super) async fn run(args: &LogArgs) -> Result<LogView, Failure> {
    let (place, region) = (Place::open(&args.target.store)?, args.target.region);
    let mut slots = place.objects(region).await?.records;
    if slots.is_empty() {
        let folder = place.context.root.manifest(region).folder;
        return Err(Failure::failed(format!("region {region} has no record in '{folder}': list the regions with `tessera manifest show`")));
    }
    slots.retain(|(slot, _)| args.from.is_none_or(|from| *slot >= from.0));
    if let Some(limit) = args.limit.filter(|limit| *limit < slots.len()) {
        match args.from {
            Some(_) => slots.truncate(limit),
            None => drop(slots.drain(..slots.len() - limit)),
        }
    }
    let store = place.slots(region);
    let reads = slots.into_iter().map(|(slot, bytes)| {
        let store = store.clone();
        async move {
            let decoded = match store.read(slot).await {
                Ok(Some(record)) => Body::decode(&record.body).map(|body| Content::new(&record, body)),
                Ok(None) => Err("gone since it was listed: retention passed".to_owned()),
                Err(error) => Err(chain(&error)),
            };
            let error = decoded.as_ref().err().cloned();
            Line { slot, bytes, content: decoded.ok(), error }
        }
    });
    let records = futures::stream::iter(reads).buffered(limits::PARALLEL_READS_MAX).collect().await;
    Ok(LogView { region, records })
}

impl View for LogView {
    fn text(&self) -> String {
        let row = |line: &Line| {
            let (slot, bytes) = (short(line.slot), line.bytes.to_string());
            match &line.content {
                Some(Content { kind, time, writer, commit_id, summary, .. }) => {
                    let kind = format!("{kind:?}").to_lowercase();
                    vec![slot, kind, time.clone(), writer.to_string(), commit_id.to_string(), bytes, summary.join("\n")]
                }
                None => {
                    let error = line.error.clone().unwrap_or_default();
                    vec![slot, "damaged".to_owned(), String::new(), String::new(), String::new(), bytes, error]
                }
            }
        };
        let titles = ["version", "kind", "time", "writer", "commit", "#bytes", "what"];
        let table = text::table(&titles, self.records.iter().map(row));
        format!("{table}({})\n", text::count(self.records.len() as u64, "record"))
    }

    fn exit(&self) -> Exit {
        if self.records.iter().any(|line| line.error.is_some()) { Exit::Failed } else { Exit::Ok }
    }
}
