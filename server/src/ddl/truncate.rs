//! TRUNCATE TABLE.
//!
//! Each region is truncated by itself, all of it or nothing; a truncation that fails in one region has happened in others,
//! and doing it again finishes it; that is done here where a repartition got in between. Rows that are written meanwhile may go or stay.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tessera_engine::error::Error as EngineError;
use tessera_engine::region::Region;
use tessera_manifest::env::{self, Moment};
use tessera_manifest::value::Value;

use super::create::writable;
use crate::catalog::{Catalogs, Table};
use crate::error::{Code, ServerError};
use crate::query::refusal::{Refusal, Refused};
use crate::query::session::Sessions;
use crate::query::{limits, value};
use crate::router::{Next, Patience};
use datafusion::sql::sqlparser::ast as df;

/// Removes all rows of a table, or those of stretches of time, both ends included.
///
/// # Errors
/// An unknown table, a bound that is no time, a region that is not open, or a store that does not answer.
pub async fn truncate_table(
    database: &str,
    name: &str,
    ranges: &[(df::Expr, df::Expr)],
    catalogs: &Catalogs,
    sessions: &Sessions,
) -> Result<(), ServerError> {
    writable(database)?;
    let (began, mut patience) = (Moment::now(), Patience::default());
    loop {
        // Which rows a truncation removes is only clear where rows are written and read alike.
        let table = catalogs.settled(catalogs.table(database, name).await?).await?;
        let Err(refused) = truncate(&table, ranges, catalogs, sessions).await else { return Ok(()) };
        let Some(refusal) = refused.refusal else { return Err(refused.error) };
        match patience.refused(Moment::now().since(began), refusal.wait_max()) {
            Next::GiveUp(_) => return Err(refused.error),
            Next::Wait(pause) => drop(catalogs.routes_changed(&table, pause).await?),
        }
    }
}

/// Removes the rows from the regions that the table is said to have.
pub(crate) async fn truncate(
    table: &Table,
    ranges: &[(df::Expr, df::Expr)],
    catalogs: &Catalogs,
    sessions: &Sessions,
) -> Result<(), Refused> {
    let bounds = ranges.iter().map(|(from, to)| Ok((bound(from, table, sessions)?, bound(to, table, sessions)?)));
    let bounds: Vec<(i64, i64)> = bounds.collect::<Result<_, ServerError>>().map_err(Refused::for_good)?;
    if let Some((from, to)) = bounds.iter().find(|(from, to)| from > to) {
        let text = format!("FILE RANGE ({from}, {to}) ends before it begins");
        return Err(Refused::for_good(ServerError::new(Code::InvalidArguments, text)));
    }
    let regions: Vec<Arc<Region>> = table
        .routes()
        .iter()
        .map(|route| catalogs.engine.region(route.region))
        .collect::<Result<_, _>>()
        .map_err(|error| Refused::of(&error))?;
    let bounds = Arc::new(bounds);
    let truncate = |region: Arc<Region>| {
        let bounds = Arc::clone(&bounds);
        // A commit that is cancelled leaves the region in doubt, so a client that goes away does not stop it.
        async move {
            let id = region.id();
            let work = env::spawn(async move {
                if bounds.is_empty() { region.truncate().await } else { region.truncate_ranges(&bounds).await.map(|_| ()) }
            });
            work.await.unwrap_or(Err(EngineError::Stopped { region: id }))
        }
    };
    let truncates: Vec<_> = regions.into_iter().map(truncate).collect();
    let results: Vec<Result<(), _>> = stream::iter(truncates).buffer_unordered(limits::PARALLELISM).collect().await;
    let failures: Vec<Refused> = results.into_iter().filter_map(Result::err).map(|error| Refused::of(&error)).collect();
    let for_good = failures.iter().position(|refused| refused.refusal.is_none()).unwrap_or(0);
    if let Some(Refused { refusal, error }) = failures.into_iter().nth(for_good) {
        let text = format!("{}; other regions of the table may be truncated: do it again", error.message);
        return Err(Refused { refusal, error: ServerError::new(error.code, text) });
    }
    check_routes(table, catalogs).await
}

/// That the regions that were truncated are still those of the table: one that was split off meanwhile has rows of before.
async fn check_routes(table: &Table, catalogs: &Catalogs) -> Result<(), Refused> {
    let present = catalogs.routes(table).await.map_err(Refused::for_good)?;
    if present.read.stamp == table.sets.read.stamp && present.write.stamp == table.sets.write.stamp {
        return Ok(());
    }
    let text = format!("the regions of table {} changed while it was truncated", table.shown());
    Err(Refused { refusal: Some(Refusal::Stale), error: ServerError::new(Code::RegionBusy, text) })
}

/// A time in the unit of the time index.
fn bound(expr: &df::Expr, table: &Table, sessions: &Sessions) -> Result<i64, ServerError> {
    let column = table.info.schema.time_index();
    let bad =
        |why: &str| ServerError::new(Code::InvalidArguments, format!("FILE RANGE: {expr} is not a time of column '{}'{why}", column.name));
    let scalar = sessions.constant(expr.clone(), &column.data_type.to_arrow()).map_err(|error| bad(&format!(": {}", error.message)))?;
    match value::from_scalar(&scalar, column.data_type) {
        Some(Value::Timestamp(time)) => Ok(time),
        _ => Err(bad("")),
    }
}
