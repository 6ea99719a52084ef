//! Clients: writers with keys of their own, scanners, and operators who flush, compact, truncate, alter and repartition.
//!
//! They go through the server's own layers below the planner of queries: rows are cut and routed by [`Writer`], scans pin
//! their regions as those of statements do, and everything else is a statement.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array};
use arrow::datatypes::{Int64Type, Schema, TimestampMillisecondType};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use tessera_engine::request::ScanRequest;
use tessera_manifest::env::{Moment, sleep};
use tessera_metaclient::testing::Random;
use tokio_util::sync::CancellationToken;

use super::ledger::{Fields, Key};
use super::possible::Mode;
use super::world::{Asked, Process, World};
use crate::catalog::{Catalogs, Table};
use crate::error::{Code, ServerError};
use crate::query::limits;
use crate::query::read::{await_change, begin};
use crate::query::rows::{key_positions, nowhere};
use crate::query::scan::{Source, TesseraScanExec, Work};
use crate::query::write::Writer;
use crate::router::{Next, Patience};
use crate::service::{Output, SqlService};

/// Hosts, NULL among them.
const HOSTS: [Option<&str>; 6] = [None, Some("alpha"), Some("golf"), Some("mike"), Some("tango"), Some("zulu")];
/// How many writers there are; a key belongs to one of them.
pub(super) const WRITERS: i64 = 2;
/// Columns that the operator adds and drops.
const EXTRA: &str = "extra";

/// A row as clients see it.
pub(super) type Row = (Key, Fields);

/// What is asked for a key: a row, or that it goes.
pub(super) type Write = (Key, Option<Fields>);

