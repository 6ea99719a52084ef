//! `tessera region`: which regions there are, where their rows are read and written, and which are being repartitioned;
//! and the forced take-over of one whose log is gone.
//!
//! Invariants:
//! - Only reads, and may run beside a server, but for `abandon-wal --yes`, which takes the lock of the data home. The routes are in the metadata, which a running server has locked: they are
//!   left out then, and the answer says so.
//! - Each verb makes a view, a plain value, of which text and JSON are two renderings.
//!
//! Exit codes: 0 done, 1 a region cannot be read or there is none, or nothing was done, 2 the command line is wrong.

mod abandon;
mod args;
mod routes;
mod view;
#[cfg(test)]
mod tests;

pub(crate) use args::RegionArgs;
use args::Verb;
use futures::StreamExt;
use tessera_manifest::id::RegionId;
use tessera_manifest::log::load;

use self::routes::Routes;
use self::view::{Found, ListView, ShowView};
use crate::cli::Exit;
use crate::cli::verb::{self, Failure, answer};
use crate::error::chain;
use crate::manifest_cli::store::Place;

/// Regions that are read at the same time.
const PARALLEL_REGIONS_MAX: usize = 8;

/// Runs a verb.
pub(crate) fn run(args: &RegionArgs) -> Exit {
    verb::run("warn", execute(&args.verb))
}

async fn execute(verb: &Verb) -> Exit {
    match verb {
        Verb::Ls(args) => answer(list(args), args.json).await,
        Verb::Show(args) => answer(show(args), args.json).await,
        Verb::AbandonWal(args) => answer(abandon::run(args), args.json).await,
    }
}

async fn list(args: &args::ListArgs) -> Result<ListView, Failure> {
    let place = Place::open(&args.store)?;
    let routes = Routes::read(&place).await?;
    let wanted = |region: &RegionId| args.table.is_none_or(|table| region.table().0 == table);
    let regions: Vec<RegionId> = place.regions().await?.into_iter().filter(wanted).collect();
    let found = regions.into_iter().map(|region| find(&place, &routes, region));
    Ok(ListView { regions: futures::stream::iter(found).buffered(PARALLEL_REGIONS_MAX).collect().await, routes: routes.note() })
}

async fn show(args: &args::ShowArgs) -> Result<ShowView, Failure> {
    let place = Place::open(&args.store)?;
    if place.objects(args.region).await?.records.is_empty() {
        let text = format!("there is no region {} on the store: list the regions with `tessera region ls`", args.region);
        return Err(Failure::failed(text));
    }
    let routes = Routes::read(&place).await?;
    Ok(ShowView { region: find(&place, &routes, args.region).await, routes: routes.note() })
}

async fn find(place: &Place, routes: &Routes, region: RegionId) -> Found {
    match load(&place.context, region).await {
        Ok(state) => {
            let staged = match state.staging() {
                Some(staging) => place.time_of(region, staging.since).await,
                None => None,
            };
            let mut abandoned = Vec::new();
            for given_up in state.abandoned() {
                abandoned.push((given_up.clone(), place.time_of(region, given_up.by).await));
            }
            Found::new(region, &state, staged, routes).with_abandoned(abandoned)
        }
        Err(error) => Found::unreadable(region, chain(&error), routes),
    }
}
