//! One run: a table, clients, and processes that come and go; then everything is healed, ends, and is looked at.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, sleep};
use tessera_metaclient::procedure::{Phase, Record};
use tessera_metaclient::testing::Random;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clients::{LONG, WRITERS, operator, partitioner, scan, scanner, writer};
use super::journeys::traveller;
use super::life::{LATEST_MS, Life, Odds};
use super::possible::Mode;
use super::world::{Process, Stats, World};
use super::{check, rules};
use crate::query::session::Sessions;
use crate::service::SqlService;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) digest: u64,
    pub(super) stats: Stats,
    pub(super) failure: Option<String>,
    pub(super) trace: String,
}

/// Runs a seed, which is all that decides what happens.
pub(super) async fn run(seed: u64, sessions: Arc<Sessions>, whole_trace: bool) -> Ended {
    let world = World::new(seed, sessions, whole_trace).await;
    let mut random = world.random();
    create(&world, &mut random).await;
    let clients = start_clients(&world);
    let mut number = 1;
    let mut stale: Vec<(Arc<Process>, JoinHandle<()>)> = Vec::new();
    for _ in 0..1 + random.below(3) {
        live(&world, &mut random, &mut number, &mut stale).await;
        if world.trace.failure().is_some() {
            break;
        }
    }
    world.end();
    for (process, life) in stale {
        process.life.kill();
        life.abort();
    }
    for client in clients {
        if client.await.is_err() {
            world.trace.fail("a client panicked".to_owned());
        }
    }
    if world.trace.failure().is_none() && in_time(finish(&world, number)).await.is_none() {
        world.trace.fail("a healthy process does not end what was begun".to_owned());
    }
    let (events, virtual_ms) = (world.trace.events(), u64::try_from(world.trace.elapsed().as_millis()).unwrap());
    world.count(|stats| (stats.events, stats.virtual_ms) = (events, virtual_ms));
    let stats = *world.stats.lock().unwrap();
    let trace = if whole_trace || world.trace.failure().is_some() { world.trace.text() } else { String::new() };
    Ended { digest: world.trace.digest(), stats, failure: world.trace.failure(), trace }
}

/// What ends in any time that is worth waiting for.
async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = sleep(LONG) => None,
    }
}

/// Creates the table in a process that nothing happens to.
async fn create(world: &World, random: &mut Random) {
    let (life, server) = world.open(0, Odds::FINE).await;
    let server = server.unwrap();
    let mode = match world.mode {
        Mode::Append => "append_mode = 'true'",
        Mode::LastRow => "merge_mode = 'last_row'",
        Mode::LastNonNull => "merge_mode = 'last_non_null'",
    };
    // With the second, compactions take some files of many, so that what they may forget depends on the others.
    let files = *rules::pick(random, &["", ", 'compaction.twcs.trigger_file_num' = '3'"]);
    let columns = "host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, w BIGINT, PRIMARY KEY (host)";
    server.execute(&format!("CREATE TABLE t ({columns}) WITH ({mode}{files})"), "public", &CancellationToken::new()).await.unwrap();
    let sql = format!("ALTER TABLE t {}", rules::partition_on(random, world.mode));
    world.trace.note(format_args!("{sql}"));
    // That is, unless it is what the table has.
    let _nothing_to_do = server.execute(&sql, "public", &CancellationToken::new()).await;
    server.close().await.unwrap();
    life.kill();
}

fn start_clients(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut clients = Vec::new();
    for number in 0..WRITERS {
        clients.push(env::spawn(writer(Arc::clone(world), world.random(), number)));
    }
    clients.push(env::spawn(scanner(Arc::clone(world), world.random())));
    let mut random = world.random();
    clients.push(match world.travels {
        true => env::spawn(traveller(Arc::clone(world), random.split())),
        false => env::spawn(partitioner(Arc::clone(world), random.split())),
    });
    // An operator who flushes everything brings home the files that regions share.
    if !world.travels || random.chance(1, 3) {
        clients.push(env::spawn(operator(Arc::clone(world), world.random())));
    }
    clients
}

