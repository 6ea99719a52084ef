//! A plan with estimates: what a statement would do now, for `EXPLAIN` and for the procedure's own planning.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::RegionId;
use tessera_manifest::rule::{Expr, RuleVersion};

use super::error::PlanError;
use super::plan::{PlannedGroup, RepartitionPlan, plan};
use super::port::{RegionPort, RemapPreview};
use super::request::Request;
use crate::catalog::{CatalogError, TableView};

/// Why there is no plan now.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The statement cannot be planned.
    #[error(transparent)]
    Plan {
        /// Why not.
        #[from]
        source: PlanError,
    },
    /// The catalog does not answer.
    #[error("the table cannot be read")]
    Catalog {
        /// Why not.
        #[from]
        source: CatalogError,
    },
    /// The table's route sets differ: a repartition is between decision and publication.
    #[error("another repartition of table '{table}' is not over: wait for it")]
    Unsettled {
        /// The table.
        table: String,
    },
}

impl DraftError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Plan { source } => source.class(),
            Self::Catalog { source } => source.class(),
            Self::Unsettled { .. } => ErrorClass::Retry,
        }
    }
}

/// Bytes of a source's files that a new rule would get, by source and rule.
type Weights = BTreeMap<(RegionId, RuleVersion), u64>;

/// Plans a request on a table as it is in `view`. Regions are asked how many bytes go where, so that numbers stay where
/// most bytes stay; one that does not answer only makes that choice, and the estimates, worse.
///
/// # Errors
/// [`DraftError`].
pub async fn draft(view: &TableView, port: &dyn RegionPort, request: &Request) -> Result<RepartitionPlan, DraftError> {
    if !view.is_settled() {
        return Err(DraftError::Unsettled { table: view.info.table_ref().to_string() });
    }
    let routes = view.write_routes();
    let first = plan(&view.info, &routes, request, |_, _| 0)?;
    let mut weights = Weights::new();
    for group in &first.groups {
        weigh(group, port, &mut weights).await;
    }
    let weight = |region: RegionId, rule: &Expr| weights.get(&(region, rule.version())).copied().unwrap_or(0);
    let mut plan = plan(&view.info, &routes, request, weight)?;
    for group in &mut plan.groups {
        group.estimates = estimate(group, port).await.unwrap_or_default();
    }
    Ok(plan)
}

async fn weigh(group: &PlannedGroup, port: &dyn RegionPort, weights: &mut Weights) {
    if group.targets.len() < 2 && group.sources.len() < 2 {
        return;
    }
    for source in &group.sources {
        let targets = group.targets.iter().filter(|target| target.from.contains(&source.region));
        let targets: Vec<(RegionId, Arc<Expr>)> = targets.map(|target| (target.region, Arc::new(target.rule.clone()))).collect();
        match port.dry_run(source.node, &targets, &[source.region]).await {
            Ok(previews) => {
                for (preview, (_, rule)) in previews.iter().zip(&targets) {
                    weights.insert((source.region, rule.version()), preview.bytes);
                }
            }
            Err(error) => tracing::warn!(region = %source.region, %error, "cannot estimate what a repartition moves"),
        }
    }
}

/// What the targets of a group would get.
async fn estimate(group: &PlannedGroup, port: &dyn RegionPort) -> Option<Vec<RemapPreview>> {
    let node = group.targets.first()?.node;
    let targets: Vec<(RegionId, Arc<Expr>)> = group.targets.iter().map(|target| (target.region, Arc::new(target.rule.clone()))).collect();
    let sources: Vec<RegionId> = group.sources.iter().map(|source| source.region).collect();
    port.dry_run(node, &targets, &sources).await.ok()
}
