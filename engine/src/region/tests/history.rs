//! Random histories of a table that is also altered, truncated and expired, against a map of values by column id.

use tessera_manifest::schema::{Column, ColumnChange, ColumnDefault, Place};

use super::alter::altered;
use super::*;
use crate::compaction::Strategy as Compaction;

/// The kinds of a column, each widening to those behind it.
const TYPES: [DataType; 4] = [DataType::Int8, DataType::Int16, DataType::Int32, DataType::Float64];

#[derive(Debug, Clone)]
enum Step {
    /// Rows of (host, time, seed of the values), under the present schema or the one before.
    Put {
        rows: Vec<(u8, i64, i8)>,
        late: bool,
    },
    Delete(Vec<(u8, i64)>),
    Add {
        name: u8,
        kind: usize,
        default: Option<i8>,
        first: bool,
    },
    Drop(usize),
    Widen(usize),
    Truncate,
    Range(i64, i64),
    Expire(i64),
    Flush,
    Compact(Compaction),
    Crash,
    Close,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || (0_u8..4, 0_i64..8);
    let rows = proptest::collection::vec((0_u8..4, 0_i64..8, any::<i8>()), 1..6);
    prop_oneof![
        8 => (rows, proptest::bool::weighted(0.3)).prop_map(|(rows, late)| Step::Put { rows, late }),
        2 => proptest::collection::vec(key(), 1..4).prop_map(Step::Delete),
        3 => (0_u8..3, 0_usize..3, any::<Option<i8>>(), any::<bool>())
            .prop_map(|(name, kind, default, first)| Step::Add { name, kind, default, first }),
        2 => (0_usize..4).prop_map(Step::Drop),
        2 => (0_usize..4).prop_map(Step::Widen),
        1 => Just(Step::Truncate),
        1 => (0_i64..8, 0_i64..4).prop_map(|(from, len)| Step::Range(from, from + len)),
        2 => (0_i64..9).prop_map(Step::Expire),
        4 => Just(Step::Flush),
        2 => proptest::sample::select(vec![Compaction::Regular, Compaction::StrictWindow]).prop_map(Step::Compact),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

fn host(index: u8) -> Value {
    if index == 0 { Value::Null } else { Value::String(format!("h{index}")) }
}

/// A whole number in a column of this type.
fn number(data_type: DataType, v: i8) -> Value {
    if data_type == DataType::Float64 { Value::Float(f64::from(v)) } else { Value::Int(v.into()) }
}

/// A value as one of the type that its column has under some schema; all of the values here fit all of the types.
fn as_type(value: &Value, data_type: DataType) -> Value {
    match (value, data_type) {
        (Value::Int(v), DataType::Float64) => Value::Float(*v as f64),
        (Value::Float(v), DataType::Int8 | DataType::Int16 | DataType::Int32) => Value::Int(*v as i64),
        (other, _) => other.clone(),
    }
}

/// The rows by key; of each the fields that its writer knew.
#[derive(Debug, Default)]
struct Model(BTreeMap<(Value, i64), BTreeMap<ColumnId, Value>>);

impl Model {
    fn rows(&self, schema: &Schema) -> Vec<Vec<Value>> {
        let rows = self.0.iter().map(|((host, ts), fields)| {
            let value = |column: &Column| match (column.semantic, fields.get(&column.id), &column.default) {
                (SemanticType::Tag, ..) => host.clone(),
                (SemanticType::TimeIndex, ..) => Value::Timestamp(*ts),
                (_, Some(value), _) => as_type(value, column.data_type),
                (_, None, Some(ColumnDefault::Value(value))) => value.clone(),
                _ => Value::Null,
            };
            schema.columns().iter().map(value).collect()
        });
        let mut rows: Vec<Vec<Value>> = rows.collect();
        rows.sort();
        rows
    }
}

fn fields(schema: &Schema) -> Vec<&Column> {
    schema.columns().iter().filter(|column| column.semantic == SemanticType::Field).collect()
}

/// The change that a step asks for, if it can be made.
fn change(step: &Step, schema: &Schema) -> Option<ColumnChange> {
    match step {
        Step::Add { name, kind, default, first } => {
            let name = format!("f{name}");
            let data_type = TYPES[*kind];
            let default = default.map(|v| ColumnDefault::Value(number(data_type, v)));
            let column = Column { default, ..column(0, &name, data_type, SemanticType::Field) };
            let place = if *first { Place::First } else { Place::Last };
            schema.column_by_name(&name).is_none().then_some(ColumnChange::Add { column, place })
        }
        Step::Drop(at) => fields(schema).get(*at).map(|column| ColumnChange::Drop { name: column.name.clone() }),
        Step::Widen(at) => {
            let column = *fields(schema).get(*at)?;
            let next = TYPES.iter().skip_while(|kind| **kind != column.data_type).nth(1)?;
            Some(ColumnChange::Modify { name: column.name.clone(), data_type: *next })
        }
        _ => None,
    }
}

struct Run {
    node: Node,
    engine: Option<Engine>,
    region: Option<Arc<Region>>,
    model: Model,
    /// The schema before the last alteration.
    before: Arc<Schema>,
}

impl Run {
    fn region(&self) -> Arc<Region> {
        Arc::clone(self.region.as_ref().unwrap())
    }

    async fn put(&mut self, rows: &[(u8, i64, i8)], late: bool) {
        let schema = if late { Arc::clone(&self.before) } else { Arc::clone(&self.region().meta().schema) };
        let mut batch_rows = Vec::new();
        for (h, ts, seed) in rows {
            let mut known = BTreeMap::new();
            let mut values = Vec::new();
            for (at, column) in schema.columns().iter().enumerate() {
                values.push(match column.semantic {
                    SemanticType::Tag => host(*h),
                    SemanticType::TimeIndex => Value::Timestamp(*ts),
                    SemanticType::Field => {
                        let value = if at % 4 == 3 { Value::Null } else { number(column.data_type, seed.wrapping_add(at as i8)) };
                        known.insert(column.id, value.clone());
                        value
                    }
                });
            }
            // What was dropped since is left out.
            let present = Arc::clone(&self.region().meta().schema);
            known.retain(|id, _| present.column(*id).is_some());
            batch_rows.push(values);
            self.model.0.insert((host(*h), *ts), known);
        }
        let batch = batch(&schema, OpType::Put, &batch_rows);
        let request = WriteRequest { batch, ..request(&self.region(), OpType::Put, &[]) };
        self.region().write_under(Some(schema), request).await.unwrap();
    }

    async fn delete(&mut self, keys: &[(u8, i64)]) {
        let schema = Arc::clone(&self.region().meta().schema);
        let row = |(h, ts): &(u8, i64)| {
            let value = |column: &Column| match column.semantic {
                SemanticType::Tag => host(*h),
                SemanticType::TimeIndex => Value::Timestamp(*ts),
                SemanticType::Field => Value::Null,
            };
            schema.columns().iter().map(value).collect()
        };
        let rows: Vec<Vec<Value>> = keys.iter().map(row).collect();
        self.region().write(request(&self.region(), OpType::Delete, &rows)).await.unwrap();
        keys.iter().for_each(|(h, ts)| drop(self.model.0.remove(&(host(*h), *ts))));
    }

    async fn restart(&mut self, clean: bool) {
        if clean {
            self.engine.as_ref().unwrap().close().await.unwrap();
        }
        // The old process must be gone, or it would keep the lock of the log.
        drop(self.region.take());
        crash(self.engine.take().unwrap()).await;
        let engine = self.node.start().await;
        self.region = Some(engine.open_region(REGION).await.unwrap());
        self.engine = Some(engine);
    }

    async fn expire(&mut self, before: i64) {
        self.region().expire(before).await.unwrap();
        let schema = Arc::clone(&self.region().meta().schema);
        let left = read(&self.region(), everything()).await;
        let at = schema.position(schema.time_index().id).unwrap();
        let lost: Vec<_> = self.model.rows(&schema).into_iter().filter(|row| !left.contains(row)).collect();
        assert!(lost.iter().all(|row| row[at] < Value::Timestamp(before)), "rows that had not expired are gone: {lost:?}");
        let host_at = schema.position(schema.primary_key()[0]).unwrap();
        let keys: Vec<_> = left.iter().map(|row| (row[host_at].clone(), row[at].clone())).collect();
        self.model.0.retain(|(host, ts), _| keys.contains(&(host.clone(), Value::Timestamp(*ts))));
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Put { rows, late } => self.put(rows, *late).await,
            Step::Delete(keys) => self.delete(keys).await,
            Step::Add { .. } | Step::Drop(_) | Step::Widen(_) => {
                let meta = self.region().meta();
                if let Some(change) = change(step, &meta.schema) {
                    self.before = Arc::clone(&meta.schema);
                    self.region().alter(&altered(&meta, &[change])).await.unwrap();
                }
            }
            Step::Truncate => {
                self.region().truncate().await.unwrap();
                self.model.0.clear();
            }
            Step::Range(from, to) => {
                self.region().truncate_ranges(&[(*from, *to)]).await.unwrap();
                self.model.0.retain(|(_, ts), _| !(from..=to).contains(&ts));
            }
            Step::Expire(before) => self.expire(*before).await,
            Step::Flush => self.region().flush().await.unwrap(),
            Step::Compact(strategy) => {
                self.region().compact(*strategy).await.unwrap();
            }
            Step::Crash => self.restart(false).await,
            Step::Close => self.restart(true).await,
        }
    }

    /// Under the present schema, and under the one before.
    async fn check(&self, step: &Step) {
        let schema = Arc::clone(&self.region().meta().schema);
        assert_eq!(read(&self.region(), everything()).await, self.model.rows(&schema), "after {step:?}");
        let columns = self.before.columns().iter().enumerate();
        let kept: Vec<usize> = columns.filter(|(_, column)| schema.column(column.id).is_some()).map(|(at, _)| at).collect();
        let wanted = ScanRequest { projection: Some(kept.clone()), ..everything() };
        let scan = self.region().scan_under(Some(Arc::clone(&self.before)), wanted).await.unwrap();
        let batches: Vec<_> = scan.into_stream().try_collect().await.unwrap();
        let mut rows = rows_of(&batches);
        rows.sort();
        let project = |row: Vec<Value>| kept.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
        let mut expected: Vec<_> = self.model.rows(&self.before).into_iter().map(project).collect();
        expected.sort();
        assert_eq!(rows, expected, "under the schema before, after {step:?}");
    }
}

async fn run_history(steps: Vec<Step>) {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "f9", DataType::Int8, SemanticType::Field),
    ];
    let schema = Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap());
    let meta = RegionMeta { schema: Arc::clone(&schema), ..meta(Expr::always()) };
    let region = engine.create_region(meta).await.unwrap();
    let mut run = Run { node, engine: Some(engine), region: Some(region), model: Model::default(), before: schema };
    for step in steps {
        run.step(&step).await;
        run.check(&step).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("TESSERA_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
    ))]

    /// Whatever is altered, truncated and expired between writes and crashes: a scan shows what the model does, under
    /// the present schema and under the one before.
    #[test]
    fn an_altered_table_behaves_like_a_map_by_column_id(steps in proptest::collection::vec(any_step(), 1..30)) {
        tokio::runtime::Runtime::new().unwrap().block_on(run_history(steps));
    }
}
