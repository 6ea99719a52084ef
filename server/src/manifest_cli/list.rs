//! `tessera manifest show` without a region: all regions of the store.

use futures::StreamExt;
use serde::Serialize;
use tessera_manifest::id::{Generation, RegionId, Slot};
use tessera_manifest::log::load;
use tessera_manifest::state::RegionState;

use super::args::ShowArgs;
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};
use crate::cli::Exit;
use crate::error::chain;

/// Regions that are read at the same time.
const PARALLEL_REGIONS_MAX: usize = 8;

#[derive(Debug, Serialize)]
pub(super) struct ListView {
    regions: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    region: RegionId,
    #[serde(flatten)]
    state: Option<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Found {
    table: String,
    state: &'static str,
    version: Option<Slot>,
    generation: Option<Generation>,
    files: usize,
    rows: u64,
    bytes: u64,
    snapshots: usize,
}

impl Found {
    fn new(state: &RegionState) -> Self {
        let totals = state.totals();
        Self {
            table: state.meta().map_or_else(String::new, |meta| format!("{}.{}", meta.database, meta.table)),
            state: text::life(state),
            version: state.version(),
            generation: state.meta().map(|meta| meta.generation),
            files: state.files().len(),
            rows: totals.rows,
            bytes: totals.bytes,
            snapshots: state.pins().len(),
        }
    }
}

pub(super) async fn run(args: &ShowArgs) -> Result<ListView, Failure> {
    let place = Place::open(&args.store)?;
    let lines = place.regions().await?.into_iter().map(|region| line(&place, region));
    Ok(ListView { regions: futures::stream::iter(lines).buffered(PARALLEL_REGIONS_MAX).collect().await })
}

async fn line(place: &Place, region: RegionId) -> Line {
    let loaded = load(&place.context, region).await;
    let error = loaded.as_ref().err().map(|error| chain(error));
    Line { region, state: loaded.ok().as_ref().map(Found::new), error }
}

impl View for ListView {
    fn text(&self) -> String {
        let row = |line: &Line| {
            let mut cells = vec![line.region.to_string()];
            match &line.state {
                Some(found) => cells.extend([
                    found.table.clone(),
                    found.state.to_owned(),
                    found.version.map_or_else(String::new, short),
                    found.generation.map_or_else(String::new, |generation| generation.to_string()),
                    found.files.to_string(),
                    found.rows.to_string(),
                    text::bytes(found.bytes),
                    found.snapshots.to_string(),
                ]),
                None => cells.extend([String::new(), "unreadable".to_owned()]),
            }
            cells
        };
        let titles = ["region", "table", "state", "version", "#generation", "#files", "#rows", "#bytes", "#snapshots"];
        let mut out = text::table(&titles, self.regions.iter().map(row));
        for line in &self.regions {
            if let Some(error) = &line.error {
                out.push_str(&format!("{}: {error}\n", line.region));
            }
        }
        out.push_str(&format!("({})\n", text::count(self.regions.len() as u64, "region")));
        out
    }

    fn exit(&self) -> Exit {
        if self.regions.iter().any(|line| line.error.is_some()) { Exit::Failed } else { Exit::Ok }
    }
}
