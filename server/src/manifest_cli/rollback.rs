//! `tessera manifest rollback`: back to the files of an earlier version.

use serde::Serialize;
use tessera_manifest::action::{Action, Edit};
use tessera_manifest::id::{RegionId, Slot};
use tessera_manifest::log::{load, load_at, plan_rollback};

use super::args::RollbackArgs;
use super::diff::{self, FilesDiff};
use super::owner::{Left, claim};
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};
use crate::cli::Exit;

#[derive(Debug, Serialize)]
pub(super) struct RollbackView {
    region: RegionId,
    /// The version to go back to.
    to: Slot,
    dry_run: bool,
    /// Why it cannot be done.
    refused: Vec<String>,
    /// What it does to the visible files.
    files: FilesDiff,
    /// The record that did it.
    version: Option<Slot>,
    region_left: Option<Left>,
    /// Logs that may hold rows, which stay.
    logs: usize,
}

pub(super) async fn run(args: &RollbackArgs) -> Result<RollbackView, Failure> {
    let (place, region, to) = (Place::open(&args.target.store)?, args.target.region, args.to.0);
    let claim = if args.dry_run { None } else { Some(claim(&place, region).await?) };
    let now = match &claim {
        Some(claim) => claim.state.clone(),
        None => load(&place.context, region).await?,
    };
    let then = load_at(&place.context, region, to).await?;
    let logs = if now.is_clean() { 0 } else { now.wals().len() };
    let mut view = RollbackView {
        region,
        to,
        dry_run: args.dry_run,
        refused: Vec::new(),
        files: diff::files(&place.context.root, &now, &then),
        version: None,
        region_left: None,
        logs,
    };
    match plan_rollback(&now, &then) {
        Err(error) => view.refused = error.reasons.iter().map(ToString::to_string).collect(),
        Ok(edit) if edit.remove.is_empty() && edit.restore.is_empty() => {}
        Ok(_) => {
            // All of it has been listed before, whichever way the comparison looks.
            let back = std::mem::take(&mut view.files.added);
            view.files.restored.extend(back);
            if let Some(claim) = claim {
                let owner = claim.take(&args.writing).await?;
                let edit: Edit = plan_rollback(owner.manifest.state(), &then).map_err(|error| Failure::failed(error.to_string()))?;
                let (version, left) = owner.commit(vec![Action::Edit(edit)]).await?;
                (view.version, view.region_left) = (Some(version), Some(left));
            }
        }
    }
    Ok(view)
}

impl View for RollbackView {
    fn text(&self) -> String {
        let (region, to) = (self.region, short(self.to));
        if !self.refused.is_empty() {
            let reasons: String = self.refused.iter().map(|reason| format!("  {reason}\n")).collect();
            return format!("region {region} cannot go back to {to}:\n{reasons}");
        }
        let files = self.files.text();
        if files.is_empty() {
            return format!("region {region} shows the files of {to} already: nothing to do\n");
        }
        let mut out = match (self.version, self.dry_run) {
            (Some(version), _) => format!("region {region} is back at the files of {to} (record {})\n", short(version)),
            (None, _) => format!("region {region} would go back to the files of {to}\n"),
        };
        out.push_str(&files);
        if self.logs > 0 {
            out.push_str(&format!("rows that are only in {} stay\n", text::count(self.logs as u64, "write-ahead log")));
        }
        if let Some(left) = self.region_left {
            out.push_str(&format!("{}\n", left.text()));
        }
        out
    }

    fn exit(&self) -> Exit {
        if self.refused.is_empty() { Exit::Ok } else { Exit::Failed }
    }
}
