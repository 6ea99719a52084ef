//! `tessera doctor`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tessera_manifest::id::TableId;
use tessera_metaclient::catalog::{Catalog, CatalogError};

use super::Exit;
use super::args::DoctorArgs;
use super::verb::{self, Failure, View, answer};
use crate::catalog::from_catalog;
use crate::doctor::{self, Finding, Report, Severity};
use crate::home::Home;
use crate::shell::{Client, ClientError};

/// What was found, and what was done about it.
#[derive(Debug, Serialize)]
struct Examined {
    /// Whether nothing has to be done any more.
    healthy: bool,
    /// What the next table id was raised to.
    raised_to: Option<TableId>,
    #[serde(flatten)]
    report: Report,
}

impl View for Examined {
    fn text(&self) -> String {
        let Report { next_table_id, highest_in_catalog, highest_on_store, tables, folders, findings } = &self.report;
        let id = |id: &Option<TableId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let mut text = format!(
            "next table id {next_table_id}; highest in the catalog {}, of {tables} tables; highest on the store {}, of {folders} folders\n",
            id(highest_in_catalog),
            id(highest_on_store),
        );
        for found in findings {
            let what = match found.severity {
                Severity::Problem => "problem",
                Severity::Note => "note",
            };
            let _ = write!(text, "{what}: {}\n  {}\n", found.message, found.advice);
        }
        if let Some(raised) = self.raised_to {
            let _ = writeln!(text, "fixed: the next table id was raised to {raised}");
        }
        text.push_str(if self.healthy { "healthy\n" } else { "not healthy\n" });
        text
    }

    fn exit(&self) -> Exit {
        if self.healthy { Exit::Ok } else { Exit::Failed }
    }
}

pub(super) fn run(args: &DoctorArgs) -> Exit {
    let is_url = args.target.starts_with("http://") || args.target.starts_with("https://");
    if is_url {
        return verb::run("error", answer(async { remote(args) }, args.json));
    }
    verb::run("error", answer(local(args), args.json))
}

/// Asks a running server.
fn remote(args: &DoctorArgs) -> Result<Examined, Failure> {
    if args.fix {
        return Err(Failure::usage("--fix is for the data home of a stopped server; a running one is mended as `tessera doctor URL` says"));
    }
    let body = Client::new(&args.target).and_then(|client| client.get("/admin/doctor")).map_err(|error| {
        let exit = match &error {
            ClientError::Unreachable { .. } => Exit::Unreachable,
            ClientError::Address { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Failure { exit, message: error.to_string() }
    })?;
    let report: Report = serde_json::from_str(&body)
        .map_err(|error| Failure::failed(format!("the answer of {} is not understood: {error}", args.target)))?;
    Ok(Examined { healthy: report.is_healthy(), raised_to: None, report })
}

/// Looks at the data home of a stopped server.
async fn local(args: &DoctorArgs) -> Result<Examined, Failure> {
    let folder = Path::new(&args.target);
    let home = Home::existing(folder).map_err(Failure::of_home)?;
    let (kv, store) = home.parts().await?;
    let failed = |error: CatalogError| Failure::from(from_catalog(&error));
    let (catalog, _) = Catalog::open(Arc::new(kv)).await.map_err(failed)?;
    let report = doctor::check(&doctor::survey(&catalog, &store).await?);
    let too_low = report.findings.iter().any(|found| matches!(found.finding, Finding::NextIdTooLow { .. }));
    if !(args.fix && too_low) {
        return Ok(Examined { healthy: report.is_healthy(), raised_to: None, report });
    }
    let raised = catalog.raise_next_table_id(report.highest_on_store).await.map_err(failed)?;
    // What is left is looked at anew, so that nothing is said to be mended that is not.
    let after = doctor::check(&doctor::survey(&catalog, &store).await?);
    Ok(Examined { healthy: after.is_healthy(), raised_to: Some(raised), report })
}
