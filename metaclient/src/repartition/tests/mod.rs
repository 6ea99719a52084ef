//! What the tests of repartition share: a table on fake regions, a ledger of what was acknowledged, and what must hold.

mod fake;
mod machine;
mod matrix;
mod plans;
mod port;
mod rivals;
mod runs;
mod sim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tessera_manifest::env::{Env, Moment, Source};
use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{self, Expr};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit};

use self::fake::{Row, World, holds};
use self::port::FakePort;
use super::*;
use crate::catalog::{Bootstrap, Catalog, Route, TableInfo, TableView};
use crate::kv::{KvBackend, Limits, MemoryBackend};
use crate::procedure::{Phase, ProcedureId, Procedures, Record, Registry, Runner, RunnerOptions};
use crate::testing::FaultKv;

const TABLE: TableId = TableId(1024);

fn region(number: u32) -> RegionId {
    RegionId::new(TABLE, RegionNumber(number))
}

fn generation(number: u32) -> Generation {
    Generation::new(number).unwrap()
}

fn schema() -> Schema {
    let column = |id, name: &str, data_type, semantic| {
        let nullable = semantic != SemanticType::TimeIndex;
        Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
    };
    let columns = vec![
        column(0, "a", DataType::Int64, SemanticType::Tag),
        column(1, "b", DataType::Int64, SemanticType::Tag),
        column(2, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(3, "v", DataType::Float64, SemanticType::Field),
    ];
    Schema::new(columns, vec![ColumnId(0), ColumnId(1)]).unwrap()
}

fn rule_of(text: &str) -> Expr {
    rule::parse(text, &schema()).unwrap()
}

fn rules_of(texts: &[&str]) -> Vec<Expr> {
    texts.iter().map(|text| rule_of(text)).collect()
}

/// A table with a region for each rule.
fn table(rules: &[&str], columns: &[u32]) -> (TableInfo, Vec<Route>) {
    let info = TableInfo {
        id: TABLE,
        database: "public".into(),
        name: "t".into(),
        schema: schema(),
        partition_columns: columns.iter().map(|id| ColumnId(*id)).collect(),
        options: BTreeMap::new(),
        created_unix_ms: 5,
        next_region_number: RegionNumber(u32::try_from(rules.len()).unwrap()),
        next_generation: generation(2),
    };
    let route = |(number, text): (usize, &&str)| Route {
        region: region(u32::try_from(number).unwrap()),
        node: NodeId(1),
        generation: Generation::FIRST,
        rule: rule_of(text).canonical(),
    };
    (info, rules.iter().enumerate().map(route).collect())
}

/// Ids that count; a clock that goes as the runtime's does.
#[derive(Debug)]
struct Virtual {
    start: Moment,
    next: Mutex<u128>,
}

impl Source for Virtual {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(Moment::now().since(self.start).as_millis()).unwrap()
    }

    fn random_u128(&self) -> u128 {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        *next
    }
}

/// What was acknowledged, by key.
struct Ledger {
    world: Arc<World>,
    kv: Arc<dyn KvBackend>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    next: u64,
    acknowledged: BTreeMap<i64, Vec<Row>>,
    refused: u64,
}

impl Ledger {
    async fn view(&self) -> TableView {
        Catalog::on(Arc::clone(&self.kv)).table_view(TABLE).await.unwrap()
    }

    /// Writes the next row by the routes as they are; whether it was taken.
    async fn write_one(&self) -> bool {
        let next = {
            let mut book = self.book.lock().unwrap();
            book.next += 1;
            book.next
        };
        let key = i64::try_from(next * 37 % 100).unwrap() - 50;
        let view = self.view().await;
        let written = self.write_by(&view, key, next);
        if !written {
            self.book.lock().unwrap().refused += 1;
        }
        written
    }

