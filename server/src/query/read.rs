//! Reading the rows that a statement asks for, all of one moment's regions.
//!
//! ```text
//!  plan ─► pin every region of every scan ─► are the routes still those of the plan? ─► first batch ─► the rest
//!    ▲                    │ refused                      │ no                             │ refused
//!    └────────────────────┴── wait, bounded ◄────────────┴────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - All regions are pinned before the first batch, each at the generation that its route has; after the last pin the read
//!   sets of all tables are read again. So a statement sees one read set of a table: never half old, half new.
//! - A refusal that may pass is hidden: nothing was handed out yet, and the statement is planned anew. After the first
//!   batch pinned versions are read, which no repartition takes away.
//! - A statement that reads the table that it writes begins when rows are read where they are written, so that it sees
//!   what was acknowledged before it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::sql::sqlparser::ast as df;
use futures::StreamExt;
use tessera_manifest::env::Moment;

use super::error::unwrap;
use super::limits;
use super::partitions::create_physical_plan;
use super::refusal::{Refusal, Refused};
use super::scan::TesseraScanExec;
use super::session::{Planned, Sessions};
use crate::catalog::{Catalogs, Table};
use crate::error::{Code, ServerError};
use crate::router::{Next, Patience};

/// What of a plan is run, and what its maker needs to know beside.
pub struct Prepared<T> {
    /// The plan whose rows are read.
    pub plan: LogicalPlan,
    /// A table that is read and written by the statement.
    pub settled: Option<Arc<Table>>,
    /// Handed back with the rows.
    pub with: T,
}

impl Sessions {
    /// Plans a statement and begins to read its rows; `prepare` says which part of the plan these are.
    ///
    /// # Errors
    /// What fails before the first batch, and is not worth trying again.
    pub async fn read<T>(
        &self,
        statement: df::Statement,
        database: &str,
        catalogs: &Catalogs,
        prepare: impl Fn(LogicalPlan) -> Result<Prepared<T>, ServerError>,
    ) -> Result<(SendableRecordBatchStream, T), ServerError> {
        let (began, mut patience) = (Moment::now(), Patience::default());
        let mut next = Some(statement);
        while let Some(statement) = next.take() {
            next = (!is_values(&statement)).then(|| statement.clone());
            let mut planned = self.plan(statement, database, catalogs).await?;
            if next.is_none() {
                // The rows of the statement find their regions when they are written.
                planned.tables.clear();
            }
            let tables = planned.tables.clone();
            let Refused { refusal, error } = match self.attempt(planned, catalogs, &prepare).await {
                Ok(begun) => return Ok(begun),
                Err(refused) => refused,
            };
            let (Some(refusal), true) = (refusal, next.is_some()) else { return Err(error) };
            match patience.refused(Moment::now().since(began), refusal.wait_max()) {
                Next::GiveUp(waited) => {
                    let text = format!("{}; the statement was tried for {:.1} s: try again", error.message, waited.as_secs_f64());
                    return Err(ServerError::new(error.code, text));
                }
                Next::Wait(pause) => {
                    tracing::debug!(round = patience.rounds(), error = %error, "reading anew");
                    metrics::counter!("tessera_read_retries_total").increment(1);
                    if await_change(&tables, catalogs, pause).await? {
                        patience.progress();
                    }
                }
            }
        }
        Err(ServerError::new(Code::Internal, "a statement was tried again without being there"))
    }

