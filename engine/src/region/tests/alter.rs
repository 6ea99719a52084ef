//! ALTER on a running region.

use tessera_manifest::env;
use tessera_manifest::schema::{Column, ColumnChange, ColumnDefault, Place};

use super::*;
use crate::error::AlterError;
use crate::request::Alteration;
use crate::testing::PlanStore;

fn field(name: &str, data_type: DataType, default: Option<Value>) -> ColumnChange {
    let default = default.map(ColumnDefault::Value);
    ColumnChange::Add { column: Column { default, ..column(0, name, data_type, SemanticType::Field) }, place: Place::Last }
}

fn drop_column(name: &str) -> ColumnChange {
    ColumnChange::Drop { name: name.into() }
}

/// The region's table after these changes.
pub(super) fn altered(meta: &RegionMeta, changes: &[ColumnChange]) -> Alteration {
    Alteration {
        database: meta.database.clone(),
        table: meta.table.clone(),
        schema: Arc::new(meta.schema.evolve(changes, &meta.partition_columns).unwrap()),
        options: meta.options.clone(),
    }
}

async fn alter(region: &Region, changes: &[ColumnChange]) {
    region.alter(&altered(&region.meta(), changes)).await.unwrap();
}

async fn reopened(node: &Node, engine: Engine, region: Arc<Region>) -> (Engine, Arc<Region>) {
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    (engine, region)
}

fn wide(host: &str, ts: i64, v: Value, n: Value) -> Vec<Value> {
    vec![Value::String(host.into()), Value::Timestamp(ts), v, n]
}

#[tokio::test]
async fn an_added_column_has_its_default_in_files_memtables_and_the_log() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("file", 1, 1.0)]).await;
    region.flush().await.unwrap();
    put(&region, &[row("log", 1, 2.0)]).await;
    alter(&region, &[field("n", DataType::Int64, Some(Value::Int(7)))]).await;
    put(&region, &[wide("new", 1, Value::Float(3.0), Value::Null)]).await;
    let expected = vec![
        wide("file", 1, Value::Float(1.0), Value::Int(7)),
        wide("log", 1, Value::Float(2.0), Value::Int(7)),
        wide("new", 1, Value::Float(3.0), Value::Null),
    ];
    assert_eq!(read(&region, everything()).await, expected);
    let (engine, region) = reopened(&node, engine, region).await;
    assert_eq!(region.info().memtable_rows, 2);
    assert_eq!(read(&region, everything()).await, expected);
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, expected);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn files_without_a_column_are_skipped_by_its_default() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    region.flush().await.unwrap();
    alter(&region, &[field("n", DataType::Int64, Some(Value::Int(7))), field("m", DataType::Int64, None)]).await;
    let columns = Arc::clone(&region.meta().schema);
    let read_where = async |name: &str, op, value| {
        let column = columns.column_by_name(name).unwrap().id;
        read(&region, ScanRequest { filter: Expr::Compare { column, op, value }, ..everything() }).await.len()
    };
    assert_eq!(read_where("n", CompareOp::Eq, Value::Int(7)).await, 1);
    assert_eq!(read_where("n", CompareOp::Eq, Value::Int(8)).await, 0);
    assert_eq!(read_where("m", CompareOp::GtEq, Value::Int(0)).await, 0);
    assert_eq!(read_where("m", CompareOp::Lt, Value::Int(0)).await, 1, "NULL is below every value");
}

#[tokio::test]
async fn a_column_that_comes_back_under_its_old_name_is_empty() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("file", 1, 1.0)]).await;
    region.flush().await.unwrap();
    put(&region, &[row("log", 1, 2.0)]).await;
    alter(&region, &[drop_column("v"), field("v", DataType::Float64, None)]).await;
    let null = |host: &str| vec![Value::String(host.into()), Value::Timestamp(1), Value::Null];
    assert_eq!(read(&region, everything()).await, [null("file"), null("log")]);
    let (_engine, region) = reopened(&node, engine, region).await;
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [null("file"), null("log")]);
    let by_old_value = Expr::Compare { column: region.meta().schema.columns()[2].id, op: CompareOp::Eq, value: Value::Float(1.0) };
    let rows = read(&region, ScanRequest { filter: by_old_value, ..everything() }).await;
    assert!(rows.iter().all(|row| row[2] == Value::Null), "{rows:?}");
}

