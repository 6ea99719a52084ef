//! Verbs on routes.

use tessera_manifest::id::TableId;

use super::Catalog;
use super::error::CatalogError;
use super::model::Route;
use crate::keys::{self, RouteSet};
use crate::kv::{Entry, range_all};
use crate::values;

/// Reads the routes of a range answer.
pub(super) fn decode_routes(entries: &[Entry]) -> Result<Vec<Route>, CatalogError> {
    Ok(entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
}

impl Catalog {
    /// The routes of a table for reading, by region number; none when there is no such table.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn routes(&self, table: TableId) -> Result<Vec<Route>, CatalogError> {
        self.route_set(RouteSet::Read, table).await
    }

    /// The routes of a table in one of its sets, by region number; none when there is no such table.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn route_set(&self, set: RouteSet, table: TableId) -> Result<Vec<Route>, CatalogError> {
        decode_routes(&range_all(&*self.kv, keys::routes(set, table)).await?)
    }
}
