//! Rows that go away and come home: a partition is split, rows of its halves are deleted, one half is flushed and perhaps
//! compacted, and the halves are merged again, mostly before anybody has brought home the files that they share.
//!
//! So a half that still refers to a shared file meets one that has rewritten it and forgotten its deletes; scopes alone
//! keep apart what is whose. And a file with deletes meets files of other regions that have the rows which they hide.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::sleep;
use tessera_metaclient::testing::Random;

use super::clients::{Write, patience, scan, send, statement, take_back};
use super::possible::Mode;
use super::rules::{self, Split};
use super::world::{Process, World};

/// How writers' notes name a traveller, who deletes rows of theirs.
const TRAVELLER: i64 = 9;
/// Partitions from which on none is split.
const PARTITIONS_MAX: usize = 5;

/// Goes away and comes home, again and again.
pub(super) async fn traveller(world: Arc<World>, mut random: Random) {
    let pace = 10 + random.below(100);
    while let Some(process) = world.process().await {
        if journey(&world, &process, &mut random).await {
            world.look("came home").await;
            world.count(|stats| stats.journeys += 1);
        }
        sleep(Duration::from_millis(random.below(pace))).await;
    }
}

/// Whether it was ended: any step may fail, and the next journey begins where this one stopped.
async fn journey(world: &World, process: &Process, random: &mut Random) -> bool {
    let Some(present) = rules::present(world).await else { return false };
    if present.columns.is_empty() {
        let sql = format!("ALTER TABLE t {}", rules::partition_on(random, world.mode));
        return statement(world, process, patience(random), &sql).await;
    }
    if present.rules.len() > PARTITIONS_MAX {
        return merge(world, process, random, &present.rules[..2]).await;
    }
    let split = rules::split(random, &present);
    let away = format!("ALTER TABLE t {}{}", split.text(), unhurried(random));
    if !statement(world, process, patience(random), &away).await {
        return false;
    }
    world.count(|stats| stats.repartitions += 1);
    for _ in 0..1 + random.below(2) {
        delete(world, process, random).await;
        rewrite_one(world, process, random).await;
    }
    if !home(world, process, random, &split).await {
        return false;
    }
    if random.chance(1, 2) {
        rewrite_one(world, process, random).await;
    }
    scan(world, process, patience(random), Duration::ZERO).await
}

/// Mostly, files stay shared for a while.
fn unhurried(random: &mut Random) -> &'static str {
    if random.chance(3, 4) { " WITH (localize = false)" } else { "" }
}

/// Deletes some rows, whoever wrote them.
async fn delete(world: &World, process: &Process, random: &mut Random) {
    let mut quiet = if world.mode == Mode::Append { Vec::new() } else { world.ledger.quiet(|_| true) };
    let mut rows: Vec<Write> = Vec::new();
    for _ in 0..1 + random.below(5) {
        if !quiet.is_empty() {
            let at = usize::try_from(random.below(quiet.len() as u64)).unwrap();
            rows.push((quiet.swap_remove(at), None));
        }
    }
    if !rows.is_empty() {
        send(world, process, patience(random), TRAVELLER, &rows).await;
    }
}

/// One region's files become its own, and its deletes go with the rows that they hide. Other regions stay as they are.
async fn rewrite_one(world: &World, process: &Process, random: &mut Random) {
    let read = world.routes().await.read;
    let region = read.routes[usize::try_from(random.below(read.routes.len() as u64)).unwrap()].region;
    if random.chance(7, 8) {
        statement(world, process, patience(random), &format!("ADMIN flush_region('{region}')")).await;
    }
    // What is not compacted now takes its deletes along.
    let strategy = match random.below(6) {
        0 | 1 => return,
        2 => "",
        _ => ", 'strict_window'",
    };
    statement(world, process, patience(random), &format!("ADMIN compact_region('{region}'{strategy})")).await;
}

/// The halves become one again, or what was before the last change comes back.
async fn home(world: &World, process: &Process, random: &mut Random, split: &Split) -> bool {
    if random.chance(1, 5) {
        let wait = patience(random);
        return take_back(world, process, random, wait).await;
    }
    merge(world, process, random, &split.halves).await
}

async fn merge(world: &World, process: &Process, random: &mut Random, rules: &[String]) -> bool {
    let sql = format!("ALTER TABLE t MERGE PARTITION ({}){}", rules.join(", "), unhurried(random));
    let merged = statement(world, process, patience(random), &sql).await;
    if merged {
        world.count(|stats| stats.repartitions += 1);
    }
    merged
}
