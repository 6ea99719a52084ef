//! What every store must hold: a region, through commits, a take-over, a race of openers, its drop, and a history that
//! is shortened behind checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::ObjectStore;
use serde_json::json;
use tessera_manifest::action::Action;
use tessera_manifest::env;
use tessera_manifest::error::Error;
use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionId, RegionNumber, Sequence, Slot, TableId};
use tessera_manifest::log::{self, Context, Follower, Manifest, Opener, Outcome, load};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::probe::{self, Settings};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::slot::{self, NoCheckpoints, SlotStore};
use tessera_manifest::value::{DataType, TimeUnit};

/// Openers that race.
const OPENERS: u64 = 16;
/// How often each of them opens.
const OPENINGS: usize = 3;
/// Commits that each tries after each opening.
const COMMITS: usize = 5;

/// Probes the store, and puts regions on it through all that they must survive.
pub(crate) async fn holds_regions(context: &Context) {
    for settings in [Settings::CHEAP, Settings::THOROUGH] {
        let report = probe::run(context, settings).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        eprintln!("{report}");
        assert_eq!((report.races, report.left_behind), (settings.races, 0), "{report:?}");
        assert!(report.requests <= settings.requests_max(), "{report:?}");
    }
    a_stale_writer_is_fenced(context, region(0)).await;
    openers_race(context, region(1)).await;
    a_dropped_region_stays_dropped(context, region(2)).await;
    history_is_shortened(context, region(3)).await;
}

async fn a_stale_writer_is_fenced(context: &Context, region: RegionId) {
    let mut first = Manifest::create(context, meta(region), opener(1)).await.unwrap();
    let mut acknowledged = commit_until_fenced(&mut first, COMMITS).await;
    assert_eq!(acknowledged.len(), COMMITS);
    let again = Manifest::create(context, meta(region), opener(2)).await;
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let mut second = Manifest::open(context, region, opener(2)).await.unwrap();
    assert_eq!(second.state().flushed_sequence(), first.state().flushed_sequence());
    assert!(commit(&mut first).await.is_none(), "the old writer commits after the take-over");
    acknowledged.extend(commit(&mut second).await);
    assert_eq!(acknowledged.len(), COMMITS + 1);
    nothing_is_lost(context, region, &acknowledged).await;
    assert_eq!(load(context, region).await.unwrap().version(), second.state().version());
}

/// Openers race each other and the writer before them. One of them holds the newest epoch at the end, all others
/// are fenced, and no acknowledged commit is lost.
async fn openers_race(context: &Context, region: RegionId) {
    let mut first = Manifest::create(context, meta(region), opener(0)).await.unwrap();
    let openers = (1..=OPENERS).map(|node| env::spawn(open_and_commit(context.clone(), region, opener(node))));
    let openers: Vec<_> = openers.collect();
    let mut acknowledged = commit_until_fenced(&mut first, COMMITS * 10).await;
    let opened: Vec<_> = join_all(openers).await.into_iter().map(|opener| opener.expect("an opener does not panic")).collect();
    let refused: usize = opened.iter().map(|opener| opener.refused).sum();
    acknowledged.extend(opened.iter().flat_map(|opener| opener.acknowledged.iter().copied()));
    let mut manifests: Vec<Manifest> = opened.into_iter().flat_map(|opener| opener.manifests).chain([first]).collect();
    manifests.sort_by_key(Manifest::epoch);
    assert!(manifests.windows(2).all(|pair| pair[0].epoch() < pair[1].epoch()), "an epoch has one opener");
    let openings = manifests.len() - 1;
    let mut newest = manifests.pop().expect("one of the openers got through");
    for stale in &mut manifests {
        assert!(commit(stale).await.is_none(), "the opener of epoch {} commits after epoch {}", stale.epoch(), newest.epoch());
    }
    acknowledged.push(commit(&mut newest).await.expect("nobody has taken over from the newest"));
    eprintln!(
        "{OPENERS} openers at once, each {OPENINGS} times: {openings} openings got through, {refused} were refused, {} commits acknowledged",
        acknowledged.len()
    );
    assert!(openings > 0);
    nothing_is_lost(context, region, &acknowledged).await;
    assert_eq!(load(context, region).await.unwrap().version(), newest.state().version());
}

/// What one opener did.
#[derive(Default)]
struct Opened {
    manifests: Vec<Manifest>,
    acknowledged: Vec<(Slot, Nonce)>,
    refused: usize,
}