#[tokio::test]
async fn a_widened_column_keeps_its_values_and_is_pruned_by_them() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    alter(&region, &[field("n", DataType::Int8, Some(Value::Int(-1)))]).await;
    put(&region, &[wide("file", 1, Value::Null, Value::Int(127))]).await;
    region.flush().await.unwrap();
    put(&region, &[wide("log", 2, Value::Null, Value::Int(-128))]).await;
    let widen = |to| ColumnChange::Modify { name: "n".into(), data_type: to };
    alter(&region, &[widen(DataType::Int32)]).await;
    put(&region, &[wide("new", 3, Value::Null, Value::Int(70_000))]).await;
    alter(&region, &[widen(DataType::Float64)]).await;
    let floats = |a: f64, b: f64, c: f64| {
        vec![
            wide("file", 1, Value::Null, Value::Float(a)),
            wide("log", 2, Value::Null, Value::Float(b)),
            wide("new", 3, Value::Null, Value::Float(c)),
        ]
    };
    assert_eq!(read(&region, everything()).await, floats(127.0, -128.0, 70_000.0));
    let (_engine, region) = reopened(&node, engine, region).await;
    assert_eq!(read(&region, everything()).await, floats(127.0, -128.0, 70_000.0));
    let column = region.meta().schema.columns()[3].id;
    let found = Expr::Compare { column, op: CompareOp::Gt, value: Value::Float(126.5) };
    let rows = read(&region, ScanRequest { filter: found, ..everything() }).await;
    assert!(rows.contains(&floats(127.0, 0.0, 0.0)[0]), "{rows:?}");
}

#[tokio::test]
async fn statements_go_on_under_the_schema_that_they_know() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    let before = region.meta();
    let stale = request(&region, OpType::Put, &[row("b", 1, 2.0)]);
    alter(&region, &[field("n", DataType::Int64, Some(Value::Int(7))), drop_column("v")]).await;
    region.write_under(Some(Arc::clone(&before.schema)), stale).await.unwrap();
    let rows = |a: Value, b: Value| {
        vec![vec![Value::String("a".into()), Value::Timestamp(1), a], vec![Value::String("b".into()), Value::Timestamp(1), b]]
    };
    assert_eq!(read(&region, everything()).await, rows(Value::Int(7), Value::Int(7)));
    let dropped = region.scan_under(Some(Arc::clone(&before.schema)), everything()).await;
    assert!(matches!(dropped.err(), Some(Error::ColumnDropped { column, .. }) if column == "v"));
    let keys = ScanRequest { projection: Some(vec![1, 0]), ..everything() };
    let scan = region.scan_under(Some(Arc::clone(&before.schema)), keys).await.unwrap();
    let batches: Vec<_> = scan.into_stream().try_collect().await.unwrap();
    assert_eq!(rows_of(&batches).len(), 2);
    // A later schema than the region's can be read, and not written.
    let later = Arc::new(region.meta().schema.evolve(&[field("m", DataType::Boolean, None)], &[]).unwrap());
    let scan = region.scan_under(Some(Arc::clone(&later)), everything()).await.unwrap();
    let batches: Vec<_> = scan.into_stream().try_collect().await.unwrap();
    assert!(rows_of(&batches).iter().all(|row| row.len() == 4 && row[3] == Value::Null));
    let ahead = WriteRequest { batch: batch(&later, OpType::Put, &[]), ..request(&region, OpType::Put, &[]) };
    assert!(matches!(region.write_under(Some(later), ahead).await, Err(Error::SchemaBehind { version: 2, requested: 3, .. })));
}

#[tokio::test]
async fn a_value_that_an_earlier_type_cannot_hold_is_an_error_there() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    alter(&region, &[field("n", DataType::Int8, None)]).await;
    let before = Arc::clone(&region.meta().schema);
    alter(&region, &[ColumnChange::Modify { name: "n".into(), data_type: DataType::Int64 }]).await;
    put(&region, &[wide("a", 1, Value::Null, Value::Int(1000))]).await;
    let scan = region.scan_under(Some(before), everything()).await.unwrap();
    let error = scan.into_stream().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(crate::error_chain(&error).contains("'n' was widened"), "{}", crate::error_chain(&error));
}

