//! Expired rows: a ticker proposes a time, regions drop the files that lie before it.
//!
//! Invariant: the clock only proposes. A row goes when the Edit that removes its file is logged; until then every scan
//! shows it, however old it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tessera_engine::options::Ttl;
use tessera_manifest::env;
use tessera_manifest::schema::Schema;
use tessera_manifest::value::DataType;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::options;
use crate::catalog::{Catalogs, from_catalog};
use crate::error::{ServerError, chain};

/// How often expired files are looked for.
const PERIOD: Duration = Duration::from_secs(60);

/// The ticker; it ends when this is dropped.
#[derive(Debug)]
pub struct Expirer {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Expirer {
    /// Begins to look for expired files, every minute.
    #[must_use]
    pub fn start(catalogs: Catalogs) -> Self {
        let stop = CancellationToken::new();
        let task = env::spawn(run(catalogs, stop.clone()));
        Self { stop, task: Mutex::new(Some(task)) }
    }

    /// Ends it, and waits until it has.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has nothing left to stop.
            let _ = task.await;
        }
    }
}

impl Drop for Expirer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Looks for expired files until it is stopped. A run that has begun is ended between two regions.
async fn run(catalogs: Catalogs, stop: CancellationToken) {
    while stop.run_until_cancelled(env::sleep(PERIOD)).await.is_some() {
        let now_ms = catalogs.env.unix_ms();
        if let Err(error) = expire_until(&catalogs, now_ms, &stop).await {
            tracing::warn!(%error, "expired files could not be looked for");
        }
    }
}

/// Drops the files of all tables whose rows had expired at `now_ms`; answers how many. A region that fails is reported
/// and tried again by the next run.
///
/// # Errors
/// When the catalog does not answer.
pub async fn expire(catalogs: &Catalogs, now_ms: u64) -> Result<usize, ServerError> {
    expire_until(catalogs, now_ms, &CancellationToken::new()).await
}

/// A commit is not cancel safe, so the token is asked between regions only.
async fn expire_until(catalogs: &Catalogs, now_ms: u64, stop: &CancellationToken) -> Result<usize, ServerError> {
    let databases = catalogs.catalog.databases().await.map_err(|error| from_catalog(&error))?;
    let mut gone = 0;
    for database in databases {
        for table in catalogs.tables(&database.name).await? {
            let Ttl::For(ttl) = options::ttl(&table.info.options, &database.options) else { continue };
            let before = expired_before(&table.info.schema, now_ms, ttl);
            for route in table.routes() {
                if stop.is_cancelled() {
                    return Ok(gone);
                }
                // A region that is not open is reported to whoever asks for it.
                let Ok(region) = catalogs.engine.region(route.region) else { continue };
                match region.expire(before).await {
                    Ok(files) => gone += files,
                    Err(error) => tracing::warn!(region = %route.region, error = %chain(&error), "expired files stay for now"),
                }
            }
        }
    }
    Ok(gone)
}

/// The time before which rows have expired, in the unit of the time index.
fn expired_before(schema: &Schema, now_ms: u64, ttl: Duration) -> i64 {
    let DataType::Timestamp(unit) = schema.time_index().data_type else { return i64::MIN };
    let nanos = i128::from(now_ms) * 1_000_000 - i128::try_from(ttl.as_nanos()).unwrap_or(i128::MAX / 2);
    let in_unit = nanos.div_euclid(i128::from(1_000_000_000 / unit.per_second()));
    i64::try_from(in_unit).unwrap_or(if in_unit < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::ColumnId;
    use tessera_manifest::schema::{Column, SemanticType};
    use tessera_manifest::value::TimeUnit;

    use super::*;

    #[test]
    fn the_bound_is_in_the_unit_of_the_time_index() {
        let schema = |unit| {
            let (data_type, semantic) = (DataType::Timestamp(unit), SemanticType::TimeIndex);
            let ts = Column { id: ColumnId(0), name: "ts".into(), data_type, semantic, nullable: false, default: None, comment: None };
            Schema::new(vec![ts], vec![]).unwrap()
        };
        let before = |unit, ttl_ms| expired_before(&schema(unit), 10_500, Duration::from_millis(ttl_ms));
        assert_eq!(before(TimeUnit::Second, 1_000), 9);
        assert_eq!(before(TimeUnit::Millisecond, 1_000), 9_500);
        assert_eq!(before(TimeUnit::Nanosecond, 1_000), 9_500_000_000);
        assert_eq!(before(TimeUnit::Second, 11_000), -1);
        assert_eq!(expired_before(&schema(TimeUnit::Nanosecond), 0, Duration::MAX), i64::MIN);
    }
}
