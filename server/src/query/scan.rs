//! The scan of a table: some partitions for each region that can hold wanted rows, or some regions for each partition.
//!
//! Invariants:
//! - Every partition is read at the same time, so that there are not more than 32, or than there are cores: of a table of many
//!   regions one reads some regions one after the other.
//! - All partitions of a region read one version of it, pinned before the first of them is read, at the generation that
//!   the region's route has.
//! - What is said of the order of rows holds for each partition.
//! - All scans of a statement count against one memory, which comes with the task's context.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, SendableRecordBatchStream,
    SortOrderPushdownResult,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tessera_engine::engine::Engine;
use tessera_engine::error::Error as EngineError;
use tessera_engine::region::Known;
use tessera_engine::request::{FirstBuckets, Order, RegionScan, ScanRequest, Tags, run_ends};
use tessera_manifest::env;
use tessera_manifest::id::{ColumnId, Generation, RegionId};
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, SemanticType};
use tessera_manifest::value::{DataType, Value};
use tokio::sync::OnceCell;

use super::error::{from_engine, wrap};
use super::past::Versions;
use super::refusal::{Refusal, Refused};
use super::{rules, value};
use crate::catalog::{Closed, Table};
use crate::error::{Code, ServerError};

/// What a scan reads from.
#[derive(Clone)]
pub struct Source {
    /// The table.
    pub table: Arc<Table>,
    /// Its regions.
    pub engine: Engine,
    /// Tables that were dropped meanwhile.
    pub closed: Closed,
    /// The version at which each region is read, where it is not the present one.
    pub past: Option<Versions>,
}

impl Source {
    /// Pins a region at the generation that its route has, and plans the reading of it.
    async fn begin(&self, region: RegionId, request: ScanRequest) -> Result<RegionScan, Refused> {
        let Self { table, engine, closed, past } = self;
        let past = past.as_ref().and_then(|past| past.get(&region));
        let closed_or = |error: &EngineError| closed.check(table).map_or_else(Refused::for_good, |()| Refused::of(error));
        let open = engine.region(region).map_err(|error| closed_or(&error))?;
        let before = open.meta().generation;
        // The region may have another version of the schema by now; the plan has this one.
        let planned = Arc::new(table.info.schema.clone());
        let scan = match past {
            Some(past) => open.scan_past(past, Some(planned), request).await,
            // Whoever meets a repartition ends what its coordinator left, and is not to be dropped half-way with its client.
            None if open.is_staged() => {
                let open = Arc::clone(&open);
                let scan = env::spawn(async move { open.scan_under(Some(planned), request).await }).await;
                let defect = |error: tokio::task::JoinError| {
                    ServerError::new(Code::Internal, format!("the scan of region {region} failed by a defect: {error}"))
                };
                scan.map_err(|error| Refused::for_good(defect(error)))?
            }
            None => open.scan_under(Some(planned), request).await,
        };
        let scan = scan.map_err(|error| closed_or(&error))?;
        // A region that was dropped before the scan began has no rows, which is not what the table had.
        closed.check(table).map_err(Refused::for_good)?;
        // Generations only go up: where both are that of the route, what was pinned in between is, too.
        let after = open.meta().generation;
        if past.is_none() && self.generation(region).is_some_and(|wanted| wanted != before || wanted != after) {
            let text = format!("region {region} is at generation {after}, which is not that of its route: try again");
            return Err(Refused { refusal: Some(Refusal::Stale), error: ServerError::new(Code::RegionBusy, text) });
        }
        Ok(scan)
    }

    /// The generation at which the plan reads a region.
    fn generation(&self, region: RegionId) -> Option<Generation> {
        self.table.routes().iter().find(|route| route.region == region).map(|route| route.generation)
    }

    /// What metadata says of a region's rows, if it is open and of the generation of its route.
    fn known(&self, region: RegionId) -> Option<Known> {
        let (open, wanted) = (self.engine.region(region).ok()?, self.generation(region)?);
        let before = open.meta().generation;
        let known = open.known();
        (before == wanted && open.meta().generation == wanted).then_some(known)
    }
}

