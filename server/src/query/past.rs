//! Tables as they were: `AS OF`.
//!
//! Invariants:
//! - Every region is read at one version, found when the statement is planned. Of a moment these are the last versions
//!   that were written until then, by the clocks of their writers.
//! - Columns are those of that version.
//! - A moment before the regions were cut as they are now is refused: its rows are not those of the present regions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::parser::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_engine::region::Past;
use tessera_engine::request::AsOf;
use tessera_manifest::id::{RegionId, Slot};

use super::error::from_engine;
use super::session::constant_in;
use crate::catalog::{Catalogs, Table, TesseraTable};
use crate::error::{Code, ServerError};
use crate::sql::as_of::Kind;
use crate::sql::split::DIALECT;

/// The version at which each region is read.
pub type Versions = Arc<BTreeMap<RegionId, Past>>;

/// Regions whose past is loaded at the same time.
const LOADS_AT_ONCE: usize = 16;

/// The table as of the version that `text` names.
///
/// # Errors
/// A text that names no moment and no version, one that cannot be read any more, and one from before the table was
/// partitioned as it is now.
pub async fn provider(
    state: &SessionState,
    catalogs: &Catalogs,
    table: Arc<Table>,
    kind: Kind,
    text: &str,
) -> Result<TesseraTable, ServerError> {
    let as_of = match kind {
        Kind::Timestamp => AsOf::UnixMs(moment(state, text)?),
        Kind::Version => AsOf::Version(version(&table, text)?),
    };
    let (mut versions, mut schema) = (BTreeMap::new(), None);
    let regions: Vec<_> = table.routes().iter().map(|route| catalogs.engine.region(route.region)).collect();
    let loads = stream::iter(regions).map(|region| async move { region?.version_as_of(as_of).await });
    let loaded: Vec<Past> = loads.buffered(LOADS_AT_ONCE).try_collect().await.map_err(|error| from_engine(&error))?;
    for (route, past) in table.routes().iter().zip(loaded) {
        let meta = &past.meta;
        if meta.rule_version() != route.rule.version() {
            let message = format!(
                "table {} was partitioned otherwise at {text}: region {} then had another rule; AS OF reads back to the last change of \
                 the partition rules",
                table.shown(),
                route.region
            );
            return Err(ServerError::new(Code::Unsupported, message));
        }
        let first = schema.get_or_insert_with(|| Arc::clone(&meta.schema));
        if first.version() != meta.schema.version() {
            let message = format!("table {} was being altered at {text}: choose a moment before or after", table.shown());
            return Err(ServerError::new(Code::IllegalState, message));
        }
        versions.insert(route.region, past);
    }
    let mut past = Table::clone(&table);
    if let Some(schema) = schema {
        Arc::make_mut(&mut past.info).schema = schema.as_ref().clone();
    }
    Ok(catalogs.provider(Arc::new(past)).at(Arc::new(versions)))
}

/// Milliseconds since 1970 of an expression.
fn moment(state: &SessionState, text: &str) -> Result<u64, ServerError> {
    let parsed = Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
    let expr = parsed.map_err(|error| crate::sql::from_parser(&error))?;
    let ScalarValue::TimestampMillisecond(Some(ms), _) = constant_in(state, expr, &DataType::Timestamp(TimeUnit::Millisecond, None))?
    else {
        return Err(ServerError::new(Code::InvalidArguments, format!("AS OF {text} is no moment: give a timestamp that is not NULL")));
    };
    u64::try_from(ms).map_err(|_| ServerError::new(Code::InvalidArguments, format!("AS OF {text} is before 1970")))
}

fn version(table: &Table, text: &str) -> Result<Slot, ServerError> {
    if table.routes().len() != 1 {
        let message = format!(
            "each of the {} regions of table {} has versions of its own: name a moment with TIMESTAMP AS OF",
            table.routes().len(),
            table.shown()
        );
        return Err(ServerError::new(Code::Unsupported, message));
    }
    text.trim_matches('\'').parse().map_err(|error| ServerError::new(Code::InvalidArguments, format!("bad version {text}: {error}")))
}
