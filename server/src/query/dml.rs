//! INSERT and DELETE: DataFusion plans the rows, we write them.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use futures::TryStreamExt;
use tessera_engine::options::{MergeMode, TableOptions};

use super::error::unwrap;
use super::fit;
use super::rows::{key_positions, nowhere};
use super::session::Planned;
use super::write::Writer;
use crate::catalog::{Catalogs, Table, TesseraTable};
use crate::error::{Code, ServerError};

/// Runs a planned INSERT or DELETE; gives the number of rows written.
///
/// # Errors
/// A target that cannot be written, a row that does not fit, or a failed write.
pub async fn run(planned: Planned, catalogs: Catalogs) -> Result<u64, ServerError> {
    let Planned { state, plan } = planned;
    let LogicalPlan::Dml(dml) = plan else {
        return Err(ServerError::new(Code::Unsupported, "this form of INSERT or DELETE is not supported"));
    };
    let table = target(&dml)?;
    let (input, mut writer) = match &dml.op {
        WriteOp::Insert(InsertOp::Append) => (fit::name_casts(dml.input.as_ref().clone(), &table)?, Writer::put(table, catalogs)),
        WriteOp::Delete if keeps_every_row(&table) => {
            let text = format!("DELETE FROM {}: rows of a table with append_mode have no key; use TRUNCATE TABLE or a ttl", table.shown());
            return Err(ServerError::new(Code::Unsupported, text));
        }
        WriteOp::Delete => (keys(&dml, &table)?, Writer::delete(table, catalogs)),
        other => return Err(ServerError::new(Code::Unsupported, format!("{} is not supported yet", other.name()))),
    };
    let mut stream = Planned { state, plan: input }.stream().await?;
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

fn target(dml: &DmlStatement) -> Result<Arc<Table>, ServerError> {
    let provider = source_as_provider(&dml.target).map_err(unwrap)?;
    match provider.downcast_ref::<TesseraTable>() {
        Some(table) => Ok(Arc::clone(table.table())),
        None => Err(ServerError::new(Code::Unsupported, format!("table '{}' cannot be written", dml.table_name))),
    }
}

fn keeps_every_row(table: &Table) -> bool {
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