/// How a scan may be run.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Whether every row that comes out is wanted: nothing is left of the filters to be tested.
    pub exact: bool,
    /// Partitions that there should be, about.
    pub streams: usize,
}

/// Reads rows of a table from its regions.
pub struct TesseraScanExec {
    source: Source,
    regions: Vec<RegionId>,
    pruned: usize,
    request: ScanRequest,
    work: Work,
    /// The scan of each region, once it has begun.
    scans: Arc<[OnceCell<RegionScan>]>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The regions of a table whose rule can match a filter, in the order of its routes.
pub(crate) fn matching<'a>(table: &'a Table, filter: &'a Expr) -> impl Iterator<Item = RegionId> + 'a {
    let any = *filter == Expr::always();
    table.routes().iter().filter(move |route| any || !rules::disjoint(&route.rule, filter)).map(|route| route.region)
}

/// Regions that are read at the same time: each may hold row groups in memory, of which a statement has some.
const PARTITIONS_MAX: usize = 32;

/// Files from which on rows are not merged into the order of keys: of each a row group would be held at the same time.
const ORDERED_FILES_MAX: usize = 64;

/// Rows are sorted by time where they are read if those that are likely to come take about this part of the statement's memory: what is
/// known of their number and width is an estimate.
const SORTED_SHARE: u64 = 16;

/// And if all that may come take no more than this part: rows are there twice while they are sorted, beside what is decoded.
const SORTED_MOST_SHARE: u64 = 4;

/// Bytes that a row takes beside its columns while it is sorted.
const PLACE_BYTES: u64 = 16;

/// Bytes of a text that is a tag, about.
const TAG_BYTES: u64 = 64;

/// Bytes of a value in a row that is sorted; `None` for fields whose values may have any length.
fn width(column: &Column) -> Option<u64> {
    match column.data_type {
        DataType::String | DataType::Binary => (column.semantic == SemanticType::Tag).then_some(TAG_BYTES),
        _ => Some(16),
    }
}

/// Whether values that compare equal are the same.
fn is_exact(column: &Column) -> bool {
    !matches!(column.data_type, DataType::Float32 | DataType::Float64)
}

impl TesseraScanExec {
    /// A scan of the regions whose rule can match the request's filter; `schema` is that of the projection.
    #[must_use]
    pub fn new(source: Source, schema: SchemaRef, request: ScanRequest, work: Work) -> Self {
        let regions: Vec<RegionId> = matching(&source.table, &request.filter).collect();
        let pruned = source.table.routes().len() - regions.len();
        let streams = work.streams.div_ceil(regions.len().max(1)).max(1);
        let request = ScanRequest { streams, ..request };
        Self::assemble(source, EquivalenceProperties::new(schema), regions, pruned, request, work)
    }

