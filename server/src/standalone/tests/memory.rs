//! The memory that the scans of a statement share.

use std::sync::Arc;

use futures::future::select_all;
use tessera_engine::config::Config;
use tessera_engine::wal::NoopWal;
use tessera_manifest::env::{Env, spawn};
use tessera_manifest::id::NodeId;

use super::held::HeldStore;
use super::{Recorded, Session, World};
use crate::error::Code;

/// More than one region of the table takes, and two do, but less than eight.
const LIMIT: usize = 80 << 10;
const REGIONS: usize = 8;
const ROWS: usize = 2_000;

/// A table of eight regions, each with a file of numbers that cannot be made smaller, and its keys known.
async fn filled(store: &Arc<HeldStore>) -> (World, Session) {
    let world = World { store: Arc::clone(store) as _, ..World::new() };
    let wal = Arc::new(NoopWal::new(NodeId(0), &Env::system()));
    let session = world.open_as(wal, Config { scan_bytes_max: LIMIT, ..Config::default() }).await;
    let bounds = |region: usize| match region {
        0 => "host < '1'".to_owned(),
        last if last == REGIONS - 1 => format!("host >= '{last}'"),
        other => format!("host >= '{other}' AND host < '{}'", other + 1),
    };
    let rules = (0..REGIONS).map(bounds).collect::<Vec<_>>().join(", ");
    let columns = "host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host)";
    session.run(&format!("CREATE TABLE wide ({columns}) PARTITION ON COLUMNS (host) ({rules})")).await;
    let mut number = 1_u64;
    let mut random = move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 1) as i64 / ROWS as i64 / REGIONS as i64
    };
    let rows = (0..REGIONS).flat_map(|region| (0..ROWS).map(move |ts| (region, ts)));
    let lines: String = rows.map(|(region, ts)| format!("{region},{ts},{}\n", random())).collect();
    let file = world.file("wide.csv", &format!("host,ts,v\n{lines}"));
    session.run(&format!("COPY wide FROM '{file}'")).await;
    session.rows("ADMIN flush_table('wide')").await;
    for region in 0..REGIONS {
        session.rows(&format!("SELECT min(host) FROM wide WHERE host = '{region}'")).await;
    }
    (world, session)
}

/// Gives way to others until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn the_scans_of_a_statement_share_its_memory_and_statements_do_not() {
    let metrics = Recorded::begin();
    let store = Arc::new(HeldStore::default());
    let (_world, session) = filled(&store).await;
    let held = || metrics.value("tessera_scan_bytes");
    assert_eq!(held(), 0.0);

    // Each scan has its encoded rows when the store is asked for them, and fits alone.
    store.hold();
    let (code, message) = tokio::select! {
        refused = session.refused("SELECT sum(v) FROM wide") => refused,
        () = store.is_waited_for(REGIONS) => panic!("all together they hold {}", held()),
    };
    assert_eq!(code, Code::InvalidArguments, "{message}");
    assert!(message.contains("engine.scan_bytes_max") && message.contains(&LIMIT.to_string()), "{message}");
    until(|| store.reads().waiting == 0 && held() == 0.0).await;

    // The same scans at the same time, of four statements of two regions each.
    let pair = |first: usize| format!("SELECT count(v) FROM wide WHERE host IN ('{first}', '{}')", first + 1);
    let (server, mut pairs) = (Arc::new(session), Vec::new());
    for first in (0..REGIONS).step_by(2) {
        let (server, sql) = (Arc::clone(&server), pair(first));
        pairs.push(spawn(async move { server.rows(&sql).await }));
    }
    tokio::select! {
        () = store.is_waited_for(REGIONS) => {}
        (ended, ..) = select_all(&mut pairs) => panic!("none can end: {ended:?}"),
    }
    assert!(held() > LIMIT as f64, "all together they hold {}", held());
    store.release();
    for pair in pairs {
        assert_eq!(pair.await.unwrap(), [(2 * ROWS).to_string()]);
    }
    until(|| held() == 0.0).await;

    // One region after the other is within the limit, too.
    for region in 0..REGIONS {
        assert_eq!(server.rows(&format!("SELECT count(v) FROM wide WHERE host = '{region}'")).await, [ROWS.to_string()]);
    }
    until(|| held() == 0.0).await;
}

#[tokio::test]
async fn of_many_regions_some_are_read_at_a_time() {
    const MANY: usize = 45;
    let store = Arc::new(HeldStore::default());
    let world = World { store: Arc::clone(&store) as _, ..World::new() };
    let session = Arc::new(world.open().await);
    let bounds = |region: usize| match region {
        0 => "host < '01'".to_owned(),
        last if last == MANY - 1 => format!("host >= '{last:02}'"),
        other => format!("host >= '{other:02}' AND host < '{:02}'", other + 1),
    };
    let rules = (0..MANY).map(bounds).collect::<Vec<_>>().join(", ");
    let columns = "host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host)";
    session.run(&format!("CREATE TABLE wide ({columns}) PARTITION ON COLUMNS (host) ({rules})")).await;
    let rows = (0..MANY).flat_map(|host| (0..3).map(move |ts| format!("('{host:02}', {ts}, {})", host * 10 + ts)));
    session.run(&format!("INSERT INTO wide VALUES {}", rows.collect::<Vec<_>>().join(", "))).await;
    session.rows("ADMIN flush_table('wide')").await;
    store.hold();
    let server = Arc::clone(&session);
    let sum = spawn(async move { server.rows("SELECT count(*), sum(v + 0) FROM wide").await });
    store.is_waited_for(32).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert_eq!(store.reads().waiting, 32);
    }
    store.release();
    let all: usize = (0..MANY).map(|host| host * 30 + 3).sum();
    assert_eq!(sum.await.unwrap(), [format!("{}|{all}", 3 * MANY)]);
    // Each order is that of all regions, whether it is merged or sorted.
    let (first, last) = ("SELECT v FROM wide ORDER BY host, ts LIMIT 2", "SELECT v FROM wide ORDER BY ts DESC, host DESC LIMIT 2");
    assert_eq!(session.rows(first).await, ["0", "1"]);
    assert_eq!(session.rows(last).await, ["442", "432"]);
    let ordered = session.rows("SELECT v FROM wide ORDER BY host, ts").await;
    let expected: Vec<String> = (0..MANY).flat_map(|host| (0..3).map(move |ts| (host * 10 + ts).to_string())).collect();
    assert_eq!(ordered, expected);
    assert_eq!(session.rows("SELECT host, last_value(v ORDER BY ts) FROM wide GROUP BY host").await.len(), MANY);
}
