//! `ADMIN function('argument', ...)`.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use futures::{StreamExt, stream};
use tessera_manifest::id::RegionId;

use crate::catalog::{Catalogs, rows};
use crate::error::{Code, ServerError};
use crate::query::error::from_engine;
use crate::query::limits;
use crate::service::Output;
use crate::sql::TableName;
use crate::sql::split::split;

/// The functions, for messages.
const FUNCTIONS: &str = "flush_table('table'), flush_region(region), compact_table('table'), compact_region(region)";

/// Runs an administrative function; the answer is one row with a zero, as in GreptimeDB.
///
/// # Errors
/// An unknown function or table, arguments that do not fit, or a region that fails.
pub async fn run(function: &str, arguments: &[String], session: &str, catalogs: &Catalogs) -> Result<Output, ServerError> {
    match (function, arguments) {
        ("flush_table", [table]) => flush(&regions_of(table, session, catalogs).await?, catalogs).await?,
        ("flush_region", [region]) => flush(&[region_id(region)?], catalogs).await?,
        ("compact_table" | "compact_region", _) => {
            return Err(ServerError::new(Code::Unsupported, format!("ADMIN {function} is not supported yet")));
        }
        ("flush_table" | "flush_region", _) => {
            return Err(ServerError::new(Code::InvalidArguments, format!("ADMIN {function} takes one argument: {FUNCTIONS}")));
        }
        _ => return Err(ServerError::new(Code::Unsupported, format!("there is no ADMIN function '{function}'; there are {FUNCTIONS}"))),
    }
    let shown: Vec<String> = arguments.iter().map(|argument| crate::sql::show::string_text(argument)).collect();
    let title = format!("ADMIN {function}({})", shown.join(", "));
    rows(vec![(&title, Arc::new(UInt64Array::from(vec![0])) as ArrayRef)])
}

/// The regions of a table that is named in a text.
async fn regions_of(text: &str, session: &str, catalogs: &Catalogs) -> Result<Vec<RegionId>, ServerError> {
    let TableName { database, table } = table_name(text)?;
    let table = catalogs.table(database.as_deref().unwrap_or(session), &table).await?;
    Ok(table.routes.iter().map(|route| route.region).collect())
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
