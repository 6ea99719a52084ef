//! The routes of all tables, if the metadata can be read now.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::id::RegionId;
use tessera_metaclient::catalog::{Catalog, Route};
use tessera_metaclient::keys::RouteSet;

use crate::catalog::from_catalog;
use crate::cli::verb::Failure;
use crate::home::Home;
use crate::manifest_cli::store::Place;

/// Where regions are read and written.
#[derive(Debug, Default)]
pub(super) struct Routes {
    read: BTreeMap<RegionId, Route>,
    write: BTreeMap<RegionId, Route>,
    missing: Option<String>,
}

impl Routes {
    /// Those of the data home that the store is in; none, with the reason, where that is not possible.
    pub(super) async fn read(place: &Place) -> Result<Self, Failure> {
        let without = |why: String| Self { missing: Some(why), ..Self::default() };
        let Some(folder) = place.home() else { return Ok(without("the store is not in a data home".to_owned())) };
        let home = match Home::existing(folder) {
            Ok(home) => home,
            Err(error) => return Ok(without(error.message)),
        };
        let metadata = home.metadata().await?;
        let failed = |error| Failure::from(from_catalog(&error));
        let (catalog, _) = Catalog::open(Arc::new(metadata)).await.map_err(failed)?;
        let mut routes = Self::default();
        for table in catalog.all_tables().await.map_err(failed)? {
            for (set, into) in [(RouteSet::Read, &mut routes.read), (RouteSet::Write, &mut routes.write)] {
                let found = catalog.route_set(set, table.id).await.map_err(failed)?;
                into.extend(found.into_iter().map(|route| (route.region, route)));
            }
        }
        Ok(routes)
    }

    /// Why there are none.
    pub(super) fn note(&self) -> Option<String> {
        self.missing.clone()
    }

    /// The routes of a region: by which it is read, and by which it is written.
    pub(super) fn of(&self, region: RegionId) -> (Option<&Route>, Option<&Route>) {
        (self.read.get(&region), self.write.get(&region))
    }
}