/// One process, from its start to its end, which may be any.
async fn live(world: &Arc<World>, random: &mut Random, number: &mut u64, stale: &mut Vec<(Arc<Process>, JoinHandle<()>)>) {
    // Who travels needs time, and some peace.
    let (odds, longest_ms) = match (world.travels, random.chance(2, 3)) {
        (true, true) => (Odds::calm(random), 2_500),
        _ => (Odds::draw(random), 1_500),
    };
    let Some(process) = start(world, odds, number).await else { return };
    world.serve(Some(Arc::clone(&process)));
    let span = Duration::from_millis(100 + random.below(longest_ms));
    tokio::select! {
        biased;
        () = process.life.gone() => {}
        () = sleep(span) => {}
    }
    world.serve(None);
    match random.below(4) {
        // It is cut off from its clients and its log, and does not know.
        0 if !process.life.is_dead() => {
            process.life.leave();
            world.count(|stats| stats.stale += 1);
            let (life, last) = (Arc::clone(&process.life), Duration::from_millis(random.below(2_000)));
            let end = env::spawn(async move {
                sleep(last).await;
                life.kill();
            });
            stale.push((process, end));
        }
        1 if !process.life.is_dead() => close(&process).await,
        _ => {
            process.life.kill();
            world.count(|stats| stats.kills += 1);
        }
    }
}

/// Opens a process, again and again if it must be.
async fn start(world: &World, odds: Odds, number: &mut u64) -> Option<Arc<Process>> {
    for _ in 0..4 {
        let (life, server) = world.open(*number, odds).await;
        *number += 1;
        world.count(|stats| stats.lives += 1);
        match server {
            Ok(server) => return Some(Arc::new(Process { server, life })),
            Err(_) => life.kill(),
        }
    }
    None
}

/// Closes a process as a signal would: what its stores refuse is left to the next one.
async fn close(process: &Process) {
    let life: &Life = &process.life;
    life.note(format_args!("closes"));
    tokio::select! {
        biased;
        () = life.gone() => {}
        closed = process.server.close() => life.note(format_args!("closed: {:?}", closed.err().map(|error| error.message))),
        () = sleep(Duration::from_secs(60)) => life.note(format_args!("gives up to close")),
    }
    life.kill();
}

/// A process that nothing happens to finishes what there is; then everything is looked at, twice.
async fn finish(world: &World, number: u64) {
    let (life, server) = world.open(number, Odds::FINE).await;
    let process = Process { server: server.unwrap(), life };
    // Before anything is settled, the rows are there.
    if !scan(world, &process, LONG, Duration::ZERO).await {
        world.trace.fail("a healthy process does not answer".to_owned());
    }
    settle(world, &process).await;
    let by_statement = world.random().chance(1, 8);
    check::check(world, &process, by_statement).await;
    close(&process).await;
    let (life, server) = world.open(number + 1, Odds::FINE).await;
    let process = Process { server: server.unwrap(), life };
    check::check(world, &process, false).await;
    close(&process).await;
}

/// Waits until no procedure has anything to do; says once that those which wait for somebody may go on.
async fn settle(world: &World, process: &Process) {
    // A procedure that somebody submitted may still arrive.
    sleep(Duration::from_millis(LATEST_MS + 1)).await;
    let client = process.server.procedures().client();
    for record in client.list(None, 1_000).await.unwrap() {
        let mut record = client.wait(&record.id).await.unwrap();
        if matches!(record.phase, Phase::Blocked { .. }) {
            client.retry(&record.id).await.unwrap();
            record = client.wait(&record.id).await.unwrap();
        }
        world.trace.note(format_args!("procedure {} of kind {}: {} {:?}", record.id, record.kind, record.phase, record.error));
        ended(world, &record);
    }
    world.look("all procedures ended").await;
}

fn ended(world: &World, record: &Record) {
    world.count(|stats| match record.phase {
        Phase::Done => stats.committed += 1,
        Phase::Failed => stats.failed += 1,
        Phase::Cancelled => stats.cancelled += 1,
        _ => {}
    });
    if !record.phase.is_over() {
        world.trace.fail(format!("procedure {} is {}: {:?}", record.id, record.phase, record.error));
    }
}
