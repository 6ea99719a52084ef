//! Crashes in compactions of all merge modes, and in the recovery from them.
//!
//! ```text
//!   prepared disk ──process that compacts──▶ crash ──one that recovers──▶ crash ──▶ one that ends it ──▶ one that reads
//! ```
//!
//! What is checked of each process: its rows are those of the writes that were acknowledged, in their order, with or without
//! the one that was under way; what it has shown once stays; every file of the manifest is on the store.

use std::collections::HashMap;

use super::super::*;
use crate::compaction::{Report, Strategy};
use crate::options::MergeMode;
use crate::testing::{Crash, Disk, some_crashes};

/// Milliseconds of a time window.
const WINDOW: i64 = 1_000;
/// Series of an oldest file that is larger than all that comes later, so that it is not compacted with it.
const HOSTS: i64 = 900;

/// How many crashes of a scenario are tried by default.
const CASES: usize = 80;

/// A row as a client writes it.
#[derive(Debug, Clone)]
struct Row {
    host: i64,
    ts: i64,
    fields: [Option<i64>; 2],
}

fn at(host: i64, ts: i64) -> Row {
    Row { host, ts, fields: [None; 2] }
}

fn with(host: i64, ts: i64, a: impl Into<Option<i64>>, b: impl Into<Option<i64>>) -> Row {
    Row { fields: [a.into(), b.into()], ..at(host, ts) }
}

impl Row {
    fn values(&self) -> Vec<Value> {
        let field = |value: Option<i64>| value.map_or(Value::Null, Value::Int);
        vec![Value::String(format!("h{:03}", self.host)), Value::Timestamp(self.ts), field(self.fields[0]), field(self.fields[1])]
    }
}

/// The writes of one client after another, and which of them were acknowledged.
#[derive(Debug, Clone)]
struct History(Arc<std::sync::Mutex<Past>>);

#[derive(Debug, Clone)]
struct Past {
    mode: MergeMode,
    writes: Vec<(OpType, Vec<Row>)>,
    /// How many were acknowledged: all, or all but the last.
    acknowledged: usize,
}

impl History {
    fn new(mode: MergeMode) -> Self {
        Self(Arc::new(std::sync::Mutex::new(Past { mode, writes: Vec::new(), acknowledged: 0 })))
    }

    /// Another that begins with the same writes.
    fn copy(&self) -> Self {
        Self(Arc::new(std::sync::Mutex::new(self.0.lock().unwrap().clone())))
    }

    fn mode(&self) -> MergeMode {
        self.0.lock().unwrap().mode
    }

    async fn put(&self, region: &Arc<Region>, rows: Vec<Row>) {
        self.write(region, OpType::Put, rows).await;
    }

    /// Deletes, where rows can be deleted.
    async fn delete(&self, region: &Arc<Region>, rows: Vec<Row>) {
        if self.mode() != MergeMode::Append {
            self.write(region, OpType::Delete, rows).await;
        }
    }

    async fn write(&self, region: &Arc<Region>, op: OpType, rows: Vec<Row>) {
        let values: Vec<_> = rows.iter().map(Row::values).collect();
        self.0.lock().unwrap().writes.push((op, rows));
        region.write(request(region, op, &values)).await.unwrap();
        let mut past = self.0.lock().unwrap();
        past.acknowledged = past.writes.len();
    }

    /// That these are the rows of what was acknowledged, with or without the write under way; from now on it is known which.
    fn settle(&self, rows: &[Vec<Value>]) {
        let mut past = self.0.lock().unwrap();
        let (known, all) = (past.acknowledged, past.writes.len());
        assert!(all - known <= 1, "one write at a time");
        let found = [all, known].into_iter().find(|writes| past.rows(*writes) == rows);
        let Some(found) = found else {
            let expected = past.rows(known);
            let missing: Vec<_> = expected.iter().filter(|row| !rows.contains(row)).collect();
            let surplus: Vec<_> = rows.iter().filter(|row| !expected.contains(row)).collect();
            panic!("{} rows instead of {}; missing {missing:?}, surplus {surplus:?}", rows.len(), expected.len());
        };
        past.writes.truncate(found);
        past.acknowledged = found;
    }
}

impl Past {
    /// The visible rows after so many writes.
    fn rows(&self, writes: usize) -> Vec<Vec<Value>> {
        let mut rows: Vec<Row> = Vec::new();
        let mut places: HashMap<(i64, i64), usize> = HashMap::new();
        for (op, written) in &self.writes[..writes] {
            for row in written {
                let key = (row.host, row.ts);
                match (places.get(&key).copied().filter(|_| self.mode != MergeMode::Append), op) {
                    (Some(place), OpType::Put) if self.mode == MergeMode::LastNonNull => {
                        let merged = &mut rows[place].fields;
                        *merged = [row.fields[0].or(merged[0]), row.fields[1].or(merged[1])];
                    }
                    (Some(place), OpType::Put) => rows[place] = row.clone(),
                    (None, OpType::Put) => {
                        places.insert(key, rows.len());
                        rows.push(row.clone());
                    }
                    (Some(place), OpType::Delete) => {
                        // Out of sight; whoever comes back gets a place of its own.
                        rows[place].host = -1;
                        places.remove(&key);
                    }
                    (None, OpType::Delete) => {}
                }
            }
        }
        let mut rows: Vec<_> = rows.iter().filter(|row| row.host >= 0).map(Row::values).collect();
        rows.sort();
        rows
    }
}