    /// Writes a row by the routes of `view`, which may be old.
    fn write_by(&self, view: &TableView, key: i64, value: u64) -> bool {
        let Some(route) = view.write.values().find(|route| holds(&route.rule, key)) else { panic!("key {key} has no region") };
        let written = self.world.write(route.region, route.generation, route.rule.version(), key, value);
        let Ok(row) = written else { return false };
        let mut book = self.book.lock().unwrap();
        let versions = book.acknowledged.entry(key).or_default();
        assert!(versions.last().is_none_or(|last| last.sequence < row.sequence), "a later write of {key} has an older sequence");
        versions.push(row);
        true
    }
}

/// A table on fake regions.
struct Cluster {
    kv: Arc<dyn KvBackend>,
    world: Arc<World>,
    ledger: Arc<Ledger>,
    info: TableInfo,
    born: Moment,
}

impl Cluster {
    /// Ids of its own for each process, and one clock for all.
    fn env(&self, process: u64) -> Env {
        Env::from_source(Arc::new(Virtual { start: self.born, next: Mutex::new(u128::from(process) << 32) }))
    }

    async fn new(rules: &[&str], columns: &[u32]) -> Self {
        Self::on(Arc::new(MemoryBackend::new()), rules, columns).await
    }

    async fn on(kv: Arc<dyn KvBackend>, rules: &[&str], columns: &[u32]) -> Self {
        let bootstrap = Bootstrap { cluster: Nonce(1), incarnation: Nonce(2), unix_ms: 3 };
        let catalog = Catalog::bootstrap(Arc::clone(&kv), bootstrap).await.unwrap().0;
        assert_eq!(catalog.allocate_table_id(None).await.unwrap(), TABLE);
        let (info, routes) = table(rules, columns);
        catalog.create_table(&info, &routes).await.unwrap();
        let world = Arc::new(World::default());
        for route in &routes {
            world.create(RegionMeta {
                region: route.region,
                database: info.database.clone(),
                table: info.name.clone(),
                schema: Arc::new(info.schema.clone()),
                partition_columns: info.partition_columns.clone(),
                rule: Arc::new(route.rule.clone()),
                generation: route.generation,
                options: BTreeMap::new(),
            });
        }
        let ledger = Arc::new(Ledger { world: Arc::clone(&world), kv: Arc::clone(&kv), book: Mutex::default() });
        Self { kv, world, ledger, info, born: Moment::now() }
    }

    /// The same with rows, some of them in files.
    async fn with_rows(rules: &[&str], columns: &[u32]) -> Self {
        let cluster = Self::new(rules, columns).await;
        for round in 0..3 {
            for _ in 0..8 {
                assert!(cluster.ledger.write_one().await);
            }
            for number in 0..rules.len() {
                if round < 2 {
                    cluster.world.flush(region(u32::try_from(number).unwrap()));
                }
            }
        }
        cluster
    }

    fn sound(&self) -> Arc<FaultKv> {
        FaultKv::sound(Arc::clone(&self.kv))
    }

    fn port(&self, process: &Arc<FaultKv>) -> FakePort {
        FakePort::new(&self.world, &self.kv, process).with_writes(&self.ledger)
    }

    fn procedures(&self) -> Procedures {
        Procedures::new(Arc::clone(&self.kv), self.env(77))
    }

    async fn submit(&self, name: &str, request: Request, options: Options) -> ProcedureId {
        let id: ProcedureId = name.parse().unwrap();
        let tools = Tools::new(Arc::new(self.port(&self.sound())));
        let repartition = Repartition::new(&self.info, request, options, &self.env(78), tools);
        self.procedures().submit(&id, &repartition).await.unwrap();
        id
    }

    /// A process that runs procedures.
    async fn start(&self, process: &Arc<FaultKv>, port: Arc<FakePort>, number: u64) -> Runner {
        let registry = Registry::new().with(KIND, Tools::new(port).loader());
        let kv: Arc<dyn KvBackend> = Arc::clone(process) as _;
        Runner::start(kv, self.env(number), registry, RunnerOptions::DEFAULT).await.unwrap()
    }

    async fn settled(&self, id: &ProcedureId) -> Record {
        let procedures = self.procedures();
        tokio::time::timeout(Duration::from_secs(3600), procedures.wait(id)).await.expect("it ends").unwrap()
    }

