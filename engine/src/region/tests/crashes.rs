//! Crashes before and after each operation of store and log, under concurrent writes.

mod compaction;

use std::collections::BTreeSet;
use std::sync::Mutex;

use tessera_manifest::schema::{Column, ColumnChange, ColumnDefault, Place};

use super::alter::altered;
use super::*;
use crate::testing::{Crash, Disk, every_crash};

/// What was begun and what was answered, as the outside world saw it.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Seen>>);

#[derive(Debug, Clone, Default)]
struct Seen {
    begun: BTreeSet<i64>,
    written: BTreeSet<i64>,
    altered: bool,
    /// Rows that were answered before the truncation began.
    before_truncation: BTreeSet<i64>,
    truncation_begun: bool,
    truncated: bool,
}

impl Journal {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap());
    }

    fn seen(&self) -> Seen {
        self.0.lock().unwrap().clone()
    }

    /// Writes one row, as whoever knows this schema would.
    async fn write(&self, region: &Arc<Region>, schema: &Arc<Schema>, ts: i64) {
        self.note(|seen| seen.begun.extend([ts]));
        let values = schema.columns().iter().map(|column| match column.semantic {
            SemanticType::Tag => Value::String("a".into()),
            SemanticType::TimeIndex => Value::Timestamp(ts),
            SemanticType::Field => value_of(column, ts),
        });
        let rows = [values.collect::<Vec<_>>()];
        let request = WriteRequest { batch: batch(schema, OpType::Put, &rows), ..request(region, OpType::Put, &[]) };
        region.write_under(Some(Arc::clone(schema)), request).await.unwrap();
        self.note(|seen| seen.written.extend([ts]));
    }
}

fn value_of(column: &Column, ts: i64) -> Value {
    match column.data_type {
        DataType::Float64 | DataType::Float32 => Value::Float(ts as f64),
        _ => Value::Int(ts),
    }
}

fn narrow() -> RegionMeta {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "v", DataType::Int16, SemanticType::Field),
        column(3, "gone", DataType::Int64, SemanticType::Field),
    ];
    RegionMeta { schema: Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap()), ..meta(Expr::always()) }
}

fn changes() -> [ColumnChange; 4] {
    let added = Column { default: Some(ColumnDefault::Value(Value::Int(-1))), ..column(0, "n", DataType::Int64, SemanticType::Field) };
    [
        ColumnChange::Modify { name: "v".into(), data_type: DataType::Float64 },
        ColumnChange::Drop { name: "gone".into() },
        ColumnChange::Add { column: column(0, "gone", DataType::Int64, SemanticType::Field), place: Place::First },
        ColumnChange::Add { column: added, place: Place::Last },
    ]
}

/// Rows before, during and after an alteration, some of them flushed.
async fn alter_scenario(engine: Engine, journal: Journal) {
    let region = engine.create_region(narrow()).await.unwrap();
    let (old, to) = (Arc::clone(&region.meta().schema), altered(&region.meta(), &changes()));
    journal.write(&region, &old, 1).await;
    region.flush().await.unwrap();
    journal.write(&region, &old, 2).await;
    let alter = async {
        region.alter(&to).await.unwrap();
        journal.note(|seen| seen.altered = true);
    };
    let writes = async {
        for ts in 3..6 {
            journal.write(&region, &old, ts).await;
            tokio::task::yield_now().await;
        }
    };
    futures::join!(writes, alter);
    journal.write(&region, &to.schema, 6).await;
    journal.write(&region, &old, 7).await;
    region.flush().await.unwrap();
    journal.write(&region, &to.schema, 8).await;
}

/// What a row looks like under the later schema: `n` and the new `gone` are known only to whoever wrote under it.
fn expected(ts: i64) -> Vec<Value> {
    let late = ts == 6 || ts == 8;
    let gone = if late { Value::Int(ts) } else { Value::Null };
    let n = if late { Value::Int(ts) } else { Value::Int(-1) };
    vec![gone, Value::String("a".into()), Value::Timestamp(ts), Value::Float(ts as f64), n]
}

async fn check_altered(engine: Engine, seen: Seen) {
    let region = match engine.open_region(REGION).await {
        Ok(region) => region,
        Err(error) if seen.begun.is_empty() => return drop(error),
        Err(error) => panic!("{}", crate::error_chain(&error)),
    };
    let to = altered(&narrow(), &changes());
    assert!(!seen.altered || region.meta().schema == to.schema, "an acknowledged alteration is gone");
    region.alter(&to).await.unwrap();
    for flushed in [false, true] {
        if flushed {
            region.flush().await.unwrap();
        }
        let rows = read(&region, everything()).await;
        let times: BTreeSet<i64> = rows.iter().filter_map(|row| if let Value::Timestamp(t) = row[2] { Some(t) } else { None }).collect();
        assert!(seen.written.is_subset(&times), "acknowledged {:?}, found {times:?}", seen.written);
        assert!(times.is_subset(&seen.begun), "never written: {times:?}");
        let wanted: Vec<_> = times.iter().map(|ts| expected(*ts)).collect();
        let mut wanted = wanted;
        wanted.sort();
        assert_eq!(rows, wanted);
    }
}