fn of_mode(mode: MergeMode) -> RegionMeta {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "a", DataType::Int64, SemanticType::Field),
        column(3, "b", DataType::Int64, SemanticType::Field),
    ];
    let merge = match mode {
        MergeMode::LastRow => ("merge_mode", "last_row"),
        MergeMode::LastNonNull => ("merge_mode", "last_non_null"),
        MergeMode::Append => ("append_mode", "true"),
    };
    let options = [merge, ("compaction.twcs.time_window", "1s"), ("compaction.twcs.trigger_file_num", "3")];
    RegionMeta {
        schema: Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap()),
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..meta(Expr::always())
    }
}

async fn open(engine: &Engine) -> Arc<Region> {
    // Nothing runs but what a scenario asks for.
    engine.stop_background().await;
    engine.open_region(REGION).await.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)))
}

/// A region with a large old file in the first window, a small one in the second, and rows in the log.
async fn prepare(engine: Engine, history: History, hosts: i64) {
    engine.stop_background().await;
    let region = engine.create_region(of_mode(history.mode())).await.unwrap();
    let noise = |host: i64, factor: i64| {
        let mixed = host.wrapping_mul(factor);
        (mixed ^ (mixed >> 29)).wrapping_mul(factor) & i64::MAX
    };
    let old = |host| with(host, host % 10, noise(host, 0x5851_f42d_4c95_7f2d), noise(host, 0x1405_7b7e_f767_814f));
    history.put(&region, (0..hosts).map(old).collect()).await;
    region.flush().await.unwrap();
    history.put(&region, vec![with(0, WINDOW, 1, 2), with(1, WINDOW + 1, 3, 4)]).await;
    region.flush().await.unwrap();
    history.put(&region, vec![with(0, 0, None, 5), with(2, WINDOW, 6, None)]).await;
}

/// What the compactions of an undisturbed scenario did.
#[derive(Debug)]
struct Done {
    /// Of what is new in a window.
    some: Report,
    /// Deletes in files after it.
    deletes_kept: u64,
    /// Of everything.
    all: Report,
}

/// Small files over the large one, a compaction of those, one of everything, each with writes and a flush beside it.
async fn scenario(engine: Engine, history: History) -> Done {
    let region = open(&engine).await;
    for turn in 1..5 {
        // Half of a row each, so that it takes two files to make one of them.
        let half = if turn % 2 == 0 { with(10, 0, turn, None) } else { with(10, 0, None, turn) };
        history.put(&region, vec![half, with(turn, turn, 100 + turn, None), with(500 + turn, 3, turn, turn)]).await;
        // Of the oldest file, of one of these, and of none.
        history.delete(&region, vec![at(20 + turn, turn), at(500 + turn - 1, 3), at(900, 9)]).await;
        region.flush().await.unwrap();
    }
    let writes = async {
        history.put(&region, vec![with(21, 1, None, 7), with(501, 3, 8, None)]).await;
        region.flush().await.unwrap();
        history.delete(&region, vec![at(10, 0), at(1, WINDOW + 1)]).await;
        history.put(&region, vec![with(10, 0, None, 9)]).await;
    };
    let compaction = async { region.compact_once(Strategy::Regular).await.unwrap() };
    let (some, ()) = futures::join!(compaction, writes);
    let deletes_kept = deletes(&region);
    history.put(&region, vec![with(11, 1, 10, None), with(2, WINDOW, None, 11)]).await;
    region.flush().await.unwrap();
    let writes = async {
        history.delete(&region, vec![at(11, 1), at(502, 3)]).await;
        history.put(&region, vec![with(502, 3, None, 12), with(22, 2, 13, None)]).await;
        region.flush().await.unwrap();
        history.put(&region, vec![with(22, 2, None, 14)]).await;
    };
    let compaction = async { region.compact(Strategy::StrictWindow).await.unwrap() };
    let (all, ()) = futures::join!(compaction, writes);
    history.delete(&region, vec![at(22, 2), at(12, 2)]).await;
    history.put(&region, vec![with(12, 2, 15, None)]).await;
    Done { some: some.unwrap_or_default(), deletes_kept, all }
}

fn deletes(region: &Region) -> u64 {
    region.pin().state.files().values().map(|listed| listed.file.meta.deletes).sum()
}

