//! A table as DataFusion's planner sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr as DfExpr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tessera_engine::engine::Engine;
use tessera_engine::request::ScanRequest;
use tessera_manifest::schema::{Column, ColumnDefault};
use tessera_manifest::value::{DataType, Value};

use super::{Closed, Table};
use crate::query::past::Versions;
use crate::query::scan::{Source, TesseraScanExec, Work, matching};
use crate::query::{filter, limits, value};

/// One table of a statement.
pub struct TesseraTable {
    table: Arc<Table>,
    engine: Engine,
    closed: Closed,
    schema: SchemaRef,
    defaults: BTreeMap<String, DfExpr>,
    /// Of a past table the version of each region.
    past: Option<Versions>,
}

impl TesseraTable {
    /// A table whose defaults that depend on the time are as of `now_ms` (since 1970).
    #[must_use]
    pub fn new(table: Arc<Table>, engine: Engine, closed: Closed, now_ms: u64) -> Self {
        let schema = table.info.schema.to_arrow();
        let columns = table.info.schema.columns().iter();
        let defaults = columns.filter_map(|column| Some((column.name.clone(), default_expr(column, now_ms)?))).collect();
        Self { table, engine, closed, schema, defaults, past: None }
    }

    /// The same table for a statement that writes it: NULL fits every column, so that the error about one that is
    /// NOT NULL is ours and names the row.
    #[must_use]
    pub fn as_target(mut self) -> Self {
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }

    /// The table, which is as it was, read at these versions.
    #[must_use]
    pub fn at(mut self, versions: Versions) -> Self {
        self.past = Some(versions);
        self
    }

    /// Whether it is read as it was.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.past.is_some()
    }

    /// About how many rows a scan with these filters gives, at most `enough`; `None` if that is not known.
    pub(crate) fn estimate_rows(&self, filters: &[DfExpr], enough: u64) -> Option<u64> {
        let schema = &self.table.info.schema;
        if self.is_past() || self.table.routes().len() > limits::FEW_REGIONS {
            return None;
        }
        let filter = filter::superset(filters, schema);
        let mut rows = 0;
        for region in matching(&self.table, &filter) {
            rows += self.engine.region(region).ok()?.estimate_rows(schema, &filter, enough);
            if rows >= enough {
                return Some(enough);
            }
        }
        Some(rows)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

fn default_expr(column: &Column, now_ms: u64) -> Option<DfExpr> {
    let value = match column.default.as_ref()? {
        ColumnDefault::Value(value) => value.clone(),
        ColumnDefault::CurrentTimestamp => current_time(column.data_type, now_ms)?,
    };
    Some(DfExpr::Literal(value::to_scalar(&value, column.data_type), None))
}

fn current_time(data_type: DataType, now_ms: u64) -> Option<Value> {
    let DataType::Timestamp(unit) = data_type else { return None };
    let scaled = i128::from(now_ms) * i128::from(unit.per_second()) / 1_000;
    i64::try_from(scaled).ok().map(Value::Timestamp)
}

impl fmt::Debug for TesseraTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TesseraTable").field("table", &self.table.shown()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for TesseraTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&DfExpr> {
        self.defaults.get(column)
    }

    fn supports_filters_pushdown(&self, filters: &[&DfExpr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Of other conditions a region skips what it can prove away, and may leave rows that do not match.
        let support = |filter: &&DfExpr| match filter::is_exact(filter, &self.table.info.schema) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[DfExpr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(positions) => Arc::new(self.schema.project(positions)?),
            None => Arc::clone(&self.schema),
        };
        let filter = filter::superset(filters, &self.table.info.schema);
        let request = ScanRequest { projection: projection.cloned(), filter, limit, ..ScanRequest::default() };
        let source =
            Source { table: Arc::clone(&self.table), engine: self.engine.clone(), closed: self.closed.clone(), past: self.past.clone() };
        let exact = filters.iter().all(|filter| filter::is_exact(filter, &self.table.info.schema));
        let streams = state.config().target_partitions();
        Ok(Arc::new(TesseraScanExec::new(source, schema, request, Work { exact, streams })))
    }
}