/// The batch of these rows under a table's schema; other columns are NULL.
fn batch(table: &Table, rows: &[Write], positions: &[usize]) -> RecordBatch {
    let field = |at: usize| rows.iter().map(|(_, fields)| fields.and_then(|fields| fields[at])).collect::<Int64Array>();
    let columns = positions.iter().map(|position| &table.info.schema.columns()[*position]);
    let arrays = columns.clone().map(|column| -> ArrayRef {
        match column.name.as_str() {
            "host" => Arc::new(rows.iter().map(|((host, _), _)| *host).collect::<StringArray>()),
            "ts" => Arc::new(rows.iter().map(|((_, ts), _)| Some(*ts)).collect::<TimestampMillisecondArray>()),
            "v" => Arc::new(field(0)),
            "w" => Arc::new(field(1)),
            _ => new_null_array(&column.data_type.to_arrow(), rows.len()),
        }
    });
    let arrays: Vec<ArrayRef> = arrays.collect();
    let fields: Vec<_> = columns.map(tessera_manifest::schema::Column::to_arrow).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// Writes rows, or deletes them all.
async fn write(server: &Process, rows: &[Write]) -> Result<u64, ServerError> {
    let catalogs = server.server.catalogs();
    let table = catalogs.table("public", "t").await?;
    let deletes = rows.iter().all(|(_, fields)| fields.is_none());
    let positions = match deletes {
        true => key_positions(&table.info.schema),
        false => (0..table.info.schema.columns().len()).collect(),
    };
    let batch = batch(&table, rows, &positions);
    let mut writer = match deletes {
        true => Writer::delete(table, catalogs.clone()),
        false => Writer::put(table, catalogs.clone()),
    };
    writer.push(&batch, &nowhere).await?;
    writer.finish().await
}

/// What the next statement of a writer is.
fn next_rows(world: &World, random: &mut Random, number: i64, next: &mut i64) -> Vec<Write> {
    // Rows that are merged have to meet.
    let old = if world.mode == Mode::LastNonNull { 3 } else { 2 };
    let quiet = match world.mode == Mode::Append || !random.chance(old, 4) {
        true => Vec::new(),
        false => world.ledger.quiet(|(_, ts)| ts % WRITERS == number),
    };
    if quiet.is_empty() {
        let rows = 1 + random.below(4);
        let fresh = (0..rows).map(|_| {
            *next += 1;
            let ts = *next * WRITERS + number;
            let host = HOSTS[usize::try_from(random.below(HOSTS.len() as u64)).unwrap()];
            ((host, ts), Some(fields(world, random, ts)))
        });
        return fresh.collect();
    }
    let key = quiet[usize::try_from(random.below(quiet.len() as u64)).unwrap()];
    vec![(key, (!random.chance(1, 3)).then(|| fields(world, random, key.1)))]
}

/// The fields of a row; some are NULL. Without keys, rules may be about `v`.
fn fields(world: &World, random: &mut Random, ts: i64) -> Fields {
    let chance = match world.mode {
        Mode::Append => return [Some(ts), Some(world.ledger.value())],
        Mode::LastRow => 6,
        Mode::LastNonNull => 2,
    };
    std::array::from_fn(|_| (!random.chance(1, chance)).then(|| world.ledger.value()))
}

/// How long a client waits for an answer: mostly as long as it takes.
pub(super) fn patience(random: &mut Random) -> Duration {
    match random.below(12) {
        0 => Duration::from_millis(random.below(30)),
        _ => Duration::from_secs(120),
    }
}

/// Writes, replaces and deletes rows of its own.
pub(super) async fn writer(world: Arc<World>, mut random: Random, number: i64) {
    let mut next = 0;
    let pace = if world.travels { 60 } else { 5 } + random.below(120);
    while let Some(process) = world.process().await {
        let rows = next_rows(&world, &mut random, number, &mut next);
        send(&world, &process, patience(&mut random), number, &rows).await;
        sleep(Duration::from_millis(random.below(pace))).await;
    }
}

/// Sends rows to be written, or keys to be deleted; whether that was done. The ledger knows.
pub(super) async fn send(world: &World, process: &Process, patience: Duration, who: i64, rows: &[Write]) -> bool {
    let sent = world.trace.note(format_args!("writer {who} sends {rows:?}"));
    world.ledger.send(sent, rows);
    match process.ask(patience, write(process, rows)).await {
        Asked::Answered(Ok(written)) => {
            let at = world.trace.note(format_args!("writer {who} wrote {written} sent at {sent}"));
            if written != rows.len() as u64 {
                world.trace.fail(format!("{written} rows of {rows:?} were written"));
            }
            world.ledger.acknowledge(at, sent);
            world.look("written").await;
            world.count(|stats| stats.writes += 1);
            return true;
        }
        Asked::Answered(Err(error)) => {
            world.trace.note(format_args!("writer {who} is refused: {error}"));
            world.count(|stats| stats.refused_writes += 1);
        }
        Asked::Unanswered => drop(world.trace.note(format_args!("writer {who} has no answer"))),
    }
    false
}

/// The rows of a table as statements read them: all regions pinned under one read set, again as long as that may help.
///
/// `planning` passes between the reading of the routes and the first pin.
async fn read(catalogs: &Catalogs, planning: Duration) -> Result<Vec<Row>, ServerError> {
    let (began, mut patience) = (Moment::now(), Patience::default());
    loop {
        let table = catalogs.table("public", "t").await?;
        let schema = &table.info.schema;
        let projection: Vec<usize> =
            ["host", "ts", "v", "w"].iter().map(|name| schema.columns().iter().position(|column| column.name == **name).unwrap()).collect();
        let arrow = Arc::new(schema.to_arrow().project(&projection).unwrap());
        let source = Source { table: Arc::clone(&table), engine: catalogs.engine.clone(), closed: catalogs.closed.clone(), past: None };
        let request = ScanRequest { projection: Some(projection), ..ScanRequest::default() };
        let plan: Arc<dyn ExecutionPlan> = Arc::new(TesseraScanExec::new(source, arrow, request, Work { exact: true, streams: 2 }));
        let tables = [table];
        if !planning.is_zero() {
            sleep(planning).await;
        }
        let refused = match begin(plan, Arc::new(TaskContext::default()), &tables, catalogs).await {
            Ok(stream) => {
                let batches: Vec<RecordBatch> =
                    stream.try_collect().await.map_err(|error| ServerError::new(Code::Internal, error.to_string()))?;
                return Ok(batches.iter().flat_map(rows_of).collect());
            }
            Err(refused) => refused,
        };
        let Some(refusal) = refused.refusal else { return Err(refused.error) };
        match patience.refused(Moment::now().since(began), refusal.wait_max()) {
            Next::GiveUp(_) => return Err(refused.error),
            Next::Wait(pause) => {
                if await_change(&tables, catalogs, pause).await? {
                    patience.progress();
                }
            }
        }
    }
}

/// The rows of a batch of host, ts, v and w.
pub(super) fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let (hosts, times) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<TimestampMillisecondType>());
    let fields = [2, 3].map(|column| batch.column(column).as_primitive::<Int64Type>());
    let value = |at: usize| fields.map(|values| values.is_valid(at).then(|| values.value(at)));
    let host = |at: usize| {
        let text = hosts.is_valid(at).then(|| hosts.value(at));
        HOSTS.iter().copied().find(|host| *host == text).unwrap()
    };
    (0..batch.num_rows()).map(|at| ((host(at), times.value(at)), value(at))).collect()
}

