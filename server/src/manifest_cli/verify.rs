//! `tessera manifest verify`: checks what is on the store.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tessera_manifest::id::{RegionId, Slot};
use tessera_manifest::verify::{Files, Progress, Report, verify};

use super::args::{FilesCheck, VerifyArgs};
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};
use crate::cli::Exit;
use crate::error::chain;

#[derive(Debug, Serialize)]
pub(super) struct VerifyView {
    regions: Vec<Checked>,
    problems: usize,
}

#[derive(Debug, Serialize)]
struct Checked {
    region: RegionId,
    version: Option<Slot>,
    records: u64,
    replayed: u64,
    checkpoints: u64,
    compared: u64,
    segments: u64,
    files: Option<u64>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    object: String,
    problem: String,
}

/// A bar on a terminal; nothing in a pipe.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg:>12} {wide_bar} {pos}/{len} objects {eta}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn expect(&self, objects: u64) {
        self.0.inc_length(objects);
    }

    fn done(&self, objects: u64) {
        self.0.inc(objects);
    }
}

pub(super) async fn run(args: &VerifyArgs) -> Result<VerifyView, Failure> {
    let place = Place::open(&args.store)?;
    let files = match args.files {
        None => Files::Skip,
        Some(FilesCheck::Size) => Files::Size,
        Some(FilesCheck::Crc) => Files::Crc,
    };
    let regions = match args.region {
        Some(region) => vec![region],
        None => place.regions().await?,
    };
    let bar = Bar::new();
    let mut checked = Vec::with_capacity(regions.len());
    for region in regions {
        bar.0.set_message(region.to_string());
        checked.push(match verify(&place.context, region, files, &bar).await {
            Ok(report) => Checked::new(report, files),
            Err(error) => Checked::unreadable(region, place.context.root.manifest(region).folder.to_string(), chain(&error)),
        });
    }
    bar.0.finish_and_clear();
    let problems = checked.iter().map(|checked| checked.problems.len()).sum();
    Ok(VerifyView { regions: checked, problems })
}

impl Checked {
    fn new(report: Report, how: Files) -> Self {
        let Report { region, version, records, replayed, checkpoints, compared, segments, files, problems } = report;
        let files = (how != Files::Skip && version.is_some()).then_some(files);
        let problems = problems.into_iter().map(|found| Problem { object: found.object, problem: found.what }).collect();
        Self { region, version, records, replayed, checkpoints, compared, segments, files, problems }
    }

    fn unreadable(region: RegionId, object: String, problem: String) -> Self {
        let (records, replayed, checkpoints, compared, segments) = (0, 0, 0, 0, 0);
        let problems = vec![Problem { object, problem }];
        Self { region, version: None, records, replayed, checkpoints, compared, segments, files: None, problems }
    }
}

impl View for VerifyView {
    fn text(&self) -> String {
        let row = |checked: &Checked| {
            let found = match checked.problems.len() {
                0 => "sound".to_owned(),
                number => text::count(number as u64, "problem"),
            };
            vec![
                checked.region.to_string(),
                found,
                checked.version.map_or_else(|| "unknown".to_owned(), short),
                checked.records.to_string(),
                checked.replayed.to_string(),
                checked.checkpoints.to_string(),
                checked.compared.to_string(),
                checked.segments.to_string(),
                checked.files.map_or_else(|| "not checked".to_owned(), |files| files.to_string()),
            ]
        };
        let titles =
            ["region", "found", "version", "#records", "#replayed", "#checkpoints", "#compared with replay", "#segments", "#files"];
        let mut out = text::table(&titles, self.regions.iter().map(row));
        for checked in &self.regions {
            for Problem { object, problem } in &checked.problems {
                out.push_str(&format!("{}: '{object}': {problem}\n", checked.region));
            }
        }
        let regions = text::count(self.regions.len() as u64, "region");
        out.push_str(&format!("({regions}, {})\n", text::count(self.problems as u64, "problem")));
        out
    }

    fn exit(&self) -> Exit {
        if self.problems > 0 { Exit::Failed } else { Exit::Ok }
    }
}
