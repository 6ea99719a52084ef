//! What must hold when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tessera_engine::request::ScanRequest;
use tessera_manifest::id::{FileKey, RegionId, RegionNumber};
use tessera_manifest::log::{Context, load};
use tessera_manifest::paths::Root;
use tessera_manifest::rule;
use tessera_manifest::state::RegionState;
use tessera_manifest::txn;

use super::clients::{Row, rows_of, scan, select};
use super::world::{Process, TABLE, World};
use crate::catalog::Table;

/// Notes what is wrong.
///
/// `by_statement` also asks as users do, which takes as long as the rest of a run.
pub(super) async fn check(world: &World, process: &Process, by_statement: bool) {
    if let Err(wrong) = look(world, process, by_statement).await {
        world.trace.fail(wrong);
    }
}

async fn look(world: &World, process: &Process, by_statement: bool) -> Result<(), String> {
    let table = process.server.catalogs().table("public", "t").await.map_err(|error| error.to_string())?;
    routes(&table)?;
    let begun = world.look("the end").await;
    let mut rows = regions(process, &table).await?;
    let ended = world.trace.note(format_args!("the regions hold {} rows", rows.len()));
    world.ledger.judge(begun, ended, &rows).map_or(Ok(()), Err)?;
    if !scan(world, process, super::clients::LONG, Duration::ZERO).await {
        return Err("the last scan has no answer".to_owned());
    }
    if by_statement {
        let mut selected = select(process).await.map_err(|error| error.to_string())?;
        rows.sort_unstable();
        selected.sort_unstable();
        if rows != selected {
            return Err(format!("regions hold {rows:?}, a query sees {selected:?}"));
        }
    }
    objects(world, &table).await
}

/// Routes are settled, their rules partition, and generations are from the table's counter.
fn routes(table: &Table) -> Result<(), String> {
    if !table.sets.is_settled() {
        return Err(format!("rows are not read where they are written: {:?}", table.sets));
    }
    let rules: Vec<_> = table.routes().iter().map(|route| route.rule.clone()).collect();
    let coverage = rule::validate(&rules, &table.info.schema).map_err(|error| error.to_string())?;
    if coverage.gap.is_some() || !coverage.empty.is_empty() {
        return Err(format!("rules do not partition: {coverage:?}"));
    }
    let late = table.routes().iter().find(|route| route.generation >= table.info.next_generation);
    late.map_or(Ok(()), |route| Err(format!("a generation that was never drawn: {route:?}")))
}

/// The rows of all regions, each of which is as its route says and holds rows of its rule only.
async fn regions(process: &Process, table: &Table) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let schema = &table.info.schema;
    for route in table.routes() {
        let region = process.server.catalogs().engine.region(route.region).map_err(|error| error.to_string())?;
        let meta = region.meta();
        if (meta.generation, meta.rule_version()) != (route.generation, route.rule.version()) {
            return Err(format!("region {} is at {} under {:?}, its route is {route:?}", route.region, meta.generation, meta.rule));
        }
        let request = ScanRequest { projection: Some((0..4).collect()), ..ScanRequest::default() };
        let scan = region.scan(request).await.map_err(|error| error.to_string())?;
        let mut stream = scan.stream(0);
        while let Some(batch) = stream.try_next().await.map_err(|error| error.to_string())? {
            let kept = crate::query::rules::mask(&route.rule, &batch, schema).map_err(|error| error.to_string())?;
            if kept.true_count() != batch.num_rows() {
                return Err(format!("region {} has rows that are not of its rule {:?}: {batch:?}", route.region, route.rule));
            }
            rows.extend(rows_of(&batch));
        }
    }
    Ok(rows)
}

/// What manifests say of all regions that there ever were: none is staged, every file that is referenced is
/// there, and every decision can be read.
async fn objects(world: &World, table: &Table) -> Result<(), String> {
    let store: Arc<dyn ObjectStore> = Arc::clone(&world.objects) as _;
    let context = Context::new(Arc::clone(&store), Root::default(), tessera_manifest::env::Env::system());
    let routed: BTreeSet<RegionId> = table.regions().into_iter().collect();
    let mut referenced: BTreeMap<FileKey, RegionId> = BTreeMap::new();
    for number in 0..table.info.next_region_number.0 {
        let id = RegionId::new(TABLE, RegionNumber(number));
        let state = match load(&context, id).await {
            Ok(state) => state,
            Err(tessera_manifest::error::Error::NotFound { .. }) if !routed.contains(&id) => continue,
            Err(error) => return Err(format!("the manifest of {id}: {error}")),
        };
        state_is_sound(id, &state, routed.contains(&id))?;
        referenced.extend(state.files().keys().map(|file| (file, id)));
    }
    for (file, region) in &referenced {
        let path = context.root.sst(*file);
        store.head(&path).await.map_err(|error| format!("{region} refers to {path}: {error}"))?;
    }
    decisions(&context, &store).await?;
    world.count(|stats| {
        stats.regions += routed.len() as u64;
        stats.files += referenced.len() as u64;
    });
    Ok(())
}

fn state_is_sound(id: RegionId, state: &RegionState, routed: bool) -> Result<(), String> {
    if let Some(staging) = state.staging() {
        return Err(format!("region {id} is staged for {:?} when all is over", staging.stage));
    }
    if routed == state.is_retired() || state.is_dropped() {
        return Err(format!("region {id} is routed to: {routed}; retired: {}, dropped: {}", state.is_retired(), state.is_dropped()));
    }
    Ok(())
}

/// Every object of a decision can be read.
async fn decisions(context: &Context, store: &Arc<dyn ObjectStore>) -> Result<(), String> {
    let folder = context.root.txns(TABLE);
    let found: Vec<Path> =
        store.list(Some(&folder)).map_ok(|object| object.location).try_collect().await.map_err(|error| error.to_string())?;
    for path in found {
        let name = path.filename().unwrap_or_default().trim_end_matches(".json").to_owned();
        let id = name.parse().map_err(|_| format!("{path} is no name of a decision"))?;
        let decided = txn::read(context, TABLE, id).await.map_err(|error| error.to_string())?;
        decided.ok_or_else(|| format!("{path} holds no decision"))?;
    }
    Ok(())
}