/// Runs a scenario up to each crash and checks what the next process finds: one of the same node, and one of another node that takes
/// the region over, with the rows that are in the log of the first.
fn crash_everywhere<S: Future<Output = ()>, C: Future<Output = ()>>(
    scenario: impl Fn(Engine, Journal) -> S,
    check: impl Fn(Engine, Seen) -> C,
) {
    let (ended, operations) = Disk::new().run(Crash::Never, |engine| scenario(engine, Journal::default()));
    assert!(ended.is_some() && operations > 10);
    for crash in every_crash(operations) {
        let (disk, journal) = (Disk::new(), Journal::default());
        disk.run(crash, |engine| scenario(engine, journal.clone()));
        let seen = journal.seen();
        println!("{crash:?} of {operations}: {seen:?}");
        let elsewhere = disk.copy().on(2);
        for disk in [disk, elsewhere] {
            let (checked, _) = disk.run(Crash::Never, |engine| check(engine, seen.clone()));
            assert!(checked.is_some());
        }
    }
}

#[test]
fn a_crash_in_an_alteration_loses_and_changes_nothing() {
    crash_everywhere(alter_scenario, check_altered);
}

/// Rows before, during and after a truncation, some of them flushed.
async fn truncate_scenario(engine: Engine, journal: Journal) {
    let region = engine.create_region(narrow()).await.unwrap();
    let schema = Arc::clone(&region.meta().schema);
    journal.write(&region, &schema, 1).await;
    region.flush().await.unwrap();
    journal.write(&region, &schema, 2).await;
    journal.note(|seen| {
        seen.before_truncation = seen.written.clone();
        seen.truncation_begun = true;
    });
    let truncate = async {
        region.truncate().await.unwrap();
        journal.note(|seen| seen.truncated = true);
    };
    let writes = async {
        for ts in 3..6 {
            journal.write(&region, &schema, ts).await;
            tokio::task::yield_now().await;
        }
    };
    futures::join!(writes, truncate);
    journal.write(&region, &schema, 6).await;
    region.flush().await.unwrap();
    journal.write(&region, &schema, 7).await;
}

async fn check_truncated(engine: Engine, seen: Seen) {
    let region = match engine.open_region(REGION).await {
        Ok(region) => region,
        Err(error) if seen.begun.is_empty() => return drop(error),
        Err(error) => panic!("{}", crate::error_chain(&error)),
    };
    let rows = read(&region, everything()).await;
    let times: BTreeSet<i64> = rows.iter().filter_map(|row| if let Value::Timestamp(t) = row[1] { Some(t) } else { None }).collect();
    let left: BTreeSet<i64> = times.intersection(&seen.before_truncation).copied().collect();
    assert!(left.is_empty() || left == seen.before_truncation, "half a truncation: {times:?}");
    assert!(!seen.truncated || left.is_empty(), "truncated rows came back: {times:?}");
    if !seen.truncation_begun {
        assert!(seen.written.is_subset(&times), "acknowledged {:?}, found {times:?}", seen.written);
    }
    // Which of the concurrent rows the truncation took is its own affair; those after its answer are safe.
    let after: BTreeSet<i64> = seen.written.iter().copied().filter(|ts| *ts >= 6).collect();
    assert!(after.is_subset(&times), "acknowledged {after:?}, found {times:?}");
    assert!(times.is_subset(&seen.begun));
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, rows);
}

#[test]
fn a_crash_in_a_truncation_takes_all_or_nothing() {
    crash_everywhere(truncate_scenario, check_truncated);
}

/// A truncation by time that removes one file and writes another anew.
async fn range_scenario(engine: Engine, journal: Journal) {
    let region = engine.create_region(narrow()).await.unwrap();
    let schema = Arc::clone(&region.meta().schema);
    for file in 0..2 {
        for ts in 1..4 {
            journal.write(&region, &schema, file * 10 + ts).await;
        }
        region.flush().await.unwrap();
    }
    journal.write(&region, &schema, 2_000).await;
    journal.note(|seen| seen.truncation_begun = true);
    region.truncate_ranges(&[(2, 13)]).await.unwrap();
    journal.note(|seen| seen.truncated = true);
    journal.write(&region, &schema, 5).await;
}

async fn check_range(engine: Engine, seen: Seen) {
    let region = match engine.open_region(REGION).await {
        Ok(region) => region,
        Err(error) if seen.begun.is_empty() => return drop(error),
        Err(error) => panic!("{}", crate::error_chain(&error)),
    };
    let rows = read(&region, everything()).await;
    let times: BTreeSet<i64> = rows.iter().filter_map(|row| if let Value::Timestamp(t) = row[1] { Some(t) } else { None }).collect();
    let taken = |ts: &i64| (2..=13).contains(ts) && *ts != 5;
    let gone = times.iter().all(|ts| !taken(ts));
    assert!(gone || seen.written.is_subset(&times), "half a truncation: {times:?} of {:?}", seen.written);
    assert!(!seen.truncated || gone, "truncated rows came back: {times:?}");
    assert!(seen.written.iter().filter(|ts| !taken(ts)).all(|ts| times.contains(ts)), "{times:?} of {:?}", seen.written);
    if !seen.truncation_begun {
        assert!(seen.written.is_subset(&times));
    }
}

#[test]
fn a_crash_in_a_truncation_by_time_takes_all_or_nothing() {
    crash_everywhere(range_scenario, check_range);
}
