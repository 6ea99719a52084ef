//! `ADMIN function('argument', ...)`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use futures::{StreamExt, stream};
use tessera_engine::compaction::Strategy;
use tessera_manifest::id::RegionId;
use tessera_metaclient::procedure::{ParseProcedureIdError, ProcedureId, Record};

use super::Ddl;
use super::procedure::from_procedure;
use crate::catalog::{Catalogs, rows};
use crate::error::{Code, ServerError};
use crate::procedures::ProcedureView;
use crate::query::error::from_engine;
use crate::query::limits;
use crate::repartition;
use crate::service::Output;
use crate::sql::TableName;
use crate::sql::split::split;

/// The functions, for messages.
const FUNCTIONS: &str = "flush_table('table'), flush_region(region), compact_table('table'[, strategy]), \
    compact_region(region[, strategy]), procedure_state('id'), cancel_procedure('id'), retry_procedure('id'), rollback_repartition('id'); a strategy is 'regular' or 'strict_window'";

/// Runs an administrative function; the answer is one row with a zero, as in GreptimeDB; that of
/// `procedure_state` is its JSON.
///
/// # Errors
/// An unknown function or table, arguments that do not fit, or a region that fails.
pub async fn run(function: &str, arguments: &[String], session: &str, ddl: &Ddl) -> Result<Output, ServerError> {
    let catalogs = &ddl.tools.catalogs;
    match (function, arguments) {
        ("flush_table", [table]) => flush(&regions_of(table, session, catalogs).await?, catalogs).await?,
        ("flush_region", [region]) => flush(&[region_id(region)?], catalogs).await?,
        ("compact_table", [table, strategy @ ..]) => {
            let strategy = strategy_of(strategy)?;
            compact(&regions_of(table, session, catalogs).await?, strategy, catalogs).await?;
        }
        ("compact_region", [region, strategy @ ..]) => compact(&[region_id(region)?], strategy_of(strategy)?, catalogs).await?,
        ("procedure_state", [id]) => return procedure_state(id, ddl).await,
        ("rollback_repartition", [id]) => return repartition::rollback(id, ddl).await,
        ("retry_procedure", [id]) => return shown(&title(function, arguments), &repartition::retry(id, ddl).await?),
        ("cancel_procedure", [id]) => return shown(&title(function, arguments), &repartition::cancel(id, ddl).await?),
        (
            "flush_table"
            | "flush_region"
            | "compact_table"
            | "compact_region"
            | "procedure_state"
            | "rollback_repartition"
            | "cancel_procedure"
            | "retry_procedure",
            _,
        ) => {
            return Err(ServerError::new(Code::InvalidArguments, format!("ADMIN {function} takes other arguments: {FUNCTIONS}")));
        }
        _ => return Err(ServerError::new(Code::Unsupported, format!("there is no ADMIN function '{function}'; there are {FUNCTIONS}"))),
    }
    rows(vec![(&title(function, arguments), Arc::new(UInt64Array::from(vec![0])) as ArrayRef)])
}

fn title(function: &str, arguments: &[String]) -> String {
    let shown: Vec<String> = arguments.iter().map(|argument| crate::sql::show::string_text(argument)).collect();
    format!("ADMIN {function}({})", shown.join(", "))
}

/// A procedure as one row with its JSON.
async fn procedure_state(id: &str, ddl: &Ddl) -> Result<Output, ServerError> {
    let parsed: ProcedureId =
        id.parse().map_err(|error: ParseProcedureIdError| ServerError::new(Code::InvalidArguments, error.to_string()))?;
    let record = ddl.procedures.client().procedure(&parsed).await.map_err(|error| from_procedure(&error))?;
    shown(&title("procedure_state", &[id.to_owned()]), &record)
}

fn shown(title: &str, record: &Record) -> Result<Output, ServerError> {
    let text = serde_json::to_string(&ProcedureView::new(record))
        .map_err(|error| ServerError::new(Code::Internal, format!("a procedure cannot be shown: {error}")))?;
    rows(vec![(title, Arc::new(StringArray::from(vec![text])) as ArrayRef)])
}

/// The regions of a table that is named in a text.
async fn regions_of(text: &str, session: &str, catalogs: &Catalogs) -> Result<Vec<RegionId>, ServerError> {
    let TableName { database, table } = table_name(text)?;
    let table = catalogs.table(database.as_deref().unwrap_or(session), &table).await?;
    Ok(table.routes().iter().map(|route| route.region).collect())
}

fn table_name(text: &str) -> Result<TableName, ServerError> {
    let sources = split(text)?;
    let [source] = sources.as_slice() else {
        return Err(ServerError::new(Code::InvalidArguments, format!("'{text}' is not the name of a table")));
    };
    crate::sql::parser::Cursor::new(source).table_name()
}

/// A region as it is shown (`1024/0`) or as its number.
fn region_id(text: &str) -> Result<RegionId, ServerError> {
    let parsed = text.parse::<RegionId>().ok().or_else(|| text.parse::<u64>().ok().map(RegionId::from_u64));
    parsed.ok_or_else(|| ServerError::new(Code::InvalidArguments, format!("'{text}' is not a region: write 1024/0 or its number")))
}

fn strategy_of(arguments: &[String]) -> Result<Strategy, ServerError> {
    let bad = |text: String| Err(ServerError::new(Code::InvalidArguments, text));
    let strategy = match arguments.first().map(|name| name.to_lowercase()) {
        None => Strategy::Regular,
        Some(name) if name == "regular" => Strategy::Regular,
        Some(name) if name == "strict_window" => Strategy::StrictWindow,
        Some(name) => return bad(format!("there is no compaction strategy '{name}': write 'regular' or 'strict_window'")),
    };
    match arguments.get(1) {
        None => Ok(strategy),
        Some(_) => bad("the window of a compaction is the table's: set its option 'compaction.twcs.time_window'".to_owned()),
    }
}

async fn compact(regions: &[RegionId], strategy: Strategy, catalogs: &Catalogs) -> Result<(), ServerError> {
    let compact = |region: RegionId| {
        let engine = catalogs.engine.clone();
        async move { engine.compact_region(region, strategy).await }
    };
    let compactions: Vec<_> = regions.iter().copied().map(compact).collect();
    let results: Vec<_> = stream::iter(compactions).buffer_unordered(limits::PARALLELISM).collect().await;
    results.into_iter().try_for_each(|result| result.map(|_| ())).map_err(|error| from_engine(&error))
}

async fn flush(regions: &[RegionId], catalogs: &Catalogs) -> Result<(), ServerError> {
    let flushes: Vec<_> = regions
        .iter()
        .map(|region| {
            let (engine, region) = (catalogs.engine.clone(), *region);
            async move { engine.region(region)?.flush().await }
        })
        .collect();
    let results: Vec<Result<(), _>> = stream::iter(flushes).buffer_unordered(limits::PARALLELISM).collect().await;
    results.into_iter().collect::<Result<(), _>>().map_err(|error| from_engine(&error))
}
