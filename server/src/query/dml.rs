//! INSERT and DELETE: DataFusion plans the rows, we write them.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::sql::sqlparser::ast as df;
use futures::TryStreamExt;
use tessera_engine::options::{MergeMode, TableOptions};
use tessera_engine::request::OpType;
use tessera_manifest::id::TableId;

use super::error::unwrap;
use super::fit;
use super::read::Prepared;
use super::rows::{key_positions, nowhere};
use super::session::Sessions;
use super::write::Writer;
use crate::catalog::{Catalogs, Table, TesseraTable};
use crate::error::{Code, ServerError};

/// Runs an INSERT or DELETE; gives the number of rows written.
///
/// # Errors
/// A target that cannot be written, a row that does not fit, or a failed write.
pub async fn run(statement: df::Statement, database: &str, sessions: &Sessions, catalogs: Catalogs) -> Result<u64, ServerError> {
    let (mut stream, (table, op)) = sessions.read(statement, database, &catalogs, prepare).await?;
    let mut writer = match op {
        OpType::Put => Writer::put(table, catalogs),
        OpType::Delete => Writer::delete(table, catalogs),
    };
    loop {
        let batch = match stream.try_next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => return Err(writer.explain(unwrap(error))),
        };
        writer.push(&batch, &nowhere).await?;
    }
    writer.finish().await
}

/// The rows that are written, where to, and what they do there.
fn prepare(plan: LogicalPlan) -> Result<Prepared<(Arc<Table>, OpType)>, ServerError> {
    let LogicalPlan::Dml(dml) = plan else {
        return Err(ServerError::new(Code::Unsupported, "this form of INSERT or DELETE is not supported"));
    };
    let table = target(&dml)?;
    let (plan, op) = match &dml.op {
        WriteOp::Insert(InsertOp::Append) => (fit::name_casts(dml.input.as_ref().clone(), &table)?, OpType::Put),
        WriteOp::Delete if keeps_every_row(&table) => {
            let text = format!("DELETE FROM {}: rows of a table with append_mode have no key; use TRUNCATE TABLE or a ttl", table.shown());
            return Err(ServerError::new(Code::Unsupported, text));
        }
        WriteOp::Delete => (keys(&dml, &table)?, OpType::Delete),
        other => return Err(ServerError::new(Code::Unsupported, format!("{} is not supported yet", other.name()))),
    };
    let settled = reads(&plan, table.info.id)?.then(|| Arc::clone(&table));
    Ok(Prepared { plan, settled, with: (table, op) })
}

/// Whether a plan reads rows of a table, in a subquery perhaps.
fn reads(plan: &LogicalPlan, table: TableId) -> Result<bool, ServerError> {
    let mut found = false;
    let visit = |node: &LogicalPlan| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && provider.downcast_ref::<TesseraTable>().is_some_and(|other| other.table().info.id == table)
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply_with_subqueries(visit).map_err(unwrap)?;
    Ok(found)
}

fn target(dml: &DmlStatement) -> Result<Arc<Table>, ServerError> {
    let provider = source_as_provider(&dml.target).map_err(unwrap)?;
    match provider.downcast_ref::<TesseraTable>() {
        Some(past) if past.is_past() => {
            let text = format!("table {} is written as it is now: leave out AS OF", past.table().shown());
            Err(ServerError::new(Code::InvalidSyntax, text))
        }
        Some(table) => Ok(Arc::clone(table.table())),
        None => Err(ServerError::new(Code::Unsupported, format!("table '{}' cannot be written", dml.table_name))),
    }
}

/// Whether rows have no key: the table has append_mode.
pub(super) fn keeps_every_row(table: &Table) -> bool {
    TableOptions::parse(&table.info.options).is_ok_and(|options| options.merge_mode == MergeMode::Append)
}

/// The rows to delete, as their key columns in display order.
fn keys(dml: &DmlStatement, table: &Table) -> Result<LogicalPlan, ServerError> {
    let schema = &table.info.schema;
    let mut columns = Vec::new();
    for position in key_positions(schema) {
        let Some(column) = schema.columns().get(position) else { continue };
        let found = dml.input.schema().iter().find(|(_, field)| *field.name() == column.name);
        let found = found.ok_or_else(|| ServerError::new(Code::Internal, format!("a delete lost its key column '{}'", column.name)))?;
        columns.push(Expr::Column(Column::from(found)));
    }
    LogicalPlanBuilder::from(dml.input.as_ref().clone()).project(columns).and_then(LogicalPlanBuilder::build).map_err(unwrap)
}