/// Reads, flushes and compacts to the end, writes on, and checks at each step what is there.
async fn recover(engine: Engine, disk: Disk, history: History) {
    let region = open(&engine).await;
    history.settle(&read(&region, everything()).await);
    history.put(&region, vec![with(10, 0, 16, None), with(30, 0, None, 17)]).await;
    region.flush().await.unwrap();
    history.settle(&read(&region, everything()).await);
    region.compact(Strategy::StrictWindow).await.unwrap();
    history.settle(&read(&region, everything()).await);
    assert_eq!(deletes(&region), 0, "nothing is left for a delete to hide");
    assert_eq!(region.compact(Strategy::StrictWindow).await.unwrap().rounds, 0);
    assert!(region.in_flight().is_empty());
    history.delete(&region, vec![at(10, 0)]).await;
    history.settle(&read(&region, everything()).await);
    check_files(&region, &disk).await;
}

/// Every file of the manifest is on the store.
async fn check_files(region: &Region, disk: &Disk) {
    let objects = disk.objects().await;
    for key in region.pin().state.files().keys() {
        assert!(objects.contains(&region.shared.context.root.sst(key)), "{key} is listed and gone");
    }
}

async fn check(engine: Engine, disk: Disk, history: History) {
    let region = open(&engine).await;
    check_files(&region, &disk).await;
    history.settle(&read(&region, everything()).await);
}

/// What is crashed.
struct Scene {
    mode: MergeMode,
    config: Config,
    /// Series of the oldest file.
    hosts: i64,
    /// How many crashes are tried by default.
    cases: usize,
}

impl Scene {
    fn of(mode: MergeMode) -> Self {
        Self { mode, config: Config::default(), hosts: HOSTS, cases: CASES }
    }

    /// Runs the scenario up to some crashes, the recovery from each up to another, and then one to its end. Answers with the
    /// operations of the scenario.
    fn crash_everywhere(&self) -> Vec<&'static str> {
        let (mut prepared, began) = (Disk::new(), History::new(self.mode));
        prepared.config = self.config.clone();
        prepared.run(Crash::Never, |engine| prepare(engine, began.clone(), self.hosts)).0.unwrap();
        let (operations, recovery) = self.undisturbed(&prepared.copy(), &began.copy());
        for (case, crash) in some_crashes(operations.len(), self.cases).enumerate() {
            let (disk, history) = (prepared.copy(), began.copy());
            let at = case * 5 % recovery;
            let again = if case % 2 == 0 { Crash::Before(at) } else { Crash::After(at) };
            if let Crash::Before(at) | Crash::After(at) = crash {
                println!("{crash:?} {} of {}, then {again:?} of {recovery}", operations[at], operations.len());
            }
            disk.run(crash, |engine| scenario(engine, history.clone()));
            disk.run(again, |engine| recover(engine, disk.clone(), history.clone()));
            let (ended, _) = disk.run(Crash::Never, |engine| recover(engine, disk.clone(), history.clone()));
            assert!(ended.is_some());
            let (ended, _) = disk.run(Crash::Never, |engine| check(engine, disk.clone(), history.clone()));
            assert!(ended.is_some());
        }
        operations
    }

    /// The operations of the scenario, and how many those of the recovery are.
    fn undisturbed(&self, disk: &Disk, history: &History) -> (Vec<&'static str>, usize) {
        let (done, operations) = disk.trace(Crash::Never, |engine| scenario(engine, history.clone()));
        let done = done.unwrap();
        let (ended, recovery) = disk.run(Crash::Never, |engine| recover(engine, disk.clone(), history.clone()));
        assert!(ended.is_some());
        assert!(done.some.rounds == 1 && done.all.rounds > 0, "{done:?}");
        if self.hosts == HOSTS {
            assert_eq!(done.some.files_in, 4, "the oldest stays: {done:?}");
            assert!(self.mode == MergeMode::Append || (done.deletes_kept > 0 && done.all.deletes_dropped > 0), "{done:?}");
        }
        (operations, recovery)
    }
}

#[test]
fn a_crash_in_a_compaction_of_last_rows_loses_and_brings_back_nothing() {
    Scene::of(MergeMode::LastRow).crash_everywhere();
}

#[test]
fn a_crash_in_a_compaction_of_last_values_keeps_every_field_as_it_was() {
    Scene::of(MergeMode::LastNonNull).crash_everywhere();
}

#[test]
fn a_crash_in_a_compaction_of_appended_rows_loses_and_doubles_nothing() {
    Scene::of(MergeMode::Append).crash_everywhere();
}

/// Every file is uploaded in two parts at least.
#[test]
fn a_crash_between_the_parts_of_a_file_leaves_no_half_of_it() {
    let config = Config { row_group_rows: 4, part_bytes: 1, ..Config::default() };
    let operations = Scene { config, hosts: 12, cases: 60, ..Scene::of(MergeMode::LastNonNull) }.crash_everywhere();
    let count = |verb| operations.iter().filter(|operation| **operation == verb).count();
    let (begun, parts, completed) = (count("put_multipart"), count("put_part"), count("complete"));
    assert!(begun >= 10 && parts >= 2 * begun && completed == begun, "{begun} uploads of {parts} parts, {completed} completed");
}
