//! What must agree when nothing is under way: catalog, regions, decisions, files.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_manifest::log::{Context, load};
use tessera_manifest::paths::Root;
use tessera_manifest::txn::{self, Verdict};
use tessera_metaclient::kv::{KeyRange, RangeRequest};
use tessera_metaclient::procedure::Record;
use tessera_metaclient::repartition::{KIND, Outcome};

use super::*;
use crate::doctor;

const TABLE: TableId = TableId(1024);

/// Whether the repartition that came after so many others changed the table; none if no procedure of it was stored, or it was
/// undone before its fence.
pub(super) fn committed(records: &[Record], before: usize) -> Option<bool> {
    let mut all: Vec<&Record> = records.iter().filter(|record| record.kind == KIND).collect();
    all.sort_by_key(|record| record.submitted_unix_ms);
    let outcome: Outcome = serde_json::from_str(all.get(before)?.output.as_deref()?).unwrap();
    Some(outcome.groups.iter().all(|group| group.committed))
}

/// Asserts that everything agrees.
pub(super) async fn audit(session: &Session, disk: &Disk, records: &[Record], when: &str) {
    session.expect_settled().await;
    let report = doctor::check(&doctor::survey(&session.server.catalogs.catalog, session.server.store()).await.unwrap());
    assert!(report.findings.is_empty(), "{when}: {report:?}");
    for prefix in ["lock/", "election/", "switch/"] {
        let left = disk.kv.range(&RangeRequest::new(KeyRange::prefix(prefix))).await.unwrap();
        assert!(left.entries.is_empty(), "{when}: {:?}", left.entries);
    }
    let context = Context::new(Arc::clone(&disk.store), Root::default(), Env::system());
    decisions(&context, records, when).await;
    regions(session, &context, when).await;
}

/// Each group's decision is what its procedure says became of it.
async fn decisions(context: &Context, records: &[Record], when: &str) {
    for record in records.iter().filter(|record| record.kind == KIND) {
        assert!(record.phase.is_over(), "{when}: {record:?}");
        let Some(output) = &record.output else { continue };
        let outcome: Outcome = serde_json::from_str(output).unwrap();
        for group in outcome.groups {
            let decided = txn::read(context, TABLE, group.txn).await.unwrap();
            let commit = decided.is_some_and(|decided| matches!(decided.verdict, Verdict::Commit { .. }));
            assert_eq!(commit, group.committed, "{when}: {group:?}");
        }
    }
}

/// Regions of the table are as the routes say, all others have retired, and no file is missing.
async fn regions(session: &Session, context: &Context, when: &str) {
    let table = session.server.catalogs.table("public", "t").await.unwrap();
    let routes: BTreeMap<RegionId, _> = table.routes().iter().map(|route| (route.region, route)).collect();
    let names: Vec<String> = context.store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    let number = |name: &String| match name.split('/').collect::<Vec<_>>()[..] {
        [_, region, "manifest", _] => Some(RegionId::new(TABLE, RegionNumber(region.parse().unwrap()))),
        _ => None,
    };
    let on_store: std::collections::BTreeSet<RegionId> = names.iter().filter_map(number).collect();
    assert!(routes.keys().all(|region| on_store.contains(region)), "{when}: {routes:?} {on_store:?}");
    for region in on_store {
        let state = load(context, region).await.unwrap();
        assert!(state.staging().is_none(), "{when}: {region} is staged");
        let Some(route) = routes.get(&region) else {
            assert!(state.is_retired(), "{when}: {region} has no route and has not retired");
            continue;
        };
        let meta = state.meta().unwrap();
        assert_eq!((meta.generation, &*meta.rule), (route.generation, &route.rule), "{when}: {region}");
        for key in state.files().keys() {
            let path = Root::default().sst(key);
            context.store.head(&path).await.unwrap_or_else(|error| panic!("{when}: {region} refers to {path}: {error}"));
        }
    }
}