#[tokio::test]
async fn an_alteration_is_done_once_and_only_forward() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let first = region.meta();
    let renamed = Alteration { table: "u".into(), ..altered(&first, &[]) };
    region.alter(&renamed).await.unwrap();
    let version = region.info().manifest_version;
    region.alter(&renamed).await.unwrap();
    assert_eq!((region.info().manifest_version, region.meta().table.as_str()), (version, "u"));
    let other = Alteration { table: "w".into(), ..renamed.clone() };
    assert!(matches!(region.alter(&other).await, Err(Error::Alter { source: AlterError::VersionTaken { version: 2 }, .. })));
    let back = Alteration { schema: Arc::clone(&first.schema), ..renamed.clone() };
    assert!(matches!(region.alter(&back).await, Err(Error::Alter { .. })));
    let mut append = altered(&region.meta(), &[]);
    append.options.insert("append_mode".into(), "true".into());
    assert!(matches!(region.alter(&append).await, Err(Error::Alter { source: AlterError::MergeMode { .. }, .. })));
    engine.close().await.unwrap();
    assert!(matches!(region.alter(&renamed).await, Err(Error::Closed { .. })));
}

#[tokio::test]
async fn a_new_tag_tells_rows_apart_and_older_rows_have_its_default() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0), row("a", 2, 2.0)]).await;
    region.flush().await.unwrap();
    let default = Some(ColumnDefault::Value(Value::String("eu".into())));
    let tag = Column { default, ..column(0, "dc", DataType::String, SemanticType::Tag) };
    let planned = Arc::clone(&region.meta().schema);
    alter(&region, &[ColumnChange::Add { column: tag, place: Place::First }]).await;
    let late = region.scan_under(Some(planned), everything()).await;
    assert!(matches!(late.err(), Some(Error::KeyChanged { .. })), "under the earlier key two rows may be one");
    let at = |dc: &str, ts: i64, v: f64| vec![Value::String(dc.into()), Value::String("a".into()), Value::Timestamp(ts), Value::Float(v)];
    put(&region, &[at("eu", 1, 10.0), at("us", 1, 20.0)]).await;
    assert_eq!(read(&region, everything()).await, [at("eu", 1, 10.0), at("eu", 2, 2.0), at("us", 1, 20.0)]);
    region.write(request(&region, OpType::Delete, &[at("eu", 2, 0.0)])).await.unwrap();
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [at("eu", 1, 10.0), at("us", 1, 20.0)]);
}

#[tokio::test]
async fn deletes_are_refused_where_every_row_stays() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let options = BTreeMap::from([("append_mode".to_owned(), "true".to_owned())]);
    let region = engine.create_region(RegionMeta { options, ..meta(Expr::always()) }).await.unwrap();
    let delete = request(&region, OpType::Delete, &[row("a", 1, 0.0)]);
    assert!(matches!(region.write(delete).await, Err(Error::AppendOnly { .. })));
}

/// What the file's statistics hold would be of the former type, by which queries would skip it.
#[tokio::test]
async fn a_flush_under_way_is_begun_anew_when_a_column_gets_another_type() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let engine = start(dir.path(), Arc::new(store.clone()), Config::default()).await;
    engine.stop_background().await;
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "n", DataType::Int32, SemanticType::Field),
    ];
    // A region whose rule does not name the column any more, which its partition columns still do.
    let partitioned = RegionMeta {
        schema: Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap()),
        partition_columns: vec![ColumnId(0), ColumnId(2)],
        options: BTreeMap::from([("append_mode".to_owned(), "true".to_owned())]),
        ..meta(Expr::always())
    };
    let region = engine.create_region(partitioned).await.unwrap();
    put(&region, &[vec![Value::String("a".into()), Value::Timestamp(1), Value::Int(7)]]).await;
    let gate = store.hold_puts("/sst/");
    let flushing = Arc::clone(&region);
    let flush = env::spawn(async move { flushing.flush().await });
    store.waiting.acquire().await.unwrap().forget();
    let widen = ColumnChange::Modify { name: "n".into(), data_type: DataType::Float64 };
    let named = RegionMeta { partition_columns: vec![ColumnId(0)], ..RegionMeta::clone(&region.meta()) };
    region.alter(&altered(&named, &[widen])).await.unwrap();
    gate.add_permits(100);
    flush.await.unwrap().unwrap();
    let above = Expr::Compare { column: ColumnId(2), op: CompareOp::Gt, value: Value::Float(5.0) };
    let found = read(&region, ScanRequest { filter: above, ..everything() }).await;
    assert_eq!(found, [vec![Value::String("a".into()), Value::Timestamp(1), Value::Float(7.0)]]);
    assert_eq!(store.objects("/sst/").await.len(), 1, "what was written in vain is gone");
    engine.close().await.unwrap();
}