    /// The same for a statement that is all read.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub async fn rows(
        &self,
        statement: df::Statement,
        database: &str,
        catalogs: &Catalogs,
    ) -> Result<SendableRecordBatchStream, ServerError> {
        let all = |plan| Ok(Prepared { plan, settled: None, with: () });
        Ok(self.read(statement, database, catalogs, all).await?.0)
    }

    async fn attempt<T>(
        &self,
        planned: Planned,
        catalogs: &Catalogs,
        prepare: &impl Fn(LogicalPlan) -> Result<Prepared<T>, ServerError>,
    ) -> Result<(SendableRecordBatchStream, T), Refused> {
        let Planned { mut state, plan, tables } = planned;
        let Prepared { plan, settled, with } = prepare(plan).map_err(Refused::for_good)?;
        if let Some(table) = settled.filter(|table| !table.sets.is_settled()) {
            catalogs.check_unobstructed(&table).await.map_err(Refused::for_good)?;
            let text = format!("table {} is being repartitioned, and a statement that reads what it writes waits for that", table.shown());
            return Err(Refused { refusal: Some(Refusal::Stale), error: ServerError::new(Code::RegionBusy, text) });
        }
        let physical = create_physical_plan(self, &mut state, &plan).await.map_err(|error| Refused::coded(unwrap(error)))?;
        Ok((begin(physical, self.end(state, catalogs.engine.scan_memory()), &tables, catalogs).await?, with))
    }
}

/// Whether a statement writes rows that it holds itself, which may be many, and reads no table.
fn is_values(statement: &df::Statement) -> bool {
    let df::Statement::Insert(insert) = statement else { return false };
    let Some(source) = insert.source.as_ref().filter(|source| source.with.is_none()) else { return false };
    matches!(*source.body, df::SetExpr::Values(_)) && df::visit_relations(source, |_| ControlFlow::Break(())).is_continue()
}

/// Pins every region that a plan over these tables reads, and gives its rows.
///
/// # Errors
/// How a region refused, or that the routes of a table are others by now: the statement is to be planned anew.
pub(crate) async fn begin(
    physical: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    tables: &[Arc<Table>],
    catalogs: &Catalogs,
) -> Result<SendableRecordBatchStream, Refused> {
    for scan in scans(&physical).map_err(|error| Refused::for_good(unwrap(error)))? {
        if let Some(scan) = scan.downcast_ref::<TesseraScanExec>() {
            scan.pin(&context, limits::PARALLELISM).await?;
        }
    }
    check_routes(tables, catalogs).await?;
    let mut stream = execute_stream(physical, context).map_err(|error| Refused::coded(unwrap(error)))?;
    let first = match stream.next().await.transpose() {
        Ok(first) => first,
        Err(error) => return Err(Refused::coded(unwrap(error))),
    };
    let schema = stream.schema();
    let all = futures::stream::iter(first.map(Ok)).chain(stream);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, all)))
}

/// The scans of a plan.
fn scans(plan: &Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Vec<Arc<dyn ExecutionPlan>>> {
    let mut scans = Vec::new();
    plan.apply(|node| {
        if node.is::<TesseraScanExec>() {
            scans.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

/// That rows are still read by the routes by which the statement was planned.
async fn check_routes(tables: &[Arc<Table>], catalogs: &Catalogs) -> Result<(), Refused> {
    for table in tables {
        let present = catalogs.routes(table).await.map_err(Refused::for_good)?;
        if present.read.stamp != table.sets.read.stamp {
            let text = format!("the regions of table {} changed while the statement began", table.shown());
            return Err(Refused { refusal: Some(Refusal::Stale), error: ServerError::new(Code::RegionBusy, text) });
        }
    }
    Ok(())
}

/// Waits until the routes of a table are others than those of the plan, or `pause` has passed; whether they are.
pub(crate) async fn await_change(tables: &[Arc<Table>], catalogs: &Catalogs, pause: Duration) -> Result<bool, ServerError> {
    let changes = tables.iter().map(|table| async move {
        let sets = catalogs.routes_changed(table, pause).await?;
        Ok::<_, ServerError>(sets.read.stamp != table.sets.read.stamp || sets.write.stamp != table.sets.write.stamp)
    });
    let mut changes: futures::stream::FuturesUnordered<_> = changes.collect();
    match changes.next().await {
        Some(changed) => changed,
        None => {
            tessera_manifest::env::sleep(pause).await;
            Ok(false)
        }
    }
}