/// One scan, with what is wrong with it noted.
pub(super) async fn scan(world: &World, process: &Process, patience: Duration, planning: Duration) -> bool {
    let begun = world.look("scan begins").await;
    match process.ask(patience, read(process.server.catalogs(), planning)).await {
        Asked::Answered(Ok(rows)) => {
            let ended = world.trace.note(format_args!("scan from {begun} sees {} rows", rows.len()));
            if let Some(wrong) = world.ledger.judge(begun, ended, &rows) {
                world.trace.fail(wrong);
            }
            world.count(|stats| stats.scans += 1);
            true
        }
        Asked::Answered(Err(error)) => {
            world.trace.note(format_args!("scan is refused: {error}"));
            world.count(|stats| stats.refused_scans += 1);
            false
        }
        Asked::Unanswered => false,
    }
}

/// Scans all the time, in some runs without a pause: then some scan is under way whenever regions change hands.
pub(super) async fn scanner(world: Arc<World>, mut random: Random) {
    let pace = if random.chance(1, 8) { 4 } else { 20 + random.below(200) };
    while let Some(process) = world.process().await {
        let planning = Duration::from_millis(if random.chance(1, 3) { random.below(25) } else { 0 });
        scan(&world, &process, patience(&mut random), planning).await;
        sleep(Duration::from_millis(random.below(pace))).await;
    }
}

/// Runs a statement; whether it succeeded.
pub(super) async fn statement(world: &World, process: &Process, patience: Duration, sql: &str) -> bool {
    world.trace.note(format_args!("statement: {sql}"));
    match process.ask(patience, process.server.execute(sql, "public", &CancellationToken::new())).await {
        Asked::Answered(Ok(outputs)) => {
            drop(outputs);
            world.trace.note(format_args!("done: {sql}"));
            true
        }
        Asked::Answered(Err(error)) => {
            world.trace.note(format_args!("refused: {error}: {sql}"));
            false
        }
        Asked::Unanswered => {
            world.trace.note(format_args!("no answer: {sql}"));
            false
        }
    }
}

/// Flushes, compacts, restarts regions, truncates and alters.
pub(super) async fn operator(world: Arc<World>, mut random: Random) {
    let pace = 20 + random.below(150);
    // Of a truncated table little is left to go wrong.
    let truncates = random.chance(1, 6);
    while let Some(process) = world.process().await {
        let wait = patience(&mut random);
        match random.below(16) {
            0..=6 => drop(statement(&world, &process, wait, "ADMIN flush_table('t')").await),
            7 | 8 => drop(statement(&world, &process, wait, "ADMIN compact_table('t')").await),
            9 | 10 => drop(statement(&world, &process, wait, "ADMIN compact_table('t', 'strict_window')").await),
            11 => restart(&world, &process, &mut random).await,
            12 | 15 if truncates => truncate(&world, &process, wait).await,
            13 => alter(&world, &process, wait, &format!("ALTER TABLE t ADD COLUMN {EXTRA} BIGINT")).await,
            14 => alter(&world, &process, wait, &format!("ALTER TABLE t DROP COLUMN {EXTRA}")).await,
            _ => {}
        }
        sleep(Duration::from_millis(random.below(pace))).await;
    }
}

