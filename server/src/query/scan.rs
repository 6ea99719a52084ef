//! The scan of a table: one partition for each region that can hold wanted rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt};
use tessera_engine::engine::Engine;
use tessera_engine::request::ScanRequest;
use tessera_manifest::id::RegionId;
use tessera_manifest::rule::Expr;

use super::error::{from_engine, wrap};
use super::rules;
use crate::catalog::{Closed, Table};

/// What a scan reads from.
#[derive(Clone)]
pub struct Source {
    /// The table.
    pub table: Arc<Table>,
    /// Its regions.
    pub engine: Engine,
    /// Tables that were dropped meanwhile.
    pub closed: Closed,
}

/// Reads rows of a table from its regions.
pub struct TesseraScanExec {
    source: Source,
    regions: Vec<RegionId>,
    pruned: usize,
    request: ScanRequest,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TesseraScanExec {
    /// A scan of the regions whose rule can match the request's filter; `schema` is that of the projection.
    #[must_use]
    pub fn new(source: Source, schema: SchemaRef, request: ScanRequest) -> Self {
        let table = &source.table;
        let mut regions = Vec::with_capacity(table.routes.len());
        let any = request.filter == Expr::always();
        for route in &table.routes {
            if any || !rules::disjoint(&route.rule, &request.filter) {
                regions.push(route.region);
            }
        }
        let pruned = table.routes.len() - regions.len();
        // A plan without partitions cannot be merged; the one partition of an empty scan has no rows.
        let partitioning = Partitioning::UnknownPartitioning(regions.len().max(1));
        let properties =
            PlanProperties::new(EquivalenceProperties::new(schema), partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { source, regions, pruned, request, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The regions that are read.
    #[must_use]
    pub fn regions(&self) -> &[RegionId] {
        &self.regions
    }

    fn projected(&self) -> String {
        let columns = self.source.table.info.schema.columns();
        let names = |position: &usize| columns.get(*position).map(|column| column.name.clone());
        let all = (0..columns.len()).collect::<Vec<_>>();
        self.request.projection.as_ref().unwrap_or(&all).iter().filter_map(names).collect::<Vec<_>>().join(", ")
    }

    fn filters(&self) -> String {
        let schema = &self.source.table.info.schema;
        match &self.request.filter {
            Expr::And(parts) => parts.iter().map(|part| rules::text(part, schema)).collect::<Vec<_>>().join(", "),
            other => rules::text(other, schema),
        }
    }
}

impl fmt::Debug for TesseraScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TesseraScanExec").field("table", &self.source.table.shown()).field("regions", &self.regions).finish_non_exhaustive()
    }
}

impl DisplayAs for TesseraScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.regions.iter().map(RegionId::to_string).collect::<Vec<_>>().join(", ");
        if matches!(format, DisplayFormatType::TreeRender) {
            return writeln!(f, "table={}\nregions={}\npruned={}", self.source.table.shown(), self.regions.len(), self.pruned);
        }
        write!(
            f,
            "TesseraScanExec: table={}, regions=[{regions}], pruned={}, filters=[{}], projection=[{}]",
            self.source.table.shown(),
            self.pruned,
            self.filters(),
            self.projected()
        )?;
        match self.request.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for TesseraScanExec {
    fn name(&self) -> &'static str {
        "TesseraScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _see: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let Some(region) = self.regions.get(partition).copied() else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::empty())));
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let files = MetricBuilder::new(&self.metrics).counter("files", partition);
        let skipped = MetricBuilder::new(&self.metrics).counter("files_skipped", partition);
        let (Source { table, engine, closed }, request) = (self.source.clone(), self.request.clone());
        // The region may have another version of the schema by now; the plan has this one.
        let planned = Arc::new(table.info.schema.clone());
        let open = async move {
            let region = engine.region(region).map_err(|error| wrap(closed.check(&table).err().unwrap_or_else(|| from_engine(&error))))?;
            let scan = region.scan_under(Some(planned), request).await.map_err(|error| wrap(from_engine(&error)))?;
            // A region that was dropped before the scan began has no rows, which is not what the table had.
            closed.check(&table).map_err(wrap)?;
            files.add(scan.files.len());
            skipped.add(scan.files_skipped);
            Ok::<_, DataFusionError>(scan.into_stream().map_err(|error| wrap(from_engine(&error))))
        };
        let count = move |batch: RecordBatch| batch.record_output(&baseline);
        let stream = futures::stream::once(open).try_flatten().map_ok(count).boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