    /// Submits, runs to the end without trouble, and checks what must hold.
    async fn run(&self, name: &str, request: Request) -> Record {
        let id = self.submit(name, request, Options::DEFAULT).await;
        let process = self.sound();
        let number = u64::from(self.view().await.info.next_generation.as_u32());
        let runner = self.start(&process, Arc::new(self.port(&process)), 100 + number).await;
        let record = self.settled(&id).await;
        runner.close().await;
        self.check(name).await;
        record
    }

    async fn view(&self) -> TableView {
        self.ledger.view().await
    }

    /// The rules of the regions, by number.
    async fn shown(&self) -> Vec<String> {
        let view = self.view().await;
        view.write.values().map(|route| format!("{}: {}", route.region.number(), route.rule.display(&view.info.schema))).collect()
    }

    /// What must hold when nothing is under way: one region for each key, each row of it there once and as last written.
    async fn check(&self, what: &str) {
        let view = self.view().await;
        assert!(view.is_settled(), "{what}: {:?} {:?}", view.read, view.write);
        view.info.check_routes(&view.write_routes()).unwrap();
        let rules: Vec<Expr> = view.write.values().map(|route| route.rule.clone()).collect();
        assert!(rule::validate(&rules, &view.info.schema).unwrap().is_complete(), "{what}");
        for rule in &rules {
            assert!(rule.columns().iter().all(|column| view.info.partition_columns.contains(column)), "{what}");
        }
        self.check_regions(&view, what);
        self.check_rows(&view, what);
    }

    fn check_regions(&self, view: &TableView, what: &str) {
        let inner = self.world.inner();
        for (id, found) in &inner.regions {
            assert!(found.state.staging().is_none(), "{what}: {id} is left staged");
            assert!(found.prepared.is_empty(), "{what}: {id} is left prepared");
            match view.read.get(id) {
                Some(route) => {
                    let meta = found.state.meta().unwrap();
                    assert!(!found.state.is_retired(), "{what}: {id} is retired and has a route");
                    assert_eq!((meta.generation, &*meta.rule), (route.generation, &route.rule), "{what}: {id}");
                }
                None => assert!(found.state.is_retired(), "{what}: {id} has no route and is not retired"),
            }
        }
        let mut drawn = BTreeSet::new();
        for decided in inner.decisions.values() {
            assert!(decided.commit < view.info.next_generation && decided.abort < view.info.next_generation, "{what}");
            assert!(drawn.insert(decided.commit) && drawn.insert(decided.abort), "{what}: a generation was used twice");
        }
    }

    /// Every acknowledged row is visible once, as its key was written last, and nothing else is.
    fn check_rows(&self, view: &TableView, what: &str) {
        let mut seen: BTreeMap<i64, (RegionId, Row)> = BTreeMap::new();
        for route in view.read.values() {
            let rows = self.world.scan(route.region, route.generation).unwrap_or_else(|| panic!("{what}: {route:?}"));
            let distinct: BTreeSet<Row> = rows.iter().copied().collect();
            assert_eq!(distinct.len(), rows.len(), "{what}: a row is in {} twice", route.region);
            for row in rows {
                assert!(holds(&route.rule, row.key), "{what}: {row:?} under the wrong rule");
                let (home, newest) = seen.entry(row.key).or_insert((route.region, row));
                assert_eq!(*home, route.region, "{what}: key {} is in two regions", row.key);
                *newest = (*newest).max(row);
            }
        }
        let book = self.ledger.book.lock().unwrap();
        let expected: BTreeMap<i64, Row> = book.acknowledged.iter().map(|(key, rows)| (*key, *rows.last().unwrap())).collect();
        let found: BTreeMap<i64, Row> = seen.into_iter().map(|(key, (_, row))| (key, row)).collect();
        assert_eq!(found, expected, "{what}");
    }
}

fn outcome(record: &Record) -> Outcome {
    serde_json::from_str(record.output.as_deref().unwrap_or_else(|| panic!("{record:?}"))).unwrap()
}