async fn open_and_commit(context: Context, region: RegionId, opener: Opener) -> Opened {
    let mut opened = Opened::default();
    for _ in 0..OPENINGS {
        match Manifest::open(&context, region, opener).await {
            Ok(mut manifest) => {
                opened.acknowledged.extend(commit_until_fenced(&mut manifest, COMMITS).await);
                opened.manifests.push(manifest);
            }
            Err(Error::Contended { .. } | Error::Fenced { .. }) => opened.refused += 1,
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
    opened
}

async fn commit_until_fenced(manifest: &mut Manifest, most: usize) -> Vec<(Slot, Nonce)> {
    let mut acknowledged = Vec::new();
    while acknowledged.len() < most {
        match commit(manifest).await {
            Some(commit) => acknowledged.push(commit),
            None => break,
        }
    }
    acknowledged
}

async fn a_dropped_region_stays_dropped(context: &Context, region: RegionId) {
    let mut manifest = Manifest::create(context, meta(region), opener(1)).await.unwrap();
    let dropped = manifest.commit(vec![action(json!({ "drop": {} }))]).await;
    assert!(matches!(dropped, Ok(Outcome::Committed(_))), "{dropped:?}");
    let reopened = Manifest::open(context, region, opener(2)).await;
    assert!(matches!(reopened, Err(Error::Dropped { .. })), "{reopened:?}");
}

/// Checkpoints are written and read, records behind them are deleted, a follower keeps up, and a writer from before all
/// that is fenced.
async fn history_is_shortened(context: &Context, region: RegionId) {
    let settings = log::Settings { history: Duration::ZERO, background: false, ..log::Settings::default() };
    let context = Context { settings, ..context.clone() };
    let mut first = Manifest::create(&context, meta(region), opener(1)).await.unwrap();
    let mut second = Manifest::open(&context, region, opener(2)).await.unwrap();
    let mut follower = Follower::open(&context, region).await.unwrap();
    for _ in 0..3 {
        assert_eq!(commit_until_fenced(&mut second, COMMITS).await.len(), COMMITS);
        second.checkpoint().await.unwrap();
    }
    commit(&mut second).await.expect("nobody has taken over");
    while follower.poll().await.unwrap() {}
    assert_eq!(follower.state().version(), second.state().version());
    let retained = second.retain().await.unwrap();
    assert!(retained.records > 0 && retained.failed == 0, "{retained:?}");
    assert!(commit(&mut first).await.is_none(), "a writer of a freed epoch commits");
    let third = Manifest::open(&context, region, opener(3)).await.unwrap();
    assert_eq!(third.state().flushed_sequence(), second.state().flushed_sequence());
    assert!(commit(&mut second).await.is_none(), "the old writer commits after the take-over");
}

/// Each acknowledged commit stands in its slot, written by the opening that was told so.
async fn nothing_is_lost(context: &Context, region: RegionId, acknowledged: &[(Slot, Nonce)]) {
    let store: Arc<dyn ObjectStore> = Arc::clone(&context.store);
    let slots = SlotStore::new(store, context.root.manifest(region));
    let loaded = slot::load(&slots, &mut NoCheckpoints).await.unwrap();
    let found: BTreeMap<Slot, Nonce> = loaded.history.iter().map(|record| (record.slot, record.writer)).collect();
    for (slot, writer) in acknowledged {
        assert_eq!(found.get(slot), Some(writer), "slot {slot} was acknowledged");
    }
}

/// Commits something; what was acknowledged, or `None` for a writer that is fenced.
async fn commit(manifest: &mut Manifest) -> Option<(Slot, Nonce)> {
    let next = manifest.state().flushed_sequence().counter() + 1;
    let edit = json!({ "edit": { "generation": Generation::FIRST, "sequence": Sequence::new(Generation::FIRST, next) } });
    match manifest.commit(vec![action(edit)]).await {
        Ok(Outcome::Committed(state)) => Some((state.version().expect("a state after a commit"), state.writer().expect("an open epoch"))),
        Ok(Outcome::Conflict { .. }) | Err(Error::Fenced { .. }) => None,
        other => panic!("a store that answers leaves no doubt: {other:?}"),
    }
}

/// An action in the form that a record holds it.
fn action(value: serde_json::Value) -> Action {
    serde_json::from_value(value).expect("an action")
}

fn region(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

fn opener(node: u64) -> Opener {
    Opener { node: NodeId(node), wal: None }
}

fn meta(region: RegionId) -> Arc<RegionMeta> {
    let time = Column {
        id: ColumnId(0),
        name: "ts".into(),
        data_type: DataType::Timestamp(TimeUnit::Millisecond),
        semantic: SemanticType::TimeIndex,
        nullable: false,
        default: None,
        comment: None,
    };
    Arc::new(RegionMeta {
        region,
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![time], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}