/// Opens a region anew from its manifest and its log.
async fn restart(world: &World, process: &Process, random: &mut Random) {
    let engine = &process.server.catalogs().engine;
    let regions = engine.regions();
    if regions.is_empty() {
        return;
    }
    let id = regions[usize::try_from(random.below(regions.len() as u64)).unwrap()].id();
    drop(regions);
    let done = process.ask(Duration::from_secs(60), engine.restart(id)).await;
    let text = match done {
        Asked::Answered(Ok(_)) => "done".to_owned(),
        Asked::Answered(Err(error)) => error.to_string(),
        Asked::Unanswered => "no answer".to_owned(),
    };
    world.trace.note(format_args!("restart of {id}: {text}"));
}

async fn truncate(world: &World, process: &Process, wait: Duration) {
    let sent = world.trace.note(format_args!("truncate"));
    world.ledger.send_removal(sent);
    if statement(world, process, wait, "TRUNCATE TABLE t").await {
        let at = world.trace.note(format_args!("truncated"));
        world.ledger.acknowledge(at, sent);
        world.look("truncated").await;
        world.count(|stats| stats.truncates += 1);
    }
}

async fn alter(world: &World, process: &Process, wait: Duration, sql: &str) {
    if statement(world, process, wait, sql).await {
        world.count(|stats| stats.alterations += 1);
    }
}

/// Repartitions, cancels, and takes back.
pub(super) async fn partitioner(world: Arc<World>, mut random: Random) {
    let pace = 30 + random.below(400);
    while let Some(process) = world.process().await {
        let wait = patience(&mut random);
        let done = match random.below(10) {
            0 => take_back(&world, &process, &mut random, wait).await,
            1 => {
                cancel(&world, &process, wait).await;
                false
            }
            _ => match super::rules::change(&world, &mut random).await {
                Some(sql) => statement(&world, &process, wait, &sql).await,
                None => false,
            },
        };
        if done {
            world.look("repartitioned").await;
            world.count(|stats| stats.repartitions += 1);
        }
        sleep(Duration::from_millis(random.below(pace))).await;
    }
}

async fn ids(process: &Process, wait: Duration) -> Vec<String> {
    let client = process.server.procedures().client();
    match process.ask(wait, client.list(None, 1_000)).await {
        Asked::Answered(Ok(records)) => records.iter().map(|record| record.id.to_string()).collect(),
        _ => Vec::new(),
    }
}

pub(super) async fn take_back(world: &World, process: &Process, random: &mut Random, wait: Duration) -> bool {
    let ids = ids(process, wait).await;
    let Some(id) = ids.get(usize::try_from(random.below(ids.len().max(1) as u64)).unwrap()) else { return false };
    statement(world, process, wait, &format!("ADMIN rollback_repartition('{id}')")).await
}

async fn cancel(world: &World, process: &Process, wait: Duration) {
    let ids = ids(process, wait).await;
    if let Some(id) = ids.last()
        && statement(world, process, wait, &format!("ADMIN cancel_procedure('{id}')")).await
    {
        world.count(|stats| stats.cancels += 1);
    }
}

/// Every row by statement, through the planner, as the server's users see them.
pub(super) async fn select(process: &Process) -> Result<Vec<Row>, ServerError> {
    let mut outputs = process.server.execute("SELECT host, ts, v, w FROM t", "public", &CancellationToken::new()).await?;
    let Some(Output::Rows { stream, .. }) = outputs.pop() else { panic!("a query answers rows") };
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(batches.iter().flat_map(rows_of).collect())
}

/// What is never exceeded by waiting, so that a run that hangs is seen.
pub(super) const LONG: Duration = Duration::from_secs(limits::REPARTITION_WAIT_MAX.as_secs() * 60);
