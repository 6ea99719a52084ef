//! `tessera manifest files`: what a region refers to.

use serde::Serialize;
use tessera_manifest::id::{RegionId, Slot};
use tessera_manifest::log::{load, load_at};
use tessera_manifest::state::Row;

use super::args::FilesArgs;
use super::file::{FileView, Listed, Names};
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};

/// References taken from a state at a time.
const PAGE_ROWS: usize = 8192;

#[derive(Debug, Serialize)]
pub(super) struct FilesView {
    region: RegionId,
    version: Option<Slot>,
    #[serde(skip)]
    all: bool,
    files: Vec<FileView>,
}

pub(super) async fn run(args: &FilesArgs) -> Result<FilesView, Failure> {
    let (place, region) = (Place::open(&args.target.store)?, args.target.region);
    let state = match args.version {
        None => load(&place.context, region).await?,
        Some(version) => load_at(&place.context, region, version.0).await?,
    };
    let names = Names { root: &place.context.root, schema: state.meta().map(|meta| &*meta.schema) };
    let (mut files, mut from) = (Vec::new(), None);
    loop {
        let (rows, next) = state.rows_from(from, None, PAGE_ROWS);
        let wanted = rows.iter().filter(|row| args.all || matches!(row, Row::Visible(_)));
        files.extend(wanted.map(|row| names.row(row)));
        if next.is_none() {
            break;
        }
        from = next;
    }
    Ok(FilesView { region, version: state.version(), all: args.all, files })
}

impl View for FilesView {
    fn text(&self) -> String {
        let mut titles = vec!["file"];
        if self.all {
            titles.extend(["state", "until"]);
        }
        titles.extend([
            "path",
            "#rows",
            "#deletes",
            "#bytes",
            "from",
            "to",
            "sequences",
            "#level",
            "#generation",
            "since",
            "scope",
            "rule",
        ]);
        let row = |file: &FileView| {
            let mut cells = vec![file.key.clone()];
            if self.all {
                cells.extend([file.state.name().to_owned(), file.until.map_or_else(String::new, short)]);
            }
            cells.push(file.path.clone());
            cells.extend(file.cells());
            cells
        };
        let table = text::table(&titles, self.files.iter().map(row));
        let visible = || self.files.iter().filter(|file| file.state == Listed::Visible);
        let bytes = text::bytes(visible().map(|file| file.bytes).sum());
        let version = self.version.map_or_else(String::new, short);
        format!("{table}({} visible at {version}, {bytes})\n", text::count(visible().count() as u64, "file"))
    }
}