    fn assemble(
        source: Source,
        order: EquivalenceProperties,
        regions: Vec<RegionId>,
        pruned: usize,
        request: ScanRequest,
        work: Work,
    ) -> Self {
        // A plan without partitions cannot be merged; the one partition of an empty scan has no rows.
        let all = regions.len() * request.streams;
        let partitions = if regions.len() > PARTITIONS_MAX { all.min(PARTITIONS_MAX.max(work.streams)) } else { all.max(1) };
        let partitioning = Partitioning::UnknownPartitioning(partitions);
        let properties = PlanProperties::new(order, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        // It gives way to other tasks itself; else each operator above would be made anew, for one between that does.
        let properties = properties.with_scheduling_type(SchedulingType::Cooperative);
        let scans = regions.iter().map(|_| OnceCell::new()).collect();
        Self { source, regions, pruned, request, work, scans, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Pins every region that is read, so many at the same time. Cancel safe; done again, it pins what is left.
    ///
    /// # Errors
    /// The first region that refuses; those that were pinned stay so.
    pub async fn pin(&self, context: &TaskContext, parallelism: usize) -> Result<(), Refused> {
        let request = &self.request_in(context);
        let pins = self.regions.iter().zip(self.scans.iter()).map(|(region, scan)| async move {
            let begin = || self.source.begin(*region, request.clone());
            scan.get_or_try_init(begin).await.map(|_| ())
        });
        let pins: Vec<_> = pins.collect();
        futures::stream::iter(pins).buffer_unordered(parallelism.max(1)).try_collect().await
    }

    /// What is asked of a region, with the memory of the statement, if it has some for all its scans.
    fn request_in(&self, context: &TaskContext) -> ScanRequest {
        ScanRequest { memory: context.session_config().get_extension(), ..self.request.clone() }
    }

    /// A stream of a region, of all streams of all regions, which begins when it is polled.
    fn part(&self, part: usize, partition: usize, context: &TaskContext) -> BoxStream<'static, Result<RecordBatch>> {
        let (number, stream) = (part / self.request.streams, part % self.request.streams);
        let Some(region) = self.regions.get(number).copied() else { return futures::stream::empty().boxed() };
        let files = MetricBuilder::new(&self.metrics).counter("files", partition);
        let skipped = MetricBuilder::new(&self.metrics).counter("files_skipped", partition);
        let (source, request, scans, metrics) =
            (self.source.clone(), self.request_in(context), Arc::clone(&self.scans), self.metrics.clone());
        let open = async move {
            let begin = || async { source.begin(region, request).await.map_err(|refused| wrap(refused.error)) };
            let scan = scans[number].get_or_try_init(begin).await?;
            if stream == 0 {
                files.add(scan.files.len());
                skipped.add(scan.files_skipped);
                let cost = scan.rule_cost();
                for (name, files) in
                    [("rule_elided", cost.files_elided), ("rule_tested", cost.files_tested), ("rule_pruned", cost.files_pruned)]
                {
                    if files > 0 {
                        MetricBuilder::new(&metrics).counter(name, partition).add(files);
                    }
                }
            }
            Ok::<_, DataFusionError>(scan.stream(stream).map_err(|error| wrap(from_engine(&error))))
        };
        futures::stream::once(open).try_flatten().boxed()
    }

    /// The same scan asked otherwise, with rows in the order of `properties`.
    fn with_request(&self, request: ScanRequest, properties: EquivalenceProperties) -> Self {
        Self::assemble(self.source.clone(), properties, self.regions.clone(), self.pruned, request, self.work)
    }

    /// The same scan of only the first rows by time, if that is all that the filters ask for.
    #[must_use]
    pub fn first_by_time(&self, newest_first: bool, rows: usize) -> Option<Self> {
        let order = if newest_first { Order::NewestFirst } else { Order::Time };
        let request = ScanRequest { order, limit: Some(rows), streams: 1, ..self.request.clone() };
        self.is_plain().then(|| self.with_request(request, EquivalenceProperties::new(self.schema())))
    }

    /// The same scan without rows beyond the first buckets of time that have any, if all rows of them are what the filters
    /// ask for.
    #[must_use]
    pub fn first_buckets(&self, wanted: FirstBuckets) -> Option<Self> {
        let request = ScanRequest { first_buckets: Some(wanted), ..self.request.clone() };
        self.is_plain().then(|| self.with_request(request, EquivalenceProperties::new(self.schema())))
    }

    /// The same scan of only the last row of each series, if that is all that the filters ask for.
    #[must_use]
    pub fn last_rows(&self) -> Option<Self> {
        let request = ScanRequest { last_rows: true, ..self.request.clone() };
        self.is_plain().then(|| self.with_request(request, EquivalenceProperties::new(self.schema())))
    }

    /// The same scan with tags run-end encoded, if it has rows in any order: what reads them must know of that.
    #[must_use]
    pub fn with_tag_runs(&self) -> Option<Self> {
        let any = self.request.order == Order::Any && !self.request.last_rows;
        let request = ScanRequest { tags: Tags::Runs, ..self.request.clone() };
        let fields = self
            .schema()
            .fields()
            .iter()
            .enumerate()
            .map(|(output, field)| match self.column(output) {
                Some(column) if column.semantic == SemanticType::Tag => Arc::new(run_ends(field)),
                _ => Arc::clone(field),
            })
            .collect::<Vec<_>>();
        let schema = ArrowSchema::new_with_metadata(fields, self.schema().metadata().clone());
        any.then(|| self.with_request(request, EquivalenceProperties::new(Arc::new(schema))))
    }

    /// Whether all rows that the filters ask for come out, in no order.
    fn is_plain(&self) -> bool {
        let ScanRequest { limit, order, last_rows, first_buckets, .. } = &self.request;
        self.work.exact && limit.is_none() && *order == Order::Any && !last_rows && first_buckets.is_none()
    }

    /// Whether rows of one series stand together, in the order of their times.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        matches!(self.request.order, Order::Any | Order::Key) && !self.request.last_rows
    }

    /// The table's column that a column of the output is.
    #[must_use]
    pub fn column(&self, output: usize) -> Option<&Column> {
        let position = self.request.projection.as_ref().map_or(Some(output), |columns| columns.get(output).copied())?;
        self.source.table.info.schema.columns().get(position)
    }

    /// Whether rows in the order of keys have this order, too. Ours has NULL first, and one NaN.
    fn has_order(&self, order: &[PhysicalSortExpr]) -> bool {
        let schema = &self.source.table.info.schema;
        let varies = |id: &&ColumnId| schema.column(**id).is_some_and(|column| !self.has_one_value(column));
        let mut keys = schema.primary_key().iter().chain([&schema.time_index().id]).filter(varies);
        order.iter().all(|sort| {
            let nulls = |column: &Column| sort.options.nulls_first || !column.nullable;
            let ascends = |column: &Column| !sort.options.descending && is_exact(column) && nulls(column);
            let column = self.sorted_column(sort);
            column.is_some_and(|column| self.has_one_value(column) || (ascends(column) && keys.next() == Some(&column.id)))
        })
    }

    /// The order of time that rows of this order are in, if it is one.
    fn order_of_time(&self, order: &[PhysicalSortExpr]) -> Option<Order> {
        let time = self.source.table.info.schema.time_index().id;
        let mut found = None;
        for sort in order {
            let column = self.sorted_column(sort)?;
            match column.id == time && found.is_none() {
                true => found = Some(if sort.options.descending { Order::NewestFirst } else { Order::Time }),
                false if self.has_one_value(column) => {}
                false => return None,
            }
        }
        found
    }

    /// The table's column that is sorted by.
    fn sorted_column(&self, sort: &PhysicalSortExpr) -> Option<&Column> {
        self.column(sort.expr.downcast_ref::<PhysicalColumn>()?.index())
    }

    /// Whether a column is a tag of which the filters ask for one value. It says nothing of the order: all rows that come out have it.
    fn has_one_value(&self, column: &Column) -> bool {
        self.source.table.info.schema.primary_key().contains(&column.id) && is_exact(column) && self.asks_for_one(column.id)
    }

    /// Whether rows can be sorted by time while they are read, those that overlap in time together, with memory to spare: about as many
    /// are known to come, of about this width. What is above would spill, a scan cannot.
    fn is_sorted_in_memory(&self) -> bool {
        let schema = &self.source.table.info.schema;
        let outputs = 0..self.schema().fields().len();
        let widths = outputs.map(|output| self.column(output).and_then(width)).sum::<Option<u64>>();
        let Some(width) = widths else { return false };
        if !self.work.exact || self.source.past.is_some() {
            return false;
        }
        let (mut likely, mut most) = (0_u64, 0_u64);
        for region in &self.regions {
            let Ok(region) = self.source.engine.region(*region) else { return false };
            let rows = region.estimate_rows_at_once(schema, &self.request.filter);
            (likely, most) = (likely.saturating_add(rows.likely), most.saturating_add(rows.most));
        }
        let bytes = |rows: u64| (width + PLACE_BYTES).saturating_mul(rows).saturating_mul(self.request.streams as u64);
        let all = self.source.engine.scan_bytes_max() as u64;
        bytes(likely) <= all / SORTED_SHARE && bytes(most) <= all / SORTED_MOST_SHARE
    }

    /// Whether the filters ask for one value of a column.
    fn asks_for_one(&self, wanted: ColumnId) -> bool {
        let parts = match &self.request.filter {
            Expr::And(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        parts.iter().any(|part| match part {
            Expr::Compare { column, op: CompareOp::Eq, .. } => *column == wanted,
            Expr::In { column, values } => *column == wanted && values.len() == 1,
            _ => false,
        })
    }

    /// Whether rows may be merged into an order: of not too many regions, which have not too many files together.
    fn is_merged(&self) -> bool {
        let files = |region: &RegionId| self.source.engine.region(*region).ok().map(|region| region.info().files);
        let files: Option<usize> = self.regions.iter().map(files).sum();
        self.regions.len() <= PARTITIONS_MAX && files.is_some_and(|files| files <= ORDERED_FILES_MAX)
    }

    /// What metadata says of all rows; only for a scan of them all.
    fn known(&self) -> Statistics {
        let schema = self.schema();
        let mut statistics = Statistics::new_unknown(&schema);
        if !self.is_plain()
            || self.source.past.is_some()
            || self.request.filter != Expr::always() && !matches!(&self.request.filter, Expr::And(parts) if parts.is_empty())
        {
            return statistics;
        }
        let known = self.regions.iter().map(|region| self.source.known(*region));
        let Some(known) = known.collect::<Option<Vec<_>>>() else { return statistics };
        let rows = known.iter().map(|known| known.rows).sum::<Option<u64>>().and_then(|rows| usize::try_from(rows).ok());
        // Of no rows a plan may drop a limit or an offset, and there may be some when the regions are pinned.
        if let Some(rows) = rows.filter(|rows| *rows > 0) {
            statistics.num_rows = Precision::Exact(rows);
        }
        // A region without rows has no times, and one of which nothing is known has none either.
        let times = known.iter().map(|known| known.time).collect::<Option<Vec<_>>>();
        let range = times.and_then(|times| times.into_iter().reduce(|all, range| (all.0.min(range.0), all.1.max(range.1))));
        let time = self.source.table.info.schema.time_index();
        for (output, column) in statistics.column_statistics.iter_mut().enumerate() {
            if let Some((from, to)) = range.filter(|_| self.column(output).is_some_and(|column| column.id == time.id)) {
                column.null_count = Precision::Exact(0);
                column.min_value = Precision::Exact(value::to_scalar(&Value::Timestamp(from), time.data_type));
                column.max_value = Precision::Exact(value::to_scalar(&Value::Timestamp(to), time.data_type));
            }
        }
        statistics
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
        if let Some(limit) = self.request.limit {
            write!(f, ", limit={limit}")?;
        }
        if let Some(FirstBuckets { of, count, newest_first }) = self.request.first_buckets {
            write!(f, ", buckets={} {count} of {}", if newest_first { "newest" } else { "oldest" }, of.width())?;
        }
        match (self.request.last_rows, self.request.order) {
            (true, _) => f.write_str(", rows=last of each series"),
            (false, Order::Any) => Ok(()),
            (false, Order::Key) => f.write_str(", order=key"),
            (false, Order::Time) => f.write_str(", order=time"),
            (false, Order::NewestFirst) => f.write_str(", order=newest first"),
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let all = self.regions.len() * self.request.streams;
        let step = self.properties.output_partitioning().partition_count();
        let parts: Vec<_> = (partition..all).step_by(step).map(|part| self.part(part, partition, &context)).collect();
        let count = move |batch: RecordBatch| batch.record_output(&baseline);
        let stream = futures::stream::iter(parts).flatten().map_ok(count).boxed();
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema(), stream))))
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let all = args.partition().is_none();
        Ok(Arc::new(if all { self.known() } else { Statistics::new_unknown(&self.schema()) }))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let ScanRequest { order: present, last_rows, tags, .. } = &self.request;
        if *present != Order::Any || *last_rows || order.is_empty() || !self.is_merged() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let wanted = match self.order_of_time(order).filter(|_| *tags == Tags::Values && self.is_sorted_in_memory()) {
            _ if self.has_order(order) => Order::Key,
            Some(by_time) => by_time,
            None => return Ok(SortOrderPushdownResult::Unsupported),
        };
        let request = ScanRequest { order: wanted, ..self.request.clone() };
        let properties = EquivalenceProperties::new_with_orderings(self.schema(), [order.to_vec()]);
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(self.with_request(request, properties)) })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
